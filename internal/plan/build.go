package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// Proposal is one judged place with what its kinds propose.
type Proposal struct {
	Account policy.AccountFacts
	Report  *assess.Report
	Needs   []Need
	Manuals []Manual
	// Gaps is the number of scopes of the place that could not be read.
	Gaps int
}

// Describe completes a change with what its kind knows: disruption, undo, residue, AWS calls and the inverse by hand.
// A follow-up is complete as it is, and is not described.
type Describe func(c *Change) error

// Commands gives the AWS CLI commands that would make a change by hand; none where its kind knows none.
type Commands func(c *Change) []string

// Builder puts a plan together place by place, so that only the plan itself is ever held whole.
type Builder struct {
	config   *policy.Config
	describe Describe
	// ByHand is asked for the commands of changes that are left to people; nil gives none.
	ByHand Commands
	// Rates are AWS's limits as imdsctl uses them; nil gives no estimate.
	Rates Rates
	plan  *Plan
	// calendars are those in use. Stacks number them, from 1, in the order in which they came up; Finish orders them anew.
	calendars []policy.Calendar
	ramps     [][]policy.Share   // by wave of the plan
	replaced  map[fleet.Ref]bool // groups that replace their running instances
}

// NewBuilder starts a plan under a configuration.
func NewBuilder(config *policy.Config, header Header, describe Describe) *Builder {
	header.Format = FormatVersion
	header.Config = config.Digest()
	header.Rules = rules(config)
	header.Summary = Summary{Verdicts: map[string]int{}, Calls: map[string]int{}}
	return &Builder{config: config, describe: describe, plan: &Plan{Header: header}, replaced: map[fleet.Ref]bool{}}
}

// Add plans one place: it merges needs, drops what may not be written with all that depends on it, chains the changes of each
// resource, and groups them into stacks. An error is a defect of a kind, not of the fleet.
func (b *Builder) Add(p Proposal) error {
	placement, err := b.config.WaveOf(p.Account)
	if err != nil {
		return err
	}
	b.count(p)
	merged, err := merge(p.Needs)
	if err != nil {
		return err
	}
	kept, err := b.spare(p, merged)
	if err != nil {
		return err
	}
	ordered, err := sequence(b.replace(p, placement, kept))
	if err != nil {
		return err
	}
	changes, needs, err := b.chain(p, ordered)
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		return nil
	}
	return b.stack(p, placement, changes, needs)
}

func (b *Builder) count(p Proposal) {
	b.plan.Header.Summary.Gaps += p.Gaps
	for _, v := range p.Report.All() {
		if v.Ref.Kind == inventory.KindInstance {
			b.plan.Header.Summary.Verdicts[string(v.Status)]++
		}
		r := p.Report.Index.Resource(v.Ref)
		if v.Status == assess.Exempt {
			e, _, _ := b.config.Exempt(assess.Facts(p.Report.Index, r), b.plan.Header.Created)
			b.plan.Exempt = append(b.plan.Exempt, Exempt{Ref: r.Ref, Name: r.Name, Owner: e.Owner, Reason: e.Reason, Expires: e.Expires.String()})
		}
	}
	for _, m := range p.Manuals {
		m.Owner = code(p, m.Ref)
		b.plan.Manuals = append(b.plan.Manuals, m)
	}
}

