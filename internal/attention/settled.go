package attention

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// workload lists what a workload's verdict asks for.
func (f *finder) workload(w *workload) {
	v := w.verdict
	switch {
	case v.Status == assess.Exempt || v.Override != "" || v.Has(assess.CodeExceptionExpired):
		return // exceptions has the latter; an override is a person's word that nothing is to be done
	case v.Status == assess.Done:
		if v.Has(assess.CodeRejected) {
			f.callers(w)
		}
		return
	case v.Has(assess.CodeManaged):
		if f.called(w) {
			f.callers(w)
		}
		return // else managed has it
	case v.Status == assess.Blocked && v.Has(assess.CodeConsumers):
		return // whoever keeps it has an item
	case v.Status == assess.Blocked:
		f.callers(w)
	case v.Status == assess.Unknown:
		f.unseen(w)
	}
	f.hopsHigh(w)
}

// called tells whether somebody calls, by the metric or by what others saw inside the window.
func (f *finder) called(w *workload) bool {
	return w.verdict.Basis.Calls+w.verdict.Basis.Rejected > 0 || slices.ContainsFunc(w.findings, func(finding evidence.Finding) bool {
		return finding.What.Calls() && !finding.Last.Before(f.Span.Start)
	})
}

// unseen lists a workload of which too little is known.
func (f *finder) unseen(w *workload) {
	v := w.verdict
	switch {
	case v.Has(assess.CodeGap):
		f.unread(w)
	case v.Has(assess.CodeUnresolved):
		i := f.verdictItem(w, Unresolved, "what it launches from is not known")
		i.Fix = "Let the launch template or configuration that it names be read, or correct what it names."
		f.finish(w, i)
	case v.Has(assess.CodeNoMetric):
		f.noMetric(w)
	case v.Has(assess.CodeNoEvidence):
		f.noDatapoint(w)
	case v.Has(assess.CodeNotCovered):
		f.notCovered(w)
	case v.Has(assess.CodeNoBoot):
		i := f.verdictItem(w, NoBoot, "nothing of it booted inside the evidence, so what runs at boot was not seen")
		i.Fix = "Let one of its instances boot inside the window: restart one, or have its group replace one."
		i.Steps = []string{"or import a certification of its software", "or, where nothing runs at boot, set evidence.require_boot: false"}
		f.finish(w, i)
	case v.Has(assess.CodeSchedule):
		i := f.verdictItem(w, ScheduleOpen, "its calls came by a schedule, and no full period of it was quiet yet")
		i.Fix = "Wait until a full period has passed without a call, or upgrade what runs by the schedule and accept it by an override."
		if s := v.Schedule; s != nil {
			i.Fix = fmt.Sprintf("Wait until %s, when a full period has passed without a call, or upgrade what runs by the schedule and accept it by an override.",
				s.Quiet.Format(time.DateOnly))
		}
		f.finish(w, i)
	}
}

// verdictItem begins an item that says what the verdict says.
func (f *finder) verdictItem(w *workload, cause Cause, title string) Item {
	i := f.item(w, cause, "")
	i.Confidence, i.Title = Certain, title
	for _, r := range w.verdict.Reasons {
		i.Because = append(i.Because, clean(r.Text))
	}
	b := w.verdict.Basis
	if b.Periods > 0 {
		f.saw(&i, b.Source, b.Start, b.End, "%d of %d periods covered, %s, %s", b.Covered, b.Periods, plural(b.Calls, "IMDSv1 call"),
			plural(b.Boots, "boot"))
	}
	return i
}

// finish lists an item about a verdict.
func (f *finder) finish(w *workload, i Item) {
	if i.Code.IsCode() {
		i.Steps = append(i.Steps, "require IMDSv2 in its code too, or the code changes it back: "+i.Code.String())
	}
	f.listed[w.key()] = true
	f.list(i)
}

func (f *finder) noMetric(w *workload) {
	i := f.verdictItem(w, NoMetric, fmt.Sprintf("AWS counts no IMDSv1 calls of a %s", w.ref.Kind))
	i.Fix = "Find out what runs there, upgrade what knows only IMDSv1, and accept it by an override."
	i.Steps = []string{"look for old SDKs in its image or packages: `imdsctl software scan`",
		"`overrides` in the configuration: who accepts it, and why that is safe enough"}
	i.Links = []string{linkSDKs}
	f.finish(w, i)
}

