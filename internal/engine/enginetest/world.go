// Package enginetest holds stand-ins for what the engine needs of the world, for tests: an AWS made of a map, with faults,
// and the journal in memory. It is never part of the binary.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/engine/inmemory"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// World is an AWS made of a map: it serves every kind, obeys sets and creates, and fails as it is told to.
type World struct {
	mu     sync.Mutex
	states map[string]fleet.State
	made   map[string]map[string]string // by marker: what a create made
	next   map[string]int               // highest version ever made, by resource
	runs   map[string]time.Time         // when what was started of a resource ends
	// RunTime is how long what is started takes.
	RunTime time.Duration
	// Fails, where set, tells which starts of ReplaceVerb end without effect. It is called under the lock.
	Fails func(kind.Write) bool
	ahead map[string]fleet.State // what ReplaceVerb makes of a resource when it ends
	// Effects lists what was changed, in order, with the token it came under.
	Effects []Effect
	// Fault, where set, decides before each call what goes wrong with it. It is called by one goroutine at a time.
	Fault func(call string, id string) Fault
	turn  sync.Mutex // of Fault
}

// Effect is one change of the world.
type Effect struct {
	ID, Verb, Token string
	Revert          bool
	After           fleet.State
}

// Fault is what goes wrong with a call.
type Fault string

// Faults. Lost is a call whose answer never comes though it took effect; Unsent one that never arrived.
const (
	Fine      Fault = ""
	Lost      Fault = "lost"
	Unsent    Fault = "unsent"
	Throttled Fault = "throttled"
	Denied    Fault = "denied"
	Expired   Fault = "expired"
	// Late is a call that is given up while it is still on its way: it takes effect half a minute later.
	Late Fault = "late"
)

// StartVerb is the verb of what is started and ends RunTime later.
const StartVerb = "ssm"

// ReplaceVerb is the verb of what is started, leaves its resource as it was until RunTime later, and is refused while
// another one is under way. Its token guards against a second start; nothing can be found of it.
const ReplaceVerb = "replace"

// ends is when what was started of a resource ends.
func (w *World) ends(id string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runs[id]
}

// NewWorld is an empty world.
func NewWorld() *World {
	return &World{runs: map[string]time.Time{}, ahead: map[string]fleet.State{}, states: map[string]fleet.State{}, made: map[string]map[string]string{}, next: map[string]int{}}
}

// Put sets a resource, as another operator would.
func (w *World) Put(id string, s fleet.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.states[id] = s.Clone()
}

// Get reads a resource; nil where it is not there.
func (w *World) Get(id string) fleet.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.states[id]; s != nil {
		return s.Clone()
	}
	return nil
}

// Remove makes a resource vanish.
func (w *World) Remove(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.states, id)
}

// Driver implements engine.Drivers.
func (w *World) Driver(place fleet.Place, _ string) (kind.Driver, error) {
	return driver{w, place}, nil
}

// Kind implements engine.Drivers.
func (w *World) Kind(name string) (kind.Kind, bool) { return kind.Kind{Name: name}, true }

var _ engine.Drivers = (*World)(nil)

type driver struct {
	w     *World
	place fleet.Place
}

func (d driver) fail(class fleet.ErrorClass, action string) error {
	return &fleet.CallError{Class: class, Place: d.place, Action: action, Err: errors.New(string(class))}
}

func (d driver) fault(call, id string) Fault {
	if d.w.Fault == nil {
		return Fine
	}
	d.w.turn.Lock()
	defer d.w.turn.Unlock()
	return d.w.Fault(call, id)
}

func (d driver) List(context.Context, func(inventory.Resource) error) error {
	return errors.New("the engine never lists")
}

func (d driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	if err := ctx.Err(); err != nil {
		return inventory.Resource{}, err
	}
	switch d.fault("read", id) {
	case Throttled:
		return inventory.Resource{}, d.fail(fleet.ErrThrottled, "read")
	case Denied:
		return inventory.Resource{}, d.fail(fleet.ErrDenied, "read")
	case Expired:
		return inventory.Resource{}, d.fail(fleet.ErrExpired, "read")
	case Lost, Unsent:
		return inventory.Resource{}, d.fail(fleet.ErrTransient, "read")
	}
	underWay := d.w.replacing(id)
	s := d.w.Get(id)
	if s == nil {
		return inventory.Resource{}, d.fail(fleet.ErrGone, "read")
	}
	r := inventory.Resource{Ref: fleet.Ref{Place: d.place, ID: id}, State: s, Settling: underWay}
	if end := d.w.ends(id); time.Now().Before(end) && !underWay {
		r.State, r.Settling = fleet.State{"status": "running"}, true
	}
	return r, nil
}

