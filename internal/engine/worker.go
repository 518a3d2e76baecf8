package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// queued is the crew of a rollout that many processes work on: orders go to their lanes by way of the queue, wherever those
// are carried out.
type queued struct {
	opt     Options
	queue   Queue
	rollout string
	seat    Lease
	// posted counts the orders that were not collected; nudged is when it was last seen to that somebody works on them.
	posted int
	nudged time.Time
}

// collectInterval is how often reports are looked for while orders are outstanding.
const collectInterval = 100 * time.Millisecond

// nudgeInterval is how often it is seen to that somebody works on what is outstanding.
const nudgeInterval = 5 * time.Second

func (q *queued) give(ctx context.Context, tasks []Task) error {
	orders := make([]Order, len(tasks))
	for i := range tasks {
		orders[i] = tasks[i].Order
	}
	if err := q.queue.Post(ctx, q.rollout, q.seat, orders, q.opt.Clock.Now()); err != nil {
		return fmt.Errorf("hand out the work of rollout %s: %w", q.rollout, err)
	}
	q.posted += len(orders)
	return nil
}

func (q *queued) wait(ctx context.Context, d time.Duration) ([]result, error) {
	if q.posted > 0 {
		d = min(d, collectInterval)
	}
	if err := q.opt.Clock.Sleep(ctx, d); err != nil {
		return nil, err
	}
	if q.posted == 0 {
		return nil, nil
	}
	now := q.opt.Clock.Now()
	reports, err := q.queue.Collect(ctx, q.rollout, q.seat, now)
	if err != nil {
		return nil, fmt.Errorf("collect the reports of rollout %s: %w", q.rollout, err)
	}
	q.posted -= len(reports)
	if q.posted > 0 && now.Sub(q.nudged) >= nudgeInterval {
		if _, err := q.queue.Outstanding(ctx, q.rollout, now); err != nil {
			return nil, fmt.Errorf("look after the work of rollout %s: %w", q.rollout, err)
		}
		q.nudged = now
	}
	out := make([]result, len(reports))
	for i := range reports {
		out[i].Report = reports[i]
	}
	return out, nil
}

// drain waits for nobody: what others have in hand goes on, and its reports wait in the queue.
func (q *queued) drain() ([]result, bool) { return nil, false }

func (q *queued) close(context.Context) {}

// adopt takes over the orders that an earlier coordinator posted.
func (r *run) adopt(ctx context.Context, q *queued) error {
	orders, err := q.queue.Outstanding(ctx, r.id, r.opt.Clock.Now())
	if err != nil {
		return fmt.Errorf("read the work of rollout %s: %w", r.id, err)
	}
	q.posted, q.nudged = len(orders), r.opt.Clock.Now()
	for _, o := range orders {
		if stack, ok := gateStack(o.Subject); ok {
			if s := r.byID[stack]; s != nil && o.Gate != nil {
				s.gate.query, s.gate.asked = o.Gate, o.Gate.Now
			}
		} else if c := r.changes[o.Subject]; c != nil {
			c.set(c.state, true)
			r.load.add(c.Ref.Place, 1)
		}
	}
	return nil
}

// Coordinate carries a rollout on by handing its work to the queue, from wherever the journal says it stands, until it is
// final, ctx ends, or another process takes over (ErrFenced). ErrFenced at once where another process coordinates it.
func (e *Engine) Coordinate(ctx context.Context, id string) (*Record, error) {
	queue, ok := e.opt.Journal.(Queue)
	if !ok {
		return nil, errors.New("this journal has no queue: one process works on it alone")
	}
	seat, err := queue.Acquire(ctx, SeatKey(id), e.opt.Holder, e.opt.Clock.Now(), e.opt.LeaseTTL)
	if err != nil {
		return nil, fmt.Errorf("coordinate rollout %s: %w", id, err)
	}
	return e.coordinate(ctx, id, seat, &queued{opt: e.opt, queue: queue, rollout: id, seat: seat})
}

// Shift says how Work went.
type Shift struct {
	// Orders is how many were carried out, More whether some may be left.
	Orders int
	More   bool
	// Wanted: somebody else waits for the lane.
	Wanted bool
}

