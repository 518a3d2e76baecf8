package rehearse

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/organizations"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// seedOrganizationPolicy puts policies into the section of Organizations, which is the whole world's and no place's. The
// units and accounts that they are attached to come from Organization.
func seedOrganizationPolicy(s *Sections, resources []inventory.Resource) error {
	section := Section[organizations.Seed](s, organizationsSection)
	section.PolicyTypes = []string{organizations.TypeSCP, organizations.TypeDeclarative}
	for i := range resources {
		r := &resources[i]
		content, err := json.Marshal(r.State[fieldContent])
		if err != nil {
			return fmt.Errorf("content of policy %s: %w", r.Ref.ID, err)
		}
		section.Policies = append(section.Policies, organizations.PolicySeed{
			ID: r.Ref.ID, Name: r.Name, Type: r.State[fieldPolicyType], Content: content, Targets: targetsOf(r),
		})
	}
	return nil
}

const (
	organizationsSection = "organizations"
	fieldContent         = "Content"
	fieldPolicyType      = "Type"
	fieldTargets         = "Targets"
)

func targetsOf(r *inventory.Resource) []string {
	if r.State[fieldTargets] == "" {
		return nil
	}
	return strings.Split(r.State[fieldTargets], ",")
}

// Organization is the shape of the organization that accounts and the targets of policies tell of, with its own ids. A unit's
// name in it is its id, and an account is in the last of its inventory.Account.OUIDs.
func Organization(management fleet.AccountID, accounts []inventory.Account, policies []inventory.Resource) core.Organization {
	out := core.Organization{ManagementAccount: management}
	add := func(id, parent string) {
		if !slices.ContainsFunc(out.OUs, func(u core.OU) bool { return u.ID == id }) {
			out.OUs = append(out.OUs, core.OU{ID: id, Name: id, Parent: parent})
		}
		if root, _, ok := strings.Cut(strings.TrimPrefix(id, "ou-"), "-"); ok && out.RootID == "" {
			out.RootID = "r-" + root // a unit's id holds its root's
		}
	}
	for i := range accounts {
		parent := ""
		for _, id := range accounts[i].OUIDs {
			add(id, parent)
			parent = id
		}
	}
	for i := range policies {
		for _, target := range targetsOf(&policies[i]) {
			switch {
			case strings.HasPrefix(target, "ou-"):
				add(target, "")
			case strings.HasPrefix(target, "r-"):
				out.RootID = target
			}
		}
	}
	return out
}

// others are the accounts that policies are attached to, besides the one that manages the organization.
func others(management fleet.AccountID, policies []inventory.Resource) []core.AccountSeed {
	var out []core.AccountSeed
	for i := range policies {
		for _, target := range targetsOf(&policies[i]) {
			id := fleet.AccountID(target)
			known := slices.ContainsFunc(out, func(a core.AccountSeed) bool { return a.ID == id })
			if id.Valid() && id != management && !known {
				out = append(out, core.AccountSeed{ID: id})
			}
		}
	}
	return out
}
