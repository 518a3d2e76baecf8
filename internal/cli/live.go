package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
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
	width  int // of the last picture
	stop   chan struct{}
	done   chan struct{}
}

// watch begins to draw. The returned function draws a last time and ends it.
func (s *session) watch(ctx context.Context, sc *screen, c *course, names map[fleet.AccountID]string,
	stats func() app.CallStats,
) func() {
	l := &live{
		ctx: ctx, screen: sc, course: c, names: names, stats: stats, began: c.wall(),
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
	if width != l.width { // what the terminal has wrapped meanwhile goes
		b.WriteString("\r\x1b[J")
		l.drawn, l.width = 0, width
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

// latest gives the last n events. What broke, and then what needs attention, stays on the screen, up to a half of it, however
// much happens after.
func latest(events []courseEvent, n int) []courseEvent {
	chosen := map[int]bool{}
	choose := func(most int, want func(courseEvent) bool) {
		for i := len(events) - 1; i >= 0 && len(chosen) < most; i-- {
			if want(events[i]) {
				chosen[i] = true
			}
		}
	}
	for _, m := range []mood{moodBad, moodWarn} {
		choose(max(1, n/2), func(e courseEvent) bool { return e.mood == m })
	}
	choose(n, func(courseEvent) bool { return true })
	out := make([]courseEvent, 0, len(chosen))
	for _, i := range slices.Sorted(maps.Keys(chosen)) {
		out = append(out, events[i])
	}
	return out
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

// picture is the whole screen: head, waves, what is waited for, stacks under way, events.
func (l *live) picture(width, height int) []string {
	c := l.course
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := []string{l.head(width)}
	lines = append(lines, l.waves(width, max(2, height/4))...)
	lines = append(lines, l.totals())
	if l.ctx.Err() != nil {
		lines = append(lines, "", "  "+l.screen.paint(yellow+bold, stopNotice))
	}
	if notes := l.notes(width, max(2, height/4)); len(notes) > 0 {
		lines = append(append(lines, ""), notes...)
	}
	events := min(max(4, (height-len(lines))/2), len(c.events)+1)
	if stacks := l.active(width, max(1, height-len(lines)-events-2)); len(stacks) > 0 {
		lines = append(append(lines, ""), stacks...)
	}
	lines = append(lines, "")
	for _, e := range latest(c.events, max(1, height-len(lines))) {
		lines = append(lines, l.event(e, width))
	}
	lines = lines[:min(len(lines), height)]
	for i, line := range lines {
		lines[i] = visible(line)
	}
	return lines
}

func (l *live) head(width int) string {
	sc := l.screen
	left := fmt.Sprintf("%s %s  %s", sc.paint(bold, "Rollout"), short(l.course.plan.Digest), l.status())
	now := l.course.now()
	right := now.UTC().Format("Mon Jan _2 15:04 UTC") + "  "
	if d := now.Sub(l.course.started); d > 0 {
		right += brief(d)
		if real := l.course.wall().Sub(l.began); d > 3*real {
			right += " in " + brief(real)
		}
	}
	if text.StringWidthWithoutEscSequences(left)+len(right)+4 > width {
		right = now.UTC().Format("15:04 UTC")
	}
	gap := max(2, width-2-text.StringWidthWithoutEscSequences(left)-text.StringWidthWithoutEscSequences(right))
	return left + strings.Repeat(" ", gap) + sc.paint(dim, right)
}

func (l *live) status() string {
	st := l.course.status
	switch {
	case l.course.stop != "":
		return l.screen.paint(red+bold, "■ STOPPED")
	case st == rollout.Running:
		return l.screen.paint(green, "● running")
	case st == rollout.Done:
		return l.screen.paint(green+bold, "✓ done")
	case st.Final():
		return l.screen.paint(yellow+bold, "■ "+string(st))
	}
	return l.screen.paint(yellow, "● "+string(st))
}

// waveView sums up a wave.
type waveView struct {
	index, made, changes, done, total             int
	checking, writing, baking, back, bad, waiting int
	ring, rings                                   int
}

func (c *course) waveViews() []waveView {
	waves := make([]waveView, len(c.plan.Header.Waves))
	for i := range waves {
		waves[i].index, waves[i].ring = i, -1
	}
	for _, v := range c.order {
		w := &waves[v.Wave]
		w.total++
		w.changes += v.changes
		w.made += v.made
		w.rings = max(w.rings, v.Ring+1)
		if !v.state.Phase.Final() && (w.ring < 0 || v.Ring < w.ring) {
			w.ring = v.Ring
		}
		switch v.state.Phase {
		case rollout.StackDone:
			w.done++
		case rollout.StackFailed, rollout.StackStuck, rollout.StackSkipped, rollout.StackRolledBack:
			w.bad++
		case rollout.StackChecking:
			w.checking++
		case rollout.StackBaking:
			w.baking++
		case rollout.StackApplying:
			w.writing++
		case rollout.StackRevertingStep, rollout.StackReverting:
			w.back++
		case rollout.StackWaiting:
			w.waiting++
		}
	}
	return slices.DeleteFunc(waves, func(w waveView) bool { return w.total == 0 })
}

// waves draws a bar for each wave, at most so many: those that have ended make room first.
func (l *live) waves(width, most int) []string {
	waves := l.course.waveViews()
	var out []string
	ended := func(w waveView) bool { return w.done+w.bad == w.total }
	if hidden := len(waves) - most + 1; hidden > 1 {
		gone := 0
		for gone < hidden && ended(waves[gone]) {
			gone++
		}
		if gone > 0 {
			out = append(out, l.screen.paint(dim, fmt.Sprintf("  %s ended", plural(gone, "wave"))))
		}
		waves = waves[gone:]
	}
	for i, w := range waves {
		if len(out) == most-1 && i < len(waves)-1 {
			return append(out, l.screen.paint(dim, fmt.Sprintf("  … and %s", plural(len(waves)-i, "more wave"))))
		}
		out = append(out, l.wave(w, width))
	}
	return out
}

func (l *live) wave(w waveView, width int) string {
	sc := l.screen
	wave := l.course.plan.Header.Waves[w.index]
	name := text.Pad(text.Snip(wave.Name, 14, "…"), 14, ' ')
	colour := cyan
	if w.done == w.total {
		colour = green
	}
	line := fmt.Sprintf("  %d %s %s %s/%s changes  %d/%d stacks", w.index+1, name,
		sc.paint(colour, bar(min(20, max(6, width-86)), w.made, w.changes)),
		text.AlignRight.Apply(count(w.made), 5), text.AlignLeft.Apply(count(w.changes), 5), w.done, w.total)
	part := func(n int, words string, st style) {
		if n > 0 {
			line += " " + sc.paint(st, fmt.Sprintf("· %d %s", n, words))
		}
	}
	part(w.bad, "not done", red)
	part(w.back, "rolling back", yellow)
	part(w.writing, "writing", cyan)
	part(w.baking, "baking", dim)
	part(w.checking, "checking", dim)
	if w.waiting == w.total {
		if wave.Approval && l.course.approved[wave.Name] == "" {
			line += " " + sc.paint(yellow, "· asks for approval")
		}
		if o, ok := l.course.waveOpening(w.index, l.course.now()); ok && !o.Open {
			line += " " + sc.paint(yellow, "· "+openingWords(o, l.course.now()))
		}
	}
	if w.rings > 1 && w.ring >= 0 {
		line += sc.paint(dim, fmt.Sprintf(" · ring %d of %d", w.ring+1, w.rings))
	}
	return line
}

func (l *live) totals() string {
	c := l.course
	made := 0
	for _, v := range c.order {
		made += v.made
	}
	line := fmt.Sprintf("  %s of %s changes", l.screen.paint(bold, count(made)), count(len(c.plan.Changes)))
	if rate := c.meter.rate(c.wall()); rate > 0 {
		line += " · " + rateWords(rate)
	}
	if !c.status.Final() && c.stop == "" {
		if left := c.timeLeft(); left > 0 {
			line += " · about " + roughly(left) + " left"
		}
	}
	if l.stats != nil {
		st := l.stats()
		line += fmt.Sprintf(" · %s AWS calls, %s throttled", count(st.Calls), count(st.Throttles))
	}
	return line
}

// rateWords is how many changes a second are made, in words: "12/s", "0.3/s".
func rateWords(rate float64) string {
	if rate < 10 {
		return fmt.Sprintf("%.1f/s", rate)
	}
	return fmt.Sprintf("%.0f/s", rate)
}

// roughly rounds a guess to what it is worth.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "a minute"
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute)/time.Minute))
	case d < 10*time.Hour:
		d = d.Round(10 * time.Minute)
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Round(time.Hour).Hours()))
	}
	return fmt.Sprintf("%d days", int((d+12*time.Hour).Hours())/24)
}

