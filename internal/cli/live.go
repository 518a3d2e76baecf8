package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// live redraws a rollout on the terminal, in place, a few times a second, by plain escape sequences. It never reads the
// terminal, so that Ctrl-C and everything else works as without it.
type live struct {
	ctx    context.Context // of the command, to show when it is interrupted
	screen *screen
	course *course
	names  map[fleet.AccountID]string
	stats  func() app.CallStats
	began  time.Time
	drawn  int
	stop   chan struct{}
	done   chan struct{}
}

// watch begins to draw. The returned function draws a last time and ends it.
func (s *session) watch(ctx context.Context, sc *screen, c *course, names map[fleet.AccountID]string,
	stats func() app.CallStats,
) func() {
	l := &live{
		ctx: ctx, screen: sc, course: c, names: names, stats: stats, began: time.Now(),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	s.drawing.Store(true)
	go l.run()
	return func() {
		close(l.stop)
		<-l.done
		s.drawing.Store(false)
	}
}

func (l *live) run() {
	defer close(l.done)
	tick := time.NewTicker(125 * time.Millisecond)
	defer tick.Stop()
	for {
		l.draw()
		select {
		case <-l.stop:
			l.draw()
			return
		case <-tick.C:
		}
	}
}

// draw paints over the last picture.
func (l *live) draw() {
	width, height := l.size()
	lines := l.picture(width, height-1)
	var b strings.Builder
	if l.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", l.drawn)
	}
	for _, line := range lines {
		b.WriteString("\r" + text.Trim(line, width-1) + "\x1b[0m\x1b[K\n")
	}
	for i := len(lines); i < l.drawn; i++ {
		b.WriteString("\r\x1b[K\n")
	}
	if extra := l.drawn - len(lines); extra > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", extra)
	}
	l.drawn = len(lines)
	fmt.Fprint(l.screen.out, b.String())
}

// latest gives the last n events. What broke stays on the screen, up to a half of it, however much happens after.
func latest(events []courseEvent, n int) []courseEvent {
	from := max(0, len(events)-n)
	var kept []courseEvent
	for _, e := range events[:from] {
		if e.mood == moodBad || e.mood == moodWarn {
			kept = append(kept, e)
		}
	}
	kept = kept[max(0, len(kept)-n/2):]
	return append(kept, events[min(len(events), from+len(kept)):]...)
}

func (l *live) size() (width, height int) {
	width, height = 100, 30
	if f, ok := l.screen.out.(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
			width, height = w, h
		}
	}
	return max(width, 40), max(height, 12)
}

// picture is the whole screen: head, waves, stacks under way, events.
func (l *live) picture(width, height int) []string {
	c := l.course
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := []string{l.head(width), ""}
	lines = append(lines, l.waves()...)
	lines = append(lines, "", l.totals(), "")
	if l.ctx.Err() != nil {
		lines = append(lines, "  "+l.screen.paint(yellow+bold, stopNotice), "")
	}
	events := min(max(5, (height-len(lines))/2), len(c.events)+1)
	stacks := max(3, height-len(lines)-events-2)
	lines = append(lines, l.active(stacks)...)
	lines = append(lines, "")
	for _, e := range latest(c.events, events) {
		lines = append(lines, l.event(e))
	}
	return lines[:min(len(lines), height)]
}

func (l *live) head(width int) string {
	sc := l.screen
	left := fmt.Sprintf("%s %s  %s", sc.paint(bold, "Rollout"), l.course.plan.Digest[:12], l.status())
	now := l.course.now()
	right := now.UTC().Format("Mon Jan _2 15:04") + "  "
	if d := now.Sub(l.course.started); d > 0 {
		right += brief(d)
		if real := time.Since(l.began); d > 3*real {
			right += " in " + brief(real)
		}
	}
	gap := max(2, width-2-text.StringWidthWithoutEscSequences(left)-text.StringWidthWithoutEscSequences(right))
	return left + strings.Repeat(" ", gap) + sc.paint(dim, right)
}

func (l *live) status() string {
	st := l.course.status
	switch st {
	case rollout.Running:
		return l.screen.paint(green, "● running")
	case rollout.Done:
		return l.screen.paint(green+bold, "✓ done")
	case rollout.RolledBack, rollout.Incomplete:
		return l.screen.paint(yellow+bold, "■ "+string(st))
	}
	return l.screen.paint(yellow, "● "+string(st))
}

