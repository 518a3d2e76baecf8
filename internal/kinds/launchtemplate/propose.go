package launchtemplate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// verbSetLaunchVersion is the verb by which every kind that launches from a template lets its selector be written.
const verbSetLaunchVersion = "set-launch-version"

// propose finds the copies a template needs and the pointers that must move to them.
//
// One copy per source version, and none that nobody needs. The default moves only if all that launch by it are ready or
// done. Users of a number move one by one. Whoever uses $Latest moves with every version that is created: all of them
// must be ready or done, and where a copy of another version than the latest is needed they are pinned to the latest's
// number first, the copy of the latest is made last, and they are let go again after it.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	t := c.Resource
	if c.Verdict.Status == assess.Exempt || t.State[inventory.FieldDefaultVersion] == "" {
		return nil, nil
	}
	p := proposal{
		template: t, verdict: c.Verdict,
		def: t.State[inventory.FieldDefaultVersion], latest: t.State[inventory.FieldLatestVersion],
		hops: map[string]int{}, last: map[fleet.Ref]plan.Key{},
	}
	p.findUsers(c)
	p.findSources()
	if len(p.sources) > 0 && p.allowed() {
		p.build()
	}
	return p.needs, p.manuals
}

// user is one selector of one resource that launches from the template.
type user struct {
	*inventory.Resource
	link    inventory.Link
	version string // what the selector means now; "" where that cannot be known
	verdict *assess.Verdict
	// proven is the largest hop limit that its instances run with, or will: the evidence was seen under it.
	proven int
}

func (u *user) ready() bool { return u.verdict != nil && u.verdict.Status == assess.Ready }

// agrees tells whether the user may get required tokens, or has them already.
func (u *user) agrees() bool { return u.ready() || u.verdict != nil && u.verdict.Status == assess.Done }

func (u *user) writable() bool { return u.link.Field != "" && !u.Owner.Managed }

func (u *user) String() string {
	status := assess.Unknown
	if u.verdict != nil {
		status = u.verdict.Status
	}
	return u.Ref.ID + " (" + string(status) + ")"
}

type proposal struct {
	template    *inventory.Resource
	verdict     *assess.Verdict
	def, latest string

	byDefault, byLatest, byNumber []*user
	direct                        []*user // instances launched from the template without a group

	moveDefault bool
	repin       []*user // users of a number that move to its copy
	sources     []string
	hops        map[string]int // hop limit wanted, by source

	phase   phase
	now     map[string]string // what versions are called, by what they were called at first
	needs   []plan.Need
	manuals []plan.Manual
	last    map[fleet.Ref]plan.Key // the last need of each resource: they are done one after the other
}

func (p *proposal) findUsers(c kind.Case) {
	for _, consumer := range c.Index.Consumers(p.template.Ref) {
		u := &user{Resource: consumer.Resource, link: consumer.Link, verdict: c.Judge(consumer.Resource.Ref)}
		for _, m := range c.Index.Members(u.Ref) {
			u.proven = max(u.proven, proven(c, m))
		}
		u.version = inventory.ResolveVersion(p.template, u.link.Selector)
		switch u.link.Selector {
		case "", inventory.SelectDefault:
			p.byDefault = append(p.byDefault, u)
		case inventory.SelectLatest:
			p.byLatest = append(p.byLatest, u)
		default:
			p.byNumber = append(p.byNumber, u)
		}
	}
	for _, m := range c.Index.Members(p.template.Ref) {
		if c.Index.Group(m) == nil {
			p.direct = append(p.direct, &user{Resource: m, version: p.def, verdict: c.Judge(m.Ref), proven: proven(c, m)})
		}
	}
}

// proven is the hop limit that an instance has or will be given; 0 for one that is no more, or answers nobody.
func proven(c kind.Case, instance *inventory.Resource) int {
	if instance.Status == inventory.StatusTerminated || instance.State[fleet.FieldEndpoint] == fleet.Disabled {
		return 0
	}
	if v := c.Judge(instance.Ref); v != nil && v.Want.HopLimit != 0 {
		return v.Want.HopLimit
	}
	return instance.State.Options().HopLimit
}

// open tells whether launches from the version may still allow IMDSv1.
func (p *proposal) open(version string) bool {
	o, read := p.template.Launch[version]
	return read && o.Tokens != fleet.TokensRequired && o.Endpoint != fleet.Disabled
}

