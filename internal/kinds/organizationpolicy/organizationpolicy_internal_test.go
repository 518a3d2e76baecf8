package organizationpolicy

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333"}

func TestWhatADeclarativePolicySays(t *testing.T) {
	wrap := func(fields string) string {
		return `{"ec2_attributes": {"instance_metadata_defaults": {` + fields + `}}}`
	}
	for fields, want := range map[string]fleet.Options{
		`"http_tokens": {"@@assign": "required"}`: {Tokens: "required"},
		`"http_tokens": {"@@assign": "optional"}, "http_put_response_hop_limit": {"@@assign": "2"}`: {
			Tokens: "optional", HopLimit: 2},
		`"http_tokens": {"@@assign": "no_preference"}, "http_put_response_hop_limit": {"@@assign": "-1"}`:       {},
		`"http_endpoint": {"@@assign": "disabled"}, "instance_metadata_tags": {"@@assign": "enabled"}`:          {Endpoint: "disabled", Tags: "enabled"},
		`"http_tokens": {"@@assign": "required", "@@operators_allowed_for_child_policies": ["@@none"]}`:         {Tokens: "required"},
		`"http_tokens": {"@@assign": "required"}, "http_tokens": {"@@assign": "optional"}`:                      {},
		`"http_tokens": {"@@append": "required"}, "http_put_response_hop_limit": {"@@assign": 2}`:               {},
		`"http_tokens": {"@@assign": "no-preference"}, "http_put_response_hop_limit": {"@@assign": "65"}`:       {},
		`"http_tokens": {"@@assign": "v2"}, "http_endpoint": {"@@assign": "on"}, "http_tokens_enforced": "yes"`: {},
	} {
		if got := declared(wrap(fields)); got != want {
			t.Errorf("%s: got %+v, want %+v", fields, got, want)
		}
	}
	for _, broken := range []string{"", "[]", wrap(`"http_tokens": {"@@assign": "required"`), wrap("") + "{}"} {
		if got := declared(broken); got != (fleet.Options{}) {
			t.Errorf("%q: got %+v", broken, got)
		}
	}
}

