// Package faults lets imdsctl apply a plan while AWS, the network, the clock or the database misbehaves, and judges it by the
// simulator's own stores and log of calls and by what the journal says: what must get done is done once, what cannot be done
// is left as it was, and the words tell a person what to do.
package faults

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
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// Accounts of the organization. The management account is the caller's.
const (
	management fleet.AccountID = "111111111111"
	shop       fleet.AccountID = "222222222222"
	billing    fleet.AccountID = "333333333333"
	ledger     fleet.AccountID = "444444444444"
)

const (
	region fleet.Region = "eu-west-1"
	// rate is how fast the simulated time runs: an hour in two seconds.
	rate = 1800
)

var (
	start   = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	members = []fleet.AccountID{shop, billing, ledger}
)

// configuration lets a stack's instances be changed in three steps, and a wave go on without a stack that failed.
const configuration = `
version: 1
organization: {discover: organizations, regions: [eu-west-1], role: {duration: SESSION}}
evidence: {require_boot: false}
gates: {delay: 5m}
bake: {low: BAKE, medium: BAKE, high: BAKE, critical: BAKE}
stack: {tag: app}
rollout:
  steps: [1, 50%, 100%]
  max_in_flight: 64
  max_in_flight_per_account: 16
  max_failures: {stack: 0, wave: 100}
  on_failure: continue
`

