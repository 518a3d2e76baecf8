package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// codedFleet has an instance that a Terraform state lists, a group and a template that a nested stack lists, and an instance of
// nobody's.
func codedFleet() *core.Seed {
	template := `{"id": "lt-0123456789abcdef0", "name": "web", "versions": [{"data": {"ImageId": "` + image + `", "InstanceType": "m5.large"}}]}`
	return organization(
		in(shop, ireland, map[string]string{
			"ec2":         ec2Section(template, instance(id(1), "optional", ""), instance(id(2), "optional", ""), instance(id(3), "optional", "")),
			"autoscaling": `{"groups": [{"name": "web", "template": "web", "version": "1", "desired": 1, "max": 2, "instances": ["` + id(2) + `"]}]}`,
			"cloudformation": `{"stacks": [{"name": "shop"}, {"name": "shop-Web-1", "parent": "shop", "resources": [
				{"logical": "Group", "physical": "web", "type": "AWS::AutoScaling::AutoScalingGroup"},
				{"logical": "Template", "physical": "lt-0123456789abcdef0", "type": "AWS::EC2::LaunchTemplate"}]}]}`,
		}),
		runs(modern(`{"instances": ["`+id(1)+`", "`+id(2)+`", "`+id(3)+`"]}`)),
	)
}

func terraformState(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "prod.tfstate")
	state := `{"version": 4, "resources": [{"module": "module.db", "mode": "managed", "type": "aws_instance", "name": "main",
		"provider": "provider[\"registry.terraform.io/hashicorp/aws\"]", "instances": [{"attributes": {"id": "` + id(1) + `",
		"arn": "arn:aws:ec2:eu-west-1:333333333333:instance/` + id(1) + `", "user_data": "secret"}}]}]}`
	if err := os.WriteFile(path, []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What code manages is planned all the same, and the plan, the list of resources and `why` name the code.
func TestCodeIsNamed(t *testing.T) {
	t.Parallel()
	state := terraformState(t)
	w := newWorld(t, codedFleet(), baseConfig+"owners: {terraform: ["+filepath.Join(filepath.Dir(state), "*.tfstate")+"], cloudformation: true}\n")
	if sum := mustScan(t, w.app); len(sum.Gaps) > 0 {
		t.Fatalf("gaps %+v", sum.Gaps)
	}
	terraform := fleet.Owner{Type: fleet.OwnerTerraform, Name: "aws_instance.main in module.db of " + state}
	template := fleet.Owner{Type: fleet.OwnerCloudFormation, Name: "Template of stack shop (nested: shop-Web-1)"}
	group := fleet.Owner{Type: fleet.OwnerCloudFormation, Name: "Group of stack shop (nested: shop-Web-1)"}
	want := map[string]fleet.Owner{id(1): terraform, id(2): {}, id(3): {}, "lt-0123456789abcdef0": template, "web": group}
	seen := map[string]bool{}
	for _, c := range mustPlan(t, w.app).Changes {
		if o, ok := want[c.Ref.ID]; ok {
			seen[c.Ref.ID] = true
			if c.Owner != o {
				t.Errorf("%s of %s: its code is %q, not %q", c.Action, c.Ref.ID, c.Owner, o)
			}
		}
	}
	if len(seen) != len(want) {
		t.Errorf("the plan changes only %v", seen)
	}
	for row, err := range w.app.Resources(t.Context(), app.ResourceFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if o := want[row.Resource.Ref.ID]; o != (fleet.Owner{}) && (row.Owner != o || row.Code != o) {
			t.Errorf("%s is of %q, its code %q", row.Resource.Ref.ID, row.Owner, row.Code)
		}
	}
	why, err := w.app.Why(t.Context(), app.WhyOptions{Instance: id(1), Account: shop})
	if err != nil || why.Owner != terraform || len(why.Code) != 1 || !strings.Contains(strings.Join(why.Next, " "), terraform.Name) {
		t.Errorf("why: %v, owner %q, code %v, next %q", err, why.Owner, why.Code, why.Next)
	}
}

// Where the stacks cannot be read there is a gap, and the rest of the place is planned; where they are not asked for, none is.
func TestStacksThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, codedFleet(), baseConfig+"owners: {cloudformation: true}\n")
	if _, err := w.AddFault(core.Fault{Service: "cloudformation", Action: "ListStackResources", Deny: true}); err != nil {
		t.Fatal(err)
	}
	sum := mustScan(t, w.app)
	if len(sum.Gaps) != 1 || sum.Gaps[0].Kind != inventory.ScopeStacks || sum.Gaps[0].Class != fleet.ErrDenied {
		t.Errorf("gaps %+v", sum.Gaps)
	}
	if p := mustPlan(t, w.app); len(p.Changes) == 0 || p.Header.Summary.Gaps != 1 {
		t.Errorf("%d changes, %d gaps", len(p.Changes), p.Header.Summary.Gaps)
	}
	before := w.counts()["cloudformation:ListStacks"]
	other := w.open(t, baseConfig)
	if sum := mustScan(t, other); len(sum.Gaps) > 0 || w.counts()["cloudformation:ListStacks"] != before {
		t.Errorf("gaps %+v without being asked", sum.Gaps)
	}
	if status, err := other.Status(t.Context()); err != nil || len(status.Gaps) > 0 {
		t.Errorf("status: %v, %+v", err, status)
	}
}

