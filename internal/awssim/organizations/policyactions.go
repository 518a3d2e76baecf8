package organizations

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// policyActions are the operations on policies.
func policyActions() map[string]core.Action {
	out := map[string]core.Action{}
	add := func(name string, mutating bool, run func(scope, *wire.Writer) error, params ...string) {
		out[name] = core.Action{
			Mutating: mutating, Params: params, Access: accessPolicy,
			// https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html
			Bucket: core.Bucket{Burst: 20, Refill: 10},
			Handle: func(c *core.Call) error { return answer(c, name != "DescribeEffectivePolicy", run) },
		}
	}
	add("ListPolicies", false, listPolicies, "Filter", "MaxResults", "NextToken")
	add("DescribePolicy", false, describePolicy, "PolicyId")
	add("ListTargetsForPolicy", false, listTargets, "PolicyId", "MaxResults", "NextToken")
	add("ListPoliciesForTarget", false, listPoliciesForTarget, "TargetId", "Filter", "MaxResults", "NextToken")
	add("DescribeEffectivePolicy", false, describeEffective, "PolicyType", "TargetId")
	add("CreatePolicy", true, createPolicy, "Content", "Description", "Name", "Type", "Tags")
	add("UpdatePolicy", true, updatePolicy, "PolicyId", "Name", "Description", "Content")
	add("DeletePolicy", true, deletePolicy, "PolicyId")
	add("AttachPolicy", true, attachPolicy, "PolicyId", "TargetId")
	add("DetachPolicy", true, detachPolicy, "PolicyId", "TargetId")
	return out
}

// accessPolicy names the policy that a call is about, where it names one, and its type as organizations:PolicyType.
func accessPolicy(c *core.Call) []core.Access {
	id := c.In.Str("PolicyId")
	if id == "" {
		return []core.Access{{}}
	}
	kept := settingsOf(c.World)
	kept.mu.RLock()
	defer kept.mu.RUnlock()
	p := kept.policy(id)
	if p == nil {
		return []core.Access{{}}
	}
	return []core.Access{{
		Resource:  kept.view(c.World).policyARN(p),
		Condition: map[string][]string{"organizations:policytype": {p.kind}},
	}}
}

func (o *organization) policyARN(p *policy) string {
	kind := strings.ToLower(p.kind)
	if p.id == fullAccess {
		return "arn:" + string(o.partition) + ":organizations::aws:policy/" + kind + "/" + p.id
	}
	return o.arn("policy", "/"+kind+"/"+p.id)
}

// typed checks a policy type of a request.
func typed(name, kind string) error {
	if kind != TypeSCP && kind != TypeDeclarative && !slices.Contains(otherTypes, kind) {
		return invalid("You specified an invalid value for " + name + ".")
	}
	return nil
}

// seen is a policy as readers see it; nil where they see none.
func (sc scope) seen(p *policy) *policyState { return p.state.Seen(sc.call.Now) }

func listPolicies(sc scope, w *wire.Writer) error {
	kind, err := required(sc, "Filter")
	if err == nil {
		err = typed("Filter", kind)
	}
	if err != nil {
		return err
	}
	return sc.listed(w, func(p *policy, _ *policyState) bool { return p.kind == kind })
}

func listPoliciesForTarget(sc scope, w *wire.Writer) error {
	target, err := targetOf(sc)
	if err != nil {
		return err
	}
	kind, err := required(sc, "Filter")
	if err == nil {
		err = typed("Filter", kind)
	}
	if err != nil {
		return err
	}
	return sc.listed(w, func(p *policy, st *policyState) bool { return p.kind == kind && p.binds(st, target) })
}

func (sc scope) listed(w *wire.Writer, take func(*policy, *policyState) bool) error {
	kept := sc.kept
	kept.mu.RLock()
	defer kept.mu.RUnlock()
	var found []*policy
	for _, p := range kept.policies {
		if st := sc.seen(p); st != nil && take(p, st) {
			found = append(found, p)
		}
	}
	return list(sc, w, "Policies", found, func(p *policy) { writeSummary(w, sc.org, p, sc.seen(p)) })
}

