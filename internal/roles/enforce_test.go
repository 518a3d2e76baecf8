package roles_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/demo"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kind/kindtest"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/roles"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// unseen are the permissions that the simulator does not ask for, with why.
func unseen() map[string]string {
	return map[string]string{
		"ssm:GetParameters": "asked for only where a template's image is a Systems Manager parameter, which the simulator lacks",
	}
}

// The printed roles suffice for a scan, an apply and a rollback where they are enforced, by all that the kinds do with what
// their fixtures seed; and without any one of their actions something is told to be missing.
func TestRolesSufficeAndNothingIsSuperfluous(t *testing.T) {
	t.Run("whole", func(t *testing.T) {
		t.Parallel()
		if problems := journey(t, ""); len(problems) > 0 {
			t.Fatalf("with the roles as printed: %s", strings.Join(problems, "\n"))
		}
	})
	for _, e := range all.List() {
		t.Run("whole/"+e.Kind.Name, func(t *testing.T) {
			t.Parallel()
			for _, err := range enforced(t, e, "") {
				t.Errorf("with the roles as printed: %v", err)
			}
		})
	}
	o := options()
	o.Management = true // with all kinds
	for _, r := range build(t, o, roles.Read, roles.Write) {
		for _, s := range r.Statements {
			for _, action := range s.Actions {
				t.Run(string(r.Access)+"/"+action, func(t *testing.T) {
					t.Parallel()
					missed(t, r.Access, action)
				})
			}
		}
	}
}

// missed checks that the kinds which declare an action miss it in a role, or else that a whole journey does.
func missed(t *testing.T, access roles.Access, action string) {
	if unseen()[action] != "" {
		return
	}
	without := string(access) + " " + action
	var problems []string
	for _, e := range declaring(action) {
		if kindtest.Uncalled(t, e, kindFolders())[action] != "" {
			return
		}
		for _, err := range enforced(t, e, without) {
			problems = append(problems, err.Error())
		}
	}
	if len(problems) == 0 {
		problems = journey(t, without)
	}
	if len(problems) == 0 {
		t.Errorf("nothing is missing without %s in the %s role", action, access)
	} else if !strings.Contains(strings.Join(problems, "\n"), action) {
		t.Errorf("what is missing is not named: %s", strings.Join(problems, "\n"))
	}
}

func kindFolders() fs.FS { return os.DirFS("../kinds") }

// declaring are the kinds that declare an action, by itself or as a permission that AWS checks in the same call.
func declaring(action string) []all.Entry {
	return slices.DeleteFunc(all.List(), func(e all.Entry) bool {
		return !slices.ContainsFunc(slices.Concat(e.Kind.Reads, e.Kind.Writes), func(a kind.Action) bool {
			return a.Name == action || slices.Contains(a.With, action)
		})
	})
}

// enforced does all that a kind does under the printed roles, but for "access action".
func enforced(t *testing.T, e all.Entry, without string) []error {
	t.Helper()
	place := kindtest.Place(t, e, kindFolders())
	o := options()
	o.Management = e.Kind.Lives == kind.Organization
	printed := printedWithout(t, build(t, o, roles.Read, roles.Write), o, place.Account, without)
	return kindtest.Enforced(t, e, kindFolders(), kindtest.Policies{
		Read: string(printed.Roles[0].Policy), Write: string(printed.Roles[1].Policy),
	})
}

// journey goes all the way in a world where "access action" is taken out of the roles, and lists what went wrong.
func journey(t *testing.T, without string) (problems []string) {
	t.Helper()
	seed, err := os.ReadFile("testdata/seed.json")
	if err != nil {
		t.Fatal(err)
	}
	a := enter(t, seed, without, `
version: 1
organization: {discover: list, role: {external_id: imdsctl-4f7c}, regions: [eu-west-1]}
accounts: [{id: "222222222222"}]
evidence: {require_boot: false}
gates: {delay: 10m, alarms: [{name: errors, alarms: [errors]}]}
bake: {low: 40m, medium: 40m, high: 40m, critical: 40m}
`)
	sum, err := a.Scan(t.Context(), app.ScanOptions{})
	if err != nil {
		return []string{err.Error()}
	}
	for _, g := range sum.Gaps {
		problems = append(problems, g.Detail)
	}
	made, err := a.Plan(t.Context(), app.PlanOptions{})
	if err != nil {
		return append(problems, err.Error())
	}
	if err := a.WritePlan(t.Context(), &strings.Builder{}, "plan.json", made.Plan); err != nil {
		return append(problems, err.Error())
	}
	if without == "" {
		wholePlan(t, made, sum.Verdicts)
	}
	if len(made.Plan.Changes) == 0 {
		return append(problems, "nothing to change")
	}
	done, err := a.Apply(t.Context(), made.Plan, app.ApplyOptions{Yes: true})
	if problems = append(problems, wrong(done, err, rollout.Done)...); len(problems) > 0 {
		return problems
	}
	if err := a.RollbackRollout(t.Context(), done.Record.ID, nil, "a test"); err != nil {
		return []string{err.Error()}
	}
	back, err := a.ResumeRun(t.Context(), done.Record.ID, app.ApplyOptions{})
	return wrong(back, err, rollout.RolledBack)
}

