package attention

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/product"
)

// workload is a lineage, with what was judged of it: a group, a template without one, or an instance by itself; or those of its
// hosts about which the same is to be decided.
type workload struct {
	// ref is whose history speaks for all members.
	ref  fleet.Ref
	self *inventory.Resource // the group or the template; nil where it was not read
	// members are the judged hosts, in the order of the snapshot; none for a launcher that has no host.
	members []*inventory.Resource
	// verdict is the worst of the members', or the launcher's own.
	verdict *assess.Verdict
	// findings are those of all members, each once; schedule and risk as the verdicts have them.
	findings []evidence.Finding
	risk     *assess.Risk
}

// key names the workload within its place.
func (w *workload) key() string { return w.ref.Kind + "/" + w.ref.ID }

// gather puts the judged hosts together by lineage, and adds the launchers that have no host at all.
func (f *finder) gather() {
	type part struct {
		ref   fleet.Ref
		state disposition
	}
	byPart := map[part]*workload{}
	of := func(ref fleet.Ref, state disposition) *workload {
		w := byPart[part{ref, state}]
		if w == nil {
			w = &workload{ref: ref, self: f.index.Resource(ref)}
			byPart[part{ref, state}] = w
			f.workloads = append(f.workloads, w)
		}
		return w
	}
	for _, v := range f.Report.All() {
		r := f.index.Resource(v.Ref)
		if r == nil || f.Manners[v.Ref.Kind].Role != assess.RoleHost {
			continue
		}
		lineage := v.Basis.Lineage
		if lineage.IsZero() {
			lineage = v.Ref
		}
		of(lineage, disposed(v)).add(r, v)
	}
	for _, v := range f.Report.All() {
		if f.Manners[v.Ref.Kind].Role == assess.RoleLauncher && len(f.index.Hosts(v.Ref)) == 0 {
			w := of(v.Ref, disposed(v))
			w.verdict, w.findings, w.risk = v, slices.Clone(v.Findings), v.Risk
		}
	}
	for _, w := range f.workloads {
		slices.SortFunc(w.findings, evidence.CompareFindings)
		w.findings = slices.Compact(w.findings)
	}
}

// disposition is whose decision a host is. Hosts of one lineage share their evidence, and not that.
type disposition int

const (
	judged   disposition = iota // by the evidence
	settled                     // nothing is to be done about it
	operated                    // by a service
	excepted                    // by an exception, in force or not
)

func disposed(v *assess.Verdict) disposition {
	switch {
	case v.Status == assess.Exempt || v.Has(assess.CodeExceptionExpired):
		return excepted
	case v.Override != "" || v.Status == assess.Done && !v.Has(assess.CodeRejected):
		return settled
	case v.Has(assess.CodeManaged):
		return operated
	default:
		return judged
	}
}

// add takes a host in, and keeps the worst verdict.
func (w *workload) add(r *inventory.Resource, v *assess.Verdict) {
	w.members = append(w.members, r)
	if w.verdict == nil || badness(v) > badness(w.verdict) {
		w.verdict = v
	}
	w.findings = append(w.findings, v.Findings...)
	if riskier(v.Risk, w.risk) {
		w.risk = v.Risk
	}
}

// badness orders the verdicts on members of one workload. One that refuses calls of a program that runs is worse than one that was
// never seen.
func badness(v *assess.Verdict) int {
	switch {
	case v.Status == assess.Blocked && !v.Has(assess.CodeManaged):
		return 6
	case v.Status == assess.Blocked:
		return 5
	case v.Status == assess.Done && v.Has(assess.CodeRejected):
		return 4
	case v.Status == assess.Unknown:
		return 3
	case v.Status == assess.Ready:
		return 2
	case v.Status == assess.Exempt:
		return 1
	default:
		return 0
	}
}

// hosts are all hosts of the workload that the snapshot has, those that are no more included.
func (f *finder) hosts(w *workload) []*inventory.Resource {
	if hosts := f.index.Hosts(w.ref); len(hosts) > 0 {
		return hosts
	}
	return w.members
}

