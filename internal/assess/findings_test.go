package assess_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// at is so many days ago.
func ago(days float64) time.Time { return now.Add(-time.Duration(days * 24 * float64(time.Hour))) }

func subject(t testing.TB, text string) evidence.Subject {
	t.Helper()
	s, err := evidence.ParseSubject(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// called is a finding of calls with v1 credentials, days ago.
func called(s evidence.Subject, days float64, count int64) evidence.Finding {
	return evidence.Finding{Subject: s, Source: evidence.SourceCloudTrail, What: evidence.WhatV1Credentials, Product: "botocore",
		Version: "1.9.2", Detail: "Boto3/1.6.2 Botocore/1.9.2", Count: count, First: ago(days), Last: ago(days), Origin: "s3://logs"}
}

func certified(s evidence.Subject, what evidence.What, days float64, hops int) evidence.Finding {
	return evidence.Finding{Subject: s, Source: evidence.SourceCertify, What: what, Detail: "/opt/billing", First: ago(days), Last: ago(days),
		HopLimit: hops, Origin: "ci"}
}

func software(s evidence.Subject, days float64) evidence.Finding {
	return evidence.Finding{Subject: s, Source: evidence.SourceSoftware, What: evidence.WhatRawCall, Detail: "/opt/boot.sh:12",
		First: ago(days), Last: ago(days), Origin: "billing.tar"}
}

// looksBack gives daily zeros for so many days, and a call on each of some days ago.
func (w *world) looksBack(ref fleet.Ref, days int, calls ...float64) {
	win := evidence.NewWindow(ref, evidence.SourceCloudWatch, evidence.MetricNoToken, evidence.NewSpan(now, 455*24*time.Hour, 24*time.Hour))
	for d := range days {
		if err := win.Add(ago(float64(d)), 0); err != nil {
			panic(err)
		}
	}
	for _, d := range calls {
		if err := win.Add(ago(d), 5); err != nil {
			panic(err)
		}
	}
	if w.history == nil {
		w.history = map[fleet.Ref][]*evidence.Window{}
	}
	w.history[ref] = append(w.history[ref], win)
}

// quiet is a group with a booted, covered instance and its template, which is ready.
func quiet() (*world, fleet.Ref) {
	w := newWorld()
	w.template("lt-1", map[string]fleet.Options{"1": {Tokens: "optional"}}, "1", "1")
	w.group("web", "lt-1", "1")
	i := w.instance("i-1", 3, memberOf("web"), launchedFrom("lt-1"), func(r *inventory.Resource) {
		r.Tags = map[string]string{"app": "billing"}
		r.Attrs = map[string]string{inventory.AttrImage: "ami-1", inventory.AttrProfile: "arn:aws:iam::111122223333:instance-profile/web-role"}
	})
	w.covers(i, 14, 0, 0)
	return w, i
}

func TestCallsThatOthersSawBlock(t *testing.T) {
	for _, text := range []string{"instance/i-1", "group/web", "template/lt-1", "ami/ami-1", "role/web-role", "tag/app=billing",
		"account/111122223333", "fleet/*", "arn:aws:iam::111122223333:instance-profile/web-role"} {
		t.Run(text, func(t *testing.T) {
			w, i := quiet()
			if v := w.judge(t).Verdict(i); v.Status != assess.Ready {
				t.Fatalf("before: %s: %s", v.Status, v.Why())
			}
			w.findings = []evidence.Finding{called(subject(t, text), 2, 4212)}
			report := w.judge(t)
			for _, ref := range []fleet.Ref{i, ref(inventory.KindAutoScaling, "web"), ref(inventory.KindLaunchTemplate, "lt-1")} {
				v := report.Verdict(ref)
				if v.Status != assess.Blocked {
					t.Errorf("%s is %s: %s", ref, v.Status, v.Why())
				}
			}
			v := report.Verdict(i)
			if !v.Has(assess.CodeV1Credentials) || !strings.Contains(v.Why(), "4,212 calls to AWS with v1 credentials by ") ||
				!strings.Contains(v.Why(), "1.9.2") {
				t.Errorf("why: %s", v.Why())
			}
			if len(v.Findings) != 1 || v.Findings[0].Origin != "s3://logs" {
				t.Errorf("findings: %+v", v.Findings)
			}
		})
	}
	for name, f := range map[string]evidence.Finding{
		"another account": called(evidence.Subject{Account: "999999999999", Kind: inventory.KindInstance, ID: "i-1"}, 2, 1),
		"another region":  called(evidence.Subject{Region: "us-east-1", Kind: inventory.KindInstance, ID: "i-1"}, 2, 1),
		"another tag":     called(subject(t, "tag/app=other"), 2, 1),
		"another role":    called(subject(t, "role/other"), 2, 1),
		"v2":              {Subject: subject(t, "i-1"), Source: evidence.SourceCloudTrail, What: evidence.WhatV2Credentials, Count: 9, First: ago(1), Last: ago(1)},
	} {
		w, i := quiet()
		w.findings = []evidence.Finding{f}
		if v := w.judge(t).Verdict(i); v.Status != assess.Ready {
			t.Errorf("%s: %s: %s", name, v.Status, v.Why())
		}
	}
}

// A member that is no more, a group that a service operates, a launcher that will launch the image, and a kind without a metric.
func TestCallsAnywhereInALineage(t *testing.T) {
	w, i := quiet()
	gone := w.instance("i-gone", 12, memberOf("web"), status(inventory.StatusTerminated))
	w.findings = []evidence.Finding{called(evidence.Subject{Kind: gone.Kind, ID: gone.ID}, 10, 1)}
	v := w.judge(t).Verdict(i)
	if v.Status != assess.Blocked || !strings.Contains(v.Why(), "in its lineage auto-scaling-group web") {
		t.Errorf("a member that is no more: %s: %s", v.Status, v.Why())
	}

	w, i = quiet()
	w.resources = append(w.resources, inventory.Resource{Ref: ref(inventory.KindNodegroup, "nodes"), State: fleet.State{},
		Links: []inventory.Link{{Relation: inventory.Operates, To: ref(inventory.KindAutoScaling, "web")}}})
	w.findings = []evidence.Finding{called(subject(t, "eks-nodegroup/nodes"), 2, 1)}
	if v := w.judge(t).Verdict(i); !v.Has(assess.CodeV1Credentials) && !v.Has(assess.CodeManaged) {
		t.Errorf("what operates the group: %s: %s", v.Status, v.Why())
	}

	w, _ = quiet()
	w.resources[0].Attrs = map[string]string{inventory.AttrImage + "/1": "ami-9", inventory.AttrImage: "ami-9"}
	w.findings = []evidence.Finding{called(subject(t, "ami-9"), 2, 1)}
	if v := w.judge(t).Verdict(ref(inventory.KindAutoScaling, "web")); v.Status != assess.Blocked {
		t.Errorf("a group that will launch the image: %s: %s", v.Status, v.Why())
	}

	w = newWorld()
	emr := inventory.Resource{Ref: ref(inventory.KindEMR, "secure"), State: fleet.State{}, Says: &fleet.Options{Tokens: "optional"}}
	w.resources = append(w.resources, emr)
	w.findings = []evidence.Finding{called(subject(t, "emr-security-configuration/secure"), 2, 7)}
	if v := w.judge(t).Verdict(emr.Ref); v.Status != assess.Blocked || !v.Has(assess.CodeV1Credentials) {
		t.Errorf("a kind without a metric: %s: %s", v.Status, v.Why())
	}
}

func TestPastFindingsAreShownAndBlockNothing(t *testing.T) {
	w, i := quiet()
	w.findings = []evidence.Finding{called(subject(t, "i-1"), 20, 9), certified(subject(t, "i-1"), evidence.WhatRefused, 20, 0), software(subject(t, "i-1"), 20)}
	v := w.judge(t).Verdict(i)
	if v.Status != assess.Ready || len(v.Findings) != 3 {
		t.Errorf("%s: %s, %d findings", v.Status, v.Why(), len(v.Findings))
	}
	n := slices.IndexFunc(v.Sources, func(s assess.SourceBasis) bool { return s.Source == evidence.SourceCloudTrail })
	if n < 0 || v.Sources[n].Past != 9 || v.Sources[n].Calls != 0 {
		t.Errorf("sources: %+v", v.Sources)
	}
}

func TestCertification(t *testing.T) {
	// Covered, and launched before the window: what runs at boot was not seen.
	old := func() (*world, fleet.Ref) {
		w := newWorld()
		i := w.instance("i-1", 100)
		w.covers(i, 14, 0, 0)
		return w, i
	}
	for name, tc := range map[string]struct {
		f    evidence.Finding
		want assess.Status
		code assess.Code
	}{
		"passed":         {certified(subject(t, "i-1"), evidence.WhatCertified, 1, 2), assess.Ready, assess.CodeCertified},
		"failed":         {certified(subject(t, "i-1"), evidence.WhatRefused, 1, 0), assess.Blocked, assess.CodeNotCertified},
		"long ago":       {certified(subject(t, "i-1"), evidence.WhatCertified, 20, 2), assess.Unknown, assess.CodeNoBoot},
		"of the account": {certified(subject(t, "account/111122223333"), evidence.WhatCertified, 1, 0), assess.Unknown, assess.CodeNoBoot},
		"of another":     {certified(subject(t, "i-2"), evidence.WhatCertified, 1, 0), assess.Unknown, assess.CodeNoBoot},
		"not yet":        {certified(subject(t, "i-1"), evidence.WhatCertified, -1, 0), assess.Unknown, assess.CodeNoBoot},
		"lost or a sample": {func() evidence.Finding {
			f := certified(subject(t, "i-1"), evidence.WhatCertified, 1, 0)
			f.Sample = true
			return f
		}(), assess.Unknown, assess.CodeNoBoot},
		"v2 is no evidence": {evidence.Finding{Subject: subject(t, "i-1"), Source: evidence.SourceCloudTrail, What: evidence.WhatV2Credentials, Count: 99, First: ago(1), Last: ago(1)}, assess.Unknown, assess.CodeNoBoot},
	} {
		w, i := old()
		w.findings = []evidence.Finding{tc.f}
		v := w.judge(t).Verdict(i)
		if v.Status != tc.want || !v.Has(tc.code) {
			t.Errorf("%s: %s: %s", name, v.Status, v.Why())
		}
		if name == "passed" && (v.Hops.Needed != 2 || v.Want.HopLimit != 2 || !v.Hops.Low()) {
			t.Errorf("the hop limit that the certification needs: %+v, wants %+v", v.Hops, v.Want)
		}
	}
	w, i := old()
	w.resources = append(w.resources, inventory.Resource{Ref: ref(inventory.KindImage, "ami-1"), State: fleet.State{},
		Attrs: map[string]string{inventory.AttrCreated: ago(0.5).Format(time.RFC3339)}})
	w.resources[0].Attrs = map[string]string{inventory.AttrImage: "ami-1"}
	w.findings = []evidence.Finding{certified(subject(t, "i-1"), evidence.WhatCertified, 1, 0)}
	if v := w.judge(t).Verdict(i); v.Status != assess.Unknown {
		t.Errorf("the image is newer than the certification: %s", v.Why())
	}
	w, i = old()
	w.findings = []evidence.Finding{certified(subject(t, "i-1"), evidence.WhatCertified, 1, 0), certified(subject(t, "i-1"), evidence.WhatRefused, 2, 0)}
	if v := w.judge(t).Verdict(i); v.Status != assess.Blocked {
		t.Errorf("one passed and another failed: %s", v.Why())
	}
}

func TestOldSoftware(t *testing.T) {
	w, i := quiet()
	w.findings = []evidence.Finding{software(subject(t, "i-1"), 1)}
	if v := w.judge(t).Verdict(i); v.Status != assess.Ready || !v.Has(assess.CodeRawCall) || !strings.Contains(v.Why(), "/opt/boot.sh:12") {
		t.Errorf("shown: %s: %s", v.Status, v.Why())
	}
	w.config = "evidence: {old_software: block}\n"
	if v := w.judge(t).Verdict(i); v.Status != assess.Blocked {
		t.Errorf("by the configuration: %s: %s", v.Status, v.Why())
	}
	w = newWorld()
	emr := inventory.Resource{Ref: ref(inventory.KindEMR, "secure"), State: fleet.State{}, Says: &fleet.Options{Tokens: "optional"}}
	w.resources = append(w.resources, emr)
	w.findings = []evidence.Finding{software(subject(t, "emr-security-configuration/secure"), 1)}
	if v := w.judge(t).Verdict(emr.Ref); v.Status != assess.Blocked || !v.Has(assess.CodeRawCall) {
		t.Errorf("where no metric exists: %s: %s", v.Status, v.Why())
	}
}

func TestScheduleHoldsAVerdictBack(t *testing.T) {
	// The 18th of each month until October; it is November 20th, and the run of November 18th may be late.
	w, i := quiet()
	w.looksBack(i, 400, 33, 63, 94)
	v := w.judge(t).Verdict(i)
	want := "called 3 times every month, on day 18 until 2026-10-18, due again on 2026-11-18: a full period is seen on 2026-11-22"
	if v.Status != assess.Unknown || !v.Has(assess.CodeSchedule) || !strings.Contains(v.Why(), want) {
		t.Fatalf("%s: %s", v.Status, v.Why())
	}
	if v := w.judge(t).Verdict(ref(inventory.KindAutoScaling, "web")); v.Status != assess.Unknown {
		t.Errorf("its group is %s", v.Status)
	}
	w.now = now.Add(47 * time.Hour)
	if v := w.judge(t).Verdict(i); v.Status != assess.Ready || v.Schedule == nil || v.Schedule.Held {
		t.Errorf("when a full period was seen: %s: %s", v.Status, v.Why())
	}
	// The same with the last three weeks not covered: quiet was not seen.
	w, i = quiet()
	w.evidence = map[fleet.Ref][]*evidence.Window{}
	w.covers(i, 14, 0, 0)
	w.looksBack(i, 0, 34, 64, 95)
	if v := w.judge(t).Verdict(i); v.Status != assess.Unknown || v.Schedule.Quiet.Before(now.Add(10*24*time.Hour)) {
		t.Errorf("what is not covered is not quiet: %s: %s", v.Status, v.Why())
	}
	// Calls that CloudTrail saw by day make a schedule as well.
	w, i = quiet()
	w.looksBack(i, 400)
	for _, days := range []float64{33, 63, 94} {
		w.findings = append(w.findings, called(subject(t, "role/web-role"), days, 3))
	}
	if v := w.judge(t).Verdict(i); v.Status != assess.Unknown || !v.Has(assess.CodeSchedule) {
		t.Errorf("by findings: %s: %s", v.Status, v.Why())
	}
	// A daily caller that was mended is none.
	w, i = quiet()
	var daily []float64
	for d := 15; d < 200; d++ {
		daily = append(daily, float64(d))
	}
	w.looksBack(i, 400, daily...)
	if v := w.judge(t).Verdict(i); v.Status != assess.Ready {
		t.Errorf("daily, and mended: %s: %s", v.Status, v.Why())
	}
}

func TestSourcesSayForWhichTimeTheySpeak(t *testing.T) {
	w, i := quiet()
	w.looksBack(i, 100, 50)
	w.findings = []evidence.Finding{called(subject(t, "i-1"), 2, 7), called(subject(t, "i-1"), 3, 1)}
	w.imports = []evidence.Import{{Source: evidence.SourceCloudTrail, Origin: "s3://logs", From: ago(30), To: ago(1)},
		{Source: evidence.SourceCloudTrail, Origin: "s3://others", From: ago(300), To: now}}
	got := w.judge(t).Verdict(i).Sources
	if len(got) != 3 {
		t.Fatalf("%+v", got)
	}
	metric, history, trail := got[0], got[1], got[2]
	if metric.Source != evidence.SourceCloudWatch || *metric.Coverage != 1 || !metric.From.Equal(span.Start) || metric.AgeSeconds != 0 {
		t.Errorf("metric: %+v", metric)
	}
	if history.Source != evidence.SourceCloudWatch.History() || history.Past != 5 || *history.Coverage < 0.2 || *history.Coverage > 0.23 {
		t.Errorf("history: %+v", history)
	}
	if !trail.From.Equal(ago(30)) || !trail.To.Equal(ago(1)) || trail.Calls != 8 || trail.AgeSeconds != 24*3600 || trail.Findings != 2 ||
		!slices.Equal(trail.Origins, []string{"s3://logs"}) {
		t.Errorf("CloudTrail: %+v", trail)
	}
}

func TestFindingsOfAVerdictAreBounded(t *testing.T) {
	w, i := quiet()
	for d := range 100 {
		w.findings = append(w.findings, called(subject(t, "i-1"), float64(d)/10, 1), software(subject(t, "i-1"), float64(d)/10))
	}
	v := w.judge(t).Verdict(i)
	if len(v.Findings) != 6 || v.FindingsLeft != 194 || v.Findings[0].What != evidence.WhatV1Credentials || !v.Findings[0].First.Equal(now) {
		t.Errorf("%d shown, %d left: %+v", len(v.Findings), v.FindingsLeft, v.Findings[0])
	}
	if !strings.Contains(v.Why(), "100 calls to AWS") {
		t.Errorf("all are counted: %s", v.Why())
	}
}

// TestALookBackThatFailedShowsNoSchedule, so that nothing becomes ready for want of it.
func TestALookBackThatFailedShowsNoSchedule(t *testing.T) {
	w, i := quiet()
	w.farGap = &inventory.Scope{Place: place, Kind: "cloudwatch-history", Status: inventory.ScopeGap, Class: fleet.ErrThrottled, Detail: "slow down"}
	if v := w.judge(t).Verdict(i); v.Status != assess.Unknown || !v.Has(assess.CodeGap) || !strings.Contains(v.Why(), "slow down") {
		t.Errorf("%s: %s", v.Status, v.Why())
	}
}
