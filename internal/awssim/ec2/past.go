package ec2

import (
	"iter"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
)

// past are the instances of a place that EC2 shows no more. CloudWatch knows their metrics for much longer.
type past struct {
	byID     map[string]*Instance
	watchers []func(now time.Time, i *Instance)
}

func (s *Store) past() *past {
	return s.place.Store(Name+" past", func() any { return &past{byID: map[string]*Instance{}} }).(*past)
}

func (s *Store) remember(i *Instance) { s.past().byID[i.id] = i }

// Watch has f called whenever an instance of the place stops or is terminated, with the place locked for writing.
func (s *Store) Watch(f func(now time.Time, i *Instance)) {
	s.past().watchers = append(s.past().watchers, f)
}

func (s *Store) notify(now time.Time, i *Instance) {
	for _, f := range s.past().watchers {
		f(now, i)
	}
}

// Recall finds an instance that EC2 may have forgotten; nil when there never was one.
func (s *Store) Recall(id string) *Instance {
	if i := s.byID[id]; i != nil {
		return i
	}
	return s.past().byID[id]
}

// Everything goes through all instances there ever were with an id after the given one, by id.
func (s *Store) Everything(after string) iter.Seq[*Instance] {
	ids := make([]string, 0, len(s.byID))
	for _, known := range []map[string]*Instance{s.byID, s.past().byID} {
		for id := range maps.Keys(known) {
			if id > after {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return func(yield func(*Instance) bool) {
		for _, id := range ids {
			if !yield(s.Recall(id)) {
				return
			}
		}
	}
}

// StatusCheck decides the status checks of a running instance that has initialised.
type StatusCheck func(p *core.Place, i *Instance, now time.Time) Status

type checks struct{ check atomic.Pointer[StatusCheck] }

func checksOf(w *core.World) *checks {
	return w.Store(Name+" status check", func() any { return &checks{} }).(*checks)
}

// SetStatusCheck makes f decide the status checks in a world. It is called with the place locked for reading.
func SetStatusCheck(w *core.World, f StatusCheck) { checksOf(w).check.Store(&f) }

// StatusAt is what the status checks say at an instant: what SetStatus left, unless that is ok and the world's check
// knows better.
func (s *Store) StatusAt(i *Instance, now time.Time) Status {
	if f := checksOf(s.place.World()).check.Load(); f != nil && i.status == StatusOK {
		return (*f)(s.place, i, now)
	}
	return i.status
}

// AddPast adds an instance that ended before now and that EC2 shows no more, for histories.
func (s *Store) AddPast(now time.Time, seed InstanceSeed) (*Instance, error) {
	seed.State = StateTerminated
	i, err := s.AddInstance(now, seed)
	if err != nil {
		return nil, err
	}
	s.forget(i)
	return i, nil
}

// TemplateName is the name of a template, "" where there is none of that id.
func (s *Store) TemplateName(id string) string {
	if t, ok := s.Template(id); ok {
		return t.name
	}
	return ""
}

// AddMany adds n instances that differ in nothing but their ids, addresses and reservations; launched tells when the i-th
// was. Their tags are kept once, so that large fleets stay small.
func (s *Store) AddMany(now time.Time, seed InstanceSeed, n int, launched func(i int) time.Time) ([]*Instance, error) {
	out := make([]*Instance, 0, n)
	for k := range n {
		seed.Launched = launched(k)
		if k > 0 {
			seed.Tags = nil
		}
		i, err := s.AddInstance(now, seed)
		if err != nil {
			return out, err
		}
		if k > 0 {
			next := i.Newest()
			next.Tags = out[0].state.Newest().Tags
			i.state = core.Always(&next)
			s.index(i)
		}
		seed.Template = "" // its tags are on the first already
		out = append(out, i)
	}
	return out, nil
}

// Interrupt adds to a running instance's history that it was stopped from one instant to another.
func (s *Store) Interrupt(i *Instance, from, to time.Time) {
	last := &i.lives[len(i.lives)-1]
	if !last.To.IsZero() || !last.From.Before(from) || !from.Before(to) {
		return
	}
	last.To = from
	i.lives = append(i.lives, Life{From: to})
	next := i.Newest()
	next.LaunchTime = to
	i.state = core.Always(&next)
}
