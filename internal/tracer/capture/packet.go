package capture

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"slices"
	"time"
)

// The addresses of the service.
var service = []netip.Addr{netip.AddrFrom4([4]byte{169, 254, 169, 254}), netip.MustParseAddr("fd00:ec2::254")}

// packet is what a program sends in one packet, from the network's header on.
type packet struct {
	from, to netip.AddrPort
	seq      uint32 // of the first byte of the payload
	syn      bool
	payload  []byte
	missing  int // bytes of the payload that were not captured
}

const protocolTCP = 6

// parsePacket reads a packet that was size bytes long, of which b holds the first. It is false for what is no whole TCP over IP.
func parsePacket(b []byte, size int) (packet, bool) {
	if len(b) < 20 {
		return packet{}, false
	}
	var source, destination []byte
	var tcp, total int
	switch b[0] >> 4 {
	case 4:
		if fragment := binary.BigEndian.Uint16(b[6:]) & 0x1fff; b[9] != protocolTCP || fragment != 0 {
			return packet{}, false
		}
		source, destination = b[12:16], b[16:20]
		tcp, total = int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	case 6:
		if len(b) < 48 {
			return packet{}, false
		}
		source, destination = b[8:24], b[24:40]
		tcp = 40
		if length := int(binary.BigEndian.Uint16(b[4:])); length != 0 {
			total = 40 + length
		}
		if b[6] == 0 && b[40] == protocolTCP { // hop-by-hop options, of packets of more than 64 KB
			tcp += (int(b[41]) + 1) * 8
		} else if b[6] != protocolTCP {
			return packet{}, false
		}
	default:
		return packet{}, false
	}
	if total == 0 { // more than the header can tell
		total = size
	}
	return parseTCP(b, source, destination, tcp, min(total, size))
}

func parseTCP(b, source, destination []byte, at, total int) (packet, bool) {
	if at < 20 || len(b) < at+20 {
		return packet{}, false
	}
	h := b[at:]
	from, _ := netip.AddrFromSlice(source)
	to, _ := netip.AddrFromSlice(destination)
	p := packet{
		from: netip.AddrPortFrom(from, binary.BigEndian.Uint16(h)), to: netip.AddrPortFrom(to, binary.BigEndian.Uint16(h[2:])),
		seq: binary.BigEndian.Uint32(h[4:]), syn: h[13]&2 != 0,
	}
	if p.syn {
		p.seq++ // it takes a number of its own
	}
	payload := at + int(h[12]>>4)*4
	if payload < at+20 || payload > total {
		return packet{}, false
	}
	end := min(total, len(b))
	if payload < end {
		p.payload = b[payload:end]
	}
	p.missing = total - max(payload, end)
	return p, true
}

// flow is a connection as packets show it in one network namespace.
type flow struct {
	socket uint64
	seq    uint32 // of its beginning, where that was seen
	begun  bool
	owner  owner
}

// owner is what was found of who holds a connection's socket.
type owner struct {
	asked int // how often
	found bool
}

// flowKey names a flow. Two namespaces may use the same addresses.
type flowKey struct {
	netns    uint64
	from, to netip.AddrPort
}

// print is what a packet has of its own when it is seen again in another network namespace, which may have given it another address.
// Sequence numbers begin anywhere among four billions.
type print struct {
	seq  uint32
	syn  bool
	size int
	sum  uint64
	to   netip.AddrPort
}

type printed struct {
	flow *flow
	at   time.Time
}

// flows tells packets of one connection from those of others. A container's packet is seen as it leaves the container and again as the
// host sends it on: it is the same connection.
type flows struct {
	next   uint64
	seed   maphash.Seed
	known  generations[flowKey, *flow]
	prints generations[print, printed]
}

// crossing is how long a packet may take from one network namespace to the last one of the host.
const crossing = 5 * time.Second

func newFlows() *flows {
	return &flows{seed: maphash.MakeSeed(), known: newGenerations[flowKey, *flow](16 << 10), prints: newGenerations[print, printed](16 << 10)}
}

// of gives a packet's flow, and tells whether the flow is new. A packet without payload that begins nothing has none.
func (f *flows) of(netns uint64, p packet, at time.Time) (known *flow, isNew bool) {
	if !p.syn && len(p.payload) == 0 && p.missing == 0 || !slices.Contains(service, p.to.Addr()) {
		return nil, false
	}
	key := flowKey{netns, p.from, p.to}
	known, ok := f.known.get(key)
	if ok && p.syn && (!known.begun || known.seq != p.seq) {
		ok = false // the port is used again
	}
	id := print{seq: p.seq, syn: p.syn, size: len(p.payload) + p.missing, sum: maphash.Bytes(f.seed, p.payload), to: p.to}
	if ok {
		f.prints.put(id, printed{known, at})
		return known, false
	}
	if seen, twice := f.prints.get(id); twice && at.Sub(seen.at).Abs() < crossing {
		f.known.put(key, seen.flow)
		return seen.flow, false
	}
	f.next++
	known = &flow{socket: f.next, seq: p.seq, begun: p.syn}
	f.known.put(key, known)
	f.prints.put(id, printed{known, at})
	return known, true
}
