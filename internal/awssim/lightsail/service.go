// Package lightsail is the simulator's part of Amazon Lightsail that carries metadata options: instances, their options and
// their metrics.
//
// It owns the instances of a place, which are no EC2 instances: EC2 does not show them. An instance has the programs that
// the world deploys by its name and tags, so that MetadataNoToken counts their v1 calls and the status checks fail where
// an essential one is broken. Nothing but metadata options can be changed here.
package lightsail

import (
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
)

// Name is the service's name, and that of its section in a seed's region.
const Name = "lightsail"

// Programs tells what runs on a host. It is called with the place locked at least for reading.
type Programs interface {
	// On gives the host of a life with the programs that run there.
	On(w *core.World, life *workload.Life, subject workload.Subject) *workload.Host
}

// DefaultDelay is how long after its end a period of a metric shows up.
const DefaultDelay = 2 * time.Minute

// Service declares Lightsail's instances with the given programs on them. Points of a period show up delay after its end.
//
// Lightsail publishes no rates for its calls. The buckets are of a size that its accounts are known to get.
func Service(programs Programs, delay time.Duration) *core.Service {
	s := &service{programs: programs, delay: delay}
	read := core.Bucket{Burst: 20, Refill: 10}
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.JSON11}, Targets: []string{"Lightsail_20161128"},
		Actions: map[string]core.Action{
			"GetInstances": {Bucket: read, Handle: known(s.getInstances, "pageToken", "includeHealthStatus")},
			"GetInstance": {
				Bucket: read, Handle: known(s.getInstance, "instanceName", "includeHealthStatus"),
			},
			"GetInstanceMetricData": {
				Bucket: read, Handle: known(s.metricData, "instanceName", "metricName", "period", "startTime",
					"endTime", "unit", "statistics"),
			},
			"UpdateInstanceMetadataOptions": {
				Mutating: true, Bucket: core.Bucket{Burst: 10, Refill: 2}, Access: access,
				Handle: known(update, "instanceName", "httpTokens", "httpEndpoint", "httpPutResponseHopLimit", "httpProtocolIpv6"),
			},
		},
		SeedPlace: seedPlace,
	}
}

type service struct {
	programs Programs
	delay    time.Duration
}

// known refuses parameters that the simulator does not understand, so that none is silently without effect.
func known(handle func(*core.Call) error, names ...string) func(*core.Call) error {
	return func(c *core.Call) error {
		for _, name := range c.In.Names() {
			if !slices.Contains(names, name) {
				return invalid("The parameter %s is not known to the simulator.", name)
			}
		}
		return handle(c)
	}
}

// access needs the instance, by an ARN that ends in an id of its own and not in its name. Reading cannot be limited to
// instances (https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonlightsail.html).
func access(c *core.Call) []core.Access {
	i := storeOf(c.Place).byName[c.In.Str("instanceName")]
	if i == nil {
		return []core.Access{{Resource: c.ARN(Name, "Instance/*")}}
	}
	tags := map[string][]string{}
	for _, t := range i.Tags {
		tags["aws:resourcetag/"+t.Key] = []string{t.Value}
	}
	return []core.Access{{Resource: i.arn, Condition: tags}}
}

func invalid(format string, args ...any) error {
	return wire.Errorf("InvalidInputException", format, args...)
}

// named finds the instance that the call names.
func named(c *core.Call) (*instance, error) {
	name := c.In.Str("instanceName")
	if !instanceName.MatchString(name) {
		return nil, invalid("Value '%s' at 'instanceName' failed to satisfy constraint.", name)
	}
	c.Touch(name)
	i := storeOf(c.Place).byName[name]
	if i == nil {
		return nil, wire.Errorf("NotFoundException", "The Instance does not exist: %s", name)
	}
	return i, nil
}
