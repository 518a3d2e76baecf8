package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// errAwaits ends a run that would only wait.
var errAwaits = errors.New("nothing can go on by itself")

// unwaiting gives a context that ends, for errAwaits, when the rollout can only wait for a person or for a window. settled
// is how long that has to be so: what has just become possible needs a moment to begin.
func unwaiting(ctx context.Context, c *course, settled time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(settled / 10)
		defer tick.Stop()
		var since time.Time
		events := -1
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			awaited, n := c.awaited()
			switch {
			case len(awaited) == 0:
				since = time.Time{}
			case since.IsZero() || n != events:
				since, events = time.Now(), n
			case time.Since(since) >= settled:
				cancel(errAwaits)
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// awaited says what keeps the rollout from going on by itself, nothing while it can, and how many events there were.
func (c *course) awaited() (why []string, events int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.awaits(c.now()), len(c.events)
}

func (c *course) awaits(now time.Time) []string {
	switch {
	case c.status.Final():
		return nil
	case c.stop != "":
		return []string{stoppedText(c.stop)}
	case c.status == rollout.Paused || c.status == rollout.RollbackPaused:
		why := "the rollout is paused"
		if c.reason != "" {
			why += ": " + oneLine(c.reason)
		}
		return []string{why + "; to go on: imdsctl rollout resume " + short(c.plan.Digest)}
	case c.held != "":
		return []string{c.held}
	}
	var out []string
	for _, v := range c.order {
		if !v.state.Phase.Active() {
			continue
		}
		why := c.stackAwaits(v, now)
		if len(why) == 0 {
			return nil
		}
		for _, w := range why {
			if !slices.Contains(out, w) {
				out = append(out, w)
			}
		}
	}
	return out
}

// stackAwaits says which people or window a stack waits for that is being worked on; nothing where it does not, or not only.
func (c *course) stackAwaits(v *stackView, now time.Time) []string {
	o := c.opening(v, now)
	closed := []string{v.label() + ": " + openingWords(o, now)}
	switch v.state.Phase {
	case rollout.StackChecking:
		if !o.Open && v.gate != nil && v.gate.Pass {
			return closed
		}
	case rollout.StackBaking:
		if !o.Open && v.gate != nil && v.gate.Pass && !v.read.Before(v.state.Due) && v.state.Step+1 < len(v.Steps) {
			return closed
		}
	case rollout.StackApplying:
		if !o.Open {
			return closed
		}
		return c.peopleOnly(v)
	}
	return nil
}

// peopleOnly lists the tasks that a step waits for; nothing where imdsctl has something to do in it as well.
func (c *course) peopleOnly(v *stackView) []string {
	for _, ch := range v.planned {
		if ch.Step != v.state.Step || ch.Class == plan.ClassManual {
			continue
		}
		switch c.changes[ch.ID] {
		case app.ChangeOpen, app.ChangeApplied:
			return nil
		case app.ChangePending, "":
			if !slices.ContainsFunc(ch.Needs, func(id string) bool { return c.changes[id] != app.ChangeVerified }) {
				return nil
			}
		}
	}
	var out []string
	for _, t := range c.open(v) {
		out = append(out, fmt.Sprintf("%s: a person is needed for %s: %s; then: %s", v.label(), t.Resource(), oneLine(t.Text()),
			c.doneCommand(t)))
	}
	return out
}

// opening says whether changes of a stack may start.
func (c *course) opening(v *stackView, now time.Time) policy.Opening {
	if v.Calendar <= 0 || v.Calendar > len(c.plan.Header.Calendars) {
		return policy.Opening{Open: true}
	}
	return c.plan.Header.Calendars[v.Calendar-1].At(now)
}

// openingWords says when a window opens or closes, as people say it.
func openingWords(o policy.Opening, now time.Time) string {
	switch {
	case o.Open && o.Until.IsZero():
		return "open"
	case o.Open:
		return "open until " + clockWords(o.Until, now)
	case o.Until.IsZero():
		return o.Why + ", and never opens"
	}
	return o.Why + ", opens " + clockWords(o.Until, now)
}

// wave is the first wave that has not ended, and whether a stack of it has had its turn; -1 where all have ended.
func (c *course) wave() (wave int, begun bool) {
	wave = -1
	for _, v := range c.order {
		if !v.state.Phase.Final() && (wave < 0 || v.Wave < wave) {
			wave = v.Wave
		}
	}
	for _, v := range c.order {
		if v.Wave == wave && v.state.Phase != rollout.StackWaiting {
			return wave, true
		}
	}
	return wave, false
}

// standstill says, of a rollout that nobody may be working on, what a person has to do for it, or which window it waits for.
func (c *course) standstill() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if out := c.awaits(now); len(out) > 0 || c.status != rollout.Running {
		return out
	}
	wave, begun := c.wave()
	if wave < 0 || slices.ContainsFunc(c.order, func(v *stackView) bool { return v.state.Phase.Active() }) {
		return nil
	}
	if w := c.plan.Header.Waves[wave]; w.Approval && !begun && c.approved[w.Name] == "" {
		return []string{fmt.Sprintf("wave %q waits for a person: %s", w.Name, approveCommand(c.plan.Digest, w.Name))}
	}
	if o, ok := c.waveOpening(wave, now); ok && !o.Open {
		return []string{openingWords(o, now)}
	}
	return nil
}

// waveOpening is the soonest opening of the stacks of a wave that wait; false where none waits.
func (c *course) waveOpening(wave int, now time.Time) (policy.Opening, bool) {
	var out policy.Opening
	any := false
	said := map[int]policy.Opening{}
	for _, v := range c.order {
		if v.Wave != wave || v.state.Phase != rollout.StackWaiting {
			continue
		}
		o, ok := said[v.Calendar]
		if !ok {
			o = c.opening(v, now)
			said[v.Calendar] = o
		}
		if o.Open {
			return o, true
		}
		if !any || !o.Until.IsZero() && (out.Until.IsZero() || o.Until.Before(out.Until)) {
			out, any = o, true
		}
	}
	return out, any
}

// splitCommand takes the command that a reason ends in off its words, so that it has a line of its own.
func splitCommand(why string) (words, command string) {
	i := strings.LastIndex(why, ": imdsctl ")
	if i < 0 {
		return why, ""
	}
	words = why[:i]
	for _, tail := range []string{"; then", "; to go on"} {
		words = strings.TrimSuffix(words, tail)
	}
	return words, why[i+2:]
}

func approveCommand(digest, wave string) string {
	return "imdsctl rollout approve " + short(digest) + " --wave " + kind.Quote(wave)
}
