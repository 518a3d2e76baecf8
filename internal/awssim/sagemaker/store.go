package sagemaker

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
)

// Seed is SageMaker's section of a seed, in one region of one account.
type Seed struct {
	NotebookInstances []NotebookSeed `json:"notebook_instances,omitempty"`
}

// NotebookSeed is a notebook instance that is there already.
type NotebookSeed struct {
	Name   string `json:"name"`
	Status string `json:"status,omitempty"` // InService by default
	// MinimumVersion is the minimum version of the metadata service, "1" or "2"; empty for an old one of which the API does
	// not say it.
	MinimumVersion string            `json:"minimum_version,omitempty"`
	InstanceType   string            `json:"type,omitempty"`    // ml.t3.medium by default
	RoleARN        string            `json:"role,omitempty"`    // one of the account by default
	Created        time.Time         `json:"created,omitzero"`  // 90 days ago by default
	Modified       time.Time         `json:"modified,omitzero"` // as created by default
	Tags           map[string]string `json:"tags,omitempty"`
}

// Statuses of a notebook instance.
const (
	pending   = "Pending"
	inService = "InService"
	stopping  = "Stopping"
	stopped   = "Stopped"
	failed    = "Failed"
	updating  = "Updating"
)

var statuses = []string{
	pending, inService, stopping, stopped, failed, updating, "Deleting", "PendingMaintenance", "InMaintenance",
}

// The pattern of the API's model, NotebookInstanceName.
var notebookName = regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9])*$`)

// store is the state of one place.
type store struct {
	byName map[string]*notebook
}

// notebook is one notebook instance. All but its state is fixed.
type notebook struct {
	NotebookSeed
	tags  []tag
	state core.Versioned[state]
}

type tag struct{ Key, Value string }

// state is what changes.
type state struct {
	status, minimum string
	modified        time.Time
}

func storeOf(p *core.Place) *store {
	return p.Store(Name, func() any { return &store{byName: map[string]*notebook{}} }).(*store)
}

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in Seed
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	for i, one := range in.NotebookInstances {
		if err := storeOf(p).add(p, one); err != nil {
			return fmt.Errorf("%s.notebook_instances[%d]: %w", path, i, err)
		}
	}
	return nil
}

func (s *store) add(p *core.Place, in NotebookSeed) error {
	in.Status = cmp.Or(in.Status, inService)
	in.InstanceType = cmp.Or(in.InstanceType, "ml.t3.medium")
	in.RoleARN = cmp.Or(in.RoleARN, fmt.Sprintf("arn:%s:iam::%s:role/notebooks", p.Partition, p.Account))
	switch {
	case len(in.Name) > 63 || !notebookName.MatchString(in.Name) || s.byName[in.Name] != nil:
		return fmt.Errorf("name %q is not valid or used twice", in.Name)
	case !slices.Contains(statuses, in.Status):
		return fmt.Errorf("notebook instance %s: status %q is not known", in.Name, in.Status)
	case !slices.Contains([]string{"", "1", "2"}, in.MinimumVersion):
		return fmt.Errorf("notebook instance %s: minimum_version %q: want 1 or 2", in.Name, in.MinimumVersion)
	}
	if in.Created.IsZero() {
		in.Created = p.World().Now().AddDate(0, 0, -90)
	}
	if in.Modified.IsZero() {
		in.Modified = in.Created
	}
	n := &notebook{NotebookSeed: in}
	n.state = core.Always(state{status: in.Status, minimum: in.MinimumVersion, modified: in.Modified})
	for _, key := range slices.Sorted(maps.Keys(in.Tags)) {
		n.tags = append(n.tags, tag{key, in.Tags[key]})
	}
	s.byName[in.Name] = n
	return nil
}

// sorted are all notebook instances by name.
func (s *store) sorted() []*notebook {
	return slices.SortedFunc(maps.Values(s.byName), func(a, b *notebook) int { return strings.Compare(a.Name, b.Name) })
}

func arn(p *core.Place, name string) string {
	return fmt.Sprintf("arn:%s:sagemaker:%s:%s:notebook-instance/%s", p.Partition, p.Region, p.Account, strings.ToLower(name))
}

// pass takes a notebook instance through a status in between to the one it ends in.
func (n *notebook) pass(c *core.Call, between, end string, change func(*state)) {
	w, p := c.World, c.Place
	next := n.state.Newest()
	next.status, next.modified = between, c.Now
	if change != nil {
		change(&next)
	}
	n.state.Set(c.Now, w.Consistency(), next)
	arrive := func(now time.Time) {
		next := n.state.Newest()
		next.status, next.modified = end, now
		n.state.Set(now, w.Consistency(), next)
	}
	if settle := w.Settle(); settle > 0 {
		p.After(c.Now, settle, arrive)
	} else {
		arrive(c.Now)
	}
}
