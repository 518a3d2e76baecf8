package cloudwatch

import (
	"fmt"
	"strings"

	"github.com/imdsctl/imdsctl/internal/evidence"
)

// MicrodollarsPerMetric is the price of one metric requested by GetMetricData: $0.01 per 1,000, in most regions, with
// no free tier ("Amazon CloudWatch Pricing", APIs). A few regions charge a little more.
const MicrodollarsPerMetric = 10

// Cost is what reading a history takes.
type Cost struct {
	Instances int64
	Metrics   int64 // requested; this is what AWS charges for
	Calls     int64 // of GetMetricData, if each answers in one page
	Dollars   float64
	Span      evidence.Span
}

// Estimate tells what History will take, from the number of instances in each place. Batches do not cross places.
func Estimate(span evidence.Span, instances ...int) Cost { return estimate(span, 2, instances) }

// EstimateLookBack tells what LookBack will take. The price does not grow with the span, only the number of calls.
func EstimateLookBack(span evidence.Span, instances ...int) Cost { return estimate(span, 1, instances) }

func estimate(span evidence.Span, metrics int, instances []int) Cost {
	c := Cost{Span: span}
	batch := batchSize(span, metrics, 1)
	for _, n := range instances {
		c.Instances += int64(n)
		c.Calls += int64((n + batch - 1) / batch)
	}
	c.Metrics = int64(metrics) * c.Instances
	c.Dollars = float64(c.Metrics*MicrodollarsPerMetric) / 1e6
	return c
}

// String shows the arithmetic: "3,000 instances × 2 metrics = 6,000 metrics at $0.01 per 1,000 = $0.06, in 12 calls".
func (c Cost) String() string {
	each := int64(0)
	if c.Instances > 0 {
		each = c.Metrics / c.Instances
	}
	unit := "metrics"
	if each == 1 {
		unit = "metric"
	}
	return fmt.Sprintf("%s instances × %d %s = %s metrics at $0.01 per 1,000 = $%.2f, in %s calls",
		thousands(c.Instances), each, unit, thousands(c.Metrics), c.Dollars, thousands(c.Calls))
}

func thousands(n int64) string {
	digits := fmt.Sprint(n)
	var out strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(d)
	}
	return out.String()
}
