// Package autoscaling is the simulator's EC2 Auto Scaling: groups that keep their desired capacity by launching and
// terminating instances through the simulated EC2, launch configurations, scaling activities and instance refreshes.
//
// It decides when to launch and what to ask for; how a launch resolves its template, account default and image is EC2's
// (ec2.Store.Launch). All state is kept by place and guarded by the place's lock. A group acts by events of its place,
// so that time may pass in leaps: what would have happened in between happens, in order, before the next request.
package autoscaling

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Source says what a group launches from. Exactly one of Config, Template and Mixed is set.
type Source struct {
	Config   string // name of a launch configuration
	Template *TemplateRef
	Mixed    *Mixed
}

// TemplateRef names a launch template and a version: "$Default", "$Latest" or a number. At least one of ID and Name is
// set; the store completes the other.
type TemplateRef struct {
	ID, Name, Version string
}

// Mixed is a MixedInstancesPolicy.
type Mixed struct {
	Template  TemplateRef
	Overrides []Override
	// Distribution holds the members of InstancesDistribution as they were sent.
	Distribution map[string]string
}

// Override replaces the instance type, and possibly the template, of a part of the launches.
type Override struct {
	InstanceType, Weight, ImageID string
	Template                      *TemplateRef
}

// Tag is a tag of a group.
type Tag struct {
	Key, Value string
	Propagate  bool
}

// Spec is the configuration of a group.
type Spec struct {
	Source            Source
	Min, Max, Desired int
	Zones, Subnets    []string
	Tags              []Tag
	// Settings are further members as they were sent ("DefaultCooldown": "300"): described, without effect here.
	Settings            map[string]string
	TerminationPolicies []string
	TargetGroups        []string
	LoadBalancers       []string
	Protected           bool   // NewInstancesProtectedFromScaleIn
	Operator            string // principal of the service that alone may change it; empty for none
}

// clone copies what edits replace in place.
func (s Spec) clone() Spec {
	s.Tags, s.Settings = slices.Clone(s.Tags), maps.Clone(s.Settings)
	return s
}

// launched is what instances were launched from; instances that share it share the value.
type launched struct {
	config             string
	template, name     string
	version            int64
	typ, image, weight string
}

// member is an instance of a group.
type member struct {
	id          string
	zone        string
	from        *launched
	since       time.Time // when it was launched
	terminating bool
	protected   bool
	unhealthy   bool // set by hand, or found by the health check
}

type group struct {
	name, arn string
	created   time.Time
	spec      core.Versioned[Spec]
	members   []*member // by time of launch
	deleting  bool
	failures  int // launches that failed in a row
	planned   bool
	refreshes []*refresh
	turn      int // of subnets, zones and overrides
	sources   map[launched]*launched
}

// Config is a launch configuration.
type Config struct {
	Name, ImageID, InstanceType, KeyName, UserData, Profile, SpotPrice, Tenancy string
	SecurityGroups                                                              []string
	// Options are the metadata options; the zero value leaves them to the account and the image.
	Options      fleet.Options
	EBSOptimized bool
	Monitoring   *bool
	PublicIP     *bool
	Kernel       string
	RAMDisk      string
	BlockDevices []BlockDevice
	// ClassicLinkVPC and ClassicLinkGroups are of the time of EC2-Classic: described where they are still there.
	ClassicLinkVPC    string
	ClassicLinkGroups []string
	Created           time.Time
	arn               string
}

// Store is Auto Scaling in one place.
type Store struct {
	place      *core.Place
	groups     map[string]*group
	configs    map[string]*Config
	activities []*Activity // by start
	byID       map[string]*Activity
	memberOf   map[string]*group // by instance
	formerly   map[string]string // group of terminated instances, for lineage
	watching   bool
}

// StoreOf is the Auto Scaling of a place, whose lock the caller holds.
func StoreOf(p *core.Place) *Store {
	return p.Store("autoscaling", func() any {
		return &Store{
			place: p, groups: map[string]*group{}, configs: map[string]*Config{}, byID: map[string]*Activity{},
			memberOf: map[string]*group{}, formerly: map[string]string{},
		}
	}).(*Store)
}

