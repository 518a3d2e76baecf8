package app_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

const template = "lt-0123456789abcdef0"

// inWeb makes an instance of a seed one that the group web launched.
const inWeb = `, "tags": {"aws:autoscaling:groupName": "web", "aws:ec2launchtemplate:id": "` + template +
	`", "aws:ec2launchtemplate:version": "1"}`

// webFleet is a group of three in shop, launched from a template's default version, beside the small fleet's instances.
func webFleet() *core.Seed {
	return organization(
		in(shop, ireland, map[string]string{
			"ec2": ec2Section(fmt.Sprintf(`{"id": %q, "name": "web", "versions": [{"data": {"ImageId": %q, "InstanceType": "m5.large",
				"MetadataOptions": {"HttpTokens": "optional", "HttpPutResponseHopLimit": 2}}}]}`, template, image),
				instance(id(11), "optional", inWeb), instance(id(12), "optional", inWeb), instance(id(13), "optional", inWeb),
				instance(id(14), "optional", `, "tags": {"Name": "batch"}`), instance(id(15), "optional", "")),
			"autoscaling": fmt.Sprintf(`{"groups": [{"name": "web", "template": %q, "min": 1, "max": 6, "instances": [%q, %q, %q]}]}`,
				template, id(11), id(12), id(13)),
		}),
		runs(modern(`{"groups": ["web"]}`), modern(`{"instances": ["`+id(14)+`"]}`), legacy(`{"instances": ["`+id(15)+`"]}`)),
	)
}

func mustPlan(t *testing.T, a *app.App) *plan.Plan {
	t.Helper()
	result, err := a.Plan(t.Context(), app.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := a.WritePlan(t.Context(), &out, "plan.json", result.Plan); err != nil {
		t.Fatal(err)
	}
	p, err := plan.Read(&out, "plan.json")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestApplyBringsTheReadyToRequired(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	before := w.CallCount()
	result, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true, Reason: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if result.Record.Status != rollout.Done || result.Counts.Verified != len(p.Changes) {
		t.Fatalf("rollout %s (%s): %+v of %d changes\n%s", result.Record.Status, result.Record.Reason, result.Counts,
			len(p.Changes), stacksOf(result))
	}
	var written []string
	for _, c := range w.CallsSince(before) {
		if c.Action == "ModifyInstanceMetadataOptions" && c.Code == "" {
			written = append(written, c.Resources...)
		}
	}
	slices.Sort(written)
	if want := []string{id(11), id(12), id(13), id(14)}; !slices.Equal(written, want) {
		t.Errorf("written %v, want each of %v once", written, want)
	}

	mustScan(t, w.app)
	want := map[string]assess.Status{id(11): assess.Done, id(12): assess.Done, id(13): assess.Done, id(14): assess.Done,
		id(15): assess.Blocked}
	if got := verdicts(t, w.app, inventory.KindInstance); !equal(got, want) {
		t.Errorf("verdicts\n got %v\nwant %v", got, want)
	}
	if got := verdicts(t, w.app, inventory.KindAutoScaling)["web"]; got != assess.Done {
		t.Errorf("the group is %s", got)
	}
	if again := mustPlan(t, w.app); len(again.Changes) > 0 {
		t.Errorf("the second plan has %d changes, the first is %s of %s: %s", len(again.Changes), again.Changes[0].Action,
			again.Changes[0].Ref, again.Changes[0].Why)
	}
}

func stacksOf(r *app.ApplyResult) string {
	var out strings.Builder
	for _, s := range r.Plan.Stacks {
		fmt.Fprintf(&out, "%s %s: %+v\n", s.ID, s.Name, r.Record.Stacks[s.ID])
	}
	for _, c := range r.Plan.Changes {
		fmt.Fprintf(&out, "  %s %s %s: %s %s\n", c.ID, c.Action, c.Ref, r.Record.Changes[c.ID].Phase,
			r.Record.Changes[c.ID].Reason)
	}
	return out.String()
}

// answered is a client of AWS that tells when a request that says all of some words was answered.
type answered struct {
	aws.HTTPClient
	words []string
	tell  func()
}

func (a answered) Do(r *http.Request) (*http.Response, error) {
	var text []byte
	if r.Body != nil {
		var err error
		if text, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(text))
	}
	response, err := a.HTTPClient.Do(r)
	if err == nil && !slices.ContainsFunc(a.words, func(w string) bool { return !bytes.Contains(text, []byte(w)) }) {
		a.tell()
	}
	return response, err
}

// TestCanaryThatBreaksIsRolledBack lets a job that nobody saw run after the canary was changed.
func TestCanaryThatBreaksIsRolledBack(t *testing.T) {
	t.Parallel()
	var w *world
	changed := sync.OnceFunc(func() {
		job := workload.Program{Name: "monthly", Agent: "boto3", Version: "1.9.2", Speaks: workload.V1Only,
			Every:  500 * time.Hour,
			Anchor: w.clock.Now().Add(5 * time.Minute), Essential: true}
		if err := programs.Deploy(w.World, job, workload.Where{Groups: []string{"web"}}); err != nil {
			t.Error(err)
		}
	})
	w = newWorld(t, webFleet(), strings.ReplaceAll(baseConfig, "20m", "1h")+"targets: {account_defaults: false}\n", func(o *app.Options) {
		load := o.AWS
		o.AWS = func(ctx context.Context) (aws.Config, error) {
			cfg, err := load(ctx)
			cfg.HTTPClient = answered{cfg.HTTPClient, []string{"Action=ModifyInstanceMetadataOptions", id(11), "HttpTokens=required"}, changed}
			return cfg, err
		}
	})
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	result, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true})
	if err != nil {
		t.Fatal(err)
	}
	var failed *plan.Stack
	for i := range p.Stacks {
		if s := &p.Stacks[i]; result.Record.Stacks[s.ID].Phase == rollout.StackFailed {
			failed = s
		}
	}
	if failed == nil || failed.Name != "web" {
		t.Fatalf("rollout %s: no stack failed\n%s", result.Record.Status, stacksOf(result))
	}
	if reason := result.Record.Stacks[failed.ID].Reason; !strings.Contains(reason, id(11)) || !strings.Contains(reason,
		"refused") && !strings.Contains(reason, "status check") {
		t.Errorf("reason %q", reason)
	}
	if result.Counts.Reverted != 1 {
		t.Errorf("%d changes were reverted, want the canary's\n%s", result.Counts.Reverted, stacksOf(result))
	}
	var touched []string
	for _, c := range w.Calls() {
		if c.Action == "ModifyInstanceMetadataOptions" && c.Code == "" {
			touched = append(touched, c.Resources...)
		}
	}
	if slices.Contains(touched, id(12)) || slices.Contains(touched, id(13)) {
		t.Errorf("more than the canary of the group was changed: %v", touched)
	}
	mustScan(t, w.app)
	for row, err := range w.app.Resources(t.Context(), app.ResourceFilter{Name: "i-*"}) {
		if err != nil {
			t.Fatal(err)
		}
		if row.Resource.Ref.ID == id(11) && row.Resource.State.Options().Tokens != fleet.TokensOptional {
			t.Errorf("the canary is left at %v", row.Resource.State)
		}
	}
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)

	t.Run("a plan nobody approved", func(t *testing.T) {
		_, err := w.app.Apply(t.Context(), p, app.ApplyOptions{})
		if d, ok := errors.AsType[fleet.Diagnostic](err); !errors.Is(err, engine.ErrNotApproved) || !ok ||
			!strings.Contains(d.Remedy, p.Digest[:12]) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a plan edited after approval", func(t *testing.T) {
		edited := *p
		edited.Changes = slices.Clone(p.Changes)
		edited.Changes[0].After = edited.Changes[0].After.With(fleet.State{"HttpPutResponseHopLimit": "64"})
		if _, err := w.app.Apply(t.Context(), &edited, app.ApplyOptions{Yes: true}); !errors.Is(err, plan.ErrEdited) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a stale plan", func(t *testing.T) {
		stale := *p
		stale.Header.Taken = stale.Header.Taken.AddDate(0, 0, -8)
		var out bytes.Buffer
		if err := w.app.WritePlan(t.Context(), &out, "stale.json", &stale); err != nil {
			t.Fatal(err)
		}
		_, err := w.app.Apply(t.Context(), &stale, app.ApplyOptions{Yes: true})
		if d, ok := errors.AsType[fleet.Diagnostic](err); !ok || !strings.Contains(d.Summary, "stale") {
			t.Errorf("error %v", err)
		}
	})
	for _, c := range w.Calls() {
		if c.Mutated && !strings.HasPrefix(c.Action, "AssumeRole") {
			t.Errorf("%s was called", c.Action)
		}
	}
}

