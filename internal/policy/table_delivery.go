package policy

import (
	"cmp"
	"math"
	"time"
)

func gateFields(g *Gates) []field {
	return []field{
		{key: "max_rejected", value: one(&g.MaxRejected, integer(0, math.MaxInt32)),
			doc: "Highest sum of `MetadataNoTokenRejected`, the IMDSv1 calls that were refused, with " +
				"which a step passes."},
		{key: "status_checks", value: one(&g.StatusChecks, boolean()),
			doc: "Ask for passing instance status checks."},
		{key: "heartbeat", value: one(&g.Heartbeat, enum(HeartbeatCPU, HeartbeatNone)),
			doc: "Metric that must be fresh before a missing `MetadataNoTokenRejected` counts as none: " +
				"`CPUUtilization`, or `none` for stand-ins for AWS that lack it."},
		{key: "delay", value: one(&g.Delay, duration(0, day)),
			doc: "How long CloudWatch takes to show a datapoint."},
		{key: "group_health", value: one(&g.GroupHealth, boolean()),
			doc: "Ask that the Auto Scaling groups of a stack have their desired capacity in service and healthy."},
		{key: "target_health", value: one(&g.TargetHealth, boolean()),
			doc: "Ask that instances are healthy in every target group of a load balancer they are registered with."},
		{key: "patience", value: one(&g.Patience, duration(0, 7*day)),
			doc: "How long a failing gate may hold a stack back that has not begun, before the stack fails."},
		{key: "interval", value: one(&g.Interval, optional(duration(time.Second, day))),
			doc: "How often gates are read.", computed: "`gates.delay`, and at least `1m`"},
		{key: "launch_proof", value: one(&g.LaunchProof, unsaid(duration(0, 30*day))),
			doc: "How long a step that changes what is launched stays open until one instance was launched by each launcher, runs with " +
				"tokens required and passes its status checks. One that does not require them, or does not pass, fails the step. When " +
				"nothing was launched by then, the step goes on, and journal and report say that no launch was seen; `0s` does not wait.",
			computed: "`" + showDuration(DefaultLaunchProof) + "`, and `0s` for a group that keeps no instances"},
		{key: "alarms", value: objects[AlarmGate]{&g.Alarms, alarmFields, func(a *AlarmGate) *string { return &a.Where }},
			doc: "Named CloudWatch alarms: none is in the state `ALARM`, and none is missing."},
		{key: "commands",
			value: objects[CommandGate]{&g.Commands, commandFields, func(c *CommandGate) *string { return &c.Where }},
			doc:   "Programs of the machine that runs the rollout: each exits with 0. They stand in the plan; write no secret here."},
		{key: "webhooks",
			value: objects[WebhookGate]{&g.Webhooks, webhookFields, func(w *WebhookGate) *string { return &w.Where }},
			doc:   "HTTP endpoints that are asked, with a signed request, whether a stack may go on."},
	}
}

func alarmFields(a *AlarmGate) []field {
	return []field{
		gateName(&a.Name), stackMatchField(&a.Match, false),
		{key: "alarms", value: sequence(&a.Alarms, text[string]("an alarm's name", "names of alarms"), false),
			doc: "Names of alarms in the account and region of the stack.", required: true},
	}
}

func commandFields(c *CommandGate) []field {
	return []field{
		gateName(&c.Name), stackMatchField(&c.Match, false),
		{key: "run", value: sequence(&c.Run, argument(), true),
			doc: "The program and its arguments. No shell reads them.", required: true},
		gateTimeout(&c.Timeout),
	}
}

func webhookFields(w *WebhookGate) []field {
	return []field{
		gateName(&w.Name), stackMatchField(&w.Match, false),
		{key: "url", value: one(&w.URL, webURL()),
			doc: "Where the request is sent: `https`, or `http` on this machine. It stands in this file, in every plan and in the " +
				"journal, which many may read, so one with a user or password is refused, and no other secret belongs in it.",
			required: true},
		{key: "secret_env", value: one(&w.SecretEnv, pattern[string]("an environment variable's name", "names of variables",
			`^[A-Za-z_][A-Za-z0-9_]*$`, "IMDSCTL_GATE_KEY")),
			doc: "Environment variable that holds the key with which requests are signed. The key itself is never written " +
				"here: files are copied and plans are shared.", required: true},
		gateTimeout(&w.Timeout),
	}
}

func gateName(target *string) field {
	return field{key: "name", value: one(target, text[string]("a name", "names")),
		doc: "Name of the gate, used once.", required: true}
}

func gateTimeout(target *time.Duration) field {
	return field{key: "timeout", value: one(target, optional(duration(time.Second, time.Hour))),
		doc: "How long it may take; a gate that has not answered has failed.", computed: "`" + showDuration(DefaultGateTimeout) + "`"}
}

