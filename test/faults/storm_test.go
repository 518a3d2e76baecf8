package faults

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// writing are the patterns of the calls by which the plan of these tests writes.
var writing = []string{"Modify*", "Create*"}

// lift takes rules away some time after the first call that one of them befell.
func (w *world) lift(t *testing.T, after time.Duration, faults ...core.Fault) *sync.WaitGroup {
	t.Helper()
	var lifting sync.WaitGroup
	lifting.Add(1)
	var once sync.Once
	var ids []int
	begin := func() {
		once.Do(func() {
			go func() {
				defer lifting.Done()
				if w.clock.Sleep(t.Context(), after) == nil {
					for _, id := range ids {
						w.RemoveFault(id)
					}
				}
			}()
		})
	}
	for _, f := range faults {
		f.Hook = func(*core.Call) error { begin(); return nil }
		ids = append(ids, w.fault(t, f))
	}
	return &lifting
}

// TestThrottledAccountHoldsUpNobodyElse: nothing is written in one account for as long as the others take.
func TestThrottledAccountHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	for _, action := range writing {
		w.fault(t, core.Fault{Account: string(shop), Action: action, Throttle: true})
	}
	ended := map[string]bool{}
	for _, s := range w.plan.Stacks {
		ended[s.ID] = s.Place.Account == shop
	}
	w.mustApply(t, app.ApplyOptions{Progress: func(p app.Progress) {
		if p.Stack == "" || p.State.Phase != rollout.StackDone || ended[p.Stack] {
			return
		}
		ended[p.Stack] = true
		for _, is := range ended {
			if !is {
				return
			}
		}
		for _, c := range w.mutations() {
			if c.Account == shop {
				t.Errorf("%s changed %v although it was throttled", c.Action, c.Resources)
			}
		}
		w.RemoveFault(0) // the others are through
	}})
	w.undisturbed(t)
}

// TestThrottledOrganization: every write of every account is throttled for an hour and a half, and then none.
func TestThrottledOrganization(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.lift(t, 90*time.Minute, core.Fault{Action: "Modify*", Throttle: true}, core.Fault{Action: "Create*", Throttle: true})
	w.mustApply(t, app.ApplyOptions{})
	w.undisturbed(t)
}

// TestThrottledReads: what was written cannot be read again for forty minutes. It says nothing about the change.
func TestThrottledReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{engine: app.EngineOptions{CallTimeout: 2 * time.Hour, Consistency: time.Minute,
		VerifyTimeout: 10 * time.Minute, PollInterval: time.Minute}})
	var faults []core.Fault
	for _, action := range []string{"DescribeInstances", "DescribeLaunchTemplate*", "GetInstanceMetadataDefaults"} {
		faults = append(faults, core.Fault{Account: string(billing), Action: action, Throttle: true})
	}
	w.onWrite(t, billing, "ModifyInstanceMetadataOptions", 1, func() { w.lift(t, 40*time.Minute, faults...) })
	w.mustApply(t, app.ApplyOptions{})
	w.undisturbed(t)
}

