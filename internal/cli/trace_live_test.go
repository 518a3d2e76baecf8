package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/imdsctl/imdsctl/internal/tracer"
)

// TestThePictureOfATrace: callers to fix first, the latest calls last, no wider and no higher than the screen, and nothing that a caller
// wrote is obeyed by the terminal.
func TestThePictureOfATrace(t *testing.T) {
	noon := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	now := noon.Add(90 * time.Second)
	l := &liveTrace{screen: &screen{terminal: true, colour: true}, ctx: t.Context(), length: time.Hour, now: func() time.Time { return now },
		tally: tracer.NewTally()}
	if got := l.picture(80, 24); len(got) != 1 {
		t.Errorf("before it begins: %q", got)
	}
	l.begun(tracer.Header{Trace: "T", Part: 1, Host: "web-1", Tier: tracer.TierNoProbe, Started: noon, Notices: []string{"no BTF"}})
	if got := strings.Join(l.picture(80, 24), "\n"); !strings.Contains(got, "No call yet.") || !strings.Contains(got, "no v1 call") || !strings.Contains(got, "no BTF") {
		t.Errorf("before a call: %q", got)
	}
	for i := range 100 {
		v := tracer.V2
		if i%20 == 19 {
			v = tracer.V1
		}
		l.seen(tracer.Line{Call: &tracer.Call{Time: noon.Add(time.Duration(i) * time.Second), Version: v, Method: "GET", Path: "/\x1b[2Jpath/é",
			Process: tracer.Process{PID: 100 + i, Exe: fmt.Sprintf("/opt/\x1b]0;x\a%d-%s", i%40, strings.Repeat("long", 30))}}})
	}
	l.seen(tracer.Line{Loss: &tracer.Loss{Events: 12, Why: "the buffer was full"}})
	for _, size := range [][2]int{{40, 10}, {80, 24}, {200, 60}} {
		lines := l.picture(size[0], size[1])
		all := strings.Join(lines, "\n")
		if len(lines) > size[1] {
			t.Errorf("%v: %d lines", size, len(lines))
		}
		if strings.Contains(all, "\x1b[2J") || strings.Contains(all, "\x1b]") || strings.ContainsRune(all, '\a') {
			t.Errorf("%v: it obeys: %q", size, all)
		}
		plain := text.StripEscape(all)
		for _, want := range []string{"Tracing web-1, tier no-probe, 1m30s of 1h0m0s", "5 v1 calls, 95 of v2, 12 lost"} {
			if !strings.Contains(plain, want) {
				t.Errorf("%v: it does not say %q:\n%s", size, want, plain)
			}
		}
		first := strings.Split(plain, "\n")[5]
		if !strings.HasPrefix(strings.TrimSpace(first), "3 ") {
			t.Errorf("%v: the first caller is %q", size, first)
		}
		if last := strings.Split(plain, "\n")[len(lines)-1]; !strings.Contains(last, "v1  ") {
			t.Errorf("%v: the last call is %q", size, last)
		}
	}
}
