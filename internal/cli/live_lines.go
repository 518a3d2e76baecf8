package cli

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// manyStacks is from where on a log tells of single stacks only where something is wrong with them.
	manyStacks = 200
	// logInterval is how often such a log sums up what goes on, longestSilence how long any log says nothing.
	logInterval    = 30 * time.Second
	longestSilence = 5 * time.Minute
)

// logLines tells of a rollout in lines, for those who look at a log: one line an event, and from time to time where it
// stands.
type logLines struct {
	out    io.Writer
	course *course
	many   bool

	mu     sync.Mutex
	said   time.Time // when the last line was written, by the machine's clock
	summed time.Time // when the last summary was
	last   string    // what it said
}

func newLogLines(out io.Writer, c *course) *logLines {
	now := c.wall()
	return &logLines{out: out, course: c, many: len(c.order) > manyStacks && !c.verbose, said: now, summed: now}
}

// follow tells of everything that happens until it is stopped.
func (l *logLines) follow() (stop func()) {
	for _, e := range l.course.standing() {
		l.tell(e)
	}
	l.course.mu.Lock()
	l.course.tell = l.tell
	l.course.mu.Unlock()
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				l.tick()
			}
		}
	}()
	return func() { close(end); <-ended }
}

// tell writes a line about an event.
func (l *logLines) tell(e courseEvent) {
	if l.many && e.stack != nil && (e.mood == moodPlain || e.mood == moodGood) {
		return // counted in the next summary
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.out, e.line())
	l.said = l.course.wall()
}

// tick sums up where it is time to: in a log of many stacks whenever something has changed, in any when nothing was said
// for long.
func (l *logLines) tick() {
	now := l.course.wall()
	line := l.course.summary()
	l.mu.Lock()
	defer l.mu.Unlock()
	silent := now.Sub(l.said) >= longestSilence
	if !silent && (!l.many || now.Sub(l.summed) < logInterval || line == l.last) {
		return
	}
	l.said, l.summed, l.last = now, now, line
	fmt.Fprintln(l.out, courseEvent{at: l.course.now(), text: line}.line())
}

// summary is where a rollout stands, in a line.
func (c *course) summary() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all waveView
	for _, w := range c.waveViews() {
		all.made, all.changes, all.done, all.total = all.made+w.made, all.changes+w.changes, all.done+w.done, all.total+w.total
		all.checking, all.writing, all.baking = all.checking+w.checking, all.writing+w.writing, all.baking+w.baking
		all.back, all.bad = all.back+w.back, all.bad+w.bad
	}
	line := fmt.Sprintf("%s of %s made, %s of %s done", count(all.made), plural(all.changes, "change"), count(all.done),
		plural(all.total, "stack"))
	for _, p := range []struct {
		n    int
		word string
	}{{all.bad, "not done"}, {all.back, "rolling back"}, {all.checking, "checking"}, {all.writing, "writing"}, {all.baking, "baking"}} {
		if p.n > 0 {
			line += fmt.Sprintf(", %s %s", count(p.n), p.word)
		}
	}
	if rate := c.meter.rate(c.wall()); rate > 0 {
		line += "; " + rateWords(rate)
	}
	if why := c.awaits(c.now()); len(why) > 0 {
		return line + "; waiting: " + why[0]
	}
	if left := c.timeLeft(); left > 0 && !c.status.Final() {
		line += "; about " + roughly(left) + " left"
	}
	return line
}
