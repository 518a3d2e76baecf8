package fleets

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// What follows is read from the simulator's own stores and decided by the facts of the draw; imdsctl's verdicts are not
// asked.

// subject names a resource of the fleet in the judge's books.
type subject struct {
	place fleet.Place
	id    string
}

func (s subject) String() string { return s.place.String() + "/" + s.id }

// launch is what one next instance of a group, or of a template's default version, would get.
type launch struct {
	Template             string // its id; empty for a launch configuration
	Image, Type, Profile string
	// Rest is the data of the template version besides its metadata options, as JSON.
	Rest string
	// Own are the metadata options that the source itself says; Options those that the instance would get.
	Own, Options fleet.Options
}

// unchanged is the part of a launch that no migration may touch.
func (l launch) unchanged() launch {
	l.Own, l.Options = fleet.Options{}, fleet.Options{}
	return l
}

// same tells whether two launches agree in all that no migration may touch. A launch configuration cannot be changed, so a group
// is moved to a template that says what it said: besides what the two launches show, that it asked for detailed monitoring,
// which is what a launch configuration does by default.
func (l launch) same(was launch) bool {
	if was.Template == "" && l.Template != "" {
		was.Template = l.Template
		was.Rest = fmt.Sprintf(`{"EbsOptimized":"false","ImageId":%q,"InstanceType":%q,"Monitoring":{"Enabled":"true"}}`, was.Image, was.Type)
	}
	return l.unchanged() == was.unchanged()
}

// picture is the fleet at one moment.
type picture struct {
	instances map[subject]fleet.Options
	launches  map[subject][]launch // by group
	bare      map[subject]launch   // by template: its default version
	sources   map[subject]string   // by group: which templates and selectors it names
	pointers  map[subject]string   // by template: default and latest
	defaults  map[fleet.Place]ec2.Defaults
}

func newPicture() *picture {
	return &picture{instances: map[subject]fleet.Options{}, launches: map[subject][]launch{}, bare: map[subject]launch{},
		sources: map[subject]string{}, pointers: map[subject]string{}, defaults: map[fleet.Place]ec2.Defaults{}}
}

