package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/store"
)

func runFindings(t *testing.T, open Open) {
	t.Run("what is put is read", func(t *testing.T) { findingsRoundTrip(t, open(t, store.Options{})) })
	t.Run("equal findings add up", func(t *testing.T) { findingsAddUp(t, open(t, store.Options{})) })
	t.Run("the same file twice", func(t *testing.T) { knownFiles(t, open(t, store.Options{})) })
	t.Run("software is replaced", func(t *testing.T) { replacedImports(t, open(t, store.Options{})) })
	t.Run("a forgotten import", func(t *testing.T) { droppedImport(t, open(t, store.Options{})) })
	t.Run("an import that breaks off", func(t *testing.T) { brokenImport(t, open(t, store.Options{})) })
	t.Run("many findings", func(t *testing.T) { manyFindings(t, open(t, store.Options{})) })
	t.Run("imports equal a naive model", func(t *testing.T) { findingsProperty(t, open(t, store.Options{})) })
	t.Run("history", func(t *testing.T) { lookBack(t, open(t, store.Options{})) })
}

func of(id string) evidence.Subject {
	return evidence.Subject{Account: placeOf(1, "").Account, Region: "eu-west-1", Kind: inventory.KindInstance, ID: id}
}

// call is a finding of calls on a day.
func call(subject evidence.Subject, day int, count int64) evidence.Finding {
	first := at(24 * day).Truncate(time.Millisecond)
	return evidence.Finding{Subject: subject, What: evidence.WhatV1Credentials, Product: "botocore", Version: "1.9.2",
		Detail: "Boto3/1.6.2 Botocore/1.9.2", Count: count, First: first, Last: first.Add(time.Hour)}
}

func installed(subject evidence.Subject, version string) evidence.Finding {
	return evidence.Finding{Subject: subject, What: evidence.WhatSoftware, Product: "botocore", Version: version, Detail: "/usr/lib"}
}

func seqOf(findings ...evidence.Finding) iter.Seq2[evidence.Finding, error] {
	return func(yield func(evidence.Finding, error) bool) {
		for _, f := range findings {
			if !yield(f, nil) {
				return
			}
		}
	}
}

func takeIn(t testing.TB, s *store.Store, in evidence.Import, files []string, findings ...evidence.Finding) evidence.Import {
	t.Helper()
	if in.At.IsZero() {
		in.At = at(0)
	}
	out, err := s.PutFindings(t.Context(), in, files, seqOf(findings...))
	check(t, err)
	return out
}

func found(t testing.TB, s *store.Store, account fleet.AccountID) []evidence.Finding {
	t.Helper()
	out, err := s.Findings(t.Context(), account)
	check(t, err)
	return out
}

func hasFile(t testing.TB, s *store.Store, source evidence.Source, digest string) bool {
	t.Helper()
	known, err := s.HasFile(t.Context(), source, digest)
	check(t, err)
	return known
}

