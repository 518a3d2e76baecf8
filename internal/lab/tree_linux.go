package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/procfs"
)

// tree are the ids of the processes of the run, without the first, the oldest first as far as ids tell.
func (r *running) tree() []int {
	all := slices.Sorted(slices.Values(procfs.Children(r.first)))
	return slices.DeleteFunc(all, func(pid int) bool { return pid == r.first })
}

// left are the processes that are there besides the first.
func (r *running) left() []procfs.Process {
	var all []procfs.Process
	for _, pid := range r.tree() {
		if p, err := procfs.Read(pid); !errors.Is(err, procfs.ErrGone) {
			all = append(all, p)
		}
	}
	return all
}

// whose finds the process of the run that has a client's end of a connection: of several, which share it by fork, the oldest. The
// kernel's own list of children is quick, however many processes the host has, but leaves some out while others end.
func (r *running) whose(client, server netip.AddrPort) (procfs.Process, bool) {
	inode, ok := r.diag.inode(client, server)
	if !ok {
		inode, ok = procfs.Inode(r.first, client, server)
	}
	if !ok {
		return procfs.Process{}, false
	}
	pid, ok := procfs.Owner(inode, slices.Values(listed(r.first)))
	if !ok {
		pid, ok = procfs.Owner(inode, slices.Values(r.tree()))
	}
	if !ok {
		return procfs.Process{}, false
	}
	who, err := procfs.Read(pid)
	return who, err == nil || who.Comm != ""
}

// listed are the processes below one, as the kernel lists them; none where it does not (CONFIG_PROC_CHILDREN).
func listed(pid int) []int {
	var all []int
	for parents := []int{pid}; len(parents) > 0; {
		tasks := fmt.Sprintf("/proc/%d/task", parents[0])
		parents = parents[1:]
		threads, _ := os.ReadDir(tasks) // it may be gone
		for _, t := range threads {
			text, _ := os.ReadFile(filepath.Join(tasks, t.Name(), "children")) // it too
			for _, field := range strings.Fields(string(text)) {
				if child, err := strconv.Atoi(field); err == nil {
					all, parents = append(all, child), append(parents, child)
				}
			}
		}
	}
	slices.Sort(all)
	return all
}