func (l *live) waves() []string {
	sc := l.screen
	type tally struct{ total, done, bad, baking, writing, back, changes, made int }
	waves := make([]tally, len(l.course.plan.Header.Waves))
	for _, v := range l.course.order {
		w := &waves[v.Wave]
		w.total++
		w.changes += v.changes
		w.made += v.made
		switch v.state.Phase {
		case rollout.StackDone:
			w.done++
		case rollout.StackFailed, rollout.StackStuck, rollout.StackSkipped, rollout.StackRolledBack:
			w.bad++
		case rollout.StackBaking:
			w.baking++
		case rollout.StackApplying:
			w.writing++
		case rollout.StackRevertingStep, rollout.StackReverting:
			w.back++
		}
	}
	var out []string
	for i, w := range waves {
		if w.total == 0 {
			continue
		}
		name := text.Pad(text.Snip(l.course.plan.Header.Waves[i].Name, 14, "…"), 14, ' ')
		colour := cyan
		if w.done == w.total {
			colour = green
		}
		line := fmt.Sprintf("  %d %s %s %s/%s changes  %d/%d stacks", i+1, name, sc.paint(colour, bar(20, w.made, w.changes)),
			text.AlignRight.Apply(count(w.made), 5), text.AlignLeft.Apply(count(w.changes), 5), w.done, w.total)
		for _, part := range []struct {
			n     int
			words string
			st    style
		}{{w.writing, "writing", cyan}, {w.baking, "baking", dim}, {w.back, "rolling back", yellow}, {w.bad, "not done",
			red}} {
			if part.n > 0 {
				line += " " + sc.paint(part.st, fmt.Sprintf("· %d %s", part.n, part.words))
			}
		}
		out = append(out, line)
	}
	return out
}

func (l *live) totals() string {
	made := 0
	for _, v := range l.course.order {
		made += v.made
	}
	line := fmt.Sprintf("  %s of %s changes", l.screen.paint(bold, count(made)), count(len(l.course.plan.Changes)))
	if real := time.Since(l.began).Seconds(); real > 1 {
		line += fmt.Sprintf(" · %.0f/s", float64(l.course.written)/real)
	}
	if l.stats != nil {
		st := l.stats()
		line += fmt.Sprintf(" · %s AWS calls, %s throttled", count(st.Calls), count(st.Throttles))
	}
	return line
}

// active lists the stacks under way: those rolling back first, then writing, then baking, the ones to end soonest
// first.
func (l *live) active(most int) []string {
	var running []*stackView
	for _, v := range l.course.order {
		if v.state.Phase.Active() {
			running = append(running, v)
		}
	}
	rank := func(v *stackView) int {
		switch v.state.Phase {
		case rollout.StackRevertingStep, rollout.StackReverting:
			return 0
		case rollout.StackApplying:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(running, func(a, b *stackView) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.state.Due.Compare(b.state.Due), cmp.Compare(a.ID, b.ID))
	})
	var out []string
	for i, v := range running {
		if i == most-1 && len(running) > most {
			out = append(out, l.screen.paint(dim, fmt.Sprintf("  … and %d more", len(running)-i)))
			break
		}
		out = append(out, l.stack(v))
	}
	return out
}

func (l *live) stack(v *stackView) string {
	sc := l.screen
	account := l.names[v.Place.Account]
	if account == "" {
		account = string(v.Place.Account)
	}
	fit := func(s string, n int) string { return text.Pad(text.Snip(s, n, "…"), n, ' ') }
	step := fmt.Sprintf("%s %d/%d", v.stepName(v.state.Step), v.state.Step+1, len(v.Steps))
	lead := fmt.Sprintf("  %s %s %s ", fit(v.title(), 18), sc.paint(dim, fit(account, 17)),
		sc.paint(dim, fit(string(v.Place.Region), 14)))
	switch v.state.Phase {
	case rollout.StackBaking:
		bake := v.Steps[v.state.Step].Bake
		left := v.state.Due.Sub(l.course.now())
		gates := sc.paint(dim, "gates unread")
		if v.gates == "pass" {
			gates = sc.paint(green, "gates pass")
		} else if v.gates != "" {
			gates = sc.paint(red, "gates fail")
		}
		return lead + fit(step, 13) + sc.paint(blue,
			bar(8, int(bake-max(left, 0)), int(bake))) + " " + fit(brief(left)+" left", 11) + gates
	case rollout.StackApplying:
		return lead + fit(step, 13) + sc.paint(cyan, bar(8, v.made, v.changes)) + " writing"
	default:
		return lead + sc.paint(yellow+bold, "rolling back "+step)
	}
}

func (l *live) event(e courseEvent) string {
	sc := l.screen
	at := sc.paint(dim, e.at.UTC().Format("15:04"))
	mark, st := "•", style("")
	switch e.mood {
	case moodGood:
		mark, st = "✓", green
	case moodBad:
		mark, st = "✗", red+bold
	case moodWarn:
		mark, st = "!", yellow
	}
	line := "  " + at + " " + sc.paint(st, mark) + " "
	if e.stack != nil {
		account := l.names[e.stack.Place.Account]
		if account == "" {
			account = string(e.stack.Place.Account)
		}
		line += sc.paint(bold, e.stack.title()) + sc.paint(dim, " "+account+" "+string(e.stack.Place.Region)) + "  "
	}
	return line + sc.paint(st, e.text)
}
