package organizations_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	ec2api "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	orgs "github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/organizations/types"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/organizations"
	"github.com/imdsctl/imdsctl/internal/clock"
)

// governed is an organization of three accounts, the second in Production, the third in Sandbox/Lab.
func governed(t *testing.T, section string) (*core.World, *clock.Manual) {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	w := core.New(core.Options{Clock: c, Unthrottled: true}, organizations.Service(), ec2.Service())
	err := w.Load([]byte(`{
		"organization": {"management_account": "100000000000", "ous": [{"name": "Production"}, {"name": "Sandbox"},
			{"name": "Lab", "parent": "Sandbox", "id": "ou-abcd-lablablab"}]},
		"accounts": [{"id": "100000000000"}, {"id": "100000000001", "ou": "Production",
			"regions": {"eu-west-1": {"ec2": {"defaults": {"http_tokens": "optional", "hop_limit": 3}}}}},
			{"id": "100000000002", "ou": "Lab"}],
		"services": {"organizations": ` + section + `}}`))
	if err != nil {
		t.Fatal(err)
	}
	return w, c
}

func computer(w *core.World, account, region string) *ec2api.Client {
	return ec2api.New(ec2api.Options{
		Region: region, BaseEndpoint: aws.String(core.BaseURL), HTTPClient: w.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(account, "dummy", ""),
	})
}

