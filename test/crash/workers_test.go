//go:build unix

package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
	"github.com/imdsctl/imdsctl/test/postgres"
)

var (
	accounts  = flag.Int("accounts", 12, "how many accounts the rollout of many workers is over")
	instances = flag.Int("instances", 50, "how many instances each of them has")
	workers   = flag.Int("workers", 3, "how many workers carry it out")
	freeze    = flag.Duration("freeze", 3*leaseTTL, "how long a worker is stopped; its lanes move on after a minute and a half")
)

const management fleet.AccountID = "111111111111"

// workersConfig lets all accounts go on at once, as fast as AWS's limits allow but for a tenth: calls that took their token may
// arrive later than others, in a bunch.
const workersConfig = `
version: 1
organization: {discover: organizations, regions: [eu-west-1]}
evidence: {require_boot: false}
gates: {delay: 0s, interval: 1s, heartbeat: none}
bake: {low: 1s, medium: 1s, high: 1s, critical: 1s}
stack: {tag: app}
targets: {account_defaults: false}
limits: {safety: 0.9}
rollout:
  steps: [1, 100%]
  concurrency: 5000
  concurrency_per_account: 0
  max_in_flight: 5000
  max_in_flight_per_account: 48
`

// The times of the workers. This part of the tests keeps the machine's time, as the database does.
const (
	callTimeout = 20 * time.Second
	leaseTTL    = 5 * time.Second
	clocksApart = 2 * time.Second // at most, a worker's from the database's: half of the slowest answer that a clock is set by
	scanPause   = 5 * time.Second // between two scans, each of which takes every lane for a moment
)

// work is what a child does that does not apply: it works on rollouts beside others, or scans again and again.
func work(ctx context.Context, a *app.App, e errand) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	if e.Work == "work" {
		return errors.Join(a.Work(ctx, app.WorkerOptions{}), a.Close())
	}
	scans := 0
	for ctx.Err() == nil {
		summary, err := a.Scan(ctx, app.ScanOptions{NoEvidence: true})
		if err == nil && len(summary.Gaps) == 0 {
			scans++
		}
		select {
		case <-ctx.Done():
		case <-time.After(scanPause):
		}
	}
	fmt.Println("scans", scans)
	return a.Close()
}

// crowd is an organization with many instances, and the workers that migrate it.
type crowd struct {
	*scene
	server *postgres.Server
	plan   *plan.Plan
	since  int64
	kills  []string
	// seen is the last call that was counted, and writes how many changed something.
	seen   int64
	writes int
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	server := postgres.Start(t)
	c := &crowd{server: server, scene: &scene{clock: clock.System(), rate: 1, config: workersConfig, dir: t.TempDir()}}
	c.db = server.Database(t)
	c.scene.open(t, crowdSeed(), awssim.Options{Unenforced: true})
	a := c.app(t)
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
	if c.plan, err = plan.Read(&out, "plan.json"); err != nil {
		t.Fatal(err)
	}
	if want := *accounts * *instances; len(c.plan.Changes) != want {
		t.Fatalf("the plan has %d changes, want %d", len(c.plan.Changes), want)
	}
	c.since = c.world.CallCount()
	return c
}

// crowdSeed is accounts with instances of one stack each.
func crowdSeed() *core.Seed {
	s := &core.Seed{
		Organization: core.Organization{ID: "o-test123456", ManagementAccount: management},
		Accounts:     []core.AccountSeed{{ID: management, Name: "management"}},
	}
	for n := range *accounts {
		a := core.AccountSeed{ID: fleet.AccountID(fmt.Sprintf("2%011d", n))}
		for _, name := range []string{policy.DefaultReadRole, policy.DefaultWriteRole} {
			a.Roles = append(a.Roles, core.RoleSeed{Name: name, Trust: json.RawMessage(core.TrustAccount(management, ""))})
		}
		var list []string
		for i := range *instances {
			list = append(list, fmt.Sprintf(`{"id": "i-0%08x%08x", "image": "ami-0123456789abcdef0", "launched": %q, "tags": {"app": "web"},
				"options": {"tokens": "optional", "hop_limit": 1, "endpoint": "enabled"}}`, n, i,
				time.Now().AddDate(0, 0, -40).UTC().Format(time.RFC3339)))
		}
		a.Regions = map[fleet.Region]map[string]json.RawMessage{region: {"ec2": json.RawMessage(
			`{"images": [{"id": "ami-0123456789abcdef0"}], "instances": [` + strings.Join(list, ",") + `]}`)}}
		s.Accounts = append(s.Accounts, a)
	}
	return s
}

