package access_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/access"
)

func parse(t *testing.T, text string) *access.Document {
	t.Helper()
	d, err := access.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

// managed is a role with AWS's own policies, by their names.
func managed(t *testing.T, names ...string) *access.Role {
	t.Helper()
	r := &access.Role{}
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		r.Policies = append(r.Policies, access.Policy{Name: name, Document: parse(t, string(b))})
	}
	return r
}

// wide lists the names of findings that nothing narrows.
func wide(list []access.Finding) []string {
	var out []string
	for _, f := range list {
		if f.Grade == access.All {
			out = append(out, f.Name)
		}
	}
	slices.Sort(out)
	return out
}

func narrowed(list []access.Finding) []string {
	var out []string
	for _, f := range list {
		if f.Grade == access.Some {
			out = append(out, f.Name)
		}
	}
	return out
}

// TestManagedPolicies reduces the documents that AWS publishes.
func TestManagedPolicies(t *testing.T) {
	for name, tt := range map[string]struct {
		level access.Level
		// escalations and data must be among those that nothing narrows; some among those that something does.
		escalations, data, some []string
		only                    bool // and there are no others
	}{
		"AdministratorAccess": {level: access.Admin, escalations: []string{"iam:PassRole + ec2:RunInstances"}, data: []string{"objects in S3"}},
		"PowerUserAccess": {level: access.Escalation, escalations: []string{"sts:AssumeRole of any role", "ssm:SendCommand",
			"lambda:UpdateFunctionCode"}, data: []string{"secrets in Secrets Manager", "objects in S3"}},
		"IAMFullAccess": {level: access.Escalation, escalations: []string{"iam:AttachRolePolicy", "iam:CreateAccessKey"}},
		"ReadOnlyAccess": {level: access.Data, data: []string{"objects in S3", "items in DynamoDB", "parameters in SSM",
			"the code of Lambda functions", "logs in CloudWatch", "images in ECR"}},
		"AmazonEC2FullAccess": {level: access.Escalation, escalations: []string{
			"ec2:ModifyInstanceAttribute + ec2:StopInstances + ec2:StartInstances"}, data: []string{"blocks of EBS snapshots"}},
		"AmazonS3FullAccess":     {level: access.Data, data: []string{"changing objects in S3", "objects in S3"}, only: true},
		"AmazonS3ReadOnlyAccess": {level: access.Data, data: []string{"objects in S3"}, only: true},
		// That it reads every parameter of the account is the known flaw of this policy, and of the older one.
		"AmazonSSMManagedInstanceCore":        {level: access.Data, data: []string{"parameters in SSM"}, only: true},
		"AmazonEC2RoleforSSM":                 {level: access.Data, data: []string{"changing objects in S3", "objects in S3", "parameters in SSM"}, only: true},
		"AmazonEC2ContainerServiceforEC2Role": {level: access.Data, data: []string{"images in ECR"}, only: true},
		"AmazonEC2ContainerRegistryReadOnly":  {level: access.Data, data: []string{"images in ECR"}, only: true},
		"AmazonEKSWorkerNodePolicy":           {level: access.Narrow, only: true},
		"CloudWatchAgentServerPolicy":         {level: access.Narrow, some: []string{"parameters in SSM"}, only: true},
	} {
		t.Run(name, func(t *testing.T) {
			got := access.Reduce(managed(t, name))
			if got.Level != tt.level || (got.Admin != nil) != (tt.level == access.Admin) {
				t.Errorf("level %s, admin %+v, want %s", got.Level, got.Admin, tt.level)
			}
			escalations, data := wide(got.Escalations), wide(got.Data)
			for _, pair := range [][2][]string{{tt.escalations, escalations}, {tt.data, data}, {tt.some, narrowed(got.Data)}} {
				for _, want := range pair[0] {
					if !slices.Contains(pair[1], want) {
						t.Errorf("%q is not among %q", want, pair[1])
					}
				}
			}
			if tt.only && (!slices.Equal(data, tt.data) || len(escalations) != len(tt.escalations)) {
				t.Errorf("found %q and %q, want no more than %q and %q", escalations, data, tt.escalations, tt.data)
			}
			for _, f := range slices.Concat(got.Escalations, got.Data) {
				if len(f.By) == 0 || !strings.HasPrefix(f.By[0], name+": ") || f.Grade == access.Some && len(f.Limits) == 0 {
					t.Errorf("%+v does not say which statement allows it, or what narrows it", f)
				}
			}
		})
	}
}

