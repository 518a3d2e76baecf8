package ec2_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	api "github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// fleetOf makes a world of n instances in one place.
func fleetOf(t testing.TB, n int) *core.World {
	t.Helper()
	w := core.New(core.Options{Clock: clock.NewManual(start), Unthrottled: true, CallLogLimit: 10}, ec2.Service())
	if err := w.AddAccount(core.Account{ID: account}); err != nil {
		t.Fatal(err)
	}
	p, err := w.Place(account, region)
	if err != nil {
		t.Fatal(err)
	}
	p.With(func(now time.Time) {
		s := ec2.StoreOf(p)
		for i := range n {
			_, err := s.AddInstance(now, ec2.InstanceSeed{
				ImageID: image1, SubnetID: fmt.Sprintf("subnet-%d", i%30), Options: fleet.Options{Tokens: "optional"},
				Tags: map[string]string{"Name": fmt.Sprintf("web-%d", i%1000), "Env": "prod", "Team": fmt.Sprintf("t%d", i%50)},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	return w
}

// TestInstancesAreSmall holds the simulator to a million instances in less than 2 GB.
func TestInstancesAreSmall(t *testing.T) {
	const n = 50_000
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	w := fleetOf(t, n)
	each := (heap() - before) / n
	t.Logf("%d bytes an instance", each)
	if each > 2000 {
		t.Errorf("%d bytes an instance: a million take more than 2 GB", each)
	}
	runtime.KeepAlive(w)
}

// BenchmarkDescribeInstances reads pages of a thousand without a network; the SDK's parsing is part of it.
func BenchmarkDescribeInstances(b *testing.B) {
	w := fleetOf(b, 20_000)
	client := api.New(api.Options{Region: region, BaseEndpoint: aws.String(core.BaseURL), HTTPClient: w.Client(),
		Credentials: credentials.NewStaticCredentialsProvider(account, "x", "")})
	for b.Loop() {
		p := api.NewDescribeInstancesPaginator(client, &api.DescribeInstancesInput{MaxResults: aws.Int32(1000)})
		total := 0
		for p.HasMorePages() {
			out, err := p.NextPage(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			total += len(out.Reservations)
		}
		if total != 20_000 {
			b.Fatal(total)
		}
	}
}
