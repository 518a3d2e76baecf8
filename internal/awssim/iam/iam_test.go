package iam_test

import (
	"encoding/xml"
	"errors"
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

const account = "111122223333"

func newWorld(t *testing.T) *core.World {
	t.Helper()
	w := core.New(core.Options{Clock: clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}, iam.Service())
	if err := w.AddAccount(core.Account{ID: account}); err != nil {
		t.Fatal(err)
	}
	if err := w.PutRole(account, "read", core.TrustAccount(account, ""), core.AllowActions("ec2:Describe*")); err != nil {
		t.Fatal(err)
	}
	return w
}

// ask sends a Query request and reads the answer's texts at the given elements.
func ask(t *testing.T, w *core.World, form url.Values, element string) (int, []string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, core.BaseURL, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+account+
		"/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0")
	resp, err := w.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	dec := xml.NewDecoder(strings.NewReader(string(body)))
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return resp.StatusCode, found
		}
		if err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		if s, ok := tok.(xml.StartElement); ok && s.Name.Local == element {
			var text string
			if err := dec.DecodeElement(&text, &s); err != nil {
				t.Fatal(err)
			}
			found = append(found, text)
		}
	}
}

func TestRolesAndTheirPolicies(t *testing.T) {
	w := newWorld(t)
	for name, tc := range map[string]struct {
		form    url.Values
		element string
		status  int
		want    []string
	}{
		"role": {url.Values{"Action": {"GetRole"}, "RoleName": {"read"}}, "Arn", 200,
			[]string{"arn:aws:iam::111122223333:role/read"}},
		"no role":  {url.Values{"Action": {"GetRole"}, "RoleName": {"write"}}, "Code", 404, []string{"NoSuchEntity"}},
		"roles":    {url.Values{"Action": {"ListRoles"}}, "RoleName", 200, []string{"read"}},
		"policies": {url.Values{"Action": {"ListRolePolicies"}, "RoleName": {"read"}}, "member", 200, []string{"policy-1"}},
		"no policy": {url.Values{"Action": {"GetRolePolicy"}, "RoleName": {"read"}, "PolicyName": {"x"}}, "Code", 404,
			[]string{"NoSuchEntity"}},
		"document": {url.Values{"Action": {"GetRolePolicy"}, "RoleName": {"read"}, "PolicyName": {"policy-1"}},
			"PolicyDocument", 200, []string{url.QueryEscape(core.AllowActions("ec2:Describe*"))}},
		"simulation": {url.Values{"Action": {"SimulatePrincipalPolicy"},
			"PolicySourceArn":      {"arn:aws:iam::111122223333:role/read"},
			"ActionNames.member.1": {"ec2:DescribeTags"}, "ActionNames.member.2": {"ec2:CreateTags"}},
			"EvalDecision", 200, []string{"allowed", "implicitDeny"}},
	} {
		t.Run(name, func(t *testing.T) {
			status, got := ask(t, w, tc.form, tc.element)
			if status != tc.status || !slices.Equal(got, tc.want) {
				t.Fatalf("%d %v, want %d %v", status, got, tc.status, tc.want)
			}
		})
	}
}
