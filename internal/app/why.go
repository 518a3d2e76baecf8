package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/owners"
	"github.com/imdsctl/imdsctl/internal/scan"
)

// WhyOptions name an instance.
type WhyOptions struct {
	Instance string
	// Region is the caller's own (AWS_REGION) when empty.
	Region fleet.Region
	// Account is the caller's own when empty.
	Account fleet.AccountID
	// Kind is what sort of host it is: ec2-instance when empty, or a kind whose service counts v1 calls itself.
	Kind string
}

// WhyReport explains one instance.
type WhyReport struct {
	Resource inventory.Resource
	Verdict  *assess.Verdict
	// Owner is who would change it back. Code are the pieces of infrastructure as code that a lasting change has to be made in as
	// well: its own, its group's and its template's, each once.
	Owner fleet.Owner
	Code  []fleet.Owner
	// Group is the Auto Scaling group it belongs to, Template what it was launched from; nil where there is none.
	Group           *inventory.Resource
	GroupVerdict    *assess.Verdict
	Template        *inventory.Resource
	TemplateVersion string
	// Launch is what the next launch in an EC2 instance's place would get, and who decides it; Effective the same without them.
	Launch    assess.Launch
	Effective fleet.Options
	// Windows are those of its whole lineage; its own come first.
	Windows []*evidence.Window
	Span    evidence.Span
	// Gaps are what could not be read.
	Gaps []inventory.Scope
	// History are the daily counts of the instance itself, before the window; nil where none are read.
	History []*evidence.Window
	// Imports are the evidence of the database that was judged by as well, oldest first; none where there is no database.
	Imports []evidence.Import
	// Notes say what of the database could not be used.
	Notes []string
	// Next says what to do, in imperative sentences.
	Next []string
}

// Why explains one instance from live calls, without a database: it reads the instance, its group and template, the
// other members of its lineage, and their CloudWatch history.
func (a *App) Why(ctx context.Context, o WhyOptions) (*WhyReport, error) {
	edge, finder, err := a.cloud(ctx)
	if err != nil {
		return nil, err
	}
	caller, err := edge.Caller(ctx)
	if err != nil {
		return nil, fmt.Errorf("find out whose credentials these are: %w", err)
	}
	place := fleet.Place{Partition: caller.Partition, Account: cmp.Or(o.Account, caller.Account),
		Region: cmp.Or(o.Region, edge.Region())}
	if place.Region == "" {
		return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: o.Instance,
			Summary: "no region is known to look in",
			Remedy:  "Give --region, or set AWS_REGION."}
	}
	if err := finder.Enter(ctx, place, false); err != nil {
		return nil, err
	}
	inv := &inquiry{app: a, session: finder.Session(place, false), place: place, seen: map[string]bool{}}
	inv.account = finder.Session(fleet.Place{Partition: place.Partition, Account: place.Account}, false)
	if inv.claims, _, err = a.claims(); err != nil {
		return nil, err
	}
	inv.snap = &inventory.Snapshot{Place: place, Account: inventory.Account{Partition: place.Partition,
		ID: place.Account}, Taken: a.clock.Now()}
	inv.remember(ctx)
	if k := cmp.Or(o.Kind, inventory.KindInstance); k != inventory.KindInstance {
		return inv.alone(ctx, k, o.Instance)
	}
	return inv.report(ctx, o.Instance)
}

// inquiry collects what there is to know of one instance.
type inquiry struct {
	app     *App
	session *awsx.Session
	account *awsx.Session // of its global place
	place   fleet.Place
	snap    *inventory.Snapshot
	claims  *owners.Book // of the Terraform states; reading all stacks for one instance is too much
	seen    map[string]bool
	known   known
	notes   []string
}

func (q *inquiry) driver(kindName string) kind.Driver {
	e, ok := all.Find(kindName)
	if !ok {
		return nil
	}
	return e.Open(q.session.Config(), q.place, q.app.clock)
}

