package assess_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// family is a lineage as it was made, so that a test knows without asking the judge who belongs together.
type family struct {
	head   fleet.Ref   // whose history speaks for all
	hosts  []fleet.Ref // past ones included
	others []fleet.Ref // launchers and sources that a call blocks too
	names  []evidence.Subject
}

// drawWorld makes lineages of all sorts, with windows, histories and findings that agree with nothing.
func drawWorld(t *rapid.T) (*world, []family) {
	w := newWorld()
	var out []family
	for n := range rapid.IntRange(1, 3).Draw(t, "lineages") {
		out = append(out, drawFamily(t, w, n))
	}
	for _, f := range out {
		for range rapid.IntRange(0, 2).Draw(t, "findings") {
			w.findings = append(w.findings, drawFinding(t, f))
		}
	}
	return w, out
}

func drawFamily(t *rapid.T, w *world, n int) family {
	id := func(what string) string { return fmt.Sprintf("%s-%d", what, n) }
	f := family{names: []evidence.Subject{{Kind: inventory.KindImage, ID: id("ami")}, {Kind: evidence.SubjectTag, ID: "app=" + id("app")},
		{Kind: evidence.SubjectRole, ID: id("role")}}}
	sort := rapid.SampledFrom([]string{"group", "template", "alone", "fleet", "notebook"}).Draw(t, "sort")
	change := []func(*inventory.Resource){func(r *inventory.Resource) {
		r.Tags = map[string]string{"app": id("app")}
		r.Attrs = map[string]string{inventory.AttrImage: id("ami"), inventory.AttrProfile: "arn:aws:iam::1:instance-profile/" + id("role")}
	}}
	members := rapid.IntRange(1, 3).Draw(t, "members")
	switch sort {
	case "group":
		w.template(id("lt"), map[string]fleet.Options{"1": {Tokens: "optional"}}, "1", "1")
		f.head = w.group(id("asg"), id("lt"), "1")
		change = append(change, memberOf(id("asg")), launchedFrom(id("lt")))
		f.others = []fleet.Ref{f.head, ref(inventory.KindLaunchTemplate, id("lt"))}
	case "template":
		f.head = w.template(id("lt"), map[string]fleet.Options{"1": {Tokens: "optional"}}, "1", "1")
		change = append(change, launchedFrom(id("lt")))
		f.others = []fleet.Ref{f.head}
	case "fleet":
		f.head = ref(inventory.KindFleet, id("fleet"))
		w.template(id("lt"), map[string]fleet.Options{"1": {Tokens: "optional"}}, "1", "1")
		w.resources = append(w.resources, inventory.Resource{Ref: f.head, State: fleet.State{}, Links: []inventory.Link{
			{Relation: inventory.LaunchesFrom, To: ref(inventory.KindLaunchTemplate, id("lt")), Selector: "1"}}})
		change = append(change, inFleet(id("fleet")), launchedFrom(id("lt")))
		f.others = []fleet.Ref{f.head, ref(inventory.KindLaunchTemplate, id("lt"))}
	default:
		members = 1
	}
	for m := range members {
		with := change
		if m > 0 && rapid.Bool().Draw(t, "terminated") {
			with = append(with[:len(with):len(with)], status(inventory.StatusTerminated))
		}
		host := w.instance(id(fmt.Sprintf("i-%d", m)), rapid.SampledFrom([]float64{1, 5, 13, 40, 300}).Draw(t, "launched"), with...)
		if sort == "notebook" {
			host.Kind = inventory.KindNotebook
			w.resources[len(w.resources)-1].Ref = host
		}
		f.hosts = append(f.hosts, host)
		f.names = append(f.names, evidence.Subject{Kind: host.Kind, ID: host.ID})
	}
	if f.head == (fleet.Ref{}) {
		f.head = f.hosts[0]
	}
	f.names = append(f.names, evidence.Subject{Kind: f.head.Kind, ID: f.head.ID})
	for _, o := range f.others {
		f.names = append(f.names, evidence.Subject{Kind: o.Kind, ID: o.ID})
	}
	drawWindows(t, w, f)
	return f
}

