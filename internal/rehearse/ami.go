package rehearse

import (
	"fmt"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// seedImage copies images, those of others included.
func seedImage(s *Sections, resources []inventory.Resource) error {
	seed := Section[ec2.Seed](s, ec2Section)
	for i := range resources {
		r := &resources[i]
		image := ec2.ImageSeed{
			ID: r.Ref.ID, Name: r.Name, Owner: r.Attrs[inventory.AttrImageOwner], Platform: r.Attrs[inventory.AttrPlatform],
			ImdsV2: r.Options().Tokens == fleet.TokensRequired, Tags: r.Tags, ProductCodes: listOf(r.Attrs[inventory.AttrProductCodes]),
		}
		for name, into := range map[string]*time.Time{
			inventory.AttrCreated: &image.Created, inventory.AttrDeprecated: &image.Deprecated,
		} {
			text := r.Attrs[name]
			if text == "" {
				continue
			}
			t, err := time.Parse(time.RFC3339, text)
			if err != nil {
				return fmt.Errorf("%s of %s: %w", name, r.Ref, err)
			}
			*into = t
		}
		seed.Images = append(seed.Images, image)
	}
	return nil
}