// app is the test's own imdsctl, which watches.
func (c *crowd) app(t *testing.T) *app.App {
	t.Helper()
	e := c.errand("")
	a, err := open(e, nil)
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

func (c *crowd) errand(what string) errand {
	e := c.scene.errand()
	e.Caller, e.Work = string(management), what
	e.CallTimeout, e.LeaseTTL = callTimeout, leaseTTL
	return e
}

// process is a child that works.
type process struct {
	cmd  *exec.Cmd
	out  *bytes.Buffer
	done chan error
}

// start starts a child that works until it is told to stop, or killed.
func (c *crowd) start(t *testing.T, what string) *process {
	t.Helper()
	cmd, out, err := spawn(context.Background(), c.errand(what))
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, out: out, done: make(chan error, 1)}
	go func() { p.done <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		if t.Failed() {
			t.Logf("%s %d said:\n%s", what, cmd.Process.Pid, out)
		}
	})
	return p
}

// stop tells a child to end, and waits until it has.
func (p *process) stop(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case err := <-p.done:
		if err != nil {
			t.Errorf("process %d: %v", p.cmd.Process.Pid, err)
		}
	case <-time.After(time.Minute):
		t.Errorf("process %d does not stop", p.cmd.Process.Pid)
	}
}

// TestManyWorkers has three workers on PostgreSQL carry out a rollout, while a scan goes on beside them. One is killed and
// replaced, one is stopped past its lease and woken, and PostgreSQL is killed and started again. Nothing is lost, nothing is
// done twice, each write lies within its intent, and AWS never has to throttle.
func TestManyWorkers(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	var crew []*process
	for range *workers {
		crew = append(crew, c.start(t, "work"))
	}
	scan := c.start(t, "scan")

	type outcome struct {
		result *app.ApplyResult
		err    error
	}
	ended := make(chan outcome, 1)
	watcher := c.app(t)
	go func() {
		r, err := watcher.Apply(t.Context(), c.plan, app.ApplyOptions{Yes: true, Reason: "test", Watch: true,
			RollbackFile: filepath.Join(c.dir, "rollback.sh")})
		ended <- outcome{r, err}
	}()
	began := time.Now()
	rng := rand.New(rand.NewPCG(*first, 9))
	victim := rng.IntN(len(crew))
	frozen := (victim + 1) % len(crew)
	var others sync.WaitGroup
	var out outcome
	for _, step := range []struct {
		at   float64 // the part of the changes that is made by then
		what func()
	}{
		{0.15, func() {
			c.note("worker killed and replaced")
			_ = crew[victim].cmd.Process.Kill()
			crew[victim] = c.start(t, "work")
		}},
		{0.35, func() {
			c.note("worker stopped past its lease")
			p := crew[frozen].cmd.Process
			_ = p.Signal(syscall.SIGSTOP)
			others.Go(func() {
				time.Sleep(*freeze)
				t.Logf("worker %d woken at %s", p.Pid, time.Now().UTC().Format(time.RFC3339Nano))
				_ = p.Signal(syscall.SIGCONT)
			})
		}},
		{0.6, func() {
			c.note("PostgreSQL killed and started")
			c.server.Kill()
			if err := c.server.Start(); err != nil {
				t.Error(err)
			}
		}},
	} {
		if out.result == nil {
			for float64(c.made()) < step.at*float64(len(c.plan.Changes)) && out.result == nil {
				select {
				case out = <-ended:
				case <-time.After(20 * time.Millisecond):
				}
			}
			step.what()
		}
	}
	if out.result == nil {
		out = <-ended
	}
	took := time.Since(began)
	others.Wait()
	scan.stop(t)
	for _, p := range crew {
		p.stop(t)
	}
	if out.err != nil || out.result.Record.Status != rollout.Done || out.result.Counts.Verified != len(c.plan.Changes) {
		t.Fatalf("%v; the rollout is %s (%s): %+v", out.err, out.result.Record.Status, out.result.Record.Reason, out.result.Counts)
	}
	c.judge(t, out.result.Record.ID)
	t.Logf("%d changes in %d accounts by %d workers in %s; %s; %s", len(c.plan.Changes), *accounts, *workers,
		took.Round(time.Second), strings.Join(c.kills, ", "), strings.TrimSpace(scan.out.String()))
}

