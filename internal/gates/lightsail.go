package gates

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lightsail"
	"github.com/aws/aws-sdk-go-v2/service/lightsail/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/cloudwatch"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// virtual looks at Lightsail instances, of which EC2 and CloudWatch know nothing. Lightsail has the status checks and
// MetadataNoToken, and no metric of refused calls: see docs/gates.md. It holds two calls and not the client, which would bring
// all of Lightsail into the binary.
type virtual struct {
	place fleet.Place
	get   func(context.Context, *lightsail.GetInstanceInput) (*lightsail.GetInstanceOutput, error)
	data  func(context.Context, *lightsail.GetInstanceMetricDataInput) (*lightsail.GetInstanceMetricDataOutput, error)
}

func newVirtual(s *awsx.Session) *virtual {
	client := lightsail.NewFromConfig(s.Config())
	return &virtual{
		place: s.Place(),
		get: func(ctx context.Context, in *lightsail.GetInstanceInput) (*lightsail.GetInstanceOutput, error) {
			return client.GetInstance(ctx, in)
		},
		data: func(ctx context.Context, in *lightsail.GetInstanceMetricDataInput) (*lightsail.GetInstanceMetricDataOutput, error) {
			return client.GetInstanceMetricData(ctx, in)
		},
	}
}

// onLightsail tells a host whose gates are read from Lightsail.
func (h *host) onLightsail() bool { return h.ref.Kind == inventory.KindLightsail }

// find looks instances up with their status checks. One that is no more is "gone", as on EC2.
func (v *virtual) find(ctx context.Context, refs []fleet.Ref) ([]*host, error) {
	var out []*host
	for _, ref := range refs {
		h := &host{ref: ref, state: "gone", system: "unknown", instance: "unknown"}
		answer, err := v.get(ctx, &lightsail.GetInstanceInput{InstanceName: &ref.ID, IncludeHealthStatus: aws.Bool(true)})
		switch {
		case fleet.ClassOf(err) == fleet.ErrGone:
		case err != nil:
			return nil, fmt.Errorf("look up Lightsail instance %s in %s for a gate: %w", ref.ID, v.place, awsx.Plain(err))
		case answer.Instance != nil:
			h.fillFrom(answer.Instance)
		}
		out = append(out, h)
	}
	return out, nil
}

// fillFrom reads Lightsail's words, which are EC2's. When an instance last started is not among them.
func (h *host) fillFrom(i *types.Instance) {
	h.launched = aws.ToTime(i.CreatedAt)
	if i.State != nil {
		h.state = aws.ToString(i.State.Name)
		h.running = h.state == "running"
	}
	if i.SystemStatus != nil {
		h.system = string(cmp.Or(i.SystemStatus.Status, "unknown"))
	}
	if i.InstanceStatus != nil {
		h.instance = string(cmp.Or(i.InstanceStatus.Status, "unknown"))
	}
}

// mostPoints is how many datapoints one call is asked for: what CloudWatch's GetMetricStatistics gives at most, whose
// interface GetInstanceMetricData has.
const mostPoints = 1440

// readings are what CloudWatch's would be, but for the refused calls: their window is always empty.
func (v *virtual) readings(ctx context.Context, seen []*host, watch cloudwatch.Watch) ([]cloudwatch.Reading, error) {
	out := make([]cloudwatch.Reading, len(seen))
	for i, h := range seen {
		r := &out[i]
		r.Subject = h.ref
		r.Rejected = evidence.NewWindow(h.ref, evidence.SourceLightsail, evidence.MetricRejected, watch.Span)
		r.NoToken = evidence.NewWindow(h.ref, evidence.SourceLightsail, evidence.MetricNoToken, watch.Span)
		if h.state == "gone" {
			continue // there is no metric to ask for, and nothing of it counts any more
		}
		err := v.series(ctx, h.ref, types.InstanceMetricNameMetadataNoToken, types.MetricStatisticSum, types.MetricUnitCount, watch.Span,
			func(at time.Time, calls float64) error {
				if math.IsNaN(calls) || calls < 0 || calls > 1<<53 {
					return fmt.Errorf("the sum %v is no number of calls", calls)
				}
				return r.NoToken.Add(at, int64(math.Ceil(calls)))
			})
		if err == nil && watch.Heartbeat {
			err = v.series(ctx, h.ref, types.InstanceMetricNameCPUUtilization, types.MetricStatisticAverage, types.MetricUnitPercent,
				watch.Span, func(at time.Time, _ float64) error {
					if at.After(r.Heartbeat) {
						r.Heartbeat = at.UTC()
					}
					return nil
				})
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// series reads one metric of one instance through a span. Datapoints come in any order.
func (v *virtual) series(ctx context.Context, ref fleet.Ref, name types.InstanceMetricName, statistic types.MetricStatistic,
	unit types.MetricUnit, span evidence.Span, each func(at time.Time, value float64) error) error {
	for from := span.Start; from.Before(span.End()); from = from.Add(mostPoints * span.Period) {
		to := from.Add(mostPoints * span.Period)
		if to.After(span.End()) {
			to = span.End()
		}
		answer, err := v.data(ctx, &lightsail.GetInstanceMetricDataInput{
			InstanceName: &ref.ID, MetricName: name, StartTime: &from, EndTime: &to,
			Period: aws.Int32(int32(span.Period / time.Second)), //nolint:gosec // five minutes
			Unit:   unit, Statistics: []types.MetricStatistic{statistic},
		})
		if err != nil {
			return fmt.Errorf("read %s of Lightsail instance %s in %s for a gate: %w", name, ref.ID, v.place, awsx.Plain(err))
		}
		for _, p := range answer.MetricData {
			value := p.Sum
			if statistic == types.MetricStatisticAverage {
				value = p.Average
			}
			err := errors.New("a datapoint has no time or no value")
			if p.Timestamp != nil && value != nil {
				err = each(*p.Timestamp, *value)
			}
			if err != nil {
				return fmt.Errorf("read %s of Lightsail instance %s in %s for a gate: %w", name, ref.ID, v.place, err)
			}
		}
	}
	return nil
}

// meters read the metrics of hosts, each from the service that has them.
type meters struct {
	cloudWatch *cloudwatch.Client
	lightsail  *virtual
}

// gate reads the latest minutes of hosts, in order: all of them or an error.
func (m meters) gate(ctx context.Context, seen []*host, watch cloudwatch.Watch) ([]cloudwatch.Reading, error) {
	mine, theirs := split(seen)
	refs := make([]fleet.Ref, len(mine))
	for i, h := range mine {
		refs[i] = h.ref
	}
	var known, others []cloudwatch.Reading
	var err error
	if len(mine) > 0 {
		if known, err = m.cloudWatch.Gate(ctx, refs, watch); err != nil {
			return nil, err
		}
	}
	if others, err = m.lightsail.readings(ctx, theirs, watch); err != nil {
		return nil, err
	}
	out := make([]cloudwatch.Reading, 0, len(seen))
	for _, h := range seen {
		from := &known
		if h.onLightsail() {
			from = &others
		}
		out = append(out, (*from)[0])
		*from = (*from)[1:]
	}
	return out, nil
}

// split parts the hosts of EC2 from those of Lightsail.
func split(seen []*host) (ec2, others []*host) {
	for _, h := range seen {
		if h.onLightsail() {
			others = append(others, h)
		} else {
			ec2 = append(ec2, h)
		}
	}
	return ec2, others
}

// of are the refs of one kind.
func of(refs []fleet.Ref, kind string) []fleet.Ref {
	return slices.DeleteFunc(slices.Clone(refs), func(r fleet.Ref) bool { return r.Kind != kind })
}
