package eks

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
)

// Seed is the section "eks" of a seed's region.
type Seed struct {
	// Releases are the node images that EKS offers, the oldest of a version of Kubernetes first; one is made up for a version
	// that has none.
	Releases []Release     `json:"releases,omitempty"`
	Clusters []ClusterSeed `json:"clusters,omitempty"`
	// NodeSeconds is how long an update takes before it comes to the first node; two minutes when 0.
	NodeSeconds int `json:"node_seconds,omitempty"`
}

// ClusterSeed is a cluster with its node groups.
type ClusterSeed struct {
	Name       string            `json:"name"`
	Version    string            `json:"version,omitempty"` // 1.33 when empty
	Tags       map[string]string `json:"tags,omitempty"`
	Nodegroups []NodegroupSeed   `json:"nodegroups,omitempty"`
}

// NodegroupSeed is a managed node group.
type NodegroupSeed struct {
	Name           string `json:"name"`
	Version        string `json:"version,omitempty"`         // the cluster's when empty
	ReleaseVersion string `json:"release_version,omitempty"` // the newest when empty; of a custom image the image
	Status         string `json:"status,omitempty"`          // ACTIVE when empty
	// AMIType is, when empty, CUSTOM where the template's version names an image, else AL2023_x86_64_STANDARD.
	AMIType string `json:"ami_type,omitempty"`
	// Template is a person's launch template, by id or by name, in the version of that number; empty where EKS has its own
	// alone. One that is not in the ec2 section can be named by its id.
	Template        string `json:"template,omitempty"`
	TemplateVersion int64  `json:"template_version,omitempty"` // 1 when 0
	// Group is the Auto Scaling group. One that is not in the autoscaling section is made where Desired is above 0, with a
	// launch template of EKS's own and nodes of ImageID.
	Group         string            `json:"group,omitempty"` // "eks-<name>" when empty
	ImageID       string            `json:"image,omitempty"`
	InstanceTypes []string          `json:"instance_types,omitempty"`
	Subnets       []string          `json:"subnets,omitempty"`
	CapacityType  string            `json:"capacity_type,omitempty"` // ON_DEMAND when empty
	Min           int               `json:"min,omitempty"`
	Max           int               `json:"max,omitempty"`
	Desired       int               `json:"desired,omitempty"`
	Tags          map[string]string `json:"tags,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	// Evicts says why the pods of its nodes cannot be evicted, so that an update fails that is not forced.
	Evicts string `json:"evicts,omitempty"`
}

var (
	clusterName = regexp.MustCompile(`^[0-9A-Za-z][A-Za-z0-9_-]{0,99}$`)
	groupName   = regexp.MustCompile(`^[0-9A-Za-z][A-Za-z0-9_-]{0,62}$`)
	templateID  = regexp.MustCompile(`^lt-([0-9a-f]{8}|[0-9a-f]{17})$`)
)

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in Seed
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	s, now := storeOf(p), p.World().Now()
	s.releases = append(s.releases, in.Releases...)
	if in.NodeSeconds > 0 {
		s.node = time.Duration(in.NodeSeconds) * time.Second
	}
	for i, cs := range in.Clusters {
		here := fmt.Sprintf("%s.clusters[%d]", path, i)
		if !clusterName.MatchString(cs.Name) || s.clusters[cs.Name] != nil {
			return fmt.Errorf("%s: %q is not a cluster's name, or is there already", here, cs.Name)
		}
		c := &cluster{
			name: cs.Name, arn: s.arn("cluster/" + cs.Name), version: cmp.Or(cs.Version, "1.33"), created: now.AddDate(-1, 0, 0),
			tags: cs.Tags, groups: map[string]*nodegroup{},
		}
		s.clusters[c.name] = c
		for j, gs := range cs.Nodegroups {
			if err := s.seedNodegroup(c, gs, now); err != nil {
				return fmt.Errorf("%s.nodegroups[%d]: %w", here, j, err)
			}
		}
	}
	return nil
}

func (s *store) seedNodegroup(c *cluster, in NodegroupSeed, now time.Time) error {
	if !groupName.MatchString(in.Name) || c.groups[in.Name] != nil {
		return fmt.Errorf("%q is not a node group's name, or is there already", in.Name)
	}
	statuses := []string{statusActive, statusUpdating, statusDegraded, "CREATING", "DELETING", "CREATE_FAILED", "DELETE_FAILED"}
	if in.Status != "" && !slices.Contains(statuses, in.Status) {
		return fmt.Errorf("node group %s: status %q is not one of %s", in.Name, in.Status, strings.Join(statuses, ", "))
	}
	g := &nodegroup{
		cluster: c, name: in.Name, arn: s.arn("nodegroup/" + c.name + "/" + in.Name + "/" + s.id()),
		group: cmp.Or(in.Group, "eks-"+in.Name), amiType: cmp.Or(in.AMIType, "AL2023_x86_64_STANDARD"),
		role:     "arn:" + string(s.place.Partition) + ":iam::" + string(s.place.Account) + ":role/eks-node",
		capacity: cmp.Or(in.CapacityType, "ON_DEMAND"), types: in.InstanceTypes, subnets: in.Subnets,
		min: in.Min, max: max(in.Max, in.Desired, 1), desired: in.Desired, tags: in.Tags, labels: in.Labels,
		created: now.AddDate(-1, 0, 0), evicts: in.Evicts, image: in.ImageID, byToken: map[string]*update{}, maxUnavailable: 1,
	}
	st := nodegroupState{status: cmp.Or(in.Status, statusActive), version: cmp.Or(in.Version, c.version), modified: g.created}
	if err := s.seedTemplate(g, in, &st); err != nil {
		return fmt.Errorf("node group %s: %w", in.Name, err)
	}
	st.release = cmp.Or(in.ReleaseVersion, st.release, s.newest(st.version).Release)
	g.state = core.Always(st)
	c.groups[g.name] = g
	if _, there := autoscaling.StoreOf(s.place).SourceOf(g.group); !there && in.Desired > 0 {
		if err := s.deploy(g, now); err != nil {
			return fmt.Errorf("node group %s: %w", in.Name, err)
		}
	}
	return nil
}

// seedTemplate notes a person's template. An image in its version makes the node group one of a custom image.
func (s *store) seedTemplate(g *nodegroup, in NodegroupSeed, st *nodegroupState) error {
	if in.Template == "" {
		return nil
	}
	st.templateVersion = max(in.TemplateVersion, 1)
	t, there := ec2.StoreOf(s.place).Template(in.Template)
	if !there {
		if !templateID.MatchString(in.Template) {
			return fmt.Errorf("launch template %q is not in the ec2 section", in.Template)
		}
		g.templateID = in.Template
		return nil
	}
	g.templateID, g.templateName = t.ID(), t.Name()
	number := strconv.FormatInt(st.templateVersion, 10)
	if _, err := ec2.StoreOf(s.place).ResolveVersion(g.templateID, number); err != nil {
		return err
	}
	if image := ec2.StoreOf(s.place).VersionText(g.templateID, number, "ImageId"); image != "" && in.AMIType == "" {
		g.amiType, st.release = amiCustom, image
	}
	return nil
}

// deploy makes the Auto Scaling group and its nodes.
func (s *store) deploy(g *nodegroup, now time.Time) error {
	src, err := s.keep(g, autoscaling.Source{}, g.state.Newest(), now)
	if err != nil {
		return err
	}
	spec := autoscaling.Spec{
		Source: src, Min: g.min, Max: g.max, Desired: g.desired, Subnets: g.subnets, Zones: []string{string(s.place.Region) + "a"},
	}
	tags := s.ownTags(g)
	tags["kubernetes.io/cluster/"+g.cluster.name] = "owned"
	for _, k := range sorted(tags) {
		spec.Tags = append(spec.Tags, autoscaling.Tag{Key: k, Value: tags[k], Propagate: true})
	}
	groups := autoscaling.StoreOf(s.place)
	if err := groups.Create(now, g.group, spec); err != nil {
		return err
	}
	return groups.Act(g.group, now)
}