// allow is a document with one statement.
func allow(actions, rest string) string {
	return `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ` + actions + `, ` + rest + `}}`
}

const everywhere = `"Resource": "*"`

// role is one of the documents; the boundary is "" for none.
func role(t *testing.T, boundary string, documents ...string) *access.Role {
	t.Helper()
	r := &access.Role{}
	for i, d := range documents {
		r.Policies = append(r.Policies, access.Policy{Name: string(rune('a' + i)), Document: parse(t, d)})
	}
	if boundary != "" {
		r.Boundary = &access.Policy{Name: "fence", Document: parse(t, boundary)}
	}
	return r
}

// TestEscalationPaths tries each known way by exactly the actions it takes, and without each of them.
func TestEscalationPaths(t *testing.T) {
	for want, actions := range map[string][]string{
		// Rhino Security Labs' list, by its numbers.
		"iam:CreatePolicyVersion":                     {"iam:CreatePolicyVersion"},
		"iam:SetDefaultPolicyVersion":                 {"iam:SetDefaultPolicyVersion"},
		"iam:PassRole + ec2:RunInstances":             {"iam:PassRole", "ec2:RunInstances"},
		"iam:CreateAccessKey":                         {"iam:CreateAccessKey"},
		"iam:CreateLoginProfile":                      {"iam:CreateLoginProfile"},
		"iam:UpdateLoginProfile":                      {"iam:UpdateLoginProfile"},
		"iam:AttachUserPolicy":                        {"iam:AttachUserPolicy"},
		"iam:AttachGroupPolicy":                       {"iam:AttachGroupPolicy"},
		"iam:AttachRolePolicy":                        {"iam:AttachRolePolicy"},
		"iam:PutUserPolicy":                           {"iam:PutUserPolicy"},
		"iam:PutGroupPolicy":                          {"iam:PutGroupPolicy"},
		"iam:PutRolePolicy":                           {"iam:PutRolePolicy"},
		"iam:AddUserToGroup":                          {"iam:AddUserToGroup"},
		"iam:UpdateAssumeRolePolicy + sts:AssumeRole": {"iam:UpdateAssumeRolePolicy", "sts:AssumeRole"},
		"iam:PassRole + lambda:CreateFunction + lambda:InvokeFunction":           {"iam:PassRole", "lambda:CreateFunction", "lambda:InvokeFunction"},
		"iam:PassRole + lambda:CreateFunction + lambda:CreateEventSourceMapping": {"iam:PassRole", "lambda:CreateFunction", "lambda:CreateEventSourceMapping"},
		"lambda:UpdateFunctionCode":                                              {"lambda:UpdateFunctionCode"},
		"iam:PassRole + glue:CreateDevEndpoint":                                  {"iam:PassRole", "glue:CreateDevEndpoint"},
		"glue:UpdateDevEndpoint":                                                 {"glue:UpdateDevEndpoint"},
		"iam:PassRole + cloudformation:CreateStack":                              {"iam:PassRole", "cloudformation:CreateStack"},
		"iam:PassRole + datapipeline:CreatePipeline + datapipeline:PutPipelineDefinition + datapipeline:ActivatePipeline": {
			"iam:PassRole", "datapipeline:CreatePipeline", "datapipeline:PutPipelineDefinition", "datapipeline:ActivatePipeline"},
		"iam:PassRole + codestar:CreateProject": {"iam:PassRole", "codestar:CreateProject"},
		"lambda:UpdateFunctionConfiguration":    {"lambda:UpdateFunctionConfiguration"},
		"iam:PassRole + sagemaker:CreateNotebookInstance + sagemaker:CreatePresignedNotebookInstanceUrl": {
			"iam:PassRole", "sagemaker:CreateNotebookInstance", "sagemaker:CreatePresignedNotebookInstanceUrl"},
		"sagemaker:CreatePresignedNotebookInstanceUrl": {"sagemaker:CreatePresignedNotebookInstanceUrl"},
		// Others' roles and others' hosts.
		"sts:AssumeRole of any role": {"sts:AssumeRole"},
		"ssm:SendCommand":            {"ssm:SendCommand"},
		"iam:PassRole + ecs:RegisterTaskDefinition + ecs:RunTask": {"iam:PassRole", "ecs:RegisterTaskDefinition", "ecs:RunTask"},
	} {
		for left := range len(actions) + 1 { // all of them, then without one
			some := slices.Clone(actions)
			if left < len(actions) {
				some = slices.Delete(some, left, left+1)
			}
			if len(some) == 0 {
				continue
			}
			got := access.Reduce(role(t, "", allow(`["`+strings.Join(some, `", "`)+`"]`, everywhere)))
			if whole := left == len(actions); slices.Contains(wide(got.Escalations), want) != whole {
				t.Errorf("%q gives %q", some, wide(got.Escalations))
			}
		}
	}
}

