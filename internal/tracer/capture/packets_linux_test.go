package capture

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/bpf"
)

// TestFilter runs the filter that the kernel runs. The interpreter knows no packet types, so the first instructions are left out.
func TestFilter(t *testing.T) {
	vm, err := bpf.NewVM(outgoing()[3:])
	if err != nil {
		t.Fatal(err)
	}
	other4 := ipv4(t, "10.0.0.1:40000", "169.254.169.253:80", 7, 0, "x")
	otherPort := ipv4(t, "10.0.0.1:80", "169.254.169.254:8080", 7, 0, "x")
	options := ipv4(t, "10.0.0.1:40000", "169.254.169.254:80", 7, 0, "x")
	options = append(append(append([]byte{0x46}, options[1:20]...), 1, 1, 1, 1), options[20:]...)
	for name, c := range map[string]struct {
		packet []byte
		want   bool
	}{
		"IPv4":                        {ipv4(t, "10.0.0.1:40000", "169.254.169.254:80", 7, 0, "x"), true},
		"IPv4 with options":           {options, true},
		"IPv4 elsewhere":              {other4, false},
		"IPv4 to another port":        {otherPort, false},
		"IPv6":                        {ipv6(t, "[fd00::1]:40000", "[fd00:ec2::254]:80", 7, 0, "x"), true},
		"IPv6 elsewhere":              {ipv6(t, "[fd00::1]:40000", "[fd00:ec2::253]:80", 7, 0, "x"), false},
		"IPv6 elsewhere in the midst": {ipv6(t, "[fd00::1]:40000", "[fd00:ec2:0:1::254]:80", 7, 0, "x"), false},
		"ARP":                         {append([]byte{0, 1, 8, 0}, make([]byte, 60)...), false},
	} {
		n, err := vm.Run(c.packet)
		if err != nil || n > 0 != c.want {
			t.Errorf("%s: %d %v", name, n, err)
		}
	}
}

func TestParseSocket(t *testing.T) {
	b := make([]byte, diagAnswerSize)
	b[0] = 10 // AF_INET6
	binary.BigEndian.PutUint16(b[4:], 40000)
	binary.BigEndian.PutUint16(b[6:], 80)
	copy(b[8:], []byte{10: 0xff, 11: 0xff, 12: 10, 13: 0, 14: 0, 15: 1})
	copy(b[24:], []byte{10: 0xff, 11: 0xff, 12: 169, 13: 254, 14: 169, 15: 254})
	binary.NativeEndian.PutUint32(b[44:], 5)
	binary.NativeEndian.PutUint32(b[48:], 1)
	binary.NativeEndian.PutUint32(b[64:], 1000)
	binary.NativeEndian.PutUint32(b[68:], 77)
	s, ok := parseSocket(b)
	if !ok || s.local.String() != "10.0.0.1:40000" || s.remote.String() != "169.254.169.254:80" || s.cookie != 1<<32|5 || s.uid != 1000 || s.inode != 77 {
		t.Errorf("%+v %v", s, ok)
	}
	if _, ok := parseSocket(b[:diagAnswerSize-1]); ok {
		t.Error("half an answer was read")
	}
}

// TestSearchesTakeTurnsWithReading: going through all sockets of a host, over and over for callers that have ended, would keep packets from
// being read.
func TestSearchesTakeTurnsWithReading(t *testing.T) {
	p := &packets{}
	a := arrived{packet: packet{from: netip.MustParseAddrPort("10.0.0.1:1234"), to: netip.AddrPortFrom(service[0], 80)}}
	if _, _, ok := p.translated(nil, a); ok || p.search.IsZero() {
		t.Errorf("found %v, and the next search may be at %v", ok, p.search)
	}
	later := time.Now().Add(time.Hour)
	p.search = later
	if _, _, ok := p.translated([]*space{{diag: diagnosis{-1}, diagnoses: true}}, a); ok || p.search != later {
		t.Errorf("found %v, and the next search may be at %v", ok, p.search)
	}
}
