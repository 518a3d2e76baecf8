package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/imdsctl/imdsctl/internal/procfs"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// inside calls f in a network namespace, by one of its files: a process that has it may end, and a mount be covered by another. What f
// opens belongs to that namespace.
func inside(netns uint64, files []string, f func() error) error {
	err := fmt.Errorf("network namespace %d: %w", netns, os.ErrNotExist)
	for _, name := range files {
		file, failed := os.Open(name)
		if failed != nil {
			err = failed
			continue
		}
		defer file.Close()
		var stat unix.Stat_t
		if unix.Fstat(int(file.Fd()), &stat) == nil && stat.Ino == netns {
			return insideFile(file, f)
		}
	}
	return err
}

func insideFile(there *os.File, f func() error) error {
	result := make(chan error)
	go func() {
		// A thread that does not find back is not used again: it ends with this goroutine, still locked.
		runtime.LockOSThread()
		result <- func() error {
			here, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			defer here.Close()
			if sameFile(here, there) { // that takes no rights
				defer runtime.UnlockOSThread()
				return f()
			}
			if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("entering the network namespace %s: %w", there.Name(), err)
			}
			failed := f()
			if err := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); err == nil {
				runtime.UnlockOSThread()
			}
			return failed
		}()
	}()
	return <-result
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	y, err2 := b.Stat()
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// namespaces are the network namespaces that processes are in, and those that are mounted somewhere, as the runtimes of containers do
// before they start a process in one. Each comes with files of it, the likeliest to stay first.
func namespaces() map[uint64][]string {
	all := map[uint64][]string{}
	if f, err := os.Open("/proc/self/mountinfo"); err == nil {
		defer f.Close()
		all = namespaceMounts(f)
	}
	const enough = 4
	for pid := range procfs.All() {
		if netns, err := procfs.NetNS(pid); err == nil && len(all[netns]) < enough {
			all[netns] = append(all[netns], fmt.Sprintf("/proc/%d/ns/net", pid))
		}
	}
	return all
}

// seesAll tells whether this process may look at all others and enter their network namespaces.
func seesAll() bool {
	const firstUsers = "user:[4026531837]" // PROC_USER_INIT_INO of linux/proc_ns.h: elsewhere rights count for little
	own, err := os.Readlink("/proc/self/ns/user")
	if err != nil || own != firstUsers {
		return false
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return false
	}
	const wanted = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SYS_PTRACE
	return sets[0].Effective&wanted == wanted
}

// within are the processes of a network namespace, the newest ids first.
func within(netns uint64) iter.Seq[int] {
	return func(yield func(int) bool) {
		for pid := range procfs.All() {
			if in, err := procfs.NetNS(pid); err == nil && in == netns && !yield(pid) {
				return
			}
		}
	}
}

// tcpSocket is what the kernel tells of a TCP socket.
type tcpSocket struct {
	local, remote netip.AddrPort
	cookie        uint64
	inode         uint64 // 0 where no process holds it any more
	uid           int    // -1 where it is not known
}

// diagnosis asks the kernel for the TCP sockets of a network namespace: see sock_diag(7).
type diagnosis struct{ fd int }

// openDiagnosis opens one in the namespace that the calling thread is in.
func openDiagnosis() (diagnosis, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return diagnosis{}, fmt.Errorf("asking for sockets: %w", err)
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}) // without it, it only waits longer
	return diagnosis{fd}, nil
}

func (d diagnosis) close() { unix.Close(d.fd) }

const (
	sockDiagByFamily = 20
	diagRequestSize  = 56
	diagAnswerSize   = 72
	anyState         = 0xffffffff
	noCookie         = 0xffffffff
)

// find is the socket between two addresses.
func (d diagnosis) find(local, remote netip.AddrPort) (tcpSocket, bool) {
	all, err := d.ask(family(remote.Addr()), 0, local, remote)
	if err != nil || len(all) == 0 {
		return tcpSocket{}, false
	}
	return all[0], true
}

