package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// turns keeps whose turn it is: which wave and ring are open, which of their stacks wait, and how many run in an account. It
// is told of every step of a stack, so that no decision has to look at all stacks.
type turns struct {
	waves  []waveTurns
	counts map[rollout.StackPhase]int
	// failed and active count stacks by account.
	failed, active map[fleet.AccountID]int
	running        int // active stacks in all
	failures       int // failed, stuck and going back, in all
	early          int // stacks without Last that have not ended
}

// waveTurns are the turns within a wave.
type waveTurns struct {
	total, ended, waiting int
	rings                 []int // by ring, the stacks that have not ended
	// queues hold the waiting stacks by account, in the plan's order; accounts take turns, so that one with a thousand stacks
	// does not keep the others waiting.
	queues   map[fleet.AccountID][]*stackRun
	accounts []fleet.AccountID
	next     int
}

func newTurns(p *plan.Plan, stacks []*stackRun) *turns {
	t := &turns{waves: make([]waveTurns, len(p.Header.Waves)), counts: map[rollout.StackPhase]int{},
		failed: map[fleet.AccountID]int{}, active: map[fleet.AccountID]int{}}
	for _, s := range stacks {
		w := &t.waves[s.Wave]
		w.total++
		for len(w.rings) <= s.Ring {
			w.rings = append(w.rings, 0)
		}
		t.count(s, s.state.Phase, 1)
		if s.state.Phase == rollout.StackWaiting {
			q := w.queue(s)
			w.queues[s.Place.Account], s.queued = append(q, s), true
		}
	}
	for i := range t.waves {
		for _, q := range t.waves[i].queues {
			slices.SortStableFunc(q, func(a, b *stackRun) int { return cmp.Compare(a.Ring, b.Ring) })
		}
	}
	return t
}

// moved takes in that a stack went from one phase to another.
func (t *turns) moved(s *stackRun, from, to rollout.StackPhase) {
	t.count(s, from, -1)
	t.count(s, to, 1)
	if to == rollout.StackWaiting {
		t.waves[s.Wave].push(s)
	}
}

func (t *turns) count(s *stackRun, p rollout.StackPhase, by int) {
	w := &t.waves[s.Wave]
	t.counts[p] += by
	if p.Final() {
		w.ended += by
	} else {
		w.rings[s.Ring] += by
		if !s.Last {
			t.early += by
		}
	}
	if p.Active() {
		t.running += by
		t.active[s.Place.Account] += by
	}
	switch p {
	case rollout.StackFailed, rollout.StackStuck:
		t.failed[s.Place.Account] += by
		t.failures += by
	case rollout.StackRevertingStep:
		t.failures += by
	case rollout.StackWaiting:
		w.waiting += by
	}
}

// push puts a stack where its turn is: by ring, and in front of those of its ring that have not had a turn yet.
func (w *waveTurns) push(s *stackRun) {
	if s.queued {
		return
	}
	s.queued = true
	q := w.queue(s)
	at, _ := slices.BinarySearchFunc(q, s.Ring, func(o *stackRun, ring int) int { return cmp.Compare(o.Ring, ring) })
	w.queues[s.Place.Account] = slices.Insert(q, at, s)
}

// queue is that of the stack's account, which is noted at first use.
func (w *waveTurns) queue(s *stackRun) []*stackRun {
	if w.queues == nil {
		w.queues = map[fleet.AccountID][]*stackRun{}
	}
	q, known := w.queues[s.Place.Account]
	if !known {
		w.accounts = append(w.accounts, s.Place.Account)
	}
	return q
}

// wave is the first wave that has not ended; -1 when all have.
func (t *turns) wave() int {
	for i := range t.waves {
		if t.waves[i].ended < t.waves[i].total {
			return i
		}
	}
	return -1
}

// begun tells whether a stack of the wave has had its turn.
func (t *turns) begun(wave int) bool { return t.waves[wave].waiting < t.waves[wave].total }

// ring is the first ring of the wave with stacks that have not ended.
func (t *turns) ring(wave int) int {
	for i, n := range t.waves[wave].rings {
		if n > 0 {
			return i
		}
	}
	return len(t.waves[wave].rings)
}

// candidates gives the waiting stacks of the wave in the order in which they may start, an account after the other, until
// take says stop. It leaves those out whose account has no room.
func (t *turns) candidates(wave int, rules plan.Rules, take func(*stackRun) (taken, stop bool)) {
	w := &t.waves[wave]
	ring := t.ring(wave)
	stop := false
	for turn := 0; turn < len(w.accounts) && !stop; turn++ {
		a := w.accounts[(w.next+turn)%len(w.accounts)]
		room := max(1, rules.MaxStacks)
		if rules.MaxStacksAccount > 0 {
			room = rules.MaxStacksAccount - t.active[a]
		}
		queue, kept := w.queues[a], w.queues[a][:0]
		for i, s := range queue {
			if s.state.Phase != rollout.StackWaiting { // it has had its turn
				s.queued = false
				continue
			}
			if stop || room <= 0 || s.Ring > ring {
				kept = append(kept, queue[i:]...)
				break
			}
			kept = append(kept, s)
			if s.before > 0 || s.lost || (s.Last && t.early > 0) {
				continue
			}
			var taken bool
			if taken, stop = take(s); taken {
				room--
			}
		}
		clear(queue[len(kept):])
		w.queues[a] = kept
	}
	if len(w.accounts) > 0 {
		w.next = (w.next + 1) % len(w.accounts)
	}
}

// calendar remembers what a calendar said until that changes.
type calendar struct {
	policy.Calendar
	opening policy.Opening
	asked   time.Time
}

func (c *calendar) at(now time.Time) policy.Opening {
	if c.asked.IsZero() || now.Before(c.asked) || (!c.opening.Until.IsZero() && !now.Before(c.opening.Until)) {
		c.opening, c.asked = c.At(now), now
	}
	return c.opening
}

// opening says whether writes of the stack may start now.
func (r *run) opening(s *stackRun, now time.Time) policy.Opening {
	if s.Calendar == 0 {
		return policy.Opening{Open: true}
	}
	return r.calendars[s.Calendar-1].at(now)
}

// spent tells whether the stack's account has used up its budget of failed stacks.
func (r *run) spent(s *stackRun) bool {
	most := r.plan.Header.Rules.AccountFailures
	return r.turns != nil && most > 0 && r.turns.failed[s.Place.Account] >= most
}
