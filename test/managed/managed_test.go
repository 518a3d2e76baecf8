// Package managed tries to have imdsctl write what a managed service owns. It scans, plans and applies a fleet in which every way
// of being managed occurs, all of it ready by its evidence, with everything targeted, and judges by the simulator's own call log.
package managed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/batch"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/ecs"
	"github.com/imdsctl/imdsctl/internal/awssim/eks"
	"github.com/imdsctl/imdsctl/internal/awssim/elasticbeanstalk"
	"github.com/imdsctl/imdsctl/internal/awssim/workspacesinstances"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

const (
	account fleet.AccountID = "111122223333"
	region  fleet.Region    = "eu-west-1"
	image                   = "ami-0123456789abcdef0"
	// environment is the Beanstalk environment; nightly the one of Batch.
	environment = "e-abcdefghij"
	cluster     = "arn:aws:ecs:eu-west-1:111122223333:cluster/AWSBatch-nightly"
)

var start = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// everything targets all there is. The disruptive part is the opt-in.
const everything = `
version: 1
organization: {discover: self, regions: [eu-west-1]}
evidence: {require_boot: false}
bake: {low: 20m, medium: 20m, high: 20m, critical: 20m}
targets:
  instances: true
  templates: true
  account_defaults: true
  services: true
  images: true
  organization_policies: true
`

const optIn = `  disruptive:
    - {match: {kind: "*"}, allow: replace}
`

// foe is a fleet in the making.
type foe struct {
	machines ec2.Seed
	groups   []autoscaling.GroupSeed
	next     int
	// managed are the ids of what a service manages, with how.
	managed map[string]string
}

// instance adds an instance and gives its id. how says in which way it is managed; empty for one that is not.
func (f *foe) instance(how string, tags map[string]string, operator *ec2.Operator) string {
	f.next++
	id := fmt.Sprintf("i-0%016x", f.next)
	f.machines.Instances = append(f.machines.Instances, ec2.InstanceSeed{ID: id, ImageID: image, Tags: tags, Operator: operator,
		Launched: start.AddDate(0, 0, -40), Options: fleet.Options{Tokens: fleet.TokensOptional, Endpoint: fleet.Enabled, HopLimit: 2}})
	if how != "" {
		f.managed[id] = how
	}
	return id
}

func (f *foe) template(how string, tags map[string]string, operator *ec2.Operator) string {
	f.next++
	id := fmt.Sprintf("lt-0%016x", f.next)
	data := json.RawMessage(`{"ImageId": "` + image + `", "InstanceType": "m5.large",
		"MetadataOptions": {"HttpTokens": "optional", "HttpPutResponseHopLimit": 2}}`)
	f.machines.Templates = append(f.machines.Templates, ec2.TemplateSeed{ID: id, Name: "t-" + id, Tags: tags, Operator: operator,
		Versions: []ec2.VersionSeed{{Data: data}}})
	if how != "" {
		f.managed[id] = how
	}
	return id
}

// group adds a group with one member.
func (f *foe) group(how, name, template string, tags map[string]string) string {
	member := f.instance(how, tags, nil)
	f.groups = append(f.groups, autoscaling.GroupSeed{Name: name, Template: template, Version: "1", Min: 1, Max: 3, Desired: 1, Tags: tags,
		Instances: []string{member}})
	if how != "" {
		f.managed[name] = how
	}
	return member
}

