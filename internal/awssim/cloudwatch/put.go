package cloudwatch

import (
	"fmt"
	"math"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Limits of PutMetricData.
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
const (
	maxPutMetrics = 1_000
	maxPutValues  = 150
	oldestPut     = 14 * 24 * time.Hour
	newestPut     = 2 * time.Hour
)

// putMetricData stores points. Unlike AWS it takes the namespace AWS/EC2 too, and points of any age, so that a test can
// give an instance an explicit history through any client.
func (s *service) putMetricData(sc scope, _ *wire.Writer) error {
	namespace := sc.params.Str("Namespace")
	if namespace == "" {
		return missing("Namespace")
	}
	items := sc.params.Items("MetricData")
	if len(items) == 0 && !sc.params.Has("EntityMetricData") {
		return missing("MetricData")
	}
	for _, e := range sc.params.Items("EntityMetricData") {
		items = append(items, e.Items("MetricData")...)
	}
	if len(items) > maxPutMetrics {
		return parameterValue("The collection MetricData must not have a size greater than %d.", maxPutMetrics)
	}
	type point struct {
		id     metricID
		at     time.Time
		sample sample
	}
	var points []point // all or nothing
	for i, item := range items {
		where := fmt.Sprintf("MetricData.member.%d", i+1)
		if item.Str("MetricName") == "" {
			return missing(where + ".MetricName")
		}
		dims, err := parseDimensions(item.Items("Dimensions"))
		if err != nil {
			return err
		}
		at, set, err := item.Time("Timestamp")
		if err != nil {
			return err
		}
		if !set {
			at = sc.now
		}
		if age := sc.now.Sub(at); age < -newestPut || (age > oldestPut && namespace != "AWS/EC2") {
			return parameterValue("The parameter %s.Timestamp must specify a time within the past two weeks, and no more "+
				"than two hours in the future.", where)
		}
		v, err := parseSample(item, where)
		if err != nil {
			return err
		}
		points = append(points, point{idOf(namespace, item.Str("MetricName"), dims), at, v})
	}
	for _, p := range points {
		storeOf(sc.place).put(p.id, p.at, p.sample)
	}
	sc.call.Mutated()
	return nil
}

// parseSample reads one of Value, Values with Counts, and StatisticValues.
func parseSample(v wire.Value, where string) (sample, error) {
	if value, set, err := v.Float("Value"); err != nil {
		return sample{}, err
	} else if set {
		return sample{n: 1, sum: value, min: value, max: value}, finite(value, where)
	}
	if v.Has("StatisticValues") {
		set := v.Get("StatisticValues")
		var out sample
		for name, to := range map[string]*float64{
			"SampleCount": &out.n, "Sum": &out.sum, "Minimum": &out.min, "Maximum": &out.max,
		} {
			n, ok, err := set.Float(name)
			if err != nil {
				return out, err
			}
			if !ok {
				return out, missing(where + ".StatisticValues." + name)
			}
			*to = n
		}
		if out.n <= 0 {
			return out, parameterValue("The parameter %s.StatisticValues.SampleCount must be greater than 0.", where)
		}
		return out, nil
	}
	return parseValues(v, where)
}

func parseValues(v wire.Value, where string) (sample, error) {
	values, counts := v.Items("Values"), v.Items("Counts")
	if len(values) == 0 {
		return sample{}, missing(where + ".Value")
	}
	if len(values) > maxPutValues || (len(counts) > 0 && len(counts) != len(values)) {
		return sample{}, parameterValue("The collections %s.Values and Counts must have the same size, of at most %d.",
			where, maxPutValues)
	}
	var out sample
	for i, item := range values {
		value, _, err := wire.Fields(map[string]wire.Value{"Value": item}).Float("Value")
		if err != nil {
			return out, err
		}
		count := 1.0
		if len(counts) > 0 {
			if count, _, err = wire.Fields(map[string]wire.Value{"Count": counts[i]}).Float("Count"); err != nil {
				return out, err
			}
		}
		if count <= 0 {
			return out, parameterValue("The parameter %s.Counts must be greater than 0.", where)
		}
		out.merge(sample{n: count, sum: value * count, min: value, max: value})
		if err := finite(value, where); err != nil {
			return out, err
		}
	}
	return out, nil
}

func finite(v float64, where string) error {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return parameterValue("The value for parameter %s.Value is not a finite number.", where)
	}
	return nil
}

func missing(name string) error {
	return &wire.Error{
		Code: "MissingParameter", Shape: "MissingRequiredParameterException",
		Message: "The parameter " + name + " is required.",
	}
}

func parameterValue(format string, args ...any) error {
	return &wire.Error{
		Code: "InvalidParameterValue", Shape: "InvalidParameterValueException", Message: fmt.Sprintf(format, args...),
	}
}

func combination(format string, args ...any) error {
	return &wire.Error{
		Code: "InvalidParameterCombination", Shape: "InvalidParameterCombinationException",
		Message: fmt.Sprintf(format, args...),
	}
}
