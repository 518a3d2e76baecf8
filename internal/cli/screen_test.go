package cli

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

// A table never breaks a line, is never wider than its screen while its flexible columns can give way, and keeps its
// rows.
func TestTableFitsItsScreen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cell := rapid.StringMatching(`[a-zé→]{0,60}`)
		rows := rapid.SliceOfN(rapid.SliceOfN(cell, 3, 3), 1, 8).Draw(t, "rows")
		s := &screen{width: rapid.IntRange(60, 160).Draw(t, "width"), colour: rapid.Bool().Draw(t, "colour")}
		for _, r := range rows {
			r[0] = s.paint(red, r[0][:min(len(r[0]), 10)])
		}
		got := s.table([]column{{title: "A"}, {title: "B", flexible: true}, {title: "C", right: true, flexible: true}}, rows)
		lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
		if len(lines) != len(rows)+1 {
			t.Fatalf("%d lines for %d rows:\n%s", len(lines), len(rows), got)
		}
		for _, l := range lines {
			if n := text.StringWidthWithoutEscSequences(l); n > s.width {
				t.Fatalf("%d columns on a screen of %d: %q", n, s.width, l)
			}
		}
	})
}

// TestStrangersTextIsShownAsItIs: whatever a name holds, a table has one line a row, and nothing in it moves the cursor or turns the
// text around; what paint wraps stays painted.
func TestStrangersTextIsShownAsItIs(t *testing.T) {
	name := "web\nready\ti-1\r\u009b2J\x1b[2J\x1b]0;t\a\u202eevil\xff"
	for _, colour := range []bool{false, true} {
		s := &screen{colour: colour, width: 400}
		table := s.table([]column{{title: "NAME"}, {title: "STATUS"}}, [][]string{{name, s.paint(red, "blocked")}, {s.paint(bold, name), "x"}})
		for _, shown := range []string{table, s.wrap("  "+name, ""), s.labelled("  name ", name), oneLine(name), s.paint(dim, visible(name))} {
			rest := sgr.ReplaceAllString(strings.TrimSuffix(shown, "\n"), "")
			if at := strings.IndexFunc(rest, func(r rune) bool { return !strconv.IsPrint(r) && r != '\n' }); at >= 0 {
				t.Errorf("colour %v: %q shows %q", colour, shown, rest[at:])
			}
		}
		if n := strings.Count(table, "\n"); n != 3 {
			t.Errorf("colour %v: %d lines for two rows and a head:\n%s", colour, n, table)
		}
		if colour != strings.Contains(table, "\x1b[31mblocked\x1b[0m") {
			t.Errorf("colour %v: what was painted is %q", colour, table)
		}
	}
	if got, want := visible("Größe ✓ 日本"), "Größe ✓ 日本"; got != want {
		t.Errorf("%q is shown as %q", want, got)
	}
}

