package app

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/tracer"
	"github.com/imdsctl/imdsctl/internal/tracer/capture"
)

// tracer is what traces are captured with.
func (a *App) tracer() Tracer {
	if a.opt.Tracer != nil {
		return a.opt.Tracer
	}
	return thisHost{a.log}
}

// thisHost captures on this host.
type thisHost struct{ log *slog.Logger }

// Probe implements Tracer.
func (h thisHost) Probe() []TraceTier {
	var out []TraceTier
	for _, t := range capture.Probe() {
		tier := TraceTier{Tier: t.Tier, Works: t.Err == nil}
		if t.Err != nil {
			tier.Why = t.Err.Error()
		}
		out = append(out, tier)
	}
	return out
}

// Start implements Tracer.
func (h thisHost) Start(ctx context.Context, tier tracer.Tier, tick func(time.Time), sink tracer.Sink) (TraceCapture, error) {
	c, err := capture.Start(ctx, capture.Options{Tier: tier, Logger: h.log, Tick: tick}, sink)
	switch {
	case errors.Is(err, capture.ErrUnsupported):
		return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: "trace", Summary: err.Error(),
			Remedy: "What CloudTrail shows (`imdsctl evidence import`), what is installed (`imdsctl software scan`) and the metric tell of other systems."}
	case err != nil:
		return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: "trace", Summary: err.Error(),
			Remedy: "See what each tier needs with `imdsctl trace check`, and run it as root."}
	}
	return underWay{c}, nil
}

// underWay is a capture on this host.
type underWay struct{ *capture.Capture }

// Stop implements TraceCapture.
func (u underWay) Stop() (uint64, error) {
	stats, err := u.Capture.Stop()
	return stats.Lost, err
}

// Notices implements TraceCapture: those that Partial does not give.
func (u underWay) Notices() []string {
	partial := u.Partial()
	return slices.DeleteFunc(u.Capture.Notices(), func(n string) bool { return slices.Contains(partial, n) })
}
