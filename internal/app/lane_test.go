package app

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/engine/enginetest"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// A scan waits for the lane that a rollout holds, lets it know, keeps the lane while it reads, and gives it back.
func TestAScanWaitsForItsLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		place := fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}
		j := enginetest.NewJournal()
		j.Shared = true
		key := engine.LaneKey(place)
		theirs, err := j.Acquire(t.Context(), key, "worker/1", time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		var drained []fleet.Place
		h := &laneHolder{journal: j, clock: clock.System(), log: slog.New(slog.DiscardHandler), ttl: time.Minute,
			drain: func(p fleet.Place) { drained = append(drained, p) }}
		held := make(chan func())
		go func() {
			release, err := h.hold(t.Context(), place)
			if err != nil {
				t.Error(err)
			}
			held <- release
		}()
		time.Sleep(10 * time.Second)
		if wanted, err := j.Release(t.Context(), theirs, time.Now()); err != nil || !wanted {
			t.Errorf("the worker was not told that somebody waits: %v, %v", wanted, err)
		}
		release := <-held
		if len(drained) != 1 || drained[0] != place {
			t.Errorf("drained %v", drained)
		}
		time.Sleep(10 * time.Minute) // far longer than a lease lasts that is not renewed
		if _, err := j.Acquire(t.Context(), key, "worker/1", time.Now(), time.Hour); err == nil {
			t.Error("the lane was taken from under the scan")
		}
		release()
		if _, err := j.Acquire(t.Context(), key, "worker/1", time.Now(), time.Hour); err != nil {
			t.Errorf("the lane was not given back: %v", err)
		}
	})
}
