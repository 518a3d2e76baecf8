package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// Difference is what somebody who knows one plan must be told of another.
//
// What only says when a plan was made makes no difference: its time, the window and the numbers of evidence whose verdict is the
// same, and what was estimated from that. It is told all the same, in Course and Renewed.
type Difference struct {
	// Rules are what binds a rollout as a whole: pace, gates, budgets, waves and their approvals, windows and freezes.
	Rules []Field `json:"rules"`
	// Left counts what is not changed: instances by verdict, and what could not be read.
	Left    []Field           `json:"left"`
	Stacks  []StackDifference `json:"stacks"`
	Changes Differences       `json:"changes"`
	Manuals Differences       `json:"manual_steps"`
	Exempt  Differences       `json:"exempt"`
	// Course is what follows from the rest: how long it takes, which calls it makes, what gates cost.
	Course []Field `json:"course"`
	// Same is the number of changes that are in both as they are, Renewed how many of them rest on other numbers.
	Same    int `json:"same"`
	Renewed int `json:"renewed"`
}

// Differences are entries of one sort: those of the new plan only, of the old one only, and those of both that differ.
type Differences struct {
	Came   []Entry `json:"came"`
	Went   []Entry `json:"went"`
	Differ []Entry `json:"differ"`
}

// Entry names a change, a manual step or an exempt resource. Name, Stack and Wave are the new plan's, if it has the entry.
type Entry struct {
	ID     string    `json:"id,omitempty"`
	Ref    fleet.Ref `json:"ref"`
	Name   string    `json:"name,omitempty"`
	Action string    `json:"action,omitempty"`
	Stage  Stage     `json:"stage,omitempty"`
	Stack  string    `json:"stack,omitempty"`
	Wave   string    `json:"wave,omitempty"`
	// Why is the reason of a manual step or an exemption.
	Why    string  `json:"why,omitempty"`
	Fields []Field `json:"fields,omitempty"`
}

// StackDifference is a stack of both plans that differs in how it is carried out, or one of them has alone.
type StackDifference struct {
	ID    string      `json:"id"`
	Name  string      `json:"name"`
	Place fleet.Place `json:"place"`
	// Only is "old" or "new" where only one plan has the stack.
	Only string `json:"only,omitempty"`
	// From and To are its waves; they differ where it moved.
	From   string  `json:"from,omitempty"`
	To     string  `json:"to,omitempty"`
	Fields []Field `json:"fields,omitempty"`
}

// Moved tells whether the stack goes in another wave now.
func (s *StackDifference) Moved() bool { return s.Only == "" && s.From != s.To }

// Field is one thing that differs. What a plan does not have is Unset.
type Field struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
}

// Unset stands for a value that is not there.
const Unset = "(unset)"

// What StackDifference.Only says.
const (
	OnlyOld = "old"
	OnlyNew = "new"
)

// Equal tells that both plans do the same, in the same order and under the same rules.
func (d *Difference) Equal() bool {
	n := len(d.Rules) + len(d.Left) + len(d.Stacks)
	for _, s := range []*Differences{&d.Changes, &d.Manuals, &d.Exempt} {
		n += s.Len()
	}
	return n == 0
}

// Len is the number of entries that came, went or differ.
func (d *Differences) Len() int { return len(d.Came) + len(d.Went) + len(d.Differ) }

// Compare says how a plan differs from an older one. It takes time in proportion to their size.
func Compare(before, after *Plan) *Difference {
	c := &comparison{old: newSide(before), new: newSide(after), out: &Difference{}}
	c.out.Rules = slices.Concat(c.rules(), c.waves(), c.calendars())
	c.out.Left = c.left()
	c.stacks()
	c.changes()
	c.manuals()
	c.exempt()
	c.course()
	return c.out.whole()
}

