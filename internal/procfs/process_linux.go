package procfs

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/prometheus/procfs"
)

// generations is how many processes above one are told.
const generations = 32

// Read tells who a process is. What could be read is returned even with an error, which joins what could not; it is ErrGone where
// the process is not there, has ended and only waits to be reaped, or is another by the end than at the beginning.
func Read(pid int) (Process, error) {
	p := Process{PID: pid, UID: -1}
	proc, err := procfs.NewProc(pid)
	if err != nil {
		return p, gone(pid, err)
	}
	stat, err := proc.Stat()
	if err != nil {
		return p, gone(pid, err)
	}
	p.Comm, p.Started = stat.Comm, stat.Starttime
	errs := []error{p.readProgram(proc, stat), p.readPlace(proc)}
	p.Parents = parents(stat.PPID)
	again, err := proc.Stat()
	if err == nil && again.Starttime != stat.Starttime {
		return Process{PID: pid, UID: -1}, fmt.Errorf("process %d: %w: its id is another's now", pid, ErrGone)
	}
	if err != nil || again.State == "Z" || again.State == "X" {
		return p, errors.Join(fmt.Errorf("process %d: %w", pid, ErrGone), errors.Join(errs...))
	}
	return p, errors.Join(errs...)
}

// readProgram reads what it runs and for whom. A thread of the kernel runs no program, and that is no error.
func (p *Process) readProgram(proc procfs.Proc, stat procfs.ProcStat) error {
	var errs []error
	status, err := proc.NewStatus()
	if err == nil {
		p.UID = int(status.UIDs[0])
	} else {
		errs = append(errs, fmt.Errorf("user of process %d: %w", p.PID, err))
	}
	if p.Args, err = proc.CmdLine(); err != nil {
		errs = append(errs, fmt.Errorf("arguments of process %d: %w", p.PID, err))
	}
	// The root first: where that cannot be read any more, nor can the program.
	root, rootErr := os.Readlink(path(p.PID, "root"))
	const kernelThread = 2 // all of them are children of kthreadd
	if p.Exe, err = os.Readlink(path(p.PID, "exe")); err != nil && stat.PPID != kernelThread && p.PID != kernelThread {
		errs = append(errs, fmt.Errorf("program of process %d: %w", p.PID, err))
	}
	// /proc tells the path as this process sees it, which is another one where only the root differs, and not the mounts.
	if rootErr == nil && root != "/" {
		if below, ok := strings.CutPrefix(p.Exe, root); ok && strings.HasPrefix(below, "/") {
			p.Exe = below
		}
	}
	return errors.Join(errs...)
}

// readPlace reads where it runs.
func (p *Process) readPlace(proc procfs.Proc) error {
	var errs []error
	groups, err := proc.Cgroups()
	if err != nil {
		errs = append(errs, fmt.Errorf("cgroup of process %d: %w", p.PID, err))
	}
	var v2, v1 string
	for _, g := range groups {
		if g.HierarchyID == 0 {
			v2 = g.Path
		}
		if slices.Contains(g.Controllers, "pids") {
			v1 = g.Path
		}
	}
	p.Cgroup = Cgroup(v2, v1)
	if p.NetNS, err = NetNS(p.PID); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// NetNS is the inode of the network namespace that a process is in.
func NetNS(pid int) (uint64, error) {
	link, err := os.Readlink(path(pid, "ns/net"))
	if err != nil {
		return 0, fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	inode, ok := bracketed(link, "net:[")
	if !ok {
		return 0, fmt.Errorf("network namespace of process %d: %q is no namespace", pid, link)
	}
	return inode, nil
}

// parents walks up from a process to the first one of the host, which is left out, or as far as /proc tells.
func parents(pid int) []Parent {
	var all []Parent
	for pid > 1 && len(all) < generations {
		proc, err := procfs.NewProc(pid)
		if err != nil {
			break
		}
		stat, err := proc.Stat()
		if err != nil {
			break
		}
		all = append(all, Parent{PID: pid, Comm: stat.Comm})
		pid = stat.PPID
	}
	return all
}

// All are the processes of now, the newest ids first.
func All() iter.Seq[int] {
	return func(yield func(int) bool) {
		procs, err := procfs.AllProcs()
		if err != nil {
			return
		}
		slices.SortFunc(procs, func(a, b procfs.Proc) int { return b.PID - a.PID })
		for _, p := range procs {
			if !yield(p.PID) {
				return
			}
		}
	}
}

// Children are a process and all below it, as they are now, itself first and each before its own children. It is empty where the process is
// gone.
func Children(pid int) []int {
	below := map[int][]int{}
	for p := range All() {
		proc, err := procfs.NewProc(p)
		if err != nil {
			continue
		}
		stat, err := proc.Stat()
		if err != nil {
			continue
		}
		below[stat.PPID] = append(below[stat.PPID], p)
	}
	if _, err := os.Stat(path(pid, "stat")); err != nil {
		return nil
	}
	family := []int{pid}
	for i := 0; i < len(family); i++ {
		family = append(family, below[family[i]]...)
	}
	return family
}

func path(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// bracketed reads the number of links such as socket:[123].
func bracketed(link, before string) (uint64, bool) {
	digits, ok := strings.CutPrefix(link, before)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(digits, "]"), 10, 64)
	return n, err == nil && strings.HasSuffix(digits, "]")
}

// gone tells an error of a process that has ended from one of a process that may not be read.
func gone(pid int, err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	return fmt.Errorf("process %d: %w", pid, err)
}
