package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/imdsctl/imdsctl/internal/tracer"
	"github.com/imdsctl/imdsctl/internal/tracer/capture/bpf"
)

// second is how often losses are looked for, and the tick is given.
const second = time.Second

// programs are the two tiers of eBPF.
type programs struct {
	log        *slog.Logger
	collection *ebpf.Collection
	links      []link.Link
	ring       *ringbuf.Reader
	hierarchy  *hierarchy
	people     *people
	said, part []string // notices, and those that only a part is seen

	lostCallers, lostPieces uint64 // those that the sink was told of
}

// openPrograms loads and attaches the programs of a tier. When it returns they see.
func openPrograms(tier tracer.Tier, log *slog.Logger) (_ source, err error) {
	p := &programs{log: log}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if err := p.load(tier); err != nil {
		return nil, err
	}
	if p.ring, err = ringbuf.NewReader(p.collection.Maps[bpf.Events]); err != nil {
		return nil, fmt.Errorf("reading from the eBPF programs: %w", err)
	}
	if p.hierarchy, err = findHierarchy(); err != nil {
		return nil, err
	}
	older := establishedBefore(log) // before the programs: what connects in between is told by them, surely
	if err := p.attach(); err != nil {
		return nil, err
	}
	p.people = newPeople(log, p.hierarchy, older)
	if !p.hierarchy.whole {
		p.part = append(p.part, "This program is in a cgroup namespace of its own: only calls from this container are seen. "+
			"Run it on the host, or with the host's cgroup namespace (docker run --cgroupns=host; hostPID in Kubernetes).")
	}
	if p.people.elsewhere {
		p.said = append(p.said, "This program is in a PID namespace of its own: process ids are the host's, and what the kernel tells "+
			"of a process is not completed from /proc.")
	}
	if len(older) > 0 {
		p.said = append(p.said, fmt.Sprintf("Connections to the service that are older than the trace: %d. Who made them is guessed, and a request "+
			"that was under way may be missing.", len(older)))
	}
	return p, nil
}

func (p *programs) notices() []string { return slices.Concat(p.part, p.said) }
func (p *programs) partial() []string { return p.part }

// load puts the programs into the kernel.
func (p *programs) load(tier tracer.Tier) error {
	if err := rlimit.RemoveMemlock(); err != nil { // before Linux 5.11 maps count as locked memory
		p.log.Debug("the limit of locked memory was not lifted", "error", err)
	}
	spec, err := bpf.Full()
	if tier == tracer.TierNoProbe {
		spec, err = bpf.NoProbe()
	}
	if err != nil {
		return err
	}
	if p.collection, err = ebpf.NewCollection(spec); err != nil {
		return refused("loading eBPF programs", err)
	}
	return nil
}

// attach has the programs run for every process below the root of the cgroups. What is sent is seen first, so that no connection is
// known whose beginning is missing.
func (p *programs) attach() error {
	for _, at := range []struct {
		program string
		kind    ebpf.AttachType
	}{
		{bpf.Egress, ebpf.AttachCGroupInetEgress},
		{bpf.Connect4, ebpf.AttachCGroupInet4Connect},
		{bpf.Connect6, ebpf.AttachCGroupInet6Connect},
	} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: p.hierarchy.path(), Attach: at.kind, Program: p.collection.Programs[at.program]})
		if err != nil {
			return refused("attaching the eBPF program "+at.program+" to "+p.hierarchy.mounted, err)
		}
		p.links = append(p.links, l)
	}
	return nil
}

// refused says why the kernel did not do something, and what it takes.
func refused(doing string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM): // what the library says of it sends its reader after a limit of memory
		err = fmt.Errorf("%w: it takes root, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON", unix.EPERM)
	case errors.Is(err, unix.EACCES):
		err = fmt.Errorf("%w: it takes root, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON", err)
	case errors.Is(err, ebpf.ErrNotSupported):
		err = fmt.Errorf("%w: it takes Linux 5.9 with CONFIG_CGROUP_BPF, and type information (CONFIG_DEBUG_INFO_BTF) for the tier full", err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// run implements source.
func (p *programs) run(ctx context.Context, sink tracer.Sink, tick func(time.Time)) error {
	flushed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(flushed)
		p.detach() // nothing new comes; what is in the ring is still read
		if err := p.ring.Flush(); err != nil {
			p.ring.Close()
		}
	})
	defer func() {
		if !stop() {
			<-flushed
		}
		p.close()
	}()
	events, failed := p.read()
	due := time.NewTicker(second)
	defer due.Stop()
	for {
		select {
		case e, more := <-events:
			if !more {
				p.tellLost(sink)
				return <-failed
			}
			p.tell(e, sink)
		case now := <-due.C:
			p.tellLost(sink)
			tick(now)
		}
	}
}

