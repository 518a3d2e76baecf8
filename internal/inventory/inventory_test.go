package inventory

import (
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func TestResolveVersion(t *testing.T) {
	template := &Resource{State: fleet.State{FieldDefaultVersion: "3", FieldLatestVersion: "5"}}
	for selector, want := range map[string]string{"": "3", "$Default": "3", "$Latest": "5", "4": "4", "four": "", "$Other": ""} {
		if got := ResolveVersion(template, selector); got != want {
			t.Errorf("%q: %q, want %q", selector, got, want)
		}
	}
}

func TestIndex(t *testing.T) {
	template, group := fleet.Ref{Place: place, Kind: KindLaunchTemplate, ID: "lt-1"}, fleet.Ref{Place: place, Kind: KindAutoScaling, ID: "web"}
	s := &Snapshot{Place: place, Resources: []Resource{
		{Ref: group, Links: []Link{{Relation: LaunchesFrom, To: template, Selector: "$Default"}}},
		{Ref: fleet.Ref{Place: place, Kind: KindInstance, ID: "i-1"}, Links: []Link{{Relation: MemberOf, To: group}, {Relation: LaunchedFrom, To: template}}},
		{Ref: template},
	}}
	ix := NewIndex(s)
	if c := ix.Consumers(template); len(c) != 1 || c[0].Resource.Ref != group || c[0].Link.Selector != "$Default" {
		t.Errorf("consumers %+v", c)
	}
	if m := ix.Members(group); len(m) != 1 || m[0].Ref.ID != "i-1" || len(ix.Members(template)) != 1 {
		t.Errorf("members %+v", m)
	}
	if ix.Resource(template) != &s.Resources[2] || ix.Resource(fleet.Ref{}) != nil {
		t.Error("resources are not found by reference")
	}
	if l, ok := ix.Resource(group).Link(LaunchesFrom); !ok || l.To != template {
		t.Errorf("link %+v", l)
	}
}

func TestAGapOfThePlaceIsAGapOfEveryKind(t *testing.T) {
	s := &Snapshot{Scopes: []Scope{{Kind: KindInstance, Status: ScopeComplete}, {Kind: KindAutoScaling, Status: ScopeGap}}}
	if _, gap := s.Gap(KindInstance); gap {
		t.Error("a complete scope is called a gap")
	}
	if _, gap := s.Gap(KindAutoScaling); !gap {
		t.Error("a gap is not seen")
	}
	s.Scopes = append(s.Scopes, Scope{Status: ScopeGap, Class: fleet.ErrDenied})
	if sc, gap := s.Gap(KindInstance); !gap || sc.Class != fleet.ErrDenied {
		t.Error("a place that could not be entered hides nothing")
	}
}

// The hosts of a Batch environment are those of its cluster, and what their groups had before them.
func TestHostsOfACluster(t *testing.T) {
	ref := func(kind, id string) fleet.Ref { return fleet.Ref{Place: place, Kind: kind, ID: id} }
	env, group := ref(KindBatch, "nightly"), ref(KindAutoScaling, "batch-asg")
	member := []Link{{Relation: MemberOf, To: group}}
	ix := NewIndex(&Snapshot{Place: place, Resources: []Resource{
		{Ref: env, Attrs: map[string]string{AttrCluster: "AWSBatch-nightly"}},
		{Ref: ref(KindInstance, "i-now"), Status: StatusRunning, Links: member},
		{Ref: ref(KindInstance, "i-was"), Status: StatusTerminated, Links: member},
		{Ref: ref(KindInstance, "i-other"), Status: StatusRunning},
		{Ref: ref(KindECSCapacity, "container-instance/1"), Attrs: map[string]string{AttrCluster: "AWSBatch-nightly"},
			Links: []Link{{Relation: RunsOn, To: ref(KindInstance, "i-now")}}},
		{Ref: ref(KindECSCapacity, "container-instance/2"), Attrs: map[string]string{AttrCluster: "shop"},
			Links: []Link{{Relation: RunsOn, To: ref(KindInstance, "i-other")}}},
	}})
	var got []string
	for _, h := range ix.Hosts(env) {
		got = append(got, h.Ref.ID)
	}
	if len(got) != 2 || got[0] != "i-now" || got[1] != "i-was" {
		t.Errorf("hosts %q", got)
	}
}

// Who operates a group owns its members too, whatever their tags say.
func TestOwnerFollowsReferences(t *testing.T) {
	ref := func(kind, id string) fleet.Ref { return fleet.Ref{Place: place, Kind: kind, ID: id} }
	group := ref(KindAutoScaling, "eks-blue")
	member := Resource{Ref: ref(KindInstance, "i-1"), Owner: fleet.Owner{Type: fleet.OwnerTerraform},
		Links: []Link{{Relation: MemberOf, To: group}}}
	ix := NewIndex(&Snapshot{Place: place, Resources: []Resource{member, {Ref: group},
		{Ref: ref(KindNodegroup, "prod/blue"), Name: "blue", Links: []Link{{Relation: Operates, To: group}}}}})
	want := fleet.Owner{Type: KindNodegroup, Name: "blue", Managed: true}
	if got := ix.Owner(&member); got != want {
		t.Errorf("owner of the member %+v", got)
	}
	if got := ix.Owner(&Resource{Ref: ref(KindInstance, "i-2"), Owner: member.Owner}); got != member.Owner {
		t.Errorf("owner of another %+v", got)
	}
}