// fleetOf makes the seed.
func fleetOf(t *testing.T) (*core.Seed, *foe) {
	t.Helper()
	f := &foe{managed: map[string]string{}, machines: ec2.Seed{Images: []ec2.ImageSeed{{ID: image}}}}
	f.instance("", nil, nil) // what is written shows that the rest could have been
	f.group("", "web", f.template("", nil, nil), nil)

	operated := func(service string, hidden bool) *ec2.Operator {
		return &ec2.Operator{Managed: true, Principal: service + ".amazonaws.com", Hidden: hidden}
	}
	f.instance("operator", nil, operated("eks", false))
	f.instance("hidden operator", nil, operated("eks", true))
	f.instance("ECS managed instance", map[string]string{"aws:ecs:clusterName": "shop"}, operated("ecs", false))
	desk := f.instance("WorkSpaces", nil, operated("workspaces-instances", true))
	f.template("operator", nil, operated("eks", false))
	f.template("hidden operator", nil, operated("eks", true))
	f.group("operator of its group", "operated", f.template("", nil, nil), nil)
	f.groups[len(f.groups)-1].Operator = "eks.amazonaws.com"
	f.group("", "borrower", f.template("operator", nil, operated("eks", false)), nil) // a person's group, a service's template
	for how, tags := range map[string]map[string]string{
		"Karpenter":          {"karpenter.sh/nodepool": "default"},
		"Karpenter of old":   {"karpenter.sh/provisioner-name": "default"},
		"ParallelCluster":    {"parallelcluster:cluster-name": "hpc"},
		"Cloud9":             {"aws:cloud9:environment": "0123456789abcdef0123456789abcdef"},
		"EMR":                {"aws:elasticmapreduce:job-flow-id": "j-0123456789ABC"},
		"EKS, group unknown": {"eks:nodegroup-name": "gone"},
	} {
		f.instance(how, tags, nil)
	}
	f.template("Karpenter", map[string]string{"karpenter.k8s.aws/cluster": "prod"}, nil)
	f.template("ParallelCluster", map[string]string{"parallelcluster:cluster-name": "hpc"}, nil)

	blue := map[string]string{"eks:nodegroup-name": "blue", "eks:cluster-name": "prod"}
	plain := map[string]string{"eks:nodegroup-name": "plain", "eks:cluster-name": "prod"}
	f.group("EKS", "eks-blue", f.template("EKS's copy", blue, nil), blue)
	f.group("EKS", "eks-plain", f.template("EKS's own", plain, nil), plain)
	nodes := f.template("", nil, nil) // a person's
	bean := map[string]string{"elasticbeanstalk:environment-name": "shop-prod", "elasticbeanstalk:environment-id": environment}
	f.group("Beanstalk", "awseb-shop", f.template("Beanstalk", bean, nil), nil) // known by reference alone
	jobs := map[string]string{"AWSBatchServiceTag": "batch"}
	worker := f.group("Batch", "AWSBatch-nightly-asg", f.template("Batch", jobs, nil), jobs)
	workers := f.template("", nil, nil) // a person's
	return f.seed(t, map[string]any{
		ec2.Name:      f.machines,
		"autoscaling": autoscaling.Seed{Groups: f.groups},
		eks.Name: eks.Seed{Clusters: []eks.ClusterSeed{{Name: "prod", Nodegroups: []eks.NodegroupSeed{
			{Name: "blue", Template: nodes, Group: "eks-blue", Min: 1, Max: 3, Desired: 1},
			{Name: "plain", Group: "eks-plain", Min: 1, Max: 3, Desired: 1}}}}},
		elasticbeanstalk.Name: elasticbeanstalk.Seed{Environments: []elasticbeanstalk.EnvironmentSeed{{ID: environment, Name: "shop-prod",
			Application: "shop", Groups: []string{"awseb-shop"}, Options: map[string]string{elasticbeanstalk.OptionDisableV1: "false"}}}},
		batch.Name: batch.Seed{ComputeEnvironments: []batch.EnvironmentSeed{{Name: "nightly", Environment: batch.Environment{Cluster: cluster,
			Resources: &batch.Resources{AllocationStrategy: "BEST_FIT_PROGRESSIVE", InstanceTypes: []string{"m5"}, MaxVCPUs: 16,
				InstanceRole:   "arn:aws:iam::111122223333:instance-profile/ecsInstanceRole",
				LaunchTemplate: &batch.Templates{TemplateRef: batch.TemplateRef{ID: workers, Version: "1"}}}}}}},
		ecs.Name:                 ecs.Seed{Clusters: []ecs.ClusterSeed{{Name: "AWSBatch-nightly", Instances: []ecs.InstanceSeed{{Instance: worker}}}}},
		workspacesinstances.Name: workspacesinstances.Seed{Instances: []workspacesinstances.InstanceSeed{{ID: "wsinst-01234567", Instance: desk}}},
	}), f
}