// drawWindows leaves half of the lineages covered and quiet, so that what else there is of evidence decides.
func drawWindows(t *rapid.T, w *world, f family) {
	if rapid.Bool().Draw(t, "quiet") {
		for _, h := range f.hosts {
			if h.Kind != inventory.KindNotebook {
				w.covers(h, 14, 0, 0)
			}
		}
		return
	}
	for _, h := range f.hosts {
		if h.Kind == inventory.KindNotebook {
			continue
		}
		calls := rapid.SampledFrom([]int64{0, 0, 0, 0, 3}).Draw(t, "calls")
		from, to := rapid.SampledFrom([]float64{14, 14, 14, 9, 2}).Draw(t, "from"), rapid.SampledFrom([]float64{0, 0, 0, 1, 5}).Draw(t, "to")
		if from > to && rapid.IntRange(0, 9).Draw(t, "observed") > 0 {
			w.covers(h, from, to, calls)
		}
		if rapid.Bool().Draw(t, "history") {
			var days []float64
			last := rapid.Float64Range(15, 60).Draw(t, "last")
			for range rapid.IntRange(0, 4).Draw(t, "runs") {
				days = append(days, last)
				last += rapid.SampledFrom([]float64{7, 14, 30, 31, 30.5, 91, 11}).Draw(t, "gap")
			}
			w.looksBack(h, rapid.IntRange(0, 400).Draw(t, "days"), days...)
		}
	}
}

func drawFinding(t *rapid.T, f family) evidence.Finding {
	what := rapid.SampledFrom([]evidence.What{evidence.WhatV1Call, evidence.WhatV1Credentials, evidence.WhatV2Credentials, evidence.WhatSoftware,
		evidence.WhatRawCall, evidence.WhatCertified, evidence.WhatCertified, evidence.WhatRefused}).Draw(t, "what")
	at := ago(rapid.SampledFrom([]float64{0.5, 3, 12, 13.9, 14.1, 15, 40, 200}).Draw(t, "days ago"))
	return evidence.Finding{Subject: rapid.SampledFrom(f.names).Draw(t, "subject"), Source: evidence.SourceTrace, What: what, Count: 2,
		First: at, Last: at, HopLimit: rapid.IntRange(0, 2).Draw(t, "hops"), Product: "botocore", Version: "1.0.0",
		Sample: rapid.Bool().Draw(t, "sample")}
}

// copied is a world that can be added to without changing the other.
func (w *world) copied() *world {
	c := *w
	c.findings = append([]evidence.Finding(nil), w.findings...)
	c.imports = append([]evidence.Import(nil), w.imports...)
	c.evidence, c.history = copyWindows(w.evidence), copyWindows(w.history)
	return &c
}

func copyWindows(of map[fleet.Ref][]*evidence.Window) map[fleet.Ref][]*evidence.Window {
	out := map[fleet.Ref][]*evidence.Window{}
	for ref, windows := range of {
		for _, w := range windows {
			c := *w
			c.Covered = append(evidence.Bitmap(nil), w.Covered...)
			c.Points = append([]evidence.Point(nil), w.Points...)
			out[ref] = append(out[ref], &c)
		}
	}
	return out
}

// learn adds some evidence of any sort to a world.
func (w *world) learn(t *rapid.T, f family) {
	host := rapid.SampledFrom(f.hosts).Draw(t, "host")
	count := rapid.SampledFrom([]int64{0, 0, 4}).Draw(t, "count")
	switch rapid.SampledFrom([]string{"finding", "datapoint", "window", "import", "history"}).Draw(t, "evidence") {
	case "finding":
		w.findings = append(w.findings, drawFinding(t, f))
	case "datapoint":
		for _, win := range w.evidence[host] {
			slot := rapid.IntRange(0, span.Slots-1).Draw(t, "slot")
			if err := win.Add(span.Start.Add(time.Duration(slot)*time.Hour), count); err != nil {
				t.Fatal(err)
			}
		}
	case "window":
		w.covers(host, 14, 0, count)
	case "import":
		w.imports = append(w.imports, evidence.Import{Source: evidence.SourceTrace, From: ago(20), To: now})
	case "history":
		w.looksBack(host, 300, rapid.Float64Range(15, 200).Draw(t, "day"))
	}
}

