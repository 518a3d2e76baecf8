package rehearse

import (
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/imagebuilder"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// seedImageBuilder copies infrastructure configurations. Their names are those that their ARNs end with, which is what AWS makes
// of a name and the simulator leaves as it is.
func seedImageBuilder(s *Sections, resources []inventory.Resource) error {
	seed := Section[imagebuilder.Seed](s, imagebuilder.Name)
	for i := range resources {
		r := &resources[i]
		o := r.Options()
		c := imagebuilder.Config{
			Name: r.Ref.ID[strings.LastIndexByte(r.Ref.ID, '/')+1:], InstanceProfile: r.Attrs["profile-name"], Tags: r.Tags,
			HTTPTokens: o.Tokens, HopLimit: o.HopLimit,
		}
		if types := r.Attrs[inventory.AttrInstanceType]; types != "" {
			c.InstanceTypes = strings.Split(types, ",")
		}
		seed.Infrastructure = append(seed.Infrastructure, c)
	}
	return nil
}
