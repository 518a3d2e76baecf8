package launchtemplate

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func ref(kindName, id string) fleet.Ref { return fleet.Ref{Place: place, Kind: kindName, ID: id} }

var templateRef = ref(inventory.KindLaunchTemplate, "lt-0123456789abcdef0")

const groupField = "LaunchTemplate.Version"

// site is a place with one template and what launches from it.
type site struct {
	snapshot inventory.Snapshot
	verdicts map[fleet.Ref]*assess.Verdict
}

// newSite makes a template whose versions up to latest have the given tokens ("" is unset), 1 first.
func newSite(def, latest int, tokens ...string) *site {
	s := &site{verdicts: map[fleet.Ref]*assess.Verdict{}}
	t := inventory.Resource{
		Ref: templateRef, Name: "web", Launch: map[string]fleet.Options{},
		State: fleet.State{
			inventory.FieldDefaultVersion: strconv.Itoa(def), inventory.FieldLatestVersion: strconv.Itoa(latest),
		},
	}
	for i, v := range tokens {
		t.Launch[strconv.Itoa(i+1)] = fleet.Options{Tokens: v}
	}
	s.snapshot.Resources = append(s.snapshot.Resources, t)
	s.judge(templateRef, assess.Ready)
	return s
}

func (s *site) template() *inventory.Resource { return &s.snapshot.Resources[0] }

func (s *site) judge(r fleet.Ref, status assess.Status) *assess.Verdict {
	v := &assess.Verdict{Ref: r, Status: status}
	if status == assess.Ready {
		v.Want = fleet.Options{Tokens: fleet.TokensRequired}
	}
	s.verdicts[r] = v
	return v
}

// group adds a group that launches by the selector.
func (s *site) group(name, selector string, status assess.Status) fleet.Ref {
	r := ref(inventory.KindAutoScaling, name)
	s.snapshot.Resources = append(s.snapshot.Resources, inventory.Resource{
		Ref: r, Name: name, State: fleet.State{groupField: selector},
		Links: []inventory.Link{{
			Relation: inventory.LaunchesFrom, To: templateRef, Selector: selector, Field: groupField,
		}},
	})
	s.judge(r, status)
	return r
}

// direct adds an instance that was launched from the template by hand.
func (s *site) direct(id string, status assess.Status) fleet.Ref {
	r := ref(inventory.KindInstance, id)
	s.snapshot.Resources = append(s.snapshot.Resources, inventory.Resource{
		Ref: r, Status: inventory.StatusRunning,
		Links: []inventory.Link{{Relation: inventory.LaunchedFrom, To: templateRef, Selector: "1"}},
	})
	s.judge(r, status)
	return r
}

func (s *site) propose() ([]plan.Need, []plan.Manual) {
	return propose(kind.Case{
		Resource: s.template(), Verdict: s.verdicts[templateRef], Index: inventory.NewIndex(&s.snapshot),
		Judge: func(r fleet.Ref) *assess.Verdict { return s.verdicts[r] },
	})
}

// steps says shortly what needs do: "create 3", "default copy-of-3", "web: LaunchTemplate.Version=5".
func steps(needs []plan.Need) []string {
	names := map[string]string{}
	for i := range needs {
		if needs[i].Action == VerbCreateVersion {
			names[plan.OutputOf(needs[i].Key(), OutputVersion)] = "copy-of-" + needs[i].Params[ParamSource]
		}
	}
	show := func(v string) string {
		if n, ok := names[v]; ok {
			return n
		}
		return v
	}
	var out []string
	for _, n := range needs {
		switch n.Action {
		case VerbCreateVersion:
			out = append(out, "create "+names[n.Patch[inventory.FieldLatestVersion]])
		case VerbSetDefault:
			out = append(out, "default "+show(n.Patch[inventory.FieldDefaultVersion]))
		default:
			out = append(out, n.Ref.ID+" "+show(n.Patch[groupField]))
		}
	}
	return out
}

