//go:build !unix

package app

import "os"

// stopCommand ends a command: there is no way to ask it.
func stopCommand(p *os.Process) error { return p.Kill() }

// signalOf is the signal that ended a process, in words: there are none.
func signalOf(*os.ProcessState) string { return "" }
