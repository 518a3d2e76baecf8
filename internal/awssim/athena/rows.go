package athena

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/cloudtrail"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
)

// columns of the answer with their types.
var columns = [][2]string{
	{"day", "varchar"}, {"account", "varchar"}, {"arn", "varchar"}, {"principal", "varchar"}, {"role", "varchar"},
	{"delivery", "varchar"}, {"agent", "varchar"}, {"calls", "bigint"}, {"first_call", "varchar"}, {"last_call", "varchar"},
}

// group is one row of the answer while it is counted.
type group struct {
	calls       int64
	first, last time.Time
}

// answer reads the trail once: what is in its files when the query ends.
func (q *query) answer(w *core.World) {
	q.once.Do(func() {
		trail, ok := cloudtrail.Find(w, q.table.Trail)
		if !ok { // checked when the query began
			return
		}
		ended := q.submitted.Add(queued + running)
		groups := map[[7]string]*group{}
		for e := range trail.Events(q.ask.from, q.ask.to, ended) {
			if e.Delivery == "" || !q.inPartition(e.At) {
				continue
			}
			key := e.Group()
			g := groups[key]
			if g == nil {
				g = &group{first: e.At, last: e.At}
				groups[key] = g
			}
			g.calls++
			if e.At.Before(g.first) {
				g.first = e.At
			}
			if e.At.After(g.last) {
				g.last = e.At
			}
		}
		keys := slices.SortedFunc(maps.Keys(groups), func(a, b [7]string) int { return slices.Compare(a[:], b[:]) })
		for _, k := range keys {
			g := groups[k]
			q.rows = append(q.rows, append(slices.Clone(k[:]), strconv.FormatInt(g.calls, 10), stamp(g.first), stamp(g.last)))
		}
		for o := range trail.List("", "", ended) {
			if day := o.Modified.UTC().Format("2006/01/02"); q.ask.partition == "" || q.ask.first <= day && day <= q.ask.last {
				q.read += int64(len(o.Body))
			}
		}
	})
}

// inPartition tells whether the file of an event is among the days that the statement names.
func (q *query) inPartition(at time.Time) bool {
	if q.ask.partition == "" {
		return true
	}
	day := cloudtrail.Delivered(at).Format("2006/01/02")
	return q.ask.first <= day && day <= q.ask.last
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// mostRows is the most that a page holds.
const mostRows = 1000

// results gives a page of the answer; the first row of the first page has the names (Athena API reference, GetQueryResults).
func results(c *core.Call) error {
	q, err := find(c)
	if err != nil {
		return err
	}
	if state := q.state(c.Now); state != "SUCCEEDED" {
		return invalid("Query has not yet finished. Current state: %s", state)
	}
	q.answer(c.World)
	most := int64(mostRows)
	if n, set, err := c.In.Int("MaxResults"); err != nil || set && (n < 1 || n > mostRows) {
		return invalid("MaxResults is more than maximum allowed length %d.", mostRows)
	} else if set {
		most = n
	}
	from := 0
	if token := c.In.Str("NextToken"); token != "" {
		b, err := base64.RawURLEncoding.DecodeString(token)
		if err == nil {
			_, err = fmt.Sscanf(string(b), q.id+" %d", &from)
		}
		if err != nil || from < 1 || from > len(q.rows) {
			return invalid("The next token is not valid.")
		}
	}
	names := make([]string, len(columns))
	for i, column := range columns {
		names[i] = column[0]
	}
	rows := append([][]string{names}, q.rows...)
	page := rows[from:min(len(rows), from+int(most))]
	c.Out.Struct("ResultSet", func() {
		c.Out.List("Rows", func() {
			for _, row := range page {
				c.Out.Struct("", func() { writeRow(c, row) })
			}
		})
		c.Out.Struct("ResultSetMetadata", func() { writeColumns(c) })
	})
	if next := from + len(page); next < len(rows) {
		c.Out.Str("NextToken", base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s %d", q.id, next)))
	}
	c.Out.Int("UpdateCount", 0)
	return nil
}

func writeRow(c *core.Call, row []string) {
	c.Out.List("Data", func() {
		for _, cell := range row {
			c.Out.Struct("", func() { c.Out.Str("VarCharValue", cell) })
		}
	})
}

func writeColumns(c *core.Call) {
	c.Out.List("ColumnInfo", func() {
		for _, column := range columns {
			c.Out.Struct("", func() {
				c.Out.Str("CatalogName", "hive")
				c.Out.Str("SchemaName", "")
				c.Out.Str("TableName", "")
				c.Out.Str("Name", column[0])
				c.Out.Str("Label", column[0])
				c.Out.Str("Type", column[1])
				c.Out.Int("Precision", map[bool]int64{true: 19, false: 2147483647}[column[1] == "bigint"])
				c.Out.Int("Scale", 0)
				c.Out.Str("Nullable", "UNKNOWN")
				c.Out.Bool("CaseSensitive", strings.HasPrefix(column[1], "varchar"))
			})
		}
	})
}
