package cloudwatch_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	cw "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/schemas"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/transport/http/protocol/awsjson"
	"github.com/aws/smithy-go/transport/http/protocol/awsquery"

	"github.com/imdsctl/imdsctl/internal/awssim/cloudwatch"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

const (
	account = "111122223333"
	region  = "eu-west-1"
)

var now = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// world has n instances that ran for 20 days, tagged app=batch, and a v1 caller on them every 15 minutes.
func world(t *testing.T, n int) (*core.World, *clock.Manual, []string) {
	t.Helper()
	c := clock.NewManual(now)
	w := core.New(core.Options{Clock: c, Unthrottled: true}, ec2.Service(),
		cloudwatch.Service(programs.Hosts{}, cloudwatch.DefaultDelay), programs.Service())
	if err := w.AddAccount(core.Account{ID: account}); err != nil {
		t.Fatal(err)
	}
	ids := make([]string, n)
	place(t, w).With(func(now time.Time) {
		for i := range ids {
			made, err := ec2.StoreOf(place(t, w)).AddInstance(now, ec2.InstanceSeed{
				ID: fmt.Sprintf("i-%017x", i+1), ImageID: "ami-0123456789abcdef0", Tags: map[string]string{"app": "batch"},
				Launched: now.AddDate(0, 0, -20),
			})
			if err != nil {
				t.Fatal(err)
			}
			ids[i] = made.ID()
		}
	})
	err := programs.Deploy(w, workload.Program{
		Name: "batch", Agent: "boto3", Version: "1.9.2", Speaks: workload.V1Only, Every: 15 * time.Minute,
	}, workload.Where{Tags: []string{"app=batch"}})
	if err != nil {
		t.Fatal(err)
	}
	return w, c, ids
}