func describePolicy(sc scope, w *wire.Writer) error {
	sc.kept.mu.RLock()
	defer sc.kept.mu.RUnlock()
	p, st, err := sc.seenPolicy()
	if err == nil {
		writePolicy(w, sc.org, p, st)
	}
	return err
}

func (sc scope) seenPolicy() (*policy, *policyState, error) {
	id, err := required(sc, "PolicyId")
	if err != nil {
		return nil, nil, err
	}
	for _, p := range sc.kept.policies {
		if st := sc.seen(p); p.id == id && st != nil {
			return p, st, nil
		}
	}
	return nil, nil, noPolicy()
}

func noPolicy() error {
	return wire.Errorf("PolicyNotFoundException", "We can't find a policy with the PolicyId that you specified.")
}

func listTargets(sc scope, w *wire.Writer) error {
	sc.kept.mu.RLock()
	defer sc.kept.mu.RUnlock()
	p, st, err := sc.seenPolicy()
	if err != nil {
		return err
	}
	targets := st.targets
	if p.id == fullAccess {
		targets = slices.DeleteFunc(sc.org.targets(), func(id string) bool { return slices.Contains(st.targets, id) })
	}
	return list(sc, w, "Targets", targets, func(id string) { writeTarget(w, sc.org, id) })
}

// targets lists everything that policies can be attached to.
func (o *organization) targets() []string {
	out := []string{o.root}
	for i := range o.units {
		out = append(out, o.units[i].id)
	}
	for i := range o.accounts {
		out = append(out, string(o.accounts[i].ID))
	}
	return out
}

// describeEffective tells an account of its own; only administrators may ask about others.
func describeEffective(sc scope, w *wire.Writer) error {
	kind, err := required(sc, "PolicyType")
	if err == nil {
		err = typed("PolicyType", kind)
	}
	if err != nil {
		return err
	}
	target := fleet.AccountID(cmp.Or(sc.params.Str("TargetId"), string(sc.call.Account())))
	switch {
	case kind == TypeSCP || kind == "RESOURCE_CONTROL_POLICY":
		return invalid("You specified an invalid value for PolicyType.")
	case target != sc.call.Account() && !sc.org.mayRead(sc.call.Account()):
		return wire.Errorf("AccessDeniedException", "You don't have permissions to access this resource.")
	case sc.org.account(target) == nil:
		return noTarget()
	}
	sc.kept.mu.RLock()
	defer sc.kept.mu.RUnlock()
	says := sc.kept.declared[target]
	if kind != TypeDeclarative || says == nil {
		return wire.Errorf("EffectivePolicyNotFoundException", "The effective policy of the type %s was not found.", kind)
	}
	document, err := says.document()
	if err != nil {
		return err
	}
	w.Struct("EffectivePolicy", func() {
		w.Str("PolicyContent", document)
		w.Time("LastUpdatedTimestamp", sc.call.Now)
		w.Str("TargetId", string(target))
		w.Str("PolicyType", kind)
	})
	return nil
}

func createPolicy(sc scope, w *wire.Writer) error {
	kind, err := required(sc, "Type")
	if err == nil {
		err = typed("Type", kind)
	}
	if err != nil {
		return err
	}
	if maxContent[kind] == 0 {
		return wire.Errorf("PolicyTypeNotAvailableForOrganizationException",
			"The simulator has no policies of the type %s.", kind)
	}
	name, err := required(sc, "Name")
	if err != nil {
		return err
	}
	p := &policy{id: newPolicyID(sc.call.World), kind: kind, tags: map[string]string{}}
	for _, t := range sc.params.Items("Tags") {
		p.tags[t.Str("Key")] = t.Str("Value")
	}
	st := &policyState{name: name, description: sc.params.Str("Description"), content: sc.params.Str("Content")}
	sc.kept.mu.Lock()
	if err := sc.acceptable(p, st); err != nil {
		sc.kept.mu.Unlock()
		return err
	}
	sc.kept.policies = append(sc.kept.policies, p)
	p.state.Set(sc.call.Now, sc.call.World.Consistency(), st)
	sc.kept.mu.Unlock()
	sc.changed(p)
	writePolicy(w, sc.org, p, st)
	return nil
}