func findingsRoundTrip(t *testing.T, s *store.Store) {
	account := placeOf(1, "").Account
	any := evidence.Subject{Kind: evidence.SubjectTag, ID: "app=<billing & co>"}
	other := evidence.Subject{Account: placeOf(2, "").Account, Kind: evidence.SubjectRole, ID: "web"}
	in := evidence.Import{At: at(1), Made: at(0), Source: evidence.SourceCloudTrail, Origin: "s3://logs", By: "ann", From: at(-48), To: at(0),
		Files: 3, Known: 1, Records: 9, Skipped: 2, Notes: []string{"one line was no JSON"}}
	tagged := call(any, 0, 5)
	tagged.HopLimit, tagged.Origin = 2, "s3://logs/tags"
	put := takeIn(t, s, in, []string{"d1", "d2"}, call(of("i-1"), 0, 7), tagged, call(other, 0, 9))
	if put.ID == 0 || put.Findings != 3 {
		t.Errorf("import: %+v", put)
	}
	stored := func(f evidence.Finding) evidence.Finding {
		f.Source, f.Origin = evidence.SourceCloudTrail, cmp.Or(f.Origin, "s3://logs")
		return f
	}
	same(t, "of the account", found(t, s, account), []evidence.Finding{stored(call(of("i-1"), 0, 7)), stored(tagged)})
	same(t, "of the other", found(t, s, other.Account), []evidence.Finding{stored(call(other, 0, 9)), stored(tagged)})
	same(t, "of any", found(t, s, ""), []evidence.Finding{stored(tagged)})
	imports, err := s.Imports(t.Context())
	check(t, err)
	in.ID, in.Findings = put.ID, 3
	same(t, "imports", imports, []evidence.Import{in})

	lost := takeIn(t, s, evidence.Import{Source: evidence.SourceTrace, Origin: "host", Made: at(3), Lost: "a full buffer"}, nil, call(of("i-1"), 0, 1))
	sample := slices.ContainsFunc(found(t, s, account), func(f evidence.Finding) bool { return f.Sample && f.Source == evidence.SourceTrace })
	if !sample || lost.ID <= put.ID {
		t.Errorf("what a source that lost events says is not marked so")
	}
}

func findingsAddUp(t *testing.T, s *store.Store) {
	in := evidence.Import{Source: evidence.SourceCloudTrail, Origin: "logs"}
	later := call(of("i-1"), 0, 3)
	later.First, later.Last = later.First.Add(2*time.Hour), later.Last.Add(2*time.Hour)
	takeIn(t, s, in, []string{"a"}, call(of("i-1"), 0, 4), later, call(of("i-1"), 1, 1))
	takeIn(t, s, in, []string{"b"}, call(of("i-1"), 0, 5))
	got := found(t, s, of("").Account)
	if len(got) != 2 || got[0].Count != 12 || got[1].Count != 1 {
		t.Fatalf("two days, 12 calls and 1: %+v", got)
	}
	if !got[0].First.Equal(call(of(""), 0, 1).First) || !got[0].Last.Equal(later.Last) {
		t.Errorf("from %s to %s", got[0].First, got[0].Last)
	}
}

func knownFiles(t *testing.T, s *store.Store) {
	in := evidence.Import{Source: evidence.SourceCloudTrail, Origin: "logs", At: at(0)}
	takeIn(t, s, in, []string{"a", "b", "a"}, call(of("i-1"), 0, 4))
	if !hasFile(t, s, in.Source, "a") || hasFile(t, s, in.Source, "c") || hasFile(t, s, evidence.SourceTrace, "a") {
		t.Error("files are not known by source and digest")
	}
	_, err := s.PutFindings(t.Context(), in, []string{"c", "b"}, seqOf(call(of("i-1"), 0, 4)))
	if !errors.Is(err, store.ErrKnownFile) {
		t.Errorf("the same file again: %v", err)
	}
	if got := found(t, s, of("").Account); len(got) != 1 || got[0].Count != 4 || hasFile(t, s, in.Source, "c") {
		t.Errorf("a refused import left something: %+v", got)
	}
	software := evidence.Import{Source: evidence.SourceSoftware, Origin: "image.tar", Made: at(0)}
	takeIn(t, s, software, []string{"a"}, installed(of("i-1"), "1.9.2"))
	takeIn(t, s, software, []string{"a"}, installed(of("i-1"), "1.9.2"))
	if got := found(t, s, of("").Account); len(got) != 2 {
		t.Errorf("software taken in twice stands once: %+v", got)
	}
}

