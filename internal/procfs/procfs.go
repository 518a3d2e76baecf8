// Package procfs reads from /proc who a process is: its program, arguments, parents, cgroup and network namespace, and whose a
// socket is. On other systems than Linux it knows nobody.
//
// It owns the reading and nothing else: it keeps nothing, so that each answer is of the moment. A process may end, and its id be
// given to another, while it is read; what is then returned says so. Arguments come as they are, with whatever secrets they hold:
// who shows them redacts them first.
package procfs

import (
	"errors"
	"regexp"
)

// ErrGone says that there is no such process, or that it ended while it was read.
var ErrGone = errors.New("the process is gone")

// ErrUnsupported says that this system has no /proc as Linux has it.
var ErrUnsupported = errors.New("processes are read from /proc, which only Linux has")

// Process is who a process is, as far as it could be read.
type Process struct {
	PID int
	// UID is the real user id; -1 where it is not known.
	UID  int
	Comm string // the main thread's name, at most 15 bytes
	// Exe is the program's path as the process's own root sees it: a container's path is one of the container. Linux appends
	// " (deleted)" to that of a program that was removed or replaced while it runs.
	Exe  string
	Args []string
	// Parents are the processes above, the nearest first, without the first process of the host.
	Parents []Parent
	// Cgroup is the path in cgroup v2, or of the pids controller in v1: see Cgroup.
	Cgroup string
	NetNS  uint64 // inode of the network namespace
	// Started is when it started, in clock ticks (hundredths of a second) since the host did. Together with PID it names one process.
	Started uint64
}

// Parent is a process above another.
type Parent struct {
	PID  int
	Comm string
}

// containerID is how the runtimes name containers in cgroups.
var containerID = regexp.MustCompile(`[0-9a-f]{64}`)

// Cgroup is the one that tells more of a process's two cgroups: its path in cgroup v2, and that of the pids controller in v1 (empty
// where there is none). A host may have both, and a container's runtime and systemd then each use their own.
func Cgroup(v2, v1 string) string {
	switch {
	case v1 == "" || v1 == "/":
	case v2 == "" || v2 == "/", containerID.MatchString(v1) && !containerID.MatchString(v2):
		return v1
	}
	return v2
}
