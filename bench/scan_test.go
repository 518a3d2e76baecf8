package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/scan"
)

// mostMemory is the greatest resident size of a scan, MiB, whatever the fleet's size.
const mostMemory = 300

// scanResult is what a scan's process tells.
type scanResult struct {
	usage
	Bytes     int64
	Instances int
	Gaps      int
	Throttles int64
	Verdicts  map[assess.Status]int
}

// scanFleet is the scan's process: `imdsctl scan` without its face.
func scanFleet(j job) (any, error) {
	a, err := app.New(app.Options{Config: configuration(j.Fleet.Regions, j.Limited), DBPath: j.Database, Version: "bench", Actor: "bench"})
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	sum, err := a.Scan(context.Background(), app.ScanOptions{})
	if err != nil {
		return nil, err
	}
	out := scanResult{usage: measured(begun), Instances: sum.Instances, Gaps: len(sum.Gaps), Throttles: sum.Throttles, Verdicts: sum.Verdicts}
	if err := a.Close(); err != nil {
		return nil, err
	}
	file, err := os.Stat(j.Database)
	if err != nil {
		return nil, err
	}
	out.Bytes = file.Size()
	return out, nil
}

// readPages is the floor's process: what any program does that reads the same instances, and their metrics if asked to, with
// the SDK, eight places at a time, and throws them away.
func readPages(j job) (any, error) {
	begun := time.Now()
	ctx := context.Background()
	var group sync.WaitGroup
	turn := make(chan struct{}, scan.DefaultConcurrency)
	failed := make(chan error, len(j.Fleet.Accounts)*len(j.Fleet.Regions))
	for _, account := range j.Fleet.Accounts {
		for _, region := range j.Fleet.Regions {
			turn <- struct{}{}
			group.Go(func() {
				defer func() { <-turn }()
				failed <- readPlace(ctx, aws.Config{
					Region: string(region), BaseEndpoint: aws.String(j.Endpoint),
					Credentials: credentials.NewStaticCredentialsProvider(string(account), "sim", ""),
				}, j.Metrics)
			})
		}
	}
	group.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return nil, err
		}
	}
	return measured(begun), nil
}

