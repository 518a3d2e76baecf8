package rehearse

import (
	"github.com/imdsctl/imdsctl/internal/awssim/workspacesinstances"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// seedWorkspacesInstance puts WorkSpaces instances into the section of their service. The EC2 instances they live on are
// put there by their own kind.
func seedWorkspacesInstance(s *Sections, resources []inventory.Resource) error {
	section := Section[workspacesinstances.Seed](s, workspacesinstances.Name)
	for i := range resources {
		r := &resources[i]
		section.Instances = append(section.Instances, workspacesinstances.InstanceSeed{
			ID: r.Ref.ID, State: r.State["ProvisionState"], Instance: r.State["EC2ManagedInstance"],
		})
	}
	return nil
}