// facts are what routes see of a workload: the group or template, and all its members.
func (f *finder) facts(w *workload) []policy.ResourceFacts {
	var out []policy.ResourceFacts
	for _, r := range append([]*inventory.Resource{w.self}, w.members...) {
		if r != nil {
			out = append(out, assess.Facts(f.index, r))
		}
	}
	return out
}

// item begins an item about a workload. product tells items of one cause apart; it may be empty.
func (f *finder) item(w *workload, cause Cause, id product.ID) Item {
	out := Item{Cause: cause, Status: w.verdict.Status, Product: id, Calls: w.verdict.Basis.Calls, Refused: w.verdict.Basis.Rejected,
		Workload: f.describe(w), Risk: w.risk}
	key := w.key()
	if app, ok := f.app(w); ok && lone(w) { // instances that people made one by one, and that belong together all the same
		key = "app/" + app + "/"
		out.Workload.Name, out.Workload.Kind = app, "app"
	}
	out.Owner, out.Route = f.owner(f.facts(w), f.tags(w), w.owners(f)...)
	out.Code = f.codeOf(w)
	if strings.HasSuffix(key, "/") { // of one application of two owners, each has his own
		key += out.Owner.Name
	}
	out.ID = f.id(string(f.Snapshot.Place.Region), key, cause, string(id))
	return out
}

// describe names the workload for people.
func (f *finder) describe(w *workload) Workload {
	out := Workload{Kind: w.ref.Kind, Name: w.ref.ID, Account: f.Snapshot.Place.Account, AccountName: f.Account.Name,
		Region: f.Snapshot.Place.Region, Instances: len(w.members)}
	if w.self != nil {
		out.Name = cmp.Or(clean(w.self.Name), w.ref.ID)
	}
	for _, m := range w.members {
		out.Resources = append(out.Resources, m.Ref)
	}
	if len(w.members) == 0 {
		out.Resources = []fleet.Ref{w.ref}
	}
	slices.SortFunc(out.Resources, fleet.Ref.Compare)
	return out
}

// lone tells whether the workload is a single instance that nothing launched.
func lone(w *workload) bool { return len(w.members) == 1 && w.members[0].Ref == w.ref }

// appTags are the keys of tags that name an application.
func appTags() []string { return []string{"app", "application", "service"} }

// app is the application that a workload's tags name, as "key=value".
func (f *finder) app(w *workload) (string, bool) {
	keys := appTags()
	if own := f.Policy.Stack.Tag; own != "" {
		keys = append([]string{own}, keys...)
	}
	for _, key := range keys {
		for _, r := range append(slices.Clip(w.members), w.self) {
			if r == nil {
				continue
			}
			for _, have := range slices.Sorted(maps.Keys(r.Tags)) {
				if strings.EqualFold(have, key) && r.Tags[have] != "" {
					return key + "=" + clean(r.Tags[have]), true
				}
			}
		}
	}
	return "", false
}

// tags are those of a workload's resources, the nearest first.
func (f *finder) tags(w *workload) []map[string]string {
	var out []map[string]string
	for _, r := range append(slices.Clip(w.members), w.self) {
		if r == nil {
			continue
		}
		out = append(out, r.Tags)
		for _, l := range r.Links {
			if source := f.index.Resource(l.To); source != nil && source != w.self {
				out = append(out, source.Tags)
			}
		}
	}
	return out
}

// owner is who answers: the first route that matches and names somebody, else a tag of the resources or of the account, else who made
// the resources, else the account.
func (f *finder) owner(facts []policy.ResourceFacts, tags []map[string]string, makers ...fleet.Owner) (Owner, *policy.Route) {
	a := &f.Policy.Attention
	var to *policy.Route
	if route, ok := a.RouteFor(facts...); ok {
		to = &route
		if route.Owner != "" {
			return Owner{route.Owner, "the route at " + cmp.Or(route.Where, "attention.routes")}, to
		}
	}
	for _, t := range tags {
		if name, key := a.OwnerOf(t); name != "" {
			return Owner{clean(name), "the tag " + clean(key)}, to
		}
	}
	if name, key := a.OwnerOf(f.Account.Tags); name != "" {
		return Owner{clean(name), "the account's tag " + clean(key)}, to
	}
	for _, o := range makers {
		if o.Name != "" && o.Type != fleet.OwnerAutoScaling {
			return Owner{clean(o.String()), "what made it"}, to
		}
	}
	return Owner{cmp.Or(f.Account.Name, string(f.Snapshot.Place.Account)), "the account"}, to
}