func place(t *testing.T, w *core.World) *core.Place {
	t.Helper()
	p, err := w.Place(account, region)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func client(w *core.World, options ...func(*cw.Options)) *cw.Client {
	return cw.New(cw.Options{
		Region: region, BaseEndpoint: aws.String(core.BaseURL), HTTPClient: w.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(account, "dummy", ""),
	}, options...)
}

// protocols are the ways in which CloudWatch is spoken to.
func protocols() map[string]func(*cw.Options) {
	return map[string]func(*cw.Options){
		"cbor":  func(*cw.Options) {},
		"json":  func(o *cw.Options) { o.Protocol = awsjson.New10(schemas.GraniteServiceVersion20100801) },
		"query": func(o *cw.Options) { o.Protocol = awsquery.New(schemas.GraniteServiceVersion20100801) },
	}
}

func sum(id, metric, instance string, period int32) types.MetricDataQuery {
	m := &types.Metric{Namespace: aws.String("AWS/EC2"), MetricName: aws.String(metric)}
	if instance != "" {
		m.Dimensions = []types.Dimension{{Name: aws.String("InstanceId"), Value: aws.String(instance)}}
	}
	return types.MetricDataQuery{Id: aws.String(id), MetricStat: &types.MetricStat{
		Metric: m, Period: aws.Int32(period), Stat: aws.String("Sum"),
	}}
}

func twoWeeks(queries ...types.MetricDataQuery) *cw.GetMetricDataInput {
	return &cw.GetMetricDataInput{
		StartTime: aws.Time(now.AddDate(0, 0, -14)), EndTime: aws.Time(now), MetricDataQueries: queries,
		ScanBy: types.ScanByTimestampAscending,
	}
}

func TestGetMetricDataInEveryProtocol(t *testing.T) {
	w, c, ids := world(t, 1)
	c.Advance(10 * time.Minute) // the last hour has been published
	for name, protocol := range protocols() {
		t.Run(name, func(t *testing.T) {
			out, err := client(w, protocol).GetMetricData(t.Context(), twoWeeks(
				sum("v1", "MetadataNoToken", ids[0], 3600), sum("rejected", "MetadataNoTokenRejected", ids[0], 3600),
				sum("nodim", "MetadataNoToken", "", 3600), sum("other", "MetadataNoToken", "i-0000000000000dead", 3600),
			))
			if err != nil {
				t.Fatal(err)
			}
			if len(out.MetricDataResults) != 4 || out.NextToken != nil {
				t.Fatalf("%d results, token %v", len(out.MetricDataResults), out.NextToken)
			}
			v1 := out.MetricDataResults[0]
			if len(v1.Values) != 336 || len(v1.Timestamps) != 336 || v1.StatusCode != types.StatusCodeComplete {
				t.Fatalf("%d values, %d timestamps, %s; want 336 of both, Complete", len(v1.Values), len(v1.Timestamps), v1.StatusCode)
			}
			for i, v := range v1.Values {
				if want := now.AddDate(0, 0, -14).Add(time.Duration(i) * time.Hour); v != 8 || !v1.Timestamps[i].Equal(want) {
					t.Fatalf("point %d: %v at %s, want 8 at %s", i, v, v1.Timestamps[i], want)
				}
			}
			for _, empty := range out.MetricDataResults[1:] {
				if len(empty.Values) != 0 || empty.StatusCode != types.StatusCodeComplete {
					t.Errorf("%s: %d values, %s; want none, Complete", *empty.Id, len(empty.Values), empty.StatusCode)
				}
			}
		})
	}
}

func TestErrorsInEveryProtocol(t *testing.T) {
	w, _, ids := world(t, 1)
	many := make([]types.MetricDataQuery, 501)
	for i := range many {
		many[i] = sum(fmt.Sprint("q", i), "MetadataNoToken", ids[0], 3600)
	}
	odd := sum("q", "MetadataNoToken", ids[0], 90)
	backwards := twoWeeks(sum("q", "MetadataNoToken", ids[0], 60))
	backwards.StartTime, backwards.EndTime = backwards.EndTime, backwards.StartTime
	token := twoWeeks(sum("q", "MetadataNoToken", ids[0], 60))
	token.NextToken = aws.String("nonsense")
	tests := []struct {
		name, code string
		in         *cw.GetMetricDataInput
	}{
		{"501 queries", "ValidationError", twoWeeks(many...)},
		{"no queries", "ValidationError", &cw.GetMetricDataInput{
			StartTime: aws.Time(now), EndTime: aws.Time(now.Add(1)), MetricDataQueries: []types.MetricDataQuery{},
		}},
		{"same id twice", "ValidationError", twoWeeks(many[0], many[0])},
		{"period of 90 s", "ValidationError", twoWeeks(odd)},
		{"start after end", "ValidationError", backwards},
		{"bad token", "InvalidNextToken", token},
	}
	for name, protocol := range protocols() {
		for _, tt := range tests {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				_, err := client(w, protocol).GetMetricData(t.Context(), tt.in)
				api, ok := errors.AsType[smithy.APIError](err)
				if !ok || api.ErrorCode() != codeIn(name, tt.code) || api.ErrorMessage() == "" {
					t.Errorf("got %v, want %s", err, tt.code)
				}
			})
		}
		t.Run(name+"/too many statistics points", func(t *testing.T) {
			_, err := client(w, protocol).GetMetricStatistics(t.Context(), &cw.GetMetricStatisticsInput{
				Namespace: aws.String("AWS/EC2"), MetricName: aws.String("CPUUtilization"), StartTime: aws.Time(now.AddDate(0, 0, -2)),
				EndTime: aws.Time(now), Period: aws.Int32(60), Statistics: []types.Statistic{types.StatisticSum},
			})
			api, ok := errors.AsType[smithy.APIError](err)
			if !ok || api.ErrorCode() != codeIn(name, "InvalidParameterCombination") {
				t.Fatalf("got %v, want InvalidParameterCombination", err)
			}
			if _, ok := errors.AsType[*types.InvalidParameterCombinationException](err); !ok {
				t.Errorf("got %T, want the model's exception", err)
			}
		})
	}
}

// codeIn is the code as the SDK reports it: in the Query protocol it gives the name of the model's exception, although
// the code on the wire is the classic one.
func codeIn(protocol, code string) string {
	if protocol != "query" {
		return code
	}
	switch code {
	case "ValidationError":
		return "ValidationException"
	case "InvalidParameterCombination":
		return "InvalidParameterCombinationException"
	}
	return code
}

