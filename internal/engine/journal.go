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
	Lane      Lease
	Token     string
	Now       time.Time
	Lease     time.Duration
}

// ErrNotAdmitted: the rollout is paused, halted or over, everything is stopped, the stack's phase does not allow the write,
// or a budget of open intents is used up. Nothing was recorded.
var ErrNotAdmitted = errors.New("not admitted")

// ErrFenced: another process holds the lease now. Nothing was recorded.
var ErrFenced = errors.New("another process has taken it over")

// Settlement closes an intent, or records what became of a change that needed none.
type Settlement struct {
	Rollout string
	Change  string
	// Intent is 0 for a change that was not written (found as wanted, in conflict, skipped).
	Intent    int64
	Lane      Lease
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

// Lease is one process's right to something that only one may do at a time: to write in a place (the place's lane), or to
// coordinate a rollout (its seat). Epoch grows with every holder, so that one who was held up and comes back too late is
// known by it.
type Lease struct {
	Key    string // LaneKey or SeatKey
	Holder string
	Epoch  int64
}

// LaneKey names the lease of a place's lane.
func LaneKey(p fleet.Place) string { return p.String() }

// SeatKey names the lease of the one who coordinates a rollout.
func SeatKey(rollout string) string { return "rollout/" + rollout }

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
	// Waves are those that a person approved, by name, with who did.
	Waves map[string]string `json:"approved_waves,omitempty"`
	// Stop is who stopped everything in this database, and why; empty while nothing is stopped.
	Stop string `json:"stop,omitempty"`
}

// Control is the part of a record that other terminals change while a rollout runs.
type Control struct {
	Status           rollout.Status
	Reason           string
	Undo             map[string]string // stack → who asked, and why
	FailuresForgiven int
	// Waves and Stop are as in Record.
	Waves map[string]string
	Stop  string
	// Manual are the changes of class plan.ClassManual that a person has said are done, or cannot be done.
	Manual map[string]ChangeState
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
	// Move records steps of machines, all or none, by the holder of the rollout's seat: ErrFenced where that is lost, ErrMoved
	// where a state is not the expected one. A move on the event "undo" also forgets the request for that stack's rollback, and
	// makes its stuck changes verified again, to be tried anew.
	Move(ctx context.Context, rollout string, seat Lease, moves []Move, now time.Time) error
	// Admit checks the stop, rollout status, stack phase and step, lane epoch and budgets, and commits an intent, in one transaction.
	// The change's phase becomes open. ErrNotAdmitted or ErrFenced otherwise.
	Admit(ctx context.Context, a Admission) (Intent, error)
	// Settle closes an intent and sets the change's phase, in one transaction. Settling an intent that is settled already is
	// an error, and so is a settlement by a fenced lane (ErrFenced).
	Settle(ctx context.Context, s Settlement) error
	// OpenIntent gives the intent of a change that has no outcome; false where there is none.
	OpenIntent(ctx context.Context, rollout, change string) (Intent, bool, error)
	// Tries counts the forward intents of a change whose outcome tells something of it: not those whose call was throttled, was too
	// late to be sent, or was interrupted (PutOff).
	Tries(ctx context.Context, rollout, change string) (int, error)
	// Acquire takes a lease under a new epoch. It fails with ErrFenced while another holder's lease lasts, unless that holder
	// is known to be dead, and remembers for a while that somebody waits for it.
	Acquire(ctx context.Context, key, holder string, now time.Time, ttl time.Duration) (Lease, error)
	// Renew extends a lease. ErrFenced where it is lost.
	Renew(ctx context.Context, lease Lease, now time.Time, ttl time.Duration) error
	// Release gives a lease up, and tells whether somebody else has been waiting for it. A lease that is lost already is no
	// error.
	Release(ctx context.Context, lease Lease, now time.Time) (wanted bool, err error)
	// Note appends an event that changes no state: a gate reading, an operator's remark.
	Note(ctx context.Context, rollout, stack, event string, detail map[string]string, now time.Time) error
}

// ErrNotApproved: nobody approved the digest of the plan.
var ErrNotApproved = errors.New("the plan is not approved")

// Moment is when, in the course of a step, gates are read.
type Moment string

// Moments.
const (
	// Before the first write of a stack: a failing gate holds it back.
	Before Moment = "before"
	// During the writes of a step. What takes time to show, such as a heartbeat, cannot fail yet.
	During Moment = "during"
	// After the writes, until the bake is over.
	After Moment = "after"
)

// GateQuery asks how the instances of a stack are that its changes touch.
type GateQuery struct {
	Stack  string      `json:"stack"` // its name, for messages and for those outside who are asked
	Place  fleet.Place `json:"place"`
	Moment Moment      `json:"moment"`
	// Instances are those that run and were changed; before the first write, those that will be. Instances launched from
	// changed templates since are found by whoever reads the gates.
	Instances []fleet.Ref `json:"instances,omitempty"`
	// Excused are the instances among them whose v1 calls a person accepted.
	Excused []fleet.Ref `json:"excused,omitempty"`
	// Groups are the Auto Scaling groups whose launches changed, Templates the launch templates.
	Groups    []fleet.Ref `json:"groups,omitempty"`
	Templates []fleet.Ref `json:"templates,omitempty"`
	// Stage tells which metric to read: hop-limit changes watch MetadataNoToken rise, others MetadataNoTokenRejected.
	Stage plan.Stage `json:"stage"`
	// Since is when the step began to be written; before that, when the plan's evidence was taken.
	Since time.Time  `json:"since"`
	Now   time.Time  `json:"now"`
	Rules plan.Rules `json:"rules"`
	// Gates are the stack's further gates.
	Gates []plan.Gate `json:"gates,omitempty"`
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
