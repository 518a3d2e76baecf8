package owners

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

const secret = "hunter2-do-not-tell"

// state is as Terraform 1.9 writes it, with what it has beside: outputs, sensitive attributes, private data.
const state = `{"version": 4, "terraform_version": "1.9.0", "serial": 7, "lineage": "x", "outputs": {"p": {"value": "` + secret + `", "type": "string"}},
"resources": [
 {"mode": "data", "type": "aws_instance", "name": "other", "provider": "provider[\"registry.terraform.io/hashicorp/aws\"]",
  "instances": [{"attributes": {"id": "i-0999", "arn": "arn:aws:ec2:us-west-2:999999999999:instance/i-0999"}}]},
 {"mode": "managed", "type": "aws_instance", "name": "db", "provider": "provider[\"registry.terraform.io/hashicorp/aws\"]",
  "instances": [
   {"index_key": "blue", "schema_version": 1, "private": "` + secret + `", "attributes": {"id": "i-0001",
    "arn": "arn:aws:ec2:eu-west-1:111122223333:instance/i-0001", "user_data": "` + secret + `", "name": null, "owner_id": 7}},
   {"index_key": 1, "deposed": "abcd1234", "attributes": {"id": "i-0002"}}]},
 {"module": "module.web[0].module.x", "mode": "managed", "type": "aws_launch_template", "name": "web",
  "provider": "provider[\"registry.terraform.io/hashicorp/aws\"]",
  "instances": [{"attributes": {"id": "lt-0001", "name": "web", "arn": "arn:aws:ec2:eu-west-1:111122223333:launch-template/lt-0001"}}]},
 {"mode": "managed", "type": "aws_ec2_instance_metadata_defaults", "name": "all", "provider": "provider[\"registry.terraform.io/hashicorp/aws\"]",
  "instances": [{"attributes": {"http_tokens": "required", "id": null}}]},
 {"mode": "managed", "type": "aws_ec2_instance_metadata_defaults", "name": "south", "provider": "provider[\"registry.terraform.io/hashicorp/aws\"].south",
  "instances": [{"attributes": {"region": "eu-south-1"}}]},
 {"mode": "managed", "type": "aws_eks_node_group", "name": "n", "provider": "provider[\"registry.terraform.io/hashicorp/aws\"]",
  "instances": [{"attributes": {"id": "prod:blue", "cluster_name": "prod", "node_group_name": "blue",
   "arn": "arn:aws:eks:eu-west-1:111122223333:nodegroup/prod/blue/1"}}]},
 {"mode": "managed", "type": "aws_s3_bucket", "name": "b", "instances": [{"attributes": {"id": "` + secret + `"}}]}
], "check_results": null}`

// shownState is the output of terraform show -json.
const shownState = `{"format_version": "1.0", "terraform_version": "1.9.0", "values": {"outputs": {"p": {"value": "` + secret + `"}}, "root_module": {
"resources": [{"address": "aws_ami.base", "mode": "managed", "type": "aws_ami", "name": "base", "provider_name": "registry.terraform.io/hashicorp/aws",
  "values": {"id": "ami-0001", "arn": "arn:aws:ec2:eu-west-1::image/ami-0001", "owner_id": "111122223333"}}],
"child_modules": [{"address": "module.web", "resources": [{"address": "module.web.aws_autoscaling_group.g[\"a\"]", "mode": "managed",
  "type": "aws_autoscaling_group", "name": "g", "index": "a", "provider_name": "registry.terraform.io/hashicorp/aws",
  "values": {"id": "web-a", "name": "web-a", "arn": "arn:aws:autoscaling:eu-west-1:111122223333:autoScalingGroup:u:autoScalingGroupName/web-a"}}]}]}}}`

