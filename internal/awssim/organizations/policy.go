package organizations

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/authz"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// The policy types that have an effect here. The names of all others are known, and there are no policies of them.
const (
	TypeSCP         = "SERVICE_CONTROL_POLICY"
	TypeDeclarative = "DECLARATIVE_POLICY_EC2"
)

// otherTypes are the further types of the API model.
var otherTypes = []string{
	"RESOURCE_CONTROL_POLICY", "TAG_POLICY", "BACKUP_POLICY", "AISERVICES_OPT_OUT_POLICY", "CHATBOT_POLICY",
	"SECURITYHUB_POLICY", "SECURITYHUB_CSPM_POLICY", "INSPECTOR_POLICY", "UPGRADE_ROLLOUT_POLICY", "BEDROCK_POLICY",
	"S3_POLICY", "NETWORK_SECURITY_DIRECTOR_POLICY", "GUARDDUTY_POLICY",
}

// PolicySeed is a policy that is there already.
type PolicySeed struct {
	ID          string `json:"id,omitempty"` // made when empty
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Type        string `json:"type"`
	// Content is the document, or a string that holds it character by character.
	Content json.RawMessage `json:"content"`
	// Targets are ids or names: "root", an organizational unit, an account.
	Targets []string          `json:"targets,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
}

// fullAccess is the policy of AWS's own that is attached to everything as long as nobody detaches it.
const fullAccess = "p-FullAWSAccess"

// policy is one policy. What changes is in its state.
type policy struct {
	id, kind string
	tags     map[string]string
	state    core.Versioned[*policyState]
}

// policyState is never changed once it is set. A nil state is a policy that is not there (yet, or any more).
type policyState struct {
	name, description, content string
	// targets are ids in the order in which the policy was attached to them; of fullAccess, those it was detached from.
	targets []string
	rules   *authz.Policy // of an SCP
	says    *attributes   // of a declarative policy
}

var policyID = regexp.MustCompile(`^p-[0-9a-zA-Z_]{8,128}$`)

// Longest documents: https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html
var maxContent = map[string]int{TypeSCP: 10240, TypeDeclarative: 10000}

// maxAttached is how many policies of one type may be attached to one root, unit or account; same source.
const maxAttached = 10

// understand parses a document by its type.
func (s *policyState) understand(kind string) error {
	var err error
	switch kind {
	case TypeSCP:
		s.rules, err = authz.Parse(s.content)
	case TypeDeclarative:
		s.says, err = parseAttributes(s.content)
	}
	return err
}

// seedPolicies adds what a seed has.
func (s *settings) seedPolicies(w *core.World, seeds []PolicySeed, path string) error {
	o := s.view(w)
	for i, seed := range seeds {
		p, err := s.seeded(w, o, seed)
		if err != nil {
			return fmt.Errorf("%s.policies[%d]: %w", path, i, err)
		}
		s.policies = append(s.policies, p)
	}
	return nil
}

func (s *settings) seeded(w *core.World, o *organization, seed PolicySeed) (*policy, error) {
	p := &policy{id: cmp.Or(seed.ID, newPolicyID(w)), kind: seed.Type, tags: seed.Tags}
	if !policyID.MatchString(p.id) || s.policy(p.id) != nil {
		return nil, fmt.Errorf("id %q: want p- and 8 to 128 letters and digits, each once", p.id)
	}
	if maxContent[seed.Type] == 0 {
		return nil, fmt.Errorf("type %q: want %s or %s", seed.Type, TypeSCP, TypeDeclarative)
	}
	st := &policyState{name: seed.Name, description: seed.Description}
	if err := json.Unmarshal(seed.Content, &st.content); err != nil {
		st.content = string(seed.Content)
	}
	if err := st.understand(seed.Type); err != nil {
		return nil, err
	}
	for _, t := range seed.Targets {
		id, ok := o.targetNamed(t)
		if !ok {
			return nil, fmt.Errorf("target %q is neither root nor a unit nor an account of the organization", t)
		}
		st.targets = append(st.targets, id)
	}
	p.state = core.Always(st)
	return p, nil
}

// newPolicyID makes an id of the usual form.
func newPolicyID(w *core.World) string { return "p-" + letters(w.NewID("policy-"), 10) }

// targetNamed finds a target by its id or by its name.
func (o *organization) targetNamed(name string) (string, bool) {
	if name == "root" || name == o.root {
		return o.root, true
	}
	for i := range o.units {
		if o.units[i].name == name || o.units[i].id == name {
			return o.units[i].id, true
		}
	}
	if o.account(fleet.AccountID(name)) != nil {
		return name, true
	}
	return "", false
}

// isTarget tells whether the id names something that policies are attached to.
func (o *organization) isTarget(id string) bool {
	return o.isParent(id) || o.account(fleet.AccountID(id)) != nil
}

// above lists what an account inherits from, the root first and the account itself last.
func (o *organization) above(id fleet.AccountID) []string {
	a := o.account(id)
	if a == nil {
		return nil
	}
	out := []string{string(id)}
	for at := a.parent; at != ""; {
		out = append(out, at)
		u := o.unitBy(at)
		if u == nil {
			break
		}
		at = u.parent
	}
	slices.Reverse(out)
	return out
}

// policy finds a policy that is there; the caller holds the lock.
func (s *settings) policy(id string) *policy {
	for _, p := range s.policies {
		if p.id == id && p.state.Newest() != nil {
			return p
		}
	}
	return nil
}

// binds tells whether a policy is attached to a target itself.
func (p *policy) binds(st *policyState, target string) bool {
	return slices.Contains(st.targets, target) != (p.id == fullAccess)
}

// attached lists the policies of a type on a target, the oldest attachment last known first.
func (s *settings) attached(kind, target string, read func(*core.Versioned[*policyState]) *policyState) []*policyState {
	var out []*policyState
	for _, p := range s.policies {
		if st := read(&p.state); p.kind == kind && st != nil && p.binds(st, target) {
			out = append(out, st)
		}
	}
	return out
}

// guardrails gives the service control policies that bind an account, level by level. They do not bind the management
// account: https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_policies_scps.html
func (s *settings) guardrails(w *core.World, account fleet.AccountID) [][]*authz.Policy {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.governs(TypeSCP) {
		return nil
	}
	o := s.view(w)
	if account == o.management {
		return nil
	}
	var out [][]*authz.Policy
	for _, target := range o.above(account) {
		level := []*authz.Policy{}
		for _, st := range s.attached(TypeSCP, target, (*core.Versioned[*policyState]).Newest) {
			level = append(level, st.rules)
		}
		out = append(out, level)
	}
	return out
}

// governs tells whether policies of a type have an effect at all: the type is enabled, and somebody has written one.
func (s *settings) governs(kind string) bool {
	return slices.Contains(s.PolicyTypes, kind) && slices.ContainsFunc(s.policies, func(p *policy) bool {
		st := p.state.Newest()
		return p.kind == kind && st != nil && (p.id != fullAccess || len(st.targets) > 0)
	})
}

// enforce puts the policies into effect: SCPs at every call from now on, declared defaults in every account, which shows
// after the delay.
func (s *settings) enforce(w *core.World, now time.Time, delay time.Duration) {
	w.SetGuardrails(func(account fleet.AccountID) [][]*authz.Policy { return s.guardrails(w, account) })
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.view(w)
	for i := range o.accounts {
		id := o.accounts[i].ID
		says := s.effective(o, id)
		if had := s.declared[id]; !says.equal(had) {
			s.declared[id] = says
			declare(w, now, delay, id, says)
		}
	}
}

// effective is what the declarative policies come to for an account; nil where there are none.
func (s *settings) effective(o *organization, account fleet.AccountID) *attributes {
	if !s.governs(TypeDeclarative) {
		return nil
	}
	var out *attributes
	for _, target := range o.above(account) {
		for _, st := range s.attached(TypeDeclarative, target, (*core.Versioned[*policyState]).Newest) {
			out = out.inherit(st.says)
		}
	}
	return out
}
