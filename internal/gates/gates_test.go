package gates_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/gates"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
)

var (
	start = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	here  = fleet.Place{Partition: fleet.PartitionAWS, Account: "111111111111", Region: "eu-west-1"}
)

// world is one simulated place with a reader of its gates.
type world struct {
	*awssim.World
	clock  *clock.Manual
	reader *gates.Reader
	ec2    *ec2.Client
	// session is what readers of other options are made with.
	session func(fleet.Place, bool) *awsx.Session
}

const image = "ami-0123456789abcdef0"

func id(n int) string { return fmt.Sprintf("i-0%016x", n) }

func ref(n int) fleet.Ref { return fleet.Ref{Place: here, Kind: inventory.KindInstance, ID: id(n)} }

func host(n int, tokens string, hop int, more string) string {
	return fmt.Sprintf(`{"id": %q, "image": %q, "options": {"tokens": %q, "endpoint": "enabled", "hop_limit": %d}%s}`,
		id(n), image, tokens, hop, more)
}

func newWorld(t *testing.T, hosts ...string) *world {
	t.Helper()
	w := &world{clock: clock.NewManual(start)}
	w.World = awssim.New(awssim.Options{Clock: w.clock, Seed: 3})
	section := fmt.Sprintf(`{"images": [{"id": %q}], "instances": [%s]}`, image, strings.Join(hosts, ","))
	err := w.LoadSeed(&core.Seed{Accounts: []core.AccountSeed{{ID: here.Account,
		Regions: map[fleet.Region]map[string]json.RawMessage{here.Region: {"ec2": json.RawMessage(section)}}}}})
	if err != nil {
		t.Fatal(err)
	}
	edge, err := awsx.New(t.Context(), awsx.Options{Clock: w.clock, Load: func(context.Context) (aws.Config, error) {
		creds := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: string(here.Account), SecretAccessKey: "secret"}, nil
		})
		return aws.Config{Region: string(here.Region), Credentials: creds, HTTPClient: w.Client(),
			BaseEndpoint: aws.String(awssim.BaseURL)}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.session = func(p fleet.Place, _ bool) *awsx.Session { return edge.Session(p, awsx.Role{}) }
	w.ec2 = ec2.NewFromConfig(w.session(here, true).Config())
	w.reader = gates.New(gates.Options{Session: w.session})
	return w
}

func (w *world) deploy(t *testing.T, p workload.Program, where workload.Where) {
	t.Helper()
	p.Name, p.Every, p.AtBoot = "program", 5*time.Minute, true
	if err := programs.Deploy(w.World, p, where); err != nil {
		t.Fatal(err)
	}
}

// query asks about hosts whose step began an hour before now.
func (w *world) query(hosts ...int) engine.GateQuery {
	q := engine.GateQuery{Place: here, Stage: plan.StageFleet, Since: w.clock.Now().Add(-time.Hour), Now: w.clock.Now(),
		Rules: plan.Rules{StatusChecks: true, Heartbeat: true, MetricDelay: 5 * time.Minute}}
	for _, n := range hosts {
		q.Instances = append(q.Instances, ref(n))
	}
	return q
}