func (f *finder) noDatapoint(w *workload) {
	i := f.verdictItem(w, NoDatapoint, "the metric shows nothing of it in the window")
	stopped := len(w.members) > 0 && !slices.ContainsFunc(w.members, func(m *inventory.Resource) bool { return m.Status == inventory.StatusRunning })
	switch {
	case len(w.members) == 0:
		i.Fix = "Let it launch an instance and run it through the window, or delete it if nobody needs it."
	case stopped:
		i.Title = "its instances are stopped, and the metric shows nothing of them in the window"
		i.Fix = "Start one of its instances for as long as the window asks, or terminate them if nobody needs them."
	default:
		i.Fix = "Wait for the metric's first datapoints; if none come, see that the instance is up and that CloudWatch can be read."
	}
	i.Links = []string{linkMetrics}
	f.finish(w, i)
}

func (f *finder) notCovered(w *workload) {
	b := w.verdict.Basis
	i := f.verdictItem(w, NotCovered, "too little of the window was seen")
	need := int(f.Policy.Evidence.MinCoverage*float64(b.Periods)+0.999999) - b.Covered
	i.Fix = "Wait: keep it running until enough of the window is covered, or shorten evidence.window if that is enough for you."
	if need > 0 && f.Span.Period > 0 {
		i.Because = append(i.Because, fmt.Sprintf("%s more with datapoints are needed, about %s of running", plural(need, "period"),
			roughly(time.Duration(need)*f.Span.Period)))
	}
	f.finish(w, i)
}

// roughly is a span of time in days or hours.
func roughly(d time.Duration) string {
	if d >= 48*time.Hour {
		return plural(int((d+12*time.Hour)/(24*time.Hour)), "day")
	}
	return plural(int((d+time.Hour/2)/time.Hour), "hour")
}

// action is IAM's name of a call, as errors have it.
var action = regexp.MustCompile(`\b[a-z0-9-]+:[A-Z][A-Za-z0-9]+\b`)

// gaps lists what could not be read: one item for each kind, reason and permission of an account, whatever the region.
func (f *finder) gaps() {
	for _, sc := range f.Gaps {
		what := cmp.Or(sc.Kind, "the account")
		asked := action.FindString(sc.Detail)
		i := Item{Cause: Gap, Status: assess.Unknown, Confidence: Certain}
		i.Workload = Workload{Name: what, Kind: cmp.Or(sc.Kind, "place"), Account: sc.Place.Account, AccountName: f.Account.Name, Region: sc.Place.Region}
		i.Workload.Instances = f.hidden(sc.Kind)
		ref := fleet.Ref{Place: sc.Place, Kind: sc.Kind}
		i.Owner, i.Route = f.owner([]policy.ResourceFacts{{Ref: ref}}, nil)
		i.Title = fmt.Sprintf("%s could not be read (%s)", what, sc.Class)
		i.Because = []string{"what was not read is unknown, and unknown is never ready"}
		if f.Manners[sc.Kind].Risk {
			i.Because = []string{"verdicts do not rest on it; how much is at stake on its hosts is unknown until it is read"}
		}
		i.Fix, i.Links = f.open(&sc, asked)
		f.saw(&i, evidence.Source("scan"), time.Time{}, sc.At, "%s: %s", sc.Place, shorten(clean(sc.Detail), 200))
		f.bound(&i, sc.At, sc.At)
		i.ID = f.id("", "gap/"+sc.Kind, Gap, string(sc.Class), asked)
		f.list(i)
	}
}

// hidden counts the hosts whose verdict is a gap's: all of them, or those that rest on the kind.
func (f *finder) hidden(kind string) int {
	n := 0
	for _, w := range f.workloads {
		for _, m := range w.members {
			if v := f.Report.Verdict(m.Ref); v != nil && v.Has(assess.CodeGap) && tells(kind, v) {
				n++
			}
		}
	}
	return n
}

// tells tells whether a verdict is that of the gap of a kind, or of a place.
func tells(kind string, v *assess.Verdict) bool {
	why := v.Why()
	return kind == "" || strings.Contains(why, kind) || strings.Contains(why, evidence.Source(kind).Title())
}