// see reads the whole fleet.
func (w *world) see(t *testing.T) *picture {
	t.Helper()
	out := newPicture()
	for _, place := range w.places {
		p, err := w.Place(place.Account, place.Region)
		if err != nil {
			t.Fatal(err)
		}
		p.With(func(time.Time) { err = w.look(p, out) })
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// look adds a place, which is locked.
func (w *world) look(p *core.Place, out *picture) error {
	machines, groups := ec2.StoreOf(p), autoscaling.StoreOf(p)
	out.defaults[p.Place] = machines.Defaults()
	for i := range machines.Instances() {
		out.instances[subject{p.Place, i.ID()}] = i.Newest().Options
	}
	for _, t := range w.byPlace[p.Place].templates {
		s := subject{p.Place, t.id}
		l, err := preview(machines, ec2.LaunchSpec{TemplateID: t.id})
		if err != nil {
			return fmt.Errorf("template %s: %w", t.id, err)
		}
		out.bare[s] = l
		first, err := machines.ResolveVersion(t.id, inventory.SelectDefault)
		if err != nil {
			return err
		}
		last, err := machines.ResolveVersion(t.id, inventory.SelectLatest)
		if err != nil {
			return err
		}
		out.pointers[s] = fmt.Sprintf("default %d, latest %d", first, last)
	}
	for _, name := range groups.Groups() {
		s := subject{p.Place, name}
		source, _ := groups.SourceOf(name)
		b, err := json.Marshal(source)
		if err != nil {
			return err
		}
		out.sources[s] = string(b)
		asks, err := groups.Launches(name)
		if err != nil {
			return fmt.Errorf("group %s: %w", name, err)
		}
		for _, ask := range asks {
			l, err := preview(machines, ask)
			if err != nil {
				return fmt.Errorf("group %s: %w", name, err)
			}
			out.launches[s] = append(out.launches[s], l)
		}
	}
	return nil
}

func preview(s *ec2.Store, ask ec2.LaunchSpec) (launch, error) {
	made, data, err := s.Preview(ask)
	if err != nil {
		return launch{}, err
	}
	l := launch{Template: ask.TemplateID, Image: made.ImageID, Type: made.InstanceType, Profile: made.ProfileARN, Options: made.Options, Own: ask.Options}
	if data == nil {
		return l, nil
	}
	own, err := json.Marshal(data["MetadataOptions"])
	if err != nil {
		return l, err
	}
	var said struct{ HttpTokens, HttpEndpoint, HttpPutResponseHopLimit, HttpProtocolIpv6, InstanceMetadataTags string }
	if err := json.Unmarshal(own, &said); err != nil {
		return l, err
	}
	hop := 0
	if said.HttpPutResponseHopLimit != "" {
		if _, err := fmt.Sscan(said.HttpPutResponseHopLimit, &hop); err != nil {
			return l, err
		}
	}
	l.Own = fleet.Options{Tokens: said.HttpTokens, Endpoint: said.HttpEndpoint, HopLimit: hop, IPv6: said.HttpProtocolIpv6,
		Tags: said.InstanceMetadataTags}
	delete(data, "MetadataOptions")
	rest, err := json.Marshal(data)
	l.Rest = string(rest)
	return l, err
}

// being is an instance, present or past, with what its programs do there.
type being struct {
	subject
	group, template string
	state           ec2.InstanceState
	gone            bool
	calls           bool // v1 was called inside the window, be it in vain
	covers          bool // it reported over the whole window
	programs        []*workload.Program
}

// evidenceWindow is the configuration's default.
const evidenceWindow = 14 * 24 * time.Hour

// facts is what is true of a fleet before anything is changed.
type facts struct {
	*drawn
	beings []being
	users  map[subject][]string // groups by template
	from   map[subject][]string // templates by group; none for a launch configuration
}

func (w *world) facts(t *testing.T) *facts {
	t.Helper()
	f := &facts{drawn: w.drawn, users: map[subject][]string{}, from: map[subject][]string{}}
	for _, place := range w.places {
		p, err := w.Place(place.Account, place.Region)
		if err != nil {
			t.Fatal(err)
		}
		p.With(func(time.Time) {
			for i := range ec2.StoreOf(p).Everything("") {
				f.beings = append(f.beings, beingOf(p, i))
			}
			for _, name := range autoscaling.StoreOf(p).Groups() {
				source, _ := autoscaling.StoreOf(p).SourceOf(name)
				group := subject{place, name}
				f.from[group] = nil
				for _, ref := range references(source) {
					if !slices.Contains(f.from[group], ref.ID) {
						f.from[group] = append(f.from[group], ref.ID)
						used := subject{place, ref.ID}
						f.users[used] = append(f.users[used], name)
					}
				}
			}
		})
	}
	return f
}

func beingOf(p *core.Place, i *ec2.Instance) being {
	b := being{subject: subject{p.Place, i.ID()}, state: i.Newest(), group: autoscaling.StoreOf(p).GroupOf(i.ID())}
	b.template, _ = ec2.TagValue(b.state.Tags, tagTemplate)
	b.gone = b.state.State == ec2.StateTerminated
	host := programs.HostOf(p, i)
	b.programs = host.Programs
	for _, run := range host.Life.Runs {
		from, to := max(run.From, start.Add(-evidenceWindow).Unix()), min(run.To, start.Unix())
		if to-from < 3600 {
			continue
		}
		for _, program := range host.Programs {
			o := program.Under(host.Life.SettingAt(to))
			b.calls = b.calls || o.V1 || o.Rejected
		}
	}
	o := b.state.Options
	b.covers = b.state.State == ec2.StateRunning && o.Endpoint == fleet.Enabled && o.Tokens == fleet.TokensOptional &&
		b.state.LaunchTime.Before(start.Add(-evidenceWindow))
	return b
}

func (b being) managed() bool {
	return b.state.Operator != nil && b.state.Operator.Managed
}

// any tells whether something holds for one of the instances, present or past.
func (f *facts) any(which func(being) bool) bool { return slices.ContainsFunc(f.beings, which) }

func (f *facts) isExempt(kind, id string) bool { return f.exempt[key(kind, id)] }

// dirtyGroup tells whether a member called v1, be it no more.
func (f *facts) dirtyGroup(g subject) bool {
	return f.any(func(b being) bool { return b.place == g.place && b.group == g.id && b.calls })
}

// dirtyTemplate tells whether something that was launched from the template called v1. Of what is gone nobody can tell which
// template it came from.
func (f *facts) dirtyTemplate(t subject) bool {
	return f.any(func(b being) bool { return b.place == t.place && b.template == t.id && b.calls && !b.gone })
}

// dirty tells whether an instance's lineage called v1: its group's, else its template's, else its own.
func (f *facts) dirty(b being) bool {
	switch {
	case b.group != "":
		return f.dirtyGroup(subject{b.place, b.group})
	case b.template != "":
		return f.dirtyTemplate(subject{b.place, b.template})
	default:
		return b.calls
	}
}

func (f *facts) covered(b being) bool {
	return f.any(func(o being) bool {
		switch {
		case o.place != b.place || !o.covers:
			return false
		case b.group != "":
			return o.group == b.group
		case b.template != "":
			return o.template == b.template
		default:
			return o.id == b.id
		}
	})
}

// keptInstance says why an instance may not be written; "" where it may.
func (f *facts) keptInstance(b being) string {
	switch {
	case f.isExempt(inventory.KindInstance, b.id):
		return "it is exempt"
	case b.managed():
		return "a service manages it"
	case b.group != "" && f.managed[key(inventory.KindAutoScaling, b.group)]:
		return ""
	case b.state.Options.Endpoint == fleet.Disabled:
		return "its endpoint is disabled"
	case f.dirty(b):
		return lineageCalls
	case b.gone:
		return "it is no more"
	}
	return ""
}

// keptGroup says why what a group launches may not change; "" where it may.
func (f *facts) keptGroup(g subject) string {
	switch {
	case f.isExempt(inventory.KindAutoScaling, g.id):
		return "it is exempt"
	case f.managed[key(inventory.KindAutoScaling, g.id)]:
		return "a service manages it"
	case f.dirtyGroup(g):
		return lineageCalls
	case f.any(func(b being) bool {
		return b.place == g.place && b.group == g.id && !b.gone && f.isExempt(inventory.KindInstance, b.id)
	}):
		return "a member is exempt"
	}
	return ""
}

// keptBare says why what an instance without a group was launched from may not change; "" where it may. One that requires
// tokens, or has no endpoint, cannot mind.
func (f *facts) keptBare(b being) string {
	switch {
	case b.group != "" || b.gone:
		return ""
	case f.isExempt(inventory.KindInstance, b.id):
		return "it is exempt"
	case b.state.Options.Tokens == fleet.TokensRequired, b.state.Options.Endpoint == fleet.Disabled:
		return ""
	case b.managed():
		return "a service manages it"
	case f.dirty(b):
		return lineageCalls
	}
	return ""
}

// named tells whether an exception names the group, or a service operates it.
func (f *facts) named(g subject) bool {
	return f.isExempt(inventory.KindAutoScaling, g.id) || f.managed[key(inventory.KindAutoScaling, g.id)]
}

// closed tells whether no launch of the group would answer v1.
func (p *picture) closed(g subject) bool {
	return !slices.ContainsFunc(p.launches[g], func(l launch) bool {
		return l.Options.Tokens != fleet.TokensRequired && l.Options.Endpoint != fleet.Disabled
	})
}

// clean tells of a group that nothing keeps from being migrated: known members, all of them free, none calling.
func (f *facts) clean(g subject) bool {
	if f.keptGroup(g) != "" || len(f.from[g]) == 0 || !f.covered(being{subject: g, group: g.id}) {
		return false
	}
	return !f.any(func(b being) bool { return b.place == g.place && b.group == g.id && !b.gone && b.managed() })
}

// mustLaunch tells of a group that has to launch with tokens required after the apply: it is clean, and so is everybody
// who launches from one of its templates.
func (f *facts) mustLaunch(g subject) bool {
	if !f.clean(g) {
		return false
	}
	for _, id := range f.from[g] {
		t := subject{g.place, id}
		if f.isExempt(inventory.KindLaunchTemplate, id) || f.managed[key(inventory.KindLaunchTemplate, id)] {
			return false
		}
		for _, user := range f.users[t] {
			if !f.clean(subject{g.place, user}) {
				return false
			}
		}
		if f.any(func(b being) bool {
			return b.place == g.place && b.template == id && b.group == "" && (f.keptBare(b) != "" || !f.covered(b))
		}) {
			return false
		}
	}
	return true
}

// mustRequire tells of an instance that has to require tokens after the apply.
func (f *facts) mustRequire(b being) bool {
	return f.keptInstance(b) == "" && f.covered(b) && b.state.State == ec2.StateRunning &&
		!(b.group != "" && f.managed[key(inventory.KindAutoScaling, b.group)])
}

// hopOf is the hop limit that an instance has after it was written.
func (f *facts) hopOf(b being) int {
	if n := f.hop[key(inventory.KindInstance, b.id)]; n > 0 {
		return n
	}
	return b.state.Options.HopLimit
}

// mayRaise tells of an instance that is kept only because of its v1 calls, and whose rule asks for a higher hop limit than it
// has: a higher one breaks nobody, and is all that may change.
func (f *facts) mayRaise(b being) bool {
	return f.keptInstance(b) == lineageCalls && !b.gone && f.hopOf(b) > b.state.Options.HopLimit
}

// lineageCalls is why most of what is kept is kept.
const lineageCalls = "its lineage calls v1"

// wrongAtOnce tells what may not be so at any moment of an apply: an image or anything else of a launch that changed, a
// launch that became weaker, and anything at all of those who are to be let alone.
func (f *facts) wrongAtOnce(place fleet.Place, before, now *picture) []string {
	var out []string
	for g, was := range before.launches {
		if g.place != place {
			continue
		}
		kept, is := f.keptGroup(g), now.launches[g]
		if len(is) != len(was) {
			out = append(out, fmt.Sprintf("group %s has %d launches, had %d", g, len(is), len(was)))
			continue
		}
		for i := range was {
			switch {
			case !is[i].same(was[i]):
				out = append(out, fmt.Sprintf("group %s would launch %+v, not %+v", g, is[i], was[i]))
			case was[i].Options.Endpoint == fleet.Disabled && is[i].Options.Endpoint == fleet.Disabled: // nobody can call anything
			case kept != "" && is[i].Options != was[i].Options:
				out = append(out, fmt.Sprintf("group %s would launch with %+v, not %+v, though %s", g, is[i].Options,
					was[i].Options, kept))
			case is[i].Options.Tokens != was[i].Options.Tokens && is[i].Options.Tokens != fleet.TokensRequired,
				is[i].Options.Endpoint != was[i].Options.Endpoint, is[i].Options.Tags != was[i].Options.Tags:
				out = append(out, fmt.Sprintf("group %s would launch with %+v, not %+v", g, is[i].Options, was[i].Options))
			}
		}
		out = append(out, f.broken(g, was, is)...)
	}
	for _, b := range f.beings {
		kept := f.keptBare(b)
		if b.place != place || kept == "" {
			continue
		}
		if b.template == "" {
			if was, is := before.defaults[place].Options, now.defaults[place].Options; was != is {
				out = append(out, fmt.Sprintf("the account default is %+v, not %+v, though of %s %s", is, was, b, kept))
			}
			continue
		}
		t := subject{place, b.template}
		if was, is := before.bare[t], now.bare[t]; was.Options != is.Options {
			out = append(out, fmt.Sprintf("%s would be launched again from %s with %+v, not %+v, though %s", b, b.template,
				is.Options, was.Options, kept))
		}
	}
	for t, was := range before.bare {
		if t.place == place && was.unchanged() != now.bare[t].unchanged() {
			out = append(out, fmt.Sprintf("the default version of %s launches %+v, not %+v", t, now.bare[t], was))
		}
	}
	return out
}

// broken lists the programs of a group that work on what it launched before, and would not on what it launches now. What ran
// without an endpoint showed nothing, and of what is gone nobody can tell the hop limit it ran with.
func (f *facts) broken(g subject, was, is []launch) []string {
	var out []string
	for _, b := range f.beings {
		if b.place != g.place || b.group != g.id || b.state.Options.Endpoint == fleet.Disabled {
			continue
		}
		for _, p := range b.programs {
			if b.gone && p.ExtraHops > 0 {
				continue
			}
			for i := range was {
				if p.Under(setting(was[i].Options)).Reason != workload.Works {
					continue
				}
				if r := p.Under(setting(is[i].Options)).Reason; r != workload.Works {
					out = append(out, fmt.Sprintf("%s of group %s would break (%s): it would launch with %+v, not %+v", p, g, r,
						is[i].Options, was[i].Options))
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func setting(o fleet.Options) workload.Setting {
	return workload.Setting{Required: o.Tokens == fleet.TokensRequired, Disabled: o.Endpoint == fleet.Disabled,
		HopLimit: o.HopLimit}
}

// wrongAfter tells what is missing after the apply.
func (f *facts) wrongAfter(before, now *picture) []string {
	var out []string
	for _, b := range f.beings {
		was, is := b.state.Options, now.instances[b.subject]
		switch want := was; {
		case b.gone:
		case f.mustRequire(b):
			want.Tokens, want.HopLimit = fleet.TokensRequired, f.hopOf(b)
			if is != want {
				out = append(out, fmt.Sprintf("instance %s has %+v, want %+v", b, is, want))
			}
		case f.mayRaise(b):
			if want.HopLimit = f.hopOf(b); is != want {
				out = append(out, fmt.Sprintf("instance %s has %+v, want %+v", b, is, want))
			}
		case f.keptInstance(b) != "" && is != was:
			out = append(out, fmt.Sprintf("instance %s has %+v, had %+v, though %s", b, is, was, f.keptInstance(b)))
		}
	}
	for g, launches := range now.launches {
		for i, l := range launches {
			if f.mustLaunch(g) && l.Options.Tokens != fleet.TokensRequired && l.Options.Endpoint != fleet.Disabled {
				out = append(out, fmt.Sprintf("group %s still launches with %+v", g, l.Options))
			}
			if was := before.launches[g][i].Options; len(f.hop) == 0 && l.Options.HopLimit < was.HopLimit {
				out = append(out, fmt.Sprintf("group %s launches with hop limit %d, not %d", g, l.Options.HopLimit, was.HopLimit))
			}
		}
	}
	slices.Sort(out)
	return out
}

// wrongWrites lists the writes of a call log that nobody may make.
func (f *facts) wrongWrites(before *picture, calls []core.CallRecord) []string {
	var out []string
	for _, c := range calls {
		if !c.Mutated || c.Service == "sts" {
			continue
		}
		place := slices.IndexFunc(f.places, func(p fleet.Place) bool { return p.Account == c.Account && p.Region == c.Region })
		for _, id := range c.Resources {
			why := ""
			switch {
			case place < 0:
				why = "its place is not of the fleet"
			case c.Action == "ModifyInstanceMetadataOptions":
				if at := slices.IndexFunc(f.beings, func(b being) bool { return b.id == id }); at < 0 {
					why = "nobody knows it"
				} else {
					if b := f.beings[at]; !f.mayRaise(b) {
						why = f.keptInstance(b)
					}
				}
			case c.Action == "UpdateAutoScalingGroup":
				g := subject{f.places[place], id}
				// Where all launches are closed already, a group may be held at the version it has, and be let go again.
				if why = f.keptGroup(g); why != "" && !f.named(g) && before.closed(g) {
					why = ""
				}
			case strings.HasPrefix(id, "lt-") && f.isExempt(inventory.KindLaunchTemplate, id):
				why = "it is exempt"
			case strings.HasPrefix(id, "lt-") && f.managed[key(inventory.KindLaunchTemplate, id)]:
				why = "a service manages it"
			case c.Action == "ModifyInstanceMetadataDefaults", strings.Contains(c.Action, "LaunchTemplate"):
			default:
				why = "no kind has this action"
			}
			if why != "" {
				out = append(out, fmt.Sprintf("%s of %s, though %s", c.Action, id, why))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// made stands for a template that imdsctl made in place of a launch configuration: each apply gives it an id and a name of its
// own.
const made = "made"

var replacement = regexp.MustCompile(`\{"ID":"lt-[0-9a-f]+","Name":"(config-1-v2)-[0-9a-f]+"`)

// lines makes a picture comparable, one line a fact.
func (p *picture) lines() map[string]string {
	out := map[string]string{}
	for s, o := range p.instances {
		out["instance "+s.String()] = fmt.Sprintf("%+v", o)
	}
	for s, launches := range p.launches {
		launches = slices.Clone(launches)
		for i, l := range launches {
			if _, drawn := p.bare[subject{s.place, l.Template}]; !drawn && l.Template != "" {
				launches[i].Template = made
			}
		}
		out["launches of "+s.String()] = fmt.Sprintf("%+v", launches)
	}
	for s, l := range p.bare {
		out["default launch of "+s.String()] = fmt.Sprintf("%+v", l)
	}
	for s, l := range p.sources {
		out["source of "+s.String()] = replacement.ReplaceAllString(l, `{"ID":"`+made+`","Name":"$1"`)
	}
	for s, l := range p.pointers {
		out["versions of "+s.String()] = l
	}
	for s, l := range p.defaults {
		out["defaults of "+s.String()] = fmt.Sprintf("%+v", l)
	}
	return out
}

// differ lists where two pictures, or any two tables, do not agree.
func differ[V comparable](got, want map[string]V) []string {
	keys := map[string]bool{}
	for k := range got {
		keys[k] = true
	}
	for k := range want {
		keys[k] = true
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if got[k] != want[k] {
			out = append(out, fmt.Sprintf("%s: %v, want %v", k, got[k], want[k]))
		}
	}
	return out
}
