package lightsailinstance

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lightsail"
	"github.com/aws/aws-sdk-go-v2/service/lightsail/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// mostPoints is how many datapoints are asked for in one call: what CloudWatch's GetMetricStatistics gives at most, whose
// interface GetInstanceMetricData has. Lightsail documents no number of its own.
const mostPoints = 1440

// History reads MetadataNoToken of the subjects, instance by instance. What would fail for all of them (denied, credentials,
// region disabled, not offered, cancelled) ends it with the error; what fails for one is its gap.
func (d *driver) History(
	ctx context.Context, subjects []fleet.Ref, span evidence.Span, yield func(kind.Observation) error,
) error {
	for _, s := range subjects {
		if s.Place != d.place || s.Kind != inventory.KindLightsail {
			return fmt.Errorf("read Lightsail's metrics in %s: %s is elsewhere", d.place, s)
		}
		w, err := d.window(ctx, s, span)
		if err != nil && ends(ctx, err) {
			return err
		}
		if err := yield(kind.Observation{Windows: []*evidence.Window{w}, Gap: err}); err != nil {
			return err
		}
	}
	return nil
}

// ends tells an error that the next instance would meet as well.
func ends(ctx context.Context, err error) bool {
	switch fleet.ClassOf(err) {
	case fleet.ErrDenied, fleet.ErrExpired, fleet.ErrRegionDisabled, fleet.ErrNotOffered:
		return true
	default:
		return ctx.Err() != nil
	}
}

// window is the metric of one instance. With an error it has what came before it, which is real all the same.
func (d *driver) window(ctx context.Context, subject fleet.Ref, span evidence.Span) (*evidence.Window, error) {
	w := evidence.NewWindow(subject, evidence.SourceLightsail, evidence.MetricNoToken, span)
	for from := span.Start; from.Before(span.End()); from = from.Add(mostPoints * span.Period) {
		to := from.Add(mostPoints * span.Period)
		if to.After(span.End()) {
			to = span.End()
		}
		points, err := d.data(ctx, subject.ID, from, to, span.Period)
		if err != nil {
			return w, err
		}
		if err := fill(w, points); err != nil {
			return w, kind.Errorf(fleet.ErrOther, d.place, actionMetrics, "read MetadataNoToken of Lightsail instance %s: %w",
				subject.ID, err)
		}
	}
	return w, nil
}

func (d *driver) data(ctx context.Context, name string, from, to time.Time, period time.Duration) ([]types.MetricDatapoint, error) {
	out, err := d.client.GetInstanceMetricData(ctx, &lightsail.GetInstanceMetricDataInput{
		InstanceName: aws.String(name), MetricName: types.InstanceMetricNameMetadataNoToken,
		StartTime: aws.Time(from), EndTime: aws.Time(to), Period: aws.Int32(int32(period / time.Second)), //nolint:gosec // five minutes or an hour
		Unit: types.MetricUnitCount, Statistics: []types.MetricStatistic{types.MetricStatisticSum},
	})
	if err != nil {
		return nil, fmt.Errorf("read MetadataNoToken of Lightsail instance %s: %w", name, awsx.Plain(err))
	}
	return out.MetricData, nil
}

// fill adds datapoints, which come in any order. One without a sum or a time, or with a sum that is no count, is an error:
// it is neither a call nor a zero.
func fill(w *evidence.Window, points []types.MetricDatapoint) error {
	for _, p := range points {
		switch {
		case p.Timestamp == nil || p.Sum == nil:
			return errors.New("a datapoint has no time or no sum")
		case math.IsNaN(*p.Sum) || *p.Sum < 0 || *p.Sum > 1<<53:
			return fmt.Errorf("the sum %v at %s is no number of calls", *p.Sum, p.Timestamp.UTC().Format(time.RFC3339))
		}
		// A fraction is rounded up, so that what is not zero stays so.
		if err := w.Add(*p.Timestamp, int64(math.Ceil(*p.Sum))); err != nil {
			return err
		}
	}
	return nil
}