// acceptable checks a policy's new state, and reads its document.
func (sc scope) acceptable(p *policy, st *policyState) error {
	for _, other := range sc.kept.policies {
		if o := other.state.Newest(); other != p && o != nil && other.kind == p.kind && o.name == st.name {
			return wire.Errorf("DuplicatePolicyException", "A policy with the same name already exists.")
		}
	}
	if len(st.content) > maxContent[p.kind] {
		return wire.Errorf("ConstraintViolationException", "You have exceeded the maximum size of a policy document.")
	}
	if err := st.understand(p.kind); err != nil {
		return wire.Errorf("MalformedPolicyDocumentException", "The provided policy document does not meet the requirements "+
			"of the specified policy type: %v", err)
	}
	return nil
}

// own finds a policy to be changed. AWS's own are not the caller's to change.
func (sc scope) own() (*policy, *policyState, error) {
	id, err := required(sc, "PolicyId")
	if err != nil {
		return nil, nil, err
	}
	p := sc.kept.policy(id)
	switch {
	case p == nil:
		return nil, nil, noPolicy()
	case p.id == fullAccess:
		return nil, nil, invalid("You specified a policy that is managed by AWS and can't be modified.")
	}
	return p, p.state.Newest(), nil
}

func updatePolicy(sc scope, w *wire.Writer) error {
	sc.kept.mu.Lock()
	p, was, err := sc.own()
	var st policyState
	if err == nil {
		st = policyState{name: was.name, description: was.description, content: was.content, targets: was.targets}
		st.name = cmp.Or(sc.params.Str("Name"), st.name)
		if sc.params.Has("Description") {
			st.description = sc.params.Str("Description")
		}
		st.content = cmp.Or(sc.params.Str("Content"), st.content)
		err = sc.acceptable(p, &st)
	}
	if err != nil {
		sc.kept.mu.Unlock()
		return err
	}
	p.state.Set(sc.call.Now, sc.call.World.Consistency(), &st)
	sc.kept.mu.Unlock()
	sc.changed(p)
	writePolicy(w, sc.org, p, &st)
	return nil
}

func deletePolicy(sc scope, _ *wire.Writer) error {
	sc.kept.mu.Lock()
	p, was, err := sc.own()
	if err == nil && len(was.targets) > 0 {
		err = wire.Errorf("PolicyInUseException", "The policy is attached to one or more entities. You must detach it from all "+
			"roots, OUs, and accounts before performing this operation.")
	}
	if err != nil {
		sc.kept.mu.Unlock()
		return err
	}
	p.state.Set(sc.call.Now, sc.call.World.Consistency(), nil)
	sc.kept.mu.Unlock()
	sc.changed(p)
	return nil
}

func attachPolicy(sc scope, _ *wire.Writer) error {
	return sc.retarget(true, func(p *policy, kinds []string, on int) error {
		switch {
		case !slices.Contains(kinds, p.kind):
			return wire.Errorf("PolicyTypeNotEnabledException", "The specified policy type isn't currently enabled in this root.")
		case on >= maxAttached:
			return wire.Errorf("ConstraintViolationException", "You have attached the maximum number of policies to the target.")
		}
		return nil
	})
}

func detachPolicy(sc scope, _ *wire.Writer) error {
	return sc.retarget(false, func(p *policy, _ []string, on int) error {
		if p.kind == TypeSCP && on == 1 {
			return wire.Errorf("ConstraintViolationException",
				"You cannot remove the last service control policy from a root, OU or account.")
		}
		return nil
	})
}

