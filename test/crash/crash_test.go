// Package crash kills imdsctl for real. A child process applies a plan against a simulated AWS and is killed (SIGKILL) at a
// boundary of its journal; another goes on; what AWS was told in all must equal what an undisturbed run told it. The judge
// is the simulator's own log of calls.
package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

const (
	account = "222222222222"
	region  = "eu-west-1"
	// rate is how fast the simulated time runs: an hour in a second.
	rate = 3600
)

var start = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

const config = `
version: 1
organization: {discover: self, regions: [eu-west-1]}
evidence: {require_boot: false}
gates: {delay: 5m}
bake: {low: 20m, medium: 20m, high: 20m, critical: 20m}
rollout: {concurrency: 4, max_in_flight: 16}
`

// errand is what a child is to do, passed as JSON in its environment.
type errand struct {
	URL, DB, Plan string
	Now           time.Time
	Rollback      bool   // ask for the rollback of everything first
	KillAt        int64  // the boundary to be killed at; 0 for none
	Count         string // file to write the number of boundaries to
}

const errandVariable = "IMDSCTL_CRASH_ERRAND"

func TestMain(m *testing.M) {
	if e := os.Getenv(errandVariable); e != "" {
		if err := child(e); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	// The children mostly wait for simulated time, so many more than there are processors can run at once.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// child is imdsctl with a knife at its throat.
func child(text string) error {
	var e errand
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		return err
	}
	var boundaries atomic.Int64
	a, err := open(e, func(string) {
		if boundaries.Add(1) == e.KillAt {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the signal has come
		}
	})
	if err != nil {
		return err
	}
	ctx := context.Background()
	p, err := app.ReadPlan(e.Plan)
	if err != nil {
		return err
	}
	if e.Rollback {
		if err := a.RollbackRollout(ctx, p.Digest[:12], nil, "the test asks"); err != nil {
			return err
		}
	}
	result, err := a.Apply(ctx, p, app.ApplyOptions{Yes: true})
	if err != nil {
		return err
	}
	if s := result.Record.Status; s != rollout.Done && s != rollout.RolledBack {
		b, _ := json.MarshalIndent(result.Record, "", " ")
		return fmt.Errorf("the rollout ended as %s: %s\n%s", s, result.Record.Reason, b)
	}
	if err := os.WriteFile(e.Count, []byte(strconv.FormatInt(boundaries.Load(), 10)), 0o600); err != nil {
		return err
	}
	return a.Close()
}

func open(e errand, boundary func(string)) (*app.App, error) {
	cfg, problems := policy.Parse([]byte(config), "imdsctl.yaml", app.KindNames())
	if cfg == nil {
		return nil, fmt.Errorf("configuration: %v", problems)
	}
	return app.New(app.Options{
		Config: cfg, DBPath: e.DB, Clock: clock.Scaled(e.Now, rate), Version: "test", Actor: "tester", Boundary: boundary,
		AWS: func(context.Context) (aws.Config, error) {
			return aws.Config{Region: region, BaseEndpoint: aws.String(e.URL), Credentials: credentials.NewStaticCredentialsProvider(account, "secret", "")}, nil
		},
		// A call has an hour of simulated time, a second of the machine's.
		Engine: app.EngineOptions{CallTimeout: time.Hour, Consistency: time.Minute, VerifyTimeout: time.Hour, PollInterval: 2 * time.Minute},
	})
}

// fleetSeed is the hardest fleet of launch templates: default 3, latest 5, groups on $Default twice, $Latest and 3, with an
// account default to write and an instance by itself.
func fleetSeed() *core.Seed {
	const image, template = "ami-0123456789abcdef0", "lt-0123456789abcdef0"
	version := func(n int) string {
		return fmt.Sprintf(`{"number": %d, "data": {"ImageId": "ami-0123456789abcde%02d", "InstanceType": "m5.large", "MetadataOptions": {"HttpTokens": "optional", "HttpPutResponseHopLimit": 2}}}`, n, n)
	}
	images, versions := []string{fmt.Sprintf(`{"id": %q}`, image)}, []string{}
	for n := 1; n <= 5; n++ {
		images = append(images, fmt.Sprintf(`{"id": "ami-0123456789abcde%02d"}`, n))
		versions = append(versions, version(n))
	}
	var instances, groups []string
	for g, group := range []struct{ name, version string }{{"alpha", "$Default"}, {"beta", "$Default"}, {"gamma", "$Latest"}, {"delta", "3"}} {
		var ids []string
		for i := range 2 {
			id := fmt.Sprintf("i-0%015x%x", g, i)
			ids = append(ids, strconv.Quote(id))
			instances = append(instances, fmt.Sprintf(`{"id": %q, "image": %q, "template": %q, "version": 3, "launched": "2026-01-05T00:00:00Z",
				"options": {"tokens": "optional", "hop_limit": 2, "endpoint": "enabled"}, "tags": {"aws:autoscaling:groupName": %q}}`, id, image, template, group.name))
		}
		groups = append(groups, fmt.Sprintf(`{"name": %q, "template": %q, "version": %q, "min": 1, "max": 4, "instances": [%s]}`, group.name, template, group.version, strings.Join(ids, ",")))
	}
	instances = append(instances, fmt.Sprintf(`{"id": "i-0fffffffffffffff0", "image": %q, "launched": "2026-01-05T00:00:00Z", "options": {"tokens": "optional", "hop_limit": 1, "endpoint": "enabled"}}`, image))
	ec2 := fmt.Sprintf(`{"images": [%s], "templates": [{"id": %q, "name": "app", "default": 3, "versions": [%s]}], "instances": [%s]}`,
		strings.Join(images, ","), template, strings.Join(versions, ","), strings.Join(instances, ","))
	return &core.Seed{Accounts: []core.AccountSeed{{ID: account, Name: "shop", Regions: map[fleet.Region]map[string]json.RawMessage{
		region: {"ec2": json.RawMessage(ec2), "autoscaling": json.RawMessage(`{"groups": [` + strings.Join(groups, ",") + `]}`)}}}}}
}

// scene is one world with the database and plan of an imdsctl that is about to apply.
type scene struct {
	world *awssim.World
	clock clock.Clock
	url   string
	dir   string
}

// newScene makes the world anew. The database and the plan are copied from prepared, or made when it is empty.
func newScene(t *testing.T, prepared string) *scene {
	t.Helper()
	s := &scene{clock: clock.Scaled(start, rate), dir: t.TempDir()}
	s.world = awssim.New(awssim.Options{Clock: s.clock, Seed: 7})
	if err := s.world.LoadSeed(fleetSeed()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.world.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-served })
	if prepared == "" {
		s.prepare(t)
		return s
	}
	for _, name := range []string{"imdsctl.db", "plan.json"} {
		b, err := os.ReadFile(filepath.Join(prepared, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *scene) errand() errand {
	return errand{URL: s.url, DB: filepath.Join(s.dir, "imdsctl.db"), Plan: filepath.Join(s.dir, "plan.json"),
		Now: s.clock.Now(), Count: filepath.Join(s.dir, "count")}
}

// prepare scans and plans.
func (s *scene) prepare(t *testing.T) {
	t.Helper()
	a, err := open(s.errand(), nil)
	if err != nil {
		t.Fatal(err)
	}
	summary, err := a.Scan(t.Context(), app.ScanOptions{})
	if err != nil || len(summary.Gaps) > 0 {
		t.Fatalf("scan: %v, gaps %v", err, summary.Gaps)
	}
	result, err := a.Plan(t.Context(), app.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := a.WritePlan(t.Context(), &out, "plan.json", result.Plan); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "plan.json"), out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil { // folds the write-ahead log into the file that is copied
		t.Fatal(err)
	}
}

// run lets a child do an errand, and tells whether it was killed.
func (s *scene) run(t *testing.T, change func(*errand)) (killed bool) {
	t.Helper()
	e := s.errand()
	if change != nil {
		change(&e)
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), errandVariable+"="+string(b))
	out, err := cmd.CombinedOutput()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL && ctx.Err() == nil {
		return true
	}
	if err != nil {
		t.Fatalf("child: %v\n%s", errors.Join(err, ctx.Err()), out)
	}
	return false
}

func (s *scene) boundaries(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "count"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(string(b))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// effects counts what changed the world, by action and resource.
func (s *scene) effects() map[string]int {
	out := map[string]int{}
	for _, c := range s.world.Calls() {
		if c.Mutated && c.Service != "sts" {
			out[c.Action+" "+strings.Join(c.Resources, ",")]++
		}
	}
	return out
}

// states reads every resource as AWS has it, by a scan into a database of its own.
func (s *scene) states(t *testing.T) map[string]string {
	t.Helper()
	e := s.errand()
	e.DB = filepath.Join(s.dir, "after.db")
	e.Now = s.clock.Now().Add(time.Hour)
	a, err := open(e, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.Scan(t.Context(), app.ScanOptions{NoEvidence: true}); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for row, err := range a.Resources(t.Context(), app.ResourceFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(struct{ State, Launch any }{row.Resource.State, row.Resource.Launch})
		if err != nil {
			t.Fatal(err)
		}
		out[row.Resource.Ref.String()] = string(b)
	}
	return out
}

func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] {
			t.Errorf("%s: %s is %s, want %s", what, k, got[k], want[k])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d resources, want %d", what, len(got), len(want))
	}
}

func sameEffects(t *testing.T, got, want map[string]int) {
	t.Helper()
	keys := map[string]bool{}
	for k := range got {
		keys[k] = true
	}
	for k := range want {
		keys[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if got[k] != want[k] {
			t.Errorf("%s took effect %d times, want %d", k, got[k], want[k])
		}
	}
}

func TestKilledAtEveryBoundaryOfAnApply(t *testing.T) {
	first := newScene(t, "")
	prepared := t.TempDir()
	for _, name := range []string{"imdsctl.db", "plan.json"} {
		b, err := os.ReadFile(filepath.Join(first.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(prepared, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := app.ReadPlan(filepath.Join(prepared, "plan.json"))
	if err != nil {
		t.Fatal(err)
	}
	checkPlan(t, p)
	before := first.states(t)
	if first.run(t, nil) {
		t.Fatal("the undisturbed run was killed")
	}
	wantStates, wantEffects, n := first.states(t), first.effects(), first.boundaries(t)
	if len(wantEffects) < 13 || n < 2*len(p.Changes) {
		t.Fatalf("%d effects, %d boundaries: the undisturbed run did too little\n%v", len(wantEffects), n, wantEffects)
	}
	if first.run(t, func(e *errand) { e.Rollback = true }) {
		t.Fatal("the undisturbed rollback was killed")
	}
	same(t, "after the rollback", first.states(t), before)
	wantBoth, m := first.effects(), first.boundaries(t)
	t.Logf("%d changes; %d boundaries forward, %d back", len(p.Changes), n, m)

	t.Run("forward", func(t *testing.T) {
		for _, k := range sample(n) {
			t.Run(fmt.Sprint(k), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, prepared)
				if s.run(t, func(e *errand) { e.KillAt = int64(k) }) && s.run(t, nil) {
					t.Fatal("the second run was killed")
				}
				same(t, "resumed", s.states(t), wantStates)
				sameEffects(t, s.effects(), wantEffects)
			})
		}
	})
	t.Run("back", func(t *testing.T) {
		for _, k := range sample(m) {
			t.Run(fmt.Sprint(k), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, prepared)
				s.run(t, nil)
				// Killed before the request for the rollback was recorded, nothing was asked for: ask again.
				if s.run(t, func(e *errand) { e.KillAt, e.Rollback = int64(k), true }) {
					if s.asked(t, p.Digest[:12]) {
						s.run(t, nil)
					} else {
						s.run(t, func(e *errand) { e.Rollback = true })
					}
				}
				same(t, "resumed", s.states(t), before)
				sameEffects(t, s.effects(), wantBoth)
			})
		}
	})
}

// asked tells whether the journal knows of the request for a rollback.
func (s *scene) asked(t *testing.T, rolloutID string) bool {
	t.Helper()
	a, err := open(s.errand(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	view, err := a.Rollout(t.Context(), rolloutID)
	if err != nil {
		t.Fatal(err)
	}
	return view.Record.Status != rollout.Done
}

// sample is every boundary, or a tenth of them under -short.
func sample(n int) []int {
	step := 1
	if testing.Short() {
		step = 10
	}
	var out []int
	for k := 1; k <= n; k += step {
		out = append(out, k)
	}
	return out
}

// checkPlan makes sure that the fleet is as hard as meant: one stack of four groups, two copies, a pin and its end.
func checkPlan(t *testing.T, p *plan.Plan) {
	t.Helper()
	actions := map[string]int{}
	for _, c := range p.Changes {
		actions[c.Action]++
	}
	want := map[string]int{"set-options": 9, "create-version": 2, "set-default": 1, "set-launch-version": 3, "set-defaults": 1}
	if !maps.Equal(actions, want) {
		t.Fatalf("the plan holds %v, want %v (manual steps: %v)", actions, want, p.Manuals)
	}
	if len(p.Stacks) != 3 {
		t.Fatalf("%d stacks, want the four groups, the instance and the account's default", len(p.Stacks))
	}
}
