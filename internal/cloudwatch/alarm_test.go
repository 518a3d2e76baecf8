package cloudwatch_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/imdsctl/imdsctl/internal/cloudwatch"
)

// TestAlarms reads more names than go into a call, in pages of one, of both types of alarms.
func TestAlarms(t *testing.T) {
	for _, protocol := range []cloudwatch.Protocol{cloudwatch.ProtocolCBOR, cloudwatch.ProtocolJSON} {
		t.Run(string(protocol), func(t *testing.T) {
			f, calls := newFake(t), 0
			f.alarms = func(in map[string]any) map[string]any {
				calls++
				names, types := in["AlarmNames"].([]any), in["AlarmTypes"].([]any)
				if len(names) > 100 || len(types) != 2 {
					t.Errorf("asked for %d names of types %v", len(names), types)
				}
				page := map[string]any{}
				if in["NextToken"] == nil { // the first of the call is metric, on a page of its own; the rest is composite
					page["MetricAlarms"], page["NextToken"] = alarms(names[:1], "OK"), fmt.Sprint(calls)
					return page
				}
				page["CompositeAlarms"] = alarms(names[1:], "ALARM")
				return page
			}
			var names []string
			for n := range 150 {
				names = append(names, fmt.Sprintf("alarm-%03d", n))
			}
			got, err := f.client(protocol).Alarms(t.Context(), names)
			if err != nil || len(got) != 150 || calls != 4 {
				t.Fatalf("%d alarms in %d calls, %v; want 150 in 4", len(got), calls, err)
			}
			if a := got["alarm-100"]; a.Name != "alarm-100" || a.State != "OK" || a.Reason != "because" || !a.Since.Equal(now) {
				t.Errorf("%+v", a)
			}
			if a := got["alarm-149"]; a.State != "ALARM" || !a.Since.Equal(now) {
				t.Errorf("%+v, want it in alarm", a)
			}
		})
	}
}

func alarms(names []any, state string) []any {
	var out []any
	for _, name := range names {
		out = append(out, map[string]any{"AlarmName": name, "StateValue": state, "StateReason": "because",
			"StateUpdatedTimestamp": now})
	}
	return out
}

func TestAlarmsWithoutAnEnd(t *testing.T) {
	f := newFake(t)
	f.alarms = func(map[string]any) map[string]any { return map[string]any{"NextToken": "again"} }
	if got, err := f.client("").Alarms(t.Context(), []string{"a"}); !errors.Is(err, cloudwatch.ErrIncomplete) {
		t.Errorf("gave %v, %v", got, err)
	}
}
