package kindtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// fixture is testdata/fixture.json: what the suite must know of a kind.
type fixture struct {
	// Place is where the kind is tried: "aws/111122223333/eu-west-1".
	Place fleet.Place `json:"place"`
	// Seed is the simulator's, with the account and region of Place in it.
	Seed json.RawMessage `json:"seed"`
	// IDs are all resources of the kind in Place, in AWS's order.
	IDs []string `json:"ids"`
	// Single says that there is one resource a place by nature, so that no second page can be asked for.
	Single bool `json:"single,omitempty"`
	// FixedPages says that the API decides how large a page is; the seed must then make more than one.
	FixedPages bool `json:"fixed_pages,omitempty"`
	// Missing is an id of the kind that does not exist.
	Missing string `json:"missing"`
	// Versions tells, for a VersionReader, which numbers of a resource exist.
	Versions map[string]map[string]bool `json:"versions,omitempty"`
	// References tells, for a ReferenceReader, which ids that others name AWS shows.
	References map[string]bool `json:"references,omitempty"`
	// History are, for a HistoryReader, the ids it emits, after the calls in Past were made.
	History *history `json:"history,omitempty"`
	// Launches are launched before a write and after its revert: they must come out the same.
	Launches []launch    `json:"launches,omitempty"`
	Writes   []writeCase `json:"writes"`
	// Uncalled are declared actions that the suite does not get to see called, each with the reason.
	Uncalled map[string]string `json:"uncalled,omitempty"`
}

// history makes instances end by lowering a group's desired capacity.
type history struct {
	Group   string `json:"group"`
	Desired int32  `json:"desired"`
	// Ended is how many instances end by that.
	Ended int `json:"ended"`
}

// launch is one launch: by template and version, by the template that a group names, or of an image alone.
type launch struct {
	Template string `json:"template,omitempty"`
	Version  string `json:"version,omitempty"`
	Group    string `json:"group,omitempty"`
	Image    string `json:"image,omitempty"`
}

// writeCase is one write to try. A value of Patch may name an output of the write itself: "${Version}".
type writeCase struct {
	Name   string            `json:"name,omitempty"`
	ID     string            `json:"id"`
	Verb   string            `json:"verb"`
	Patch  map[string]value  `json:"patch"`
	Params map[string]string `json:"params,omitempty"`
	// MadeUp says that the outputs are ids that AWS makes up, other ones each time.
	MadeUp bool `json:"made_up,omitempty"`
	// Drift is what another operator writes in between.
	Drift drift `json:"drift"`
	// DriftAfter is what they write once the write is made, where the resource would not take Drift then.
	DriftAfter drift `json:"drift_after,omitzero"`
}

type drift struct {
	Verb  string           `json:"verb"`
	Patch map[string]value `json:"patch"`
}

// value is a string, or null for a field that is removed.
type value struct{ text string }

// UnmarshalJSON reads null as absent.
func (v *value) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		v.text = fleet.Absent
		return nil
	}
	return json.Unmarshal(b, &v.text)
}

func state(patch map[string]value) fleet.State {
	s := fleet.State{}
	for k, v := range patch {
		s[k] = v.text
	}
	return s
}

func readFixture(folders fs.FS, name string) (*fixture, error) {
	b, err := fs.ReadFile(folders, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no kinds/%s; a kind must bring its fixture (docs/adding-a-kind.md)", name)
	}
	if err != nil {
		return nil, fmt.Errorf("read kinds/%s: %w", name, err)
	}
	f := &fixture{}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(f); err != nil {
		return nil, fmt.Errorf("kinds/%s: %w", name, err)
	}
	if len(f.IDs) == 0 || f.Missing == "" || f.Place.Account == "" {
		return nil, fmt.Errorf("kinds/%s: place, ids and missing must be there", name)
	}
	if !f.Single && len(f.IDs) <= tiny {
		return nil, fmt.Errorf("kinds/%s: %d resources fit on one page of %d; seed more", name, len(f.IDs), tiny)
	}
	return f, nil
}

// tiny is the page size of the suite: the smallest that DescribeInstances takes.
const tiny = 5
