package attention

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsec2 "github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/attention"
	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/cli"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

var update = flag.Bool("update", false, "write the golden table anew")

const config = `
version: 1
organization: {discover: self, regions: [eu-west-1, us-east-1]}
accounts:
  - {id: "111122223333", name: shop-prod}
exceptions:
  - {match: {tag: {exception: long}}, owner: legal, reason: it goes away, expires: 2027-01-01}
overrides:
  - {match: {tag: {accepted: "yes"}}, owner: well, reason: it was tried}
`

// ending are exceptions that need attention themselves.
const ending = `
exceptions:
  - {match: {tag: {exception: over}}, owner: legal, reason: an audit, expires: 2026-02-01}
  - {match: {tag: {exception: ending}}, owner: legal, reason: an audit, expires: 2026-03-10}
`

// command is imdsctl in a simulated world.
type command struct {
	t     *testing.T
	dir   string
	world *awssim.World
	env   cli.Env
}

func begin(t *testing.T, w *world, config string) *command {
	t.Helper()
	c := &command{t: t, dir: t.TempDir()}
	at := clock.Scaled(start, 60)
	c.world = awssim.New(awssim.Options{Clock: at, Seed: 7})
	if err := c.world.LoadSeed(w.seed(t)); err != nil {
		t.Fatal(err)
	}
	creds := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: string(account), SecretAccessKey: "secret"}, nil
	})
	cfg := aws.Config{Region: string(ireland), Credentials: creds, HTTPClient: c.world.Client(), BaseEndpoint: aws.String(awssim.BaseURL)}
	c.env = cli.Env{Width: 100, Getenv: func(string) string { return "" },
		Base: app.Options{Clock: at, Actor: "tester", AWS: func(context.Context) (aws.Config, error) { return cfg, nil }}}
	c.write("imdsctl.yaml", []byte(config))
	c.restart(cfg, w.restarted)
	return c
}

func (c *command) fault(f core.Fault) {
	c.t.Helper()
	if _, err := c.world.AddFault(f); err != nil {
		c.t.Fatal(err)
	}
}

func (c *command) write(name string, content []byte) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// restart stops and starts instances, so that a boot is seen of what has run for long.
func (c *command) restart(cfg aws.Config, ids []string) {
	c.t.Helper()
	if len(ids) == 0 {
		return
	}
	client := awsec2.NewFromConfig(cfg)
	state := func() string {
		out, err := client.DescribeInstances(c.t.Context(), &awsec2.DescribeInstancesInput{InstanceIds: ids})
		if err != nil {
			c.t.Fatal(err)
		}
		return string(out.Reservations[0].Instances[0].State.Name)
	}
	if _, err := client.StopInstances(c.t.Context(), &awsec2.StopInstancesInput{InstanceIds: ids}); err != nil {
		c.t.Fatal(err)
	}
	for state() != "stopped" {
		_ = c.env.Base.Clock.Sleep(c.t.Context(), 5*time.Second)
	}
	if _, err := client.StartInstances(c.t.Context(), &awsec2.StartInstancesInput{InstanceIds: ids}); err != nil {
		c.t.Fatal(err)
	}
	for state() != "running" {
		_ = c.env.Base.Clock.Sleep(c.t.Context(), 5*time.Second)
	}
}

// run runs a command, and fails where it ends otherwise than it should.
func (c *command) run(code int, args ...string) string {
	c.t.Helper()
	var out, problems bytes.Buffer
	env := c.env
	env.In, env.Out, env.Err = strings.NewReader(""), &out, &problems
	args = append(args, "--config", filepath.Join(c.dir, "imdsctl.yaml"), "--db", filepath.Join(c.dir, "imdsctl.db"))
	if got := cli.Run(c.t.Context(), env, args); got != code {
		c.t.Fatalf("imdsctl %s ended with %d, want %d: %s\n%s", strings.Join(args, " "), got, code, problems.String(), out.String())
	}
	return out.String()
}