// alone explains a host of another service than EC2, which no group and no template has started.
func (q *inquiry) alone(ctx context.Context, kindName, id string) (*WhyReport, error) {
	e, ok := all.Find(kindName)
	if !ok || e.Kind.Manner.Source == "" {
		return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: id, Summary: "a " + kindName + " cannot be explained alone",
			Remedy: "Give an EC2 instance, or a Lightsail instance with --kind " + inventory.KindLightsail + "; or scan."}
	}
	driver := q.driver(kindName)
	subject, err := q.subject(ctx, driver, id)
	if err != nil {
		return nil, err
	}
	q.add(subject)
	q.part(kindName, nil)
	windows := map[fleet.Ref][]*evidence.Window{}
	reader, ok := driver.(kind.MetricReader)
	if !ok {
		return nil, fmt.Errorf("%s has a source of evidence and no way to read it", kindName)
	}
	err = q.observe(ctx, reader, []fleet.Ref{subject.Ref}, windows)
	q.part(string(e.Kind.Manner.Source), err)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return q.conclude(subject, windows), nil
}

// subject reads the host that is asked about.
func (q *inquiry) subject(ctx context.Context, driver kind.Driver, id string) (inventory.Resource, error) {
	subject, err := driver.Read(ctx, id)
	if fleet.ClassOf(err) == fleet.ErrGone {
		return subject, fmt.Errorf("%w: %w", fleet.Diagnostic{Severity: fleet.SeverityError, Where: q.place.String(),
			Summary: "there is no instance " + id + " here",
			Remedy:  "Check the id, and give --region or --account if it is elsewhere; a terminated instance is only known to a scan."}, err)
	}
	return subject, err
}

func (q *inquiry) report(ctx context.Context, id string) (*WhyReport, error) {
	subject, err := q.subject(ctx, q.driver(inventory.KindInstance), id)
	if err != nil {
		return nil, err
	}
	q.add(subject)
	q.part(inventory.KindAccountDefaults, q.read(ctx, inventory.KindAccountDefaults, ""))
	group, inGroup := subject.Link(inventory.MemberOf)
	template, templated := subject.Link(inventory.LaunchedFrom)
	if tag := fleetTag(group.To.Kind); inGroup && tag != "" {
		err := q.fleet(ctx, group.To)
		if gone := fleet.ClassOf(err) == fleet.ErrGone; gone {
			inGroup, err = !templated, nil // its template speaks for what it launched once
		}
		q.part(group.To.Kind, err)
	}
	switch tag := fleetTag(group.To.Kind); {
	case inGroup && tag != "":
		q.part(inventory.KindInstance, q.members(ctx, tag, group.To.ID))
	case inGroup:
		q.part(inventory.KindAutoScaling, q.group(ctx, group.To)) // its members too
		q.part(inventory.KindInstance, nil)
	case templated:
		q.part(inventory.KindInstance, q.members(ctx, "aws:ec2launchtemplate:id", template.To.ID))
		q.part(inventory.KindLaunchTemplate, q.template(ctx, template.To, nil))
	default:
		q.part(inventory.KindInstance, nil) // it is its own lineage
	}
	q.images(ctx, subject.Ref)
	q.stakes(ctx, &subject)
	windows, err := q.evidence(ctx)
	q.part(string(evidence.SourceCloudWatch), err)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	slices.SortFunc(q.snap.Resources, func(x, y inventory.Resource) int { return x.Ref.Compare(y.Ref) })
	return q.conclude(subject, windows), nil
}

// part records how the reading of a part ended.
func (q *inquiry) part(scope string, err error) {
	sc := inventory.Scope{Place: q.place, Kind: scope, Status: inventory.ScopeComplete, At: q.snap.Taken}
	if err != nil {
		sc.Status, sc.Class, sc.Detail = inventory.ScopeGap, fleet.ClassOf(err), err.Error()
	}
	q.snap.Scopes = append(q.snap.Scopes, sc)
}

func (q *inquiry) add(r inventory.Resource) {
	if key := r.Ref.String(); !q.seen[key] {
		q.seen[key] = true
		r.Claims = q.claims.Of(&r)
		q.snap.Resources = append(q.snap.Resources, r)
	}
}

// read adds one resource; with an empty id the only one of its kind.
func (q *inquiry) read(ctx context.Context, kindName, id string) error {
	if id == "" {
		return q.driver(kindName).List(ctx, func(r inventory.Resource) error {
			q.add(r)
			return nil
		})
	}
	r, err := q.driver(kindName).Read(ctx, id)
	if err == nil {
		q.add(r)
	}
	return err
}

