package faults

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// says looks for words in what the journal says of an account.
func (w *world) says(t *testing.T, r *app.ApplyResult, account fleet.AccountID, words ...string) {
	t.Helper()
	text := w.journal(t, r.Record.ID, account)
	for _, s := range words {
		if !strings.Contains(text, s) {
			t.Errorf("the journal does not say %q of account %s:\n%s", s, account, text)
		}
	}
}

// TestSessionsExpireMidLane: sessions live for a quarter of an hour, and AWS finds some of them expired before that.
func TestSessionsExpireMidLane(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{session: "15m", rate: 600}) // a session is to outlive a call of a busy machine's
	for _, nth := range []int{2, 60, 120} {              // so far apart that no call is befallen twice
		for _, account := range []fleet.AccountID{shop, billing} {
			w.fault(t, core.Fault{Service: "ec2", Account: string(account), Nth: nth, Count: 1, Code: "RequestExpired",
				Message: "Request has expired."})
		}
		w.fault(t, core.Fault{Service: "cloudwatch", Nth: nth, Count: 1, Code: "ExpiredToken", Status: http.StatusForbidden,
			Message: "The security token included in the request is expired"})
	}
	w.fault(t, core.Fault{Service: "ec2", Account: string(ledger), Action: "Modify*", Nth: 3, Count: 1, Code: "AuthFailure",
		Status: http.StatusUnauthorized, Message: "AWS was not able to validate the provided access credentials"})
	w.mustApply(t, app.ApplyOptions{})
	w.undisturbed(t)
	assumed := map[string]int{}
	for _, c := range w.CallsSince(w.since) {
		if c.Action == "AssumeRole" {
			assumed[strings.Join(c.Resources, ",")]++
		}
	}
	for role, n := range assumed {
		if n < 3 && !strings.Contains(role, string(management)) { // which is through before that
			t.Errorf("%s was assumed %d times in hours", role, n)
		}
	}
}

// TestCallersCredentialsRunOut: the rollout stands where it is, says so, and goes on after a login.
func TestCallersCredentialsRunOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	if err := w.PutRole(management, "operator", core.TrustAccount(management, ""), core.AllowActions("*")); err != nil {
		t.Fatal(err)
	}
	login := func(life time.Duration) {
		role, _ := w.Role(management, "operator")
		c, _, err := w.MintSession(role, "ann", life, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		w.login(c)
	}
	runs := 0
	for ; runs < 20; runs++ {
		login(35 * time.Minute)
		result, err := w.apply(t, app.ApplyOptions{})
		if err == nil {
			if result.Record.Status != rollout.Done {
				t.Fatalf("the rollout is %s\n%s", result.Record.Status, story(result))
			}
			break
		}
		d, ok := errors.AsType[fleet.Diagnostic](err)
		if !ok || !strings.Contains(d.Summary, "credentials ran out") || !strings.Contains(d.Remedy, "Log in again") {
			t.Fatalf("run %d ended with %v", runs, err)
		}
		if result.Record.Status != rollout.Running {
			t.Fatalf("after the credentials ran out the rollout is %s\n%s", result.Record.Status, story(result))
		}
	}
	if runs < 2 {
		t.Errorf("the credentials ran out %d times", runs)
	}
	w.undisturbed(t)
}

