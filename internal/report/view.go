package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// undisrupted is the disruption of a change that what runs does not notice.
const undisrupted = "none"

// view is a plan as its page shows it.
type view struct {
	Header  plan.Header
	Digest  string
	Now     time.Time
	File    string
	Summary plan.Summary
	Stacks  int
	// Accounts is their number.
	Accounts   int
	Attention  []string
	Kinds      []kindRow
	Waves      []waveRow
	Rules      [][2]string
	Calendars  []calendarRow
	Gates      []gateRow
	FollowUps  []tally
	Evidence   evidenceFacts
	Overrides  []group
	Disrupting []tally
	Disturbing int // follow-ups that may disturb what runs
	Calls      []tally
	GateCalls  []tally
	CallsTotal int
	Places     list[placeRow]
	Detailed   []*stackView
	Brief      list[stackRow]
	Listed     int // changes that the page lists one by one
	Unlisted   int
	Manuals    []group
	Exempt     list[plan.Exempt]
	Verdicts   []tally
	Gaps       list[gapRow]
}

// list is a part of a longer list.
type list[T any] struct {
	Rows []T
	Left int
}

func clip[T any](all []T, most int) list[T] {
	n := min(most, len(all))
	return list[T]{all[:n], len(all) - n}
}

type tally struct {
	Name  string
	Count int
	Note  string
}

type kindRow struct {
	Stage                     plan.Stage
	Kind, Action, Undo, Hurts string
	Changes                   int
}

type waveRow struct {
	Number                            int
	Name                              string
	Approval                          bool
	Accounts                          list[fleet.AccountID]
	Criticality                       string
	Stacks, Changes, Rings, InWindows int
	Bake                              time.Duration // of the stack that is watched longest
	Estimate                          *plan.WaveEstimate
}

// Before is the number of the wave that goes before it.
func (w waveRow) Before() int { return w.Number - 1 }

// Total is the number of accounts of the wave.
func (w waveRow) Total() int { return len(w.Accounts.Rows) + w.Accounts.Left }

type calendarRow struct {
	Stacks int
	Now    string
	Lines  []string
}

type gateRow struct {
	Name, Target string
	Stacks       int
}

type placeRow struct {
	Place           fleet.Place
	Wave            string
	Stacks, Changes int
}

type evidenceFacts struct {
	Start, End time.Time
	Sources    string
	Calls      int64
	Without    int // changes that rest on no observation, but an override or on what others are
}

// gapRow is what could not be read of one kind in the regions of an account, for one cause.
type gapRow struct {
	Account       fleet.AccountID
	Kind, Regions string
	Class         fleet.ErrorClass
	Detail        string // of the first of them
}

// group is one text with the resources that it holds for.
type group struct {
	Text, Remedy string
	Count        int
	Items        list[item]
}

type item struct {
	Ref      fleet.Ref
	Name     string
	Note     string
	Commands []string
}

func newView(p *plan.Plan, o Options) *view {
	v := &view{Header: p.Header, Digest: p.Digest, Now: o.Now, File: cmp.Or(o.File, "plan.json"), Summary: p.Header.Summary,
		Stacks: len(p.Stacks)}
	v.Kinds, v.Disrupting = kinds(p)
	v.Waves, v.Accounts = waves(p, o.Limits)
	v.Rules = [][2]string{{"Pace", Pace(p.Header.Rules)}, {"Gates", Gates(p.Header.Rules)}, {"Failures", Failures(p.Header.Rules)}}
	v.Calendars, v.Gates = calendars(p, o.Now), gates(p)
	v.FollowUps, v.Disturbing = followUps(p)
	v.Evidence = evidence(p)
	v.Overrides = overrides(p, o.Limits)
	v.Calls = tallies(p.Header.Summary.Calls)
	if e := p.Header.Estimate; e != nil {
		v.GateCalls = tallies(e.GateCalls)
	}
	for _, c := range v.Calls {
		v.CallsTotal += c.Count
	}
	v.Places = clip(places(p), o.Limits.List)
	v.stacks(p, o.Limits)
	v.Manuals = manuals(p, o.Limits)
	v.Exempt = clip(p.Exempt, o.Limits.List)
	for _, s := range assess.Statuses() {
		if n := p.Header.Summary.Verdicts[string(s)]; n > 0 {
			v.Verdicts = append(v.Verdicts, tally{string(s), n, verdictWords(s)})
		}
	}
	v.Gaps = clip(gaps(o.Gaps), o.Limits.List)
	v.Attention = v.attention(p)
	return v
}