func TestParseTerraform(t *testing.T) {
	f, err := ParseTerraform([]byte(state), "prod.tfstate")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range f.Claims {
		got = append(got, fmt.Sprintf("%s %s %s: %s", c.Place, c.Kind, c.ID, c.Owner))
	}
	want := []string{
		"aws/111122223333/eu-west-1 ec2-instance i-0001: terraform aws_instance.db[\"blue\"] of prod.tfstate",
		"aws/111122223333/eu-west-1 launch-template lt-0001: terraform aws_launch_template.web in module.web[0].module.x of prod.tfstate",
		"aws/111122223333/eu-west-1 account-defaults metadata-defaults: terraform aws_ec2_instance_metadata_defaults.all of prod.tfstate",
		"aws/111122223333/eu-west-1 eks-nodegroup prod/blue: terraform aws_eks_node_group.n of prod.tfstate",
	}
	if !slices.Equal(got, want) {
		t.Errorf("claims\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !slices.Equal(f.Unplaced, []string{"aws_ec2_instance_metadata_defaults.south"}) {
		t.Errorf("unplaced %q", f.Unplaced)
	}
	if strings.Contains(fmt.Sprintf("%+v", f), secret) {
		t.Error("a secret left the parser")
	}
}

func TestParseShownState(t *testing.T) {
	f, err := ParseTerraform([]byte(shownState), "show.json")
	if err != nil || len(f.Claims) != 2 {
		t.Fatalf("%+v, %v", f, err)
	}
	for i, want := range []string{"ami ami-0001 terraform aws_ami.base of show.json",
		`auto-scaling-group web-a terraform aws_autoscaling_group.g["a"] in module.web of show.json`} {
		c := f.Claims[i]
		if got := c.Kind + " " + c.ID + " " + c.Owner.String(); got != want || c.Place != place {
			t.Errorf("%s at %s, want %s", got, c.Place, want)
		}
	}
	if f, err := ParseTerraform([]byte(`{"format_version": "1.0"}`), "empty"); err != nil || len(f.Claims) > 0 {
		t.Errorf("an empty state: %+v, %v", f, err)
	}
}

// What cannot be read names the file and what to do, and quotes nothing of it.
func TestBadStates(t *testing.T) {
	for text, want := range map[string]string{
		`{"version": 4, "resources": [` + secret:                                                                 "is not JSON",
		`{"version": 4, "resources": {"` + secret + `": 1}}`:                                                     "no Terraform state",
		`{"version": 3, "modules": [{"x": "` + secret + `"}]}`:                                                   "format 3",
		`{"version": 3, "backend": {"type": "s3", "config": {"secret_key": "` + secret + `"}}, "modules": [{}]}`: "where Terraform keeps the state",
		`{"encrypted_data": "` + secret + `", "version": 4}`:                                                     "encrypted",
		`{"format_version": "1.2", "planned_values": {"a": 1}}`:                                                  "is a Terraform plan",
		`{"password": "` + secret + `"}`:                                                                         "is no Terraform state",
		`[]`:                                                                                                     "no Terraform state",
		``:                                                                                                       "is not JSON",
	} {
		_, err := ParseTerraform([]byte(text), "bad.tfstate")
		d, ok := errors.AsType[fleet.Diagnostic](err)
		if !ok || d.Where != "bad.tfstate" || d.Remedy == "" || !strings.Contains(d.Summary, want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestBook(t *testing.T) {
	var none *Book
	group := inventory.Resource{Ref: fleet.Ref{Place: place, Kind: inventory.KindAutoScaling, ID: "web"}}
	if none.Of(&group) != nil {
		t.Error("no book claims something")
	}
	elsewhere := place
	elsewhere.Account = "222222222222"
	b := &Book{}
	b.Add(Claim{Kind: group.Ref.Kind, ID: "web", Place: elsewhere, Owner: fleet.Owner{Type: fleet.OwnerTerraform, Name: "other"}},
		Claim{Kind: group.Ref.Kind, ID: "web", Place: place, Owner: fleet.Owner{Type: fleet.OwnerTerraform, Name: "mine"}},
		Claim{Kind: group.Ref.Kind, ID: "web", Place: place, Owner: fleet.Owner{Type: fleet.OwnerTerraform, Name: "mine"}},
		Claim{Kind: group.Ref.Kind, ID: "web", Place: place, Owner: fleet.Owner{Type: fleet.OwnerCloudFormation, Name: "G of stack s"}})
	if got := b.Of(&group); len(got) != 2 || got[0].Type != fleet.OwnerCloudFormation || got[1].Name != "mine" {
		t.Errorf("%+v", got)
	}
}

func TestStacks(t *testing.T) {
	root := Stack{ID: "arn:aws:cloudformation:eu-west-1:111122223333:stack/shop/1", Name: "shop"}
	nested := Stack{ID: "arn:aws:cloudformation:eu-west-1:111122223333:stack/shop-Web/2", Name: "shop-Web", Root: root.ID}
	s := NewStacks(place, []Stack{root, nested})
	for _, c := range []struct {
		of       Stack
		r        StackResource
		id, code string
	}{
		{root, StackResource{"Web", "web-asg", "AWS::AutoScaling::AutoScalingGroup"}, "web-asg", "cloudformation Web of stack shop"},
		{nested, StackResource{"T", "lt-01", "AWS::EC2::LaunchTemplate"}, "lt-01", "cloudformation T of stack shop (nested: shop-Web)"},
		{Stack{ID: "x", Name: "n", Root: "arn:aws:cloudformation:eu-west-1:1:stack/gone/3"},
			StackResource{"B", "arn:aws:batch:eu-west-1:1:compute-environment/env", "AWS::Batch::ComputeEnvironment"}, "env",
			"cloudformation B of stack gone (nested: n)"},
		{root, StackResource{"F", "f", "AWS::AppStream::Fleet"}, "fleet/f", "cloudformation F of stack shop"},
	} {
		got, ok := s.Claim(c.of, c.r)
		if !ok || got.ID != c.id || got.Owner.String() != c.code || got.Place != place {
			t.Errorf("%+v: %+v", c.r, got)
		}
	}
	for _, r := range []StackResource{{"Q", "q", "AWS::SQS::Queue"}, {"I", "", "AWS::EC2::Instance"}} {
		if c, ok := s.Claim(root, r); ok {
			t.Errorf("%+v gave %+v", r, c)
		}
	}
}

// FuzzParseTerraform: any bytes give claims that name a kind, an id and the file, or a diagnostic that names the file.
func FuzzParseTerraform(f *testing.F) {
	f.Add([]byte(state))
	f.Add([]byte(shownState))
	f.Add([]byte(`{"version":4,"resources":[{"type":"aws_instance","mode":"managed","instances":[{"attributes":{"id":1}}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseTerraform(data, "file")
		if err != nil {
			if d, ok := errors.AsType[fleet.Diagnostic](err); !ok || d.Where != "file" || d.Remedy == "" {
				t.Errorf("error %v", err)
			}
			return
		}
		for _, c := range got.Claims {
			if c.Kind == "" || c.ID == "" || c.Owner.Type != fleet.OwnerTerraform || !strings.HasSuffix(c.Owner.Name, " of file") {
				t.Errorf("claim %+v", c)
			}
		}
	})
}
