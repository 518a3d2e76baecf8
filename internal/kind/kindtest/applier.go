package kindtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// Applier carries out one write with a driver, as an engine does: it reads the resource again, writes only if it finds
// w.Before, and waits until it reads w.After.
type Applier interface {
	// Apply fails with class fleet.ErrConflict, and without a write, where the resource is not as w.Before has it.
	Apply(ctx context.Context, c clock.Clock, d kind.Driver, v kind.Verb, w kind.Write) (kind.Result, error)
	// Resume takes up an Apply of the same write that was interrupted nobody knows where.
	Resume(ctx context.Context, c clock.Clock, d kind.Driver, v kind.Verb, w kind.Write) (kind.Result, error)
}

// Reference is the plainest Applier that keeps the safety contract.
func Reference() Applier { return reference{} }

type reference struct{}

// How long reads may lag behind, and how often is looked.
const (
	lag   = 5 * time.Second
	looks = 60
	pause = time.Second
	// longest bounds the pause between two looks at what was started, which takes its time.
	longest = 30 * time.Second
)

func (r reference) Apply(
	ctx context.Context, c clock.Clock, d kind.Driver, v kind.Verb, w kind.Write,
) (kind.Result, error) {
	found, err := r.settled(ctx, c, d, w)
	if err != nil {
		return kind.Result{}, err
	}
	if !found.Equal(w.Before) {
		return kind.Result{}, conflict(w, found)
	}
	return r.write(ctx, c, d, w)
}

func (r reference) write(ctx context.Context, c clock.Clock, d kind.Driver, w kind.Write) (kind.Result, error) {
	result, err := d.Write(ctx, w)
	if err != nil {
		return kind.Result{}, err
	}
	return result, r.verify(ctx, c, d, w, result.Outputs)
}

func (r reference) verify(
	ctx context.Context, c clock.Clock, d kind.Driver, w kind.Write, out map[string]string,
) error {
	want := withOutputs(w.After, out)
	if !w.Revert {
		w.Made = out
	}
	var found fleet.State
	for range looks {
		var err error
		if found, err = r.settled(ctx, c, d, w); err != nil {
			return err
		}
		if found.Equal(want) {
			return nil
		}
		if err := c.Sleep(ctx, pause); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s of %s did not reach its target: %s", w.Verb, w.ID, fleet.DescribeDiff(want, found))
}

func (r reference) settled(ctx context.Context, c clock.Clock, d kind.Driver, w kind.Write) (fleet.State, error) {
	wait := pause
	for range looks {
		found, err := look(ctx, d, w)
		if err != nil {
			return nil, err
		}
		if !found.Settling {
			return found.State, nil
		}
		if err := c.Sleep(ctx, wait); err != nil {
			return nil, err
		}
		wait = min(2*wait, longest)
	}
	return nil, fmt.Errorf("%s does not settle", w.ID)
}

// look reads what a write is about, with what it has made so far in w.Made.
func look(ctx context.Context, d kind.Driver, w kind.Write) (inventory.Resource, error) {
	if reader, ok := d.(kind.WriteReader); ok {
		return reader.ReadFor(ctx, w)
	}
	return d.Read(ctx, w.ID)
}

func (r reference) Resume(
	ctx context.Context, c clock.Clock, d kind.Driver, v kind.Verb, w kind.Write,
) (kind.Result, error) {
	if err := c.Sleep(ctx, lag); err != nil {
		return kind.Result{}, err
	}
	if v.Class != plan.ClassSet && !w.Revert {
		result, err := d.Find(ctx, w)
		switch {
		case errors.Is(err, kind.ErrNotFound) && v.Class == plan.ClassCreate:
			return r.Apply(ctx, c, d, v, w)
		case errors.Is(err, kind.ErrNotFound): // a start that may be under way: its end tells
		case err != nil:
			return kind.Result{}, err
		default:
			return result, r.verify(ctx, c, d, w, result.Outputs)
		}
	}
	found, err := r.settled(ctx, c, d, w)
	switch {
	case err != nil:
		return kind.Result{}, err
	case found.Equal(w.After):
		return kind.Result{}, nil
	case found.Equal(w.Before):
		return r.write(ctx, c, d, w)
	default:
		return kind.Result{}, conflict(w, found)
	}
}

func conflict(w kind.Write, found fleet.State) error {
	return kind.Errorf(fleet.ErrConflict, w.Place, w.Verb, "%s is not as the plan has it: %s", w.ID,
		fleet.DescribeDiff(w.Before, found))
}

// withOutputs fills in what the write itself produced.
func withOutputs(s fleet.State, out map[string]string) fleet.State {
	filled := s.Clone()
	for field, text := range filled {
		for name, v := range out {
			text = strings.ReplaceAll(text, "${"+name+"}", v)
		}
		filled[field] = text
	}
	return filled
}

// prepare makes the write of a fixture for a resource as it is.
func (s *site) prepare(w *writeCase, r inventory.Resource) kind.Write {
	return kind.Write{
		Place: s.bench.fixture.Place, ID: w.ID, Verb: w.Verb, Before: r.State.Clone(), After: r.State.With(state(w.Patch)),
		Params: w.Params, Token: "kindtest-token-1", Marker: "kindtest-marker-1",
	}
}

// undo makes the write that takes another back.
func undo(w kind.Write, made kind.Result) kind.Write {
	back := w
	back.Revert, back.Made = true, made.Outputs
	back.Before, back.After = withOutputs(w.After, made.Outputs), w.Before
	back.Token, back.Marker = "kindtest-token-2", "kindtest-marker-2"
	return back
}
