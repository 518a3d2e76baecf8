package followup_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ssm"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/followup"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kind/kindtest"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/roles"
)

// settled outlasts the simulator's consistency delay and the time a command takes.
const settled = 10 * time.Second

func TestACommandIsSentAndJudged(t *testing.T) {
	s, w := newSite(t), ssmWrite()
	if got := s.status(t, w); got != "" {
		t.Errorf("before: %q", got)
	}
	res, err := s.Write(t.Context(), w)
	if err != nil || res.RequestID == "" || len(res.Outputs[followup.OutputCommand]) != 36 {
		t.Fatalf("%+v, %v", res, err)
	}
	known := w
	known.Made = res.Outputs
	if got := s.statusFor(t, known); got != "running*" {
		t.Errorf("sent and not shown yet, it reads as %q", got)
	}
	s.clock.Advance(time.Second)
	if byID, found := s.statusFor(t, known), s.status(t, w); byID != "running*" || found != "running*" {
		t.Errorf("while it runs: %q and %q", byID, found)
	}
	s.clock.Advance(settled)
	if byID, found := s.statusFor(t, known), s.status(t, w); byID != "done" || found != "done" {
		t.Errorf("afterwards: %q and %q", byID, found)
	}
	runs := s.runs(w)
	if len(runs) != 1 || runs[0].Document != "AWS-RunShellScript" || len(runs[0].Comment) > 100 ||
		!strings.HasSuffix(runs[0].Comment, w.Marker) {
		t.Errorf("ran %+v", runs)
	}
	found, err := s.Find(t.Context(), w)
	if err != nil || found.Outputs[followup.OutputCommand] != res.Outputs[followup.OutputCommand] {
		t.Errorf("found %+v, %v", found, err)
	}
	if err := s.List(t.Context(), func(inventory.Resource) error { return errors.New("emitted") }); err != nil {
		t.Errorf("a follow-up was listed: %v", err)
	}
}

