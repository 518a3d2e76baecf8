// Package procfs reads from /proc who a process is: its program, arguments, parents, cgroup and network namespace, and whose a
// socket is. On other systems than Linux it knows nobody.
//
// Arguments come as they are, with whatever secrets they hold: who shows them redacts them first.
package procfs
