package cloudwatch

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
)

// Alarm is the state of a metric alarm or a composite one.
type Alarm struct {
	Name string
	// State is OK, ALARM or INSUFFICIENT_DATA, as CloudWatch writes it.
	State string
	// Reason is CloudWatch's sentence about the state.
	Reason string
	// Since is when the alarm took this state.
	Since time.Time
}

// alarmsPerCall is how many names DescribeAlarms takes, and how many alarms it gives at once.
const alarmsPerCall = 100

// Alarms looks alarms up by name, metric and composite ones. An alarm that does not exist is not in the answer.
func (c *Client) Alarms(ctx context.Context, names []string) (map[string]Alarm, error) {
	found := make(map[string]Alarm, len(names))
	for chunk := range slices.Chunk(names, alarmsPerCall) {
		// Without types, CloudWatch leaves composite alarms out.
		in := &sdk.DescribeAlarmsInput{AlarmNames: chunk, MaxRecords: aws.Int32(alarmsPerCall),
			AlarmTypes: []types.AlarmType{types.AlarmTypeMetricAlarm, types.AlarmTypeCompositeAlarm}}
		for {
			out, err := c.api.DescribeAlarms(ctx, in)
			if err != nil {
				return nil, fmt.Errorf("look up %d alarms in %s: %w", len(chunk), c.place, awsx.Plain(err))
			}
			for _, a := range out.MetricAlarms {
				found[aws.ToString(a.AlarmName)] = Alarm{aws.ToString(a.AlarmName), string(a.StateValue),
					aws.ToString(a.StateReason), aws.ToTime(a.StateUpdatedTimestamp)}
			}
			for _, a := range out.CompositeAlarms {
				found[aws.ToString(a.AlarmName)] = Alarm{aws.ToString(a.AlarmName), string(a.StateValue),
					aws.ToString(a.StateReason), aws.ToTime(a.StateUpdatedTimestamp)}
			}
			if aws.ToString(out.NextToken) == "" {
				break
			}
			if aws.ToString(in.NextToken) == *out.NextToken {
				return nil, fmt.Errorf("look up %d alarms in %s: %w", len(chunk), c.place, errSamePage)
			}
			in.NextToken = out.NextToken
		}
	}
	return found, nil
}