// TestStatements takes the elements of a policy one by one.
func TestStatements(t *testing.T) {
	const secrets, parameters = "secrets in Secrets Manager", "parameters in SSM"
	read := `"secretsmanager:GetSecretValue"`
	deny := func(action, rest string) string { return strings.Replace(allow(action, rest), "Allow", "Deny", 1) }
	for name, tt := range map[string]struct {
		boundary  string
		documents []string
		grade     access.Grade // of secrets
		limit     string
	}{
		"allowed":               {documents: []string{allow(read, everywhere)}, grade: access.All},
		"any case":              {documents: []string{allow(`"SECRETSMANAGER:getsecretvalue"`, everywhere)}, grade: access.All},
		"by a pattern":          {documents: []string{allow(`["secretsmanager:Get*Value"]`, everywhere)}, grade: access.All},
		"by one character":      {documents: []string{allow(`"secretsmanager:GetSecretValu?"`, everywhere)}, grade: access.All},
		"another action":        {documents: []string{allow(`"secretsmanager:ListSecrets"`, everywhere)}},
		"one secret":            {documents: []string{allow(read, `"Resource": "arn:aws:secretsmanager:eu-west-1:1:secret:db"`)}, grade: access.Some, limit: "secret:db"},
		"all secrets by ARN":    {documents: []string{allow(read, `"Resource": "arn:aws:secretsmanager:*:111122223333:secret:*"`)}, grade: access.All},
		"a condition":           {documents: []string{allow(read, everywhere+`, "Condition": {"StringEquals": {"aws:SourceVpc": "vpc-1"}}`)}, grade: access.Some, limit: "aws:sourcevpc"},
		"all but some actions":  {documents: []string{`{"Statement": [{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}]}`}, grade: access.All},
		"all but this action":   {documents: []string{`{"Statement": [{"Effect": "Allow", "NotAction": ["secretsmanager:*"], "Resource": "*"}]}`}},
		"all but some secrets":  {documents: []string{allow(read, `"NotResource": "arn:aws:secretsmanager:*:*:secret:db"`)}, grade: access.All, limit: "all resources but"},
		"all but all resources": {documents: []string{allow(read, `"NotResource": "*"`)}},
		"denied":                {documents: []string{allow(read, everywhere), deny(`"secretsmanager:*"`, everywhere)}},
		"denied by exception":   {documents: []string{allow(read, everywhere), `{"Statement": {"Effect": "Deny", "NotAction": "s3:*", "Resource": "*"}}`}},
		"another is denied":     {documents: []string{allow(read, everywhere), deny(`"secretsmanager:DeleteSecret"`, everywhere)}, grade: access.All},
		"denied in part":        {documents: []string{allow(read, everywhere), deny(read, `"Resource": "arn:aws:secretsmanager:*:*:secret:db"`)}, grade: access.All, limit: "the deny b: #1"},
		"denied but for some":   {documents: []string{allow(read, everywhere), deny(read, `"NotResource": "arn:aws:secretsmanager:*:*:secret:db"`)}, grade: access.Some, limit: "the deny b: #1"},
		"denied by a condition": {documents: []string{allow(read, everywhere), deny(read, everywhere+`, "Condition": {"Bool": {"aws:ViaAWSService": "false"}}`)}, grade: access.Some, limit: "the deny b: #1"},
		"its secret is denied": {documents: []string{allow(read, `"Resource": "arn:aws:secretsmanager:*:*:secret:db-1"`),
			deny(read, `"Resource": "arn:aws:secretsmanager:*:*:secret:db-*"`)}},
		"another secret is denied": {documents: []string{allow(read, `"Resource": "arn:aws:secretsmanager:*:*:secret:db-1"`),
			deny(read, `"Resource": "arn:aws:secretsmanager:*:*:secret:web"`)}, grade: access.Some},
		"within the boundary":     {boundary: allow(`"*"`, everywhere), documents: []string{allow(read, everywhere)}, grade: access.All},
		"outside the boundary":    {boundary: allow(`"s3:*"`, everywhere), documents: []string{allow(read, everywhere)}},
		"denied by the boundary":  {boundary: `{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "secretsmanager:*", "Resource": "*"}]}`, documents: []string{allow(read, everywhere)}},
		"the boundary allows one": {boundary: allow(read, `"Resource": "arn:aws:secretsmanager:*:*:secret:db"`), documents: []string{allow(read, everywhere)}, grade: access.Some, limit: "the permissions boundary fence"},
		"the wider of two":        {documents: []string{allow(read, `"Resource": "arn:aws:secretsmanager:*:*:secret:db"`), allow(read, everywhere)}, grade: access.All},
	} {
		t.Run(name, func(t *testing.T) {
			got := access.Reduce(role(t, tt.boundary, tt.documents...))
			i := slices.IndexFunc(got.Data, func(f access.Finding) bool { return f.Name == secrets })
			switch {
			case i < 0 && tt.grade > access.None:
				t.Errorf("secrets are not found: %+v", got)
			case i >= 0 && got.Data[i].Grade != tt.grade:
				t.Errorf("%+v, want grade %d", got.Data[i], tt.grade)
			case i >= 0 && tt.grade == access.Some && !strings.Contains(strings.Join(got.Data[i].Limits, "; "), tt.limit):
				t.Errorf("%q do not say %q", got.Data[i].Limits, tt.limit)
			}
			if strings.HasPrefix(name, "all but some actions") && !slices.Contains(wide(got.Data), parameters) {
				t.Errorf("NotAction leaves out more than it says: %+v", got.Data)
			}
		})
	}
}