// Whatever is lost between the call and its answer, the command is sent once.
func TestACrashAfterTheEffectSendsNothingTwice(t *testing.T) {
	s, w := newSite(t), ssmWrite()
	s.fault(t, core.Fault{Action: "SendCommand", DropAfter: true, Count: 1})
	if _, err := s.Write(t.Context(), w); fleet.ClassOf(err) != fleet.ErrTransient {
		t.Fatalf("%v, want an unknown effect", err)
	}
	s.restart(t, awsx.Role{})
	s.clock.Advance(settled)
	res, err := s.Find(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	w.Made = res.Outputs
	if got := s.statusFor(t, w); got != "done" || len(s.runs(w)) != 1 {
		t.Errorf("%q after %d runs", got, len(s.runs(w)))
	}
	another := w
	another.Marker = "imdsctl-ffffffffffffffffffffffff"
	if _, err := s.Find(t.Context(), another); !errors.Is(err, kind.ErrNotFound) {
		t.Errorf("the command of one attempt was found for another: %v", err)
	}
}

func TestACrashBeforeTheEffectLeavesNothing(t *testing.T) {
	s, w := newSite(t), ssmWrite()
	s.fault(t, core.Fault{Action: "SendCommand", DropBefore: true, Count: 1})
	if _, err := s.Write(t.Context(), w); fleet.ClassOf(err) != fleet.ErrTransient {
		t.Fatalf("%v, want an unknown effect", err)
	}
	s.clock.Advance(settled)
	if _, err := s.Find(t.Context(), w); !errors.Is(err, kind.ErrNotFound) {
		t.Fatalf("found what was never sent: %v", err)
	}
	if got := s.status(t, w); got != "" {
		t.Errorf("it reads as %q", got)
	}
}

// Whichever calls fail in whichever way, one who follows the contract of drivers ends with one run.
func TestEachEffectOnce(t *testing.T) {
	k := followup.Kind()
	verb, _ := k.Verb(plan.ActionSSM)
	rapid.Check(t, func(rt *rapid.T) {
		s, w := newSite(t), ssmWrite()
		for n := range rapid.IntRange(0, 5).Draw(rt, "faults") {
			f := core.Fault{
				Service: "ssm",
				Action:  rapid.SampledFrom([]string{"SendCommand", "ListCommands", "*"}).Draw(rt, fmt.Sprint("action", n)),
				Nth:     rapid.IntRange(1, 6).Draw(rt, fmt.Sprint("nth", n)),
				Count:   rapid.IntRange(1, 4).Draw(rt, fmt.Sprint("count", n)),
			}
			switch rapid.IntRange(0, 4).Draw(rt, fmt.Sprint("effect", n)) {
			case 0:
				f.DropAfter = true
			case 1:
				f.DropBefore = true
			case 2:
				f.Throttle = true
			case 3:
				f.Code, f.Status = "InternalServerError", 500
			case 4:
				f.Status = 503
			}
			s.fault(t, f)
		}
		apply := kindtest.Reference()
		_, err := apply.Apply(t.Context(), s.clock, s.Driver, verb, w)
		for range 40 {
			if err == nil {
				break
			}
			if rapid.Bool().Draw(rt, "a new process") {
				s.restart(t, awsx.Role{})
			}
			_, err = apply.Resume(t.Context(), s.clock, s.Driver, verb, w)
		}
		if err != nil {
			rt.Fatalf("it never came to an end: %v", err)
		}
		s.RemoveFault(0)
		if n := len(s.runs(w)); n != 1 || s.status(t, w) != "done" {
			rt.Fatalf("%d runs, and it reads as %q", n, s.status(t, w))
		}
	})
}

func TestFailedCommands(t *testing.T) {
	exits := map[string]string{"parameters": `{"commands":["exit 3"]}`}
	tests := []struct {
		name   string
		params map[string]string
		after  func(t *testing.T, s *site)
		want   string
	}{
		{"it exits with 3", exits, nil, "failed: Failed, exit code 3"},
		{"it exits with 3, and no one may know", exits, func(t *testing.T, s *site) {
			s.fault(t, core.Fault{Action: "ListCommandInvocations", Deny: true})
		}, "failed: Failed (its exit code could not be read)"},
		{"the agent does not come for it", map[string]string{"timeout": "45s"}, func(_ *testing.T, s *site) {
			ssm.SetManaged(s.place, instance, false)
		}, "failed: DeliveryTimedOut"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, w := newSite(t), ssmWrite(tt.params)
			res, err := s.Write(t.Context(), w)
			if err != nil {
				t.Fatal(err)
			}
			if tt.after != nil {
				tt.after(t, s)
			}
			s.clock.Advance(time.Minute)
			w.Made = res.Outputs
			if got := s.statusFor(t, w); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			w.Made = nil
			if got := s.status(t, w); got != tt.want {
				t.Errorf("read by its mark: %q, want %q", got, tt.want)
			}
		})
	}
}

