package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// laneTTL is how long a lane stays a scan's that has died.
const laneTTL = time.Minute

// laneHolder takes the lanes of places one reads in, so that no call is made beside those of a rollout: the limits of an
// account are for all of them together. Whoever holds a lane gives it up after a short shift when somebody waits for it.
type laneHolder struct {
	journal engine.Journal
	clock   clock.Clock
	log     *slog.Logger
	ttl     time.Duration
	// drain empties the token buckets of a place: others may have spent their burst a moment ago.
	drain func(fleet.Place)
}

// hold waits for the lane of a place and keeps it until it is released.
func (h *laneHolder) hold(ctx context.Context, place fleet.Place) (release func(), err error) {
	lease, err := h.acquire(ctx, place)
	if err != nil {
		return nil, err
	}
	h.drain(place)
	keeping, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for h.clock.Sleep(keeping, h.ttl/3) == nil {
			if err := h.journal.Renew(keeping, lease, h.clock.Now(), h.ttl); err != nil && keeping.Err() == nil {
				h.log.Warn("could not keep a lane; calls are made beside those of a rollout", "place", place, "error", err)
				return
			}
		}
	}()
	return func() {
		stop()
		<-done
		if _, err := h.journal.Release(context.WithoutCancel(ctx), lease, h.clock.Now()); err != nil {
			h.log.Warn("could not release a lane", "place", place, "error", err)
		}
	}, nil
}

func (h *laneHolder) acquire(ctx context.Context, place fleet.Place) (engine.Lease, error) {
	for {
		lease, err := h.journal.Acquire(ctx, engine.LaneKey(place), Holder()+"/scan", h.clock.Now(), h.ttl)
		if !errors.Is(err, engine.ErrFenced) {
			if err != nil {
				err = fmt.Errorf("take the lane of %s: %w", place, err)
			}
			return lease, err
		}
		if err := h.clock.Sleep(ctx, time.Second); err != nil {
			return lease, err
		}
	}
}
