package core

import (
	"container/heap"
	"sync"
	"sync/atomic"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Place is one account in one region, with every service's state there and the events still to come.
type Place struct {
	fleet.Place
	world *World

	mu     sync.RWMutex // guards what the stores hold
	events eventQueue   // guarded by mu
	due    atomic.Int64 // time of the next event, Unix nanoseconds; 0 for none
	serial uint64       // guarded by mu

	storesMu sync.Mutex
	stores   map[string]any
}

// World is the place's world.
func (p *Place) World() *World { return p.world }

// Store is a service's state in this place, made on first use. What it holds is guarded by the place's lock, which the
// core takes around handlers, events and seeds, and With and View for others.
func (p *Place) Store(service string, make func() any) any {
	p.storesMu.Lock()
	defer p.storesMu.Unlock()
	s, ok := p.stores[service]
	if !ok {
		s = make()
		p.stores[service] = s
	}
	return s
}

// With runs f with the place locked for writing, after the events that are due. It is for code outside handlers;
// within a handler it would never return.
func (p *Place) With(f func(now time.Time)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.world.Now()
	p.run(now)
	f(now)
}

// View is With for reading.
func (p *Place) View(f func(now time.Time)) {
	now := p.world.Now()
	p.settle(now)
	p.mu.RLock()
	defer p.mu.RUnlock()
	f(now)
}

// After schedules f for d after now. It runs with the place locked for writing, before the first call that comes at or
// after its time, and is told its own time, not that call's. It is called with the place locked for writing.
func (p *Place) After(now time.Time, d time.Duration, f func(now time.Time)) {
	p.serial++
	heap.Push(&p.events, event{at: now.Add(d), serial: p.serial, run: f})
	p.due.Store(p.events[0].at.UnixNano())
}

// settle runs the events that are due.
func (p *Place) settle(now time.Time) {
	if due := p.due.Load(); due == 0 || due > now.UnixNano() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run(now)
}

func (p *Place) run(now time.Time) {
	for len(p.events) > 0 && !p.events[0].at.After(now) {
		e := heap.Pop(&p.events).(event)
		e.run(e.at)
	}
	p.due.Store(0)
	if len(p.events) > 0 {
		p.due.Store(p.events[0].at.UnixNano())
	}
}

type event struct {
	at     time.Time
	serial uint64 // first come, first served among equals
	run    func(now time.Time)
}

type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	if c := q[i].at.Compare(q[j].at); c != 0 {
		return c < 0
	}
	return q[i].serial < q[j].serial
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return last
}

// Versioned is a value under eventual consistency: writers act on the newest, describe calls see what was there until
// the consistency delay had passed. The zero Versioned holds the zero T, as if it had always been so.
type Versioned[T any] struct {
	newest T
	older  *[]olderVersion[T] // oldest first; nil almost always
}

type olderVersion[T any] struct {
	value T
	until time.Time // describe calls see it before this instant
}

// Always makes a value that everybody sees.
func Always[T any](v T) Versioned[T] { return Versioned[T]{newest: v} }

// Newest is what the last writer left.
func (v *Versioned[T]) Newest() T { return v.newest }

// Seen is what a describe call sees at now.
func (v *Versioned[T]) Seen(now time.Time) T {
	if v.older != nil {
		for _, o := range *v.older {
			if now.Before(o.until) {
				return o.value
			}
		}
	}
	return v.newest
}

// Set writes a value that becomes visible at now+delay. Values must not be changed after they were set.
func (v *Versioned[T]) Set(now time.Time, delay time.Duration, value T) {
	var keep []olderVersion[T]
	if v.older != nil {
		for _, o := range *v.older {
			if now.Before(o.until) {
				keep = append(keep, o)
			}
		}
	}
	v.older = nil
	if delay > 0 {
		keep = append(keep, olderVersion[T]{value: v.newest, until: now.Add(delay)})
	}
	if len(keep) > 0 {
		v.older = &keep
	}
	v.newest = value
}