// group adds the instance's group, what it launches from, and its members past and present.
func (q *inquiry) group(ctx context.Context, ref fleet.Ref) error {
	drv := q.driver(inventory.KindAutoScaling)
	g, err := drv.Read(ctx, ref.ID)
	if fleet.ClassOf(err) == fleet.ErrGone {
		return nil // the tag stays on an instance that was detached or outlived its group
	}
	if err != nil {
		return err
	}
	q.add(g)
	q.sources(ctx, &g)
	err = q.members(ctx, kind.TagGroup, ref.ID)
	if past, ok := drv.(kind.HistoryReader); ok && err == nil {
		err = past.History(ctx, q.since(), func(r inventory.Resource) error {
			if l, ok := r.Link(inventory.MemberOf); ok && l.To == ref {
				q.add(r)
			}
			return nil
		})
	}
	return err
}

// fleetTag is the tag by which an instance names its fleet of a kind; empty where the kind is none.
func fleetTag(kindName string) string {
	switch kindName {
	case inventory.KindFleet:
		return "aws:ec2:fleet-id"
	case inventory.KindSpotFleet:
		return "aws:ec2spot:fleet-request-id"
	}
	return ""
}

// fleet adds the instance's fleet and what it launches from; an error of class fleet.ErrGone where it launches nothing any more.
func (q *inquiry) fleet(ctx context.Context, ref fleet.Ref) error {
	f, err := q.driver(ref.Kind).Read(ctx, ref.ID)
	if err != nil {
		return err
	}
	q.add(f)
	q.sources(ctx, &f)
	return nil
}

// sources adds what a launcher launches from.
func (q *inquiry) sources(ctx context.Context, g *inventory.Resource) {
	pins := map[fleet.Ref][]string{}
	for _, l := range g.Links {
		if l.Relation == inventory.LaunchesFrom {
			pins[l.To] = append(pins[l.To], l.Selector)
		}
	}
	for to, selectors := range pins {
		if to.Kind == inventory.KindLaunchTemplate {
			q.part(to.Kind, q.template(ctx, to, selectors))
		} else if q.driver(to.Kind) != nil {
			q.part(to.Kind, q.read(ctx, to.Kind, to.ID))
		}
	}
}

// since is from when on members that are no more tell something.
func (q *inquiry) since() time.Time {
	since := q.app.settings().Span(q.snap.Taken).Start
	if far, ok := q.app.settings().LookBack(q.snap.Taken); ok && far.Start.Before(since) {
		return far.Start
	}
	return since
}

// template adds a template with the versions that its users name.
func (q *inquiry) template(ctx context.Context, ref fleet.Ref, selectors []string) error {
	drv := q.driver(inventory.KindLaunchTemplate)
	t, err := drv.Read(ctx, ref.ID)
	if fleet.ClassOf(err) == fleet.ErrGone {
		return nil
	}
	if err != nil {
		return err
	}
	var missing []string
	for _, s := range selectors {
		if n := inventory.ResolveVersion(&t, s); n != "" && n == s {
			missing = append(missing, n)
		}
	}
	// A single read gives a template's state; what its versions say is asked for by number.
	for _, n := range []string{t.State[inventory.FieldDefaultVersion], t.State[inventory.FieldLatestVersion]} {
		if _, ok := t.Launch[n]; !ok && n != "" {
			missing = append(missing, n)
		}
	}
	slices.Sort(missing)
	missing = slices.Compact(missing)
	if versions, ok := drv.(kind.VersionReader); ok && len(missing) > 0 {
		found, err := versions.ReadVersions(ctx, ref.ID, missing)
		if err != nil {
			return err
		}
		if t.Launch == nil {
			t.Launch = map[string]fleet.Options{}
		}
		maps.Copy(t.Launch, found.Launch)
		if t.Attrs == nil {
			t.Attrs = map[string]string{}
		}
		maps.Copy(t.Attrs, found.Attrs)
	}
	q.add(t)
	return nil
}

// images adds the images that the next launch may be of: they decide where nobody else says.
func (q *inquiry) images(ctx context.Context, subject fleet.Ref) {
	reader, ok := q.driver(inventory.KindImage).(kind.ReferenceReader)
	if !ok {
		return
	}
	ids := map[string]bool{}
	for i := range q.snap.Resources {
		r := &q.snap.Resources[i]
		for key, id := range r.Attrs {
			names := key == inventory.AttrImage || strings.HasPrefix(key, inventory.AttrImage+"/")
			if names && strings.HasPrefix(id, "ami-") && (r.Ref.Kind != inventory.KindInstance || r.Ref == subject) {
				ids[id] = true
			}
		}
	}
	q.part(inventory.KindImage, reader.ReadReferenced(ctx, slices.Sorted(maps.Keys(ids)), func(r inventory.Resource) error {
		q.add(r)
		return nil
	}))
}