// whole gives lists where there is nothing to list, for those who read them as JSON.
func (d *Difference) whole() *Difference {
	for _, l := range []*[]Field{&d.Rules, &d.Left, &d.Course} {
		*l = append([]Field{}, *l...)
	}
	for _, s := range []*Differences{&d.Changes, &d.Manuals, &d.Exempt} {
		for _, l := range []*[]Entry{&s.Came, &s.Went, &s.Differ} {
			if *l == nil {
				*l = []Entry{}
			}
		}
	}
	if d.Stacks == nil {
		d.Stacks = []StackDifference{}
	}
	return d
}

type comparison struct {
	old, new *side
	out      *Difference
}

// side is one of the two plans, with ways to find things in it.
type side struct {
	*Plan
	stacks map[string]*Stack
	keys   []string          // of the changes: see key
	byKey  map[string]int    // index of a change
	byID   map[string]string // key of a change's id
	waves  []string          // by index: the name, with its number where two have one name
}

func newSide(p *Plan) *side {
	s := &side{Plan: p, stacks: make(map[string]*Stack, len(p.Stacks)), byKey: make(map[string]int, len(p.Changes)),
		byID: make(map[string]string, len(p.Changes)), keys: make([]string, len(p.Changes))}
	for i := range p.Stacks {
		s.stacks[p.Stacks[i].ID] = &p.Stacks[i]
	}
	for i := range p.Changes {
		k := s.key(&p.Changes[i])
		for _, taken := s.byKey[k]; taken; _, taken = s.byKey[k] {
			k += "'"
		}
		s.keys[i], s.byKey[k], s.byID[p.Changes[i].ID] = k, i, k
	}
	for i, w := range p.Header.Waves {
		name := w.Name
		if slices.ContainsFunc(p.Header.Waves[:i], func(x Wave) bool { return x.Name == name }) {
			name += fmt.Sprintf(" (wave %d)", i+1)
		}
		s.waves = append(s.waves, name)
	}
	return s
}

// key identifies a change across plans. A change's id follows from what it does; a follow-up's holds the time of the plan too.
func (s *side) key(c *Change) string {
	if c.Ref.Kind != KindFollowUp {
		return c.ID
	}
	return changeID(NeedKey(s.ref(c), c.Action, ""))
}

// ref is the reference of a change, without the time of the plan that a follow-up's has.
func (s *side) ref(c *Change) fleet.Ref {
	if c.Ref.Kind != KindFollowUp {
		return c.Ref
	}
	return c.Ref.Sibling(c.Ref.Kind, strings.TrimSuffix(c.Ref.ID, "/"+s.made()))
}

// made is when the plan was made, as follow-ups and parameters say it.
func (s *side) made() string { return strconv.FormatInt(s.Header.Created.Unix(), 10) }

// differing collects fields.
type differing []Field

func (d *differing) add(field, before, after string) {
	if before != after {
		*d = append(*d, Field{field, before, after})
	}
}

// maps adds what differs between two maps of texts, each key under a prefix.
func (d *differing) maps(prefix string, before, after map[string]string) {
	if maps.Equal(before, after) {
		return
	}
	for _, f := range fleet.Diff(before, after) {
		field := Field{prefix + f.Field, Unset, Unset}
		if f.HadBefore {
			field.Old = f.Before
		}
		if f.HasAfter {
			field.New = f.After
		}
		*d = append(*d, field)
	}
}

// rules compares the rules by their names in the file, so that none can be forgotten here, and the further gates one by one.
func (c *comparison) rules() []Field {
	var out differing
	flat := func(s *side) map[string]string {
		r := s.Header.Rules
		r.Gates = nil
		return flatten(r, "metric_delay", "gate_interval", "gate_patience")
	}
	out.maps("", flat(c.old), flat(c.new))
	gates := func(s *side) map[string]string {
		m := map[string]string{}
		for _, g := range s.Header.Rules.Gates {
			m[gateName(g)] = words(flatten(g, "timeout"))
		}
		return m
	}
	out.maps("gate ", gates(c.old), gates(c.new))
	never := func(s *side) string {
		if s.Header.Estimate == nil {
			return ""
		}
		return s.Header.Estimate.Never
	}
	out.add("cannot end", cmp.Or(never(c.old), Unset), cmp.Or(never(c.new), Unset))
	return out
}