// owners are who made a workload, the code that has to be changed first.
func (w *workload) owners(f *finder) []fleet.Owner {
	out := []fleet.Owner{f.codeOf(w)}
	for _, r := range append(slices.Clip(w.members), w.self) {
		if r != nil {
			out = append(out, f.index.Owner(r))
		}
	}
	return out
}

// codeOf is the infrastructure as code behind a workload: that of its members, its group or its template.
func (f *finder) codeOf(w *workload) fleet.Owner {
	for _, r := range append(slices.Clip(w.members), w.self) {
		if r == nil {
			continue
		}
		if o := f.index.Code(r); o.IsCode() {
			return o
		}
		for _, l := range r.Links {
			if l.Relation != inventory.LaunchesFrom && l.Relation != inventory.LaunchedFrom {
				continue
			}
			if source := f.index.Resource(l.To); source != nil {
				if o := f.index.Code(source); o.IsCode() {
					return o
				}
			}
		}
	}
	return fleet.Owner{}
}

// id makes the id of an item. region is empty for what is one thing in all regions.
func (f *finder) id(region, key string, cause Cause, rest ...string) string {
	parts := append([]string{string(f.Snapshot.Place.Partition), string(f.Snapshot.Place.Account), region, key, string(cause)}, rest...)
	return identity("a", parts)
}

// identity gives a short name for some texts: 40 bits, enough to tell a hundred thousand items apart.
func identity(prefix string, parts []string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return prefix + "-" + hex.EncodeToString(sum[:5])
}

// list adds a finished item.
func (f *finder) list(i Item) { f.items = append(f.items, i) }

// seal gives an item the digest of what it says. Counts and times are no part of it: they change with every scan.
func (i *Item) seal() {
	parts := []string{string(i.Cause), string(i.Status), string(i.Confidence), i.Title, i.Fix, i.First, i.Owner.Name, i.Code.String()}
	i.Digest = identity("d", append(append(parts, i.Versions...), i.Steps...))
}

// saw adds evidence to an item.
func (f *finder) saw(i *Item, source evidence.Source, from, to time.Time, format string, args ...any) {
	e := Evidence{Source: source, Text: fmt.Sprintf(format, args...), From: from, To: to}
	if !to.IsZero() && f.Now.After(to) {
		e.AgeSeconds = int64(f.Now.Sub(to) / time.Second)
	}
	i.Evidence = append(i.Evidence, e)
}

// bound widens the time in which an item was seen. Nothing is seen in the future, where a period that runs ends.
func (f *finder) bound(i *Item, first, last time.Time) {
	if last.After(f.Now) {
		last = f.Now
	}
	if !first.IsZero() && (i.Since.IsZero() || first.Before(i.Since)) {
		i.Since = first
	}
	if last.After(i.Last) {
		i.Last = last
	}
}

// calledBetween is when the first and the last call of a metric were counted on some members.
func (f *finder) calledBetween(members []*inventory.Resource, metric evidence.Metric) (first, last time.Time) {
	for _, m := range members {
		for _, w := range f.Evidence[m.Ref] {
			if w.Metric != metric || w.Span != f.Span || len(w.Points) == 0 {
				continue
			}
			if at := w.Span.Start.Add(time.Duration(w.Points[0].Slot) * w.Span.Period); first.IsZero() || at.Before(first) {
				first = at
			}
			if at := w.LastNonZero(); at.After(last) {
				last = at
			}
		}
	}
	return first, last
}