func verdictWords(s assess.Status) string {
	return map[assess.Status]string{
		assess.Ready:   "nobody was seen to call IMDSv1 in the whole window; these are changed where the plan says so",
		assess.Blocked: "somebody calls IMDSv1, or somebody else owns the setting; left as they are",
		assess.Unknown: "too little was observed to tell; left as they are",
		assess.Done:    "IMDSv1 is refused already, or the endpoint is off",
		assess.Exempt:  "an exception in force names them; never touched",
	}[s]
}

// attention lists what a board should think about before anything else.
func (v *view) attention(p *plan.Plan) []string {
	var out []string
	count := map[string]int{}
	for i := range p.Changes {
		c := &p.Changes[i]
		if c.Ref.Kind == plan.KindFollowUp {
			continue
		}
		if c.Undo == plan.UndoNone {
			count["irreversible"]++
		}
		if c.Override != "" {
			count["override"]++
		}
	}
	if n := count["irreversible"]; n > 0 {
		out = append(out, Plural(n, "change")+" cannot be undone.")
	}
	if p.Header.Rules.Irreversible {
		out = append(out, "Changes that AWS would not let be undone are made all the same: `rollout.irreversible` allows it.")
	}
	for _, d := range v.Disrupting {
		out = append(out, fmt.Sprintf("%s what runs: %s.", d.Name, Plural(d.Count, "change")))
	}
	if v.Disturbing > 0 {
		out = append(out, Plural(v.Disturbing, "follow-up")+" may disturb what runs: see Follow-ups.")
	}
	if n := count["override"]; n > 0 {
		out = append(out, "A person's decision, and not evidence alone, stands behind "+Plural(n, "change")+": see Overrides.")
	}
	if n := p.Header.Summary.Gaps; n > 0 {
		out = append(out, Plural(n, "scope")+" could not be read: what is there is not known, and nothing that rests on it is planned.")
	}
	if e := p.Header.Estimate; e != nil && e.Never != "" {
		out = append(out, "It cannot come to its end: "+e.Never+".")
	}
	return out
}

// kinds counts changes by what they do, and those that what runs will notice by how.
func kinds(p *plan.Plan) ([]kindRow, []tally) {
	stage := map[string][]plan.Step{}
	for i := range p.Stacks {
		stage[p.Stacks[i].ID] = p.Stacks[i].Steps
	}
	counts, hurts := map[kindRow]int{}, map[string]int{}
	for i := range p.Changes {
		c := &p.Changes[i]
		k := kindRow{Kind: c.Ref.Kind, Action: c.Action, Undo: c.Undo, Hurts: c.Disruption}
		if c.Action == plan.ActionLaunched || c.Action == plan.ActionReplaced {
			k.Undo = "it only watches"
		}
		if steps := stage[c.Stack]; c.Step < len(steps) {
			k.Stage = steps[c.Step].Stage
		}
		counts[k]++
		if c.Ref.Kind != plan.KindFollowUp && c.Disruption != undisrupted {
			hurts[c.Disruption]++
		}
	}
	order := plan.Stages()
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b kindRow) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Stage), slices.Index(order, b.Stage)), cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Action, b.Action), cmp.Compare(a.Undo, b.Undo), cmp.Compare(a.Hurts, b.Hurts))
	})
	for i := range keys {
		keys[i].Changes = counts[keys[i]]
	}
	disrupting := tallies(hurts)
	for i, d := range disrupting {
		words, ok := map[string]string{"restart": "Restarts", "replace": "Replaces"}[d.Name]
		if !ok {
			words = "Disturbs (" + d.Name + ")"
		}
		disrupting[i].Name = words
	}
	return keys, disrupting
}

