package gates_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	simcloudwatch "github.com/imdsctl/imdsctl/internal/awssim/cloudwatch"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	simec2 "github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/elbv2"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/gates"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// place runs f in the simulated place.
func (w *world) place(t *testing.T, f func(p *core.Place, now time.Time) error) {
	t.Helper()
	p, err := w.Place(here.Account, here.Region)
	if err != nil {
		t.Fatal(err)
	}
	p.With(func(now time.Time) { err = f(p, now) })
	if err != nil {
		t.Fatal(err)
	}
}

// group makes an Auto Scaling group of the hosts, and lets it launch what is missing.
func (w *world) group(t *testing.T, name string, least, desired int, hosts ...int) {
	t.Helper()
	w.place(t, func(p *core.Place, now time.Time) error {
		s := autoscaling.StoreOf(p)
		if err := s.PutConfig(autoscaling.Config{Name: "config-" + name, ImageID: image, InstanceType: "m5.large", Created: now}); err != nil {
			return err
		}
		if err := s.Create(now, name, autoscaling.Spec{Min: least, Max: 9, Desired: desired, Zones: []string{"eu-west-1a"},
			Source: autoscaling.Source{Config: "config-" + name}}); err != nil {
			return err
		}
		for _, n := range hosts {
			if err := s.Attach(name, simec2.StoreOf(p).Instance(id(n)), 0); err != nil {
				return err
			}
		}
		return s.Act(name, now)
	})
}

func (w *world) targetGroup(t *testing.T, g elbv2.TargetGroup) {
	t.Helper()
	w.place(t, func(p *core.Place, _ time.Time) error {
		_, err := elbv2.StoreOf(p).Put(g)
		return err
	})
}

func (w *world) force(t *testing.T, group string, n int, state string) {
	t.Helper()
	w.place(t, func(p *core.Place, _ time.Time) error { return elbv2.StoreOf(p).Force(group, id(n), state) })
}

func groupRef(name string) fleet.Ref {
	return fleet.Ref{Place: here, Kind: inventory.KindAutoScaling, ID: name}
}

// find gives the readings of a gate, of one subject where one is named.
func find(res engine.GateResult, gate, subject string) []engine.Reading {
	return slices.DeleteFunc(slices.Clone(res.Readings),
		func(r engine.Reading) bool { return r.Gate != gate || subject != "*" && r.Subject.ID != subject })
}

// mustNote finds a reading that passes and says the words.
func mustNote(t *testing.T, res engine.GateResult, gate, subject string, words ...string) {
	t.Helper()
	if !res.Pass {
		t.Fatalf("the gates fail: %s", res.Reason)
	}
	for _, r := range find(res, gate, subject) {
		if r.Pass && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(r.Value, w) }) {
			return
		}
	}
	t.Errorf("no passing reading of %s for %q says %q: %+v", gate, subject, words, find(res, gate, "*"))
}

func (w *world) groupQuery(hosts ...int) engine.GateQuery {
	q := w.query(hosts...)
	q.Rules = plan.Rules{GroupHealth: true}
	return q
}

func TestGroupHealth(t *testing.T) {
	member := `, "tags": {"aws:autoscaling:groupName": "web"}`
	for _, c := range []struct {
		name    string
		least   int
		desired int
		do      func(*testing.T, *world)
		fails   []string // words of the reason; passes where there are none
		notes   []string // words of the group's reading
	}{
		{name: "whole", least: 1, desired: 2, notes: []string{"2 of 2 in service"}},
		{name: "unhealthy", least: 1, desired: 2, fails: []string{"web", id(1), "unhealthy"}, do: func(t *testing.T, w *world) {
			w.place(t, func(p *core.Place, _ time.Time) error { return autoscaling.StoreOf(p).SetHealth(id(1), false) })
		}},
		{name: "growing", least: 2, desired: 2, notes: []string{"2 of 4 in service", "2 starting"}, do: func(t *testing.T, w *world) {
			w.place(t, func(p *core.Place, now time.Time) error { return autoscaling.StoreOf(p).SetDesired("web", now, 4) })
		}},
		{name: "shrinking", least: 1, desired: 2, notes: []string{"1 of 1 in service"}, do: func(t *testing.T, w *world) {
			w.place(t, func(p *core.Place, now time.Time) error { return autoscaling.StoreOf(p).SetDesired("web", now, 1) })
		}},
		{name: "below its minimum", least: 2, desired: 2, fails: []string{"web", "1 in service", "minimum of 2"}, do: func(t *testing.T, w *world) {
			w.end(t, 2)
		}},
		{name: "short of what it wants", least: 0, desired: 2, fails: []string{"web", "1 in service", "wants 2"}, do: func(t *testing.T, w *world) {
			w.place(t, func(p *core.Place, _ time.Time) error { return autoscaling.StoreOf(p).SetHealth(id(2), false) })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, host(1, "required", 1, member), host(2, "required", 1, member))
			w.group(t, "web", c.least, c.desired, 1, 2)
			w.clock.Advance(time.Minute)
			if c.do != nil {
				c.do(t, w)
			}
			q := w.groupQuery(1) // the group is found by its member
			res := w.read(t, q)
			if len(c.fails) > 0 {
				mustFail(t, res, gates.GateGroup, c.fails...)
				return
			}
			mustNote(t, res, gates.GateGroup, "web", c.notes...)
		})
	}
}

