package rehearse

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/batch"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// seedBatch copies compute environments. What they launch from must be there, under the names by which some call it.
func seedBatch(s *Sections, resources []inventory.Resource) error {
	seed := Section[batch.Seed](s, batch.Name)
	for i := range resources {
		r := &resources[i]
		e, err := batchEnvironment(r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.Ref, err)
		}
		seed.ComputeEnvironments = append(seed.ComputeEnvironments, batch.EnvironmentSeed{Name: r.Ref.ID, Environment: e})
		if e.Resources.LaunchTemplate == nil {
			continue
		}
		refs := []batch.TemplateRef{e.Resources.LaunchTemplate.TemplateRef}
		for _, o := range e.Resources.LaunchTemplate.Overrides {
			refs = append(refs, o.TemplateRef)
		}
		if len(refs) != len(r.Links) {
			return fmt.Errorf("%s names %d launch templates and has %d links", r.Ref, len(refs), len(r.Links))
		}
		for n, l := range r.Links { // one a template, in the same order
			if l.To.ID != refs[n].Name { // else nothing has the name
				s.needTemplate(l.To.ID, l.Selector, nil)
				s.nameTemplate(l.To.ID, refs[n].Name)
			}
		}
	}
	return nil
}

// nameTemplate says by which name a launch template is called that is referred to.
func (s *Sections) nameTemplate(id, name string) {
	if name != "" {
		s.stubs.templates[id].name = name
	}
}

func batchEnvironment(r *inventory.Resource) (batch.Environment, error) {
	e := batch.Environment{
		State: r.Attrs["state"], Status: r.State["status"], StatusReason: r.Attrs["status-reason"],
		Orchestration: r.Attrs["orchestration"], ServiceRole: r.Attrs["service-role"], Tags: r.Tags,
		Resources: &batch.Resources{
			Type: r.Attrs["resource-type"], AllocationStrategy: r.Attrs["allocation-strategy"],
			InstanceRole: r.Attrs[inventory.AttrProfile], LaunchTemplate: batchTemplates(r.State),
		},
	}
	if cluster := r.Attrs[inventory.AttrCluster]; cluster != "" {
		arn := "arn:" + string(r.Ref.Partition) + ":%s:" + string(r.Ref.Region) + ":" + string(r.Ref.Account) + ":cluster/" + cluster
		if e.Orchestration == "EKS" {
			e.EKSCluster = fmt.Sprintf(arn, "eks")
		} else {
			e.Cluster = fmt.Sprintf(arn, "ecs")
		}
	}
	timeout, terminates := r.State["updatePolicy.jobExecutionTimeoutMinutes"], r.State["updatePolicy.terminateJobsOnUpdate"]
	if timeout != "" || terminates != "" {
		minutes, err := strconv.Atoi(timeout)
		if err != nil {
			return e, fmt.Errorf("update policy: %w", err)
		}
		e.UpdatePolicy = &batch.UpdatePolicy{TerminateJobs: terminates == "true", TimeoutMinutes: minutes}
	}
	return e, nil
}

func batchTemplates(s fleet.State) *batch.Templates {
	const prefix = "computeResources.launchTemplate."
	ref := func(at string) batch.TemplateRef {
		return batch.TemplateRef{ID: s[at+"launchTemplateId"], Name: s[at+"launchTemplateName"], Version: s[at+"version"],
			UserdataType: s[at+"userdataType"]}
	}
	if s[prefix+"version"] == "" {
		return nil
	}
	out := &batch.Templates{TemplateRef: ref(prefix)}
	for n := 0; ; n++ {
		at := prefix + "overrides." + strconv.Itoa(n) + "."
		if s[at+"version"] == "" {
			return out
		}
		out.Overrides = append(out.Overrides, batch.Override{
			TemplateRef: ref(at), InstanceTypes: strings.Split(s[at+"targetInstanceTypes"], ","),
		})
	}
}
