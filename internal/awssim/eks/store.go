package eks

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
)

// Node group statuses, of those that AWS has.
const (
	statusActive   = "ACTIVE"
	statusUpdating = "UPDATING"
	statusDegraded = "DEGRADED"
)

// amiCustom is the type of a node group whose template names an image.
const amiCustom = "CUSTOM"

type cluster struct {
	name, arn, version string
	created            time.Time
	tags               map[string]string
	groups             map[string]*nodegroup
}

// nodegroup is a managed node group. What updates change is its state.
type nodegroup struct {
	cluster            *cluster
	name, arn          string
	group              string // of Auto Scaling
	amiType, role      string
	capacity           string
	types, subnets     []string
	min, max, desired  int
	tags, labels       map[string]string
	created            time.Time
	templateID         string // a person's; empty where EKS has its own alone
	templateName       string
	evicts             string // why nodes cannot be drained unless that is forced; empty where they can
	image              string // where neither a template nor a release names one
	state              core.Versioned[nodegroupState]
	updates            []*update // in order
	byToken            map[string]*update
	maxUnavailable     int
	maxUnavailablePart int
}

type nodegroupState struct {
	status          string
	version         string
	release         string
	templateVersion int64
	modified        time.Time
}

func (g *nodegroup) custom() bool { return g.amiType == amiCustom }

// Release is a version of the node image that EKS offers.
type Release struct {
	Version string `json:"version"` // of Kubernetes: "1.31"
	Release string `json:"release"` // "1.31.4-20250519"
	ImageID string `json:"image,omitempty"`
}

// store is EKS in one place.
type store struct {
	place    *core.Place
	clusters map[string]*cluster
	releases []Release // the oldest of a version first
	node     time.Duration
}

func storeOf(p *core.Place) *store {
	return p.Store(Name, func() any {
		// Real node groups take minutes for each node: sixty times what an instance takes to start.
		return &store{place: p, clusters: map[string]*cluster{}, node: 60 * p.World().Settle()}
	}).(*store)
}

// nodegroup finds a node group; nil where there is none.
func (s *store) nodegroup(cluster, name string) *nodegroup {
	if c := s.clusters[cluster]; c != nil {
		return c.groups[name]
	}
	return nil
}

// newest is the newest release of a version of Kubernetes; one that no seed names is made up.
func (s *store) newest(version string) Release {
	for _, r := range slices.Backward(s.releases) {
		if r.Version == version {
			return r
		}
	}
	return Release{Version: version, Release: version + ".0-20260101"}
}

// release finds one by its name.
func (s *store) release(name string) (Release, bool) {
	at := slices.IndexFunc(s.releases, func(r Release) bool { return r.Release == name })
	if at >= 0 {
		return s.releases[at], true
	}
	version := name[:max(0, strings.LastIndexByte(name, '-'))]
	version = version[:max(0, strings.LastIndexByte(version, '.'))]
	r := s.newest(version)
	return r, r.Release == name
}

// later tells whether a version of Kubernetes or of the image comes after another.
func later(a, b string) bool { return compare(a, b) > 0 }

// compare orders versions by their numbers.
func compare(a, b string) int {
	split := func(s string) []string {
		return strings.FieldsFunc(s, func(r rune) bool { return r == '.' || r == '-' })
	}
	return slices.CompareFunc(split(a), split(b), func(x, y string) int {
		return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
	})
}

// id makes one in the form of EKS's, the same in every run.
func (s *store) id() string {
	a := strings.TrimPrefix(s.place.World().NewID("x"), "x0")
	b := strings.TrimPrefix(s.place.World().NewID("x"), "x0")
	return a[:8] + "-" + a[8:12] + "-3" + a[13:16] + "-8" + b[1:4] + "-" + b[4:16]
}

func (s *store) arn(resource string) string {
	return "arn:" + string(s.place.Partition) + ":eks:" + string(s.place.Region) + ":" + string(s.place.Account) + ":" + resource
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