func (p *proposal) findSources() {
	sources := map[string]bool{}
	if p.open(p.def) && p.defaultWanted() {
		if against := p.againstDefault(); len(against) > 0 {
			p.manual("the default version "+p.def+" is also launched by "+list(against),
				"Make them ready, or let them name version "+p.def+" by its number.")
		} else {
			p.moveDefault = true
			sources[p.def] = true
		}
	}
	for _, u := range p.byNumber {
		_, read := p.template.Launch[u.version]
		switch {
		case !u.ready():
		case u.version == "" || !read:
			p.manual(u.String()+" launches from "+cmp.Or(u.version, u.link.Selector)+", which could not be read",
				"Let the group name a version that exists.")
		case !p.open(u.version):
		case !u.writable():
			p.manual(u.String()+" names version "+u.version+" and cannot be written", "Change it in "+ownerName(u)+".")
		default:
			p.repin = append(p.repin, u)
			sources[u.version] = true
		}
	}
	if p.open(p.latest) && slices.ContainsFunc(p.byLatest, (*user).ready) {
		sources[p.latest] = true
	}
	p.sources = p.order(sources)
	for _, s := range p.sources {
		p.hops[s] = p.hopLimit(s)
	}
}

func (p *proposal) defaultWanted() bool {
	return slices.ContainsFunc(p.byDefault, (*user).ready) || len(p.direct) > 0 && p.verdict.Status == assess.Ready
}

// againstDefault lists who launches by the default and may not get required tokens. What was launched directly and runs
// no more has no verdict of its own: it speaks through the template's.
func (p *proposal) againstDefault() []*user {
	var out []*user
	for _, u := range p.byDefault {
		if !u.agrees() {
			out = append(out, u)
		}
	}
	own := p.verdict.Status == assess.Ready || p.verdict.Status == assess.Done
	for _, u := range p.direct {
		past := u.Status == inventory.StatusTerminated && u.verdict == nil
		if past && !own || !past && !u.agrees() {
			out = append(out, u)
		}
	}
	return out
}

