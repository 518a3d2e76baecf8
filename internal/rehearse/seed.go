// Package rehearse runs a plan against a simulated copy of the scanned fleet: the real engine and the real kinds, in a
// simulated AWS that was made from what a scan found and observed, in accelerated time.
//
// It owns the way from an inventory to a seed of the simulator, one file a kind. It may read what was scanned and write
// nothing but its own world; it never reaches AWS.
package rehearse

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/iam"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// Seeder puts the resources of one kind in one place, as a scan found them, into the seed of the place. What it leaves reads
// the same through the kind's driver: state, launch options, links, owner and status. The suite of the kinds checks that.
type Seeder func(s *Sections, resources []inventory.Resource) error

// Seeders has one line a kind.
func Seeders() map[string]Seeder {
	return map[string]Seeder{
		inventory.KindAccountDefaults:     seedAccountDefaults,
		inventory.KindAutoScaling:         seedAutoScalingGroup,
		inventory.KindFleet:               seedFleet,
		inventory.KindImage:               seedImage,
		inventory.KindInstance:            seedInstance,
		inventory.KindLaunchTemplate:      seedLaunchTemplate,
		inventory.KindSpotFleet:           seedSpotFleet,
		inventory.KindLaunchConfiguration: seedLaunchConfiguration,
		inventory.KindAppStream:           seedAppStream,
		inventory.KindBeanstalk:           seedBeanstalkEnvironments,
		inventory.KindEMR:                 seedEMR,
		inventory.KindBatch:               seedBatch,
		inventory.KindECSCapacity:         seedECSCapacity,
		inventory.KindImageBuilder:        seedImageBuilder,
		inventory.KindLightsail:           seedLightsailInstance,
		inventory.KindNodegroup:           seedNodegroup,
		inventory.KindNotebook:            seedSageMakerNotebook,
		inventory.KindOrganizationPolicy:  seedOrganizationPolicy,
		inventory.KindWorkspace:           seedWorkspacesInstance,
		inventory.KindRole:                seedRole,
		inventory.KindSecurityGroup:       seedSecurityGroup,
		inventory.KindLoadBalancer:        seedLoadBalancer,
		inventory.KindSSMAgent:            seedSSMAgent,
	}
}

// Sections are the seed of one place, by the simulator's service.
type Sections struct {
	sections map[string]any
	stubs    stubs
}

// Section is the seed section of a service, made when it is first asked for.
func Section[T any](s *Sections, service string) *T {
	if s.sections == nil {
		s.sections = map[string]any{}
	}
	if have, ok := s.sections[service].(*T); ok {
		return have
	}
	made := new(T)
	s.sections[service] = made
	return made
}

// Region is the seed of a region, or of an account's global place, with the resources of one place. What an organization has once
// is a section of the whole world (core.Seed.Services).
func Region(resources []inventory.Resource) (map[string]json.RawMessage, error) {
	byKind := map[string][]inventory.Resource{}
	for _, r := range resources {
		byKind[r.Ref.Kind] = append(byKind[r.Ref.Kind], r)
	}
	s, seeders := &Sections{}, Seeders()
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		seed, ok := seeders[kind]
		if !ok {
			return nil, fmt.Errorf("kind %s cannot be rehearsed: it has no line in rehearse.Seeders", kind)
		}
		if err := seed(s, byKind[kind]); err != nil {
			return nil, fmt.Errorf("kind %s: %w", kind, err)
		}
	}
	if err := s.complete(); err != nil {
		return nil, err
	}
	out := make(map[string]json.RawMessage, len(s.sections))
	for service, section := range s.sections {
		b, err := json.Marshal(section)
		if err != nil {
			return nil, fmt.Errorf("seed of %s: %w", service, err)
		}
		out[service] = b
	}
	return out, nil
}

// Seed is the seed of one account with the resources of one place.
func Seed(account core.AccountSeed, resources []inventory.Resource) (*core.Seed, error) {
	if len(resources) == 0 {
		return &core.Seed{Accounts: []core.AccountSeed{account}}, nil
	}
	sections, err := Region(resources)
	if err != nil {
		return nil, err
	}
	region := resources[0].Ref.Region
	if region == "" { // what lives once in an account, and what lives once in an organization
		out := &core.Seed{Services: sections}
		if own, ok := sections[iam.Name]; ok {
			account.Global = map[string]json.RawMessage{iam.Name: own}
			delete(sections, iam.Name)
		}
		out.Accounts = []core.AccountSeed{account}
		if len(sections) > 0 {
			out.Organization = Organization(account.ID, nil, resources)
			out.Accounts = append(out.Accounts, others(account.ID, resources)...)
		}
		return out, nil
	}
	account.Regions = map[fleet.Region]map[string]json.RawMessage{region: sections}
	return &core.Seed{Accounts: []core.AccountSeed{account}}, nil
}
