package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// rules takes over what the configuration says of a rollout as a whole.
func rules(c *policy.Config) Rules {
	r, g := c.Rollout, c.Gates
	return Rules{
		MaxInFlight: r.MaxInFlight, MaxInFlightAccount: r.MaxInFlightAccount,
		MaxStacks: r.Concurrency, MaxStacksAccount: r.ConcurrencyAccount,
		MaxFailures: r.MaxFailures.Stack, MaxFailedStacks: r.MaxFailures.Wave, HaltOnFailure: r.OnFailure == policy.Halt,
		AccountFailures: r.MaxFailures.Account, TotalFailures: r.MaxFailures.Total,
		Irreversible: r.Irreversible == policy.Allow,
		MaxRejected:  int64(g.MaxRejected), StatusChecks: g.StatusChecks,
		Heartbeat: g.Heartbeat != policy.HeartbeatNone, MetricDelay: g.Delay, GateInterval: g.Every(), GatePatience: g.Patience,
		GroupHealth: g.GroupHealth, TargetHealth: g.TargetHealth, Gates: furtherGates(g),
	}
}

// furtherGates lists the gates of the configuration in the order in which matchingGates numbers them.
func furtherGates(g policy.Gates) []Gate {
	var out []Gate
	for _, a := range g.Alarms {
		out = append(out, Gate{Type: GateAlarm, Name: a.Name, Alarms: a.Alarms})
	}
	for _, c := range g.Commands {
		out = append(out, Gate{Type: GateCommand, Name: c.Name, Run: c.Run, Timeout: cmp.Or(c.Timeout, policy.DefaultGateTimeout)})
	}
	for _, w := range g.Webhooks {
		out = append(out, Gate{Type: GateWebhook, Name: w.Name, URL: w.URL, SecretEnv: w.SecretEnv,
			Timeout: cmp.Or(w.Timeout, policy.DefaultGateTimeout)})
	}
	return out
}

// gates lists the further gates of a stack.
func (b *Builder) gates(facts policy.StackFacts) []int {
	g := b.config.Gates
	var out []int
	n := 0
	take := func(m policy.StackMatch) {
		if m.Matches(facts) {
			out = append(out, n)
		}
		n++
	}
	for _, a := range g.Alarms {
		take(a.Match)
	}
	for _, c := range g.Commands {
		take(c.Match)
	}
	for _, w := range g.Webhooks {
		take(w.Match)
	}
	return out
}

// opensWithin is how soon a calendar must let something start: what never does is a mistake, not a plan.
const opensWithin = 400 * 24 * time.Hour

// calendar numbers, from 1, the calendar of a place; 0 is any time. A calendar that does not open is an error that says so.
func (b *Builder) calendar(p Proposal, placement policy.Placement) (int, error) {
	c := b.config.CalendarFor(policy.PlaceFacts{Account: p.Account, Criticality: placement.Criticality, Region: p.Report.Place.Region})
	if c.IsZero() {
		return 0, nil
	}
	if made := b.plan.Header.Created; !c.StartsWithin(made, opensWithin) {
		return 0, fleet.Diagnostic{Severity: fleet.SeverityError, Where: p.Report.Place.String(),
			Summary: fmt.Sprintf("no change could start here for more than 400 days: %s", c.At(made).Why),
			Remedy:  "Correct `windows` and `freezes`; to leave an account out, use its `skip`."}
	}
	for i, known := range b.calendars {
		if equal(known, c) {
			return i + 1, nil
		}
	}
	b.calendars = append(b.calendars, c)
	return len(b.calendars), nil
}

func equal(x, y policy.Calendar) bool {
	return slices.Equal(x.Freezes, y.Freezes) && slices.EqualFunc(x.Windows, y.Windows, func(v, w policy.Window) bool {
		return v.Name == w.Name && v.From == w.From && v.To == w.To && v.Zone == w.Zone && slices.Equal(v.Days, w.Days)
	})
}

// orderCalendars puts the calendars in the order in which the stacks need them, which does not depend on the order in
// which places were added.
func (b *Builder) orderCalendars() {
	number := map[int]int{0: 0}
	for i := range b.plan.Stacks {
		s := &b.plan.Stacks[i]
		if _, ok := number[s.Calendar]; !ok {
			b.plan.Header.Calendars = append(b.plan.Header.Calendars, b.calendars[s.Calendar-1])
			number[s.Calendar] = len(b.plan.Header.Calendars)
		}
		s.Calendar = number[s.Calendar]
	}
}

// Warnings say what a person should think about before approving the plan that Finish gave: accounts in which breakage
// matters, watched for less than it takes to show.
func (b *Builder) Warnings() []fleet.Diagnostic {
	type short struct {
		stacks int
		bake   time.Duration
	}
	found := map[policy.Criticality]*short{}
	for _, s := range b.plan.Stacks {
		least := time.Duration(-1)
		for _, step := range s.Steps {
			if step.Stage == StageFleet && (least < 0 || step.Bake < least) {
				least = step.Bake
			}
		}
		if s.Criticality.Rank() < policy.High.Rank() || least < 0 || least >= policy.LifeOfCredentials {
			continue
		}
		if found[s.Criticality] == nil {
			found[s.Criticality] = &short{bake: least}
		}
		f := found[s.Criticality]
		f.stacks, f.bake = f.stacks+1, min(f.bake, least)
	}
	var out []fleet.Diagnostic
	for _, c := range policy.Criticalities() {
		if f := found[c]; f != nil {
			out = append(out, fleet.Diagnostic{Severity: fleet.SeverityWarning, Where: "bake." + string(c),
				Summary: fmt.Sprintf("%d of the stacks in accounts of %s criticality are watched for only %s after a step, but credentials "+
					"live for six hours, so a break can show later than that", f.stacks, c, f.bake),
				Remedy: "Set it to 6h or more, and make the plan again, or accept that."})
		}
	}
	return out
}

// asJSON writes what a parameter of a change holds.
func asJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}
