package policy

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestCalendarsGoByTheClocksOfTheirZone(t *testing.T) {
	night := Window{Name: "night", From: "02:30", To: "03:30", Zone: "Europe/Berlin"}
	over := Window{Name: "over midnight", Days: []string{"fri"}, From: "22:00", To: "04:00", Zone: "America/New_York"}
	friday := Window{Name: "friday", Days: []string{"fri"}, From: "00:00", To: "24:00", Zone: "UTC"}
	freeze := Freeze{Name: "Black Friday", From: mustDate(t, "2026-11-26"), To: mustDate(t, "2026-11-30"), Zone: "Europe/Berlin"}
	for _, test := range []struct {
		name     string
		calendar Calendar
		now      string
		open     bool
		until    string
		why      string
	}{
		{"nothing is any time", Calendar{}, "2026-03-01T00:00:00Z", true, "", ""},
		{"before", Calendar{Windows: []Window{night}}, "2026-03-01T01:29:59.9Z", false, "2026-03-01T01:30:00Z", `outside the window "night"`},
		{"its first instant", Calendar{Windows: []Window{night}}, "2026-03-01T01:30:00Z", true, "2026-03-01T02:30:00Z", ""},
		{"its end is outside", Calendar{Windows: []Window{night}}, "2026-03-01T02:30:00Z", false, "2026-03-02T01:30:00Z", `outside the window "night"`},
		// In Berlin the clocks go from 02:00 to 03:00 at 01:00 UTC on March 29th.
		{"the first half is skipped", Calendar{Windows: []Window{night}}, "2026-03-29T00:59:59Z", false, "2026-03-29T01:00:00Z", `outside the window "night"`},
		{"the second half remains", Calendar{Windows: []Window{night}}, "2026-03-29T01:00:00Z", true, "2026-03-29T01:30:00Z", ""},
		// They go from 03:00 back to 02:00 at 01:00 UTC on October 25th.
		{"shown for the first time", Calendar{Windows: []Window{night}}, "2026-10-25T00:30:00Z", true, "2026-10-25T01:00:00Z", ""},
		{"set back out of it", Calendar{Windows: []Window{night}}, "2026-10-25T01:00:00Z", false, "2026-10-25T01:30:00Z", `outside the window "night"`},
		{"shown again", Calendar{Windows: []Window{night}}, "2026-10-25T01:30:00Z", true, "2026-10-25T02:30:00Z", ""},
		{"past midnight it is still friday's", Calendar{Windows: []Window{over}}, "2026-07-04T07:00:00Z", true, "2026-07-04T08:00:00Z", ""},
		{"friday's early hours are thursday's", Calendar{Windows: []Window{over}}, "2026-07-03T07:00:00Z", false, "2026-07-04T02:00:00Z", `outside the window "over midnight"`},
		{"a whole day", Calendar{Windows: []Window{friday}}, "2026-07-03T00:00:00Z", true, "2026-07-04T00:00:00Z", ""},
		{"windows that meet are one", Calendar{Windows: []Window{friday, over}}, "2026-07-03T12:00:00Z", true, "2026-07-04T00:00:00Z", ""},
		{"closed by both", Calendar{Windows: []Window{friday, over}}, "2026-07-02T12:00:00Z", false, "2026-07-03T00:00:00Z", `outside the windows "friday", "over midnight"`},
		{"a freeze to come", Calendar{Freezes: []Freeze{freeze}}, "2020-01-01T00:00:00Z", true, "2026-11-25T23:00:00Z", ""},
		{"a freeze to its last day's end", Calendar{Freezes: []Freeze{freeze}}, "2026-11-25T23:00:00Z", false, "2026-11-30T23:00:00Z", `freeze "Black Friday"`},
		{"a freeze that is over", Calendar{Freezes: []Freeze{freeze}}, "2026-11-30T23:00:00Z", true, "", ""},
		{"a freeze, then waiting for the window", Calendar{Windows: []Window{friday}, Freezes: []Freeze{freeze}}, "2026-11-27T12:00:00Z", false, "2026-12-04T00:00:00Z", `freeze "Black Friday"`},
		{"a window cut off by a freeze", Calendar{Windows: []Window{night}, Freezes: []Freeze{{Name: "f", From: mustDate(t, "2026-03-01"), To: mustDate(t, "2026-03-01"), Zone: "Asia/Kolkata"}}},
			"2026-02-28T01:45:00Z", true, "2026-02-28T02:30:00Z", ""},
		{"always open windows", Calendar{Windows: []Window{{Name: "a", From: "00:00", To: "12:00", Zone: "Europe/Berlin"}, {Name: "b", From: "12:00", To: "24:00", Zone: "Europe/Berlin"}}},
			"2026-02-28T01:45:00Z", true, "", ""},
		{"what cannot be understood stays closed", Calendar{Windows: []Window{{Name: "x", From: "1", To: "2", Zone: "UTC"}}}, "2026-02-28T01:45:00Z", false, "", `window "x": "1" is no time of day`},
		{"no zone", Calendar{Freezes: []Freeze{{Name: "x", From: freeze.From, To: freeze.To, Zone: "Local"}}}, "2026-02-28T01:45:00Z", false, "", `freeze "x": "Local" is no time zone`},
	} {
		t.Run(test.name, func(t *testing.T) {
			now, err := time.Parse(time.RFC3339Nano, test.now)
			if err != nil {
				t.Fatal(err)
			}
			have := test.calendar.At(now)
			until := ""
			if !have.Until.IsZero() {
				until = have.Until.UTC().Format(time.RFC3339Nano)
			}
			if have.Open != test.open || until != test.until || have.Why != test.why {
				t.Errorf("open %v until %s because %q", have.Open, until, have.Why)
			}
		})
	}
}