// TestGroupOfATagAlone: an instance whose tag names a group that does not have it belongs to none.
func TestGroupOfATagAlone(t *testing.T) {
	for _, name := range []string{"web", "gone"} {
		w := newWorld(t, host(1, "required", 1, `, "tags": {"aws:autoscaling:groupName": "`+name+`"}`))
		w.group(t, "web", 0, 0)
		mustNote(t, w.read(t, w.groupQuery(1)), gates.GateGroup, "", "no Auto Scaling group")
	}
}

// end terminates a host behind its group's back. Its replacement is not there yet when gates are read next.
func (w *world) end(t *testing.T, n int) {
	t.Helper()
	if _, err := w.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id(n)}}); err != nil {
		t.Fatal(err)
	}
}

func TestGroupHealthOfNamedGroups(t *testing.T) {
	w := newWorld(t, host(1, "required", 1, ""))
	w.group(t, "web", 0, 1)
	w.clock.Advance(time.Minute)
	q := w.groupQuery(1)
	mustNote(t, w.read(t, q), gates.GateGroup, "", "no Auto Scaling group")
	q.Groups = []fleet.Ref{groupRef("web"), groupRef("gone")}
	res := w.read(t, q)
	mustNote(t, res, gates.GateGroup, "web", "1 of 1")
	mustNote(t, res, gates.GateGroup, "gone", "no more")
	q.Rules.GroupHealth = false
	if res := w.read(t, q); len(find(res, gates.GateGroup, "*")) > 0 {
		t.Errorf("read although it was not asked for: %+v", res.Readings)
	}
}

func (w *world) targetQuery(hosts ...int) engine.GateQuery {
	q := w.query(hosts...)
	q.Rules = plan.Rules{TargetHealth: true}
	return q
}

// TestTargetHealthFollowsTheWorkload: a load balancer sees a broken program before EC2 does.
func TestTargetHealthFollowsTheWorkload(t *testing.T) {
	w := newWorld(t, host(1, "optional", 1, ""), host(2, "optional", 1, ""))
	w.deploy(t, workload.Program{Speaks: workload.V1Only, Essential: true, ImpairedAfter: time.Hour},
		workload.Where{Instances: []string{id(1)}})
	w.targetGroup(t, elbv2.TargetGroup{Name: "checkout", Port: 8080, Instances: []string{id(1), id(2)}})
	mustNote(t, w.read(t, w.targetQuery(1, 2)), gates.GateTarget, "", "2 of 2")
	if _, err := w.ec2.ModifyInstanceMetadataOptions(t.Context(), &ec2.ModifyInstanceMetadataOptionsInput{
		InstanceId: aws.String(id(1)), HttpTokens: types.HttpTokensStateRequired,
		HttpEndpoint: types.InstanceMetadataEndpointStateEnabled,
	}); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(20 * time.Minute)
	for _, moment := range []engine.Moment{engine.Before, engine.During, engine.After} {
		q := w.targetQuery(1, 2)
		q.Moment, q.Stage = moment, plan.StageHopLimit
		mustFail(t, w.read(t, q), gates.GateTarget, id(1), "unhealthy in checkout, port 8080", "503")
	}
	mustNote(t, w.read(t, w.targetQuery(2)), gates.GateTarget, "", "1 of 1") // another's illness is not this stack's
}

