package gates_test

import (
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/gates"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// before asks, before the first write, about a plan whose evidence was taken so long ago.
func (w *world) before(age time.Duration, hosts ...int) engine.GateQuery {
	q := w.query(hosts...)
	q.Moment, q.Since = engine.Before, q.Now.Add(-age)
	return q
}

// TestEvidenceIsReadAgain: v1 calls since the plan was made hold a stack back that would require tokens.
func TestEvidenceIsReadAgain(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*engine.GateQuery)
		fails  bool
	}{
		{name: "a caller", fails: true},
		{name: "within the tolerance", change: func(q *engine.GateQuery) { q.Rules.MaxRejected = 1000 }},
		{name: "accepted", change: func(q *engine.GateQuery) { q.Excused = []fleet.Ref{ref(1)} }},
		{name: "another is accepted", change: func(q *engine.GateQuery) { q.Excused = []fleet.Ref{ref(2)} }, fails: true},
		{name: "all accepted", change: func(q *engine.GateQuery) { q.Excused = []fleet.Ref{ref(1), ref(2)} }},
		{name: "hop limits do not refuse v1", change: func(q *engine.GateQuery) { q.Stage = plan.StageHopLimit }},
		{name: "launches", change: func(q *engine.GateQuery) { q.Stage = plan.StageLaunch }, fails: true},
		{name: "the caller is not of the stack", change: func(q *engine.GateQuery) { q.Instances = q.Instances[1:] }},
		{name: "a plan of weeks ago", change: func(q *engine.GateQuery) { q.Since = q.Now.AddDate(0, -2, 0) }, fails: true},
		{name: "a plan of unknown age", change: func(q *engine.GateQuery) { q.Since = time.Time{} }, fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, host(1, "optional", 1, ""), host(2, "optional", 1, ""))
			w.deploy(t, workload.Program{Speaks: workload.V1Only}, workload.Where{Instances: []string{id(1)}})
			w.clock.Advance(time.Hour)
			q := w.before(time.Hour, 1, 2)
			if c.change != nil {
				c.change(&q)
			}
			res := w.read(t, q)
			if c.fails {
				mustFail(t, res, gates.GateNoToken, id(1), "since the plan was made", "0 tolerated")
			} else if !res.Pass {
				t.Errorf("fails: %s", res.Reason)
			}
			if len(find(res, gates.GateHeartbeat, "*"))+len(find(res, gates.GateRejected, "*")) > 0 {
				t.Errorf("asked for what cannot show yet: %+v", res.Readings)
			}
		})
	}
}

// TestOnlyNewCallsHoldBack: what the plan's evidence held already does not count again.
func TestOnlyNewCallsHoldBack(t *testing.T) {
	w := newWorld(t, host(1, "optional", 1, ""))
	daily := workload.Program{Name: "daily", Speaks: workload.V1Only, Every: 24 * time.Hour, Anchor: start.Add(-3 * time.Hour)}
	if err := programs.Deploy(w.World, daily, workload.Where{Instances: []string{id(1)}}); err != nil {
		t.Fatal(err)
	}
	mustFail(t, w.read(t, w.before(5*time.Hour, 1)), gates.GateNoToken, id(1))
	mustNote(t, w.read(t, w.before(time.Hour, 1)), gates.GateNoToken, "", "0 in 1 instance")
}

// TestLikesOfTheChangedAreLookedAtBefore: an instance that its group launched after the plan was made tells of the
// group; nothing does where a person accepted the calls.
func TestLikesOfTheChangedAreLookedAtBefore(t *testing.T) {
	tagged := `, "tags": {"aws:autoscaling:groupName": "web"}`
	launched := `, "launched": "` + start.Add(-30*time.Minute).Format(time.RFC3339) + `"`
	w := newWorld(t, host(1, "optional", 1, tagged), host(2, "optional", 1, tagged+launched), host(3, "optional", 1, launched))
	w.deploy(t, workload.Program{Speaks: workload.V1Only}, workload.Where{Instances: []string{id(2), id(3)}})
	q := w.before(time.Hour, 1)
	if res := w.read(t, q); !res.Pass {
		t.Errorf("an instance of another stack holds this one back: %s", res.Reason)
	}
	q.Groups = []fleet.Ref{{Place: here, Kind: inventory.KindAutoScaling, ID: "web"}}
	mustFail(t, w.read(t, q), gates.GateNoToken, id(2))
	q.Excused = []fleet.Ref{ref(1)}
	if res := w.read(t, q); !res.Pass {
		t.Errorf("calls that were accepted hold the stack back: %s", res.Reason)
	}
	q = w.before(time.Hour)
	q.Stage = plan.StageDefaults // everything launched lately in the region is no part of the stack
	if res := w.read(t, q); !res.Pass {
		t.Errorf("an instance of another stack holds the default back: %s", res.Reason)
	}
}

func TestAnIllStackIsNotBegun(t *testing.T) {
	w := newWorld(t, host(1, "optional", 1, `, "status": "impaired"`), host(2, "optional", 1, `, "status": "initializing"`))
	mustFail(t, w.read(t, w.before(time.Hour, 1)), gates.GateStatus, id(1))
	if res := w.read(t, w.before(time.Hour, 2)); !res.Pass {
		t.Errorf("an initializing instance holds back: %s", res.Reason)
	}
}

// TestDuringAStepSilenceIsOnlyNoted: what takes time to show cannot fail yet, what shows at once does.
func TestDuringAStepSilenceIsOnlyNoted(t *testing.T) {
	w := newWorld(t, host(1, "required", 1, ""))
	q := w.query(1)
	q.Now = q.Now.Add(2 * time.Hour) // nothing was reported in the last two hours
	mustFail(t, w.read(t, q), gates.GateHeartbeat, id(1))
	q.Moment = engine.During
	mustNote(t, w.read(t, q), gates.GateHeartbeat, "", "0 of 1 running instances report")
	w = newWorld(t, host(1, "required", 1, ""))
	w.deploy(t, workload.Program{Speaks: workload.V1Only}, workload.Where{Instances: []string{id(1)}})
	q = w.query(1)
	q.Moment = engine.During
	mustFail(t, w.read(t, q), gates.GateRejected, id(1))
}