// flatten gives the fields of v as its JSON names and writes them; those named are durations. A field that JSON leaves out is
// not there.
func flatten(v any, durations ...string) map[string]string {
	raw, err := json.Marshal(v)
	if err != nil {
		return map[string]string{"": err.Error()}
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return map[string]string{"": err.Error()}
	}
	out := make(map[string]string, len(fields))
	for name, raw := range fields {
		out[name] = string(raw)
		if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil && slices.Contains(durations, name) {
			out[name] = time.Duration(n).String()
		}
	}
	return out
}

func words(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+" "+m[k])
	}
	return strings.Join(out, ", ")
}

func gateName(g Gate) string { return fmt.Sprintf("%s %q", g.Type, g.Name) }

// waves compares which waves there are, in which order, with which accounts, and which of them ask for approval.
func (c *comparison) waves() []Field {
	var out differing
	out.add("waves", strings.Join(c.old.waves, ", "), strings.Join(c.new.waves, ", "))
	for i, name := range c.new.waves {
		j := slices.Index(c.old.waves, name)
		if j < 0 {
			continue
		}
		before, after := c.old.Header.Waves[j], c.new.Header.Waves[i]
		out.add("approval of wave "+name, strconv.FormatBool(before.Approval), strconv.FormatBool(after.Approval))
		out.add("accounts of wave "+name, accountsWithout(before.Accounts, after.Accounts), accountsWithout(after.Accounts, before.Accounts))
		if !slices.Equal(before.Accounts, after.Accounts) && slices.Equal(slices.Sorted(slices.Values(before.Accounts)),
			slices.Sorted(slices.Values(after.Accounts))) {
			out.add("accounts of wave "+name, fmt.Sprint(before.Accounts), fmt.Sprint(after.Accounts))
		}
	}
	return out
}

// accountsWithout lists the accounts of a that b has not.
func accountsWithout(a, b []fleet.AccountID) string {
	has := make(map[fleet.AccountID]bool, len(b))
	for _, id := range b {
		has[id] = true
	}
	var out []string
	for _, id := range a {
		if !has[id] {
			out = append(out, string(id))
		}
	}
	return cmp.Or(strings.Join(out, ", "), Unset)
}

// calendars compares the windows and freezes that some stack has.
func (c *comparison) calendars() []Field {
	list := func(s *side) []string {
		out := make([]string, len(s.Header.Calendars))
		for i, calendar := range s.Header.Calendars {
			out[i] = calendarWords(calendar)
		}
		slices.Sort(out)
		return out
	}
	var out differing
	out.add("windows and freezes", strings.Join(list(c.old), " | "), strings.Join(list(c.new), " | "))
	return out
}

func calendarWords(c policy.Calendar) string {
	var out []string
	for _, w := range c.Windows {
		days := "daily"
		if len(w.Days) > 0 {
			days = strings.Join(w.Days, " ")
		}
		out = append(out, fmt.Sprintf("window %q %s %s to %s %s", w.Name, days, w.From, w.To, w.Zone))
	}
	for _, f := range c.Freezes {
		out = append(out, fmt.Sprintf("freeze %q %s to %s %s", f.Name, f.From, f.To, f.Zone))
	}
	return strings.Join(out, ", ")
}

func (c *comparison) left() []Field {
	var out differing
	counts := func(s *side) map[string]string {
		m := map[string]string{}
		for verdict, n := range s.Header.Summary.Verdicts {
			if n != 0 {
				m["instances "+verdict] = strconv.Itoa(n)
			}
		}
		m["gaps"] = strconv.Itoa(s.Header.Summary.Gaps)
		return m
	}
	out.maps("", counts(c.old), counts(c.new))
	return out
}

