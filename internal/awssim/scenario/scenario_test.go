package scenario_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awssim/scenario"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

var now = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func organization(t *testing.T, o scenario.Options) (*core.World, *clock.Manual, scenario.Summary) {
	t.Helper()
	c := clock.NewManual(now)
	w := awssim.New(awssim.Options{Clock: c, Seed: 7})
	sum, err := scenario.Organization(w, o)
	if err != nil {
		t.Fatal(err)
	}
	return w, c, sum
}

// each visits all instances there are, and not those that EC2 has forgotten.
func each(w *core.World, visit func(p *core.Place, i *ec2.Instance)) {
	for _, p := range w.Places() {
		p.View(func(time.Time) {
			for i := range ec2.StoreOf(p).Instances() {
				visit(p, i)
			}
		})
	}
}

func TestOrganizationIsBelievable(t *testing.T) {
	w, _, sum := organization(t, scenario.Options{})
	if len(sum.Accounts) < 12 || len(sum.Regions) != 4 || sum.Instances < 3000 || sum.Past < 300 || sum.Groups < 60 {
		t.Fatalf("%+v: want 12 accounts, 4 regions, 3,000 instances, 300 past ones and 60 groups at least", sum)
	}
	units := map[string]int{}
	for _, a := range w.Accounts() {
		units[a.OU]++
	}
	for _, u := range []string{"Sandbox", "Development", "Staging", "Production", "Security", "Shared"} {
		if units[u] == 0 {
			t.Errorf("no account in %s", u)
		}
	}
	count := map[string]int{}
	each(w, func(p *core.Place, i *ec2.Instance) {
		st := i.Newest()
		count["all"]++
		count["state "+st.State]++
		count["tokens "+st.Options.Tokens]++
		count["endpoint "+st.Options.Endpoint]++
		if st.Operator != nil && st.Operator.Hidden {
			count["hidden"]++
		}
		h := programs.HostOf(p, i)
		v1 := 0.0
		for _, pt := range h.Series(nil, workload.NoToken, now.Unix()-14*86400, now.Unix(), 3600, now.Unix()) {
			v1 += pt.Value
		}
		if v1 > 0 {
			count["v1"]++
		}
		if len(h.Programs) == 0 && st.Options.Endpoint == fleet.Enabled {
			t.Errorf("%s runs no program", i.ID())
		}
		for _, f := range h.Faults(now.Unix()) {
			t.Errorf("%s: %s is broken before anything was done: %s", i.ID(), f.Program, f.Why)
		}
	})
	t.Log(sum, count)
	if count["all"] != sum.Instances {
		t.Errorf("%d instances, the summary says %d", count["all"], sum.Instances)
	}
	for key, least := range map[string]int{
		"state stopped": 3, "tokens required": 250, "tokens optional": 1500, "endpoint disabled": 3, "v1": 300, "hidden": 2,
	} {
		if count[key] < least {
			t.Errorf("%s: %d, want at least %d", key, count[key], least)
		}
	}
	if count["v1"]*2 > count["all"] {
		t.Errorf("%d of %d instances call v1: the majority should be clean", count["v1"], count["all"])
	}
}

func TestOrganizationIsDeterministic(t *testing.T) {
	print := func() string {
		w, _, sum := organization(t, scenario.Options{Seed: 3, Instances: 400})
		var b strings.Builder
		fmt.Fprintln(&b, sum)
		each(w, func(p *core.Place, i *ec2.Instance) {
			fmt.Fprintln(&b, p.Place, i.ID(), i.Newest().LaunchTime, i.Newest().Tags)
		})
		return b.String()
	}
	if a, b := print(), print(); a != b {
		t.Error("the same options gave different organizations")
	}
}

func TestGroupsHaveBootsWithinTheEvidence(t *testing.T) {
	w, _, _ := organization(t, scenario.Options{})
	window := now.AddDate(0, 0, -14)
	for _, p := range w.Places() {
		p.View(func(now time.Time) {
			asg := autoscaling.StoreOf(p)
			for _, name := range asg.Groups() {
				boots := 0
				for _, id := range asg.Members(name) {
					if ec2.StoreOf(p).Instance(id).Newest().LaunchTime.After(window) {
						boots++
					}
				}
				if boots == 0 {
					t.Errorf("%s %s: no boot within the last 14 days", p.Place, name)
				}
			}
		})
	}
}