func TestPagesOfGetMetricData(t *testing.T) {
	w, c, ids := world(t, 301)
	c.Advance(10 * time.Minute)
	queries := func(n int) (out []types.MetricDataQuery) {
		for i := range n {
			out = append(out, sum(fmt.Sprint("q", i), "MetadataNoToken", ids[i], 3600))
		}
		return out
	}
	full, err := client(w).GetMetricData(t.Context(), twoWeeks(queries(300)...))
	if err != nil {
		t.Fatal(err)
	}
	if full.NextToken != nil {
		t.Error("300 instances × 336 hours are exactly one page, but there is a token")
	}

	for _, limit := range []int32{0, 1000, 337} {
		in := twoWeeks(queries(301)...)
		if limit > 0 {
			in.MaxDatapoints = aws.Int32(limit)
			in.MetricDataQueries = in.MetricDataQueries[:7]
		}
		total, pages := map[string]int{}, 0
		complete := map[string]bool{}
		for p := cw.NewGetMetricDataPaginator(client(w), in); p.HasMorePages(); pages++ {
			page, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, r := range page.MetricDataResults {
				if complete[*r.Id] {
					t.Errorf("%s comes again after it was complete", *r.Id)
				}
				complete[*r.Id] = r.StatusCode == types.StatusCodeComplete
				total[*r.Id] += len(r.Values)
				n += len(r.Values)
			}
			if limit > 0 && n > int(limit) || n > 100_800 {
				t.Errorf("a page of %d points", n)
			}
			c.Advance(time.Minute) // later pages still show the state of the first
		}
		for id, n := range total {
			if n != 336 || !complete[id] {
				t.Errorf("limit %d: %s has %d points, complete %v; want 336", limit, id, n, complete[id])
			}
		}
		want := map[int32]int{0: 2, 1000: 3, 337: 7}[limit]
		if len(total) != len(in.MetricDataQueries) || pages != want {
			t.Errorf("limit %d: %d series on %d pages, want %d on %d", limit, len(total), pages, len(in.MetricDataQueries), want)
		}
	}
}