func rolloutFields(r *Rollout) []field {
	const most = 10000
	return []field{
		{key: "steps", value: shares{&r.Steps},
			doc: "How much of a stack's running fleet has been changed when it stops to be watched: numbers of instances, then " +
				"percentages, growing, `100%` at the end. Running instances go first, and imdsctl's own hosts last. Shares are " +
				"rounded up, and steps with nothing in them fall away. Holds for the stages `hop_limit` and `fleet`."},
		{key: "stages", value: object{fields: stagesFields(&r.Stages, "")},
			doc: "Steps of single stages."},
		{key: "overrides",
			value: objects[PaceRule]{&r.Overrides, paceFields, func(p *PaceRule) *string { return &p.Where }},
			doc: "Steps and bake times of some stacks, tried in order. What an override does not say is as for all others; its " +
				"`steps` go before `rollout.stages`."},
		{key: "replacement", value: object{fields: replacementFields(&r.Replacement)},
			doc: "How the running instances of an Auto Scaling group come to require IMDSv2: `in-place` changes them as they run; " +
				"`natural` leaves them, and the stack stays open until all that run were launched from what the group launches now, or " +
				"require tokens; `refresh` leaves them too, and replaces them by an instance refresh, which is also the permission to. " +
				"Instances without a group are always changed in place."},
		{key: "ramp", value: shares{&r.Ramp},
			doc: "How many of a wave's stacks may have started before all of those have ended, in the form of `steps`. `[5, 10%, " +
				"100%]` tries five stacks, then a tenth, then all."},
		{key: "max_in_flight", value: one(&r.MaxInFlight, integer(1, most)),
			doc: "Changes that may be open at a time, in all accounts together."},
		{key: "max_in_flight_per_account", value: one(&r.MaxInFlightAccount, integer(0, most)),
			doc: "Changes that may be open at a time in one account; 0 for no bound of its own."},
		{key: "concurrency", value: one(&r.Concurrency, integer(1, most)),
			doc: "Stacks that may run at a time, in all accounts together."},
		{key: "concurrency_per_account", value: one(&r.ConcurrencyAccount, integer(0, most)),
			doc: "Stacks that may run at a time in one account; 0 for no bound of its own."},
		{key: "max_failures", value: object{fields: failureFields(&r.MaxFailures)},
			doc: "Failures that are borne. A stack that fails is rolled back all the same."},
		{key: "on_failure", value: one(&r.OnFailure, enum(Halt, Continue)),
			doc: "Once more stacks have failed than `max_failures.wave` bears: `halt` starts no further stack, and those already " +
				"running finish; `continue` goes on with the wave's other stacks, and halts before the next wave."},
		{key: "irreversible", value: one(&r.Irreversible, enum(Refuse, Allow)),
			doc: "What becomes of a stack whose changes AWS would not let be undone, because `HttpTokensEnforced`, a declarative " +
				"policy or an SCP would refuse the way back: `refuse` leaves it alone and says why; `allow` makes the changes " +
				"all the same, and a failed gate then cannot put them back. A plan carries the choice, and approving it approves " +
				"that."},
	}
}

func failureFields(b *FailureBudget) []field {
	bound := integer(0, 10000)
	return []field{
		{key: "stack", value: one(&b.Stack, bound),
			doc: "Failed or conflicting changes that a step bears; with one more the stack fails."},
		{key: "wave", value: one(&b.Wave, bound),
			doc: "Failed stacks that are borne, counted since the rollout began or a person last resumed it; with one more, " +
				"`on_failure` applies."},
		{key: "account", value: one(&b.Account, bound),
			doc: "Failed stacks of an account at which its other stacks are skipped; 0 for no such bound."},
		{key: "total", value: one(&b.Total, bound),
			doc: "Failed stacks at which the rollout halts, whatever `on_failure` says, counted since it began or a person last " +
				"resumed it; 0 for no such bound."},
	}
}

// stagesFields are the stages of the rollout, or of an override where otherwise says what holds without them.
func stagesFields(s *Stages, otherwise string) []field {
	steps := func(key string, target *StageSteps, doc, general string) field {
		return field{key: key, doc: doc, value: object{fields: []field{
			{key: "steps", value: shares{&target.Steps}, doc: "In the form of `rollout.steps`.", computed: cmp.Or(otherwise, general)},
		}}}
	}
	return []field{
		steps("hop_limit", &s.HopLimit, "Hop limits of instances, while IMDSv1 still works.", "`rollout.steps`"),
		steps("fleet", &s.Fleet, "Instances that are made to require IMDSv2.", "`rollout.steps`"),
		steps("launch", &s.Launch, "Launch templates, and the groups that launch from them.", "`[\"100%\"]`"),
		steps("defaults", &s.Defaults, "The account's defaults in a region.", "`[\"100%\"]`"),
	}
}

func paceFields(p *PaceRule) []field {
	return []field{
		stackMatchField(&p.Match, true),
		{key: "steps", value: shares{&p.Steps}, doc: "In the form of `rollout.steps`.", computed: "as for all others"},
		{key: "stages", value: object{fields: stagesFields(&p.Stages, "as for all others")}, doc: "Steps of single stages."},
		{key: "bake", value: one(&p.Bake, optional(duration(time.Second, 30*day))),
			doc: "How long each step is watched.", computed: "by criticality, as `bake` says"},
	}
}

