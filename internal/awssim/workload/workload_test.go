package workload

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const day = 86400

// start is a Monday at noon, so that hours and five-minute periods are aligned.
var start = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC).Unix()

func TestUnder(t *testing.T) {
	tests := []struct {
		program Program
		setting Setting
		want    Outcome
	}{
		{Program{Speaks: V1Only}, Setting{HopLimit: 1}, Outcome{V1: true}},
		{Program{Speaks: V1Only, ExtraHops: 3}, Setting{HopLimit: 1}, Outcome{V1: true}},
		{Program{Speaks: V1Only}, Setting{HopLimit: 2, Required: true}, Outcome{Rejected: true, Reason: V1Refused}},
		{Program{Speaks: V2ThenV1}, Setting{HopLimit: 1}, Outcome{V2: true}},
		{Program{Speaks: V2ThenV1}, Setting{HopLimit: 1, Required: true}, Outcome{V2: true}},
		{Program{Speaks: V2ThenV1, ExtraHops: 1}, Setting{HopLimit: 1}, Outcome{V1: true}},
		{Program{Speaks: V2ThenV1, ExtraHops: 1}, Setting{HopLimit: 2}, Outcome{V2: true}},
		{Program{Speaks: V2ThenV1, ExtraHops: 1, V1Disabled: true}, Setting{HopLimit: 1}, Outcome{Reason: HopLimit}},
		{
			Program{Speaks: V2ThenV1, ExtraHops: 1}, Setting{HopLimit: 1, Required: true},
			Outcome{Rejected: true, Reason: HopLimit},
		},
		{Program{Speaks: V2Only, ExtraHops: 1}, Setting{HopLimit: 1}, Outcome{Reason: HopLimit}},
		{Program{Speaks: V2Only}, Setting{HopLimit: 1}, Outcome{V2: true}},
		{Program{Speaks: V1First}, Setting{HopLimit: 1}, Outcome{V1: true}},
		{Program{Speaks: V1First}, Setting{HopLimit: 1, Required: true}, Outcome{V2: true, Rejected: true}},
		{
			Program{Speaks: V1First, ExtraHops: 1}, Setting{HopLimit: 1, Required: true},
			Outcome{Rejected: true, Reason: HopLimit},
		},
		{Program{Speaks: V2ThenV1}, Setting{HopLimit: 1, Disabled: true}, Outcome{Reason: EndpointDisabled}},
	}
	for _, tt := range tests {
		name := fmt.Sprintf("%s/hops=%d/%+v", tt.program.Speaks, tt.program.ExtraHops, tt.setting)
		t.Run(name, func(t *testing.T) {
			if got := tt.program.Under(tt.setting); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// A sticky program that started behind a hop limit of 1 calls v1 after the limit was raised, breaks when tokens are
// required, and is cured by a restart alone.
func TestStickyProgramsNeedARestart(t *testing.T) {
	raised, required, restart := start+3600, start+2*3600, start+3*3600
	h := &Host{
		Life: &Life{
			ID: "i-0abc", Runs: []Run{{From: start, To: Forever}}, Restarts: []int64{restart},
			Settings: []Setting{
				{From: start, HopLimit: 1}, {From: raised, HopLimit: 2}, {From: required, HopLimit: 2, Required: true},
			},
		},
		Programs: []*Program{{Name: "shop", Speaks: V2ThenV1, Sticky: true, ExtraHops: 1, Every: 5 * time.Minute, AtBoot: true}},
	}
	calls := func(m Metric, from, to int64) (sum float64) {
		for _, p := range h.Series(nil, m, from, to, 3600, to) {
			sum += p.Value
		}
		return sum
	}
	for _, tt := range []struct {
		name     string
		metric   Metric
		from     int64
		want     bool
		broken   bool
		lookedAt int64
	}{
		{"behind a hop limit of 1", NoToken, start, true, false, raised - 1},
		{"after it was raised", NoToken, raised, true, false, required - 1},
		{"when tokens are required", NoTokenRejected, required, true, true, restart - 1},
		{"after its restart", NoTokenRejected, restart, false, false, restart + 3599},
	} {
		if got := calls(tt.metric, tt.from, tt.from+3600) > 0; got != tt.want {
			t.Errorf("%s: calls counted as %s: %v, want %v", tt.name, tt.metric, got, tt.want)
		}
		f := h.Faults(tt.lookedAt)
		if (len(f) > 0) != tt.broken {
			t.Errorf("%s: broken %v, want %v", tt.name, f, tt.broken)
		}
		if len(f) > 0 && !strings.Contains(f[0].Why, "restart it") {
			t.Errorf("%s: %q does not say what helps", tt.name, f[0].Why)
		}
	}
}

func TestFlipToRequired(t *testing.T) {
	flip := start + 10*3600
	life := &Life{
		ID: "i-0abc", Runs: []Run{{From: start, To: Forever}},
		Settings: []Setting{{From: start, HopLimit: 1}, {From: flip, HopLimit: 1, Required: true}},
	}
	old := &Program{Name: "billing-batch", Agent: "boto3", Version: "1.9.2", Speaks: V1Only, Every: 15 * time.Minute}
	h := &Host{Life: life, Programs: []*Program{old}, Seed: 1}

	before := h.Series(nil, NoToken, start, start+day, 3600, start+day)
	if len(before) != 10 {
		t.Fatalf("MetadataNoToken has %d hourly points, want 10: v1 was allowed for ten hours", len(before))
	}
	for _, p := range before {
		if p.Value != 8 { // four rounds of two calls
			t.Errorf("at %d: %v v1 calls an hour, want 8", p.At, p.Value)
		}
	}
	after := h.Series(nil, NoTokenRejected, start, start+day, 3600, start+day)
	if len(after) != 14 || after[0].At != flip {
		t.Errorf("MetadataNoTokenRejected: %v, want 14 points from %d on", after, flip)
	}
	if f := h.Faults(flip - 1); len(f) != 0 {
		t.Errorf("broken before the flip: %+v", f)
	}
	f := h.Faults(flip + 900)
	if len(f) != 1 || f[0].Reason != V1Refused || f[0].Why == "" {
		t.Fatalf("after the flip: %+v, want billing-batch refused", f)
	}
	if since := f[0].Since.Unix(); since < flip || since >= flip+900 {
		t.Errorf("broken since %d, want at the first call within 15 minutes of %d", since, flip)
	}
}

func TestCredentialsOutliveTheFlip(t *testing.T) {
	flip := start + 3600
	p := &Program{
		Name: "etl", Speaks: V1Only, Every: time.Hour, Anchor: time.Unix(start, 0), CacheFor: 6 * time.Hour,
		Essential: true, ImpairedAfter: 10 * time.Minute,
	}
	h := &Host{Programs: []*Program{p}, Life: &Life{
		ID: "i-1", Runs: []Run{{From: start, To: Forever}},
		Settings: []Setting{{From: start, HopLimit: 1}, {From: flip, HopLimit: 1, Required: true}},
	}}
	shows := start + 6*3600
	for _, tt := range []struct {
		at               int64
		broken, impaired bool
	}{{flip, false, false}, {shows - 1, false, false}, {shows, true, false}, {shows + 599, true, false}, {shows + 600, true, true}} {
		faults := h.Faults(tt.at)
		if (len(faults) == 1) != tt.broken {
			t.Errorf("%d s after the flip: faults %+v, want broken %v", tt.at-flip, faults, tt.broken)
		}
		if _, impaired := h.Impaired(tt.at); impaired != tt.impaired {
			t.Errorf("%d s after the flip: impaired %v, want %v", tt.at-flip, impaired, tt.impaired)
		}
	}
	var failed float64
	for _, pt := range h.Series(nil, StatusCheckFailed, start, shows+3600, 300, shows+3600) {
		failed += pt.Value
	}
	if failed != 10 { // from ten minutes after the break to the hour
		t.Errorf("%v failed status periods, want 10", failed)
	}
}

func TestStoppedInstanceHasNoPoints(t *testing.T) {
	h := &Host{
		Life: &Life{
			ID: "i-1", Settings: []Setting{{HopLimit: 1}},
			Runs: []Run{{From: start, To: start + 2*3600}, {From: start + 5*3600 + 600, To: start + 6*3600}},
		},
		Programs: []*Program{{Name: "boots", Speaks: V1Only, AtBoot: true, Calls: 3}},
	}
	for _, m := range []Metric{NoToken, CPU, StatusCheckFailed} {
		points := h.Series(nil, m, start-3600, start+day, 3600, start+day)
		var hours []int64
		for _, p := range points {
			hours = append(hours, (p.At-start)/3600)
		}
		if fmt.Sprint(hours) != "[0 1 5]" {
			t.Errorf("%s has points in hours %v, want 0, 1 and 5", m, hours)
		}
		if m == NoToken && (points[0].Value != 3 || points[1].Value != 0 || points[2].Value != 3) {
			t.Errorf("calls %v, want 3 in the hours of the two boots", points)
		}
	}
}

func TestDeployments(t *testing.T) {
	var d Deployments
	add := func(name string, w Where) {
		if _, err := d.Add(Program{Name: name, Speaks: V2Only}, w); err != nil {
			t.Fatal(err)
		}
	}
	add("everywhere-by-tag", Where{Tags: []string{"env=prod", "app=web"}})
	add("group", Where{Groups: []string{"web"}, Account: "111122223333"})
	add("one", Where{Instances: []string{"i-1"}})
	add("template", Where{Templates: []string{"lt-1", "web-template"}})
	if _, err := d.Add(Program{Name: "nowhere", Speaks: V2Only}, Where{}); err == nil {
		t.Error("a program that runs nowhere was accepted")
	}
	tags := func(yield func(k, v string) bool) { _ = yield("env", "prod") && yield("app", "web") }
	tests := []struct {
		subject Subject
		want    string
	}{
		{Subject{Account: "111122223333", Instance: "i-1", Group: "web", Tags: tags}, "everywhere-by-tag group one"},
		{Subject{Account: "999922223333", Instance: "i-2", Group: "web"}, ""},
		{Subject{TemplateID: "lt-1", TemplateName: "web-template"}, "template"},
		{Subject{}, ""},
	}
	for _, tt := range tests {
		var got string
		for _, p := range d.On(tt.subject) {
			if got != "" {
				got += " "
			}
			got += p.Name
		}
		if got != tt.want {
			t.Errorf("%+v: programs %q, want %q", tt.subject, got, tt.want)
		}
	}
}

// TestAgainstEnumeration compares the closed form with walking through every second's rounds.
func TestAgainstEnumeration(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHost(t)
		period := rapid.SampledFrom([]int64{60, 300, 3600}).Draw(t, "period")
		from := floorTo(start, period) - period*rapid.Int64Range(0, 3).Draw(t, "lead")
		to := from + period*rapid.Int64Range(1, 200).Draw(t, "periods")
		until := rapid.Int64Range(from, to+period).Draw(t, "until")
		for _, m := range []Metric{NoToken, NoTokenRejected} {
			got := h.Series(nil, m, from, to, period, until)
			want := enumerate(h, m, from, to, period, until)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%s\n got %v\nwant %v", m, got, want)
			}
		}
		for i, p := range h.Programs {
			at := rapid.Int64Range(from, to).Draw(t, fmt.Sprint("at", i))
			want, broken := brokenBy(h, p, at), false
			for _, f := range h.Faults(at) {
				broken = broken || f.Program == p
			}
			if broken != want {
				t.Fatalf("%s at %d: broken %v, want %v (breaks %v)", p.Name, at, broken, want, h.Breaks(p, at+1))
			}
		}
	})
}

func drawHost(t *rapid.T) *Host {
	life := &Life{ID: "i-" + rapid.StringMatching(`[0-9a-f]{8}`).Draw(t, "id")}
	at := start - rapid.Int64Range(-7200, 7200).Draw(t, "launch")
	for range rapid.IntRange(0, 4).Draw(t, "runs") {
		to := at + rapid.Int64Range(1, 20000).Draw(t, "ran")
		life.Runs = append(life.Runs, Run{From: at, To: to})
		at = to + rapid.Int64Range(1, 20000).Draw(t, "stopped")
	}
	if n := len(life.Runs); n > 0 && rapid.Bool().Draw(t, "still running") {
		life.Runs[n-1].To = Forever
	}
	at = start - 7200
	for range rapid.IntRange(1, 5).Draw(t, "settings") {
		life.Settings = append(life.Settings, Setting{
			From: at, Required: rapid.Bool().Draw(t, "required"), HopLimit: rapid.IntRange(1, 3).Draw(t, "hop limit"),
			Disabled: rapid.IntRange(0, 5).Draw(t, "disabled") == 0,
		})
		at += rapid.Int64Range(1, 30000).Draw(t, "held")
	}
	at = start - 7200
	for range rapid.IntRange(0, 3).Draw(t, "restarts") {
		at += rapid.Int64Range(0, 20000).Draw(t, "until restart")
		life.Restarts = append(life.Restarts, at)
	}
	h := &Host{Life: life, Seed: rapid.Uint64().Draw(t, "seed")}
	for i := range rapid.IntRange(0, 3).Draw(t, "programs") {
		p := &Program{
			Name: fmt.Sprint("program-", i), AtBoot: rapid.Bool().Draw(t, "at boot"),
			Speaks:     rapid.SampledFrom([]Speaks{V1Only, V2Only, V2ThenV1, V1First}).Draw(t, "speaks"),
			ExtraHops:  rapid.IntRange(0, 2).Draw(t, "hops"),
			V1Disabled: rapid.Bool().Draw(t, "v1 disabled"),
			Every:      time.Duration(rapid.SampledFrom([]int{0, 7, 60, 900, 3600, 50000}).Draw(t, "every")) * time.Second,
			Calls:      rapid.IntRange(0, 3).Draw(t, "calls"),
			CacheFor:   time.Duration(rapid.IntRange(0, 20000).Draw(t, "cache")) * time.Second,
		}
		p.Sticky = p.Speaks == V2ThenV1 && rapid.Bool().Draw(t, "sticky")
		if rapid.Bool().Draw(t, "anchored") {
			p.Anchor = time.Unix(start+rapid.Int64Range(-10000, 10000).Draw(t, "anchor"), 0)
		}
		h.Programs = append(h.Programs, p)
	}
	return h
}

// beganBy is when the programs that run at t were started.
func beganBy(h *Host, t int64) int64 {
	began := int64(-1)
	for _, r := range h.Life.Runs {
		if r.From <= t {
			began = r.From
		}
	}
	for _, at := range h.Life.Restarts {
		if at <= t && at > began {
			began = at
		}
	}
	return began
}

// outcomeAt is what a round at t does: a sticky program speaks as it had to when it was started.
func outcomeAt(h *Host, p *Program, t int64) Outcome {
	if found := h.Life.SettingAt(beganBy(h, t)); p.Sticky && !p.V1Disabled && !found.Disabled && found.HopLimit <= p.ExtraHops {
		return (&Program{Speaks: V1Only}).Under(h.Life.SettingAt(t))
	}
	return p.Under(h.Life.SettingAt(t))
}

// roundsOf lists all rounds of a program before until, the slow way.
func roundsOf(h *Host, p *Program, until int64) []int64 {
	var out []int64
	every := int64(p.Every / time.Second)
	for i := range h.Life.Runs {
		r := &h.Life.Runs[i]
		for t := r.From; t < min(r.To, until); t++ {
			boot := h.bootRound(p, beganBy(h, t))
			if every > 0 && (t-h.anchor(p, every))%every == 0 {
				out = append(out, t)
			}
			if p.AtBoot && t == boot {
				out = append(out, t)
			}
		}
	}
	return out
}

func enumerate(h *Host, m Metric, from, to, period, until int64) []Point {
	counts := map[int64]float64{}
	for _, p := range h.Programs {
		for _, t := range roundsOf(h, p, min(to, until)) {
			o := outcomeAt(h, p, t)
			if t >= from && ((m == NoToken && o.V1) || (m == NoTokenRejected && o.Rejected)) {
				counts[floorTo(t, period)] += float64(p.calls())
			}
		}
	}
	var out []Point
	for at := from; at < to; at += period {
		present := false
		for t := at; t < min(at+period, until) && !present; t++ {
			s := h.Life.SettingAt(t)
			present = m == NoToken && h.Life.RunningAt(t) && !s.Disabled && !s.Required
		}
		if present || counts[at] > 0 {
			out = append(out, Point{At: at, Value: counts[at]})
		}
	}
	return out
}

// brokenBy replays a program's rounds up to at.
func brokenBy(h *Host, p *Program, at int64) bool {
	if !h.Life.RunningAt(at) {
		return false
	}
	var run Run
	for _, r := range h.Life.Runs {
		if r.From <= at && at < r.To {
			run = r
		}
	}
	failing, good := false, int64(-1)
	for _, t := range roundsOf(h, p, at+1) {
		if t < run.From {
			continue
		}
		failing = outcomeAt(h, p, t).Reason != Works
		if !failing {
			good = t
		}
	}
	if good < beganBy(h, at) {
		good = -1 // a restart loses what was cached
	}
	return failing && (good < 0 || at >= good+int64(p.CacheFor.Seconds()))
}

func TestSumsAgreeAcrossPeriods(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHost(t)
		from, to := start-2*3600, start+48*3600
		for _, m := range []Metric{NoToken, NoTokenRejected} {
			var sums []float64
			for _, period := range []int64{60, 300, 3600} {
				var sum float64
				for _, p := range h.Series(nil, m, from, to, period, to) {
					sum += p.Value
				}
				sums = append(sums, sum)
			}
			if sums[0] != sums[1] || sums[1] != sums[2] {
				t.Fatalf("%s: sums by minute, five minutes and hour differ: %v", m, sums)
			}
		}
	})
}