// tallies sorts counts, the largest first.
func tallies(m map[string]int) []tally {
	out := make([]tally, 0, len(m))
	for name, n := range m {
		out = append(out, tally{Name: name, Count: n})
	}
	slices.SortFunc(out, func(a, b tally) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name)) })
	return out
}

func waves(p *plan.Plan, limits Limits) ([]waveRow, int) {
	out := make([]waveRow, len(p.Header.Waves))
	accounts := map[fleet.AccountID]bool{}
	criticality := make([][]string, len(out))
	for i, w := range p.Header.Waves {
		out[i] = waveRow{Number: i + 1, Name: w.Name, Approval: w.Approval, Accounts: clip(w.Accounts, limits.List)}
		if e := p.Header.Estimate; e != nil && i < len(e.Waves) {
			out[i].Estimate = &e.Waves[i]
		}
		for _, id := range w.Accounts {
			accounts[id] = true
		}
	}
	for i := range p.Stacks {
		s := &p.Stacks[i]
		w := &out[s.Wave]
		w.Stacks, w.Rings = w.Stacks+1, max(w.Rings, s.Ring+1)
		if s.Calendar > 0 {
			w.InWindows++
		}
		var bake time.Duration
		for _, step := range s.Steps {
			w.Changes, bake = w.Changes+step.Changes, bake+step.Bake
		}
		w.Bake = max(w.Bake, bake)
		if !slices.Contains(criticality[s.Wave], string(s.Criticality)) {
			criticality[s.Wave] = append(criticality[s.Wave], string(s.Criticality))
		}
	}
	for i := range out {
		slices.Sort(criticality[i])
		out[i].Criticality = strings.Join(criticality[i], ", ")
	}
	return out, len(accounts)
}

func calendars(p *plan.Plan, now time.Time) []calendarRow {
	if len(p.Header.Calendars) == 0 {
		return nil
	}
	out := make([]calendarRow, len(p.Header.Calendars)+1)
	for i, c := range p.Header.Calendars {
		o := c.At(now)
		words := "open"
		switch {
		case !o.Open && o.Until.IsZero():
			words = o.Why + ", and never opens"
		case !o.Open:
			words = o.Why + ", opens " + stamp(o.Until)
		case !o.Until.IsZero():
			words = "open until " + stamp(o.Until)
		}
		out[i+1] = calendarRow{Now: words, Lines: CalendarLines(c)}
	}
	out[0] = calendarRow{Now: "open", Lines: []string{"at any time"}}
	for i := range p.Stacks {
		out[p.Stacks[i].Calendar].Stacks++
	}
	return slices.DeleteFunc(out, func(r calendarRow) bool { return r.Stacks == 0 })
}

func gates(p *plan.Plan) []gateRow {
	out := make([]gateRow, len(p.Header.Rules.Gates))
	for i, g := range p.Header.Rules.Gates {
		out[i] = gateRow{Name: GateName(g), Target: GateTarget(g)}
	}
	for i := range p.Stacks {
		for _, g := range p.Stacks[i].Gates {
			out[g].Stacks++
		}
	}
	return out
}

// followUps counts follow-ups by what they do, and those that may disturb what runs.
func followUps(p *plan.Plan) (all []tally, disturbing int) {
	counts := map[string]int{}
	for i := range p.Changes {
		if c := &p.Changes[i]; c.Ref.Kind == plan.KindFollowUp {
			counts[c.Params[plan.ParamName]+": "+FollowUp(c)]++
			if c.Disruption != undisrupted {
				disturbing++
			}
		}
	}
	return tallies(counts), disturbing
}

// gaps joins the scopes of an account that were not read for the same cause, one row for all their regions.
func gaps(scopes []inventory.Scope) []gapRow {
	type key struct {
		account fleet.AccountID
		kind    string
		class   fleet.ErrorClass
	}
	var out []gapRow
	at := map[key]int{}
	for _, s := range scopes {
		k := key{s.Place.Account, s.Kind, s.Class}
		region := cmp.Or(string(s.Place.Region), "global")
		if i, ok := at[k]; ok {
			out[i].Regions += ", " + region
			continue
		}
		at[k] = len(out)
		out = append(out, gapRow{Account: s.Place.Account, Kind: s.Kind, Regions: region, Class: s.Class, Detail: s.Detail})
	}
	return out
}

