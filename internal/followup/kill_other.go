//go:build !unix

package followup

import "os/exec"

// killWithChildren leaves it at killing the program: this system has no process groups.
func killWithChildren(*exec.Cmd) {}
