//go:build !linux

package lab

import "context"

// Inside plays the part of a run's first process where Run started this one, and then does not return. Here it always returns.
func Inside() {}

func run(context.Context, Options, []string) (Result, error) { return Result{}, ErrUnsupported }
