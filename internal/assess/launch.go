package assess

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// launchOptions is what a template version says by itself; ok is false where the version was not read.
func launchOptions(template *inventory.Resource, selector string) (version string, o fleet.Options, ok bool) {
	version = inventory.ResolveVersion(template, selector)
	o, ok = template.Launch[version]
	return version, o, ok
}

// launcher judges what starts hosts: done where all its launches require tokens, else by the evidence of its hosts.
func (j *judge) launcher(r *inventory.Resource) *Verdict {
	v := &Verdict{Ref: r.Ref, Basis: j.basis(r.Ref)}
	j.show(v)
	effective, unresolved := j.effective(r)
	v.Effective = effective.Options()
	if j.settled(v, r, v.Effective) {
		return v
	}
	if unresolved != "" {
		v.set(Unknown, CodeUnresolved, "%s", unresolved)
		return v
	}
	v.Want = j.want(r, v.Effective)
	j.observed(v, r, nil)
	if effective.Refused != "" {
		v.add(CodeRefusedLaunch, "its next launch fails: %s", effective.Refused)
	}
	// A host that may not be changed keeps its launcher's launches as they are; that it is changed through its owner does not.
	for _, m := range j.index.Hosts(r.Ref) {
		mv := j.report.verdicts[m.Ref]
		if mv != nil && (mv.Status == Exempt || mv.Status == Blocked && !mv.Has(CodeManaged)) && v.Status == Ready {
			v.Status = Blocked
			v.add(CodeConsumers, "its instance %s is %s: %s", m.Ref.ID, mv.Status, mv.Why())
			break
		}
	}
	return v
}

// effective is the weakest of all launches of a launcher: what answers v1, or may, before what does not.
func (j *judge) effective(r *inventory.Resource) (weakest Launch, unresolved string) {
	for i, f := range j.launches(r) {
		if f.unresolved != "" && f.Launch.Tokens.Unknown != "" {
			return f.Launch, f.unresolved
		}
		if i == 0 || f.Launch.V1().rank() > weakest.V1().rank() {
			weakest = f.Launch
		}
	}
	return weakest, ""
}

// launchSource judges what launches read.
func (j *judge) launchSource(r *inventory.Resource) *Verdict {
	if r.Ref.Kind == inventory.KindImage {
		return j.image(r)
	}
	return j.template(r)
}

// template judges a launch template or configuration by everyone who launches through it: done where every launch is closed already, ready
// where at least one consumer is ready to be closed and none is in the way. Which versions can move is the kind's matter.
func (j *judge) template(r *inventory.Resource) *Verdict {
	v := &Verdict{Ref: r.Ref, Basis: j.basis(r.Ref)}
	j.show(v)
	_, said, _ := launchOptions(r, inventory.SelectDefault)
	byDefault := j.sourceLaunch(r, inventory.SelectDefault).Launch
	v.Effective = byDefault.Options()
	consumers := j.index.Consumers(r.Ref)
	users := j.bareUsers(r)
	if len(consumers) == 0 && len(users) == 0 {
		if j.settled(v, r, v.Effective) || j.unread(v, j.launching()...) {
			return v
		}
		if f := j.joint(r.Ref); len(f.calls) > 0 {
			j.seenCalls(v, r, f)
			return v
		}
		v.set(Unknown, CodeNoConsumers, "nothing launches from it, and no instance was launched from it in the window")
		return v
	}
	if j.settled(v, r, fleet.Options{}) || j.unread(v, j.launching()...) {
		return v
	}
	v.Want = j.want(r, said)
	ready, done := 0, 0
	var inTheWay []string
	tally := func(ref fleet.Ref, open bool) {
		u := j.report.verdicts[ref]
		switch {
		case !open:
			done++
		case u == nil:
			inTheWay = append(inTheWay, ref.ID+" was not judged")
		case u.Status == Ready:
			ready++
		default:
			inTheWay = append(inTheWay, fmt.Sprintf("%s is %s (%s)", ref.ID, u.Status, u.Why()))
		}
	}
	for _, c := range consumers {
		tally(c.Resource.Ref, !j.launch(c.Resource, c.Link).Launch.closed())
	}
	for _, u := range users {
		tally(u.Ref, !byDefault.closed())
	}
	slices.Sort(inTheWay)
	switch {
	case ready == 0 && len(inTheWay) == 0:
		v.set(Done, CodeRequired, "all %s launch with tokens required", plural(done, "user"))
	case len(inTheWay) > 0:
		v.set(Blocked, CodeConsumers, "used by %s", firstOf(inTheWay, 3))
	default:
		v.set(Ready, CodeCovered, "%s ready, %d done", plural(ready, "user"), done)
	}
	return v
}

// bareUsers are the instances that were launched from the template without a group: its default is what they would be
// launched from again.
func (j *judge) bareUsers(template *inventory.Resource) []*inventory.Resource {
	var out []*inventory.Resource
	for _, m := range j.index.Members(template.Ref) {
		grouped := j.index.Group(m) != nil
		from, _ := m.Link(inventory.LaunchedFrom)
		if from.To == template.Ref && !grouped && m.Status != inventory.StatusTerminated {
			out = append(out, m)
		}
	}
	return out
}

