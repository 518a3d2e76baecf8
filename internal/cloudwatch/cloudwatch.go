// Package cloudwatch reads evidence of IMDSv1 calls from the EC2 metrics MetadataNoToken (successful v1 calls) and
// MetadataNoTokenRejected (v1 calls refused because v1 is off), instance by instance.
//
// It owns what is peculiar to CloudWatch: how many instances fit into a call, pages, partial results, how long points
// are kept, the price. It decides nothing about what the evidence means. A datapoint that did not come is never a
// zero: a window's coverage has exactly the datapoints received, and a subject about which CloudWatch did not say
// everything carries a Gap.
//
// Metrics are asked for with the InstanceId dimension: without it the answer is empty and proves nothing. Reading
// changes nothing in AWS; an interruption leaves what was yielded before it.
package cloudwatch

import (
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/schemas"
	"github.com/aws/smithy-go/transport/http/protocol/awsjson"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Protocol is how requests are written on the wire.
type Protocol string

// Protocols. The SDK's own is RPC v2 CBOR; some stand-ins for AWS speak JSON only.
const (
	ProtocolDefault Protocol = ""
	ProtocolCBOR    Protocol = "cbor"
	ProtocolJSON    Protocol = "json"
)

// What CloudWatch keeps, and for how long ("Metrics retention" in its user guide).
const (
	keepsMinutes     = 15 * 24 * time.Hour
	keepsFiveMinutes = 63 * 24 * time.Hour
	keepsHours       = 455 * 24 * time.Hour
)

// Settings say which history is read.
type Settings struct {
	// Window is how far back; 14 days if zero.
	Window time.Duration
	// Period is how finely: five minutes or an hour; an hour if zero.
	Period time.Duration
	// History is how far back daily counts are read besides; 0 is not at all.
	History time.Duration
	// Protocol on the wire.
	Protocol Protocol
}

func (s Settings) withDefaults() Settings {
	if s.Window == 0 {
		s.Window = 14 * 24 * time.Hour
	}
	if s.Period == 0 {
		s.Period = time.Hour
	}
	return s
}

// Validate reports a window that CloudWatch cannot answer.
func (s Settings) Validate() error {
	s = s.withDefaults()
	switch s.Protocol {
	case ProtocolDefault, ProtocolCBOR, ProtocolJSON:
	default:
		return fmt.Errorf("CloudWatch protocol %q: want cbor or json", s.Protocol)
	}
	switch s.Period {
	case time.Hour, 5 * time.Minute:
	default:
		return fmt.Errorf("CloudWatch period %s: want 5m or 1h", s.Period)
	}
	if s.History != 0 {
		if err := validWindow(s.History, lookBackPeriod); err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	return validWindow(s.Window, s.Period)
}

// lookBackPeriod is how finely the long look back is read.
const lookBackPeriod = 24 * time.Hour

// LookBack is the long window of daily counts that ends now; false where none is read.
func (s Settings) LookBack(now time.Time) (evidence.Span, bool) {
	if s.History == 0 {
		return evidence.Span{}, false
	}
	return evidence.NewSpan(now, s.History, lookBackPeriod), true
}

// Span is the window that ends now.
func (s Settings) Span(now time.Time) evidence.Span {
	s = s.withDefaults()
	return evidence.NewSpan(now, s.Window, s.Period)
}

func validWindow(window, period time.Duration) error {
	if window < period || window%period != 0 {
		return fmt.Errorf("CloudWatch window %s: want a multiple of the period, %s", window, period)
	}
	keeps := keepsHours
	switch {
	case period < 5*time.Minute:
		keeps = keepsMinutes
	case period < time.Hour:
		keeps = keepsFiveMinutes
	}
	if window <= keeps {
		return nil
	}
	hint := "shorten the window"
	if keeps != keepsHours {
		hint += ", or ask for a longer period (1h is kept 455 days)"
	}
	return fmt.Errorf("CloudWatch window of %g days: datapoints of %s are kept %g days; %s",
		days(window), period, days(keeps), hint)
}

func days(d time.Duration) float64 { return d.Hours() / 24 }

// Client reads the metrics of one place. It is safe for many goroutines.
type Client struct {
	api   *sdk.Client
	place fleet.Place
}

// New makes a client for the session's place.
func New(s *awsx.Session, p Protocol) *Client {
	api := sdk.NewFromConfig(s.Config(), func(o *sdk.Options) {
		if p == ProtocolJSON {
			o.Protocol = awsjson.New10(schemas.GraniteServiceVersion20100801)
		}
	})
	return &Client{api: api, place: s.Place()}
}

// Actions are the IAM actions that the package's calls need.
func Actions() []string {
	return []string{"cloudwatch:DescribeAlarms", "cloudwatch:GetMetricData", "cloudwatch:ListMetrics"}
}

const (
	namespace = "AWS/EC2"
	dimension = "InstanceId"
)

// metric is one series of an instance.
type metric struct {
	id   string // the letter that begins its query ids
	name string
	stat string
}

var (
	noToken   = metric{"n", string(evidence.MetricNoToken), "Sum"}
	rejected  = metric{"r", string(evidence.MetricRejected), "Sum"}
	heartbeat = metric{"h", "CPUUtilization", "Average"}
)

func seconds(d time.Duration) *int32 { return aws.Int32(int32(d / time.Second)) }
