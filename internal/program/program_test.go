package program_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/program"
)

// TestMain lets the test binary be the program that is run.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "program" {
		switch os.Args[2] {
		case "fail":
			os.Exit(3)
		case "hang":
			_ = clock.System().Sleep(context.Background(), time.Hour)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func run(ctx context.Context, what string, timeout time.Duration) error {
	var out strings.Builder
	return program.Command{Run: []string{os.Args[0], "program", what}, Out: &out, Err: &out, Timeout: timeout, Clock: clock.System()}.Execute(ctx)
}

func TestHowAProgramEnds(t *testing.T) {
	if err := run(t.Context(), "end", time.Minute); err != nil {
		t.Errorf("well: %v", err)
	}
	if exit, ok := errors.AsType[*exec.ExitError](run(t.Context(), "fail", time.Minute)); !ok || exit.ExitCode() != 3 {
		t.Errorf("with 3: %v", exit)
	}
	if err := run(t.Context(), "hang", 100*time.Millisecond); !errors.Is(err, program.ErrTimeout) {
		t.Errorf("too late: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, "hang", time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestTheEnvironmentHoldsNoSecret(t *testing.T) {
	all := func(name string) (string, bool) { return "of " + name, true }
	env := program.Environment(all)
	if !slices.Contains(env, "PATH=of PATH") {
		t.Errorf("%q: a program is not found without PATH", env)
	}
	for _, entry := range env {
		if strings.HasPrefix(entry, "AWS_") || strings.HasPrefix(entry, "IMDSCTL_") || strings.HasPrefix(entry, "PG") {
			t.Errorf("it holds %s", entry)
		}
	}
}