// TestRollbackFileOfAnotherPlan: a file that undoes something else is neither kept nor overwritten, and nothing is changed.
func TestRollbackFileOfAnotherPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	path := filepath.Join(t.TempDir(), "undo.sh")
	const other = "#!/bin/sh\n# Undoes plan 0123\n"
	if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true, RollbackFile: path})
	if d, ok := errors.AsType[fleet.Diagnostic](err); !ok || d.Where != path || !strings.Contains(d.Summary, p.Digest[:12]) {
		t.Errorf("error %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != other {
		t.Errorf("the file is %q now, %v", b, err)
	}
	for _, c := range w.Calls() {
		if c.Mutated && !strings.HasPrefix(c.Action, "AssumeRole") {
			t.Errorf("%s was called", c.Action)
		}
	}
	path = filepath.Join(t.TempDir(), "undo.sh")
	for range 2 { // the second time it is there, and the plan's own
		if result, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true, RollbackFile: path}); err != nil || result.RollbackFile != path {
			t.Errorf("%v, %v", result, err)
		}
	}
}

// TestRollbackFile runs nothing of it against AWS: a shell reads it, with a stand-in for the CLI that prints its
// arguments.
func TestRollbackFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, webFleet(), baseConfig)
	mustScan(t, w.app)
	p := mustPlan(t, w.app)
	result, err := w.app.Apply(t.Context(), p, app.ApplyOptions{Yes: true})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(result.RollbackFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("rollback file %v, %v", info, err)
	}
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	fake := `#!/bin/sh
case "$*" in
*get-caller-identity*) echo 333333333333 ;;
*describe-launch-template-versions*) echo 2 ;;
*) echo "$@" >> "` + filepath.Join(bin, "log") + `" ;;
esac
`
	syscall.ForkLock.RLock() // what another test starts meanwhile would hold the file open for writing, and it could not be run
	err = os.WriteFile(filepath.Join(bin, "aws"), []byte(fake), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), shell, result.RollbackFile)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	log, err := os.ReadFile(filepath.Join(bin, "log"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(log)
	for _, want := range []string{
		"ec2 modify-instance-metadata-options --region eu-west-1 --instance-id " + id(11) + " --http-tokens optional",
		"ec2 modify-launch-template --region eu-west-1 --launch-template-id " + template + " --default-version 1",
		"ec2 delete-launch-template-versions --region eu-west-1 --launch-template-id " + template + " --versions 2",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the script does not run %q, but\n%s", want, text)
		}
	}
	if strings.Index(text, "modify-launch-template") > strings.Index(text, "delete-launch-template-versions") {
		t.Error("the version is deleted before the default has left it")
	}
}
