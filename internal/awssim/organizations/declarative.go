package organizations

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Fields of a declarative policy's instance_metadata_defaults, with the values they take. The hop limit is a number in a
// string, "-1" where there is no preference.
// https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_policies_declarative_syntax.html
var declaredValues = map[string][]string{
	fieldTokens:   {noPreference, fleet.TokensOptional, fleet.TokensRequired},
	fieldEndpoint: {noPreference, fleet.Enabled, fleet.Disabled},
	fieldTags:     {noPreference, fleet.Enabled, fleet.Disabled},
	fieldEnforced: {noPreference, fleet.Enabled, fleet.Disabled},
	fieldHopLimit: nil,
}

const (
	fieldTokens   = "http_tokens"
	fieldEndpoint = "http_endpoint"
	fieldTags     = "instance_metadata_tags"
	fieldEnforced = "http_tokens_enforced"
	fieldHopLimit = "http_put_response_hop_limit"

	noPreference = "no_preference"
	assign       = "@@assign"
	operators    = "@@operators_allowed_for_child_policies"
)

// otherAttributes are those of ec2_attributes that have no effect on metadata, and are kept as they are.
var otherAttributes = []string{
	"vpc_block_public_access", "serial_console_access", "image_block_public_access", "allowed_images_settings",
	"snapshot_block_public_access",
}

// attributes are what declarative policies say of metadata defaults. A field that none assigns is absent.
type attributes struct {
	// managed: the policy speaks of metadata defaults at all.
	managed bool
	values  map[string]string
	// closed are fields that policies further down may not assign.
	closed  map[string]bool
	message string
}

// parseAttributes reads a declarative policy. What it does not understand it refuses.
func parseAttributes(document string) (*attributes, error) {
	var doc struct {
		EC2 map[string]json.RawMessage `json:"ec2_attributes"`
	}
	if err := strict([]byte(document), &doc); err != nil {
		return nil, fmt.Errorf("declarative policy: %w", err)
	}
	if doc.EC2 == nil {
		return nil, errors.New("declarative policy: it must begin with ec2_attributes")
	}
	out := &attributes{values: map[string]string{}, closed: map[string]bool{}}
	for _, name := range slices.Sorted(maps.Keys(doc.EC2)) {
		var err error
		switch {
		case name == "instance_metadata_defaults":
			err = out.defaults(doc.EC2[name])
		case name == "exception_message":
			out.message, _, err = assigned(doc.EC2[name])
		case !slices.Contains(otherAttributes, name):
			err = errors.New("it is no attribute of declarative policies for EC2")
		}
		if err != nil {
			return nil, fmt.Errorf("declarative policy: %s: %w", name, err)
		}
	}
	return out, nil
}

func (a *attributes) defaults(raw json.RawMessage) error {
	var fields map[string]json.RawMessage
	if err := strict(raw, &fields); err != nil {
		return err
	}
	a.managed = true
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		allowed, known := declaredValues[name]
		if !known {
			return fmt.Errorf("%s: it is no field of metadata defaults", name)
		}
		value, closed, err := assigned(fields[name])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if a.closed[name] = closed; value == "" {
			continue
		}
		n, numeric := strconv.Atoi(value)
		switch {
		case name == fieldHopLimit && (numeric != nil || n != -1 && (n < 1 || n > 64)):
			return fmt.Errorf("%s: %q: want \"-1\", or \"1\" to \"64\"", name, value)
		case name != fieldHopLimit && !slices.Contains(allowed, value):
			return fmt.Errorf("%s: %q: want one of %q", name, value, allowed)
		}
		a.values[name] = value
	}
	return nil
}

// assigned reads {"@@assign": "value"}; the value is "" where none is assigned.
func assigned(raw json.RawMessage) (value string, closed bool, err error) {
	var fields map[string]json.RawMessage
	if err := strict(raw, &fields); err != nil {
		return "", false, err
	}
	for name, v := range fields {
		switch name {
		case assign:
			err = strict(v, &value)
		case operators:
			var allowed []string
			err = strict(v, &allowed)
			closed = slices.Equal(allowed, []string{"@@none"})
		default:
			err = fmt.Errorf("%s: only %s and %s are understood", name, assign, operators)
		}
		if err != nil {
			return "", false, err
		}
	}
	return value, closed, nil
}

// strict reads one JSON value and nothing after it.
func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is something after the end of the document")
	}
	return nil
}

// inherit lays a policy from further down, or a later one of the same level, over what is above it.
func (a *attributes) inherit(below *attributes) *attributes {
	out := &attributes{values: map[string]string{}, closed: map[string]bool{}}
	if a != nil {
		*out = attributes{managed: a.managed, values: maps.Clone(a.values), closed: maps.Clone(a.closed), message: a.message}
	}
	if out.managed = out.managed || below.managed; below.message != "" {
		out.message = below.message
	}
	for name, value := range below.values {
		if !out.closed[name] {
			out.values[name] = value
		}
	}
	for name, closed := range below.closed {
		out.closed[name] = out.closed[name] || closed
	}
	return out
}

func (a *attributes) equal(b *attributes) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.managed == b.managed && a.message == b.message && maps.Equal(a.values, b.values)
}

// document is the effective policy as DescribeEffectivePolicy shows it: values without operators.
func (a *attributes) document() (string, error) {
	ec2 := map[string]any{}
	if a.managed {
		ec2["instance_metadata_defaults"] = a.values
	}
	if a.message != "" {
		ec2["exception_message"] = a.message
	}
	b, err := json.Marshal(map[string]any{"ec2_attributes": ec2})
	return string(b), err
}

// declare makes the account's defaults what the policies say, or what the account had chosen before there were any.
func declare(w *core.World, now time.Time, delay time.Duration, account fleet.AccountID, says *attributes) {
	if says == nil || !says.managed {
		ec2.SetDeclared(w, now, delay, account, nil)
		return
	}
	plain := func(field string) string {
		if v := says.values[field]; v != noPreference {
			return v
		}
		return ""
	}
	d := &ec2.Defaults{
		Options:  fleet.Options{Tokens: plain(fieldTokens), Endpoint: plain(fieldEndpoint), Tags: plain(fieldTags)},
		Enforced: plain(fieldEnforced), ManagedBy: ec2.ManagedByPolicy, Message: says.message,
	}
	if n, err := strconv.Atoi(says.values[fieldHopLimit]); err == nil && n > 0 {
		d.Options.HopLimit = n
	}
	ec2.SetDeclared(w, now, delay, account, d)
}