// members adds the instances that carry a tag of AWS.
func (q *inquiry) members(ctx context.Context, tag, value string) error {
	client := ec2.NewFromConfig(q.session.Config())
	in := &ec2.DescribeInstancesInput{MaxResults: aws.Int32(1000), IncludeManagedResources: aws.Bool(true),
		Filters: []types.Filter{{Name: aws.String("tag:" + tag), Values: []string{kind.FilterValue(value)}}}}
	var ids []string
	for {
		out, err := client.DescribeInstances(ctx, in)
		if err != nil {
			return fmt.Errorf("find the other instances of %s: %w", value, awsx.Plain(err))
		}
		for _, r := range out.Reservations {
			for i := range r.Instances {
				ids = append(ids, aws.ToString(r.Instances[i].InstanceId))
			}
		}
		if aws.ToString(out.NextToken) == "" {
			break
		}
		in.NextToken = out.NextToken
	}
	reader, ok := q.driver(inventory.KindInstance).(kind.BatchReader)
	if !ok {
		return errors.New("instances cannot be read in batches")
	}
	found, err := reader.ReadMany(ctx, ids)
	if err != nil {
		return err
	}
	for _, r := range found {
		q.add(r)
	}
	return nil
}

// evidence reads the history of all instances that were found.
func (q *inquiry) evidence(ctx context.Context) (map[fleet.Ref][]*evidence.Window, error) {
	var subjects []fleet.Ref
	for _, r := range q.snap.Resources {
		if r.Ref.Kind == inventory.KindInstance {
			subjects = append(subjects, r.Ref)
		}
	}
	windows := map[fleet.Ref][]*evidence.Window{}
	source := openPlace(q.session, q.app.clock, q.app.protocol()).Evidence
	err := q.observe(ctx, source, subjects, windows)
	span, far := q.app.settings().LookBack(q.snap.Taken)
	if from, ok := source.(scan.LookBack); ok && far && err == nil {
		q.known.history = map[fleet.Ref][]*evidence.Window{}
		q.part(string(evidence.SourceCloudWatch.History()), gather(ctx, from.LookBack, subjects, span, q.known.history))
	}
	return windows, err
}

// remember adds what the database knows besides, where there is one. Nothing else of it is used.
func (q *inquiry) remember(ctx context.Context) {
	if q.app.opt.DBPath == "" {
		return
	}
	db, err := q.app.database()
	if err == nil {
		q.known.testimony, err = (&witness{db: db}).of(ctx, q.place.Account)
	}
	if err != nil {
		q.notes = append(q.notes, "the evidence in the database was left out: "+err.Error())
	}
}

// observe reads the history of hosts from one source.
func (q *inquiry) observe(
	ctx context.Context, from scan.Evidence, subjects []fleet.Ref, windows map[fleet.Ref][]*evidence.Window,
) error {
	return gather(ctx, from.History, subjects, q.app.settings().Span(q.snap.Taken), windows)
}

// gather reads the windows of hosts; a host of which not all is known is an error.
func gather(ctx context.Context, read func(context.Context, []fleet.Ref, evidence.Span, func(scan.Observation) error) error,
	subjects []fleet.Ref, span evidence.Span, windows map[fleet.Ref][]*evidence.Window) error {
	var gaps []error
	i := 0
	err := read(ctx, subjects, span, func(o scan.Observation) error {
		windows[subjects[i]] = o.Windows
		i++
		if o.Gap != nil {
			gaps = append(gaps, o.Gap)
		}
		return nil
	})
	return errors.Join(append(gaps, err)...)
}

