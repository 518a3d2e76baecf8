// Package workspacesinstances is the simulator's Amazon WorkSpaces Instances, as far as reading goes: which instances there
// are, how far they are provisioned, and on which EC2 instance each of them lives.
//
// It owns nothing else. The EC2 instances are EC2's, with their options and their operator; nothing in a request changes
// anything here. There is no Go client for the service; others reach it by rpc-v2-cbor (boto3) and by awsJson1_0.
package workspacesinstances

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Name is the service's name, and that of its section in a seed's region.
const Name = "workspaces-instances"

// Principal is the operator of the EC2 instances, for seeds of EC2.
const Principal = "workspaces-instances.amazonaws.com"

// Seed is the section of a region.
type Seed struct {
	Instances []InstanceSeed `json:"instances,omitempty"`
}

// InstanceSeed is a WorkSpaces instance.
type InstanceSeed struct {
	ID string `json:"id"`
	// State is ALLOCATED unless it is said.
	State string `json:"state,omitempty"`
	// Instance is the EC2 instance it lives on; empty where there is none (yet, or any more).
	Instance string `json:"instance,omitempty"`
	// Billing is HOURLY unless it is said.
	Billing string `json:"billing,omitempty"`
}

// The words and patterns of the API model.
var (
	states  = []string{"ALLOCATING", "ALLOCATED", "DEALLOCATING", "DEALLOCATED", "ERROR_ALLOCATING", "ERROR_DEALLOCATING"}
	billing = []string{"MONTHLY", "HOURLY"}
	id      = regexp.MustCompile(`^wsinst-[0-9a-zA-Z]{8,63}$`)
)

// maxPage is the most that ListWorkspaceInstances returns at a time.
const maxPage = 25

// Service declares WorkSpaces Instances. AWS publishes no rates for it: the buckets are small, so that a client without a
// limit of its own is throttled sooner or later.
func Service() *core.Service {
	read := core.Bucket{Burst: 20, Refill: 10}
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.CBOR, wire.JSON10}, Targets: []string{"EUCMIFrontendAPIService"},
		Actions: map[string]core.Action{
			"ListWorkspaceInstances": {
				Bucket: read, Params: []string{"ProvisionStates", "MaxResults", "NextToken"}, Handle: list,
			},
			"GetWorkspaceInstance": {Bucket: read, Params: []string{"WorkspaceInstanceId"}, Access: access, Handle: get},
		},
		SeedPlace: seedPlace,
	}
}

func access(c *core.Call) []core.Access {
	return []core.Access{{Resource: c.ARN(Name, "workspaceinstance/"+c.In.Str("WorkspaceInstanceId"))}}
}

// store is the state of one place.
type store struct{ instances []InstanceSeed }

func storeOf(p *core.Place) *store {
	return p.Store(Name, func() any { return &store{} }).(*store)
}

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in Seed
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	s := storeOf(p)
	for n, i := range in.Instances {
		if i.State == "" {
			i.State = "ALLOCATED"
		}
		if i.Billing == "" {
			i.Billing = "HOURLY"
		}
		if !id.MatchString(i.ID) || s.find(i.ID) != nil || !slices.Contains(states, i.State) || !slices.Contains(billing, i.Billing) {
			return fmt.Errorf("%s.instances[%d]: %+v: want an id of its own (wsinst- and 8 to 63 letters and digits), a state of %q "+
				"and a billing of %q", path, n, i, states, billing)
		}
		s.instances = append(s.instances, i)
	}
	return nil
}

func (s *store) find(id string) *InstanceSeed {
	at := slices.IndexFunc(s.instances, func(i InstanceSeed) bool { return i.ID == id })
	if at < 0 {
		return nil
	}
	return &s.instances[at]
}

func list(c *core.Call) error {
	limit, set, err := c.In.Int("MaxResults")
	if err != nil || set && (limit < 1 || limit > maxPage) {
		return invalid("MaxResults must be between 1 and 25.")
	}
	if !set {
		limit = maxPage
	}
	wanted := c.In.Strings("ProvisionStates")
	for _, state := range wanted {
		if !slices.Contains(states, state) {
			return invalid("ProvisionStates: " + state + " is no state.")
		}
	}
	var found []*InstanceSeed
	for n := range storeOf(c.Place).instances {
		if i := &storeOf(c.Place).instances[n]; len(wanted) == 0 || slices.Contains(wanted, i.State) {
			found = append(found, i)
		}
	}
	start, err := position(c.In.Str("NextToken"), len(found))
	if err != nil {
		return err
	}
	end := min(start+int(limit), len(found))
	c.Out.List("WorkspaceInstances", func() {
		for _, i := range found[start:end] {
			c.Out.Struct("", func() { write(c.Out, i) })
		}
	})
	if end < len(found) {
		c.Out.Str("NextToken", base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(end))))
	}
	return nil
}

// position is where a page begins.
func position(token string, most int) (int, error) {
	if token == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		var n int
		if n, err = strconv.Atoi(string(b)); err == nil && n >= 0 && n <= most {
			return n, nil
		}
	}
	return 0, invalid("NextToken is not valid.")
}

func get(c *core.Call) error {
	asked := c.In.Str("WorkspaceInstanceId")
	if !id.MatchString(asked) {
		return invalid("WorkspaceInstanceId is not valid.")
	}
	i := storeOf(c.Place).find(asked)
	if i == nil {
		return wire.Errorf("ResourceNotFoundException", "The WorkSpace Instance %s was not found.", asked)
	}
	write(c.Out, i)
	c.Out.Struct("BillingConfiguration", func() { c.Out.Str("BillingMode", i.Billing) })
	return nil
}

func write(w *wire.Writer, i *InstanceSeed) {
	w.Str("WorkspaceInstanceId", i.ID)
	w.Str("ProvisionState", i.State)
	if i.Instance != "" {
		w.Struct("EC2ManagedInstance", func() { w.Str("InstanceId", i.Instance) })
	}
}

func invalid(message string) error { return wire.Errorf("ValidationException", "%s", message) }
