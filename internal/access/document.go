// Package access reduces what an IAM role may do to what matters when its credentials get into the wrong hands: whether
// it administers the account, which data it reads or changes, on which paths it can give itself more, or whether it is
// narrow.
//
// It owns the reading of policy documents and the reduction. It is pure: the documents come as text, and nothing of them is
// kept but names of statements. It judges what identity policies and a permissions boundary allow; service control
// policies and the policies of resources are not looked at. Its rule of thumb: a further Allow never narrows, a further
// Deny never widens, and what cannot be understood is said, never taken for harmless.
package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Document is a parsed identity policy.
type Document struct{ statements []statement }

// statement is one statement. Action patterns are in lower case, because IAM does not tell cases apart in them.
type statement struct {
	name                    string // its Sid, or its number
	deny                    bool
	actions, notActions     []string
	resources, notResources []string
	// passedTo are the services that a condition on iam:PassedToService alone allows; nil where there is no such condition.
	passedTo []string
	// conditions are the keys of all other conditions, sorted.
	conditions []string
}

// mostDocument bounds a policy document, in bytes. IAM allows 10,240 characters for all inline policies of a role together and
// 6,144 for a managed one, without blanks; AWS's own are longer.
const mostDocument = 1 << 20

// Parse reads a policy document in JSON. A statement without an effect, action or resource is an error: it is no identity
// policy that IAM would have taken.
func Parse(text string) (*Document, error) {
	if len(text) > mostDocument {
		return nil, fmt.Errorf("a policy of %d bytes is longer than any that IAM keeps", len(text))
	}
	var raw struct {
		Statement list[rawStatement]
	}
	dec := json.NewDecoder(strings.NewReader(text))
	if err := dec.Decode(&raw); err != nil {
		return nil, fmt.Errorf("read a policy document: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("read a policy document: there is text after it")
	}
	if len(raw.Statement) == 0 {
		return nil, errors.New("a policy document has no statement")
	}
	d := &Document{}
	for i := range raw.Statement {
		s, err := raw.Statement[i].statement(i + 1)
		if err != nil {
			return nil, err
		}
		d.statements = append(d.statements, s)
	}
	return d, nil
}

// list is what IAM lets stand alone or in brackets.
type list[T any] []T

// UnmarshalJSON reads one element or an array of them.
func (l *list[T]) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("[")) {
		return json.Unmarshal(b, (*[]T)(l))
	}
	*l = make([]T, 1)
	return json.Unmarshal(b, &(*l)[0])
}

type rawStatement struct {
	Sid                     string
	Effect                  string
	Action, NotAction       list[string]
	Resource, NotResource   list[string]
	Condition               map[string]map[string]list[any]
	Principal, NotPrincipal json.RawMessage
}

func (r *rawStatement) statement(number int) (statement, error) {
	s := statement{
		name: r.Sid, deny: r.Effect == "Deny", actions: lower(r.Action), notActions: lower(r.NotAction),
		resources: complete(r.Resource), notResources: complete(r.NotResource),
	}
	if s.name == "" {
		s.name = fmt.Sprintf("#%d", number)
	}
	switch {
	case r.Effect != "Allow" && r.Effect != "Deny":
		return s, fmt.Errorf("statement %s has the effect %q, neither Allow nor Deny", s.name, r.Effect)
	case (len(s.actions) == 0) == (len(s.notActions) == 0):
		return s, fmt.Errorf("statement %s must have either Action or NotAction", s.name)
	case (len(s.resources) == 0) == (len(s.notResources) == 0):
		return s, fmt.Errorf("statement %s must have either Resource or NotResource", s.name)
	case r.Principal != nil || r.NotPrincipal != nil:
		return s, fmt.Errorf("statement %s names a principal: it is the policy of a resource, not of a role", s.name)
	}
	s.condition(r.Condition)
	return s, nil
}

// passedToKey is the condition key that says to which service a role may be passed.
const passedToKey = "iam:passedtoservice"

// condition keeps which keys a statement depends on. One on iam:PassedToService is understood, because it decides which paths
// iam:PassRole opens, as long as it is a comparison of equality; all others only narrow.
func (s *statement) condition(all map[string]map[string]list[any]) {
	for operator, keys := range all {
		for key, values := range keys {
			key = strings.ToLower(key)
			base, _ := strings.CutSuffix(operator, "IfExists")
			if _, inner, ok := strings.Cut(base, ":"); ok { // ForAnyValue:StringEquals
				base = inner
			}
			equality := base == "StringEquals" || base == "StringLike" || base == "StringEqualsIgnoreCase"
			if key != passedToKey || !equality || s.deny || s.passedTo != nil {
				s.conditions = append(s.conditions, key)
				continue
			}
			s.passedTo = []string{}
			for _, v := range values {
				if text, ok := v.(string); ok {
					s.passedTo = append(s.passedTo, strings.ToLower(text))
				}
			}
		}
	}
	slices.Sort(s.conditions)
	s.conditions = slices.Compact(s.conditions)
}

func lower(in []string) []string {
	out := make([]string, len(in))
	for i, v := range in {
		out[i] = strings.ToLower(v)
	}
	return out
}

// complete fills up ARNs of fewer than six fields with stars, as IAM does: "arn:aws:sqs" is all queues (IAM User Guide, "IAM JSON policy
// elements: Resource").
func complete(patterns []string) []string {
	out := slices.Clone(patterns)
	for i, p := range out {
		if missing := 5 - strings.Count(p, ":"); missing > 0 && strings.HasPrefix(p, "arn:") {
			out[i] = p + strings.Repeat(":*", missing)
		}
	}
	return out
}

// about is what a statement says of an action, given in lower case: without the resources of services that the action has nothing to do
// with. It is nil where nothing is left.
func (s *statement) about(action string) *statement {
	if !s.matches(action) {
		return nil
	}
	service, _, _ := strings.Cut(action, ":")
	foreign := func(pattern string) bool { return !concerns(pattern, service) }
	if !slices.ContainsFunc(s.resources, foreign) && !slices.ContainsFunc(s.notResources, foreign) {
		return s
	}
	out := *s
	out.resources = slices.DeleteFunc(slices.Clone(s.resources), foreign)
	out.notResources = slices.DeleteFunc(slices.Clone(s.notResources), foreign)
	switch {
	case len(out.resources)+len(out.notResources) > 0:
		return &out
	case len(s.notResources) > 0: // all but what is another service's anyway
		out.resources = []string{"*"}
		return &out
	}
	return nil
}

// matches tells whether a statement speaks of an action, given in lower case.
func (s *statement) matches(action string) bool {
	is := func(pattern string) bool { return like(pattern, action) }
	if len(s.notActions) > 0 {
		return !slices.ContainsFunc(s.notActions, is)
	}
	return slices.ContainsFunc(s.actions, is)
}

// passes tells whether a condition on iam:PassedToService, if there is one, lets a role be passed to the service. Some of China's
// services have names that end in ".cn".
func (s *statement) passes(service string) bool {
	return s.passedTo == nil || service == "" || slices.ContainsFunc(s.passedTo, func(p string) bool {
		return like(strings.TrimSuffix(p, ".cn"), service)
	})
}