// conclude judges what was found.
func (q *inquiry) conclude(subject inventory.Resource, windows map[fleet.Ref][]*evidence.Window) *WhyReport {
	q.known.windows = windows
	judged := q.app.judge(q.snap, q.known)
	out := &WhyReport{Imports: q.known.imports, Notes: q.notes, History: q.known.history[subject.Ref], Resource: subject,
		Verdict: judged.Report.Verdict(subject.Ref), Span: judged.Span, Gaps: judged.Gaps}
	out.Windows = windows[subject.Ref]
	for _, r := range q.snap.Resources {
		if r.Ref != subject.Ref {
			out.Windows = append(out.Windows, windows[r.Ref]...)
		}
	}
	index := judged.Report.Index
	if l, ok := subject.Link(inventory.LaunchedFrom); ok {
		out.Template, out.TemplateVersion = index.Resource(l.To), l.Selector
	}
	if l, ok := subject.Link(inventory.MemberOf); ok {
		out.Group, out.GroupVerdict = index.Resource(l.To), judged.Report.Verdict(l.To)
	}
	if r := index.Resource(subject.Ref); r != nil { // with its claims
		out.Resource = *r
	}
	out.Owner = index.Owner(&out.Resource)
	for _, r := range []*inventory.Resource{index.Resource(subject.Ref), out.Group, out.Template} {
		if r == nil {
			continue
		}
		if code := index.Code(r); code.IsCode() && !slices.Contains(out.Code, code) {
			out.Code = append(out.Code, code)
		}
	}
	if subject.Ref.Kind == inventory.KindInstance { // nothing of EC2's decides what other services launch
		out.Launch = judged.Report.Next(&subject)
		out.Effective = out.Launch.Options()
	}
	out.Next = next(out)
	return out
}

// next says what to do about a verdict.
func next(w *WhyReport) []string {
	v := w.Verdict
	if v == nil {
		return nil
	}
	var out []string
	add := func(code assess.Code, text string) {
		if v.Has(code) {
			out = append(out, text)
		}
	}
	add(assess.CodeV1Calls, "Find what on this instance calls IMDSv1, and upgrade it to an SDK or agent that speaks IMDSv2.")
	add(assess.CodeLineageV1Calls, "Find what calls IMDSv1 on the other instances of its group or template: the next instance launched "+
		"in its place runs the same software.")
	if v.Status != assess.Done {
		add(assess.CodeRejected, "Find what still tries IMDSv1 where it is refused already, and upgrade it before the rest follows.")
	}
	add(assess.CodeV1Credentials, "Upgrade what made those calls to an SDK that speaks IMDSv2: the findings name it with its version.")
	add(assess.CodeTraced, "Upgrade the program that the tracer saw calling IMDSv1.")
	add(assess.CodeNotCertified, "Mend the program that failed its certification, and certify it again.")
	add(assess.CodeSchedule, "Wait until a full period of the schedule has been quiet; or certify the scheduled program, upgrade it, and accept it "+
		"by an override.")
	if v.Status == assess.Blocked {
		add(assess.CodeOldSoftware, "Upgrade the software that does not speak IMDSv2: the findings say where it is.")
		add(assess.CodeRawCall, "Let the script ask for a token before it calls the metadata service.")
	}
	add(assess.CodeManaged, "Change the setting in the service that operates the instance.")
	add(assess.CodeExceptionExpired, "Renew the exception, or remove it from the configuration.")
	add(assess.CodeGap, "Allow what could not be read (see the gaps), and ask again.")
	add(assess.CodeNoEvidence, "Wait until CloudWatch has a datapoint of MetadataNoToken: a stopped instance reports none.")
	add(assess.CodeNotCovered, "Wait until enough of the window is covered, or shorten `evidence.window` if that is enough for you.")
	add(assess.CodeNoBoot, "Let an instance of this lineage boot inside the window (restart it, or let its group replace one), or set "+
		"`evidence.require_boot: false`.")
	if v.Status == assess.Ready {
		out = append(out, "Run `imdsctl scan` and `imdsctl plan`: it can be changed to required.")
	}
	for _, code := range w.Code {
		if v.Status == assess.Done {
			break
		}
		out = append(out, "Set it in its code too, or the code changes it back: "+code.String()+".")
	}
	switch w.Launch.V1() {
	case assess.V1Open:
		if v.Status == assess.Done {
			out = append(out, "Change its launch template as well: the next instance launched in its place would allow IMDSv1 again.")
		}
	case assess.V1Refused:
		out = append(out, "Change its launch template: the next instance in its place cannot be launched. "+w.Launch.Refused+".")
	}
	return out
}
