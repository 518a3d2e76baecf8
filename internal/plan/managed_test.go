package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// drawManaged makes a place in which services operate some of the instances, groups and templates, each in one of the ways in
// which that is known, and proposes changes of all of it that may wait for each other.
func drawManaged(t *rapid.T) *scene {
	s := newScene()
	s.config = rapid.SampledFrom([]string{"", "rollout: {replacement: {default: refresh}}\n", "rollout: {replacement: {default: natural}}\n"}).Draw(t, "config")
	owned := func(what string) fleet.Owner {
		return rapid.SampledFrom([]fleet.Owner{{}, {Type: fleet.OwnerTerraform, Name: "x"}, {Type: fleet.OwnerKarpenter, Managed: true},
			{Type: fleet.OwnerService, Name: "svc", Managed: true}}).Draw(t, "owner of "+what)
	}
	last := func(o fleet.Owner) *inventory.Resource {
		r := &s.resources[len(s.resources)-1]
		r.Owner = o
		if rapid.Bool().Draw(t, "claimed") {
			r.Claims = []fleet.Owner{{Type: fleet.OwnerCloudFormation, Name: "of stack s"}}
		}
		return r
	}
	shut := rapid.Bool().Draw(t, "launches require tokens already")
	var keys []plan.Key
	propose := func(n plan.Need) {
		if len(keys) > 0 && rapid.Bool().Draw(t, "waits") {
			n.After = []plan.Key{rapid.SampledFrom(keys).Draw(t, "for")}
		}
		s.needs, keys = append(s.needs, n), append(keys, n.Key())
	}
	s.template("lt-1")
	last(owned("lt-1"))
	if shut {
		s.closed()
	}
	propose(plan.Need{Ref: ref(inventory.KindLaunchTemplate, "lt-1"), Action: "create-version", Class: plan.ClassCreate, Stage: plan.StageLaunch,
		Outputs: []string{"Version"}, Params: map[string]string{"SourceVersion": "3"}})
	for g := range rapid.IntRange(0, 3).Draw(t, "groups") {
		name := fmt.Sprintf("g-%d", g)
		group := s.group(name, "lt-1", "3")
		last(owned(name))
		if rapid.Bool().Draw(t, "operated") {
			s.resources = append(s.resources, inventory.Resource{Ref: ref(inventory.KindNodegroup, "prod/"+name), Name: name,
				Links: []inventory.Link{{Relation: inventory.Operates, To: group}}})
		}
		for i := range rapid.IntRange(1, 2).Draw(t, "members") {
			r := s.instance(fmt.Sprintf("i-%d-%d", g, i), name, nil)
			last(owned(r.ID))
			propose(plan.Need{Ref: r, Action: "set-options", Class: plan.ClassSet, Stage: plan.StageFleet, Variant: "tokens",
				Patch: fleet.State{fleet.FieldTokens: fleet.TokensRequired}, For: []fleet.Ref{r}})
		}
		propose(plan.Need{Ref: group, Action: "set-launch-version", Class: plan.ClassSet, Stage: plan.StageLaunch,
			Patch: fleet.State{"LaunchTemplate.Version": "4"}, For: []fleet.Ref{group}})
	}
	return s
}

// TestNoChangeIsOfWhatAServiceManages: whatever is proposed, a plan has no change of what a service manages; what is proposed
// for it is left to people instead, and nothing waits for it in vain. A proposal may be refused as a whole, because a launch
// may not be closed under a lineage that is blocked; then there is no plan at all.
func TestNoChangeIsOfWhatAServiceManages(t *testing.T) {
	planned, spared := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s := drawManaged(t)
		p, err := s.build(t)
		if err != nil {
			if !strings.Contains(err.Error(), "blocked") {
				t.Fatal(err)
			}
			return
		}
		ix := inventory.NewIndex(&inventory.Snapshot{Place: place, Resources: s.resources})
		ids := map[string]bool{}
		for i := range p.Changes {
			c := &p.Changes[i]
			ids[c.ID] = true
			if c.Ref.Kind == plan.KindFollowUp {
				continue // it watches, and writes nothing
			}
			r := ix.Resource(c.Ref)
			if o := ix.Owner(r); o.Managed {
				t.Fatalf("%s of %s, which %s operates", c.Action, c.Ref, o)
			}
			if c.Owner != ix.Code(r) {
				t.Fatalf("%s of %s names %s as its code, not %s", c.Action, c.Ref, c.Owner, ix.Code(r))
			}
			planned++
		}
		for i := range p.Changes {
			for _, need := range p.Changes[i].Needs {
				if !ids[need] {
					t.Fatalf("%s of %s waits for a change that is not in the plan", p.Changes[i].Action, p.Changes[i].Ref)
				}
			}
		}
		for _, n := range s.needs {
			if !ix.Owner(ix.Resource(n.Ref)).Managed {
				continue
			}
			spared++
			if !slices.ContainsFunc(p.Manuals, func(m plan.Manual) bool { return m.Ref == n.Ref }) {
				t.Fatalf("nothing is said of %s of %s", n.Action, n.Ref)
			}
		}
	})
	if planned == 0 || spared == 0 {
		t.Errorf("%d changes planned and %d spared: one of them was not tried", planned, spared)
	}
}
