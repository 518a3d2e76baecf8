package awsx_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// roundTrip is a transport that is one function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestNameThatDoesNotResolve tells a resolver that knows no such name from one that could not tell. The first is asked a few
// times, and gives up long before a network fault would.
func TestNameThatDoesNotResolve(t *testing.T) {
	for name, tt := range map[string]struct {
		dns   net.DNSError
		class fleet.ErrorClass
		calls int
	}{
		"no such host":      {net.DNSError{Err: "no such host", IsNotFound: true}, fleet.ErrNotOffered, 3},
		"server misbehaves": {net.DNSError{Err: "server misbehaving", IsTemporary: true}, fleet.ErrTransient, 8},
		"timeout":           {net.DNSError{Err: "i/o timeout", IsTimeout: true}, fleet.ErrTransient, 8},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			edge, err := awsx.New(t.Context(), awsx.Options{Clock: clock.NewManual(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)), Jitter: func() float64 { return 0.5 },
				Load: func(context.Context) (aws.Config, error) {
					return aws.Config{Region: "eu-west-1", BaseEndpoint: aws.String("http://aws.invalid"),
						Credentials: credentials.NewStaticCredentialsProvider("111122223333", "secret", ""),
						HTTPClient: &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
							calls++
							return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &tt.dns}
						})}}, nil
				}})
			if err != nil {
				t.Fatal(err)
			}
			place := fleet.Place{Partition: fleet.PartitionAWS, Account: "111122223333", Region: "eu-west-1"}
			_, err = cloudwatch.NewFromConfig(edge.Session(place, awsx.Role{}).Config()).ListMetrics(t.Context(), &cloudwatch.ListMetricsInput{})
			if fleet.ClassOf(err) != tt.class || calls != tt.calls {
				t.Errorf("class %q after %d calls, want %q after %d: %v", fleet.ClassOf(err), calls, tt.class, tt.calls, err)
			}
		})
	}
}
