package image

import (
	"os"
	"strings"
	"testing"
)

// TestMounted: what is mounted in a folder is found, whatever letters its path has, and what is mounted beside it is not.
func TestMounted(t *testing.T) {
	if mounted(t.TempDir()) != nil {
		t.Error("something is mounted in a new folder")
	}
	lines := "36 35 98:0 / /tmp/root rw,noatime master:1 - ext3 /dev/root rw\n37 35 98:0 / /tmp/root\\040two/proc rw - proc proc rw\n" +
		"38 35 98:0 / /tmp/rooted rw - tmpfs tmpfs rw\nshort\n"
	for dir, want := range map[string]string{"/tmp/root": "", "/tmp/root two": "/tmp/root two/proc", "/tmp": "/tmp/root", "/tmp/roo": ""} {
		err := mountedIn(dir, lines)
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want+":") {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// TestRunsPrograms: where programs cannot be run is said before anything is unpacked there.
func TestRunsPrograms(t *testing.T) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[4] != "/proc" {
			continue
		}
		if err := runsPrograms("/proc"); (err != nil) != strings.Contains(fields[5], "noexec") {
			t.Errorf("/proc is mounted with %s: %v", fields[5], err)
		}
	}
	if err := runsPrograms("/nowhere"); err == nil {
		t.Error("programs run from a folder that is not there")
	}
}