// TestAccessRevoked takes the right to write away in the middle of a step: the step goes over its budget, it cannot be put
// back either, and the stack is stuck. When the right is given back, a rollback puts everything back.
func TestAccessRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	role := func(policies ...string) {
		if err := w.PutRole(shop, policy.DefaultWriteRole, core.TrustAccount(management, ""), policies...); err != nil {
			t.Error(err)
		}
	}
	revoked := make(chan struct{})
	w.fault(t, core.Fault{Account: string(shop), Action: "ModifyInstanceMetadataOptions", Param: "InstanceId=" + instance(shop, 6),
		Count: 1, After: func(*core.Call) {
			role(permissions, `{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "ec2:Modify*", "Resource": "*"}]}`)
			close(revoked)
		}})
	w.fault(t, core.Fault{Account: string(shop), Action: "ModifyInstanceMetadataOptions", Param: "InstanceId=" + instance(shop, 7),
		Count: 1, Hook: func(*core.Call) error { <-revoked; return nil }})
	result, err := w.apply(t, app.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if result.Record.Status != rollout.Incomplete {
		t.Fatalf("the rollout is %s\n%s", result.Record.Status, story(result))
	}
	w.othersDone(t, result, shop)
	batch := w.stack(t, shop, "app=batch")
	if s := result.Record.Stacks[batch]; s.Phase != rollout.StackStuck ||
		!strings.Contains(s.Reason, instance(shop, 6)+" could not be put back") || !strings.Contains(s.Reason, "not authorized") {
		t.Errorf("the stack is %+v\n%s", s, story(result))
	}
	w.says(t, result, shop, "UnauthorizedOperation", "could not be put back")

	role(permissions)
	a := w.open(t)
	if err := a.RollbackRollout(t.Context(), result.Record.ID, w.begun(result.Record, shop), "access is back"); err != nil {
		t.Fatal(err)
	}
	result, err = a.ResumeRun(t.Context(), result.Record.ID, app.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if p := result.Record.Stacks[batch].Phase; p != rollout.StackRolledBack {
		t.Errorf("after the rollback the stack is %s\n%s", p, story(result))
	}
	back, before := w.see(t).of(shop), w.before.of(shop)
	delete(back, string(shop)+" "+template(shop)) // the version that was made stays, as versions do
	delete(before, string(shop)+" "+template(shop))
	differ(t, "rolled back", back, before)
	w.othersDone(t, result, shop)
}

func (w *world) stack(t *testing.T, account fleet.AccountID, name string) string {
	t.Helper()
	for _, s := range w.plan.Stacks {
		if s.Place.Account == account && s.Name == name {
			return s.ID
		}
	}
	t.Fatalf("no stack %q in account %s", name, account)
	return ""
}

// begun lists the stacks of an account that something was done in.
func (w *world) begun(r *app.Record, account fleet.AccountID) []string {
	var out []string
	for _, s := range w.plan.Stacks {
		if s.Place.Account == account && r.Stacks[s.ID].Phase != rollout.StackSkipped {
			out = append(out, s.ID)
		}
	}
	return out
}

// closed are the rules of an account that is closed: nobody gets in any more, and sessions of before are refused.
func closed(account fleet.AccountID, assume bool) []core.Fault {
	refuse := func(c *core.Call) error {
		if c.Service.Name == "ec2" {
			return &wire.Error{Code: "AuthFailure", Status: http.StatusUnauthorized,
				Message: "AWS was not able to validate the provided access credentials"}
		}
		return &wire.Error{Code: "InvalidClientTokenId", Status: http.StatusForbidden,
			Message: "The security token included in the request is invalid."}
	}
	out := []core.Fault{{Account: string(account), Hook: refuse}}
	if !assume {
		out = append(out, core.Fault{Service: "sts", Action: "AssumeRole", Param: "RoleArn=*:" + string(account) + ":*", Deny: true})
	}
	return out
}

// TestAccountClosed closes an account in the middle of its rollout, or before it: its stacks fail, the others are done.
func TestAccountClosed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		nth    int64 // the write in the account after which it is closed; 0 for before the first
		assume bool  // its roles are given out all the same
	}{
		"beforehand":                    {},
		"half-way":                      {nth: 3},
		"half-way, roles still given":   {nth: 3, assume: true},
		"beforehand, roles still given": {assume: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{})
			shut := sync.OnceFunc(func() {
				for _, f := range closed(shop, c.assume) {
					w.fault(t, f)
				}
			})
			if c.nth == 0 {
				shut()
			} else {
				w.onWrite(t, shop, "ModifyInstanceMetadataOptions", c.nth, shut)
			}
			result, err := w.apply(t, app.ApplyOptions{})
			if err != nil {
				t.Fatalf("%v\n%s", err, story(result))
			}
			if result.Record.Status != rollout.Incomplete {
				t.Fatalf("the rollout is %s\n%s", result.Record.Status, story(result))
			}
			w.othersDone(t, result, shop)
			phases := w.phases(result.Record, shop)
			if ended := phases[rollout.StackFailed] + phases[rollout.StackStuck] + phases[rollout.StackSkipped]; ended != 3 {
				t.Errorf("the stacks of the account are %v\n%s", phases, story(result))
			}
			if c.nth == 0 {
				differ(t, "nothing was written", w.see(t).of(shop), w.before.of(shop))
			}
			for _, k := range twice(w.effects()) {
				t.Errorf("%s took effect more than once", k)
			}
		})
	}
}

func twice(effects map[string]int) []string {
	var out []string
	for k, n := range effects {
		if n > 1 {
			out = append(out, k)
		}
	}
	return out
}

// TestClockSkew: the machine's clock is twenty minutes off. AWS refuses a signature, the next has AWS's time.
func TestClockSkew(t *testing.T) {
	t.Parallel()
	t.Run("behind", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, options{ahead: -20 * time.Minute})
		w.mustApply(t, app.ApplyOptions{})
		w.undisturbed(t)
		if w.front.refused.Load() == 0 {
			t.Error("no signature was refused")
		}
	})
	// By a clock that is ahead, metrics come later than they should: what was written is put back rather than believed.
	t.Run("ahead", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, options{ahead: 20 * time.Minute, bake: "5m", rate: 100}) // so slowly that the metrics cannot catch up
		result, err := w.apply(t, app.ApplyOptions{})
		if err != nil || result.Record.Status != rollout.Incomplete {
			t.Fatalf("%v, the rollout is %s\n%s", err, result.Record.Status, story(result))
		}
		if result.Counts.Reverted == 0 || result.Counts.Stuck+result.Counts.Failed+result.Counts.Conflict > 0 {
			t.Errorf("%+v\n%s", result.Counts, story(result))
		}
		differ(t, "put back", w.see(t), w.before)
		w.says(t, result, shop, "reported no metric since")
		if w.front.refused.Load() == 0 {
			t.Error("no signature was refused")
		}
	})
}
