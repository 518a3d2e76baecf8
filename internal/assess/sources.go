package assess

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// SourceBasis is what one source says of a lineage, and for which time it speaks.
type SourceBasis struct {
	Source evidence.Source `json:"source"`
	// From and To bound the time that the source tells of.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Coverage is the share of that time in which it observed, 0 to 1; nil where the source does not tell.
	Coverage *float64 `json:"coverage,omitempty"`
	// Calls are the v1 calls, or calls to AWS with v1 credentials, inside the verdict's window, Past those before it; Last is the
	// latest of both.
	Calls int64     `json:"v1_calls"`
	Past  int64     `json:"v1_calls_before,omitempty"`
	Last  time.Time `json:"last_v1_call,omitzero"`
	// Findings counts what it found; 0 for a metric.
	Findings int `json:"findings,omitempty"`
	// Seen is when it observed last, AgeSeconds how long ago that was.
	Seen       time.Time `json:"seen,omitzero"`
	AgeSeconds int64     `json:"age_seconds"`
	// Origins are where its findings come from, at most five.
	Origins []string `json:"origins,omitempty"`
	// Sample: what it does not show means nothing.
	Sample bool `json:"sample,omitempty"`

	observed time.Time // Seen, or the end of the period that now lies in
}

// Bounds of what a verdict carries with it: findings of one product and sort, findings, and origins of a source.
const (
	shownOfOne   = 3
	shownAtAll   = 24
	shownOrigins = 5
)

// show puts the sources, the findings and the schedule of a verdict's lineage into it. Verdicts of one lineage share them.
func (j *judge) show(v *Verdict) {
	f := j.joint(v.Basis.Lineage)
	if !f.complete {
		f.complete = true
		members := j.members(v.Basis.Lineage)
		f.schedule = j.scheduled(members, f)
		f.sources = j.sources(v.Basis, members, f)
		f.shown = j.shown(f)
	}
	v.Sources, v.Findings, v.FindingsLeft, v.Schedule = f.sources, f.shown, len(f.all)-len(f.shown), f.schedule
}

// shown chooses findings: what blocks before the rest, and the newest of each product and sort.
func (j *judge) shown(f *joint) []evidence.Finding {
	blocking := map[int]bool{}
	for _, i := range slices.Concat(f.calls, f.refused) {
		blocking[i] = true
	}
	order := slices.Clone(f.all)
	slices.SortFunc(order, func(a, b int) int {
		if blocking[a] != blocking[b] {
			if blocking[a] {
				return -1
			}
			return 1
		}
		return cmp.Or(j.findings.list[b].Last.Compare(j.findings.list[a].Last), cmp.Compare(a, b))
	})
	type sort struct {
		what             evidence.What
		product, version string
	}
	of := map[sort]int{}
	var out []evidence.Finding
	for _, i := range order {
		x := j.findings.list[i]
		s := sort{x.What, x.Product, x.Version}
		if of[s]++; of[s] <= shownOfOne && len(out) < shownAtAll {
			out = append(out, x)
		}
	}
	return out
}

// sources lists the metric, its look back, and every source of findings, in this order.
func (j *judge) sources(b Basis, members []*inventory.Resource, f *joint) []SourceBasis {
	var out []SourceBasis
	if b.Members > 0 {
		coverage := b.Coverage()
		out = append(out, j.aged(SourceBasis{Source: b.Source, From: b.Start, To: b.End, Coverage: &coverage, Calls: b.Calls,
			Last: b.LastCall, Seen: b.seen}))
	}
	if s, ok := j.lookBack(b, members); ok {
		out = append(out, j.aged(s))
	}
	bySource := map[evidence.Source]*SourceBasis{}
	var order []evidence.Source
	for _, i := range f.all {
		x := &j.findings.list[i]
		s := bySource[x.Source]
		if s == nil {
			s = &SourceBasis{Source: x.Source, From: x.First, To: x.Last}
			bySource[x.Source] = s
			order = append(order, x.Source)
		}
		j.count(s, x)
	}
	slices.Sort(order)
	for _, source := range order {
		s := bySource[source]
		s.Seen = s.To
		j.spoken(s)
		slices.Sort(s.Origins)
		out = append(out, j.aged(*s))
	}
	return out
}

