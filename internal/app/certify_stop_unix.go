//go:build unix

package app

import (
	"os"
	"syscall"
)

// stopCommand asks a command to end.
func stopCommand(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// signalOf is the signal that ended a process, in words.
func signalOf(state *os.ProcessState) string {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return status.Signal().String()
	}
	return ""
}
