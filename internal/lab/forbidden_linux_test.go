package lab_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/imdsctl/imdsctl/internal/lab"
	"golang.org/x/sys/unix"
)

// asNobodyWhere runs a test as nobody in a process that root has prepared: in mount and user namespaces of its own, of which root there
// is the host's root and nobody the host's nobody.
func asNobodyWhere(t *testing.T, prepare func() error) {
	t.Helper()
	switch {
	case os.Getenv("LAB_PREPARED") == "1":
		if err := prepare(); err != nil {
			t.Fatal(err)
		}
		t.Setenv("LAB_PREPARED", "2")
		asNobody(t, t.Name())
	case os.Geteuid() != 0:
		give(t, "it takes root: run `go test ./internal/lab/` as root")
	default:
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run", "^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), "LAB_PREPARED=1")
		everybody := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1 << 16}}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: everybody, GidMappings: everybody, GidMappingsEnableSetgroups: true,
		}
		out, err := cmd.CombinedOutput()
		t.Logf("prepared:\n%s", out)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoUserNamespaces: where the system forbids them, the setting that does is named, and nothing runs.
func TestNoUserNamespaces(t *testing.T) {
	if os.Getenv("LAB_PREPARED") != "2" {
		asNobodyWhere(t, func() error { return os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0) })
		return
	}
	_, err := lab.Run(t.Context(), lab.Options{Serve: idle}, self("exit", "0"))
	if !errors.Is(err, lab.ErrForbidden) || !strings.Contains(err.Error(), "user.max_user_namespaces = 0") {
		t.Errorf("%v", err)
	}
}

// TestMaskedProc: where /proc may not be mounted anew, as in containers that hide parts of it, a command runs with the host's process
// ids in sight, and a note says so.
func TestMaskedProc(t *testing.T) {
	if os.Getenv("LAB_PREPARED") != "2" {
		asNobodyWhere(t, func() error { return unix.Mount("/dev/null", "/proc/cpuinfo", "", unix.MS_BIND, "") })
		return
	}
	peers := &lab.Peers{}
	s, seen := service(t, 1, peers)
	result, out, err := try(t, lab.Options{Serve: s.Serve, Peers: peers, Routed: true}, self("token", over6)...)
	if err != nil || out != "timed out" || len(seen.seen) != 1 || !seen.seen[0].known {
		t.Errorf("%+v %v %s: %+v", result, err, out, seen.seen)
	}
	if len(result.Notes) != 1 || !strings.Contains(result.Notes[0], "/proc") {
		t.Errorf("it is not told: %q", result.Notes)
	}
}

// TestOutsideTakesRoot: others are told so before anything is done.
func TestOutsideTakesRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		asNobody(t, t.Name())
		return
	}
	_, err := lab.Run(t.Context(), lab.Options{Serve: idle, Outside: true}, self("exit", "0"))
	if !errors.Is(err, lab.ErrForbidden) || !strings.Contains(err.Error(), "root") {
		t.Errorf("%v", err)
	}
}
