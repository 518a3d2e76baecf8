package inventory

import (
	"slices"
	"strings"
)

// Containers is what is known of the containers on a host, or on the hosts of a group. The zero value means that none were
// recognised, which proves nothing: a container engine can run on any instance.
type Containers struct {
	// Runtime is what starts them: "ecs", "eks", "kubernetes", "batch" or "docker".
	Runtime string
	Cluster string
	// Modes are their network modes ("awsvpc", "bridge", "host"), sorted; empty where nothing told.
	Modes []string
	// Source says what showed it: "an ECS container instance", "the tag kubernetes.io/cluster/prod".
	Source string
}

// Containers recognises the containers of a host, or of a launcher's hosts: from what runs on it, who operates it, its group,
// and the tags that container services leave.
func (ix *Index) Containers(r *Resource) Containers {
	out := ix.known(r)
	if l, ok := r.Link(MemberOf); ok {
		if group := ix.byRef[l.To]; group != nil && group != r {
			out.add(ix.known(group))
		}
	}
	if r.Status == "" { // a launcher: its hosts tell what its next ones will run
		for _, h := range ix.Hosts(r.Ref) {
			for _, g := range ix.guests[h.Ref] {
				out.add(ofAttributes(g, "the "+g.Ref.Kind+" "+g.Ref.ID))
			}
		}
	}
	return out
}

// known is what a resource tells without its group or its members.
func (ix *Index) known(r *Resource) Containers {
	var out Containers
	out.add(ofAttributes(r, "its own settings"))
	for _, g := range ix.guests[r.Ref] {
		out.add(ofAttributes(g, "the "+g.Ref.Kind+" "+g.Ref.ID))
	}
	for _, o := range ix.operators[r.Ref] {
		out.add(ofAttributes(o, "the "+o.Ref.Kind+" "+o.Ref.ID))
	}
	out.add(ofTags(r.Tags))
	return out
}

// add takes over what is not known yet. Modes add up.
func (c *Containers) add(o Containers) {
	if c.Runtime == "" && o.Runtime != "" {
		c.Runtime, c.Source = o.Runtime, o.Source
	}
	if c.Cluster == "" {
		c.Cluster = o.Cluster
	}
	if len(o.Modes) > 0 {
		c.Modes = append(slices.Clip(c.Modes), o.Modes...)
		slices.Sort(c.Modes)
		c.Modes = slices.Compact(c.Modes)
	}
}

func ofAttributes(r *Resource, source string) Containers {
	out := Containers{Runtime: r.Attrs[AttrContainers], Cluster: r.Attrs[AttrCluster], Source: source}
	if modes := r.Attrs[AttrNetworkModes]; modes != "" {
		out.Modes = strings.Split(modes, ",")
	}
	return out
}

// runtimeTag is a tag that tells what starts containers, and, where named, their cluster in its value.
type runtimeTag struct {
	key, runtime string
	named        bool
}

// runtimeTags are in the order in which they are looked at.
func runtimeTags() []runtimeTag {
	return []runtimeTag{
		{"aws:eks:cluster-name", "eks", true}, // https://docs.aws.amazon.com/eks/latest/userguide/eks-using-tags.html
		{"eks:cluster-name", "eks", true},
		{"alpha.eksctl.io/cluster-name", "eks", true},
		{"aws:ecs:clusterName", "ecs", true},
		{"karpenter.k8s.aws/cluster", "kubernetes", true},
		{"eks:nodegroup-name", "eks", false},
		{"karpenter.sh/nodepool", "kubernetes", false},
		{"karpenter.sh/provisioner-name", "kubernetes", false},
		{"k8s.io/role/node", "kubernetes", false},
		{"k8s.io/cluster-autoscaler/enabled", "kubernetes", false},
		{"AWSBatchServiceTag", "batch", false},
	}
}

// clusterPrefix begins the tag that Kubernetes' AWS cloud provider asks for: the cluster's name is in the key.
const clusterPrefix = "kubernetes.io/cluster/"

// ofTags reads tags. A name that only one of several gives is taken from that one.
func ofTags(tags map[string]string) Containers {
	var out Containers
	for _, t := range runtimeTags() {
		value, ok := tags[t.key]
		if !ok {
			continue
		}
		found := Containers{Runtime: t.runtime, Source: "the tag " + t.key}
		if t.named {
			found.Cluster = value
		}
		out.add(found)
	}
	first := ""
	for key := range tags {
		if strings.HasPrefix(key, clusterPrefix) && (first == "" || key < first) {
			first = key
		}
	}
	if first != "" {
		out.add(Containers{Runtime: "kubernetes", Cluster: strings.TrimPrefix(first, clusterPrefix), Source: "the tag " + first})
	}
	return out
}
