// Package workspacesinstance is the kind workspaces-instance: machines that Amazon WorkSpaces Instances runs, each on an EC2
// instance that it manages.
//
// It owns the knowledge of which EC2 instance belongs to which WorkSpaces instance, and writes nothing. The metadata options
// are the EC2 instance's, which EC2 lists in the account as one that a service operates: there it is judged, counted and
// observed, and must not be a second time here. So a WorkSpaces instance is a fact about its EC2 instance, and no host. Nor
// can the options be changed through either service: WorkSpaces Instances takes them at creation and has no call to change
// them, and refuses changes behind its back. What is left is to make another one.
package workspacesinstance

import (
	"fmt"
	"regexp"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// Fields of the state.
const (
	// FieldState is the service's word for how far the instance is provisioned.
	FieldState = "ProvisionState"
	// FieldInstance is the EC2 instance; absent where there is none (yet, or any more).
	FieldInstance = "EC2ManagedInstance"
)

const (
	actionList = "workspaces-instances:ListWorkspaceInstances"
	actionGet  = "workspaces-instances:GetWorkspaceInstance"
)

// Kind describes WorkSpaces instances.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindWorkspace,
		Doc: "A machine of Amazon WorkSpaces Instances. It lives on an EC2 instance in the account that the service manages, and " +
			"whose metadata options are its own: it is judged and counted there. The options are given when it is created and " +
			"cannot be changed after that, so the plan has a manual step.",
		Manner: assess.Manner{Role: assess.RoleFact},
		Reads: []kind.Action{
			{Name: actionList, Resource: "*"},
			{Name: actionGet, Resource: "arn:{partition}:workspaces-instances:{region}:{account}:workspaceinstance/*"},
		},
		Propose: propose,
	}
}

// propose says how to replace a WorkSpaces instance whose EC2 instance still answers IMDSv1. Its own verdict, if it has
// any, is of no matter.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	r := c.Resource
	host, ok := r.Link(inventory.RunsOn)
	if !ok || c.Judge == nil {
		return nil, nil
	}
	v := c.Judge(host.To)
	if v == nil || v.Status == assess.Done || v.Status == assess.Exempt {
		return nil, nil
	}
	return nil, []plan.Manual{{
		Ref: r.Ref, Name: r.Name,
		Reason: fmt.Sprintf("its EC2 instance %s allows IMDSv1, and WorkSpaces Instances takes metadata options only when it "+
			"creates an instance", host.To.ID),
		Remedy: remedy(r, host.To.ID),
	}}
}

func remedy(r *inventory.Resource, instance string) string {
	steps := "Find out that nothing on it calls IMDSv1. Create its successor with the same parameters and required tokens " +
		"(create-workspace-instance with --managed-instance '{…, \"MetadataOptions\": {\"HttpTokens\": \"required\", " +
		"\"HttpPutResponseHopLimit\": 1, \"HttpEndpoint\": \"enabled\"}}'), move what is on it, and delete the old one"
	if !instanceID.MatchString(r.Ref.ID) || !ec2ID.MatchString(instance) {
		return steps + "."
	}
	return fmt.Sprintf("%s. The parameters of now: `%s`. The old one's end: `%s`.", steps,
		kind.Command(r.Ref.Place, "ec2", "describe-instances", "--instance-ids", instance, "--include-managed-resources"),
		kind.Command(r.Ref.Place, "workspaces-instances", "delete-workspace-instance", "--workspace-instance-id", r.Ref.ID))
}

// The patterns of the services' API models.
var (
	instanceID = regexp.MustCompile(`^wsinst-[0-9a-zA-Z]{8,63}$`)
	ec2ID      = regexp.MustCompile(`^i-[0-9a-f]{8,17}$`)
)

// links tie a WorkSpaces instance to its EC2 instance: it lives there, and whoever changes that is changed back.
func links(place fleet.Place, instance string) []inventory.Link {
	if instance == "" {
		return nil
	}
	to := fleet.Ref{Place: place, Kind: inventory.KindInstance, ID: instance}
	return []inventory.Link{{Relation: inventory.RunsOn, To: to}, {Relation: inventory.Operates, To: to}}
}
