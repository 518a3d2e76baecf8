package clock

import (
	"container/heap"
	"context"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
)

// Leaping is a clock for simulations: time stands still while anybody works, and leaps to the next moment that somebody waits
// for when all have come to wait. What a simulated month costs is then the work done in it, on all processors, and how fast the
// machine is has no influence on how long anything takes by this clock.
//
// That all wait is read from Go's scheduler (runtime/metrics, /sched/goroutines), so nobody has to register: a program that
// computes in other goroutines at the same time only makes the leaps later. A goroutine that waits for the outside world,
// such as a network's answer, counts as waiting, so there must be none.
type Leaping struct {
	grain time.Duration
	acts  atomic.Int64 // calls of Now and Sleep, by which it shows that somebody works
	// now changes under mu alone, and is read without it: the time is asked for more often than anything else.
	now atomic.Pointer[time.Time]

	mu      sync.Mutex
	waiting sleepers
	poked   chan struct{}
}

// NewLeaping starts a clock that leaps until ctx ends; sleeps then end only with their own contexts. Moments that are less than
// grain apart are leapt to as one, the latest, so that those who wait for them work side by side.
func NewLeaping(ctx context.Context, start time.Time, grain time.Duration) *Leaping {
	c := &Leaping{grain: grain, poked: make(chan struct{}, 1)}
	start = start.UTC()
	c.now.Store(&start)
	go c.run(ctx)
	return c
}

// Now tells the time.
func (c *Leaping) Now() time.Time {
	c.acts.Add(1)
	return *c.now.Load()
}

// Sleep waits until the clock is d further, or until ctx ends.
func (c *Leaping) Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	c.acts.Add(1)
	c.mu.Lock()
	s := &sleeper{at: c.now.Load().Add(d), woken: make(chan struct{})}
	heap.Push(&c.waiting, s)
	c.mu.Unlock()
	c.poke()
	select {
	case <-s.woken:
		return ctx.Err()
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		if s.index >= 0 {
			heap.Remove(&c.waiting, s.index)
		}
		return ctx.Err()
	}
}

func (c *Leaping) poke() {
	select {
	case c.poked <- struct{}{}:
	default:
	}
}

// How the clock watches the program: how long it lets others work before it looks again, and for how long it does so without seeing
// anything new before it looks less often.
const (
	glance    = 50 * time.Microsecond
	attentive = 5 * time.Millisecond
)

// still is after how long without a sign of work the clock leaps whatever the scheduler says, because what runs must be another
// program in the same process. Somebody who computes for long without looking at the clock gives no sign either.
func still(leap time.Duration) time.Duration {
	switch {
	case leap < time.Second:
		return 100 * time.Millisecond
	case leap < 10*time.Minute:
		return 200 * time.Millisecond
	default:
		return time.Second
	}
}

// glimpse is the most that counts as watched between two looks: a process that was stopped, or that the machine had no time for, did
// not get to show a sign of work either.
const glimpse = 20 * time.Millisecond

// idleness is how long nobody has shown a sign of work, as far as that was watched.
type idleness struct {
	acts   int64
	looked time.Time
	long   time.Duration
}

// look looks again, and tells whether there was a sign of work since it did last.
func (i *idleness) look(acts int64, now time.Time) bool {
	worked := acts != i.acts
	i.long += min(now.Sub(i.looked), glimpse)
	if worked {
		i.long = 0
	}
	i.acts, i.looked = acts, now
	return worked
}

// patience is how long all must have been waiting before a leap. Somebody who is held up by the garbage collector looks as if
// they waited. To leap a second too early costs no more than that second, to leap a day too early a day.
func patience(leap time.Duration) time.Duration {
	switch {
	case leap < time.Second:
		return 0
	case leap < 10*time.Minute:
		return 100 * time.Microsecond
	case leap < 48*time.Hour:
		return 2 * time.Millisecond
	default:
		return 100 * time.Millisecond
	}
}

