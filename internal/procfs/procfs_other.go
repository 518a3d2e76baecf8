//go:build !linux

package procfs

import (
	"fmt"
	"iter"
	"net/netip"
)

// Read fails with ErrUnsupported.
func Read(pid int) (Process, error) {
	return Process{PID: pid, UID: -1}, fmt.Errorf("process %d: %w", pid, ErrUnsupported)
}

// NetNS fails with ErrUnsupported.
func NetNS(pid int) (uint64, error) { return 0, fmt.Errorf("process %d: %w", pid, ErrUnsupported) }

// All is empty.
func All() iter.Seq[int] { return func(func(int) bool) {} }

// Children is empty.
func Children(int) []int { return nil }

// Owner knows nobody.
func Owner(uint64, iter.Seq[int]) (pid int, ok bool) { return 0, false }

// Inode knows none.
func Inode(int, netip.AddrPort, netip.AddrPort) (uint64, bool) { return 0, false }
