package ec2

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// FleetSeed is an EC2 Fleet or a Spot Fleet request that is there already.
type FleetSeed struct {
	ID      string    `json:"id,omitempty"`    // made when empty
	State   string    `json:"state,omitempty"` // active by default
	Created time.Time `json:"created,omitzero"`
	// Config is what it was asked for with, in the API's own names: an EC2 Fleet's {"LaunchTemplateConfigs": […],
	// "TargetCapacitySpecification": {…}, "Type": "maintain"}, or a Spot Fleet's SpotFleetRequestConfig.
	Config json.RawMessage   `json:"config"`
	Tags   map[string]string `json:"tags,omitempty"`
	// Settled: it has launched all that it wanted; its instances are those that carry its tag, and together count for its whole
	// target. Else it launches now what is missing.
	Settled bool `json:"settled,omitempty"`
}

// AddFleet adds a fleet that is there already; path is for errors. The templates that it names need not be there: it
// then launches nothing.
func (s *Store) AddFleet(now time.Time, seed FleetSeed, spot bool, path string) (*Fleet, error) {
	fields, prefix := fleetFields, "fleet-"
	if spot {
		fields, prefix = spotFleetFields, "sfr-"
	}
	raw, err := wire.ParseJSON(seed.Config)
	if err != nil {
		return nil, fmt.Errorf("%s.config: %w", path, err)
	}
	config, err := structFromSeed(path+".config", fields, raw)
	if err != nil {
		return nil, err
	}
	st := &fleetState{State: cmp.Or(seed.State, fleetActive), Config: config, Tags: tagsOf(seed.Tags)}
	f := &Fleet{
		id: cmp.Or(seed.ID, s.newFleetID(prefix)), spot: spot, created: seed.Created, state: core.Always(st),
	}
	if f.created.IsZero() {
		f.created = now.AddDate(0, -1, 0)
	}
	known := []string{fleetSubmitted, fleetActive, fleetModifying, "failed", f.ended(), f.ended() + "_running",
		f.ended() + "_terminating"}
	switch {
	case !identityOf(spot).form.MatchString(f.id) || s.Fleet(f.id) != nil:
		return nil, fmt.Errorf("%s: fleet id %q: want %s and 36 characters, each once", path, f.id, prefix)
	case !slices.Contains(known, st.State):
		return nil, fmt.Errorf("%s: state %q is not known", path, st.State)
	}
	s.addFleet(f)
	s.adoptTagged(f, st)
	for i := range f.members {
		if seed.Settled {
			f.members[i].weight = f.target(st) / float64(len(f.members))
		}
	}
	if !seed.Settled && st.works() {
		s.fulfil(now, f, st, nil)
	}
	return f, nil
}

// adoptTagged makes those instances members of a fleet that carry its tag.
func (s *Store) adoptTagged(f *Fleet, st *fleetState) {
	pools := st.pools()
	for _, i := range s.order {
		now := i.state.Newest()
		if id, ok := TagValue(now.Tags, f.tag()); !ok || id != f.id || ended(now.State) {
			continue
		}
		m := member{instance: i, weight: 1}
		if len(pools) > 0 {
			m.from, m.weight = pools[0], pools[0].weight()
		}
		for _, p := range pools {
			if p.override.text("InstanceType") == now.InstanceType || p.inline.text("InstanceType") == now.InstanceType {
				m.from, m.weight = p, p.weight()
				break
			}
		}
		s.join(f, m)
	}
}

func (s *Store) seedFleets(now time.Time, seed *Seed, path string) error {
	for i, f := range seed.Fleets {
		if _, err := s.AddFleet(now, f, false, fmt.Sprintf("%s.fleets[%d]", path, i)); err != nil {
			return err
		}
	}
	for i, f := range seed.SpotFleets {
		if _, err := s.AddFleet(now, f, true, fmt.Sprintf("%s.spot_fleets[%d]", path, i)); err != nil {
			return err
		}
	}
	return nil
}
