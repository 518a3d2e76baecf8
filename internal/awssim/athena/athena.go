// Package athena is the simulator's part of Amazon Athena that one question takes: which calls were made with credentials that the
// metadata service delivered, counted by day, session and user agent, of a table over a trail's log files.
//
// It owns tables, workgroups and queries. It does not know SQL: it reads the one statement that it is there for, with the names and
// times in it, and refuses every other one in words that say so. Queries take simulated seconds, and read as much as the trail's
// files of their days hold, or all of them where the statement does not name the column of days.
package athena

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/cloudtrail"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Name is the service's name, and that of its section in a seed's account ("global").
const Name = "athena"

// Service declares queries. It is global in the simulator, so that a call holds no region's place; the region of the request counts.
//
// The rates are those of "Service Quotas" in the Athena User Guide: 20 starts a second, 100 other calls.
func Service() *core.Service {
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.JSON11}, Targets: []string{"AmazonAthena"}, Global: true,
		ThrottleCode: "ThrottlingException",
		Actions: map[string]core.Action{
			"StartQueryExecution": {
				Mutating: true, Bucket: core.Bucket{Burst: 80, Refill: 20}, Access: access, Handle: start,
				Params: []string{"QueryString", "ClientRequestToken", "QueryExecutionContext", "ResultConfiguration", "WorkGroup"},
			},
			"GetQueryExecution": {
				Bucket: core.Bucket{Burst: 200, Refill: 100}, Access: accessQuery, Handle: getQuery, Params: []string{"QueryExecutionId"},
			},
			"GetQueryResults": {
				Bucket: core.Bucket{Burst: 200, Refill: 100}, Access: accessQuery, Handle: results,
				Params: []string{"QueryExecutionId", "MaxResults", "NextToken", "QueryResultType"},
			},
		},
		SeedPlace: seedPlace,
	}
}

// primary is the workgroup of queries that name none.
const primary = "primary"

// seedSection is the section "athena" of a seed's account.
type seedSection struct {
	Region     fleet.Region    `json:"region"`
	Workgroups []seedWorkgroup `json:"workgroups,omitempty"`
	Tables     []seedTable     `json:"tables,omitempty"`
}

type seedWorkgroup struct {
	Name string `json:"name"`
	// Output is where results are left, "s3://…"; empty leaves it to each query.
	Output string `json:"output,omitempty"`
}

// seedTable is a table over a trail's files. Partition is its column of days, if it has one.
type seedTable struct {
	Database  string `json:"database"`
	Name      string `json:"name"`
	Trail     string `json:"trail"`
	Partition string `json:"partition,omitempty"`
}

// store is the state of one account.
type store struct {
	region     fleet.Region
	workgroups map[string]string // name → output
	tables     []seedTable

	queries map[string]*query
	tokens  map[string]string // client request token → query's id
}

func storeOf(p *core.Place) *store {
	return p.Store(Name, func() any {
		return &store{workgroups: map[string]string{primary: ""}, queries: map[string]*query{}, tokens: map[string]string{}}
	}).(*store)
}

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in seedSection
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	s := storeOf(p)
	if s.region = in.Region; in.Region == "" {
		return fmt.Errorf("%s: want a region", path)
	}
	for n, w := range in.Workgroups {
		if w.Name == "" {
			return fmt.Errorf("%s.workgroups[%d]: want a name", path, n)
		}
		s.workgroups[w.Name] = w.Output
	}
	for n, t := range in.Tables {
		if t.Database == "" || t.Name == "" || t.Trail == "" {
			return fmt.Errorf("%s.tables[%d]: want database, name and trail", path, n)
		}
		s.tables = append(s.tables, t)
	}
	return nil
}

// query is one execution.
type query struct {
	id, text, database, workgroup, output string
	submitted                             time.Time
	table                                 seedTable
	ask                                   statement
	// failed says why it fails, as soon as it runs.
	failed string
	once   sync.Once
	rows   [][]string
	read   int64
}

