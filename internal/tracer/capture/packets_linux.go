package capture

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/imdsctl/imdsctl/internal/tracer"
)

// packets is the tier that looks at the packets of each network namespace.
type packets struct {
	log   *slog.Logger
	epoll int
	wake  int // an eventfd that ends run's wait
	// mounts is mountinfo, which tells when something was mounted: a container's network namespace, perhaps. It tells once, so it is no
	// os.File, on which Go's runtime waits too.
	mounts int
	spaces map[uint64]*space
	flows  *flows
	buffer []byte
	looked time.Time // when namespaces were looked for last
	search time.Time // from when on sockets behind translated addresses may be searched again
	part   []string  // why only a part is seen
}

// space is a network namespace that is listened to.
type space struct {
	netns     uint64
	packet    int // socket
	diag      diagnosis
	diagnoses bool // the kernel answers
}

// find is the socket between two addresses in a namespace.
func (s *space) find(from, to netip.AddrPort) (tcpSocket, bool) {
	if s.diagnoses {
		return s.diag.find(from, to)
	}
	return findInProc(s.netns, from, to)
}

// openPackets listens in every network namespace that there is.
func openPackets(log *slog.Logger) (_ source, err error) {
	p := &packets{log: log, epoll: -1, wake: -1, mounts: -1, spaces: map[uint64]*space{}, flows: newFlows(), buffer: make([]byte, 512<<10)}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("waiting for packets: %w", err)
	}
	if p.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("waiting for packets: %w", err)
	}
	if err := p.watch(p.wake, unix.EPOLLIN); err != nil {
		return nil, err
	}
	if p.mounts, err = unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("waiting for mounts: %w", err)
	}
	if err := p.watch(p.mounts, unix.EPOLLPRI); err != nil {
		return nil, err
	}
	if err := p.look(); err != nil {
		return nil, err
	}
	if !seesAll() {
		p.part = append(p.part, "Some network namespaces may not be listened to, so it sees no calls that are made there. It takes root, or the capabilities "+
			"CAP_SYS_ADMIN and CAP_SYS_PTRACE beside CAP_NET_RAW and CAP_NET_ADMIN.")
	}
	if own, err := os.Readlink("/proc/self/ns/pid"); err == nil && own != firstPIDs {
		p.part = append(p.part, "This program is in a PID namespace of its own: it sees no network namespaces and no callers but those of its "+
			"own container. Run it on the host, or with the host's PID namespace (docker run --pid=host; hostPID in Kubernetes).")
	}
	return p, nil
}

func (p *packets) notices() []string {
	return append(slices.Clone(p.part), "Callers are looked for after the fact, and are guesses: a process that ends soon after its call is not found.")
}

func (p *packets) partial() []string { return p.part }

// look listens in network namespaces that are new, and leaves those that no process is in and no mount keeps: they would live on while
// they are listened to.
// The error is that of the last of them, if there is none to listen in.
func (p *packets) look() error {
	p.looked = time.Now()
	now := namespaces()
	var failed error
	for netns, files := range now {
		if p.spaces[netns] != nil {
			continue
		}
		s, err := openSpace(netns, files)
		if err == nil {
			err = p.watch(s.packet, unix.EPOLLIN)
		}
		if err != nil {
			p.log.Debug("a network namespace is not listened to", "netns", netns, "error", err)
			failed = err
			continue
		}
		p.spaces[netns] = s
	}
	if len(p.spaces) == 0 {
		if failed == nil {
			failed = errors.New("/proc shows no network namespaces")
		}
		return refusedPackets(failed)
	}
	return nil
}

func refusedPackets(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w: packets take root, or the capabilities CAP_NET_RAW, CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_SYS_PTRACE", err)
	}
	return err
}

// leave stops listening in namespaces that nobody else keeps, once what was sent there has been read.
func (p *packets) leave(sink tracer.Sink) {
	now := namespaces()
	for netns, s := range p.spaces {
		if _, there := now[netns]; !there && len(now) > 0 {
			p.read(s, sink)
			p.tellLost(s, sink)
			s.close()
			delete(p.spaces, netns)
		}
	}
}

// watch has the loop wake up for a file.
func (p *packets) watch(fd int, events uint32) error {
	if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("waiting for packets: %w", err)
	}
	return nil
}

