package iam_test

import (
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/iam"
	"github.com/imdsctl/imdsctl/internal/clock"
)

const trust = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}}`

const detailed = `{"accounts": [{"id": "111122223333",
	"roles": [{"name": "plain", "trust": ` + trust + `, "policies": {"own": {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}}}],
	"global": {"iam": {
		"policies": [
			{"name": "changed", "path": "/team/", "documents": [
				{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}},
				{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "logs:*", "Resource": "*"}}]},
			{"name": "fence", "aws": true, "documents": [{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}]}],
		"roles": [{"name": "app", "path": "/svc/", "trust": ` + trust + `, "attached": ["changed"], "boundary": "fence", "profiles": ["app"],
			"inline": {"more": {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}}}, "tags": {"team": "web"}}]}}}]}`

type page struct {
	Roles []struct {
		Name     string   `xml:"RoleName"`
		ARN      string   `xml:"Arn"`
		Profiles []string `xml:"InstanceProfileList>member>InstanceProfileName"`
		Inline   []string `xml:"RolePolicyList>member>PolicyName"`
		Attached []string `xml:"AttachedManagedPolicies>member>PolicyArn"`
		Boundary string   `xml:"PermissionsBoundary>PermissionsBoundaryArn"`
	} `xml:"GetAccountAuthorizationDetailsResult>RoleDetailList>member"`
	Policies []struct {
		ARN      string   `xml:"Arn"`
		Versions []string `xml:"PolicyVersionList>member>VersionId"`
		Defaults []bool   `xml:"PolicyVersionList>member>IsDefaultVersion"`
	} `xml:"GetAccountAuthorizationDetailsResult>Policies>member"`
	More   bool   `xml:"GetAccountAuthorizationDetailsResult>IsTruncated"`
	Marker string `xml:"GetAccountAuthorizationDetailsResult>Marker"`
}

func details(t *testing.T, w *core.World, form string) (int, page) {
	t.Helper()
	body := "Action=GetAccountAuthorizationDetails&Version=2010-05-08&" + form
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, core.BaseURL+"/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=111122223333/20260302/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0")
	resp, err := w.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out page
	if resp.StatusCode == http.StatusOK {
		if err := xml.Unmarshal(text, &out); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	return resp.StatusCode, out
}

func detailedWorld(t *testing.T) *core.World {
	t.Helper()
	w := core.New(core.Options{Clock: clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)), Unthrottled: true}, iam.Service())
	if err := w.Load([]byte(detailed)); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAuthorizationDetails(t *testing.T) {
	w := detailedWorld(t)
	_, all := details(t, w, "")
	if len(all.Roles) != 2 || len(all.Policies) != 2 || all.More {
		t.Fatalf("%+v", all)
	}
	app, plain := all.Roles[0], all.Roles[1]
	if app.ARN != "arn:aws:iam::111122223333:role/svc/app" || !slices.Equal(app.Profiles, []string{"app"}) ||
		!slices.Equal(app.Inline, []string{"more"}) || !slices.Equal(app.Attached, []string{"arn:aws:iam::111122223333:policy/team/changed"}) ||
		app.Boundary != "arn:aws:iam::aws:policy/fence" {
		t.Errorf("%+v", app)
	}
	if plain.Name != "plain" || !slices.Equal(plain.Inline, []string{"own"}) || len(plain.Profiles) > 0 || plain.Boundary != "" {
		t.Errorf("%+v", plain)
	}
	if changed := all.Policies[0]; !slices.Equal(changed.Versions, []string{"v2", "v1"}) || !slices.Equal(changed.Defaults, []bool{true, false}) {
		t.Errorf("%+v", changed)
	}
	for size := range 4 {
		var names []string
		marker := ""
		for {
			_, p := details(t, w, url.Values{"MaxItems": {string(rune('1' + size))}, "Marker": {marker}}.Encode())
			if len(p.Roles)+len(p.Policies) > size+1 {
				t.Errorf("%d on a page of %d", len(p.Roles)+len(p.Policies), size+1)
			}
			for _, r := range p.Roles {
				names = append(names, r.Name)
			}
			for _, v := range p.Policies {
				names = append(names, v.ARN[strings.LastIndexByte(v.ARN, '/')+1:])
			}
			if marker = p.Marker; !p.More {
				break
			}
		}
		if got := strings.Join(names, " "); got != "app plain changed fence" {
			t.Errorf("pages of %d: %s", size+1, got)
		}
	}
	if _, some := details(t, w, "Filter.member.1=AWSManagedPolicy"); len(some.Roles) != 0 || len(some.Policies) != 1 {
		t.Errorf("%+v", some)
	}
	for _, bad := range []string{"Filter.member.1=Policy", "MaxItems=0", "MaxItems=1001", "MaxItems=x", "Marker=!"} {
		if status, _ := details(t, w, bad); status == http.StatusOK {
			t.Errorf("%s was answered", bad)
		}
	}
}

// TestSeededRolesAreEnforced: what a role is shown with is what it may do.
func TestSeededRolesAreEnforced(t *testing.T) {
	w := detailedWorld(t)
	r, ok := w.Role("111122223333", "app")
	if !ok || len(r.Policies) != 2 || r.Policies["managed/changed"] == nil ||
		!strings.Contains(r.Policies["managed/changed"].Source(), "logs:*") || r.Policies["managed/fence"] != nil {
		t.Errorf("%+v", r)
	}
}

func TestSeedIsChecked(t *testing.T) {
	for _, section := range []string{
		`{"policies": [{"name": "a", "documents": []}]}`, `{"policies": [{"name": "a", "default": 2, "documents": [{}]}]}`,
		`{"roles": [{"name": "a", "trust": ` + trust + `, "attached": ["none"]}]}`, `{"roles": [{"trust": ` + trust + `}]}`, `{"users": []}`,
	} {
		w := core.New(core.Options{}, iam.Service())
		err := w.Load([]byte(`{"accounts": [{"id": "111122223333", "global": {"iam": ` + section + `}}]}`))
		if err == nil || !strings.Contains(err.Error(), "accounts[0].global.iam") {
			t.Errorf("%s: %v", section, err)
		}
	}
}

// FuzzDetails sends any form: the answer is a success or a refusal in AWS's words, never a failure.
func FuzzDetails(f *testing.F) {
	f.Add("MaxItems=1&Marker=MWFwcA")
	f.Add("Filter.member.1=Role&Filter.member.2=")
	f.Fuzz(func(t *testing.T, form string) {
		w := core.New(core.Options{}, iam.Service())
		if err := w.Load([]byte(detailed)); err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, core.BaseURL+"/",
			strings.NewReader("Action=GetAccountAuthorizationDetails&"+form))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=111122223333/20260302/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0")
		resp, err := w.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 500 {
			t.Errorf("%q: status %d", form, resp.StatusCode)
		}
	})
}