// open says how a gap is closed.
func (f *finder) open(sc *inventory.Scope, asked string) (fix string, links []string) {
	role := cmp.Or(f.Policy.Organization.Role.Read, "the credentials")
	switch sc.Class {
	case fleet.ErrDenied:
		switch {
		case sc.Kind == "":
			return fmt.Sprintf("Let imdsctl enter the account: put the role %s there, with a trust policy for it; `imdsctl roles` prints both.",
				cmp.Or(f.Policy.Organization.Role.Read, policy.DefaultReadRole)), nil
		case asked != "":
			return fmt.Sprintf("Allow %s to %s in account %s; `imdsctl roles` prints the whole policy.", asked, role, sc.Place.Account), nil
		default:
			return fmt.Sprintf("Allow %s to read %s in account %s; `imdsctl roles` prints the policy.", role, sc.Kind, sc.Place.Account), nil
		}
	case fleet.ErrThrottled:
		return "Scan again at a quieter time, or lower limits.safety.", nil
	case fleet.ErrExpired:
		return "Scan again with credentials that last as long as the scan.", nil
	case fleet.ErrRegionDisabled:
		return fmt.Sprintf("Enable the region %s in account %s, or leave it out of organization.regions.", sc.Place.Region, sc.Place.Account), nil
	default:
		return "Scan again; if it stays, `imdsctl doctor` tells what stands in the way.", nil
	}
}

// unread lists a workload that rests on something no scan has looked for, where no gap tells of it.
func (f *finder) unread(w *workload) {
	if slices.ContainsFunc(f.Gaps, func(sc inventory.Scope) bool { return tells(sc.Kind, w.verdict) }) {
		return // the gap has its item, and says how many rest on it
	}
	i := f.verdictItem(w, Gap, "something that it rests on was not read")
	i.Fix = "Scan this account and region again, with all kinds; inventory.exclude_kinds leaves some out."
	f.finish(w, i)
}

// endsSoon is how long before its end an exception is listed.
const endsSoon = 14 * 24 * time.Hour

// exceptions lists what is exempt and soon no more, and what was: one item for each exception.
func (f *finder) exceptions() {
	for i := range f.Snapshot.Resources {
		r := &f.Snapshot.Resources[i]
		v := f.Report.Verdict(r.Ref)
		if v == nil {
			continue
		}
		e, state, found := f.Policy.Exempt(assess.Facts(f.index, r), f.Now)
		switch {
		case !found:
		case state == policy.ExceptionExpired && v.Has(assess.CodeExceptionExpired):
			f.list(f.exception(r, v, &e, ExceptionOver, fmt.Sprintf("the exception of %s expired after %s", e.Owner, e.Expires),
				"Upgrade what it was made for and remove the exception, or renew it in the configuration."))
		case state == policy.ExceptionActive && v.Status == assess.Exempt && e.Expires.End().Sub(f.Now) <= endsSoon:
			f.list(f.exception(r, v, &e, ExceptionEnding, fmt.Sprintf("the exception of %s expires after %s", e.Owner, e.Expires),
				"Upgrade what it was made for before it ends, or renew it; when it has ended, its resources are blocked."))
		}
	}
}

func (f *finder) exception(r *inventory.Resource, v *assess.Verdict, e *policy.Exception, cause Cause, title, fix string) Item {
	i := Item{Cause: cause, Status: v.Status, Confidence: Certain, Title: title, Fix: fix, Risk: v.Risk}
	i.Because = []string{"its reason: " + e.Reason}
	i.Workload = Workload{Name: e.Match.String(), Kind: "exception", Account: r.Ref.Account, AccountName: f.Account.Name,
		Region: r.Ref.Region, Resources: []fleet.Ref{r.Ref}}
	if f.Manners[r.Ref.Kind].Role == assess.RoleHost {
		i.Workload.Instances = 1
	}
	_, i.Route = f.owner([]policy.ResourceFacts{assess.Facts(f.index, r)}, []map[string]string{r.Tags})
	i.Owner = Owner{e.Owner, "the exception"}
	if e.Where != "" {
		i.Because = append(i.Because, "it is in "+e.Where)
	}
	i.ID = identity("a", []string{string(cause), e.Owner, e.Match.String(), e.Reason})
	return i
}

