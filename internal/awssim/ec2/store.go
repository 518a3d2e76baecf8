package ec2

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
)

// Store is EC2's state in one place. It is guarded by the place's lock: exclusively for everything that changes it.
type Store struct {
	place  *core.Place
	byID   map[string]*Instance
	order  []*Instance // by serial
	serial uint32
	byTag  map[Tag][]*Instance // by serial; reserved tags only

	images    map[string]*Image
	imageIDs  []string // in order of registration
	templates map[string]*Template
	byName    map[string]*Template
	tmplOrder []*Template // by serial

	defaults core.Versioned[Defaults]
	declared *declarations
	tokens   map[string]outcome
	hosts    uint32 // private addresses given

	prefixLists    map[string]*PrefixListSeed // by id
	securityGroups []*securityGroup           // by serial
}

type outcome struct {
	print  string
	result any
}

// StoreOf is EC2's state in a place. The caller holds the place's lock.
func StoreOf(p *core.Place) *Store {
	return p.Store(Name, func() any {
		return &Store{
			place: p, byID: map[string]*Instance{}, byTag: map[Tag][]*Instance{}, images: map[string]*Image{},
			templates: map[string]*Template{}, byName: map[string]*Template{}, tokens: map[string]outcome{},
			defaults: core.Always(Defaults{ManagedBy: ManagedByAccount}), declared: declarationsOf(p.World()),
		}
	}).(*Store)
}

func storeOf(c *core.Call) *Store { return StoreOf(c.Place) }

// Instance finds an instance, terminated ones included until they are forgotten; nil when there is none.
func (s *Store) Instance(id string) *Instance { return s.byID[id] }

// Instances goes through all instances in the order of their launch.
func (s *Store) Instances() iter.Seq[*Instance] { return slices.Values(s.order) }

// Len is the number of instances, terminated ones included.
func (s *Store) Len() int { return len(s.order) }

// delay is the consistency delay.
func (s *Store) delay() time.Duration { return s.place.World().Consistency() }

// address gives private addresses within the default VPC, 172.31.0.0/16, one after the other; they repeat after 65,000.
func (s *Store) address() string {
	n := s.hosts%(1<<16-256) + 256
	s.hosts++
	return fmt.Sprintf("172.31.%d.%d", n>>8&0xff, n&0xff)
}

// intern keeps one copy of strings that many instances share.
func intern(v string) string { return unique.Make(v).Value() }

// Tag is a resource's tag.
type Tag struct{ Key, Value string }

// tagsOf makes tags from a map, by key.
func tagsOf(m map[string]string) []Tag {
	if len(m) == 0 {
		return nil
	}
	out := make([]Tag, 0, len(m))
	for k, v := range m {
		out = append(out, Tag{Key: intern(k), Value: intern(v)})
	}
	slices.SortFunc(out, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// TagValue finds a tag's value among tags.
func TagValue(tags []Tag, key string) (string, bool) {
	for _, t := range tags {
		if t.Key == key {
			return t.Value, true
		}
	}
	return "", false
}

// Operator is the AWS service that manages a resource.
type Operator struct {
	Managed   bool   `json:"managed"`
	Principal string `json:"principal"`
	// Hidden resources are listed only with IncludeManagedResources.
	Hidden bool `json:"hidden,omitempty"`
}