func (w *world) read(t *testing.T, q engine.GateQuery) engine.GateResult {
	t.Helper()
	res, err := w.reader.ReadGates(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func mustFail(t *testing.T, res engine.GateResult, gate string, words ...string) {
	t.Helper()
	if res.Pass {
		t.Fatalf("the gates pass: %+v", res.Readings)
	}
	for _, word := range words {
		if !strings.Contains(res.Reason, word) {
			t.Errorf("reason %q does not say %q", res.Reason, word)
		}
	}
	for _, r := range res.Readings {
		if r.Gate == gate && !r.Pass {
			return
		}
	}
	t.Errorf("no reading of %s failed: %+v", gate, res.Readings)
}

func TestQuietHostsPass(t *testing.T) {
	w := newWorld(t, host(1, "required", 1, ""), host(2, "required", 1, ""))
	w.deploy(t, workload.Program{Speaks: workload.V2ThenV1}, workload.Where{Instances: []string{id(1), id(2)}})
	res := w.read(t, w.query(1, 2))
	if !res.Pass || res.Reason != "" {
		t.Errorf("%s: %+v", res.Reason, res.Readings)
	}
	seen := map[string]bool{}
	for _, r := range res.Readings {
		seen[r.Gate] = true
	}
	for _, gate := range []string{gates.GateRejected, gates.GateStatus, gates.GateHeartbeat} {
		if !seen[gate] {
			t.Errorf("no reading of %s", gate)
		}
	}
}

func TestRefusedCallsFail(t *testing.T) {
	w := newWorld(t, host(1, "required", 1, ""), host(2, "required", 1, ""))
	w.deploy(t, workload.Program{Speaks: workload.V1Only}, workload.Where{Instances: []string{id(2)}})
	mustFail(t, w.read(t, w.query(1, 2)), gates.GateRejected, id(2), "refused", "0 tolerated")
	q := w.query(1, 2)
	q.Rules.MaxRejected = 1000
	if res := w.read(t, q); !res.Pass {
		t.Errorf("fails within the tolerance: %s", res.Reason)
	}
}

// TestAcceptedCallsAreShownAndNotCounted: a person decided that they may be refused.
func TestAcceptedCallsAreShownAndNotCounted(t *testing.T) {
	w := newWorld(t, host(1, "required", 1, ""), host(2, "required", 1, ""))
	w.deploy(t, workload.Program{Speaks: workload.V1Only}, workload.Where{Instances: []string{id(1), id(2)}})
	q := w.query(1, 2)
	q.Excused = []fleet.Ref{ref(2)}
	mustFail(t, w.read(t, q), gates.GateRejected, id(1))
	q.Excused = []fleet.Ref{ref(1), ref(2)}
	res := w.read(t, q)
	if !res.Pass || !strings.Contains(fmt.Sprint(res.Readings), "accepted by an override") {
		t.Errorf("%s, readings %+v", res.Reason, res.Readings)
	}
}

// TestRefusedCallsOfAHostThatIsNoMore: a group may have replaced a canary before anybody looked.
func TestRefusedCallsOfAHostThatIsNoMore(t *testing.T) {
	w := newWorld(t, host(1, "required", 1, ""))
	w.deploy(t, workload.Program{Speaks: workload.V1Only}, workload.Where{Instances: []string{id(1)}})
	if _, err := w.ec2.TerminateInstances(t.Context(),
		&ec2.TerminateInstancesInput{InstanceIds: []string{id(1)}}); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(20 * time.Minute)
	mustFail(t, w.read(t, w.query(1)), gates.GateRejected, id(1))
}

func TestSilentHostsFail(t *testing.T) {
	w := newWorld(t, host(1, "required", 1, ""), host(2, "required", 1, `, "state": "stopped"`))
	q := w.query(1, 2)
	q.Now = q.Now.Add(2 * time.Hour) // nothing was reported in the last two hours
	mustFail(t, w.read(t, q), gates.GateHeartbeat, id(1), "no metric")
	q.Rules.Heartbeat = false
	if res := w.read(t, q); !res.Pass {
		t.Errorf("fails without a heartbeat: %s", res.Reason)
	}
	q.Rules.Heartbeat, q.Instances = true, q.Instances[1:]
	if res := w.read(t, q); !res.Pass {
		t.Errorf("a stopped instance was asked: %s", res.Reason)
	}
}

func TestStatusChecks(t *testing.T) {
	w := newWorld(t, host(1, "required", 1, `, "status": "impaired"`), host(2, "required", 1, ""), host(3, "required", 1,
		`, "status": "initializing"`))
	mustFail(t, w.read(t, w.query(1, 2)), gates.GateStatus, id(1), "status checks")
	if res := w.read(t, w.query(2, 3)); !res.Pass {
		t.Errorf("an initializing instance fails: %s", res.Reason)
	}
	q := w.query(1, 2)
	q.Rules.StatusChecks = false
	if res := w.read(t, q); !res.Pass {
		t.Errorf("fails without status checks: %s", res.Reason)
	}
	q = w.query(1, 2)
	q.Instances = append(q.Instances, ref(404))
	mustFail(t, w.read(t, q), gates.GateStatus, id(1)) // one that EC2 does not know hides nobody else
}

// TestHopLimit lowers a hop limit under a program in a container: no token reaches it any more, and it falls back to
// v1.
func TestHopLimit(t *testing.T) {
	w := newWorld(t, host(1, "optional", 2, ""), host(2, "optional", 2, ""), host(3, "optional", 2, ""))
	w.deploy(t, workload.Program{Speaks: workload.V2ThenV1, ExtraHops: 1}, workload.Where{Instances: []string{id(1)}})
	w.deploy(t, workload.Program{Speaks: workload.V2ThenV1}, workload.Where{Instances: []string{id(2)}})
	w.deploy(t, workload.Program{Speaks: workload.V1Only}, workload.Where{Instances: []string{id(3)}}) // it does not rise
	for n := 1; n <= 3; n++ {
		_, err := w.ec2.ModifyInstanceMetadataOptions(t.Context(),
			&ec2.ModifyInstanceMetadataOptionsInput{InstanceId: aws.String(id(n)),
				HttpEndpoint: types.InstanceMetadataEndpointStateEnabled, HttpPutResponseHopLimit: aws.Int32(1)})
		if err != nil {
			t.Fatal(err)
		}
	}
	w.clock.Advance(time.Hour)
	ask := func(hosts ...int) engine.GateResult {
		q := w.query(hosts...)
		q.Stage, q.Rules.MaxRejected = plan.StageHopLimit, 4 // one round more or less falls into the step's first period
		return w.read(t, q)
	}
	mustFail(t, ask(1, 2, 3), gates.GateNoToken, id(1), "falls back to v1")
	if res := ask(2, 3); !res.Pass {
		t.Errorf("fails although nothing rose: %s", res.Reason)
	}
}

// TestHopLimitOfSeldomCallers changes the hop limit under programs that call v1 now and then, and go on as before: however soon
// afterwards the gate is read, it finds no more than in as long before.
func TestHopLimitOfSeldomCallers(t *testing.T) {
	w := newWorld(t, host(1, "optional", 2, ""), host(2, "optional", 2, ""), host(3, "optional", 2, ""))
	for n, offset := range map[int]time.Duration{1: 2 * time.Minute, 2: 17 * time.Minute, 3: 31 * time.Minute} {
		p := workload.Program{Name: "batch", Speaks: workload.V1Only, Every: 40 * time.Minute, Calls: 2, Anchor: start.Add(offset)}
		if err := programs.Deploy(w.World, p, workload.Where{Instances: []string{id(n)}}); err != nil {
			t.Fatal(err)
		}
	}
	w.clock.Advance(24 * time.Hour)
	began := w.clock.Now()
	for range 40 {
		w.clock.Advance(13 * time.Minute)
		q := w.query(1, 2, 3)
		q.Stage, q.Since = plan.StageHopLimit, began
		if res := w.read(t, q); !res.Pass {
			t.Errorf("%s after the change: %s", w.clock.Now().Sub(began), res.Reason)
		}
	}
}

func TestUnreadableIsAnError(t *testing.T) {
	for _, action := range []string{"ec2:DescribeInstances", "ec2:DescribeInstanceStatus", "cloudwatch:GetMetricData"} {
		t.Run(action, func(t *testing.T) {
			w := newWorld(t, host(1, "required", 1, ""))
			service, name, _ := strings.Cut(action, ":")
			if _, err := w.AddFault(core.Fault{Service: service, Action: name, Deny: true}); err != nil {
				t.Fatal(err)
			}
			if res, err := w.reader.ReadGates(t.Context(), w.query(1)); fleet.ClassOf(err) != fleet.ErrDenied {
				t.Errorf("gave %+v, %v", res, err)
			}
		})
	}
}

// TestNewLaunches: a step that changes what is launched is judged by what was launched since, and by nothing older.
func TestNewLaunches(t *testing.T) {
	const lt = "lt-0123456789abcdef0"
	for name, q := range map[string]engine.GateQuery{
		"by group": {Stage: plan.StageLaunch, Groups: []fleet.Ref{{Place: here, Kind: inventory.KindAutoScaling,
			ID: "web"}}},
		"by template": {Stage: plan.StageLaunch, Templates: []fleet.Ref{{Place: here, Kind: inventory.KindLaunchTemplate,
			ID: lt}}},
		"by default": {Stage: plan.StageDefaults},
	} {
		t.Run(name, func(t *testing.T) {
			tagged := `, "tags": {"aws:autoscaling:groupName": "web", "aws:ec2launchtemplate:id": "` + lt + `"}`
			launched := `, "launched": "` + start.Add(-30*time.Minute).Format(time.RFC3339) + `"`
			w := newWorld(t, host(1, "required", 1, tagged), host(2, "required", 1, tagged+launched), host(3, "required", 1,
				tagged+launched))
			base := w.query()
			base.Stage, base.Groups, base.Templates = q.Stage, q.Groups, q.Templates
			w.deploy(t, workload.Program{Speaks: workload.V1Only}, workload.Where{Instances: []string{id(1)}})
			if res := w.read(t, base); !res.Pass {
				t.Errorf("an older instance fails the step: %s", res.Reason)
			}
			w.deploy(t, workload.Program{Speaks: workload.V1Only}, workload.Where{Instances: []string{id(2)}})
			mustFail(t, w.read(t, base), gates.GateRejected, id(2))
		})
	}
}

// TestLaunchesOfManyDays: a step that is open for days is judged by what was launched on any of them.
func TestLaunchesOfManyDays(t *testing.T) {
	for _, ago := range []time.Duration{10 * time.Minute, 26 * time.Hour, 70 * time.Hour, 50 * 24 * time.Hour} {
		t.Run(ago.String(), func(t *testing.T) {
			launched := `, "tags": {"aws:autoscaling:groupName": "web"}, "launched": "` + start.Add(-ago).Format(time.RFC3339) + `"`
			w := newWorld(t, host(1, "required", 1, launched))
			w.deploy(t, workload.Program{Speaks: workload.V1Only}, workload.Where{Instances: []string{id(1)}})
			q := w.query()
			q.Stage, q.Groups = plan.StageLaunch, []fleet.Ref{{Place: here, Kind: inventory.KindAutoScaling, ID: "web"}}
			q.Rules.Heartbeat = false
			q.Since = start.Add(-ago + time.Second)
			if res := w.read(t, q); !res.Pass {
				t.Errorf("what was launched a second before the step fails it: %s", res.Reason)
			}
			q.Since = start.Add(-ago)
			mustFail(t, w.read(t, q), gates.GateRejected, id(1))
		})
	}
}

// TestLaunchesOfManyGroups: the names of the groups and the days since the step began fit into what one call of EC2 takes together.
func TestLaunchesOfManyGroups(t *testing.T) {
	const many = 230
	launched := `, "tags": {"aws:autoscaling:groupName": "group-229"}, "launched": "` + start.Add(-20*time.Minute).Format(time.RFC3339) + `"`
	w := newWorld(t, host(1, "required", 1, launched))
	w.deploy(t, workload.Program{Speaks: workload.V1Only}, workload.Where{Instances: []string{id(1)}})
	for _, days := range []int{0, 1, 60, 99, 100, 101, 150, 199, 200, 400} {
		q := w.query()
		q.Stage, q.Rules.Heartbeat, q.Since = plan.StageLaunch, false, start.AddDate(0, 0, -days).Add(-21*time.Minute)
		for n := range many {
			q.Groups = append(q.Groups, fleet.Ref{Place: here, Kind: inventory.KindAutoScaling, ID: fmt.Sprintf("group-%d", n)})
		}
		mustFail(t, w.read(t, q), gates.GateRejected, id(1))
	}
}

// TestGroupsOfOddNames: what a filter takes for a pattern is a name like others.
func TestGroupsOfOddNames(t *testing.T) {
	for _, name := range []string{"w*", "we?", `w\eb`, "*"} {
		t.Run(name, func(t *testing.T) {
			tagged := func(group string) string {
				return fmt.Sprintf(`, "tags": {"aws:autoscaling:groupName": %q}, "launched": %q`, group, start.Add(-20*time.Minute).Format(time.RFC3339))
			}
			w := newWorld(t, host(1, "required", 1, tagged(name)), host(2, "required", 1, tagged("web")))
			q := w.query()
			q.Stage, q.Rules.Heartbeat = plan.StageLaunch, false
			q.Groups = []fleet.Ref{{Place: here, Kind: inventory.KindAutoScaling, ID: name}}
			w.deploy(t, workload.Program{Speaks: workload.V1Only}, workload.Where{Instances: []string{id(2)}})
			if res := w.read(t, q); !res.Pass {
				t.Errorf("an instance of another group fails the step: %s", res.Reason)
			}
			w.deploy(t, workload.Program{Speaks: workload.V1Only}, workload.Where{Instances: []string{id(1)}})
			mustFail(t, w.read(t, q), gates.GateRejected, id(1))
		})
	}
}

// TestAStepThatIsOpenForMonths is read all the same, though CloudWatch does not keep its metrics for so long.
func TestAStepThatIsOpenForMonths(t *testing.T) {
	for _, days := range []int{27, 30, 33, 62, 64, 200} {
		began := start.AddDate(0, 0, -days)
		w := newWorld(t, host(1, "optional", 1, ""), host(2, "required", 1, ""))
		v1 := workload.Program{Name: "daily", Speaks: workload.V1Only, Every: 24 * time.Hour, Anchor: began.Add(-100*24*time.Hour - time.Hour)}
		w.deploy(t, v1, workload.Where{Instances: []string{id(1)}})
		q := w.query(1)
		q.Stage, q.Since, q.Rules.Heartbeat = plan.StageHopLimit, began, false
		if res := w.read(t, q); !res.Pass {
			t.Errorf("%d days, what goes on as before: %s", days, res.Reason)
		}
		w.deploy(t, workload.Program{Speaks: workload.V1Only}, workload.Where{Instances: []string{id(2)}})
		q = w.query(2)
		q.Since, q.Rules.Heartbeat = began, false
		mustFail(t, w.read(t, q), gates.GateRejected, id(2))
	}
}