// managed lists what services operate, one item for each of them.
func (f *finder) managed() {
	for _, w := range f.workloads {
		v := w.verdict
		if !v.Has(assess.CodeManaged) || v.Status != assess.Blocked || f.called(w) {
			continue
		}
		if len(w.members) == 0 && len(f.index.Operators(w.ref)) > 0 {
			continue // whoever operates it is judged as well
		}
		var r *inventory.Resource
		if r = w.self; len(w.members) > 0 {
			r = w.members[0]
		}
		o := f.index.Owner(r)
		where := placeOf(o)
		i := f.verdictItem(w, Managed, fmt.Sprintf("%s sets it, and would set it back", strings.TrimSpace(o.String())))
		i.Fix = "Have IMDSv2 required by its owner: " + where.where + "."
		i.Links = []string{where.link}
		if op := f.index.Operators(w.ref); len(op) > 0 {
			i.Steps = append(i.Steps, "`imdsctl plan` has the step, with its commands; targets.disruptive lets it be made")
		}
		i.Workload.Name, i.Workload.Kind = cmp.Or(o.Name, i.Workload.Name), cmp.Or(o.Type, i.Workload.Kind)
		i.ID = f.id(string(f.Snapshot.Place.Region), "owner/"+o.String(), Managed)
		f.finish(w, i)
	}
	f.declarative()
}

// declarative lists an account's default that the organization sets.
func (f *finder) declarative() {
	for _, v := range f.Report.All() {
		if !v.Has(assess.CodeDeclarative) || v.Status != assess.Blocked {
			continue
		}
		r := f.index.Resource(v.Ref)
		i := Item{Cause: Managed, Status: v.Status, Confidence: Certain, Title: "the organization's declarative policy sets the account's default",
			Fix: "Change the declarative policy of the organization: in the account its default cannot be written.", Because: []string{v.Why()},
			Links: []string{"https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_policies_declarative.html"}}
		i.Workload = Workload{Name: v.Ref.ID, Kind: v.Ref.Kind, Account: v.Ref.Account, AccountName: f.Account.Name, Region: v.Ref.Region,
			Resources: []fleet.Ref{v.Ref}}
		i.Owner, i.Route = f.owner([]policy.ResourceFacts{assess.Facts(f.index, r)}, nil)
		i.ID = f.id("", v.Ref.Kind+"/"+v.Ref.ID, Managed)
		f.list(i)
	}
}

// hopsHigh lists hosts whose hop limit lets whoever is in a container read the host's credentials, where nobody will lower it.
func (f *finder) hopsHigh(w *workload) {
	v := w.verdict
	h := v.Hops
	if !h.High() || v.Want.HopLimit != 0 || h.Rule != "" {
		return // it is enough, or the plan lowers it
	}
	known := len(w.members) > 0 && f.index.Containers(w.members[0]).Runtime != ""
	if !known && h.Now <= 2 {
		return // containers that were not recognised may need two
	}
	i := f.item(w, HopLimitHigh, "")
	i.Confidence, i.Title = Likely, fmt.Sprintf("the hop limit is %d, and %d is enough", h.Now, h.Needed)
	i.Because = append(i.Because, h.Why, "every hop more lets whoever gets into a container, or can have a host forward a request, read the "+
		"host's credentials")
	i.Fix = fmt.Sprintf("Lower the hop limit to %d: `hop_limit.default: auto`, or a rule of its own, has `imdsctl plan` do it.", h.Needed)
	i.Links = []string{linkHops}
	f.list(i)
}

