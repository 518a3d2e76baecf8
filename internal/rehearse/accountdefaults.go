package rehearse

import (
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

func seedAccountDefaults(s *Sections, resources []inventory.Resource) error {
	for i := range resources {
		r := &resources[i]
		o := r.State.Options()
		Section[ec2.Seed](s, ec2Section).Defaults = &ec2.DefaultsSeed{
			HTTPTokens: o.Tokens, HTTPEndpoint: o.Endpoint, HopLimit: o.HopLimit, InstanceTags: o.Tags,
			HTTPTokensEnforced: r.State[fieldEnforced], ManagedBy: r.Attrs[inventory.AttrManagedBy],
		}
	}
	return nil
}

const (
	ec2Section    = "ec2"
	fieldEnforced = "HttpTokensEnforced"
)