// wrong lists what of a run did not go as it should.
func wrong(r *app.ApplyResult, err error, want rollout.Status) (problems []string) {
	if err != nil {
		return []string{err.Error()}
	}
	for _, id := range slices.Sorted(maps.Keys(r.Record.Stacks)) {
		if st := r.Record.Stacks[id]; st.Reason != "" && st.Phase != rollout.StackDone && st.Phase != rollout.StackRolledBack {
			problems = append(problems, fmt.Sprintf("stack %s is %s: %s", id, st.Phase, st.Reason))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.Record.Changes)) {
		if c := r.Record.Changes[id]; c.Phase != app.ChangeVerified && c.Phase != app.ChangeReverted {
			problems = append(problems, fmt.Sprintf("change %s is %s: %s", id, c.Phase, c.Reason))
		}
	}
	if r.Record.Status != want {
		problems = append(problems, fmt.Sprintf("the rollout is %s: %s", r.Record.Status, r.Record.Reason))
	}
	return problems
}

// wholePlan makes sure that the journey takes changes of each class and stage, for otherwise it would prove little. What
// else the kinds can write is tried kind by kind.
func wholePlan(t *testing.T, made *app.PlanResult, verdicts map[assess.Status]int) {
	t.Helper()
	used := map[string]bool{}
	for _, c := range made.Plan.Changes {
		used[c.Ref.Kind+" "+c.Action] = true
	}
	for _, change := range []string{
		"ec2-instance set-options", "launch-template create-version", "launch-template set-default",
		"auto-scaling-group set-launch-version", "account-defaults set-defaults",
	} {
		if !used[change] {
			t.Errorf("the plan has no %s; verdicts are %v, manual steps %v", change, verdicts, made.Plan.Manuals)
		}
	}
}

// A scan of all that the fixtures seed, each in an account of its own, misses nothing under the printed roles.
func TestAScanOfEveryKindHasNoGaps(t *testing.T) {
	type account struct {
		ID      string          `json:"id"`
		Regions json.RawMessage `json:"regions,omitempty"`
		Global  json.RawMessage `json:"global,omitempty"`
	}
	accounts := []account{{ID: "111111111111"}} // which manages the others
	var ids []string
	want := map[string]bool{}
	for i, e := range all.List() {
		if e.Kind.Lives == kind.Organization {
			continue // tried by itself, in an organization of its own
		}
		var fixture struct {
			Seed struct{ Accounts []account }
		}
		b, err := fs.ReadFile(kindFolders(), path.Join(e.Kind.Folder(), "testdata", "fixture.json"))
		if err == nil {
			own := fmt.Sprintf("3000000000%02d", i)
			err = json.Unmarshal(bytes.ReplaceAll(b, []byte(kindtest.Place(t, e, kindFolders()).Account), []byte(own)), &fixture)
			ids = append(ids, fmt.Sprintf("{id: %q}", own))
		}
		if err != nil {
			t.Fatal(err)
		}
		accounts = append(accounts, fixture.Seed.Accounts...)
		want[e.Kind.Name] = true
	}
	seed, err := json.Marshal(map[string]any{
		"organization": map[string]string{"management_account": accounts[0].ID}, "accounts": accounts,
	})
	if err != nil {
		t.Fatal(err)
	}
	a := enter(t, seed, "", `
version: 1
organization: {discover: list, role: {external_id: imdsctl-4f7c}, regions: [eu-west-1, eu-north-1]}
accounts: [`+strings.Join(ids, ", ")+"]\n")
	sum, err := a.Scan(t.Context(), app.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range sum.Gaps {
		t.Errorf("a gap under the printed roles: %s", g.Detail)
	}
	for row, err := range a.Resources(t.Context(), app.ResourceFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		delete(want, row.Resource.Ref.Kind)
	}
	if len(want) > 0 {
		t.Errorf("the scan found nothing of %v", want)
	}
}

// enter makes a world that enforces the roles, less "access action", and an App that works in it.
func enter(t *testing.T, seed []byte, without, settings string) *app.App {
	t.Helper()
	stage, err := demo.FromSeed(seed, time.Date(2026, 3, 9, 8, 2, 0, 0, time.UTC), 3000)
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range stage.Summary.Accounts {
		deploy(t, stage, account, without)
	}
	config, bad := policy.Parse([]byte(settings), "test.yaml", app.KindNames())
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	a, err := app.New(app.Options{
		Config: config, DBPath: filepath.Join(t.TempDir(),
			"imdsctl.db"), Clock: stage.Clock, AWS: stage.AWS, HTTPClient: stage.Client(),
		Actor: "test", Engine: app.EngineOptions{
			CallTimeout: 12 * time.Hour, VerifyTimeout: 12 * time.Hour, Consistency: time.Minute, PollInterval: time.Minute,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func deploy(t *testing.T, stage *demo.Stage, account fleet.AccountID, without string) {
	t.Helper()
	o := options()
	o.Principal = string(stage.Summary.Management)
	for _, r := range printedWithout(t, build(t, o, roles.Read, roles.Write), o, account, without).Roles {
		if err := stage.World.PutRole(account, r.Name, string(r.Trust), string(r.Policy)); err != nil {
			t.Fatal(err)
		}
	}
}

// printedWithout are roles as plain documents, but for "access action".
func printedWithout(
	t *testing.T, list []roles.Role, o roles.Options, account fleet.AccountID, without string,
) roles.Document {
	t.Helper()
	for i, r := range list {
		for j, s := range r.Statements {
			list[i].Statements[j].Actions = slices.DeleteFunc(s.Actions,
				func(a string) bool { return string(r.Access)+" "+a == without })
		}
		list[i].Statements = slices.DeleteFunc(r.Statements, func(s roles.Statement) bool { return len(s.Actions) == 0 })
	}
	printed, err := roles.JSON(list, o, account)
	if err != nil {
		t.Fatal(err)
	}
	return printed
}
