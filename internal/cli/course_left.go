package cli

import (
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// meter counts what happened in each of the last sixty seconds.
type meter struct {
	counts [60]int
	second [60]int64
	first  int64
}

func (m *meter) add(t time.Time) {
	s := t.Unix()
	if m.first == 0 {
		m.first = s
	}
	i := (s%60 + 60) % 60
	if m.second[i] != s {
		m.second[i], m.counts[i] = s, 0
	}
	m.counts[i]++
}

// rate is how many happened a second over the last minute, or since the first where that is less.
func (m *meter) rate(t time.Time) float64 {
	now := t.Unix()
	n := 0
	for i, s := range m.second {
		if s > now-60 && s <= now {
			n += m.counts[i]
		}
	}
	if n == 0 {
		return 0
	}
	return float64(n) / float64(min(60, max(1, now-m.first+1)))
}

// stopwatch adds up how long something went on.
type stopwatch struct {
	total time.Duration
	last  time.Time
	on    bool
}

// look notes whether it goes on from t.
func (w *stopwatch) look(t time.Time, on bool) {
	if w.on && t.After(w.last) {
		w.total += t.Sub(w.last)
	}
	w.last, w.on = t, on
}

// estimate is a guess of how long a rollout takes, kept for a moment: it looks at every stack.
type estimate struct {
	made time.Time // by the machine's clock
	left time.Duration
}

// timeLeft guesses how long the rollout takes from now on, if nothing fails and people approve at once: the bakes that are
// left, as many side by side as the plan allows, the writing at the pace so far, and the waiting for windows.
func (c *course) timeLeft() time.Duration {
	wall := c.wall()
	if !c.left.made.IsZero() && wall.Sub(c.left.made) < time.Second && wall.After(c.left.made) {
		return c.left.left
	}
	c.left = estimate{wall, c.guess()}
	return c.left.left
}

func (c *course) guess() time.Duration {
	type turn struct{ wave, ring int }
	rings := map[turn][]*stackView{}
	last := turn{}
	for _, v := range c.order {
		if v.state.Phase.Final() {
			continue
		}
		t := turn{v.Wave, v.Ring}
		rings[t] = append(rings[t], v)
		last.wave, last.ring = max(last.wave, t.wave), max(last.ring, t.ring)
	}
	now := c.now()
	at := now
	for w := range last.wave + 1 {
		for r := range last.ring + 1 {
			if stacks := rings[turn{w, r}]; len(stacks) > 0 {
				at = c.ringEnds(stacks, at)
			}
		}
	}
	return at.Sub(now)
}

// ringEnds guesses when stacks have ended that are worked on from an instant on: as many at a time as may be.
func (c *course) ringEnds(stacks []*stackView, at time.Time) time.Time {
	rules := c.plan.Header.Rules
	var longest, sum time.Duration
	byAccount := map[fleet.AccountID]time.Duration{}
	changes := 0
	opens := map[int]bool{}
	begins := at
	for _, v := range stacks {
		d := v.bakesLeft(c.now())
		if v.Last || len(v.After) > 0 {
			d += longest // it comes after the others; where it stands first in the plan it is not known better
		}
		longest, sum, byAccount[v.Place.Account] = max(longest, d), sum+d, byAccount[v.Place.Account]+d
		changes += v.changes - v.made - v.undone
		if v.Calendar > 0 && !opens[v.Calendar] && v.state.Phase == rollout.StackWaiting {
			opens[v.Calendar] = true
			if o := c.plan.Header.Calendars[v.Calendar-1].At(at); !o.Open && o.Until.After(begins) {
				begins = o.Until
			}
		}
	}
	d := max(longest, sum/time.Duration(max(1, rules.MaxStacks)))
	if rules.MaxStacksAccount > 0 {
		for _, of := range byAccount {
			d = max(d, of/time.Duration(rules.MaxStacksAccount))
		}
	}
	if c.written > 0 && c.writing.total > 0 {
		d = max(d, c.writing.total/time.Duration(c.written)*time.Duration(max(0, changes)))
	}
	return begins.Add(d)
}

// bakesLeft adds up the bakes that a stack has before it.
func (v *stackView) bakesLeft(now time.Time) time.Duration {
	var d time.Duration
	for i := v.state.Step; i < len(v.Steps); i++ {
		switch {
		case i == v.state.Step && v.state.Phase == rollout.StackBaking:
			d += max(0, v.state.Due.Sub(now))
		case v.state.Phase == rollout.StackRevertingStep || v.state.Phase == rollout.StackReverting:
		default:
			d += v.Steps[i].Bake
		}
	}
	return d
}
