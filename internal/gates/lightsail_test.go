package gates_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/gates"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// lightsail adds Lightsail instances to the world, and gives a query about them.
func (w *world) lightsail(t *testing.T, instances string, names ...string) engine.GateQuery {
	t.Helper()
	err := w.LoadSeed(&core.Seed{Accounts: []core.AccountSeed{{ID: here.Account, Regions: map[fleet.Region]map[string]json.RawMessage{
		here.Region: {"lightsail": json.RawMessage(`{"instances": ` + instances + `}`)}}}}})
	if err != nil {
		t.Fatal(err)
	}
	q := w.query()
	for _, name := range names {
		q.Instances = append(q.Instances, fleet.Ref{Place: here, Kind: inventory.KindLightsail, ID: name})
	}
	return q
}

func reading(t *testing.T, res engine.GateResult, gate string) engine.Reading {
	t.Helper()
	for _, r := range res.Readings {
		if r.Gate == gate && r.Subject.ID == "" {
			return r
		}
	}
	t.Fatalf("no reading of %s: %+v", gate, res.Readings)
	return engine.Reading{}
}

// TestLightsailSaysThatRefusedCallsAreNotCounted: where tokens are required Lightsail's metric is silent, which is not taken
// for quiet. What is left are the heartbeat and the status checks.
func TestLightsailSaysThatRefusedCallsAreNotCounted(t *testing.T) {
	w := newWorld(t, host(1, "required", 1, ""))
	q := w.lightsail(t, `[{"name": "shop", "options": {"tokens": "required"}}, {"name": "cold", "state": "stopped"}]`,
		"shop", "cold", "never-was")
	q.Instances = append(q.Instances, ref(1))
	w.deploy(t, workload.Program{Speaks: workload.V1Only}, workload.Where{Instances: []string{"shop"}})
	res := w.read(t, q)
	if !res.Pass {
		t.Fatalf("%s", res.Reason)
	}
	if v := reading(t, res, gates.GateRejected).Value; !strings.Contains(v, "0 in 1 instance") ||
		!strings.Contains(v, "not counted in 3 instances on Lightsail") {
		t.Errorf("%q", v)
	}
	if v := reading(t, res, gates.GateHeartbeat).Value; v != "2 of 2 running instances report" {
		t.Errorf("%q", v)
	}
	if v := reading(t, res, gates.GateStatus).Value; !strings.HasPrefix(v, "2 of 2 running") {
		t.Errorf("%q", v)
	}
}

func TestLightsailStatusCheckFails(t *testing.T) {
	w := newWorld(t)
	q := w.lightsail(t, `[{"name": "shop", "options": {"tokens": "required"}}]`, "shop")
	w.deploy(t, workload.Program{Speaks: workload.V1Only, Essential: true}, workload.Where{Instances: []string{"shop"}})
	mustFail(t, w.read(t, q), gates.GateStatus, "shop")
}

// TestLightsailCallsBeforeAndWithHopLimits reads MetadataNoToken where it is counted: before tokens are required, and while
// hop limits change.
func TestLightsailCallsBeforeAndWithHopLimits(t *testing.T) {
	w := newWorld(t)
	q := w.lightsail(t, `[{"name": "shop"}]`, "shop")
	w.deploy(t, workload.Program{Speaks: workload.V1Only, Anchor: start.Add(-30 * time.Minute)}, workload.Where{Instances: []string{"shop"}})
	q.Moment = engine.Before
	mustFail(t, w.read(t, q), gates.GateNoToken, "shop", "were seen since the plan was made")
	q.Moment, q.Stage = engine.After, plan.StageHopLimit
	if res := w.read(t, q); !res.Pass { // as many as before
		t.Errorf("%s", res.Reason)
	}
}

func TestLightsailGateThatCannotBeReadFails(t *testing.T) {
	for _, action := range []string{"GetInstance", "GetInstanceMetricData"} {
		w := newWorld(t)
		q := w.lightsail(t, `[{"name": "shop"}]`, "shop")
		if _, err := w.AddFault(core.Fault{Service: "lightsail", Action: action, Deny: true}); err != nil {
			t.Fatal(err)
		}
		res, err := w.reader.ReadGates(t.Context(), q)
		if fleet.ClassOf(err) != fleet.ErrDenied || res.Pass {
			t.Errorf("%s denied: %v, pass %t", action, err, res.Pass)
		}
	}
}
