package access_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/access"
)

// drawn makes a statement of the words that matter to the tables, and of some that do not.
func drawn(effects ...string) *rapid.Generator[map[string]any] {
	actions := []string{
		"*", "iam:*", "iam:PassRole", "iam:AttachRolePolicy", "iam:Create*", "ec2:RunInstances", "ec2:*", "sts:AssumeRole", "s3:*",
		"s3:Get*", "ssm:SendCommand", "ssm:GetParameter*", "secretsmanager:GetSecretValue", "dynamodb:?etItem", "logs:PutLogEvents",
		"lambda:*", "kms:Decrypt",
	}
	resources := []string{
		"*", "arn:aws:s3:::*", "arn:aws:s3:::logs/*", "arn:aws:s3:::logs/today", "arn:aws:iam::111122223333:role/*",
		"arn:aws:iam::111122223333:role/app-*", "arn:aws:ssm:*:*:parameter/*", "arn:aws:ssm:*:*:parameter/app/*",
		"arn:aws:secretsmanager:*:*:secret:*", "arn:aws:sqs", "arn:aws:ssm:*:*:parameter*",
	}
	conditions := []map[string]any{
		nil, nil, nil, {"StringEquals": map[string]any{"aws:SourceVpc": "vpc-1"}},
		{"StringEquals": map[string]any{"iam:PassedToService": "ec2.amazonaws.com"}},
		{"StringLike": map[string]any{"iam:PassedToService": []string{"lambda.*", "ecs-tasks.amazonaws.com"}}},
	}
	return rapid.Custom(func(t *rapid.T) map[string]any {
		out := map[string]any{"Effect": rapid.SampledFrom(effects).Draw(t, "effect")}
		words := func(name string, from []string) {
			if rapid.IntRange(0, 5).Draw(t, "not") == 0 {
				name = "Not" + name
			}
			out[name] = rapid.SliceOfN(rapid.SampledFrom(from), 1, 3).Draw(t, name)
		}
		words("Action", actions)
		words("Resource", resources)
		if c := rapid.SampledFrom(conditions).Draw(t, "condition"); c != nil {
			out["Condition"] = c
		}
		return out
	})
}

func document(t *rapid.T, statements []map[string]any) *access.Document {
	b, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
	if err != nil {
		t.Fatal(err)
	}
	d, err := access.Parse(string(b))
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return d
}

// grades are all findings of a reduction by name, with the level as one more.
func grades(r access.Reduction) map[string]access.Grade {
	out := map[string]access.Grade{}
	if r.Admin != nil {
		out["admin"] = r.Admin.Grade
	}
	for _, f := range r.Escalations {
		out["escalation "+f.Name] = f.Grade
	}
	for _, f := range r.Data {
		out["data "+f.Name] = f.Grade
	}
	for i, l := range access.Levels() {
		if l == r.Level {
			out["level"] = access.Grade(len(access.Levels()) - i)
		}
	}
	return out
}

// within tells whether nothing in a is graded higher than in b.
func within(t *rapid.T, a, b access.Reduction, what string) {
	bigger := grades(b)
	for name, g := range grades(a) {
		if g > bigger[name] {
			t.Errorf("%s: %s is of grade %d, and was %d", what, name, g, bigger[name])
		}
	}
}

// TestMore: a further Deny never widens what a role may do, a further Allow never narrows it, and a boundary never widens it.
func TestMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have := rapid.SliceOfN(drawn("Allow", "Allow", "Allow", "Deny"), 1, 5).Draw(t, "have")
		extra := func(effect string) *access.Role {
			s := drawn(effect).Draw(t, effect)
			return &access.Role{Policies: []access.Policy{{Name: "a", Document: document(t, have)},
				{Name: "b", Document: document(t, []map[string]any{s})}}}
		}
		plain := &access.Role{Policies: []access.Policy{{Name: "a", Document: document(t, have)}}}
		before := access.Reduce(plain)
		within(t, access.Reduce(extra("Deny")), before, "a further Deny")
		within(t, before, access.Reduce(extra("Allow")), "a further Allow")
		fence := document(t, rapid.SliceOfN(drawn("Allow", "Allow", "Deny"), 1, 3).Draw(t, "fence"))
		fenced := &access.Role{Policies: plain.Policies, Boundary: &access.Policy{Name: "fence", Document: fence}}
		within(t, access.Reduce(fenced), before, "a boundary")
		within(t, access.Reduce(fenced), access.Reduce(&access.Role{Policies: []access.Policy{{Name: "fence", Document: fence}}}), "a boundary")
	})
}

