package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/app/discovery"
	"github.com/imdsctl/imdsctl/internal/cloudtrail"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// TrailActions lists the calls by which CloudTrail is read from sources: "lookup", for LookupEvents, or the address of a bucket with
// log files, for the role that reads. Athena needs more than one policy can say: docs/evidence.md.
func TrailActions(sources []string) ([]kind.Action, error) {
	var out []kind.Action
	for _, source := range sources {
		if source == "lookup" {
			out = append(out, kind.Action{Name: "cloudtrail:LookupEvents", Resource: "*"})
			continue
		}
		bucket, prefix, err := cloudtrail.Address(source)
		if err != nil || strings.ContainsAny(prefix, "*?${}") {
			return nil, fmt.Errorf("%q is no source of CloudTrail's events: give lookup, or s3://bucket/prefix", source)
		}
		out = append(out, kind.Action{Name: "s3:ListBucket", Resource: "arn:{partition}:s3:::" + bucket},
			kind.Action{Name: "s3:GetObject", Resource: "arn:{partition}:s3:::" + bucket + "/" + prefix + "*"})
	}
	return out, nil
}

// athenaDays is how many days Athena is asked about where nobody says since when.
const athenaDays = 14

// settled is how long after the end of a day its log files are taken to be complete.
const settled = time.Hour

// athena asks Athena about whole days, those left out that were taken in before: so no day counts twice.
func (in *importer) athena(ctx context.Context) (*Imported, error) {
	database, table, err := cloudtrail.ParseTable(in.o.Athena)
	if err != nil {
		return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: "--athena", Summary: err.Error()}
	}
	sessions, region, err := in.sessions(ctx)
	if err != nil {
		return nil, err
	}
	session := sessions(region)
	q := cloudtrail.Query{Database: database, Table: table, Workgroup: in.o.Workgroup, Output: in.o.Output, Partition: in.o.Partition,
		Span: in.days()}
	origin := "athena://" + session.Place().String() + "/" + in.o.Athena
	var digests []string
	known := map[string]bool{}
	wanted := cloudtrail.Span{}
	for day := q.Span.From; day.Before(q.Span.To); day = day.AddDate(0, 0, 1) {
		digest := q.DayDigest(day, session.Place())
		has, err := in.db.HasFile(ctx, evidence.SourceCloudTrail, digest)
		if err != nil {
			return nil, err
		}
		if known[day.Format(time.DateOnly)] = has; has {
			continue
		}
		if digests = append(digests, digest); wanted.From.IsZero() {
			wanted.From = day
		}
		wanted.To = day.AddDate(0, 0, 1)
	}
	tally := cloudtrail.NewTally(speaker(in.app.products), cloudtrail.Bounds{})
	if len(digests) == 0 {
		out := in.imported(evidence.SourceCloudTrail, origin, cloudtrail.Result{}, tally)
		out.Import.From, out.Import.To, out.Import.Known = q.Span.From, q.Span.To, int64(len(known))
		return out, nil
	}
	q.Span = wanted
	if err := q.Validate(); err != nil {
		return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: "--athena", Summary: err.Error()}
	}
	answer, err := cloudtrail.NewAthena(session, in.app.clock).Ask(ctx, q, func(r cloudtrail.Record, calls int64, last time.Time) {
		if !known[r.At.Format(time.DateOnly)] {
			tally.AddMany(r, calls, last)
		}
	})
	if err != nil {
		return nil, err
	}
	out := in.imported(evidence.SourceCloudTrail, origin, answer.Result, tally)
	out.Import.From, out.Import.To = q.Span.From, q.Span.To
	out.Import.Files, out.Import.Known = int64(len(digests)), int64(len(known)-len(digests))
	out.Query, out.ScannedBytes, out.Dollars = answer.ID, answer.Scanned, answer.Dollars
	return out, in.keep(ctx, out, tally, digests)
}

// days are the whole days of the span asked for that are over, in UTC.
func (in *importer) days() cloudtrail.Span {
	day := func(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }
	end := day(in.now.Add(-settled))
	s := cloudtrail.Span{From: end.AddDate(0, 0, -athenaDays), To: end}
	if !in.o.Until.IsZero() && in.o.Until.Before(end) {
		s.To = day(in.o.Until)
	}
	if !in.o.Since.IsZero() {
		s.From = day(in.o.Since)
	}
	return s
}

// lookupWidth is how many places are asked at a time.
const lookupWidth = 16

