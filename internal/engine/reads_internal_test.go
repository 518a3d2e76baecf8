package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// slowly is a driver whose calls take a second. It knows the ids that begin with "i-".
type slowly struct {
	kind.Driver
	mu    sync.Mutex
	calls [][]string
	fail  error // of calls that read several
}

func (s *slowly) note(ids ...string) {
	s.mu.Lock()
	s.calls = append(s.calls, slices.Clone(ids))
	s.mu.Unlock()
	time.Sleep(time.Second)
}

func (s *slowly) Read(_ context.Context, id string) (inventory.Resource, error) {
	s.note(id)
	if id[:2] != "i-" {
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, fleet.Place{}, "read", "%s is gone", id)
	}
	return inventory.Resource{Name: id}, nil
}

func (s *slowly) ReadMany(_ context.Context, ids []string) (map[string]inventory.Resource, error) {
	s.note(ids...)
	if s.fail != nil {
		return nil, s.fail
	}
	out := map[string]inventory.Resource{}
	for _, id := range ids {
		if id[:2] == "i-" {
			out[id] = inventory.Resource{Name: id}
		}
	}
	return out, nil
}

// many reads ids at the same time, and gives each one's answer.
func many(t *testing.T, d *slowly, ids ...string) []string {
	var g reads
	out := make([]string, len(ids))
	var all sync.WaitGroup
	for i, id := range ids {
		all.Go(func() {
			r, err := g.read(t.Context(), fleet.Place{}, "k", d, id)
			out[i] = r.Name
			if err != nil {
				out[i] = string(fleet.ClassOf(err))
			}
		})
		synctest.Wait() // in this order
	}
	all.Wait()
	return out
}

func TestReadsThatMeetShareACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &slowly{}
		got := many(t, d, "i-1", "i-2", "i-3", "x-1", "i-4")
		if want := []string{"i-1", "i-2", "i-3", "gone", "i-4"}; !slices.Equal(got, want) {
			t.Errorf("answers %q, want %q", got, want)
		}
		if len(d.calls) != 3 || len(d.calls[2]) != 3 {
			t.Errorf("calls %v: want two that found room, and one for the rest", d.calls)
		}
	})
}

// The failure of a shared call is everybody's, unless it says something of only one of them, or of who made it.
func TestASharedReadThatFails(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
		more int // calls that are made again
	}{
		{kind.Errorf(fleet.ErrThrottled, fleet.Place{}, "read", "slow down"), "throttled", 0},
		{kind.Errorf(fleet.ErrGone, fleet.Place{}, "read", "one of them"), "i-3", 2},
		{fmt.Errorf("interrupted: %w", context.Canceled), "i-3", 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &slowly{fail: tt.err}
			got := many(t, d, "i-1", "i-2", "i-3", "i-4")
			if got[0] != "i-1" || got[2] != tt.want || len(d.calls) != 3+tt.more {
				t.Errorf("%v: answers %q by calls %v", tt.err, got, d.calls)
			}
		})
	}
}

// Who has no more time does not wait for others.
func TestASharedReadIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, g := &slowly{}, &reads{}
		var all sync.WaitGroup
		for _, id := range []string{"i-1", "i-2"} {
			all.Go(func() { _, _ = g.read(t.Context(), fleet.Place{}, "k", d, id) })
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := g.read(ctx, fleet.Place{}, "k", d, "i-3"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		all.Wait()
		time.Sleep(time.Minute) // the call for i-3 goes on without the one who asked
	})
}
