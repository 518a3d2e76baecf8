package assess_test

import (
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// What runs on a host decides how many hops it needs, and the configuration whether that is carried out.
func TestHopLimitOfAHost(t *testing.T) {
	ref := func(kind, id string) fleet.Ref { return fleet.Ref{Place: place, Kind: kind, ID: id} }
	host := ref(inventory.KindInstance, "i-1")
	guest := func(modes string) inventory.Resource {
		return inventory.Resource{Ref: ref(inventory.KindECSCapacity, "container-instance/shop/1"),
			Attrs: map[string]string{inventory.AttrContainers: "ecs", inventory.AttrCluster: "shop", inventory.AttrNetworkModes: modes},
			Links: []inventory.Link{{Relation: inventory.RunsOn, To: host}}}
	}
	for _, tt := range []struct {
		name   string
		tags   map[string]string
		others []inventory.Resource
		config string
		now    string
		needed int
		why    string
		want   int // hop limit wanted; 0 leaves it
	}{
		{"nothing recognised, kept", nil, nil, "", "2", 1, "no containers", 0},
		{"nothing recognised, auto", nil, nil, "hop_limit: {default: auto}", "2", 1, "no containers", 1},
		{"bridge tasks", nil, []inventory.Resource{guest("awsvpc,bridge")}, "hop_limit: {default: auto}", "1", 2, "bridge", 2},
		{"awsvpc tasks", nil, []inventory.Resource{guest("awsvpc")}, "hop_limit: {default: auto}", "2", 1, "no further hop", 1},
		{"tasks unknown", nil, []inventory.Resource{guest("")}, "hop_limit: {default: auto}", "1", 2, "not known", 2},
		{"kubernetes by tag", map[string]string{"kubernetes.io/cluster/prod": "owned"}, nil, "hop_limit: {default: auto}", "1", 2,
			"kubernetes.io/cluster/prod", 2},
		{"a rule by cluster", map[string]string{"kubernetes.io/cluster/prod": "owned"}, nil,
			"hop_limit: {rules: [{match: {cluster: prod}, value: 3}]}", "2", 3, "configuration", 3},
		{"a rule by network mode", nil, []inventory.Resource{guest("host")},
			"hop_limit: {default: keep, rules: [{match: {network_mode: host}, value: 1}]}", "2", 1, "configuration", 1},
		{"it has what it needs", nil, nil, "hop_limit: {default: auto}", "1", 1, "no containers", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config, problems := policy.Parse([]byte("version: 1\n"+tt.config+"\n"), "test.yaml", nil)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			instance := inventory.Resource{Ref: host, Status: inventory.StatusRunning, Tags: tt.tags,
				State: fleet.State{fleet.FieldTokens: "required", fleet.FieldEndpoint: "enabled", fleet.FieldHopLimit: tt.now}}
			in := assess.Input{Snapshot: &inventory.Snapshot{Place: place, Resources: append([]inventory.Resource{instance}, tt.others...)},
				Manners: manners(), Policy: config}
			v := assess.Place(in).Verdict(host)
			if v.Hops == nil || v.Hops.Needed != tt.needed || !strings.Contains(v.Hops.Why, tt.why) {
				t.Fatalf("hops %+v", v.Hops)
			}
			if v.Want.HopLimit != tt.want || v.Want.Tokens != "" {
				t.Errorf("wants %+v", v.Want)
			}
		})
	}
}
