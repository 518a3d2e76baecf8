package lightsail

import (
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
)

// metricUnits are the metrics with their published units (API reference, GetInstanceMetricData). Those that the simulator
// computes have one of the workload's; the others have no points.
var metricUnits = map[string]struct {
	unit string
	of   workload.Metric
}{
	"BurstCapacityPercentage":    {unit: "Percent"},
	"BurstCapacityTime":          {unit: "Seconds"},
	"CPUUtilization":             {"Percent", workload.CPU},
	"MetadataNoToken":            {"Count", workload.NoToken},
	"NetworkIn":                  {unit: "Bytes"},
	"NetworkOut":                 {unit: "Bytes"},
	"StatusCheckFailed":          {"Count", workload.StatusCheckFailed},
	"StatusCheckFailed_Instance": {"Count", workload.StatusCheckFailedInstance},
	"StatusCheckFailed_System":   {unit: "Count"},
}

// base is the granularity of the metrics, in seconds.
const base = 300

// mostPoints is what one answer holds at most, as CloudWatch's GetMetricStatistics, whose interface it is.
const mostPoints = 1440

func (s *service) metricData(c *core.Call) error {
	i, err := named(c)
	if err != nil {
		return err
	}
	name := c.In.Str("metricName")
	metric, ok := metricUnits[name]
	period, periodSet, periodErr := c.In.Int("period")
	start, startSet, startErr := c.In.Time("startTime")
	end, endSet, endErr := c.In.Time("endTime")
	statistics := c.In.Strings("statistics")
	switch {
	case !ok:
		return invalid("Value '%s' at 'metricName' is not a metric that the simulator knows.", name)
	case periodErr != nil || !periodSet || period < 60 || period > 86400 || period%60 != 0:
		return invalid("Value at 'period' must be a multiple of 60 from 60 to 86400.")
	case startErr != nil || endErr != nil || !startSet || !endSet || !start.Before(end):
		return invalid("startTime and endTime must be there, and startTime before endTime.")
	case end.Sub(start) > mostPoints*time.Duration(period)*time.Second:
		return invalid("The request would give more than %d datapoints.", mostPoints)
	case len(statistics) == 0:
		return invalid("Value at 'statistics' must have at least one element.")
	}
	for _, st := range statistics {
		if !slices.Contains([]string{"Minimum", "Maximum", "Sum", "Average", "SampleCount"}, st) {
			return invalid("Value '%s' at 'statistics' is not known.", st)
		}
	}
	var points []bucket
	if metric.of != "" && c.In.Str("unit") == metric.unit {
		points = s.points(c, i, metric.of, start.Unix(), end.Unix(), period)
	}
	c.Out.Str("metricName", name)
	c.Out.List("metricData", func() {
		for _, b := range points {
			c.Out.Struct("", func() { b.write(c, statistics, metric.unit) })
		}
	})
	return nil
}

// bucket is one datapoint: the samples of a period.
type bucket struct {
	at             int64
	n              int
	sum, low, high float64
}

func (b bucket) write(c *core.Call, statistics []string, unit string) {
	for _, st := range statistics {
		c.Out.Float(map[string]string{
			"Minimum": "minimum", "Maximum": "maximum", "Sum": "sum", "Average": "average", "SampleCount": "sampleCount",
		}[st], map[string]float64{
			"Minimum": b.low, "Maximum": b.high, "Sum": b.sum, "Average": b.sum / float64(b.n), "SampleCount": float64(b.n),
		}[st])
	}
	c.Out.Time("timestamp", time.Unix(b.at, 0).UTC())
	c.Out.Str("unit", unit)
}

// points are the buckets that begin at from + k × period, rounded down to the minute, and have samples.
func (s *service) points(c *core.Call, i *instance, m workload.Metric, from, to, period int64) []bucket {
	from -= from % 60
	shown := c.Now.Add(-s.delay).Unix()
	shown -= shown % base
	var out []bucket
	for _, p := range s.host(c.Place, i).Series(nil, m, from-from%base, to-to%base+base, base, shown) {
		if p.At < from || p.At >= to {
			continue
		}
		at := from + (p.At-from)/period*period
		if len(out) == 0 || out[len(out)-1].at != at {
			out = append(out, bucket{at: at, low: p.Value, high: p.Value})
		}
		b := &out[len(out)-1]
		b.n, b.sum, b.low, b.high = b.n+1, b.sum+p.Value, min(b.low, p.Value), max(b.high, p.Value)
	}
	return out
}
