package lightsail

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Seed is Lightsail's section of a seed, in one region of one account.
type Seed struct {
	Instances []InstanceSeed `json:"instances,omitempty"`
	// PageSize is how many instances GetInstances returns at a time; AWS lets nobody choose, and documents no number. 100 by
	// default.
	PageSize int `json:"page_size,omitempty"`
}

// InstanceSeed is an instance that is there already.
type InstanceSeed struct {
	Name  string `json:"name"`
	State string `json:"state,omitempty"` // running by default
	// Options are the metadata options; where unset, as Lightsail makes instances: tokens optional, one hop.
	Options   fleet.Options     `json:"options,omitzero"`
	Blueprint string            `json:"blueprint,omitempty"` // amazon_linux_2023 by default
	Bundle    string            `json:"bundle,omitempty"`    // micro_3_0 by default
	Created   time.Time         `json:"created,omitzero"`    // 90 days ago by default
	Stopped   time.Time         `json:"stopped,omitzero"`    // for one that does not run; a day ago by default
	PublicIP  string            `json:"public_ip,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"`
}

// States of an instance with their codes, which are EC2's.
var stateCodes = map[string]int64{
	"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80,
}

const running = "running"

var instanceName = regexp.MustCompile(`^\w[\w\-]*\w$`)

// store is the state of one place.
type store struct {
	place     *core.Place
	instances []*instance // in the order in which they were made
	byName    map[string]*instance
	pageSize  int
}

// instance is one instance. All but its options is fixed.
type instance struct {
	InstanceSeed
	Tags    []tag
	arn     string
	options core.Versioned[options]
	// lived is when it runs, settings what its programs find; both by Unix seconds.
	lived    workload.Run
	settings []workload.Setting
}

type tag struct{ Key, Value string }

// options are metadata options with whether they are still to be applied.
type options struct {
	fleet.Options
	pending bool
}

func storeOf(p *core.Place) *store {
	return p.Store(Name, func() any { return &store{place: p, byName: map[string]*instance{}, pageSize: 100} }).(*store)
}

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in Seed
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	s := storeOf(p)
	if in.PageSize < 0 {
		return fmt.Errorf("%s.page_size: %d is below 0", path, in.PageSize)
	}
	s.pageSize = cmp.Or(in.PageSize, s.pageSize)
	for n, one := range in.Instances {
		if err := s.add(p.World().Now(), one); err != nil {
			return fmt.Errorf("%s.instances[%d]: %w", path, n, err)
		}
	}
	return nil
}

func (s *store) add(now time.Time, in InstanceSeed) error {
	in.State = cmp.Or(in.State, running)
	in.Blueprint, in.Bundle = cmp.Or(in.Blueprint, "amazon_linux_2023"), cmp.Or(in.Bundle, "micro_3_0")
	in.Options = in.Options.Over(fleet.Options{
		Tokens: fleet.TokensOptional, Endpoint: fleet.Enabled, HopLimit: 1, IPv6: fleet.Disabled,
	})
	switch _, known := stateCodes[in.State]; {
	case !instanceName.MatchString(in.Name) || s.byName[in.Name] != nil:
		return fmt.Errorf("name %q is not valid or used twice", in.Name)
	case !known:
		return fmt.Errorf("instance %s: state %q is not known", in.Name, in.State)
	case in.Options.Tags != "":
		return fmt.Errorf("instance %s: Lightsail has no option for tags in metadata", in.Name)
	}
	if err := check(in.Options); err != nil {
		return fmt.Errorf("instance %s: %w", in.Name, err)
	}
	if in.Created.IsZero() {
		in.Created = now.AddDate(0, 0, -90)
	}
	if in.Stopped.IsZero() {
		in.Stopped = now.AddDate(0, 0, -1)
	}
	i := &instance{InstanceSeed: in, arn: s.arn(in.Name), options: core.Always(options{Options: in.Options})}
	i.lived = workload.Run{From: in.Created.Unix(), To: math.MaxInt64}
	if in.State != running && in.State != "pending" {
		i.lived.To = max(in.Stopped.Unix(), i.lived.From)
	}
	i.settings = []workload.Setting{setting(in.Created, in.Options)}
	for _, key := range slices.Sorted(maps.Keys(in.Tags)) {
		i.Tags = append(i.Tags, tag{key, in.Tags[key]})
	}
	s.instances = append(s.instances, i)
	s.byName[in.Name] = i
	return nil
}

