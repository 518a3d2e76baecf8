package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Calendar says when changes may start: in one of its windows, or at any time where it has none, and in no freeze. A
// rollback never waits for it.
//
// Windows and freezes go by the clocks on the wall of their time zone: one is in force while those clocks show a time
// within it. Where the clocks skip an hour, what lies in that hour does not happen; where they show an hour twice, it
// happens twice.
type Calendar struct {
	Windows []Window `json:"windows,omitempty"`
	Freezes []Freeze `json:"freezes,omitempty"`
}

// Window is a stretch of time that comes back every week.
type Window struct {
	Name string `json:"name"`
	// Days are those on which it opens: "mon" to "sun"; all of them where there are none.
	Days []string `json:"days,omitempty"`
	// From and To are times of day, "09:00"; a window that ends at or before its beginning ends on the next day. To may be
	// "24:00", the end of the day.
	From string `json:"from"`
	To   string `json:"to"`
	// Zone is an IANA time zone, such as "Europe/Berlin".
	Zone string `json:"timezone"`
}

// Freeze is a stretch of days in which nothing starts, both ends included.
type Freeze struct {
	Name string `json:"name"`
	From Date   `json:"from"`
	To   Date   `json:"to"`
	Zone string `json:"timezone"`
}

// Opening is what a calendar says of an instant.
type Opening struct {
	// Open: changes may start.
	Open bool
	// Until is the next instant at which Open changes; zero where it never does.
	Until time.Time
	// Why says in words what keeps it closed: `outside the window "nights"`, `freeze "Black Friday"`. Empty while open.
	Why string
}

// IsZero tells whether the calendar says nothing, so that changes may start at any time.
func (c Calendar) IsZero() bool { return len(c.Windows)+len(c.Freezes) == 0 }

// Check tells what is wrong with a calendar that did not come from Parse: a time zone that this machine does not know,
// a time or day that is none.
func (c Calendar) Check() error {
	_, err := c.compile()
	return err
}

// At tells whether changes may start at an instant, and when that changes. A calendar that Check finds fault with is
// closed for good.
func (c Calendar) At(now time.Time) Opening {
	w, err := c.compile()
	if err != nil {
		return Opening{Why: err.Error()}
	}
	if why := w.closed(now); why != "" {
		return Opening{Until: w.opens(now), Why: why}
	}
	return Opening{Open: true, Until: w.closes(now)}
}

// wall is a calendar with its zones loaded.
type wall struct{ windows, freezes []span }

// span is one window or freeze.
type span interface {
	name() string
	// holds tells whether it is in force at an instant.
	holds(t time.Time) bool
	// next is the first instant after t at which that may change; zero where it cannot any more.
	next(t time.Time) time.Time
}

func (c Calendar) compile() (wall, error) {
	var out wall
	for _, w := range c.Windows {
		s, err := w.compile()
		if err != nil {
			return wall{}, fmt.Errorf("window %q: %w", w.Name, err)
		}
		out.windows = append(out.windows, s)
	}
	for _, f := range c.Freezes {
		s, err := f.compile()
		if err != nil {
			return wall{}, fmt.Errorf("freeze %q: %w", f.Name, err)
		}
		out.freezes = append(out.freezes, s)
	}
	return out, nil
}

// closed says what keeps the calendar closed, empty where nothing does.
func (w wall) closed(t time.Time) string {
	for _, f := range w.freezes {
		if f.holds(t) {
			return fmt.Sprintf("freeze %q", f.name())
		}
	}
	if w.within(t) {
		return ""
	}
	names := make([]string, len(w.windows))
	for i, s := range w.windows {
		names[i] = strconv.Quote(s.name())
	}
	if len(names) == 1 {
		return "outside the window " + names[0]
	}
	return "outside the windows " + strings.Join(names, ", ")
}

// within tells whether a window is open, or there is none.
func (w wall) within(t time.Time) bool { return len(w.windows) == 0 || inForce(w.windows, t) }

// horizon is how far ahead windows are looked at: what they do, they do within a week, or, where the clocks change on
// just that day, within the week after.
const horizon = 5 * 7 * day

// closes is when a calendar that is open at t closes.
func (w wall) closes(t time.Time) time.Time {
	window, ends := advance(t, w.windows, false, t.Add(horizon))
	freeze, freezes := advance(t, w.freezes, true, time.Time{})
	if !ends || freezes && freeze.Before(window) {
		return freeze
	}
	return window
}

// opens is when a calendar that is closed at t opens. Each turn of the loop leaves a freeze behind, or waits for a window.
func (w wall) opens(t time.Time) time.Time {
	for {
		var ok bool
		switch {
		case inForce(w.freezes, t):
			t, ok = advance(t, w.freezes, false, time.Time{})
		case !w.within(t):
			t, ok = advance(t, w.windows, true, t.Add(horizon))
		default:
			return t
		}
		if !ok {
			return time.Time{}
		}
	}
}

func inForce(spans []span, t time.Time) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return s.holds(t) })
}