// chain gives each change its whole before and after: the first change of a resource starts from what was found, each
// further one from what the one before will leave.
func (b *Builder) chain(p Proposal, ordered []*Need) ([]*Change, []*Need, error) {
	cursor := map[fleet.Ref]fleet.State{}
	last := map[fleet.Ref]string{}
	ids := map[string]bool{}
	var changes []*Change
	var needs []*Need
	for _, n := range ordered {
		r := p.Report.Index.Resource(n.Ref)
		if r == nil {
			return nil, nil, fmt.Errorf("%s is proposed for %s, which the scan does not know", n.Action, n.Ref)
		}
		before, ok := cursor[n.Ref]
		if !ok {
			before = r.State
		}
		after := before.With(n.Patch)
		if n.Class == ClassSet && after.Equal(before) {
			continue
		}
		if err := permitted(p.Report, n); err != nil {
			return nil, nil, err
		}
		if latest := len(changes) - 1; latest >= 0 { // most resources of a kind say the same, which a large plan then holds once
			before, after = sharing(changes[latest].Before, before), sharing(changes[latest].After, after)
		} else {
			before = before.Clone()
		}
		c := &Change{ID: changeID(n.Key()), Ref: n.Ref, Name: r.Name, Action: n.Action, Class: n.Class, Before: before, After: after,
			Params: n.Params, Outputs: n.Outputs, Why: n.Why, Owner: p.Report.Index.Code(r)}
		for _, a := range n.After {
			if id := changeID(a); ids[id] {
				c.Needs = append(c.Needs, id)
			}
		}
		if id := last[n.Ref]; id != "" {
			c.Needs = append(c.Needs, id)
		}
		slices.Sort(c.Needs)
		c.Needs = slices.Compact(c.Needs)
		c.Evidence, c.Override = support(p.Report, n)
		if err := b.describe(c); err != nil {
			return nil, nil, fmt.Errorf("%s of %s: %w", n.Action, n.Ref, err)
		}
		cursor[n.Ref], last[n.Ref], ids[c.ID] = after, c.ID, true
		changes, needs = append(changes, c), append(needs, n)
	}
	return changes, needs, nil
}

// sharing gives the known state if s is equal to it, and else a copy of s. The states of a plan are for reading.
func sharing(known, s fleet.State) fleet.State {
	if known != nil && known.Equal(s) {
		return known
	}
	return s.Clone()
}

// permitted is the safety contract's fourth line, checked once more for all kinds: nothing is made to require tokens while a
// lineage it serves is blocked or unknown.
func permitted(report *assess.Report, n *Need) error {
	for _, ref := range append([]fleet.Ref{n.Ref}, n.For...) {
		v := report.Verdict(ref)
		serves := ref != n.Ref || n.Stage == StageFleet || n.Stage.late()
		if !serves || v != nil && (v.Status == assess.Ready || v.Status == assess.Done) {
			continue
		}
		return fmt.Errorf("%s of %s would reach %s, which is not ready", n.Action, n.Ref, ref)
	}
	return nil
}

// support states what a change rests on: the verdict of the resource itself where it was judged by evidence, else the
// verdict of the first lineage it serves.
func support(report *assess.Report, n *Need) (Evidence, string) {
	override := ""
	var best *assess.Verdict
	for _, ref := range append([]fleet.Ref{n.Ref}, n.For...) {
		v := report.Verdict(ref)
		if v == nil {
			continue
		}
		if v.Override != "" {
			override = v.Override
		}
		if best == nil || best.Basis.Members == 0 {
			best = v
		}
	}
	if best == nil {
		return Evidence{}, override
	}
	e := best.Basis
	var sources []string
	for _, s := range best.Sources {
		sources = append(sources, s.String())
	}
	if len(sources) == 1 {
		sources = nil
	}
	return Evidence{Sources: strings.Join(sources, "; "), Verdict: string(best.Status), Reason: best.Why(), Source: string(e.Source),
		Lineage: e.Lineage.ID, Start: e.Start,
		End: e.End, Calls: e.Calls, Covered: e.Covered, Periods: e.Periods, Boots: e.Boots, Members: e.Members}, override
}

