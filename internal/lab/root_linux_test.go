package lab_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/imdsctl/imdsctl/internal/lab"
)

// probe is the program of testdata/probe, linked so that it needs no other file. Who has no compiler is told where it is.
func probe(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("LAB_PROBE"); path != "" {
		return path
	}
	path := filepath.Join(t.TempDir(), "probe")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// readable puts a copy of a file where everybody can read it.
func readable(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	to := filepath.Join(dir, filepath.Base(path))
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

// found is what the probe tells.
type found struct {
	UID, GID, PID, Processes     int
	Groups                       []int
	Dir, Token, Rights           string
	Env, Forbidden, Broken, Root []string
}

// TestRootFS runs a program in a file system of its own: it finds what programs count on, its user and its folder, the service, and no
// way to the host.
func TestRootFS(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Setenv("LAB_PROBE", readable(t, probe(t)))
	}
	asBoth(t, func(t *testing.T) {
		program := probe(t)
		dir := filesystem(t, program)
		for _, c := range []struct {
			root lab.RootFS
			dir  string
			want found
		}{
			{lab.RootFS{Dir: dir}, "", found{Dir: "/", Rights: "00000000a00425fb"}},
			{lab.RootFS{Dir: dir, UID: 1000, GID: 100, Groups: []int{100, 4}}, "made/anew",
				found{UID: 1000, GID: 100, Groups: []int{100, 4}, Dir: "/made/anew", Rights: "0000000000000000"}},
		} {
			if os.Geteuid() != 0 {
				c.want.UID, c.want.GID, c.want.Groups, c.want.Rights = 0, 0, nil, "00000000a00425fb"
			}
			s, _ := service(t, 1, &lab.Peers{})
			result, out, err := try(t, lab.Options{Root: &c.root, Dir: c.dir, Serve: s.Serve, Env: []string{"PATH=/bin", "A=b"}}, "probe")
			var got found
			if failed := json.Unmarshal([]byte(out), &got); err != nil || failed != nil {
				t.Fatalf("%+v %v %v: %s", result, err, failed, out)
			}
			if os.Geteuid() != 0 {
				got.Groups = nil // of nobody's, all that the tests' user had
			}
			slices.Sort(got.Groups)
			slices.Sort(c.want.Groups)
			if got.UID != c.want.UID || got.GID != c.want.GID || !slices.Equal(got.Groups, c.want.Groups) || got.Dir != c.want.Dir ||
				got.Rights != c.want.Rights || got.Token != "200 56" || strings.Join(got.Env, " ") != "PATH=/bin A=b" {
				t.Errorf("it finds %+v, want %+v", got, c.want)
			}
			if len(got.Forbidden) > 0 || len(got.Broken) > 0 {
				t.Errorf("it can %q, and cannot %q", got.Forbidden, got.Broken)
			}
			if got.Processes != 2 || got.PID == 1 || slices.Contains(got.Root, "/work") || slices.Contains(got.Root, "/home") {
				t.Errorf("it sees %d processes, is process %d, and finds %q", got.Processes, got.PID, got.Root)
			}
			_ = os.Remove(filepath.Join(dir, "tmp/written"))
		}
		if text, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "outside")); err != nil || string(text) != "untouched" {
			t.Errorf("what a link of the image points to: %q %v", text, err)
		}
		if entries, err := os.ReadDir(filepath.Join(dir, "dev")); err != nil || len(entries) != 0 {
			t.Errorf("mounts of the lab are seen outside: %v %v", entries, err)
		}
	})
}

// filesystem is an unpacked image as a hostile one might be: links that lead out of it, and a device file.
func filesystem(t *testing.T, program string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(filepath.Dir(dir), "outside")
	steps := []error{
		os.MkdirAll(filepath.Join(dir, "bin"), 0o755), os.Mkdir(filepath.Join(dir, "etc"), 0o755),
		os.WriteFile(filepath.Join(dir, "bin/probe"), text, 0o755), os.WriteFile(outside, []byte("untouched"), 0o666),
		os.Symlink("../../../../../../../../../..", filepath.Join(dir, "evil")), os.Symlink(outside, filepath.Join(dir, "etc/hosts")),
		os.Symlink("/nowhere", filepath.Join(dir, "tmp")),
	}
	if os.Geteuid() == 0 {
		const null = 1<<8 | 3
		steps = append(steps, syscall.Mknod(filepath.Join(dir, "device"), syscall.S_IFCHR|0o666, null), os.Chmod(filepath.Dir(dir), 0o755))
	}
	for _, err := range steps {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
