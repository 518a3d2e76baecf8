package policy

// Targets says what a plan may change.
type Targets struct {
	Instances, Templates, AccountDefaults bool
	// Services are those outside EC2, as far as a change disrupts nothing: Lightsail, Image Builder, a notebook that is stopped.
	Services bool
	// Images lets AMIs require tokens, which nobody can take back.
	Images bool
	// Policies lets the organization's policies be changed.
	Policies bool
	// Disruptive says where changes may be made that restart or replace what runs.
	Disruptive []DisruptiveRule
}

// Disruption is what a change may do to what runs.
type Disruption string

// Disruptions, from the lesser to the greater.
const (
	// DisruptRestart: it is stopped and started again.
	DisruptRestart Disruption = "restart"
	// DisruptReplace: it is ended, and something new takes its place. Restarts are allowed with it.
	DisruptReplace Disruption = "replace"
)

// DisruptiveRule allows disruptive changes of the resources it matches.
type DisruptiveRule struct {
	Match Match
	Allow Disruption
	Where string
}

// MayDisrupt tells whether a change of the resource may restart or replace it. Any other disruption may not be.
func (c *Config) MayDisrupt(r ResourceFacts, by string) bool {
	for _, rule := range c.Targets.Disruptive {
		if rule.Match.Matches(r) && (rule.Allow == Disruption(by) || rule.Allow == DisruptReplace && by == string(DisruptRestart)) {
			return true
		}
	}
	return false
}

func targetFields(t *Targets) []field {
	return []field{
		{key: "instances", value: one(&t.Instances, boolean()), doc: "Running and stopped instances."},
		{key: "templates", value: one(&t.Templates, boolean()),
			doc: "Launch templates and configurations, and the groups and fleets that launch from them."},
		{key: "account_defaults", value: one(&t.AccountDefaults, boolean()),
			doc: "The defaults of each account and region."},
		{key: "services", value: one(&t.Services, boolean()),
			doc: "What other services run or launch: Lightsail, SageMaker notebooks, Image Builder, AppStream, EKS, Batch, Beanstalk. " +
				"Where a change restarts or replaces something, `disruptive` must allow it too."},
		{key: "images", value: one(&t.Images, boolean()),
			doc: "The account's AMIs. An image that requires tokens can never be changed back, so this asks for a wave of its own, " +
				"with its own approval, at the end."},
		{key: "organization_policies", value: one(&t.Policies, boolean()),
			doc: "The organization's declarative policies. They come last, in a wave of their own with its own approval."},
		{key: "disruptive",
			value: objects[DisruptiveRule]{&t.Disruptive, disruptiveFields, func(r *DisruptiveRule) *string { return &r.Where }},
			doc: "Where changes may be made that restart or replace what runs. Everywhere else such a change becomes a step for a " +
				"person, with the commands."},
	}
}

func disruptiveFields(r *DisruptiveRule) []field {
	return []field{
		matchField(&r.Match),
		{key: "allow", value: one(&r.Allow, enum(DisruptRestart, DisruptReplace)), required: true,
			doc: "`restart` lets it be stopped and started again; `replace` also lets its instances be replaced by new ones."},
	}
}
