package followup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"unicode"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/program"
)

// Request is what a program gets on its standard input, as JSON.
type Request struct {
	FollowUp  string          `json:"follow_up"` // its name in the configuration
	Instance  string          `json:"instance"`
	Account   fleet.AccountID `json:"account"`
	Region    fleet.Region    `json:"region"`
	Partition fleet.Partition `json:"partition"`
	// Marker is the same whenever this attempt is repeated after a crash.
	Marker string `json:"marker"`
}

// runProgram runs the program to its end, without a shell. It is killed, with all it started, when its timeout passes
// on the driver's clock or ctx ends.
func (d *driver) runProgram(ctx context.Context, t Task, w kind.Write) (kind.Result, error) {
	in, err := json.Marshal(Request{
		FollowUp: t.Name, Instance: t.Instance, Account: d.place.Account, Region: d.place.Region,
		Partition: d.place.Partition, Marker: w.Marker,
	})
	if err != nil {
		return kind.Result{}, fmt.Errorf("describe follow-up %s: %w", w.ID, err)
	}
	output := &tail{}
	err = program.Command{Run: t.Run, Env: d.runner.env, Stdin: in, Out: output, Err: output, Timeout: t.Timeout, Clock: d.clock}.Execute(ctx)
	if err == nil {
		d.runner.succeeded(d.ref(w.ID), w.Marker)
		return kind.Result{Outputs: map[string]string{OutputExit: "0"}}, nil
	}
	return kind.Result{}, d.programError(ctx, t, w, err, output.last())
}

// programError says how a program failed. One that was interrupted may or may not have had its effect.
func (d *driver) programError(ctx context.Context, t Task, w kind.Write, err error, last string) error {
	action := actionOf(w.Verb)
	if last != "" {
		last = ": " + last
	}
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case errors.Is(err, program.ErrTimeout):
		return kind.Errorf(fleet.ErrOther, d.place, action, "%s for instance %s did not end within %s and was killed%s",
			t.Run[0], t.Instance, t.Timeout, last)
	case ctx.Err() != nil:
		return kind.Errorf(fleet.ErrTransient, d.place, action, "%s for instance %s was interrupted: %w",
			t.Run[0], t.Instance, ctx.Err())
	case ended:
		return kind.Errorf(fleet.ErrOther, d.place, action, "%s for instance %s failed, %s%s",
			t.Run[0], t.Instance, exit.ProcessState, last)
	default:
		return kind.Errorf(fleet.ErrInvalid, d.place, action, "%s for instance %s could not be run: %w",
			t.Run[0], t.Instance, err)
	}
}

// tail keeps the end of what a program says.
type tail struct{ kept []byte }

const tailSize = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.kept = append(t.kept, b...)
	if extra := len(t.kept) - tailSize; extra > 0 {
		t.kept = append(t.kept[:0], t.kept[extra:]...)
	}
	return len(b), nil
}

// last is the last line that says something, fit for a message: at most 200 characters, none of them a control.
func (t *tail) last() string {
	lines := strings.Split(strings.TrimSpace(string(t.kept)), "\n")
	clean := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, lines[len(lines)-1])
	if runes := []rune(clean); len(runes) > 200 {
		clean = string(runes[:200]) + "…"
	}
	return strings.TrimSpace(clean)
}
