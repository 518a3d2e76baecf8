package app_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// traced is a trace file of an instance, with so many v1 calls before now; cut off, it has no end.
func traced(t *testing.T, trace, instance string, part, calls int, now time.Time, whole bool) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := tracer.NewWriter(&b, tracer.Header{Trace: trace, Part: part, Host: "web", InstanceID: instance, Account: payments, Region: ireland,
		Tier: tracer.TierFull, Started: now.Add(-3 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for range calls {
		if err := w.Call(tracer.Call{Time: now.Add(-2 * time.Hour), Version: tracer.V1, Method: "GET", Path: "/latest/meta-data/iam/info",
			UserAgent: "Boto3/1.9.2", Product: "boto3", ProductVersion: "1.9.2", Process: billing, Place: tracer.Locate(billing.Cgroup)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Call(tracer.Call{Time: now.Add(-time.Hour), Version: tracer.V2, Method: "GET", Path: "/x"}); err != nil {
		t.Fatal(err)
	}
	if whole {
		if err := w.Close(now.Add(-time.Minute), tracer.EndAsked); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func zipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func put(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestTracesAreTakenIn: from a folder with other things in it, compressed or not, each part once, by what they hold and not by their names;
// and what they tell blocks, is explained, and is work for its owner.
func TestTracesAreTakenIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, smallFleet(), baseConfig)
	mustScan(t, w.app)
	now, dir := w.clock.Now(), t.TempDir()
	first := traced(t, "A", id(1), 1, 3, now, true)
	put(t, dir, "one.json", first) // no name of a trace's
	put(t, dir, "copy.imds.jsonl.gz", zipped(t, first))
	put(t, dir, "two.imds.jsonl.gz", zipped(t, traced(t, "B", id(1), 1, 2, now, true)))
	put(t, dir, "cut.imds.jsonl", traced(t, "C", id(2), 1, 0, now, false))
	put(t, dir, "broken.imds.jsonl", []byte("nonsense\n"))
	put(t, dir, "nobody.imds.jsonl", bytes.Replace(first, []byte(`"instance_id":"`+id(1)+`",`), nil, 1))
	done, err := w.app.ImportEvidence(t.Context(), app.ImportOptions{Paths: []string{dir}})
	if err != nil || len(done) != 3 {
		t.Fatalf("%v, %d imports", err, len(done))
	}
	clean, cut, rest := done[0], done[1], done[2]
	if clean.Import.Files != 2 || clean.Import.Findings != 1 || clean.Import.Lost != "" || clean.Trace.V1 != 5 || clean.Import.Subject.ID != id(1) || clean.Attention() {
		t.Errorf("%+v", clean.Import)
	}
	if cut.Import.Findings != 0 || !strings.Contains(cut.Import.Lost, "cut off") || !cut.Attention() {
		t.Errorf("%+v", cut.Import)
	}
	if rest.Import.ID != 0 || rest.Import.Known != 1 || len(rest.Gaps) != 2 || !strings.Contains(fmt.Sprint(rest.Gaps), "is no trace file") ||
		!strings.Contains(fmt.Sprint(rest.Gaps), "give --for") {
		t.Errorf("%+v", rest)
	}
	again, err := w.app.ImportEvidence(t.Context(), app.ImportOptions{Paths: []string{filepath.Join(dir, "one.json"), filepath.Join(dir, "two.imds.jsonl.gz")}})
	if err != nil || len(again) != 1 || again[0].Import.Known != 2 {
		t.Errorf("again: %v %+v", err, again)
	}
	v := find(t, w.app, id(1)).Verdict
	if v.Status != assess.Blocked || !v.Has(assess.CodeTraced) || !strings.Contains(v.Why(), "5 v1 calls traced by AWS SDK for Python (boto3) 1.9.2") {
		t.Errorf("%s: %s", v.Status, v.Why())
	}
	if other := find(t, w.app, id(2)).Verdict; other.Has(assess.CodeTraced) {
		t.Errorf("%s: %s", other.Status, other.Why())
	}
	why, err := w.app.Why(t.Context(), app.WhyOptions{Instance: id(1), Region: ireland, Account: payments})
	if err != nil || why.Verdict.Status != assess.Blocked || len(why.Verdict.Findings) != 1 ||
		why.Verdict.Findings[0].Detail != "/usr/bin/python3 billing.py (billing.service): boto3 1.9.2, GET /latest/meta-data/iam/info" {
		t.Errorf("%v %+v", err, why)
	}
	list, err := w.app.Attention(t.Context(), app.AttentionFilter{})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, i := range list.Items {
		for _, e := range i.Evidence {
			found = found || e.Source == evidence.SourceTrace && strings.Contains(strings.Join(i.Because, ";"), "a tracer saw it make 5 IMDSv1 calls")
		}
	}
	if !found {
		t.Errorf("no item rests on the trace: %+v", list.Items)
	}
}

// TestTracesOfASubject: --for says of what a trace is, --since and --until which of its calls count.
func TestTracesOfASubject(t *testing.T) {
	t.Parallel()
	w := newWorld(t, smallFleet(), baseConfig)
	now, dir := w.clock.Now(), t.TempDir()
	path := put(t, dir, "a.jsonl", traced(t, "A", id(1), 1, 3, now, true))
	group := evidence.Subject{Kind: inventory.KindAutoScaling, ID: "web"}
	done, err := w.app.ImportEvidence(t.Context(), app.ImportOptions{Paths: []string{path}, For: group, Since: now.Add(-90 * time.Minute)})
	if err != nil || len(done) != 1 || done[0].Import.Subject != group || done[0].Import.Findings != 0 || done[0].Outside != 3 ||
		!done[0].Import.From.Equal(now.Add(-90*time.Minute).UTC()) {
		t.Errorf("%v %+v", err, done)
	}
	done, err = w.app.ImportEvidence(t.Context(), app.ImportOptions{Paths: []string{path}})
	if err != nil || len(done) != 1 || done[0].Import.Subject.ID != id(1) || done[0].Import.Findings != 1 {
		t.Errorf("about itself: %v %+v", err, done)
	}
}

// TestAPartThatGrows was copied while it was still written: what comes later of it is taken in as well.
func TestAPartThatGrows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, smallFleet(), baseConfig)
	now, dir := w.clock.Now(), t.TempDir()
	copied := put(t, dir, "copy.jsonl", traced(t, "A", id(1), 1, 0, now, false))
	same := put(t, dir, "copy.jsonl.gz", zipped(t, traced(t, "A", id(1), 1, 0, now, false)))
	whole := put(t, dir, "whole.jsonl", traced(t, "A", id(1), 1, 3, now, true))
	for _, step := range []struct {
		path            string
		findings, known int64
	}{{copied, 0, 0}, {same, 0, 1}, {whole, 1, 0}, {whole, 0, 1}} {
		done, err := w.app.ImportEvidence(t.Context(), app.ImportOptions{Paths: []string{step.path}})
		if err != nil || len(done) != 1 || done[0].Import.Findings != step.findings || done[0].Import.Known != step.known {
			t.Errorf("%s: %v %+v", step.path, err, done)
		}
	}
}

// TestTracesInABucket are found by their names below a prefix, beside CloudTrail's files or without; a copy on the disk is known.
func TestTracesInABucket(t *testing.T) {
	t.Parallel()
	begin := start
	one, two := traced(t, "A", id(1), 1, 3, begin, true), traced(t, "A", id(1), 2, 1, begin, true)
	object := func(key string, data []byte) string {
		return fmt.Sprintf(`{"key": %q, "base64": %q}`, key, base64.StdEncoding.EncodeToString(data))
	}
	seed := smallFleet()
	seed.Accounts[0].Global = map[string]json.RawMessage{"s3": json.RawMessage(`{"buckets": [{"name": "traces", "region": "us-east-1", "objects": [` + strings.Join([]string{
		object("imds/web-1/a.imds.jsonl", one), object("imds/web-1/b.imds.jsonl.gz", zipped(t, two)), object("imds/web-1/c.imds.jsonl", []byte("{")),
		object("imds/other.txt", []byte("hello")), object("else/d.imds.jsonl", traced(t, "D", id(2), 1, 1, begin, true))}, ",") + `]}]}`)}
	w := newWorld(t, seed, baseConfig)
	done, err := w.app.ImportEvidence(t.Context(), app.ImportOptions{Paths: []string{"s3://traces/imds/"}})
	if err != nil || len(done) != 2 {
		t.Fatalf("%v %+v", err, done)
	}
	if i := done[0].Import; i.Files != 2 || i.Findings != 1 || done[0].Trace.V1 != 4 || done[0].Trace.Traces[0].Parts != 2 || len(i.Notes) == 0 ||
		!strings.Contains(fmt.Sprint(i.Notes), "s3://traces/imds/web-1/a.imds.jsonl") {
		t.Errorf("%+v", i)
	}
	if len(done[1].Gaps) != 1 || done[1].Gaps[0].Where != "s3://traces/imds/web-1/c.imds.jsonl" {
		t.Errorf("%+v", done[1])
	}
	if done, err = w.app.ImportEvidence(t.Context(), app.ImportOptions{Paths: []string{"s3://traces/imds/web-1/a", put(t, t.TempDir(), "x", two)}}); err != nil ||
		len(done) != 1 || done[0].Import.Known != 2 {
		t.Errorf("again: %v %+v", err, done)
	}
	if _, err := w.app.ImportEvidence(t.Context(), app.ImportOptions{Paths: []string{"s3://traces/nothing/"}}); err == nil || !strings.Contains(err.Error(), "no trace file") {
		t.Errorf("nothing there: %v", err)
	}
}