func (c *Leaping) run(ctx context.Context) {
	timer := time.NewTimer(time.Millisecond)
	defer timer.Stop()
	watch := newScheduler()
	idle := idleness{acts: c.acts.Load(), looked: time.Now()}
	var quiet time.Time // since when all wait; zero while somebody works
	for ctx.Err() == nil {
		if c.sleepers() == 0 {
			select {
			case <-c.poked:
			case <-ctx.Done():
				return
			}
		}
		if idle.look(c.acts.Load(), time.Now()) {
			quiet = time.Time{}
		}
		switch {
		case !watch.quiet():
			quiet = time.Time{}
		case quiet.IsZero():
			quiet = time.Now()
		}
		ahead := c.ahead()
		switch {
		case !quiet.IsZero() && time.Since(quiet) >= patience(ahead), idle.long > still(ahead):
			c.leap()
			idle.long, quiet = 0, time.Time{}
			runtime.Gosched()
		case !quiet.IsZero():
			runtime.Gosched() // soon
		case idle.long < attentive:
			doze(glance)
		default:
			timer.Reset(time.Millisecond)
			select {
			case <-c.poked: // somebody has just come to wait, perhaps the last
			case <-timer.C:
			case <-ctx.Done():
			}
		}
	}
}

func (c *Leaping) sleepers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting)
}

// ahead is how far the next moment is that is waited for.
func (c *Leaping) ahead() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		return 0
	}
	return c.waiting[0].at.Sub(*c.now.Load())
}

// leap goes to the next moment that is waited for.
func (c *Leaping) leap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		return
	}
	last := c.waiting[0].at.Add(c.grain)
	for len(c.waiting) > 0 && !c.waiting[0].at.After(last) {
		s := heap.Pop(&c.waiting).(*sleeper)
		if s.at.After(*c.now.Load()) {
			c.now.Store(&s.at)
		}
		close(s.woken)
	}
}

// scheduler reads from Go's runtime whether anybody but the reader works.
type scheduler struct {
	samples []metrics.Sample
	// least has the fewest goroutines that were outside of Go, in this stretch of time and in the one before. Some are there for
	// good, such as the one that waits for signals; but that one comes in for a moment when there is one.
	least [2]uint64
	turn  time.Time // when the stretch began
}

// stretch is for how long the scheduler remembers that somebody was inside.
const stretch = 50 * time.Millisecond

func newScheduler() *scheduler {
	s := &scheduler{samples: []metrics.Sample{
		{Name: "/sched/goroutines/running:goroutines"}, {Name: "/sched/goroutines/runnable:goroutines"},
		{Name: "/sched/goroutines/not-in-go:goroutines"},
	}}
	metrics.Read(s.samples)
	s.least, s.turn = [2]uint64{s.value(2), s.value(2)}, time.Now()
	return s
}

func (s *scheduler) value(i int) uint64 {
	if s.samples[i].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s.samples[i].Value.Uint64()
}

func (s *scheduler) quiet() bool {
	metrics.Read(s.samples)
	outside := s.value(2)
	if now := time.Now(); now.Sub(s.turn) > stretch {
		s.least, s.turn = [2]uint64{outside, s.least[0]}, now
	}
	s.least[0] = min(s.least[0], outside)
	return s.value(0) <= 1 && s.value(1) == 0 && outside <= min(s.least[0], s.least[1])
}

// sleeper is one who waits. index is its place in the heap, -1 once it is out of it.
type sleeper struct {
	at    time.Time
	woken chan struct{}
	index int
}

// sleepers are a heap by time.
type sleepers []*sleeper

func (s sleepers) Len() int           { return len(s) }
func (s sleepers) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s sleepers) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

// Push is for package heap.
func (s *sleepers) Push(x any) {
	one := x.(*sleeper)
	one.index = len(*s)
	*s = append(*s, one)
}

// Pop is for package heap.
func (s *sleepers) Pop() any {
	last := len(*s) - 1
	one := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	one.index = -1
	return one
}
