// Package cloudformation is the simulator's AWS CloudFormation, as far as it tells who manages what: stacks, nested ones
// among them, and the resources that they list.
//
// It owns the stacks of a seed and nothing that they name; it makes and changes nothing. Names, types and statuses are those
// of the API reference of CloudFormation (2010-05-15).
package cloudformation

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Name is the service's name, and that of its section in a seed's region.
const Name = "cloudformation"

// pageSize is what one call of either list gives; CloudFormation takes no page size.
const pageSize = 100

// Seed is the section "cloudformation" of a seed's region.
type Seed struct {
	Stacks []StackSeed `json:"stacks,omitempty"`
}

// StackSeed is a stack that is there already.
type StackSeed struct {
	// Name is unique among stacks that are not deleted.
	Name   string `json:"name"`
	Status string `json:"status,omitempty"` // CREATE_COMPLETE by default
	// Parent is the name of the stack it is nested in; it stands before this one.
	Parent    string         `json:"parent,omitempty"`
	Created   time.Time      `json:"created,omitzero"` // a year ago by default
	Resources []ResourceSeed `json:"resources,omitempty"`
}

// ResourceSeed is a resource of a stack.
type ResourceSeed struct {
	Logical  string `json:"logical"`
	Physical string `json:"physical,omitempty"` // empty while it is being made
	Type     string `json:"type"`               // AWS::EC2::Instance
	Status   string `json:"status,omitempty"`   // CREATE_COMPLETE by default
}

// Service declares CloudFormation. It publishes no rates; these are low enough that a client without a limit of its own is
// throttled sooner or later.
func Service() *core.Service {
	bucket := core.Bucket{Burst: 20, Refill: 10}
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.Query}, Namespace: "http://cloudformation.amazonaws.com/doc/2010-05-15/",
		Actions: map[string]core.Action{
			"ListStacks": {Bucket: bucket, Handle: listStacks, Params: []string{"NextToken", "StackStatusFilter"}},
			"ListStackResources": {
				Bucket: bucket, Access: access, Handle: listResources, Params: []string{"NextToken", "StackName"},
			},
		},
		SeedPlace: seedPlace,
	}
}

// stack is one stack. Nothing changes it.
type stack struct {
	StackSeed
	id           string
	parent, root *stack
}

type store struct{ stacks []*stack }

func storeOf(p *core.Place) *store {
	return p.Store(Name, func() any { return &store{} }).(*store)
}

// find finds a stack by its ARN or, unless it was deleted, by name.
func (s *store) find(name string) *stack {
	i := slices.IndexFunc(s.stacks, func(st *stack) bool {
		return st.id == name || st.Name == name && st.Status != statusDeleted
	})
	if i < 0 {
		return nil
	}
	return s.stacks[i]
}

const (
	statusComplete = "CREATE_COMPLETE"
	statusDeleted  = "DELETE_COMPLETE"
)

// statuses are all of StackStatus.
var statuses = []string{
	"CREATE_IN_PROGRESS", "CREATE_FAILED", statusComplete, "ROLLBACK_IN_PROGRESS", "ROLLBACK_FAILED", "ROLLBACK_COMPLETE",
	"DELETE_IN_PROGRESS", "DELETE_FAILED", statusDeleted, "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
	"UPDATE_COMPLETE", "UPDATE_FAILED", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED",
	"UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS", "IMPORT_IN_PROGRESS",
	"IMPORT_COMPLETE", "IMPORT_ROLLBACK_IN_PROGRESS", "IMPORT_ROLLBACK_FAILED", "IMPORT_ROLLBACK_COMPLETE",
}

