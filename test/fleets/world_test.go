package fleets

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/policy"
)

const (
	management fleet.AccountID = "111111111111"
	// rate is how fast the simulated time runs: an hour in a second.
	rate = 3600
)

var start = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// world is a simulated AWS with a drawn fleet, and the imdsctl that looks at it.
type world struct {
	*awssim.World
	*drawn
	app *app.App
}

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	c := clock.Scaled(start, rate)
	w := &world{World: awssim.New(awssim.Options{Clock: c, Seed: 7})}
	w.drawn = draw(t, seed, w.World)
	text := w.config()
	cfg, problems := policy.Parse([]byte(text), "imdsctl.yaml", app.KindNames())
	if cfg == nil {
		t.Fatalf("configuration: %v\n%s", problems, text)
	}
	creds := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: string(management), SecretAccessKey: "secret"}, nil
	})
	a, err := app.New(app.Options{
		Config: cfg, DBPath: filepath.Join(t.TempDir(), "imdsctl.db"), Clock: c, Version: "test", Actor: "tester",
		AWS: func(context.Context) (aws.Config, error) {
			return aws.Config{Region: "eu-west-1", Credentials: creds, HTTPClient: w.Client(),
				BaseEndpoint: aws.String(awssim.BaseURL)}, nil
		},
		// A call has four hours of simulated time, four seconds of a busy machine's.
		Engine: app.EngineOptions{CallTimeout: 4 * time.Hour, Consistency: time.Minute, VerifyTimeout: 4 * time.Hour,
			PollInterval: 2 * time.Minute},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.app = a
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// config is the configuration file of the drawn fleet.
func (d *drawn) config() string {
	var b strings.Builder
	b.WriteString(`
version: 1
organization: {discover: organizations, regions: [eu-west-1, us-east-1]}
evidence: {require_boot: false}
bake: {low: 20m, medium: 20m, high: 20m, critical: 20m}
rollout: {concurrency: 20, concurrency_per_account: 20, max_in_flight: 400, max_in_flight_per_account: 0}
`)
	match := func(k string) string {
		kind, id, _ := strings.Cut(k, "/")
		if kind == inventory.KindAutoScaling {
			return fmt.Sprintf("{kind: %s, name: %q}", kind, id)
		}
		return fmt.Sprintf("{resource: %s}", id)
	}
	if len(d.exempt) > 0 {
		b.WriteString("exceptions:\n")
	}
	for k := range d.exempt {
		fmt.Fprintf(&b, "  - {match: %s, owner: ann, reason: vendor, expires: 2027-01-01}\n", match(k))
	}
	if len(d.hop) > 0 {
		b.WriteString("hop_limit:\n  rules:\n")
	}
	for k, n := range d.hop {
		fmt.Fprintf(&b, "    - {match: %s, value: %d}\n", match(k), n)
	}
	return b.String()
}

// plan scans and plans.
func (w *world) plan(t *testing.T) *plan.Plan {
	t.Helper()
	summary, err := w.app.Scan(t.Context(), app.ScanOptions{})
	if err != nil || len(summary.Gaps) > 0 {
		t.Fatalf("scan: %v, gaps %v", err, summary.Gaps)
	}
	result, err := w.app.Plan(t.Context(), app.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := w.app.WritePlan(t.Context(), &out, "plan.json", result.Plan); err != nil {
		t.Fatal(err)
	}
	p, err := plan.Read(&out, "plan.json")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// effects counts what changed the world, by place, action and resource.
func (w *world) effects() map[string]int {
	out := map[string]int{}
	for _, c := range w.Calls() {
		if c.Mutated && c.Service != "sts" {
			names := strings.Join(c.Resources, ",")
			if c.Action == "CreateLaunchTemplate" {
				names = made
			}
			out[strings.Join([]string{string(c.Account), string(c.Region), c.Action, names}, " ")]++
		}
	}
	return out
}
