package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// Accounts of the small organization of these tests.
const (
	management fleet.AccountID = "111111111111"
	payments   fleet.AccountID = "222222222222"
	shop       fleet.AccountID = "333333333333"
)

const (
	ireland  fleet.Region = "eu-west-1"
	virginia fleet.Region = "us-east-1"
)

// start is when every test begins.
var start = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// world is a simulated organization with an App that looks at it.
type world struct {
	*awssim.World
	app   *app.App
	clock clock.Clock
	db    string
	key   string // the caller's access key
	// region is the caller's own.
	region fleet.Region
}

// baseConfig finds accounts by Organizations in two regions, bakes for minutes and asks for no boot.
const baseConfig = `
version: 1
organization:
  discover: organizations
  regions: [eu-west-1, us-east-1]
evidence:
  require_boot: false
bake: {low: 20m, medium: 20m, high: 20m, critical: 20m}
`

// newWorld loads a seed, and makes an App whose caller is the management account's administrator.
func newWorld(t *testing.T, seed *core.Seed, config string, change ...func(*app.Options)) *world {
	t.Helper()
	return newPacedWorld(t, 3600, seed, config, change...)
}

// newPacedWorld is newWorld whose clock is so many times as fast as the machine's: what a busy machine does takes longer by it.
func newPacedWorld(t *testing.T, pace float64, seed *core.Seed, config string, change ...func(*app.Options)) *world {
	t.Helper()
	w := &world{clock: clock.Scaled(start, pace), db: filepath.Join(t.TempDir(), "imdsctl.db"), key: string(management), region: ireland}
	w.World = awssim.New(awssim.Options{Clock: w.clock, Seed: 7})
	if err := w.LoadSeed(seed); err != nil {
		t.Fatal(err)
	}
	w.app = w.open(t, config, change...)
	return w
}

// open makes one more App on the same world and database.
func (w *world) open(t *testing.T, config string, change ...func(*app.Options)) *app.App {
	t.Helper()
	cfg, problems := policy.Parse([]byte(config), "imdsctl.yaml", app.KindNames())
	if cfg == nil {
		t.Fatalf("configuration: %v", problems)
	}
	o := app.Options{
		Config: cfg, DBPath: w.db, Clock: w.clock, Version: "test", Actor: "tester", AWS: w.aws,
		Engine: app.EngineOptions{CallTimeout: time.Hour, Consistency: time.Minute, VerifyTimeout: time.Hour,
			PollInterval: time.Minute},
	}
	for _, f := range change {
		f(&o)
	}
	a, err := app.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func (w *world) aws(context.Context) (aws.Config, error) {
	creds := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: w.key, SecretAccessKey: "secret"}, nil
	})
	return aws.Config{Region: string(w.region), Credentials: creds, HTTPClient: w.Client(),
		BaseEndpoint: aws.String(awssim.BaseURL)}, nil
}

// organization is an organization of three accounts, the members of which have both roles.
func organization(sections ...func(*core.Seed)) *core.Seed {
	roles := func() []core.RoleSeed {
		var out []core.RoleSeed
		for _, name := range []string{policy.DefaultReadRole, policy.DefaultWriteRole} {
			out = append(out, core.RoleSeed{Name: name, Trust: json.RawMessage(core.TrustAccount(management, "")),
				Policies: map[string]json.RawMessage{"all": json.RawMessage(core.AllowActions("ec2:*", "autoscaling:*",
					"cloudwatch:*", "elasticloadbalancing:*", "lightsail:*", "sagemaker:*",
					"appstream:*", "batch:*", "cloudformation:*", "ecs:*", "eks:*", "elasticbeanstalk:*", "elasticmapreduce:*",
					"imagebuilder:*", "workspaces-instances:*", "ssm:DescribeInstanceInformation", "iam:PassRole",
					"iam:GetAccountAuthorizationDetails"))}})
		}
		return out
	}
	s := &core.Seed{
		Organization: core.Organization{ID: "o-test123456", ManagementAccount: management,
			OUs: []core.OU{{Name: "Production"}, {Name: "Payments", Parent: "Production"}}},
		Accounts: []core.AccountSeed{
			{ID: management, Name: "management"},
			{ID: payments, Name: "payments", OU: "Payments", Roles: roles(), Tags: map[string]string{"tier": "1"}},
			{ID: shop, Name: "shop", OU: "Production", Roles: roles()},
		},
	}
	for _, f := range sections {
		f(s)
	}
	return s
}

// in adds sections of services to one region of one account.
func in(account fleet.AccountID, region fleet.Region, sections map[string]string) func(*core.Seed) {
	return func(s *core.Seed) {
		for i := range s.Accounts {
			a := &s.Accounts[i]
			if a.ID != account {
				continue
			}
			if a.Regions == nil {
				a.Regions = map[fleet.Region]map[string]json.RawMessage{}
			}
			a.Regions[region] = map[string]json.RawMessage{}
			for name, text := range sections {
				a.Regions[region][name] = json.RawMessage(text)
			}
		}
	}
}

// runs adds programs.
func runs(programs ...string) func(*core.Seed) {
	return func(s *core.Seed) {
		s.Services = map[string]json.RawMessage{"workload": json.RawMessage(`{"programs": [` + strings.Join(programs, ",") +
			`]}`)}
	}
}

const image = "ami-0123456789abcdef0"

// instance is an instance of a seed. tokens is "optional" or "required"; more are further members, each after a comma.
func instance(id, tokens string, more string) string {
	return fmt.Sprintf(`{"id": %q, "image": %q, "launched": %q, "options": {"tokens": %q, "hop_limit": 1, "endpoint": "enabled"}%s}`,
		id, image, start.AddDate(0, 0, -40).Format(time.RFC3339), tokens, more)
}

func ec2Section(templates string, instances ...string) string {
	return fmt.Sprintf(`{"images": [{"id": %q}], "templates": [%s], "instances": [%s]}`, image, templates,
		strings.Join(instances, ","))
}

// modern calls IMDS every quarter of an hour with v2, and legacy with v1.
func modern(where string) string {
	return fmt.Sprintf(`{"name": "modern", "agent": "boto3", "version": "1.34.0", "speaks": "v2-then-v1", "every": "15m", "at_boot": true, "where": %s}`, where)
}

func legacy(where string) string {
	return fmt.Sprintf(`{"name": "legacy", "agent": "boto3", "version": "1.9.2", "speaks": "v1-only", "every": "15m", "at_boot": true, "where": %s}`, where)
}

// id makes an instance id that reads like AWS's.
func id(n int) string { return fmt.Sprintf("i-0%016x", n) }

// verdicts reads the verdicts on all resources of a kind, by id.
func verdicts(t *testing.T, a *app.App, kind string) map[string]assess.Status {
	t.Helper()
	out := map[string]assess.Status{}
	for row, err := range a.Resources(t.Context(), app.ResourceFilter{Kinds: []string{kind}}) {
		if err != nil {
			t.Fatal(err)
		}
		if row.Verdict != nil {
			out[row.Resource.Ref.ID] = row.Verdict.Status
		}
	}
	return out
}

// counts counts the calls of the log by service and action.
func (w *world) counts() map[string]int {
	out := map[string]int{}
	for _, c := range w.Calls() {
		out[c.Service+":"+c.Action]++
	}
	return out
}
