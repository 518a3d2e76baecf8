package followup_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/followup"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// newLaunches is an account with a template whose first version allows IMDSv1 and whose second does not, and a group for each.
func newLaunches(t *testing.T) *site {
	t.Helper()
	s := &site{clock: clock.NewManual(start)}
	s.World = awssim.New(awssim.Options{Clock: s.clock, Seed: 3})
	const machines = `{"images": [{"id": "ami-0123456789abcdef0"}], "templates": [{"id": "lt-0123456789abcdef0", "name": "web", "versions": [
		{"data": {"ImageId": "ami-0123456789abcdef0", "InstanceType": "t3.micro", "MetadataOptions": {"HttpTokens": "optional"}}},
		{"data": {"ImageId": "ami-0123456789abcdef0", "InstanceType": "t3.micro", "MetadataOptions": {"HttpTokens": "required"}}}]}]}`
	const groups = `{"groups": [
		{"name": "old", "template": "lt-0123456789abcdef0", "version": "1", "max": 9},
		{"name": "a/new *", "template": "lt-0123456789abcdef0", "version": "2", "max": 9}]}`
	err := s.LoadSeed(&core.Seed{Accounts: []core.AccountSeed{{ID: here.Account,
		Regions: map[fleet.Region]map[string]json.RawMessage{here.Region: {
			"ec2": json.RawMessage(machines), "autoscaling": json.RawMessage(groups)}}}}})
	if err == nil {
		s.place, err = s.Place(here.Account, here.Region)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.restart(t, awsx.Role{})
	return s
}

// scale changes a group's desired capacity and lets what it launches start.
func (s *site) scale(t *testing.T, group string, desired int) {
	t.Helper()
	var err error
	s.place.With(func(now time.Time) { err = autoscaling.StoreOf(s.place).SetDesired(group, now, desired) })
	if err != nil {
		t.Fatal(err)
	}
}

// proof is a follow-up that waits for launches of a group.
func proof(verb, group, version, patience string) kind.Write {
	return kind.Write{Place: here, ID: "auto-scaling-group/" + group + "/" + verb + "/1772452800", Verb: verb,
		Before: fleet.State{}, After: fleet.State{plan.FieldStatus: plan.StatusDone}, Params: map[string]string{
			plan.ParamInstance: group, plan.ParamName: verb, plan.ParamTag: "aws:autoscaling:groupName",
			plan.ParamFrom: "lt-0123456789abcdef0:" + version, plan.ParamTimeout: patience}}
}

// begin begins to wait.
func (s *site) beginProof(t *testing.T, w kind.Write) kind.Write {
	t.Helper()
	if before := s.statusFor(t, w); before != "" {
		t.Fatalf("before it begins it says %s", before)
	}
	made, err := s.Write(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	w.Made = made.Outputs
	return w
}

// passes is longer than what is launched needs to pass its status checks.
const passes = 10 * time.Minute

func TestALaunchIsSeen(t *testing.T) {
	s := newLaunches(t)
	w := s.beginProof(t, proof(plan.ActionLaunched, "a/new *", "2", "30m"))
	if got := s.statusFor(t, w); got != followup.StatusRunning+"*" {
		t.Errorf("before a launch: %s", got)
	}
	s.scale(t, "old", 1) // somebody else's launch is none of its own
	s.clock.Advance(passes)
	if got := s.statusFor(t, w); got != followup.StatusRunning+"*" {
		t.Errorf("after another group's launch: %s", got)
	}
	s.scale(t, "a/new *", 1)
	s.clock.Advance(passes)
	if got := s.statusFor(t, w); got != plan.StatusDone {
		t.Errorf("after a launch: %s", got)
	}
}

func TestNoLaunchIsSaidToBeNone(t *testing.T) {
	s := newLaunches(t)
	for _, c := range []struct{ patience, want string }{{"0s", "within 0s"}, {"5m", "within 5m"}} {
		w := s.beginProof(t, proof(plan.ActionLaunched, "a/new *", "2", c.patience))
		s.clock.Advance(6 * time.Minute)
		r, err := s.Driver.(kind.WriteReader).ReadFor(t.Context(), w)
		if err != nil || r.State[plan.FieldStatus] != plan.StatusDone || r.Settling {
			t.Errorf("%+v, %v", r, err)
		}
		if note := r.Attrs[kind.AttrNote]; !strings.Contains(note, "not proven") || !strings.Contains(note, c.want) {
			t.Errorf("note %q", note)
		}
	}
}

func TestALaunchThatAllowsV1Fails(t *testing.T) {
	s := newLaunches(t)
	w := s.beginProof(t, proof(plan.ActionLaunched, "old", "1", "30m"))
	s.scale(t, "old", 1)
	s.clock.Advance(passes)
	if got := s.statusFor(t, w); !strings.HasPrefix(got, followup.StatusFailed) || !strings.Contains(got, "does not require tokens") {
		t.Errorf("got %s", got)
	}
}

func TestAllAreReplaced(t *testing.T) {
	s := newLaunches(t)
	s.scale(t, "old", 2)
	s.clock.Advance(passes)
	w := s.beginProof(t, proof(plan.ActionReplaced, "old", "2", ""))
	s.clock.Advance(40 * 24 * time.Hour)
	if got := s.statusFor(t, w); got != followup.StatusRunning+"*" {
		t.Errorf("with two that allow v1: %s", got)
	}
	s.scale(t, "old", 0)
	s.clock.Advance(passes)
	if got := s.statusFor(t, w); got != plan.StatusDone {
		t.Errorf("with none left: %s", got)
	}
}

func TestAProofIsNeverPutBack(t *testing.T) {
	s := newLaunches(t)
	w := proof(plan.ActionLaunched, "old", "2", "0s")
	w.Revert = true
	if _, err := s.Write(t.Context(), w); fleet.ClassOf(err) != fleet.ErrInvalid {
		t.Errorf("got %v", err)
	}
	w = proof(plan.ActionLaunched, "", "2", "0s")
	if _, err := s.Write(t.Context(), w); fleet.ClassOf(err) != fleet.ErrInvalid {
		t.Errorf("without a launcher: %v", err)
	}
}

// A read that fails tells of no end.
func TestALaunchThatCannotBeReadIsAnError(t *testing.T) {
	s := newLaunches(t)
	w := s.beginProof(t, proof(plan.ActionLaunched, "a/new *", "2", "0s"))
	s.fault(t, core.Fault{Action: "DescribeInstances", Code: "UnauthorizedOperation", Status: 403})
	if _, err := s.Driver.(kind.WriteReader).ReadFor(t.Context(), w); fleet.ClassOf(err) != fleet.ErrDenied {
		t.Errorf("got %v", err)
	}
}