// Work carries out orders of a place for at most the given time, under the lane's lease, and then gives the lane up. ErrFenced
// where another process holds it or has taken it over: nothing is lost by that, its orders come to the next holder.
func (e *Engine) Work(ctx context.Context, place fleet.Place, length time.Duration) (Shift, error) {
	queue, ok := e.opt.Journal.(Queue)
	if !ok {
		return Shift{}, errors.New("this journal has no queue: one process works on it alone")
	}
	s := &shift{lane: &lane{opt: e.opt, place: place}, queue: queue, back: make(chan result)}
	lease, err := s.hold(ctx)
	if err != nil {
		return Shift{}, err
	}
	if e.held.fresh(lease) && e.opt.OnLane != nil {
		err = e.opt.OnLane(ctx, place)
	}
	if err == nil {
		err = s.work(ctx, e.opt.Clock.Now().Add(length))
	} else {
		e.held.forget(lease)
	}
	s.out.Wanted = s.release(context.WithoutCancel(ctx))
	return s.out, err
}

// shift is a lane at work on the queue.
type shift struct {
	*lane
	queue   Queue
	back    chan result
	running int
	out     Shift
}

// linger is how long a lane waits for more before it is given up: the coordinator often has more at once.
const linger = 500 * time.Millisecond

func (s *shift) work(ctx context.Context, end time.Time) error {
	// Not a call is made beside those of another holder, be it by a worker that was stopped and wakes.
	ctx, stop := context.WithCancel(clock.WithMovingEnd(ctx, s.until))
	defer func() {
		stop()
		for s.running > 0 { // they end soon, and settle what they know
			<-s.back
			s.running--
		}
	}()
	idleSince := s.opt.Clock.Now()
	for {
		now := s.opt.Clock.Now()
		lease, err := s.hold(ctx)
		if err != nil {
			return err
		}
		over := !now.Before(end)
		if room := s.opt.LaneWidth - s.running; room > 0 && !over {
			tasks, err := s.queue.Take(ctx, lease, s.place, room, now)
			if err != nil {
				return fmt.Errorf("take up work in %s: %w", s.place, err)
			}
			for _, t := range tasks {
				s.running++
				go func() { s.back <- s.carryOut(ctx, t) }()
			}
		}
		if s.running > 0 {
			idleSince = now
		} else if over || now.Sub(idleSince) >= linger {
			s.out.More = over
			return nil
		}
		reports, err := s.wait(ctx)
		if closeErr := s.report(context.WithoutCancel(ctx), lease, reports); closeErr != nil {
			return closeErr
		}
		if err != nil {
			return err
		}
	}
}

// wait gives what has come back, or nothing after a moment.
func (s *shift) wait(ctx context.Context) ([]result, error) {
	sleep, cancel := context.WithCancel(ctx)
	defer cancel()
	woken := make(chan error, 1)
	go func() { woken <- s.opt.Clock.Sleep(sleep, collectInterval) }()
	var out []result
	for {
		select {
		case res := <-s.back:
			s.running--
			out = append(out, res)
			if s.running > 0 {
				continue // those that end together are reported together
			}
			return out, ctx.Err()
		case err := <-woken:
			return out, err
		}
	}
}

// report closes orders that came to something. What could not be carried out stays with the queue, and ends the shift: the
// journal or the credentials failed, and another process may have better luck.
func (s *shift) report(ctx context.Context, lease Lease, results []result) error {
	var reports []Report
	var failed error
	for _, res := range results {
		if res.fatal != nil {
			failed = errors.Join(failed, res.fatal)
			continue
		}
		reports = append(reports, res.Report)
	}
	if len(reports) > 0 {
		if err := s.queue.Close(ctx, lease, s.place, reports, s.opt.Clock.Now()); err != nil {
			return errors.Join(fmt.Errorf("report on the work in %s: %w", s.place, err), failed)
		}
		s.out.Orders += len(reports)
	}
	return failed
}

// holdings remembers which leases this process held last, to tell a lane that it takes up again from one that is new to it.
type holdings struct {
	mu   sync.Mutex
	last map[string]int64
}

// fresh tells whether somebody else may have held the lease since this process last did.
func (h *holdings) fresh(l Lease) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, had := h.last[l.Key]
	h.last[l.Key] = l.Epoch
	return !had || before+1 != l.Epoch
}

// forget makes the next taking of the lease a new one.
func (h *holdings) forget(l Lease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.last, l.Key)
}