// TestMoreEvidenceNeverTurnsBlockedIntoReady holds for all that is judged by evidence. A source that waits for somebody who is
// merely unknown is not: it is blocked by what is not known, and learning that is what it waits for.
func TestMoreEvidenceNeverTurnsBlockedIntoReady(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, families := drawWorld(t)
		before := w.judge(t)
		after := w.copied()
		for range rapid.IntRange(1, 4).Draw(t, "more") {
			after.learn(t, rapid.SampledFrom(families).Draw(t, "lineage"))
		}
		then := after.judge(t)
		for _, v := range before.All() {
			waits := v.Has(assess.CodeConsumers) && !strings.Contains(v.Why(), "is blocked")
			if got := then.Verdict(v.Ref); v.Status == assess.Blocked && got.Status == assess.Ready && !waits {
				t.Fatalf("%s was blocked (%s) and is ready (%s)", v.Ref, v.Why(), got.Why())
			}
		}
	})
}

// TestReadyRestsOnCoverageAndABoot recomputes what a ready verdict must rest on from the world itself.
func TestReadyRestsOnCoverageAndABoot(t *testing.T) {
	ready := 0
	rapid.Check(t, func(t *rapid.T) {
		w, families := drawWorld(t)
		report := w.judge(t)
		for _, f := range families {
			slots, boots, calls := map[int]bool{}, 0, int64(0)
			for _, h := range f.hosts {
				booted := false
				for _, win := range w.evidence[h] {
					for slot := range span.Slots {
						if win.Covered.Has(slot) {
							slots[slot] = true
							booted = booted || !launched(w, h).Before(span.Start) && slot >= span.Slot(launched(w, h))
						}
					}
					calls += win.Total
				}
				if booted {
					boots++
				}
			}
			certified := false
			for _, x := range w.findings {
				mine := false
				for _, name := range f.names {
					mine = mine || name == x.Subject
				}
				if mine && !x.Last.Before(span.Start) {
					if x.What.Calls() || x.What == evidence.WhatRefused {
						calls++
					}
					certified = certified || x.What == evidence.WhatCertified && !x.Sample
				}
			}
			for _, r := range append(f.hosts[:len(f.hosts):len(f.hosts)], f.head) {
				v := report.Verdict(r)
				if v == nil || v.Status != assess.Ready {
					continue
				}
				ready++
				switch {
				case float64(len(slots)) < 0.95*float64(span.Slots):
					t.Fatalf("%s is ready on %d of %d periods: %s", r, len(slots), span.Slots, v.Why())
				case boots == 0 && !certified:
					t.Fatalf("%s is ready without a boot or a certification: %s", r, v.Why())
				case calls > 0:
					t.Fatalf("%s is ready although v1 was called: %s", r, v.Why())
				case v.Schedule != nil && v.Schedule.Held:
					t.Fatalf("%s is ready before its schedule was seen through: %s", r, v.Why())
				}
			}
		}
	})
	if ready == 0 {
		t.Error("nothing was ever ready: the test shows nothing")
	}
}

func launched(w *world, ref fleet.Ref) time.Time {
	for i := range w.resources {
		if w.resources[i].Ref == ref {
			return w.resources[i].Launched
		}
	}
	return time.Time{}
}

// TestACallAnywhereBlocksTheLineage: of each source, at each member, past ones too.
func TestACallAnywhereBlocksTheLineage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, families := drawWorld(t)
		f := rapid.SampledFrom(families).Draw(t, "lineage")
		how := rapid.SampledFrom([]string{"finding", "finding", "metric", "rejected"}).Draw(t, "how")
		host := rapid.SampledFrom(f.hosts).Draw(t, "host")
		if host.Kind == inventory.KindNotebook {
			how = "finding"
		}
		at := ago(rapid.Float64Range(0, 13.9).Draw(t, "days ago"))
		switch how {
		case "finding":
			x := evidence.Finding{Subject: rapid.SampledFrom(f.names).Draw(t, "subject"), Count: 1, First: at, Last: at}
			x.Source = rapid.SampledFrom([]evidence.Source{evidence.SourceCloudTrail, evidence.SourceLookup, evidence.SourceTrace,
				evidence.SourceCertify}).Draw(t, "source")
			x.What = rapid.SampledFrom([]evidence.What{evidence.WhatV1Call, evidence.WhatV1Credentials}).Draw(t, "what")
			x.Sample = rapid.Bool().Draw(t, "sample")
			w.findings = append(w.findings, x)
		default:
			metric := evidence.MetricNoToken
			if how == "rejected" {
				metric = evidence.MetricRejected
			}
			win := evidence.NewWindow(host, evidence.SourceCloudWatch, metric, span)
			if err := win.Add(at, 1); err != nil {
				t.Fatal(err)
			}
			w.evidence[host] = append(w.evidence[host], win)
		}
		report := w.judge(t)
		for _, r := range append(f.hosts[:len(f.hosts):len(f.hosts)], f.others...) {
			if v := report.Verdict(r); v != nil && v.Status != assess.Blocked {
				t.Fatalf("%s is %s: %s", r, v.Status, v.Why())
			}
		}
	})
}