// check refuses values that Lightsail would.
func check(o fleet.Options) error {
	for name, v := range map[string][3]string{
		"httpTokens":       {o.Tokens, fleet.TokensOptional, fleet.TokensRequired},
		"httpEndpoint":     {o.Endpoint, fleet.Enabled, fleet.Disabled},
		"httpProtocolIpv6": {o.IPv6, fleet.Enabled, fleet.Disabled},
	} {
		if v[0] != v[1] && v[0] != v[2] {
			return fmt.Errorf("%s %q: want %s or %s", name, v[0], v[1], v[2])
		}
	}
	return fleet.ValidHopLimit(o.HopLimit)
}

// arn ends in an id that is made of the name, so that it is the same in every run.
func (s *store) arn(name string) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s", s.place.Place, name)
	n := h.Sum64()
	return fmt.Sprintf("arn:%s:lightsail:%s:%s:Instance/%08x-%04x-4%03x-8%03x-%012x", s.place.Partition, s.place.Region,
		s.place.Account, n>>32, n>>16&0xffff, n&0xfff, n>>20&0xfff, n&0xffffffffffff)
}

func setting(at time.Time, o fleet.Options) workload.Setting {
	return workload.Setting{From: at.Unix(), Required: o.Tokens == fleet.TokensRequired, Disabled: o.Endpoint == fleet.Disabled,
		HopLimit: o.HopLimit}
}

// host is the instance with what runs there.
func (s *service) host(p *core.Place, i *instance) *workload.Host {
	life := &workload.Life{ID: i.Name, Runs: []workload.Run{i.lived}, Settings: i.settings}
	return s.programs.On(p.World(), life, workload.Subject{
		Account: string(p.Account), Instance: i.Name, Image: i.Blueprint,
		Tags: func(yield func(k, v string) bool) {
			for _, t := range i.Tags {
				if !yield(t.Key, t.Value) {
					return
				}
			}
		},
	})
}

// set gives an instance new options. A running one has them after a while.
func (s *store) set(now time.Time, i *instance, o fleet.Options) {
	w := s.place.World()
	if i.State != running {
		i.settings = append(i.settings, setting(now, o))
		i.options.Set(now, w.Consistency(), options{Options: o})
		return
	}
	i.options.Set(now, w.Consistency(), options{Options: o, pending: true})
	apply := func(now time.Time) {
		// A later change carries its own event; only the newest options are applied.
		if newest := i.options.Newest(); newest.pending && newest.Options == o {
			i.settings = append(i.settings, setting(now, o))
			i.options.Set(now, w.Consistency(), options{Options: o})
		}
	}
	if settle := w.Settle(); settle > 0 {
		s.place.After(now, settle, apply)
	} else {
		apply(now)
	}
}

// zone is where all instances of a place are.
func (s *store) zone() string { return string(s.place.Region) + "a" }

// after gives the page that begins after a name, and whether more follow. Pages are in the order of the instances.
func (s *store) after(name string) (page []*instance, more bool, ok bool) {
	from := 0
	if name != "" {
		from = 1 + slices.IndexFunc(s.instances, func(i *instance) bool { return i.Name == name })
		if from == 0 {
			return nil, false, false
		}
	}
	rest := s.instances[from:]
	n := min(s.pageSize, len(rest))
	return rest[:n], len(rest) > n, true
}

func title(blueprint string) string { return strings.ReplaceAll(blueprint, "_", " ") }
