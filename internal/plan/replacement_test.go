package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// launching is a group with two running members, whose template gets a copy that becomes the default.
func launching(config string) (*scene, fleet.Ref) {
	s := newScene()
	s.config = config
	lt, g := s.template("lt-1"), s.group("a", "lt-1", "$Default")
	for _, id := range []string{"i-00000001", "i-00000002"} {
		s.tokens(s.instance(id, "a", nil))
	}
	create := plan.Need{Ref: lt, Action: "create-version", Class: plan.ClassCreate, Stage: plan.StageLaunch, For: []fleet.Ref{g},
		Outputs: []string{"Version"}}
	create.Patch = fleet.State{inventory.FieldLatestVersion: plan.OutputOf(create.Key(), "Version")}
	set := plan.Need{Ref: lt, Action: "set-default", Class: plan.ClassSet, Stage: plan.StageLaunch, After: []plan.Key{create.Key()},
		Patch: fleet.State{inventory.FieldDefaultVersion: plan.OutputOf(create.Key(), "Version")}, For: []fleet.Ref{g}}
	s.needs = append(s.needs, create, set)
	return s, g
}

// closed has the template require tokens already.
func (s *scene) closed() {
	for i := range s.resources {
		if s.resources[i].Ref.Kind == inventory.KindLaunchTemplate {
			s.resources[i].Launch["3"] = fleet.Options{Tokens: fleet.TokensRequired}
		}
	}
}

func actions(p *plan.Plan) []string {
	var out []string
	for _, c := range p.Changes {
		out = append(out, c.Action)
	}
	return out
}

func TestReplacement(t *testing.T) {
	const inPlace = "set-options set-options create-version set-default launched"
	for name, c := range map[string]struct{ config, want string }{
		"by default":                {"", inPlace},
		"in place":                  {"rollout: {replacement: {default: in-place}}", inPlace},
		"natural":                   {"rollout: {replacement: {default: natural}}", "create-version set-default replaced"},
		"refresh":                   {"rollout: {replacement: {default: refresh}}", "create-version set-default refresh replaced"},
		"by a rule":                 {"rollout: {replacement: {rules: [{match: {kind: auto-scaling-group}, value: natural}]}}", "create-version set-default replaced"},
		"by a rule that is not its": {"rollout: {replacement: {rules: [{match: {name: b}, value: natural}]}}", inPlace},
		"a host of our own":         {"own_hosts: [i-00000002]\nrollout: {replacement: {default: refresh}}", inPlace},
	} {
		t.Run(name, func(t *testing.T) {
			s, g := launching(c.config)
			p := s.must(t)
			if have := strings.Join(actions(p), " "); have != c.want {
				t.Fatalf("have %s\nwant %s", have, c.want)
			}
			if len(p.Stacks) != 1 {
				t.Errorf("%d stacks", len(p.Stacks))
			}
			for _, step := range p.Stacks[0].Steps {
				if step.Stage == plan.StageLaunch && step.Changes != len(p.Changes)-strings.Count(c.want, "set-options") {
					t.Errorf("the launch step counts %d changes", step.Changes)
				}
			}
			last := p.Changes[len(p.Changes)-1]
			if last.Ref.Kind != plan.KindFollowUp || last.Params[plan.ParamInstance] != g.ID ||
				!strings.HasPrefix(last.Params[plan.ParamFrom], "lt-1:${c-") {
				t.Errorf("the proof is %+v", last)
			}
		})
	}
}

// A refresh waits for everything that changes what the group launches, and the proof for the refresh.
func TestRefreshComesAfterTheLaunchChanges(t *testing.T) {
	s, g := launching("rollout: {replacement: {default: refresh}}")
	p := s.must(t)
	refresh, proof := p.Changes[2], p.Changes[3]
	if refresh.Ref != g || refresh.Class != plan.ClassStart || refresh.After[plan.FieldRefresh] != plan.RefreshSuccessful ||
		refresh.Before[plan.FieldRefresh] != "" || !slices.Contains(refresh.Needs, p.Changes[0].ID) || !slices.Contains(refresh.Needs, p.Changes[1].ID) {
		t.Errorf("refresh %+v", refresh)
	}
	if !slices.Contains(proof.Needs, refresh.ID) {
		t.Errorf("proof %+v does not wait for the refresh", proof)
	}
}

// Nobody is left as they are, and not replaced either, without a word.
func TestWhatIsNotReplacedIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		change func(*scene, fleet.Ref)
		want   string
	}{
		"what it launches stays": {"rollout: {replacement: {default: natural}}",
			func(s *scene, _ fleet.Ref) { s.needs = s.needs[:2] }, "does not change what it launches"},
		"it launches what it should": {"rollout: {replacement: {default: natural}}", func(s *scene, _ fleet.Ref) {
			s.needs = s.needs[:2]
			s.closed()
		}, "left until they are replaced"},
	} {
		t.Run(name, func(t *testing.T) {
			s, g := launching(c.config)
			c.change(s, g)
			p := s.must(t)
			if len(p.Changes) != 0 {
				t.Errorf("changes %v", actions(p))
			}
			if len(p.Manuals) != 1 || p.Manuals[0].Ref != g || !strings.Contains(p.Manuals[0].Reason, c.want) || p.Manuals[0].Remedy == "" {
				t.Errorf("steps for people %+v", p.Manuals)
			}
		})
	}
}

// A group that launches what it should already is refreshed all the same: its older instances are not as they should.
func TestRefreshWithoutLaunchChanges(t *testing.T) {
	s, _ := launching("rollout: {replacement: {default: refresh}}")
	s.needs = s.needs[:2]
	s.closed()
	if have := strings.Join(actions(s.must(t)), " "); have != "refresh replaced" {
		t.Errorf("have %s", have)
	}
}

func TestLaunchProofWaitsAsTheConfigurationSays(t *testing.T) {
	for name, c := range map[string]struct {
		config, desired, want string
	}{
		"by default":           {"", "2", "30m0s"},
		"a group that is idle": {"", "0", "0s"},
		"not at all":           {"gates: {launch_proof: 0s}", "2", "0s"},
		"longer":               {"gates: {launch_proof: 2h}", "0", "2h0m0s"},
	} {
		s, g := launching(c.config)
		for i := range s.resources {
			if s.resources[i].Ref == g {
				s.resources[i].Attrs = map[string]string{inventory.AttrDesired: c.desired}
			}
		}
		p := s.must(t)
		if have := p.Changes[len(p.Changes)-1].Params[plan.ParamTimeout]; have != c.want {
			t.Errorf("%s: waits %s, not %s", name, have, c.want)
		}
	}
}

// A group whose launches stay as they were is not waited for.
func TestNoProofWhereNothingNewIsLaunched(t *testing.T) {
	s, _ := launching("")
	b := s.group("b", "lt-1", "3")
	s.instance("i-00000003", "b", nil)
	for i := range s.needs[2:] {
		s.needs[2+i].For = append(s.needs[2+i].For, b)
	}
	for _, c := range s.must(t).Changes {
		if c.Ref.Kind == plan.KindFollowUp && c.Params[plan.ParamInstance] == "b" {
			t.Errorf("%+v", c)
		}
	}
}
