//go:build !unix

package program

import "os/exec"

// ownGroup leaves a program as it is: where there are no process groups, it alone is killed when its time is over.
func ownGroup(*exec.Cmd) {}

func endGroup(*exec.Cmd) {}
