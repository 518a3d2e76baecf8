package rehearse

import (
	"fmt"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/appstream"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// seedAppStream gives the images the agents that were read of them.
func seedAppStream(s *Sections, resources []inventory.Resource) error {
	section := Section[appstream.Seed](s, appstream.Name)
	images := map[string]bool{}
	for i := range resources {
		r := &resources[i]
		m := appstream.MachineSeed{
			Name: r.Name, State: r.State["State"], ImageARN: r.Attrs["appstream-image"], Type: r.Attrs["fleet-type"], Tags: r.Tags,
			DisableV1: new(r.State["DisableIMDSV1"] == "true"),
		}
		if arn, agent := m.ImageARN, r.Attrs["appstream-agent"]; arn != "" && agent != "" && !images[arn] {
			images[arn] = true
			section.Images = append(section.Images, image(arn, agent))
		}
		sort, _, _ := strings.Cut(r.Ref.ID, "/")
		if r.Settling {
			m.State = onItsWay(sort, m.State)
		}
		switch sort {
		case "fleet":
			section.Fleets = append(section.Fleets, m)
		case "image-builder":
			section.ImageBuilders = append(section.ImageBuilders, m)
		case "app-block-builder":
			section.AppBlockBuilders = append(section.AppBlockBuilders, m)
		default:
			return fmt.Errorf("%s is of no sort that AppStream has", r.Ref)
		}
	}
	return nil
}

func image(arn, agent string) appstream.ImageSeed {
	seed := appstream.ImageSeed{ARN: arn, Latest: agent == "latest"}
	if date, err := time.Parse(time.DateOnly, agent); err == nil {
		seed.Agent = date.Format("01-02-2006")
	}
	return seed
}

// onItsWay is a state from which a machine of the sort comes to the one that it is going to.
func onItsWay(sort, to string) string {
	switch {
	case to == "STOPPED":
		return "STOPPING"
	case sort == "image-builder":
		return "PENDING"
	default:
		return "STARTING"
	}
}
