package sts_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	ec2api "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	stsapi "github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim/authz"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/sts"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

const (
	tools  = "444455556666"
	shop   = "111122223333"
	region = "eu-west-1"
	read   = "arn:aws:iam::111122223333:role/imdsctl/read"
)

type world struct {
	*core.World
	clock *clock.Manual
}

func newWorld(t *testing.T, policies ...string) *world {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	w := &world{World: core.New(core.Options{Clock: c, Consistency: -1, Settle: -1}, ec2.Service(), sts.Service()),
		clock: c}
	seed := `{
		"accounts": [
			{"id": "444455556666", "name": "tools", "access_keys": ["AKIATOOLS"]},
			{"id": "111122223333", "name": "shop", "roles": [{
				"name": "read", "path": "/imdsctl/", "max_session_seconds": 7200,
				"trust": ` + core.TrustAccount(tools, "ext-1") + `,
				"policies": {"main": ` + policies[0] + `}
			}]}
		]}`
	if err := w.Load([]byte(seed)); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) sts(key, token string) *stsapi.Client {
	return stsapi.New(stsapi.Options{Region: region, BaseEndpoint: aws.String(core.BaseURL), HTTPClient: w.Client(),
		Credentials: credentials.NewStaticCredentialsProvider(key, "s", token), RetryMaxAttempts: 1})
}

func (w *world) ec2(key, token string) *ec2api.Client {
	return ec2api.New(ec2api.Options{Region: region, BaseEndpoint: aws.String(core.BaseURL), HTTPClient: w.Client(),
		Credentials: credentials.NewStaticCredentialsProvider(key, "s", token), RetryMaxAttempts: 1})
}

func assume() *stsapi.AssumeRoleInput {
	return &stsapi.AssumeRoleInput{RoleArn: aws.String(read), RoleSessionName: aws.String("scan"),
		ExternalId: aws.String("ext-1")}
}

func (w *world) session(t *testing.T) (key, token string) {
	t.Helper()
	out, err := w.sts("AKIATOOLS", "").AssumeRole(t.Context(), assume())
	if err != nil {
		t.Fatal(err)
	}
	return *out.Credentials.AccessKeyId, *out.Credentials.SessionToken
}

func wantCode(t *testing.T, err error, code string) smithy.APIError {
	t.Helper()
	e, ok := errors.AsType[smithy.APIError](err)
	if !ok || e.ErrorCode() != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	return e
}

func TestAssumeRole(t *testing.T) {
	w := newWorld(t, core.AllowActions("ec2:Describe*"))
	out, err := w.sts("AKIATOOLS", "").AssumeRole(t.Context(), assume())
	if err != nil {
		t.Fatal(err)
	}
	if got := *out.AssumedRoleUser.Arn; got != "arn:aws:sts::111122223333:assumed-role/read/scan" {
		t.Errorf("arn %s", got)
	}
	if want := w.Now().Add(time.Hour); !out.Credentials.Expiration.Equal(want) {
		t.Errorf("expires %s, want %s", out.Credentials.Expiration, want)
	}
	who, err := w.sts(*out.Credentials.AccessKeyId, *out.Credentials.SessionToken).GetCallerIdentity(t.Context(),
		&stsapi.GetCallerIdentityInput{})
	if err != nil || *who.Account != shop || *who.Arn != *out.AssumedRoleUser.Arn {
		t.Errorf("%+v %v", who, err)
	}
	root, err := w.sts("AKIATOOLS", "").GetCallerIdentity(t.Context(), &stsapi.GetCallerIdentityInput{})
	if err != nil || *root.Arn != "arn:aws:iam::444455556666:root" {
		t.Errorf("%+v %v", root, err)
	}
}

