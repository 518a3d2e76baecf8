package batch

import (
	"reflect"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// updated is the environment after an update, and whether that takes an infrastructure update. What the simulator does not
// carry out is refused.
// https://docs.aws.amazon.com/batch/latest/userguide/updating-compute-environments.html
func (e *Environment) updated(in wire.Value) (next *Environment, infrastructure bool, err error) {
	made := *e
	next = &made
	if state := in.Str("state"); state != "" {
		if state != "ENABLED" && state != "DISABLED" {
			return nil, false, refuse("state must be ENABLED or DISABLED")
		}
		next.State = state
	}
	if in.Has("updatePolicy") {
		if next.UpdatePolicy, err = parsePolicy(in.Get("updatePolicy")); err != nil {
			return nil, false, err
		}
	}
	if !in.Has("computeResources") {
		return next, false, nil
	}
	if e.Resources == nil {
		return nil, false, refuse("computeResources cannot be specified for an UNMANAGED compute environment")
	}
	resources := *e.Resources
	next.Resources = &resources
	if err := resources.update(in.Get("computeResources")); err != nil {
		return nil, false, err
	}
	infrastructure = !reflect.DeepEqual(resources.LaunchTemplate, e.Resources.LaunchTemplate)
	if infrastructure {
		err = e.replaceable(&resources)
	}
	return next, infrastructure, err
}

// replaceable tells why the environment's instances cannot be replaced, if so.
func (e *Environment) replaceable(next *Resources) error {
	switch {
	case !takesTemplate(e.Resources.Type):
		return refuse("Launch template cannot be specified for %s compute resources", e.Resources.Type)
	case !strings.HasSuffix(e.ServiceRole, "/"+serviceLinkedRole):
		return refuse("Following fields [launchTemplate] can be updated only for Non-fargate Compute Environment having a Batch " +
			"Service Linked Role")
	case e.Orchestration == "ECS" && (next.AllocationStrategy == "" || next.AllocationStrategy == "BEST_FIT"):
		return refuse("Compute resources that use a BEST_FIT allocation strategy don't support infrastructure updates")
	}
	return nil
}

func (r *Resources) update(in wire.Value) error {
	for _, name := range in.Names() {
		var err error
		switch name {
		case "launchTemplate":
			r.LaunchTemplate, err = parseTemplates(in.Get(name))
		case "minvCpus":
			err = number(in, name, &r.MinVCPUs)
		case "maxvCpus":
			err = number(in, name, &r.MaxVCPUs)
		case "allocationStrategy":
			r.AllocationStrategy = in.Str(name)
			if r.AllocationStrategy == "BEST_FIT" {
				err = refuse("BEST_FIT isn't supported when updating a compute environment")
			}
		default:
			err = refuse("computeResources.%s cannot be updated in the simulator", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func number(in wire.Value, name string, into *int) error {
	n, _, err := in.Int(name)
	if err != nil || n < 0 || n > 1<<20 {
		return refuse("%s must be a number of vCPUs", name)
	}
	*into = int(n)
	return nil
}

func parsePolicy(in wire.Value) (*UpdatePolicy, error) {
	terminate, _, err := in.Bool("terminateJobsOnUpdate")
	minutes, set, err2 := in.Int("jobExecutionTimeoutMinutes")
	if err != nil || err2 != nil || set && (minutes < 1 || minutes > 7200) {
		return nil, refuse("updatePolicy is not valid: jobExecutionTimeoutMinutes must be between 1 and 7200")
	}
	if !set {
		minutes = 30
	}
	return &UpdatePolicy{TerminateJobs: terminate, TimeoutMinutes: int(minutes)}, nil
}

// parseTemplates reads a launch template specification. An empty id or name takes the template away, and overrides that are
// left out are unset.
// https://docs.aws.amazon.com/batch/latest/APIReference/API_LaunchTemplateSpecification.html
func parseTemplates(in wire.Value) (*Templates, error) {
	ref, empty, err := parseRef(in, "overrides")
	if err != nil || empty {
		return nil, err
	}
	out := &Templates{TemplateRef: ref}
	for _, v := range in.Items("overrides") {
		ref, empty, err := parseRef(v, "targetInstanceTypes")
		if err != nil {
			return nil, err
		}
		types := v.Strings("targetInstanceTypes")
		if empty || len(types) == 0 {
			return nil, refuse("A launch template override needs a launch template and targetInstanceTypes")
		}
		out.Overrides = append(out.Overrides, Override{ref, types})
	}
	if len(out.Overrides) > 10 {
		return nil, refuse("A compute environment can have up to 10 launch template overrides")
	}
	return out, nil
}

func parseRef(in wire.Value, also string) (ref TemplateRef, empty bool, err error) {
	for _, name := range in.Names() {
		if !slices.Contains([]string{"launchTemplateId", "launchTemplateName", "version", "userdataType", also}, name) {
			return ref, false, refuse("launchTemplate.%s is not known", name)
		}
	}
	ref = TemplateRef{ID: in.Str("launchTemplateId"), Name: in.Str("launchTemplateName"), Version: in.Str("version"),
		UserdataType: in.Str("userdataType")}
	switch {
	case ref.ID != "" && ref.Name != "":
		return ref, false, refuse("Specify either launchTemplateId or launchTemplateName, not both")
	case ref.ID == "" && ref.Name == "":
		if !in.Has("launchTemplateId") && !in.Has("launchTemplateName") {
			return ref, false, refuse("Either launchTemplateId or launchTemplateName must be specified")
		}
		return ref, true, nil
	}
	return ref, false, nil
}
