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
func Estimate(span evidence.Span, instances ...int) Cost {
	c := Cost{Span: span}
	batch := batchSize(span, 2, 1)
	for _, n := range instances {
		c.Instances += int64(n)
		c.Calls += int64((n + batch - 1) / batch)
	}
	c.Metrics = 2 * c.Instances
	c.Dollars = float64(c.Metrics*MicrodollarsPerMetric) / 1e6
	return c
}

// String shows the arithmetic: "3,000 instances × 2 metrics = 6,000 metrics at $0.01 per 1,000 = $0.06, in 12 calls".
func (c Cost) String() string {
	return fmt.Sprintf("%s instances × 2 metrics = %s metrics at $0.01 per 1,000 = $%.2f, in %s calls",
		thousands(c.Instances), thousands(c.Metrics), c.Dollars, thousands(c.Calls))
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
