package access_test

import (
	"encoding/json"
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
		"arn:aws:secretsmanager:*:*:secret:*",
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
