package clock_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
)

// Many who work and wait for weeks: each wakes when it asked to, in order, and nobody loses time to another's work.
func TestLeaping(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	c := clock.NewLeaping(t.Context(), start, 0)
	var mu sync.Mutex
	var woken []time.Time
	var all sync.WaitGroup
	results := make(chan int)
	for i := range 20 {
		all.Go(func() {
			for k := range 10 {
				before := c.Now()
				d := time.Duration(1+(i*7+k*3)%20) * time.Hour
				if err := c.Sleep(t.Context(), d); err != nil {
					t.Error(err)
				}
				sum := 0
				for n := range 100_000 { // work, which takes no time by this clock
					sum += n
				}
				if got := c.Now().Sub(before); got != d {
					t.Errorf("slept %s, wanted %s", got, d)
				}
				mu.Lock()
				woken = append(woken, c.Now())
				mu.Unlock()
				results <- sum
			}
		})
	}
	go func() {
		all.Wait()
		close(results)
	}()
	n := 0
	for range results { // a goroutine that waits for others, and not for the clock
		n++
	}
	if n != 200 || !slices.IsSortedFunc(woken, time.Time.Compare) {
		t.Errorf("%d results, in order %v", n, slices.IsSortedFunc(woken, time.Time.Compare))
	}
}

func TestLeapingInGrains(t *testing.T) {
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	c := clock.NewLeaping(t.Context(), start, time.Second)
	var all sync.WaitGroup
	for _, d := range []time.Duration{time.Minute, time.Minute + 500*time.Millisecond, 2 * time.Minute} {
		all.Go(func() {
			if err := c.Sleep(t.Context(), d); err != nil {
				t.Error(err)
			}
			if late := c.Now().Sub(start) - d; late < 0 || late > time.Second {
				t.Errorf("%s: %s late", d, late)
			}
		})
	}
	all.Wait()
}

func TestLeapingEndsWithTheContext(t *testing.T) {
	c := clock.NewLeaping(t.Context(), time.Unix(0, 0), 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Sleep(ctx, time.Hour); err == nil {
		t.Error("slept under a context that had ended")
	}
	if err := c.Sleep(t.Context(), -time.Second); err != nil {
		t.Error(err)
	}
	if err := c.Sleep(t.Context(), time.Second); err != nil { // the one that was given up is in nobody's way
		t.Error(err)
	}
}
