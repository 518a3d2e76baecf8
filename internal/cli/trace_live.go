package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"github.com/imdsctl/imdsctl/internal/tracer"
)

// liveTrace redraws a trace on the terminal, in place, a few times a second: callers of version 1 first, and the latest calls.
type liveTrace struct {
	screen *screen
	ctx    context.Context // of the command, to show when it is interrupted
	length time.Duration
	now    func() time.Time

	mu      sync.Mutex
	header  tracer.Header
	tally   *tracer.Tally
	part    *tracer.Part
	latest  []tracer.Call // the newest last
	lost    uint64
	losses  string // the reason of the last one
	drawn   int
	columns int // of the last picture
}

// latestCalls is how many calls are remembered to be shown.
const latestCalls = 50

// watchTrace begins to draw. The returned function draws a last time and ends it.
func (s *session) watchTrace(ctx context.Context, length time.Duration) (*liveTrace, func()) {
	l := &liveTrace{screen: s.out, ctx: ctx, length: length, now: s.now, tally: tracer.NewTally()}
	stop, done := make(chan struct{}), make(chan struct{})
	s.drawing.Store(true)
	go func() {
		defer close(done)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				l.draw()
			}
		}
	}()
	return l, func() {
		close(stop)
		<-done
		l.clear()
		s.drawing.Store(false)
	}
}

func (l *liveTrace) begun(h tracer.Header) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.header, l.part = h, l.tally.Part(h)
}

func (l *liveTrace) seen(line tracer.Line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part.Add(line)
	switch {
	case line.Call != nil:
		l.latest = append(l.latest, *line.Call)
		l.latest = l.latest[max(0, len(l.latest)-latestCalls):]
	case line.Loss != nil:
		l.lost, l.losses = l.lost+max(1, line.Loss.Events), line.Loss.Why
	}
}

// clear takes the picture away: the summary stands in its place.
func (l *liveTrace) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drawn > 0 {
		fmt.Fprintf(l.screen.out, "\x1b[%dA\r\x1b[J", l.drawn)
	}
}

// draw paints over the last picture.
func (l *liveTrace) draw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	width, height := 100, 30
	if f, ok := l.screen.out.(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
			width, height = w, h
		}
	}
	width, height = max(width, 40), max(height, 10)
	lines := l.picture(width, height-1)
	var b strings.Builder
	if l.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", l.drawn)
	}
	if width != l.columns { // what the terminal has wrapped meanwhile goes
		b.WriteString("\r\x1b[J")
		l.columns = width
	}
	for _, line := range lines {
		b.WriteString("\r" + text.Trim(line, width-1) + "\x1b[0m\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	l.drawn = len(lines)
	fmt.Fprint(l.screen.out, b.String())
}

// picture is the whole screen: head, callers, latest calls.
func (l *liveTrace) picture(width, height int) []string {
	sc := &screen{out: l.screen.out, terminal: l.screen.terminal, colour: l.screen.colour, width: width - 1}
	if l.part == nil {
		return []string{sc.paint(dim, "Looking at this host …")}
	}
	sum := l.tally.Summary(l.now())
	lines := l.head(sc, sum)
	rows := max(2, (height-len(lines)-4)*2/3)
	lines = append(lines, "")
	if len(sum.Callers) == 0 {
		lines = append(lines, sc.paint(dim, "No call yet."))
		return lines
	}
	lines = append(lines, l.callers(sc, sum.Callers, rows)...)
	lines = append(lines, "")
	for _, c := range l.latest[max(0, len(l.latest)-max(1, height-len(lines))):] {
		lines = append(lines, callLine(sc, &c))
	}
	return lines
}

// head says what is traced, how long, and how much came of it.
func (l *liveTrace) head(sc *screen, sum *tracer.Summary) []string {
	since := l.now().Sub(l.header.Started).Truncate(time.Second)
	how := since.String()
	if l.length > 0 {
		how += " of " + l.length.String()
	}
	line := sc.paint(bold, "Tracing "+plainly(l.header.Name())) + fmt.Sprintf(", tier %s, %s", l.header.Tier, how)
	if l.ctx.Err() != nil {
		line += ", " + sc.paint(yellow, "stopping")
	}
	counts := sc.paint(green, "no v1 call")
	if sum.V1 > 0 {
		counts = sc.paint(red+bold, plural(sum.V1, "v1 call"))
	}
	counts += fmt.Sprintf(", %s of v2", count(sum.V2))
	if sum.Unknown > 0 {
		counts += ", " + sc.paint(yellow, count(sum.Unknown)+" of which it is not known")
	}
	if l.lost > 0 {
		counts += ", " + sc.paint(red, fmt.Sprintf("%d lost: %s", l.lost, plainly(l.losses)))
	}
	lines := []string{line, counts}
	for _, n := range append(append([]string{}, l.header.Partial...), l.header.Notices...) {
		lines = append(lines, sc.paint(yellow, "! ")+sc.paint(dim, plainly(n)))
	}
	return lines
}

// callers is the table, those to fix first.
func (l *liveTrace) callers(sc *screen, callers []tracer.Caller, most int) []string {
	rows := [][]string{}
	for i := range callers[:min(len(callers), most)] {
		c := &callers[i]
		v1 := some(c.V1)
		if c.V1 > 0 {
			v1 = sc.paint(red, v1)
		}
		asks := ""
		if len(c.Paths) > 0 {
			asks = plainly(c.Paths[0].Path)
		}
		rows = append(rows, []string{v1, some(c.V2), plainly(c.Program), plainly(c.Place.String()), softwareName(c.Product, c.ProductVersion, c.UserAgent), asks})
	}
	table := sc.table([]column{{title: "v1", right: true}, {title: "v2", right: true}, {title: "program", flexible: true, floor: 16},
		{title: "where", flexible: true, floor: 8}, {title: "software", flexible: true, floor: 8}, {title: "asks by v1", flexible: true, floor: 10}}, rows)
	out := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
	if n := len(callers) - most; n > 0 {
		out = append(out, sc.paint(dim, fmt.Sprintf("… and %d more", n)))
	}
	return out
}

// callLine is one call for people.
func callLine(sc *screen, c *tracer.Call) string {
	version := string(c.Version)
	switch c.Version {
	case tracer.V1:
		version = sc.paint(red, version)
	case tracer.V2:
		version = sc.paint(green, version)
	default:
		version = sc.paint(yellow, version)
	}
	line := fmt.Sprintf("%s  %s  %s", c.Time.Local().Format("15:04:05"), version, plainly(strings.TrimSpace(c.Method+" "+c.Path)))
	line += "  " + sc.paint(dim, fmt.Sprintf("%s (%d)", plainly(c.Process.Program()), c.Process.PID))
	if c.Why != "" {
		line += "  " + sc.paint(yellow, plainly(c.Why))
	}
	return line
}
