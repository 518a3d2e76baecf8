// Package roles derives the IAM roles that imdsctl works with from what the kinds declare, and writes them as a
// CloudFormation template, as Terraform and as JSON.
//
// It owns which permissions there are, and why: the read role may look, the write role may do what a plan does, read
// again what it writes, and nothing else, and the organization role may list accounts. A permission that no kind
// declares and no gate needs is not printed. The package prints; it creates nothing and calls nothing.
package roles

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// Access says what a role is for.
type Access string

// The roles.
const (
	// Read is for scan, why and doctor, and for the gates of a rollout.
	Read Access = "read"
	// Write is for apply.
	Write Access = "write"
	// Organization is for the list of accounts; it belongs to the management account or a delegated administrator.
	Organization Access = "organization"
)

// Role is one IAM role before it is written in anybody's format.
type Role struct {
	Access      Access
	Name        string
	Path        string // "/" where the name has none
	Description string
	Statements  []Statement
}

// Statement allows actions. Resources are ARN patterns with {partition}, {region} and {account}, or "*".
type Statement struct {
	Sid        string
	Actions    []string
	Resources  []string
	Conditions []Condition
}

// Condition narrows a statement; a value may hold {partition}, {region} and {account}.
type Condition struct {
	Operator, Key string
	Values        []string
}

// Options say whom the roles trust and how they are called.
type Options struct {
	// Principal is who may assume the roles: an account id, or the ARN of a role or user. Empty leaves it to a parameter.
	Principal string
	// ExternalID is asked for by the trust policy; empty leaves it to a parameter.
	ExternalID string
	// Partition is used by the JSON format; the others find it out where they are applied.
	Partition fleet.Partition
	// Names are role names, with a path if they have one, by access.
	Names map[Access]string
	// FollowUps are the calls of the configuration's follow-ups, which the write role gets besides what a plan takes.
	FollowUps []kind.Action
	// Owners are the calls by which a scan learns which code manages what, which the read role gets.
	Owners []kind.Action
	// Trail are the calls by which CloudTrail's events are read, which the read role gets.
	Trail []kind.Action
	// Management: the roles are those of the account that manages the organization, which also hold what is done to the
	// organization itself.
	Management bool
	// MaxSession is the longest session; an hour if zero.
	MaxSession time.Duration
}

var (
	principalPattern = regexp.MustCompile(`^([0-9]{12}|arn:(aws|aws-cn|aws-us-gov):iam::[0-9]{12}:(root|(role|user)/[\w+=,.@/-]+))$`)
	externalPattern  = regexp.MustCompile(`^[\w+=,.@:/-]+$`)
	namePattern      = regexp.MustCompile(`^/?([\w+=,.@-]+/)*[\w+=,.@-]{1,64}$`)
)

// Validate reports what IAM would refuse, as a fleet.Diagnostic.
func (o Options) Validate() error {
	bad := func(where, summary, remedy string) error {
		return fleet.Diagnostic{Severity: fleet.SeverityError, Where: where, Summary: summary, Remedy: remedy}
	}
	if o.Principal != "" && !principalPattern.MatchString(o.Principal) {
		return bad("--principal", fmt.Sprintf("%q is neither an account id nor the ARN of a role or user", o.Principal),
			"Give twelve digits, or an ARN such as arn:aws:iam::111122223333:role/imdsctl.")
	}
	if n := len(o.ExternalID); n > 0 && (n < 2 || n > 1224 || !externalPattern.MatchString(o.ExternalID)) {
		return bad("--external-id", fmt.Sprintf("%q is not an external id that STS takes", o.ExternalID),
			"Give 2 to 1224 letters, digits and +=,.@:/-_.")
	}
	for _, a := range slices.Sorted(maps.Keys(o.Names)) {
		if n := o.Names[a]; n != "" && !namePattern.MatchString(n) {
			return bad("--"+string(a)+"-name", fmt.Sprintf("%q is not a role name that IAM takes", n),
				"Give up to 64 letters, digits and +=,.@-_, after a path if you use one.")
		}
	}
	if o.MaxSession != 0 && (o.MaxSession < time.Hour || o.MaxSession > 12*time.Hour) {
		return bad("organization.role.duration", fmt.Sprintf("a session of %s", o.MaxSession),
			"IAM roles allow sessions of up to 1 to 12 hours.")
	}
	return nil
}

