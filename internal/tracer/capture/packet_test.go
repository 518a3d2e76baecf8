package capture

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

const (
	flagSYN = 2
	flagACK = 16
)

// tcpHeader makes a TCP header with twelve bytes of options, as Linux sends them.
func tcpHeader(from, to netip.AddrPort, seq uint32, flags byte) []byte {
	h := make([]byte, 32)
	binary.BigEndian.PutUint16(h, from.Port())
	binary.BigEndian.PutUint16(h[2:], to.Port())
	binary.BigEndian.PutUint32(h[4:], seq)
	h[12], h[13] = 8<<4, flags
	return h
}

func ipv4(t testing.TB, from, to string, seq uint32, flags byte, payload string) []byte {
	t.Helper()
	a, b := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	tcp := append(tcpHeader(a, b, seq, flags), payload...)
	h := make([]byte, 20)
	h[0], h[9] = 0x45, protocolTCP
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(tcp)))
	copy(h[12:], a.Addr().AsSlice())
	copy(h[16:], b.Addr().AsSlice())
	return append(h, tcp...)
}

func ipv6(t testing.TB, from, to string, seq uint32, flags byte, payload string) []byte {
	t.Helper()
	a, b := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	tcp := append(tcpHeader(a, b, seq, flags), payload...)
	h := make([]byte, 40)
	h[0], h[6] = 0x60, protocolTCP
	binary.BigEndian.PutUint16(h[4:], uint16(len(tcp)))
	copy(h[8:], a.Addr().AsSlice())
	copy(h[24:], b.Addr().AsSlice())
	return append(h, tcp...)
}