func TestPropose(t *testing.T) {
	const optional, required = fleet.TokensOptional, fleet.TokensRequired
	tests := []struct {
		name   string
		site   func() *site
		want   []string
		manual string // part of the first manual step's reason; empty for none
	}{
		{
			name: "default 3, latest 5, four groups",
			site: func() *site {
				s := newSite(3, 5, optional, optional, optional, optional, "")
				s.group("a", "$Default", assess.Ready)
				s.group("b", "$Default", assess.Ready)
				s.group("c", "$Latest", assess.Ready)
				s.group("d", "3", assess.Ready)
				return s
			},
			want: []string{"c 5", "create copy-of-3", "create copy-of-5", "default copy-of-3", "d copy-of-3", "c $Latest"},
		},
		{
			name: "default is latest: one copy serves all, without pins",
			site: func() *site {
				s := newSite(2, 2, optional, optional)
				s.group("a", "$Default", assess.Ready)
				s.group("b", "$Latest", assess.Ready)
				s.group("c", "2", assess.Ready)
				return s
			},
			want: []string{"create copy-of-2", "default copy-of-2", "c copy-of-2"},
		},
		{
			name: "only the latest is needed",
			site: func() *site {
				s := newSite(1, 2, required, optional)
				s.group("a", "$Default", assess.Done)
				s.group("b", "$Latest", assess.Ready)
				return s
			},
			want: []string{"create copy-of-2"},
		},
		{
			name: "latest requires tokens already but must keep its meaning",
			site: func() *site {
				s := newSite(1, 2, optional, required)
				s.group("a", "$Default", assess.Ready)
				s.group("b", "$Latest", assess.Done)
				return s
			},
			want: []string{"b 2", "create copy-of-1", "create copy-of-2", "default copy-of-1", "b $Latest"},
		},
		{
			name: "a user of $Latest that is not known keeps every version from being made",
			site: func() *site {
				s := newSite(1, 2, optional, optional)
				s.group("a", "$Default", assess.Ready)
				s.group("b", "$Latest", assess.Unknown)
				return s
			},
			manual: "live at once for $Latest, which is launched by b (unknown)",
		},
		{
			name: "an exempt user of $Latest too",
			site: func() *site {
				s := newSite(1, 2, optional, optional)
				s.group("a", "1", assess.Ready)
				s.group("b", "$Latest", assess.Exempt)
				return s
			},
			manual: "b (exempt)",
		},
		{
			name: "the default stays for a blocked group while a number moves",
			site: func() *site {
				s := newSite(2, 2, optional, optional)
				s.group("a", "$Default", assess.Ready)
				s.group("b", "$Default", assess.Blocked)
				s.group("c", "1", assess.Ready)
				return s
			},
			want: []string{"create copy-of-1", "c copy-of-1"}, manual: "b (blocked)",
		},
		{
			name: "launches by hand count for the default",
			site: func() *site {
				s := newSite(1, 1, "")
				s.direct("i-0a", assess.Ready)
				return s
			},
			want: []string{"create copy-of-1", "default copy-of-1"},
		},
		{
			name: "and hold it back",
			site: func() *site {
				s := newSite(1, 1, "")
				s.direct("i-0a", assess.Blocked)
				s.group("a", "$Default", assess.Ready)
				return s
			},
			manual: "i-0a (blocked)",
		},
		{
			name: "nobody launches from it",
			site: func() *site { return newSite(1, 1, optional) },
		},
		{
			name: "already required",
			site: func() *site {
				s := newSite(1, 1, required)
				s.group("a", "$Default", assess.Ready)
				return s
			},
		},
		{
			name: "a number that was not read",
			site: func() *site {
				s := newSite(9, 9)
				s.template().Launch["9"] = fleet.Options{Tokens: required}
				s.group("a", "4", assess.Ready)
				return s
			},
			manual: "4, which could not be read",
		},
		{
			name: "a template that a service operates",
			site: func() *site {
				s := newSite(1, 1, optional)
				s.template().Owner = fleet.Owner{Type: fleet.OwnerEKS, Name: "ng", Managed: true}
				s.group("a", "$Default", assess.Ready)
				return s
			},
			manual: "operated by eks-nodegroup ng",
		},
		{
			name: "an exempt template",
			site: func() *site {
				s := newSite(1, 1, optional)
				s.judge(templateRef, assess.Exempt)
				s.group("a", "$Default", assess.Ready)
				return s
			},
		},
		{
			name: "a place that was not read completely",
			site: func() *site {
				s := newSite(1, 1, optional)
				s.verdicts[templateRef].Reasons = []assess.Reason{{Code: assess.CodeGap}}
				s.group("a", "$Default", assess.Ready)
				return s
			},
			manual: "that could launch from the template could be read",
		},
		{
			name: "a user of $Latest that cannot be pinned",
			site: func() *site {
				s := newSite(1, 2, optional, optional)
				s.group("a", "$Default", assess.Ready)
				s.group("b", "$Latest", assess.Ready)
				s.snapshot.Resources[2].Links[0].Field = ""
				return s
			},
			manual: "cannot be written",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			needs, manuals := tt.site().propose()
			if got := steps(needs); !slices.Equal(got, tt.want) {
				t.Errorf("steps:\n got %q\nwant %q", got, tt.want)
			}
			switch {
			case tt.manual == "" && len(manuals) > 0:
				t.Errorf("unexpected manual step: %s", manuals[0].Reason)
			case tt.manual != "" && (len(manuals) == 0 || !strings.Contains(manuals[0].Reason, tt.manual)):
				t.Errorf("manual steps %v: want one about %q", manuals, tt.manual)
			}
			for _, m := range manuals {
				if m.Remedy == "" {
					t.Errorf("no remedy for: %s", m.Reason)
				}
			}
		})
	}
}

