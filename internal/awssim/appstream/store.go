// Package appstream is the simulator's Amazon AppStream 2.0 (WorkSpaces Applications), as far as metadata options go:
// fleets, image builders and app block builders, whether they disable IMDSv1, their images, and their starting and
// stopping, which takes simulated time.
//
// It owns all of them. Their instances are in AWS's own account, so there are none in the simulated EC2.
package appstream

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
)

// Name is the service's name, and that of its section in a seed's region.
const Name = "appstream"

// Seed is the section "appstream" of a seed's region.
type Seed struct {
	Fleets           []MachineSeed `json:"fleets,omitempty"`
	ImageBuilders    []MachineSeed `json:"image_builders,omitempty"`
	AppBlockBuilders []MachineSeed `json:"app_block_builders,omitempty"`
	Images           []ImageSeed   `json:"images,omitempty"`
}

// MachineSeed is a fleet, an image builder or an app block builder that is there already.
type MachineSeed struct {
	Name  string `json:"name"`
	State string `json:"state,omitempty"` // STOPPED by default
	// DisableV1 is DisableIMDSV1; without it the API does not say.
	DisableV1 *bool `json:"disable_imdsv1,omitempty"`
	// ImageARN is what it runs; elastic fleets and app block builders have none.
	ImageARN string `json:"image_arn,omitempty"`
	// Type is a fleet's: ALWAYS_ON, ON_DEMAND (the default) or ELASTIC.
	Type    string            `json:"type,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	Created time.Time         `json:"created,omitzero"` // a year ago by default
}

// ImageSeed is an image that the account may use.
type ImageSeed struct {
	ARN string `json:"arn"`
	// Agent is AppstreamAgentVersion: "06-17-2024".
	Agent string `json:"agent,omitempty"`
	// Latest says that it follows the newest agent.
	Latest bool `json:"latest_agent,omitempty"`
	// BaseReleased is when the public image that it was made of came out.
	BaseReleased time.Time `json:"base_released,omitzero"`
}

// sort is one of the three sorts of machines.
type sort string

const (
	fleets           sort = "fleet"
	imageBuilders    sort = "image-builder"
	appBlockBuilders sort = "app-block-builder"
)

// machine is a fleet or a builder; what can change is in its state.
type machine struct {
	MachineSeed
	sort  sort
	state core.Versioned[state]
}

// state is a machine as of one moment.
type state struct {
	name      string
	disableV1 *bool
}

// The states in which a machine stays; a fleet knows no others than these and those between them.
const (
	running  = "RUNNING"
	stopped  = "STOPPED"
	starting = "STARTING"
	stopping = "STOPPING"
)

// store is the state of one place; machines are in the order in which they were seeded.
type store struct {
	machines map[sort][]*machine
	images   []ImageSeed
}

func storeOf(p *core.Place) *store {
	return p.Store(Name, func() any { return &store{machines: map[sort][]*machine{}} }).(*store)
}

func (s *store) find(of sort, name string) *machine {
	i := slices.IndexFunc(s.machines[of], func(m *machine) bool { return m.Name == name })
	if i < 0 {
		return nil
	}
	return s.machines[of][i]
}

var (
	machineName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,100}$`)
	fleetTypes  = []string{"ALWAYS_ON", "ON_DEMAND", "ELASTIC"}
	// builderStates are further states of an image builder (ImageBuilderState).
	builderStates = []string{
		"PENDING", "UPDATING_AGENT", stopping, "REBOOTING", "SNAPSHOTTING", "DELETING", "FAILED", "UPDATING",
		"PENDING_QUALIFICATION", "PENDING_SYNCING_APPS", "SYNCING_APPS", "PENDING_IMAGE_IMPORT",
	}
)

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in Seed
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	s, now := storeOf(p), p.World().Now()
	for _, part := range []struct {
		key  string
		of   sort
		seed []MachineSeed
	}{
		{"fleets", fleets, in.Fleets}, {"image_builders", imageBuilders, in.ImageBuilders},
		{"app_block_builders", appBlockBuilders, in.AppBlockBuilders},
	} {
		for i, m := range part.seed {
			if err := s.add(p, part.of, m, now); err != nil {
				return fmt.Errorf("%s.%s[%d]: %w", path, part.key, i, err)
			}
		}
	}
	for i, image := range in.Images {
		if !strings.HasPrefix(image.ARN, "arn:") || !strings.Contains(image.ARN, ":image/") {
			return fmt.Errorf("%s.images[%d]: %q is not the ARN of an image", path, i, image.ARN)
		}
	}
	s.images = append(s.images, in.Images...)
	return nil
}

func (s *store) add(p *core.Place, of sort, in MachineSeed, now time.Time) error {
	if in.State == "" {
		in.State = stopped
	}
	if in.Type == "" && of == fleets {
		in.Type = "ON_DEMAND"
	}
	if in.Created.IsZero() {
		in.Created = now.AddDate(-1, 0, 0)
	}
	known := []string{running, stopped, starting, stopping}
	if of == imageBuilders {
		known = append(builderStates[:len(builderStates):len(builderStates)], running, stopped)
	}
	switch {
	case !machineName.MatchString(in.Name) || s.find(of, in.Name) != nil:
		return fmt.Errorf("name %q is not valid or used twice", in.Name)
	case !slices.Contains(known, in.State):
		return fmt.Errorf("state %q: want one of %s", in.State, strings.Join(known, ", "))
	case of == fleets && !slices.Contains(fleetTypes, in.Type):
		return fmt.Errorf("type %q: want one of %s", in.Type, strings.Join(fleetTypes, ", "))
	}
	in.Tags = maps.Clone(in.Tags)
	m := &machine{MachineSeed: in, sort: of}
	m.state = core.Always(state{in.State, in.DisableV1})
	if to, ok := map[string]string{starting: running, stopping: stopped}[in.State]; ok {
		m.arrive(p, now, to)
	}
	s.machines[of] = append(s.machines[of], m)
	return nil
}