// replacing tells whether a start of ReplaceVerb is under way, and takes in one that has ended.
func (w *World) replacing(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	after, begun := w.ahead[id]
	if !begun || time.Now().Before(w.runs[id]) {
		return begun
	}
	delete(w.ahead, id)
	if after != nil {
		w.states[id] = after
	}
	return false
}

// replace starts a replacement. The lock is held.
func (d driver) replace(w kind.Write) (kind.Result, error) {
	if d.w.made[w.Token] != nil {
		return kind.Result{}, nil
	}
	if _, begun := d.w.ahead[w.ID]; begun {
		return kind.Result{}, d.fail(fleet.ErrConflict, "write "+w.ID+", which is being replaced,")
	}
	d.w.made[w.Token] = map[string]string{}
	d.w.runs[w.ID] = time.Now().Add(d.w.RunTime)
	d.w.ahead[w.ID] = w.After.Clone()
	if d.w.Fails != nil && d.w.Fails(w) {
		d.w.ahead[w.ID] = nil
		return kind.Result{}, nil
	}
	d.w.Effects = append(d.w.Effects, Effect{ID: w.ID, Verb: w.Verb, Token: w.Token, Revert: w.Revert, After: w.After.Clone()})
	return kind.Result{}, nil
}

func (d driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	if err := ctx.Err(); err != nil {
		return kind.Result{}, err
	}
	f := d.fault("write", w.ID)
	switch f {
	case Throttled:
		return kind.Result{}, d.fail(fleet.ErrThrottled, "write")
	case Denied:
		return kind.Result{}, d.fail(fleet.ErrDenied, "write")
	case Expired:
		return kind.Result{}, d.fail(fleet.ErrExpired, "write")
	case Unsent:
		return kind.Result{}, d.fail(fleet.ErrTransient, "write")
	case Late:
		time.AfterFunc(30*time.Second, func() { _, _ = d.effect(w) })
		return kind.Result{}, d.fail(fleet.ErrTransient, "write")
	}
	res, err := d.effect(w)
	if f == Lost && err == nil {
		return kind.Result{}, d.fail(fleet.ErrTransient, "write")
	}
	return res, err
}

func (d driver) effect(w kind.Write) (kind.Result, error) {
	d.w.replacing(w.ID)
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	s := d.w.states[w.ID]
	if s == nil {
		return kind.Result{}, d.fail(fleet.ErrGone, "write")
	}
	if w.Verb == ReplaceVerb {
		return d.replace(w)
	}
	if w.Verb == StartVerb {
		if d.w.made[w.Marker] != nil {
			return kind.Result{}, d.fail(fleet.ErrConflict, "write "+w.ID+", which was started already,")
		}
		d.w.made[w.Marker] = map[string]string{}
		d.w.runs[w.ID] = time.Now().Add(d.w.RunTime)
	}
	after := w.After.Clone()
	var outputs map[string]string
	if w.Verb == "create-version" && !w.Revert {
		if made := d.w.made[w.Marker]; made != nil {
			return kind.Result{Outputs: made}, nil // the client token guards against a second one
		}
		if d.w.next[w.ID] == 0 {
			d.w.next[w.ID] = 5
		}
		d.w.next[w.ID]++
		outputs = map[string]string{"Version": fmt.Sprint(d.w.next[w.ID])}
		d.w.made[w.Marker] = outputs
		after = s.With(fleet.State{"LatestVersion": outputs["Version"]})
	}
	for _, v := range after {
		if len(plan.References(v)) > 0 {
			return kind.Result{}, d.fail(fleet.ErrInvalid, "write "+v)
		}
	}
	d.w.states[w.ID] = after
	d.w.Effects = append(d.w.Effects, Effect{ID: w.ID, Verb: w.Verb, Token: w.Token, Revert: w.Revert, After: after.Clone()})
	return kind.Result{Outputs: outputs}, nil
}

// CheckUndo implements kind.UndoChecker: a fault of the call "undo" refuses.
func (d driver) CheckUndo(ctx context.Context, w kind.Write) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	switch d.fault("undo", w.ID) {
	case Denied:
		return d.fail(fleet.ErrDenied, "undo")
	case Expired:
		return d.fail(fleet.ErrExpired, "undo")
	}
	return nil
}

func (d driver) Find(ctx context.Context, w kind.Write) (kind.Result, error) {
	if err := ctx.Err(); err != nil {
		return kind.Result{}, err
	}
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	if made := d.w.made[w.Marker]; made != nil && w.Verb != ReplaceVerb {
		return kind.Result{Outputs: made}, nil
	}
	return kind.Result{}, kind.ErrNotFound
}

// Journal is the journal in memory.
type Journal = inmemory.Journal

// NewJournal is an empty journal in memory.
func NewJournal() *Journal { return inmemory.NewJournal() }
