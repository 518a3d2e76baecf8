package cloudwatch

import (
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// FuzzGetMetricData feeds the decoder of GetMetricData with any JSON: it must refuse or give something within the limits.
func FuzzGetMetricData(f *testing.F) {
	f.Add(`{"StartTime":1772452800,"EndTime":1772456400,"MetricDataQueries":[{"Id":"a","MetricStat":{"Stat":"Sum",` +
		`"Period":300,"Metric":{"Namespace":"AWS/EC2","MetricName":"MetadataNoToken"}}}]}`)
	f.Add(`{"StartTime":"2026-03-02T12:00:00Z","EndTime":1e11,"NextToken":"eyJxIjoxfQ","MaxDatapoints":-1,"MetricDataQueries":[{}]}`)
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body string) {
		v, err := wire.ParseJSON([]byte(body))
		if err != nil {
			return
		}
		r, err := parseDataRequest(v, now)
		if err != nil {
			return
		}
		if len(r.queries) == 0 || len(r.queries) > maxQueries || r.limit < 1 || r.limit > maxDatapoints || !r.start.Before(r.end) ||
			r.page.Query < 0 || r.page.Query >= len(r.queries) || r.page.Offset < 0 {
			t.Errorf("accepted %+v", r)
		}
		for _, q := range r.queries {
			if q.period < 1 || !q.stat.valid() || q.id == "" {
				t.Errorf("accepted query %+v", q)
			}
		}
	})
}

// FuzzMetricID checks that a metric's id gives back what it was made of.
func FuzzMetricID(f *testing.F) {
	f.Add("AWS/EC2", "MetadataNoToken", "InstanceId", "i-1")
	f.Add("", "", "", "")
	f.Fuzz(func(t *testing.T, namespace, name, dim, value string) {
		for _, s := range []string{namespace, name, dim, value} {
			for _, c := range s {
				if c == 0 {
					t.Skip("AWS refuses control characters")
				}
			}
		}
		ns, n, dims := idOf(namespace, name, []dimension{{dim, value}}).parts()
		if ns != namespace || n != name || len(dims) != 1 || dims[0] != (dimension{dim, value}) {
			t.Errorf("%q %q %v", ns, n, dims)
		}
	})
}

// FuzzPutMetricData feeds the decoder of one datum.
func FuzzPutMetricData(f *testing.F) {
	f.Add(`{"Value":1}`)
	f.Add(`{"Values":[1,2],"Counts":[1,0]}`)
	f.Add(`{"StatisticValues":{"SampleCount":2,"Sum":3,"Minimum":1,"Maximum":2}}`)
	f.Fuzz(func(t *testing.T, body string) {
		v, err := wire.ParseJSON([]byte(body))
		if err != nil {
			return
		}
		if s, err := parseSample(v, "MetricData.member.1"); err == nil && !(s.n > 0) {
			t.Errorf("accepted a point of %v samples", s.n)
		}
	})
}
