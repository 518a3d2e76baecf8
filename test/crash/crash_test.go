//go:build unix

// Package crash kills imdsctl for real. A child process applies a plan against a simulated AWS and is killed (SIGKILL) at a
// boundary of its journal, or at any moment; another goes on; what AWS was told in all must equal what an undisturbed run told
// it. The judge is the simulator's own log of calls.
//
// There are three parts: every boundary of one apply and one rollback (crash_test.go); random kills while calls go wrong
// (campaign_test.go); and workers on PostgreSQL of which one is killed, one stopped past its lease, while the server restarts
// (workers_test.go). The last two are short here; scripts/campaign.sh runs them at length.
package crash

import (
	"bytes"
	"cmp"
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
	"sync"
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
	Rate          float64
	Config        string
	Rollback      bool   // ask for the rollback of everything first
	KillAt        int64  // the boundary to be killed at; 0 for none
	Count         string // file to write the names of the boundaries to, in order
	Last          string // file to write the name of the boundary to at which it was killed
	Work          string // what to do instead of applying: "work" beside others, or "scan" beside a rollout
	Caller        string // the account of the caller
	CallTimeout   time.Duration
	LeaseTTL      time.Duration
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
	var mu sync.Mutex
	var boundaries []string
	a, err := open(e, func(point string) {
		mu.Lock()
		boundaries = append(boundaries, point)
		n := len(boundaries)
		mu.Unlock()
		if int64(n) == e.KillAt {
			_ = os.WriteFile(e.Last, []byte(point), 0o600) // it is only counted
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the signal has come
		}
	})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if e.Work != "" {
		return work(ctx, a, e)
	}
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
	mu.Lock()
	names := strings.Join(boundaries, "\n")
	mu.Unlock()
	return errors.Join(os.WriteFile(e.Count, []byte(names), 0o600), a.Close())
}

func open(e errand, boundary func(string)) (*app.App, error) {
	cfg, problems := policy.Parse([]byte(e.Config), "imdsctl.yaml", app.KindNames())
	if cfg == nil {
		return nil, fmt.Errorf("configuration: %v", problems)
	}
	return app.New(app.Options{
		Config: cfg, DBPath: e.DB, Clock: clock.Scaled(e.Now, e.Rate), Version: "test", Actor: "tester", Boundary: boundary,
		AWS: func(context.Context) (aws.Config, error) {
			return aws.Config{Region: region, BaseEndpoint: aws.String(e.URL),
				Credentials: credentials.NewStaticCredentialsProvider(e.Caller, "secret", "")}, nil
		},
		Engine: e.engine(), Logger: complaints(),
	})
}

// engine gives the simulated times of a call, an hour and a second of the machine's at rate, or the machine's.
func (e errand) engine() app.EngineOptions {
	if e.CallTimeout > 0 {
		return app.EngineOptions{CallTimeout: e.CallTimeout, LeaseTTL: e.LeaseTTL, Consistency: 3 * time.Second, LaneWidth: 32}
	}
	return app.EngineOptions{CallTimeout: time.Hour, Consistency: time.Minute, VerifyTimeout: time.Hour, PollInterval: 2 * time.Minute}
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
	world  *awssim.World
	clock  clock.Clock
	rate   float64
	config string
	db     string // a database elsewhere; the file in dir where it is empty
	url    string
	dir    string
}

// newScene makes the world anew. The database and the plan are copied from prepared, or made when it is empty.
func newScene(t *testing.T, prepared string) *scene {
	t.Helper()
	s := &scene{clock: clock.Scaled(start, rate), rate: rate, config: config, dir: t.TempDir()}
	s.open(t, fleetSeed(), awssim.Options{})
	s.furnish(t, prepared)
	return s
}

