package rehearse

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/emr"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// seedEMR makes documents that say of the metadata service what the scanned ones do, and nothing else: the rest is not
// kept. Clusters are listed by age, the newest first, so they are given ages in the order in which they were found.
func seedEMR(s *Sections, resources []inventory.Resource) error {
	section := Section[emr.Seed](s, emr.Name)
	created := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range resources {
		r := &resources[i]
		if id, ok := strings.CutPrefix(r.Ref.ID, "cluster/"); ok {
			created = created.Add(-time.Hour)
			section.Clusters = append(section.Clusters, emr.ClusterSeed{
				ID: id, Name: r.Name, Configuration: r.State["SecurityConfiguration"], Release: r.Attrs["release"], Tags: r.Tags,
				Created: created,
			})
			continue
		}
		said := map[string]int{}
		for field, value := range r.State {
			n, err := strconv.Atoi(value)
			if err != nil {
				return fmt.Errorf("%s: %s is %q, not a number", r.Ref, field, value)
			}
			said[field] = n
		}
		document, err := json.Marshal(map[string]any{"InstanceMetadataServiceConfiguration": said})
		if err != nil {
			return fmt.Errorf("%s: %w", r.Ref, err)
		}
		section.Configurations = append(section.Configurations, emr.ConfigurationSeed{Name: r.Name, Document: document})
	}
	return nil
}