// Finish orders stacks, those with the worst risk of a wave first, and changes, fills in waves and sums, and gives the plan. Its digest
// is set when it is written.
func (b *Builder) Finish() *Plan {
	p := b.plan
	b.waves()
	slices.SortFunc(p.Stacks, func(x, y Stack) int {
		return cmp.Or(cmp.Compare(x.Wave, y.Wave), x.Risk.Compare(y.Risk), x.Place.Compare(y.Place), cmp.Compare(x.Name, y.Name),
			cmp.Compare(x.ID, y.ID))
	})
	b.rings()
	b.orderCalendars()
	position := make(map[string]int, len(p.Stacks))
	for i, s := range p.Stacks {
		position[s.ID] = i
	}
	// Within a step the order in which changes were chained is kept: a change never stands before one it needs.
	slices.SortStableFunc(p.Changes, func(x, y Change) int {
		return cmp.Or(cmp.Compare(position[x.Stack], position[y.Stack]), cmp.Compare(x.Step, y.Step))
	})
	slices.SortFunc(p.Manuals, func(x, y Manual) int { return cmp.Or(x.Ref.Compare(y.Ref), strings.Compare(x.Reason, y.Reason)) })
	p.Manuals = slices.CompactFunc(p.Manuals, func(x, y Manual) bool { return x.Ref == y.Ref && x.Reason == y.Reason })
	slices.SortFunc(p.Exempt, func(x, y Exempt) int { return x.Ref.Compare(y.Ref) })
	s := &p.Header.Summary
	s.Changes, s.Stacks, s.Manuals, s.Exempt = 0, len(p.Stacks), len(p.Manuals), len(p.Exempt)
	for i := range p.Changes {
		if p.Changes[i].Ref.Kind == KindFollowUp {
			s.FollowUps++
		} else {
			s.Changes++
		}
		for action, n := range p.Changes[i].Calls {
			s.Calls[action] += n
		}
	}
	if b.Rates != nil {
		p.Header.Estimate = NewEstimate(p, b.Rates)
	}
	return p
}

// waves numbers the waves that have something to do. imdsctl's own hosts wait for all other stacks, so they and what
// follows them belong to the last of the configured waves; what cannot be undone, and the organization's policies, have waves
// of their own after that, each with an approval of its own.
func (b *Builder) waves() {
	p := b.plan
	accounts, last := map[int]map[fleet.AccountID]bool{}, 0
	for _, s := range p.Stacks {
		if s.Wave < len(b.config.Waves) {
			last = max(last, s.Wave)
		}
	}
	for i := range p.Stacks {
		s := &p.Stacks[i]
		if s.Last && s.Wave < len(b.config.Waves) {
			s.Wave = last
		}
		if accounts[s.Wave] == nil {
			accounts[s.Wave] = map[fleet.AccountID]bool{}
		}
		accounts[s.Wave][s.Place.Account] = true
	}
	renumber := map[int]int{}
	add := func(i int, name string, approval bool, ramp []policy.Share) {
		if len(accounts[i]) > 0 {
			renumber[i] = len(p.Header.Waves)
			b.ramps = append(b.ramps, ramp)
			p.Header.Waves = append(p.Header.Waves, Wave{Name: name, Accounts: slices.Sorted(maps.Keys(accounts[i])), Approval: approval})
		}
	}
	for i, w := range b.config.Waves {
		add(i, w.Name, w.Approval, b.config.RampOf(i))
	}
	for i, stage := range lateStages() {
		add(len(b.config.Waves)+i, b.waveName(string(stage)), true, b.config.RampOf(len(b.config.Waves)-1))
	}
	for i := range p.Stacks {
		p.Stacks[i].Wave = renumber[p.Stacks[i].Wave]
	}
}

// waveName is a name that no wave of the configuration has.
func (b *Builder) waveName(name string) string {
	for slices.ContainsFunc(b.config.Waves, func(w policy.Wave) bool { return w.Name == name }) {
		name += " (at the end)"
	}
	return name
}

func stackID(place fleet.Place, keys []string) string {
	sum := sha256.Sum256([]byte(place.String() + "\n" + strings.Join(keys, "\n")))
	return "s-" + hex.EncodeToString(sum[:5])
}
