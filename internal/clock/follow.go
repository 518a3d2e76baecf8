package clock

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Follower is a clock that shows another machine's time, so that processes on several machines agree on when a lease has run
// out. It runs at the rate of the clock it is made from, and is set anew by Set.
type Follower struct {
	base  Clock
	ahead atomic.Pointer[time.Duration] // nil until it is set
}

// NewFollower makes a clock that shows base's time until it is set.
func NewFollower(base Clock) *Follower { return &Follower{base: base} }

// Now tells the time that is followed.
func (f *Follower) Now() time.Time {
	now := f.base.Now()
	if ahead := f.ahead.Load(); ahead != nil {
		now = now.Add(*ahead)
	}
	return now
}

// Sleep waits for d.
func (f *Follower) Sleep(ctx context.Context, d time.Duration) error { return f.base.Sleep(ctx, d) }

const (
	// asks is how often the time is asked for at most, and prompt an answer after which it is not asked for again.
	asks   = 5
	prompt = 50 * time.Millisecond
	// slow is an answer that is not worth moving a clock for which is set, and useless one that none can be set by: the time may
	// have been told at any moment of the asking.
	slow, useless = time.Second, 4 * time.Second
)

// Set asks for the time to follow and gives how far it is ahead of the base clock. The time is taken for that in the middle of
// the quickest answer of a few. A clock that is set is moved only by more than what that leaves open, because a clock that is
// wrong does more harm than one that is set late: leases and limits go by it.
func (f *Follower) Set(ctx context.Context, ask func(context.Context) (time.Time, error)) (time.Duration, error) {
	var ahead time.Duration
	took := time.Duration(-1)
	for range asks {
		before := f.base.Now()
		told, err := ask(ctx)
		if err != nil {
			return 0, fmt.Errorf("ask for the time: %w", err)
		}
		if d := f.base.Now().Sub(before); took < 0 || d < took {
			took, ahead = d, told.Sub(before.Add(d/2))
		}
		if took <= prompt {
			break
		}
	}
	last := f.ahead.Load()
	switch {
	case last == nil && took > useless:
		return 0, fmt.Errorf("ask for the time: every answer took %s or longer, which is too long to set a clock by", took)
	case last != nil && (took > slow || (ahead-*last).Abs() <= took/2):
		return *last, nil
	}
	f.ahead.Store(&ahead)
	return ahead, nil
}
