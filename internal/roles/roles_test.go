package roles_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/followup"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/roles"
	"github.com/imdsctl/imdsctl/test/python"
)

var update = flag.Bool("update", false, "write the golden files anew")

func known() []kind.Kind {
	var out []kind.Kind
	for _, e := range all.List() {
		out = append(out, e.Kind)
	}
	return out
}

func options() roles.Options {
	return roles.Options{Principal: "111122223333", ExternalID: "imdsctl-4f7c"}
}

func build(t *testing.T, o roles.Options, access ...roles.Access) []roles.Role {
	t.Helper()
	out, err := roles.Build(known(), o, access...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs from what is printed now; look at it, then run go test ./internal/roles -update\n%s", file, got)
	}
}

func TestPrinted(t *testing.T) {
	both := build(t, options(), roles.Read, roles.Write)
	golden(t, "roles.yaml", roles.CloudFormation(both, options()))
	golden(t, "roles.tf", roles.Terraform(both, options()))
	golden(t, "read.yaml", roles.CloudFormation(build(t, roles.Options{}, roles.Read), roles.Options{}))
	golden(t, "organization.tf", roles.Terraform(build(t, roles.Options{}, roles.Organization), roles.Options{}))
	for _, p := range []fleet.Partition{fleet.PartitionAWS, fleet.PartitionChina, fleet.PartitionGov} {
		o := options()
		o.Partition = p
		d, err := roles.JSON(build(t, o, roles.Organization, roles.Write, roles.Read), o, "444455556666")
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.MarshalIndent(d, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "roles."+string(p)+".json", string(b)+"\n")
	}
}

// The write role may start follow-ups, and only those of the configuration; the read role may not.
func TestFollowUps(t *testing.T) {
	o := options()
	for _, r := range build(t, o, roles.Read, roles.Write) {
		if text := fmt.Sprint(r.Statements); strings.Contains(text, "Command") {
			t.Errorf("without follow-ups, the %s role has %s", r.Access, text)
		}
	}
	o.FollowUps = followup.Actions("restart-web", "AWS-RunShellScript", "restart-web",
		"arn:aws:ssm:eu-west-1:999988887777:document/shared")
	both := build(t, o, roles.Read, roles.Write)
	if text := fmt.Sprint(both[0].Statements); strings.Contains(text, "Command") {
		t.Errorf("the read role has %s", text)
	}
	found := map[string][]string{}
	for _, s := range both[1].Statements {
		for _, a := range s.Actions {
			found[a] = append(found[a], s.Resources...)
		}
	}
	want := map[string][]string{
		"ssm:SendCommand": {
			"arn:aws:ssm:eu-west-1:999988887777:document/shared",
			"arn:{partition}:ssm:{region}::document/AWS-RunShellScript",
			"arn:{partition}:ssm:{region}:{account}:document/restart-web",
			"arn:{partition}:ec2:{region}:{account}:instance/*",
		},
		"ssm:ListCommands":           {"*"},
		"ssm:ListCommandInvocations": {"*"},
	}
	for action, resources := range want {
		if !slices.Equal(found[action], resources) {
			t.Errorf("%s is allowed on %q, want %q", action, found[action], resources)
		}
	}
	golden(t, "followups.yaml", roles.CloudFormation(both[1:], o))
}

// The template says the same as the plain documents, once its functions are resolved.
func TestCloudFormationIsTheJSON(t *testing.T) {
	o := options()
	o.Partition = fleet.PartitionGov
	o.Names = map[roles.Access]string{roles.Read: "tools/imds/look", roles.Write: "/tools/imds/touch"}
	o.MaxSession = 2 * time.Hour
	both := build(t, o, roles.Read, roles.Write)
	plain, err := roles.JSON(both, o, "444455556666")
	if err != nil {
		t.Fatal(err)
	}
	var template struct {
		Parameters map[string]struct{ Default string }
		Resources  map[string]struct {
			Properties struct {
				RoleName, Path           string
				MaxSessionDuration       int
				AssumeRolePolicyDocument any
				Policies                 []struct{ PolicyDocument any }
			}
		}
	}
	source := roles.CloudFormation(both, o)
	source = strings.NewReplacer("${AWS::Partition}", "aws-us-gov", "${AWS::AccountId}", "444455556666", "!Sub ",
		"").Replace(source)
	var tree any
	if err := yaml.Unmarshal([]byte(source), &tree); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(tree) // which knows the fields by their own names
	if err == nil {
		err = json.Unmarshal(b, &template)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range []string{"ReadRole", "WriteRole"} {
		p := template.Resources[id].Properties
		if p.RoleName != id+"Name" || template.Parameters[id+"Name"].Default != plain.Roles[i].Name || p.Path != "/tools/imds/" {
			t.Errorf("%s: name %q of parameter %q, path %q", id, p.RoleName, template.Parameters[id+"Name"].Default, p.Path)
		}
		if p.MaxSessionDuration != 7200 {
			t.Errorf("%s: sessions of %d s", id, p.MaxSessionDuration)
		}
		if got, want := p.Policies[0].PolicyDocument, decode(t, plain.Roles[i].Policy); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the template's policy is %v\nthe plain one is %v", id, got, want)
		}
	}
}

