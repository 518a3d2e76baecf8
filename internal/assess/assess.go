package assess

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/product"
)

// Input is one place with all that is known of it.
type Input struct {
	Snapshot *inventory.Snapshot
	// Manners say how each kind is judged. A kind without one is not.
	Manners map[string]Manner
	// Evidence holds the windows of each subject, all over the same span.
	Evidence map[fleet.Ref][]*evidence.Window
	// EvidenceGap says why CloudWatch's evidence is missing as a whole, or all evidence; nil otherwise.
	EvidenceGap *inventory.Scope
	// HistoryGap says why the long look back is missing as a whole or in part; nil where it is not, or none was asked for.
	HistoryGap *inventory.Scope
	// SourceGaps say the same of the other sources: only the kinds whose metric is read there rest on them.
	SourceGaps map[evidence.Source]*inventory.Scope
	// Span is the window that evidence was asked for.
	Span evidence.Span
	// History holds the windows of the long look back, in daily counts; it tells of schedules and nothing else.
	History map[fleet.Ref][]*evidence.Window
	// Findings are what sources other than metrics saw, of any place; Imports tell which time they speak for.
	Findings []evidence.Finding
	Imports  []evidence.Import
	// Products judges the versions of software; nil is the table that comes with the program.
	Products *product.Table
	Policy   *policy.Config
	Now      time.Time
	// Below is what was judged of the accounts of the organization; only policies need it.
	Below map[fleet.AccountID]*Below
	// Roles are those of the account, for the risk of what has them.
	Roles *RoleBook
}

// Report holds the verdicts of one place.
type Report struct {
	Place    fleet.Place
	Index    *inventory.Index
	verdicts map[fleet.Ref]*Verdict
	order    []fleet.Ref
	Defaults fleet.Options // the account's defaults for this region
	judge    *judge
}

// Verdict finds the verdict on a resource; nil where none was judged.
func (r *Report) Verdict(ref fleet.Ref) *Verdict { return r.verdicts[ref] }

// All lists the verdicts in the order of the snapshot's resources.
func (r *Report) All() []*Verdict {
	out := make([]*Verdict, len(r.order))
	for i, ref := range r.order {
		out[i] = r.verdicts[ref]
	}
	return out
}

// Place judges every resource of one place: hosts by the evidence of their lineage, launchers by the hosts they started,
// sources by those who launch from them, the account default by all that would inherit it.
func Place(in Input) *Report {
	j := &judge{in: in, index: inventory.NewIndex(in.Snapshot), bases: map[fleet.Ref]*Basis{}, joints: map[fleet.Ref]*joint{},
		report: &Report{Place: in.Snapshot.Place, verdicts: map[fleet.Ref]*Verdict{}}}
	j.report.Index, j.report.judge = j.index, j
	j.joinFindings()
	if d := j.defaults(); d != nil {
		j.report.Defaults = d.State.Options()
	}
	// Each role rests on those before it: a launcher on its hosts, a source on its launchers, the default on all.
	for _, role := range Roles() {
		judge := j.by(role)
		if judge == nil {
			continue
		}
		for i := range in.Snapshot.Resources {
			r := &in.Snapshot.Resources[i]
			if in.Manners[r.Ref.Kind].Role != role || r.Status == inventory.StatusTerminated {
				continue
			}
			j.report.verdicts[r.Ref] = judge(r)
			j.report.order = append(j.report.order, r.Ref)
		}
	}
	j.risks()
	slices.SortFunc(j.report.order, fleet.Ref.Compare)
	return j.report
}

// by is how a role is judged; nil for what is not.
func (j *judge) by(role Role) func(*inventory.Resource) *Verdict {
	switch role {
	case RoleHost:
		return j.host
	case RoleLauncher:
		return j.launcher
	case RoleSource:
		return j.launchSource
	case RoleDefault:
		return j.accountDefaults
	case RolePolicy:
		return j.policy
	default:
		return nil
	}
}

type judge struct {
	in     Input
	index  *inventory.Index
	report *Report
	bases  map[fleet.Ref]*Basis

	findings findings
	joints   map[fleet.Ref]*joint
}

// Facts are what the configuration's rules see of a resource.
func Facts(ix *inventory.Index, r *inventory.Resource) policy.ResourceFacts {
	c := ix.Containers(r)
	return policy.ResourceFacts{Ref: r.Ref, Name: r.Name, Tags: r.Tags, Cluster: c.Cluster, Containers: c.Runtime, NetworkModes: c.Modes}
}

func (j *judge) facts(r *inventory.Resource) policy.ResourceFacts { return Facts(j.index, r) }

