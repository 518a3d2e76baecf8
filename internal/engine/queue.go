package engine

import (
	"context"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// Act says what a lane is to do.
type Act string

// Acts.
const (
	ActForward  Act = "forward"  // read, admit, write, verify
	ActVerify   Act = "verify"   // accepted before an interruption: verify only
	ActSettle   Act = "settle"   // an intent was left open: find out what became of it
	ActBackward Act = "backward" // read, admit, put back, verify
	ActSkip     Act = "skip"     // record that it will not be made
	ActStuck    Act = "stuck"    // record that it cannot be put back
	ActFail     Act = "fail"     // record that it cannot even be asked for
	ActGate     Act = "gate"     // read the gates of a stack
)

// Order is one act, as the coordinator gives it to the lane of a place. It holds all that the lane needs to know besides the
// change and its state.
type Order struct {
	Rollout string `json:"rollout"`
	// Subject is what it is about: a change's id, or GateSubject of a stack. There is one order for a subject at a time.
	Subject string      `json:"subject"`
	Place   fleet.Place `json:"place"`
	Act     Act         `json:"act"`
	// Write is the change with the outputs of others filled in.
	Write  Resolved `json:"write,omitzero"`
	Reason string   `json:"reason,omitempty"`
	// Patient: an earlier change of the same resource may not be visible yet.
	Patient bool `json:"patient,omitempty"`
	// Unread is how often in a row the resource could not be read.
	Unread int `json:"unread,omitempty"`
	// Throttled is how often in a row AWS refused the call for its rate.
	Throttled int `json:"throttled,omitempty"`
	// Probes are set for the first write of a stack: changes of it that AWS must be willing to see undone.
	Probes []plan.Change `json:"probes,omitempty"`
	// Irreversible: where AWS is not willing, the write is made all the same, as the plan's approval says.
	Irreversible bool `json:"irreversible,omitempty"`
	// Gate is what ActGate asks.
	Gate *GateQuery `json:"gate,omitempty"`
}

// GateSubject is the subject of orders to read a stack's gates.
func GateSubject(stack string) string { return "gate/" + stack }

// Task is an order in the hands of a lane, with the change as it was approved and its state as the journal has it. A gate's
// order has neither.
type Task struct {
	Order
	Change *plan.Change
	State  ChangeState
}

// Report is what a lane says when it is through with an order.
type Report struct {
	Rollout string `json:"rollout"`
	Subject string `json:"subject"`
	// State is the change's, as the journal has it. A Queue fills it in from there when the report is collected.
	State ChangeState `json:"-"`
	// NotBefore holds the subject back: its change was not admitted, or AWS throttled it.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Unread: its resource could not be read. Throttled: AWS refused the call for its rate.
	Unread    bool        `json:"unread,omitempty"`
	Throttled bool        `json:"throttled,omitempty"`
	Gate      *GateResult `json:"gate,omitempty"`
}

// Queue carries orders to lanes in other processes, and their reports back. Every method is one transaction, as those of
// Journal are. Orders are never lost: one that a lane took and did not close comes to the lane's next holder.
type Queue interface {
	Journal
	// Post hands orders to their lanes and has somebody come to work on them. A subject that has an order keeps the one it
	// has. ErrFenced where the rollout's seat is lost.
	Post(ctx context.Context, rollout string, seat Lease, orders []Order, now time.Time) error
	// Outstanding lists the orders that were posted and not collected, and has somebody come to work on those that wait.
	Outstanding(ctx context.Context, rollout string, now time.Time) ([]Order, error)
	// Take gives at most n orders for the place that were not taken under this lease yet, the oldest first, and marks them
	// as taken under it. ErrFenced where the lane is lost.
	Take(ctx context.Context, lane Lease, place fleet.Place, n int, now time.Time) ([]Task, error)
	// Close records that orders of the place are done with. ErrFenced where the lane is lost.
	Close(ctx context.Context, lane Lease, place fleet.Place, reports []Report, now time.Time) error
	// Collect takes the closed orders of a rollout out of the queue, each with its change's state. ErrFenced where the seat is
	// lost.
	Collect(ctx context.Context, rollout string, seat Lease, now time.Time) ([]Report, error)
}
