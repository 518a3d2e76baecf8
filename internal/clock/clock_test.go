package clock

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestScaledClockRunsFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		c, real := Scaled(start, 3600), time.Now()
		if err := c.Sleep(t.Context(), 2*time.Hour); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(real); got != 2*time.Second {
			t.Errorf("two hours took %s", got)
		}
		if got := c.Now(); !got.Equal(start.Add(2 * time.Hour)) {
			t.Errorf("now %s", got)
		}
	})
}

func TestSleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]Clock{"system": System(), "scaled": Scaled(time.Now(), 10)} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := c.Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
			if err := c.Sleep(ctx, -1); err == nil {
				t.Errorf("%s: no error from an ended context", name)
			}
		}
	})
}

func TestManualClockStandsStill(t *testing.T) {
	c := NewManual(time.Unix(0, 0))
	if !c.Now().Equal(c.Now()) {
		t.Error("it moved")
	}
	if err := c.Sleep(t.Context(), time.Hour); err != nil || !c.Now().Equal(time.Unix(3600, 0)) {
		t.Errorf("now %s, %v", c.Now(), err)
	}
	if c.Now().Location() != time.UTC {
		t.Error("not in UTC")
	}
}
