//go:build unix

package app

import (
	"os"
	"syscall"
)

// lockFile takes the lock of a file that is being written, which ends with the process. The error says that another has it.
func lockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
