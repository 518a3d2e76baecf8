package assess

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// Schedule is a rhythm in which a lineage was called as v1, seen in all days with calls that are known of it.
type Schedule struct {
	// Every says how often: "week", "month, on day 15", "month, on the first Monday".
	Every string `json:"every"`
	// Runs is how often it was seen, First and Last the days of the first and the last time, at midnight UTC.
	Runs  int       `json:"runs"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Due is the day of the next time, and Quiet the one from which on a full period, with room for a late run, has been seen
	// without a call, if it stays as covered as it is.
	Due   time.Time `json:"due"`
	Quiet time.Time `json:"quiet"`
	// Held: the verdict waits for Quiet.
	Held bool `json:"held"`
}

// rhythm is a way to repeat.
type rhythm struct {
	// back gives the day of the run before one on day d, forth that of the run after it, as days since 1970.
	back, forth func(d int) int
	// words say how often, of the last run.
	words func(last int) string
	// slack is by how many days a run may be early or late.
	slack int
	// runs is how many there must be, and length how many days one may take.
	runs, length int
}

// rhythms are those that are looked for. Of two that explain as many runs, the earlier holds.
func rhythms() []rhythm {
	every := func(days int, name string, slack, length int) rhythm {
		return rhythm{back: func(d int) int { return d - days }, forth: func(d int) int { return d + days },
			words: func(int) string { return name }, slack: slack, runs: 3, length: length}
	}
	months := func(n int, layout string, slack, length int) rhythm {
		return rhythm{back: func(d int) int { return addMonths(d, -n) }, forth: func(d int) int { return addMonths(d, n) },
			words: func(last int) string { return dateOf(last).Format(layout) }, slack: slack, runs: 2, length: length}
	}
	return []rhythm{
		every(7, "week", 1, 2), every(14, "two weeks", 1, 4), every(21, "three weeks", 1, 6),
		weekdayRhythm(false), weekdayRhythm(true), months(1, "month, on day 2", 3, 9),
		every(42, "six weeks", 2, 12), every(56, "eight weeks", 2, 16),
		months(3, "quarter, on day 2", 4, 30), months(12, "year, about January 2", 7, 60),
	}
}

// weekdayRhythm is once a month on the same weekday: the same one counted from the month's first day, or from its last.
func weekdayRhythm(fromEnd bool) rhythm {
	step := func(months int) func(int) int {
		return func(d int) int {
			t := dateOf(d)
			nth := (t.Day() - 1) / 7
			first := time.Date(t.Year(), t.Month()+time.Month(months), 1, 0, 0, 0, 0, time.UTC)
			if fromEnd {
				nth = (daysIn(t) - t.Day()) / 7
				last := first.AddDate(0, 1, -1)
				return dayOf(last.AddDate(0, 0, -(int(last.Weekday()-t.Weekday())+7)%7-7*nth))
			}
			return dayOf(first.AddDate(0, 0, (int(t.Weekday()-first.Weekday())+7)%7+7*nth))
		}
	}
	return rhythm{back: step(-1), forth: step(1), slack: 1, runs: 2, length: 3, words: func(last int) string {
		t := dateOf(last)
		nth := []string{"first", "second", "third", "fourth", "fifth"}[(t.Day()-1)/7]
		if fromEnd {
			nth = []string{"last", "last but one", "last but two", "last but three", "last but four"}[(daysIn(t)-t.Day())/7]
		}
		return fmt.Sprintf("month, on the %s %s", nth, t.Weekday())
	}}
}

func daysIn(t time.Time) int { return time.Date(t.Year(), t.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day() }

// addMonths keeps the day of the month, or takes the month's last; the last day of a month stays the last.
func addMonths(d, n int) int {
	t := dateOf(d)
	first := time.Date(t.Year(), t.Month()+time.Month(n), 1, 0, 0, 0, 0, time.UTC)
	return dayOf(first.AddDate(0, 0, min(t.Day(), daysIn(first))-1))
}

const dayLength = 24 * time.Hour

func dayOf(t time.Time) int { return int(t.Unix() / int64(dayLength/time.Second)) }

func dateOf(day int) time.Time { return time.Unix(int64(day)*int64(dayLength/time.Second), 0).UTC() }

// occurrence is some days in a row with calls.
type occurrence struct{ first, last int }

// occurrences joins days in a row. days are sorted and each is there once.
func occurrences(days []int) []occurrence {
	var out []occurrence
	for _, d := range days {
		if n := len(out); n > 0 && d == out[n-1].last+1 {
			out[n-1].last = d
			continue
		}
		out = append(out, occurrence{d, d})
	}
	return out
}

// found is a rhythm with the occurrences that follow it, latest first.
type found struct {
	rhythm
	hits []occurrence
}

// schedule finds the rhythm that explains most of the days on which there were calls; false where none does. A call on most days
// is no rhythm, nor is what has more runs beside the rhythm than in it; a run may be missed now and then.
func schedule(days []int) (found, bool) {
	all := occurrences(days)
	var best found
	for _, r := range rhythms() {
		for i := len(all) - 1; i >= 0; i-- {
			hits := r.follow(all, i)
			if len(hits) >= r.runs && len(hits) > len(best.hits) {
				best = found{r, hits}
			}
		}
	}
	return best, len(best.hits) > 0
}

// follow goes back from an occurrence and gathers those that are due, latest first; nil where others outnumber them.
func (r rhythm) follow(all []occurrence, from int) []occurrence {
	if all[from].last-all[from].first >= r.length {
		return nil
	}
	hits := []occurrence{all[from]}
	at, missed, earliest := all[from].first, 0, from
	for at >= all[0].first-r.slack {
		due := r.back(at)
		i := sort.Search(earliest, func(i int) bool { return all[i].first > due+r.slack }) - 1
		switch {
		case i >= 0 && all[i].last >= due-r.slack && all[i].last-all[i].first < r.length:
			hits, at, earliest, missed = append(hits, all[i]), all[i].first, i, 0
			continue
		case missed == 0 && len(hits) > 1:
			at, missed = due, 1 // one run may be missed once there is a rhythm at all
			continue
		}
		break
	}
	others := from + 1 - earliest - len(hits)
	if r.runs > 2 {
		others *= 2 // much of a week lies within its slack: more there is chance
	}
	if others > len(hits) {
		return nil
	}
	return hits
}

// windows gives all windows of some hosts, of the look back and of the window.
func (j *judge) windows(members []*inventory.Resource) []*evidence.Window {
	var out []*evidence.Window
	for _, m := range members {
		for _, from := range []map[fleet.Ref][]*evidence.Window{j.in.History, j.in.Evidence} {
			out = append(out, from[m.Ref]...)
		}
	}
	return out
}

// callDays lists the days with v1 calls, from windows and from what other sources saw.
func (j *judge) callDays(windows []*evidence.Window, f *joint) []int {
	days := map[int]bool{}
	for _, w := range windows {
		for _, p := range w.Points {
			days[dayIn(w, p.Slot)] = true
		}
	}
	for _, i := range f.all {
		if x := &j.findings.list[i]; x.What.Calls() {
			days[dayOf(x.First)] = true
			days[dayOf(x.Last)] = true
		}
	}
	return slices.Sorted(maps.Keys(days))
}

func dayIn(w *evidence.Window, slot int) int {
	return dayOf(w.Span.Start.Add(time.Duration(slot) * w.Span.Period))
}

// cover notes the days of which a window has some datapoint.
func cover(days map[int]bool, w *evidence.Window) {
	if w.Metric != evidence.MetricNoToken {
		return
	}
	perDay := max(1, int(dayLength/w.Span.Period))
	for slot := 0; slot < w.Span.Slots; slot++ {
		d := dayIn(w, slot)
		if days[d] || w.Covered.Has(slot) {
			days[d] = true
			if next := slot + perDay; next < w.Span.Slots && dayIn(w, next-1) == d {
				slot = next - 1 // it began with the day: the rest of it tells no more
			}
		}
	}
}

// scheduled tells in which rhythm a lineage is called, and whether a full period of it has been quiet; nil where there is none.
func (j *judge) scheduled(members []*inventory.Resource, f *joint) *Schedule {
	windows := j.windows(members)
	s, ok := schedule(j.callDays(windows, f))
	if !ok {
		return nil
	}
	covered := map[int]bool{}
	for _, w := range windows {
		cover(covered, w)
	}
	last, today := s.hits[0].last, dayOf(j.in.Now)
	due := s.forth(s.hits[0].first)
	quiet := max(due, last+1) + s.slack + 1 // the day after the last on which the run would count as late
	// A day without a datapoint was not quiet, it was not seen.
	seen := 0
	for d := range covered {
		if d > last {
			seen++
		}
	}
	needed := float64(quiet-1-last) * j.in.Policy.Evidence.MinCoverage
	if missing := int(needed+0.999) - seen; missing > 0 {
		quiet = max(quiet, today+missing)
	}
	return &Schedule{Every: s.words(s.hits[0].first), Runs: len(s.hits), First: dateOf(s.hits[len(s.hits)-1].first), Last: dateOf(last),
		Due: dateOf(due), Quiet: dateOf(quiet), Held: today < quiet}
}
