// Package cloudwatch is the simulator's CloudWatch: metrics of instances computed from their workloads when they are
// asked for, points that clients put, and alarms whose state is set by hand.
//
// It stores nothing but what was put. The metrics of an instance come from package workload in closed form, so a fleet
// of a million costs nothing until somebody looks at it. Where AWS documents a limit, a retention or a rounding, this
// package keeps it and names the page; the liberties it takes are named at the function that takes them (putMetricData).
package cloudwatch

import (
	"iter"
	"net/http"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
)

// Hosts finds instances with what runs on them. Its methods are called with the place locked for reading; the hosts
// they give are read only, and good until the lock is let go.
type Hosts interface {
	// Host finds an instance, terminated ones included for as long as the simulator remembers them.
	Host(p *core.Place, id string) (*workload.Host, bool)
	// Hosts walks the instances of a place with an id after the given one, in the order of their ids.
	Hosts(p *core.Place, after string) iter.Seq[*workload.Host]
}

// DefaultDelay is how long after its end a period shows up.
const DefaultDelay = 2 * time.Minute

// Service declares CloudWatch over the given instances. Points of a period show up delay after its end; delay may be 0.
//
// Clients reach it by rpc-v2-cbor (today's SDKs), by awsJson1_0 and by awsQuery (older ones).
func Service(hosts Hosts, delay time.Duration) *core.Service {
	s := &service{hosts: hosts, delay: delay}
	read := func(f func(scope, *wire.Writer) error, burst, refill float64) core.Action {
		return core.Action{Bucket: core.Bucket{Burst: burst, Refill: refill}, Handle: handle(f)}
	}
	put := read(s.putMetricData, 500, 500)
	put.Mutating = true
	return &core.Service{
		Name: "cloudwatch", Signing: []string{"monitoring"}, Namespace: "http://monitoring.amazonaws.com/doc/2010-08-01/",
		Protocols: []wire.Protocol{wire.CBOR, wire.JSON10, wire.Query}, Targets: []string{"GraniteServiceVersion20100801"},
		// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html
		Actions: map[string]core.Action{
			"GetMetricData":       read(s.getMetricData, 50, 50),
			"GetMetricStatistics": read(s.getMetricStatistics, 400, 400),
			"ListMetrics":         read(s.listMetrics, 25, 25),
			"PutMetricData":       put,
			"DescribeAlarms":      read(s.describeAlarms, 9, 9),
		},
		SeedPlace: seedPlace,
		Controls:  map[string]func(*core.World, http.ResponseWriter, *http.Request){"POST /_sim/alarms": serveAlarm},
	}
}

type service struct {
	hosts Hosts
	delay time.Duration
}

// scope is one request: where it was sent, when, and what it asks.
type scope struct {
	place  *core.Place
	now    time.Time
	params wire.Value
	call   *core.Call
}

func handle(f func(scope, *wire.Writer) error) func(*core.Call) error {
	return func(c *core.Call) error { return f(scope{place: c.Place, now: c.Now, params: c.In, call: c}, c.Out) }
}