func replacedImports(t *testing.T, s *store.Store) {
	in := evidence.Import{Source: evidence.SourceSoftware, Origin: "billing.tar", Made: at(0)}
	elsewhere := in
	elsewhere.Origin = "other.tar"
	first := takeIn(t, s, in, []string{"one"}, installed(of("i-1"), "1.9.2"), installed(of("i-1"), "1.9.3"), installed(of("i-2"), "1.0.0"))
	takeIn(t, s, elsewhere, []string{"two"}, installed(of("i-1"), "1.1.1"))
	versions := func() (out []string) {
		for _, f := range found(t, s, of("").Account) {
			out = append(out, f.Subject.ID+" "+f.Version)
		}
		return out
	}
	in.Made = at(5)
	second := takeIn(t, s, in, []string{"three"}, installed(of("i-1"), "1.40.0"))
	same(t, "one subject replaced", versions(), []string{"i-1 1.1.1", "i-1 1.40.0", "i-2 1.0.0"})
	in.Subject = of("i-2")
	third := takeIn(t, s, in, []string{"four"})
	same(t, "nothing is there any more", versions(), []string{"i-1 1.1.1", "i-1 1.40.0"})
	imports, err := s.Imports(t.Context())
	check(t, err)
	if len(imports) != 4 || imports[0].ReplacedBy != third.ID || imports[1].ReplacedBy+imports[2].ReplacedBy+imports[3].ReplacedBy != 0 {
		t.Errorf("the first import has nothing left since the third: %+v", imports)
	}
	if hasFile(t, s, in.Source, "one") || !hasFile(t, s, in.Source, "three") {
		t.Error("a file that no longer holds may be taken in again, and only that")
	}
	in.Subject = evidence.Subject{}
	takeIn(t, s, in, []string{"one"}, installed(of("i-1"), "1.9.2"))
	same(t, "the old one again", versions(), []string{"i-1 1.1.1", "i-1 1.9.2"})
	check(t, s.DropImport(t.Context(), second.ID))
	if first.ID == second.ID {
		t.Error("ids are used again")
	}
	passed := evidence.Finding{Subject: of("i-3"), What: evidence.WhatRefused, First: at(-3), HopLimit: 2}
	certify := evidence.Import{Source: evidence.SourceCertify, Origin: "ci", Made: at(0)}
	takeIn(t, s, certify, nil, passed)
	passed.What, passed.First = evidence.WhatCertified, at(-1)
	takeIn(t, s, certify, nil, passed)
	got := slices.DeleteFunc(found(t, s, of("").Account), func(f evidence.Finding) bool { return f.Source != evidence.SourceCertify })
	if len(got) != 1 || got[0].What != evidence.WhatCertified || got[0].HopLimit != 2 {
		t.Errorf("the later certification holds: %+v", got)
	}
}

func droppedImport(t *testing.T, s *store.Store) {
	in := evidence.Import{Source: evidence.SourceTrace, Origin: "host", Made: at(0)}
	first := takeIn(t, s, in, []string{"a"}, call(of("i-1"), 0, 4))
	second := takeIn(t, s, in, []string{"b"}, call(of("i-1"), 0, 5))
	check(t, s.DropImport(t.Context(), first.ID))
	if got := found(t, s, of("").Account); len(got) != 1 || got[0].Count != 5 {
		t.Errorf("what the other import found stays: %+v", got)
	}
	if hasFile(t, s, in.Source, "a") {
		t.Error("a forgotten file may be taken in again")
	}
	if err := s.DropImport(t.Context(), first.ID); !errors.Is(err, store.ErrNoImport) {
		t.Errorf("forgotten twice: %v", err)
	}
	check(t, s.DropImport(t.Context(), second.ID))
	imports, err := s.Imports(t.Context())
	check(t, err)
	if len(imports) != 0 || len(found(t, s, of("").Account)) != 0 {
		t.Errorf("all is forgotten: %+v", imports)
	}
}

