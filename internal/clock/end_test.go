package clock

import (
	"testing"
	"time"
)

func TestTheEarliestEndHolds(t *testing.T) {
	start := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	if _, ok := End(t.Context()); ok {
		t.Error("an end that nobody set")
	}
	lease := start.Add(time.Minute)
	ctx := WithMovingEnd(t.Context(), func() time.Time { return lease })
	call := WithEnd(ctx, start.Add(2*time.Minute))
	if end, _ := End(call); !end.Equal(lease) {
		t.Errorf("end %s, want the lease's", end)
	}
	lease = start.Add(time.Hour) // it was renewed
	if end, _ := End(call); !end.Equal(start.Add(2 * time.Minute)) {
		t.Errorf("end %s, want the call's", end)
	}
}
