//go:build unix

package crash

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
)

var (
	runs  = flag.Int("runs", 30, "how many rollouts of the campaign are killed, each several times")
	first = flag.Uint64("seed", 1, "the seed of the campaign's first rollout; the others follow")
)

// campaignRate is slower than rate, so that AWS's answers come in good time on a busy machine: half an hour in a second.
const campaignRate = 1800

// campaignConfig changes a stack's instances in three steps, and restarts what runs on some of them afterwards.
const campaignConfig = `
version: 1
organization: {discover: self, regions: [eu-west-1]}
evidence: {require_boot: false}
gates: {delay: 1m, heartbeat: none}
bake: {low: 3m, medium: 3m, high: 3m, critical: 3m}
stack: {tag: app}
rollout:
  steps: [1, 50%, 100%]
  concurrency: 4
  max_in_flight: 16
follow_ups:
  - name: restart
    match: {tag: {app: batch}}
    ssm: {document: AWS-RunShellScript, parameters: {commands: [systemctl restart batch]}}
    timeout: 2h
`

// campaignSeed is the hardest fleet of templates beside a stack of four instances with follow-ups, written through a role.
func campaignSeed(t *testing.T) *core.Seed {
	t.Helper()
	s := fleetSeed()
	a := &s.Accounts[0]
	a.Roles = []core.RoleSeed{{Name: policy.DefaultWriteRole, Trust: json.RawMessage(core.TrustAccount(account, "")),
		Policies: map[string]json.RawMessage{"all": json.RawMessage(core.AllowActions("ec2:*", "autoscaling:*", "ssm:*", "iam:PassRole"))}}}
	var ec2 map[string]any
	if err := json.Unmarshal(a.Regions[region]["ec2"], &ec2); err != nil {
		t.Fatal(err)
	}
	instances, _ := ec2["instances"].([]any)
	for n := range 4 {
		instances = append(instances, map[string]any{"id": fmt.Sprintf("i-0eeeeeeeeeeeeeee%d", n), "image": "ami-0123456789abcdef0",
			"launched": "2026-01-05T00:00:00Z", "tags": map[string]string{"app": "batch"},
			"options": map[string]any{"tokens": "optional", "hop_limit": 1, "endpoint": "enabled"}})
	}
	ec2["instances"] = instances
	b, err := json.Marshal(ec2)
	if err != nil {
		t.Fatal(err)
	}
	a.Regions[region]["ec2"] = b
	return s
}

// newCampaignScene makes a world in which describe calls lag by up to half a minute.
func newCampaignScene(t *testing.T, prepared string, lag time.Duration) *scene {
	t.Helper()
	s := &scene{clock: clock.Scaled(start, campaignRate), rate: campaignRate, config: campaignConfig, dir: t.TempDir()}
	s.open(t, campaignSeed(t), awssim.Options{Consistency: lag})
	s.furnish(t, prepared)
	return s
}

// tally is what a campaign counts.
type tally struct {
	mu                           sync.Mutex
	kills                        map[string]int
	runs, effects, faults, calls int
	phases                       map[app.ChangePhase]int
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	total := 0
	var by []string
	for _, point := range slices.Sorted(maps.Keys(c.kills)) {
		total += c.kills[point]
		by = append(by, fmt.Sprintf("  %-28s %d", point, c.kills[point]))
	}
	return fmt.Sprintf("%d rollouts, %d kills, %d calls of which %d went wrong, %d effects, each made once, %d conflicts, "+
		"%d failed, %d stuck\nkills by boundary:\n%s", c.runs, total, c.calls, c.faults, c.effects, c.phases[app.ChangeConflict], c.phases[app.ChangeFailed],
		c.phases[app.ChangeStuck], strings.Join(by, "\n"))
}

// TestCampaign kills at random moments and at random boundaries, several times in each rollout and its rollback, while calls
// are throttled, fail, and lose their answers. The end and the effects are those of an undisturbed run.
func TestCampaign(t *testing.T) {
	t.Parallel()
	n := *runs
	if testing.Short() {
		n = min(n, 5)
	}
	calm := newCampaignScene(t, "", core.DefaultConsistency)
	prepared := calm.keep(t)
	p, err := app.ReadPlan(filepath.Join(prepared, "plan.json"))
	if err != nil {
		t.Fatal(err)
	}
	checkCampaign(t, p)
	want := undisturbed{before: calm.states(t)}
	for _, back := range []bool{false, true} {
		if calm.run(t, func(e *errand) { e.Rollback = back }) {
			t.Fatal("the undisturbed run was killed")
		}
		want.ends = append(want.ends, end{calm.states(t), calm.effects(), len(calm.boundaries(t))})
	}
	same(t, "after the undisturbed rollback", want.ends[1].states, want.before)
	made := 0
	for _, n := range want.ends[0].effects {
		made += n
	}
	writes := 0
	for _, c := range p.Changes {
		if c.Action != plan.ActionLaunched { // which only watches
			writes++
		}
	}
	if made != writes || t.Failed() {
		t.Fatalf("undisturbed, %d changes had %d effects: %v", writes, made, want.ends[0].effects)
	}
	count := &tally{kills: map[string]int{}, phases: map[app.ChangePhase]int{}}
	t.Run("seed", func(t *testing.T) {
		for i := range n {
			seed := *first + uint64(i)
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				(&victim{seed: seed, rng: rand.New(rand.NewPCG(seed, 5)), tally: count, want: &want, id: p.Digest[:12]}).live(t, prepared)
			})
		}
	})
	t.Log(count)
	if count.runs > 0 && len(count.kills) < 2 {
		t.Error("next to nothing was killed")
	}
}

