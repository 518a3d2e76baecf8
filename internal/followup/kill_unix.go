//go:build unix

package followup

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// killWithChildren has a program that is interrupted take along what it started: both are in a process group of their
// own.
func killWithChildren(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return os.ErrProcessDone
	}
}