func TestMain(m *testing.M) {
	if path := os.Getenv(holdVariable); path != "" {
		if err := holdDatabase(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	// A scenario mostly waits for simulated time, so that more than there are processors can be under way.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// world is a simulated organization behind a socket, and what imdsctl has of it: a configuration and a database.
type world struct {
	*awssim.World
	clock  clock.Clock
	front  *front
	url    string
	config string
	db     string
	plan   *plan.Plan
	before picture
	engine app.EngineOptions
	busy   time.Duration
	since  int64 // how many calls there were at the time of the plan

	mu    sync.Mutex
	creds aws.Credentials // the caller's
}

// options are what a scenario has otherwise than most.
type options struct {
	world  awssim.Options
	rate   float64
	engine app.EngineOptions
	// bake and session are twenty minutes and an hour unless set.
	bake, session string
	// ahead is how much imdsctl's own clock is ahead of AWS's.
	ahead time.Duration
	// busy is how long writes to the database wait for another process; 0 is the default.
	busy time.Duration
}

func (o options) config() string {
	return strings.NewReplacer("BAKE", cmp.Or(o.bake, "20m"), "SESSION", cmp.Or(o.session, "1h")).Replace(configuration)
}

// newWorld makes the organization, scans it and plans.
func newWorld(t *testing.T, o options) *world {
	t.Helper()
	if o.rate == 0 {
		o.rate = rate
	}
	if o.engine == (app.EngineOptions{}) {
		// A call has an hour of simulated time, two seconds of a busy machine's.
		o.engine = app.EngineOptions{CallTimeout: time.Hour, Consistency: time.Minute, VerifyTimeout: 2 * time.Hour,
			PollInterval: time.Minute}
	}
	o.world.Clock, o.world.Seed = clock.Scaled(start, o.rate), 7
	w := &world{World: awssim.New(o.world), clock: clock.Scaled(start.Add(o.ahead), o.rate), config: o.config(),
		db: filepath.Join(t.TempDir(), "imdsctl.db"), engine: o.engine, busy: o.busy,
		creds: aws.Credentials{AccessKeyID: string(management), SecretAccessKey: "secret"}}
	if err := w.LoadSeed(organization()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.front = &front{next: w.Handler(), skew: -o.ahead, checks: o.ahead != 0}
	w.url = "http://" + l.Addr().String()
	server := &http.Server{Handler: w.front, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-served })

	a := w.open(t)
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
	if w.plan, err = plan.Read(&out, "plan.json"); err != nil {
		t.Fatal(err)
	}
	w.before, w.since = w.see(t), w.CallCount()
	return w
}

// open starts an imdsctl of its own: new sessions, new buckets, a new connection to the database.
func (w *world) open(t *testing.T) *app.App {
	t.Helper()
	cfg, problems := policy.Parse([]byte(w.config), "imdsctl.yaml", app.KindNames())
	if cfg == nil {
		t.Fatalf("configuration: %v", problems)
	}
	a, err := app.New(app.Options{
		Config: cfg, DBPath: w.db, Clock: w.clock, Version: "test", Actor: "tester", Engine: w.engine, DatabaseBusy: w.busy,
		AWS: func(context.Context) (aws.Config, error) {
			caller := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.creds, nil
			})
			return aws.Config{Region: string(region), BaseEndpoint: aws.String(w.url), Credentials: caller}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// login changes the caller's credentials.
func (w *world) login(c core.Credentials) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.creds = aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}
}

// apply carries the plan out, or on.
func (w *world) apply(t *testing.T, o app.ApplyOptions) (*app.ApplyResult, error) {
	t.Helper()
	o.Yes, o.Reason = true, "test"
	return w.open(t).Apply(t.Context(), w.plan, o)
}

// mustApply carries the plan out to the end of all its stacks.
func (w *world) mustApply(t *testing.T, o app.ApplyOptions) *app.ApplyResult {
	t.Helper()
	result, err := w.apply(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if result.Record.Status != rollout.Done || result.Counts.Verified != len(w.plan.Changes) {
		t.Fatalf("the rollout is %s (%s): %+v\n%s", result.Record.Status, result.Record.Reason, result.Counts, story(result))
	}
	return result
}

// fault adds a rule for the rest of the scenario.
func (w *world) fault(t *testing.T, f core.Fault) int {
	t.Helper()
	id, err := w.AddFault(f)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// onWrite does something once, after the n-th write of an action in an account.
func (w *world) onWrite(t *testing.T, account fleet.AccountID, action string, n int64, do func()) {
	t.Helper()
	var seen atomic.Int64
	w.fault(t, core.Fault{Account: string(account), Action: action, After: func(c *core.Call) {
		if dry, _, err := c.In.Bool("DryRun"); err == nil && !dry && seen.Add(1) == n {
			do()
		}
	}})
}

// place is an account's in the one region.
func (w *world) place(t *testing.T, account fleet.AccountID) *core.Place {
	t.Helper()
	p, err := w.Place(account, region)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// picture is what the simulator's stores hold, by account and resource.
type picture map[string]string

func (w *world) see(t *testing.T) picture {
	t.Helper()
	out := picture{}
	for _, account := range members {
		p := w.place(t, account)
		var err error
		p.With(func(time.Time) { err = out.add(p) })
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// add reads a place, which is locked.
func (out picture) add(p *core.Place) error {
	put := func(id string, v any) error {
		b, err := json.Marshal(v)
		out[string(p.Account)+" "+id] = string(b)
		return err
	}
	machines, groups := ec2.StoreOf(p), autoscaling.StoreOf(p)
	errs := []error{put("defaults", machines.Defaults())}
	for i := range machines.Instances() {
		errs = append(errs, put(i.ID(), i.Newest().Options))
	}
	for _, name := range groups.Groups() {
		asks, err := groups.Launches(name)
		errs = append(errs, err)
		for n, ask := range asks {
			made, data, err := machines.Preview(ask)
			errs = append(errs, err, put(fmt.Sprintf("%s launch %d", name, n), []any{ask, made.Options, data}))
		}
	}
	for _, id := range []string{template(p.Account)} {
		first, err := machines.ResolveVersion(id, inventory.SelectDefault)
		errs = append(errs, err)
		last, err := machines.ResolveVersion(id, inventory.SelectLatest)
		errs = append(errs, err, put(id, []int64{first, last}))
	}
	return errors.Join(errs...)
}

// of is the part of a picture that is an account's.
func (out picture) of(account fleet.AccountID) picture {
	part := picture{}
	for k, v := range out {
		if strings.HasPrefix(k, string(account)+" ") {
			part[k] = v
		}
	}
	return part
}

// mutation is a call that changed the world, as the log has it.
func (w *world) mutations() []core.CallRecord {
	return slices.DeleteFunc(w.CallsSince(w.since), func(c core.CallRecord) bool { return !c.Mutated || c.Service == "sts" })
}

// effects counts what changed the world, by account, action and resource.
func (w *world) effects() map[string]int {
	out := map[string]int{}
	for _, c := range w.mutations() {
		out[strings.Join([]string{string(c.Account), c.Action, strings.Join(c.Resources, ",")}, " ")]++
	}
	return out
}

// quiet is what comes of the plan when nothing goes wrong. It is found out once.
var quiet struct {
	sync.Once
	effects map[string]int
	after   picture
}

// undisturbed compares what came of the plan with what comes of it undisturbed: every effect once, and the same end.
func (w *world) undisturbed(t *testing.T) {
	t.Helper()
	effects, after := peace(t)
	differ(t, "effects", w.effects(), effects)
	differ(t, "at the end", w.see(t), after)
}

func peace(t *testing.T) (map[string]int, picture) {
	t.Helper()
	quiet.Do(func() {
		w := newWorld(t, options{})
		w.mustApply(t, app.ApplyOptions{})
		quiet.effects, quiet.after = w.effects(), w.see(t)
	})
	if len(quiet.after) == 0 {
		t.Fatal("the undisturbed rollout failed, so that there is nothing to compare with")
	}
	for k, n := range quiet.effects {
		if n != 1 {
			t.Fatalf("undisturbed, %s took effect %d times", k, n)
		}
	}
	return quiet.effects, quiet.after
}

func differ[V comparable](t *testing.T, what string, got, want map[string]V) {
	t.Helper()
	keys := map[string]bool{}
	for k := range got {
		keys[k] = true
	}
	for k := range want {
		keys[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if g, ok := got[k]; g != want[k] || ok != (has(want, k)) {
			t.Errorf("%s: %s is %v, want %v", what, k, got[k], want[k])
		}
	}
}

func has[V any](m map[string]V, k string) bool { _, ok := m[k]; return ok }

// journal checks the hash chains and gives the reasons that the journal gives, of the changes and stacks of an account.
func (w *world) journal(t *testing.T, id string, account fleet.AccountID) string {
	t.Helper()
	view, err := w.open(t).Rollout(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, e := range view.Events {
		if strings.Contains(e.Chain, string(account)) || w.accountOf(e.Stack) == account {
			fmt.Fprintf(&out, "%s %s %s\n", e.Name, e.Reason, e.Detail["reason"])
		}
	}
	return out.String()
}

func (w *world) accountOf(stack string) fleet.AccountID {
	for i := range w.plan.Stacks {
		if w.plan.Stacks[i].ID == stack {
			return w.plan.Stacks[i].Place.Account
		}
	}
	return ""
}

// phases counts the stacks of an account by phase.
func (w *world) phases(r *app.Record, account fleet.AccountID) map[rollout.StackPhase]int {
	out := map[rollout.StackPhase]int{}
	for id, s := range r.Stacks {
		if w.accountOf(id) == account {
			out[s.Phase]++
		}
	}
	return out
}

// story tells what became of every stack and change.
func story(r *app.ApplyResult) string {
	var out strings.Builder
	for _, s := range r.Plan.Stacks {
		fmt.Fprintf(&out, "%s %s %s: %+v\n", s.ID, s.Place, s.Name, r.Record.Stacks[s.ID])
	}
	for _, c := range r.Plan.Changes {
		state := r.Record.Changes[c.ID]
		fmt.Fprintf(&out, "  %s %s %s step %d %s: %s (%d attempts) %s\n", c.Stack, c.ID, c.Action, c.Step, c.Ref, state.Phase,
			state.Attempt, state.Reason)
	}
	return out.String()
}
