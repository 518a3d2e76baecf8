package cloudwatch

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Limits of GetMetricData and GetMetricStatistics.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html
const (
	maxQueries          = 500
	maxDatapoints       = 100_800
	maxStatisticsPoints = 1_440
)

// metricQuery is one element of MetricDataQueries.
type metricQuery struct {
	id, label string
	metric    metricID
	period    int64
	stat      stat
	hidden    bool // ReturnData is false
}

// dataRequest is a decoded GetMetricData.
type dataRequest struct {
	queries    []metricQuery
	start, end time.Time
	ascending  bool
	limit      int
	page       dataPage
	digest     uint64
}

// dataPage is where a page of GetMetricData begins: the query, and how many of its datapoints were returned before. Now
// is the time of the first page, so that all pages see one state of the metrics.
type dataPage struct {
	Query  int    `json:"q"`
	Offset int    `json:"o"`
	Now    int64  `json:"n"`
	Digest uint64 `json:"d"`
}

func parseDataRequest(p wire.Value, now time.Time) (dataRequest, error) {
	var r dataRequest
	items := p.Items("MetricDataQueries")
	if len(items) == 0 {
		return r, validation("The parameter MetricDataQueries is required.")
	}
	if len(items) > maxQueries {
		return r, validation("The collection MetricDataQueries must not have a size greater than %d.", maxQueries)
	}
	seen := map[string]bool{}
	hash := fnv.New64a()
	for i, item := range items {
		q, err := parseMetricQuery(item, fmt.Sprintf("MetricDataQueries.member.%d", i+1))
		if err != nil {
			return r, err
		}
		if seen[q.id] {
			return r, validation("The values for parameter id in MetricDataQueries are not unique.")
		}
		seen[q.id] = true
		fmt.Fprintf(hash, "%s|%s|%d|%s|", q.id, q.metric, q.period, q.stat)
		r.queries = append(r.queries, q)
	}
	var err error
	if r.start, r.end, err = parseRange(p, validation); err != nil {
		return r, err
	}
	fmt.Fprintf(hash, "%d|%d|%s", r.start.Unix(), r.end.Unix(), p.Str("ScanBy"))
	r.digest = hash.Sum64()
	switch p.Str("ScanBy") {
	case "", "TimestampDescending":
	case "TimestampAscending":
		r.ascending = true
	default:
		return r, validation("The parameter ScanBy must be a value in the set [ TimestampDescending, TimestampAscending ].")
	}
	limit, set, err := p.Int("MaxDatapoints")
	if err != nil || (set && (limit < 1 || limit > maxDatapoints)) {
		return r, validation("The parameter MaxDatapoints must be between 1 and %d.", maxDatapoints)
	}
	r.limit = maxDatapoints
	if set {
		r.limit = int(limit)
	}
	r.page = dataPage{Now: now.Unix(), Digest: r.digest}
	if token := p.Str("NextToken"); token != "" {
		if err := readToken(token, &r.page); err != nil || r.page.Digest != r.digest || r.page.Query >= len(r.queries) ||
			r.page.Query < 0 || r.page.Offset < 0 {
			return r, invalidToken()
		}
	}
	return r, nil
}

func parseMetricQuery(v wire.Value, where string) (metricQuery, error) {
	q := metricQuery{id: v.Str("Id"), label: v.Str("Label")}
	if q.id == "" || q.id[0] < 'a' || q.id[0] > 'z' || strings.ContainsFunc(q.id, notInID) {
		return q, validation("The value %q for parameter %s.Id must begin with a lowercase letter and may hold "+
			"letters, digits and underscores.", q.id, where)
	}
	if v.Has("Expression") {
		return q, validation("Error in expression %q: the simulator evaluates MetricStat queries only.", q.id)
	}
	if !v.Has("MetricStat") {
		return q, validation("Exactly one of MetricStat and Expression must be given for %s.", where)
	}
	if show, set, err := v.Bool("ReturnData"); err != nil {
		return q, err
	} else if set {
		q.hidden = !show
	}
	ms := v.Get("MetricStat")
	m := ms.Get("Metric")
	dims, err := parseDimensions(m.Items("Dimensions"))
	if err != nil {
		return q, err
	}
	if m.Str("Namespace") == "" || m.Str("MetricName") == "" {
		return q, validation("The parameters %s.MetricStat.Metric.Namespace and MetricName are required.", where)
	}
	q.metric = idOf(m.Str("Namespace"), m.Str("MetricName"), dims)
	if q.period, err = parsePeriod(ms, where+".MetricStat.Period"); err != nil {
		return q, err
	}
	if q.stat = stat(ms.Str("Stat")); !q.stat.valid() {
		return q, validation("The value %s for parameter %s.MetricStat.Stat is not supported.", q.stat, where)
	}
	return q, nil
}

func notInID(r rune) bool {
	return !(r == '_' || ('a' <= r && r <= 'z') || ('A' <= r && r <= 'Z') || ('0' <= r && r <= '9'))
}

// parsePeriod takes 60 seconds and multiples: EC2 publishes nothing finer.
func parsePeriod(v wire.Value, where string) (int64, error) {
	period, set, err := v.Int("Period")
	switch {
	case err != nil:
		return 0, err
	case !set:
		return 0, validation("The parameter %s is required.", where)
	case period == 1 || period == 5 || period == 10 || period == 20 || period == 30:
		return period, nil
	case period < 60 || period%60 != 0:
		return 0, validation("The parameter %s must be 1, 5, 10, 20, 30 or a multiple of 60.", where)
	}
	return period, nil
}

func parseRange(p wire.Value, fail func(string, ...any) error) (start, end time.Time, err error) {
	start, set, err := p.Time("StartTime")
	if err != nil {
		return start, end, err
	}
	if !set {
		return start, end, fail("The parameter StartTime is required.")
	}
	if end, set, err = p.Time("EndTime"); err != nil {
		return start, end, err
	}
	if !set {
		return start, end, fail("The parameter EndTime is required.")
	}
	if !start.Before(end) {
		return start, end, fail("The parameter StartTime must be less than the parameter EndTime.")
	}
	return start, end, nil
}

func parseDimensions(items []wire.Value) ([]dimension, error) {
	if len(items) > 30 {
		return nil, validation("The collection Dimensions must not have a size greater than 30.")
	}
	var out []dimension
	for _, d := range items {
		if d.Str("Name") == "" {
			return nil, validation("The parameter Dimensions.member.Name is required.")
		}
		out = append(out, dimension{d.Str("Name"), d.Str("Value")})
	}
	return out, nil
}

func validation(format string, args ...any) error {
	return wire.Errorf("ValidationError", format, args...)
}

func invalidToken() error {
	return &wire.Error{Code: "InvalidNextToken", Shape: "InvalidNextToken", Message: "Invalid nextToken"}
}

func writeToken(v any) string {
	b, err := json.Marshal(v)
	if err != nil { // tokens are structures of numbers and text
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func readToken(token string, v any) error {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return fmt.Errorf("next token: %w", err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("next token: %w", err)
	}
	return nil
}
