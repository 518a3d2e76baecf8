package cloudtrail

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/athena"
	"github.com/aws/aws-sdk-go-v2/service/athena/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Query is a question to Athena about a table of CloudTrail's logs, as the CloudTrail console and the Athena User Guide make it
// ("Query AWS CloudTrail logs").
type Query struct {
	Database, Table string
	// Workgroup may be empty, which is Athena's "primary". Output is where results are written, "s3://…"; empty is the workgroup's.
	Workgroup, Output string
	// Partition is a column with the day as 2006/01/02, by which less is read; empty where the table has none.
	Partition string
	// Span are whole days.
	Span Span
}

var (
	tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,254}$`)
	// The patterns of the Athena API reference, StartQueryExecution.
	workgroupName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,128}$`)
	outputAddress = regexp.MustCompile(`^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^'"\\]*)?$`)
)

// Validate refuses what cannot be asked, or must not get into a statement.
func (q Query) Validate() error {
	switch {
	case !tableName.MatchString(q.Database) || !tableName.MatchString(q.Table):
		return fmt.Errorf("%q is no table: write DATABASE.TABLE, each of letters, digits and underscores", q.Database+"."+q.Table)
	case q.Partition != "" && !tableName.MatchString(q.Partition):
		return fmt.Errorf("%q is no column: letters, digits and underscores", q.Partition)
	case q.Workgroup != "" && !workgroupName.MatchString(q.Workgroup):
		return fmt.Errorf("%q is no workgroup", q.Workgroup)
	case q.Output != "" && !outputAddress.MatchString(q.Output):
		return fmt.Errorf("%q is no place for results: write s3://bucket/prefix/", q.Output)
	case q.Span.From.IsZero() || q.Span.To.IsZero() || !q.Span.From.Before(q.Span.To):
		return errors.New("a query needs a first and a last day")
	}
	return nil
}

// columns of the answer, in order.
var columns = []string{"day", "account", "arn", "principal", "role", "delivery", "agent", "calls", "first_call", "last_call"}

// SQL is the statement: one reading of the table, counted by day, session, delivery and user agent.
func (q Query) SQL() string {
	where := ""
	if q.Partition != "" {
		where = fmt.Sprintf(" AND %q BETWEEN '%s' AND '%s'", q.Partition, q.Span.From.UTC().Format("2006/01/02"),
			q.Span.To.UTC().Add(late-time.Nanosecond).Format("2006/01/02"))
	}
	return "SELECT substr(eventtime, 1, 10) AS day, useridentity.accountid AS account, useridentity.arn AS arn, " +
		"useridentity.principalid AS principal, useridentity.sessioncontext.sessionissuer.username AS role, " +
		"useridentity.sessioncontext.ec2roledelivery AS delivery, useragent AS agent, count(*) AS calls, " +
		"min(eventtime) AS first_call, max(eventtime) AS last_call " +
		fmt.Sprintf("FROM %q.%q ", q.Database, q.Table) +
		"WHERE useridentity.sessioncontext.ec2roledelivery IN ('1.0', '2.0') " +
		fmt.Sprintf("AND eventtime >= '%s' AND eventtime < '%s'", stamp(q.Span.From), stamp(q.Span.To)) + where +
		" GROUP BY 1, 2, 3, 4, 5, 6, 7"
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// Answer is what a query came to.
type Answer struct {
	Result
	Rows int64
	// Scanned is how much was read, in bytes, and Dollars what that costs.
	Scanned int64
	Dollars float64
	ID      string
}

// What Athena charges for queries: by what they read, ten megabytes at least ("Amazon Athena pricing", us-east-1).
const (
	DollarsPerTerabyte = 5.0
	leastScanned       = 10_000_000
)

// Price is what a query that read so many bytes costs, in dollars.
func Price(scanned int64) float64 {
	return float64(max(scanned, leastScanned)) / 1e12 * DollarsPerTerabyte
}

// Athena asks Athena in one place. It is safe for several goroutines.
type Athena struct {
	client *sdk.Client
	clock  clock.Clock
}

// NewAthena makes no call.
func NewAthena(session *awsx.Session, c clock.Clock) *Athena {
	return &Athena{client: sdk.NewFromConfig(session.Config()), clock: c}
}

// How often a query is asked whether it is done.
const (
	firstPoll   = time.Second
	longestPoll = 10 * time.Second
)

// Ask runs the query and gives each of its rows as a record with the number of calls; a record's time is that of the first call, and
// last that of the last one. An interruption leaves a query that ends by itself.
func (a *Athena) Ask(ctx context.Context, q Query, yield func(r Record, calls int64, last time.Time)) (*Answer, error) {
	if err := q.Validate(); err != nil {
		return nil, err
	}
	in := &sdk.StartQueryExecutionInput{
		QueryString: aws.String(q.SQL()), ClientRequestToken: aws.String("imdsctl-" + rand.Text() + rand.Text()),
		QueryExecutionContext: &types.QueryExecutionContext{Database: &q.Database},
	}
	if q.Workgroup != "" {
		in.WorkGroup = &q.Workgroup
	}
	if q.Output != "" {
		in.ResultConfiguration = &types.ResultConfiguration{OutputLocation: &q.Output}
	}
	started, err := a.client.StartQueryExecution(awsx.Idempotent(ctx), in)
	if err != nil {
		return nil, fmt.Errorf("start the query of %s.%s: %w", q.Database, q.Table, awsx.Plain(err))
	}
	out := &Answer{ID: aws.ToString(started.QueryExecutionId)}
	if err := a.await(ctx, out); err != nil {
		return out, err
	}
	return out, a.rows(ctx, q, out, yield)
}

// await waits until the query has ended.
func (a *Athena) await(ctx context.Context, out *Answer) error {
	for wait := firstPoll; ; wait = min(wait*2, longestPoll) {
		got, err := a.client.GetQueryExecution(ctx, &sdk.GetQueryExecutionInput{QueryExecutionId: &out.ID})
		if err != nil {
			return fmt.Errorf("ask how query %s goes: %w", out.ID, awsx.Plain(err))
		}
		state := types.QueryExecutionStateQueued
		why := ""
		if e := got.QueryExecution; e != nil && e.Status != nil {
			state, why = e.Status.State, aws.ToString(e.Status.StateChangeReason)
			if e.Statistics != nil {
				out.Scanned = aws.ToInt64(e.Statistics.DataScannedInBytes)
			}
		}
		switch state {
		case types.QueryExecutionStateSucceeded:
			out.Dollars = Price(out.Scanned)
			return nil
		case types.QueryExecutionStateFailed, types.QueryExecutionStateCancelled:
			return fmt.Errorf("query %s has %s: %s", out.ID, strings.ToLower(string(state)), why)
		}
		if err := a.clock.Sleep(ctx, wait); err != nil {
			return fmt.Errorf("wait for query %s, which goes on by itself: %w", out.ID, err)
		}
	}
}

// rows reads the answer, page by page.
func (a *Athena) rows(ctx context.Context, q Query, out *Answer, yield func(Record, int64, time.Time)) error {
	in := &sdk.GetQueryResultsInput{QueryExecutionId: &out.ID}
	for head := true; ; {
		page, err := a.client.GetQueryResults(ctx, in)
		if err != nil {
			return fmt.Errorf("read the results of query %s: %w", out.ID, awsx.Plain(err))
		}
		if page.ResultSet == nil {
			return fmt.Errorf("read the results of query %s: there are none", out.ID)
		}
		for _, row := range page.ResultSet.Rows {
			if head { // the first row has the names
				head = false
				if name := cell(row, 0); name == columns[0] {
					continue
				}
			}
			out.Rows++
			r, calls, last, problem := rowRecord(row)
			if problem != "" {
				out.skip(problem, 1)
				continue
			}
			out.Records += calls
			if !q.Span.Contains(r.At) {
				out.Outside += calls
				continue
			}
			out.Delivered += calls
			out.span(r.At)
			out.span(last)
			yield(r, calls, last)
		}
		if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
			return nil
		}
	}
}

