package cloudwatch

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// alarmPage is how many alarms DescribeAlarms returns when not told otherwise.
const alarmPage = 50

// Alarm is a metric alarm whose state the test or the demo sets: nothing evaluates it.
type Alarm struct {
	Name        string
	Description string
	Namespace   string
	MetricName  string
	// State is OK, ALARM or INSUFFICIENT_DATA.
	State   string
	Reason  string
	Updated time.Time
}

// SetAlarm creates the alarm in a place, or replaces the one of that name.
func SetAlarm(p *core.Place, a Alarm) {
	p.With(func(time.Time) { storeOf(p).alarms[a.Name] = a })
}

// describeAlarms lists metric alarms by name, prefix and state.
func (s *service) describeAlarms(sc scope, w *wire.Writer) error {
	p := sc.params
	names := p.Strings("AlarmNames")
	limit, set, err := p.Int("MaxRecords")
	if err != nil || (set && (limit < 1 || limit > 100)) {
		return validation("The parameter MaxRecords must be between 1 and 100.")
	}
	if !set {
		limit = alarmPage
	}
	var after string
	if token := p.Str("NextToken"); token != "" {
		if err := readToken(token, &after); err != nil {
			return invalidToken()
		}
	}
	types := p.Strings("AlarmTypes")
	var found []Alarm
	alarms := storeOf(sc.place).alarms
	for _, name := range slices.Sorted(maps.Keys(alarms)) {
		a := alarms[name]
		switch {
		case a.Name <= after,
			len(names) > 0 && !slices.Contains(names, a.Name),
			len(types) > 0 && !slices.Contains(types, "MetricAlarm"),
			!strings.HasPrefix(a.Name, p.Str("AlarmNamePrefix")),
			p.Has("StateValue") && p.Str("StateValue") != a.State:
		default:
			found = append(found, a)
		}
	}
	page := found[:min(len(found), int(limit))]
	w.List("MetricAlarms", func() {
		for _, a := range page {
			writeAlarm(w, sc.place, a)
		}
	})
	w.List("CompositeAlarms", func() {})
	if len(page) < len(found) {
		w.Str("NextToken", writeToken(page[len(page)-1].Name))
	}
	return nil
}

func writeAlarm(w *wire.Writer, place *core.Place, a Alarm) {
	w.Struct("", func() {
		w.Str("AlarmName", a.Name)
		w.Str("AlarmArn", "arn:"+string(place.Partition)+":cloudwatch:"+string(place.Region)+":"+string(place.Account)+
			":alarm:"+a.Name)
		w.Opt("AlarmDescription", a.Description)
		w.Bool("ActionsEnabled", true)
		w.Str("StateValue", a.State)
		w.Opt("StateReason", a.Reason)
		w.Time("StateUpdatedTimestamp", a.Updated)
		w.Opt("Namespace", a.Namespace)
		w.Opt("MetricName", a.MetricName)
	})
}