func defaultsOf(t *testing.T, w *core.World, account, region string) *ec2types.InstanceMetadataDefaultsResponse {
	t.Helper()
	out, err := computer(w, account, region).GetInstanceMetadataDefaults(t.Context(), &ec2api.GetInstanceMetadataDefaultsInput{})
	if err != nil {
		t.Fatal(err)
	}
	return out.AccountLevel
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

const declares = `{"ec2_attributes": {"exception_message": {"@@assign": "ask the platform team"},
	"instance_metadata_defaults": {"http_tokens": {"@@assign": "required"},
	"http_put_response_hop_limit": {"@@assign": "2"}, "instance_metadata_tags": {"@@assign": "no_preference"}}}}`

func TestADeclarativePolicyIsTheAccountsDefaults(t *testing.T) {
	w, clk := governed(t, `{"policy_types": ["SERVICE_CONTROL_POLICY", "DECLARATIVE_POLICY_EC2"]}`)
	c := client(w, management, "us-east-1")
	made, err := c.CreatePolicy(t.Context(), &orgs.CreatePolicyInput{Name: aws.String("imds"), Description: aws.String(""),
		Type: types.PolicyTypeDeclarativePolicyEc2, Content: aws.String(declares)})
	if err != nil {
		t.Fatal(err)
	}
	id := made.Policy.PolicySummary.Id
	if _, err := c.DescribePolicy(t.Context(), &orgs.DescribePolicyInput{PolicyId: id}); code(err) != "PolicyNotFoundException" {
		t.Errorf("a policy shows at once: %v", err)
	}
	clk.Advance(time.Second)
	before := defaultsOf(t, w, "100000000001", "eu-west-1")
	target := ou(t, c, "Production")
	if _, err := c.AttachPolicy(t.Context(), &orgs.AttachPolicyInput{PolicyId: id, TargetId: &target}); err != nil {
		t.Fatal(err)
	}
	clk.Advance(time.Second)
	for _, region := range []string{"eu-west-1", "us-west-2"} {
		got := defaultsOf(t, w, "100000000001", region)
		if got.HttpTokens != "required" || aws.ToInt32(got.HttpPutResponseHopLimit) != 2 || got.InstanceMetadataTags != "" ||
			got.ManagedBy != "declarative-policy" || aws.ToString(got.ManagedExceptionMessage) != "ask the platform team" {
			t.Errorf("%s: %+v", region, got)
		}
	}
	if got := defaultsOf(t, w, "100000000002", "eu-west-1"); got.ManagedBy != "account" || got.HttpTokens != "" {
		t.Errorf("an account elsewhere has %+v", got)
	}
	_, err = computer(w, "100000000001", "us-west-2").ModifyInstanceMetadataDefaults(t.Context(),
		&ec2api.ModifyInstanceMetadataDefaultsInput{HttpTokens: "optional"})
	if code(err) != "DeclarativePolicyViolation" || !strings.Contains(err.Error(), "ask the platform team") {
		t.Errorf("the account changes its defaults: %v", err)
	}
	effective, err := client(w, "100000000001", "us-east-1").DescribeEffectivePolicy(t.Context(),
		&orgs.DescribeEffectivePolicyInput{PolicyType: types.EffectivePolicyTypeDeclarativePolicyEc2})
	if err != nil || !strings.Contains(*effective.EffectivePolicy.PolicyContent, `"http_tokens":"required"`) {
		t.Errorf("effective policy %+v: %v", effective, err)
	}
	if _, err := c.DetachPolicy(t.Context(), &orgs.DetachPolicyInput{PolicyId: id, TargetId: &target}); err != nil {
		t.Fatal(err)
	}
	clk.Advance(time.Second)
	after := defaultsOf(t, w, "100000000001", "eu-west-1")
	if after.HttpTokens != before.HttpTokens || *after.HttpPutResponseHopLimit != 3 || after.ManagedBy != "account" {
		t.Errorf("after the detachment %+v, before the attachment %+v", after, before)
	}
}

func TestPoliciesFurtherDownSayMore(t *testing.T) {
	w, _ := governed(t, `{"policy_types": ["DECLARATIVE_POLICY_EC2"], "policies": [
		{"id": "p-topmost0001", "name": "top", "type": "DECLARATIVE_POLICY_EC2", "targets": ["root"], "content":
		 {"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": "optional"},
		  "http_endpoint": {"@@assign": "enabled", "@@operators_allowed_for_child_policies": ["@@none"]}}}}},
		{"id": "p-below000001", "name": "below", "type": "DECLARATIVE_POLICY_EC2", "targets": ["100000000002"], "content":
		 {"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": "required"},
		  "http_endpoint": {"@@assign": "disabled"}, "http_put_response_hop_limit": {"@@assign": "-1"}}}}}]}`)
	if got := defaultsOf(t, w, "100000000000", "eu-west-1"); got.HttpTokens != "optional" {
		t.Errorf("the management account has %+v", got)
	}
	got := defaultsOf(t, w, "100000000002", "eu-west-1")
	if got.HttpTokens != "required" || got.HttpEndpoint != "enabled" || got.HttpPutResponseHopLimit != nil {
		t.Errorf("the account below has %+v", got)
	}
}

func TestServiceControlPoliciesBind(t *testing.T) {
	w, clk := governed(t, `{"policies": [{"id": "p-denydeny01", "name": "deny", "type": "SERVICE_CONTROL_POLICY",
		"targets": ["Lab"], "content": {"Version": "2012-10-17", "Statement": [{"Effect": "Deny",
		"Action": "ec2:ModifyInstanceMetadataDefaults", "Resource": "*"}]}}]}`)
	modify := func(account string) error {
		_, err := computer(w, account, "eu-west-1").ModifyInstanceMetadataDefaults(t.Context(),
			&ec2api.ModifyInstanceMetadataDefaultsInput{HttpTokens: "required"})
		return err
	}
	if err := modify("100000000002"); code(err) != "UnauthorizedOperation" {
		t.Errorf("the policy does not bind the account under its unit: %v", err)
	}
	if err := modify("100000000001"); err != nil {
		t.Errorf("the policy binds an account of another unit: %v", err)
	}
	c := client(w, management, "us-east-1")
	if _, err := c.AttachPolicy(t.Context(), &orgs.AttachPolicyInput{
		PolicyId: aws.String("p-denydeny01"), TargetId: aws.String(string(management))}); err != nil {
		t.Fatal(err)
	}
	if err := modify(string(management)); err != nil {
		t.Errorf("a service control policy binds the management account: %v", err)
	}
	lab := aws.String("ou-abcd-lablablab")
	if _, err := c.DetachPolicy(t.Context(), &orgs.DetachPolicyInput{PolicyId: aws.String("p-FullAWSAccess"),
		TargetId: lab}); err != nil {
		t.Fatal(err)
	}
	clk.Advance(time.Second)
	_, err := computer(w, "100000000002", "eu-west-1").DescribeInstances(t.Context(), &ec2api.DescribeInstancesInput{})
	if code(err) != "UnauthorizedOperation" {
		t.Errorf("a level without an allow allows: %v", err)
	}
	_, err = c.DetachPolicy(t.Context(), &orgs.DetachPolicyInput{PolicyId: aws.String("p-denydeny01"), TargetId: lab})
	if code(err) != "ConstraintViolationException" {
		t.Errorf("the last policy of a unit can be detached: %v", err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	w, clk := governed(t, `{"policies": [{"id": "p-inuse00001", "name": "deny", "type": "SERVICE_CONTROL_POLICY",
		"targets": ["root"], "content": {"Version": "2012-10-17", "Statement": []}}]}`)
	c := client(w, management, "us-east-1")
	create := func(name, kind, content string) error {
		_, err := c.CreatePolicy(t.Context(), &orgs.CreatePolicyInput{Name: &name, Description: &name,
			Type: types.PolicyType(kind), Content: &content})
		return err
	}
	update := func(content string) error {
		_, err := c.UpdatePolicy(t.Context(), &orgs.UpdatePolicyInput{PolicyId: aws.String("p-inuse00001"), Content: &content})
		return err
	}
	drop := func(id string) error {
		_, err := c.DeletePolicy(t.Context(), &orgs.DeletePolicyInput{PolicyId: &id})
		return err
	}
	attach := func(id string) error {
		_, err := c.AttachPolicy(t.Context(), &orgs.AttachPolicyInput{PolicyId: &id, TargetId: aws.String("100000000001")})
		return err
	}
	if err := create("unbound", organizations.TypeDeclarative, declares); err != nil {
		t.Fatal(err)
	}
	clk.Advance(time.Second)
	listed, err := c.ListPolicies(t.Context(), &orgs.ListPoliciesInput{Filter: types.PolicyTypeDeclarativePolicyEc2})
	if err != nil || len(listed.Policies) != 1 {
		t.Fatalf("%+v: %v", listed, err)
	}
	unbound := *listed.Policies[0].Id
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"a name used twice":        {create("deny", organizations.TypeSCP, `{"Statement": []}`), "DuplicatePolicyException"},
		"a document of no sense":   {create("x", organizations.TypeSCP, `{"Statements": []}`), "MalformedPolicyDocumentException"},
		"a hyphen for underscore":  {create("x", organizations.TypeDeclarative, hyphen), "MalformedPolicyDocumentException"},
		"a hop limit as a number":  {create("x", organizations.TypeDeclarative, number), "MalformedPolicyDocumentException"},
		"a type without an effect": {create("x", "TAG_POLICY", `{}`), "PolicyTypeNotAvailableForOrganizationException"},
		"a long document":          {update(strings.Repeat(" ", 10240) + "{}"), "ConstraintViolationException"},
		"a document cut short":     {update(`{"Version": "2012-10-17"`), "MalformedPolicyDocumentException"},
		"a policy in use":          {drop("p-inuse00001"), "PolicyInUseException"},
		"a policy of AWS's":        {drop("p-FullAWSAccess"), "InvalidInputException"},
		"nobody's policy":          {drop("p-nobody0001"), "PolicyNotFoundException"},
		"a type not enabled":       {attach(unbound), "PolicyTypeNotEnabledException"},
		"an attachment made twice": {attach("p-FullAWSAccess"), "DuplicatePolicyAttachmentException"},
	} {
		if got := code(tt.err); got != tt.want {
			t.Errorf("%s: got %q (%v), want %s", name, got, tt.err, tt.want)
		}
	}
	if err := drop(unbound); err != nil {
		t.Errorf("a policy that is attached to nothing cannot be deleted: %v", err)
	}
	member := client(w, "100000000001", "us-east-1")
	if _, err := member.ListPolicies(t.Context(), &orgs.ListPoliciesInput{Filter: "TAG_POLICY"}); code(err) != "AccessDeniedException" {
		t.Errorf("a member lists policies: %v", err)
	}
}

const (
	hyphen = `{"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": "no-preference"}}}}`
	number = `{"ec2_attributes": {"instance_metadata_defaults": {"http_put_response_hop_limit": {"@@assign": 2}}}}`
)

func TestDocumentsAreKeptByteForByte(t *testing.T) {
	document := "{\n  \"Version\":   \"2012-10-17\",\n\t\"Statement\": [ ]\n}\n"
	w, _ := governed(t, `{"policies": [{"id": "p-exactly001", "name": "x", "type": "SERVICE_CONTROL_POLICY",
		"content": "{\n  \"Version\":   \"2012-10-17\",\n\t\"Statement\": [ ]\n}\n"}]}`)
	got, err := client(w, management, "us-east-1").DescribePolicy(t.Context(),
		&orgs.DescribePolicyInput{PolicyId: aws.String("p-exactly001")})
	if err != nil || aws.ToString(got.Policy.Content) != document {
		t.Errorf("got %q: %v", aws.ToString(got.Policy.Content), err)
	}
}

func TestSeedsThatMakeNoSense(t *testing.T) {
	for name, section := range map[string]string{
		"target":   `{"policies": [{"name": "x", "type": "SERVICE_CONTROL_POLICY", "content": {"Statement": []}, "targets": ["ou"]}]}`,
		"type":     `{"policies": [{"name": "x", "type": "TAG_POLICY", "content": {}}]}`,
		"document": `{"policies": [{"name": "x", "type": "DECLARATIVE_POLICY_EC2", "content": {"ec2": {}}}]}`,
		"id":       `{"policies": [{"id": "x", "name": "x", "type": "SERVICE_CONTROL_POLICY", "content": {"Statement": []}}]}`,
	} {
		w := core.New(core.Options{}, organizations.Service())
		err := w.Load([]byte(`{"organization": {"management_account": "100000000000"}, "accounts": [{"id": "100000000000"}],
			"services": {"organizations": ` + section + `}}`))
		if err == nil || !strings.Contains(err.Error(), "seed.services.organizations.policies[0]") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// ou finds a unit under the root.
func ou(t *testing.T, c *orgs.Client, name string) string {
	t.Helper()
	roots, err := c.ListRoots(t.Context(), &orgs.ListRootsInput{})
	if err != nil {
		t.Fatal(err)
	}
	units, err := c.ListOrganizationalUnitsForParent(t.Context(),
		&orgs.ListOrganizationalUnitsForParentInput{ParentId: roots.Roots[0].Id})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range units.OrganizationalUnits {
		if *u.Name == name {
			return *u.Id
		}
	}
	t.Fatalf("there is no unit %s", name)
	return ""
}
