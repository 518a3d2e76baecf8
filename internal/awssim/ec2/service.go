// Package ec2 simulates Amazon EC2: instances and their metadata options, launches, images, launch templates, fleets,
// account defaults, tags and regions, at the wire of API version 2016-11-15.
//
// It owns the truth about how a launch gets its metadata options, written from the EC2 User Guide ("Order of precedence
// for instance metadata options") and from nothing of imdsctl's own. Other services of the simulator launch and
// terminate
// through Store.
package ec2

import (
	"maps"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Name is the service's name.
const Name = "ec2"

// iso8601 is how EC2 writes instants in text.
const iso8601 = "2006-01-02T15:04:05.000Z"

// Service is EC2.
func Service() *core.Service {
	s := &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.EC2Query}, Namespace: "http://ec2.amazonaws.com/doc/2016-11-15/",
		Actions: map[string]core.Action{}, SeedPlace: seedPlace,
	}
	for _, group := range []map[string]core.Action{
		instanceActions(), optionActions(), defaultsActions(), imageActions(), templateActions(), tagActions(),
		regionActions(), fleetActions(), securityActions(),
	} {
		maps.Copy(s.Actions, group)
	}
	return s
}

// describe is a read with EC2's two buckets: the small one when neither narrowed nor paged.
func describe(handle func(*core.Call) error, params ...string) core.Action {
	return core.Action{
		Params: params, DryRun: true, Handle: handle,
		BucketFor: func(c *core.Call) core.Bucket {
			for _, p := range c.In.Names() {
				if p != "DryRun" && p != "IncludeManagedResources" && p != "IncludeAllInstances" && p != "AllRegions" {
					return core.BucketDescribe
				}
			}
			return core.BucketDescribeAll
		},
	}
}

// change is a write.
func change(b core.Bucket, handle func(*core.Call) error, access func(*core.Call) []core.Access,
	params ...string) core.Action {
	return core.Action{Params: params, DryRun: true, Mutating: true, Bucket: b, Handle: handle, Access: access}
}

// required gives a parameter that must be sent.
func required(c *core.Call, name string) (string, error) {
	v := c.In.Str(name)
	if v == "" {
		return "", wire.Errorf("MissingParameter", "The request must contain the parameter %s", name)
	}
	return v, nil
}

// oneOf checks an enumerated parameter; "" is unset.
func oneOf(name, value string, allowed ...string) error {
	if value == "" || slices.Contains(allowed, value) {
		return nil
	}
	quoted := make([]string, len(allowed))
	for i, a := range allowed {
		quoted[i] = "'" + a + "'"
	}
	return wire.Errorf("InvalidParameterValue", "A value of '%s' is not valid for %s. Specify either %s and try again.",
		value, name, strings.Join(quoted, " or "))
}

// remembered makes a call idempotent by its client token: the result of the first is given again, and other parameters
// with the same token are refused.
func remembered[T any](c *core.Call, s *Store, do func() (T, error)) (T, error) {
	token := c.In.Str("ClientToken")
	if token == "" {
		return do()
	}
	key := c.Action + " " + token
	print := strings.Join(slices.DeleteFunc(c.In.Flat(), func(p string) bool { return strings.HasPrefix(p, "DryRun=") }),
		"\n")
	if old, ok := s.tokens[key]; ok {
		var none T
		if old.print != print {
			return none, wire.Errorf("IdempotentParameterMismatch",
				"The client token you have provided is already associated with another set of parameters.")
		}
		return old.result.(T), nil
	}
	result, err := do()
	if err == nil {
		s.tokens[key] = outcome{print: print, result: result}
	}
	return result, err
}

func tagConditions(c *core.Call, tags []Tag) map[string][]string {
	m := map[string][]string{"ec2:region": {string(c.Place.Region)}}
	for _, t := range tags {
		m["aws:resourcetag/"+t.Key] = []string{t.Value}
		m["ec2:resourcetag/"+t.Key] = []string{t.Value}
	}
	return m
}