// TestCopyGivesTheHopsItsInstancesRunWith: a member that was given more hops than the template says shows nothing of how a
// container on the next instance would do with fewer.
func TestCopyGivesTheHopsItsInstancesRunWith(t *testing.T) {
	member := func(hop int, change ...func(*inventory.Resource)) func(*site) {
		return func(s *site) {
			r := inventory.Resource{Ref: ref(inventory.KindInstance, fmt.Sprintf("i-0%016x", len(s.snapshot.Resources))),
				Status: inventory.StatusRunning, State: fleet.Options{Tokens: fleet.TokensOptional, Endpoint: fleet.Enabled, HopLimit: hop}.State(),
				Links: []inventory.Link{{Relation: inventory.MemberOf, To: ref(inventory.KindAutoScaling, "web")}}}
			for _, f := range change {
				f(&r)
			}
			s.snapshot.Resources = append(s.snapshot.Resources, r)
		}
	}
	gone := func(r *inventory.Resource) { r.Status = inventory.StatusTerminated }
	mute := func(r *inventory.Resource) { r.State[fleet.FieldEndpoint] = fleet.Disabled }
	for name, c := range map[string]struct {
		says    int // the template's own hop limit
		members []func(*site)
		want    string
	}{
		"no members":              {0, nil, ""},
		"as the template":         {2, []func(*site){member(2)}, "2"},
		"fewer than the template": {3, []func(*site){member(1), member(2)}, "3"},
		"more than the template":  {1, []func(*site){member(1), member(2)}, "2"},
		"more than EC2's own":     {0, []func(*site){member(2)}, "2"},
		"EC2's own":               {0, []func(*site){member(1)}, ""},
		"one that is no more":     {1, []func(*site){member(3, gone)}, "1"},
		"one without an endpoint": {1, []func(*site){member(3, mute)}, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(1, 1, fleet.TokensOptional)
			s.template().Launch["1"] = fleet.Options{Tokens: fleet.TokensOptional, HopLimit: c.says}
			s.group("web", "$Default", assess.Ready)
			for _, m := range c.members {
				m(s)
			}
			needs, manuals := s.propose()
			own := ""
			if c.says != 0 {
				own = strconv.Itoa(c.says)
			}
			if phases := 1 + min(1, len(c.want)); len(manuals) != 0 || c.want == own && len(needs) != 2 || c.want != own && len(needs) != 2*phases {
				t.Fatalf("needs %v, manual steps %v", steps(needs), manuals)
			}
			if got := needs[len(needs)-2].Params[fleet.FieldHopLimit]; got != c.want {
				t.Errorf("the copy has hop limit %q, want %q", got, c.want)
			}
		})
	}
}