// stacks compares what is done when: those of the new plan in its order, then those that went.
func (c *comparison) stacks() {
	for i := range c.new.Stacks {
		after := &c.new.Stacks[i]
		before := c.old.stacks[after.ID]
		if before == nil {
			c.out.Stacks = append(c.out.Stacks, StackDifference{ID: after.ID, Name: after.Name, Place: after.Place, Only: OnlyNew,
				To: c.new.wave(after)})
			continue
		}
		d := StackDifference{ID: after.ID, Name: after.Name, Place: after.Place, From: c.old.wave(before), To: c.new.wave(after)}
		var fields differing
		fields.add("wave", d.From, d.To)
		fields.maps("", c.old.facts(before), c.new.facts(after))
		if d.Fields = fields; len(fields) > 0 {
			c.out.Stacks = append(c.out.Stacks, d)
		}
	}
	for i := range c.old.Stacks {
		before := &c.old.Stacks[i]
		if c.new.stacks[before.ID] == nil {
			c.out.Stacks = append(c.out.Stacks, StackDifference{ID: before.ID, Name: before.Name, Place: before.Place, Only: OnlyOld,
				From: c.old.wave(before)})
		}
	}
}

func (s *side) wave(st *Stack) string {
	if st == nil || st.Wave < 0 || st.Wave >= len(s.waves) {
		return ""
	}
	return s.waves[st.Wave]
}

// facts is how a stack is carried out, but for its wave.
func (s *side) facts(st *Stack) map[string]string {
	out := map[string]string{
		"name": st.Name, "place": st.Place.String(), "ring": strconv.Itoa(st.Ring + 1), "criticality": string(st.Criticality),
	}
	if len(st.After) > 0 {
		out["after"] = strings.Join(slices.Sorted(slices.Values(st.After)), ", ")
	}
	if st.Last {
		out["last"] = "true"
	}
	if st.Calendar > 0 && st.Calendar <= len(s.Header.Calendars) {
		out["windows and freezes"] = calendarWords(s.Header.Calendars[st.Calendar-1])
	}
	if st.Risk != nil || st.RiskOf != (fleet.Ref{}) {
		out["risk"] = riskWords(st)
	}
	var gates []string
	for _, g := range st.Gates {
		if g >= 0 && g < len(s.Header.Rules.Gates) {
			gates = append(gates, gateName(s.Header.Rules.Gates[g]))
		}
	}
	if len(gates) > 0 {
		out["gates"] = strings.Join(gates, ", ")
	}
	for i, step := range st.Steps {
		out[fmt.Sprintf("step %d", i+1)] = fmt.Sprintf("%s (%s, %s): %d, watched for %s", step.Name, step.Stage,
			cmp.Or(step.Share, "all"), step.Changes, step.Bake)
	}
	return out
}

// riskWords is a stack's risk with all its parts.
func riskWords(st *Stack) string {
	if st.Risk == nil {
		return "of " + st.RiskOf.String()
	}
	parts := make([]string, len(st.Risk.Parts))
	for i, p := range st.Risk.Parts {
		parts[i] = fmt.Sprintf("%+d (%s, at most %+d) %s (%s)", p.Points, p.Code, p.Most, p.Text, p.From)
	}
	return fmt.Sprintf("%s, %d points of %s: %s; %s", st.Risk.Level, st.Risk.Score, st.RiskOf, strings.Join(parts, "; "), st.Risk.Cap)
}

func (c *comparison) changes() {
	d := &c.out.Changes
	for i := range c.new.Changes {
		after := &c.new.Changes[i]
		at, ok := c.old.byKey[c.new.keys[i]]
		if !ok {
			d.Came = append(d.Came, c.new.entry(after))
			continue
		}
		before := &c.old.Changes[at]
		if fields := c.change(before, after); len(fields) > 0 {
			e := c.new.entry(after)
			e.Fields = fields
			d.Differ = append(d.Differ, e)
			continue
		}
		c.out.Same++
		if !sameEvidence(before.Evidence, after.Evidence) {
			c.out.Renewed++
		}
	}
	for i := range c.old.Changes {
		if _, ok := c.new.byKey[c.old.keys[i]]; !ok {
			d.Went = append(d.Went, c.old.entry(&c.old.Changes[i]))
		}
	}
}