func TestAssumeRoleRefusals(t *testing.T) {
	w := newWorld(t, core.AllowActions("ec2:Describe*"))
	for name, tc := range map[string]struct {
		change func(*stsapi.AssumeRoleInput)
		code   string
	}{
		"no id":        {func(in *stsapi.AssumeRoleInput) { in.ExternalId = nil }, "AccessDenied"},
		"wrong id":     {func(in *stsapi.AssumeRoleInput) { in.ExternalId = aws.String("other") }, "AccessDenied"},
		"missing role": {func(in *stsapi.AssumeRoleInput) { in.RoleArn = aws.String(read + "er") }, "AccessDenied"},
		"wrong path":   {func(in *stsapi.AssumeRoleInput) { in.RoleArn = aws.String("arn:aws:iam::" + shop + ":role/read") }, "AccessDenied"},
		"missing account": {func(in *stsapi.AssumeRoleInput) {
			in.RoleArn = aws.String("arn:aws:iam::999999999999:role/imdsctl/read")
		}, "AccessDenied"},
		"no arn": {func(in *stsapi.AssumeRoleInput) { in.RoleArn = aws.String("read-the-role-of-shop") },
			"ValidationError"},
		"bad session name": {func(in *stsapi.AssumeRoleInput) { in.RoleSessionName = aws.String("a b") }, "ValidationError"},
		"short":            {func(in *stsapi.AssumeRoleInput) { in.DurationSeconds = aws.Int32(899) }, "ValidationError"},
		"long":             {func(in *stsapi.AssumeRoleInput) { in.DurationSeconds = aws.Int32(7201) }, "ValidationError"},
		"bad policy":       {func(in *stsapi.AssumeRoleInput) { in.Policy = aws.String("{}") }, "MalformedPolicyDocument"},
		"tags": {func(in *stsapi.AssumeRoleInput) {
			in.Tags = []ststypes.Tag{{Key: aws.String("a"), Value: aws.String("b")}}
		},
			"UnknownParameter"},
	} {
		t.Run(name, func(t *testing.T) {
			in := assume()
			tc.change(in)
			_, err := w.sts("AKIATOOLS", "").AssumeRole(t.Context(), in)
			wantCode(t, err, tc.code)
		})
	}
	if _, err := w.sts(shop, "").AssumeRole(t.Context(), assume()); err == nil {
		t.Error("an account that is not trusted assumed the role")
	}
}