// items lists what needs attention.
func (c *command) items(code int, args ...string) []attention.Item {
	c.t.Helper()
	var doc struct {
		Items []attention.Item `json:"attention"`
	}
	out := c.run(code, append([]string{"attention", "--format", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		c.t.Fatalf("%v: %s", err, out)
	}
	return doc.Items
}

// findings writes what was found on the hosts as the commands do that find it, one file for each source.
func (c *command) findings(all []evidence.Finding) []string {
	c.t.Helper()
	bySource := map[evidence.Source][]evidence.Finding{}
	for _, f := range all {
		source := evidence.SourceSoftware
		if f.What == evidence.WhatRefused {
			source = evidence.SourceCertify
		}
		bySource[source] = append(bySource[source], f)
	}
	var out []string
	for source, list := range bySource {
		var b bytes.Buffer
		h := evidence.FileHeader{Source: source, Made: start.Add(-24 * time.Hour), Origin: "hosts"}
		if err := evidence.WriteFindings(&b, h, slices.Values(list)); err != nil {
			c.t.Fatal(err)
		}
		out = append(out, c.write(string(source)+".jsonl", b.Bytes()))
	}
	return out
}

// evidence takes in CloudTrail's logs from their bucket, what a look at the disks finds, and other findings.
func (c *command) evidence(code int, w *world) {
	c.t.Helper()
	args := append([]string{"evidence", "import", "s3://" + bucket}, c.findings(w.findings)...)
	for _, id := range slices.Sorted(maps.Keys(w.disks)) {
		disk := filepath.Join(c.dir, "disk-"+id)
		for name, content := range w.disks[id] {
			path := filepath.Join(disk, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				c.t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				c.t.Fatal(err)
			}
		}
		out := filepath.Join(c.dir, id+".jsonl")
		c.run(cli.ExitDone, "software", "scan", disk, "--for", "instance/"+id, "--out", out)
		args = append(args, out)
	}
	c.run(code, args...)
}

func TestEveryCauseIsNamedAndNothingElse(t *testing.T) {
	t.Parallel()
	w := everyCause()
	c := begin(t, w, strings.Replace(config, "\nexceptions:\n", ending, 1))
	c.fault(core.Fault{Service: "appstream", Action: "DescribeFleets", Deny: true})
	c.run(cli.ExitAttention, "scan")
	c.evidence(cli.ExitAttention, w)

	items := c.items(cli.ExitAttention)
	for _, x := range w.wants {
		i := slices.IndexFunc(items, func(i attention.Item) bool { return i.Workload.Name == x.workload && i.Cause == x.cause })
		if i < 0 {
			t.Errorf("%s is not listed for %s", x.workload, x.cause)
			continue
		}
		x.compare(t, items[i])
		items = slices.Delete(items, i, i+1)
	}
	for _, i := range items {
		t.Errorf("%s is listed for %s (%s), and should not be: %s; %s", i.Workload.Name, i.Cause, i.Confidence, i.Title, strings.Join(i.Because, "; "))
	}
	seen := map[attention.Cause]bool{}
	for _, x := range w.wants {
		seen[x.cause] = true
	}
	for _, cause := range attention.Causes() {
		if !seen[cause.Cause] && cause.Cause != attention.Unresolved { // which the simulator's groups cannot be in
			t.Errorf("%s does not occur in this fleet", cause.Cause)
		}
	}
}

func (x want) compare(t *testing.T, i attention.Item) {
	t.Helper()
	if i.Confidence != x.confidence || i.Owner.Name != x.owner || i.Workload.Instances != x.instances ||
		!strings.Contains(i.Fix, x.fix) || !strings.Contains(i.Title, x.title) {
		t.Errorf("%s, %s: %s, of %s by %s, %d instances, %q, fix %q; want %+v", i.Workload.Name, i.Cause, i.Confidence, i.Owner.Name, i.Owner.By,
			i.Workload.Instances, i.Title, i.Fix, x)
	}
	if len(i.Because) == 0 || i.ID == "" || i.Digest == "" || i.Workload.Account != account {
		t.Errorf("%s, %s lacks something: %+v", i.Workload.Name, i.Cause, i)
	}
}

// The table is what people see. It is kept as it was looked at.
func TestTable(t *testing.T) {
	t.Parallel()
	w := everyCause()
	c := begin(t, w, strings.Replace(config, "\nexceptions:\n", ending, 1))
	c.fault(core.Fault{Service: "appstream", Action: "DescribeFleets", Deny: true})
	c.run(cli.ExitAttention, "scan")
	c.evidence(cli.ExitAttention, w)
	table := c.run(cli.ExitAttention, "attention")
	for line := range strings.SplitSeq(table, "\n") {
		if n := len([]rune(line)); n > 100 {
			t.Errorf("a line of %d columns: %s", n, line)
		}
	}
	id := c.items(cli.ExitAttention, "--owner", "payments")[0].ID
	shown := table + "\n---\n" + c.run(cli.ExitAttention, "attention", "show", id) + "\n---\n" +
		c.run(cli.ExitAttention, "attention", "--owner", "orders", "--format", "markdown")
	for pattern, with := range map[string]string{ // what depends on how long the scan took
		`[0-9,]+ (v1 calls|refused|AWS calls|IMDSv1 calls)`: "N $1", `[0-9]+ of [0-9]+ periods`: "N of N periods",
		`[0-9]{2}:[0-9]{2}`: "hh:mm", `\([0-9dhms ]+ ago\)`: "(N ago)", `(from|to) 20[0-9-]+`: "$1 yyyy-mm-dd",
	} {
		shown = regexp.MustCompile(pattern).ReplaceAllString(shown, with)
	}
	golden := filepath.Join("testdata", "table.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(shown), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != shown {
		t.Errorf("the table differs from %s; look at it and run with -update:\n%s", golden, shown)
	}
}

// A fleet in which all is well, or done, needs nothing.
func TestHealthyFleet(t *testing.T) {
	t.Parallel()
	w := &world{regions: map[fleet.Region]*region{}}
	w.well()
	c := begin(t, w, config)
	c.run(cli.ExitDone, "scan")
	c.evidence(cli.ExitDone, w)
	if items := c.items(cli.ExitDone, "--fail-on", "any"); len(items) != 0 {
		t.Errorf("%d items: %+v", len(items), items)
	}
	if out := c.run(cli.ExitDone, "attention"); out != "Nothing needs attention.\n" {
		t.Errorf("%q", out)
	}
	if out := c.run(cli.ExitDone, "attention", "--send"); !strings.Contains(out, "nobody is told") {
		t.Errorf("%q", out)
	}
}