// notes say what needs a person, with the command, and what keeps the rollout from going on.
func (l *live) notes(width, most int) []string {
	c, sc := l.course, *l.screen
	sc.width = width - 1
	var out []string
	add := func(mark string, st style, words, command string) {
		out = append(out, strings.Split(sc.labelled("  "+sc.paint(st, mark)+" ", words), "\n")...)
		if command != "" {
			out = append(out, "    "+sc.paint(bold, command))
		}
	}
	if c.stop != "" {
		words, command := splitCommand(stoppedText(c.stop))
		add("■", red+bold, words, command)
	}
	if c.held != "" {
		words, command := splitCommand(c.held)
		add("‖", yellow+bold, words, command)
	}
	if c.status == rollout.Paused || c.status == rollout.RollbackPaused {
		add("‖", yellow+bold, "paused"+because(c.reason), "imdsctl rollout resume "+short(c.plan.Digest))
	}
	for _, v := range c.order {
		if v.state.Phase != rollout.StackApplying || len(v.asked) == 0 {
			continue
		}
		for _, t := range c.open(v) {
			add("☐", yellow+bold, v.title()+", "+t.Resource()+", by hand: "+oneLine(t.Text()), c.doneCommand(t))
		}
	}
	if len(out) > most {
		out = append(out[:most-1], sc.paint(yellow, "    … and more: imdsctl rollout show "+short(c.plan.Digest)))
	}
	return out
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + oneLine(reason)
}

