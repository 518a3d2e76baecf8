package clock

import (
	"context"
	"sync"
	"time"
)

// Paced is a clock whose pace can be changed while it runs, like a film that is wound forward through the quiet parts. It
// never goes back or jumps: whoever sleeps wakes when the time has come at whatever pace got there.
type Paced struct {
	mu      sync.Mutex
	start   time.Time // the clock's time at origin
	origin  time.Time // the machine's time at which the present pace began
	rate    float64
	changed chan struct{} // closed at the next change of pace
}

// NewPaced starts at the given instant and runs rate times as fast as the machine's clock. The rate must be positive.
func NewPaced(start time.Time, rate float64) *Paced {
	return &Paced{start: start.UTC(), origin: time.Now(), rate: rate, changed: make(chan struct{})}
}

// Now tells the time.
func (c *Paced) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *Paced) now() time.Time {
	return c.start.Add(time.Duration(float64(time.Since(c.origin)) * c.rate))
}

// SetRate changes the pace from now on. The rate must be positive.
func (c *Paced) SetRate(rate float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rate == c.rate {
		return
	}
	c.start, c.origin, c.rate = c.now(), time.Now(), rate
	close(c.changed)
	c.changed = make(chan struct{})
}

// Sleep waits until the clock is d further, at whatever pace, or until ctx ends.
func (c *Paced) Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	c.mu.Lock()
	until := c.now().Add(d)
	c.mu.Unlock()
	for {
		c.mu.Lock()
		left, rate, changed := until.Sub(c.now()), c.rate, c.changed
		c.mu.Unlock()
		if left <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(time.Duration(float64(left)/rate) + time.Nanosecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}