func decode(t *testing.T, raw json.RawMessage) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// The roles hold exactly what kinds declare, regions, evidence and gates: nothing wider and no action twice.
func TestLeastPrivilege(t *testing.T) {
	kinds := known()
	o := options()
	o.Management = true // with all kinds
	for _, r := range build(t, o, roles.Read, roles.Write, roles.Organization) {
		seen := map[string]bool{}
		sids := map[string]bool{}
		for _, s := range r.Statements {
			if sids[s.Sid] {
				t.Errorf("%s: two statements %s", r.Name, s.Sid)
			}
			sids[s.Sid] = true
			for _, a := range s.Actions {
				if strings.Contains(a, "*") {
					t.Errorf("%s: a pattern of actions: %s", r.Name, a)
				}
				if seen[a] {
					t.Errorf("%s: %s is allowed twice", r.Name, a)
				}
				seen[a] = true
				if r.Access != roles.Write && !reads(a) {
					t.Errorf("%s, which may only look, may %s", r.Name, a)
				}
			}
		}
		switch r.Access {
		case roles.Read:
			for _, k := range kinds {
				for _, a := range k.Reads {
					if seen[a.Name] == a.ToWrite {
						t.Errorf("the read role has %s of %s: %t", a.Name, k.Name, seen[a.Name])
					}
				}
			}
		case roles.Write:
			for _, k := range kinds {
				for _, a := range append(slices.Clone(k.Writes), called(k)...) {
					for _, name := range append([]string{a.Name}, a.With...) {
						if !seen[name] {
							t.Errorf("the write role lacks %s of %s", name, k.Name)
						}
					}
				}
			}
		}
	}
}

// What an organization has once is for the roles of the account that manages it, and for no other's.
func TestOnlyTheManagementAccountReachesTheOrganization(t *testing.T) {
	o := options()
	for _, o.Management = range []bool{false, true} {
		for _, r := range build(t, o, roles.Read, roles.Write) {
			reaches := slices.ContainsFunc(r.Statements, func(s roles.Statement) bool {
				return slices.ContainsFunc(s.Actions, func(a string) bool { return strings.HasPrefix(a, "organizations:") })
			})
			if reaches != o.Management {
				t.Errorf("the %s role, of the management account %t, reaches the organization %t", r.Access, o.Management, reaches)
			}
		}
	}
}

// Each document says where it goes: what is the management account's never asks to be deployed everywhere.
func TestDocumentsSayWhereTheyGo(t *testing.T) {
	o := options()
	for _, o.Management = range []bool{false, true} {
		for _, access := range [][]roles.Access{{roles.Read, roles.Write}, {roles.Organization}} {
			list := build(t, o, access...)
			alone := o.Management || access[0] == roles.Organization
			for _, text := range []string{roles.CloudFormation(list, o), roles.Terraform(list, o)} {
				head, _, _ := strings.Cut(text, "\n")
				if strings.Contains(head, "manages the organization") != alone || strings.Contains(head, "every account") == alone {
					t.Errorf("the roles %v, of the management account %t, begin with %q", access, o.Management, head)
				}
			}
		}
	}
}

