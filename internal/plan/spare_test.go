package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// changed lists what a plan writes.
func changed(p *plan.Plan) []string {
	var out []string
	for i := range p.Changes {
		out = append(out, p.Changes[i].Action+" "+p.Changes[i].Ref.ID)
	}
	slices.Sort(out)
	return out
}

// What a service operates is not written, whatever its kind proposed and however the service is known to operate it: by what it
// says of the resource, by operating it, or by operating its group.
func TestWhatAServiceOperatesIsNotWritten(t *testing.T) {
	s := newScene()
	s.tokens(s.instance("i-own", "", nil))
	said := s.instance("i-said", "", nil)
	s.resources[len(s.resources)-1].Owner = fleet.Owner{Type: fleet.OwnerService, Name: "svc", Managed: true}
	s.tokens(said)
	s.tokens(s.instance("i-member", "nodes", nil))
	nodes := s.group("nodes", "lt-1", "3")
	s.resources = append(s.resources, inventory.Resource{Ref: ref(inventory.KindNodegroup, "prod/blue"), Name: "blue",
		Links: []inventory.Link{{Relation: inventory.Operates, To: nodes}}})
	s.needs = append(s.needs, plan.Need{Ref: nodes, Action: "set-launch-version", Class: plan.ClassSet, Stage: plan.StageLaunch,
		Patch: fleet.State{"LaunchTemplate.Version": "4"}})
	// The verdicts of what is managed are blocked, which alone would refuse the plan: a kind that proposes all the same has
	// a defect that must not reach AWS.
	p := s.must(t)
	if got := changed(p); !slices.Equal(got, []string{"set-options i-own"}) {
		t.Errorf("the plan writes %q", got)
	}
	if len(p.Manuals) != 3 {
		t.Fatalf("manual steps %+v", p.Manuals)
	}
	for _, m := range p.Manuals {
		if !strings.Contains(m.Reason, "operated by") || m.Ref.ID != "i-said" && !strings.Contains(m.Remedy, "blue") {
			t.Errorf("%s: %s; %s", m.Ref.ID, m.Reason, m.Remedy)
		}
	}
}

// A change that stops or replaces something is a person's, with what depends on it, unless the configuration allows it there.
func TestDisruptionTakesAnOptIn(t *testing.T) {
	chain := func() *scene {
		s := newScene()
		s.disrupts = map[string]string{"stop": "restart", "start": "restart"}
		r := s.instance("i-1", "", map[string]string{"env": "dev"})
		need := func(action string, patch fleet.State, after ...plan.Key) plan.Key {
			n := plan.Need{Ref: r, Action: action, Class: plan.ClassSet, Stage: plan.StageFleet, Patch: patch, After: after}
			s.needs = append(s.needs, n)
			return n.Key()
		}
		stopped := need("stop", fleet.State{"Status": "stopped"})
		set := need("set-options", fleet.State{fleet.FieldTokens: "required"}, stopped)
		need("start", fleet.State{"Status": "running"}, set)
		s.tokens(s.instance("i-2", "", nil))
		return s
	}
	s := chain()
	p := s.must(t)
	if got := changed(p); !slices.Equal(got, []string{"set-options i-2"}) {
		t.Errorf("without an opt-in the plan writes %q", got)
	}
	var commands []string
	for _, m := range p.Manuals {
		commands = append(commands, m.Commands...)
	}
	for _, want := range []string{"aws stop i-1", "aws set-options i-1", "aws start i-1"} {
		if !slices.Contains(commands, want) {
			t.Errorf("the manual steps do not say %q: %+v", want, p.Manuals)
		}
	}
	s = chain()
	s.config = "targets: {disruptive: [{match: {tag: {env: dev}}, allow: restart}]}\n"
	if got := changed(s.must(t)); !slices.Equal(got, []string{"set-options i-1", "set-options i-2", "start i-1", "stop i-1"}) {
		t.Errorf("with an opt-in the plan writes %q", got)
	}
	s = chain()
	s.disrupts["stop"] = "replace"
	s.config = "targets: {disruptive: [{match: {tag: {env: dev}}, allow: restart}]}\n"
	if got := changed(s.must(t)); !slices.Equal(got, []string{"set-options i-2"}) {
		t.Errorf("restarting is allowed, not replacing, and the plan writes %q", got)
	}
}

// What cannot be undone, and what binds the organization, comes last, each in a wave that waits for its own approval.
func TestLateStagesHaveWavesOfTheirOwn(t *testing.T) {
	s := newScene()
	s.config = "own_hosts: [i-0123456789abcdef0]\n"
	s.tokens(s.instance("i-0123456789abcdef0", "", nil))
	s.tokens(s.instance("i-2", "", nil))
	image := s.instance("i-3", "", nil) // any resource that is ready
	s.needs = append(s.needs,
		plan.Need{Ref: image, Action: "require-tokens", Class: plan.ClassSet, Stage: plan.StageImages, Patch: fleet.State{"ImdsSupport": "v2.0"},
			For: []fleet.Ref{ref(inventory.KindInstance, "i-2")}})
	p := s.must(t)
	if n := len(p.Header.Waves); n != 2 || p.Header.Waves[1].Name != "images" || !p.Header.Waves[1].Approval || p.Header.Waves[0].Approval {
		t.Fatalf("waves %+v", p.Header.Waves)
	}
	for _, st := range p.Stacks {
		if late := st.Steps[0].Stage == plan.StageImages; late != (st.Wave == 1) {
			t.Errorf("stack %s is in wave %d: %+v", st.Name, st.Wave, st.Steps)
		}
	}
}
