// Package authz evaluates IAM policies as AWS documents it: an explicit deny wins, then an allow, else the call is
// implicitly denied. It reads policy documents (identity, trust and service control policies) and decides single
// requests.
//
// It knows no account, no clock and no network; the simulator gathers the request context and asks. A document that
// uses an element or operator which is not understood is refused when it is parsed, never ignored: an ignored condition
// would make the simulator more permissive than AWS.
package authz

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Policy is a parsed policy document.
type Policy struct {
	Statements []Statement
	source     string
}

// Source is the document as it was given.
func (p *Policy) Source() string { return p.source }

// Statement is one statement of a policy.
type Statement struct {
	Sid           string
	Deny          bool
	Actions       []string
	NotActions    []string
	Resources     []string
	NotResources  []string
	Principals    []Principal // trust policies only
	NotPrincipals []Principal
	Conditions    []Condition
}

// Principal names who a trust statement speaks of: Kind is "AWS", "Service", "Federated", or "*" for anybody.
type Principal struct{ Kind, ID string }

// Condition is one operator applied to one key.
type Condition struct {
	Operator  string // "StringEquals", without prefix and suffix
	Key       string // lower-cased; condition keys are case-insensitive
	Values    []string
	IfExists  bool
	Qualifier string // "", "ForAnyValue" or "ForAllValues"
}

// Request is one call to be decided.
type Request struct {
	Action   string // "ec2:DescribeInstances"
	Resource string // an ARN, or "*" for actions without resources
	// Context holds condition keys, lower-cased, and their values.
	Context map[string][]string
	// Principal is who calls, for trust policies: the ARNs and ids that a Principal element may name.
	Principal Caller
}

// Caller is what a Principal element is compared with.
type Caller struct {
	Account string
	// ARNs are the caller's own ARN and, for a session, its role's.
	ARNs    []string
	Service string
}

// Decision is the result of an evaluation.
type Decision int

// The decisions.
const (
	ImplicitDeny Decision = iota
	Allow
	ExplicitDeny
)

func (d Decision) String() string {
	return [...]string{"implicit deny", "allow", "explicit deny"}[d]
}

// Evaluate decides a request against policies that hold together, such as all policies of one role.
func Evaluate(policies []*Policy, req Request) Decision {
	decision := ImplicitDeny
	for _, p := range policies {
		for i := range p.Statements {
			s := &p.Statements[i]
			if !s.matches(req) {
				continue
			}
			if s.Deny {
				return ExplicitDeny
			}
			decision = Allow
		}
	}
	return decision
}

func (s *Statement) matches(req Request) bool {
	return s.matchesAction(req.Action) && s.matchesResource(req) && s.matchesPrincipal(req.Principal) &&
		!slices.ContainsFunc(s.Conditions, func(c Condition) bool { return !c.holds(req.Context) })
}

func (s *Statement) matchesAction(action string) bool {
	match := func(pattern string) bool { return Like(strings.ToLower(pattern), strings.ToLower(action)) }
	if len(s.NotActions) > 0 {
		return !slices.ContainsFunc(s.NotActions, match)
	}
	return slices.ContainsFunc(s.Actions, match)
}

func (s *Statement) matchesResource(req Request) bool {
	match := func(pattern string) bool { return Like(expand(pattern, req.Context), req.Resource) }
	switch {
	case len(s.NotResources) > 0:
		return !slices.ContainsFunc(s.NotResources, match)
	case len(s.Resources) > 0:
		return slices.ContainsFunc(s.Resources, match)
	}
	return true // a trust policy has no resource
}

func (s *Statement) matchesPrincipal(c Caller) bool {
	if len(s.NotPrincipals) > 0 {
		return !slices.ContainsFunc(s.NotPrincipals, c.is)
	}
	if len(s.Principals) > 0 {
		return slices.ContainsFunc(s.Principals, c.is)
	}
	return true // an identity policy has no principal
}

