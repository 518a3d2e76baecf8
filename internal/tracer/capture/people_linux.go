package capture

import (
	"fmt"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imdsctl/imdsctl/internal/procfs"
	"github.com/imdsctl/imdsctl/internal/tracer"
	"github.com/imdsctl/imdsctl/internal/tracer/capture/bpf"
)

// people makes processes of what the programs tell, and remembers who was told last for a socket.
type people struct {
	log       *slog.Logger
	hierarchy *hierarchy
	elsewhere bool // /proc is of another PID namespace than the programs' process ids
	known     generations[uint64, acquaintance]
	older     map[uint64]tracer.Process // guesses, by socket, for connections that are older than the programs
}

// acquaintance is who was told for a socket.
type acquaintance struct {
	execs   uint32
	process *tracer.Process
}

// firstPIDs is the inode of the host's first PID namespace: PROC_PID_INIT_INO of linux/proc_ns.h.
const firstPIDs = "pid:[4026531836]"

func newPeople(log *slog.Logger, h *hierarchy, older map[uint64]tracer.Process) *people {
	own, err := os.Readlink("/proc/self/ns/pid")
	return &people{log: log, hierarchy: h, elsewhere: err == nil && own != firstPIDs, known: newGenerations[uint64, acquaintance](16 << 10), older: older}
}

// meet takes note of a caller.
func (p *people) meet(c *bpf.Caller) tracer.Process {
	process := p.describe(c)
	p.known.put(c.Socket, acquaintance{uint32(c.Execs), &process})
	return process
}

// sender is who sends a piece: surely, or for a connection older than the programs by a guess; nil where nobody knows.
func (p *people) sender(piece *bpf.Piece) *tracer.Process {
	known, ok := p.known.get(piece.Socket)
	if piece.PID == 0 {
		if guess, older := p.older[piece.Socket]; older && !ok {
			return &guess
		}
		return nil
	}
	if ok && known.process.PID == piece.PID && known.execs == piece.Execs {
		return known.process
	}
	return &tracer.Process{PID: piece.PID} // what told more of it was lost
}

// describe is a caller as the trace has it: what the kernel told as it called, completed from /proc if it is still there.
func (p *people) describe(c *bpf.Caller) tracer.Process {
	process := tracer.Process{PID: c.PID, Comm: c.Comm, UID: &c.UID, NetNS: c.NetNS, Exe: c.Exe, Args: c.Args,
		Cgroup: procfs.Cgroup(c.Cgroup2, c.Cgroup1)}
	for _, parent := range c.Parents {
		process.Parents = append(process.Parents, tracer.Parent(parent))
	}
	if c.Full && !c.WholeArgs && len(process.Args) > 0 {
		process.Args[len(process.Args)-1] = cutArg // what is left of a secret might not be known for one
	}
	if c.CgroupID != 0 {
		process.Cgroup, _ = p.hierarchy.cgroup(c.CgroupID)
	}
	if !p.elsewhere && (!c.Full || !c.WholeExe || !c.WholeArgs || len(c.Parents) >= 8) {
		p.complete(&process, c)
	}
	return process
}

// cutArg stands for an argument whose end is missing.
const cutArg = "…"

// complete adds what /proc tells of a process, unless its id is another's by now.
func (p *people) complete(process *tracer.Process, c *bpf.Caller) {
	now, err := procfs.Read(c.PID)
	if err != nil {
		p.log.Debug("a caller was not read in full", "pid", c.PID, "error", err)
	}
	if !same(now, c) {
		return
	}
	if !c.Full {
		process.Exe, process.Args, process.NetNS = now.Exe, now.Args, now.NetNS
		process.Parents = above(now.Parents)
		process.Cgroup = procfs.Cgroup(now.Cgroup, process.Cgroup)
		return
	}
	if len(now.Parents) > len(process.Parents) && slices.Equal(above(now.Parents[:len(process.Parents)]), process.Parents) {
		process.Parents = above(now.Parents)
	}
	// It may have begun another program since.
	if path.Base(strings.TrimSuffix(now.Exe, " (deleted)")) != path.Base(c.Exe) {
		return
	}
	if !c.WholeExe {
		process.Exe = now.Exe
	}
	if whole := max(0, len(c.Args)-1); !c.WholeArgs && len(now.Args) >= len(c.Args) && slices.Equal(now.Args[:whole], c.Args[:whole]) {
		process.Args = now.Args
	}
}

// same tells whether a process of /proc is the one that called.
func same(now procfs.Process, c *bpf.Caller) bool {
	if now.Started == 0 {
		return false
	}
	const tick = uint64(1e9 / 100) // nanoseconds; /proc counts hundredths of a second on all architectures
	if c.Full {
		return now.Started == c.Started/tick
	}
	// A process that took the id later started later. The clock of starts also counts while the host is suspended.
	suspended := uint64(nanoseconds(unix.CLOCK_BOOTTIME) - nanoseconds(unix.CLOCK_MONOTONIC))
	return now.Started <= (c.Time+suspended)/tick
}

func above(parents []procfs.Parent) []tracer.Parent {
	var all []tracer.Parent
	for _, p := range parents {
		all = append(all, tracer.Parent(p))
	}
	return all
}

// guess is a process as /proc tells it after the fact.
func guess(pid int) (tracer.Process, error) {
	now, err := procfs.Read(pid)
	if now.Started == 0 {
		return tracer.Process{Guessed: true}, fmt.Errorf("who holds a socket: %w", err)
	}
	return tracer.Process{PID: pid, Comm: now.Comm, Exe: now.Exe, Args: now.Args, Parents: above(now.Parents), Cgroup: now.Cgroup,
		NetNS: now.NetNS, UID: known(now.UID), Guessed: true}, nil
}

// known is a user id, if it is one.
func known(uid int) *int {
	if uid < 0 {
		return nil
	}
	return &uid
}