// host judges what runs. What is settled (done, exempt, owned by a service) comes before what is observed.
func (j *judge) host(r *inventory.Resource) *Verdict {
	v := &Verdict{Ref: r.Ref, Basis: j.basis(j.lineage(r))}
	j.show(v)
	v.Hops = j.hopsOf(r, r.Options())
	if j.settled(v, r, r.Options()) {
		if v.Has(CodeRequired) && !j.index.Owner(r).Managed {
			v.Want = fleet.Options{HopLimit: j.want(r, r.Options()).HopLimit}
			j.keepHops(v, r)
		}
		return v
	}
	v.Want = j.want(r, r.Options())
	j.observed(v, r, j.own(r))
	if r.Status != inventory.StatusRunning && v.Status == Ready && j.in.Manners[r.Ref.Kind].Metric {
		v.add(CodeNotRunning, "it is %s; its group's history speaks for it", r.Status)
	}
	return v
}

// keepHops takes a lower hop limit back from an instance that requires tokens while its lineage calls v1: the callers may be
// containers that no token reaches on the members with fewer hops, and here they would have nothing to fall back to.
func (j *judge) keepHops(v *Verdict, r *inventory.Resource) {
	b, f := v.Basis, j.joint(v.Basis.Lineage)
	calls := b.Calls > 0 || b.Rejected > 0 || len(f.calls)+len(f.refused) > 0
	if !calls || v.Want.HopLimit >= r.Options().HopLimit {
		return
	}
	if _, accepted := j.in.Policy.OverrideFor(j.facts(r)); !accepted {
		v.Want.HopLimit = 0
	}
}

// settled sets the verdict where evidence is not asked: exempt, an endpoint that is off, tokens required, a service's own.
func (j *judge) settled(v *Verdict, r *inventory.Resource, o fleet.Options) bool {
	exception, state, found := j.in.Policy.Exempt(j.facts(r), j.in.Now)
	switch {
	case found && state == policy.ExceptionActive:
		v.set(Exempt, CodeException, "exception of %s until %s: %s", exception.Owner, exception.Expires, exception.Reason)
	case o.Endpoint == fleet.Disabled:
		v.set(Done, CodeEndpointDisabled, "the metadata endpoint is disabled; it is never written")
	case o.Tokens == fleet.TokensRequired:
		v.set(Done, CodeRequired, "tokens are required already")
		if v.Basis.Rejected > 0 {
			v.add(CodeRejected, "%s v1 calls were refused, the last after %s", count(v.Basis.Rejected),
				stamp(v.Basis.LastRejected))
		}
	case found && state == policy.ExceptionExpired:
		v.set(Blocked, CodeExceptionExpired, "the exception of %s expired after %s: renew it or remove it", exception.Owner,
			exception.Expires)
	case j.index.Owner(r).Managed:
		v.set(Blocked, CodeManaged, "operated by %s: change it through its owner", j.index.Owner(r))
	default:
		return false
	}
	return true
}

// observed judges by evidence alone. Order matters: a v1 call blocks whatever else is missing; a gap is unknown, never ready.
func (j *judge) observed(v *Verdict, r *inventory.Resource, own *Basis) {
	b, e, f := v.Basis, j.in.Policy.Evidence, j.joint(v.Basis.Lineage)
	switch {
	case b.Calls > 0 || b.Rejected > 0 || len(f.calls) > 0:
		// A refused call is a call: where tokens are not required yet, it would be answered.
		j.blocked(v, r, own, f)
	case len(f.refused) > 0:
		j.refusedBy(v, f)
		j.override(v, r)
	case len(f.old)+len(f.raw) > 0 && (e.OldSoftware == policy.OldSoftwareBlock || !j.in.Manners[r.Ref.Kind].Metric):
		v.Status = Blocked
		j.oldSoftware(v, f)
		j.override(v, r)
		return
	case !j.in.Manners[r.Ref.Kind].Metric:
		j.unobservable(v, r)
	case j.evidenceGap(r) != nil:
		gap := j.evidenceGap(r)
		v.set(Unknown, CodeGap, "%s could not be read (%s): %s", j.source(r.Ref.Kind).Title(), gap.Class, gap.Detail)
	case j.unread(v, lineageKinds(v)...): // a member that is missing may have called v1
	case b.Covered == 0:
		v.set(Unknown, CodeNoEvidence, "no datapoint of MetadataNoToken in %s", span(j.in.Span))
	case b.Coverage() < e.MinCoverage:
		v.set(Unknown, CodeNotCovered, "only %d of %d periods are covered (%.1f %%, %.1f %% needed)", b.Covered, b.Periods,
			100*b.Coverage(), 100*e.MinCoverage)
	case e.RequireBoot && b.Boots == 0 && len(f.passed) == 0:
		v.set(Unknown, CodeNoBoot, "nothing of this lineage booted inside the evidence: what runs at boot was not seen")
	case j.in.HistoryGap != nil && j.source(r.Ref.Kind) == evidence.SourceCloudWatch:
		gap := j.in.HistoryGap
		v.set(Unknown, CodeGap, "the daily counts before the window could not be read (%s), which would show a schedule: %s", gap.Class, gap.Detail)
	case v.Schedule != nil && v.Schedule.Held:
		j.held(v)
		j.override(v, r)
	default:
		v.set(Ready, CodeCovered, "no v1 call in %d of %d periods since %s, %s seen",
			b.Covered, b.Periods, stamp(b.Start), plural(b.Boots, "boot"))
		j.certified(v, f)
	}
	j.oldSoftware(v, f)
}

