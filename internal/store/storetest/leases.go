package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/store"
)

func runLeases(t *testing.T, open Open) {
	t.Run("one holder", func(t *testing.T) { oneHolder(t, open(t, store.Options{})) })
	t.Run("somebody waits", func(t *testing.T) { waiting(t, open(t, store.Options{})) })
	t.Run("a race", func(t *testing.T) { race(t, open(t, store.Options{})) })
}

func oneHolder(t *testing.T, s *store.Store) {
	key := engine.LaneKey(placeOf(1, "eu-west-1"))
	acquire := func(holder string, hour int) (engine.Lease, error) {
		return s.Acquire(t.Context(), key, holder, at(hour), 2*time.Hour)
	}
	release := func(l engine.Lease) {
		t.Helper()
		if _, err := s.Release(t.Context(), l, at(3)); err != nil {
			t.Fatal(err)
		}
	}
	first, err := acquire("a", 0)
	check(t, err)
	if _, err := acquire("b", 1); !errors.Is(err, engine.ErrFenced) {
		t.Fatalf("a held lease was taken: %v", err)
	}
	check(t, s.Renew(t.Context(), first, at(1), 2*time.Hour))
	if _, err := acquire("b", 2); !errors.Is(err, engine.ErrFenced) {
		t.Fatalf("a renewed lease was taken: %v", err)
	}
	second, err := acquire("b", 3)
	check(t, err)
	if second.Epoch <= first.Epoch || second.Key != key || second.Holder != "b" {
		t.Errorf("%+v after %+v", second, first)
	}
	if err := s.Renew(t.Context(), first, at(3), time.Hour); !errors.Is(err, engine.ErrFenced) {
		t.Errorf("a lost lease was renewed: %v", err)
	}
	release(first)
	if _, err := acquire("a", 3); !errors.Is(err, engine.ErrFenced) {
		t.Errorf("releasing a lost lease gave up the new holder's: %v", err)
	}
	release(second)
	if err := s.Renew(t.Context(), second, at(3), time.Hour); !errors.Is(err, engine.ErrFenced) {
		t.Errorf("a released lease was renewed: %v", err)
	}
	third, err := acquire("a", 3)
	check(t, err)
	again, err := acquire("a", 3)
	check(t, err)
	if third.Epoch <= second.Epoch || again.Epoch <= third.Epoch {
		t.Errorf("epochs %d, %d, %d", second.Epoch, third.Epoch, again.Epoch)
	}
	if _, err := s.Acquire(t.Context(), engine.SeatKey("r-1"), "b", at(3), time.Hour); err != nil {
		t.Errorf("another lease: %v", err)
	}
	for _, bad := range []func() error{
		func() error { _, err := s.Acquire(t.Context(), key, "", at(9), time.Hour); return err },
		func() error { _, err := s.Acquire(t.Context(), key, "c", at(9), 0); return err },
		func() error { _, err := s.Acquire(t.Context(), "", "c", at(9), time.Hour); return err },
	} {
		if bad() == nil {
			t.Error("a lease of nothing, by nobody or for no time")
		}
	}
}

func waiting(t *testing.T, s *store.Store) {
	const key = "rollout/r-1"
	hold := func(holder string, when time.Time) engine.Lease {
		t.Helper()
		l, err := s.Acquire(t.Context(), key, holder, when, time.Hour)
		check(t, err)
		return l
	}
	refuse := func(holder string, when time.Time) {
		t.Helper()
		if _, err := s.Acquire(t.Context(), key, holder, when, time.Hour); !errors.Is(err, engine.ErrFenced) {
			t.Fatalf("%s: %v", holder, err)
		}
	}
	wanted := func(name string, l engine.Lease, when time.Time, want bool) {
		t.Helper()
		got, err := s.Release(t.Context(), l, when)
		check(t, err)
		if got != want {
			t.Errorf("%s: wanted is %t", name, got)
		}
	}
	now := at(0)
	a := hold("a", now)
	wanted("nobody waits", a, now, false)
	wanted("released already", a, now, false)

	a = hold("a", now)
	refuse("b", now)
	wanted("b waits", a, now.Add(time.Minute-1), true)

	a = hold("a", now)
	refuse("b", now)
	wanted("b has not asked for long", a, now.Add(time.Minute), false)

	a = hold("a", now)
	refuse("b", now)
	refuse("c", now)
	lost := a
	a = hold("a", now)
	wanted("a lost lease", lost, now, false)
	wanted("b and c wait", a, now, true)
	c := hold("c", now)
	wanted("c has it, and no longer waits", c, now, false)
}

// race has many take one lease that nobody ever held.
func race(t *testing.T, s *store.Store) {
	var group sync.WaitGroup
	var won atomic.Int64
	for i := range 16 {
		group.Go(func() {
			_, err := s.Acquire(t.Context(), engine.LaneKey(placeOf(2, "")), fmt.Sprint("w", i), at(0), time.Hour)
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, engine.ErrFenced) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 {
		t.Errorf("%d took one lease", won.Load())
	}
}
