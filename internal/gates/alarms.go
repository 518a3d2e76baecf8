package gates

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/imdsctl/imdsctl/internal/cloudwatch"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// kindAlarm is the kind of an alarm in readings. It is no kind that imdsctl changes.
const kindAlarm = "cloudwatch-alarm"

// alarms reads alarms of the stack's account and region. One in the state ALARM fails, and so does one that does not
// exist: a gate with a misspelt name would guard nothing. One without enough data passes and is noted.
func (x *examination) alarms(ctx context.Context, client *cloudwatch.Client, g plan.Gate) error {
	if len(g.Alarms) == 0 {
		return errors.New("it names no alarm")
	}
	names := slices.Compact(slices.Sorted(slices.Values(g.Alarms)))
	found, err := client.Alarms(ctx, names)
	if err != nil {
		return err
	}
	gate, reason, quiet, unknown := nameOf(g), "", 0, 0
	for _, name := range names {
		ref := fleet.Ref{Place: x.q.Place, Kind: kindAlarm, ID: name}
		a, ok := found[name]
		bad := ""
		switch {
		case !ok:
			bad = fmt.Sprintf("there is no alarm %s in %s", name, x.q.Place)
			x.single(gate, ref, false, "does not exist")
		case a.State == string(types.StateValueOk):
			quiet++
			x.single(gate, ref, true, a.State)
		case a.State == string(types.StateValueInsufficientData):
			unknown++
			x.single(gate, ref, true, a.State)
		default:
			bad = fmt.Sprintf("alarm %s in %s is in the state %s since %s", name, x.q.Place, a.State, clockTime(a.Since))
			x.single(gate, ref, false, a.State+" since "+clockTime(a.Since)+after(a.Reason))
		}
		if reason == "" {
			reason = bad
		}
	}
	value := fmt.Sprintf("%d of %d alarms are OK", quiet, len(names))
	if unknown > 0 {
		value += fmt.Sprintf(", %d have too little data", unknown)
	}
	x.whole(gate, reason == "", value, reason)
	return nil
}

func after(text string) string {
	if text == "" {
		return ""
	}
	return ": " + oneLine([]byte(text))
}
