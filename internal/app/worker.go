package app

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/rollout"
	"github.com/imdsctl/imdsctl/internal/store"
	"github.com/imdsctl/imdsctl/internal/worker"
)

// errShared: something takes a database that several processes work on.
var errShared = fleet.Diagnostic{Severity: fleet.SeverityError, Where: "--db",
	Summary: "several processes can only work on a PostgreSQL database",
	Remedy:  "Name one: --db postgres://user@host/database. With a file, `imdsctl apply` does all the work."}

// WorkerOptions say how a process works on rollouts beside others.
type WorkerOptions struct {
	// Lanes is how many places are worked on at a time; 0 is the worker's default.
	Lanes int
}

// Work carries out whatever rollouts the database holds, beside other processes that do the same, until ctx ends.
func (a *App) Work(ctx context.Context, o WorkerOptions) error {
	if a.follows == nil {
		return errShared
	}
	db, err := a.database()
	if err != nil {
		return err
	}
	return a.work(ctx, db, o)
}

// clockInterval is how often the clock is set by the database's.
const clockInterval = time.Minute

func (a *App) work(ctx context.Context, db *store.Store, o WorkerOptions) error {
	edge, finder, err := a.cloud(ctx)
	if err != nil {
		return err
	}
	opt := a.engineOptions(db, finder)
	opt.Journal = db.Queue()
	opt.OnLane = func(ctx context.Context, place fleet.Place) error {
		edge.Drain(place)
		return enter(ctx, finder, place)
	}
	go func() {
		for a.clock.Sleep(ctx, clockInterval) == nil {
			if err := a.follow(ctx, db); err != nil && ctx.Err() == nil {
				a.log.Warn("could not ask the database for the time", "error", err)
			}
		}
	}()
	w := worker.New(worker.Options{Engine: engine.New(opt), Pool: db.Pool(), Unfinished: db.Unfinished, Logger: a.log, Clock: a.clock,
		Lanes: o.Lanes})
	return w.Run(ctx)
}

// join works on a rollout beside other processes, unless it only watches, and tells of its course until it is final.
func (a *App) join(ctx context.Context, db *store.Store, id string, o ApplyOptions) (*Record, error) {
	working, stop := context.WithCancel(ctx)
	defer stop()
	worked := make(chan error, 1)
	if o.Watch {
		worked <- nil
	} else {
		go func() { worked <- a.work(working, db, WorkerOptions{}) }()
	}
	record, err := a.watch(ctx, db, id, o.Progress)
	stop()
	if failed := <-worked; err == nil || errors.Is(err, context.Canceled) {
		err = errors.Join(err, failed)
	}
	return record, err
}

// watch tells of a rollout that others carry out, by its journal.
func (a *App) watch(ctx context.Context, db *store.Store, id string, tell func(Progress)) (*Record, error) {
	if tell == nil {
		tell = func(Progress) {}
	}
	w := &watcher{tell: tell, clock: a.clock, seen: map[int64]bool{}}
	record, err := db.Load(ctx, id)
	if err != nil {
		return nil, err
	}
	w.status, w.stacks = record.Status, record.Stacks
	for e, err := range db.Events(ctx, id, 0) { // what was told before
		if err != nil {
			return record, err
		}
		w.mark(e.ID)
	}
	tell(Progress{At: a.clock.Now(), Status: w.status, Event: "control", Reason: record.Reason})
	for !w.status.Final() {
		if err := a.clock.Sleep(ctx, max(time.Second, a.opt.Engine.PollInterval)); err != nil {
			break
		}
		if err := w.catchUp(ctx, db, id); err != nil {
			return record, err
		}
	}
	after := context.WithoutCancel(ctx)
	if err := w.catchUp(after, db, id); err != nil {
		return record, err
	}
	record, err = db.Load(after, id)
	return record, errors.Join(ctx.Err(), err)
}

// watcher turns events of the journal into progress.
type watcher struct {
	tell   func(Progress)
	clock  clock.Clock
	status rollout.Status
	stop   string
	stacks map[string]rollout.Stack
	last   int64
	seen   map[int64]bool
}

// overlap is how many events before the last one are looked at again: transactions that began earlier may end later.
const overlap = 500

func (w *watcher) mark(id int64) {
	w.last = max(w.last, id)
	w.seen[id] = true
	if len(w.seen) > 4*overlap {
		maps.DeleteFunc(w.seen, func(id int64, _ bool) bool { return id < w.last-2*overlap })
	}
}

func (w *watcher) catchUp(ctx context.Context, db *store.Store, id string) error {
	var fresh []store.Event
	for e, err := range db.Events(ctx, id, w.last-overlap) {
		if err != nil {
			return err
		}
		if !w.seen[e.ID] {
			fresh = append(fresh, e)
		}
	}
	slices.SortStableFunc(fresh, func(a, b store.Event) int { return a.At.Compare(b.At) })
	for _, e := range fresh {
		w.mark(e.ID)
		w.event(e)
	}
	control, err := db.Control(ctx, id)
	if err != nil {
		return err
	}
	if w.status != control.Status || w.stop != control.Stop {
		w.status, w.stop = control.Status, control.Stop
		reason := control.Reason
		if w.stop != "" {
			reason = "everything is stopped: " + w.stop
		}
		w.tell(Progress{At: w.clock.Now(), Status: w.status, Event: "control", Reason: reason})
	}
	return nil
}

// event tells of one event.
func (w *watcher) event(e store.Event) {
	p := Progress{At: e.At, Status: w.status, Stack: e.Stack, State: w.stacks[e.Stack], Event: e.Name, Reason: e.Reason}
	switch {
	case e.Name == "gate":
		p.Reason = e.Detail["reason"]
		p.Gate = &GateResult{Pass: e.Detail["pass"] == "true", Reason: e.Detail["reason"]}
		for _, k := range slices.Sorted(maps.Keys(e.Detail)) {
			if k != "pass" && k != "reason" && k != "moment" {
				p.Gate.Readings = append(p.Gate.Readings, Reading{Gate: k, Value: e.Detail[k], Pass: p.Gate.Pass, At: e.At})
			}
		}
	case e.Name == "hold":
		p.Reason = e.Detail["reason"]
	case e.Name == "outcome" && e.Detail["phase"] != "":
		p.Change, p.Phase = e.Change, ChangePhase(e.Detail["phase"])
		p.Event = string(p.Phase)
	case e.Stack != "" && e.Detail["to"] != "":
		step, err := strconv.Atoi(e.Detail["step"])
		if err != nil {
			step = p.State.Step
		}
		p.State = rollout.Stack{Phase: rollout.StackPhase(e.Detail["to"]), Step: step, Since: e.At, Reason: e.Reason}
		w.stacks[e.Stack] = p.State
	case e.Stack == "" && e.Detail["to"] != "":
		p.Status = rollout.Status(e.Detail["to"])
		w.status = p.Status
	default:
		return // intents, approvals and the like change nothing on a screen
	}
	w.tell(p)
}