// GroupOf is the name of the group an instance belongs or belonged to.
func (s *Store) GroupOf(instance string) string {
	if g := s.memberOf[instance]; g != nil {
		return g.name
	}
	return s.formerly[instance]
}

// Members lists the instances of a group, oldest first; nil where there is no such group.
func (s *Store) Members(name string) []string {
	g := s.groups[name]
	if g == nil {
		return nil
	}
	out := make([]string, 0, len(g.members))
	for _, m := range g.members {
		out = append(out, m.id)
	}
	return out
}

// Groups lists the names of all groups, in order.
func (s *Store) Groups() []string { return slices.Sorted(maps.Keys(s.groups)) }

func (s *Store) ec2() *ec2.Store { return ec2.StoreOf(s.place) }

func (s *Store) arn(kind, name string) string {
	return "arn:" + string(s.place.Partition) + ":autoscaling:" + string(s.place.Region) + ":" + string(s.place.Account) +
		":" + kind + ":" + s.uuid() + ":" + kind + "Name/" + name
}

// uuid makes an id in the form that Auto Scaling uses, the same in every run.
func (s *Store) uuid() string {
	a := strings.TrimPrefix(s.place.World().NewID("x"), "x0")
	b := strings.TrimPrefix(s.place.World().NewID("x"), "x0")
	return a[:8] + "-" + a[8:12] + "-4" + a[13:16] + "-8" + b[1:4] + "-" + b[4:16]
}

// live counts the members that are not on their way out.
func (g *group) live() int {
	n := 0
	for _, m := range g.members {
		if !m.terminating {
			n++
		}
	}
	return n
}

func (g *group) member(id string) *member {
	for _, m := range g.members {
		if m.id == id {
			return m
		}
	}
	return nil
}

// shared gives the one copy of a launched value.
func (g *group) shared(l launched) *launched {
	if g.sources == nil {
		g.sources = map[launched]*launched{}
	}
	if g.sources[l] == nil {
		g.sources[l] = &l
	}
	return g.sources[l]
}

// tagGroup is the tag that EC2 Auto Scaling sets on the members of a group.
const tagGroup = "aws:autoscaling:groupName"

// tagsFor are the tags an instance of the group gets.
func (g *group) tagsFor(spec Spec) map[string]string {
	tags := map[string]string{tagGroup: g.name}
	for _, t := range spec.Tags {
		if t.Propagate {
			tags[t.Key] = t.Value
		}
	}
	return tags
}

// watch has EC2 tell of members that stop or are terminated by somebody else; the health check finds them.
func (s *Store) watch() {
	if s.watching {
		return
	}
	s.watching = true
	s.ec2().Watch(func(now time.Time, i *ec2.Instance) {
		if g := s.memberOf[i.ID()]; g != nil && !g.member(i.ID()).terminating {
			s.plan(g, now, s.place.World().Settle(), "")
		}
	})
}

// template completes a reference; the error is EC2's where there is no such template or version.
func (s *Store) template(r TemplateRef) (TemplateRef, error) {
	r, err := s.named(r)
	if err == nil {
		_, err = s.ec2().ResolveVersion(r.ID, r.Version)
	}
	return r, err
}

// named completes a reference to a template of which the version may have been deleted since: what launches from it then fails.
func (s *Store) named(r TemplateRef) (TemplateRef, error) {
	r.Version = cmp.Or(r.Version, "$Default")
	t, ok := s.ec2().Template(cmp.Or(r.ID, r.Name))
	if !ok {
		what := "with template name " + r.Name
		if r.ID != "" {
			what = "with template ID " + r.ID
		}
		return r, invalid("The specified launch template, %s, does not exist.", what)
	}
	r.ID, r.Name = t.ID(), t.Name()
	return r, nil
}

func itoa(n int) string { return strconv.Itoa(n) }

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// zoneOf is the Availability Zone of a subnet: the simulator has no subnets, so their ids decide.
func (s *Store) zoneOf(subnet string) string {
	h := fnv.New32a()
	h.Write([]byte(subnet))
	return string(s.place.Region) + string("abc"[h.Sum32()%3])
}
