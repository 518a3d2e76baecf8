package clock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
)

func TestPacedWakesSleepersWhenThePaceChanges(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	c := clock.NewPaced(start, 1e-9) // stands practically still
	woken := make(chan error, 1)
	go func() { woken <- c.Sleep(t.Context(), 24*time.Hour) }()
	select {
	case err := <-woken:
		t.Fatalf("woke at %s while the clock stood still: %v", c.Now(), err)
	default:
	}
	c.SetRate(1e9)
	if err := <-woken; err != nil {
		t.Fatal(err)
	}
	if slept := c.Now().Sub(start); slept < 24*time.Hour {
		t.Errorf("woke after %s of a day", slept)
	}
}

func TestPacedNeverGoesBack(t *testing.T) {
	c := clock.NewPaced(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), 1)
	last := c.Now()
	for i := range 1000 {
		c.SetRate(float64(1 + i%7*1000))
		now := c.Now()
		if now.Before(last) {
			t.Fatalf("from %s back to %s", last, now)
		}
		last = now
	}
}

func TestPacedSleepEndsWithItsContext(t *testing.T) {
	c := clock.NewPaced(time.Now(), 1e-9)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := c.Sleep(t.Context(), 0); err != nil {
		t.Errorf("a sleep of nothing: %v", err)
	}
}