// checkCampaign makes sure that the plan has what is to be interrupted: steps, follow-ups, and the stack of templates.
func checkCampaign(t *testing.T, p *plan.Plan) {
	t.Helper()
	actions, steps := map[string]int{}, 0
	for _, c := range p.Changes {
		actions[c.Action]++
	}
	for _, s := range p.Stacks {
		steps = max(steps, len(s.Steps))
	}
	want := map[string]int{"set-options": 13, "ssm": 4, "create-version": 2, "set-default": 1, "set-launch-version": 3, "launched": 4, "set-defaults": 1}
	if !maps.Equal(actions, want) || steps < 4 {
		t.Fatalf("the plan holds %v in up to %d steps, want %v (manual steps: %v)", actions, steps, want, p.Manuals)
	}
}

// end is how a run ends.
type end struct {
	states     map[string]string
	effects    map[string]int
	boundaries int
}

type undisturbed struct {
	before map[string]string
	ends   []end // forward, and then back
}

// victim is a rollout that is killed again and again.
type victim struct {
	*tally
	seed uint64
	rng  *rand.Rand
	want *undisturbed
	id   string
	*scene
}

func (v *victim) live(t *testing.T, prepared string) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again: go test ./test/crash -run TestCampaign -seed %d -runs 1", v.seed)
		}
	})
	v.scene = newCampaignScene(t, prepared, time.Duration(1+v.rng.IntN(30))*time.Second)
	for _, f := range v.trouble() {
		if _, err := v.world.AddFault(f); err != nil {
			t.Fatal(err)
		}
	}
	for direction, want := range v.want.ends {
		v.torment(t, direction == 1, want.boundaries)
		if t.Failed() {
			return
		}
		same(t, "at the end", v.states(t), want.states)
		sameEffects(t, v.scene.effects(), want.effects)
		if v.rng.IntN(2) == 0 {
			break // not every rollout is rolled back
		}
	}
	v.record(t)
}

// torment carries the rollout out, or back, killing some times before its end.
func (v *victim) torment(t *testing.T, back bool, boundaries int) {
	t.Helper()
	for kills := 1 + v.rng.IntN(4); ; kills-- {
		// What was killed before its request for a rollback was recorded is asked again.
		ask := back && !v.asked(t, v.id)
		at, after := 0, time.Duration(0)
		switch {
		case kills <= 0: // it may live
		case v.rng.IntN(2) == 0:
			at = 1 + v.rng.IntN(boundaries)
		default:
			after = 30*time.Millisecond + time.Duration(v.rng.Int64N(int64(2*time.Second)))
		}
		killed, err := v.child(t, func(e *errand) { e.Rollback, e.KillAt = ask, int64(at) }, func(p *os.Process) {
			if after > 0 {
				time.Sleep(after)
				_ = p.Kill() // it may have ended
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if !killed {
			return
		}
		point := "at any moment"
		if at > 0 {
			b, err := os.ReadFile(filepath.Join(v.dir, "last"))
			if err != nil {
				t.Fatal(err)
			}
			point = string(b)
		}
		v.mu.Lock()
		v.kills[point]++
		v.mu.Unlock()
	}
}

// trouble draws what goes wrong with the calls of the role that writes: throttles, internal errors, connections that are cut
// before or after the effect, and answers that come late. A gate that cannot be read would rightly end the rollout, and is
// read by another.
func (v *victim) trouble() []core.Fault {
	var out []core.Fault
	for range 10 + v.rng.IntN(20) {
		f := core.Fault{Principal: "*:assumed-role/" + policy.DefaultWriteRole + "/*", Nth: 1 + v.rng.IntN(20), Count: 1 + v.rng.IntN(2),
			Action:      []string{"Modify*", "Create*", "Update*", "SendCommand", "Describe*", "ListCommands", ""}[v.rng.IntN(7)],
			Probability: 0.3 + v.rng.Float64()*0.6}
		switch v.rng.IntN(6) {
		case 0:
			f.Throttle = true
		case 1:
			f.Status = http.StatusServiceUnavailable
		case 2:
			f.DropBefore = true
		case 3:
			f.DelayMS = v.rng.IntN(int(10 * time.Minute / time.Millisecond))
		default:
			f.DropAfter = true
		}
		out = append(out, f)
	}
	return out
}

// record adds what became of the rollout to the counts.
func (v *victim) record(t *testing.T) {
	t.Helper()
	a, err := open(v.errand(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	view, err := a.Rollout(t.Context(), v.id)
	if err != nil {
		t.Fatal(err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.runs++
	for _, c := range view.Record.Changes {
		v.phases[c.Phase]++
	}
	for _, c := range v.world.Calls() {
		v.calls++
		if c.Code != "" && c.Code != "DryRunOperation" || c.Dropped != "" {
			v.faults++
		}
	}
	for _, n := range v.scene.effects() {
		v.tally.effects += n
	}
}
