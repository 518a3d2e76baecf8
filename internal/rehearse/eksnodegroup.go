package rehearse

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/eks"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// seedNodegroup copies EKS node groups into clusters of their newest version. The groups they operate are copied as such.
func seedNodegroup(s *Sections, resources []inventory.Resource) error {
	seed := Section[eks.Seed](s, eks.Name)
	for i := range resources {
		r := &resources[i]
		cluster, name, ok := strings.Cut(r.Ref.ID, "/")
		if !ok {
			return fmt.Errorf("EKS node group %q: want CLUSTER/NODEGROUP", r.Ref.ID)
		}
		at := slices.IndexFunc(seed.Clusters, func(c eks.ClusterSeed) bool { return c.Name == cluster })
		if at < 0 {
			at = len(seed.Clusters)
			seed.Clusters = append(seed.Clusters, eks.ClusterSeed{Name: cluster})
		}
		c := &seed.Clusters[at]
		g := eks.NodegroupSeed{
			Name: name, Version: r.State["Version"], ReleaseVersion: r.State["ReleaseVersion"], Status: r.Attrs["status"],
			AMIType: r.Attrs["ami-type"], Template: r.State["LaunchTemplate.Id"], Tags: r.Tags,
		}
		if g.Template != "" {
			n, err := strconv.ParseInt(r.State["LaunchTemplate.Version"], 10, 64)
			if err != nil {
				return fmt.Errorf("EKS node group %s: the version of its launch template: %w", r.Ref.ID, err)
			}
			g.TemplateVersion = n
			s.needTemplate(g.Template, r.State["LaunchTemplate.Version"], nil)
		}
		if l, ok := r.Link(inventory.Operates); ok {
			g.Group = l.To.ID
		}
		if newer(g.Version, c.Version) {
			c.Version = g.Version
		}
		c.Nodegroups = append(c.Nodegroups, g)
	}
	return nil
}

// newer compares versions of Kubernetes: "1.9" comes before "1.31".
func newer(a, b string) bool {
	return len(a) > len(b) || len(a) == len(b) && a > b
}