func (c Caller) is(p Principal) bool {
	switch p.Kind {
	case "*":
		return true
	case "Service":
		return c.Service != "" && p.ID == c.Service
	case "AWS":
		if p.ID == "*" || p.ID == c.Account && c.Account != "" {
			return true
		}
		// An account's root stands for the whole account.
		if rest, ok := strings.CutSuffix(p.ID, ":root"); ok && strings.HasSuffix(rest, "::"+c.Account) && c.Account != "" {
			return true
		}
		return slices.Contains(c.ARNs, p.ID)
	}
	return false
}

// expand replaces policy variables such as ${aws:PrincipalAccount}; an unknown variable never matches anything.
func expand(pattern string, context map[string][]string) string {
	if !strings.Contains(pattern, "${") {
		return pattern
	}
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(pattern, "${")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok {
			return b.String() + "${" + rest
		}
		switch values := context[strings.ToLower(name)]; {
		case name == "*" || name == "?" || name == "$":
			b.WriteString(name)
		case len(values) == 1:
			b.WriteString(values[0])
		default:
			b.WriteString("\x00")
		}
		pattern = after
	}
}

// Like matches s against a pattern in which * is any run of characters and ? any one.
func Like(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// holds follows the documented order: Null looks at presence; an absent key satisfies ...IfExists, ForAllValues and the
// negated operators, and nothing else.
func (c Condition) holds(context map[string][]string) bool {
	have := context[c.Key]
	if c.Operator == "Null" {
		want := len(have) == 0
		return slices.ContainsFunc(c.Values, func(v string) bool { return strings.EqualFold(v, strconv.FormatBool(want)) })
	}
	op := operators[c.Operator]
	if len(have) == 0 {
		return c.IfExists || c.Qualifier == "ForAllValues" || op.negated && c.Qualifier == ""
	}
	one := func(value string) bool {
		any := slices.ContainsFunc(c.Values, func(want string) bool { return op.match(value, expand(want, context)) })
		return any != op.negated
	}
	switch {
	case c.Qualifier == "ForAllValues":
		return !slices.ContainsFunc(have, func(v string) bool { return !one(v) })
	case c.Qualifier == "ForAnyValue" || !op.negated:
		return slices.ContainsFunc(have, one)
	default:
		return !slices.ContainsFunc(have, func(v string) bool { return !one(v) })
	}
}

type operator struct {
	negated bool
	match   func(have, want string) bool
	check   func(want string) error
}

// operators is the table of condition operators: a negated one holds when its positive holds for no value.
var operators = func() map[string]operator {
	equal := func(a, b string) bool { return a == b }
	like := func(have, want string) bool { return Like(want, have) }
	arn := func(have, want string) bool { return arnLike(want, have) }
	m := map[string]operator{
		"Null":                      {match: equal, check: isBool},
		"StringEquals":              {match: equal},
		"StringNotEquals":           {match: equal, negated: true},
		"StringEqualsIgnoreCase":    {match: strings.EqualFold},
		"StringNotEqualsIgnoreCase": {match: strings.EqualFold, negated: true},
		"StringLike":                {match: like},
		"StringNotLike":             {match: like, negated: true},
		"ArnEquals":                 {match: arn},
		"ArnLike":                   {match: arn},
		"ArnNotEquals":              {match: arn, negated: true},
		"ArnNotLike":                {match: arn, negated: true},
		"Bool":                      {match: strings.EqualFold, check: isBool},
		"IpAddress":                 {match: inNetwork, check: isNetwork},
		"NotIpAddress":              {match: inNetwork, negated: true, check: isNetwork},
		"BinaryEquals":              {match: equal},
	}
	for suffix, holds := range map[string]func(sign int) bool{
		"Equals":            func(s int) bool { return s == 0 },
		"LessThan":          func(s int) bool { return s < 0 },
		"LessThanEquals":    func(s int) bool { return s <= 0 },
		"GreaterThan":       func(s int) bool { return s > 0 },
		"GreaterThanEquals": func(s int) bool { return s >= 0 },
	} {
		m["Numeric"+suffix] = operator{match: ordered(compareNumbers, holds), check: isNumber}
		m["Date"+suffix] = operator{match: ordered(compareDates, holds), check: isDate}
	}
	zero := func(s int) bool { return s == 0 }
	m["NumericNotEquals"] = operator{match: ordered(compareNumbers, zero), negated: true, check: isNumber}
	m["DateNotEquals"] = operator{match: ordered(compareDates, zero), negated: true, check: isDate}
	return m
}()

func ordered(compare func(a, b string) (int, bool), holds func(int) bool) func(have, want string) bool {
	return func(have, want string) bool {
		sign, ok := compare(have, want)
		return ok && holds(sign)
	}
}

func compareNumbers(a, b string) (int, bool) {
	x, err1 := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	switch {
	case err1 != nil || err2 != nil:
		return 0, false
	case x < y:
		return -1, true
	case x > y:
		return 1, true
	}
	return 0, true
}

func compareDates(a, b string) (int, bool) {
	x, err1 := parseDate(a)
	y, err2 := parseDate(b)
	return x.Compare(y), err1 == nil && err2 == nil
}

func parseDate(s string) (time.Time, error) {
	if sec, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(sec, 0), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	return time.Parse(time.DateOnly, s)
}

// arnLike compares the six parts of an ARN one by one, so that a * does not cross a colon before the resource.
func arnLike(pattern, s string) bool {
	p, a := strings.SplitN(pattern, ":", 6), strings.SplitN(s, ":", 6)
	if len(p) != 6 || len(a) != 6 {
		return pattern == "*"
	}
	for i := range p {
		if !Like(p[i], a[i]) {
			return false
		}
	}
	return true
}

func inNetwork(have, want string) bool {
	addr, err := netip.ParseAddr(have)
	if err != nil {
		return false
	}
	network, err := parseNetwork(want)
	return err == nil && network.Contains(addr)
}

func parseNetwork(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

func isBool(s string) error {
	if !strings.EqualFold(s, "true") && !strings.EqualFold(s, "false") {
		return fmt.Errorf("%q is neither true nor false", s)
	}
	return nil
}

func isNumber(s string) error {
	if _, err := strconv.ParseFloat(s, 64); err != nil {
		return fmt.Errorf("%q is not a number", s)
	}
	return nil
}

func isDate(s string) error {
	_, err := parseDate(s)
	return err
}

func isNetwork(s string) error {
	_, err := parseNetwork(s)
	return err
}

// Parse reads a policy document. What it does not understand it refuses, naming the statement.
func Parse(document string) (*Policy, error) {
	var doc struct {
		Version   string
		ID        string `json:"Id"`
		Statement json.RawMessage
	}
	if err := strict([]byte(document), &doc); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	switch doc.Version {
	case "2012-10-17", "2008-10-17", "":
	default:
		return nil, fmt.Errorf("policy: version %q: want 2012-10-17", doc.Version)
	}
	raw := []json.RawMessage{doc.Statement}
	if bytes.HasPrefix(bytes.TrimSpace(doc.Statement), []byte("[")) {
		if err := json.Unmarshal(doc.Statement, &raw); err != nil {
			return nil, fmt.Errorf("policy: Statement: %w", err)
		}
	}
	p := &Policy{source: document}
	for i, r := range raw {
		s, err := parseStatement(r)
		if err != nil {
			return nil, fmt.Errorf("policy: Statement[%d]: %w", i, err)
		}
		p.Statements = append(p.Statements, s)
	}
	return p, nil
}

func parseStatement(raw json.RawMessage) (Statement, error) {
	var doc struct {
		Sid, Effect                              string
		Action, NotAction, Resource, NotResource oneOrMany
		Principal, NotPrincipal                  json.RawMessage
		Condition                                map[string]map[string]oneOrMany
	}
	if len(raw) == 0 {
		return Statement{}, fmt.Errorf("is missing")
	}
	if err := strict(raw, &doc); err != nil {
		return Statement{}, err
	}
	s := Statement{
		Sid: doc.Sid, Deny: doc.Effect == "Deny", Actions: doc.Action, NotActions: doc.NotAction,
		Resources: doc.Resource, NotResources: doc.NotResource,
	}
	switch {
	case doc.Effect != "Allow" && doc.Effect != "Deny":
		return s, fmt.Errorf("effect %q: want Allow or Deny", doc.Effect)
	case (len(s.Actions) == 0) == (len(s.NotActions) == 0):
		return s, fmt.Errorf("want exactly one of Action and NotAction")
	case len(s.Resources) > 0 && len(s.NotResources) > 0:
		return s, fmt.Errorf("has both Resource and NotResource")
	}
	var err error
	if s.Principals, err = parsePrincipals(doc.Principal); err != nil {
		return s, err
	}
	if s.NotPrincipals, err = parsePrincipals(doc.NotPrincipal); err != nil {
		return s, err
	}
	if len(s.Resources)+len(s.NotResources) == 0 && len(s.Principals)+len(s.NotPrincipals) == 0 {
		return s, fmt.Errorf("has neither Resource nor Principal")
	}
	s.Conditions, err = parseConditions(doc.Condition)
	return s, err
}

func parsePrincipals(raw json.RawMessage) ([]Principal, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var any string
	if json.Unmarshal(raw, &any) == nil {
		if any != "*" {
			return nil, fmt.Errorf("principal %q: want * or an object", any)
		}
		return []Principal{{Kind: "*"}}, nil
	}
	var kinds map[string]oneOrMany
	if err := json.Unmarshal(raw, &kinds); err != nil {
		return nil, fmt.Errorf("principal: %w", err)
	}
	var out []Principal
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		if !slices.Contains([]string{"AWS", "Service", "Federated", "CanonicalUser"}, kind) {
			return nil, fmt.Errorf("principal of kind %q is not known", kind)
		}
		for _, id := range kinds[kind] {
			out = append(out, Principal{Kind: kind, ID: id})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("principal is empty")
	}
	return out, nil
}

func parseConditions(doc map[string]map[string]oneOrMany) ([]Condition, error) {
	var out []Condition
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		c := Condition{Operator: name}
		for _, q := range []string{"ForAnyValue", "ForAllValues"} {
			if rest, ok := strings.CutPrefix(c.Operator, q+":"); ok {
				c.Qualifier, c.Operator = q, rest
			}
		}
		c.Operator, c.IfExists = strings.CutSuffix(c.Operator, "IfExists")
		op, ok := operators[c.Operator]
		if !ok {
			return nil, fmt.Errorf("condition operator %q is not known", name)
		}
		for _, key := range slices.Sorted(maps.Keys(doc[name])) {
			values := doc[name][key]
			if len(values) == 0 {
				return nil, fmt.Errorf("condition %s %s has no values", name, key)
			}
			for _, v := range values {
				if op.check == nil || strings.Contains(v, "${") {
					continue
				}
				if err := op.check(v); err != nil {
					return nil, fmt.Errorf("condition %s %s: %w", name, key, err)
				}
			}
			one := c
			one.Key, one.Values = strings.ToLower(key), values
			out = append(out, one)
		}
	}
	return out, nil
}

// oneOrMany is a JSON scalar or a list of scalars, as policies allow nearly everywhere.
type oneOrMany []string

func (o *oneOrMany) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return err
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	for _, e := range list {
		switch x := e.(type) {
		case string:
			*o = append(*o, x)
		case bool:
			*o = append(*o, strconv.FormatBool(x))
		case json.Number:
			*o = append(*o, x.String())
		default:
			return fmt.Errorf("%s: want text or a list of text", b)
		}
	}
	return nil
}

func strict(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("more than one document")
	}
	return nil
}