func cell(row types.Row, i int) string {
	if i >= len(row.Data) {
		return ""
	}
	return aws.ToString(row.Data[i].VarCharValue)
}

// rowRecord reads a row of the answer.
func rowRecord(row types.Row) (r Record, calls int64, last time.Time, problem string) {
	if len(row.Data) != len(columns) {
		return r, 0, last, problemForeign
	}
	switch cell(row, 5) {
	case "1.0":
		r.Delivery = V1
	case "2.0":
		r.Delivery = V2
	default:
		return r, 0, last, problemDelivery
	}
	calls, err := strconv.ParseInt(cell(row, 7), 10, 64)
	if err != nil || calls < 1 {
		return r, 0, last, problemForeign
	}
	var wrong error
	if r.At, err = time.Parse(time.RFC3339, cell(row, 8)); err == nil {
		last, wrong = time.Parse(time.RFC3339, cell(row, 9))
	}
	if err != nil || wrong != nil || last.Before(r.At) || dayOf(last.Unix()) != dayOf(r.At.Unix()) {
		return r, 0, last, problemTime
	}
	r.At, last, r.Agent = r.At.UTC(), last.UTC(), cleanAgent(cell(row, 6))
	if !r.identify(cell(row, 1), cell(row, 2), cell(row, 3), cell(row, 4)) {
		return r, 0, last, problemMasked
	}
	return r, calls, last, ""
}

// ParseTable reads "DATABASE.TABLE".
func ParseTable(name string) (database, table string, err error) {
	database, table, _ = strings.Cut(name, ".")
	if !tableName.MatchString(database) || !tableName.MatchString(table) {
		return "", "", fmt.Errorf("%q is no table: write DATABASE.TABLE, each of letters, digits and underscores", name)
	}
	return database, table, nil
}

// String names the table, for messages and origins.
func (q Query) String() string { return "athena:" + q.Database + "." + q.Table }

// DayDigest names one day of a table, so that no day counts twice.
func (q Query) DayDigest(at time.Time, place fleet.Place) string {
	return q.String() + " " + place.String() + " " + at.UTC().Format(time.DateOnly)
}