// openSpace opens what it takes to listen in a network namespace.
func openSpace(netns uint64, files []string) (*space, error) {
	s := &space{netns: netns, packet: -1, diag: diagnosis{-1}}
	err := inside(netns, files, func() (err error) {
		if s.packet, err = openPacketSocket(); err != nil {
			return err
		}
		if d, err := openDiagnosis(); err == nil {
			s.diag = d
			_, err = d.toService(0)
			s.diagnoses = err == nil
		}
		return nil
	})
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *space) close() {
	if s.packet >= 0 {
		unix.Close(s.packet)
	}
	if s.diag.fd >= 0 {
		s.diag.close()
	}
}

// openPacketSocket opens a socket that is given what leaves for the service, without the link's header. It is bound last, so that
// nothing passes before the filter is there.
func openPacketSocket() (_ int, err error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("listening to packets: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	program, err := bpf.Assemble(outgoing())
	if err != nil {
		return -1, fmt.Errorf("filter of packets: %w", err)
	}
	var filter []unix.SockFilter
	for _, i := range program {
		filter = append(filter, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	if err != nil {
		return -1, fmt.Errorf("filter of packets: %w", err)
	}
	const room = 16 << 20
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room) // as much as the host allows; what is lost is counted
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return -1, fmt.Errorf("times of packets: %w", err)
	}
	everything := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)) // less shows no outgoing ones
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything}); err != nil {
		return -1, fmt.Errorf("listening to packets: %w", err)
	}
	return fd, nil
}

// outgoing is a filter that takes what this namespace sends to the service by TCP. The ports of IPv6, which may have headers before
// TCP's, are left to the parser.
func outgoing() []bpf.Instruction {
	const packetOutgoing, all = 4, 512 << 10
	drop := bpf.RetConstant{Val: 0}
	version6 := func(at, word uint32) []bpf.Instruction {
		return []bpf.Instruction{bpf.LoadAbsolute{Off: at, Size: 4}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: word, SkipTrue: 1}, drop}
	}
	program := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: packetOutgoing, SkipTrue: 1},
		drop,
		bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 4, SkipFalse: 7}, // over what follows, up to version 6
		bpf.LoadAbsolute{Off: 16, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0xa9fea9fe, SkipTrue: 1},
		drop,
		bpf.LoadMemShift{Off: 0},
		bpf.LoadIndirect{Off: 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 80, SkipTrue: 13}, // to the end
		drop,
	}
	for i, word := range []uint32{0xfd000ec2, 0, 0, 0x254} {
		program = append(program, version6(uint32(24+4*i), word)...)
	}
	return append(program, bpf.RetConstant{Val: all})
}

// run implements source.
func (p *packets) run(ctx context.Context, sink tracer.Sink, tick func(time.Time)) error {
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_, _ = unix.Write(p.wake, binary.NativeEndian.AppendUint64(nil, 1)) // an eventfd with room takes it
	})
	defer func() {
		if !stop() {
			<-woken
		}
		p.close()
	}()
	events := make([]unix.EpollEvent, 64)
	due := time.Now().Add(second)
	for {
		n, err := unix.EpollWait(p.epoll, events, int(max(0, time.Until(due)).Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("waiting for packets: %w", err)
		}
		if slices.ContainsFunc(events[:max(0, n)], func(e unix.EpollEvent) bool { return e.Fd == int32(p.mounts) }) {
			p.mustLook()
		}
		if n > 0 {
			p.readAll(sink)
		}
		if ctx.Err() != nil {
			p.readAll(sink)
			for _, s := range p.spaces {
				p.tellLost(s, sink)
			}
			return nil
		}
		if now := time.Now(); !now.Before(due) {
			due = now.Add(second)
			p.second(sink)
			tick(now)
		}
	}
}

// second does what is done once a second.
func (p *packets) second(sink tracer.Sink) {
	p.mustLook()
	p.leave(sink)
	for _, s := range p.spaces {
		p.tellLost(s, sink)
	}
}

func (p *packets) mustLook() {
	if err := p.look(); err != nil {
		p.log.Warn("no network namespace is listened to", "error", err)
	}
}

// arrived is a packet of a namespace.
type arrived struct {
	space *space
	at    time.Time
	packet
}

// readAll reads what there is in all namespaces, in the order of time, so that what is sent on is seen where it was sent first.
func (p *packets) readAll(sink tracer.Sink) {
	for {
		var batch []arrived
		for _, netns := range slices.Sorted(maps.Keys(p.spaces)) {
			batch = append(batch, p.receive(p.spaces[netns])...)
		}
		if len(batch) == 0 {
			return
		}
		p.deliver(batch, sink)
	}
}

