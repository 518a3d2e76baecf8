package lab_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/lab"
	"github.com/imdsctl/imdsctl/internal/procfs"
)

func isThis(p procfs.Parent) bool { return p.PID == os.Getpid() }

// runner runs a lab with a command that has a daemon, until it is killed.
func runner(args []string) int {
	o := lab.Options{Serve: idle, Stdout: os.Stdout, Stderr: os.Stderr}
	for _, a := range args {
		o.Routed = o.Routed || a == "routed"
		o.Outside = o.Outside || a == "outside"
	}
	_, err := lab.Run(context.Background(), o, self("daemon", "too"))
	fmt.Println("failed:", err)
	return 1
}

// TestKilled: when who runs a lab is killed, no process and no network namespace of the run is left.
func TestKilled(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		for _, stopped := range []bool{false, true, false} {
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "program", "runner", "routed")
			tree, spaces := kill(t, cmd, stopped)
			if len(tree) < 3 || len(spaces) < 3 {
				t.Errorf("there were %d processes in %d network namespaces: too few to prove something", len(tree), len(spaces))
			}
		}
	})
}

// kill starts a runner, kills it when its command is there, and waits until nothing of it is left. It gives what there was. The run's first
// process may be stopped before, so that it sees nothing.
func kill(t *testing.T, cmd *exec.Cmd, stopFirst bool) (tree []int, spaces map[string]bool) {
	t.Helper()
	out := waitFor("ready")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-out.said:
	case err := <-ended:
		if strings.Contains(out.text.String(), lab.ErrForbidden.Error()) {
			give(t, "%s", out.text.String())
		}
		t.Fatalf("%v: %s", err, out.text.String())
	}
	for _, pid := range procfs.Children(cmd.Process.Pid) {
		if pid != cmd.Process.Pid {
			tree = append(tree, pid)
		}
	}
	spaces = namespaces(t, tree)
	if len(tree) > 0 && stopFirst {
		if err := syscall.Kill(tree[0], syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	for eventually(t, func() bool { return len(alive(tree)) > 0 || held(t, spaces) }) {
	}
	return tree, spaces
}

// eventually waits a little where something is not yet as it should be, and tells so. The test's own time is the limit.
func eventually(t *testing.T, not func() bool) bool {
	t.Helper()
	if !not() {
		return false
	}
	if err := clock.System().Sleep(t.Context(), 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	return true
}

func alive(pids []int) (there []int) {
	for _, pid := range pids {
		if _, err := procfs.Read(pid); !errors.Is(err, procfs.ErrGone) {
			there = append(there, pid)
		}
	}
	return there
}

// namespaces are the network namespaces of processes and of all their threads, but for this one's own, and those that they hold open.
func namespaces(t *testing.T, pids []int) map[string]bool {
	t.Helper()
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, pid := range pids {
		for _, pattern := range []string{"/proc/%d/task/*/ns/net", "/proc/%d/fd/*"} {
			links, _ := filepath.Glob(fmt.Sprintf(pattern, pid))
			for _, l := range links {
				if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, "net:[") && to != own {
					all[to] = true
				}
			}
		}
	}
	return all
}

// held tells that somebody on this machine is in one of these namespaces, or holds it open.
func held(t *testing.T, spaces map[string]bool) bool {
	t.Helper()
	var everybody []int
	for pid := range procfs.All() {
		everybody = append(everybody, pid)
	}
	for ns := range namespaces(t, everybody) {
		if spaces[ns] {
			return true
		}
	}
	return false
}
