package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// runsPrograms tells why no program could be run from a folder.
func runsPrograms(dir string) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return err
	}
	const noExec = 0x8 // ST_NOEXEC of statfs(2)
	if s.Flags&noExec != 0 {
		return errors.New("its file system is mounted noexec, so that no program of the image could run there. Set TMPDIR to a folder of another one")
	}
	return nil
}

// mounted tells where in a folder something is mounted.
func mounted(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil //nolint:nilerr // without /proc nobody can tell
	}
	return mountedIn(real, string(data))
}

// mountedIn reads mount points as mountinfo has them: blanks and backslashes in octal. See proc_pid_mountinfo(5).
func mountedIn(dir, mountinfo string) error {
	plain := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(mountinfo) {
		if fields := strings.Fields(line); len(fields) > 4 {
			if at := plain.Replace(fields[4]); strings.HasPrefix(at, dir+"/") {
				return fmt.Errorf("something is mounted in it, at %s: unmount that, then remove the folder", at)
			}
		}
	}
	return nil
}