func (p *packets) read(s *space, sink tracer.Sink) {
	for batch := p.receive(s); len(batch) > 0; batch = p.receive(s) {
		p.deliver(batch, sink)
	}
}

// receive takes some packets of a namespace.
func (p *packets) receive(s *space) []arrived {
	var batch []arrived
	control := make([]byte, 256)
	for range 128 {
		n, c, _, _, err := unix.Recvmsg(s.packet, p.buffer, control, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			break // there are no more, or the interface went down
		}
		at := timestamp(control[:c])
		if packet, ok := parsePacket(p.buffer[:min(n, len(p.buffer))], n); ok && packet.to.Port() == 80 {
			packet.payload = slices.Clone(packet.payload)
			batch = append(batch, arrived{s, at, packet})
		}
	}
	return batch
}

// timestamp is when the kernel sent a packet.
func timestamp(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err == nil {
		for _, m := range messages {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
				return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
			}
		}
	}
	return time.Now()
}

// deliver hands packets on.
func (p *packets) deliver(batch []arrived, sink tracer.Sink) {
	slices.SortStableFunc(batch, func(a, b arrived) int { return a.at.Compare(b.at) })
	for _, a := range batch {
		f, isNew := p.flows.of(a.space.netns, a.packet, a.at)
		if f == nil {
			continue
		}
		var sender *tracer.Process
		// As it begins, the program waits for an answer and can be found; else once more as it sends.
		if again := f.owner.asked == 1 && len(a.payload) > 0; !f.owner.found && (isNew || again) {
			f.owner.asked++
			var who tracer.Process
			if who, f.owner.found = p.owner(a); isNew && a.syn {
				sink.Connected(tracer.Connect{Socket: f.socket, Time: a.at, From: who})
			} else if f.owner.found || isNew {
				sender = &who
			}
		}
		sink.Sent(tracer.Segment{Socket: f.socket, Time: a.at, Seq: a.seq, Bytes: a.payload, Missing: a.missing, Sender: sender})
	}
}

// owner is who sent a packet, by a guess: who has its socket open, in the namespace where it was seen or, where it is only passed on,
// in another one, under another address perhaps.
func (p *packets) owner(a arrived) (tracer.Process, bool) {
	if s, ok := a.space.find(a.from, a.to); ok {
		return s.holder(a.space.netns)
	}
	if time.Since(p.looked) > second/10 {
		p.mustLook()
	}
	others := slices.SortedFunc(maps.Values(p.spaces), func(x, y *space) int { return cmp.Compare(x.netns, y.netns) })
	for _, s := range others {
		if found, ok := s.find(a.from, a.to); ok {
			return found.holder(s.netns)
		}
	}
	if s, found, ok := p.translated(others, a); ok {
		return found.holder(s.netns)
	}
	return tracer.Process{NetNS: a.space.netns, Guessed: true}, false
}

// translated finds the socket of a packet whose address was translated; its port, mostly, was kept. The kernel goes through all sockets of
// the host for that, once for each namespace: where that takes long it is left out for a while, so that packets are not read too late.
func (p *packets) translated(spaces []*space, a arrived) (*space, tcpSocket, bool) {
	const share = 10 // of the time, at most one part in so many
	begun := time.Now()
	if begun.Before(p.search) {
		return nil, tcpSocket{}, false
	}
	defer func() { p.search = time.Now().Add((share - 1) * time.Since(begun)) }()
	for _, s := range spaces {
		if !s.diagnoses {
			continue
		}
		found, err := s.diag.toService(a.from.Port())
		if err == nil && len(found) == 1 && found[0].remote == a.to {
			return s, found[0], true
		}
	}
	return nil, tcpSocket{}, false
}

// tellLost tells the sink what found no room since the last time.
func (p *packets) tellLost(s *space, sink tracer.Sink) {
	stats, err := unix.GetsockoptTpacketStats(s.packet, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	switch {
	case err != nil:
		sink.Lost(0, fmt.Sprintf("lost packets cannot be counted: %v", err))
	case stats.Drops > 0:
		sink.Lost(uint64(stats.Drops), "packets came faster than they were read: calls may be missing")
	}
}

func (p *packets) close() {
	for netns, s := range p.spaces {
		s.close()
		delete(p.spaces, netns)
	}
	for _, fd := range []int{p.epoll, p.wake, p.mounts} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	p.epoll, p.wake, p.mounts = -1, -1, -1
}