func TestSurprise(t *testing.T) {
	const after = 90 * time.Minute
	w, c, sum := organization(t, scenario.Options{Surprises: []scenario.Surprise{{Account: "payments-dev", After: after}}})
	if len(sum.Surprises) != 1 || !strings.HasPrefix(sum.Surprises[0], "payments-dev/eu-west-1/report-archiver") {
		t.Fatalf("surprises %v", sum.Surprises)
	}
	var place *core.Place
	var members []*ec2.Instance
	each(w, func(p *core.Place, i *ec2.Instance) {
		if app, _ := ec2.TagValue(i.Newest().Tags, "app"); app != "report-archiver" {
			return
		}
		place, members = p, append(members, i)
		h := programs.HostOf(p, i)
		for _, pt := range h.Series(nil, workload.NoToken, now.Unix()-14*86400, now.Unix(), 3600, now.Unix()) {
			if pt.Value > 0 {
				t.Errorf("%s: %v v1 calls at %s: it should look clean", i.ID(), pt.Value, time.Unix(pt.At, 0))
			}
		}
	})
	if len(members) < 2 {
		t.Fatalf("%d instances", len(members))
	}
	place.With(func(now time.Time) {
		i := members[0]
		ec2.StoreOf(place).SetOptions(now, i, fleet.Options{Tokens: "required"}.Over(i.Newest().Options))
	})
	c.Advance(after - time.Minute)
	if h := programs.Health(w); len(h.Broken) != 0 {
		t.Errorf("broken before its time: %+v", h.Broken)
	}
	c.Advance(time.Minute)
	h := programs.Health(w)
	if len(h.Broken) != 1 || h.Broken[0].Instance != members[0].ID() || h.Broken[0].Program != "archive-reports" ||
		!h.Broken[0].Since.Equal(now.Add(after)) {
		t.Fatalf("after %s: %+v, want the one instance that was changed", after, h.Broken)
	}
	c.Advance(6 * time.Minute)
	place.View(func(now time.Time) {
		if got := ec2.StoreOf(place).StatusAt(members[0], now); got != ec2.StatusImpaired {
			t.Errorf("status %s, want impaired", got)
		}
		host := programs.HostOf(place, members[0])
		if pts := host.Series(nil, workload.NoTokenRejected, now.Unix()-7200, now.Unix(), 60, now.Unix()); len(pts) != 1 || pts[0].Value != 6 {
			t.Errorf("rejected points %v, want one of six", pts)
		}
	})
}

func TestRefusesImpossibleOptions(t *testing.T) {
	for _, o := range []scenario.Options{
		{Surprises: []scenario.Surprise{{Account: "nowhere", After: time.Hour}}},
		{Surprises: []scenario.Surprise{{Account: "data-dev", After: 20 * 24 * time.Hour}}},
	} {
		if _, err := scenario.Organization(awssim.New(awssim.Options{}), o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	if _, err := scenario.Fleet(awssim.New(awssim.Options{}), scenario.FleetOptions{Instances: 10}); err == nil {
		t.Error("a fleet without accounts was accepted")
	}
}

func TestLargerOrganizations(t *testing.T) {
	for _, n := range []int{12, 20, 60} {
		_, _, sum := organization(t, scenario.Options{Accounts: n, Instances: 1000})
		if len(sum.Accounts) != n {
			t.Errorf("%d accounts, want %d", len(sum.Accounts), n)
		}
	}
}

func TestOtherPartition(t *testing.T) {
	w, _, _ := organization(t, scenario.Options{Instances: 300, Regions: []fleet.Region{"us-gov-west-1", "us-gov-east-1"}})
	n := 0
	each(w, func(p *core.Place, i *ec2.Instance) {
		n++
		if p.Partition != fleet.PartitionGov || !strings.HasPrefix(i.Newest().ProfileARN, "arn:aws-us-gov:iam::") {
			t.Errorf("%s: %s", p.Place, i.Newest().ProfileARN)
		}
	})
	if n < 250 {
		t.Errorf("%d instances", n)
	}
}

func TestFleet(t *testing.T) {
	w := awssim.New(awssim.Options{Clock: clock.NewManual(now)})
	sum, err := scenario.Fleet(w, scenario.FleetOptions{Instances: 10_000, Accounts: 10, Regions: 4, Replaced: 2})
	if err != nil {
		t.Fatal(err)
	}
	if sum.Past != 2*sum.Groups {
		t.Errorf("%d instances were replaced in %d groups", sum.Past, sum.Groups)
	}
	if sum.Instances != 10_000 || len(sum.Accounts) != 10 || len(sum.Regions) != 4 || sum.Groups != 10*4*12 {
		t.Errorf("%+v", sum)
	}
	count := map[string]int{}
	each(w, func(p *core.Place, i *ec2.Instance) {
		count[i.Newest().Options.Tokens]++
		if now.Sub(i.Newest().LaunchTime) < 13*24*time.Hour {
			count["booted"]++
		}
		sdk, _ := ec2.TagValue(i.Newest().Tags, "sdk")
		count[sdk]++
		if len(programs.HostOf(p, i).Programs) != 1 {
			t.Fatalf("%s runs %d programs", i.ID(), len(programs.HostOf(p, i).Programs))
		}
	})
	if count["booted"] != sum.Past {
		t.Errorf("%d booted lately, after %d were replaced", count["booted"], sum.Past)
	}
	if count["required"] == 0 || count["legacy"] == 0 || count["modern"] < 7*count["legacy"]/2 {
		t.Errorf("%v", count)
	}
}

// BenchmarkFleet reports the memory that an instance takes.
func BenchmarkFleet(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		w := awssim.New(awssim.Options{Clock: clock.NewManual(now)})
		if _, err := scenario.Fleet(w, scenario.FleetOptions{Instances: n, Accounts: 50, Regions: 4}); err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/instance")
		runtime.KeepAlive(w)
	}
}
