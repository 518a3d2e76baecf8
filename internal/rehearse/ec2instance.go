package rehearse

import (
	"cmp"

	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// seedInstance copies instances with their tags, by which EC2 says what they were launched from and by.
func seedInstance(s *Sections, resources []inventory.Resource) error {
	seed := Section[ec2.Seed](s, ec2Section)
	for i := range resources {
		r := &resources[i]
		seed.Instances = append(seed.Instances, ec2.InstanceSeed{
			ID: r.Ref.ID, State: cmp.Or(string(r.Status), ec2.StateRunning), Options: r.State.Options(),
			ImageID: cmp.Or(r.Attrs[inventory.AttrImage], stubImage), InstanceType: r.Attrs[inventory.AttrInstanceType],
			PublicIP: r.Attrs[inventory.AttrPublicIP], IPv6: firstOf(r.Attrs[inventory.AttrIPv6]),
			PrivateIP: firstOf(r.Attrs[inventory.AttrPrivateIPs]), SecurityGroups: listOf(r.Attrs[inventory.AttrSecurityGroups]),
			ProductCodes: listOf(r.Attrs[inventory.AttrProductCodes]),
			ProfileARN:   r.Attrs[inventory.AttrProfile], Launched: r.Launched, Tags: r.Tags, Operator: operator(r),
		})
	}
	return nil
}

// operator is the service that manages a resource, as EC2 itself says it; nil where it does not.
func operator(r *inventory.Resource) *ec2.Operator {
	if r.Owner.Type != fleet.OwnerService {
		return nil
	}
	return &ec2.Operator{Managed: true, Principal: r.Owner.Name}
}