// lookup asks LookupEvents in all places. A place that may not be asked is a gap.
func (in *importer) lookup(ctx context.Context) (*Imported, error) {
	_, finder, err := in.app.cloud(ctx)
	if err != nil {
		return nil, err
	}
	span := in.span()
	if oldest := in.now.Add(-cloudtrail.LookupKept); span.From.Before(oldest) {
		span.From = oldest
	}
	l := &looker{in: in, finder: finder, span: span, tally: cloudtrail.NewTally(speaker(in.app.products), cloudtrail.Bounds{}),
		seen: map[string]bool{}}
	places, err := l.places(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.all(ctx, places); err != nil {
		return nil, err
	}
	slices.SortFunc(l.gaps, func(a, b cloudtrail.Gap) int { return strings.Compare(a.Where, b.Where) })
	out := in.imported(evidence.SourceLookup, "LookupEvents", l.result, l.tally)
	out.Import.Sample, out.Places, out.Gaps = true, len(places), l.gaps
	if l.more > 0 {
		out.Import.Notes = append(out.Import.Notes,
			fmt.Sprintf("in %d of %d places there were more events than were looked at", l.more, len(places)))
	}
	if n := len(l.gaps); n > 0 {
		out.Import.Lost = fmt.Sprintf("%d of %d places or accounts could not be asked, %s among them", n, max(n, len(places)), l.gaps[0].Where)
	}
	return out, in.keep(ctx, out, l.tally, l.events)
}

// looker gathers what the places answer.
type looker struct {
	in     *importer
	finder *discovery.Finder
	span   cloudtrail.Span

	mu     sync.Mutex
	tally  *cloudtrail.Tally
	result cloudtrail.Result
	gaps   []cloudtrail.Gap
	events []string // digests of those counted
	seen   map[string]bool
	more   int
}

func (l *looker) gap(where string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gaps = append(l.gaps, cloudtrail.Gap{Where: where, Reason: err.Error()})
}

// places are all places of the accounts and regions asked for.
func (l *looker) places(ctx context.Context) ([]fleet.Place, error) {
	accounts, _, err := l.finder.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	var out []fleet.Place
	for _, account := range accounts {
		if len(l.in.o.Accounts) > 0 && !slices.Contains(l.in.o.Accounts, account.ID) {
			continue
		}
		regions, err := l.regions(ctx, account)
		if err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			l.gap(string(account.ID), err)
			continue
		}
		for _, r := range regions {
			out = append(out, fleet.Place{Partition: account.Partition, Account: account.ID, Region: r})
		}
	}
	if len(out) == 0 && len(l.gaps) == 0 {
		return nil, errors.New("none of the accounts and regions named is there")
	}
	return out, nil
}

func (l *looker) regions(ctx context.Context, account inventory.Account) ([]fleet.Region, error) {
	if len(l.in.o.Regions) > 0 {
		return l.in.o.Regions, l.finder.Enter(ctx, fleet.Place{Partition: account.Partition, Account: account.ID,
			Region: l.in.o.Regions[0]}, false)
	}
	enabled, _, err := l.finder.Regions(ctx, account)
	return enabled, err
}

// all asks all places, some at a time.
func (l *looker) all(ctx context.Context, places []fleet.Place) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var group sync.WaitGroup
	turns := make(chan struct{}, lookupWidth)
	for _, place := range places {
		turns <- struct{}{}
		group.Go(func() {
			defer func() { <-turns }()
			if err := l.ask(ctx, place); err != nil {
				stop(err)
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

// ask asks one place. Its error is the database's; AWS's are gaps.
func (l *looker) ask(ctx context.Context, place fleet.Place) error {
	instances := l.in.o.Instances
	if len(instances) == 0 {
		instances = []string{""}
	}
	for _, instance := range instances {
		var records []cloudtrail.Record
		looked, err := cloudtrail.LookupEvents(ctx, l.finder.Session(place, false),
			cloudtrail.Lookup{Span: l.span, Most: l.in.o.LookupEvents, Instance: instance},
			func(r cloudtrail.Record) { records = append(records, r) })
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			l.gap(place.String(), err)
		}
		if err := l.took(ctx, looked, records); err != nil {
			return err
		}
	}
	return nil
}

// took counts the events that were not counted before, in this look-up or an earlier one.
func (l *looker) took(ctx context.Context, looked cloudtrail.Looked, records []cloudtrail.Record) error {
	for _, r := range records {
		digest := "event " + r.ID
		known, err := l.in.db.HasFile(ctx, evidence.SourceLookup, digest)
		if err != nil {
			return err
		}
		l.mu.Lock()
		if !known && !l.seen[digest] {
			l.tally.Add(r)
			l.events = append(l.events, digest)
		}
		l.seen[digest] = true
		l.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.result.Add(looked.Result)
	if looked.More {
		l.more++
	}
	return nil
}