func brokenImport(t *testing.T, s *store.Store) {
	in := evidence.Import{Source: evidence.SourceTrace, Origin: "host", At: at(0)}
	broken := errors.New("the disk is gone")
	wrong := call(of("i-1"), 0, 4)
	wrong.Source = evidence.SourceCloudTrail
	unnamed := call(evidence.Subject{}, 0, 4)
	for name, bad := range map[string]iter.Seq2[evidence.Finding, error]{
		"an error": func(yield func(evidence.Finding, error) bool) {
			if yield(call(of("i-1"), 0, 4), nil) {
				yield(evidence.Finding{}, broken)
			}
		},
		"another source": seqOf(call(of("i-1"), 0, 4), wrong),
		"no subject":     seqOf(call(of("i-1"), 0, 4), unnamed),
	} {
		_, err := s.PutFindings(t.Context(), in, []string{"a"}, bad)
		if err == nil || name == "an error" && !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
		imports, listed := s.Imports(t.Context())
		check(t, listed)
		if len(imports) != 0 || len(found(t, s, of("").Account)) != 0 || hasFile(t, s, in.Source, "a") {
			t.Errorf("%s: something of it stayed: %+v", name, imports)
		}
	}
}

// manyFindings takes in as many as a large account has in a day, and measures what is alive meanwhile.
func manyFindings(t *testing.T, s *store.Store) {
	const many = 200_000
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	source := func(yield func(evidence.Finding, error) bool) {
		for i := range many {
			f := call(of(fmt.Sprintf("i-%08d", i/4)), i%4, int64(i%7)+1)
			f.Detail = fmt.Sprintf("Boto3/1.6.2 Botocore/1.9.%d Python/2.7 Linux/4.14 of a program with a name of its own %d", i%50, i%1000)
			if !yield(f, nil) {
				return
			}
			if i == many-1 {
				runtime.GC()
				runtime.ReadMemStats(&during)
			}
		}
	}
	in, err := s.PutFindings(t.Context(), evidence.Import{Source: evidence.SourceCloudTrail, Origin: "logs", At: at(0)}, nil, source)
	check(t, err)
	if in.Findings != many {
		t.Errorf("%d of %d findings were kept", in.Findings, many)
	}
	// All of them are more than 50 MB in memory.
	if grown := int64(during.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("%d MiB are held while findings come", grown>>20)
	}
	if got := found(t, s, of("").Account); len(got) != many {
		t.Errorf("%d of %d findings are read", len(got), many)
	}
	size, err := s.Size(t.Context())
	check(t, err)
	t.Logf("%d findings take %d bytes each", many, size/many)
	if size/many > 400 {
		t.Errorf("a finding takes %d bytes", size/many)
	}
}

// findingsProperty plays imports and droppings, and compares with a list that is filtered.
func findingsProperty(t *testing.T, s *store.Store) {
	type kept struct {
		id int64
		f  evidence.Finding
	}
	var model []kept
	account := of("").Account
	rapid.Check(t, func(t *rapid.T) {
		if len(model) > 0 && rapid.IntRange(0, 4).Draw(t, "drop") == 0 {
			id := model[rapid.IntRange(0, len(model)-1).Draw(t, "which")].id
			if err := s.DropImport(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			model = slices.DeleteFunc(model, func(k kept) bool { return k.id == id })
		}
		in := evidence.Import{At: at(0), Source: rapid.SampledFrom([]evidence.Source{evidence.SourceTrace, evidence.SourceSoftware}).Draw(t, "source"),
			Origin: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "origin")}
		var findings []evidence.Finding
		for range rapid.IntRange(0, 8).Draw(t, "findings") {
			subject := of(rapid.SampledFrom([]string{"i-1", "i-2", "i-3"}).Draw(t, "subject"))
			f := call(subject, rapid.IntRange(0, 2).Draw(t, "day"), int64(rapid.IntRange(1, 9).Draw(t, "calls")))
			f.Version = rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "version")
			findings = append(findings, f)
		}
		out, err := s.PutFindings(t.Context(), in, nil, seqOf(findings...))
		if err != nil {
			t.Fatal(err)
		}
		for i := range findings {
			findings[i].Source, findings[i].Origin = in.Source, in.Origin
		}
		model = slices.DeleteFunc(model, func(k kept) bool {
			return in.Source.Replaces() && k.f.Source == in.Source && k.f.Origin == in.Origin &&
				slices.ContainsFunc(findings, func(f evidence.Finding) bool { return f.Subject == k.f.Subject })
		})
		for _, f := range findings {
			model = append(model, kept{out.ID, f})
		}
		var want []evidence.Finding
		for _, k := range model {
			want = addUp(want, k.f)
		}
		slices.SortFunc(want, evidence.CompareFindings)
		got, err := s.Findings(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got, want, func(a, b evidence.Finding) bool { return evidence.CompareFindings(a, b) == 0 }) {
			t.Fatalf("after import %d:\n got %+v\nwant %+v", out.ID, got, want)
		}
	})
}

