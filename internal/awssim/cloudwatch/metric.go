package cloudwatch

import (
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
)

// How long CloudWatch keeps points of each period.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html#metrics-retention
const (
	keepMinutes     = 15 * 24 * time.Hour
	keepFiveMinutes = 63 * 24 * time.Hour
	keepHours       = 455 * 24 * time.Hour
)

// listedFor is how long after its last point a metric is listed.
const listedFor = 14 * 24 * time.Hour

// query is one metric over one range. Times are Unix seconds; the buckets begin at from + k × period.
type query struct {
	place    *core.Place
	id       metricID
	from, to int64
	period   int64
	now      int64
}

// stat is a statistic, in CloudWatch's words.
type stat string

const (
	statSum     stat = "Sum"
	statAverage stat = "Average"
	statMinimum stat = "Minimum"
	statMaximum stat = "Maximum"
	statCount   stat = "SampleCount"
)

func (s stat) of(v sample) float64 {
	switch s {
	case statSum:
		return v.sum
	case statAverage:
		return v.sum / v.n
	case statMinimum:
		return v.min
	case statMaximum:
		return v.max
	default:
		return v.n
	}
}

func (s stat) valid() bool {
	switch s {
	case statSum, statAverage, statMinimum, statMaximum, statCount:
		return true
	}
	return false
}

// roundStart rounds a start time down as GetMetricData and GetMetricStatistics document it: to the minute when it is
// less than 15 days old, then to five minutes, after 63 days to the hour.
func roundStart(start, now time.Time) int64 {
	grain := int64(60)
	switch age := now.Sub(start); {
	case age > keepFiveMinutes:
		grain = 3600
	case age > keepMinutes:
		grain = 300
	}
	return floor(start.Unix(), grain)
}

// kept is the earliest time for which points of a period are still kept.
func kept(period, now int64) int64 {
	switch {
	case period%3600 == 0:
		return now - int64(keepHours.Seconds())
	case period%300 == 0:
		return now - int64(keepFiveMinutes.Seconds())
	default:
		return now - int64(keepMinutes.Seconds())
	}
}

func floor(t, grain int64) int64 {
	r := t % grain
	if r < 0 {
		r += grain
	}
	return t - r
}

// clip moves from to the first bucket that is kept whole.
func (q *query) clip() {
	if oldest := kept(q.period, q.now); q.from < oldest {
		q.from += (oldest - q.from + q.period - 1) / q.period * q.period
	}
}

// series computes the buckets that have data, in order.
func (s *service) series(q query, want stat) []sample {
	q.clip()
	if q.from >= q.to {
		return nil
	}
	put := storeOf(q.place).within(q.id, q.from, q.to)
	host, metric, ok := s.derived(q)
	switch {
	case !ok:
		return bucket(nil, put, q)
	case len(put) == 0 && want == statSum && metric != workload.CPU && q.from%q.period == 0 &&
		q.period%host.Life.Resolution() == 0:
		return s.fastSum(q, host, metric)
	}
	base := host.Life.Resolution()
	points := host.Series(nil, metric, floor(q.from, base), q.to, base, s.published(q.now, base))
	samples := make([]sample, 0, len(points))
	for _, p := range points {
		samples = append(samples, sample{at: p.At, n: 1, sum: p.Value, min: p.Value, max: p.Value})
	}
	return bucket(samples, put, q)
}

// fastSum takes the sums in closed form; the number of points in a bucket does not matter to it.
func (s *service) fastSum(q query, host *workload.Host, m workload.Metric) []sample {
	points := make([]workload.Point, 0, (q.to-q.from+q.period-1)/q.period)
	points = host.Series(points, m, q.from, q.to, q.period, s.published(q.now, host.Life.Resolution()))
	out := make([]sample, len(points))
	for i, p := range points {
		out[i] = sample{at: p.At, n: 1, sum: p.Value, min: p.Value, max: p.Value}
	}
	return out
}

// published is the end of the last base period that CloudWatch already shows.
func (s *service) published(now, base int64) int64 { return floor(now-int64(s.delay.Seconds()), base) }

// derived finds the instance whose workload the metric describes: AWS/EC2 with the dimension InstanceId and no other.
func (s *service) derived(q query) (*workload.Host, workload.Metric, bool) {
	namespace, name, dims := q.id.parts()
	if namespace != "AWS/EC2" || len(dims) != 1 || dims[0].name != "InstanceId" {
		return nil, "", false
	}
	host, ok := s.hosts.Host(q.place, dims[0].value)
	return host, workload.Metric(name), ok
}

// bucket merges base samples into the buckets of the query. A sample that was put replaces the derived ones of its time.
func bucket(derived, put []sample, q query) []sample {
	replaced := make(map[int64]bool, len(put))
	for _, p := range put {
		replaced[floor(p.at, 300)] = true
	}
	var out []sample
	add := func(p sample) {
		if p.at < q.from || p.at >= q.to {
			return
		}
		at := q.from + (p.at-q.from)/q.period*q.period
		if len(out) == 0 || out[len(out)-1].at != at {
			out = append(out, sample{at: at})
		}
		out[len(out)-1].merge(p)
	}
	for len(derived) > 0 || len(put) > 0 {
		if len(put) == 0 || (len(derived) > 0 && derived[0].at <= put[0].at) {
			if !replaced[floor(derived[0].at, 300)] {
				add(derived[0])
			}
			derived = derived[1:]
		} else {
			add(put[0])
			put = put[1:]
		}
	}
	return out
}
