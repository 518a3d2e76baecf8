package rehearse

import (
	"cmp"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

const (
	autoscalingSection = "autoscaling"
	fieldReplacement   = "Template"
	tagReplaces        = "imdsctl:replaces"
)

// seedLaunchConfiguration copies what the scan keeps of a launch configuration: its options, its image and its type.
func seedLaunchConfiguration(s *Sections, resources []inventory.Resource) error {
	for i := range resources {
		r := &resources[i]
		c := autoscaling.ConfigSeed{
			Name: r.Ref.ID, ImageID: cmp.Or(r.Attrs[inventory.AttrImage], stubImage),
			InstanceType: cmp.Or(r.Attrs[inventory.AttrInstanceType], stubType), Options: r.State.Options(),
		}
		s.needImage(c.ImageID)
		if made := r.State[fieldReplacement]; made != "" {
			for id := range strings.SplitSeq(made, ",") {
				s.needTemplate(id, "", map[string]string{tagReplaces: r.Ref.ID})
			}
		}
		seed := Section[autoscaling.Seed](s, autoscalingSection)
		seed.LaunchConfigurations = append(seed.LaunchConfigurations, c)
	}
	return nil
}
