// Package engine carries out approved plans: it reads again, commits an intent, writes, commits the outcome, verifies,
// watches gates, and puts back what failed. Killed at any point it resumes from the journal and ends in the same state.
//
// It owns the order of those acts and nothing else. What to write is the plan's, which phase follows is rollout's, how to
// write is the kind's, and the journal is the only truth: nothing that matters is kept in memory alone. The package
// declares what it needs of the world (Journal, Drivers, GateReader) and imports no SDK and no SQL.
package engine

import (
	"context"
	"errors"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// ChangePhase is where one change of a rollout stands.
type ChangePhase string

// Change phases.
const (
	ChangePending  ChangePhase = "pending"  // nothing was written
	ChangeOpen     ChangePhase = "open"     // an intent is committed, its outcome is not
	ChangeApplied  ChangePhase = "applied"  // AWS accepted the write; it is not verified yet
	ChangeVerified ChangePhase = "verified" // the resource reads as planned
	ChangeConflict ChangePhase = "conflict" // the resource was not as planned and was left alone
	ChangeFailed   ChangePhase = "failed"   // AWS refused, or the change never became visible
	ChangeSkipped  ChangePhase = "skipped"  // a change it needs was not made
	ChangeReverted ChangePhase = "reverted" // put back
	ChangeStuck    ChangePhase = "stuck"    // could not be put back
)

// ChangeState is the journal's record of one change.
type ChangeState struct {
	ID    string      `json:"id"`
	Phase ChangePhase `json:"phase"`
	// Wrote tells whether imdsctl wrote the resource: false where it was found as wanted. Only what was written is put back.
	Wrote   bool              `json:"wrote"`
	Outputs map[string]string `json:"outputs,omitempty"`
	Attempt int               `json:"attempt"` // number of intents so far, both directions
	Reason  string            `json:"reason,omitempty"`
	Updated time.Time         `json:"updated"`
}

// Direction tells a write from its undoing.
type Direction string

// Directions.
const (
	Forward  Direction = "forward"
	Backward Direction = "backward"
)

// Intent is a write that may have begun. It is committed before the call and closed by an outcome.
type Intent struct {
	ID        int64       `json:"id"`
	Rollout   string      `json:"rollout"`
	Change    string      `json:"change"`
	Place     fleet.Place `json:"place"`
	Direction Direction   `json:"direction"`
	Attempt   int         `json:"attempt"`
	// Token is sent to AWS as the client token of a create; it is unique to rollout, change, direction and attempt.
	Token string `json:"token"`
	Epoch int64  `json:"epoch"`
	// Opened and LeaseUntil bound the call: it has ended by LeaseUntil.
	Opened     time.Time `json:"opened"`
	LeaseUntil time.Time `json:"lease_until"`
}

// Admission asks for an intent.
type Admission struct {
	Rollout   string
	Change    *plan.Change
	Direction Direction
	Lane      Lane
	Token     string
	Now       time.Time
	Lease     time.Duration
}

// ErrNotAdmitted: the rollout is paused, halted or over, the stack's phase does not allow the write, the lane has a new
// holder, or the budget of open intents is used up. Nothing was recorded.
var ErrNotAdmitted = errors.New("not admitted")

// ErrFenced: another process holds the lane now. Nothing was recorded.
var ErrFenced = errors.New("another process has taken the lane over")

// Settlement closes an intent, or records what became of a change that needed none.
type Settlement struct {
	Rollout string
	Change  string
	// Intent is 0 for a change that was not written (found as wanted, in conflict, skipped).
	Intent    int64
	Lane      Lane
	Phase     ChangePhase
	Wrote     bool
	Outputs   map[string]string
	RequestID string
	Class     fleet.ErrorClass
	Reason    string
	// Found is the state that was read, where it matters: what was in the way, or what was left.
	Found fleet.State
	Now   time.Time
}

// Lane is the right to write in a place. Epoch grows with every holder.
type Lane struct {
	Place  fleet.Place
	Holder string
	Epoch  int64
}

// Record is a whole rollout as the journal has it.
type Record struct {
	ID       string                   `json:"id"`
	Digest   string                   `json:"digest"`
	Status   rollout.Status           `json:"status"`
	Reason   string                   `json:"reason,omitempty"`
	Created  time.Time                `json:"created"`
	Updated  time.Time                `json:"updated"`
	Approved string                   `json:"approved_by,omitempty"`
	Stacks   map[string]rollout.Stack `json:"stacks"`
	Changes  map[string]ChangeState   `json:"changes"`
	// Undo names the stacks whose rollback a person asked for and that have not begun it, with who asked and why. A rollback
	// of everything names every stack that is not rolled back or skipped already.
	Undo map[string]string `json:"undo,omitempty"`
	// FailuresForgiven is the number of failed stacks when a person last resumed.
	FailuresForgiven int `json:"failures_forgiven"`
}

// Control is the part of a record that other terminals change while a rollout runs.
type Control struct {
	Status           rollout.Status
	Reason           string
	Undo             map[string]string // stack → who asked, and why
	FailuresForgiven int
	// Version grows with every change to the rollout's control; a reader that has seen it may skip the rest.
	Version int64
}

// Move records that a machine took a step: compare-and-set on the state it came from, with the event that caused it.
type Move struct {
	Stack  string // "" for the rollout itself
	From   rollout.Stack
	To     rollout.Stack
	Status [2]rollout.Status // from and to, for the rollout itself
	Event  string
	Reason string
	Actor  string // who asked; "" for imdsctl itself
	Detail map[string]string
}

// ErrMoved: the state was no longer the one the move started from. Nothing was recorded.
var ErrMoved = errors.New("the rollout has moved on")

// Journal is the durable truth of rollouts. Every method is one transaction, committed to disk before it returns, and may
// be called from many goroutines. An error means that nothing was recorded, unless it says otherwise. All times are the
// caller's clock.
type Journal interface {
	// Begin records the rollout of a plan, or finds the one that exists: there is one rollout for a digest. It refuses a
	// plan whose digest nobody approved (ErrNotApproved).
	Begin(ctx context.Context, p *plan.Plan, now time.Time) (*Record, error)
	// Plan gives back the plan of a rollout as Begin took it.
	Plan(ctx context.Context, rollout string) (*plan.Plan, error)
	// Load reads the record whole.
	Load(ctx context.Context, rollout string) (*Record, error)
	// Control reads what other terminals may have changed. It is cheap and called often.
	Control(ctx context.Context, rollout string) (Control, error)
	// Move records steps of machines, all or none. ErrMoved where a state is not the expected one. A move on the event
	// "undo" also forgets the request for that stack's rollback, and makes its stuck changes verified again, to be tried anew.
	Move(ctx context.Context, rollout string, moves []Move, now time.Time) error
	// Admit checks rollout status, stack phase and step, lane epoch and budget, and commits an intent, in one transaction.
	// The change's phase becomes open. ErrNotAdmitted or ErrFenced otherwise.
	Admit(ctx context.Context, a Admission) (Intent, error)
	// Settle closes an intent and sets the change's phase, in one transaction. Settling an intent that is settled already is
	// an error, and so is a settlement by a fenced lane (ErrFenced).
	Settle(ctx context.Context, s Settlement) error
	// OpenIntents lists the intents of a rollout that have no outcome, oldest first.
	OpenIntents(ctx context.Context, rollout string) ([]Intent, error)
	// Acquire takes the lane of a place, under a new epoch. It fails with ErrFenced while another holder's lease lasts,
	// unless that holder is known to be dead.
	Acquire(ctx context.Context, place fleet.Place, holder string, now time.Time, ttl time.Duration) (Lane, error)
	// Renew extends a lane's lease. ErrFenced where it is lost.
	Renew(ctx context.Context, lane Lane, now time.Time, ttl time.Duration) error
	// Release gives the lane up. A lane that is lost already is no error.
	Release(ctx context.Context, lane Lane) error
	// Note appends an event that changes no state: a gate reading, an operator's remark.
	Note(ctx context.Context, rollout, stack, event string, detail map[string]string, now time.Time) error
}

// ErrNotApproved: nobody approved the digest of the plan.
var ErrNotApproved = errors.New("the plan is not approved")

// GateQuery asks how the changed instances of a stack are.
type GateQuery struct {
	Place fleet.Place
	// Instances are the changed instances that run, with the instances launched from changed templates since.
	Instances []fleet.Ref
	// Groups are the Auto Scaling groups whose launches changed, Templates the launch templates.
	Groups    []fleet.Ref
	Templates []fleet.Ref
	// Stage tells which metric to read: hop-limit changes watch MetadataNoToken rise, others MetadataNoTokenRejected.
	Stage plan.Stage
	Since time.Time
	Now   time.Time
	Rules plan.Rules
}

// GateResult is one reading of all gates.
type GateResult struct {
	Pass bool
	// Reason says in one sentence what failed, of which resource, with its number.
	Reason string
	// Readings are the data behind it, for the journal and the screen.
	Readings []Reading
}

// Reading is one number a gate looked at.
type Reading struct {
	Gate    string    `json:"gate"` // "MetadataNoTokenRejected", "status-check"
	Subject fleet.Ref `json:"subject"`
	Value   string    `json:"value"`
	Pass    bool      `json:"pass"`
	At      time.Time `json:"at"`
}

// GateReader reads gates. An error means that they could not be read, which counts as failed.
type GateReader interface {
	ReadGates(ctx context.Context, q GateQuery) (GateResult, error)
}
