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
	ahead atomic.Int64 // nanoseconds
}

// NewFollower makes a clock that shows base's time until it is set.
func NewFollower(base Clock) *Follower { return &Follower{base: base} }

// Now tells the time that is followed.
func (f *Follower) Now() time.Time { return f.base.Now().Add(time.Duration(f.ahead.Load())) }

// Sleep waits for d.
func (f *Follower) Sleep(ctx context.Context, d time.Duration) error { return f.base.Sleep(ctx, d) }

// Set asks for the time to follow and gives how far it is ahead of the base clock. The asking may take a while: the time is
// taken for that in the middle of it.
func (f *Follower) Set(ctx context.Context, ask func(context.Context) (time.Time, error)) (time.Duration, error) {
	before := f.base.Now()
	told, err := ask(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask for the time: %w", err)
	}
	after := f.base.Now()
	ahead := told.Sub(before.Add(after.Sub(before) / 2))
	f.ahead.Store(int64(ahead))
	return ahead, nil
}