// How long a query is queued, and runs.
const (
	queued  = time.Second
	running = 4 * time.Second
)

// statement is what the statement asks.
type statement struct {
	database, table string
	from, to        time.Time
	partition       string
	first, last     string // of the partition
}

// known is the statement, with names and times left open. It is the question that the Athena User Guide's table for CloudTrail's logs
// answers with one reading.
var known = regexp.MustCompile(`^SELECT substr\(eventtime, 1, 10\) AS day, useridentity\.accountid AS account, useridentity\.arn AS arn, ` +
	`useridentity\.principalid AS principal, useridentity\.sessioncontext\.sessionissuer\.username AS role, ` +
	`useridentity\.sessioncontext\.ec2roledelivery AS delivery, useragent AS agent, count\(\*\) AS calls, ` +
	`min\(eventtime\) AS first_call, max\(eventtime\) AS last_call FROM "(\w+)"\."(\w+)" ` +
	`WHERE useridentity\.sessioncontext\.ec2roledelivery IN \('1\.0', '2\.0'\) ` +
	`AND eventtime >= '([0-9TZ:-]+)' AND eventtime < '([0-9TZ:-]+)'(?: AND "(\w+)" BETWEEN '([0-9/]+)' AND '([0-9/]+)')? ` +
	`GROUP BY 1, 2, 3, 4, 5, 6, 7$`)

func parse(text string) (statement, error) {
	m := known.FindStringSubmatch(text)
	if m == nil {
		return statement{}, invalid("The simulator answers one question only, that of delivered credentials by day, session and user agent; " +
			"this statement is another one.")
	}
	out := statement{database: m[1], table: m[2], partition: m[5], first: m[6], last: m[7]}
	var err1, err2 error
	out.from, err1 = time.Parse(time.RFC3339, m[3])
	out.to, err2 = time.Parse(time.RFC3339, m[4])
	if err1 != nil || err2 != nil {
		return out, invalid("The statement's times are no times of ISO 8601.")
	}
	return out, nil
}

func invalid(format string, args ...any) error {
	return wire.Errorf("InvalidRequestException", format, args...)
}

func workgroupARN(c *core.Call, name string) string {
	return "arn:" + string(c.Place.Partition) + ":athena:" + string(c.Region()) + ":" + string(c.Place.Account) + ":workgroup/" + name
}

func access(c *core.Call) []core.Access {
	name := c.In.Str("WorkGroup")
	if name == "" {
		name = primary
	}
	return []core.Access{{Resource: workgroupARN(c, name)}}
}

func accessQuery(c *core.Call) []core.Access {
	if q := storeOf(c.Place).queries[c.In.Str("QueryExecutionId")]; q != nil {
		return []core.Access{{Resource: workgroupARN(c, q.workgroup)}}
	}
	return []core.Access{{Resource: workgroupARN(c, "*")}}
}

// start begins a query, or finds the one that the same token began (Athena API reference, StartQueryExecution).
func start(c *core.Call) error {
	s := storeOf(c.Place)
	if token := c.In.Str("ClientRequestToken"); token != "" {
		if id := s.tokens[token]; id != "" {
			c.Out.Str("QueryExecutionId", id)
			return nil
		}
	}
	q := &query{text: c.In.Str("QueryString"), database: c.In.Get("QueryExecutionContext").Str("Database"), workgroup: c.In.Str("WorkGroup"),
		output: c.In.Get("ResultConfiguration").Str("OutputLocation"), submitted: c.Now}
	if q.workgroup == "" {
		q.workgroup = primary
	}
	output, there := s.workgroups[q.workgroup]
	switch {
	case !there || s.region != "" && s.region != c.Region():
		return invalid("WorkGroup %s is not found.", q.workgroup)
	case q.output == "" && output == "":
		return invalid("No output location provided. An output location is required either through the Workgroup result configuration " +
			"setting or as an API input.")
	case q.output == "":
		q.output = output
	}
	var err error
	if q.ask, err = parse(strings.TrimSpace(q.text)); err != nil {
		return err
	}
	q.resolve(c, s)
	q.id = uuid(c.World.NewID(""), c.World.NewID(""))
	s.queries[q.id] = q
	if token := c.In.Str("ClientRequestToken"); token != "" {
		s.tokens[token] = q.id
	}
	c.Mutated(q.id)
	c.Out.Str("QueryExecutionId", q.id)
	return nil
}

