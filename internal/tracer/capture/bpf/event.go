package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// The kinds of events.
const (
	kindConnected = 1
	kindSender    = 2
	kindSent      = 3
)

// Sizes of trace.c.
const (
	nameSize = 128
	steps    = 20
	levels   = 8
	parents  = 8
	argsSize = 1024

	headSize  = 104
	pieceSize = 40

	offParents = headSize
	offExe     = offParents + parents*20
	offArgs    = offExe + steps*nameSize
	offCgroup2 = offArgs + argsSize
	offCgroup1 = offCgroup2 + levels*nameSize
	callerSize = offCgroup1 + levels*nameSize
)

// Flags of a caller.
const (
	wholeExe     = 1
	wholeCgroup2 = 2
	wholeCgroup1 = 4
)

// Caller is a process that connects, or sends on a socket that another process connected or that is older than the programs.
type Caller struct {
	Sends  bool   // it sends; else it connects
	Socket uint64 // cookie
	Time   uint64 // nanoseconds of the monotonic clock
	PID    int    // as the host's first PID namespace has it
	Thread int
	UID    int
	Comm   string // the thread's name

	// Full tells that what follows was read; where it is false, only CgroupID was.
	Full bool
	// Started is when it started, in nanoseconds since the host did, suspended time included.
	Started uint64
	// Execs is how often the process and its forebears have begun another program.
	Execs   uint64
	NetNS   uint64
	Parents []Parent // the nearest first, without the first process, eight at most
	// Exe is the program's path as the process sees it. Where it is not whole, its beginning is missing, and with it the first slash.
	Exe      string
	WholeExe bool
	// Args are the arguments. Where they are not whole, the last one may be cut.
	Args      []string
	WholeArgs bool
	// Cgroup2 is the path in cgroup v2 and Cgroup1 that of the pids controller in v1, empty where there is none; an incomplete one lacks
	// its beginning, and with it the first slash.
	Cgroup2, Cgroup1 string

	// CgroupID is the id in cgroup v2, by which the path can be found while the cgroup exists.
	CgroupID uint64
}

// Parent is a process above a caller.
type Parent struct {
	PID  int
	Comm string
}

// Piece is what a socket sends: all that is in a packet, or a piece of it.
type Piece struct {
	Socket  uint64
	Time    uint64 // nanoseconds of the monotonic clock
	Seq     uint32 // of the first byte
	Bytes   []byte // those of the record that was decoded
	Missing int    // bytes of the packet after these that were not read
	// PID and Execs tell who sends, as in the Caller that came before on this socket; PID is 0 where that is not sure.
	PID   int
	Execs uint32
}

// errRecord says that a record is none of ours.
var errRecord = errors.New("a record of the ring buffer is not as the programs write it")

// Decode reads a record of the ring buffer: either a Caller or a Piece.
func Decode(record []byte) (*Caller, *Piece, error) {
	if len(record) < 8 {
		return nil, nil, fmt.Errorf("%w: %d bytes", errRecord, len(record))
	}
	kind := binary.LittleEndian.Uint32(record)
	switch {
	case kind == kindSent && len(record) >= pieceSize:
		return decodePiece(record)
	case (kind == kindConnected || kind == kindSender) && len(record) >= callerSize:
		c := decodeHead(record)
		c.readRest(record)
		return c, nil, nil
	case kind == kindConnected && len(record) >= headSize:
		return decodeHead(record), nil, nil
	}
	return nil, nil, fmt.Errorf("%w: kind %d of %d bytes", errRecord, kind, len(record))
}

func decodePiece(b []byte) (*Caller, *Piece, error) {
	size := binary.LittleEndian.Uint32(b[4:])
	if uint64(size) > uint64(len(b)-pieceSize) {
		return nil, nil, fmt.Errorf("%w: %d bytes of a socket in %d", errRecord, size, len(b))
	}
	return nil, &Piece{
		Socket: u64(b, 8), Time: u64(b, 16), Seq: u32(b, 24), Missing: int(u32(b, 28)),
		PID: int(u32(b, 32)), Execs: u32(b, 36), Bytes: b[pieceSize:][:size],
	}, nil
}

func decodeHead(b []byte) *Caller {
	return &Caller{
		Sends: u32(b, 0) == kindSender, PID: int(u32(b, 4)), Socket: u64(b, 8), Time: u64(b, 16), Started: u64(b, 24), Execs: u64(b, 32),
		CgroupID: u64(b, 40), Thread: int(u32(b, 48)), UID: int(u32(b, 52)), NetNS: uint64(u32(b, 56)), Comm: text(b[88:headSize]),
	}
}

func (c *Caller) readRest(b []byte) {
	flags := u32(b, 60)
	c.Full = true
	for i := range min(u32(b, 64), parents) {
		p := b[offParents+i*20:]
		c.Parents = append(c.Parents, Parent{PID: int(u32(p, 0)), Comm: text(p[4:20])})
	}
	c.WholeExe = flags&wholeExe != 0
	c.Exe = path(b[offExe:], min(u32(b, 68), steps), c.WholeExe)
	args, total := min(u32(b, 72), argsSize), u32(b, 76)
	c.Args, c.WholeArgs = arguments(b[offArgs:][:args]), args == total
	c.Cgroup2 = path(b[offCgroup2:], min(u32(b, 80), levels), flags&wholeCgroup2 != 0)
	if flags&wholeCgroup1 != 0 || u32(b, 84) != 0 {
		c.Cgroup1 = path(b[offCgroup1:], min(u32(b, 84), levels), flags&wholeCgroup1 != 0)
	}
}

// path joins n names, the innermost first, with the slash of the root if they are whole.
func path(names []byte, n uint32, whole bool) string {
	var parts []string
	for i := int(n) - 1; i >= 0; i-- {
		if name := text(names[i*nameSize:][:nameSize]); name != "" {
			parts = append(parts, name)
		}
	}
	joined := strings.Join(parts, "/")
	if whole {
		return "/" + joined
	}
	return joined
}

// arguments divides a command line at its zeros.
func arguments(b []byte) []string {
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 {
		return nil
	}
	return strings.Split(string(b), "\x00")
}

func text(b []byte) string {
	before, _, _ := bytes.Cut(b, []byte{0})
	return string(before)
}

func u32(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
func u64(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
