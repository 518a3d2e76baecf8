//go:build unix

package followup_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/followup"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/program"
)

// local makes a site whose programs are timed by c.
func local(env []string, c clock.Clock) *site {
	return &site{Driver: followup.NewRunner(env).Open(aws.Config{Region: string(here.Region)}, here, c)}
}

// script is the follow-up of running a shell script, with arguments.
func script(text string, args ...string) kind.Write {
	run, err := json.Marshal(append([]string{"/bin/sh", "-c", text, "sh"}, args...))
	if err != nil {
		panic(err)
	}
	return write(plan.ActionCommand, map[string]string{"command": string(run)})
}

func TestAProgramRuns(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "never to be seen")
	of := map[string]string{"PATH": os.Getenv("PATH"), "HOME": "/home/me", "AWS_SECRET_ACCESS_KEY": "x", "DATABASE_URL": "y"}
	env := program.Environment(func(name string) (string, bool) { value, ok := of[name]; return value, ok })
	s := local(env, clock.System())
	w := script(`cat > "$1"; echo >> "$1"; env >> "$1"; printf '%s\n' "$2" >> "$1"`, out, "$(reboot); 'it'")
	w.Place = here
	if got := s.statusFor(t, w); got != "" {
		t.Errorf("before: %q", got)
	}
	res, err := s.Write(t.Context(), w)
	if err != nil || res.Outputs[followup.OutputExit] != "0" {
		t.Fatalf("%+v, %v", res, err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(string(b), "\n")
	var got followup.Request
	if err := json.Unmarshal([]byte(first), &got); err != nil || got != (followup.Request{
		FollowUp: "restart shop", Instance: instance, Account: here.Account, Region: here.Region, Partition: here.Partition,
		Marker: w.Marker,
	}) {
		t.Errorf("it was told %s (%v)", first, err)
	}
	for _, secret := range []string{"AWS_", "DATABASE_URL", "never to be seen"} {
		if strings.Contains(rest, secret) {
			t.Errorf("its environment has %s:\n%s", secret, rest)
		}
	}
	if !strings.Contains(rest, "HOME=/home/me\n") || !strings.Contains(rest, "$(reboot); 'it'\n") {
		t.Errorf("its environment and argument are\n%s", rest)
	}
	if byID, known := s.status(t, w), s.statusFor(t, w); byID != "done" || known != "done" {
		t.Errorf("afterwards: %q and %q", byID, known)
	}
	if found, err := s.Find(t.Context(), w); err != nil || found.Outputs[followup.OutputExit] != "0" {
		t.Errorf("%+v, %v", found, err)
	}
}

// Another process knows what the journal has, and nothing else.
func TestAProgramInAnotherProcess(t *testing.T) {
	w := script("exit 0")
	if _, err := local(nil, clock.System()).Write(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	later := local(nil, clock.System())
	if _, err := later.Find(t.Context(), w); !errors.Is(err, kind.ErrNotFound) {
		t.Errorf("found: %v", err)
	}
	if got := later.statusFor(t, w); got != "" {
		t.Errorf("without the journal: %q", got)
	}
	w.Made = map[string]string{followup.OutputExit: "0"}
	if got := later.statusFor(t, w); got != "done" {
		t.Errorf("with the journal: %q", got)
	}
}

func TestAProgramFails(t *testing.T) {
	missing := write(plan.ActionCommand, map[string]string{"command": `["/none/such"]`})
	forever := script("exec sleep 600")
	forever.Params["timeout"] = "5m"
	stopped, stop := context.WithCancel(t.Context())
	stop()
	tests := []struct {
		name  string
		ctx   context.Context
		write kind.Write
		clock clock.Clock
		class fleet.ErrorClass
		says  string
	}{
		{"exit status", t.Context(), script("echo first; printf 'no such \\033[31mservice\\n' >&2; exit 4"),
			clock.System(), fleet.ErrOther, "failed, exit status 4: no such [31mservice"},
		{"killed", t.Context(), script("kill -9 $$"), clock.System(), fleet.ErrOther, "signal: killed"},
		{"not there", t.Context(), missing, clock.System(), fleet.ErrInvalid, "could not be run"},
		{"too long", t.Context(), forever, clock.NewManual(start), fleet.ErrOther, "did not end within 5m0s and was killed"},
		{"interrupted", stopped, forever, clock.System(), fleet.ErrTransient, "interrupted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := local(nil, tt.clock)
			_, err := s.Write(tt.ctx, tt.write)
			if fleet.ClassOf(err) != tt.class || err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v, want %s: %s", fleet.ClassOf(err), err, tt.class, tt.says)
			}
			if got := s.statusFor(t, tt.write); got != "" {
				t.Errorf("it reads as %q", got)
			}
		})
	}
}

// held is a clock on which the timeout passes when the test says so.
type held struct {
	clock.Clock
	due chan struct{}
}

func (h held) Sleep(ctx context.Context, _ time.Duration) error {
	select {
	case <-h.due:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// What a program started dies with it: all of them hold the pipe, which ends when the last of them does.
func TestAProgramIsKilledWithItsChildren(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	h := held{clock.System(), make(chan struct{})}
	s := local([]string{"PATH=" + os.Getenv("PATH")}, h)
	ended := make(chan error, 1)
	go func() {
		_, err := s.Write(t.Context(), script(`exec 3> "$1"; sleep 600 & echo ready >&3; wait`, pipe))
		ended <- err
	}()
	f, err := os.Open(pipe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	if line, err := r.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	close(h.due)
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("%v", err)
	}
}

// A service that a program leaves running, and that keeps its output open, does not hold the follow-up up.
func TestAProgramMayLeaveAServiceBehind(t *testing.T) {
	s := local([]string{"PATH=" + os.Getenv("PATH")}, clock.System())
	pids := filepath.Join(t.TempDir(), "pid")
	res, err := s.Write(t.Context(), script(`sleep 600 & echo $! > "$1"`, pids))
	if err != nil || res.Outputs[followup.OutputExit] != "0" {
		t.Errorf("%+v, %v", res, err)
	}
	b, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if err := json.Unmarshal(b, &pid); err != nil || pid < 2 {
		t.Fatalf("%q, %v", b, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("the service was not left running: %v", err)
	}
}
