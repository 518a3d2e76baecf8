package cloudwatch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go/encoding/cbor"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/cloudwatch"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

var (
	place = fleet.Place{Partition: fleet.PartitionAWS, Account: "111111111111", Region: "eu-west-1"}
	now   = time.Date(2026, 11, 22, 8, 30, 0, 0, time.UTC)
)

// point is a datapoint of the fake.
type point struct {
	at    time.Time
	value float64
}

// query is what a request asked for one series.
type query struct {
	id, metric, instance, stat string
	period                     int
}

// request is a GetMetricData call as the fake got it.
type request struct {
	start, end time.Time
	queries    []query
	token      string
}

// fakeCloudWatch keeps datapoints and answers GetMetricData and ListMetrics in JSON 1.0 and RPC v2 CBOR.
type fakeCloudWatch struct {
	t     *testing.T
	clock *clock.Manual
	// pagePoints is how many datapoints fit into a page.
	pagePoints int
	// spoil changes a result, by instance and metric, before it is sent; page counts from 0.
	spoil func(q query, page int, r map[string]any)
	// fail refuses a call, counted from 1.
	fail func(n int) (status int, code string)
	// repeatToken makes pages never end.
	repeatToken bool
	// say is a message for the whole call.
	say string

	mu       sync.Mutex
	data     map[string]map[string][]point // instance → metric → points
	requests []request
	lists    int
	// alarms answers a DescribeAlarms call; nil where none is expected.
	alarms   func(in map[string]any) map[string]any
	protocol map[string]int
}

func newFake(t *testing.T) *fakeCloudWatch {
	return &fakeCloudWatch{
		t: t, clock: clock.NewManual(now), pagePoints: 100_800,
		data: map[string]map[string][]point{}, protocol: map[string]int{},
	}
}

func (f *fakeCloudWatch) put(instance, metric string, points ...point) {
	if f.data[instance] == nil {
		f.data[instance] = map[string][]point{}
	}
	f.data[instance][metric] = append(f.data[instance][metric], points...)
}