func BenchmarkSeriesTwoWeeksHourly(b *testing.B) {
	h := &Host{
		Life: &Life{
			ID: "i-0123456789abcdef0", Runs: []Run{{From: start - 90*day, To: Forever}},
			Settings: []Setting{{HopLimit: 1}},
		},
		Programs: []*Program{
			{Name: "a", Speaks: V1Only, Every: 15 * time.Minute}, {Name: "b", Speaks: V1First, Every: 5 * time.Minute},
			{Name: "c", Speaks: V2ThenV1, Every: time.Hour},
		},
	}
	dst := make([]Point, 0, 400)
	b.ReportAllocs()
	for b.Loop() {
		dst = h.Series(dst[:0], NoToken, start-14*day, start, 3600, start)
	}
	if len(dst) != 336 {
		b.Fatalf("%d points, want 336", len(dst))
	}
}

// TestRoundsAgainstEnumeration compares the rounds with walking through every second, and what they deliver with what a round does.
func TestRoundsAgainstEnumeration(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHost(t)
		until := start + rapid.Int64Range(0, 40000).Draw(t, "until")
		for _, p := range h.Programs {
			var got []int64
			for at, o := range h.Rounds(p, start-20000, until) {
				got = append(got, at)
				if want := outcomeAt(h, p, at); o != want || (o.Delivery() == "") != (want.Reason != Works) ||
					o.Delivery() == "2.0" != (want.Reason == Works && want.V2) {
					t.Fatalf("%s at %d: %+v (%q), want %+v", p, at, o, o.Delivery(), want)
				}
			}
			want := roundsOf(h, p, until)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("%s: rounds %v, want %v", p, got, want)
			}
		}
	})
}