// TestHopsOfAnotherTemplateAreNotThisOnes: what else a user launches from, and what other users get, tells nothing of what this
// one's launches get from a version that says no hop limit.
func TestHopsOfAnotherTemplateAreNotThisOnes(t *testing.T) {
	other := func(s *site, group fleet.Ref) {
		r := &s.snapshot.Resources[len(s.snapshot.Resources)-1]
		r.Links = append(r.Links, inventory.Link{Relation: inventory.LaunchesFrom, To: ref(inventory.KindLaunchTemplate, "lt-0aaaaaaaaaaaaaaaa"),
			Selector: "1", Field: "Overrides.0.Version"})
		s.verdicts[group].Effective = fleet.Options{HopLimit: 3}
	}
	for name, c := range map[string]struct {
		by   int // the hop limit of the group's next launch, as its verdict has it
		ran  int
		with func(s *site, group fleet.Ref) // what else there is
		want string
	}{
		"the account's default gives as many": {2, 2, nil, ""},
		"the account's default gives fewer":   {2, 3, nil, "3"},
		"the group's other template has more": {1, 2, other, "2"},
		"another group gets more": {1, 2, func(s *site, _ fleet.Ref) {
			other(s, s.group("mixed", "$Default", assess.Ready))
		}, "2"},
		"an image of its own": {2, 2, func(s *site, _ fleet.Ref) {
			s.snapshot.Resources[1].Attrs = map[string]string{inventory.AttrImage + "/" + groupField: "ami-0123456789abcdef0"}
		}, "2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(1, 1, "")
			web := s.group("web", "$Default", assess.Ready)
			s.verdicts[web].Effective = fleet.Options{HopLimit: c.by}
			if c.with != nil {
				c.with(s, web)
			}
			s.snapshot.Resources = append(s.snapshot.Resources, inventory.Resource{Ref: ref(inventory.KindInstance, "i-0123456789abcdef0"),
				Status: inventory.StatusRunning, State: fleet.Options{Tokens: fleet.TokensOptional, Endpoint: fleet.Enabled, HopLimit: c.ran}.State(),
				Links: []inventory.Link{{Relation: inventory.MemberOf, To: web}}})
			needs, manuals := s.propose()
			if len(manuals) != 0 || len(needs) < 2 {
				t.Fatalf("needs %v, manual steps %v", steps(needs), manuals)
			}
			if got := needs[len(needs)-2].Params[fleet.FieldHopLimit]; got != c.want {
				t.Errorf("the copy has hop limit %q, want %q: %v", got, c.want, steps(needs))
			}
		})
	}
}

func TestProposeHopLimit(t *testing.T) {
	s := newSite(1, 1)
	s.template().Launch["1"] = fleet.Options{Tokens: fleet.TokensOptional, HopLimit: 3, Tags: fleet.Enabled}
	s.verdicts[s.group("a", "$Default", assess.Ready)].Want.HopLimit = 1
	s.verdicts[s.group("b", "1", assess.Ready)].Want.HopLimit = 2
	needs, _ := s.propose()
	hops := map[string]string{
		ParamSource: "1", fleet.FieldTokens: fleet.TokensOptional, fleet.FieldHopLimit: "2", fleet.FieldTags: fleet.Enabled,
	}
	if len(needs) != 6 || !maps.Equal(needs[0].Params, hops) || needs[0].Stage != plan.StageHopLimit {
		t.Fatalf("got %v, want the larger of the two wishes over the source's own options, and nothing else: %v", needs, hops)
	}
	tokens := maps.Clone(hops)
	tokens[fleet.FieldTokens], tokens[ParamSource] = fleet.TokensRequired, plan.OutputOf(needs[0].Key(), OutputVersion)
	if !maps.Equal(needs[3].Params, tokens) || needs[3].Stage != plan.StageLaunch {
		t.Fatalf("got %v, want a copy of the copy that requires tokens: %v", needs[3], tokens)
	}
}

// A node group that rolls its nodes to follow a template does so once.
func TestWhoReplacesWhatRunsMovesOnce(t *testing.T) {
	s := newSite(1, 1, fleet.TokensOptional)
	s.template().Launch["1"] = fleet.Options{Tokens: fleet.TokensOptional, HopLimit: 1}
	r := s.group("nodes", "1", assess.Ready)
	s.verdicts[r].Want.HopLimit = 2
	for i := range s.snapshot.Resources {
		if s.snapshot.Resources[i].Ref == r {
			s.snapshot.Resources[i].Links[0].Starts = true
		}
	}
	needs, _ := s.propose()
	moves := slices.DeleteFunc(needs, func(n plan.Need) bool { return n.Ref != r })
	if len(moves) != 1 || moves[0].Class != plan.ClassStart || moves[0].Stage != plan.StageLaunch {
		t.Errorf("it moves %d times: %v", len(moves), moves)
	}
}

