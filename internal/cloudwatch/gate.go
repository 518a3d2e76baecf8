package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Watch says what a gate looks at.
type Watch struct {
	// Span of the reading, in periods of one minute or five: RecentSpan makes it.
	Span evidence.Span
	// Heartbeat also reads CPUUtilization, to tell "no v1 call was refused" from "the instance reports nothing": zeros
	// are not promised for MetadataNoTokenRejected.
	Heartbeat bool
}

// RecentSpan is the span of the last so many minutes, in periods of one minute (detailed monitoring) or five.
func RecentSpan(now time.Time, last, period time.Duration) (evidence.Span, error) {
	if period != time.Minute && period != 5*time.Minute {
		return evidence.Span{}, fmt.Errorf("gate period %s: want 1m (with detailed monitoring) or 5m", period)
	}
	if err := validWindow(last, period); err != nil {
		return evidence.Span{}, fmt.Errorf("gate: %w", err)
	}
	return evidence.NewSpan(now, last, period), nil
}

// Reading is what a gate sees of one instance.
type Reading struct {
	Observation
	// Heartbeat is the start of the latest period with a datapoint of CPUUtilization; zero where there was none, or
	// none was asked for. An incomplete heartbeat adds to the Gap.
	Heartbeat time.Time
}

// FreshSince tells whether another metric of the instance was seen at t or later, in the period of t included.
func (r Reading) FreshSince(t time.Time) bool {
	if r.Heartbeat.IsZero() {
		return false
	}
	period := time.Duration(0)
	if r.NoToken != nil {
		period = r.NoToken.Span.Period
	}
	return r.Heartbeat.Add(period).After(t)
}

// Gate reads the latest minutes of instances, in order. Unlike History it gives all or an error: a gate decides on the
// whole set. Instances about which CloudWatch did not say everything carry a Gap.
func (c *Client) Gate(ctx context.Context, subjects []fleet.Ref, watch Watch) ([]Reading, error) {
	if err := c.check(subjects); err != nil {
		return nil, err
	}
	metrics, filled := []metric{noToken, rejected}, 1
	if watch.Heartbeat {
		metrics, filled = append(metrics, heartbeat), 2
	}
	out := make([]Reading, 0, len(subjects))
	for batch := range slices.Chunk(subjects, batchSize(watch.Span, len(metrics), filled)) {
		all, err := c.query(ctx, batch, metrics, watch.Span)
		if err != nil {
			return nil, err
		}
		for i, subject := range batch {
			mine := all[i*len(metrics) : (i+1)*len(metrics)]
			r := Reading{Observation: observe(subject, watch.Span, mine[:2])}
			if watch.Heartbeat {
				r.Heartbeat = mine[2].latest()
				r.Gap = errors.Join(r.Gap, mine[2].gap())
			}
			out = append(out, r)
		}
	}
	return out, nil
}

// Heartbeats tells when each instance last reported CPUUtilization within the span, in order; zero where it did not.
// It is an error if CloudWatch does not answer completely for one of them.
func (c *Client) Heartbeats(ctx context.Context, subjects []fleet.Ref, span evidence.Span) ([]time.Time, error) {
	if err := c.check(subjects); err != nil {
		return nil, err
	}
	out := make([]time.Time, 0, len(subjects))
	for batch := range slices.Chunk(subjects, batchSize(span, 1, 1)) {
		all, err := c.query(ctx, batch, []metric{heartbeat}, span)
		if err != nil {
			return nil, err
		}
		for i, s := range all {
			if gap := s.gap(); gap != nil {
				return nil, fmt.Errorf("heartbeat of %s: %w", batch[i], gap)
			}
			out = append(out, s.latest())
		}
	}
	return out, nil
}

func (s *series) latest() time.Time {
	if len(s.times) == 0 {
		return time.Time{}
	}
	return slices.MaxFunc(s.times, time.Time.Compare).UTC()
}
