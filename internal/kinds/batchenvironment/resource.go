package batchenvironment

import (
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/batch/types"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// resourcesManaged is a type of compute resources that this SDK does not know yet: instances that ECS manages.
const resourcesManaged = "ECS_MANAGED_INSTANCES"

// launches tells whether Batch launches instances for an environment. A deleted one is shown for a while.
func launches(e *types.ComputeEnvironmentDetail) bool {
	if e.Type != types.CETypeManaged || e.ComputeResources == nil || e.Status == types.CEStatusDeleted {
		return false
	}
	return e.ComputeResources.Type != types.CRTypeFargate && e.ComputeResources.Type != types.CRTypeFargateSpot
}

// resource turns Batch's words into ours. Its links are made by link.
func (d *driver) resource(e *types.ComputeEnvironmentDetail) inventory.Resource {
	name := aws.ToString(e.ComputeEnvironmentName)
	r := inventory.Resource{
		Ref: fleet.Ref{Place: d.place, Kind: inventory.KindBatch, ID: name}, Name: name,
		State: state(e),
		Tags:  e.Tags,
		Attrs: map[string]string{
			inventory.AttrContainers: "batch",
			AttrState:                string(e.State), AttrResources: string(e.ComputeResources.Type),
			AttrServiceRole: aws.ToString(e.ServiceRole), AttrOrchestration: string(e.ContainerOrchestrationType),
		},
		Settling: e.Status == types.CEStatusUpdating || e.Status == types.CEStatusCreating || e.Status == types.CEStatusDeleting,
	}
	if len(r.Tags) == 0 {
		r.Tags = nil
	}
	r.Owner = kind.OwnerByTags(r.Tags)
	put := func(attr, v string) {
		if v != "" {
			r.Attrs[attr] = v
		}
	}
	put(AttrStrategy, string(e.ComputeResources.AllocationStrategy))
	put(inventory.AttrProfile, aws.ToString(e.ComputeResources.InstanceRole))
	put(inventory.AttrCluster, lastOf(aws.ToString(e.EcsClusterArn)))
	if e.EksConfiguration != nil {
		put(inventory.AttrCluster, lastOf(aws.ToString(e.EksConfiguration.EksClusterArn)))
	}
	if e.Status == types.CEStatusInvalid {
		put(AttrReason, aws.ToString(e.StatusReason))
	}
	if len(versionFields(r.State)) == 0 {
		r.Says = &fleet.Options{} // nothing: the account's default and the image decide
	}
	return r
}

func state(e *types.ComputeEnvironmentDetail) fleet.State {
	s := fleet.State{}
	putTemplates(s, e.ComputeResources.LaunchTemplate)
	if p := e.UpdatePolicy; p != nil {
		if p.TerminateJobsOnUpdate != nil {
			s[FieldTerminate] = strconv.FormatBool(*p.TerminateJobsOnUpdate)
		}
		if p.JobExecutionTimeoutMinutes != nil {
			s[FieldTimeout] = strconv.FormatInt(*p.JobExecutionTimeoutMinutes, 10)
		}
	}
	if e.Status == types.CEStatusInvalid {
		s[FieldStatus] = string(e.Status)
	}
	return s
}

// link ties an environment to its templates. One that is called by a name which nothing has is tied to that name, so that the
// plan says what is missing. A selector that moves is not offered to be held at a number while the template changes, and let go
// again: Batch does not follow it in between, and would replace all instances twice.
func (d *driver) link(r *inventory.Resource, ids map[string]string) {
	for _, field := range versionFields(r.State) {
		idField, nameField := namedBy(field)
		id := r.State[idField]
		if name := r.State[nameField]; id == "" {
			if id = ids[name]; id == "" {
				id = name
			}
		}
		l := inventory.Link{
			Relation: inventory.LaunchesFrom, To: r.Ref.Sibling(inventory.KindLaunchTemplate, id), Selector: r.State[field], Starts: true,
		}
		if fixed(r) == "" && !moves(l.Selector) {
			l.Field = field
		}
		r.Links = append(r.Links, l)
	}
}

// serviceLinkedRole is the role without which Batch makes no infrastructure update (user guide, "Updating compute environments").
const serviceLinkedRole = "AWSServiceRoleForBatch"

// fixed says why the environment's template cannot be updated; "" where it can.
func fixed(r *inventory.Resource) string {
	switch strategy := r.Attrs[AttrStrategy]; {
	case r.Attrs[AttrResources] == resourcesManaged:
		return "its instances are managed by ECS, which has no parameter for their metadata options"
	case strategy == string(types.CRAllocationStrategyBestFit), strategy == "" && r.Attrs[AttrOrchestration] != string(types.OrchestrationTypeEks):
		return "its allocation strategy is BEST_FIT, with which Batch makes no infrastructure update"
	case lastOf(r.Attrs[AttrServiceRole]) != serviceLinkedRole:
		return "its service role is not " + serviceLinkedRole + ", without which Batch makes no infrastructure update"
	case r.State[FieldStatus] != "":
		return "it is INVALID (" + r.Attrs[AttrReason] + ")"
	}
	return ""
}

// lastOf is what follows the last slash of an ARN, or the whole of a plain name.
func lastOf(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