// open makes the scene's world and serves it until the test ends.
func (s *scene) open(t *testing.T, seed *core.Seed, o awssim.Options) {
	t.Helper()
	o.Clock, o.Seed = s.clock, 7
	s.world = awssim.New(o)
	if err := s.world.LoadSeed(seed); err != nil {
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
}

// furnish puts a database with a plan into the scene: a copy of what was prepared, or a new one.
func (s *scene) furnish(t *testing.T, prepared string) {
	t.Helper()
	if prepared == "" {
		s.prepare(t)
		return
	}
	for _, name := range furniture() {
		b, err := os.ReadFile(filepath.Join(prepared, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// furniture lists the files that make a plan that is ready to be applied.
func furniture() []string { return []string{"imdsctl.db", "plan.json"} }

// keep copies what is ready to be applied, for other scenes of the same fleet.
func (s *scene) keep(t *testing.T) (prepared string) {
	t.Helper()
	prepared = t.TempDir()
	for _, name := range furniture() {
		b, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(prepared, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return prepared
}

func (s *scene) errand() errand {
	return errand{URL: s.url, DB: cmp.Or(s.db, filepath.Join(s.dir, "imdsctl.db")), Caller: account,
		Plan: filepath.Join(s.dir, "plan.json"), Config: s.config, Now: s.clock.Now(), Rate: s.rate, Count: filepath.Join(s.dir, "count"), Last: filepath.Join(s.dir, "last")}
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
	killed, err := s.child(t, change, nil)
	if err != nil {
		t.Fatal(err)
	}
	return killed
}

// child lets a child do an errand. during, where set, is called when it has been started, to do something to it.
func (s *scene) child(t *testing.T, change func(*errand), during func(*os.Process)) (killed bool, err error) {
	t.Helper()
	e := s.errand()
	if change != nil {
		change(&e)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd, out, err := spawn(ctx, e)
	if err != nil {
		return false, err
	}
	if during != nil {
		during(cmd.Process)
	}
	err = cmd.Wait()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() && status.Signal() == syscall.SIGKILL && ctx.Err() == nil {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("child: %w\n%s", errors.Join(err, ctx.Err()), out)
	}
	return false, nil
}

// spawn starts a child.
func spawn(ctx context.Context, e errand) (*exec.Cmd, *bytes.Buffer, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, nil, err
	}
	cmd, out := exec.CommandContext(ctx, os.Args[0]), &bytes.Buffer{}
	cmd.Env = append(os.Environ(), errandVariable+"="+string(b))
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out, cmd.Start()
}

// boundaries names those that the last child passed that was not killed.
func (s *scene) boundaries(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "count"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(b), "\n")
}

// effects counts what changed the world, by action and resource.
func (s *scene) effects() map[string]int {
	out := map[string]int{}
	for _, c := range s.world.Calls() {
		if c.Mutated && c.Service != "sts" {
			out[c.Action+" "+strings.Join(subjects(c), ",")]++
		}
	}
	return out
}

// subjects are what a call changed. A command is named by its instances: its own id is another in each world.
func subjects(c core.CallRecord) []string {
	if c.Service != "ssm" {
		return c.Resources
	}
	return c.Resources[min(1, len(c.Resources)):] // the first is the id
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
	t.Parallel()
	first := newScene(t, "")
	prepared := first.keep(t)
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
	if len(wantEffects) < 13 || len(n) < 2*len(p.Changes) {
		t.Fatalf("%d effects, %d boundaries: the undisturbed run did too little\n%v", len(wantEffects), len(n), wantEffects)
	}
	if first.run(t, func(e *errand) { e.Rollback = true }) {
		t.Fatal("the undisturbed rollback was killed")
	}
	same(t, "after the rollback", first.states(t), before)
	wantBoth, m := first.effects(), first.boundaries(t)
	t.Logf("%d changes; killed at %d of %d boundaries forward, %d of %d back", len(p.Changes), len(sample(n)), len(n),
		len(sample(m)), len(m))

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

var everywhere = flag.Bool("everywhere", false, "kill at every boundary, those that only keep leases and note readings included")

// sample is the boundaries to be killed at, numbered from 1: every one around what moves a rollout on, and some of those
// that come and go with the time. Under -short it is a tenth.
func sample(names []string) []int {
	var out []int
	others := 0
	for i, name := range names {
		what, _, _ := strings.Cut(name, ":")
		moves := slices.Contains([]string{"begin", "move", "admit", "settle", "control"}, what)
		if !moves {
			others++
		}
		if testing.Short() && i%10 == 0 || !testing.Short() && (*everywhere || moves || others%8 == 1) {
			out = append(out, i+1)
		}
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
	want := map[string]int{"set-options": 9, "create-version": 2, "set-default": 1, "set-launch-version": 3, "launched": 4, "set-defaults": 1}
	if !maps.Equal(actions, want) {
		t.Fatalf("the plan holds %v, want %v (manual steps: %v)", actions, want, p.Manuals)
	}
	if len(p.Stacks) != 3 {
		t.Fatalf("%d stacks, want the four groups, the instance and the account's default", len(p.Stacks))
	}
}