// TestTheOrderOfFindingsDoesNotMatter.
func TestTheOrderOfFindingsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, families := drawWorld(t)
		for range rapid.IntRange(0, 30).Draw(t, "further") {
			w.findings = append(w.findings, drawFinding(t, rapid.SampledFrom(families).Draw(t, "lineage")))
		}
		verdicts := func(w *world) string {
			b, err := json.Marshal(w.judge(t).All())
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		want := verdicts(w)
		shuffled := w.copied()
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		random.Shuffle(len(shuffled.findings), func(i, j int) {
			shuffled.findings[i], shuffled.findings[j] = shuffled.findings[j], shuffled.findings[i]
		})
		if got := verdicts(shuffled); got != want {
			t.Fatalf("got %s\nwant %s", got, want)
		}
	})
}

// TestWhatCoversIsJoined: the judge finds what Subject.Covers finds, by other means.
func TestWhatCoversIsJoined(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, families := drawWorld(t)
		w.findings, w.evidence, w.history = nil, map[fleet.Ref][]*evidence.Window{}, nil
		f := rapid.SampledFrom(families).Draw(t, "lineage")
		s := rapid.SampledFrom(append(f.names, evidence.Subject{Kind: evidence.SubjectFleet, ID: "*"},
			evidence.Subject{Account: place.Account, Kind: evidence.SubjectAccount, ID: string(place.Account)})).Draw(t, "subject")
		w.findings = []evidence.Finding{{Subject: s, Source: evidence.SourceTrace, What: evidence.WhatV1Call, Count: 1, First: ago(1), Last: ago(1)}}
		report := w.judge(t)
		roles := func(r *inventory.Resource) []string {
			return []string{strings.TrimPrefix(r.Attrs[inventory.AttrProfile], "arn:aws:iam::1:instance-profile/")}
		}
		for i := range w.resources {
			r := &w.resources[i]
			if v := report.Verdict(r.Ref); v != nil && s.Covers(r, roles) && v.Status != assess.Blocked {
				t.Fatalf("%s is about %s, which is %s: %s", s, r.Ref, v.Status, v.Why())
			}
		}
	})
}

// TestNothingGoodClearsABlock: one thing blocks a lineage that is covered, booted and quiet, and whatever good is found beside it, it
// stays blocked.
func TestNothingGoodClearsABlock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		f := drawFamily(t, w, 0)
		w.evidence, w.history = map[fleet.Ref][]*evidence.Window{}, nil
		for _, h := range f.hosts {
			if h.Kind != inventory.KindNotebook {
				w.covers(h, 14, 0, 0)
			}
		}
		name := func() evidence.Subject { return rapid.SampledFrom(f.names).Draw(t, "subject") }
		at := func() time.Time { return ago(rapid.Float64Range(0, 13.9).Draw(t, "days ago")) }
		bad := evidence.Finding{Subject: name(), Source: evidence.SourceTrace, Count: 1, First: at(), What: rapid.SampledFrom([]evidence.What{
			evidence.WhatV1Call, evidence.WhatV1Credentials, evidence.WhatRefused}).Draw(t, "what")}
		bad.Last = bad.First
		w.findings = []evidence.Finding{bad}
		for range rapid.IntRange(1, 5).Draw(t, "good") {
			good := evidence.Finding{Subject: name(), Source: evidence.SourceCertify, Count: 1, First: at(), Product: "botocore", Version: "1.40.0",
				What: rapid.SampledFrom([]evidence.What{evidence.WhatCertified, evidence.WhatV2Credentials, evidence.WhatSoftware}).Draw(t, "what")}
			good.Last = good.First
			w.findings = append(w.findings, good)
		}
		w.imports = []evidence.Import{{Source: evidence.SourceTrace, From: ago(100), To: now}}
		report := w.judge(t)
		for _, r := range append(f.hosts[:len(f.hosts):len(f.hosts)], f.head) {
			if v := report.Verdict(r); v != nil && v.Status != assess.Blocked {
				t.Fatalf("%s is %s: %s", r, v.Status, v.Why())
			}
		}
	})
}