// TestResourcesOfS3 tells all buckets from all of one bucket.
func TestResourcesOfS3(t *testing.T) {
	for resource, want := range map[string]access.Grade{
		"*": access.All, "arn:aws:s3:::*": access.All, "arn:aws:s3:::*/*": access.All, "arn:aws:s3:::logs/*": access.Some,
		"arn:aws:s3:::logs*": access.Some,
	} {
		got := access.Reduce(role(t, "", allow(`"s3:GetObject"`, `"Resource": "`+resource+`"`)))
		if len(got.Data) != 1 || got.Data[0].Grade != want {
			t.Errorf("%s: %+v, want grade %d", resource, got.Data, want)
		}
	}
}

// TestResourcesOfOthers tells the resources of an action's service from those of others, and IAM's short ARNs from names.
func TestResourcesOfOthers(t *testing.T) {
	deny := func(rest string) string { return strings.Replace(allow(`"*"`, rest), "Allow", "Deny", 1) }
	for name, tt := range map[string]struct {
		documents []string
		level     access.Level
		data      []string // that nothing narrows
	}{
		"everything in S3":              {[]string{allow(`"*"`, `"Resource": "arn:aws:s3:::*"`)}, access.Data, []string{"changing objects in S3", "objects in S3"}},
		"all but everything in S3":      {[]string{allow(`"s3:*"`, `"NotResource": "arn:aws:s3:::*"`)}, access.Narrow, nil},
		"all but S3 of one region":      {[]string{allow(`"sqs:*"`, `"NotResource": "arn:aws:sqs:eu-west-1:*:*"`)}, access.Data, []string{"messages in SQS"}},
		"a short ARN":                   {[]string{allow(`"*"`, `"Resource": "arn:aws:sqs"`)}, access.Data, []string{"messages in SQS"}},
		"a shorter one of a region":     {[]string{allow(`"sqs:*"`, `"Resource": "arn:aws:sqs:eu-west-1"`)}, access.Data, []string{"messages in SQS"}},
		"a type with a star":            {[]string{allow(`"ssm:GetParameter"`, `"Resource": "arn:aws:ssm:*:*:parameter*"`)}, access.Data, []string{"parameters in SSM"}},
		"some of a type":                {[]string{allow(`"ssm:GetParameter"`, `"Resource": "arn:aws:ssm:*:*:parameter/app*"`)}, access.Narrow, nil},
		"hosts, by Systems Manager":     {[]string{allow(`"ssm:SendCommand"`, `"Resource": "arn:aws:ec2:*:*:instance/*"`)}, access.Escalation, nil},
		"any role, by the STS":          {[]string{allow(`"sts:AssumeRole"`, `"Resource": "arn:aws:iam::*:role/*"`)}, access.Escalation, nil},
		"all but S3, to administrators": {[]string{allow(`"*"`, everywhere), deny(`"Resource": "arn:aws:s3:::*"`)}, access.Escalation, nil},
		"S3 alone, to administrators":   {[]string{allow(`"*"`, everywhere), deny(`"NotResource": "arn:aws:s3:::*"`)}, access.Data, []string{"changing objects in S3", "objects in S3"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := access.Reduce(role(t, "", tt.documents...))
			if data := wide(got.Data); got.Level != tt.level || tt.data != nil && !slices.Equal(data, tt.data) {
				t.Errorf("%s with %q, want %s with %q", got.Level, data, tt.level, tt.data)
			}
		})
	}
}