// FuzzParse: any text is a document that can be reduced, or an error; never a panic, and denying everything leaves nothing.
func FuzzParse(f *testing.F) {
	f.Add(`{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`)
	f.Add(`{"Statement": [{"Sid": "x", "Effect": "Deny", "NotAction": ["iam:*"], "NotResource": "a*b?", "Condition": {"Bool": {"k": true}}}]}`)
	f.Add(`{"Statement": {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"], "Condition": {"StringEquals": {"iam:PassedToService": [1]}}}}`)
	f.Add(`{"Statement": [` + strings.Repeat(`[`, 50))
	nothing, err := access.Parse(`{"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}`)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := access.Parse(text)
		if err != nil {
			return
		}
		one := access.Policy{Name: "p", Document: d}
		if got := access.Reduce(&access.Role{Policies: []access.Policy{one, {Name: "no", Document: nothing}}}); got.Level != access.Narrow ||
			len(got.Data)+len(got.Escalations) > 0 {
			t.Errorf("%q allows %+v although everything is denied", text, got)
		}
		access.Reduce(&access.Role{Policies: []access.Policy{one}, Boundary: &one})
	})
}

// TestAgainstEvaluation compares the grades with IAM's own rule, tried on single resources: what is allowed on one of them, by whatever
// luck with conditions, is never nothing; and what is graded as all is allowed on one that no statement names, without any luck.
func TestAgainstEvaluation(t *testing.T) {
	of := map[string]struct{ action, unnamed string }{
		"data objects in S3":              {"s3:getobject", "arn:aws:s3:::zzz/zzz"},
		"data secrets in Secrets Manager": {"secretsmanager:getsecretvalue", "arn:aws:secretsmanager:eu-west-1:111122223333:secret:zzz"},
		"data parameters in SSM":          {"ssm:getparameter", "arn:aws:ssm:eu-west-1:111122223333:parameter/zzz"},
		"escalation iam:AttachRolePolicy": {"iam:attachrolepolicy", "arn:aws:iam::111122223333:role/zzz"},
		"data messages in SQS":            {"sqs:receivemessage", "arn:aws:sqs:eu-west-1:111122223333:zzz"},
	}
	others := map[string][]string{
		"data objects in S3":              {"arn:aws:s3:::logs/today", "arn:aws:s3:::logs/zzz"},
		"data parameters in SSM":          {"arn:aws:ssm:eu-west-1:111122223333:parameter/app/zzz"},
		"escalation iam:AttachRolePolicy": {"arn:aws:iam::111122223333:role/app-zzz"},
	}
	rapid.Check(t, func(t *rapid.T) {
		have := rapid.SliceOfN(drawn("Allow", "Allow", "Deny"), 1, 5).Draw(t, "have")
		got := grades(access.Reduce(&access.Role{Policies: []access.Policy{{Name: "a", Document: document(t, have)}}}))
		// All but the resources of one type is graded as if those of other types mattered as well.
		allButSome := slices.ContainsFunc(have, func(s map[string]any) bool { return s["Effect"] == "Allow" && s["NotResource"] != nil })
		for name, what := range of {
			for _, resource := range append([]string{what.unnamed}, others[name]...) {
				if evaluated(have, what.action, resource, true) && got[name] == access.None {
					t.Errorf("%s: nothing, and %s is allowed on %s", name, what.action, resource)
				}
			}
			if got[name] == access.All && !allButSome && !evaluated(have, what.action, what.unnamed, false) {
				t.Errorf("%s: all, and %s is not allowed on %s", name, what.action, what.unnamed)
			}
		}
	})
}

// evaluated is IAM's rule: an Allow that matches, and no Deny that does. With luck the conditions of Allows hold, and those of Denies do
// not.
func evaluated(statements []map[string]any, action, resource string, luck bool) bool {
	allowed := false
	for _, s := range statements {
		condition, _ := s["Condition"].(map[string]any)
		passing := strings.Contains(fmt.Sprint(condition), "PassedToService") // it says which roles are passed, and narrows nothing else
		deny := s["Effect"] == "Deny"
		if !named(s, "Action", action) || !named(s, "Resource", resource) || condition != nil && luck == deny && (deny || !passing) {
			continue
		}
		if deny {
			return false
		}
		allowed = true
	}
	return allowed
}

// named tells whether a statement's element, or the lack of it in the element's opposite, holds a text.
func named(s map[string]any, element, text string) bool {
	holds := func(key string) bool {
		patterns, _ := s[key].([]string)
		return slices.ContainsFunc(patterns, func(p string) bool {
			if p == "arn:aws:sqs" {
				p += ":*"
			}
			p = strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(p))
			return regexp.MustCompile("(?i)^" + p + "$").MatchString(text)
		})
	}
	if _, not := s["Not"+element]; not {
		return !holds("Not" + element)
	}
	return holds(element)
}
