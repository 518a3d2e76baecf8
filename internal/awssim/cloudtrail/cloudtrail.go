// Package cloudtrail is the simulator's CloudTrail: the events of what simulated programs call, as log files in a bucket and as the
// answers of LookupEvents.
//
// It owns the trails of a world and how an event is written. Nothing is stored: each event follows from the seed, the life of an
// instance and the programs that run there, so that the same moment always gives the same files. A program calls AWS after each
// round in which the metadata service gave it credentials, with the version that delivered them; an instance without a profile gets
// none. Beside these, each file has some events of people and services, whose credentials come from elsewhere.
//
// Log files cover ten minutes and are there five minutes after those are over, so that an event is seen five to fifteen minutes late
// (CloudTrail delivers "within an average of about 5 minutes"; "How CloudTrail works"). LookupEvents knows management events only.
package cloudtrail

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/s3"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Name is the service's name, and that of its section in a seed's services.
const Name = "cloudtrail"

// Hosts are the instances of a place with what runs there. The place is locked at least for reading.
type Hosts interface {
	Hosts(p *core.Place, after string) iter.Seq[*workload.Host]
}

// Trail writes the log files of some accounts into a bucket.
type Trail struct {
	Name   string `json:"name"`
	Bucket string `json:"bucket"`
	// Prefix is before AWSLogs in the keys; Organization, the organization's id, behind it.
	Prefix       string `json:"prefix,omitempty"`
	Organization string `json:"organization,omitempty"`
	// Accounts and Regions are those it logs; empty is all that have anything.
	Accounts []fleet.AccountID `json:"accounts,omitempty"`
	Regions  []fleet.Region    `json:"regions,omitempty"`
	// DataEvents are in it as well: calls on objects, functions and table items.
	DataEvents bool `json:"data_events,omitempty"`
	// History is how long before the beginning of the world the trail was made ("336h"); From is that moment.
	History string `json:"history,omitempty"`
	// Without are days of which the files are missing, as after a fault: "2026-11-03", or "2d", the second day before the world's first.
	Without []string `json:"without,omitempty"`

	from  time.Time
	world *core.World
	hosts Hosts
	mu    sync.Mutex
	made  map[slot]*s3.Object // of past slots, so that listing and reading make a file once
}

// trails are those of a world.
type trails struct {
	mu   sync.RWMutex
	list []*Trail
}

func trailsOf(w *core.World) *trails {
	return w.Store(Name, func() any { return &trails{} }).(*trails)
}

// Service declares LookupEvents, and the trails that a seed's services describe, over the given hosts.
//
// LookupEvents is limited to two calls a second in an account and region ("Quotas in AWS CloudTrail").
func Service(hosts Hosts) *core.Service {
	s := &service{hosts}
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.JSON11},
		Targets: []string{"CloudTrail_20131101", "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101"},
		Actions: map[string]core.Action{
			"LookupEvents": {
				Bucket: core.Bucket{Burst: 2, Refill: 2}, Handle: s.lookupEvents,
				Params: []string{"LookupAttributes", "StartTime", "EndTime", "MaxResults", "NextToken", "EventCategory"},
			},
		},
		SeedWorld: s.seed,
	}
}

type service struct{ hosts Hosts }

// seedSection is the section "cloudtrail" of a seed's services.
type seedSection struct {
	Trails []*Trail `json:"trails"`
}

func (s *service) seed(w *core.World, section json.RawMessage, path string) error {
	var in seedSection
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	for n, t := range in.Trails {
		if err := AddTrail(w, s.hosts, t); err != nil {
			return fmt.Errorf("%s.trails[%d]: %w", path, n, err)
		}
	}
	return nil
}

// AddTrail makes a trail, whose bucket may be seeded later. The trail must not be changed afterwards.
func AddTrail(w *core.World, hosts Hosts, t *Trail) error {
	if t.Name == "" || t.Bucket == "" {
		return fmt.Errorf("trail %q: want a name and a bucket", t.Name)
	}
	t.from, t.world, t.hosts, t.made = w.Now(), w, hosts, map[slot]*s3.Object{}
	if t.History != "" {
		history, err := time.ParseDuration(t.History)
		if err != nil || history < 0 {
			return fmt.Errorf("trail %q: history %q: want a duration such as 336h", t.Name, t.History)
		}
		t.from = t.from.Add(-history)
	}
	for n, day := range t.Without {
		if ago, ok := strings.CutSuffix(day, "d"); ok {
			days, err := strconv.Atoi(ago)
			if err != nil {
				return fmt.Errorf("trail %q: without %q: want a date, or days such as 2d", t.Name, day)
			}
			t.Without[n] = w.Now().UTC().AddDate(0, 0, -days).Format(time.DateOnly)
		}
	}
	all := trailsOf(w)
	all.mu.Lock()
	defer all.mu.Unlock()
	if slices.ContainsFunc(all.list, func(o *Trail) bool { return o.Name == t.Name }) {
		return fmt.Errorf("trail %q is there already", t.Name)
	}
	all.list = append(all.list, t)
	s3.Provide(w, t.Bucket, t)
	return nil
}

// Find gives a trail by its name.
func Find(w *core.World, name string) (*Trail, bool) {
	all := trailsOf(w)
	all.mu.RLock()
	defer all.mu.RUnlock()
	i := slices.IndexFunc(all.list, func(t *Trail) bool { return t.Name == name })
	if i < 0 {
		return nil, false
	}
	return all.list[i], true
}

// places are those that the trail logs, in the order of their keys.
func (t *Trail) places() []*core.Place {
	var out []*core.Place
	for _, p := range t.world.Places() {
		if p.Region == "" || len(t.Accounts) > 0 && !slices.Contains(t.Accounts, p.Account) ||
			len(t.Regions) > 0 && !slices.Contains(t.Regions, p.Region) {
			continue
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *core.Place) int {
		return strings.Compare(string(a.Account)+"/"+string(a.Region), string(b.Account)+"/"+string(b.Region))
	})
	return out
}

// folder is where the files of a place lie.
func (t *Trail) folder(p *core.Place) string {
	out := ""
	if t.Prefix != "" {
		out = strings.Trim(t.Prefix, "/") + "/"
	}
	out += "AWSLogs/"
	if t.Organization != "" {
		out += t.Organization + "/"
	}
	return out + string(p.Account) + "/CloudTrail/" + string(p.Region) + "/"
}
