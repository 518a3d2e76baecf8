package rehearse

import (
	"fmt"
	"strconv"

	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// Fields of a group's state, as the kind auto-scaling-group writes them.
const (
	groupConfiguration = "LaunchConfigurationName"
	groupPlain         = "LaunchTemplate."
	groupMixed         = "MixedInstancesPolicy.LaunchTemplate."
	groupOverride      = "MixedInstancesPolicy.Overrides.%d.LaunchTemplate."
)

// seedAutoScalingGroup copies groups with their desired capacity. The instances that carry a group's tag are its members;
// what is missing it launches.
func seedAutoScalingGroup(s *Sections, resources []inventory.Resource) error {
	for i := range resources {
		r := &resources[i]
		g := autoscaling.GroupSeed{Name: r.Ref.ID, LaunchConfiguration: r.State[groupConfiguration], Tags: r.Tags, Adopt: true}
		if r.Owner.Type == fleet.OwnerService {
			g.Operator = r.Owner.Name
		}
		if text := r.Attrs[inventory.AttrDesired]; text != "" {
			var err error
			if g.Desired, err = strconv.Atoi(text); err != nil {
				return fmt.Errorf("desired capacity of %s: %w", r.Ref, err)
			}
		}
		switch {
		case g.LaunchConfiguration != "":
			s.needConfiguration(g.LaunchConfiguration)
		case r.State[groupPlain+"Id"] != "":
			g.Template, g.Version = s.named(r, groupPlain)
		case r.State[groupMixed+"Id"] != "":
			g.Template, g.Version = s.named(r, groupMixed)
			g.Mixed, g.Overrides = true, s.overrides(r)
		default: // launched from something that was not told; the simulator wants something
			g.LaunchConfiguration = "stub"
			s.needConfiguration(g.LaunchConfiguration)
		}
		seed := Section[autoscaling.Seed](s, autoscalingSection)
		seed.Groups = append(seed.Groups, g)
	}
	return nil
}

// named reads a template and its selector from the state, and notes that it is needed.
func (s *Sections) named(r *inventory.Resource, prefix string) (id, selector string) {
	id, selector = r.State[prefix+"Id"], r.State[prefix+"Version"]
	s.needTemplate(id, selector, nil)
	return id, selector
}

// overrides copies those that name a template, each at its place: the others only keep theirs.
func (s *Sections) overrides(r *inventory.Resource) []autoscaling.OverrideSeed {
	const most = 40 // of a mixed instances policy (Auto Scaling API reference, LaunchTemplate, Overrides)
	var out []autoscaling.OverrideSeed
	for n := range most {
		prefix := fmt.Sprintf(groupOverride, n)
		if r.State[prefix+"Id"] == "" {
			continue
		}
		for len(out) <= n {
			out = append(out, autoscaling.OverrideSeed{InstanceType: stubType})
		}
		out[n].Template, out[n].Version = s.named(r, prefix)
	}
	return out
}
