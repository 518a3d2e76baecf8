// Package clock is the one source of time for everything that acts: engine, awsx, awssim and the commands take a Clock
// and never call time.Now. It owns nothing but the passage of time, so that a rehearsal of weeks takes seconds.
package clock

import (
	"context"
	"sync"
	"time"
)

// Clock tells the time and waits. It is safe for many goroutines.
type Clock interface {
	// Now is the current time, in UTC.
	Now() time.Time
	// Sleep waits for d (not at all if d ≤ 0) or until ctx ends, and then returns ctx's error.
	Sleep(ctx context.Context, d time.Duration) error
}

// System is the machine's clock.
func System() Clock { return scaled{rate: 1} }

// Scaled starts at the given instant and runs rate times as fast as the machine's clock: with a rate of 3600 an hour
// passes in a second. The rate must be positive.
func Scaled(start time.Time, rate float64) Clock {
	return scaled{start: start.UTC(), origin: time.Now(), rate: rate}
}

type scaled struct {
	start, origin time.Time
	rate          float64
}

func (c scaled) Now() time.Time {
	if c.origin.IsZero() {
		return time.Now().UTC()
	}
	return c.start.Add(time.Duration(float64(time.Since(c.origin)) * c.rate))
}

func (c scaled) Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(time.Duration(float64(d) / c.rate))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Manual is a clock that stands still until someone sleeps on it or advances it: Sleep moves the time forward at once,
// without waiting. It is for tests of code with a single sleeper; with several, their sleeps add up.
type Manual struct {
	mu  sync.Mutex
	now time.Time
}

// NewManual starts a manual clock.
func NewManual(start time.Time) *Manual { return &Manual{now: start.UTC()} }

// Now tells the time.
func (c *Manual) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the time forward by d.
func (c *Manual) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Sleep moves the time forward by d and returns at once.
func (c *Manual) Sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d > 0 {
		c.Advance(d)
	}
	return nil
}