// launches lists launches that EC2 refuses, and those that would allow IMDSv1 again.
func (f *finder) launches() {
	for _, l := range f.Report.Launches() {
		r := f.index.Resource(l.By)
		switch {
		case r == nil || l.By == l.From:
			continue // nobody launches from it
		case l.V1 == assess.V1Refused:
			i := f.launch(r, &l, LaunchRefused, "its next launch fails")
			i.Because, i.Status = []string{l.Launch.Refused}, assess.Blocked
			i.Fix = fmt.Sprintf("Require tokens in a new version of %s, and have it launch from that.", source(&l))
			f.list(i)
		case l.V1 == assess.V1Open && l.Launch.Tokens.Value == fleet.TokensOptional && f.allDone(r):
			i := f.launch(r, &l, LaunchAllowsV1, "its instances require tokens, and its next launch would not")
			i.Because = []string{fmt.Sprintf("optional is said by %s", l.Launch.Tokens.By()),
				"instances that require tokens are counted no more, so that no evidence makes it ready"}
			i.Fix = fmt.Sprintf("Require tokens in a new version of %s; what runs shows that its software can do without IMDSv1.", source(&l))
			i.Steps = []string{"or accept it by an override, and `imdsctl plan` does it"}
			f.list(i)
		}
	}
}

// launch begins an item about a future launch. A launcher with several that fail alike has one item.
func (f *finder) launch(r *inventory.Resource, l *assess.FutureLaunch, cause Cause, title string) Item {
	w := &workload{ref: r.Ref, self: r, verdict: l.Verdict}
	if w.verdict == nil {
		w.verdict = &assess.Verdict{Ref: r.Ref, Status: assess.Unknown}
	}
	i := f.item(w, cause, "")
	i.Confidence, i.Title, i.Links = Certain, title, []string{linkTransition}
	for _, m := range f.index.Hosts(r.Ref) {
		if m.Status != inventory.StatusTerminated {
			i.Workload.Instances++
		}
	}
	if cause == LaunchAllowsV1 {
		i.Status = assess.Unknown
	}
	return i
}

func source(l *assess.FutureLaunch) string {
	if l.From.IsZero() {
		return "a launch template"
	}
	return strings.ReplaceAll(l.From.Kind, "-", " ") + " " + cmp.Or(l.FromName, l.From.ID)
}

// allDone tells whether a launcher has running hosts, all of which require tokens or answer nobody, without any refused call.
func (f *finder) allDone(r *inventory.Resource) bool {
	n := 0
	for _, m := range f.index.Hosts(r.Ref) {
		if m.Status == inventory.StatusTerminated {
			continue
		}
		v := f.Report.Verdict(m.Ref)
		if v == nil || v.Status != assess.Done {
			return false
		}
		n++
	}
	return n > 0
}

// code lists the infrastructure as code that manages what is ready to be changed: one item for each piece of code.
func (f *finder) code() {
	byCode := map[fleet.Owner]*Item{}
	var order []fleet.Owner
	for _, w := range f.workloads {
		o := f.codeOf(w)
		if !o.IsCode() || w.verdict.Status != assess.Ready || f.listed[w.key()] {
			continue
		}
		i := f.item(w, CodeDrift, "")
		i.ID = f.id(string(f.Snapshot.Place.Region), "code/"+o.String(), CodeDrift)
		i.Workload.Kind, i.Workload.Name = o.Type, cmp.Or(o.Name, o.Type)
		i.Confidence, i.Status = Certain, assess.Ready
		if o.Name == "" {
			i.Confidence = Likely // a tag says that there is code, and not which
		}
		i.Title = "it is ready, and its code would change it back"
		i.Because = []string{"it is managed by " + o.String(), "what imdsctl writes lasts until the code is applied again"}
		i.Fix = "Require IMDSv2 in the code as well: " + codeFix(o) + "."
		i.Links = codeLinks(o)
		if have := byCode[o]; have != nil {
			have.absorb(&i)
			continue
		}
		byCode[o] = &i
		order = append(order, o)
	}
	for _, o := range order {
		f.list(*byCode[o])
	}
}

func codeFix(o fleet.Owner) string {
	if o.Type == fleet.OwnerTerraform {
		return `metadata_options { http_tokens = "required" } in its aws_instance and aws_launch_template`
	}
	return "MetadataOptions: {HttpTokens: required} in its AWS::EC2::LaunchTemplate, and in AWS::EC2::Instance by such a template"
}

func codeLinks(o fleet.Owner) []string {
	if o.Type == fleet.OwnerTerraform {
		return []string{"https://registry.terraform.io/providers/hashicorp/aws/latest/docs/resources/launch_template#metadata-options"}
	}
	return []string{"https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-properties-ec2-launchtemplate-metadataoptions.html"}
}