func TestRequireTokensTouchesNothingElse(t *testing.T) {
	before := "{ \"ec2_attributes\" :{\n\t\"exception_message\": {\"@@assign\": \"no \\\"optional\\\" here\"},\n" +
		"  \"instance_metadata_defaults\":{\"http_tokens\" : {\"@@assign\"  :\"optional\" } , \"http_endpoint\":{\"@@assign\":\"enabled\"}}}}\n "
	got, err := requireTokens(before)
	if want := strings.Replace(before, `:"optional" }`, `:"required" }`, 1); err != nil || got != want {
		t.Errorf("got %q: %v", got, err)
	}
	for name, document := range map[string]string{
		"no tokens":      `{"ec2_attributes": {"instance_metadata_defaults": {}}}`,
		"not assigned":   `{"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {}}}}`,
		"required":       `{"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": "required"}}}}`,
		"unknown":        `{"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": "v2"}}}}`,
		"no text":        `{"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": 2}}}}`,
		"no object":      `{"ec2_attributes": [{"instance_metadata_defaults": 1}]}`,
		"not a document": `http_tokens`,
	} {
		if got, err := requireTokens(document); err == nil {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

const documented = `{"Version": "2012-10-17", "Statement": [{"Sid": "RequireImdsV2", "Effect": "Deny",
	"Action": "ec2:RunInstances", "Resource": "arn:aws:ec2:*:*:instance/*",
	"Condition": {"StringNotEquals": {"ec2:MetadataHttpTokens": "required"}}}]}`

func TestWhichControlPoliciesRequireTokens(t *testing.T) {
	edit := func(from, to string) string { return strings.Replace(documented, from, to, 1) }
	for name, tt := range map[string]struct {
		document string
		want     bool
	}{
		"documented":         {documented, true},
		"one statement":      {edit("[{", "{")[:len(documented)-3] + "}", true},
		"everything":         {edit(`"arn:aws:ec2:*:*:instance/*"`, `["*"]`), true},
		"another partition":  {edit("arn:aws:", "arn:aws-us-gov:"), true},
		"several actions":    {edit(`"ec2:RunInstances"`, `["ec2:runinstances", "ec2:RequestSpotInstances"]`), true},
		"an allow":           {edit("Deny", "Allow"), false},
		"another action":     {edit("RunInstances", "StartInstances"), false},
		"one region":         {edit("ec2:*:*", "ec2:eu-west-1:*"), false},
		"another resource":   {edit("instance/*", "volume/*"), false},
		"an exception":       {edit(`"StringNotEquals"`, `"StringNotLike": {"aws:PrincipalArn": "*"}, "StringNotEquals"`), false},
		"a second key":       {edit(`"required"`, `"required", "aws:PrincipalArn": "x"`), false},
		"two values":         {edit(`"required"`, `["required", "optional"]`), false},
		"the wrong value":    {edit(`"required"`, `"optional"`), false},
		"another operator":   {edit("StringNotEquals", "StringEquals"), false},
		"if it exists":       {edit("StringNotEquals", "StringNotEqualsIfExists"), false},
		"all but some":       {edit(`"Action"`, `"NotAction"`), false},
		"no condition":       {edit(`"Condition": {"StringNotEquals": {"ec2:MetadataHttpTokens": "required"}}`, `"Sid": ""`), false},
		"not a document":     {"[", false},
		"statements of text": {`{"Statement": ["Deny"]}`, false},
	} {
		if got := deniesOptional(tt.document); got != tt.want {
			t.Errorf("%s: got %t for %s", name, got, tt.document)
		}
	}
}

func TestOnlyPoliciesThatMentionOptionsAreOurs(t *testing.T) {
	for _, tt := range []struct {
		kind, document string
		want           []string
	}{
		{typeControl, documented, []string{"ec2:metadatahttptokens"}},
		{typeControl, `{"Action": "ec2:ModifyInstanceMetadata*", "x": "ec2:Attribute/HttpTokens"}`,
			[]string{"ec2:attribute/http", "ec2:modifyinstancemetadata"}},
		{typeControl, `{"Action": "ec2:*", "x": "instance_metadata_defaults"}`, []string{}},
		{typeDeclarative, `{"ec2_attributes": {"instance_metadata_defaults": {}}}`, []string{"instance_metadata_defaults"}},
		{typeDeclarative, `{"ec2_attributes": {"serial_console_access": {}}}`, []string{}},
	} {
		if got := mentioned(tt.kind, tt.document); !slices.Equal(got, tt.want) {
			t.Errorf("%s %s: got %q", tt.kind, tt.document, got)
		}
	}
}

func TestPropose(t *testing.T) {
	content := func(tokens string) string {
		return `{"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": "` + tokens + `"}}}}`
	}
	for name, tt := range map[string]struct {
		kind, content string
		status        assess.Status
		patch         string
		manual        bool
	}{
		"optional":                 {typeDeclarative, content("optional"), assess.Ready, content("required"), false},
		"no preference":            {typeDeclarative, content("no_preference"), assess.Ready, content("required"), false},
		"blocked":                  {typeDeclarative, content("optional"), assess.Blocked, "", false},
		"unknown":                  {typeDeclarative, content("optional"), assess.Unknown, "", false},
		"required":                 {typeDeclarative, content("required"), assess.Ready, "", false},
		"says nothing of tokens":   {typeDeclarative, `{"ec2_attributes": {"instance_metadata_defaults": {}}}`, assess.Ready, "", true},
		"a service control policy": {typeControl, documented, assess.Ready, "", false},
	} {
		r := &inventory.Resource{
			Ref:   fleet.Ref{Place: place, Kind: inventory.KindOrganizationPolicy, ID: "p-0123456789"},
			State: fleet.State{FieldContent: tt.content, FieldType: tt.kind}, Says: says(tt.kind, tt.content),
		}
		needs, manuals := propose(kind.Case{Resource: r, Verdict: &assess.Verdict{Status: tt.status}})
		if len(manuals) > 0 != tt.manual || len(needs) > 0 != (tt.patch != "") {
			t.Errorf("%s: got %v and %v", name, needs, manuals)
			continue
		}
		if len(needs) > 0 && (needs[0].Patch[FieldContent] != tt.patch || len(needs[0].Patch) != 1 ||
			needs[0].Stage != plan.StagePolicies) {
			t.Errorf("%s: got %+v", name, needs[0])
		}
	}
}

func TestCommands(t *testing.T) {
	w := kind.Write{Place: place, ID: "p-0123456789", Verb: VerbSetContent,
		Before: fleet.State{FieldContent: "{}"}, After: fleet.State{FieldContent: "{\n\"a\": \"it's\"}"}}
	want := []string{"aws organizations update-policy --policy-id p-0123456789 --content '{\n\"a\": \"it'\\''s\"}'"}
	if got := commands(w); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	for _, odd := range []kind.Write{
		{ID: "p-0123456789; reboot", After: w.After}, {ID: w.ID, After: fleet.State{FieldContent: "{"}},
		{ID: w.ID, Before: w.After, After: w.After},
	} {
		if got := commands(odd); got != nil {
			t.Errorf("%+v: got %q", odd, got)
		}
	}
}

func FuzzDocuments(f *testing.F) {
	f.Add(documented)
	f.Add(`{"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": "optional"}}}}`)
	f.Add(` {"ec2_attributes":{"a":1,"instance_metadata_defaults":{"http_tokens":{"@@assign":"no_preference"},"b":[]}}} `)
	f.Fuzz(func(t *testing.T, document string) {
		deniesOptional(document)
		says := declared(document)
		after, err := requireTokens(document)
		if err != nil {
			return
		}
		if !json.Valid([]byte(after)) {
			t.Fatalf("%q became %q, which is no JSON", document, after)
		}
		want := says
		want.Tokens = fleet.TokensRequired
		if got := declared(after); got != want {
			t.Errorf("%q said %+v, and became %q, which says %+v", document, says, after, got)
		}
		if _, err := requireTokens(after); err == nil {
			t.Errorf("%q can be changed again", after)
		}
	})
}
