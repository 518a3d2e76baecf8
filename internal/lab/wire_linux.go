package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// What the first process of a run gets: the two files beside its standard ones, and its own name in place of the program's.
const (
	firstName   = "imdsctl-lab"
	controlFile = 3 // a socket: orders in, words out
	workFile    = 4 // a pipe: the work, in JSON
)

// work is what the first process is to do.
type work struct {
	Argv, Env []string
	Dir       string
	Root      *RootFS // with its Dir made absolute
	Routed    bool
	// Unprivileged: there is a user namespace, in which the command is to have no rights.
	Unprivileged bool
	// Resolvers are nameservers of the host's loopback interface, which want a socket at the same address inside.
	Resolvers []string
	// ResolvConf is written to the RootFS where it is not empty.
	ResolvConf string
}

// order is what the first process is told afterwards.
type order struct {
	Start *uplink // start the command
	// Signal is for the command, or, with All, for all processes.
	Signal int
	All    bool
}

// uplink is how the command reaches the outside; without a link it does not.
type uplink struct {
	Link    string // of the first process's network namespace, or of the one that routes
	IPv4    string // its address, with the prefix's length
	Via4    string
	IPv6    string // empty where the host does not forward IPv6
	Via6    string
	Present bool
}

// The words of the first process, in the order in which they come.
const (
	wordReady     = "ready"     // the network is there; files come along
	wordFailed    = "failed"    // it is not
	wordUnstarted = "unstarted" // the command could not be executed
	wordStarted   = "started"
	wordEnded     = "ended" // the command has
	wordEmpty     = "empty" // all other processes have, too
)

// word is what the first process tells.
type word struct {
	Kind  string
	Error string // with failed and unstarted
	// Denied, with failed: the system forbade it.
	Denied bool
	Exit   int // with unstarted and ended
	Signal int
	Notes  []string
	Files  []string // with ready: what each file is
}

// The names of files, but for resolvers' sockets: these are the network (udp, tcp), a space and the address.
const (
	fileIPv4   = "ipv4"
	fileIPv6   = "ipv6"
	fileDiag   = "diag"   // what tells sockets of the command's network namespace; see diag
	fileUplink = "uplink" // the network namespace that an uplink belongs into
)

// largest is the largest message, in bytes. Errors and notes are short.
const largest = 1 << 16

// wire is one end of the socket between Run and a run's first process. Its messages are whole or not there.
type wire struct{ *net.UnixConn }

// pair makes both ends. The second one is a file to be handed to a new process.
func pair() (wire, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return wire{}, nil, fmt.Errorf("make a socket for the lab's first process: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "control")
	ours, err := newWire(os.NewFile(uintptr(fds[0]), "control"))
	if err != nil {
		theirs.Close()
		return wire{}, nil, err
	}
	return ours, theirs, nil
}

// newWire makes one end of a file, which it closes.
func newWire(f *os.File) (wire, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return wire{}, fmt.Errorf("use the socket of the lab: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return wire{}, fmt.Errorf("the lab's socket is a %T", c)
	}
	return wire{u}, nil
}

func (w wire) send(message any, files ...*os.File) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, err = w.WriteMsgUnix(text, rights, nil)
	return err
}

// receive reads one message into a struct, with the files that came along. io.EOF is the other end's end.
func (w wire) receive(message any) ([]*os.File, error) {
	text, rights := make([]byte, largest), make([]byte, unix.CmsgSpace(64*4))
	n, m, flags, _, err := w.ReadMsgUnix(text, rights)
	if err != nil {
		return nil, err
	}
	files, err := received(rights[:m])
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		closeAll(files)
		return nil, errors.New("a message within the lab was cut off")
	}
	if err := json.NewDecoder(bytes.NewReader(text[:n])).Decode(message); err != nil {
		closeAll(files)
		return nil, fmt.Errorf("a message within the lab: %w", err)
	}
	return files, nil
}

// received are the files of a message's control part. (The reader has set close-on-exec on them: MSG_CMSG_CLOEXEC.)
func received(rights []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, fmt.Errorf("files from within the lab: %w", err)
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("files from within the lab: %w", err)
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "lab"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