func (s *side) entry(c *Change) Entry {
	e := Entry{ID: c.ID, Ref: s.ref(c), Name: c.Name, Action: c.Action}
	if st := s.stacks[c.Stack]; st != nil {
		e.Stack, e.Wave = st.Name, s.wave(st)
		if c.Step >= 0 && c.Step < len(st.Steps) {
			e.Stage = st.Steps[c.Step].Stage
		}
	}
	return e
}

// change compares two changes field by field. It does not look at the evidence's numbers: see sameEvidence.
func (c *comparison) change(before, after *Change) []Field {
	var out differing
	out.add("name", before.Name, after.Name)
	out.add("resource", c.old.ref(before).String(), c.new.ref(after).String())
	out.add("action", before.Action, after.Action)
	out.add("class", string(before.Class), string(after.Class))
	if before.Stack != after.Stack {
		out.add("stack", c.old.stackName(before), c.new.stackName(after))
	}
	out.add("step", c.old.stepName(before), c.new.stepName(after))
	out.add("canary", strconv.FormatBool(before.Canary), strconv.FormatBool(after.Canary))
	out.maps("before ", before.Before, after.Before)
	out.maps("after ", before.After, after.After)
	out.maps("parameter ", c.old.params(before), c.new.params(after))
	out.add("outputs", strings.Join(before.Outputs, ", "), strings.Join(after.Outputs, ", "))
	out.add("needs", c.old.needs(before), c.new.needs(after))
	out.add("undo", before.Undo, after.Undo)
	out.add("disruption", before.Disruption, after.Disruption)
	out.add("residue", before.Residue, after.Residue)
	out.add("owner", ownerWords(before.Owner), ownerWords(after.Owner))
	out.add("why", before.Why, after.Why)
	out.add("override", cmp.Or(before.Override, Unset), cmp.Or(after.Override, Unset))
	x, y := before.Evidence, after.Evidence
	out.add("verdict", x.Verdict, y.Verdict)
	out.add("evidence source", x.Source, y.Source)
	out.add("evidence of", x.Lineage, y.Lineage)
	out.add("all evidence", x.Sources, y.Sources)
	out.add("v1 calls", strconv.FormatInt(x.Calls, 10), strconv.FormatInt(y.Calls, 10))
	if !maps.Equal(before.Calls, after.Calls) {
		out.maps("calls ", numbers(before.Calls), numbers(after.Calls))
	}
	if !slices.Equal(before.Inverse, after.Inverse) {
		out.add("undo by hand", strings.Join(before.Inverse, "\n"), strings.Join(after.Inverse, "\n"))
	}
	return out
}

// sameEvidence tells whether two changes rest on the same numbers of the same window.
func sameEvidence(x, y Evidence) bool {
	start, end := x.Start.Equal(y.Start), x.End.Equal(y.End)
	x.Start, x.End, y.Start, y.End = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	return start && end && x == y
}

func (s *side) stackName(c *Change) string {
	if st := s.stacks[c.Stack]; st != nil {
		return st.Name + " (" + st.ID + ")"
	}
	return c.Stack
}

func (s *side) stepName(c *Change) string {
	st := s.stacks[c.Stack]
	if st == nil || c.Step < 0 || c.Step >= len(st.Steps) {
		return strconv.Itoa(c.Step + 1)
	}
	return fmt.Sprintf("%d, %s", c.Step+1, st.Steps[c.Step].Name)
}

// params are the parameters of a change, without the time of the plan.
func (s *side) params(c *Change) map[string]string {
	if c.Params[ParamPlanned] != s.made() {
		return c.Params
	}
	out := maps.Clone(c.Params)
	delete(out, ParamPlanned)
	return out
}