// What is sent later counts: a person who repeats a failed follow-up by the printed command has done it.
func TestThePrintedCommandCounts(t *testing.T) {
	s, w := newSite(t), ssmWrite()
	ssm.SetExitCode(s.place, instance, 1)
	if _, err := s.Write(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(settled)
	if got := s.status(t, w); got != "failed: Failed, exit code 1" {
		t.Fatalf("got %q", got)
	}
	ssm.SetExitCode(s.place, instance, 0)
	byHand := w
	byHand.Marker = "" // as a plan prints it
	if _, err := s.Write(t.Context(), byHand); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(settled)
	if got := s.status(t, w); got != "done" {
		t.Errorf("got %q", got)
	}
}

// Other commands of the instance, other follow-ups of it and those of other plans are told apart, on whichever page.
func TestAmongMany(t *testing.T) {
	s, w := newSite(t), ssmWrite()
	others := []kind.Write{ssmWrite(map[string]string{"name": "restart cache"}), ssmWrite()}
	others[0].ID = instance + "/restart cache/" + fmt.Sprint(start.Unix())
	others[1].ID = instance + "/restart shop/" + fmt.Sprint(start.Unix()-1)
	for n := range 60 {
		o := others[n%2]
		if n == 20 {
			o = w
		}
		o.Marker = fmt.Sprint("marker-", n)
		if _, err := s.Write(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		s.clock.Advance(settled)
		if n == 19 && s.status(t, w) != "" {
			t.Fatalf("it reads as %q before it was started", s.status(t, w))
		}
	}
	ctx := kind.WithPageSize(t.Context(), 7)
	if r, err := s.Read(ctx, w.ID); err != nil || r.State["status"] != "done" {
		t.Errorf("%+v, %v", r, err)
	}
	w.Marker = "marker-20"
	if _, err := s.Find(ctx, w); err != nil {
		t.Error(err)
	}
	w.Marker = "marker-2"
	if _, err := s.Find(ctx, w); !errors.Is(err, kind.ErrNotFound) {
		t.Errorf("another follow-up's command was found: %v", err)
	}
	calls := s.Calls()
	since := "Filters.1.value=" + start.Add(-24*time.Hour).Format(time.RFC3339)
	if last := calls[len(calls)-1]; last.Action != "ListCommands" || !slices.Contains(last.Params, since) {
		t.Errorf("the listing reaches back further than the plan: %q", last.Params)
	}
}

func TestErrorClasses(t *testing.T) {
	off := ssmWrite(map[string]string{"instance": stopped})
	off.ID = strings.Replace(off.ID, instance, stopped, 1)
	group := ssmWrite(map[string]string{"instance": "web"})
	group.ID = strings.Replace(group.ID, instance, "web", 1)
	revert := ssmWrite()
	revert.Revert = true
	tests := []struct {
		name  string
		write kind.Write
		fault core.Fault
		class fleet.ErrorClass
		says  string
	}{
		{"throttled", ssmWrite(), core.Fault{Action: "SendCommand", Throttle: true}, fleet.ErrThrottled, "ThrottlingException"},
		{"denied", ssmWrite(), core.Fault{Action: "SendCommand", Deny: true}, fleet.ErrDenied, "not authorized"},
		{"AWS fails", ssmWrite(), core.Fault{Action: "SendCommand", Status: 500}, fleet.ErrTransient, "send document"},
		{"stopped", off, core.Fault{Action: "none"}, fleet.ErrInvalid, "do the follow-up by hand"},
		{"no document", ssmWrite(map[string]string{"document": "restart-none"}), core.Fault{Action: "none"},
			fleet.ErrInvalid, "restart-none"},
		{"wrong parameters", ssmWrite(map[string]string{"parameters": `{"commands": "ls"}`}), core.Fault{Action: "none"},
			fleet.ErrInvalid, "parameters"},
		{"manual", write(plan.ActionManual, map[string]string{"text": "Drain the node."}), core.Fault{Action: "none"},
			fleet.ErrConflict, "Drain the node.; when it is done, run `imdsctl rollout done ROLLOUT CHANGE`"},
		{"another's parameters", ssmWrite(map[string]string{"name": "restart"}), core.Fault{Action: "none"}, fleet.ErrInvalid,
			"its parameters are those of"},
		{"no instance", group, core.Fault{Action: "none"}, fleet.ErrInvalid, "make it a command"},
		{"never put back", revert, core.Fault{Action: "none"}, fleet.ErrInvalid, "never put back"},
		{"no such verb", write("dance"), core.Fault{Action: "none"}, fleet.ErrInvalid, `"dance"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			s.fault(t, tt.fault)
			_, err := s.Write(t.Context(), tt.write)
			if fleet.ClassOf(err) != tt.class || !strings.Contains(fmt.Sprint(err), tt.says) {
				t.Errorf("%s: %v, want %s: %s", fleet.ClassOf(err), err, tt.class, tt.says)
			}
			s.clock.Advance(settled)
			if n := len(s.runs(ssmWrite())); n > 0 {
				t.Errorf("%d runs", n)
			}
		})
	}
}

// What could not be read is unknown, never absent.
func TestReadsThatFail(t *testing.T) {
	for class, f := range map[fleet.ErrorClass]core.Fault{
		fleet.ErrDenied:    {Action: "ListCommands", Deny: true},
		fleet.ErrThrottled: {Action: "ListCommands", Throttle: true},
		fleet.ErrTransient: {Action: "ListCommands", Status: 503},
	} {
		s, w := newSite(t), ssmWrite()
		s.fault(t, f)
		if _, err := s.Read(t.Context(), w.ID); fleet.ClassOf(err) != class {
			t.Errorf("read: %v, want %s", err, class)
		}
		if _, err := s.Find(t.Context(), w); fleet.ClassOf(err) != class || errors.Is(err, kind.ErrNotFound) {
			t.Errorf("find: %v, want %s", err, class)
		}
	}
	s := newSite(t)
	for _, id := range []string{"", "i-1", instance, instance + "/x", instance + "//5", instance + "/x/now", "/x/5"} {
		if _, err := s.Read(t.Context(), id); fleet.ClassOf(err) != fleet.ErrInvalid {
			t.Errorf("%q: %v", id, err)
		}
	}
	if n := len(s.Calls()); n > 0 {
		t.Errorf("%d calls were made for ids that are none", n)
	}
}

// Of what is no instance Systems Manager is not asked.
func TestWhatIsNoInstance(t *testing.T) {
	s := newSite(t)
	if r, err := s.Read(t.Context(), "web/restart/a/b/5"); err != nil || len(r.State) > 0 || r.Name != "restart/a/b" || len(s.Calls()) > 0 {
		t.Errorf("%+v, %v after %d calls", r, err, len(s.Calls()))
	}
}

// For people nothing is called, whatever is read or looked for.
func TestAManualTaskMakesNoCalls(t *testing.T) {
	s, w := newSite(t), write(plan.ActionManual, map[string]string{"text": "Drain the node."})
	if got := s.statusFor(t, w); got != "" {
		t.Errorf("it reads as %q", got)
	}
	if _, err := s.Find(t.Context(), w); !errors.Is(err, kind.ErrNotFound) {
		t.Error(err)
	}
	if n := len(s.Calls()); n > 0 {
		t.Errorf("%d calls", n)
	}
}

// The printed write role suffices for a follow-up, one that fails included, and without any of the actions that it has for
// follow-ups something is told to be missing.
func TestRolesSuffice(t *testing.T) {
	actions := followup.Actions("AWS-RunShellScript")
	journey := func(t *testing.T, allowed []kind.Action) string {
		s := newSite(t)
		o := roles.Options{Principal: string(here.Account), ExternalID: "secret-1", FollowUps: allowed}
		list, err := roles.Build(nil, o, roles.Write)
		if err != nil {
			t.Fatal(err)
		}
		printed, err := roles.JSON(list, o, here.Account)
		if err != nil {
			t.Fatal(err)
		}
		r := printed.Roles[0]
		if err := s.PutRole(here.Account, r.Name, string(r.Trust), string(r.Policy)); err != nil {
			t.Fatal(err)
		}
		s.restart(t, awsx.Role{Name: r.Name, ExternalID: "secret-1"})
		w := ssmWrite(map[string]string{"parameters": `{"commands":["exit 3"]}`})
		if _, err := s.Write(t.Context(), w); err != nil {
			return err.Error()
		}
		s.clock.Advance(settled)
		found, err := s.Read(t.Context(), w.ID)
		if err != nil {
			return err.Error()
		}
		return found.State["status"]
	}
	const whole = "failed: Failed, exit code 3"
	if got := journey(t, actions); got != whole {
		t.Errorf("with all of them: %s", got)
	}
	for n, a := range actions {
		if got := journey(t, slices.Delete(slices.Clone(actions), n, n+1)); got == whole {
			t.Errorf("nothing is missing without %s on %s", a.Name, a.Resource)
		}
	}
}

func TestKind(t *testing.T) {
	k := followup.Kind()
	if k.Name != plan.KindFollowUp || k.Doc == "" || k.Propose != nil {
		t.Errorf("%+v", k)
	}
	for name, class := range map[string]plan.Class{
		"ssm": plan.ClassStart, "command": plan.ClassStart, "manual": plan.ClassManual,
	} {
		if v, ok := k.Verb(name); !ok || v.Class != class || v.Undo != kind.UndoNone {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if a := followup.Actions(); a != nil {
		t.Errorf("without documents there are actions: %+v", a)
	}
	s, w := newSite(t), ssmWrite()
	v, _ := k.Verb("ssm")
	if _, err := kindtest.Reference().Apply(t.Context(), s.clock, s.Driver, v, w); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, a := range slices.Concat(k.Reads, k.Writes) {
		known[a.Name] = true
	}
	for _, c := range s.Calls() {
		if c.Service == "ssm" && !known["ssm:"+c.Action] {
			t.Errorf("%s is called and not declared", c.Action)
		}
	}
}

func TestCommands(t *testing.T) {
	tricky := write(plan.ActionCommand, map[string]string{"command": `["/opt/restart shop","--what=it's","; reboot"]`})
	printed := ssmWrite(map[string]string{"timeout": "90s"})
	printed.Marker = ""
	revert := ssmWrite()
	revert.Revert = true
	tests := []struct {
		write kind.Write
		want  []string
	}{
		{printed, []string{"aws ssm send-command --region eu-west-1 --document-name AWS-RunShellScript --instance-ids " +
			"i-0123456789abcdef0 --timeout-seconds 90 --comment 'imdsctl 75c7a17191d9efbe' --parameters " +
			`'{"commands":["systemctl restart shop"]}'`}},
		{tricky, []string{`'/opt/restart shop' '--what=it'\''s' '; reboot'`}},
		{write(plan.ActionManual, map[string]string{"text": "Drain the node."}), nil},
		{revert, nil},
		{write("dance"), nil},
	}
	for _, tt := range tests {
		if got := followup.Kind().Commands(tt.write); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.write.Verb, got, tt.want)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("i-0123456789abcdef0/restart shop/1772452800")
	f.Add("i-01234567/a/b/5")
	f.Add("//")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := followup.ParseID(s)
		if err != nil {
			return
		}
		again, err := followup.ParseID(id.String())
		if err != nil || again != id || id.Name == "" || id.Instance == "" {
			t.Errorf("%q is %+v, and %q is %+v, %v", s, id, id.String(), again, err)
		}
	})
}

// FuzzParse feeds the parameters of a plan with anything: they are refused, or make a task that can be carried out.
func FuzzParse(f *testing.F) {
	f.Add("ssm", "AWS-RunShellScript", `{"commands":["true"]}`, "", "10m")
	f.Add("ssm", "AWS-RunDocument", `{"a":null} {}`, "", "")
	f.Add("command", "", "", `["/bin/true","a"]`, "90s")
	f.Add("command", "", "", `[]`, "-1s")
	f.Add("manual", "", "", "", "")
	f.Fuzz(func(t *testing.T, verb, document, parameters, command, timeout string) {
		task, err := followup.Parse(verb, instance+"/x/5", map[string]string{
			"instance": instance, "document": document, "parameters": parameters, "command": command, "timeout": timeout,
		})
		if err != nil {
			return
		}
		if task.Timeout <= 0 || task.Instance != instance || task.Name != "x" {
			t.Errorf("%+v", task)
		}
		switch verb {
		case plan.ActionSSM:
			if len(task.Document) < 3 || task.Run != nil {
				t.Errorf("%+v", task)
			}
			for name, list := range task.Parameters {
				if name == "" || list == nil {
					t.Errorf("%q is %v", name, list)
				}
			}
		case plan.ActionCommand:
			if len(task.Run) == 0 || task.Run[0] == "" || strings.Contains(strings.Join(task.Run, ""), "\x00") {
				t.Errorf("%q", task.Run)
			}
		case plan.ActionManual:
		default:
			t.Errorf("verb %q was accepted", verb)
		}
	})
}