// advance finds the first instant after t, and not after limit where there is one, at which one of the spans is in force,
// or none is, as wanted. The result is zero where there is no such instant.
func advance(t time.Time, spans []span, want bool, limit time.Time) (time.Time, bool) {
	for {
		var next time.Time
		for _, s := range spans {
			if n := s.next(t); !n.IsZero() && (next.IsZero() || n.Before(next)) {
				next = n
			}
		}
		if next.IsZero() || !limit.IsZero() && next.After(limit) {
			return time.Time{}, false
		}
		if t = next; inForce(spans, t) == want {
			return t, true
		}
	}
}

// weekdays are the names of days, in the order of time.Weekday.
var weekdays = [7]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

const secondsOfDay = 24 * 60 * 60

// weekly is a window with its zone loaded. from and to are seconds of the day.
type weekly struct {
	label    string
	zone     *time.Location
	days     [7]bool
	from, to int64
}

func (w Window) compile() (span, error) {
	out := weekly{label: w.Name}
	var err error
	if out.zone, err = loadZone(w.Zone); err != nil {
		return nil, err
	}
	if out.from, err = timeOfDay(w.From); err != nil {
		return nil, err
	}
	if out.to, err = timeOfDay(w.To); w.To == "24:00" {
		out.to = secondsOfDay
	} else if err != nil {
		return nil, err
	}
	for _, d := range w.Days {
		i := slices.Index(weekdays[:], d)
		if i < 0 {
			return nil, fmt.Errorf("%q is no day of the week", d)
		}
		out.days[i] = true
	}
	if len(w.Days) == 0 {
		out.days = [7]bool{true, true, true, true, true, true, true}
	}
	return out, nil
}

func (w weekly) name() string { return w.label }

func (w weekly) holds(t time.Time) bool {
	date, second := shown(t, w.zone)
	today := (date%7 + 7 + int64(time.Thursday)) % 7 // 1970 began on a Thursday
	if w.from < w.to {
		return w.days[today] && w.from <= second && second < w.to
	}
	return w.days[today] && w.from <= second || w.days[(today+6)%7] && second < w.to
}

func (w weekly) next(t time.Time) time.Time { return shows(t, w.zone, w.from, w.to) }

// frozen is a freeze with its zone loaded; its ends are days since 1970.
type frozen struct {
	label       string
	zone        *time.Location
	first, last int64
}

func (f Freeze) compile() (span, error) {
	zone, err := loadZone(f.Zone)
	if err != nil {
		return nil, err
	}
	if f.From.start.IsZero() || f.To.start.IsZero() || f.To.start.Before(f.From.start) {
		return nil, fmt.Errorf("it has no days from %q to %q", f.From, f.To)
	}
	return frozen{f.Name, zone, f.From.start.Unix() / secondsOfDay, f.To.start.Unix() / secondsOfDay}, nil
}

func (f frozen) name() string { return f.label }

func (f frozen) holds(t time.Time) bool {
	date, _ := shown(t, f.zone)
	return f.first <= date && date <= f.last
}

// next looks at every midnight and every change of the clocks around the two ends, and leaps over the time between:
// clocks that are set back past midnight show a day again.
func (f frozen) next(t time.Time) time.Time {
	date, _ := shown(t, f.zone)
	leap := func(to int64) time.Time {
		if at := time.Unix(to*secondsOfDay, 0).UTC(); at.After(t) {
			return at
		}
		return shows(t, f.zone, 0)
	}
	switch {
	case date < f.first-2:
		return leap(f.first - 2)
	case date > f.last+1:
		return time.Time{}
	case date > f.first && date < f.last-2:
		return leap(f.last - 2)
	}
	return shows(t, f.zone, 0)
}

// shown is what the clocks of a zone show: the day, counted from 1970, and the second of it.
func shown(t time.Time, zone *time.Location) (date, second int64) {
	_, offset := t.In(zone).Zone()
	s := t.Unix() + int64(offset)
	second = (s%secondsOfDay + secondsOfDay) % secondsOfDay
	return (s - second) / secondsOfDay, second
}

// shows is the first instant after t at which the clocks of a zone show one of the seconds of the day, or are changed.
func shows(t time.Time, zone *time.Location, seconds ...int64) time.Time {
	_, offset := t.In(zone).Zone()
	date, second := shown(t, zone)
	var next time.Time
	for _, s := range seconds {
		at := date*secondsOfDay + s
		if s <= second {
			at += secondsOfDay
		}
		if n := time.Unix(at-int64(offset), 0).UTC(); next.IsZero() || n.Before(next) {
			next = n
		}
	}
	if _, end := t.In(zone).ZoneBounds(); !end.IsZero() && end.Before(next) {
		return end.UTC()
	}
	return next
}

// loadZone finds an IANA time zone. The machine's own is refused: a calendar means the same on every machine.
func loadZone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, fmt.Errorf("%q is no time zone", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is no time zone that this machine knows", name)
	}
	return zone, nil
}

// timeOfDay reads "15:04" into seconds.
func timeOfDay(s string) (int64, error) {
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != 5 {
		return 0, fmt.Errorf("%q is no time of day", s)
	}
	return int64(t.Hour()*3600 + t.Minute()*60), nil
}

// StartsWithin tells whether the calendar is open at an instant or opens within a span of time after it.
func (c Calendar) StartsWithin(now time.Time, d time.Duration) bool {
	o := c.At(now)
	return o.Open || !o.Until.IsZero() && !o.Until.After(now.Add(d))
}
