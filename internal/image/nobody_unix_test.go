//go:build unix

package image_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// TestAsNobody runs the tests that unpack and remove once more as somebody whom modes forbid things: root is forbidden nothing.
func TestAsNobody(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the others ran as no root already")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" {
		program = "/proc/self/exe" // the folder of the test's program may be closed to others
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "image-as-nobody")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run", "^(TestUnpack.*|TestRemove|FuzzUnpack|FuzzArchive)$", "-test.v")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("as user %d: %v\n%s", nobody, err, out)
	}
}

// owner is whose a file is.
func owner(t testing.TB, path string) (uid, gid int) {
	t.Helper()
	var s syscall.Stat_t
	if err := syscall.Lstat(path, &s); err != nil {
		t.Fatal(err)
	}
	return int(s.Uid), int(s.Gid)
}

// links is how many names a file has.
func links(info fs.FileInfo) string { return fmt.Sprint(info.Sys().(*syscall.Stat_t).Nlink) }