func TestPutAndStatistics(t *testing.T) {
	w, _, ids := world(t, 1)
	dims := []types.Dimension{{Name: aws.String("InstanceId"), Value: aws.String(ids[0])}}
	hour := now.Add(-5 * time.Hour)
	for name, protocol := range protocols() {
		c := client(w, protocol)
		metric := "Requests" + name
		data := make([]types.MetricDatum, 200) // large enough to be compressed
		for i := range data {
			data[i] = types.MetricDatum{
				MetricName: &metric, Dimensions: dims, Timestamp: aws.Time(hour.Add(time.Duration(i) * 10 * time.Second)),
				Value: aws.Float64(float64(i)),
			}
		}
		data = append(data, types.MetricDatum{
			MetricName: &metric, Dimensions: dims, Timestamp: aws.Time(hour), Values: []float64{1000, 3}, Counts: []float64{2, 1},
		})
		if _, err := c.PutMetricData(t.Context(), &cw.PutMetricDataInput{Namespace: aws.String("App"), MetricData: data}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out, err := c.GetMetricStatistics(t.Context(), &cw.GetMetricStatisticsInput{
			Namespace: aws.String("App"), MetricName: &metric, Dimensions: dims, StartTime: aws.Time(hour), EndTime: aws.Time(now),
			Period: aws.Int32(3600), Statistics: types.Statistic("").Values(),
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(out.Datapoints) != 1 {
			t.Fatalf("%s: %d datapoints, want 1", name, len(out.Datapoints))
		}
		p := out.Datapoints[0]
		if *p.SampleCount != 203 || *p.Sum != 199*100+2003 || *p.Maximum != 1000 || *p.Minimum != 0 || !p.Timestamp.Equal(hour) {
			t.Errorf("%s: %v samples, sum %v, max %v, min %v at %s", name, *p.SampleCount, *p.Sum, *p.Maximum, *p.Minimum, p.Timestamp)
		}
	}
}

func TestPutReplacesDerivedPoints(t *testing.T) {
	w, c, ids := world(t, 1)
	c.Advance(10 * time.Minute)
	at := now.Add(-3 * time.Hour)
	_, err := client(w).PutMetricData(t.Context(), &cw.PutMetricDataInput{
		Namespace: aws.String("AWS/EC2"), MetricData: []types.MetricDatum{{
			MetricName: aws.String("MetadataNoToken"), Timestamp: &at, Value: aws.Float64(70),
			Dimensions: []types.Dimension{{Name: aws.String("InstanceId"), Value: &ids[0]}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := client(w).GetMetricData(t.Context(), twoWeeks(sum("q", "MetadataNoToken", ids[0], 300)))
	if err != nil {
		t.Fatal(err)
	}
	r := out.MetricDataResults[0]
	for i, ts := range r.Timestamps {
		if ts.Equal(at) && r.Values[i] != 70 || r.Values[i] > 2 && !ts.Equal(at) {
			t.Errorf("%v at %s", r.Values[i], ts)
		}
	}
	if len(r.Values) != 14*288 {
		t.Errorf("%d points, want %d", len(r.Values), 14*288)
	}
}

func TestRetentionAndDelay(t *testing.T) {
	w, c, ids := world(t, 1)
	get := func(period int32, from, to time.Time) types.MetricDataResult {
		t.Helper()
		in := twoWeeks(sum("q", "MetadataNoToken", ids[0], period))
		in.StartTime, in.EndTime = &from, &to
		out, err := client(w).GetMetricData(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		return out.MetricDataResults[0]
	}
	// The instance ran for 20 days; points of a minute live 15 days, and basic monitoring has one every five minutes.
	if r := get(60, now.AddDate(0, 0, -20), now.AddDate(0, 0, -14)); len(r.Values) != 288 {
		t.Errorf("%d one-minute points older than 14 days, want one day of 288", len(r.Values))
	}
	if r := get(300, now.AddDate(0, 0, -30), now.AddDate(0, 0, -14)); len(r.Values) != 6*288 {
		t.Errorf("%d five-minute points, want %d", len(r.Values), 6*288)
	}
	if r := get(300, now.Add(-time.Hour), now); len(r.Values) != 11 {
		t.Errorf("%d five-minute points at once, want 11: the last is published two minutes after its end", len(r.Values))
	}
	c.Advance(2 * time.Minute)
	if r := get(300, now.Add(-time.Hour), now); len(r.Values) != 12 {
		t.Errorf("%d five-minute points after two minutes, want 12", len(r.Values))
	}
	// An unaligned start is rounded down to the minute, and the periods follow it.
	if r := get(3600, now.Add(-150*time.Minute-20*time.Second), now); len(r.Timestamps) != 3 ||
		!r.Timestamps[0].Equal(now.Add(-151*time.Minute)) {
		t.Errorf("timestamps %v", r.Timestamps)
	}
}

func TestListMetrics(t *testing.T) {
	w, c, ids := world(t, 260)
	p := place(t, w)
	// One was terminated three days ago, another three weeks ago; one never allowed v1.
	p.With(func(now time.Time) {
		s := ec2.StoreOf(p)
		for id, ended := range map[string]time.Time{
			"i-0000000000000aaa1": now.AddDate(0, 0, -3), "i-0000000000000aaa2": now.AddDate(0, 0, -21),
		} {
			if _, err := s.AddPast(now, ec2.InstanceSeed{
				ID: id, ImageID: "ami-0123456789abcdef0", Launched: now.AddDate(0, 0, -40), Stopped: ended,
			}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.AddInstance(now, ec2.InstanceSeed{
			ID: "i-0000000000000aaa3", ImageID: "ami-0123456789abcdef0", Options: fleet.Options{Tokens: "required", HopLimit: 1},
		}); err != nil {
			t.Fatal(err)
		}
	})
	c.Advance(10 * time.Minute)
	for name, protocol := range protocols() {
		t.Run(name, func(t *testing.T) {
			list := func(in *cw.ListMetricsInput) (found map[string]int, pages int) {
				found = map[string]int{}
				for pager := cw.NewListMetricsPaginator(client(w, protocol), in); pager.HasMorePages(); pages++ {
					page, err := pager.NextPage(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if len(page.Metrics) > 500 {
						t.Errorf("a page of %d metrics", len(page.Metrics))
					}
					for _, m := range page.Metrics {
						found[*m.MetricName+" "+*m.Dimensions[0].Value]++
					}
				}
				return found, pages
			}
			found, _ := list(&cw.ListMetricsInput{Namespace: aws.String("AWS/EC2"), MetricName: aws.String("MetadataNoToken")})
			if len(found) != 261 || found["MetadataNoToken i-0000000000000aaa1"] != 1 {
				t.Errorf("%d metrics; want 261: the terminated one listed, the older and the enforced one not", len(found))
			}
			all, pages := list(&cw.ListMetricsInput{Namespace: aws.String("AWS/EC2")})
			if len(all) != 261*4+3 || pages != 3 { // CPU, NoToken and two status checks; the enforced one has no NoToken
				t.Errorf("%d metrics on %d pages, want %d on 3", len(all), pages, 261*4+3)
			}
			for m, n := range all {
				if n != 1 {
					t.Errorf("%s listed %d times", m, n)
				}
			}
			one, _ := list(&cw.ListMetricsInput{Dimensions: []types.DimensionFilter{{Name: aws.String("InstanceId"), Value: &ids[7]}}})
			if len(one) != 4 {
				t.Errorf("one instance has %d metrics, want 4: %v", len(one), one)
			}
		})
	}
}

func TestBreakShowsEverywhere(t *testing.T) {
	w, c, ids := world(t, 1)
	err := programs.Deploy(w, workload.Program{
		Name: "billing", Agent: "boto3", Version: "1.9.2", Speaks: workload.V1Only, Every: time.Hour, Essential: true,
		ImpairedAfter: 5 * time.Minute,
	}, workload.Where{Instances: ids})
	if err != nil {
		t.Fatal(err)
	}
	p := place(t, w)
	p.With(func(now time.Time) {
		s := ec2.StoreOf(p)
		i := s.Instance(ids[0])
		s.SetOptions(now, i, fleet.Options{Tokens: "required"}.Over(i.Newest().Options))
	})
	if h := programs.Health(w); len(h.Broken) != 0 {
		t.Errorf("broken at once: %+v", h.Broken)
	}
	c.Advance(70 * time.Minute)
	h := programs.Health(w)
	if len(h.Broken) != 2 || !strings.Contains(h.Broken[0].Why, "boto3 1.9.2") {
		t.Fatalf("broken after an hour: %+v, want both programs", h.Broken)
	}
	p.View(func(now time.Time) {
		if got := ec2.StoreOf(p).StatusAt(ec2.StoreOf(p).Instance(ids[0]), now); got != ec2.StatusImpaired {
			t.Errorf("status %s, want impaired", got)
		}
	})
	in := twoWeeks(sum("no", "MetadataNoToken", ids[0], 300), sum("rejected", "MetadataNoTokenRejected", ids[0], 300),
		sum("failed", "StatusCheckFailed", ids[0], 300))
	in.StartTime, in.EndTime = aws.Time(now), aws.Time(now.Add(time.Hour))
	out, err := client(w).GetMetricData(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(out.MetricDataResults[0].Values); n != 1 { // the period in which the change was applied
		t.Errorf("%d points of MetadataNoToken after the change, want 1", n)
	}
	if out.MetricDataResults[1].Values == nil {
		t.Error("no point of MetadataNoTokenRejected after the change")
	}
}

func TestAlarms(t *testing.T) {
	w, _, _ := world(t, 0)
	for i := range 3 {
		cloudwatch.SetAlarm(place(t, w), cloudwatch.Alarm{Name: fmt.Sprint("app-", i), State: "ALARM", Updated: now})
	}
	cloudwatch.SetAlarm(place(t, w), cloudwatch.Alarm{Name: "other", State: "OK", Updated: now})
	for name, protocol := range protocols() {
		n := 0
		in := &cw.DescribeAlarmsInput{AlarmNamePrefix: aws.String("app-"), StateValue: types.StateValueAlarm, MaxRecords: aws.Int32(2)}
		for p := cw.NewDescribeAlarmsPaginator(client(w, protocol), in); p.HasMorePages(); {
			page, err := p.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			n += len(page.MetricAlarms)
		}
		if n != 3 {
			t.Errorf("%s: %d alarms, want 3", name, n)
		}
	}
}

// TestAlarmsOfBothTypes: composite alarms are listed only where they are asked for, and the control moves an alarm.
func TestAlarmsOfBothTypes(t *testing.T) {
	w, _, _ := world(t, 0)
	p := place(t, w)
	set := func(body string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, core.BaseURL+"/_sim/alarms", strings.NewReader(
			`{"account": "`+string(p.Account)+`", "region": "`+string(p.Region)+`", "alarm": `+body+`}`))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := w.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	for _, body := range []string{`{"name": "a"}`, `{"name": "b", "composite": true}`, `{"name": "b", "composite": true, "state": "ALARM"}`} {
		if code := set(body); code != http.StatusNoContent {
			t.Errorf("%s: %d", body, code)
		}
	}
	for _, body := range []string{`{}`, `{"name": "a", "state": "RED"}`, `{"nam": "a"}`} {
		if code := set(body); code != http.StatusBadRequest {
			t.Errorf("%s: %d", body, code)
		}
	}
	for name, protocol := range protocols() {
		out, err := client(w, protocol).DescribeAlarms(t.Context(), &cw.DescribeAlarmsInput{})
		if err != nil || len(out.MetricAlarms) != 1 || len(out.CompositeAlarms) != 0 {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
		out, err = client(w, protocol).DescribeAlarms(t.Context(), &cw.DescribeAlarmsInput{AlarmNames: []string{"a", "b"},
			AlarmTypes: []types.AlarmType{types.AlarmTypeMetricAlarm, types.AlarmTypeCompositeAlarm}})
		if err != nil || len(out.MetricAlarms) != 1 || len(out.CompositeAlarms) != 1 ||
			out.CompositeAlarms[0].StateValue != types.StateValueAlarm {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
}

func TestHeartbeat(t *testing.T) {
	w, c, ids := world(t, 1)
	c.Advance(10 * time.Minute)
	out, err := client(w).GetMetricStatistics(t.Context(), &cw.GetMetricStatisticsInput{
		Namespace: aws.String("AWS/EC2"), MetricName: aws.String("CPUUtilization"), StartTime: aws.Time(now.Add(-6 * time.Hour)),
		EndTime: aws.Time(now), Period: aws.Int32(3600), Statistics: []types.Statistic{"Average", "Minimum", "Maximum", "SampleCount"},
		Dimensions: []types.Dimension{{Name: aws.String("InstanceId"), Value: &ids[0]}},
	})
	if err != nil || len(out.Datapoints) != 6 {
		t.Fatalf("%+v, %v; want six hours", out, err)
	}
	for _, p := range out.Datapoints {
		if *p.SampleCount != 12 || *p.Minimum < 0 || *p.Minimum > *p.Average || *p.Average > *p.Maximum || *p.Maximum > 100 ||
			p.Unit != types.StandardUnitPercent {
			t.Errorf("%v samples, %v ≤ %v ≤ %v %s", *p.SampleCount, *p.Minimum, *p.Average, *p.Maximum, p.Unit)
		}
	}
}

// BenchmarkFullPage answers for 300 instances × 14 days by the hour, without decoding the response.
func BenchmarkFullPage(b *testing.B) {
	t := &testing.T{}
	w, c, ids := world(t, 300)
	c.Advance(10 * time.Minute)
	var queries strings.Builder
	for i, id := range ids {
		fmt.Fprintf(&queries, `{"Id":"m%d","MetricStat":{"Metric":{"Namespace":"AWS/EC2","MetricName":"MetadataNoToken",`+
			`"Dimensions":[{"Name":"InstanceId","Value":%q}]},"Period":3600,"Stat":"Sum"}},`, i, id)
	}
	body := fmt.Sprintf(`{"StartTime":%d,"EndTime":%d,"MetricDataQueries":[%s]}`, now.AddDate(0, 0, -14).Unix(), now.Unix(),
		strings.TrimSuffix(queries.String(), ","))
	b.ReportAllocs()
	for b.Loop() {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, core.BaseURL+"/", strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-amz-json-1.0")
		r.Header.Set("X-Amz-Target", "GraniteServiceVersion20100801.GetMetricData")
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+account+"/20260302/"+region+
			"/monitoring/aws4_request, SignedHeaders=host, Signature=0")
		resp, err := w.Client().Do(r)
		if err != nil || resp.StatusCode != http.StatusOK || resp.ContentLength < 1_000_000 {
			b.Fatalf("%+v, %v", resp, err)
		}
	}
}
