// Package attention has a simulated fleet in which every cause of attention occurs, beside workloads that need none. It is scanned and
// its CloudTrail logs and findings are taken in as people do it; then the list has to name every cause, with its owner and the right
// fix, and nothing else.
package attention

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/attention"
	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/sagemaker"
	"github.com/imdsctl/imdsctl/internal/awssim/ssm"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

const (
	account  fleet.AccountID = "111122223333"
	ireland  fleet.Region    = "eu-west-1"
	virginia fleet.Region    = "us-east-1"

	modern    = "ami-00000000000000001"
	appliance = "ami-00000000000000002"
	amazon1   = "ami-00000000000000003"
	profile   = "arn:aws:iam::111122223333:instance-profile/app"
	bucket    = "org-trail"
)

// start is a quarter past the hour, so that a scan that takes a while sees the same periods.
var start = time.Date(2026, 3, 2, 9, 15, 0, 0, time.UTC)

// User agents, as the SDKs write them.
const (
	oldBoto    = "Boto3/1.9.2 Python/2.7.16 Linux/4.14.104-95.84.amzn2.x86_64 Botocore/1.12.2"
	newBoto    = "Boto3/1.34.0 md/Botocore#1.34.0 ua/2.0 os/linux#6.1 md/arch#x86_64 lang/python#3.11.6 md/pyimpl#CPython Botocore/1.34.0"
	oldAgent   = "aws-sdk-go/1.25.41 (go1.12; linux; amd64) amazon-ssm-agent/2.3.1319.0"
	kiamServer = "aws-sdk-go/1.13.49 (go1.10; linux; amd64) kiam-kiam/3.4"
)

// want is one item that the list must have.
type want struct {
	workload   string
	cause      attention.Cause
	confidence attention.Confidence
	owner      string
	fix        string // is in the fix
	title      string // is in the title
	instances  int
}

// world is a fleet in the making, with what is to be said of it.
type world struct {
	regions  map[fleet.Region]*region
	programs []map[string]any
	findings []evidence.Finding
	wants    []want
	// disks are what is on the disks of instances, by path, for the software to be looked for.
	disks map[string]map[string]string
	// restarted are instances that are stopped and started before the scan.
	restarted []string
	next      int
}

type region struct {
	machines ec2.Seed
	groups   []autoscaling.GroupSeed
	agents   []ssm.AgentSeed
	books    []sagemaker.NotebookSeed
}

// machine says what an instance is.
type machine struct {
	tags     map[string]string
	image    string
	launched time.Duration // ago
	hops     int
	tokens   string
	stopped  time.Duration // ago; 0 while it runs
	operator *ec2.Operator
}

// settled is long ago enough for the window to be covered, and inside it, so that a boot was seen.
const settled = 13*24*time.Hour + 18*time.Hour

func (w *world) place(name fleet.Region) *region {
	if w.regions[name] == nil {
		w.regions[name] = &region{machines: ec2.Seed{Images: []ec2.ImageSeed{{ID: modern, Name: "golden-2026-01", Created: start.AddDate(0, -1, -20)}}}}
	}
	return w.regions[name]
}

// instance adds an instance and gives its id.
func (w *world) instance(in fleet.Region, m machine) string {
	w.next++
	id := fmt.Sprintf("i-0%016x", w.next)
	seed := ec2.InstanceSeed{ID: id, ImageID: m.image, Tags: m.tags, Launched: start.Add(-m.launched), ProfileARN: profile, Operator: m.operator,
		Options: fleet.Options{Tokens: m.tokens, Endpoint: fleet.Enabled, HopLimit: m.hops}}
	if seed.ImageID == "" {
		seed.ImageID = modern
	}
	if m.launched == 0 {
		seed.Launched = start.Add(-settled)
	}
	if m.hops == 0 {
		seed.Options.HopLimit = 1
	}
	if m.tokens == "" {
		seed.Options.Tokens = fleet.TokensOptional
	}
	if m.stopped > 0 {
		seed.State, seed.Stopped = ec2.StateStopped, start.Add(-m.stopped)
	}
	p := w.place(in)
	p.machines.Instances = append(p.machines.Instances, seed)
	return id
}

// group adds a group with members and a template that says something about tokens.
func (w *world) group(in fleet.Region, name, templateTokens string, members ...machine) []string {
	p := w.place(in)
	options := ""
	if templateTokens != "" {
		options = `, "MetadataOptions": {"HttpTokens": "` + templateTokens + `"}`
	}
	p.machines.Templates = append(p.machines.Templates, ec2.TemplateSeed{Name: name, Versions: []ec2.VersionSeed{
		{Data: json.RawMessage(`{"ImageId": "` + modern + `", "InstanceType": "m5.large"` + options + `}`)}}})
	var ids []string
	tags := map[string]string{}
	for _, m := range members {
		ids = append(ids, w.instance(in, m))
		tags = m.tags
	}
	p.groups = append(p.groups, autoscaling.GroupSeed{Name: name, Template: name, Version: "$Default", Min: len(ids), Max: len(ids) + 2,
		Desired: len(ids), Tags: tags, Instances: ids})
	return ids
}

// runs puts a program on instances.
func (w *world) runs(name string, program map[string]any, ids ...string) {
	program["name"] = name
	program["where"] = map[string]any{"instances": ids}
	w.programs = append(w.programs, program)
}

func (w *world) found(what evidence.What, product, version, detail, instance string) {
	w.findings = append(w.findings, evidence.Finding{Subject: evidence.Subject{Account: account, Kind: "ec2-instance", ID: instance}, What: what,
		Product: product, Version: version, Detail: detail, First: start.Add(-24 * time.Hour), Last: start.Add(-24 * time.Hour)})
}

// installed puts files on the disk of an instance.
func (w *world) installed(instance string, files map[string]string) {
	if w.disks == nil {
		w.disks = map[string]map[string]string{}
	}
	w.disks[instance] = files
}

func (w *world) expect(x want) { w.wants = append(w.wants, x) }

// team is the tag that names an owner.
func team(name string, more ...string) map[string]string {
	out := map[string]string{"team": name}
	for i := 0; i+1 < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}

// v1 is a program that speaks only v1, every quarter of an hour.
func v1() map[string]any { return map[string]any{"speaks": "v1-only", "every": "15m"} }

// calling is a program that also calls AWS, so that CloudTrail sees its user agent.
func calling(program map[string]any, agent string) map[string]any {
	program["user_agent"], program["api_calls"] = agent, []string{"ec2:DescribeInstances"}
	return program
}

// seed encodes the fleet.
func (w *world) seed(t *testing.T) *core.Seed {
	t.Helper()
	encode := func(v any) json.RawMessage {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	regions := map[fleet.Region]map[string]json.RawMessage{}
	for name, r := range w.regions {
		regions[name] = map[string]json.RawMessage{ec2.Name: encode(r.machines), "autoscaling": encode(autoscaling.Seed{Groups: r.groups}),
			"ssm": encode(ssm.Seed{Agents: r.agents}), "sagemaker": encode(sagemaker.Seed{NotebookInstances: r.books})}
	}
	global := map[string]json.RawMessage{"s3": encode(map[string]any{"buckets": []any{map[string]any{"name": bucket, "region": ireland}}})}
	return &core.Seed{
		Accounts: []core.AccountSeed{{ID: account, Name: "shop-prod", Regions: regions, Global: global}},
		Services: map[string]json.RawMessage{
			"workload":   encode(map[string]any{"programs": w.programs}),
			"cloudtrail": encode(map[string]any{"trails": []any{map[string]any{"name": "all", "bucket": bucket, "history": "48h"}}}),
		},
	}
}