// held says what a workload with a schedule waits for.
func (j *judge) held(v *Verdict) {
	s := v.Schedule
	day := func(t time.Time) string { return t.Format(time.DateOnly) }
	v.set(Unknown, CodeSchedule, "called %s every %s until %s, due again on %s: a full period is seen on %s", plural(s.Runs, "time"), s.Every,
		day(s.Last), day(s.Due), day(s.Quiet))
}

// source is where the metric of a kind's hosts is read.
func (j *judge) source(kind string) evidence.Source {
	return cmp.Or(j.in.Manners[kind].Source, evidence.SourceCloudWatch)
}

// evidenceGap says why the evidence of a host is missing as a whole; nil where it is not.
func (j *judge) evidenceGap(r *inventory.Resource) *inventory.Scope {
	if s := j.source(r.Ref.Kind); s != evidence.SourceCloudWatch {
		return j.in.SourceGaps[s]
	}
	return j.in.EvidenceGap
}

// unobservable judges what no metric counts: only a person can say that nothing there calls v1.
func (j *judge) unobservable(v *Verdict, r *inventory.Resource) {
	v.set(Unknown, CodeNoMetric, "AWS counts no v1 calls of a %s: find out what runs there, and accept it by an override", r.Ref.Kind)
	j.override(v, r)
}

// lineageKinds are the kinds that tell who the members of a lineage are. A group's history also tells of those that are no
// more.
func lineageKinds(v *Verdict) []string {
	if v.Basis.Lineage.Kind == inventory.KindAutoScaling {
		return []string{inventory.KindInstance, inventory.KindAutoScaling}
	}
	if ofFleets(v.Basis.Lineage.Kind) { // of one that has ended the template's other instances speak
		return []string{inventory.KindInstance, v.Basis.Lineage.Kind}
	}
	if v.Basis.Lineage == v.Ref {
		return []string{v.Ref.Kind}
	}
	return []string{inventory.KindInstance}
}

// blocked states who called, and lets a person's override turn the verdict.
func (j *judge) blocked(v *Verdict, r *inventory.Resource, own *Basis, f *joint) {
	b := v.Basis
	switch {
	case b.Calls == 0 && b.Rejected == 0: // others saw them
	case own != nil && own.Calls > 0:
		v.set(Blocked, CodeV1Calls, "%s v1 calls, the last after %s", count(own.Calls), stamp(own.LastCall))
	case b.Calls == 0:
		v.set(Blocked, CodeRejected, "%s v1 calls were refused in its lineage %s %s, where tokens are required already, the last after %s",
			count(b.Rejected), b.Lineage.Kind, b.Lineage.ID, stamp(b.LastRejected))
	default:
		v.set(Blocked, CodeLineageV1Calls, "%s v1 calls in its lineage %s %s, the last after %s",
			count(b.Calls), b.Lineage.Kind, b.Lineage.ID, stamp(b.LastCall))
	}
	j.seenCalls(v, r, f)
	if len(f.refused) > 0 {
		j.refusedBy(v, f)
	}
	j.override(v, r)
}

// override lets a person's decision turn the verdict.
func (j *judge) override(v *Verdict, r *inventory.Resource) {
	if o, ok := j.in.Policy.OverrideFor(j.facts(r)); ok {
		v.Status = Ready
		v.Override = o.Owner + ": " + o.Reason
		v.add(CodeOverride, "%s accepts it: %s", o.Owner, o.Reason)
	}
}

// want is what a resource should say: tokens required, and the hop limit that the configuration gives it.
func (j *judge) want(r *inventory.Resource, now fleet.Options) fleet.Options {
	w := fleet.Options{Tokens: fleet.TokensRequired}
	h := j.hopsOf(r, now)
	short := h.certified > max(now.HopLimit, 1) // with tokens required it would fail, whoever left the hop limit alone
	if (h.Rule != "" || short) && h.Needed != now.HopLimit {
		w.HopLimit = h.Needed
	}
	return w
}

func (j *judge) defaults() *inventory.Resource {
	for i := range j.in.Snapshot.Resources {
		if r := &j.in.Snapshot.Resources[i]; r.Ref.Kind == inventory.KindAccountDefaults {
			return r
		}
	}
	return nil
}

// set decides the verdict, with a reason in the manner of fmt.Sprintf.
func (v *Verdict) set(s Status, c Code, format string, args ...any) {
	v.Status = s
	v.add(c, format, args...)
}

// add gives one more reason.
func (v *Verdict) add(c Code, format string, args ...any) {
	v.Reasons = append(v.Reasons, Reason{c, fmt.Sprintf(format, args...)})
}
