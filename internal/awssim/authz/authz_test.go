package authz

import (
	"strings"
	"testing"
)

func statement(s string) string { return `{"Version":"2012-10-17","Statement":` + s + `}` }

func TestEvaluate(t *testing.T) {
	const allowAll = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	cases := []struct {
		name, policy, action, resource string
		context                        map[string][]string
		want                           Decision
	}{
		{"nothing", `[]`, "ec2:Run", "*", nil, ImplicitDeny},
		{"exact", `{"Effect":"Allow","Action":"ec2:DescribeInstances","Resource":"*"}`, "ec2:DescribeInstances", "*", nil,
			Allow},
		{"case", `{"Effect":"Allow","Action":"EC2:describeinstances","Resource":"*"}`, "ec2:DescribeInstances", "*", nil,
			Allow},
		{"other action", `{"Effect":"Allow","Action":"ec2:DescribeInstances","Resource":"*"}`, "ec2:DescribeImages", "*",
			nil, ImplicitDeny},
		{"wildcard", `{"Effect":"Allow","Action":["ec2:Desc*s"],"Resource":"*"}`, "ec2:DescribeInstances", "*", nil, Allow},
		{"question mark", `{"Effect":"Allow","Action":"ec2:Ru?","Resource":"*"}`, "ec2:Run", "*", nil, Allow},
		{"not action", `{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}`, "ec2:Run", "*", nil, Allow},
		{"not action hits", `{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}`, "iam:GetRole", "*", nil, ImplicitDeny},
		{"resource", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:*:*:instance/i-1*"}`, "a:b",
			"arn:aws:ec2:r:1:instance/i-12", nil, Allow},
		{"resource of another", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:*:*:instance/i-1*"}`, "a:b",
			"arn:aws:ec2:r:1:instance/i-2", nil, ImplicitDeny},
		{"resource does not cover star", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ec2:::x"}`, "a:b", "*", nil,
			ImplicitDeny},
		{"not resource", `{"Effect":"Allow","Action":"*","NotResource":"arn:x"}`, "a:b", "arn:y", nil, Allow},
		{"deny wins", `[` + allowAll + `,{"Effect":"Deny","Action":"ec2:Run","Resource":"*"}]`, "ec2:Run", "*", nil,
			ExplicitDeny},
		{"deny elsewhere", `[` + allowAll + `,{"Effect":"Deny","Action":"ec2:Run","Resource":"*"}]`, "ec2:Stop", "*", nil,
			Allow},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			p, err := Parse(statement(tc.policy))
			if err != nil {
				t.Fatal(err)
			}
			got := Evaluate([]*Policy{p}, Request{Action: tc.action, Resource: tc.resource, Context: tc.context})
			if got != tc.want {
				t.Fatalf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestConditions(t *testing.T) {
	have := func(v ...string) map[string][]string { return map[string][]string{"k:x": v, "aws:me": {"42"}} }
	none := map[string][]string{}
	cases := []struct {
		condition string
		context   map[string][]string
		want      bool
	}{
		{`{"StringEquals":{"K:X":"a"}}`, have("a"), true},
		{`{"StringEquals":{"k:x":["b","a"]}}`, have("a"), true},
		{`{"StringEquals":{"k:x":"a"}}`, have("A"), false},
		{`{"StringEquals":{"k:x":"a"}}`, none, false},
		{`{"StringEqualsIfExists":{"k:x":"a"}}`, none, true},
		{`{"StringEqualsIfExists":{"k:x":"a"}}`, have("b"), false},
		{`{"StringNotEquals":{"k:x":"required"}}`, have("optional"), true},
		{`{"StringNotEquals":{"k:x":"required"}}`, have("required"), false},
		{`{"StringNotEquals":{"k:x":["a","b"]}}`, have("b"), false},
		{`{"StringNotEquals":{"k:x":"required"}}`, none, true},
		{`{"StringEqualsIgnoreCase":{"k:x":"A"}}`, have("a"), true},
		{`{"StringLike":{"k:x":"a*z?"}}`, have("abczy"), true},
		{`{"StringLike":{"k:x":"${aws:me}*"}}`, have("421"), true},
		{`{"StringLike":{"k:x":"${aws:nobody}*"}}`, have("421"), false},
		{`{"StringNotLike":{"k:x":"a*"}}`, have("b"), true},
		{`{"ArnLike":{"k:x":"arn:aws:iam::*:role/r*"}}`, have("arn:aws:iam::1:role/read"), true},
		{`{"ArnLike":{"k:x":"arn:aws:*:role/r"}}`, have("arn:aws:iam::1:role/r"), false},
		{`{"ArnNotEquals":{"k:x":"arn:aws:iam::1:role/r"}}`, have("arn:aws:iam::1:role/s"), true},
		{`{"NumericLessThan":{"k:x":"2.0"}}`, have("1.0"), true},
		{`{"NumericLessThan":{"k:x":2}}`, have("2"), false},
		{`{"NumericGreaterThan":{"k:x":"3"}}`, have("10"), true},
		{`{"NumericGreaterThanEquals":{"k:x":"3"}}`, have("3"), true},
		{`{"NumericEquals":{"k:x":"3"}}`, have("x"), false},
		{`{"NumericNotEquals":{"k:x":"3"}}`, have("4"), true},
		{`{"Bool":{"k:x":"true"}}`, have("true"), true},
		{`{"Bool":{"k:x":true}}`, have("false"), false},
		{`{"Null":{"k:x":"true"}}`, none, true},
		{`{"Null":{"k:x":"false"}}`, none, false},
		{`{"Null":{"k:x":"false"}}`, have("a"), true},
		{`{"DateLessThan":{"k:x":"2026-01-02T00:00:00Z"}}`, have("2026-01-01T00:00:00Z"), true},
		{`{"IpAddress":{"k:x":"10.0.0.0/8"}}`, have("10.1.1.1"), true},
		{`{"NotIpAddress":{"k:x":"10.0.0.0/8"}}`, have("10.1.1.1"), false},
		{`{"ForAllValues:StringEquals":{"k:x":["a","b"]}}`, have("a", "b"), true},
		{`{"ForAllValues:StringEquals":{"k:x":["a"]}}`, have("a", "b"), false},
		{`{"ForAllValues:StringEquals":{"k:x":["a"]}}`, none, true},
		{`{"ForAnyValue:StringEquals":{"k:x":["a"]}}`, have("a", "b"), true},
		{`{"ForAnyValue:StringEquals":{"k:x":["c"]}}`, have("a", "b"), false},
		{`{"ForAnyValue:StringNotEquals":{"k:x":["a"]}}`, have("a", "b"), true},
		{`{"StringEquals":{"k:x":"a","aws:me":"42"}}`, have("a"), true},
		{`{"StringEquals":{"k:x":"a","aws:me":"43"}}`, have("a"), false},
	}
	for _, tc := range cases {
		t.Run(tc.condition, func(t *testing.T) {
			p, err := Parse(statement(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":` + tc.condition + `}`))
			if err != nil {
				t.Fatal(err)
			}
			got := Evaluate([]*Policy{p}, Request{Action: "a:b", Resource: "*", Context: tc.context}) == Allow
			if got != tc.want {
				t.Fatalf("holds = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestPrincipals(t *testing.T) {
	caller := Caller{Account: "111122223333", ARNs: []string{"arn:aws:iam::111122223333:role/read"}}
	for principal, want := range map[string]Decision{
		`"*"`:                    Allow,
		`{"AWS":"*"}`:            Allow,
		`{"AWS":"111122223333"}`: Allow,
		`{"AWS":"arn:aws:iam::111122223333:root"}`:            Allow,
		`{"AWS":"arn:aws-cn:iam::111122223333:root"}`:         Allow,
		`{"AWS":["x","arn:aws:iam::111122223333:role/read"]}`: Allow,
		`{"AWS":"arn:aws:iam::111122223333:role/write"}`:      ImplicitDeny,
		`{"AWS":"arn:aws:iam::999999999999:root"}`:            ImplicitDeny,
		`{"Service":"ec2.amazonaws.com"}`:                     ImplicitDeny,
	} {
		p, err := Parse(statement(`{"Effect":"Allow","Action":"sts:AssumeRole","Principal":` + principal + `}`))
		if err != nil {
			t.Fatalf("%s: %v", principal, err)
		}
		if got := Evaluate([]*Policy{p}, Request{Action: "sts:AssumeRole", Principal: caller}); got != want {
			t.Errorf("%s: %v, want %v", principal, got, want)
		}
	}
}

func TestParseRefusesWhatItDoesNotUnderstand(t *testing.T) {
	for doc, want := range map[string]string{
		``:   "EOF",
		`{}`: "missing",
		`{"Version":"2020-01-01","Statement":[]}`:                                                              "version",
		`{"Statement":[],"Extra":1}`:                                                                           "Extra",
		`{"Statement":{"Effect":"Maybe","Action":"*","Resource":"*"}}`:                                         "Maybe",
		`{"Statement":{"Effect":"Allow","Resource":"*"}}`:                                                      "exactly one",
		`{"Statement":{"Effect":"Allow","Action":"*","NotAction":"*","Resource":"*"}}`:                         "exactly one",
		`{"Statement":{"Effect":"Allow","Action":"*"}}`:                                                        "neither Resource nor Principal",
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","NotResource":"x"}}`:                       "both",
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Sounds":{"k":"v"}}}}`:        "Sounds",
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NumericEquals":{"k":"v"}}}}`: "number",
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"k":"v"}}}}`:          "true nor false",
		`{"Statement":{"Effect":"Allow","Action":{"a":1},"Resource":"*"}}`:                                     "text",
		`{"Statement":{"Effect":"Allow","Action":"*","Principal":{"Martian":"x"}}}`:                            "Martian",
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}} {}`:                                      "more than one",
	} {
		if _, err := Parse(doc); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", doc, err, want)
		}
	}
}

func TestLike(t *testing.T) {
	for _, tc := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"*", "", true}, {"a*b*c", "axxbyyc", true}, {"a*b*c", "axxbyy", false}, {"?", "", false},
		{"a?c", "abc", true}, {"**a", "ba", true}, {"abc", "abcd", false}, {"*abc", "ababc", true},
	} {
		if got := Like(tc.pattern, tc.s); got != tc.want {
			t.Errorf("Like(%q, %q) = %v", tc.pattern, tc.s, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(statement(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"a":["${b}"]}}}`))
	f.Add(statement(`[{"Effect":"Deny","NotAction":["a"],"Principal":{"AWS":["1"]}}]`))
	f.Fuzz(func(t *testing.T, doc string) {
		p, err := Parse(doc)
		if err != nil {
			return
		}
		Evaluate([]*Policy{p}, Request{Action: "a:b", Resource: "arn:a:b:c:d:e", Context: map[string][]string{"a": {"1"}}})
	})
}