// accountDefaults judges the default of the account in a region: writing it counts as writing its value to every lineage
// that would launch through it, so each of them must be ready or done, or say its own.
func (j *judge) accountDefaults(r *inventory.Resource) *Verdict {
	v := &Verdict{Ref: r.Ref, Effective: r.State.Options()}
	if j.settled(v, r, v.Effective) {
		return v
	}
	if by := r.Attrs[inventory.AttrManagedBy]; by != "" && by != "account" {
		v.set(Blocked, CodeDeclarative, "managed by %s: change the organization's policy", by)
		return v
	}
	if j.unread(v, j.inheriting()...) {
		return v
	}
	v.Want = fleet.Options{Tokens: fleet.TokensRequired}
	var inTheWay []string
	for i := range j.in.Snapshot.Resources {
		u := &j.in.Snapshot.Resources[i]
		uv := j.report.verdicts[u.Ref]
		if uv == nil || !j.inherits(u) {
			continue
		}
		if j.shortOfHops(u) {
			inTheWay = append(inTheWay, fmt.Sprintf("%s %s runs with a higher hop limit than its next launch gets", u.Ref.Kind, u.Ref.ID))
			continue
		}
		if uv.Status == Ready {
			continue
		}
		// Tokens required on what runs tells nothing of how its next launch would do, but its own evidence does: it works.
		if uv.Status == Done {
			continue
		}
		inTheWay = append(inTheWay, fmt.Sprintf("%s %s is %s", u.Ref.Kind, u.Ref.ID, uv.Status))
	}
	slices.Sort(inTheWay)
	if len(inTheWay) > 0 {
		v.set(Blocked, CodeConsumers, "%s would inherit it: %s", plural(len(inTheWay), "resource"), firstOf(inTheWay, 3))
		return v
	}
	v.set(Ready, CodeCovered, "everything that would inherit it is ready or done")
	return v
}

// unread makes the verdict unknown where one of the kinds it rests on could not be read completely: a consumer that was
// not seen may be the one that calls v1.
func (j *judge) unread(v *Verdict, kinds ...string) bool {
	for _, kind := range kinds {
		if gap, ok := j.in.Snapshot.Gap(kind); ok {
			v.set(Unknown, CodeGap, "%s could not be read (%s): %s", kind, gap.Class, gap.Detail)
			return true
		}
		if !j.in.Snapshot.Read(kind) {
			v.set(Unknown, CodeGap, "%s was not read: scan this place again", kind)
			return true
		}
	}
	return false
}

// inherits tells whether a launch of this lineage would take HttpTokens from the account's default: a launcher, or an
// instance without a group, whose launch source does not say it.
func (j *judge) inherits(r *inventory.Resource) bool {
	switch {
	case j.in.Manners[r.Ref.Kind].Role == RoleLauncher:
		return slices.ContainsFunc(j.launches(r), func(f FutureLaunch) bool { return !f.outside && f.Launch.inherits() })
	case r.Ref.Kind == inventory.KindInstance:
		if j.index.Group(r) != nil {
			return false // its group stands for it
		}
		l, _ := r.Link(inventory.LaunchedFrom)
		source := j.index.Resource(l.To)
		return source == nil || j.sourceLaunch(source, inventory.SelectDefault).Launch.inherits()
	}
	return false
}

// shortOfHops tells whether the next launch of what would inherit the default gets fewer hops than its evidence was seen
// with, from a template that is not about to be changed: a container that falls back to v1 today would fail.
func (j *judge) shortOfHops(r *inventory.Resource) bool {
	ran := j.hops(r)
	for _, m := range j.index.Hosts(r.Ref) {
		ran = max(ran, j.hops(m))
	}
	return slices.ContainsFunc(r.Links, func(l inventory.Link) bool {
		template := j.index.Resource(l.To)
		if v := j.report.verdicts[l.To]; template == nil || v != nil && v.Status == Ready {
			return false
		}
		var next Launch
		switch l.Relation {
		case inventory.LaunchedFrom:
			next = j.sourceLaunch(template, inventory.SelectDefault).Launch // as in inherits
		case inventory.LaunchesFrom:
			next = j.launch(r, l).Launch
		default:
			return false
		}
		return next.inherits() && ran > cmp.Or(next.Options().HopLimit, 1) // one that is not known may be EC2's own
	})
}

// hops is the hop limit an instance has or will be given; 0 for one that is no more, or answers nobody, and for all else.
func (j *judge) hops(r *inventory.Resource) int {
	if r.Ref.Kind != inventory.KindInstance || r.Status == inventory.StatusTerminated ||
		r.State[fleet.FieldEndpoint] == fleet.Disabled {
		return 0
	}
	if v := j.report.verdicts[r.Ref]; v != nil && v.Want.HopLimit != 0 {
		return v.Want.HopLimit
	}
	return r.State.Options().HopLimit
}

func firstOf(items []string, n int) string {
	if len(items) <= n {
		return strings.Join(items, "; ")
	}
	return strings.Join(items[:n], "; ") + fmt.Sprintf("; and %d more", len(items)-n)
}

// launching lists the kinds that tell what launches from a source.
func (j *judge) launching() []string {
	return slices.DeleteFunc(j.inheriting(), func(name string) bool { return j.in.Manners[name].Role == RoleSource })
}

// inheriting lists the kinds that tell what would inherit an account's default.
func (j *judge) inheriting() []string {
	out := []string{inventory.KindInstance}
	for _, name := range slices.Sorted(maps.Keys(j.in.Manners)) {
		m := j.in.Manners[name]
		if m.Metric && (m.Role == RoleLauncher || m.Role == RoleSource) && name != inventory.KindImage {
			out = append(out, name)
		}
	}
	return out
}