func TestTargetHealthStates(t *testing.T) {
	for state, fails := range map[string]bool{
		"healthy": false, "initial": false, "draining": false, "unused": false, "unavailable": false, "unhealthy": true,
	} {
		t.Run(state, func(t *testing.T) {
			w := newWorld(t, host(1, "required", 1, ""), host(2, "required", 1, ""))
			w.targetGroup(t, elbv2.TargetGroup{Name: "checkout", Instances: []string{id(1), id(2)}})
			w.force(t, "checkout", 1, state)
			res := w.read(t, w.targetQuery(1, 2))
			if fails {
				mustFail(t, res, gates.GateTarget, id(1), state, "checkout")
				return
			}
			if state != "healthy" {
				mustNote(t, res, gates.GateTarget, id(1), state)
			}
			mustNote(t, res, gates.GateTarget, "", "of 2 registered targets are healthy")
		})
	}
}

// TestTargetHealthOfGroups: members of a group are looked for in the group's target groups, and no other is read.
func TestTargetHealthOfGroups(t *testing.T) {
	member := `, "tags": {"aws:autoscaling:groupName": "web"}`
	w := newWorld(t, host(1, "required", 1, member), host(2, "required", 1, ""))
	w.group(t, "web", 1, 1, 1)
	w.targetGroup(t, elbv2.TargetGroup{Name: "web", Groups: []string{"web"}})
	w.targetGroup(t, elbv2.TargetGroup{Name: "other", Instances: []string{id(2)}})
	w.clock.Advance(time.Minute)
	mustNote(t, w.read(t, w.targetQuery(1)), gates.GateTarget, "", "1 of 1")
	if n := w.calls("DescribeTargetGroups"); n != 0 {
		t.Errorf("all target groups were listed for the member of a group, %d times", n)
	}
	w.force(t, "web", 1, "unhealthy")
	mustFail(t, w.read(t, w.targetQuery(1)), gates.GateTarget, id(1), "web")
}

// TestRegistrationsAreRemembered: which bare instances are registered where is looked up every few minutes only, their
// health at each reading.
func TestRegistrationsAreRemembered(t *testing.T) {
	w := newWorld(t, host(1, "required", 1, ""))
	for n := range 3 {
		w.targetGroup(t, elbv2.TargetGroup{Name: fmt.Sprint("other-", n)})
	}
	w.targetGroup(t, elbv2.TargetGroup{Name: "checkout", Instances: []string{id(1)}})
	w.targetGroup(t, elbv2.TargetGroup{Name: "addresses", Type: "ip"})
	w.read(t, w.targetQuery(1))
	if lists, health := w.calls("DescribeTargetGroups"), w.calls("DescribeTargetHealth"); lists != 1 || health != 5 {
		t.Errorf("%d lists and %d target groups read, want 1, and 4 of instances with checkout twice", lists, health)
	}
	w.force(t, "checkout", 1, "unhealthy")
	mustFail(t, w.read(t, w.targetQuery(1)), gates.GateTarget, id(1))
	if lists, health := w.calls("DescribeTargetGroups"), w.calls("DescribeTargetHealth"); lists != 1 || health != 6 {
		t.Errorf("%d lists and %d target groups read after the second reading, want 1 and 6", lists, health)
	}
	w.targetGroup(t, elbv2.TargetGroup{Name: "late", Instances: []string{id(1)}})
	w.force(t, "checkout", 1, "")
	w.force(t, "late", 1, "unhealthy")
	w.clock.Advance(6 * time.Minute)
	mustFail(t, w.read(t, w.targetQuery(1)), gates.GateTarget, "late")
}

// calls counts the calls of an action so far.
func (w *world) calls(action string) (n int) {
	for _, c := range w.CallsSince(0) {
		if c.Action == action {
			n++
		}
	}
	return n
}

func (w *world) alarm(t *testing.T, name, state string, composite bool) {
	t.Helper()
	p, err := w.Place(here.Account, here.Region)
	if err != nil {
		t.Fatal(err)
	}
	simcloudwatch.SetAlarm(p, simcloudwatch.Alarm{Name: name, State: state, Composite: composite, Updated: w.clock.Now(),
		Reason: "Threshold Crossed:\n\x1b[2J1 datapoint"})
}

