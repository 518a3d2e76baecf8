package clock

import (
	"testing"
	"time"
)

// A process that was stopped, or got no time of its machine, was not watched meanwhile: nobody in it could have shown that they work.
func TestStoppedIsNotIdle(t *testing.T) {
	now := time.Unix(0, 0)
	idle := idleness{looked: now}
	for range 40 {
		now = now.Add(time.Millisecond)
		if idle.look(0, now) {
			t.Error("there was no sign of work")
		}
	}
	if idle.long != 40*time.Millisecond {
		t.Errorf("idle for %s, watched for 40ms", idle.long)
	}
	now = now.Add(time.Hour)
	idle.look(0, now)
	if idle.long > still(0) {
		t.Errorf("idle for %s, after an hour in which it was stopped", idle.long)
	}
	if !idle.look(1, now.Add(time.Millisecond)) || idle.long != 0 {
		t.Errorf("idle for %s after a sign of work", idle.long)
	}
}
