package bpf

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// TestLayout holds what is decoded against the structures that the objects were built with.
func TestLayout(t *testing.T) {
	for name, read := range map[string]func() (*ebpf.CollectionSpec, error){"full": Full, "noprobe": NoProbe} {
		spec, err := read()
		if err != nil {
			t.Fatal(err)
		}
		layouts := map[string]map[string]uint32{
			"caller_head": {"kind": 0, "pid": 4, "socket": 8, "time": 16, "started": 24, "execs": 32, "cgroup_id": 40, "thread": 48, "uid": 52,
				"netns": 56, "flags": 60, "parents": 64, "steps": 68, "args": 72, "args_total": 76, "levels2": 80, "levels1": 84, "comm": 88, "": headSize},
			"piece_head": {"kind": 0, "size": 4, "socket": 8, "time": 16, "seq": 24, "missing": 28, "pid": 32, "execs": 36, "": pieceSize},
		}
		if name == "full" {
			layouts["caller"] = map[string]uint32{"head": 0, "parents": offParents, "exe": offExe, "args": offArgs, "cgroup2": offCgroup2,
				"cgroup1": offCgroup1, "": callerSize}
		}
		for structure, want := range layouts {
			var s *btf.Struct
			if err := spec.Types.TypeByName(structure, &s); err != nil {
				t.Errorf("%s: %s: %v", name, structure, err)
				continue
			}
			got := map[string]uint32{"": s.Size}
			for _, m := range s.Members {
				got[m.Name] = m.Offset.Bytes()
			}
			for member, at := range want {
				if got[member] != at {
					t.Errorf("%s: %s.%s is at %d, and read at %d", name, structure, member, got[member], at)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%s: %s has members %v, of which %v are read", name, structure, got, want)
			}
		}
	}
}

// record makes a caller as the programs write it.
func record(change func(b []byte)) []byte {
	b := make([]byte, callerSize)
	for i := range b {
		b[i] = 0xaa // what was there before
	}
	put := func(at int, v uint32) { binary.LittleEndian.PutUint32(b[at:], v) }
	name := func(at int, s string) { copy(b[at:], s+"\x00") }
	put(0, kindConnected)
	put(4, 4711)
	binary.LittleEndian.PutUint64(b[8:], 99)
	binary.LittleEndian.PutUint64(b[16:], 5e9)
	put(48, 4712)
	put(52, 1000)
	put(56, 4026531833)
	put(60, wholeExe|wholeCgroup2)
	put(64, 2)
	put(68, 4)
	put(72, 11)
	put(76, 11)
	put(80, 2)
	put(84, 0)
	name(88, "thread")
	put(offParents, 17)
	name(offParents+4, "bash")
	put(offParents+20, 16)
	name(offParents+24, "sshd")
	for i, n := range []string{"curl", "bin", "", "usr"} { // a mount between /usr and bin
		name(offExe+i*nameSize, n)
	}
	copy(b[offArgs:], "curl\x00-s\x00\x00x\x00")
	name(offCgroup2, "a.service")
	name(offCgroup2+nameSize, "system.slice")
	change(b)
	return b
}

func TestDecodeCaller(t *testing.T) {
	c, piece, err := Decode(record(func([]byte) {}))
	if err != nil || piece != nil {
		t.Fatal(piece, err)
	}
	if c.Sends || c.PID != 4711 || c.Thread != 4712 || c.Socket != 99 || c.Time != 5e9 || c.UID != 1000 || c.NetNS != 4026531833 || c.Comm != "thread" || !c.Full {
		t.Errorf("%+v", c)
	}
	if c.Exe != "/usr/bin/curl" || !c.WholeExe || !c.WholeArgs || !slices.Equal(c.Args, []string{"curl", "-s", "", "x"}) {
		t.Errorf("%q %q", c.Exe, c.Args)
	}
	if c.Cgroup2 != "/system.slice/a.service" || c.Cgroup1 != "" || !slices.Equal(c.Parents, []Parent{{17, "bash"}, {16, "sshd"}}) {
		t.Errorf("%q %q %v", c.Cgroup2, c.Cgroup1, c.Parents)
	}
	c, _, err = Decode(record(func(b []byte) {
		binary.LittleEndian.PutUint32(b, kindSender)
		binary.LittleEndian.PutUint32(b[60:], wholeCgroup1)
		binary.LittleEndian.PutUint32(b[76:], 5000)
		binary.LittleEndian.PutUint32(b[80:], 1)
	}))
	if err != nil || !c.Sends || c.Exe != "usr/bin/curl" || c.WholeExe || c.WholeArgs || c.Cgroup2 != "a.service" || c.Cgroup1 != "/" {
		t.Errorf("what is not whole: %+v %v", c, err)
	}
	c, _, err = Decode(record(func([]byte) {})[:headSize])
	if err != nil || c.Full || c.PID != 4711 || c.Comm != "thread" || c.Exe != "" {
		t.Errorf("a head alone: %+v %v", c, err)
	}
}

func TestDecodePiece(t *testing.T) {
	b := make([]byte, pieceSize+100)
	binary.LittleEndian.PutUint32(b, kindSent)
	binary.LittleEndian.PutUint32(b[4:], 3)
	binary.LittleEndian.PutUint32(b[24:], 1<<31)
	binary.LittleEndian.PutUint32(b[28:], 7)
	binary.LittleEndian.PutUint32(b[32:], 4711)
	copy(b[pieceSize:], "GET /")
	c, p, err := Decode(b)
	if err != nil || c != nil || string(p.Bytes) != "GET" || p.Seq != 1<<31 || p.Missing != 7 || p.PID != 4711 {
		t.Errorf("%+v %+v %v", c, p, err)
	}
	binary.LittleEndian.PutUint32(b[4:], 101)
	if _, p, err := Decode(b); err == nil {
		t.Errorf("more bytes than there are: %+v", p)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(record(func([]byte) {}))
	f.Add(record(func([]byte) {})[:headSize])
	f.Add(append(binary.LittleEndian.AppendUint32(nil, kindSent), make([]byte, pieceSize)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		c, p, err := Decode(b)
		if got := btoi(c != nil) + btoi(p != nil) + btoi(err != nil); got != 1 {
			t.Fatalf("%d of three: %v %v %v", got, c, p, err)
		}
		if !bytes.Equal(before, b) {
			t.Error("the record was changed")
		}
		if p != nil && len(p.Bytes) > len(b)-pieceSize {
			t.Errorf("%d bytes of %d", len(p.Bytes), len(b))
		}
		if c != nil && (len(c.Parents) > parents || len(c.Exe) > steps*nameSize || len(c.Args) > argsSize || strings.Contains(c.Exe+c.Comm, "\x00")) {
			t.Errorf("%+v", c)
		}
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
