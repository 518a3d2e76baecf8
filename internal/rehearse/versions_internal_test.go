package rehearse

import (
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// TestGroupsOfDeletedVersionsAreInTheCopy: EC2 lets a version be deleted that a group names, and the group is there with it: it cannot
// launch, and nobody else's $Latest is another for it.
func TestGroupsOfDeletedVersionsAreInTheCopy(t *testing.T) {
	place := fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}
	to := func(kind, id string) fleet.Ref { return fleet.Ref{Place: place, Kind: kind, ID: id} }
	const template = "lt-0123456789abcdef0"
	resources := []inventory.Resource{{
		Ref: to(inventory.KindLaunchTemplate, template), Name: "web", Launch: map[string]fleet.Options{"2": {Tokens: fleet.TokensOptional}},
		State: fleet.State{inventory.FieldDefaultVersion: "2", inventory.FieldLatestVersion: "2"},
		Attrs: map[string]string{inventory.AttrImage + "/2": "ami-0123456789abcdef0"},
	}}
	launches := map[string]bool{"$Latest": true, "2": true, "1": false, "9": false}
	for version := range launches {
		resources = append(resources, inventory.Resource{Ref: to(inventory.KindAutoScaling, "group"+version),
			State: fleet.State{groupPlain + "Id": template, groupPlain + "Version": version}, Attrs: map[string]string{inventory.AttrDesired: "1"}},
			inventory.Resource{Ref: to(inventory.KindAutoScaling, "mixed"+version), State: fleet.State{groupMixed + "Id": template,
				groupMixed + "Version": version, "MixedInstancesPolicy.Overrides.0.LaunchTemplate.Id": template,
				"MixedInstancesPolicy.Overrides.0.LaunchTemplate.Version": version}})
	}
	seed, err := Seed(core.AccountSeed{ID: place.Account}, resources)
	if err != nil {
		t.Fatal(err)
	}
	w := awssim.New(awssim.Options{})
	if err := w.LoadSeed(seed); err != nil {
		t.Fatal(err)
	}
	p, err := w.Place(place.Account, place.Region)
	if err != nil {
		t.Fatal(err)
	}
	p.With(func(time.Time) {
		for version, want := range launches {
			source, ok := autoscaling.StoreOf(p).SourceOf("group" + version)
			if !ok || source.Template == nil || source.Template.Version != version || source.Template.Name != "web" {
				t.Errorf("the group of version %s launches from %+v", version, source.Template)
			}
			if mixed, ok := autoscaling.StoreOf(p).SourceOf("mixed" + version); !ok || mixed.Mixed.Overrides[0].Template.Version != version {
				t.Errorf("the mixed group of version %s launches from %+v", version, mixed.Mixed)
			}
			asks, err := autoscaling.StoreOf(p).Launches("group" + version)
			if (err == nil && len(asks) > 0) != want {
				t.Errorf("the group of version %s would launch %+v (%v)", version, asks, err)
			}
		}
	})
}
