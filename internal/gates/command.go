package gates

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/program"
)

// command runs a program of this machine: it passes by ending with 0. The first line it prints is what people see.
func (r *Reader) command(ctx context.Context, x *examination, g plan.Gate) error {
	said, code, err := r.execute(ctx, x.q, g)
	if err != nil {
		return err
	}
	value := fmt.Sprintf("exit %d", code)
	if said != "" {
		value += ": " + said
	}
	x.whole(nameOf(g), code == 0, value, fmt.Sprintf("the command of gate %q ended with %s", g.Name, value))
	return nil
}

// execute runs the program to its end and gives the first line it printed. It is an error if that did not start, took
// too long, or was ended by a signal.
func (r *Reader) execute(ctx context.Context, q engine.GateQuery, g plan.Gate) (said string, code int, err error) {
	if len(g.Run) == 0 || g.Run[0] == "" {
		return "", 0, errors.New("it names no program")
	}
	told, err := ask(q, g)
	if err != nil {
		return "", 0, fmt.Errorf("write the query: %w", err)
	}
	var out, complaint head
	err = program.Command{Run: g.Run, Env: r.environment(q, g), Stdin: told, Out: &out, Err: &complaint, Timeout: timeoutOf(g),
		Clock: r.opt.Clock}.Execute(ctx)
	if said = oneLine(out.text); said == "" {
		said = oneLine(complaint.text)
	}
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return said, 0, nil
	case ctx.Err() != nil:
		return "", 0, ctx.Err()
	case errors.Is(err, program.ErrTimeout):
		return "", 0, fmt.Errorf("%s did not end within %s and was killed", g.Run[0], timeoutOf(g))
	case ended && exit.ExitCode() > 0:
		return said, exit.ExitCode(), nil
	default:
		return "", 0, fmt.Errorf("run %s: %w", g.Run[0], err)
	}
}

// environment is what a program may know: no secret is among it.
func (r *Reader) environment(q engine.GateQuery, g plan.Gate) []string {
	return append(program.Environment(r.opt.Env),
		"IMDSCTL_GATE="+g.Name, "IMDSCTL_STACK="+q.Stack, "IMDSCTL_MOMENT="+string(q.Moment),
		"IMDSCTL_ACCOUNT="+string(q.Place.Account), "IMDSCTL_REGION="+string(q.Place.Region))
}

// head keeps the beginning of what is written to it, and takes the rest.
type head struct{ text []byte }

const mostOutput = 4096

func (h *head) Write(b []byte) (int, error) {
	h.text = append(h.text, b[:min(len(b), mostOutput-len(h.text))]...)
	return len(b), nil
}
