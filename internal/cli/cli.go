// Package cli is the command line of imdsctl: one file a command, each an options struct that flags fill in and a
// function that runs.
//
// It owns words, tables, colours, progress and exit codes, and decides nothing: every command asks package app and
// shows the answer. Results go to standard output and everything else to standard error; progress is shown on
// terminals only. Problems travel here as errors and diagnostics and are printed once, in Run. An interrupted command
// leaves what app leaves, which is always something that the next command can go on from.
package cli

import (
	"context"
	"io"
	"os"

	"github.com/imdsctl/imdsctl/internal/app"
)

// Exit codes.
const (
	// ExitDone: everything asked for was done.
	ExitDone = 0
	// ExitFailed: it was not.
	ExitFailed = 1
	// ExitUsage: the command line or the configuration is wrong, and nothing was done.
	ExitUsage = 2
	// ExitAttention: finished, but something needs a person: gaps, conflicts, failed stacks, findings over a threshold.
	ExitAttention = 3
)

// Env is what a command gets from outside.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	// Getenv reads an environment variable; nil is os.Getenv.
	Getenv func(string) string
	// Width is the width of the screen in columns: 0 asks the terminal.
	Width int
	// Base is what every App is made with; flags are laid over it. The demo and tests put their clock and their AWS here.
	Base app.Options
}

// Inside must be called before all else in main: where this process was started as the first one of a lab, for `imdsctl certify`, it
// plays its part and does not return.
func Inside() { app.Inside() }

// Main runs one command of the real imdsctl and returns its exit code.
func Main(ctx context.Context, args []string, in io.Reader, out, err io.Writer) int {
	return Run(ctx, Env{In: in, Out: out, Err: err}, args)
}

// Run runs one command in an environment and returns its exit code. It prints whatever went wrong.
func Run(ctx context.Context, env Env, args []string) int {
	if env.Getenv == nil {
		env.Getenv = os.Getenv
	}
	s := newSession(env)
	root := newRoot(s)
	root.SetArgs(args)
	root.SetIn(env.In)
	root.SetOut(s.env.Out)
	root.SetErr(env.Err)
	stop := context.AfterFunc(ctx, s.stopping)
	defer stop()
	err := root.ExecuteContext(ctx)
	return s.finish(ctx, err)
}
