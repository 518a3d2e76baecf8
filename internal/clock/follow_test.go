package clock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
)

// teller tells a time that is ahead of a clock, and takes its time for it: a part of it before it looks at the clock.
type teller struct {
	*clock.Manual
	ahead         time.Duration
	before, after []time.Duration // by answer; the last for all further ones
	asked         int
}

func (a *teller) ask(context.Context) (time.Time, error) {
	n := min(a.asked, len(a.before)-1)
	a.asked++
	a.Advance(a.before[n])
	told := a.Now().Add(a.ahead)
	a.Advance(a.after[n])
	return told, nil
}

func durations(d ...time.Duration) []time.Duration { return d }

func TestFollowerTakesTheQuickestAnswer(t *testing.T) {
	base := clock.NewManual(time.Unix(0, 0))
	f := clock.NewFollower(base)
	a := &teller{Manual: base, ahead: time.Minute, before: durations(17*time.Second, 200*time.Millisecond, 20*time.Millisecond),
		after: durations(0, 0, 20*time.Millisecond)}
	if got, err := f.Set(t.Context(), a.ask); err != nil || got != time.Minute || a.asked != 3 {
		t.Errorf("%s ahead after %d answers, %v", got, a.asked, err)
	}
	if got := f.Now().Sub(base.Now()); got != time.Minute {
		t.Errorf("it shows a time %s ahead", got)
	}
}

func TestFollowerIsNotMovedBySlowAnswers(t *testing.T) {
	base := clock.NewManual(time.Unix(0, 0))
	f := clock.NewFollower(base)
	slow := &teller{Manual: base, before: durations(17 * time.Second), after: durations(0)}
	if _, err := f.Set(t.Context(), slow.ask); err == nil {
		t.Error("a clock was set by answers that took 17 seconds")
	}
	quick := &teller{Manual: base, ahead: time.Minute, before: durations(0), after: durations(0)}
	for name, a := range map[string]*teller{
		"quick": quick, "slow": slow,
		"no better than what is known": {Manual: base, ahead: time.Minute, before: durations(900 * time.Millisecond), after: durations(0)},
	} {
		if _, err := f.Set(t.Context(), quick.ask); err != nil {
			t.Fatal(err)
		}
		if got, err := f.Set(t.Context(), a.ask); err != nil || got != time.Minute || f.Now().Sub(base.Now()) != time.Minute {
			t.Errorf("%s: %s ahead, shows %s, %v", name, got, f.Now().Sub(base.Now()), err)
		}
	}
	quick.ahead = 2 * time.Minute
	if got, err := f.Set(t.Context(), quick.ask); err != nil || got != 2*time.Minute {
		t.Errorf("a time that has changed: %s ahead, %v", got, err)
	}
}

func TestFollowerWithoutAnAnswer(t *testing.T) {
	base := clock.NewManual(time.Unix(0, 0))
	f := clock.NewFollower(base)
	failure := errors.New("no answer")
	if _, err := f.Set(t.Context(), func(context.Context) (time.Time, error) { return time.Time{}, failure }); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	if !f.Now().Equal(base.Now()) {
		t.Error("it shows another time than its base")
	}
}
