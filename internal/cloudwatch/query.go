package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Limits of GetMetricData, from its API reference.
const (
	queriesPerCall   = 500
	datapointsAPage  = 100_800
	longestPageChain = 10_000 // of one call; more is a server that never ends
)

// batchSize is how many instances go into a call: as many as queries allow, and no more than make one full page. series
// is the number of queries an instance takes, and filled how many of those can have a point in the same period: an
// instance reports MetadataNoToken or MetadataNoTokenRejected, not both.
func batchSize(span evidence.Span, series, filled int) int {
	return max(1, min(queriesPerCall/series, datapointsAPage/max(1, span.Slots*filled)))
}

// series is what CloudWatch said of one metric of one instance.
type series struct {
	subject int // index in the batch
	metric  metric
	times   []time.Time
	values  []float64
	status  types.StatusCode
	notes   []string
	heard   bool
}

// ErrIncomplete is what a Gap wraps when CloudWatch answered but not completely.
var ErrIncomplete = errors.New("CloudWatch's answer is incomplete")

var errSamePage = fmt.Errorf("%w: the same page token came twice", ErrIncomplete)

// query reads some metrics of some instances, all pages of one call.
func (c *Client) query(
	ctx context.Context, subjects []fleet.Ref, metrics []metric, span evidence.Span,
) ([]*series, error) {
	in, byID := input(subjects, metrics, span)
	all := make([]*series, 0, len(byID))
	for i := range in.MetricDataQueries {
		all = append(all, byID[*in.MetricDataQueries[i].Id])
	}
	// CloudWatch counts the points that a request could return, empty ones included.
	ctx = awsx.Charge(ctx, awsx.DatapointsBucket, float64(len(all)*span.Slots))
	var general []string
	for range longestPageChain {
		out, err := c.api.GetMetricData(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("read the metrics of %d instances: %w", len(subjects), awsx.Plain(err))
		}
		general = append(general, messages(out.Messages)...)
		for i := range out.MetricDataResults {
			if s, ok := byID[aws.ToString(out.MetricDataResults[i].Id)]; ok {
				s.add(&out.MetricDataResults[i])
			}
		}
		if aws.ToString(out.NextToken) == "" {
			for _, s := range all {
				s.notes = append(s.notes, general...)
			}
			return all, nil
		}
		if aws.ToString(in.NextToken) == *out.NextToken {
			return nil, fmt.Errorf("read the metrics of %d instances: %w", len(subjects), errSamePage)
		}
		in.NextToken = out.NextToken
	}
	return nil, fmt.Errorf("read the metrics of %d instances: %w after %d pages",
		len(subjects), ErrIncomplete, longestPageChain)
}

func input(subjects []fleet.Ref, metrics []metric, span evidence.Span) (*sdk.GetMetricDataInput, map[string]*series) {
	input := &sdk.GetMetricDataInput{
		StartTime: aws.Time(span.Start), EndTime: aws.Time(span.End()), ScanBy: types.ScanByTimestampAscending,
	}
	byID := make(map[string]*series, len(subjects)*len(metrics))
	for i, subject := range subjects {
		for _, m := range metrics {
			id := fmt.Sprintf("%s%d", m.id, i)
			byID[id] = &series{subject: i, metric: m}
			input.MetricDataQueries = append(input.MetricDataQueries, types.MetricDataQuery{
				Id: &id, ReturnData: aws.Bool(true),
				MetricStat: &types.MetricStat{
					Metric: &types.Metric{
						Namespace: aws.String(namespace), MetricName: aws.String(m.name),
						Dimensions: []types.Dimension{{Name: aws.String(dimension), Value: aws.String(subject.ID)}},
					},
					Period: seconds(span.Period), Stat: aws.String(m.stat),
				},
			})
		}
	}
	return input, byID
}

// add takes one page's part of the series. The last page's status counts.
func (s *series) add(r *types.MetricDataResult) {
	s.heard, s.status = true, r.StatusCode
	s.notes = append(s.notes, messages(r.Messages)...)
	if len(r.Timestamps) != len(r.Values) {
		s.notes = append(s.notes, fmt.Sprintf("%d times but %d values", len(r.Timestamps), len(r.Values)))
		return
	}
	if s.times == nil { // almost always there is one page, and no need for a copy
		s.times, s.values = r.Timestamps, r.Values
		return
	}
	s.times = append(s.times, r.Timestamps...)
	s.values = append(s.values, r.Values...)
}

// gap tells why the series is not complete; nil if it is.
func (s *series) gap() error {
	switch {
	case !s.heard:
		return fmt.Errorf("%s: %w: it does not mention the metric", s.metric.name, ErrIncomplete)
	case s.status != types.StatusCodeComplete:
		return fmt.Errorf("%s: %w: status %q%s", s.metric.name, ErrIncomplete, s.status, after(s.notes))
	case len(s.notes) > 0:
		return fmt.Errorf("%s: %w%s", s.metric.name, ErrIncomplete, after(s.notes))
	default:
		return nil
	}
}

// window makes a window of the series and tells what is wrong with it.
func (s *series) window(subject fleet.Ref, span evidence.Span) (*evidence.Window, error) {
	w := evidence.NewWindow(subject, evidence.SourceCloudWatch, evidence.Metric(s.metric.name), span)
	gap := s.gap()
	for i, at := range s.times {
		count, err := wholeCalls(s.values[i])
		if err == nil {
			err = w.Add(at, count)
		}
		if err != nil {
			gap = errors.Join(gap, fmt.Errorf("%s: %w", s.metric.name, err))
		}
	}
	return w, gap
}

// wholeCalls reads a sum of calls. A fraction is rounded up, so that what is not zero stays so.
func wholeCalls(v float64) (int64, error) {
	if math.IsNaN(v) || v < 0 || v > 1<<53 {
		return 0, fmt.Errorf("%w: %v is no number of calls", ErrIncomplete, v)
	}
	return int64(math.Ceil(v)), nil
}

func messages(in []types.MessageData) []string {
	var out []string
	for _, m := range in {
		out = append(out, strings.TrimSpace(aws.ToString(m.Code)+" "+aws.ToString(m.Value)))
	}
	return out
}

func after(notes []string) string {
	if len(notes) == 0 {
		return ""
	}
	return ": " + strings.Join(notes, "; ")
}