// order puts the copy of the latest version last, so that $Latest ends at it; without one, the copy of the default.
func (p *proposal) order(sources map[string]bool) []string {
	rank := func(v string) int {
		switch v {
		case p.latest:
			return 2
		case p.def:
			return 1
		default:
			return 0
		}
	}
	return slices.SortedFunc(maps.Keys(sources), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
}

// hopLimit is the largest that any user of the version wants, has or runs with: too large a limit is less strict, too small
// a one breaks a workload. What runs with more hops than the version gives has shown nothing of how it would do with fewer:
// while IMDSv1 is allowed a container whose token does not reach it falls back, and with tokens required it fails. 0 keeps
// the version's own.
func (p *proposal) hopLimit(version string) int {
	own := p.template.Launch[version].HopLimit
	most, ran, short, wanted := 0, 0, false, false
	weigh := func(v *assess.Verdict, gets, runs int) {
		if v != nil {
			wanted = wanted || v.Want.HopLimit != 0
			most = max(most, cmp.Or(v.Want.HopLimit, gets))
		}
		ran, short = max(ran, runs), short || runs > gets
	}
	for _, u := range slices.Concat(p.byDefault, p.byLatest, p.byNumber) {
		if u.version == version {
			weigh(u.verdict, cmp.Or(own, p.given(u)), u.proven)
		}
	}
	if version == p.def && len(p.direct) > 0 {
		for _, u := range p.direct {
			weigh(p.verdict, cmp.Or(own, p.verdict.Effective.HopLimit, ec2Hops), u.proven)
		}
	}
	if !wanted && !short {
		return 0
	}
	return max(most, ran)
}

// ec2Hops is what EC2 gives where nobody says anything.
const ec2Hops = 1

// given is the hop limit that a user's launches get from the account's default or the image where the version says none. The
// user's verdict tells, but only of one of its launches: of one that launches from several versions or images it may be
// another, and EC2's own is the least that it can be.
func (p *proposal) given(u *user) int {
	if u.verdict == nil || slices.ContainsFunc(u.Links, func(l inventory.Link) bool {
		return l.Relation == inventory.LaunchesFrom &&
			(l.To != p.template.Ref || inventory.ResolveVersion(p.template, l.Selector) != u.version ||
				u.Attrs[inventory.AttrImage+"/"+l.Field] != "")
	}) {
		return ec2Hops
	}
	return cmp.Or(u.verdict.Effective.HopLimit, ec2Hops)
}

// allowed tells whether the template may get new versions at all, and says why where it may not.
func (p *proposal) allowed() bool {
	var against, fixed []*user
	for _, u := range p.byLatest {
		if !u.agrees() {
			against = append(against, u)
		}
		if !u.writable() {
			fixed = append(fixed, u)
		}
	}
	switch {
	case p.template.Owner.Managed:
		p.manual("the template is operated by "+p.template.Owner.String(),
			"Change the setting in the service that operates it.")
	case p.verdict.Has(assess.CodeGap):
		p.manual("not everything that could launch from the template could be read",
			"Let the scan read this place completely, then plan again.")
	case len(against) > 0:
		p.manual("a new version is live at once for $Latest, which is launched by "+list(against),
			"Make them ready, or let them name version "+p.latest+" by its number.")
	case p.pinned(p.sources) && len(fixed) > 0:
		p.manual("version "+p.latest+" is launched through $Latest by "+list(fixed)+", which cannot be written, while other "+
			"versions must be copied", "Let them name version "+p.latest+" by its number in "+ownerName(fixed[0])+".")
	default:
		return true
	}
	return false
}

// pinned tells whether users of $Latest must be held at the latest version while other versions are copied.
func (p *proposal) pinned(sources []string) bool {
	return len(p.byLatest) > 0 && slices.ContainsFunc(sources, func(s string) bool { return s != p.latest })
}

// phase is one turn of copies: those that change the hop limit and nothing else, or those that require tokens. Each has a
// stage of its own, so that what fails tells which of the two it was.
type phase struct {
	stage   plan.Stage
	prefix  string   // of the variants of its needs
	sources []string // the versions it copies, in order; in the words of before the first phase
	options func(source string) fleet.Options
	why     func(source string) string
}

// build goes through the phases. p.now is what each version is called at the time: itself, or the copy that an earlier phase
// made of it.
func (p *proposal) build() {
	p.now = map[string]string{}
	options := map[string]fleet.Options{}
	var lifted []string
	for _, s := range p.sources {
		options[s] = p.template.Launch[s]
		if hops := p.hops[s]; hops != 0 && hops != options[s].HopLimit {
			lifted = append(lifted, s)
			o := options[s]
			o.HopLimit = hops
			options[s] = o
		}
	}
	p.run(phase{
		stage: plan.StageHopLimit, prefix: "hop-limit-", sources: lifted, options: func(s string) fleet.Options { return options[s] },
		why: func(s string) string {
			return fmt.Sprintf("what version %s launches needs a hop limit of %d", s, p.hops[s])
		},
	})
	p.run(phase{
		stage: plan.StageLaunch, sources: p.sources,
		options: func(s string) fleet.Options {
			o := options[s]
			o.Tokens = fleet.TokensRequired
			return o
		},
		why: func(s string) string { return "version " + s + " lets what it launches answer IMDSv1" },
	})
}

// called is what a version is called now.
func (p *proposal) called(version string) string { return cmp.Or(p.now[version], version) }

// run makes the copies of a phase and moves to them whoever is to use them.
func (p *proposal) run(ph phase) {
	if len(ph.sources) == 0 {
		return
	}
	p.phase = ph
	pinned := p.pinned(ph.sources)
	sources := ph.sources
	var pins, earlier []plan.Key
	if before, ok := p.last[p.template.Ref]; ok {
		earlier = []plan.Key{before}
	}
	if pinned {
		if !slices.Contains(sources, p.latest) {
			sources = append(slices.Clone(sources), p.latest) // an equal copy, so that $Latest means the same again
		}
		for _, u := range p.byLatest {
			pins = append(pins, p.point(u, "pin", p.called(p.latest), earlier,
				"it must not follow $Latest while version "+others(ph.sources, p.latest)+" of "+p.name()+" is copied"))
		}
	}
	after, made := pins, map[string]string{}
	for _, s := range sources {
		after = []plan.Key{p.create(s, after)}
		made[s] = p.copyOf(s)
	}
	if p.moveDefault && slices.Contains(ph.sources, p.def) {
		p.add(plan.Need{
			Ref: p.template.Ref, Action: VerbSetDefault, Class: plan.ClassSet, Variant: p.variant(p.def),
			Patch: fleet.State{inventory.FieldDefaultVersion: p.copyOf(p.def)}, After: after,
			Why: "launches by the default version: " + ph.why(p.def),
		})
	}
	for _, u := range p.repin {
		// Who replaces what runs to follow the template does so once, and not for each phase.
		if slices.Contains(ph.sources, u.version) && !(u.link.Starts && ph.stage == plan.StageHopLimit) {
			p.point(u, "copy", p.copyOf(u.version), []plan.Key{p.createKey(u.version)},
				"it names version "+u.version+" of "+p.name()+": "+ph.why(u.version))
		}
	}
	if pinned {
		for _, u := range p.byLatest {
			p.point(u, "unpin", inventory.SelectLatest, after, "$Latest of "+p.name()+" is a copy of version "+p.latest+" now")
		}
	}
	maps.Copy(p.now, made)
}

// create asks for a copy of a version, with its own metadata options and over them what the phase wants.
func (p *proposal) create(source string, after []plan.Key) plan.Key {
	options := p.copied(source)
	why := "an equal copy, for $Latest to mean the same as before"
	if slices.Contains(p.phase.sources, source) {
		options, why = p.phase.options(source), p.phase.why(source)
	}
	if source != p.latest && len(p.byLatest) == 0 {
		why += "; $Latest, which nobody is known to launch, becomes a copy of version " + source
	}
	params := map[string]string(options.State())
	params[ParamSource] = p.called(source)
	return p.add(plan.Need{
		Ref: p.template.Ref, Action: VerbCreateVersion, Class: plan.ClassCreate, Variant: p.variant(source),
		Patch: fleet.State{inventory.FieldLatestVersion: p.copyOf(source)}, Params: params,
		Outputs: []string{OutputVersion}, After: after, Why: why,
	})
}

// copied are the options that a version has by now.
func (p *proposal) copied(source string) fleet.Options {
	o := p.template.Launch[source]
	if p.now[source] != "" && slices.Contains(p.sources, source) {
		o.HopLimit = cmp.Or(p.hops[source], o.HopLimit)
	}
	return o
}

func (p *proposal) variant(source string) string { return p.phase.prefix + "copy-of-" + source }

func (p *proposal) createKey(source string) plan.Key {
	return plan.NeedKey(p.template.Ref, VerbCreateVersion, p.variant(source))
}

// copyOf refers to the number that the copy of a version will have.
func (p *proposal) copyOf(source string) string {
	return plan.OutputOf(p.createKey(source), OutputVersion)
}

// point asks for one selector of a user to be written.
func (p *proposal) point(u *user, step, version string, after []plan.Key, why string) plan.Key {
	class := plan.ClassSet
	if u.link.Starts {
		class = plan.ClassStart
	}
	return p.add(plan.Need{
		Ref: u.Ref, Action: verbSetLaunchVersion, Class: class, Variant: p.phase.prefix + step + " " + u.link.Field,
		Patch: fleet.State{u.link.Field: version}, After: after, Why: why,
	})
}

// add completes a need. Needs of one resource follow each other, and all share a stack: they share the template.
func (p *proposal) add(n plan.Need) plan.Key {
	n.Stage, n.For = p.phase.stage, p.affected()
	n.After = slices.Clone(n.After)
	if before, ok := p.last[n.Ref]; ok && !slices.Contains(n.After, before) {
		n.After = append(n.After, before)
	}
	p.last[n.Ref] = n.Key()
	p.needs = append(p.needs, n)
	return n.Key()
}

// affected lists whose launches change, or must be kept from changing.
func (p *proposal) affected() []fleet.Ref {
	users := slices.Concat(p.byLatest, p.repin)
	if p.moveDefault {
		users = slices.Concat(users, p.byDefault, p.direct)
	}
	var out []fleet.Ref
	for _, u := range users {
		if u.Status != inventory.StatusTerminated {
			out = append(out, u.Ref)
		}
	}
	slices.SortFunc(out, fleet.Ref.Compare)
	return slices.Compact(out)
}

func (p *proposal) manual(reason, remedy string) {
	p.manuals = append(p.manuals, plan.Manual{Ref: p.template.Ref, Name: p.template.Name, Reason: reason, Remedy: remedy})
}

func (p *proposal) name() string { return cmp.Or(p.template.Name, p.template.Ref.ID) }

func ownerName(u *user) string { return cmp.Or(u.Owner.String(), "whatever created it") }

// list names up to three users and counts the rest.
func list(users []*user) string {
	const shown = 3
	names := make([]string, 0, shown+1)
	for i, u := range users {
		if i == shown {
			names = append(names, strconv.Itoa(len(users)-shown)+" more")
			break
		}
		names = append(names, u.String())
	}
	return strings.Join(names, ", ")
}

// others names all sources but one.
func others(sources []string, except string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(sources), func(s string) bool { return s == except }), ", ")
}