// launching is the template and its users in motion: what each would launch at any moment.
type launching struct {
	origin  map[string]string // version → the version whose content it has
	options map[string]fleet.Options
	copied  map[string]bool // versions that were copied
	def     string
	latest  string
	chosen  map[fleet.Ref]string // selector
	next    int
}

func (l *launching) resolve(selector string) string {
	switch selector {
	case inventory.SelectDefault:
		return l.def
	case inventory.SelectLatest:
		return l.latest
	}
	return selector
}

// carryOut does one need and returns what undoes it.
func (l *launching) carryOut(t *rapid.T, n *plan.Need, outputs map[string]string) (undo func()) {
	value := func(v string) string {
		if out, ok := outputs[v]; ok {
			return out
		}
		if strings.HasPrefix(v, "${") {
			t.Fatalf("%s uses %s before it is known", n.Key(), v)
		}
		return v
	}
	switch n.Action {
	case VerbCreateVersion:
		v, was := strconv.Itoa(l.next), l.latest
		l.next++
		from := value(n.Params[ParamSource])
		l.origin[v], l.copied[from] = l.origin[from], true
		l.options[v] = fleet.State(n.Params).Options()
		if was, is := l.options[from], l.options[v]; n.Stage == plan.StageHopLimit && was.Tokens != is.Tokens ||
			n.Stage == plan.StageLaunch && was.HopLimit != is.HopLimit {
			t.Fatalf("%s changes %+v to %+v", n.Key(), was, is)
		}
		l.latest = v
		outputs[plan.OutputOf(n.Key(), OutputVersion)] = v
		return func() {
			if l.latest != v || l.def == v {
				t.Fatalf("undoing the creation of %s while latest is %s and default %s", v, l.latest, l.def)
			}
			delete(l.origin, v)
			delete(l.options, v)
			l.latest = was
		}
	case VerbSetDefault:
		was := l.def
		l.def = value(n.Patch[inventory.FieldDefaultVersion])
		return func() { l.def = was }
	default:
		was := l.chosen[n.Ref]
		l.chosen[n.Ref] = value(n.Patch[groupField])
		return func() { l.chosen[n.Ref] = was }
	}
}