func mustDate(t testing.TB, s string) Date {
	t.Helper()
	d, err := ParseDate(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// zones change their clocks at different hours, by an hour or half of one, at midnight and by a whole day, or never.
var zones = []struct{ name, around string }{
	{"Europe/Berlin", "2026-03-29"}, {"Europe/Berlin", "2026-10-25"}, {"America/New_York", "2026-11-01"},
	{"America/New_York", "2027-03-14"}, {"Australia/Lord_Howe", "2026-04-05"}, {"Australia/Lord_Howe", "2026-10-04"},
	{"America/Santiago", "2026-04-05"}, {"America/Santiago", "2026-09-06"}, {"Asia/Beirut", "2026-03-29"},
	{"Asia/Beirut", "2026-10-25"}, {"America/St_Johns", "2009-11-01"}, {"Pacific/Apia", "2011-12-30"},
	{"Antarctica/Casey", "2018-03-11"}, {"Africa/Casablanca", "2026-02-15"}, {"Asia/Kathmandu", "2026-06-15"}, {"UTC", "2028-02-29"},
}

func drawCalendar(t *rapid.T, day time.Time, zone string) Calendar {
	clock := rapid.Custom(func(t *rapid.T) string {
		if rapid.Bool().Draw(t, "near midnight or the change") {
			return rapid.SampledFrom([]string{"00:00", "23:59", "00:01", "23:00", "02:00", "02:30", "03:00", "03:30", "01:30"}).Draw(t, "clock")
		}
		return fmt.Sprintf("%02d:%02d", rapid.IntRange(0, 23).Draw(t, "hour"), rapid.IntRange(0, 59).Draw(t, "minute"))
	})
	other := func() string {
		if rapid.IntRange(0, 3).Draw(t, "other zone") == 0 {
			return rapid.SampledFrom(zones).Draw(t, "zone").name
		}
		return zone
	}
	var c Calendar
	for i := range rapid.IntRange(0, 3).Draw(t, "windows") {
		w := Window{Name: fmt.Sprint("w", i), From: clock.Draw(t, "from"), To: clock.Draw(t, "to"), Zone: other()}
		if rapid.IntRange(0, 4).Draw(t, "to the end of the day") == 0 {
			w.To = "24:00"
		}
		w.Days = rapid.SliceOfNDistinct(rapid.SampledFrom(weekdays[:]), 0, 7, rapid.ID).Draw(t, "days")
		c.Windows = append(c.Windows, w)
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "freezes") {
		from := day.AddDate(0, 0, rapid.IntRange(-5, 5).Draw(t, "first"))
		c.Freezes = append(c.Freezes, Freeze{Name: fmt.Sprint("f", i), From: Date{from},
			To: Date{from.AddDate(0, 0, rapid.IntRange(0, 9).Draw(t, "length"))}, Zone: other()})
	}
	return c
}

// openAt is the meaning of a calendar, by what the clocks of each zone show, and nothing else.
func openAt(t testing.TB, c Calendar, now time.Time) bool { return readClocks(t, c)(now) }

// readClocks loads the zones of a calendar once, for many looks at the clocks.
func readClocks(t testing.TB, c Calendar) func(time.Time) bool {
	located := map[string]*time.Location{}
	locate := func(zone string) {
		l, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		located[zone] = l
	}
	for _, w := range c.Windows {
		locate(w.Zone)
	}
	for _, f := range c.Freezes {
		locate(f.Zone)
	}
	on := func(w Window, d time.Weekday) bool { return len(w.Days) == 0 || slices.Contains(w.Days, weekdays[d%7]) }
	return func(now time.Time) bool {
		for _, f := range c.Freezes {
			if date := now.In(located[f.Zone]).Format(time.DateOnly); f.From.String() <= date && date <= f.To.String() {
				return false
			}
		}
		for _, w := range c.Windows {
			at := now.In(located[w.Zone])
			today, clock := at.Weekday(), at.Format("15:04")
			switch {
			case w.From < w.To && on(w, today) && w.From <= clock && clock < w.To,
				w.From >= w.To && on(w, today) && w.From <= clock,
				w.From >= w.To && on(w, today+6) && clock < w.To:
				return true
			}
		}
		return len(c.Windows) == 0
	}
}

// TestCalendarAgreesWithTheClocks compares a calendar with what the clocks show, minute by minute, over the two weeks
// around a change of the clocks.
func TestCalendarAgreesWithTheClocks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		place := rapid.SampledFrom(zones).Draw(rt, "zone")
		day := mustDate(t, place.around).start
		c := drawCalendar(rt, day, place.name)
		if err := c.Check(); err != nil {
			rt.Fatal(err)
		}
		start := day.Add(time.Duration(rapid.IntRange(-7*24*60, 0).Draw(rt, "start")) * time.Minute)
		const minutes = 14 * 24 * 60
		open, clocks := make([]bool, minutes), readClocks(t, c)
		for i := range open {
			open[i] = clocks(start.Add(time.Duration(i) * time.Minute))
		}
		for i := 0; i < minutes; {
			now := start.Add(time.Duration(i) * time.Minute)
			have := c.At(now)
			if have.Open != open[i] || have.Open != (have.Why == "") {
				rt.Fatalf("%v at %s: open %v (%q), the clocks say %v", c, now, have.Open, have.Why, open[i])
			}
			next := i + 1
			for next < minutes && open[next] == open[i] {
				next++
			}
			until := start.Add(time.Duration(next) * time.Minute)
			switch {
			case next == minutes && !have.Until.IsZero() && have.Until.Before(until):
				rt.Fatalf("%v at %s: changes at %s, the clocks say not before %s", c, now, have.Until, until)
			case next < minutes && !have.Until.Equal(until):
				rt.Fatalf("%v at %s: changes at %s, the clocks say %s", c, now, have.Until, until)
			}
			// The last minute before the change, and some instant on the way, must say the same.
			for _, at := range []int{next - 1, (i + next) / 2} {
				if o := c.At(start.Add(time.Duration(at)*time.Minute + 59*time.Second)); o.Open != open[i] || !o.Until.Equal(have.Until) {
					rt.Fatalf("%v at minute %d: %+v, and %+v before", c, at, o, have)
				}
			}
			i = next
		}
	})
}

