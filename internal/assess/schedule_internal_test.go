package assess

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// daysOf reads dates.
func daysOf(t testing.TB, dates ...string) []int {
	t.Helper()
	var out []int
	for _, d := range dates {
		at, err := time.Parse(time.DateOnly, d)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, dayOf(at))
	}
	slices.Sort(out)
	return out
}

func TestSchedule(t *testing.T) {
	for name, tc := range map[string]struct {
		days  []string
		every string // "" is none
		due   string
	}{
		"nothing":               {nil, "", ""},
		"once":                  {[]string{"2026-10-15"}, "", ""},
		"weekly":                {[]string{"2026-10-01", "2026-10-08", "2026-10-15", "2026-10-22"}, "week", "2026-10-29"},
		"weekly, one missed":    {[]string{"2026-10-01", "2026-10-08", "2026-10-22", "2026-10-29"}, "week", "2026-11-05"},
		"weekly, shifted":       {[]string{"2026-10-01", "2026-10-09", "2026-10-15", "2026-10-22"}, "week", "2026-10-29"},
		"two are no week":       {[]string{"2026-10-01", "2026-10-08"}, "", ""},
		"fortnightly":           {[]string{"2026-09-10", "2026-09-24", "2026-10-08", "2026-10-22"}, "two weeks", "2026-11-05"},
		"every three weeks":     {[]string{"2026-09-10", "2026-10-01", "2026-10-22"}, "three weeks", "2026-11-12"},
		"three weeks, shifted":  {[]string{"2026-08-20", "2026-09-11", "2026-10-01", "2026-10-22"}, "three weeks", "2026-11-12"},
		"every six weeks":       {[]string{"2026-07-15", "2026-08-26", "2026-10-07"}, "six weeks", "2026-11-18"},
		"every eight weeks":     {[]string{"2026-05-20", "2026-07-15", "2026-09-09"}, "eight weeks", "2026-11-04"},
		"monthly by day":        {[]string{"2026-07-15", "2026-08-15", "2026-09-15", "2026-10-15"}, "month, on day 15", "2026-11-15"},
		"twice is monthly":      {[]string{"2026-09-15", "2026-10-15"}, "month, on day 15", "2026-11-15"},
		"every thirty days":     {[]string{"2026-07-17", "2026-08-16", "2026-09-15", "2026-10-15"}, "month, on day 15", "2026-11-15"},
		"over midnight":         {[]string{"2026-08-15", "2026-08-16", "2026-09-15", "2026-09-16", "2026-10-15"}, "month, on day 15", "2026-11-15"},
		"monthly, missed":       {[]string{"2026-06-15", "2026-07-15", "2026-09-15", "2026-10-15"}, "month, on day 15", "2026-11-15"},
		"the last of the month": {[]string{"2026-07-31", "2026-08-31", "2026-09-30", "2026-10-31"}, "month, on day 31", "2026-11-30"},
		"first Monday":          {[]string{"2026-06-01", "2026-07-06", "2026-08-03", "2026-09-07", "2026-10-05"}, "month, on the first Monday", "2026-11-02"},
		"last Friday":           {[]string{"2026-06-26", "2026-07-31", "2026-08-28", "2026-09-25", "2026-10-30"}, "month, on the last Friday", "2026-11-27"},
		"quarterly":             {[]string{"2026-04-01", "2026-07-01", "2026-10-01"}, "quarter, on day 1", "2027-01-01"},
		"twice is quarterly":    {[]string{"2026-07-02", "2026-10-01"}, "quarter, on day 1", "2027-01-01"},
		"yearly":                {[]string{"2025-10-03", "2026-10-01"}, "year, about October 1", "2027-10-01"},
		"with another day":      {[]string{"2026-07-15", "2026-08-15", "2026-08-27", "2026-09-15", "2026-10-15"}, "month, on day 15", "2026-11-15"},
		"the last is no run":    {[]string{"2026-07-15", "2026-08-15", "2026-09-15", "2026-10-01"}, "month, on day 15", "2026-10-15"},
		"at random":             {[]string{"2026-08-01", "2026-08-11", "2026-09-23"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := schedule(daysOf(t, tc.days...))
			if !ok {
				if tc.every != "" {
					t.Fatalf("no schedule, want %s", tc.every)
				}
				return
			}
			if words := got.words(got.hits[0].first); words != tc.every {
				t.Errorf("every %s (%d times), want %s", words, len(got.hits), tc.every)
			}
			if due := dateOf(got.forth(got.hits[0].first)).Format(time.DateOnly); due != tc.due {
				t.Errorf("due %s, want %s", due, tc.due)
			}
		})
	}
}

// TestConstantCallersHaveNoSchedule: daily, on working days, and most days.
func TestConstantCallersHaveNoSchedule(t *testing.T) {
	begin := daysOf(t, "2026-05-01")[0]
	for name, calls := range map[string]func(d int) bool{
		"daily":         func(int) bool { return true },
		"working days":  func(d int) bool { w := dateOf(d).Weekday(); return w != time.Saturday && w != time.Sunday },
		"but Sundays":   func(d int) bool { return dateOf(d).Weekday() != time.Sunday },
		"two of three":  func(d int) bool { return d%3 != 0 },
		"every two":     func(d int) bool { return d%2 == 0 },
		"every third":   func(d int) bool { return d%3 == 0 },
		"Tue, Thu, Sat": func(d int) bool { w := dateOf(d).Weekday(); return w%2 == 0 && w != time.Sunday },
	} {
		var days []int
		for d := begin; d < begin+180; d++ {
			if calls(d) {
				days = append(days, d)
			}
		}
		if got, ok := schedule(days); ok {
			t.Errorf("%s: every %s, %d times", name, got.words(got.hits[0].first), len(got.hits))
		}
	}
}

// TestScheduleProperty: whatever the rhythm, a run shifted by a day, one missed and one day besides do not hide it, and its next
// run is never expected too early to be waited for.
func TestScheduleProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rhythms()
		r := all[rapid.IntRange(0, len(all)-2).Draw(t, "rhythm")] // a year has two runs at most in 455 days
		d := dayOf(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) + rapid.IntRange(0, 60).Draw(t, "start")
		runs := rapid.IntRange(5, 8).Draw(t, "runs")
		missed := rapid.IntRange(0, runs).Draw(t, "missed") // the last but one and before, or none
		var days []int
		last := 0
		for i := range runs {
			shift := rapid.IntRange(-min(1, r.slack-1), min(1, r.slack-1)).Draw(t, "shift")
			if i == 0 || i >= runs-2 || i != missed {
				days = append(days, d+shift)
				last = d + shift
			}
			d = r.forth(d)
		}
		slices.Sort(days)
		got, ok := schedule(slices.Compact(days))
		if !ok {
			t.Fatalf("nothing found in %d runs every %s", runs, r.words(last))
		}
		if quiet := got.forth(got.hits[0].first) + got.slack; got.hits[0].last == last && quiet < d-1 && !strings.HasPrefix(got.words(last), "month") {
			t.Fatalf("every %s: quiet from %s on, and the next run is on %s", got.words(last), dateOf(quiet), dateOf(d))
		}
	})
}
