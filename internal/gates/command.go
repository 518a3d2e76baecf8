package gates

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/plan"
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

// drain is how long a program's children may hold its output open after it has ended.
const drain = 2 * time.Second

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
	bounded, stop := within(ctx, r.opt.Clock, timeoutOf(g))
	defer stop()
	cmd := exec.CommandContext(bounded, g.Run[0], g.Run[1:]...)
	var out, complaint head
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(told), &out, &complaint
	cmd.Env, cmd.WaitDelay = r.environment(q, g), drain
	ownGroup(cmd)
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) && bounded.Err() == nil { // it ended well, and left a child behind
		endGroup(cmd)
		err = nil
	}
	if said = oneLine(out.text); said == "" {
		said = oneLine(complaint.text)
	}
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		return said, 0, nil
	case ctx.Err() != nil:
		return "", 0, ctx.Err()
	case errors.Is(context.Cause(bounded), errTimeout):
		return "", 0, fmt.Errorf("%s did not end within %s and was killed", g.Run[0], timeoutOf(g))
	case ended && exit.ExitCode() > 0:
		return said, exit.ExitCode(), nil
	default:
		return "", 0, fmt.Errorf("run %s: %w", g.Run[0], err)
	}
}

// inherited are the variables a program may take over from imdsctl. None of them is a secret: AWS's, and the keys of
// webhooks, stay here. The second line is what programs of Windows need to start.
var inherited = [...]string{
	"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR",
	"SYSTEMROOT", "SYSTEMDRIVE", "PATHEXT", "COMSPEC", "TEMP", "TMP", "USERPROFILE",
}

func (r *Reader) environment(q engine.GateQuery, g plan.Gate) []string {
	env := []string{
		"IMDSCTL_GATE=" + g.Name, "IMDSCTL_STACK=" + q.Stack, "IMDSCTL_MOMENT=" + string(q.Moment),
		"IMDSCTL_ACCOUNT=" + string(q.Place.Account), "IMDSCTL_REGION=" + string(q.Place.Region),
	}
	for _, name := range inherited {
		if value, ok := r.opt.Env(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// head keeps the beginning of what is written to it, and takes the rest.
type head struct{ text []byte }

const mostOutput = 4096

func (h *head) Write(b []byte) (int, error) {
	h.text = append(h.text, b[:min(len(b), mostOutput-len(h.text))]...)
	return len(b), nil
}
