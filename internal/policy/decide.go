package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Reason says which part of the configuration decided, so that every decision can be explained.
type Reason struct {
	// Rule is the deciding rule in words: "account 111122223333 says so", "rule 2 (OU Workloads/Prod)", "default".
	Rule string `json:"rule"`
	// Where is the rule's position in the file, empty for a default.
	Where string `json:"where,omitempty"`
}

// String gives "rule (where)".
func (r Reason) String() string {
	if r.Where == "" {
		return r.Rule
	}
	return r.Rule + " at " + r.Where
}

// AccountOf is the file's entry for an account.
func (c *Config) AccountOf(id fleet.AccountID) (Account, bool) {
	i := slices.IndexFunc(c.Accounts, func(a Account) bool { return a.ID == id })
	if i < 0 {
		return Account{}, false
	}
	return c.Accounts[i], true
}

// Known lays what the file says of an account over what AWS says: a name in the file wins, tags are merged and the
// file's win.
func (c *Config) Known(a AccountFacts) AccountFacts {
	entry, ok := c.AccountOf(a.ID)
	if !ok {
		return a
	}
	if entry.Name != "" {
		a.Name = entry.Name
	}
	if len(entry.Tags) > 0 {
		tags := maps.Clone(a.Tags)
		if tags == nil {
			tags = map[string]string{}
		}
		maps.Copy(tags, entry.Tags)
		a.Tags = tags
	}
	return a
}

// Resolve grades an account, and says what decided: its own entry, else the first rule that matches, else the default.
func (c *Config) Resolve(a AccountFacts) (Criticality, Reason) {
	a = c.Known(a)
	if entry, ok := c.AccountOf(a.ID); ok && entry.Criticality != "" {
		return entry.Criticality, Reason{fmt.Sprintf("account %s says so", a.ID), entry.Where}
	}
	for i, r := range c.Criticality.Rules {
		if r.Match.Matches(a) {
			return r.Value, Reason{fmt.Sprintf("rule %d (%s)", i+1, r.Match), r.Where}
		}
	}
	return c.Criticality.Default, Reason{Rule: "default"}
}

// Placement is the wave an account goes in.
type Placement struct {
	// Index is the wave's position in Config.Waves.
	Index       int
	Criticality Criticality
	Reason      Reason
}

// WaveOf finds the account's wave: the one that lists it, else the one that takes its criticality. A parsed
// configuration places every account; one put together in code that does not gets an error, a fleet.Diagnostic.
func (c *Config) WaveOf(a AccountFacts) (Placement, error) {
	grade, why := c.Resolve(a)
	for i, w := range c.Waves {
		if slices.Contains(w.Accounts, a.ID) {
			return Placement{i, grade, Reason{fmt.Sprintf("wave %q lists the account", w.Name), w.Where}}, nil
		}
	}
	for i, w := range c.Waves {
		if slices.Contains(w.Criticality, grade) {
			rule := fmt.Sprintf("wave %q takes criticality %s, decided by %s", w.Name, grade, why.Rule)
			return Placement{i, grade, Reason{rule, w.Where}}, nil
		}
	}
	return Placement{}, fleet.Diagnostic{
		Severity: fleet.SeverityError, Where: string(a.ID),
		Summary: fmt.Sprintf("no wave takes the account, whose criticality is %s", grade),
		Remedy:  fmt.Sprintf("Add %s to the criticality of a wave, or the account to its accounts.", grade),
	}
}

// Skipped tells whether the file leaves an account out, and why.
func (c *Config) Skipped(id fleet.AccountID) (Reason, bool) {
	entry, ok := c.AccountOf(id)
	if !ok || entry.Skip == "" {
		return Reason{}, false
	}
	return Reason{entry.Skip, entry.Where}, true
}

// SelectRegions chooses among the regions an account has enabled, keeping their order. disabled holds the regions that
// the file asks for by name and the account has not enabled: a gap that needs attention, never silently left out.
func (c *Config) SelectRegions(enabled []fleet.Region) (use, disabled []fleet.Region) {
	o := c.Organization
	for _, r := range enabled {
		if (len(o.Regions) == 0 || slices.Contains(o.Regions, r)) && !slices.Contains(o.ExcludeRegions, r) {
			use = append(use, r)
		}
	}
	for _, r := range o.Regions {
		if !slices.Contains(enabled, r) {
			disabled = append(disabled, r)
		}
	}
	return use, disabled
}

// ReadARN is the role that reads in an account, "" for the credentials themselves.
func (o Organization) ReadARN(p fleet.Partition, a fleet.AccountID) string {
	return roleARN(o.Role.Read, p, a)
}