// TestUnreadableGatePutsBack: in the bake of a stack's second step AWS stops answering in its account for three hours, so that
// its gates cannot be read. The step is put back when AWS answers again, the one before it stands, the other accounts are done.
func TestUnreadableGatePutsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	batch := w.stack(t, shop, "app=batch")
	storm := sync.OnceFunc(func() {
		w.lift(t, 3*time.Hour, core.Fault{Account: string(shop), Service: "ec2", Throttle: true},
			core.Fault{Account: string(shop), Service: "cloudwatch", Throttle: true})
	})
	result, err := w.apply(t, app.ApplyOptions{Progress: func(p app.Progress) {
		if p.Stack == batch && p.State.Phase == rollout.StackBaking && p.State.Step == 1 {
			storm()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if s := result.Record.Stacks[batch]; s.Phase != rollout.StackFailed || s.Step != 1 ||
		!strings.Contains(s.Reason, "could not be read") {
		t.Fatalf("the stack is %+v\n%s", s, story(result))
	}
	w.othersDone(t, result, shop)
	_, after := peace(t)
	now := w.see(t)
	for n, want := range map[int]picture{4: after, 5: w.before, 6: w.before, 7: w.before} {
		k := string(shop) + " " + instance(shop, n)
		differ(t, "put back", picture{k: now[k]}, picture{k: want[k]})
	}
	w.says(t, result, shop, "a gate could not be read, which counts as failed")
}

// othersDone makes sure that all accounts but one are as after an undisturbed rollout.
func (w *world) othersDone(t *testing.T, r *app.ApplyResult, but fleet.AccountID) {
	t.Helper()
	effects, after := peace(t)
	for _, account := range members {
		if account == but {
			continue
		}
		differ(t, "at the end", w.see(t).of(account), after.of(account))
		if phases := w.phases(r.Record, account); phases[rollout.StackDone] != 3 {
			t.Errorf("the stacks of account %s are %v\n%s", account, phases, story(r))
		}
	}
	for k, n := range w.effects() {
		if k[:12] != string(but) && n != effects[k] {
			t.Errorf("%s took effect %d times, want %d", k, n, effects[k])
		}
	}
}

// writers are the sessions that write, and read what they write. What reads gates is left alone where a test is not about
// gates: one that cannot be read rightly ends a stack's step.
const writers = "*:assumed-role/" + policy.DefaultWriteRole + "/*"

// TestInternalErrorsInBursts: for an hour every second write fails, reads fail too, and so does STS.
func TestInternalErrorsInBursts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.lift(t, time.Hour,
		core.Fault{Action: "Modify*", Status: http.StatusServiceUnavailable, Probability: 0.5},
		core.Fault{Action: "Create*", Status: http.StatusInternalServerError, Probability: 0.5},
		core.Fault{Principal: writers, Action: "Describe*", Status: http.StatusInternalServerError, Probability: 0.3},
		core.Fault{Service: "sts", Action: "AssumeRole", Param: "RoleArn=*" + policy.DefaultWriteRole,
			Status: http.StatusServiceUnavailable, Probability: 0.5})
	w.mustApply(t, app.ApplyOptions{})
	w.undisturbed(t)
}

// TestAnswersLostAfterTheEffect: of every second write no answer comes, though AWS has carried it out.
func TestAnswersLostAfterTheEffect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	for _, action := range writing {
		w.fault(t, core.Fault{Action: action, DropAfter: true, Probability: 0.5})
	}
	w.mustApply(t, app.ApplyOptions{})
	w.undisturbed(t)
	w.lost(t, "after")
}

// lost makes sure that answers were lost.
func (w *world) lost(t *testing.T, when string) {
	t.Helper()
	n := 0
	for _, c := range w.CallsSince(w.since) {
		if c.Dropped == when {
			n++
		}
	}
	if n == 0 {
		t.Error("no answer was lost, so that nothing is tested")
	}
}

// TestTimeoutsAfterTheEffect: AWS carries the write out and answers when nobody waits for it any more.
func TestTimeoutsAfterTheEffect(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{engine: app.EngineOptions{CallTimeout: 30 * time.Minute, Consistency: time.Minute,
		VerifyTimeout: time.Hour, PollInterval: time.Minute}})
	for _, action := range []string{"ModifyInstanceMetadataOptions", "CreateLaunchTemplateVersion", "ModifyLaunchTemplate",
		"ModifyInstanceMetadataDefaults"} {
		w.fault(t, core.Fault{Action: action, Count: 2, After: func(*core.Call) { _ = w.clock.Sleep(t.Context(), 35*time.Minute) }})
	}
	w.mustApply(t, app.ApplyOptions{})
	w.undisturbed(t)
}

// TestConnectionsReset: connections are reset on the way there and on the way back, at writes and reads alike.
func TestConnectionsReset(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(1, 2))
	w.front.mu.Lock()
	w.front.reset = func(action string) (lost, after bool) {
		if !slices.ContainsFunc([]string{"Modify", "Create", "DescribeLaunchTemplate", "GetInstanceMetadataDefaults"},
			func(s string) bool { return strings.HasPrefix(action, s) }) {
			return false, false // see writers
		}
		mu.Lock()
		defer mu.Unlock()
		return rng.Float64() < 0.3, rng.Float64() < 0.5
	}
	w.front.mu.Unlock()
	w.mustApply(t, app.ApplyOptions{})
	w.undisturbed(t)
	if w.front.cut.Load() == 0 {
		t.Error("no connection was reset")
	}
}

// TestWritesShowLate: describe calls show the state of half a minute ago, answers get lost, and everything is rolled back in
// the end. The engine has its own defaults, which know of ten seconds.
func TestWritesShowLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{world: awssim.Options{Consistency: 30 * time.Second}, rate: 200, bake: "2m",
		engine: app.EngineOptions{CallTimeout: 5 * time.Minute}})
	for _, action := range writing {
		w.fault(t, core.Fault{Action: action, DropAfter: true, Probability: 0.1})
	}
	result := w.mustApply(t, app.ApplyOptions{})
	w.undisturbed(t)
	a := w.open(t)
	if err := a.RollbackRollout(t.Context(), result.Record.ID, nil, "test"); err != nil {
		t.Fatal(err)
	}
	result, err := a.ResumeRun(t.Context(), result.Record.ID, app.ApplyOptions{})
	if err != nil || result.Record.Status != rollout.RolledBack {
		t.Fatalf("%v, the rollout is %s\n%s", err, result.Record.Status, story(result))
	}
	after := w.see(t)
	for _, account := range members { // the version that was made stays, as versions do
		delete(after, string(account)+" "+template(account))
		delete(w.before, string(account)+" "+template(account))
	}
	differ(t, "rolled back", after, w.before)
}
