package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Observation is the history of one instance.
type Observation struct {
	Subject fleet.Ref
	// NoToken and Rejected hold the datapoints that came; nil where none could be asked for. With a Gap, a count in them
	// is real all the same, and the coverage shows what is not known.
	NoToken, Rejected *evidence.Window
	// Gap says why the history is not known completely; nil if it is.
	Gap error
}

// History reads both metrics of instances through a span and yields each instance once, in order, as soon as its batch
// is there. It holds one batch in memory.
//
// A batch that fails by itself yields its instances with a Gap. What would fail for all of them (denied, credentials,
// region disabled, cancelled) ends the reading with the error, and the instances not yielded are unknown. An error of
// yield ends it too.
func (c *Client) History(
	ctx context.Context, subjects []fleet.Ref, span evidence.Span, yield func(Observation) error,
) error {
	return c.read(ctx, subjects, []metric{noToken, rejected}, span, yield)
}

// LookBack reads the successful calls alone through a long span, in the manner of History.
func (c *Client) LookBack(
	ctx context.Context, subjects []fleet.Ref, span evidence.Span, yield func(Observation) error,
) error {
	return c.read(ctx, subjects, []metric{noToken}, span, yield)
}

// read reads metrics, successful calls first.
func (c *Client) read(
	ctx context.Context, subjects []fleet.Ref, metrics []metric, span evidence.Span, yield func(Observation) error,
) error {
	if err := c.check(subjects); err != nil {
		return err
	}
	n := len(metrics)
	for batch := range slices.Chunk(subjects, batchSize(span, n, 1)) {
		all, err := c.query(ctx, batch, metrics, span)
		if err != nil && endsReading(ctx, err) {
			return err
		}
		for i, subject := range batch {
			o := Observation{Subject: subject, Gap: err}
			if err == nil {
				o = observe(subject, span, all[n*i:n*(i+1)])
			}
			if err := yield(o); err != nil {
				return err
			}
		}
	}
	return nil
}

func observe(subject fleet.Ref, span evidence.Span, of []*series) Observation {
	o := Observation{Subject: subject}
	for _, s := range of {
		w, gap := s.window(subject, span)
		if s.metric == rejected {
			o.Rejected = w
		} else {
			o.NoToken = w
		}
		o.Gap = errors.Join(o.Gap, gap)
	}
	return o
}

// check refuses subjects of another place: their metrics are not here, and empty answers would look like quiet.
func (c *Client) check(subjects []fleet.Ref) error {
	for _, s := range subjects {
		if s.Place != c.place {
			return fmt.Errorf("read metrics in %s: %s is elsewhere", c.place, s)
		}
	}
	return nil
}

// endsReading tells an error that the next batch would meet as well.
func endsReading(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	switch fleet.ClassOf(err) {
	case fleet.ErrDenied, fleet.ErrExpired, fleet.ErrRegionDisabled, fleet.ErrNotOffered:
		return true
	default:
		return false
	}
}

// Reporters lists the instances that reported either metric in the last two weeks, terminated ones included, by id.
// With an error the list is nil: a part of it would look like the whole.
func (c *Client) Reporters(ctx context.Context) ([]string, error) {
	found := map[string]bool{}
	for _, m := range []metric{noToken, rejected} {
		pages := sdk.NewListMetricsPaginator(c.api, &sdk.ListMetricsInput{
			Namespace: aws.String(namespace), MetricName: aws.String(m.name),
			Dimensions: []types.DimensionFilter{{Name: aws.String(dimension)}},
		}, func(o *sdk.ListMetricsPaginatorOptions) { o.StopOnDuplicateToken = true })
		last := ""
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, fmt.Errorf("list the instances with the metric %s: %w", m.name, awsx.Plain(err))
			}
			for _, metric := range page.Metrics {
				if len(metric.Dimensions) == 1 && aws.ToString(metric.Dimensions[0].Name) == dimension {
					found[aws.ToString(metric.Dimensions[0].Value)] = true
				}
			}
			token := aws.ToString(page.NextToken)
			if token != "" && token == last {
				return nil, fmt.Errorf("list the instances with the metric %s: %w", m.name, errSamePage)
			}
			last = token
		}
	}
	out := make([]string, 0, len(found))
	for id := range found {
		out = append(out, id)
	}
	slices.Sort(out)
	return out, nil
}