// seed puts sections together, with a program that speaks v2 on everything.
func (f *foe) seed(t *testing.T, sections map[string]any) *core.Seed {
	t.Helper()
	encoded := map[string]json.RawMessage{}
	for name, section := range sections {
		b, err := json.Marshal(section)
		if err != nil {
			t.Fatal(err)
		}
		encoded[name] = b
	}
	var ids []string
	for _, i := range f.machines.Instances {
		ids = append(ids, i.ID)
	}
	where, err := json.Marshal(map[string]any{"instances": ids})
	if err != nil {
		t.Fatal(err)
	}
	return &core.Seed{
		Accounts: []core.AccountSeed{{ID: account, Name: "all", Regions: map[fleet.Region]map[string]json.RawMessage{region: encoded}}},
		Services: map[string]json.RawMessage{"workload": json.RawMessage(`{"programs": [{"name": "modern", "agent": "boto3",
			"version": "1.34.0", "speaks": "v2-then-v1", "every": "15m", "at_boot": true, "where": ` + string(where) + `}]}`)},
	}
}

// attack scans, plans and applies, and gives the world and the plan.
func attack(t *testing.T, seed *core.Seed, config string) (*awssim.World, *plan.Plan) {
	t.Helper()
	c := clock.Scaled(start, 3600)
	w := awssim.New(awssim.Options{Clock: c, Seed: 7})
	if err := w.LoadSeed(seed); err != nil {
		t.Fatal(err)
	}
	cfg, problems := policy.Parse([]byte(config), "imdsctl.yaml", app.KindNames())
	if cfg == nil {
		t.Fatalf("configuration: %v", problems)
	}
	creds := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: string(account), SecretAccessKey: "secret"}, nil
	})
	a, err := app.New(app.Options{
		Config: cfg, DBPath: filepath.Join(t.TempDir(), "imdsctl.db"), Clock: c, Version: "test", Actor: "tester",
		AWS: func(context.Context) (aws.Config, error) {
			return aws.Config{Region: string(region), Credentials: creds, HTTPClient: w.Client(), BaseEndpoint: aws.String(awssim.BaseURL)}, nil
		},
		Engine: app.EngineOptions{CallTimeout: 4 * time.Hour, Consistency: time.Minute, VerifyTimeout: 12 * time.Hour,
			PollInterval: 2 * time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	summary, err := a.Scan(t.Context(), app.ScanOptions{})
	if err != nil || len(summary.Gaps) > 0 {
		t.Fatalf("scan: %v, gaps %+v", err, summary.Gaps)
	}
	made, err := a.Plan(t.Context(), app.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := a.WritePlan(t.Context(), &out, "plan.json", made.Plan); err != nil {
		t.Fatal(err)
	}
	p, err := plan.Read(&out, "plan.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range p.Changes {
		t.Logf("change: %s of %s/%s", c.Action, c.Ref.Kind, c.Ref.ID)
	}
	for _, m := range p.Manuals {
		t.Logf("for a person: %s/%s: %s", m.Ref.Kind, m.Ref.ID, m.Reason)
	}
	result, err := a.Apply(t.Context(), p, app.ApplyOptions{Yes: true, Reason: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if result.Record.Status != rollout.Done || result.Counts.Verified != len(p.Changes) {
		t.Errorf("the rollout is %s (%s): %+v", result.Record.Status, result.Record.Reason, result.Counts)
	}
	return w, p
}

// owners are the services that own things here, each with the one write by which imdsctl may have it change them.
var owners = map[string]string{
	"eks": "UpdateNodegroupVersion", "batch": "UpdateComputeEnvironment", "elasticbeanstalk": "UpdateEnvironment",
}

// judge reads the call log: no call that is no read names what a service manages; owners' own writes are listed.
func (f *foe) judge(t *testing.T, w *awssim.World) (own []string) {
	t.Helper()
	writes := 0
	for _, c := range w.Calls() {
		if c.Service == "sts" || reads(c.Action) {
			continue
		}
		writes++
		if owners[c.Service] == c.Action {
			own = append(own, c.Action+" "+strings.Join(c.Resources, " "))
			continue
		}
		for id, how := range f.managed {
			named := slices.Contains(c.Resources, id) ||
				slices.ContainsFunc(c.Params, func(p string) bool { return strings.HasSuffix(p, "="+id) })
			if named {
				t.Errorf("%s:%s names %s, which is managed (%s): %v", c.Service, c.Action, id, how, c.Params)
			}
		}
		if owners[c.Service] != "" || c.Service == "workspaces-instances" || c.Service == "ecs" {
			t.Errorf("%s:%s was called", c.Service, c.Action)
		}
	}
	if writes == 0 {
		t.Error("nothing was written at all, which proves nothing")
	}
	slices.Sort(own)
	return slices.Compact(own)
}

func reads(action string) bool {
	return slices.ContainsFunc([]string{"Describe", "Get", "List", "BatchGet"}, func(s string) bool { return strings.HasPrefix(action, s) })
}

// handed lists what the plan leaves to people, as "kind/id".
func handed(p *plan.Plan) []string {
	var out []string
	for _, m := range p.Manuals {
		out = append(out, m.Ref.Kind+"/"+m.Ref.ID)
	}
	return out
}

func TestNothingManagedIsWritten(t *testing.T) {
	t.Parallel()
	seed, f := fleetOf(t)
	w, p := attack(t, seed, everything)
	if own := f.judge(t, w); len(own) > 0 {
		t.Errorf("owners were told without an opt-in: %q", own)
	}
	manuals := handed(p)
	for _, owner := range []string{
		inventory.KindNodegroup + "/prod/blue", inventory.KindNodegroup + "/prod/plain", inventory.KindBatch + "/nightly",
		inventory.KindBeanstalk + "/" + environment,
	} {
		if !slices.Contains(manuals, owner) {
			t.Errorf("no step for a person about %s; there are %q", owner, manuals)
		}
	}
	for _, m := range p.Manuals {
		for _, c := range m.Commands {
			if strings.Contains(c, "${c-") || strings.Contains(c, "NEW-Version") && !strings.Contains(m.Remedy, "stand for what change c-") {
				t.Errorf("nobody can run this for %s: %s (%s)", m.Ref.ID, c, m.Remedy)
			}
		}
	}
	f.orphans(t, p)
}

// orphans checks that each managed instance whose owner is no resource of the scan has a step of its own, and that nothing
// managed is forgotten in silence.
func (f *foe) orphans(t *testing.T, p *plan.Plan) {
	t.Helper()
	manuals := handed(p)
	for _, i := range f.machines.Instances {
		how := f.managed[i.ID]
		switch how {
		case "", "operator of its group", "EKS", "Beanstalk", "Batch", "WorkSpaces": // their owner has the step
			continue
		}
		if !slices.Contains(manuals, inventory.KindInstance+"/"+i.ID) {
			t.Errorf("no step for a person about %s (%s)", i.ID, how)
		}
	}
}

// With the opt-in, owners are told by their own API, and still nothing of theirs is written.
func TestOwnersAreToldWhereAllowed(t *testing.T) {
	t.Parallel()
	seed, f := fleetOf(t)
	w, p := attack(t, seed, everything+optIn)
	own := f.judge(t, w)
	for _, action := range owners {
		if !slices.ContainsFunc(own, func(s string) bool { return strings.HasPrefix(s, action+" ") }) {
			t.Errorf("%s was not called; there are %q", action, own)
		}
	}
	if !slices.Contains(handed(p), inventory.KindNodegroup+"/prod/plain") {
		t.Errorf("no step for a person about the node group without a template: %q", handed(p))
	}
	f.orphans(t, p)
}
