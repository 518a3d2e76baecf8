package policy

import (
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// accountPlaceholder stands for the account in the ARN of a role that exists in every account.
const accountPlaceholder = "{account}"

// The forms of roles: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
const (
	rolePath    = `[A-Za-z0-9_+=,.@-]+(/[A-Za-z0-9_+=,.@-]+)*`
	roleARNForm = `^arn:aws(-cn|-us-gov)?:iam::[0-9]{12}:role/` + rolePath + `$`
	roleForm    = `^(` + rolePath + `|arn:aws(-cn|-us-gov)?:iam::([0-9]{12}|\{account\}):role/` + rolePath + `)$`
)

// root is the table of every key, bound to a configuration.
func root(c *Config) object {
	return object{fields: []field{
		{key: "version", value: one(&c.Version, integer(1, 1)), doc: "Version of the file's format."},
		{key: "organization", value: object{fields: organizationFields(&c.Organization)},
			doc: "Which accounts and regions belong to the migration, and which roles are assumed in them."},
		{key: "inventory", value: object{fields: inventoryFields(&c.Inventory)},
			doc: "What a scan reads."},
		{key: "owners", value: object{fields: ownerFields(&c.Owners)},
			doc: "Where a scan learns which infrastructure as code manages what. Without it only tags tell. What code manages is " +
				"changed all the same, and the plan names the code, which has to be changed as well."},
		{key: "accounts",
			value: objects[Account]{&c.Accounts, accountFields, func(a *Account) *string { return &a.Where }},
			doc: "Accounts by name: the list itself (`discover: list`), or what is to be known of " +
				"some of the organization's."},
		{key: "criticality", value: object{fields: criticalityFields(&c.Criticality)},
			doc: "How critical an account is: its own entry decides, else the first rule that " +
				"matches, else the default."},
		{key: "waves", value: objects[Wave]{&c.Waves, waveFields, func(w *Wave) *string { return &w.Where }},
			doc: "Accounts migrate in waves, in this order. A wave that lists an account takes it " +
				"whatever its criticality; every criticality must belong to exactly one wave.",
			computed: "one wave for each criticality, from `low` to `critical`"},
		{key: "evidence", value: object{fields: evidenceFields(&c.Evidence)},
			doc: "How much observation it takes to call a workload ready."},
		{key: "hop_limit", value: object{fields: hopLimitFields(&c.HopLimit)},
			doc: "The hop limit resources get: that of the first rule that matches, else the default."},
		{key: "exceptions",
			value: objects[Exception]{&c.Exceptions, exceptionFields, func(e *Exception) *string { return &e.Where }},
			doc: "Resources that are never written. An active exception is always reported; when it " +
				"has expired its resources are blocked until somebody renews or removes it."},
		{key: "overrides",
			value: objects[Override]{&c.Overrides, overrideFields, func(o *Override) *string { return &o.Where }},
			doc: "A person's decision to require IMDSv2 although IMDSv1 calls were seen, or cannot be " +
				"seen. Recorded in plan and journal."},
		{key: "gates", value: object{fields: gateFields(&c.Gates)},
			doc: "What must hold before a stack's first change, while a step is made, and after it until its bake is over. A " +
				"gate that cannot be read has failed. Gates before the first change hold a stack back; later ones roll back what " +
				"the step changed."},
		{key: "bake", value: object{fields: bakeFields(&c.Bake)},
			doc: "How long the behaviour of each step is watched, by the criticality of its account. The metric arrives late, so " +
				"`gates.delay` comes on top, and no bake is too short for one reading of the gates. Credentials live for about six " +
				"hours, so a break can show that late: a plan warns of accounts of high and critical criticality that are watched " +
				"for less."},
		{key: "rollout", value: object{fields: rolloutFields(&c.Rollout)},
			doc: "In which portions and how fast changes are made, and how many failures are borne."},
		{key: "windows",
			value: objects[WindowRule]{&c.Windows, windowFields, func(r *WindowRule) *string { return &r.Where }},
			doc: "Maintenance windows. Changes in an account and region start while one of the windows that match it is open; " +
				"where none matches, at any time. A rollback never waits. Windows go by the clocks of their time zone: what lies " +
				"in an hour that the clocks skip does not happen, what lies in one they show twice happens twice."},
		{key: "freezes",
			value: objects[FreezeRule]{&c.Freezes, freezeFields, func(r *FreezeRule) *string { return &r.Where }},
			doc:   "Days on which no change starts, whatever the windows say. A rollback never waits."},
		{key: "follow_ups",
			value: objects[FollowUp]{&c.FollowUps, followUpFields, func(f *FollowUp) *string { return &f.Where }},
			doc: "What is done to a running instance after it was made to require IMDSv2, such as the restart of its clients. The " +
				"step stays open until it is done. Every follow-up that matches is done; each is exactly one of `manual`, `ssm` and " +
				"`command`. It stands in the plan with all it says, so write no secret here."},
		{key: "stack", value: object{fields: stackFields(&c.Stack)},
			doc: "How instances are grouped into stacks. An Auto Scaling group with its launch " +
				"template is always one; this is for instances without a group, which otherwise go " +
				"one by one."},
		{key: "targets", value: object{fields: targetFields(&c.Targets)}, doc: "What a plan may change."},
		{key: "own_hosts", value: many(&c.OwnHosts, instanceID()),
			doc: "Instances that imdsctl itself runs on. They are changed last."},
		{key: "attention", value: object{fields: attentionFields(&c.Attention)},
			doc: "Who answers for the work that `imdsctl attention` lists, and how `imdsctl attention --send` tells them. Secrets come " +
				"from the environment or from files that only their owner can read: never write one here."},
		{key: "limits", value: object{fields: limitFields(&c.Limits)},
			doc: "Client-side limits on AWS API calls, per account, region and action."},
	}}
}

func organizationFields(o *Organization) []field {
	return []field{
		{key: "partition",
			value: one(&o.Partition, enum(fleet.PartitionAWS, fleet.PartitionChina, fleet.PartitionGov)),
			doc:   "The AWS partition.", computed: "that of the credentials"},
		{key: "discover", value: one(&o.Discover, enum(DiscoverOrganizations, DiscoverList, DiscoverSelf)),
			doc: "Where the accounts come from: AWS Organizations, the list under `accounts`, or only " +
				"the account of the credentials.",
			computed: "`list` if `accounts` are listed and there is no `management_role`; `organizations` if " +
				"`management_role` or `role.read` is given; else `self`"},
		{key: "management_role",
			value: one(&o.ManagementRole, pattern[string]("a role's ARN", "role ARNs", roleARNForm,
				"arn:aws:iam::111122223333:role/imdsctl-organization")),
			doc: "Role that may list the organization's accounts, in its management or a " +
				"delegated account.",
			computed: "the credentials themselves"},
		{key: "role", value: object{fields: roleFields(&o.Role)}, doc: "How accounts are entered."},
		{key: "regions", value: many(&o.Regions, region()),
			doc: "Regions to look at. One named here that an account has not enabled is a gap that " +
				"needs attention.",
			computed: "every region the account has enabled"},
		{key: "exclude_regions", value: many(&o.ExcludeRegions, region()), doc: "Regions to leave out."},
	}
}

func inventoryFields(i *Inventory) []field {
	return []field{
		{key: "exclude_kinds", value: many(&i.ExcludeKinds, kindName()),
			doc: "Kinds that are not read, such as those of services that the organization does not use. They are shown as " +
				"excluded. What rests on one of them is unknown: excluding launchers keeps templates and defaults from being ready."},
	}
}

func ownerFields(o *Owners) []field {
	return []field{
		{key: "terraform", value: many(&o.Terraform, text[string]("a path", "paths")),
			doc: "Terraform state files (`terraform.tfstate`), or the output of `terraform show -json`: paths or globs (`*`, `?`, " +
				"`[…]`), from the directory in which imdsctl runs. A pattern that matches nothing is an error."},
		{key: "cloudformation", value: one(&o.CloudFormation, boolean()),
			doc: "List the CloudFormation stacks of each place and their resources, with nested stacks under their root. It takes one " +
				"call for each stack, and `cloudformation:ListStacks` and `cloudformation:ListStackResources` in the role that reads."},
	}
}

func roleFields(r *Role) []field {
	name := pattern[string]("a role's name or ARN", "roles", roleForm,
		"imdsctl-read, path/imdsctl-read or arn:aws:iam::{account}:role/imdsctl-read")
	return []field{
		{key: "read", value: one(&r.Read, name),
			doc: "Role assumed to read: its name, with its path if it has one, or an ARN in which " +
				"`{account}` stands for the account.",
			computed: "`" + DefaultReadRole + "`; with `discover: self` the credentials themselves"},
		{key: "write", value: one(&r.Write, name), doc: "Role assumed to write, in the same form.",
			computed: "`" + DefaultWriteRole + "`; with `discover: self` the credentials themselves"},
		{key: "external_id", value: one(&r.ExternalID, pattern[string]("an external id", "external ids",
			`^[A-Za-z0-9_+=,.@:/-]{2,}$`, "imdsctl-4f7c")), doc: "External id sent when a role is assumed."},
		{key: "session_name", value: one(&r.SessionName, pattern[string]("a session name", "session names",
			`^[A-Za-z0-9_+=,.@-]{2,64}$`, "imdsctl")), doc: "Name of the role session, as CloudTrail shows it."},
		{key: "duration", value: one(&r.Duration, duration(15*time.Minute, 12*time.Hour)),
			doc: "Length of a session. AWS allows one hour at most where the credentials are " +
				"themselves a role's."},
	}
}

func accountFields(a *Account) []field {
	return []field{
		{key: "id", value: one(&a.ID, accountID()), doc: "The account's twelve digits.", required: true},
		{key: "name", value: one(&a.Name, text[string]("a name", "names")),
			doc: "Its name.", computed: "that of AWS Organizations"},
		{key: "criticality", value: one(&a.Criticality, enum(Criticalities()...)),
			doc: "Its criticality.", computed: "as the rules say"},
		{key: "tags", value: dictionary[string]{&a.Tags, tagKey(), "values by tag key",
			func(v *string) value { return one(v, tagValue()) }, func() string { return "" }, false},
			doc: "Tags, laid over those of AWS Organizations."},
		{key: "skip", value: one(&a.Skip, text[string]("a reason", "reasons")),
			doc: "Why the account is left out altogether: it is neither read nor written, and is " +
				"reported with this reason."},
	}
}

func criticalityFields(c *CriticalityPolicy) []field {
	return []field{
		{key: "default", value: one(&c.Default, enum(Criticalities()...)),
			doc: "Criticality of accounts that no rule matches."},
		{key: "rules",
			value: objects[CriticalityRule]{&c.Rules, criticalityRuleFields,
				func(r *CriticalityRule) *string { return &r.Where }},
			doc: "Rules, tried in order."},
	}
}

func criticalityRuleFields(r *CriticalityRule) []field {
	return []field{
		{key: "match", value: object{fields: accountMatchFields(&r.Match), ref: "account-match", nonempty: true},
			doc: "Which accounts.", required: true},
		{key: "value", value: one(&r.Value, enum(Criticalities()...)), doc: "Their criticality.", required: true},
	}
}

func accountMatchFields(m *AccountMatch) []field {
	return []field{
		{key: "ou", value: oneOrMany(&m.OU, text[string]("an organizational unit", "organizational units")),
			doc: "Path of an organizational unit below the root, such as `Workloads/Prod` or " +
				"`*/Prod`, or its id. Holds for everything below as well."},
		{key: "name", value: oneOrMany(&m.Name, glob("a pattern", "patterns")), doc: "The account's name."},
		{key: "tag", value: tagPatterns(&m.Tag),
			doc: "Tags of the account: every key must be there, with a value that matches."},
	}
}

func waveFields(w *Wave) []field {
	return []field{
		{key: "name", value: one(&w.Name, text[string]("a name", "names")),
			doc: "Name of the wave, used once.", required: true},
		{key: "criticality", value: oneOrMany(&w.Criticality, enum(Criticalities()...)),
			doc: "Criticalities this wave takes."},
		{key: "accounts", value: many(&w.Accounts, accountID()),
			doc: "Accounts this wave takes whatever their criticality."},
		{key: "approval", value: one(&w.Approval, boolean()),
			doc: "Ask a person to approve the wave before it starts: it stays closed until `imdsctl rollout approve ROLLOUT " +
				"--wave NAME`."},
		{key: "ramp", value: shares{&w.Ramp}, doc: "As `rollout.ramp`, for this wave.", computed: "that of `rollout.ramp`"},
	}
}

func evidenceFields(e *Evidence) []field {
	return []field{
		{key: "window", value: one(&e.Window, duration(time.Hour, 455*day)),
			doc: "How far to look back. CloudWatch keeps hourly datapoints for 455 days and " +
				"five-minute ones for 63."},
		{key: "period", value: one(&e.Period, period()), doc: "Length of a datapoint."},
		{key: "min_coverage", value: one(&e.MinCoverage, number(1)),
			doc: "Least share of the window's periods that must have a datapoint; below it a workload " +
				"is unknown, never ready."},
		{key: "require_boot", value: one(&e.RequireBoot, boolean()),
			doc: "Ask for a boot inside the evidence: software that calls IMDSv1 only at boot is " +
				"quiet until the next one."},
		{key: "history", value: one(&e.History, duration(0, 455*day)),
			doc: "How far to look back besides, in daily counts, for callers that come seldom: a workload that was called on a schedule " +
				"stays unknown until a full period has been quiet. Whole days, more than the window; `0s` is not at all, and where the window " +
				"is as long as the default nothing is read besides. It takes one more metric for each instance, whatever its length."},
		{key: "old_software", value: one(&e.OldSoftware, enum(OldSoftwareShow, OldSoftwareBlock)),
			doc: "What becomes of a workload on which software was found that does not speak IMDSv2 by itself, while no IMDSv1 call was " +
				"counted: `show` says so, `block` keeps it from being ready. Where AWS counts no calls it always blocks."},
		{key: "products", value: one(&e.Products, text[string]("a path", "paths")),
			doc: "A file of software that imdsctl does not know, or that you know better: the names by which package managers and user " +
				"agents know it, and its first version that speaks IMDSv2 (docs/software.md). An entry of the same id replaces imdsctl's."},
	}
}

func hopLimitFields(h *HopLimit) []field {
	return []field{
		{key: "default", value: one(&h.Default, hopLimit()),
			doc: "Hop limit where no rule matches. `keep` leaves each resource its own; `auto` gives 2 to hosts whose containers need " +
				"it, as far as imdsctl can tell, and 1 to all others."},
		{key: "rules",
			value: objects[HopLimitRule]{&h.Rules, hopLimitRuleFields,
				func(r *HopLimitRule) *string { return &r.Where }},
			doc: "Rules, tried in order."},
	}
}

func hopLimitRuleFields(r *HopLimitRule) []field {
	return []field{
		matchField(&r.Match),
		{key: "value", value: one(&r.Value, hopLimit()),
			doc: "Their hop limit. A container behind a bridge needs 2.", required: true},
	}
}

func matchField(m *Match) field {
	return field{key: "match", value: object{fields: matchFields(m), ref: "match", nonempty: true},
		doc: "Which resources.", required: true}
}

func matchFields(m *Match) []field {
	return []field{
		{key: "resource", value: oneOrMany(&m.Resource, resourceName()),
			doc: "Id (`i-0abc…`), or whole reference (`aws/111122223333/eu-west-1/ec2-instance/i-0abc…`)."},
		{key: "account", value: oneOrMany(&m.Account, accountID()), doc: "Account the resource is in."},
		{key: "region", value: oneOrMany(&m.Region, glob("a pattern", "patterns")),
			doc: "Region the resource is in, such as `eu-*`."},
		{key: "kind", value: oneOrMany(&m.Kind, kindGlob()), doc: "Kind of resource, such as `ec2-instance`."},
		{key: "name", value: oneOrMany(&m.Name, glob("a pattern", "patterns")),
			doc: "The resource's name (tag `Name`, or its own name)."},
		{key: "tag", value: tagPatterns(&m.Tag),
			doc: "Tags of the resource: every key must be there, with a value that matches."},
		{key: "cluster", value: oneOrMany(&m.Cluster, glob("a pattern", "patterns")),
			doc: "Cluster that the resource belongs to, by its name, where that is known."},
		{key: "containers", value: oneOrMany(&m.Containers, glob("a pattern", "patterns")),
			doc: "What runs containers on the host: `ecs`, `eks`, `kubernetes`, `batch` or `docker`; `*` for hosts of containers and all others."},
		{key: "network_mode", value: oneOrMany(&m.NetworkMode, glob("a pattern", "patterns")),
			doc: "Network mode of a container on the host: `bridge`, `awsvpc` or `host`."},
	}
}

func tagPatterns(target *map[string][]Glob) value {
	return dictionary[[]Glob]{target, tagKey(), "patterns by tag key",
		func(v *[]Glob) value { return oneOrMany(v, glob("a pattern", "patterns")) }, func() []Glob { return nil }, true}
}

func exceptionFields(e *Exception) []field {
	return []field{
		matchField(&e.Match),
		{key: "owner", value: one(&e.Owner, text[string]("a name", "names")),
			doc: "Who answers for it: a person or a team.", required: true},
		{key: "reason", value: one(&e.Reason, text[string]("a reason", "reasons")),
			doc: "Why it is needed.", required: true},
		{key: "expires", value: one(&e.Expires, date()),
			doc: "Last day on which it holds, to the end of that day in UTC.", required: true},
	}
}

func overrideFields(o *Override) []field {
	return []field{
		matchField(&o.Match),
		{key: "owner", value: one(&o.Owner, text[string]("a name", "names")), doc: "Who decided.", required: true},
		{key: "reason", value: one(&o.Reason, text[string]("a reason", "reasons")),
			doc: "Why that is safe enough.", required: true},
	}
}

func bakeFields(b *Bake) []field {
	span := duration(0, 30*day)
	return []field{
		{key: "low", value: one(&b.Low, span), doc: "In accounts of low criticality."},
		{key: "medium", value: one(&b.Medium, span), doc: "In accounts of medium criticality."},
		{key: "high", value: one(&b.High, span), doc: "In accounts of high criticality."},
		{key: "critical", value: one(&b.Critical, span), doc: "In critical accounts."},
	}
}

func stackFields(s *Stack) []field {
	return []field{
		{key: "cloudformation", value: one(&s.CloudFormation, boolean()),
			doc: "Group by CloudFormation stack (tag `" + TagCloudFormationStack + "`)."},
		{key: "tag", value: one(&s.Tag, tagKey()),
			doc: "Key of a tag whose value names the stack, for what CloudFormation does not group."},
	}
}

func limitFields(l *Limits) []field {
	return []field{
		{key: "safety", value: one(&l.Safety, number(1)),
			doc: "Share of AWS's limits that imdsctl uses; the rest stays for everybody else in the account."},
		{key: "actions", value: dictionary[Bucket]{&l.Actions, actionName(), "token buckets by action",
			func(b *Bucket) value { return object{fields: bucketFields(b), ref: "bucket"} },
			func() Bucket { return Bucket{} }, false},
			doc: "Limits that differ from AWS's documented ones, for example after a quota increase, by action: " +
				"`ec2:DescribeInstances`."},
	}
}

func bucketFields(b *Bucket) []field {
	return []field{
		{key: "burst", value: one(&b.Burst, integer(1, 1000000)),
			doc: "Calls that may be made at once.", required: true},
		{key: "refill", value: one(&b.Refill, number(1000000)), doc: "Calls a second after that.", required: true},
	}
}

// period is a length of datapoints that CloudWatch keeps long enough to be evidence.
func period() element[time.Duration] {
	const what = "`5m` or `1h`"
	e := duration(0, time.Hour)
	e.one, e.many = what, what
	e.parse = func(s string) (time.Duration, *fault) {
		switch s {
		case "5m":
			return 5 * time.Minute, nil
		case "1h":
			return time.Hour, nil
		}
		return 0, &fault{what: "is neither 5m nor 1h", remedy: "Write 5m or 1h."}
	}
	e.sch = map[string]any{"type": "string", "enum": []any{"5m", "1h"}}
	return e
}

// tagKey and tagValue: https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html
func tagKey() element[string] {
	return pattern[string]("a tag key", "tag keys", `^.{1,128}$`, "app")
}

func tagValue() element[string] {
	e := text[string]("a tag value", "tag values")
	e.parse = func(s string) (string, *fault) { return s, nil }
	e.show = func(s string) any { return s }
	e.sch = map[string]any{"type": "string"}
	return e
}

func instanceID() element[string] {
	return pattern[string]("an instance id", "instance ids", `^i-[0-9a-f]{8,17}$`, "i-0123456789abcdef0")
}

func actionName() element[string] {
	return pattern[string]("an action", "actions", `^[a-z0-9-]+:[A-Z][A-Za-z0-9]*$`, "ec2:DescribeInstances")
}
