package cloudwatch

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// getMetricData fills a page with whole series in the order of the queries. The series that does not fit is cut and goes
// on in the next page; later ones are named with no points and PartialData, as they are not complete.
func (s *service) getMetricData(sc scope, w *wire.Writer) error {
	r, err := parseDataRequest(sc.params, sc.now)
	if err != nil {
		return err
	}
	labels := labelsOf(r.queries)
	room, next, full := r.limit, r.page, false
	w.List("MetricDataResults", func() {
		for i := r.page.Query; i < len(r.queries); i++ {
			q := r.queries[i]
			var rest []sample
			if !full && !q.hidden {
				rest = s.pageOf(sc, r, i)
			}
			switch {
			case full && q.hidden:
			case full:
				writeSeries(w, q, labels[i], nil, "PartialData")
			case len(rest) > room:
				writeSeries(w, q, labels[i], rest[:room], "PartialData")
				next.Query, next.Offset = i, r.offset(i)+room
				full = true
			default:
				if !q.hidden {
					writeSeries(w, q, labels[i], rest, "Complete")
				}
				room -= len(rest)
				next.Query, next.Offset = i+1, 0
			}
		}
	})
	if full {
		w.Str("NextToken", writeToken(next))
	}
	w.List("Messages", func() {})
	return nil
}

// offset is how many points of query i earlier pages have returned.
func (r *dataRequest) offset(i int) int {
	if i == r.page.Query {
		return r.page.Offset
	}
	return 0
}

// pageOf computes the points of query i that no earlier page has returned.
func (s *service) pageOf(sc scope, r dataRequest, i int) []sample {
	q := r.queries[i]
	now := time.Unix(r.page.Now, 0)
	points := s.series(query{
		place: sc.place, id: q.metric, period: q.period, now: r.page.Now,
		from: roundStart(r.start, now), to: r.end.Unix(),
	}, q.stat)
	if !r.ascending {
		slices.Reverse(points)
	}
	return points[min(r.offset(i), len(points)):]
}

func writeSeries(w *wire.Writer, q metricQuery, label string, points []sample, status string) {
	w.Struct("", func() {
		w.Str("Id", q.id)
		w.Str("Label", label)
		w.List("Timestamps", func() {
			for _, p := range points {
				w.Time("", time.Unix(p.at, 0))
			}
		})
		w.List("Values", func() {
			for _, p := range points {
				w.Float("", q.stat.of(p))
			}
		})
		w.Str("StatusCode", status)
	})
}

// labelsOf gives each series the label asked for, else the metric's name, with the dimensions' values in front where
// several series share it.
func labelsOf(queries []metricQuery) []string {
	names := map[string]int{}
	for _, q := range queries {
		_, name, _ := q.metric.parts()
		names[name]++
	}
	out := make([]string, len(queries))
	for i, q := range queries {
		_, name, dims := q.metric.parts()
		switch {
		case q.label != "":
			out[i] = q.label
		case names[name] == 1 || len(dims) == 0:
			out[i] = name
		default:
			values := make([]string, len(dims))
			for j, d := range dims {
				values[j] = d.value
			}
			out[i] = strings.Join(values, " ")
			if len(names) > 1 {
				out[i] += " " + name
			}
		}
	}
	return out
}

// getMetricStatistics answers for one metric, with several statistics, in no promised order (here: by time).
func (s *service) getMetricStatistics(sc scope, w *wire.Writer) error {
	p := sc.params
	for _, name := range []string{"Namespace", "MetricName"} {
		if p.Str(name) == "" {
			return missing(name)
		}
	}
	dims, err := parseDimensions(p.Items("Dimensions"))
	if err != nil {
		return err
	}
	start, end, err := parseRange(p, combination)
	if err != nil {
		return err
	}
	period, err := parsePeriod(p, "Period")
	if err != nil {
		return err
	}
	var stats []stat
	for _, name := range p.Strings("Statistics") {
		if !stat(name).valid() {
			return parameterValue("The value %s for parameter Statistics is invalid.", name)
		}
		stats = append(stats, stat(name))
	}
	if len(stats) == 0 {
		return combination("At least one of the parameters Statistics and ExtendedStatistics must be specified. " +
			"The simulator computes no percentiles.")
	}
	if n := (end.Unix() - start.Unix() + period - 1) / period; n > maxStatisticsPoints {
		return combination("You have requested up to %s datapoints, which exceeds the limit of %s. You may reduce the "+
			"datapoints requested by increasing Period, or decreasing the time range.", thousands(n), thousands(maxStatisticsPoints))
	}
	points := s.series(query{
		place: sc.place, id: idOf(p.Str("Namespace"), p.Str("MetricName"), dims), period: period,
		from: roundStart(start, sc.now), to: end.Unix(), now: sc.now.Unix(),
	}, statAverage)
	w.Str("Label", p.Str("MetricName"))
	w.List("Datapoints", func() {
		for _, pt := range points {
			w.Struct("", func() {
				w.Time("Timestamp", time.Unix(pt.at, 0))
				for _, st := range stats {
					w.Float(string(st), st.of(pt))
				}
				w.Str("Unit", unitOf(p.Str("MetricName")))
			})
		}
	})
	return nil
}

func unitOf(metric string) string {
	switch metric {
	case "CPUUtilization":
		return "Percent"
	case "MetadataNoToken", "MetadataNoTokenRejected", "StatusCheckFailed", "StatusCheckFailed_Instance":
		return "Count"
	default:
		return "None"
	}
}

func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