// A state that is not there, or cannot be read, ends the scan before it begins, and is named.
func TestBadTerraformStates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.tfstate")
	if err := os.WriteFile(broken, []byte(`{"password": "hunter2"`), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, codedFleet(), baseConfig+"owners: {terraform: ["+filepath.Join(dir, "none-*")+", "+broken+"]}\n")
	_, err := w.app.Scan(t.Context(), app.ScanOptions{})
	if err == nil || !strings.Contains(err.Error(), "none-*") || !strings.Contains(err.Error(), broken) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}

// Every page of both lists is read, what was deleted claims nothing, and one call a stack is what it takes.
func TestManyStacks(t *testing.T) {
	t.Parallel()
	var many, stacks []string
	for n := range 120 {
		many = append(many, fmt.Sprintf(`{"logical": "Q%d", "physical": "q%d", "type": "AWS::SQS::Queue"}`, n, n))
	}
	many = append(many, `{"logical": "Old", "physical": "`+id(2)+`", "type": "AWS::EC2::Instance", "status": "DELETE_COMPLETE"}`,
		`{"logical": "Last", "physical": "`+id(1)+`", "type": "AWS::EC2::Instance"}`)
	stacks = append(stacks, `{"name": "many", "resources": [`+strings.Join(many, ",")+`]}`,
		`{"name": "gone", "status": "DELETE_COMPLETE", "resources": [{"logical": "X", "physical": "`+id(2)+`", "type": "AWS::EC2::Instance"}]}`)
	for n := range 100 {
		stacks = append(stacks, fmt.Sprintf(`{"name": "empty-%d"}`, n))
	}
	seed := organization(in(shop, ireland, map[string]string{
		"ec2":            ec2Section("", instance(id(1), "optional", ""), instance(id(2), "optional", "")),
		"cloudformation": `{"stacks": [` + strings.Join(stacks, ",") + `]}`,
	}))
	w := newWorld(t, seed, baseConfig+"owners: {cloudformation: true}\n")
	if sum := mustScan(t, w.app); len(sum.Gaps) > 0 {
		t.Fatalf("gaps %+v", sum.Gaps)
	}
	for row, err := range w.app.Resources(t.Context(), app.ResourceFilter{Kinds: []string{inventory.KindInstance}}) {
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{id(1): "cloudformation Last of stack many", id(2): ""}[row.Resource.Ref.ID]
		if row.Owner.String() != want {
			t.Errorf("%s is of %q, not %q", row.Resource.Ref.ID, row.Owner, want)
		}
	}
	if n := w.counts()["cloudformation:ListStackResources"]; n != 101+1 {
		t.Errorf("%d calls for the resources of 101 stacks, one of two pages", n)
	}
}
