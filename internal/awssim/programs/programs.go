// Package programs puts workloads on the simulated instances: it knows which programs run where, makes the hosts that
// CloudWatch computes its metrics from, fails the status checks of instances whose essential programs are broken, and
// tells on /_sim/health what is broken, since when and why.
//
// It keeps the deployments of a world and nothing else; what a program sees of an instance is read from EC2 and Auto
// Scaling each time.
package programs

import (
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Name is the section of a seed's services, and the service's name.
const Name = "workload"

// estate is what runs in one world.
type estate struct {
	mu       sync.RWMutex
	deployed workload.Deployments
	seed     uint64
	guards   bool // some program is essential
}

func estateOf(w *core.World) *estate {
	return w.Store(Name, func() any { return &estate{} }).(*estate)
}

// Deploy puts a program where it says, on the instances there are and those to come.
func Deploy(w *core.World, p workload.Program, where workload.Where) error {
	e := estateOf(w)
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.deployed.Add(p, where); err != nil {
		return err
	}
	if p.Essential && !e.guards {
		e.guards = true
		ec2.SetStatusCheck(w, statusCheck)
	}
	return nil
}

// SetSeed changes how programs without an anchor are spread over their periods.
func SetSeed(w *core.World, seed uint64) {
	e := estateOf(w)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seed = seed
}

// HostOf is an instance with what runs there. The place is locked at least for reading.
func HostOf(p *core.Place, i *ec2.Instance) *workload.Host {
	e := estateOf(p.World())
	e.mu.RLock()
	defer e.mu.RUnlock()
	life := lifeOf(i)
	life.Restarts = restartsOf(p)[i.ID()]
	return &workload.Host{Life: life, Programs: e.deployed.On(subjectOf(p, i)), Seed: e.seed}
}

// On gives a host of another service than EC2 with the programs that run there. The place is locked at least for reading.
func (Hosts) On(w *core.World, life *workload.Life, subject workload.Subject) *workload.Host {
	e := estateOf(w)
	e.mu.RLock()
	defer e.mu.RUnlock()
	return &workload.Host{Life: life, Programs: e.deployed.On(subject), Seed: e.seed}
}

// restartsOf holds when the programs of a place's instances were restarted, in Unix seconds and in order. It is guarded
// by the place's lock.
func restartsOf(p *core.Place) map[string][]int64 {
	return p.Store(Name, func() any { return map[string][]int64{} }).(map[string][]int64)
}

func subjectOf(p *core.Place, i *ec2.Instance) workload.Subject {
	st := i.Newest()
	s := workload.Subject{
		Account: string(p.Account), Instance: i.ID(), Image: st.ImageID, Group: autoscaling.StoreOf(p).GroupOf(i.ID()),
	}
	for _, t := range st.Tags {
		switch t.Key {
		case "aws:ec2launchtemplate:id":
			s.TemplateID = t.Value
			s.TemplateName = ec2.StoreOf(p).TemplateName(t.Value)
		case "aws:autoscaling:groupName":
			if s.Group == "" {
				s.Group = t.Value
			}
		}
	}
	s.Tags = func(yield func(k, v string) bool) {
		for _, t := range st.Tags {
			if !yield(t.Key, t.Value) {
				return
			}
		}
	}
	return s
}

func lifeOf(i *ec2.Instance) *workload.Life {
	lives, history := i.Lives(), i.History()
	life := &workload.Life{
		ID: i.ID(), Runs: make([]workload.Run, len(lives)), Settings: make([]workload.Setting, len(history)),
	}
	for n, l := range lives {
		life.Runs[n] = workload.Run{From: l.From.Unix(), To: math.MaxInt64}
		if !l.To.IsZero() {
			life.Runs[n].To = l.To.Unix()
		}
	}
	for n, h := range history {
		life.Settings[n] = workload.Setting{
			From: h.At.Unix(), Required: h.Options.Tokens == fleet.TokensRequired,
			Disabled: h.Options.Endpoint == fleet.Disabled, HopLimit: max(h.Options.HopLimit, 1),
		}
	}
	return life
}

// Hosts gives other services the instances of a world, with what runs there.
type Hosts struct{}

// Host finds an instance, even one that EC2 has forgotten.
func (Hosts) Host(p *core.Place, id string) (*workload.Host, bool) {
	i := ec2.StoreOf(p).Recall(id)
	if i == nil {
		return nil, false
	}
	return HostOf(p, i), true
}

// Hosts goes through the instances there ever were, by id.
func (Hosts) Hosts(p *core.Place, after string) iter.Seq[*workload.Host] {
	return func(yield func(*workload.Host) bool) {
		for i := range ec2.StoreOf(p).Everything(after) {
			if !yield(HostOf(p, i)) {
				return
			}
		}
	}
}

// Restart starts all programs of an instance anew. The place is locked for writing.
func (Hosts) Restart(p *core.Place, id string, now time.Time) {
	all := restartsOf(p)
	all[id] = append(all[id], now.Unix())
}

// Restarts lists when the programs of an instance were restarted, in order. The place must not be locked.
func Restarts(p *core.Place, id string) []time.Time {
	var out []time.Time
	p.View(func(time.Time) {
		for _, at := range restartsOf(p)[id] {
			out = append(out, time.Unix(at, 0).UTC())
		}
	})
	return out
}

func statusCheck(p *core.Place, i *ec2.Instance, now time.Time) ec2.Status {
	if _, impaired := HostOf(p, i).Impaired(now.Unix()); impaired {
		return ec2.StatusImpaired
	}
	return ec2.StatusOK
}

// Service declares the section "workload" of a seed's services and the control GET /_sim/health. It has no actions.
func Service() *core.Service {
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.JSON11}, SeedWorld: seedWorld, Controls: controls(),
	}
}

