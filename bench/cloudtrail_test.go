package bench

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/cloudtrail"
	"github.com/imdsctl/imdsctl/internal/product"
)

// envTrail is the size of the log files that are made, in megabytes before compression.
const envTrail = "IMDSCTL_BENCH_TRAIL_MB"

// BenchmarkCloudTrail reads log files with imdsctl, with jq, and not at all (decompression alone, which is the floor), all of them
// one file at a time, and imdsctl with several as well. What jq counts must be what imdsctl counts.
func BenchmarkCloudTrail(b *testing.B) {
	megabytes := 200
	if text := os.Getenv(envTrail); text != "" {
		var err error
		if megabytes, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	for _, mix := range []struct {
		name  string
		share float64 // of records with delivered credentials
	}{{"few", 0.05}, {"many", 0.6}} {
		b.Run(mix.name, func(b *testing.B) {
			folder := b.TempDir()
			size, want := writeTrail(b, folder, int64(megabytes)<<20, mix.share)
			for b.Loop() {
				floor := clocked(b, func() { decompressAll(b, folder) })
				one := clocked(b, func() { importTrail(b, folder, 1, want) })
				several := clocked(b, func() { importTrail(b, folder, 0, want) })
				rate := func(d time.Duration) float64 { return float64(size) / 1e6 / d.Seconds() }
				b.ReportMetric(rate(one), "MB/s")
				b.ReportMetric(rate(several), "MB/s-workers")
				b.ReportMetric(rate(floor), "MB/s-floor")
				b.ReportMetric(one.Seconds()/floor.Seconds(), "x-floor")
				if jq, err := exec.LookPath("jq"); err != nil {
					b.Log("jq is not installed, so there is nothing to compare with; nothing was installed for it")
				} else {
					took := clocked(b, func() { jqTrail(b, jq, folder, want) })
					b.ReportMetric(rate(took), "MB/s-jq")
					b.ReportMetric(took.Seconds()/one.Seconds(), "x-faster-than-jq")
				}
			}
		})
	}
}

func clocked(b *testing.B, run func()) time.Duration {
	b.Helper()
	begun := time.Now()
	run()
	return time.Since(begun)
}

// writeTrail makes log files of about 8 MB each as CloudTrail writes them, and tells their size before compression, and how many
// calls were made with v1-delivered credentials.
func writeTrail(b *testing.B, folder string, size int64, share float64) (written, v1 int64) {
	b.Helper()
	rng := rand.New(rand.NewPCG(7, 11))
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for n := 0; written < size; n++ {
		name := fmt.Sprintf("111122223333_CloudTrail_eu-west-1_%s_%016d.json.gz", at.Add(time.Duration(n)*5*time.Minute).Format("20060102T1504Z"), n)
		f, err := os.Create(filepath.Join(folder, name))
		if err != nil {
			b.Fatal(err)
		}
		z := gzip.NewWriter(f)
		w := bufio.NewWriter(z)
		part := 0
		put := func(text string) {
			part += len(text)
			_, _ = w.WriteString(text) // Flush tells
		}
		put(`{"Records":[`)
		for i := 0; part < 8<<20; i++ {
			if i > 0 {
				put(",")
			}
			text, isV1 := trailRecord(rng, at.Add(time.Duration(n)*5*time.Minute), share)
			if isV1 {
				v1++
			}
			put(text)
		}
		put("]}")
		written += int64(part)
		for _, err := range []error{w.Flush(), z.Close(), f.Close()} {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	return written, v1
}

// agents of the records: what a fleet has.
var agents = []string{
	"Boto3/1.9.2 Python/2.7.18 Linux/4.14.154-128.181.amzn2.x86_64 Botocore/1.12.2",
	"aws-sdk-go/1.44.260 (go1.20.8; linux; arm64) amazon-ssm-agent/",
	"aws-cli/2.15.34 Python/3.11.8 Linux/5.10.210-201.852.amzn2.x86_64 exe/x86_64.amzn.2 prompt/off command/s3.ls",
	"aws-sdk-java/1.11.500 Linux/4.14.154 OpenJDK_64-Bit_Server_VM/25.252-b09 java/1.8.0_252 vendor/Amazon.com_Inc.",
	"[kubernetes/v1.18.18 aws-sdk-go/1.28.2 (go1.13.15; linux; amd64)]",
}

func trailRecord(rng *rand.Rand, at time.Time, share float64) (text string, v1 bool) {
	session := map[string]any{
		"sessionIssuer": map[string]any{"type": "Role", "principalId": "AROAEXAMPLEEXAMPLE123",
			"arn": "arn:aws:iam::111122223333:role/app", "accountId": "111122223333", "userName": "app"},
		"attributes": map[string]any{"creationDate": at.Format(time.RFC3339), "mfaAuthenticated": "false"},
	}
	name := "deploy-" + strconv.Itoa(rng.IntN(1000))
	if rng.Float64() < share {
		name = fmt.Sprintf("i-%017x", rng.IntN(5000))
		session["ec2RoleDelivery"] = "2.0"
		if v1 = rng.IntN(3) == 0; v1 {
			session["ec2RoleDelivery"] = "1.0"
		}
	}
	request := map[string]any{"bucketName": "data", "key": fmt.Sprintf("a/b/%x.json", rng.Uint64())}
	for range rng.IntN(6) {
		request[fmt.Sprintf("p%d", rng.IntN(50))] = fmt.Sprintf("%x", rng.Uint64())
	}
	b, err := json.Marshal(map[string]any{
		"eventVersion": "1.11", "eventTime": at.Add(time.Duration(rng.IntN(300)) * time.Second).Format(time.RFC3339),
		"userIdentity": map[string]any{"type": "AssumedRole", "principalId": "AROAEXAMPLEEXAMPLE123:" + name,
			"arn": "arn:aws:sts::111122223333:assumed-role/app/" + name, "accountId": "111122223333", "accessKeyId": "ASIAIOSFODNN7EXAMPLE",
			"sessionContext": session},
		"eventSource": "s3.amazonaws.com", "eventName": "GetObject", "awsRegion": "eu-west-1", "sourceIPAddress": "198.51.100.7",
		"userAgent": agents[rng.IntN(len(agents))], "requestParameters": request, "responseElements": nil,
		"additionalEventData": map[string]any{"SignatureVersion": "SigV4", "CipherSuite": "ECDHE-RSA-AES128-GCM-SHA256",
			"bytesTransferredIn": 0, "AuthenticationMethod": "AuthHeader", "bytesTransferredOut": rng.IntN(1e6)},
		"requestID": fmt.Sprintf("%016X", rng.Uint64()), "eventID": fmt.Sprintf("%08x-0000-4000-8000-%012x", rng.Uint32(), rng.Uint64()>>16),
		"readOnly": true, "eventType": "AwsApiCall", "managementEvent": false, "recipientAccountId": "111122223333", "eventCategory": "Data",
		"tlsDetails": map[string]any{"tlsVersion": "TLSv1.3", "cipherSuite": "TLS_AES_128_GCM_SHA256",
			"clientProvidedHostHeader": "data.s3.eu-west-1.amazonaws.com"},
	})
	if err != nil {
		panic(err)
	}
	return string(b), v1
}

func trailFiles(b *testing.B, folder string) []string {
	b.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.json.gz"))
	if err != nil || len(files) == 0 {
		b.Fatal(len(files), err)
	}
	slices.Sort(files)
	return files
}

// decompressAll is what every reader must do at least.
func decompressAll(b *testing.B, folder string) {
	b.Helper()
	for _, name := range trailFiles(b, folder) {
		f, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		z, err := gzip.NewReader(bufio.NewReader(f))
		if err == nil {
			_, err = io.Copy(io.Discard, z)
		}
		if err != nil {
			b.Fatal(err)
		}
		_ = f.Close() // it was read
	}
}

// importTrail reads the folder as `imdsctl evidence import` does, up to the database.
func importTrail(b *testing.B, folder string, workers int, want int64) {
	b.Helper()
	table := product.Default()
	var parsed atomic.Int64
	report, err := cloudtrail.ReadFiles(b.Context(), cloudtrail.Folder(folder), cloudtrail.Options{Workers: workers,
		Parse: func(agent string) (product.ID, string) {
			parsed.Add(1)
			if said := table.ParseAgent(agent); len(said) > 0 {
				return said[0].Product, said[0].Version
			}
			return "", ""
		}})
	if err != nil {
		b.Fatal(err)
	}
	if got := report.Tally.Summary().V1Calls; got != want || len(report.Gaps) > 0 || report.SkippedTotal() > 0 {
		b.Fatalf("%d calls with v1-delivered credentials, want %d; gaps %v, skipped %v", got, want, report.Gaps, report.Skipped)
	}
}

// jqTrail asks jq the same: calls with v1-delivered credentials by day, session and user agent.
func jqTrail(b *testing.B, jq, folder string, want int64) {
	b.Helper()
	const program = `.Records[] | select(.userIdentity.sessionContext.ec2RoleDelivery == "1.0") |
		[.eventTime[:10], .userIdentity.arn, .userAgent] | @tsv`
	counts := map[string]int64{}
	for _, name := range trailFiles(b, folder) {
		f, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		z, err := gzip.NewReader(bufio.NewReader(f))
		if err != nil {
			b.Fatal(err)
		}
		cmd := exec.CommandContext(b.Context(), jq, "-r", program)
		cmd.Stdin = z
		out, err := cmd.Output()
		if err != nil {
			b.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			counts[line]++
		}
		_ = f.Close() // it was read
	}
	var got int64
	for _, n := range counts {
		got += n
	}
	if got != want {
		b.Fatalf("jq counts %d, want %d", got, want)
	}
}