// count adds a finding to its source.
func (j *judge) count(s *SourceBasis, x *evidence.Finding) {
	s.Findings++
	if x.First.Before(s.From) {
		s.From = x.First
	}
	if x.Last.After(s.To) {
		s.To = x.Last
	}
	s.Sample = s.Sample || x.Sample
	if x.Origin != "" && !slices.Contains(s.Origins, x.Origin) && len(s.Origins) < shownOrigins {
		s.Origins = append(s.Origins, x.Origin)
	}
	if !x.What.Calls() {
		return
	}
	if j.past(x) {
		s.Past += x.Count
	} else {
		s.Calls += x.Count
	}
	if x.Last.After(s.Last) {
		s.Last = x.Last
	}
}

// spoken widens the time of a source of findings to that of the imports from the same places: they speak for quiet days as well.
func (j *judge) spoken(s *SourceBasis) {
	for i := range j.in.Imports {
		in := &j.in.Imports[i]
		if in.Source != s.Source || !slices.Contains(s.Origins, in.Origin) {
			continue
		}
		if !in.From.IsZero() && in.From.Before(s.From) {
			s.From = in.From
		}
		if in.To.After(s.To) {
			s.To, s.Seen = in.To, in.To
		}
	}
}

// lookBack is what the daily counts say; false where there are none.
func (j *judge) lookBack(b Basis, members []*inventory.Resource) (SourceBasis, bool) {
	s := SourceBasis{Source: b.Source.History()}
	var covered evidence.Bitmap
	slots := 0
	for _, m := range members {
		for _, w := range j.in.History[m.Ref] {
			if w.Metric != evidence.MetricNoToken {
				continue
			}
			if covered == nil {
				covered, slots = evidence.NewBitmap(w.Span.Slots), w.Span.Slots
				s.From, s.To = w.Span.Start, w.Span.End()
			}
			for _, p := range w.Points {
				if at := w.Span.Start.Add(time.Duration(p.Slot) * w.Span.Period); at.Before(b.Start) {
					s.Past += p.Count
				}
			}
			if last := w.LastNonZero(); last.After(s.Last) {
				s.Last = last
			}
			if w.Span.Start.Equal(s.From) && w.Span.Slots == slots {
				covered.Union(w.Covered)
			}
		}
	}
	if covered == nil {
		return s, false
	}
	share := float64(covered.Count()) / float64(slots)
	s.Coverage = &share
	for slot := slots - 1; slot >= 0; slot-- {
		if covered.Has(slot) {
			s.Seen = s.From.Add(time.Duration(slot+1) * (s.To.Sub(s.From) / time.Duration(slots)))
			break
		}
	}
	return s, true
}

// aged says how long ago the source observed last. A period that is not over yet ends now.
func (j *judge) aged(s SourceBasis) SourceBasis {
	s.observed = s.Seen
	if s.Seen.After(j.in.Now) {
		s.Seen = j.in.Now
	}
	if !s.Seen.IsZero() {
		s.AgeSeconds = int64(j.in.Now.Sub(s.Seen) / time.Second)
	}
	return s
}

// String says what the source says, with its window, its coverage and when it observed last.
func (s SourceBasis) String() string {
	parts := []string{s.Window()}
	if s.Coverage != nil {
		parts = append(parts, fmt.Sprintf("%.1f %% covered", 100**s.Coverage))
	}
	parts = append(parts, s.Saw())
	// Not the time of asking: the same evidence is told in the same words.
	if !s.observed.IsZero() && s.observed.Before(s.To) {
		parts = append(parts, "last observed "+stamp(s.observed))
	}
	return s.Source.Title() + " " + strings.Join(parts, ", ")
}

// Window is the time that the source tells of, in words.
func (s SourceBasis) Window() string {
	from, to := s.From.UTC().Format(time.DateOnly), s.To.UTC().Format(time.DateOnly)
	if from == to {
		return "of " + to
	}
	return "from " + from + " to " + to
}

// Saw is what the source counted, in words.
func (s SourceBasis) Saw() string {
	var parts []string
	if s.Findings > 0 {
		parts = append(parts, plural(s.Findings, "finding"))
	}
	history := s.Source != s.Source.Present()
	if s.Calls > 0 || s.Findings == 0 && !history {
		parts = append(parts, count(s.Calls)+" v1 calls in the window")
	}
	if s.Past > 0 || history {
		parts = append(parts, count(s.Past)+" v1 calls before it")
	}
	if s.Sample {
		parts = append(parts, "a sample")
	}
	return strings.Join(parts, ", ")
}
