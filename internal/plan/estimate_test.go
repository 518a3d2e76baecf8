package plan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// drawn is a plan drawn by hand: per stack one step with so many changes of one call each.
func drawn(rules plan.Rules, bake time.Duration, changes ...int) *plan.Plan {
	p := &plan.Plan{Header: plan.Header{Created: now, Rules: rules, Waves: []plan.Wave{{Name: "all"}}}}
	for i, n := range changes {
		id := fmt.Sprintf("s-%d", i)
		p.Stacks = append(p.Stacks, plan.Stack{ID: id, Name: id, Place: place, Steps: []plan.Step{{Name: "fleet", Changes: n, Bake: bake}}})
		for k := range n {
			p.Changes = append(p.Changes, plan.Change{ID: fmt.Sprintf("c-%d-%d", i, k), Stack: id, Ref: ref(inventory.KindInstance, fmt.Sprintf("i-%d-%d", i, k)),
				Class: plan.ClassSet, Calls: map[string]int{"ec2:Modify": 1}})
		}
	}
	return p
}

func rate(burst, refill float64) plan.Rates {
	return func(string) (float64, float64) { return burst, refill }
}

func TestEstimate(t *testing.T) {
	const step = 5 * time.Second
	for _, tt := range []struct {
		name  string
		plan  *plan.Plan
		rates plan.Rates
		want  time.Duration
		limit string
	}{
		{"nothing to wait for but the bake", drawn(plan.Rules{}, time.Hour, 10), rate(100, 1), step + time.Hour, ""},
		{"an empty bucket", drawn(plan.Rules{}, time.Hour, 160), rate(100, 1), time.Minute + step + time.Hour, "ec2:Modify in " + place.String()},
		{"side by side", drawn(plan.Rules{}, time.Hour, 10, 10, 10), rate(100, 1), step + time.Hour, ""},
		{"one after the other", drawn(plan.Rules{MaxStacks: 1}, time.Hour, 10, 10, 10), rate(100, 1), 3 * (step + time.Hour), ""},
		{"two at a time in the account", drawn(plan.Rules{MaxStacksAccount: 2}, time.Hour, 10, 10, 10), rate(100, 1), 2 * (step + time.Hour), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := plan.NewEstimate(tt.plan, tt.rates)
			if e.Duration() != tt.want || e.Limit != tt.limit {
				t.Errorf("%s, limited by %q; want %s, %q", e.Duration(), e.Limit, tt.want, tt.limit)
			}
			if len(e.Waves) != 1 || !e.Waves[0].End.Equal(e.End) {
				t.Errorf("waves %+v", e.Waves)
			}
		})
	}
}

// Rings, waves and predecessors follow each other; windows are waited for.
func TestEstimateOrder(t *testing.T) {
	const bake = time.Hour
	unit := 5*time.Second + bake
	p := drawn(plan.Rules{}, bake, 1, 1, 1, 1)
	p.Stacks[1].Ring = 1
	p.Stacks[2].After = []string{"s-0"}
	p.Header.Waves = append(p.Header.Waves, plan.Wave{Name: "later"})
	p.Stacks[3].Wave = 1
	if got := plan.NewEstimate(p, rate(100, 1)).Duration(); got != 4*unit {
		// s-0, then s-2 after it in the same ring, then the ring of s-1, then the wave of s-3
		t.Errorf("takes %s, want %s", got, 4*unit)
	}
	p = drawn(plan.Rules{}, bake, 1)
	start := now.Add(3 * time.Hour).Truncate(time.Hour)
	p.Header.Calendars = []policy.Calendar{{Windows: []policy.Window{{Name: "soon", Days: []string{strings.ToLower(start.Weekday().String()[:3])},
		From: start.Format("15:04"), To: start.Add(time.Hour).Format("15:04"), Zone: "UTC"}}}}
	p.Stacks[0].Calendar = 1
	if got, want := plan.NewEstimate(p, rate(100, 1)).Duration(), start.Sub(now)+unit; got != want {
		t.Errorf("with a window it takes %s, want %s", got, want)
	}
}

// The cost of the gates follows from their interval and the number of instances.
func TestEstimateCountsGates(t *testing.T) {
	p := drawn(plan.Rules{GateInterval: 10 * time.Minute, Heartbeat: true, StatusChecks: true}, time.Hour, 300)
	e := plan.NewEstimate(p, rate(1000, 10))
	// Seven readings of two metrics of 300 instances, two calls each; statuses a hundred at a time.
	if e.Metrics != 7*600 || e.GateCalls["cloudwatch:GetMetricData"] != 14 || e.GateCalls["ec2:DescribeInstanceStatus"] != 21 {
		t.Errorf("%+v", e)
	}
	if e.Dollars < 0.0419 || e.Dollars > 0.0421 {
		t.Errorf("$%f", e.Dollars)
	}
}

// A large plan of single stacks is estimated in one go, and no stack is left out.
func TestEstimateOfManyStacks(t *testing.T) {
	counts := make([]int, 20_000)
	for i := range counts {
		counts[i] = 1
	}
	p := drawn(plan.Rules{MaxStacks: 100, MaxStacksAccount: 10}, time.Hour, counts...)
	for i := range p.Stacks {
		p.Stacks[i].Place.Account = fleet.AccountID(fmt.Sprintf("1111222233%02d", i%20))
	}
	e := plan.NewEstimate(p, rate(1000, 100))
	if got, want := e.Duration(), 200*(time.Hour+5*time.Second); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