// TestProposeIsSafeInEveryOrder carries the needs out in any order they allow, and back, for any template and users.
func TestProposeIsSafeInEveryOrder(t *testing.T) {
	statuses := assess.Statuses()
	rapid.Check(t, func(t *rapid.T) {
		latest := rapid.IntRange(1, 4).Draw(t, "latest")
		def := rapid.IntRange(1, latest).Draw(t, "default")
		tokens := rapid.SliceOfN(rapid.SampledFrom([]string{"", "optional", "required"}), latest, latest).Draw(t, "tokens")
		s := newSite(def, latest, tokens...)
		l := &launching{
			origin: map[string]string{}, options: map[string]fleet.Options{}, copied: map[string]bool{}, chosen: map[fleet.Ref]string{},
			def: strconv.Itoa(def), latest: strconv.Itoa(latest), next: latest + 1,
		}
		for v, o := range s.template().Launch {
			l.origin[v], l.options[v] = v, o
		}
		selectors := []string{"$Default", "$Latest", "1", strconv.Itoa(latest), strconv.Itoa(def)}
		for i := range rapid.IntRange(0, 5).Draw(t, "groups") {
			selector := rapid.SampledFrom(selectors).Draw(t, "selector")
			r := s.group(fmt.Sprintf("g%d", i), selector, rapid.SampledFrom(statuses).Draw(t, "status"))
			s.verdicts[r].Want.HopLimit = rapid.IntRange(0, 3).Draw(t, "hops")
			l.chosen[r] = selector
		}
		type launch struct{ origin, tokens string }
		initial := map[fleet.Ref]launch{}
		now := func(r fleet.Ref) launch {
			v := l.resolve(l.chosen[r])
			return launch{l.origin[v], l.options[v].Tokens}
		}
		for r := range l.chosen {
			initial[r] = now(r)
		}
		selected := maps.Clone(l.chosen)
		check := func(when string) {
			for r, was := range initial {
				is := now(r)
				status := s.verdicts[r].Status
				agrees := status == assess.Ready || status == assess.Done
				if is.origin != was.origin {
					t.Fatalf("%s: %s launches from a copy of %s, not %s", when, r.ID, is.origin, was.origin)
				}
				if is.tokens != was.tokens && (!agrees || is.tokens != fleet.TokensRequired) {
					t.Fatalf("%s: %s (%s) launches with tokens %q, not %q", when, r.ID, status, is.tokens, was.tokens)
				}
				if status == assess.Exempt && l.chosen[r] != selected[r] {
					t.Fatalf("%s: exempt %s was written", when, r.ID)
				}
			}
		}
		needs, manuals := s.propose()
		again, _ := s.propose()
		if !slices.Equal(steps(needs), steps(again)) {
			t.Fatalf("two proposals differ: %v and %v", steps(needs), steps(again))
		}
		done, outputs := map[plan.Key]bool{}, map[string]string{}
		var undo []func()
		for len(done) < len(needs) {
			var open []*plan.Need
			for i := range needs {
				n := &needs[i]
				if !done[n.Key()] && !slices.ContainsFunc(n.After, func(k plan.Key) bool { return !done[k] }) {
					open = append(open, n)
				}
			}
			if len(open) == 0 {
				t.Fatalf("the needs wait for each other: %v", steps(needs))
			}
			n := open[rapid.IntRange(0, len(open)-1).Draw(t, "next")]
			undo = append(undo, l.carryOut(t, n, outputs))
			done[n.Key()] = true
			check("after " + string(n.Key()))
		}
		sources := map[string]bool{}
		for v, origin := range l.origin {
			if v == origin {
				continue
			}
			phase := origin + " " + l.options[v].Tokens
			if sources[phase] && l.options[v].Tokens == fleet.TokensRequired && l.options[origin].Tokens != fleet.TokensRequired {
				t.Fatalf("version %s was copied twice", origin)
			}
			sources[phase] = true
			used := l.def == v || l.latest == v || l.copied[v]
			for r := range l.chosen {
				used = used || l.resolve(l.chosen[r]) == v
			}
			if !used {
				t.Fatalf("the copy of %s is superfluous: %v", origin, steps(needs))
			}
		}
		for r := range initial {
			if len(manuals) > 0 || s.verdicts[r].Status != assess.Ready {
				continue
			}
			if now(r).tokens != fleet.TokensRequired {
				t.Fatalf("%s is ready and still launches with %q: %v", r.ID, now(r).tokens, steps(needs))
			}
			if strings.HasPrefix(selected[r], "$") && l.chosen[r] != selected[r] {
				t.Fatalf("%s was left at %s, not %s", r.ID, l.chosen[r], selected[r])
			}
		}
		for _, u := range slices.Backward(undo) {
			u()
			check("undoing")
		}
		for r, was := range selected {
			if l.chosen[r] != was || now(r) != initial[r] {
				t.Fatalf("%s is not back at %s", r.ID, was)
			}
		}
	})
}

// TestAFleetThatLaunchesNoMoreStandsForNobody: the instance of an instant fleet, which is not listed, speaks for the default.
func TestAFleetThatLaunchesNoMoreStandsForNobody(t *testing.T) {
	for _, listed := range []bool{false, true} {
		s := newSite(1, 1, "")
		s.group("web", inventory.SelectDefault, assess.Ready)
		i := s.direct("i-0123456789abcdef0", assess.Blocked)
		r := &s.snapshot.Resources[len(s.snapshot.Resources)-1]
		fleetRef := ref(inventory.KindFleet, "fleet-1")
		r.Links = append(r.Links, inventory.Link{Relation: inventory.MemberOf, To: fleetRef})
		if listed {
			s.snapshot.Resources = append(s.snapshot.Resources, inventory.Resource{Ref: fleetRef})
		}
		needs, manuals := s.propose()
		if listed != (len(needs) > 0) || listed == (len(manuals) > 0) {
			t.Errorf("fleet listed: %t; got %q and %v, with %s blocked", listed, steps(needs), manuals, i)
		}
	}
}
