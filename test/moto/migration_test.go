package moto

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// settings are a user's, but for what moto cannot: it ignores the source version of a template's copy, cannot delete a
// version and does not know account defaults, so that those are the simulator's to test; it does not have the calls that list the
// excluded kinds, and answers them as if AWS had failed; and it has no CPUUtilization, hence no heartbeat.
const settings = `
version: 1
organization:
  discover: organizations
  role: {read: %[1]s, write: %[1]s, external_id: %[2]s}
  regions: [%[3]s]
inventory:
  exclude_kinds: [appstream, ecs-capacity, emr-security-configuration, image-builder, lightsail-instance, organization-policy,
    ssm-agent, workspaces-instance]
targets: {templates: false, account_defaults: false}
gates: {heartbeat: none, delay: 0s}
bake: {low: 0s, medium: 0s, high: 0s, critical: 0s}
rollout: {concurrency: 50, concurrency_per_account: 50}
exceptions:
  - match: {tag: {imdsctl-exempt: "yes"}}
    owner: shop
    reason: the vendor's agent calls IMDSv1
    expires: %[4]s
`

// site is imdsctl before a seeded moto.
type site struct {
	server   *Server
	manifest *Manifest
	dir      string
}

// open makes an App, with the machine's clock or one that runs faster.
func (s *site) open(t *testing.T, c clock.Clock) *app.App {
	t.Helper()
	var regions []string
	for _, r := range s.manifest.Regions {
		regions = append(regions, string(r))
	}
	text := fmt.Sprintf(settings, s.manifest.Role, s.manifest.ExternalID, strings.Join(regions, ", "), time.Now().AddDate(0, 1, 0).Format(time.DateOnly))
	config, problems := policy.Parse([]byte(text), "imdsctl.yaml", app.KindNames())
	if config == nil {
		t.Fatal(problems)
	}
	a, err := app.New(app.Options{Config: config, DBPath: filepath.Join(s.dir, "imdsctl.db"), Clock: c, Version: "test", Actor: "tester",
		CloudWatchProtocol: "json",
		Concurrency:        2, // moto computes one answer at a time; more would only wait, and on a busy machine for too long
		AWS: func(context.Context) (aws.Config, error) {
			return aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(s.server.URL),
				Credentials: credentials.NewStaticCredentialsProvider("testing", "testing", "")}, nil
		},
		Engine: app.EngineOptions{CallTimeout: time.Hour, Consistency: time.Minute, VerifyTimeout: time.Hour, PollInterval: 20 * time.Second},
	})
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

func (s *site) plan(t *testing.T) *plan.Plan {
	t.Helper()
	a := s.open(t, clock.System())
	summary, err := a.Scan(t.Context(), app.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, gap := range summary.Gaps {
		if gap.Kind != inventory.KindAccountDefaults { // moto does not know them, and says so
			t.Errorf("gap: %+v", gap)
		}
	}
	s.verdicts(t, a)
	result, err := a.Plan(t.Context(), app.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := a.WritePlan(t.Context(), &out, "plan.json", result.Plan); err != nil {
		t.Fatal(err)
	}
	p, err := plan.Read(&out, "plan.json")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// verdicts compares every instance's verdict with the manifest's. What was ready is done at the second look.
func (s *site) verdicts(t *testing.T, a *app.App) {
	t.Helper()
	got := map[string]*assess.Verdict{}
	for row, err := range a.Resources(t.Context(), app.ResourceFilter{Kinds: []string{inventory.KindInstance}}) {
		if err != nil {
			t.Fatal(err)
		}
		if row.Verdict != nil {
			got[row.Resource.Ref.ID] = row.Verdict
		}
	}
	judged := 0
	for _, i := range s.manifest.Instances {
		if i.Verdict == "" {
			continue
		}
		judged++
		if v := got[i.ID]; v == nil || string(v.Status) != i.Verdict {
			t.Errorf("%s %s (%s, %s) is judged %+v, want %s", i.ID, i.Name, i.Account, i.Region, v, i.Verdict)
		}
	}
	if judged != len(got) {
		t.Errorf("%d instances were judged, the manifest has %d", len(got), judged)
	}
}

// TestMigration carries the fleet through scan, plan and apply: every ready instance ends on required with its own hop limit
// and tags, nothing else is touched, and there is nothing left to plan. The AWS CLI is the witness.
func TestMigration(t *testing.T) {
	s := &site{server: Start(t), dir: t.TempDir()}
	s.manifest = s.server.Seed(t)
	checkSeed(t, s.server, s.manifest)
	before := s.pointers(t)

	p := s.plan(t)
	ready, want := 0, map[string]fleet.Options{}
	for _, i := range s.manifest.Instances {
		if i.Verdict == "ready" {
			ready++
		}
		if i.State != "terminated" {
			want[i.ID] = i.After
		}
	}
	if ready != 48 || len(p.Changes) != ready {
		t.Fatalf("%d instances are ready and %d changes planned, want 48 each; manual steps: %v", ready, len(p.Changes), p.Manuals)
	}

	a := s.open(t, clock.Scaled(time.Now(), 120))
	result, err := a.Apply(t.Context(), p, app.ApplyOptions{Yes: true, Reason: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if result.Record.Status != rollout.Done || result.Counts.Written != ready {
		t.Fatalf("rollout %s (%s): %+v", result.Record.Status, result.Record.Reason, result.Counts)
	}

	got := s.server.Instances(t, s.manifest)
	for id, options := range want {
		if got[id] != options {
			t.Errorf("%s has %+v, want %+v", id, got[id], options)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d instances, want %d", len(got), len(want))
	}
	if after := s.pointers(t); after != before {
		t.Errorf("templates or groups were touched:\nbefore %s\nafter  %s", before, after)
	}

	for i := range s.manifest.Instances {
		if in := &s.manifest.Instances[i]; in.Verdict == "ready" {
			in.Verdict = "done"
		}
	}
	if again := s.plan(t); len(again.Changes) != 0 {
		t.Errorf("the second plan has %d changes, the first is %+v", len(again.Changes), again.Changes[0])
	}
}

// pointers reads all templates and groups by the AWS CLI.
func (s *site) pointers(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, account := range s.manifest.Accounts {
		for _, region := range s.manifest.Regions {
			var templates, groups [][]any
			s.server.CLI(t, s.manifest, account.ID, region, &templates, "ec2", "describe-launch-templates", "--query",
				"LaunchTemplates[].[LaunchTemplateId, DefaultVersionNumber, LatestVersionNumber]")
			s.server.CLI(t, s.manifest, account.ID, region, &groups, "autoscaling", "describe-auto-scaling-groups", "--query",
				"AutoScalingGroups[].[AutoScalingGroupName, LaunchTemplate.Version, DesiredCapacity]")
			fmt.Fprintln(&out, account.ID, region, templates, groups)
		}
	}
	return out.String()
}
