package rehearse

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// seedLaunchTemplate copies templates with the versions that were read; there are gaps between their numbers.
func seedLaunchTemplate(s *Sections, resources []inventory.Resource) error {
	seed := Section[ec2.Seed](s, ec2Section)
	for i := range resources {
		r := &resources[i]
		t := ec2.TemplateSeed{ID: r.Ref.ID, Name: r.Name, Tags: r.Tags, Operator: operator(r)}
		numbers, err := versionNumbers(r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.Ref, err)
		}
		if t.Default, err = strconv.ParseInt(r.State[inventory.FieldDefaultVersion], 10, 64); err != nil {
			return fmt.Errorf("default version of %s: %w", r.Ref, err)
		}
		for _, n := range numbers {
			number := strconv.FormatInt(n, 10)
			image := r.Attrs[inventory.AttrImage+"/"+number]
			data, err := templateData(image, r.Launch[number])
			if err != nil {
				return fmt.Errorf("version %d of %s: %w", n, r.Ref, err)
			}
			t.Versions = append(t.Versions, ec2.VersionSeed{Number: n, Data: data})
			if strings.HasPrefix(image, "ami-") {
				s.needImage(image)
			}
		}
		seed.Templates = append(seed.Templates, t)
	}
	return nil
}

// versionNumbers lists the versions that were read, and the two that the template points to, in order.
func versionNumbers(r *inventory.Resource) ([]int64, error) {
	found := map[int64]bool{}
	pointers := []string{r.State[inventory.FieldDefaultVersion], r.State[inventory.FieldLatestVersion]}
	for _, text := range slices.Concat(slices.Collect(maps.Keys(r.Launch)), pointers) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("version %q: %w", text, err)
		}
		found[n] = true
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// templateData is a version's content as far as a scan keeps it.
func templateData(image string, o fleet.Options) (json.RawMessage, error) {
	data := map[string]any{"InstanceType": stubType}
	if image != "" {
		data["ImageId"] = image
	}
	if said := o.State(); len(said) > 0 {
		data["MetadataOptions"] = said
	}
	return json.Marshal(data)
}