var (
	stackName    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,127}$`)
	logicalID    = regexp.MustCompile(`^[A-Za-z0-9]{1,255}$`)
	resourceType = regexp.MustCompile(`^[A-Za-z0-9]+::[A-Za-z0-9]+(::[A-Za-z0-9]+)*$`)
)

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in Seed
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	for i, st := range in.Stacks {
		if err := storeOf(p).add(p, st); err != nil {
			return fmt.Errorf("%s.stacks[%d]: %w", path, i, err)
		}
	}
	return nil
}

func (s *store) add(p *core.Place, in StackSeed) error {
	if in.Status == "" {
		in.Status = statusComplete
	}
	if in.Created.IsZero() {
		in.Created = p.World().Now().AddDate(-1, 0, 0)
	}
	st := &stack{StackSeed: in, id: fmt.Sprintf("arn:%s:cloudformation:%s:%s:stack/%s/%08x-0000-4000-8000-000000000000",
		p.Partition, p.Region, p.Account, in.Name, len(s.stacks)+1)}
	st.root = st
	if in.Parent != "" {
		if st.parent = s.find(in.Parent); st.parent == nil {
			return fmt.Errorf("parent %q: no stack before this one has the name", in.Parent)
		}
		st.root = st.parent.root
	}
	switch {
	case !stackName.MatchString(in.Name) || in.Status != statusDeleted && s.find(in.Name) != nil:
		return fmt.Errorf("name %q is not valid or used twice", in.Name)
	case !slices.Contains(statuses, in.Status):
		return fmt.Errorf("status %q: want one of %s", in.Status, strings.Join(statuses, ", "))
	}
	for _, r := range in.Resources {
		if !logicalID.MatchString(r.Logical) || !resourceType.MatchString(r.Type) {
			return fmt.Errorf("resource %q of type %q is not valid", r.Logical, r.Type)
		}
	}
	s.stacks = append(s.stacks, st)
	return nil
}

// access needs the stack that the request names (service authorization reference, "stack").
func access(c *core.Call) []core.Access {
	if st := storeOf(c.Place).find(c.In.Str("StackName")); st != nil {
		return []core.Access{{Resource: st.id}}
	}
	return []core.Access{{Resource: c.ARN(Name, "stack/*/*")}}
}

func listStacks(c *core.Call) error {
	filter := c.In.Strings("StackStatusFilter")
	for _, f := range filter {
		if !slices.Contains(statuses, f) {
			return invalid("'%s' is no stack status", f)
		}
	}
	var found []*stack
	for _, st := range storeOf(c.Place).stacks {
		if len(filter) == 0 || slices.Contains(filter, st.Status) {
			found = append(found, st)
		}
	}
	slices.Reverse(found) // the latest comes first
	return writePage(c, "StackSummaries", found, func(st *stack) {
		c.Out.Str("StackId", st.id)
		c.Out.Str("StackName", st.Name)
		c.Out.Time("CreationTime", st.Created)
		if st.Status == statusDeleted {
			c.Out.Time("DeletionTime", st.Created)
		}
		c.Out.Str("StackStatus", st.Status)
		if st.parent != nil {
			c.Out.Str("ParentId", st.parent.id)
			c.Out.Str("RootId", st.root.id)
		}
		c.Out.Struct("DriftInformation", func() { c.Out.Str("StackDriftStatus", "NOT_CHECKED") })
	})
}

func listResources(c *core.Call) error {
	name := c.In.Str("StackName")
	if name == "" {
		return invalid("1 validation error detected: Value null at 'stackName' failed to satisfy constraint: Member must not be null")
	}
	st := storeOf(c.Place).find(name)
	if st == nil {
		return invalid("Stack with id %s does not exist", name)
	}
	c.Touch(st.id)
	return writePage(c, "StackResourceSummaries", st.Resources, func(r ResourceSeed) {
		c.Out.Str("LogicalResourceId", r.Logical)
		c.Out.Opt("PhysicalResourceId", r.Physical)
		c.Out.Str("ResourceType", r.Type)
		c.Out.Time("LastUpdatedTimestamp", st.Created)
		status := r.Status
		if status == "" {
			status = statusComplete
		}
		c.Out.Str("ResourceStatus", status)
		c.Out.Struct("DriftInformation", func() { c.Out.Str("StackResourceDriftStatus", "NOT_CHECKED") })
	})
}

func invalid(format string, args ...any) error {
	return wire.Errorf("ValidationError", format, args...)
}

// writePage writes the page of all elements that the request asks for.
func writePage[T any](c *core.Call, name string, all []T, write func(T)) error {
	from, err := begin(c.In.Str("NextToken"))
	if err != nil {
		return err
	}
	page := all[min(from, len(all)):]
	page = page[:min(pageSize, len(page))]
	c.Out.List(name, func() {
		for _, e := range page {
			c.Out.Struct("", func() { write(e) })
		}
	})
	if from+len(page) < len(all) {
		c.Out.Str("NextToken", token(from+len(page)))
	}
	return nil
}

// begin reads where a list goes on: the number of elements that were given before.
func begin(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return 0, invalid("Invalid pagination token")
	}
	n, err := strconv.Atoi(string(b))
	if err != nil || n < 1 {
		return 0, invalid("Invalid pagination token")
	}
	return n, nil
}

func token(n int) string { return base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(n))) }
