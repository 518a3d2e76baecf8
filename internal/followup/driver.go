package followup

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// Runner makes the drivers of one process, and remembers for all of them which programs have succeeded in it. It is
// safe for many goroutines.
type Runner struct {
	env []string

	mu   sync.Mutex
	done map[fleet.Ref]string // marker of the write that succeeded
}

// NewRunner makes a Runner whose programs get the environment env ("NAME=value"), and nothing besides: see
// program.Environment.
func NewRunner(env []string) *Runner { return &Runner{env: env, done: map[fleet.Ref]string{}} }

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries; it makes no call.
func (r *Runner) Open(cfg aws.Config, place fleet.Place, c clock.Clock) kind.Driver {
	return &driver{runner: r, client: ssm.NewFromConfig(cfg), ec2: ec2.NewFromConfig(cfg), place: place, clock: c}
}

func (r *Runner) succeeded(ref fleet.Ref, marker string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done[ref] = marker
}

// marker is that of the program that succeeded for the follow-up in this process.
func (r *Runner) marker(ref fleet.Ref) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.done[ref]
	return m, ok
}

type driver struct {
	runner *Runner
	client *ssm.Client
	ec2    *ec2.Client
	place  fleet.Place
	clock  clock.Clock
}

// List emits nothing: follow-ups are in plans only.
func (d *driver) List(context.Context, func(inventory.Resource) error) error { return nil }

// Read gives the follow-up of an id, of which it does not know the verb: it asks this process and then Systems Manager.
// Whoever knows more uses ReadFor.
func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	return d.read(ctx, kind.Write{ID: id, Verb: plan.ActionSSM})
}

// ReadFor is Read for the write of a change, with what the change has produced so far in w.Made. It makes no call for
// programs and people, and a cheap one for a command whose id is known.
func (d *driver) ReadFor(ctx context.Context, w kind.Write) (inventory.Resource, error) {
	if proves(w.Verb) {
		return d.readProof(ctx, w)
	}
	return d.read(ctx, w)
}

func (d *driver) read(ctx context.Context, w kind.Write) (inventory.Resource, error) {
	id, err := ParseID(w.ID)
	if err != nil {
		return inventory.Resource{}, kind.Errorf(fleet.ErrInvalid, d.place, actionList, "read: %w", err)
	}
	r := inventory.Resource{Ref: d.ref(w.ID), Name: id.Name, State: fleet.State{}}
	if _, ok := d.runner.marker(r.Ref); ok || w.Verb == plan.ActionCommand && w.Made[OutputExit] == "0" {
		r.State[plan.FieldStatus] = plan.StatusDone
		return r, nil
	}
	if w.Verb != plan.ActionSSM || !instanceID.MatchString(id.Instance) {
		return r, nil
	}
	status, err := d.status(ctx, id, w)
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read follow-up %s: %w", w.ID, err)
	}
	if status != "" {
		r.State[plan.FieldStatus], r.Settling = status, status == StatusRunning
	}
	return r, nil
}

func (d *driver) ref(id string) fleet.Ref {
	return fleet.Ref{Place: d.place, Kind: plan.KindFollowUp, ID: id}
}

// Write starts the follow-up: a command at Systems Manager, which is accepted at once, or a program, which is run to
// its end. A program that fails, or takes longer than its timeout, is an error of class fleet.ErrOther.
func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	action := actionOf(w.Verb)
	if w.Revert {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, action, "follow-up %s is never put back", w.ID)
	}
	if proves(w.Verb) {
		return d.beginProof(w)
	}
	t, err := Parse(w.Verb, w.ID, w.Params)
	if err != nil {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, action, "write: %w", err)
	}
	switch w.Verb {
	case plan.ActionSSM:
		return d.send(ctx, t, w)
	case plan.ActionCommand:
		return d.runProgram(ctx, t, w)
	default:
		return kind.Result{}, kind.Errorf(fleet.ErrConflict, d.place, action,
			"follow-up %s of instance %s is for a person: %s; when it is done, run `imdsctl rollout done ROLLOUT CHANGE`",
			t.Name, t.Instance, strings.TrimSpace(t.Text))
	}
}

// actionOf names a write in errors, as IAM would.
func actionOf(verb string) string {
	if verb == plan.ActionSSM {
		return actionSend
	}
	return plan.KindFollowUp + ":" + verb
}

// Find looks for the command that an earlier Write sent under w.Marker. Of a program it only knows what succeeded in
// this process.
func (d *driver) Find(ctx context.Context, w kind.Write) (kind.Result, error) {
	switch w.Verb {
	case plan.ActionSSM:
		return d.find(ctx, w)
	case plan.ActionCommand:
		if marker, ok := d.runner.marker(d.ref(w.ID)); ok && marker == w.Marker {
			return kind.Result{Outputs: map[string]string{OutputExit: "0"}}, nil
		}
	}
	return kind.Result{}, kind.ErrNotFound
}
