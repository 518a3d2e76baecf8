package rehearse

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// Fields of the states of the kinds ec2-fleet and spot-fleet, after the place in the list.
const (
	fleetConfig     = "LaunchTemplateConfigs.%d"
	fleetInline     = "LaunchSpecifications.%d.ImageId"
	fleetTemplate   = ".LaunchTemplateId"
	fleetByName     = ".LaunchTemplateName"
	fleetVersion    = ".Version"
	typeMaintaining = "maintain"
)

// fleetSpecification is what a fleet launches from, in the words that EC2 Fleets and Spot Fleets share.
type fleetSpecification struct {
	LaunchTemplateID   string `json:"LaunchTemplateId,omitempty"`
	LaunchTemplateName string `json:"LaunchTemplateName,omitempty"`
	Version            string `json:"Version"`
}

type fleetConfiguration struct {
	LaunchTemplateSpecification fleetSpecification
	Overrides                   []map[string]any `json:"Overrides,omitempty"`
}

// fleetConfigurations reads from the state what a fleet launches from. A template that nothing had the name of is not made.
func (s *Sections) fleetConfigurations(r *inventory.Resource) []fleetConfiguration {
	var out []fleetConfiguration
	for n := 0; ; n++ {
		prefix := fmt.Sprintf(fleetConfig, n)
		version, ok := r.State[prefix+fleetVersion]
		if !ok {
			return out
		}
		c := fleetConfiguration{LaunchTemplateSpecification: fleetSpecification{
			LaunchTemplateID: r.State[prefix+fleetTemplate], LaunchTemplateName: r.State[prefix+fleetByName], Version: version,
		}}
		if id := c.LaunchTemplateSpecification.LaunchTemplateID; id != "" {
			s.needTemplate(id, version, nil)
		}
		out = append(out, c)
	}
}

// fixed tells whether a fleet that maintains its capacity cannot be modified all the same: it has a placement.
func fixed(r *inventory.Resource) bool {
	return r.Attrs[inventory.AttrRequestType] == typeMaintaining && slices.ContainsFunc(r.Links, func(l inventory.Link) bool {
		moves := l.Selector == inventory.SelectDefault || l.Selector == inventory.SelectLatest
		return l.Relation == inventory.LaunchesFrom && l.Field == "" && !moves
	})
}

func desired(r *inventory.Resource) (int, error) {
	text := r.Attrs[inventory.AttrDesired]
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("target capacity of %s: %w", r.Ref, err)
	}
	return n, nil
}

// seedFleet copies EC2 Fleets. The instances that carry a fleet's tag are all that it has.
func seedFleet(s *Sections, resources []inventory.Resource) error {
	seed := Section[ec2.Seed](s, ec2Section)
	for i := range resources {
		r := &resources[i]
		capacity, err := desired(r)
		if err != nil {
			return err
		}
		configs := s.fleetConfigurations(r)
		if len(configs) > 0 && fixed(r) {
			configs[0].Overrides = []map[string]any{{"InstanceType": stubType, "Placement": map[string]any{"GroupName": "stub"}}}
		}
		config, err := json.Marshal(map[string]any{
			"Type": r.Attrs[inventory.AttrRequestType], "LaunchTemplateConfigs": configs,
			"TargetCapacitySpecification": map[string]any{"TotalTargetCapacity": capacity},
		})
		if err != nil {
			return fmt.Errorf("%s: %w", r.Ref, err)
		}
		seed.Fleets = append(seed.Fleets, ec2.FleetSeed{ID: r.Ref.ID, Config: config, Tags: r.Tags, Settled: true})
	}
	return nil
}

// seedSpotFleet copies Spot Fleet requests. The instances that carry a request's tag are all that it has.
func seedSpotFleet(s *Sections, resources []inventory.Resource) error {
	seed := Section[ec2.Seed](s, ec2Section)
	for i := range resources {
		r := &resources[i]
		capacity, err := desired(r)
		if err != nil {
			return err
		}
		asked := map[string]any{"Type": r.Attrs[inventory.AttrRequestType], "TargetCapacity": capacity}
		if configs := s.fleetConfigurations(r); len(configs) > 0 {
			asked["LaunchTemplateConfigs"] = configs
		}
		var inline []map[string]any
		for n := 0; ; n++ {
			image, ok := r.State[fmt.Sprintf(fleetInline, n)]
			if !ok {
				break
			}
			inline = append(inline, map[string]any{"ImageId": image, "InstanceType": stubType})
			s.needImage(image)
		}
		if len(inline) > 0 {
			asked["LaunchSpecifications"] = inline
		}
		config, err := json.Marshal(asked)
		if err != nil {
			return fmt.Errorf("%s: %w", r.Ref, err)
		}
		seed.SpotFleets = append(seed.SpotFleets, ec2.FleetSeed{ID: r.Ref.ID, Config: config, Tags: r.Tags, Settled: true})
	}
	return nil
}
