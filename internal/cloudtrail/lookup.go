package cloudtrail

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
)

// DefaultLookupEvents is how many events are looked at in one place: ten seconds, at two calls a second of fifty events each.
const DefaultLookupEvents = 1000

// LookupKept is how long LookupEvents knows an event ("Working with CloudTrail Event history").
const LookupKept = 90 * 24 * time.Hour

// Lookup says what LookupEvents is asked for.
type Lookup struct {
	Span Span
	// Most is how many events are looked at, the newest first; 0 is DefaultLookupEvents.
	Most int
	// Instance asks for one instance's events only; empty for all.
	Instance string
}

// Looked is what a look-up came to. More tells that there were more events than were looked at.
type Looked struct {
	Result
	More bool
}

// LookupEvents gives those of the newest management events of a place whose credentials the metadata service delivered. There is no
// way to ask for those alone, and data events are not among them: what it gives is a sample. The error is a *fleet.CallError.
func LookupEvents(ctx context.Context, session *awsx.Session, l Lookup, yield func(Record)) (Looked, error) {
	var out Looked
	most := l.Most
	if most <= 0 {
		most = DefaultLookupEvents
	}
	client := sdk.NewFromConfig(session.Config())
	in := &sdk.LookupEventsInput{MaxResults: aws.Int32(int32(min(50, most)))}
	if !l.Span.From.IsZero() {
		in.StartTime = &l.Span.From
	}
	if !l.Span.To.IsZero() {
		in.EndTime = aws.Time(l.Span.To.Add(-time.Second)) // both ends are included, to the second
	}
	if l.Instance != "" {
		in.LookupAttributes = []types.LookupAttribute{{
			AttributeKey: types.LookupAttributeKeyUsername, AttributeValue: &l.Instance, // the session's name
		}}
	}
	for seen := 0; ; {
		page, err := client.LookupEvents(ctx, in)
		if err != nil {
			return out, fmt.Errorf("look up events: %w", awsx.Plain(err))
		}
		for _, e := range page.Events {
			seen++
			out.take([]byte(aws.ToString(e.CloudTrailEvent)), l.Span, yield)
		}
		if in.NextToken = page.NextToken; aws.ToString(in.NextToken) == "" {
			return out, nil
		}
		if seen >= most {
			out.More = true
			return out, nil
		}
	}
}
