//go:build unix

package postgres

import (
	"os"
	"os/exec"
	"syscall"
)

// nobody is the user and the group that PostgreSQL runs as where the tests run as root, whom it refuses. It owns nothing else.
const nobody = 65534

// yield gives a directory to the user PostgreSQL will run as.
func yield(dir string) error {
	if os.Getuid() != 0 {
		return nil
	}
	return os.Chown(dir, nobody, nobody)
}

// unprivileged has a program run as somebody other than root, and apart from the terminal's signals.
func unprivileged(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(cmd.SysProcAttr)
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
}

// freeze keeps a process from doing anything more.
func freeze(p *os.Process) {
	_ = p.Signal(syscall.SIGSTOP) // it may have ended meanwhile
}
