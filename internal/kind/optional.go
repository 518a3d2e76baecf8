package kind

import (
	"context"
	"fmt"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// BatchReader is a Driver that reads many resources in few calls.
type BatchReader interface {
	// ReadMany gives the resources as they are now, by id. One that is no more is missing from the map and no error; with
	// an error the map is nil. Any number of ids may be asked for.
	ReadMany(ctx context.Context, ids []string) (map[string]inventory.Resource, error)
}

// VersionReader is a Driver of a kind with immutable numbered versions, of which List shows the default and the latest
// only. A scan asks for the others that consumers name, after all consumers were listed.
type VersionReader interface {
	// ReadVersions gives what the numbered versions of one resource tell a launch: options for Resource.Launch by number,
	// and what belongs into Resource.Attrs. A version that is no more is missing from Launch and no error.
	ReadVersions(ctx context.Context, id string, numbers []string) (Versions, error)
}

// Versions is what ReadVersions found.
type Versions struct {
	Launch map[string]fleet.Options
	Attrs  map[string]string
}

// HistoryReader is a Driver that knows of resources that are no more, which is where their evidence is tied to a group.
type HistoryReader interface {
	// History emits, as StatusTerminated and once each, the instances that ended since the given time, with the group
	// they were members of and when they were launched (zero where the history does not reach that far back). Errors are
	// as in List.
	History(ctx context.Context, since time.Time, emit func(inventory.Resource) error) error
}

// ReferenceReader is a Driver of a kind of which List shows only what the account owns, while launches also read what belongs
// to others: public and shared images. A scan asks for those that others name, after all other kinds were listed.
type ReferenceReader interface {
	// ReadReferenced emits those of ids that AWS shows, in any order; one that it does not show is no error, and is not
	// emitted. Any number of ids may be asked for. Errors are as in List.
	ReadReferenced(ctx context.Context, ids []string, emit func(inventory.Resource) error) error
}

// MetricReader is a Driver of a kind that counts v1 calls in a metric of its own service, rather than in CloudWatch's
// namespace AWS/EC2.
type MetricReader interface {
	// History yields one observation of each subject, in order, over the span. An error means that all further subjects
	// would meet it too: those are then unknown.
	History(ctx context.Context, subjects []fleet.Ref, span evidence.Span, yield func(Observation) error) error
}

// Observation is what was observed of one subject.
type Observation struct {
	Windows []*evidence.Window
	// Gap says why it is not all; nil if it is.
	Gap error
}

// WriteReader is a Driver of a kind whose state cannot be told by its id alone.
type WriteReader interface {
	// ReadFor is Read for the write of a change; w.Made are the outputs of the change so far.
	ReadFor(ctx context.Context, w Write) (inventory.Resource, error)
}

// AttrNote is an attribute of a resource read by ReadFor: what the journal should say of a change that was started and has
// ended, besides its state.
const AttrNote = "note"

// Canceller is a Driver of a verb of class "start" whose revert stops what has not ended yet. Without it a revert waits until
// what was started has ended.
type Canceller interface {
	Cancels(verb string) bool
}

// UndoChecker is a Driver that can ask AWS, before a write, whether AWS would let the write be undone.
type UndoChecker interface {
	// CheckUndo asks, changing nothing, whether AWS would take back w once it is made: w is the forward write. Nil means
	// yes as far as AWS tells. An error of class fleet.ErrDenied or fleet.ErrConflict means that it would refuse, and says
	// why and what would have to change; any other error means that it could not be asked.
	CheckUndo(ctx context.Context, w Write) error
}

// DryRunner is a Driver that can ask AWS, by AWS's own DryRun, whether it would take a write. Verb.DryRun says of which
// verbs.
type DryRunner interface {
	// DryRun asks, changing nothing, whether AWS would make w, which is a forward write of a verb with Verb.DryRun: with
	// the call that Write would make, in all its parameters. The caller has just read the resource. Nil means yes as far as
	// AWS tells; the service's own rules that its dry run leaves out are read. The class of an error is the one that Write's
	// would have. Where a value is the output of a change that is not made yet, w.Before and w.After hold what the field is
	// now, so that they may be equal.
	DryRun(ctx context.Context, w Write) error
}

// DryRunError is the error of a dry run that failed with err: it names what was asked for, and, where that is denied, the
// way out.
func DryRunError(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if fleet.ClassOf(err) == fleet.ErrDenied {
		return fmt.Errorf("%s (dry run): %w; allow it to the role that writes, in the role's policies and in the "+
			"organization's", what, err)
	}
	return fmt.Errorf("%s (dry run): %w", what, err)
}

// WithPageSize makes drivers list in pages of at most n, where AWS allows so few. The suite uses it to see several
// pages of a small fleet.
func WithPageSize(ctx context.Context, n int32) context.Context {
	return context.WithValue(ctx, pageSizeKey{}, n)
}

// PageSize is the page size a driver asks AWS for: most, unless the context asks for smaller pages.
func PageSize(ctx context.Context, most int32) int32 {
	if n, ok := ctx.Value(pageSizeKey{}).(int32); ok && n > 0 {
		return min(n, most)
	}
	return most
}

type pageSizeKey struct{}

// Errorf makes the error of a driver that found by itself, without AWS saying so, that a call cannot be made or gave
// something else than it should.
func Errorf(class fleet.ErrorClass, place fleet.Place, action, format string, args ...any) error {
	return &fleet.CallError{Class: class, Place: place, Action: action, Err: fmt.Errorf(format, args...)}
}
