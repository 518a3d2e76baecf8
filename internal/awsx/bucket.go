package awsx

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// errNoToken means that the token could not be had before the call's Until.
var errNoToken = errors.New("the API limit leaves no room for another call before this one's time is up")

// buckets holds a bucket for each place and name.
type buckets struct {
	clock     clock.Clock
	overrides map[string]Limit
	defaults  map[string]Limit
	share     float64

	mu      sync.Mutex
	open    map[bucketKey]*bucket
	drained map[fleet.Place]time.Time
}

type bucketKey struct {
	place fleet.Place
	name  string
}

func newBuckets(c clock.Clock, overrides map[string]Limit, share float64) *buckets {
	return &buckets{
		clock: c, overrides: overrides, defaults: defaultLimits(), share: share,
		open: map[bucketKey]*bucket{}, drained: map[fleet.Place]time.Time{},
	}
}

// of gives the bucket, made full at first, or as full as it can be since the place was drained.
func (b *buckets) of(place fleet.Place, name string) *bucket {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := bucketKey{place, name}
	if found, ok := b.open[key]; ok {
		return found
	}
	made := newBucket(b.clock, limitFor(name, b.overrides, b.defaults), b.share)
	if at, ok := b.drained[place]; ok {
		made.tokens, made.at = 0, at
	}
	b.open[key] = made
	return made
}

func (b *buckets) drain(place fleet.Place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Now()
	b.drained[place] = now
	for key, open := range b.open {
		if key.place == place {
			open.empty(now)
		}
	}
}

// bucket is a token bucket that can be emptied and paused. Waiters are served in the order in which they came, and only
// the first of them sleeps: a pause that begins meanwhile holds for all.
type bucket struct {
	clock         clock.Clock
	burst, refill float64
	turn          chan struct{}

	mu     sync.Mutex
	tokens float64
	at     time.Time // when tokens was right
	paused time.Time
}

func newBucket(c clock.Clock, l Limit, share float64) *bucket {
	// A bucket under one token could never serve a call.
	burst := max(1, l.Burst*share)
	return &bucket{
		clock: c, burst: burst, refill: l.Refill * share,
		turn: make(chan struct{}, 1), tokens: burst, at: c.Now(),
	}
}

// take waits for n tokens and takes them, and tells how long it waited. With until set, it gives up at once with
// errNoToken when they cannot be had before. A wish for more than the bucket holds is cut down to a full bucket.
func (b *bucket) take(ctx context.Context, n float64, until time.Time) (time.Duration, error) {
	start := b.clock.Now()
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		wait := b.tryTake(n)
		now := b.clock.Now()
		if !until.IsZero() && !now.Add(wait).Before(until) {
			if wait == 0 {
				b.giveBack(n)
			}
			return 0, errNoToken
		}
		if wait == 0 {
			return now.Sub(start), nil
		}
		if err := b.clock.Sleep(ctx, wait); err != nil {
			return 0, err
		}
	}
}

// tryTake takes the tokens if they are there and gives 0, or else tells how long to wait before asking again.
func (b *bucket) tryTake(n float64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Now()
	b.fill(now)
	n = min(n, b.burst)
	if now.Before(b.paused) {
		return b.paused.Sub(now)
	}
	if b.tokens >= n {
		b.tokens -= n
		return 0
	}
	return time.Duration(math.Ceil((n-b.tokens)/b.refill*float64(time.Second))) + 1
}

func (b *bucket) giveBack(n float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.burst, b.tokens+min(n, b.burst))
}

func (b *bucket) fill(now time.Time) {
	if now.After(b.at) {
		b.tokens = min(b.burst, b.tokens+now.Sub(b.at).Seconds()*b.refill)
		b.at = now
	}
}

// throttled is told when AWS refused a call for its rate although we kept to the limit: somebody else uses the account
// too. The bucket starts again from empty after the pause.
func (b *bucket) throttled(pause time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	resume := b.clock.Now().Add(pause)
	if resume.After(b.paused) {
		b.paused = resume
	}
	b.tokens, b.at = 0, b.paused
}

// empty leaves the bucket as if its last token had been taken at the given time.
func (b *bucket) empty(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = 0
	if at.After(b.at) {
		b.at = at
	}
}
