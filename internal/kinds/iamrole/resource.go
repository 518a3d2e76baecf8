package iamrole

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/access"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// trusted are the services that hand the credentials of a role to programs on a host, by the metadata service or in its manner.
var trusted = []string{"ec2.amazonaws.com", "appstream.amazonaws.com", "sagemaker.amazonaws.com"}

// hosts tells whether the credentials of a role get to hosts. One whose trust policy cannot be read is kept if it is in a profile.
func hosts(r *role) bool { return len(r.Profiles) > 0 || len(services(r.Trust)) > 0 }

// services are those of trusted that may assume a role, by its trust policy as IAM encodes it.
func services(encoded string) []string {
	text, err := url.PathUnescape(encoded)
	if err != nil {
		return nil
	}
	var trust struct {
		Statement oneOrMore[struct {
			Effect    string
			Principal principal
		}]
	}
	if err := json.Unmarshal([]byte(text), &trust); err != nil {
		return nil
	}
	var out []string
	for _, s := range trust.Statement {
		for _, name := range s.Principal.Service {
			name = strings.TrimSuffix(strings.ToLower(name), ".cn")
			if s.Effect == "Allow" && slices.Contains(trusted, name) && !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// principal is who a trust policy names: "*", or by sort.
type principal struct{ Service oneOrMore[string] }

// UnmarshalJSON reads the services of an object, and nothing of a bare "*".
func (p *principal) UnmarshalJSON(b []byte) error {
	var sorts struct{ Service oneOrMore[string] }
	if len(b) > 0 && b[0] == '{' {
		if err := json.Unmarshal(b, &sorts); err != nil {
			return err
		}
	}
	p.Service = sorts.Service
	return nil
}

// oneOrMore is what IAM lets stand alone or in brackets.
type oneOrMore[T any] []T

// UnmarshalJSON reads one element or an array of them.
func (l *oneOrMore[T]) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]T)(l))
	}
	*l = make([]T, 1)
	return json.Unmarshal(b, &(*l)[0])
}

// document is a policy, or why it could not be read.
type document struct {
	policy *access.Document
	err    error
}

// inForce is the default version of a managed policy.
func inForce(p *policy) document {
	for _, v := range p.Versions {
		if v.Default {
			return read(v.Document)
		}
	}
	return document{err: fmt.Errorf("the answer has no default version of %s", p.Name)}
}

// read reads a policy document as IAM encodes it, by RFC 3986.
func read(encoded string) document {
	text, err := url.PathUnescape(encoded)
	if err != nil {
		return document{err: err}
	}
	d, err := access.Parse(text)
	return document{d, err}
}

// resource turns a role into its reduction.
func (d *driver) resource(r *role, managed map[string]document) inventory.Resource {
	out := inventory.Resource{
		Ref:  fleet.Ref{Place: d.place, Kind: inventory.KindRole, ID: r.Name},
		Name: r.Name, State: fleet.State{FieldARN: r.ARN}, Attrs: map[string]string{},
	}
	for _, t := range r.Tags {
		if out.Tags == nil {
			out.Tags = map[string]string{}
		}
		out.Tags[t.Key] = t.Value
	}
	out.Owner = kind.OwnerByTags(out.Tags)
	var profiles []string
	for _, p := range r.Profiles {
		profiles = append(profiles, p.Name)
	}
	slices.Sort(profiles)
	put(out.State, FieldProfiles, strings.Join(profiles, ","))
	put(out.State, FieldTrust, strings.Join(services(r.Trust), ","))
	put(out.State, FieldBoundary, r.Boundary)
	put(out.Attrs, inventory.AttrProfiles, strings.Join(profiles, ","))
	permissions, unread := permissionsOf(r, managed)
	put(out.Attrs, inventory.AttrAccessUnread, strings.Join(unread, "; "))
	describe(out.Attrs, access.Reduce(permissions))
	if r.Boundary != "" && permissions.Boundary == nil {
		put(out.Attrs, inventory.AttrAccessNarrowed, strings.TrimPrefix(out.Attrs[inventory.AttrAccessNarrowed]+
			"; all of it perhaps by the permissions boundary "+r.Boundary+", which could not be read", "; "))
	}
	return out
}

// permissionsOf gathers a role's policies, and names those that could not be read.
func permissionsOf(r *role, managed map[string]document) (out *access.Role, unread []string) {
	out = &access.Role{}
	add := func(name string, d document) {
		if d.err != nil {
			unread = append(unread, name+": "+d.err.Error())
			return
		}
		out.Policies = append(out.Policies, access.Policy{Name: name, Document: d.policy})
	}
	known := func(arn string) document {
		d, ok := managed[arn]
		if !ok {
			d.err = fmt.Errorf("the account's policies do not have it")
		}
		return d
	}
	for _, p := range r.Inline {
		add(p.Name, read(p.Document))
	}
	for _, p := range r.Attached {
		add(p.Name, known(p.ARN))
	}
	if r.Boundary != "" {
		name := r.Boundary[strings.LastIndexByte(r.Boundary, '/')+1:]
		if d := known(r.Boundary); d.err == nil {
			out.Boundary = &access.Policy{Name: name, Document: d.policy}
		} // else it may do as much as without, which is not less than it may
	}
	return out, unread
}

// describe puts a reduction into attributes.
func describe(attrs map[string]string, r access.Reduction) {
	attrs[inventory.AttrAccess] = string(r.Level)
	var narrowed []string
	if r.Admin != nil {
		if r.Admin.Grade == access.All {
			attrs[inventory.AttrAccessAdmin] = by(*r.Admin)
		} else {
			narrowed = append(narrowed, "everything, but "+limited(*r.Admin))
		}
	}
	for _, list := range []struct {
		attr string
		of   []access.Finding
	}{{inventory.AttrAccessEscalation, r.Escalations}, {inventory.AttrAccessData, r.Data}} {
		var texts []string
		for _, f := range list.of {
			if f.Grade == access.All {
				texts = append(texts, f.Name+" ("+by(f)+")")
			} else if len(narrowed) < most {
				narrowed = append(narrowed, f.Name+": "+limited(f))
			}
		}
		if n := len(texts) - most; n > 0 {
			texts = append(texts[:most], fmt.Sprintf("and %d more", n))
		}
		put(attrs, list.attr, strings.Join(texts, "; "))
	}
	put(attrs, inventory.AttrAccessNarrowed, strings.Join(narrowed, "; "))
}

// most is how many findings of a sort are kept: an administrator has all of them.
const most = 8

// by names the statements that allow a finding.
func by(f access.Finding) string {
	if len(f.By) > 3 {
		return strings.Join(f.By[:3], ", ") + " and others"
	}
	return strings.Join(f.By, ", ")
}

// limited says what narrows a finding.
func limited(f access.Finding) string {
	if len(f.Limits) > 2 {
		return strings.Join(f.Limits[:2], ", ") + " and others"
	}
	return strings.Join(f.Limits, ", ")
}

func put(m map[string]string, name, value string) {
	if value != "" {
		m[name] = value
	}
}