func (f *fakeCloudWatch) client(p cloudwatch.Protocol) *cloudwatch.Client {
	f.t.Helper()
	server := httptest.NewServer(http.HandlerFunc(f.serve))
	f.t.Cleanup(server.Close)
	e, err := awsx.New(f.t.Context(), awsx.Options{
		Clock: f.clock, Share: 1,
		Load: func(context.Context) (aws.Config, error) {
			return aws.Config{
				Region: "eu-west-1", BaseEndpoint: &server.URL,
				Credentials: credentials.NewStaticCredentialsProvider("AKIA", "secret", ""),
			}, nil
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return cloudwatch.New(e.Session(place, awsx.Role{}), p)
}

func (f *fakeCloudWatch) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.Contains(string(body), "GetCallerIdentity") {
		fmt.Fprint(w, "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::111111111111:user/x</Arn>"+
			"<UserId>x</UserId><Account>111111111111</Account></GetCallerIdentityResult></GetCallerIdentityResponse>")
		return
	}
	in, operation, isCBOR := f.decode(r, body)
	status, out := f.answer(operation, in)
	if isCBOR {
		w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
		w.Header().Set("Content-Type", "application/cbor")
		w.WriteHeader(status)
		_, _ = w.Write(cbor.Encode(toCBOR(out)))
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(toJSON(out))
}

func (f *fakeCloudWatch) decode(r *http.Request, body []byte) (in map[string]any, operation string, isCBOR bool) {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		f.protocol["json"]++
		if err := json.Unmarshal(body, &in); err != nil {
			f.t.Errorf("decode JSON: %v", err)
		}
		return in, target[strings.LastIndex(target, ".")+1:], false
	}
	f.protocol["cbor"]++
	v, err := cbor.Decode(body)
	if err != nil {
		f.t.Errorf("decode CBOR: %v", err)
	}
	in, _ = fromCBOR(v).(map[string]any)
	return in, r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:], true
}

func (f *fakeCloudWatch) answer(operation string, in map[string]any) (int, map[string]any) {
	if operation == "ListMetrics" {
		f.lists++
		return f.list(in)
	}
	if operation == "DescribeAlarms" && f.alarms != nil {
		return 200, f.alarms(in)
	}
	req := request{start: instant(in["StartTime"]), end: instant(in["EndTime"])}
	req.token, _ = in["NextToken"].(string)
	for _, raw := range in["MetricDataQueries"].([]any) {
		q := raw.(map[string]any)
		stat := q["MetricStat"].(map[string]any)
		m := stat["Metric"].(map[string]any)
		d := m["Dimensions"].([]any)[0].(map[string]any)
		if m["Namespace"] != "AWS/EC2" || d["Name"] != "InstanceId" {
			f.t.Errorf("asked for %v", m)
		}
		req.queries = append(req.queries, query{
			id: q["Id"].(string), metric: m["MetricName"].(string), instance: d["Value"].(string),
			stat: stat["Stat"].(string), period: int(number(stat["Period"])),
		})
	}
	f.requests = append(f.requests, req)
	if f.fail != nil {
		if status, code := f.fail(len(f.requests)); code != "" {
			return status, map[string]any{"__type": code, "message": "as told", "Message": "as told"}
		}
	}
	if len(req.queries) > 500 {
		return 400, map[string]any{"__type": "ValidationError", "message": "too many queries"}
	}
	return 200, f.page(req)
}

// page answers with as many points as fit, skipping those of the pages before. An id with points left is PartialData.
func (f *fakeCloudWatch) page(req request) map[string]any {
	skip, _ := strconv.Atoi(req.token)
	number := 0
	if f.pagePoints > 0 {
		number = skip / f.pagePoints
	}
	room, seen, more := f.pagePoints, 0, false
	var results []any
	for _, q := range req.queries {
		times, values := []any{}, []any{}
		status := "Complete"
		for _, p := range f.data[q.instance][q.metric] {
			if p.at.Before(req.start) || !p.at.Before(req.end) {
				continue
			}
			seen++
			if seen <= skip {
				continue
			}
			if room == 0 {
				status, more = "PartialData", true
				continue
			}
			room--
			times, values = append(times, p.at), append(values, p.value)
		}
		r := map[string]any{"Id": q.id, "Label": q.metric, "Timestamps": times, "Values": values, "StatusCode": status}
		if f.spoil != nil {
			f.spoil(q, number, r)
		}
		if r["Id"] != nil {
			results = append(results, r)
		}
	}
	out := map[string]any{"MetricDataResults": results}
	if more || f.repeatToken {
		out["NextToken"] = strconv.Itoa(skip + f.pagePoints)
		if f.repeatToken {
			out["NextToken"] = "again"
		}
	}
	if f.say != "" {
		out["Messages"] = []any{map[string]any{"Code": "Notice", "Value": f.say}}
	}
	return out
}

// list gives two metrics a page.
func (f *fakeCloudWatch) list(in map[string]any) (int, map[string]any) {
	if f.fail != nil {
		if status, code := f.fail(f.lists); code != "" {
			return status, map[string]any{"__type": code, "message": "as told"}
		}
	}
	var all []any
	for _, instance := range slices.Sorted(maps.Keys(f.data)) {
		if _, ok := f.data[instance][in["MetricName"].(string)]; ok {
			all = append(all, map[string]any{"Namespace": "AWS/EC2", "MetricName": in["MetricName"],
				"Dimensions": []any{map[string]any{"Name": "InstanceId", "Value": instance}}})
		}
	}
	token, _ := in["NextToken"].(string)
	from, _ := strconv.Atoi(token)
	out := map[string]any{"Metrics": all[from:min(from+2, len(all))]}
	if from+2 < len(all) {
		out["NextToken"] = strconv.Itoa(from + 2)
	}
	if f.repeatToken {
		out["NextToken"] = "0"
	}
	return 200, out
}

func instant(v any) time.Time {
	return time.Unix(int64(number(v)), 0).UTC()
}

func number(v any) float64 {
	switch n := v.(type) {
	case float64:
		return n
	case time.Time:
		return float64(n.Unix())
	}
	return 0
}

func toJSON(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			out[k] = toJSON(e)
		}
		return out
	case []any:
		out := []any{}
		for _, e := range v {
			out = append(out, toJSON(e))
		}
		return out
	case time.Time:
		return v.Unix()
	default:
		return v
	}
}

func toCBOR(v any) cbor.Value {
	switch v := v.(type) {
	case map[string]any:
		out := cbor.Map{}
		for k, e := range v {
			out[k] = toCBOR(e)
		}
		return out
	case []any:
		out := cbor.List{}
		for _, e := range v {
			out = append(out, toCBOR(e))
		}
		return out
	case time.Time:
		return &cbor.Tag{ID: 1, Value: cbor.Float64(v.Unix())}
	case float64:
		return cbor.Float64(v)
	case string:
		return cbor.String(v)
	default:
		return &cbor.Nil{}
	}
}

func fromCBOR(v cbor.Value) any {
	switch v := v.(type) {
	case cbor.Map:
		out := map[string]any{}
		for k, e := range v {
			out[k] = fromCBOR(e)
		}
		return out
	case cbor.List:
		out := []any{}
		for _, e := range v {
			out = append(out, fromCBOR(e))
		}
		return out
	case cbor.String:
		return string(v)
	case cbor.Uint:
		return float64(v)
	case cbor.NegInt:
		return -float64(v)
	case cbor.Float64:
		return float64(v)
	case cbor.Float32:
		return float64(v)
	case *cbor.Tag:
		return fromCBOR(v.Value)
	case cbor.Bool:
		return bool(v)
	default:
		return nil
	}
}

// refs names instances i-0001, i-0002…
func refs(n int) []fleet.Ref {
	out := make([]fleet.Ref, n)
	for i := range out {
		out[i] = fleet.Ref{Place: place, Kind: "ec2-instance", ID: fmt.Sprintf("i-%04d", i)}
	}
	return out
}

func fortnight() evidence.Span { return cloudwatch.Settings{}.Span(now) }

// every gives a point in each period of a span.
func every(span evidence.Span, value float64) []point {
	out := make([]point, span.Slots)
	for i := range out {
		out[i] = point{span.Start.Add(time.Duration(i) * span.Period), value}
	}
	return out
}
