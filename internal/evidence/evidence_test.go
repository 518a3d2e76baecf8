package evidence

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

var noon = time.Date(2026, 11, 20, 12, 34, 56, 0, time.UTC)

func TestSpanEndsWithTheCurrentPeriod(t *testing.T) {
	s := NewSpan(noon, 14*24*time.Hour, time.Hour)
	if s.Slots != 336 {
		t.Errorf("slots = %d, want 336", s.Slots)
	}
	if got := s.End(); !got.Equal(time.Date(2026, 11, 20, 13, 0, 0, 0, time.UTC)) {
		t.Errorf("end = %v", got)
	}
	for _, tc := range []struct {
		at   time.Time
		want bool
	}{{s.Start, true}, {s.Start.Add(-1), false}, {s.End().Add(-1), true}, {s.End(), false}} {
		if s.Contains(tc.at) != tc.want {
			t.Errorf("Contains(%v) = %v", tc.at, !tc.want)
		}
	}
}

func TestMissingIsNotZero(t *testing.T) {
	w := NewWindow(fleet.Ref{}, SourceCloudWatch, MetricNoToken, NewSpan(noon, 24*time.Hour, time.Hour))
	if err := w.Add(noon.Add(-2*time.Hour), 0); err != nil {
		t.Fatal(err)
	}
	if w.Covered.Count() != 1 || w.Total != 0 || !w.LastNonZero().IsZero() {
		t.Errorf("a zero covers its slot and counts nothing: %+v", w)
	}
	if err := w.Add(noon.Add(48*time.Hour), 1); !errors.Is(err, ErrOutside) {
		t.Errorf("outside: %v", err)
	}
	if err := w.Add(noon, -1); err == nil {
		t.Error("a negative count was taken")
	}
	if !w.CoveredSince(noon.Add(-3*time.Hour)) || w.CoveredSince(noon.Add(-time.Hour)) {
		t.Error("CoveredSince does not follow the datapoints")
	}
}

func TestPackRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := NewWindow(fleet.Ref{}, SourceCloudWatch, MetricNoToken, NewSpan(noon, time.Duration(rapid.IntRange(1, 500).Draw(t, "hours"))*time.Hour, time.Hour))
		var total int64
		for range rapid.IntRange(0, 60).Draw(t, "points") {
			slot := rapid.IntRange(0, w.Span.Slots-1).Draw(t, "slot")
			count := rapid.Int64Range(0, 1<<40).Draw(t, "count")
			if err := w.Add(w.Span.Start.Add(time.Duration(slot)*time.Hour+time.Minute), count); err != nil {
				t.Fatal(err)
			}
			total += count
		}
		got := NewWindow(fleet.Ref{}, SourceCloudWatch, MetricNoToken, w.Span)
		if err := got.Unpack(w.Pack()); err != nil {
			t.Fatal(err)
		}
		if got.Total != total || got.Covered.Count() != w.Covered.Count() || !got.LastNonZero().Equal(w.LastNonZero()) {
			t.Fatalf("got %+v, want %+v", got, w)
		}
	})
}

func FuzzUnpack(f *testing.F) {
	w := NewWindow(fleet.Ref{}, SourceCloudWatch, MetricNoToken, NewSpan(noon, 24*time.Hour, time.Hour))
	_ = w.Add(noon, 7)
	f.Add(w.Pack())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got := NewWindow(fleet.Ref{}, SourceCloudWatch, MetricNoToken, w.Span)
		if err := got.Unpack(b); err != nil {
			if !errors.Is(err, ErrPacked) {
				t.Fatalf("unexpected error %v", err)
			}
			return
		}
		var sum int64
		for _, p := range got.Points {
			sum += p.Count
		}
		if sum != got.Total {
			t.Fatalf("total %d, points sum to %d", got.Total, sum)
		}
	})
}