func readPlace(ctx context.Context, cfg aws.Config, metrics bool) error {
	var ids []string
	instances := ec2.NewDescribeInstancesPaginator(ec2.NewFromConfig(cfg), &ec2.DescribeInstancesInput{MaxResults: aws.Int32(instancesAPage)})
	for instances.HasMorePages() {
		page, err := instances.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, r := range page.Reservations {
			for _, i := range r.Instances {
				ids = append(ids, *i.InstanceId)
			}
		}
	}
	client := cloudwatch.NewFromConfig(cfg)
	for from := 0; metrics && from < len(ids); from += metricsACall / 2 {
		in := query(ids[from:min(from+metricsACall/2, len(ids))])
		pages := cloudwatch.NewGetMetricDataPaginator(client, in)
		for pages.HasMorePages() {
			if _, err := pages.NextPage(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// query asks for the two metrics of some instances over fourteen days.
func query(ids []string) *cloudwatch.GetMetricDataInput {
	end := time.Now().UTC().Truncate(time.Hour)
	in := &cloudwatch.GetMetricDataInput{StartTime: aws.Time(end.AddDate(0, 0, -14)), EndTime: &end}
	for i, id := range ids {
		for k, name := range []string{"MetadataNoToken", "MetadataNoTokenRejected"} {
			in.MetricDataQueries = append(in.MetricDataQueries, cwtypes.MetricDataQuery{
				Id: aws.String(fmt.Sprintf("m%d_%d", k, i)),
				MetricStat: &cwtypes.MetricStat{
					Metric: &cwtypes.Metric{Namespace: aws.String("AWS/EC2"), MetricName: &name,
						Dimensions: []cwtypes.Dimension{{Name: aws.String("InstanceId"), Value: &id}}},
					Period: aws.Int32(3600), Stat: aws.String("Sum"),
				},
			})
		}
	}
	return in
}

// environment is that of any AWS tool whose endpoint is the simulator, and of nothing else.
func (s *simulator) environment() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + s.Endpoint, "AWS_REGION=" + string(s.Regions[0]), "AWS_ACCESS_KEY_ID=" + string(s.Accounts[0]),
		"AWS_SECRET_ACCESS_KEY=sim", "AWS_SESSION_TOKEN=", "AWS_PROFILE=", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
	}
}

// fixture keeps the database of the first scan for the other benchmarks.
type fixture struct {
	mu   sync.Mutex
	dir  string
	job  job
	done bool
}

var scanned fixture

// database is a scanned fleet of the size; the first to ask scans it.
func (f *fixture) database(b *testing.B, n int) job {
	b.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return f.job
	}
	dir, err := os.MkdirTemp("", "imdsctl-bench-")
	if err != nil {
		b.Fatal(err)
	}
	f.dir = dir
	sim := simulate(b, job{Instances: n, Accounts: accounts})
	defer sim.stop(b)
	f.job = job{Instances: n, Fleet: sim.fleetShape, Database: filepath.Join(dir, "imdsctl.db")}
	perform[scanResult](b, "scan", f.job, sim.environment()...)
	f.done = true
	return f.job
}

func (f *fixture) remove() error {
	if f.dir == "" {
		return nil
	}
	return os.RemoveAll(f.dir)
}

// BenchmarkScan scans fleets that the database does not know: one of the size, one as large in a tenth of the accounts, and
// one ten times larger. The last two differ in nothing but the number of places, so their memory must not differ either; the
// first has smaller places, and pages that are not full.
func BenchmarkScan(b *testing.B) {
	n := size(b)
	for _, f := range []job{{Instances: n, Accounts: accounts}, {Instances: n, Accounts: accounts / 10}, {Instances: 10 * n, Accounts: accounts}} {
		b.Run(fmt.Sprintf("instances=%d/accounts=%d", f.Instances, f.Accounts), func(b *testing.B) {
			if f.Instances > n && testing.Short() {
				b.Skip("left out with -short")
			}
			sim := simulate(b, f)
			defer sim.stop(b)
			b.Logf("%s; the simulator took %s to make the fleet", machine(), sim.Built.Round(time.Millisecond))
			for b.Loop() {
				cpu, wall := benchmarkScan(b, sim)
				if f.Instances == n { // a tenfold floor takes minutes and tells nothing more
					benchmarkFloor(b, sim, cpu, wall)
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func benchmarkScan(b *testing.B, sim *simulator) (cpu, wall time.Duration) {
	b.Helper()
	_, end := count(b, sim.Endpoint, 0)
	j := job{Fleet: sim.fleetShape, Database: filepath.Join(b.TempDir(), "imdsctl.db")}
	before := sim.used()
	got, cpu := perform[scanResult](b, "scan", j, sim.environment()...)
	after := sim.used()
	made, _ := count(b, sim.Endpoint, end)
	if got.Gaps > 0 || got.Instances != sim.Instances+sim.Past {
		b.Fatalf("%d instances of %d and %d past ones, %d gaps", got.Instances, sim.Instances, sim.Past, got.Gaps)
	}
	if got.Peak > mostMemory {
		b.Errorf("the scan took %.0f MiB, and %d are allowed", got.Peak, mostMemory)
	}
	b.Logf("verdicts on instances: %v; the simulator took %.0f MiB", got.Verdicts, after.Peak)
	b.ReportMetric(compare(b, made, required(sim.Instances, len(sim.Accounts), len(sim.Regions))), "calls/required")
	b.ReportMetric(got.Wall.Seconds(), "s")
	b.ReportMetric(cpu.Seconds(), "cpu-s")
	b.ReportMetric((after.CPU - before.CPU).Seconds(), "sim-cpu-s")
	b.ReportMetric(got.Peak, "MiB-peak")
	b.ReportMetric(float64(got.Bytes)/float64(sim.Instances), "B/instance")
	return cpu, got.Wall
}

// benchmarkFloor compares a scan with reading the same with the SDK and nothing else.
func benchmarkFloor(b *testing.B, sim *simulator, cpu, wall time.Duration) {
	b.Helper()
	j := job{Fleet: sim.fleetShape, Endpoint: sim.Endpoint}
	listing, listingCPU := perform[usage](b, "pages", j, sim.environment()...)
	j.Metrics = true
	reading, readingCPU := perform[usage](b, "pages", j, sim.environment()...)
	b.Logf("listing instances alone with the SDK: %s, processor %s; and their metrics: %s, processor %s, %.0f MiB",
		listing.Wall.Round(time.Millisecond), listingCPU, reading.Wall.Round(time.Millisecond), readingCPU, reading.Peak)
	b.ReportMetric(cpu.Seconds()/listingCPU.Seconds(), "cpu/listing")
	b.ReportMetric(wall.Seconds()/reading.Wall.Seconds(), "time/reading")
	b.ReportMetric(cpu.Seconds()/readingCPU.Seconds(), "cpu/reading")
}

// BenchmarkLimits scans with AWS's limits kept on both sides, as in real life: imdsctl takes the share of them that the
// configuration's default leaves it, and waits.
func BenchmarkLimits(b *testing.B) {
	sim := simulate(b, job{Instances: size(b), Accounts: accounts, Limited: true})
	defer sim.stop(b)
	j := job{Fleet: sim.fleetShape, Limited: true}
	for b.Loop() {
		j.Database = filepath.Join(b.TempDir(), "imdsctl.db")
		got, cpu := perform[scanResult](b, "scan", j, sim.environment()...)
		if got.Gaps > 0 {
			b.Fatalf("%d gaps", got.Gaps)
		}
		b.ReportMetric(got.Wall.Seconds(), "s")
		b.ReportMetric(got.Wall.Seconds()/cpu.Seconds(), "time/cpu")
		b.ReportMetric(float64(got.Throttles), "throttled")
		b.ReportMetric(got.Peak, "MiB-peak")
	}
	b.ReportMetric(0, "ns/op")
}