// TestPassRole looks at whom a role may be passed to: another service than the one that would run it opens no way.
func TestPassRole(t *testing.T) {
	pass := func(condition string) string {
		return `{"Statement": [{"Effect": "Allow", "Action": ["ec2:RunInstances", "lambda:*"], "Resource": "*"},
			{"Sid": "Pass", "Effect": "Allow", "Action": "iam:PassRole", "Resource": "*", "Condition": ` + condition + `}]}`
	}
	const byEC2, byLambda = "iam:PassRole + ec2:RunInstances", "iam:PassRole + lambda:CreateFunction + lambda:InvokeFunction"
	for condition, want := range map[string][]string{
		`{"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}`:                                     {byEC2},
		`{"StringEquals": {"iam:PassedToService": ["ec2.amazonaws.com.cn", "lambda.amazonaws.com"]}}`:        {byEC2, byLambda},
		`{"StringLike": {"iam:PassedToService": "*.amazonaws.com"}}`:                                         {byEC2, byLambda},
		`{"ForAnyValue:StringEqualsIfExists": {"IAM:passedtoservice": "LAMBDA.amazonaws.com"}}`:              {byLambda},
		`{"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com", "aws:RequestedRegion": "eu-west-1"}}`: {},
		`{"StringEquals": {"iam:PassedToService": "eks.amazonaws.com"}}`:                                     {},
	} {
		got := wide(access.Reduce(role(t, "", pass(condition))).Escalations)
		for _, path := range []string{byEC2, byLambda} {
			if slices.Contains(got, path) != slices.Contains(want, path) {
				t.Errorf("%s: %q, want %q of these", condition, got, want)
			}
		}
	}
}

// TestNarrowedAdmin: whoever may do everything under a condition is shown as that, and counts as what remains.
func TestNarrowedAdmin(t *testing.T) {
	got := access.Reduce(role(t, "", allow(`"*"`, everywhere+`, "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}`)))
	if got.Level != access.Narrow || got.Admin == nil || got.Admin.Grade != access.Some {
		t.Errorf("%s, %+v", got.Level, got.Admin)
	}
}

// TestRefused are documents that IAM would not have taken for a role.
func TestRefused(t *testing.T) {
	for _, text := range []string{
		``, `x`, `[]`, `{}`, `{"Statement": []}`, allow(`"s3:*"`, everywhere) + "x",
		`{"Statement": {"Effect": "Maybe", "Action": "*", "Resource": "*"}}`,
		`{"Statement": {"Effect": "Allow", "Resource": "*"}}`, `{"Statement": {"Effect": "Allow", "Action": "*"}}`,
		`{"Statement": {"Effect": "Allow", "Action": "*", "NotAction": "*", "Resource": "*"}}`,
		`{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"}}`,
		strings.Repeat(" ", 1<<20) + allow(`"*"`, everywhere),
	} {
		if _, err := access.Parse(text); err == nil {
			t.Errorf("%.80q was taken", text)
		}
	}
}