// seedSection is the section "workload" of a seed's services.
type seedSection struct {
	Programs []seedProgram `json:"programs"`
}

// seedProgram is a program with where it runs. Durations are Go's ("15m", "168h").
type seedProgram struct {
	Name          string          `json:"name"`
	Agent         string          `json:"agent,omitempty"`
	Version       string          `json:"version,omitempty"`
	UserAgent     string          `json:"user_agent,omitempty"`
	APICalls      []string        `json:"api_calls,omitempty"`
	Speaks        workload.Speaks `json:"speaks"`
	ExtraHops     int             `json:"extra_hops,omitempty"`
	V1Disabled    bool            `json:"v1_disabled,omitempty"`
	Sticky        bool            `json:"sticky,omitempty"`
	Every         string          `json:"every,omitempty"`
	Anchor        time.Time       `json:"anchor,omitzero"`
	AtBoot        bool            `json:"at_boot,omitempty"`
	Calls         int             `json:"calls,omitempty"`
	CacheFor      string          `json:"cache_for,omitempty"`
	Essential     bool            `json:"essential,omitempty"`
	ImpairedAfter string          `json:"impaired_after,omitempty"`
	Where         workload.Where  `json:"where"`
}

func seedWorld(w *core.World, section json.RawMessage, path string) error {
	var in seedSection
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	for n, s := range in.Programs {
		p, err := s.program()
		if err == nil {
			err = Deploy(w, p, s.Where)
		}
		if err != nil {
			return fmt.Errorf("%s.programs[%d]: %w", path, n, err)
		}
	}
	return nil
}

func (s seedProgram) program() (workload.Program, error) {
	p := workload.Program{
		Name: s.Name, Agent: s.Agent, Version: s.Version, UserAgent: s.UserAgent, APICalls: s.APICalls, Speaks: s.Speaks, ExtraHops: s.ExtraHops,
		V1Disabled: s.V1Disabled, Sticky: s.Sticky, Anchor: s.Anchor, AtBoot: s.AtBoot, Calls: s.Calls, Essential: s.Essential,
	}
	for _, d := range []struct {
		name, text string
		into       *time.Duration
	}{{"every", s.Every, &p.Every}, {"cache_for", s.CacheFor, &p.CacheFor}, {"impaired_after", s.ImpairedAfter, &p.ImpairedAfter}} {
		if strings.TrimSpace(d.text) == "" {
			continue
		}
		var err error
		if *d.into, err = time.ParseDuration(d.text); err != nil {
			return p, fmt.Errorf("%s: %w", d.name, err)
		}
	}
	return p, nil
}