// addUp adds a finding to those of the same day that are equal.
func addUp(to []evidence.Finding, f evidence.Finding) []evidence.Finding {
	for i, have := range to {
		have.Count = f.Count
		if evidence.CompareFindings(have, f) == 0 {
			to[i].Count += f.Count
			return to
		}
	}
	return append(to, f)
}

// lookBack: the long look back is kept beside the windows, and outlives a scan that did not ask for it.
func lookBack(t *testing.T, s *store.Store) {
	place := placeOf(1, "eu-west-1")
	ref := fleet.Ref{Place: place, Kind: inventory.KindInstance, ID: "i-1"}
	window := func(length, period time.Duration, calls int64) *evidence.Window {
		w := evidence.NewWindow(ref, evidence.SourceCloudWatch, evidence.MetricNoToken, evidence.NewSpan(at(0), length, period))
		check(t, w.Add(at(-30), calls))
		return w
	}
	const day = 24 * time.Hour
	read := func() (int64, int64) {
		windows, err := s.EvidenceOf(t.Context(), place)
		check(t, err)
		history, err := s.HistoryOf(t.Context(), place)
		check(t, err)
		var sums [2]int64
		for i, of := range []map[fleet.Ref][]*evidence.Window{windows, history} {
			for _, w := range of[ref] {
				sums[i] += w.Total
				if w.Source != evidence.SourceCloudWatch || i == 1 && w.Span.Period != day {
					t.Errorf("the window of %s over %s in periods of %s", w.Source, w.Span.End().Sub(w.Span.Start), w.Span.Period)
				}
			}
		}
		return sums[0], sums[1]
	}
	source := evidence.SourceCloudWatch
	first := begin(t, s, 0)
	check(t, s.PutEvidence(t.Context(), first, []*evidence.Window{window(14*day, time.Hour, 1)}))
	check(t, s.PutHistory(t.Context(), first, []*evidence.Window{window(455*day, day, 70)}))
	closeScope(t, s, first, place, string(source), inventory.ScopeComplete, 0)
	closeScope(t, s, first, place, string(source.History()), inventory.ScopeComplete, 0)
	if w, h := read(); w != 1 || h != 70 {
		t.Errorf("window %d, history %d", w, h)
	}
	second := begin(t, s, 1)
	check(t, s.PutEvidence(t.Context(), second, []*evidence.Window{window(14*day, time.Hour, 2)}))
	closeScope(t, s, second, place, string(source), inventory.ScopeComplete, 1)
	if w, h := read(); w != 2 || h != 70 {
		t.Errorf("a scan that did not look back: window %d, history %d", w, h)
	}
	third := begin(t, s, 2)
	check(t, s.PutHistory(t.Context(), third, []*evidence.Window{window(92*day, day, 80)}))
	closeScope(t, s, third, place, string(source.History()), inventory.ScopeComplete, 2)
	if w, h := read(); w != 2 || h != 80 {
		t.Errorf("a scan that looked back anew: window %d, history %d", w, h)
	}
}