// Build makes the asked roles, in the order read, write, organization.
func Build(kinds []kind.Kind, o Options, access ...Access) ([]Role, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if !o.Management {
		kinds = slices.DeleteFunc(slices.Clone(kinds), func(k kind.Kind) bool { return k.Lives == kind.Organization })
	}
	var out []Role
	for _, a := range []Access{Read, Write, Organization} {
		if !slices.Contains(access, a) {
			continue
		}
		r := Role{Access: a, Path: "/", Name: cmp.Or(o.Names[a], "imdsctl-"+string(a))}
		if i := strings.LastIndex(r.Name, "/"); i >= 0 {
			r.Path, r.Name = "/"+strings.Trim(r.Name[:i], "/")+"/", r.Name[i+1:]
			if r.Path == "//" {
				r.Path = "/"
			}
		}
		switch a {
		case Read:
			r.Description, r.Statements = "imdsctl: reads metadata settings and who uses them", readStatements(kinds, o)
		case Write:
			r.Description, r.Statements = "imdsctl: carries out approved plans", writeStatements(kinds, o.FollowUps)
		case Organization:
			r.Description, r.Statements = "imdsctl: lists the accounts of the organization", organizationStatements()
		}
		if err := r.fits(); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// readStatements is what looking takes: the kinds' reads, the regions, the evidence, and the gates of a rollout,
// which are read as this role too.
func readStatements(kinds []kind.Kind, o Options) []Statement {
	b := statements{}
	b.allow("Regions", "*", "ec2:DescribeRegions")
	b.allow("Evidence", "*", "cloudwatch:GetMetricData")
	b.allow("Gates", "*", gateReads()...)
	for _, k := range kinds {
		for _, a := range k.Reads {
			if !a.ToWrite {
				b.action("Read"+camel(k.Name), a)
			}
		}
	}
	for _, a := range o.Owners {
		b.action("ReadOwners", a)
	}
	for _, a := range o.Trail {
		b.action("ReadTrail", a)
	}
	return b.merged("Read")
}

// gateReads is what package gates calls, besides the instances and groups that kinds read too, and the evidence. AWS
// offers no narrower resource for any of it (service authorization reference of each service).
func gateReads() []string {
	return []string{
		"autoscaling:DescribeAutoScalingGroups", "cloudwatch:DescribeAlarms",
		"ec2:DescribeInstanceStatus", "ec2:DescribeInstances", "elasticloadbalancing:DescribeTargetGroups",
		"elasticloadbalancing:DescribeTargetHealth",
	}
}

// writeStatements is what an apply writes, with the reads before and after each write, and the follow-ups.
func writeStatements(kinds []kind.Kind, followUps []kind.Action) []Statement {
	b := statements{}
	for _, k := range kinds {
		for _, a := range k.Reads {
			if calledByVerb(k, a.Name) {
				b.action("Read"+camel(k.Name), a)
			}
		}
	}
	starts := statements{} // one for each action, with all it may be done to
	for _, a := range followUps {
		i := slices.IndexFunc(starts, func(s Statement) bool { return s.Actions[0] == a.Name })
		switch {
		case cmp.Or(a.Resource, "*") == "*":
			b.action("ReadFollowUps", a)
		case i < 0:
			starts.action("FollowUps", a)
		default:
			starts[i].Resources = append(starts[i].Resources, a.Resource)
		}
	}
	reads := b.merged("ReadAgain")
	w := statements{}
	for _, k := range kinds {
		for _, a := range k.Writes {
			w.action("Write"+camel(k.Name), a)
		}
	}
	return slices.Concat(reads, w.merged(""), starts.merged(""))
}

func organizationStatements() []Statement {
	return []Statement{{
		Sid: "ListAccounts",
		Actions: []string{
			"organizations:DescribeOrganization", "organizations:DescribeOrganizationalUnit", "organizations:ListAccounts",
			"organizations:ListParents", "organizations:ListTagsForResource",
		},
		Resources: []string{"*"},
	}}
}

// calledByVerb tells whether a write makes the read, or what is asked before it: most re-read what they change, some of
// a scan's reads nobody repeats.
func calledByVerb(k kind.Kind, action string) bool {
	return slices.ContainsFunc(k.Verbs, func(v kind.Verb) bool { return v.Calls[action] > 0 || v.Checks[action] > 0 })
}

// statements collects permissions, one row each.
type statements []Statement

func (b *statements) allow(sid, resource string, actions ...string) {
	for _, a := range actions {
		*b = append(*b, Statement{Sid: sid, Actions: []string{a}, Resources: []string{resource}})
	}
}

// action allows what a kind declares, and what AWS checks in the same call.
func (b *statements) action(sid string, a kind.Action) {
	b.allow(sid, cmp.Or(a.Resource, "*"), a.Name)
	for _, dependent := range a.With {
		*b = append(*b, narrowed(sid, dependent))
	}
}

// narrowed is a permission that AWS checks on the way, limited as far as AWS offers it. The keys are those of the
// service authorization reference for EC2, IAM, SNS, Resource Groups and Systems Manager.
func narrowed(sid, action string) Statement {
	s := Statement{Sid: sid, Actions: []string{action}, Resources: []string{"*"}}
	switch action {
	case "iam:PassRole":
		s.Sid, s.Resources = "PassInstanceRoles", []string{"arn:{partition}:iam::{account}:role/*"}
		s.Conditions = []Condition{{"StringEquals", "iam:PassedToService",
			[]string{"ec2.amazonaws.com", "ec2.amazonaws.com.cn"}}}
	case "ec2:RunInstances":
		s.Sid = "LaunchFromTemplates"
		s.Conditions = []Condition{{"ArnLike", "ec2:LaunchTemplate",
			[]string{"arn:{partition}:ec2:*:{account}:launch-template/*"}}}
	case "ec2:CreateTags":
		s.Sid, s.Resources = "TagAtCreation", []string{"arn:{partition}:ec2:*:{account}:*/*"}
		s.Conditions = []Condition{{"StringEquals", "ec2:CreateAction", []string{"CreateLaunchTemplate", "RunInstances"}}}
	case "sns:Publish":
		s.Sid, s.Resources = "NameTopics", []string{"arn:{partition}:sns:*:{account}:*"}
	case "resource-groups:GetGroup":
		s.Sid, s.Resources = "NameHostGroups", []string{"arn:{partition}:resource-groups:*:{account}:group/*"}
	case "ssm:GetParameters":
		s.Sid, s.Resources = "ReadImageParameters", []string{"arn:{partition}:ssm:*:*:parameter/*"}
	}
	return s
}

// merged joins rows that allow on the same resources under the same conditions. Rows on "*" without a condition get the
// name open; the others keep that of their first.
func (b statements) merged(open string) []Statement {
	var out []Statement
	at := map[string]int{}
	for _, s := range b {
		key := fmt.Sprint(s.Resources, s.Conditions)
		i, ok := at[key]
		if !ok {
			i = len(out)
			at[key] = i
			if open != "" && len(s.Conditions) == 0 && s.Resources[0] == "*" {
				s.Sid = open
			}
			out = append(out, Statement{Sid: s.Sid, Resources: s.Resources, Conditions: s.Conditions})
		}
		out[i].Actions = append(out[i].Actions, s.Actions...)
	}
	used := map[string]int{}
	for i := range out {
		slices.Sort(out[i].Actions)
		out[i].Actions = slices.Compact(out[i].Actions)
		used[out[i].Sid]++
		if n := used[out[i].Sid]; n > 1 {
			out[i].Sid = fmt.Sprintf("%s%d", out[i].Sid, n)
		}
	}
	return out
}

// camel turns "launch-template" into "LaunchTemplate": a Sid has letters and digits only.
func camel(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "-") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}

// fill puts names into a pattern. A role is good for all regions.
func fill(pattern, partition, account string) string {
	return strings.NewReplacer("{partition}", partition, "{region}", "*", "{account}", account).Replace(pattern)
}

// NameOf gives the name, with its path, of a role that a configuration names by name or by ARN.
func NameOf(role string) string {
	if _, name, ok := strings.Cut(role, ":role/"); ok {
		return name
	}
	return strings.TrimPrefix(role, "/")
}
