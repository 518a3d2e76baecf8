package iamrole

import (
	"encoding/xml"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// answer is the shape of the example in the API reference of GetAccountAuthorizationDetails, with documents that matter here.
const answer = `<GetAccountAuthorizationDetailsResult>
 <IsTruncated>true</IsTruncated><Marker>AAEXAMPLE</Marker>
 <UserDetailList><member><UserName>Alice</UserName></member></UserDetailList>
 <Policies><member>
  <PolicyName>custom</PolicyName><DefaultVersionId>v2</DefaultVersionId><Arn>arn:aws:iam::123456789012:policy/custom</Arn>
  <PolicyVersionList>
   <member><Document>%7B%22Statement%22%3A%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22%2A%22%2C%22Resource%22%3A%22%2A%22%7D%7D</Document>
    <IsDefaultVersion>false</IsDefaultVersion><VersionId>v1</VersionId></member>
   <member><Document>%7B%22Statement%22%3A%7B%22Sid%22%3A%22Read%20all%22%2C%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22s3%3AGetObject%22%2C%22Resource%22%3A%22%2A%22%7D%7D</Document>
    <IsDefaultVersion>true</IsDefaultVersion><VersionId>v2</VersionId></member>
  </PolicyVersionList></member></Policies>
 <RoleDetailList><member>
  <AssumeRolePolicyDocument>%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Sid%22%3A%22%22%2C%22Effect%22%3A%22Allow%22%2C%22Principal%22%3A%7B%22Service%22%3A%22ec2.amazonaws.com%22%7D%2C%22Action%22%3A%22sts%3AAssumeRole%22%7D%5D%7D</AssumeRolePolicyDocument>
  <RoleId>AROADBQP57FF2AEXAMPLE</RoleId><RoleName>EC2role</RoleName><Path>/</Path><Arn>arn:aws:iam::123456789012:role/EC2role</Arn>
  <InstanceProfileList><member><InstanceProfileName>EC2role</InstanceProfileName>
   <Roles><member><RoleName>EC2role</RoleName></member></Roles></member></InstanceProfileList>
  <RolePolicyList><member><PolicyName>inline</PolicyName><PolicyDocument>%7B%22Statement%22%3A%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22logs%3APutLogEvents%22%2C%22Resource%22%3A%22%2A%22%7D%7D</PolicyDocument></member></RolePolicyList>
  <AttachedManagedPolicies><member><PolicyName>custom</PolicyName><PolicyArn>arn:aws:iam::123456789012:policy/custom</PolicyArn></member></AttachedManagedPolicies>
 </member></RoleDetailList></GetAccountAuthorizationDetailsResult>`

func TestAnAnswerOfIAM(t *testing.T) {
	var page details
	if err := xml.Unmarshal([]byte(answer), &page); err != nil {
		t.Fatal(err)
	}
	if !page.More || page.Marker != "AAEXAMPLE" || len(page.Roles) != 1 || len(page.Policies) != 1 || !hosts(&page.Roles[0]) {
		t.Fatalf("%+v", page)
	}
	d := &driver{place: fleet.Place{Partition: fleet.PartitionAWS, Account: "123456789012"}}
	r := d.resource(&page.Roles[0], map[string]document{page.Policies[0].ARN: inForce(&page.Policies[0])})
	if r.Ref.ID != "EC2role" || r.State[FieldTrust] != "ec2.amazonaws.com" || r.Attrs[inventory.AttrProfiles] != "EC2role" ||
		r.Attrs[inventory.AttrAccess] != "data" || r.Attrs[inventory.AttrAccessData] != "objects in S3 (custom: Read all)" {
		t.Errorf("%+v", r)
	}
	if _, ok := r.Attrs[inventory.AttrAccessUnread]; ok {
		t.Errorf("everything was read, and %q is said not to be", r.Attrs[inventory.AttrAccessUnread])
	}
}

func encoded(document string) string { return url.PathEscape(document) }

const everything = `{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`

// TestWhatIsNotRead: a policy that is missing or makes no sense is named; a boundary that is missing leaves the role as it is.
func TestWhatIsNotRead(t *testing.T) {
	d := &driver{}
	whole := map[string]document{"arn:aws:iam::aws:policy/AdministratorAccess": read(encoded(everything)),
		"arn:fence": read(encoded(`{"Statement": {"Effect": "Allow", "Action": "logs:Put*", "Resource": "*"}}`))}
	inline := func(name, document string) role {
		r := role{Name: "r"}
		r.Inline = append(r.Inline, struct {
			Name     string `xml:"PolicyName"`
			Document string `xml:"PolicyDocument"`
		}{name, document})
		return r
	}
	attached := func(arn, boundary string) role {
		r := role{Name: "r", Boundary: boundary}
		r.Attached = append(r.Attached, struct {
			Name string `xml:"PolicyName"`
			ARN  string `xml:"PolicyArn"`
		}{"p", arn})
		return r
	}
	for name, tt := range map[string]struct {
		role   role
		access string
		unread string
	}{
		"administrator":       {attached("arn:aws:iam::aws:policy/AdministratorAccess", ""), "admin", ""},
		"within a boundary":   {attached("arn:aws:iam::aws:policy/AdministratorAccess", "arn:fence"), "narrow", ""},
		"an unknown boundary": {attached("arn:aws:iam::aws:policy/AdministratorAccess", "arn:gone"), "admin", ""},
		"an unknown policy":   {attached("arn:aws:iam::1:policy/p", ""), "narrow", "p: the account's policies do not have it"},
		"no document":         {inline("x", "%7B"), "narrow", "x: "},
		"a wrong escape":      {inline("x", "%zz"), "narrow", "x: "},
		"an inline one":       {inline("x", encoded(everything)), "admin", ""},
		"no default version":  {attached("arn:none", ""), "narrow", "no default version"},
		"a role of nothing":   {role{Name: "r"}, "narrow", ""},
	} {
		t.Run(name, func(t *testing.T) {
			managed := map[string]document{"arn:none": inForce(&policy{Name: "p"})}
			for arn, doc := range whole {
				managed[arn] = doc
			}
			r := d.resource(&tt.role, managed)
			if r.Attrs[inventory.AttrAccess] != tt.access || !strings.Contains(r.Attrs[inventory.AttrAccessUnread], tt.unread) ||
				(tt.unread == "") != (r.Attrs[inventory.AttrAccessUnread] == "") {
				t.Errorf("%+v", r.Attrs)
			}
		})
	}
}

func TestWhichRolesAreKept(t *testing.T) {
	trust := func(principal string) string {
		return encoded(`{"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": ` + principal + `}]}`)
	}
	for principal, want := range map[string][]string{
		`{"Service": "ec2.amazonaws.com"}`:                                    {"ec2.amazonaws.com"},
		`{"Service": ["lambda.amazonaws.com", "EC2.amazonaws.com"]}`:          {"ec2.amazonaws.com"},
		`{"Service": "ec2.amazonaws.com.cn"}`:                                 {"ec2.amazonaws.com"},
		`{"Service": "lambda.amazonaws.com", "AWS": ["arn:aws:iam::1:root"]}`: nil,
		`{"AWS": "*"}`: nil, `"*"`: nil, `7`: nil,
		`{"Service": ["sagemaker.amazonaws.com", "appstream.amazonaws.com"]}`: {"appstream.amazonaws.com", "sagemaker.amazonaws.com"},
	} {
		if got := services(trust(principal)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", principal, got, want)
		}
	}
	if services("%zz") != nil || services("x") != nil {
		t.Error("what is no trust policy names services")
	}
	denied := encoded(`{"Statement": {"Effect": "Deny", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}}`)
	if got := services(denied); got != nil {
		t.Errorf("denied, and still %q", got)
	}
}

// FuzzDocuments: whatever IAM says of a role is taken or named, and never breaks anything.
func FuzzDocuments(f *testing.F) {
	f.Add(encoded(everything), "%7B%22Statement%22%3A%5B%5D%7D")
	f.Add("%zz", `{"Statement":{"Principal":{"Service":["ec2.amazonaws.com"]},"Effect":"Allow"}}`)
	f.Fuzz(func(t *testing.T, document, trust string) {
		r := role{Name: "r", Trust: trust}
		r.Inline = append(r.Inline, struct {
			Name     string `xml:"PolicyName"`
			Document string `xml:"PolicyDocument"`
		}{"x", document})
		out := (&driver{}).resource(&r, nil)
		if out.Attrs[inventory.AttrAccess] == "" {
			t.Errorf("nothing is said of %q", document)
		}
	})
}