// TestUntilHoldsFarAhead follows a calendar from change to change over years: each is one, and the answer in between is
// the same.
func TestUntilHoldsFarAhead(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		place := rapid.SampledFrom(zones).Draw(rt, "zone")
		c := drawCalendar(rt, mustDate(t, place.around).start, place.name)
		now := mustDate(t, place.around).start.AddDate(-1, 0, rapid.IntRange(0, 720).Draw(rt, "days"))
		o := c.At(now)
		if o.Until.IsZero() {
			for range 50 {
				later := now.Add(time.Duration(rapid.Int64Range(0, int64(800*day)).Draw(rt, "later")))
				if openAt(t, c, later) != o.Open {
					rt.Fatalf("%v at %s never changes, but does by %s", c, now, later)
				}
			}
			return
		}
		if n := c.At(o.Until); n.Open == o.Open || openAt(t, c, o.Until) == o.Open {
			rt.Fatalf("%v at %s changes at %s, where it says the same", c, now, o.Until)
		}
		if between := now.Add(o.Until.Sub(now) / 2); openAt(t, c, between) != o.Open {
			rt.Fatalf("%v at %s changes at %s, but does by %s", c, now, o.Until, between)
		}
	})
}

func TestCalendarForAPlace(t *testing.T) {
	c := parse(t, `
accounts: [{id: 111122223333, tags: {tier: "0"}}]
organization: {discover: organizations}
windows:
  - {name: everywhere, from: 09:00, to: 10:00}
  - {name: critical, match: {criticality: [high, critical]}, from: 09:00, to: 10:00, timezone: Asia/Tokyo}
  - {name: europe, match: {region: eu-*, tag: {tier: "*"}}, from: 09:00, to: 10:00}
freezes:
  - {name: one, match: {account: 444455556666}, from: 2026-01-01, to: 2026-01-02}
  - {name: unit, match: {ou: "*/Prod", name: "shop-*"}, from: 2026-01-01, to: 2026-01-02}
`)
	for _, test := range []struct {
		place PlaceFacts
		want  string
	}{
		{PlaceFacts{Account: AccountFacts{ID: "111122223333"}, Criticality: Low, Region: "eu-west-1"}, "everywhere europe"},
		{PlaceFacts{Account: AccountFacts{ID: "111122223333"}, Criticality: High, Region: "us-east-1"}, "everywhere critical"},
		{PlaceFacts{Account: AccountFacts{ID: "444455556666", Name: "shop-x", OUs: []string{"W", "Prod"}}, Criticality: Low},
			"everywhere one unit"},
		{PlaceFacts{Account: AccountFacts{ID: "777788889999", Name: "web", OUs: []string{"W", "Prod"}}, Criticality: Low}, "everywhere"},
	} {
		var have []string
		cal := c.CalendarFor(test.place)
		for _, w := range cal.Windows {
			have = append(have, w.Name)
		}
		for _, f := range cal.Freezes {
			have = append(have, f.Name)
		}
		if fmt.Sprint(have) != "["+test.want+"]" {
			t.Errorf("%+v: %v, want %s", test.place, have, test.want)
		}
		if err := cal.Check(); err != nil {
			t.Error(err)
		}
	}
}
