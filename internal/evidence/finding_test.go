package evidence

import (
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

func TestSubjects(t *testing.T) {
	for text, want := range map[string]Subject{
		"i-0abc": {Kind: inventory.KindInstance, ID: "i-0abc"}, "instance/i-0abc": {Kind: inventory.KindInstance, ID: "i-0abc"},
		"ami-1": {Kind: inventory.KindImage, ID: "ami-1"}, "group/web/blue": {Kind: inventory.KindAutoScaling, ID: "web/blue"},
		"template/lt-1": {Kind: inventory.KindLaunchTemplate, ID: "lt-1"}, "role/web": {Kind: SubjectRole, ID: "web"},
		"arn:aws:iam::1:role/web": {Kind: SubjectRole, ID: "arn:aws:iam::1:role/web"}, "tag/a=b=c": {Kind: SubjectTag, ID: "a=b=c"},
		"account/111122223333": {Account: "111122223333", Kind: SubjectAccount, ID: "111122223333"},
	} {
		got, err := ParseSubject(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v %v", text, got, err)
		}
		if again, err := ParseSubject(got.String()); err != nil || again != got {
			t.Errorf("%s, written %s: %+v %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "web", "/", "group/", "/web", "tag/app"} {
		if s, err := ParseSubject(text); err == nil {
			t.Errorf("%q is taken for %+v", text, s)
		}
	}
}

func TestCovers(t *testing.T) {
	place := fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}
	to := func(kind, id string) fleet.Ref { return fleet.Ref{Place: place, Kind: kind, ID: id} }
	instance := &inventory.Resource{Ref: to(inventory.KindInstance, "i-1"), Name: "web-1", Tags: map[string]string{"app": "billing"},
		Attrs: map[string]string{inventory.AttrImage: "ami-1"}, Links: []inventory.Link{
			{Relation: inventory.MemberOf, To: to(inventory.KindAutoScaling, "web")},
			{Relation: inventory.LaunchedFrom, To: to(inventory.KindLaunchTemplate, "lt-1")},
			{Relation: inventory.RunsOn, To: to(inventory.KindInstance, "i-9")}}}
	group := &inventory.Resource{Ref: to(inventory.KindAutoScaling, "web"), Links: []inventory.Link{
		{Relation: inventory.LaunchesFrom, To: to(inventory.KindLaunchTemplate, "lt-1")}}}
	template := &inventory.Resource{Ref: to(inventory.KindLaunchTemplate, "lt-1"), Attrs: map[string]string{inventory.AttrImage + "/2": "ami-2"}}
	roles := func(r *inventory.Resource) []string {
		if r == instance {
			return []string{"web-role"}
		}
		return nil
	}
	for _, tc := range []struct {
		subject string
		of      *inventory.Resource
		want    bool
	}{
		{"i-1", instance, true}, {"instance/web-1", instance, true}, {"i-2", instance, false}, {"i-9", instance, false},
		{"group/web", instance, true}, {"group/web", group, true}, {"group/api", instance, false},
		{"template/lt-1", instance, true}, {"template/lt-1", group, true}, {"template/lt-1", template, true},
		{"ami-1", instance, true}, {"ami-2", template, true}, {"ami-2", instance, false}, {"role/web-role", instance, true},
		{"role/web-role", group, false}, {"tag/app=billing", instance, true}, {"tag/app=bill", instance, false},
		{"account/111122223333", template, true}, {"account/999999999999", template, false}, {"fleet/*", group, true},
	} {
		s, err := ParseSubject(tc.subject)
		if err != nil {
			t.Fatal(err)
		}
		if s.Covers(tc.of, roles) != tc.want {
			t.Errorf("%s covers %s: %t", tc.subject, tc.of.Ref, !tc.want)
		}
		if s.Region = "us-east-1"; s.Covers(tc.of, roles) {
			t.Errorf("%s of another region covers %s", tc.subject, tc.of.Ref)
		}
	}
}
