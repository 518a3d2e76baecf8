// Package program runs a program that the configuration names, for gates and follow-ups.
//
// It owns what makes that safe: no shell reads the arguments, the environment is a short list without a secret, and a program
// whose time is over is killed with all it started. What a program is told, and what its answer means, is its caller's.
package program

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
)

// ErrTimeout: the program did not end in its time, and was killed.
var ErrTimeout = errors.New("the program took too long")

// drain is how long, in real time, the children of a program may hold its output open after it has ended.
const drain = 2 * time.Second

// Command is a program with all it gets.
type Command struct {
	Run   []string // the program and its arguments; never empty
	Env   []string // the whole environment: "NAME=value"
	Stdin []byte
	// Out and Err take what it prints.
	Out, Err io.Writer
	// Timeout passes on Clock.
	Timeout time.Duration
	Clock   clock.Clock
}

// Execute runs the program to its end. An error is ErrTimeout, ctx's where that ended first, an *exec.ExitError of a program
// that ended otherwise than with 0, or says why it could not be run. Children that a program leaves behind are killed.
func (c Command) Execute(ctx context.Context) error {
	bounded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		if c.Clock.Sleep(bounded, c.Timeout) == nil {
			cancel(ErrTimeout)
		}
	}()
	cmd := exec.CommandContext(bounded, c.Run[0], c.Run[1:]...) //nolint:gosec // the approved plan names it
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = bytes.NewReader(c.Stdin), c.Out, c.Err, drain
	cmd.Env = append([]string{}, c.Env...) // nil would be this process's own
	ownGroup(cmd)
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(context.Cause(bounded), ErrTimeout):
		return ErrTimeout
	case errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success(): // it ended well, and left a child behind
		endGroup(cmd)
		return nil
	}
	return err
}

// inherited are the variables a program may take over from imdsctl. None of them is a secret: AWS's, and the keys of
// webhooks, stay here. The second line is what programs of Windows need to start.
var inherited = [...]string{
	"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR",
	"SYSTEMROOT", "SYSTEMDRIVE", "PATHEXT", "COMSPEC", "TEMP", "TMP", "USERPROFILE",
}

// Environment is what a program needs in order to be found and to write its files, as lookup (os.LookupEnv) has it.
func Environment(lookup func(name string) (string, bool)) []string {
	var env []string
	for _, name := range inherited {
		if value, ok := lookup(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}