// active lists the stacks under way: those rolling back first, then writing, then checking, then baking, the ones to end
// soonest first.
func (l *live) active(width, most int) []string {
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
		case rollout.StackChecking:
			return 2
		}
		return 3
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
		out = append(out, l.stack(v, width))
	}
	return out
}

// stack is a line about a stack under way: where it is, the step with what is made of it, what goes on, what the gates say.
// A narrow screen leaves out the region and the bar first.
func (l *live) stack(v *stackView, width int) string {
	sc, now := l.screen, l.course.now()
	fit := func(s string, n int) string { return text.Pad(text.Snip(s, n, "…"), n, ' ') }
	lead := "  " + fit(v.title(), 16) + " "
	if width >= 140 {
		lead = "  " + fit(v.title(), 24) + " " + sc.paint(dim, fit(l.account(v), 18)) + " "
	} else if width >= 60 {
		lead += sc.paint(dim, fit(l.account(v), 13)) + " "
	}
	if width >= 120 {
		lead += sc.paint(dim, fit(string(v.Place.Region), 14)) + " "
	}
	of, made := 0, 0
	if v.state.Step < len(v.Steps) {
		of, made = v.Steps[v.state.Step].Changes, v.bySteps[v.state.Step]
	}
	lead += fmt.Sprintf("%s %d/%d, ", v.stepName(v.state.Step), made, of)
	drawn := func(colour style, done, total int) string {
		if width < 140 {
			return ""
		}
		return sc.paint(colour, bar(8, done, total)) + " "
	}
	if o := l.course.opening(v, now); !o.Open {
		if why := l.course.stackAwaits(v, now); len(why) > 0 {
			return lead + sc.paint(yellow, openingWords(o, now))
		}
	}
	switch v.state.Phase {
	case rollout.StackChecking:
		if v.gate != nil && !v.gate.Pass {
			return lead + sc.paint(yellow, "held back, "+roughly(v.state.Due.Sub(now))+" more, ") + l.gates(v)
		}
		return lead + "checking, " + l.gates(v)
	case rollout.StackBaking:
		bake, left := v.Steps[v.state.Step].Bake, max(0, v.state.Due.Sub(now))
		return lead + drawn(blue, int(bake-left), int(bake)) + "baking, " + roughly(left) + " left, " + l.gates(v)
	case rollout.StackApplying:
		words := "writing"
		if len(v.asked) > 0 && len(l.course.open(v)) > 0 {
			words = sc.paint(yellow, "waits for a person")
		}
		if v.gate != nil {
			words += ", " + l.gates(v)
		}
		return lead + drawn(cyan, made, of) + words
	case rollout.StackReverting:
		return lead + sc.paint(yellow+bold, "rolling back everything")
	default:
		return lead + sc.paint(yellow+bold, "rolling back")
	}
}

// gates is the last reading in words, with its data.
func (l *live) gates(v *stackView) string {
	switch {
	case v.gate == nil:
		return l.screen.paint(dim, "gates unread")
	case v.gate.Pass:
		return l.screen.paint(green, "gates pass") + l.screen.paint(dim, ": "+gateWords(v.gate))
	}
	return l.screen.paint(red, "gates fail: "+gateWords(v.gate))
}

func (l *live) account(v *stackView) string {
	return cmp.Or(l.names[v.Place.Account], string(v.Place.Account))
}

func (l *live) event(e courseEvent, width int) string {
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
		line += sc.paint(bold, e.stack.title()) + "  "
		if width >= 100 {
			line = strings.TrimSuffix(line, "  ") + sc.paint(dim, " "+l.account(e.stack)+" "+string(e.stack.Place.Region)) + "  "
		}
	}
	return line + sc.paint(st, e.text)
}