// event is what a record of the buffer holds.
type event struct {
	caller *bpf.Caller
	piece  *bpf.Piece
	err    error
}

// waiting is how many events are kept for a sink that is slower than the programs. What comes on top waits in their buffer.
const waiting = 4096

// read empties the buffer as fast as it fills, until it is flushed or closed. The channel is closed then, and the error is why.
func (p *programs) read() (<-chan event, <-chan error) {
	events, failed := make(chan event, waiting), make(chan error, 1)
	go func() {
		defer close(events)
		var record ringbuf.Record
		for {
			switch err := p.ring.ReadInto(&record); {
			case errors.Is(err, ringbuf.ErrFlushed), errors.Is(err, ringbuf.ErrClosed):
				failed <- nil
				return
			case err != nil:
				failed <- fmt.Errorf("reading from the eBPF programs: %w", err)
				return
			}
			var e event
			if e.caller, e.piece, e.err = bpf.Decode(record.RawSample); e.piece != nil {
				e.piece.Bytes = bytes.Clone(e.piece.Bytes)
			}
			events <- e
		}
	}()
	return events, failed
}

// tell hands one event on.
func (p *programs) tell(e event, sink tracer.Sink) {
	caller, piece := e.caller, e.piece
	switch {
	case e.err != nil:
		sink.Lost(1, e.err.Error())
	case piece != nil:
		sink.Sent(tracer.Segment{
			Socket: piece.Socket, Time: wall(piece.Time), Seq: piece.Seq, Bytes: piece.Bytes, Missing: piece.Missing,
			Sender: p.people.sender(piece),
		})
	case caller.Sends:
		p.people.meet(caller)
	default:
		sink.Connected(tracer.Connect{Socket: caller.Socket, Time: wall(caller.Time), From: p.people.meet(caller)})
	}
}

// tellLost tells the sink what the programs could not hand over since the last time.
func (p *programs) tellLost(sink tracer.Sink) {
	lost := p.collection.Maps[bpf.Lost]
	for i, of := range []struct {
		told *uint64
		why  string
	}{
		{&p.lostCallers, "the buffer was full as a program connected: who called is not known"},
		{&p.lostPieces, "the buffer was full as a program sent: calls are missing"},
	} {
		var n uint64
		if err := lost.Lookup(uint32(i), &n); err != nil {
			sink.Lost(0, fmt.Sprintf("what was lost cannot be counted: %v", err))
			continue
		}
		if n > *of.told {
			sink.Lost(n-*of.told, of.why)
			*of.told = n
		}
	}
}

// detach ends the programs' part on the host. It may be called again.
func (p *programs) detach() {
	for _, l := range p.links {
		if err := l.Close(); err != nil {
			p.log.Warn("an eBPF program was not detached; it ends with this process", "error", err)
		}
	}
	p.links = nil
}

func (p *programs) close() {
	p.detach()
	if p.ring != nil {
		p.ring.Close()
	}
	if p.collection != nil {
		p.collection.Close()
	}
	if p.hierarchy != nil {
		p.hierarchy.close()
	}
}

// wall is a time of the kernel's monotonic clock as the time of day, by what both clocks say now.
func wall(monotonic uint64) time.Time {
	return time.Now().Add(-time.Duration(nanoseconds(unix.CLOCK_MONOTONIC) - int64(monotonic))).Round(0)
}

// nanoseconds is what a clock of the kernel says.
func nanoseconds(clock int32) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0 // not for the clocks that are asked for here, which are always there
	}
	return t.Nano()
}