// WriteARN is the role that writes in an account, "" for the credentials themselves.
func (o Organization) WriteARN(p fleet.Partition, a fleet.AccountID) string {
	return roleARN(o.Role.Write, p, a)
}

func roleARN(role string, p fleet.Partition, a fleet.AccountID) string {
	switch {
	case role == "":
		return ""
	case strings.HasPrefix(role, "arn:"):
		return strings.ReplaceAll(role, accountPlaceholder, string(a))
	default:
		return fmt.Sprintf("arn:%s:iam::%s:role/%s", p, a, role)
	}
}

// ExceptionState tells whether an exception still holds.
type ExceptionState string

// States of an exception.
const (
	// ExceptionActive: the resource is exempt, and is not written.
	ExceptionActive ExceptionState = "active"
	// ExceptionExpired: the resource is blocked until a person renews or removes the exception.
	ExceptionExpired ExceptionState = "expired"
)

// StateAt tells whether the exception holds at an instant: it does through the end of its last day, UTC.
func (e Exception) StateAt(now time.Time) ExceptionState {
	if now.Before(e.Expires.End()) {
		return ExceptionActive
	}
	return ExceptionExpired
}

// Exempt finds the exception of a resource: the first active one that matches, else the first expired one.
func (c *Config) Exempt(r ResourceFacts, now time.Time) (Exception, ExceptionState, bool) {
	var expired *Exception
	for i := range c.Exceptions {
		e := &c.Exceptions[i]
		if !e.Match.Matches(r) {
			continue
		}
		if e.StateAt(now) == ExceptionActive {
			return *e, ExceptionActive, true
		}
		if expired == nil {
			expired = e
		}
	}
	if expired == nil {
		return Exception{}, "", false
	}
	return *expired, ExceptionExpired, true
}

// Expired warns of every exception that no longer holds.
func (c *Config) Expired(now time.Time) []fleet.Diagnostic {
	var out []fleet.Diagnostic
	for _, e := range c.Exceptions {
		if e.StateAt(now) != ExceptionExpired {
			continue
		}
		out = append(out, fleet.Diagnostic{
			Severity: fleet.SeverityWarning, Where: e.ExpiresAt,
			Summary: fmt.Sprintf("the exception of %s for %s expired at the end of %s (UTC)",
				e.Owner, e.Match, e.Expires),
			Remedy: "Set a later date in `expires`, or remove the exception; until then its resources are blocked.",
		})
	}
	return out
}

// OverrideFor finds the first override that matches a resource.
func (c *Config) OverrideFor(r ResourceFacts) (Override, bool) {
	i := slices.IndexFunc(c.Overrides, func(o Override) bool { return o.Match.Matches(r) })
	if i < 0 {
		return Override{}, false
	}
	return c.Overrides[i], true
}

// HopLimitFor chooses a resource's hop limit, KeepHopLimit for the one it has: the first rule that matches, else the
// default.
func (c *Config) HopLimitFor(r ResourceFacts) (int, Reason) {
	for i, rule := range c.HopLimit.Rules {
		if rule.Match.Matches(r) {
			return rule.Value, Reason{fmt.Sprintf("rule %d (%s)", i+1, rule.Match), rule.Where}
		}
	}
	return c.HopLimit.Default, Reason{Rule: "default"}
}

// For is how long a step bakes in an account of the given criticality; one that is not known bakes like a critical one.
func (b Bake) For(c Criticality) time.Duration {
	switch c {
	case Low:
		return b.Low
	case Medium:
		return b.Medium
	case High:
		return b.High
	default:
		return b.Critical
	}
}

// TagCloudFormationStack is the tag CloudFormation puts on what it creates.
const TagCloudFormationStack = "aws:cloudformation:stack-name"

// KeyOf names the stack, within its account and region, of an instance that belongs to no Auto Scaling group: its
// CloudFormation stack, else the value of the chosen tag, else the instance by itself.
func (s Stack) KeyOf(r ResourceFacts) (string, Reason) {
	if v := r.Tags[TagCloudFormationStack]; s.CloudFormation && v != "" {
		return "cloudformation/" + v, Reason{Rule: "tag " + TagCloudFormationStack}
	}
	if v := r.Tags[s.Tag]; s.Tag != "" && v != "" {
		return "tag/" + s.Tag + "=" + v, Reason{Rule: "tag " + s.Tag}
	}
	return "instance/" + r.Ref.ID, Reason{Rule: "an instance by itself"}
}

// OwnHost tells whether imdsctl runs on the instance, which is then changed last.
func (c *Config) OwnHost(instanceID string) bool { return slices.Contains(c.OwnHosts, instanceID) }
