package inmemory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// posted is an order in the queue.
type posted struct {
	engine.Order
	n      int64 // its turn
	taken  engine.Lease
	closed *engine.Report
}

// Post implements engine.Queue.
func (j *Journal) Post(_ context.Context, id string, seat engine.Lease, orders []engine.Order, _ time.Time) error {
	return j.transaction("post", func() error {
		if j.leases[engine.SeatKey(id)].Lease != seat {
			return engine.ErrFenced
		}
		if j.orders[id] == nil {
			j.orders[id] = map[string]*posted{}
		}
		for _, o := range orders {
			if j.orders[id][o.Subject] == nil {
				j.posts++
				j.orders[id][o.Subject] = &posted{Order: o, n: j.posts}
			}
		}
		return nil
	})
}

// waiting lists the orders that fit, in their turn.
func (j *Journal) waiting(fits func(p *posted) bool) []*posted {
	var out []*posted
	for _, orders := range j.orders {
		for _, p := range orders {
			if fits(p) {
				out = append(out, p)
			}
		}
	}
	slices.SortFunc(out, func(a, b *posted) int { return cmp.Compare(a.n, b.n) })
	return out
}

// Outstanding implements engine.Queue.
func (j *Journal) Outstanding(_ context.Context, id string, _ time.Time) ([]engine.Order, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []engine.Order
	for _, p := range j.waiting(func(p *posted) bool { return p.Rollout == id }) {
		out = append(out, p.Order)
	}
	return out, nil
}

// Places lists where orders wait for a lane.
func (j *Journal) Places() []fleet.Place {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []fleet.Place
	for _, p := range j.waiting(func(p *posted) bool { return p.closed == nil }) {
		if !slices.Contains(out, p.Place) {
			out = append(out, p.Place)
		}
	}
	return out
}

// Take implements engine.Queue.
func (j *Journal) Take(_ context.Context, lane engine.Lease, place fleet.Place, n int, _ time.Time) ([]engine.Task, error) {
	var out []engine.Task
	err := j.transaction("take", func() error {
		if j.leases[engine.LaneKey(place)].Lease != lane {
			return engine.ErrFenced
		}
		for _, p := range j.waiting(func(p *posted) bool { return p.Place == place && p.closed == nil && p.taken != lane }) {
			if len(out) == n {
				break
			}
			p.taken = lane
			t := engine.Task{Order: p.Order}
			if p.Act != engine.ActGate {
				changes := j.plans[p.Rollout].Changes
				i := slices.IndexFunc(changes, func(c plan.Change) bool { return c.ID == p.Subject })
				t.Change, t.State = &changes[i], j.records[p.Rollout].Changes[p.Subject]
			}
			out = append(out, t)
		}
		return nil
	})
	return out, err
}

// Close implements engine.Queue.
func (j *Journal) Close(_ context.Context, lane engine.Lease, place fleet.Place, reports []engine.Report, _ time.Time) error {
	return j.transaction("close", func() error {
		if j.leases[engine.LaneKey(place)].Lease != lane {
			return engine.ErrFenced
		}
		for _, r := range reports {
			if p := j.orders[r.Rollout][r.Subject]; p != nil {
				p.closed = &r
			}
		}
		return nil
	})
}

// Collect implements engine.Queue.
func (j *Journal) Collect(_ context.Context, id string, seat engine.Lease, _ time.Time) ([]engine.Report, error) {
	var out []engine.Report
	err := j.transaction("collect", func() error {
		if j.leases[engine.SeatKey(id)].Lease != seat {
			return engine.ErrFenced
		}
		for _, p := range j.waiting(func(p *posted) bool { return p.Rollout == id && p.closed != nil }) {
			r := *p.closed
			if p.Act != engine.ActGate {
				r.State = j.records[id].Changes[p.Subject]
			}
			out = append(out, r)
			delete(j.orders[id], p.Subject)
		}
		return nil
	})
	return out, err
}