// Wrapped words are all there, in order, and no line is too long unless a single word is.
func TestWrapKeepsEveryWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[a-z→]{1,20}`), 1, 60).Draw(t, "words")
		s := &screen{width: rapid.IntRange(40, 120).Draw(t, "width")}
		got := s.labelled("  label ", strings.Join(words, " "))
		if strings.Join(strings.Fields(got), " ") != "label "+strings.Join(words, " ") {
			t.Fatalf("words are lost: %q", got)
		}
		for line := range strings.SplitSeq(got, "\n") {
			if text.StringWidthWithoutEscSequences(line) > min(s.width, 100) {
				t.Fatalf("too long for %d: %q", s.width, line)
			}
		}
	})
}

func TestColoursAreForTerminalsOnly(t *testing.T) {
	plain := newScreen(Env{Getenv: func(string) string { return "" }}, &bytes.Buffer{})
	if plain.colour || plain.terminal {
		t.Error("a buffer is taken for a terminal")
	}
	if got := plain.paint(red, "x"); got != "x" {
		t.Errorf("painted %q", got)
	}
	if got := (&screen{colour: true}).paint(red+bold, "x"); got != "\x1b[31;1mx\x1b[0m" {
		t.Errorf("painted %q", got)
	}
}

func TestBarTellsStartAndEnd(t *testing.T) {
	for _, c := range []struct {
		done, total int
		want        string
	}{{0, 0, "░░░░"}, {0, 10, "░░░░"}, {1, 1000, "█░░░"}, {999, 1000, "███░"}, {10, 10, "████"}, {5, 10, "██░░"}} {
		if got := bar(4, c.done, c.total); got != c.want {
			t.Errorf("%d of %d: %s, want %s", c.done, c.total, got, c.want)
		}
	}
}

func TestNumbersAndNouns(t *testing.T) {
	for got, want := range map[string]string{
		count(1234567): "1,234,567", count(-1234): "-1,234", count(999): "999", some(0): "·",
		plural(1, "stack"): "1 stack", plural(2, "account"): "2 accounts", plural(2, "entry"): "2 entries",
		brief(90 * time.Second): "1m30s", brief(26 * time.Hour): "26h00m", brief(50 * time.Hour): "2d2h", brief(-1): "0s",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func testPlan() *plan.Plan {
	place := fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}
	p := &plan.Plan{Digest: strings.Repeat("ab", 32),
		Header: plan.Header{Waves: []plan.Wave{{Name: "first"}, {Name: "second"}}}}
	for i := range 40 {
		id := "s-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		p.Stacks = append(p.Stacks, plan.Stack{ID: id, Name: "a-service-with-a-long-name-" + id, Wave: i % 2, Place: place,
			Steps: []plan.Step{
				{Name: "canary", Stage: plan.StageFleet, Changes: 1, Bake: time.Hour}, {Name: "fleet", Stage: plan.StageFleet,
					Changes: 1, Bake: time.Hour},
			}})
		for step := range 2 {
			p.Changes = append(p.Changes, plan.Change{ID: id + "-" + string(rune('0'+step)), Stack: id, Step: step,
				Ref: fleet.Ref{Place: place, Kind: "ec2-instance", ID: "i-" + id}})
		}
	}
	return p
}

func TestCourseCountsChangesOnce(t *testing.T) {
	p := testPlan()
	c := newCourse(p, func() time.Time { return time.Time{} })
	id, change := p.Stacks[3].ID, p.Stacks[3].ID+"-0"
	for _, phase := range []app.ChangePhase{app.ChangeOpen, app.ChangeApplied, app.ChangeVerified, app.ChangeVerified} {
		c.observe(app.Progress{Stack: id, Change: change, Phase: phase, Status: rollout.Running,
			State: rollout.Stack{Phase: rollout.StackApplying}})
	}
	if v := c.stacks[id]; v.made != 1 || v.undone != 0 {
		t.Errorf("made %d, put back %d; want 1 and 0", v.made, v.undone)
	}
	c.observe(app.Progress{Stack: id, Change: change, Phase: app.ChangeReverted, Status: rollout.Running,
		State: rollout.Stack{Phase: rollout.StackFailed}})
	if v := c.stacks[id]; v.made != 0 || v.undone != 1 {
		t.Errorf("made %d, put back %d; want 0 and 1", v.made, v.undone)
	}
	c.restore(&app.Record{Status: rollout.Paused, Stacks: map[string]rollout.Stack{id: {Phase: rollout.StackDone}},
		Changes: map[string]app.ChangeState{change: {ID: change, Phase: app.ChangeVerified}}})
	if v := c.stacks[id]; v.made != 1 || v.state.Phase != rollout.StackDone || c.status != rollout.Paused {
		t.Errorf("restored: %+v, %s", v.state, c.status)
	}
}

// Every way in which a command can end has its exit code, and a failure is never 0.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want int
		says string
	}{
		{"done", nil, ExitDone, ""},
		{"failed", context.DeadlineExceeded, ExitFailed, "error: "},
		{"misused", misuse("--x", "Do that.", "%s", "no"), ExitUsage, "error: --x: no\n  → Do that.\n"},
		{"attention", attention{"gaps"}, ExitAttention, ""},
		{"shown", shown{context.Canceled}, ExitFailed, ""},
		{"interrupted", context.Canceled, ExitFailed, "interrupted"},
		{"denied", &fleet.CallError{Class: fleet.ErrDenied, Action: "ec2:X", Err: context.Canceled}, ExitFailed,
			"imdsctl doctor"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			ctx, cancel := context.WithCancel(t.Context())
			if c.name == "interrupted" {
				cancel()
			}
			defer cancel()
			s := newSession(Env{Out: &out, Err: &out, Getenv: func(string) string { return "" }})
			if got := s.finish(ctx, c.err); got != c.want {
				t.Errorf("exit code %d, want %d", got, c.want)
			}
			if !strings.Contains(out.String(), c.says) || c.says == "" && out.Len() > 0 {
				t.Errorf("said %q, want %q", out.String(), c.says)
			}
		})
	}
	var out bytes.Buffer
	s := newSession(Env{Out: &out, Err: &out, Getenv: func(string) string { return "" }})
	s.diagnose(fleet.Diagnostic{Severity: fleet.SeverityWarning, Summary: "mind this"})
	if got := s.finish(t.Context(), nil); got != ExitAttention {
		t.Errorf("a warning ends with %d", got)
	}
}