// What the kinds declare fits into one managed policy, so that the printed documents can be pasted anywhere; what the
// configuration adds may make it larger, up to what IAM takes in a role.
func TestPoliciesFitIntoIAM(t *testing.T) {
	o := options()
	o.Management = true
	for _, r := range build(t, o, roles.Read, roles.Write, roles.Organization) {
		if n := r.Size(); n == 0 || n > roles.MaxManaged {
			t.Errorf("the policy of the %s role has %d characters, and a managed one takes %d", r.Access, n, roles.MaxManaged)
		}
	}
	for n := 1; ; n++ {
		var documents []string
		for i := range n * 10 {
			documents = append(documents, fmt.Sprintf("restart-%03d", i))
		}
		o.FollowUps = followup.Actions(documents...)
		list, err := roles.Build(known(), o, roles.Write)
		if err == nil {
			if got := list[0].Size(); got > roles.MaxInline {
				t.Fatalf("%d documents make %d characters, and nobody says so", len(documents), got)
			}
			continue
		}
		d, ok := errors.AsType[fleet.Diagnostic](err)
		if n == 1 || !ok || d.Where != "follow_ups" || !strings.Contains(d.Summary, "10240") {
			t.Errorf("with %d documents: %v", len(documents), err)
		}
		return
	}
}

func called(k kind.Kind) []kind.Action {
	var out []kind.Action
	for _, v := range k.Verbs {
		for name := range maps.Keys(v.Calls) {
			out = append(out, kind.Action{Name: name})
		}
	}
	return out
}

func reads(action string) bool {
	_, verb, _ := strings.Cut(action, ":")
	return strings.HasPrefix(verb, "Describe") || strings.HasPrefix(verb, "Get") || strings.HasPrefix(verb, "List")
}

func TestPartitionsAreFilledIn(t *testing.T) {
	o := options()
	o.Partition = fleet.PartitionChina
	d, err := roles.JSON(build(t, o, roles.Write), o, "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "arn:aws:") || !strings.Contains(string(b), "arn:aws-cn:ec2:*:*:instance/*") {
		t.Errorf("not a document of China: %s", b)
	}
	template := roles.CloudFormation(build(t, o, roles.Write), o) + roles.Terraform(build(t, o, roles.Write), o)
	for _, unfilled := range []string{"{partition}", "{region}", "{account}"} {
		if strings.Contains(template, unfilled) {
			t.Errorf("%s was left unfilled", unfilled)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, c := range []struct {
		name  string
		o     roles.Options
		where string
	}{
		{"principal", roles.Options{Principal: "1234"}, "--principal"},
		{"principal with a quote", roles.Options{Principal: `arn:aws:iam::111122223333:role/a"b`}, "--principal"},
		{"principal with a newline", roles.Options{Principal: "111122223333\n"}, "--principal"},
		{"external id", roles.Options{ExternalID: "a b"}, "--external-id"},
		{"name", roles.Options{Names: map[roles.Access]string{roles.Read: "a b"}}, "--read-name"},
		{"session", roles.Options{MaxSession: time.Minute}, "organization.role.duration"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := roles.Build(known(), c.o, roles.Read)
			d, ok := errors.AsType[fleet.Diagnostic](err)
			if !ok || d.Where != c.where || d.Remedy == "" {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := roles.JSON(nil, roles.Options{}, ""); err == nil {
		t.Error("a plain trust policy of nobody")
	}
}

// The linter of AWS finds nothing wrong with the templates that are printed.
func TestCloudFormationLints(t *testing.T) {
	lint := python.Need(t, "cfn-lint")
	out, err := exec.CommandContext(t.Context(), lint, "testdata/roles.yaml", "testdata/read.yaml",
		"testdata/followups.yaml").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestOwnersAreReadOnlyWhereAskedFor: the calls that tell who manages what are in the read role where the configuration asks.
func TestOwnersAreReadOnlyWhereAskedFor(t *testing.T) {
	has := func(o roles.Options) bool {
		for _, r := range build(t, o, roles.Read, roles.Write) {
			for _, s := range r.Statements {
				if slices.Contains(s.Actions, "cloudformation:ListStacks") {
					return r.Access == roles.Read
				}
			}
		}
		return false
	}
	o := options()
	if has(o) {
		t.Error("stacks may be listed though nobody asks for it")
	}
	o.Owners = []kind.Action{{Name: "cloudformation:ListStacks", Resource: "*"}}
	if !has(o) {
		t.Error("stacks may not be listed")
	}
}
