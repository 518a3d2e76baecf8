package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/store"
)

// monthly is a program of v1 that runs every thirty days, last on February 10th.
func monthly(where string) string {
	return fmt.Sprintf(`{"name": "monthly", "agent": "curl", "version": "7", "speaks": "v1-only", "every": "720h",
		"anchor": "2026-02-10T12:00:00Z", "calls": 3, "where": %s}`, where)
}

// aged is an instance that was launched long ago.
func aged(id string, days int) string {
	return strings.Replace(instance(id, "optional", ""), start.AddDate(0, 0, -40).Format(time.RFC3339), start.AddDate(0, 0, -days).Format(time.RFC3339), 1)
}

// find gives the row of a resource.
func find(t *testing.T, a *app.App, id string) app.ResourceRow {
	t.Helper()
	for row, err := range a.Resources(t.Context(), app.ResourceFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if row.Resource.Ref.ID == id {
			return row
		}
	}
	t.Fatalf("%s is not there", id)
	return app.ResourceRow{}
}

// TestARareCallerIsSeenFromFar: what was called every thirty days, last before the window, is not ready; nothing is planned for it;
// and without the look back it would be.
func TestARareCallerIsSeenFromFar(t *testing.T) {
	t.Parallel()
	seed := organization(
		in(payments, ireland, map[string]string{"ec2": ec2Section("", aged(id(1), 190), aged(id(2), 190))}),
		runs(modern(`{"instances": ["`+id(1)+`", "`+id(2)+`"]}`), monthly(`{"instances": ["`+id(2)+`"]}`)),
	)
	w := newWorld(t, seed, baseConfig)
	mustScan(t, w.app)
	row := find(t, w.app, id(2))
	v := row.Verdict
	if v.Status != assess.Unknown || !v.Has(assess.CodeSchedule) {
		t.Fatalf("%s: %s, sources %v", v.Status, v.Why(), v.Sources)
	}
	if got := find(t, w.app, id(1)).Verdict; got.Status != assess.Ready {
		t.Errorf("its neighbour is %s: %s", got.Status, got.Why())
	}
	p := mustPlan(t, w.app)
	for i := range p.Changes {
		if p.Changes[i].Ref.ID == id(2) {
			t.Errorf("planned: %+v", p.Changes[i])
		}
	}
	off := w.open(t, baseConfig+"\n", func(o *app.Options) {
		c := *o.Config
		c.Evidence.History = 0
		o.Config, o.DBPath = &c, o.DBPath+".2"
	})
	mustScan(t, off)
	if got := find(t, off, id(2)).Verdict; got.Status != assess.Ready {
		t.Errorf("without the look back: %s: %s", got.Status, got.Why())
	}
}

// TestFindingsAreJudgedByAll: what was taken in bears on resources, on the plan, on status and on why.
func TestFindingsAreJudgedByAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, smallFleet(), baseConfig)
	mustScan(t, w.app)
	if got := find(t, w.app, id(1)).Verdict; got.Status != assess.Ready {
		t.Fatalf("before: %s: %s", got.Status, got.Why())
	}
	db, err := store.Open(w.db, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	now := w.clock.Now()
	_, err = db.PutFindings(t.Context(), evidence.Import{Source: evidence.SourceCloudTrail, Origin: "s3://logs", At: now, From: now.Add(-240 * time.Hour), To: now}, nil,
		func(yield func(evidence.Finding, error) bool) {
			yield(evidence.Finding{Subject: evidence.Subject{Account: payments, Kind: inventory.KindInstance, ID: id(1)},
				What: evidence.WhatV1Credentials, Product: "botocore", Version: "1.9.2", Count: 4212, First: now.Add(-30 * time.Hour)}, nil)
		})
	if err != nil {
		t.Fatal(err)
	}
	v := find(t, w.app, id(1)).Verdict
	if v.Status != assess.Blocked || !strings.Contains(v.Why(), "4,212 calls to AWS with v1 credentials by ") || len(v.Sources) != 3 {
		t.Errorf("%s: %s, sources %v", v.Status, v.Why(), v.Sources)
	}
	for _, c := range mustPlan(t, w.app).Changes {
		if c.Ref.ID == id(1) {
			t.Errorf("planned: %+v", c)
		}
	}
	status, err := w.app.Status(t.Context())
	if err != nil || len(status.Evidence) != 2 || status.Evidence[0].Source != evidence.SourceCloudTrail || status.Evidence[0].Findings != 1 {
		t.Errorf("status: %+v %v", status.Evidence, err)
	}
	why, err := w.app.Why(t.Context(), app.WhyOptions{Instance: id(1), Region: ireland, Account: payments})
	if err != nil {
		t.Fatal(err)
	}
	if why.Verdict.Status != assess.Blocked || len(why.Imports) != 1 || len(why.Verdict.Findings) != 1 || len(why.History) != 1 {
		t.Errorf("why: %s: %s, %d imports", why.Verdict.Status, why.Verdict.Why(), len(why.Imports))
	}
}

// TestLongWindows reads the longest windows there are, five-minute and hourly, through the simulator's pages, and measures what they
// take in the database.
func TestLongWindows(t *testing.T) {
	t.Parallel()
	const many = 40
	var list []string
	for i := range many {
		list = append(list, aged(id(100+i), 500))
	}
	for name, window := range map[string]string{"five minutes": "{window: 63d, period: 5m, require_boot: false}", "hourly": "{window: 455d, period: 1h, require_boot: false}"} {
		t.Run(name, func(t *testing.T) {
			seed := organization(in(payments, ireland, map[string]string{"ec2": ec2Section("", list...)}),
				runs(modern(`{"instances": ["`+id(101)+`"]}`), legacy(`{"instances": ["`+id(100)+`"]}`)))
			config := strings.Replace(baseConfig, "  require_boot: false\n", "", 1)
			config = strings.Replace(config, "evidence:\n", "evidence: "+window+"\n", 1)
			w := newWorld(t, seed, config)
			sum := mustScan(t, w.app)
			db, err := store.Open(w.db, store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			windows, err := db.EvidenceOf(t.Context(), fleet.Place{Partition: fleet.PartitionAWS, Account: payments, Region: ireland})
			if err != nil || len(windows) != many {
				t.Fatalf("%d windows: %v", len(windows), err)
			}
			size, err := db.Size(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			v := find(t, w.app, id(100)).Verdict
			t.Logf("%d calls, %d metrics, %d of %d periods, database %d KiB", sum.Calls, sum.Asked.Metrics, v.Basis.Covered, v.Basis.Periods, size>>10)
			if v.Status != assess.Blocked || v.Basis.Periods < 10_000 {
				t.Errorf("%s: %s, %d periods", v.Status, v.Why(), v.Basis.Periods)
			}
			if got := w.counts()["cloudwatch:GetMetricData"]; got < 2 {
				t.Errorf("%d calls of GetMetricData: one page of 100,800 datapoints does not hold so many", got)
			}
		})
	}
}