func stackMatchField(m *StackMatch, required bool) field {
	f := field{key: "match", value: object{fields: stackMatchFields(m), ref: "stack-match", nonempty: true},
		doc: "Which stacks.", required: required}
	if !required {
		f.computed = "every stack"
	}
	return f
}

func stackMatchFields(m *StackMatch) []field {
	return append(matchFields(&m.Match), field{key: "criticality",
		value: oneOrMany(&m.Criticality, enum(Criticalities()...)), doc: "Criticality of the stack's account."})
}

func windowFields(r *WindowRule) []field {
	w := &r.Window
	return []field{
		{key: "name", value: one(&w.Name, text[string]("a name", "names")),
			doc: "Name of the window, used once.", required: true},
		placeMatchField(&r.Match),
		{key: "days", value: many(&w.Days, enum(weekdays[1], weekdays[2], weekdays[3], weekdays[4], weekdays[5], weekdays[6],
			weekdays[0])), doc: "Days on which it opens.", computed: "every day"},
		{key: "from", value: one(&w.From, clock("")), doc: "When it opens.", required: true},
		{key: "to", value: one(&w.To, clock("|24:00")),
			doc: "When it closes; `24:00` is the end of the day. A time before `from` is one of the next day.", required: true},
		zoneField(&w.Zone),
	}
}

func freezeFields(r *FreezeRule) []field {
	f := &r.Freeze
	return []field{
		{key: "name", value: one(&f.Name, text[string]("a name", "names")),
			doc: "Name of the freeze, used once.", required: true},
		placeMatchField(&r.Match),
		{key: "from", value: one(&f.From, date()), doc: "First day.", required: true},
		{key: "to", value: one(&f.To, date()), doc: "Last day, to its end.", required: true},
		zoneField(&f.Zone),
	}
}

func zoneField(target *string) field {
	return field{key: "timezone", value: one(target, timezone()),
		doc: "IANA time zone whose clocks it goes by, such as `Europe/Berlin`.", computed: "`UTC`"}
}

func placeMatchField(m *PlaceMatch) field {
	return field{key: "match", value: object{fields: placeMatchFields(m), ref: "place-match", nonempty: true},
		doc: "Which accounts and regions.", computed: "every account and region"}
}

func placeMatchFields(m *PlaceMatch) []field {
	account := AccountMatch{}
	fields := accountMatchFields(&account)
	fields[0].value = oneOrMany(&m.OU, text[string]("an organizational unit", "organizational units"))
	fields[1].value = oneOrMany(&m.Name, glob("a pattern", "patterns"))
	fields[2].value = tagPatterns(&m.Tag)
	return append([]field{
		{key: "account", value: oneOrMany(&m.Account, accountID()), doc: "The account."},
		{key: "criticality", value: oneOrMany(&m.Criticality, enum(Criticalities()...)), doc: "The account's criticality."},
		{key: "region", value: oneOrMany(&m.Region, glob("a pattern", "patterns")), doc: "The region, such as `eu-*`."},
	}, fields...)
}

func followUpFields(f *FollowUp) []field {
	return []field{
		{key: "name", value: one(&f.Name, pattern[string]("a follow-up's name", "names", `^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`,
			"restart-agent")), doc: "Name of the follow-up, used once.", required: true},
		matchField(&f.Match),
		{key: "kinds", value: many(&f.Kinds, kindGlob()), doc: "Kinds of resources it is for; `ssm` is for instances only.",
			computed: "`[\"ec2-instance\"]`"},
		{key: "manual", value: one(&f.Manual, text[string]("what a person is to do", "texts")),
			doc: "What a person is asked to do, who then says that it is done."},
		{key: "ssm", value: object{fields: []field{
			{key: "document", value: one(&f.SSM.Document, pattern[string]("a document's name or ARN", "documents",
				`^[A-Za-z0-9_.:/-]{3,128}$`, "AWS-RunShellScript")), doc: "Name or ARN of the document.", required: true},
			{key: "parameters", value: dictionary[[]string]{&f.SSM.Parameters, text[string]("a parameter's name", "parameters"),
				"lists of texts by parameter", func(v *[]string) value { return sequence(v, argument(), true) },
				func() []string { return nil }, false}, doc: "Its parameters."},
		}}, doc: "A document that AWS Systems Manager runs on the instance."},
		{key: "command", value: sequence(&f.Command, argument(), true),
			doc: "A program and its arguments, run where imdsctl runs. No shell reads them."},
		{key: "timeout", value: one(&f.Timeout, optional(duration(30*time.Second, 2*day))),
			doc:      "How long `ssm` or `command` may take; after that the follow-up has failed.",
			computed: "`" + showDuration(DefaultFollowUpTimeout) + "`"},
	}
}