func TestRoleChainingIsLimitedToAnHour(t *testing.T) {
	w := newWorld(t, core.AllowActions("sts:AssumeRole"))
	if err := w.PutRole(tools, "second", core.TrustAccount(shop, ""), core.AllowActions("ec2:*")); err != nil {
		t.Fatal(err)
	}
	key, token := w.session(t)
	in := &stsapi.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::444455556666:role/second"),
		RoleSessionName: aws.String("ab"),
		DurationSeconds: aws.Int32(3601)}
	_, err := w.sts(key, token).AssumeRole(t.Context(), in)
	wantCode(t, err, "ValidationError")
	in.DurationSeconds = nil
	if _, err := w.sts(key, token).AssumeRole(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

func TestExpiry(t *testing.T) {
	w := newWorld(t, core.AllowActions("ec2:Describe*"))
	key, token := w.session(t)
	describe := func(key, token string) error {
		_, err := w.ec2(key, token).DescribeRegions(t.Context(), &ec2api.DescribeRegionsInput{})
		return err
	}
	whoami := func(key, token string) error {
		_, err := w.sts(key, token).GetCallerIdentity(t.Context(), &stsapi.GetCallerIdentityInput{})
		return err
	}
	if err := describe(key, token); err != nil {
		t.Fatal(err)
	}
	wantCode(t, describe(key, "other"), "AuthFailure")
	wantCode(t, whoami(key, ""), "InvalidClientTokenId")
	wantCode(t, describe("AKIANOBODY", ""), "AuthFailure")
	wantCode(t, whoami("AKIANOBODY", ""), "InvalidClientTokenId")
	w.clock.Advance(time.Hour)
	wantCode(t, describe(key, token), "RequestExpired")
	wantCode(t, whoami(key, token), "ExpiredToken")
}

func TestEnforcement(t *testing.T) {
	policy := `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["ec2:DescribeInstances","ec2:RunInstances"],"Resource":"*"},
		{"Effect":"Allow","Action":"ec2:ModifyInstanceMetadataOptions","Resource":"arn:aws:ec2:*:*:instance/*",
		 "Condition":{"StringEquals":{"ec2:ResourceTag/Env":"dev","ec2:Attribute/HttpTokens":"required"}}},
		{"Effect":"Deny","Action":"ec2:RunInstances","Resource":"arn:aws:ec2:*:*:instance/*",
		 "Condition":{"StringNotEquals":{"ec2:MetadataHttpTokens":"required"}}}]}`
	w := newWorld(t, policy)
	place, err := w.Place(shop, region)
	if err != nil {
		t.Fatal(err)
	}
	var dev, prod string
	place.With(func(now time.Time) {
		s := ec2.StoreOf(place)
		if err := s.AddImage(now, ec2.ImageSeed{ID: "ami-0000000000000001a"}); err != nil {
			t.Fatal(err)
		}
		for env, id := range map[string]*string{"dev": &dev, "prod": &prod} {
			i, err := s.AddInstance(now, ec2.InstanceSeed{ImageID: "ami-0000000000000001a", Tags: map[string]string{"Env": env}})
			if err != nil {
				t.Fatal(err)
			}
			*id = i.ID()
		}
	})
	key, token := w.session(t)
	client := w.ec2(key, token)

	if _, err := client.DescribeInstances(t.Context(), &ec2api.DescribeInstancesInput{}); err != nil {
		t.Fatal(err)
	}
	_, err = client.DescribeImages(t.Context(), &ec2api.DescribeImagesInput{})
	e := wantCode(t, err, "UnauthorizedOperation")
	want := "You are not authorized to perform this operation. User: arn:aws:sts::111122223333:assumed-role/read/scan is not " +
		"authorized to perform: ec2:DescribeImages because no identity-based policy allows the ec2:DescribeImages action"
	if e.ErrorMessage() != want {
		t.Errorf("message %q", e.ErrorMessage())
	}
	modify := func(id string, tokens types.HttpTokensState, dry bool) error {
		_, err := client.ModifyInstanceMetadataOptions(t.Context(), &ec2api.ModifyInstanceMetadataOptionsInput{
			InstanceId: &id, HttpTokens: tokens, HttpEndpoint: "enabled", DryRun: aws.Bool(dry)})
		return err
	}
	wantCode(t, modify(prod, "required", false), "UnauthorizedOperation")
	wantCode(t, modify(dev, "optional", false), "UnauthorizedOperation")
	wantCode(t, modify(dev, "required", true), "DryRunOperation")
	wantCode(t, modify(prod, "required", true), "UnauthorizedOperation")
	if err := modify(dev, "required", false); err != nil {
		t.Error(err)
	}
	run := func(tokens types.HttpTokensState) error {
		_, err := client.RunInstances(t.Context(), &ec2api.RunInstancesInput{ImageId: aws.String("ami-0000000000000001a"),
			MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
			MetadataOptions: &types.InstanceMetadataOptionsRequest{HttpTokens: tokens}})
		return err
	}
	wantCode(t, run("optional"), "UnauthorizedOperation")
	if err := run("required"); err != nil {
		t.Error(err)
	}
	mutated := 0
	for _, c := range w.Calls() {
		if c.Mutated {
			mutated++
			if c.Principal != "arn:aws:sts::111122223333:assumed-role/read/scan" {
				t.Errorf("%+v", c)
			}
		}
	}
	if mutated != 2 {
		t.Errorf("%d changes in the log, want 2", mutated)
	}
	w.DeleteRole(shop, "read")
	_, err = client.DescribeInstances(t.Context(), &ec2api.DescribeInstancesInput{})
	wantCode(t, err, "UnauthorizedOperation")
}

func TestSessionPolicyAndGuardrailsNarrow(t *testing.T) {
	w := newWorld(t, core.AllowActions("ec2:*"))
	in := assume()
	in.Policy = aws.String(core.AllowActions("ec2:DescribeRegions"))
	out, err := w.sts("AKIATOOLS", "").AssumeRole(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	narrow := w.ec2(*out.Credentials.AccessKeyId, *out.Credentials.SessionToken)
	if _, err := narrow.DescribeRegions(t.Context(), &ec2api.DescribeRegionsInput{}); err != nil {
		t.Error(err)
	}
	_, err = narrow.DescribeInstances(t.Context(), &ec2api.DescribeInstancesInput{})
	wantCode(t, err, "UnauthorizedOperation")

	parse := func(doc string) *authz.Policy {
		p, err := authz.Parse(doc)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	all := parse(core.AllowActions("*"))
	deny := parse(`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"ec2:DescribeTags","Resource":"*"}}`)
	w.SetGuardrails(func(a fleet.AccountID) [][]*authz.Policy {
		if a != shop {
			return nil
		}
		return [][]*authz.Policy{{all}, {all, deny}}
	})
	_, err = w.ec2(shop, "").DescribeTags(t.Context(), &ec2api.DescribeTagsInput{}) // the administrator is bound as well
	if e := wantCode(t, err, "UnauthorizedOperation"); !strings.Contains(e.ErrorMessage(), "service control policy") {
		t.Errorf("%s", e.ErrorMessage())
	}
	if _, err := w.ec2(tools, "").DescribeTags(t.Context(), &ec2api.DescribeTagsInput{}); err != nil {
		t.Error(err)
	}
}

// TestRequestsWithoutProperAuthorization goes below the SDK, which always signs.
func TestRequestsWithoutProperAuthorization(t *testing.T) {
	w := newWorld(t, core.AllowActions("ec2:*"))
	for name, tc := range map[string]struct{ authorization, body, target, want string }{
		"ec2 garbled": {"AWS4-HMAC-SHA256 Credential=AKIATOOLS/20260301/eu-west-1/ec2, SignedHeaders=host, Signature=a",
			"Action=DescribeRegions", "", "IncompleteSignature"},
		"query absent": {"", "Action=GetCallerIdentity", "", "MissingAuthenticationToken"},
		"query basic":  {"Basic abc", "Action=GetCallerIdentity", "", "IncompleteSignature"},
		"json absent":  {"", "{}", "Svc.Op", "MissingAuthenticationTokenException"},
		"no signature": {"AWS4-HMAC-SHA256 Credential=AKIATOOLS/20260301/eu-west-1/sts/aws4_request, SignedHeaders=host",
			"Action=GetCallerIdentity", "", "IncompleteSignature"},
		"unknown service": {"AWS4-HMAC-SHA256 Credential=AKIATOOLS/20260301/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=a",
			"Action=ListBuckets", "", "UnknownService"},
		"unknown service of REST": {"AWS4-HMAC-SHA256 Credential=AKIATOOLS/20260301/eu-west-1/lambda/aws4_request, SignedHeaders=host, Signature=a",
			"", "", `"message":"the simulator does not offer \"lambda\" by restJson1"`},
		"unknown service of REST and XML": {"AWS4-HMAC-SHA256 Credential=AKIATOOLS/20260301/us-east-1/route53/aws4_request, SignedHeaders=host, Signature=a",
			"", "", "<Code>UnknownService</Code>"},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, core.BaseURL, strings.NewReader(tc.body))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if tc.target != "" {
				r.Header.Set("Content-Type", "application/x-amz-json-1.1")
				r.Header.Set("X-Amz-Target", tc.target)
			}
			if tc.authorization != "" {
				r.Header.Set("Authorization", tc.authorization)
			}
			resp, err := w.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode < 400 || !strings.Contains(string(body), tc.want) {
				t.Fatalf("%d %s", resp.StatusCode, body)
			}
		})
	}
}
