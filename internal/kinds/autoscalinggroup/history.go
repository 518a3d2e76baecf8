package autoscalinggroup

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// History reads the scaling activities of all groups, deleted ones included. AWS keeps six weeks of them and gives the
// newest first, so that an instance's end comes before its launch: they are joined in memory, and emitted in the order
// in which they ended, the latest first.
func (d *driver) History(ctx context.Context, since time.Time, emit func(inventory.Resource) error) error {
	in := &autoscaling.DescribeScalingActivitiesInput{
		IncludeDeletedGroups: aws.Bool(true),
		MaxRecords:           aws.Int32(kind.PageSize(ctx, mostRecords)),
		Filters: []types.Filter{{
			Name: aws.String("StartTimeLowerBound"), Values: []string{since.UTC().Format(time.RFC3339)},
		}},
	}
	var past lives
	for {
		out, err := d.client.DescribeScalingActivities(ctx, in)
		if err != nil {
			return fmt.Errorf("read the scaling activities since %s: %w", since.UTC().Format(time.RFC3339), awsx.Plain(err))
		}
		for i := range out.Activities {
			past.add(&out.Activities[i], since)
		}
		if aws.ToString(out.NextToken) == "" {
			break
		}
		in.NextToken = out.NextToken
	}
	for _, id := range past.ended {
		if err := emit(d.terminated(id, past.groups[id], past.launched[id], past.endedAt[id])); err != nil {
			return err
		}
	}
	return nil
}

func (d *driver) terminated(id, group string, launched, ended time.Time) inventory.Resource {
	ref := fleet.Ref{Place: d.place, Kind: inventory.KindInstance, ID: id}
	return inventory.Resource{
		Ref: ref, Status: inventory.StatusTerminated, Launched: launched, State: fleet.State{},
		// A day is enough, and those that ended on one share what is stored of them.
		Attrs: map[string]string{inventory.AttrEnded: ended.UTC().Format(time.DateOnly)},
		Owner: fleet.Owner{Type: fleet.OwnerAutoScaling, Name: group},
		Links: []inventory.Link{{
			Relation: inventory.MemberOf, To: ref.Sibling(inventory.KindAutoScaling, group),
		}},
	}
}

// lives joins activities to instances.
type lives struct {
	ended    []string
	groups   map[string]string
	launched map[string]time.Time
	endedAt  map[string]time.Time
}

func (l *lives) add(a *types.Activity, since time.Time) {
	if l.groups == nil {
		l.groups, l.launched, l.endedAt = map[string]string{}, map[string]time.Time{}, map[string]time.Time{}
	}
	start := aws.ToTime(a.StartTime)
	id, began, ok := parseActivity(aws.ToString(a.Description))
	if !ok || a.StatusCode != types.ScalingActivityStatusCodeSuccessful || start.Before(since) {
		return
	}
	if began {
		l.launched[id] = start
		return
	}
	if _, seen := l.groups[id]; !seen {
		l.groups[id], l.endedAt[id] = aws.ToString(a.AutoScalingGroupName), start
		l.ended = append(l.ended, id)
	}
}

var activity = regexp.MustCompile(`(?s)^(Launching a new|Terminating) EC2 instance: (i-[0-9a-f]{8,17})(?:[ .,].*)?$`)

// parseActivity reads an activity's description, the only place that names the instance: "Launching a new EC2 instance:
// i-0abc" and "Terminating EC2 instance: i-0abc", sometimes with a reason after it.
func parseActivity(description string) (id string, launched, ok bool) {
	m := activity.FindStringSubmatch(description)
	if m == nil {
		return "", false, false
	}
	return m[2], m[1] == "Launching a new", true
}
