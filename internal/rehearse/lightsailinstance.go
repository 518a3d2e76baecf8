package rehearse

import (
	"fmt"

	"github.com/imdsctl/imdsctl/internal/awssim/lightsail"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

func seedLightsailInstance(s *Sections, resources []inventory.Resource) error {
	section := Section[lightsail.Seed](s, lightsail.Name)
	for i := range resources {
		r := &resources[i]
		seed := lightsail.InstanceSeed{
			Name: r.Ref.ID, State: string(r.Status), Options: r.Options(), Blueprint: r.Attrs[inventory.AttrImage],
			Bundle: r.Attrs[inventory.AttrInstanceType], Created: r.Launched, PublicIP: r.Attrs[inventory.AttrPublicIP], Tags: r.Tags,
		}
		if len(r.State) == 0 {
			return fmt.Errorf("instance %s has no metadata options, and every simulated one has", r.Ref.ID)
		}
		section.Instances = append(section.Instances, seed)
	}
	return nil
}
