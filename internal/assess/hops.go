package assess

import (
	"fmt"
	"slices"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// Hops is how many network hops the answers of the metadata service travel from a host, and how many they need to.
type Hops struct {
	// Now is the hop limit it has, 1 to 64; 0 where nobody says.
	Now int `json:"now,omitempty"`
	// Needed is what the configuration decides, or else what the containers that were recognised need.
	Needed int `json:"needed"`
	// Why says what Needed rests on, Rule which part of the configuration decided, if one did.
	Why  string `json:"why"`
	Rule string `json:"rule,omitempty"`

	certified int // the least with which a certification of it passes; 0 where there is none
}

// High tells whether more hops are allowed than are needed: whoever gets into a container, or can make a host forward a
// request, may then read the host's credentials.
func (h *Hops) High() bool { return h != nil && h.Now > h.Needed && h.Needed > 0 }

// Low tells whether fewer hops are allowed than are needed: a container that asks for a token never gets it.
func (h *Hops) Low() bool { return h != nil && h.Now != 0 && h.Now < h.Needed }

// needed is what the containers on a host need. An answer's packets lose one hop at each router between the host and the
// program: none for a program on the host or in its network, none for a task with a network interface of its own (awsvpc), one
// behind a bridge or for a pod with a network of its own.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html#imds-considerations
func needed(c inventory.Containers) (int, string) {
	switch {
	case c.Runtime == "":
		return 1, "no containers were recognised on it"
	case slices.Contains(c.Modes, "bridge"):
		return 2, fmt.Sprintf("containers in network mode bridge run on it (%s)", c.Source)
	case len(c.Modes) > 0:
		return 1, fmt.Sprintf("its containers are in network modes that need no further hop (%s)", c.Source)
	case c.Runtime == "eks", c.Runtime == "kubernetes":
		return 2, fmt.Sprintf("pods reach the host's metadata service through one hop (%s)", c.Source)
	default:
		return 2, fmt.Sprintf("it runs containers (%s, by %s), whose network mode is not known", c.Runtime, c.Source)
	}
}

// hopsOf judges the hop limit of a resource.
func (j *judge) hopsOf(r *inventory.Resource, now fleet.Options) *Hops {
	c := j.index.Containers(r)
	h := &Hops{Now: now.HopLimit}
	n, rule := j.in.Policy.HopLimitFor(j.facts(r))
	switch n {
	case policy.KeepHopLimit:
		h.Needed, h.Why = needed(c)
	case policy.AutoHopLimit:
		h.Needed, h.Why = needed(c)
		h.Rule = rule.String()
	default:
		h.Needed, h.Why, h.Rule = n, "the configuration says so", rule.String()
	}
	lineage := r.Ref
	if j.in.Manners[r.Ref.Kind].Role == RoleHost {
		lineage = j.lineage(r)
	}
	if h.certified = j.joint(lineage).hops; h.certified > h.Needed {
		h.Needed, h.Why = h.certified, fmt.Sprintf("its certification passes with %d and not with fewer", h.certified)
	}
	return h
}