// retarget attaches or detaches, unless check, which is told the enabled types and how many policies of the type are on the
// target, says no.
func (sc scope) retarget(attach bool, check func(p *policy, kinds []string, on int) error) error {
	id, err := required(sc, "PolicyId")
	if err != nil {
		return err
	}
	target, err := targetOf(sc)
	if err != nil {
		return err
	}
	sc.kept.mu.Lock()
	p := sc.kept.policy(id)
	if p == nil {
		err = noPolicy()
	} else {
		err = sc.kept.bind(sc, p, target, attach, check)
	}
	sc.kept.mu.Unlock()
	if err != nil {
		return err
	}
	sc.changed(p)
	return nil
}

func (s *settings) bind(sc scope, p *policy, target string, attach bool, check func(*policy, []string, int) error) error {
	st := *p.state.Newest()
	switch bound := p.binds(&st, target); {
	case attach && bound:
		return wire.Errorf("DuplicatePolicyAttachmentException", "The selected policy is already attached to the specified target.")
	case !attach && !bound:
		return wire.Errorf("PolicyNotAttachedException", "The policy isn't attached to the specified target in the specified root.")
	}
	on := len(s.attached(p.kind, target, (*core.Versioned[*policyState]).Newest))
	if err := check(p, s.PolicyTypes, on); err != nil {
		return err
	}
	if attach == (p.id != fullAccess) {
		st.targets = append(slices.Clone(st.targets), target)
	} else {
		st.targets = slices.DeleteFunc(slices.Clone(st.targets), func(id string) bool { return id == target })
	}
	p.state.Set(sc.call.Now, sc.call.World.Consistency(), &st)
	return nil
}

// changed puts a change into effect. The lock must not be held.
func (sc scope) changed(p *policy) {
	sc.call.Mutated(p.id)
	sc.kept.enforce(sc.call.World, sc.call.Now, sc.call.World.Consistency())
}

func targetOf(sc scope) (string, error) {
	id, err := required(sc, "TargetId")
	if err == nil && !sc.org.isTarget(id) {
		return "", noTarget()
	}
	return id, err
}

func noTarget() error {
	return wire.Errorf("TargetNotFoundException",
		"We can't find a root, OU, account, or policy with the TargetId that you specified.")
}

func writePolicy(w *wire.Writer, o *organization, p *policy, st *policyState) {
	w.Struct("Policy", func() {
		w.Struct("PolicySummary", func() { writeSummary(w, o, p, st) })
		w.Str("Content", st.content)
	})
}

func writeSummary(w *wire.Writer, o *organization, p *policy, st *policyState) {
	w.Str("Id", p.id)
	w.Str("Arn", o.policyARN(p))
	w.Str("Name", st.name)
	w.Str("Description", st.description)
	w.Str("Type", p.kind)
	w.Bool("AwsManaged", p.id == fullAccess)
}

func writeTarget(w *wire.Writer, o *organization, id string) {
	w.Str("TargetId", id)
	switch u, a := o.unitBy(id), o.account(fleet.AccountID(id)); {
	case u != nil:
		w.Str("Arn", o.arn("ou", "/"+id))
		w.Str("Name", u.name)
		w.Str("Type", "ORGANIZATIONAL_UNIT")
	case a != nil:
		w.Str("Arn", o.arn("account", "/"+id))
		w.Str("Name", a.Name)
		w.Str("Type", "ACCOUNT")
	default:
		w.Str("Arn", o.arn("root", "/"+id))
		w.Str("Name", "Root")
		w.Str("Type", "ROOT")
	}
}

// fullAccessPolicy is what AWS attaches to everything when service control policies are enabled.
func fullAccessPolicy() *policy {
	content, err := json.MarshalIndent(map[string]any{"Version": "2012-10-17", "Statement": []any{
		map[string]string{"Effect": "Allow", "Action": "*", "Resource": "*"},
	}}, "", "  ")
	if err != nil { // strings always marshal
		panic(err)
	}
	st := &policyState{
		name: "FullAWSAccess", description: "Allows access to every operation", content: string(content),
	}
	if err := st.understand(TypeSCP); err != nil { // it is ours
		panic(err)
	}
	return &policy{id: fullAccess, kind: TypeSCP, state: core.Always(st)}
}