// resolve finds the table; where there is none the query fails when it runs.
func (q *query) resolve(c *core.Call, s *store) {
	i := slices.IndexFunc(s.tables, func(t seedTable) bool { return t.Database == q.ask.database && t.Name == q.ask.table })
	if i < 0 {
		q.failed = fmt.Sprintf("TABLE_NOT_FOUND: line 1:438: Table 'awsdatacatalog.%s.%s' does not exist", q.ask.database, q.ask.table)
		return
	}
	q.table = s.tables[i]
	if _, ok := cloudtrail.Find(c.World, q.table.Trail); !ok {
		q.failed = "HIVE_METASTORE_ERROR: the simulator has no trail " + q.table.Trail
	} else if q.ask.partition != "" && q.ask.partition != q.table.Partition {
		q.failed = fmt.Sprintf("COLUMN_NOT_FOUND: line 1:720: Column '%s' cannot be resolved", q.ask.partition)
	}
}

func uuid(a, b string) string {
	hex := (a + b + "00000000000000000000000000000000")[:32]
	return hex[:8] + "-" + hex[8:12] + "-4" + hex[13:16] + "-8" + hex[17:20] + "-" + hex[20:]
}

func find(c *core.Call) (*query, error) {
	q := storeOf(c.Place).queries[c.In.Str("QueryExecutionId")]
	if q == nil {
		return nil, invalid("QueryExecution %s was not found", c.In.Str("QueryExecutionId"))
	}
	return q, nil
}

func (q *query) state(now time.Time) string {
	switch age := now.Sub(q.submitted); {
	case age < queued:
		return "QUEUED"
	case age < queued+running:
		return "RUNNING"
	case q.failed != "":
		return "FAILED"
	}
	return "SUCCEEDED"
}

func getQuery(c *core.Call) error {
	q, err := find(c)
	if err != nil {
		return err
	}
	state, ended := q.state(c.Now), q.submitted.Add(queued+running)
	if state == "SUCCEEDED" {
		q.answer(c.World)
	}
	c.Out.Struct("QueryExecution", func() {
		c.Out.Str("QueryExecutionId", q.id)
		c.Out.Str("Query", q.text)
		c.Out.Str("StatementType", "DML")
		c.Out.Struct("ResultConfiguration", func() {
			c.Out.Str("OutputLocation", strings.TrimSuffix(q.output, "/")+"/"+q.id+".csv")
		})
		c.Out.Struct("QueryExecutionContext", func() { c.Out.Opt("Database", q.database) })
		c.Out.Struct("Status", func() {
			c.Out.Str("State", state)
			c.Out.Time("SubmissionDateTime", q.submitted)
			if state == "FAILED" {
				c.Out.Str("StateChangeReason", q.failed)
			}
			if state == "FAILED" || state == "SUCCEEDED" {
				c.Out.Time("CompletionDateTime", ended)
			}
		})
		c.Out.Struct("Statistics", func() {
			if state == "SUCCEEDED" {
				c.Out.Int("DataScannedInBytes", q.read)
			}
			c.Out.Int("TotalExecutionTimeInMillis", min(c.Now.Sub(q.submitted), queued+running).Milliseconds())
		})
		c.Out.Str("WorkGroup", q.workgroup)
	})
	return nil
}