func TestParsePacket(t *testing.T) {
	const from4, to4, from6, to6 = "10.0.0.1:40000", "169.254.169.254:80", "[fd00::1]:40000", "[fd00:ec2::254]:80"
	plain := ipv4(t, from4, to4, 7, flagACK, "GET /")
	jumbo := ipv6(t, from6, to6, 7, flagACK, "GET /")
	jumbo = append(append(append(append([]byte{}, jumbo[:4]...), 0, 0, 0), jumbo[7:40]...), append([]byte{protocolTCP, 0, 0xc2, 4, 0, 1, 0, 0}, jumbo[40:]...)...)
	for _, c := range []struct {
		name    string
		b       []byte
		size    int
		seq     uint32
		payload string
		missing int
	}{
		{"IPv4", plain, 0, 7, "GET /", 0},
		{"IPv4 with what fills up a frame", append(append([]byte{}, plain...), 0, 0, 0), 0, 7, "GET /", 0},
		{"IPv4 cut in the payload", plain[:len(plain)-2], len(plain), 7, "GET", 2},
		{"IPv4 cut before the payload", plain[:52], len(plain), 7, "", 5},
		{"IPv4, no payload", ipv4(t, from4, to4, 7, flagACK, ""), 0, 7, "", 0},
		{"IPv4, fast open", ipv4(t, from4, to4, 7, flagSYN, "GET /"), 0, 8, "GET /", 0},
		{"IPv6", ipv6(t, from6, to6, 7, flagACK, "GET /"), 0, 7, "GET /", 0},
		{"IPv6 with more than 64 KB", jumbo, 0, 7, "GET /", 0},
		{"the last number", ipv4(t, from4, to4, 1<<32-1, flagSYN, "GET /"), 0, 0, "GET /", 0},
	} {
		size := max(c.size, len(c.b))
		p, ok := parsePacket(c.b, size)
		if !ok || p.seq != c.seq || string(p.payload) != c.payload || p.missing != c.missing || p.from.Port() != 40000 || p.to.Port() != 80 {
			t.Errorf("%s: %+v %v", c.name, p, ok)
		}
	}
	fragment := ipv4(t, from4, to4, 7, flagACK, "GET /")
	fragment[7] = 1
	udp := ipv4(t, from4, to4, 7, flagACK, "GET /")
	udp[9] = 17
	short := ipv4(t, from4, to4, 7, flagACK, "GET /")
	short[20+12] = 4 << 4
	long := ipv4(t, from4, to4, 7, flagACK, "")
	long[20+12] = 15 << 4
	for name, b := range map[string][]byte{"nothing": nil, "a later fragment": fragment, "UDP": udp, "half a header": plain[:30],
		"too short a TCP header": short, "a TCP header longer than the packet": long, "version 5": append([]byte{0x55}, plain[1:]...)} {
		if p, ok := parsePacket(b, len(b)); ok {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// TestFlows sees a container's connection leave the container, and again as the host sends it on from another address.
func TestFlows(t *testing.T) {
	f := newFlows()
	now := time.Unix(1e9, 0)
	see := func(netns uint64, from string, seq uint32, flags byte, payload string) (uint64, bool) {
		t.Helper()
		p, ok := parsePacket(ipv4(t, from, "169.254.169.254:80", seq, flags, payload), 1<<20)
		if !ok {
			t.Fatal("no packet")
		}
		now = now.Add(time.Millisecond)
		known, isNew := f.of(netns, p, now)
		if known == nil {
			return 0, false
		}
		return known.socket, isNew
	}
	a, isNew := see(1, "172.17.0.2:40000", 100, flagSYN, "")
	if a == 0 || !isNew {
		t.Fatal("a new connection is not known as one")
	}
	if b, isNew := see(2, "10.0.0.1:61000", 100, flagSYN, ""); b != a || isNew {
		t.Errorf("the host's copy is another connection: %d", b)
	}
	if b, _ := see(1, "172.17.0.2:40000", 101, flagACK, ""); b != 0 {
		t.Errorf("an acknowledgement belongs to a connection: %d", b)
	}
	for netns, from := range map[uint64]string{1: "172.17.0.2:40000", 2: "10.0.0.1:61000"} {
		if b, isNew := see(netns, from, 101, flagACK, "GET /"); b != a || isNew {
			t.Errorf("what is sent on it is of another: %d, want %d", b, a)
		}
	}
	if b, isNew := see(1, "172.17.0.2:40000", 100, flagSYN, ""); b != a || isNew {
		t.Errorf("a beginning that is sent again is another's: %d", b)
	}
	if b, isNew := see(1, "172.17.0.2:40000", 5000, flagSYN, ""); b == a || !isNew {
		t.Errorf("a port that is used again: %d", b)
	}
	// The same address in another container, at the same time: another connection, with numbers of its own.
	if b, isNew := see(3, "172.17.0.2:40000", 70000, flagSYN, ""); b == a || !isNew {
		t.Errorf("another container's connection: %d", b)
	}
	// Older than the trace: what is sent tells that it is the same.
	c, isNew := see(1, "172.17.0.2:50000", 900, flagACK, "GET /c")
	if !isNew {
		t.Error("an old connection is not known as new here")
	}
	if d, isNew := see(2, "10.0.0.1:62000", 900, flagACK, "GET /c"); d != c || isNew {
		t.Errorf("its copy: %d, want %d", d, c)
	}
	if d, isNew := see(2, "10.0.0.1:62001", 900, flagACK, "GET /d"); d == c || !isNew {
		t.Errorf("another content with the same number: %d", d)
	}
	now = now.Add(2 * crossing)
	if d, isNew := see(4, "10.0.0.1:62002", 900, flagACK, "GET /c"); d == c || !isNew {
		t.Errorf("the same, much later: %d", d)
	}
}

func TestGenerations(t *testing.T) {
	g := newGenerations[int, int](4)
	for i := range 100 {
		g.put(i, i*i)
		if v, ok := g.get(0); !ok || v != 0 {
			t.Fatalf("what is asked for is forgotten after %d", i)
		}
		if len(g.young)+len(g.old) > 8 {
			t.Fatalf("%d are kept", len(g.young)+len(g.old))
		}
	}
	if _, ok := g.get(50); ok {
		t.Error("what nobody asked for is kept")
	}
	if v, ok := g.get(98); !ok || v != 98*98 {
		t.Error("what was put last is forgotten")
	}
}

func FuzzParsePacket(f *testing.F) {
	f.Add(ipv4(f, "10.0.0.1:40000", "169.254.169.254:80", 7, flagSYN, "GET /"), 3)
	f.Add(ipv6(f, "[fd00::1]:40000", "[fd00:ec2::254]:80", 7, flagACK, "GET /"), 0)
	f.Fuzz(func(t *testing.T, b []byte, more int) {
		size := len(b) + max(0, more%(1<<20))
		p, ok := parsePacket(b, size)
		if !ok {
			return
		}
		if p.missing < 0 || len(p.payload) > len(b) || len(p.payload)+p.missing > size {
			t.Errorf("%d bytes and %d missing of %d", len(p.payload), p.missing, size)
		}
		if !p.from.IsValid() || !p.to.IsValid() {
			t.Errorf("addresses %s, %s", p.from, p.to)
		}
	})
}
