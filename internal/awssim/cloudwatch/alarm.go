package cloudwatch

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// alarmPage is how many alarms DescribeAlarms returns when not told otherwise.
const alarmPage = 50

// Alarm is an alarm whose state the test or the demo sets: nothing evaluates it.
type Alarm struct {
	Name        string
	Description string
	Namespace   string
	MetricName  string
	// State is OK, ALARM or INSUFFICIENT_DATA.
	State   string
	Reason  string
	Updated time.Time
	// Composite alarms combine others; they are listed only where a request asks for their type.
	Composite bool
}

// SetAlarm creates the alarm in a place, or replaces the one of that name.
func SetAlarm(p *core.Place, a Alarm) {
	p.With(func(time.Time) { storeOf(p).alarms[a.Name] = a })
}

// describeAlarms lists alarms by name, prefix and state; composite ones where AlarmTypes has them.
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
			!asked(types, a.Composite),
			!strings.HasPrefix(a.Name, p.Str("AlarmNamePrefix")),
			p.Has("StateValue") && p.Str("StateValue") != a.State:
		default:
			found = append(found, a)
		}
	}
	page := found[:min(len(found), int(limit))]
	for _, l := range []struct {
		name      string
		composite bool
	}{{"MetricAlarms", false}, {"CompositeAlarms", true}} {
		w.List(l.name, func() {
			for _, a := range page {
				if a.Composite == l.composite {
					writeAlarm(w, sc.place, a)
				}
			}
		})
	}
	if len(page) < len(found) {
		w.Str("NextToken", writeToken(page[len(page)-1].Name))
	}
	return nil
}

// asked tells whether a request for some types of alarms is for one: metric alarms where it names no type.
func asked(types []string, composite bool) bool {
	if composite {
		return slices.Contains(types, "CompositeAlarm")
	}
	return len(types) == 0 || slices.Contains(types, "MetricAlarm")
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
		if a.Composite {
			w.Str("AlarmRule", "TRUE")
			return
		}
		w.Opt("Namespace", a.Namespace)
		w.Opt("MetricName", a.MetricName)
	})
}

// seedAlarm is an alarm of a seed's section "cloudwatch", and of the simulator's own POST /_sim/alarms.
type seedAlarm struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	State       string `json:"state,omitempty"` // OK when empty
	Reason      string `json:"reason,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	MetricName  string `json:"metric,omitempty"`
	Composite   bool   `json:"composite,omitempty"`
}

func (s seedAlarm) set(p *core.Place, now time.Time) error {
	state := cmp.Or(s.State, "OK")
	if s.Name == "" || !slices.Contains([]string{"OK", "ALARM", "INSUFFICIENT_DATA"}, state) {
		return fmt.Errorf("alarm %q: want a name, and the state OK, ALARM or INSUFFICIENT_DATA, not %q", s.Name, state)
	}
	storeOf(p).alarms[s.Name] = Alarm{
		Name: s.Name, Description: s.Description, State: state, Reason: s.Reason, Namespace: s.Namespace, MetricName: s.MetricName,
		Composite: s.Composite, Updated: now,
	}
	return nil
}

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in struct {
		Alarms []seedAlarm `json:"alarms"`
	}
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	for n, a := range in.Alarms {
		if err := a.set(p, p.World().Now()); err != nil {
			return fmt.Errorf("%s.alarms[%d]: %w", path, n, err)
		}
	}
	return nil
}

// serveAlarm makes an alarm or moves it to another state.
func serveAlarm(w *core.World, rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	var in struct {
		Account fleet.AccountID `json:"account"`
		Region  fleet.Region    `json:"region"`
		Alarm   seedAlarm       `json:"alarm"`
	}
	if err == nil {
		err = core.DecodeStrict("alarms", body, &in)
	}
	var p *core.Place
	if err == nil {
		p, err = w.Place(in.Account, in.Region)
	}
	if err == nil {
		p.With(func(now time.Time) { err = in.Alarm.set(p, now) })
	}
	if err != nil {
		http.Error(rw, strings.TrimSpace(err.Error()), http.StatusBadRequest)
		return
	}
	rw.WriteHeader(http.StatusNoContent)
}