func evidence(p *plan.Plan) evidenceFacts {
	var out evidenceFacts
	sources := map[string]bool{}
	for i := range p.Changes {
		c := &p.Changes[i]
		e := c.Evidence
		if c.Ref.Kind == plan.KindFollowUp {
			continue
		}
		if e.Periods == 0 {
			out.Without++
			continue
		}
		if out.Start.IsZero() || e.Start.Before(out.Start) {
			out.Start = e.Start
		}
		if e.End.After(out.End) {
			out.End = e.End
		}
		out.Calls += e.Calls
		if e.Source != "" {
			sources[e.Source] = true
		}
	}
	out.Sources = strings.Join(slices.Sorted(maps.Keys(sources)), ", ")
	return out
}

// overrides groups the changes that somebody answers for by who and why.
func overrides(p *plan.Plan, limits Limits) []group {
	g := newGroups(limits)
	for i := range p.Changes {
		c := &p.Changes[i]
		if c.Override != "" && c.Ref.Kind != plan.KindFollowUp {
			// The reason ends with the override itself, which stands above them all.
			reason := strings.TrimSuffix(c.Evidence.Reason, "; "+strings.Replace(c.Override, ": ", " accepts it: ", 1))
			g.add(c.Override, "", item{Ref: c.Ref, Name: c.Name, Note: fmt.Sprintf("%s v1 calls in its lineage; %s", Count(c.Evidence.Calls), reason)})
		}
	}
	return g.sorted()
}

func manuals(p *plan.Plan, limits Limits) []group {
	g := newGroups(limits)
	for _, m := range p.Manuals {
		g.add(m.Reason, m.Remedy, item{Ref: m.Ref, Name: m.Name, Commands: m.Commands})
	}
	return g.sorted()
}

// groups collects resources by text, as many of each as the limits allow.
type groups struct {
	limits Limits
	by     map[[2]string]*group
}

func newGroups(l Limits) *groups { return &groups{limits: l, by: map[[2]string]*group{}} }

func (g *groups) add(text, remedy string, it item) {
	k := [2]string{text, remedy}
	if g.by[k] == nil {
		g.by[k] = &group{Text: text, Remedy: remedy}
	}
	to := g.by[k]
	to.Count++
	if len(to.Items.Rows) < g.limits.PerForm {
		to.Items.Rows = append(to.Items.Rows, it)
	} else {
		to.Items.Left++
	}
}

// sorted gives the groups, the largest first, and joins those over the limit into one that only counts.
func (g *groups) sorted() []group {
	out := make([]group, 0, len(g.by))
	for _, v := range g.by {
		out = append(out, *v)
	}
	slices.SortFunc(out, func(a, b group) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Text, b.Text), cmp.Compare(a.Remedy, b.Remedy))
	})
	if len(out) > g.limits.List {
		rest := group{Text: fmt.Sprintf("… and %s, which are not printed", Plural(len(out)-g.limits.List, "further reason"))}
		for _, v := range out[g.limits.List:] {
			rest.Count += v.Count
		}
		rest.Items.Left = rest.Count
		out = append(out[:g.limits.List], rest)
	}
	return out
}

func places(p *plan.Plan) []placeRow {
	type key struct {
		place fleet.Place
		wave  int
	}
	rows := map[key]*placeRow{}
	for i := range p.Stacks {
		s := &p.Stacks[i]
		k := key{s.Place, s.Wave}
		if rows[k] == nil {
			rows[k] = &placeRow{Place: s.Place, Wave: p.Header.Waves[s.Wave].Name}
		}
		rows[k].Stacks++
		for _, step := range s.Steps {
			rows[k].Changes += step.Changes
		}
	}
	var out []placeRow
	for _, k := range slices.SortedFunc(maps.Keys(rows), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.wave, b.wave), a.place.Compare(b.place))
	}) {
		out = append(out, *rows[k])
	}
	return out
}