// needs lists what a change waits for by what it is across plans.
func (s *side) needs(c *Change) string {
	out := make([]string, len(c.Needs))
	for i, id := range c.Needs {
		out[i] = cmp.Or(s.byID[id], id)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func numbers(m map[string]int) map[string]string {
	out := make(map[string]string, len(m))
	for k, n := range m {
		out[k] = strconv.Itoa(n)
	}
	return out
}

// note is a manual step or an exempt resource, in the words of a comparison.
type note struct {
	key   string
	entry Entry
	facts map[string]string
}

func (c *comparison) manuals() {
	list := func(s *side) []note {
		out := make([]note, len(s.Manuals))
		for i, m := range s.Manuals {
			out[i] = note{m.Ref.String() + "\n" + m.Reason, Entry{Ref: m.Ref, Name: m.Name, Why: m.Reason},
				map[string]string{"name": m.Name, "remedy": m.Remedy, "commands": strings.Join(m.Commands, "\n"),
					"owner": ownerWords(m.Owner)}}
		}
		return out
	}
	c.out.Manuals = notes(list(c.old), list(c.new))
}

// ownerWords are an owner in full.
func ownerWords(o fleet.Owner) string {
	if o.Managed {
		return o.String() + ", managed"
	}
	return o.String()
}

func (c *comparison) exempt() {
	list := func(s *side) []note {
		out := make([]note, len(s.Exempt))
		for i, e := range s.Exempt {
			out[i] = note{e.Ref.String(), Entry{Ref: e.Ref, Name: e.Name, Why: e.Owner + " until " + e.Expires + ": " + e.Reason},
				map[string]string{"name": e.Name, "owner": e.Owner, "reason": e.Reason, "expires": e.Expires}}
		}
		return out
	}
	c.out.Exempt = notes(list(c.old), list(c.new))
}

func notes(before, after []note) Differences {
	var out Differences
	index := func(list []note) map[string]*note {
		m := make(map[string]*note, len(list))
		for i := range list {
			for m[list[i].key] != nil {
				list[i].key += "'"
			}
			m[list[i].key] = &list[i]
		}
		return m
	}
	was, is := index(before), index(after)
	for _, n := range after {
		old := was[n.key]
		if old == nil {
			out.Came = append(out.Came, n.entry)
			continue
		}
		var fields differing
		fields.maps("", old.facts, n.facts)
		if len(fields) > 0 {
			n.entry.Fields = fields
			out.Differ = append(out.Differ, n.entry)
		}
	}
	for _, n := range before {
		if is[n.key] == nil {
			out.Went = append(out.Went, n.entry)
		}
	}
	return out
}

// course compares what follows from the plans: durations, calls, costs.
func (c *comparison) course() {
	facts := func(s *side) map[string]string {
		out := map[string]string{}
		for action, n := range s.Header.Summary.Calls {
			out["calls "+action] = strconv.Itoa(n)
		}
		e := s.Header.Estimate
		if e == nil {
			return out
		}
		out["takes"], out["ends"] = e.Duration().String(), e.End.UTC().Format("2006-01-02 15:04 UTC")
		out["waits for"] = e.Limit
		out["gate metrics"], out["gate dollars"] = strconv.FormatInt(e.Metrics, 10), strconv.FormatFloat(e.Dollars, 'f', -1, 64)
		for action, n := range e.GateCalls {
			out["gate calls "+action] = strconv.Itoa(n)
		}
		for i, w := range e.Waves {
			if i < len(s.waves) {
				out["wave "+s.waves[i]+" takes"] = w.End.Sub(w.Begin).String()
				out["wave "+s.waves[i]+" writes for"] = w.Writing.String()
			}
		}
		return out
	}
	var out differing
	out.maps("", facts(c.old), facts(c.new))
	c.out.Course = out
}
