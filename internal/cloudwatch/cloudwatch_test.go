package cloudwatch_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/cloudwatch"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

func history(t *testing.T, c *cloudwatch.Client, subjects []fleet.Ref, span evidence.Span) []cloudwatch.Observation {
	t.Helper()
	var out []cloudwatch.Observation
	if err := c.History(t.Context(), subjects, span, func(o cloudwatch.Observation) error {
		out = append(out, o)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestHistoryInBothProtocols(t *testing.T) {
	for _, protocol := range []cloudwatch.Protocol{cloudwatch.ProtocolDefault, cloudwatch.ProtocolCBOR, cloudwatch.ProtocolJSON} {
		t.Run(string(protocol), func(t *testing.T) {
			f := newFake(t)
			span := fortnight()
			at := func(slot int) time.Time { return span.Start.Add(time.Duration(slot) * span.Period) }
			f.put("i-0000", "MetadataNoToken", every(span, 0)...) // quiet, fully covered
			f.put("i-0001", "MetadataNoToken", point{at(3), 5}, point{at(4), 0}, point{at(335), 0.4})
			f.put("i-0002", "MetadataNoToken", point{at(1), 0})
			f.put("i-0002", "MetadataNoTokenRejected", point{at(2), 7})
			f.put("i-0001", "MetadataNoToken", point{span.Start.Add(-time.Hour), 99}) // before the window
			got := history(t, f.client(protocol), refs(4), span)
			if len(got) != 4 {
				t.Fatalf("%d observations", len(got))
			}
			type want struct {
				total, rejected int64
				covered         int
				points          []evidence.Point
			}
			for i, w := range []want{
				{0, 0, 336, nil}, {6, 0, 3, []evidence.Point{{Slot: 3, Count: 5}, {Slot: 335, Count: 1}}}, {0, 7, 1, nil}, {0, 0, 0, nil},
			} {
				o := got[i]
				if o.Gap != nil || o.Subject != refs(4)[i] {
					t.Errorf("%d: %s gap %v", i, o.Subject, o.Gap)
				}
				if o.NoToken.Total != w.total || o.Rejected.Total != w.rejected || o.NoToken.Covered.Count() != w.covered ||
					!slices.Equal(o.NoToken.Points, w.points) {
					t.Errorf("%d: no token %+v, rejected %+v, want %+v", i, o.NoToken, o.Rejected, w)
				}
				if o.NoToken.Metric != evidence.MetricNoToken || o.Rejected.Metric != evidence.MetricRejected ||
					o.NoToken.Source != evidence.SourceCloudWatch || o.NoToken.Span != span {
					t.Errorf("%d: %+v", i, o.NoToken)
				}
			}
			if kind := map[bool]string{true: "json", false: "cbor"}[protocol == cloudwatch.ProtocolJSON]; f.protocol[kind] != len(f.requests) {
				t.Errorf("protocol %q was spoken as %v", protocol, f.protocol)
			}
		})
	}
}

func TestHistoryMakesFullCalls(t *testing.T) {
	f := newFake(t)
	span := fortnight()
	if span.Slots != 336 {
		t.Fatalf("two weeks are %d hours", span.Slots)
	}
	for _, ref := range refs(600) {
		f.put(ref.ID, "MetadataNoToken", every(span, 0)...)
	}
	got := history(t, f.client(cloudwatch.ProtocolJSON), refs(600), span)
	for i, o := range got {
		if o.Gap != nil || o.NoToken.Covered.Count() != 336 || o.Subject.ID != refs(600)[i].ID {
			t.Fatalf("%d: %v %d", i, o.Gap, o.NoToken.Covered.Count())
		}
	}
	var sizes []int
	for _, r := range f.requests {
		sizes = append(sizes, len(r.queries))
		if !r.start.Equal(span.Start) || !r.end.Equal(span.End()) || r.token != "" {
			t.Errorf("asked for %s to %s, page %q", r.start, r.end, r.token)
		}
		for _, q := range r.queries {
			if q.period != 3600 || q.stat != "Sum" {
				t.Fatalf("asked for %+v", q)
			}
		}
	}
	if !slices.Equal(sizes, []int{500, 500, 200}) {
		t.Errorf("calls of %v queries: want 250 instances each, one page each", sizes)
	}
}

func TestHistoryAtFiveMinutesKeepsToOnePage(t *testing.T) {
	f := newFake(t)
	s := cloudwatch.Settings{Period: 5 * time.Minute}
	span := s.Span(now) // 4,032 points: 25 instances fill a page
	for _, ref := range refs(50) {
		f.put(ref.ID, "MetadataNoToken", every(span, 1)...)
	}
	got := history(t, f.client(cloudwatch.ProtocolJSON), refs(50), span)
	if len(f.requests) != 2 || len(f.requests[0].queries) != 50 {
		t.Errorf("%d calls", len(f.requests))
	}
	if got[49].NoToken.Total != 4032 {
		t.Errorf("total %d", got[49].NoToken.Total)
	}
}

func TestHistoryFollowsPages(t *testing.T) {
	f := newFake(t)
	f.pagePoints = 100
	span := fortnight()
	for _, ref := range refs(3) {
		f.put(ref.ID, "MetadataNoToken", every(span, 2)...)
	}
	for _, o := range history(t, f.client(cloudwatch.ProtocolDefault), refs(3), span) {
		if o.Gap != nil || o.NoToken.Total != 672 || o.NoToken.Covered.Count() != 336 {
			t.Errorf("%s: %v, %d calls in %d hours", o.Subject, o.Gap, o.NoToken.Total, o.NoToken.Covered.Count())
		}
	}
	if len(f.requests) != 11 {
		t.Errorf("%d pages of 1,008 points, want 11", len(f.requests))
	}
}

func TestIncompleteAnswersAreGaps(t *testing.T) {
	target := func(q query) bool { return q.instance == "i-0001" && q.metric == "MetadataNoToken" }
	for name, spoil := range map[string]func(r map[string]any){
		"partial data":     func(r map[string]any) { r["StatusCode"] = "PartialData" },
		"internal error":   func(r map[string]any) { r["StatusCode"] = "InternalError" },
		"forbidden":        func(r map[string]any) { r["StatusCode"] = "Forbidden" },
		"unknown status":   func(r map[string]any) { r["StatusCode"] = "Later" },
		"no status":        func(r map[string]any) { delete(r, "StatusCode") },
		"not mentioned":    func(r map[string]any) { r["Id"] = nil },
		"a message":        func(r map[string]any) { r["Messages"] = []any{map[string]any{"Code": "X", "Value": "y"}} },
		"values missing":   func(r map[string]any) { r["Values"] = r["Values"].([]any)[1:] },
		"negative":         func(r map[string]any) { r["Values"].([]any)[0] = -1.0 },
		"too large":        func(r map[string]any) { r["Values"].([]any)[0] = 1e300 },
		"outside the span": func(r map[string]any) { r["Timestamps"].([]any)[0] = now.AddDate(1, 0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			span := fortnight()
			for _, ref := range refs(3) {
				f.put(ref.ID, "MetadataNoToken", every(span, 0)...)
			}
			f.spoil = func(q query, _ int, r map[string]any) {
				if target(q) {
					spoil(r)
				}
			}
			got := history(t, f.client(cloudwatch.ProtocolJSON), refs(3), span)
			if got[1].Gap == nil || !strings.Contains(got[1].Gap.Error(), "MetadataNoToken") {
				t.Errorf("no gap: %+v", got[1].Gap)
			}
			if got[0].Gap != nil || got[2].Gap != nil {
				t.Errorf("the others have gaps: %v, %v", got[0].Gap, got[2].Gap)
			}
			if c := got[1].NoToken.Covered.Count(); name == "not mentioned" && c != 0 {
				t.Errorf("%d hours covered by an answer that never came", c)
			}
			if told := strings.Contains(got[1].Gap.Error(), "does not mention"); told != (name == "not mentioned") {
				t.Errorf("gap %v", got[1].Gap)
			}
		})
	}
}

func TestNaNIsAGap(t *testing.T) { // JSON has no NaN
	f := newFake(t)
	span := fortnight()
	f.put("i-0000", "MetadataNoToken", point{span.Start, math.NaN()})
	if got := history(t, f.client(cloudwatch.ProtocolCBOR), refs(1), span); got[0].Gap == nil {
		t.Error("no gap")
	}
}

func TestPartialPageThatIsCompletedIsNoGap(t *testing.T) {
	f := newFake(t)
	f.pagePoints = 336 // the second instance begins on the second page
	span := fortnight()
	for _, ref := range refs(2) {
		f.put(ref.ID, "MetadataNoToken", every(span, 0)...)
	}
	// Complete series need not be mentioned again.
	f.spoil = func(q query, page int, r map[string]any) {
		if page == 1 && q.instance == "i-0000" {
			r["Id"] = nil
		}
	}
	for _, o := range history(t, f.client(cloudwatch.ProtocolJSON), refs(2), span) {
		if o.Gap != nil || o.NoToken.Covered.Count() != 336 {
			t.Errorf("%s: %v", o.Subject, o.Gap)
		}
	}
}

func TestMessageForTheCallIsAGapForAll(t *testing.T) {
	f := newFake(t)
	f.say = "Maximum number of allowed metrics exceeded"
	for _, o := range history(t, f.client(cloudwatch.ProtocolJSON), refs(2), fortnight()) {
		if o.Gap == nil || !strings.Contains(o.Gap.Error(), f.say) {
			t.Errorf("gap %v", o.Gap)
		}
	}
}

func TestFailedBatch(t *testing.T) {
	for _, tc := range []struct {
		code    string
		status  int
		yielded int
		ends    bool
	}{
		{"InvalidParameterValue", 400, 600, false}, // of the second batch only
		{"AccessDeniedException", 403, 250, true},
		{"ExpiredToken", 403, 250, true},
	} {
		f := newFake(t)
		f.fail = func(n int) (int, string) {
			if n == 2 {
				return tc.status, tc.code
			}
			return 0, ""
		}
		var got []cloudwatch.Observation
		err := f.client(cloudwatch.ProtocolJSON).History(t.Context(), refs(600), fortnight(), func(o cloudwatch.Observation) error {
			got = append(got, o)
			return nil
		})
		if len(got) != tc.yielded || (err != nil) != tc.ends {
			t.Errorf("%s: %d yielded, %v", tc.code, len(got), err)
		}
		for i, o := range got {
			if want := !tc.ends && i >= 250 && i < 500; (o.Gap != nil) != want || (o.NoToken == nil) != want {
				t.Fatalf("%s: %d: gap %v", tc.code, i, o.Gap)
			}
		}
		if tc.ends {
			if _, ok := errors.AsType[*fleet.CallError](err); !ok {
				t.Errorf("%s: %v", tc.code, err)
			}
		}
	}
}

func TestEndlessPagesEnd(t *testing.T) {
	f := newFake(t)
	f.repeatToken = true
	got := history(t, f.client(cloudwatch.ProtocolJSON), refs(1), fortnight())
	if !errors.Is(got[0].Gap, cloudwatch.ErrIncomplete) || len(f.requests) != 2 {
		t.Errorf("%d calls, gap %v", len(f.requests), got[0].Gap)
	}
	f.put("i-0000", "MetadataNoToken", point{now, 0})
	if list, err := f.client(cloudwatch.ProtocolJSON).Reporters(t.Context()); err == nil || list != nil {
		t.Errorf("%v %v", list, err)
	}
}

func TestHistoryStops(t *testing.T) {
	f := newFake(t)
	c := f.client(cloudwatch.ProtocolJSON)
	enough := errors.New("enough")
	if err := c.History(t.Context(), refs(600), fortnight(), func(cloudwatch.Observation) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	if len(f.requests) != 1 {
		t.Errorf("%d calls", len(f.requests))
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := c.History(ctx, refs(600), fortnight(), func(cloudwatch.Observation) error {
		n++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || n != 250 {
		t.Errorf("%d yielded, %v", n, err)
	}
	elsewhere := refs(1)
	elsewhere[0].Region = "us-east-1"
	if err := c.History(t.Context(), elsewhere, fortnight(), func(cloudwatch.Observation) error { return nil }); err == nil {
		t.Error("an instance of another region was asked for here")
	}
}

func TestReporters(t *testing.T) {
	f := newFake(t)
	for _, id := range []string{"i-c", "i-a", "i-b", "i-e", "i-d"} {
		f.put(id, "MetadataNoToken", point{now, 0})
	}
	f.put("i-a", "MetadataNoTokenRejected", point{now, 0})
	f.put("i-z", "MetadataNoTokenRejected", point{now, 0})
	f.put("i-x", "CPUUtilization", point{now, 1})
	c := f.client(cloudwatch.ProtocolJSON)
	got, err := c.Reporters(t.Context())
	if want := []string{"i-a", "i-b", "i-c", "i-d", "i-e", "i-z"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v", got, err)
	}
	if f.lists != 4 {
		t.Errorf("%d calls, want 3 pages and 1", f.lists)
	}
	f.fail = func(n int) (int, string) { // a page in the middle
		if n == 6 {
			return 403, "AccessDeniedException"
		}
		return 0, ""
	}
	got, err = c.Reporters(t.Context())
	if got != nil || fleet.ClassOf(err) != fleet.ErrDenied {
		t.Errorf("a part of the list: %v %v", got, err)
	}
}

func TestGate(t *testing.T) {
	f := newFake(t)
	span, err := cloudwatch.RecentSpan(now, 30*time.Minute, 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	f.put("i-0000", "MetadataNoTokenRejected", point{now.Add(-10 * time.Minute), 3})
	f.put("i-0000", "CPUUtilization", point{now.Add(-10 * time.Minute), 0.3}, point{now.Add(-5 * time.Minute), 12})
	f.put("i-0001", "CPUUtilization", point{now.Add(-20 * time.Minute), 50})
	f.put("i-0002", "MetadataNoToken", point{now.Add(-5 * time.Minute), 0})
	c := f.client(cloudwatch.ProtocolDefault)
	got, err := c.Gate(t.Context(), refs(3), cloudwatch.Watch{Span: span, Heartbeat: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		rejected int64
		beat     time.Time
		fresh    bool
	}{{3, now.Add(-5 * time.Minute), true}, {0, now.Add(-20 * time.Minute), false}, {0, time.Time{}, false}} {
		r := got[i]
		if r.Rejected.Total != want.rejected || !r.Heartbeat.Equal(want.beat) || r.Gap != nil {
			t.Errorf("%d: %+v", i, r)
		}
		if r.FreshSince(now.Add(-8*time.Minute)) != want.fresh {
			t.Errorf("%d: fresh %v", i, !want.fresh)
		}
	}
	if !got[0].FreshSince(now.Add(-time.Minute)) || got[0].FreshSince(now) {
		t.Error("a period of five minutes from 8:25 is fresh until 8:30")
	}
	beats, err := c.Heartbeats(t.Context(), refs(3), span)
	if err != nil || !beats[0].Equal(now.Add(-5*time.Minute)) || !beats[2].IsZero() {
		t.Errorf("%v %v", beats, err)
	}
	f.requests = nil
	if _, err := c.Gate(t.Context(), refs(1000), cloudwatch.Watch{Span: span}); err != nil || len(f.requests) != 4 {
		t.Errorf("%d calls for 1,000 instances without heartbeat: %v", len(f.requests), err)
	}
	f.spoil = func(q query, _ int, r map[string]any) {
		if q.metric == "CPUUtilization" {
			r["StatusCode"] = "InternalError"
		}
	}
	got, err = c.Gate(t.Context(), refs(1), cloudwatch.Watch{Span: span, Heartbeat: true})
	if err != nil || got[0].Gap == nil {
		t.Errorf("an incomplete heartbeat is a gap: %v %v", got, err)
	}
	if _, err := c.Heartbeats(t.Context(), refs(1), span); !errors.Is(err, cloudwatch.ErrIncomplete) {
		t.Errorf("got %v", err)
	}
	f.fail = func(int) (int, string) { return 403, "AccessDeniedException" }
	if _, err := c.Gate(t.Context(), refs(1), cloudwatch.Watch{Span: span}); fleet.ClassOf(err) != fleet.ErrDenied {
		t.Errorf("got %v", err)
	}
}

func TestSettings(t *testing.T) {
	day := 24 * time.Hour
	for _, tc := range []struct {
		s    cloudwatch.Settings
		want string // part of the error; empty for none
	}{
		{cloudwatch.Settings{}, ""},
		{cloudwatch.Settings{Window: 455 * day}, ""},
		{cloudwatch.Settings{Window: 456 * day}, "kept 455 days; shorten the window"},
		{cloudwatch.Settings{Window: 63 * day, Period: 5 * time.Minute}, ""},
		{cloudwatch.Settings{Window: 64 * day, Period: 5 * time.Minute}, "kept 63 days; shorten the window, or ask for a longer period"},
		{cloudwatch.Settings{Window: 90 * time.Minute}, "multiple of the period"},
		{cloudwatch.Settings{Window: -day}, "multiple of the period"},
		{cloudwatch.Settings{Period: time.Minute}, "want 5m or 1h"},
		{cloudwatch.Settings{Protocol: "xml"}, "want cbor or json"},
	} {
		err := tc.s.Validate()
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v", tc.s, err)
		}
	}
	if _, err := cloudwatch.RecentSpan(now, 16*day, time.Minute); err == nil {
		t.Error("one-minute datapoints are kept 15 days")
	}
	if _, err := cloudwatch.RecentSpan(now, time.Hour, time.Hour); err == nil {
		t.Error("a gate of hours")
	}
	if span, err := cloudwatch.RecentSpan(now, 15*time.Minute, time.Minute); err != nil || span.Slots != 15 {
		t.Errorf("%+v %v", span, err)
	}
}

func TestEstimate(t *testing.T) {
	span := fortnight()
	c := cloudwatch.Estimate(span, 100_000, 1, 0, 250, 251)
	if c.Instances != 100_502 || c.Metrics != 201_004 || c.Calls != 400+1+0+1+2 || c.Dollars != 2.01004 {
		t.Errorf("%+v", c)
	}
	want := "3,000 instances × 2 metrics = 6,000 metrics at $0.01 per 1,000 = $0.06, in 12 calls"
	if got := cloudwatch.Estimate(span, 3000).String(); got != want {
		t.Error(got)
	}
	if got := cloudwatch.Estimate(span).String(); !strings.HasPrefix(got, "0 instances") {
		t.Error(got)
	}
}

func TestLongHistoryIsPacedByDatapoints(t *testing.T) {
	f := newFake(t)
	if history(t, f.client(cloudwatch.ProtocolJSON), refs(1000), fortnight()); f.clock.Now().Equal(now) {
		// 4 calls of 168,000 possible datapoints, of which CloudWatch takes 396,000 a second.
		t.Error("four calls at once exceed CloudWatch's datapoints a second")
	}
}

// TestLookBack: daily counts of 200 days fill calls of 500 instances, one metric each, within one page; and cost half of a window.
func TestLookBack(t *testing.T) {
	f := newFake(t)
	settings := cloudwatch.Settings{History: 200 * 24 * time.Hour}
	if err := settings.Validate(); err != nil {
		t.Fatal(err)
	}
	span, ok := settings.LookBack(now)
	if !ok || span.Slots != 200 || span.Period != 24*time.Hour || !span.Contains(now) {
		t.Fatalf("span %+v", span)
	}
	f.put("i-0001", "MetadataNoToken", point{span.Start, 5}, point{span.Start.Add(48 * time.Hour), 0})
	f.put("i-0001", "MetadataNoTokenRejected", point{span.Start, 9})
	var got []cloudwatch.Observation
	err := f.client(cloudwatch.ProtocolDefault).LookBack(t.Context(), refs(501), span, func(o cloudwatch.Observation) error {
		got = append(got, o)
		return nil
	})
	if err != nil || len(got) != 501 {
		t.Fatalf("%d observations: %v", len(got), err)
	}
	if w := got[1].NoToken; got[1].Rejected != nil || w.Total != 5 || w.Covered.Count() != 2 || w.Points[0].Slot != 0 {
		t.Errorf("%+v %+v", w, got[1].Rejected)
	}
	if len(f.requests) != 2 || len(f.requests[0].queries) != 500 || f.requests[0].queries[0].period != 86_400 {
		t.Errorf("%d calls, %d queries in the first", len(f.requests), len(f.requests[0].queries))
	}
	if c := cloudwatch.EstimateLookBack(span, 501); c.Metrics != 501 || c.Calls != 2 || !strings.HasPrefix(c.String(), "501 instances × 1 metric =") {
		t.Errorf("estimated %+v: %s", c, c)
	}
	if _, ok := (cloudwatch.Settings{}).LookBack(now); ok {
		t.Error("looks back by default")
	}
	if (cloudwatch.Settings{History: 456 * 24 * time.Hour}).Validate() == nil || (cloudwatch.Settings{History: 36 * time.Hour}).Validate() == nil {
		t.Error("a look back that CloudWatch cannot answer")
	}
}