func TestAlarms(t *testing.T) {
	w := newWorld(t, host(1, "required", 1, ""))
	w.alarm(t, "fine", "OK", false)
	w.alarm(t, "all-fine", "OK", true)
	w.alarm(t, "young", "INSUFFICIENT_DATA", false)
	w.alarm(t, "errors", "ALARM", false)
	w.alarm(t, "all-errors", "ALARM", true)
	for _, c := range []struct {
		alarms []string
		fails  []string
		notes  []string
	}{
		{alarms: []string{"fine", "all-fine", "fine"}, notes: []string{"2 of 2 alarms are OK"}},
		{alarms: []string{"fine", "young"}, notes: []string{"1 of 2 alarms are OK", "1 have too little data"}},
		{alarms: []string{"fine", "errors"}, fails: []string{"errors", "ALARM", "111111111111", "2026-03-02 09:00"}},
		{alarms: []string{"all-errors"}, fails: []string{"all-errors", "ALARM"}},
		{alarms: []string{"fine", "misspelt"}, fails: []string{"no alarm misspelt", "eu-west-1"}},
	} {
		t.Run(strings.Join(c.alarms, " "), func(t *testing.T) {
			q := w.query(1)
			q.Gates = []plan.Gate{{Type: plan.GateAlarm, Name: "checkout", Alarms: c.alarms}}
			res := w.read(t, q)
			if len(c.fails) > 0 {
				mustFail(t, res, "alarm checkout", c.fails...)
			} else {
				mustNote(t, res, "alarm checkout", "", c.notes...)
			}
			for _, r := range res.Readings {
				if strings.ContainsAny(r.Value, "\n\x1b") {
					t.Errorf("control characters in %q", r.Value)
				}
			}
		})
	}
	var many []string
	for n := range 120 {
		many = append(many, fmt.Sprint("many-", n))
		w.alarm(t, many[n], "OK", false)
	}
	q := w.query(1)
	q.Gates = []plan.Gate{{Type: plan.GateAlarm, Name: "checkout", Alarms: many}}
	mustNote(t, w.read(t, q), "alarm checkout", "", "120 of 120")
}

// TestHealthThatCannotBeReadIsAnError: whatever of the new gates cannot be read, the step does not pass, and what was
// read before is shown.
func TestHealthThatCannotBeReadIsAnError(t *testing.T) {
	for _, action := range []string{
		"autoscaling:DescribeAutoScalingGroups",
		"elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth", "cloudwatch:DescribeAlarms",
	} {
		t.Run(action, func(t *testing.T) {
			w := newWorld(t, host(1, "required", 1, ""))
			w.targetGroup(t, elbv2.TargetGroup{Name: "checkout", Instances: []string{id(1)}})
			w.group(t, "web", 0, 0)
			w.alarm(t, "fine", "OK", false)
			q := w.query(1)
			q.Rules.GroupHealth, q.Rules.TargetHealth, q.Groups = true, true, []fleet.Ref{groupRef("web")}
			q.Gates = []plan.Gate{{Type: plan.GateAlarm, Name: "checkout", Alarms: []string{"fine"}}}
			if res := w.read(t, q); !res.Pass {
				t.Fatalf("fails before: %s", res.Reason)
			}
			w.clock.Advance(10 * time.Minute) // so that registrations are read again
			q.Now = w.clock.Now()
			service, name, _ := strings.Cut(action, ":")
			if _, err := w.AddFault(core.Fault{Service: service, Action: name, Deny: true}); err != nil {
				t.Fatal(err)
			}
			res, err := w.reader.ReadGates(t.Context(), q)
			if fleet.ClassOf(err) != fleet.ErrDenied || res.Pass || !strings.Contains(res.Reason, "could not be read") {
				t.Errorf("gave %+v, %v", res, err)
			}
			if len(find(res, gates.GateStatus, "*")) == 0 {
				t.Error("what was read before is not shown")
			}
		})
	}
}

func TestGatesThatMakeNoSense(t *testing.T) {
	w := newWorld(t, host(1, "required", 1, ""))
	for _, g := range []plan.Gate{
		{Type: "prayer", Name: "x"}, {Type: plan.GateAlarm, Name: "x"}, {Type: plan.GateCommand, Name: "x"},
		{Type: plan.GateWebhook, Name: "x", URL: "https://127.0.0.1:1"},
	} {
		q := w.query(1)
		q.Gates = []plan.Gate{g}
		if res, err := w.reader.ReadGates(t.Context(), q); err == nil || res.Pass || !strings.Contains(err.Error(), "x") {
			t.Errorf("%+v gave %+v, %v", g, res, err)
		}
	}
}