func (c *crowd) note(what string) {
	c.kills = append(c.kills, fmt.Sprintf("%s after %d changes (%s)", what, c.made(), time.Now().UTC().Format(time.TimeOnly)))
}

// made counts the writes so far.
func (c *crowd) made() int {
	for _, r := range c.world.CallsSince(max(c.since, c.seen)) {
		c.seen = r.Seq
		if r.Mutated && r.Service == "ec2" {
			c.writes++
		}
	}
	return c.writes
}

// judge holds the log of calls against the journal: every write within exactly one intent for its resource, every resource
// written exactly once, nothing throttled.
func (c *crowd) judge(t *testing.T, id string) {
	t.Helper()
	type span struct {
		opened, until time.Time
		used          int
	}
	intents, byID := map[string][]*span{}, map[string]*span{}
	a := c.app(t)
	count := 0
	for e, err := range a.Events(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		switch e.Name {
		case "intent":
			count++
			s := &span{opened: e.At, until: e.At.Add(callTimeout)}
			intents[e.Detail["resource"]], byID[e.Detail["intent"]] = append(intents[e.Detail["resource"]], s), s
		case "outcome":
			// Its call came too late to be sent: it wrote nothing, and another intent may follow at once.
			if s := byID[e.Detail["intent"]]; s != nil && e.Detail["class"] == string(fleet.ErrLate) {
				s.until = e.At.Add(-2 * clocksApart)
			}
		}
	}
	written := map[string]int{}
	throttled, calls := 0, 0
	for _, r := range c.world.CallsSince(c.since) {
		calls++
		if strings.Contains(r.Code, "Throttl") || r.Code == "RequestLimitExceeded" {
			throttled++
			t.Errorf("AWS throttled %s:%s of %s in account %s at %s", r.Service, r.Action, r.Principal, r.Account, r.Time.Format(time.RFC3339Nano))
		}
		if !r.Mutated || r.Service != "ec2" {
			continue
		}
		ref := fleet.Ref{Place: fleet.Place{Partition: fleet.PartitionAWS, Account: r.Account, Region: r.Region}, Kind: "ec2-instance",
			ID: r.Resources[0]}.String()
		written[ref]++
		var within []*span
		for _, s := range intents[ref] {
			if !r.Time.Before(s.opened.Add(-clocksApart)) && !r.Time.After(s.until.Add(clocksApart)) {
				within = append(within, s)
			}
		}
		if len(within) != 1 {
			var told []string
			for _, s := range intents[ref] {
				told = append(told, s.opened.Format(time.RFC3339Nano))
			}
			t.Errorf("%s of %s at %s lies within %d intents of those opened at %v", r.Action, ref, r.Time.Format(time.RFC3339Nano),
				len(within), told)
			continue
		}
		if within[0].used++; within[0].used > 1 {
			t.Errorf("%s was written %d times under one intent", ref, within[0].used)
		}
	}
	for i := range c.plan.Changes {
		if ref := c.plan.Changes[i].Ref.String(); written[ref] != 1 {
			t.Errorf("%s was written %d times", ref, written[ref])
		}
		delete(written, c.plan.Changes[i].Ref.String())
	}
	for ref := range written {
		t.Errorf("%s is not in the plan and was written", ref)
	}
	t.Logf("%d calls, %d throttled; %d intents, %d of them without a call", calls, throttled, count, count-len(c.plan.Changes))
}

// complaints is where a child says what goes wrong.
func complaints() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