// toService are the sockets that go to the service, from a port or, where it is 0, from any.
func (d diagnosis) toService(port uint16) ([]tcpSocket, error) {
	var all []tcpSocket
	var errs []error
	for _, f := range []uint8{unix.AF_INET, unix.AF_INET6} {
		found, err := d.ask(f, unix.NLM_F_DUMP, netip.AddrPortFrom(netip.Addr{}, port), netip.AddrPortFrom(netip.Addr{}, 80))
		errs = append(errs, err)
		for _, s := range found {
			if slices.Contains(service, s.remote.Addr()) && s.remote.Port() == 80 && (port == 0 || s.local.Port() == port) {
				all = append(all, s)
			}
		}
	}
	return all, errors.Join(errs...)
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// ask sends an inet_diag_req_v2 and reads the answers, for one socket, or with NLM_F_DUMP for all that have the ports.
func (d diagnosis) ask(family uint8, flags uint16, local, remote netip.AddrPort) ([]tcpSocket, error) {
	request := binary.NativeEndian.AppendUint32(nil, unix.SizeofNlMsghdr+diagRequestSize)
	request = binary.NativeEndian.AppendUint16(request, sockDiagByFamily)
	request = binary.NativeEndian.AppendUint16(request, unix.NLM_F_REQUEST|flags)
	request = append(request, make([]byte, 8)...) // sequence and port: one question at a time
	request = append(request, family, protocolTCP, 0, 0)
	request = binary.NativeEndian.AppendUint32(request, anyState)
	request = binary.BigEndian.AppendUint16(request, local.Port())
	request = binary.BigEndian.AppendUint16(request, remote.Port())
	for _, a := range []netip.Addr{local.Addr(), remote.Addr()} {
		var field [16]byte
		copy(field[:], a.AsSlice())
		request = append(request, field[:]...)
	}
	request = binary.NativeEndian.AppendUint32(request, 0) // any interface
	request = binary.NativeEndian.AppendUint64(request, noCookie|noCookie<<32)
	if err := unix.Sendto(d.fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("asking for sockets: %w", err)
	}
	return d.answers(flags&unix.NLM_F_DUMP != 0)
}

func (d diagnosis) answers(many bool) ([]tcpSocket, error) {
	var all []tcpSocket
	b := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(d.fd, b, 0)
		if errors.Is(err, unix.EINTR) { // a socket that waits for a time only is not restarted after a signal
			continue
		}
		if err != nil {
			return all, fmt.Errorf("asking for sockets: %w", err)
		}
		messages, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			return all, fmt.Errorf("asking for sockets: %w", err)
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return all, nil
			case unix.NLMSG_ERROR:
				return all, nlError(m.Data)
			case sockDiagByFamily:
				if s, ok := parseSocket(m.Data); ok {
					all = append(all, s)
				}
			}
		}
		if !many {
			return all, nil
		}
	}
}

func nlError(b []byte) error {
	if len(b) < 4 {
		return errors.New("asking for sockets: the kernel's answer is cut")
	}
	if errno := -int32(binary.NativeEndian.Uint32(b)); errno != 0 {
		return fmt.Errorf("asking for sockets: %w", unix.Errno(errno))
	}
	return nil
}

// parseSocket reads an inet_diag_msg.
func parseSocket(b []byte) (tcpSocket, bool) {
	if len(b) < diagAnswerSize {
		return tcpSocket{}, false
	}
	size := 16
	if b[0] == unix.AF_INET {
		size = 4
	}
	local, _ := netip.AddrFromSlice(b[8:][:size])
	remote, _ := netip.AddrFromSlice(b[24:][:size])
	return tcpSocket{
		local:  netip.AddrPortFrom(local.Unmap(), binary.BigEndian.Uint16(b[4:])),
		remote: netip.AddrPortFrom(remote.Unmap(), binary.BigEndian.Uint16(b[6:])),
		cookie: uint64(binary.NativeEndian.Uint32(b[44:])) | uint64(binary.NativeEndian.Uint32(b[48:]))<<32,
		uid:    int(binary.NativeEndian.Uint32(b[64:])), inode: uint64(binary.NativeEndian.Uint32(b[68:])),
	}, true
}

// findInProc is a socket by its addresses where the kernel gives no diagnoses: its module may be missing.
func findInProc(netns uint64, local, remote netip.AddrPort) (tcpSocket, bool) {
	for pid := range within(netns) {
		inode, ok := procfs.Inode(pid, local, remote)
		return tcpSocket{local: local, remote: remote, inode: inode, uid: -1}, ok
	}
	return tcpSocket{}, false
}

// holder is who has a socket open, by a guess.
func (s tcpSocket) holder(netns uint64) (tracer.Process, bool) {
	if pid, ok := procfs.Owner(s.inode, within(netns)); ok {
		if p, err := guess(pid); err == nil {
			return p, true
		}
	}
	p := tracer.Process{NetNS: netns, Guessed: true}
	if s.inode != 0 {
		p.UID = known(s.uid)
	}
	return p, false
}

// establishedBefore are the connections to the service that are there now, in all network namespaces, by their sockets' cookies.
func establishedBefore(log *slog.Logger) map[uint64]tracer.Process {
	all := map[uint64]tracer.Process{}
	for netns, files := range namespaces() {
		var found []tcpSocket
		err := inside(netns, files, func() error {
			d, err := openDiagnosis()
			if err != nil {
				return err
			}
			defer d.close()
			found, err = d.toService(0)
			return err
		})
		if err != nil {
			log.Debug("older connections were not looked for", "netns", netns, "error", err)
		}
		for _, s := range found {
			if s.inode != 0 { // one that is closed sends no requests
				all[s.cookie], _ = s.holder(netns)
			}
		}
	}
	return all
}
