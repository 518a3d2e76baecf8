package bench

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/imdsctl/imdsctl/internal/tracer"
	"github.com/imdsctl/imdsctl/internal/tracer/capture"
	"github.com/imdsctl/imdsctl/internal/tracer/capture/bpf"
)

// BenchmarkTracePacket measures what the eBPF programs of `imdsctl trace` cost a packet, by BPF_PROG_TEST_RUN: one of a socket that goes to
// another port, one of a socket that goes to the same port of another address, and a request to the metadata service, which is copied.
// The kernel's test socket goes to port 0, so for the last two that is taken for the service's. A program that does nothing gives the floor.
func BenchmarkTracePacket(b *testing.B) {
	needRoot(b)
	nothing, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}})
	if err != nil {
		b.Fatal(err)
	}
	defer nothing.Close()
	for name, read := range map[string]func() (*ebpf.CollectionSpec, error){"full": bpf.Full, "no-probe": bpf.NoProbe} {
		for _, c := range []struct {
			name string
			port uint32
			to   [4]byte
		}{
			{"other port", 80, [4]byte{169, 254, 169, 254}},
			{"other address", 0, [4]byte{10, 0, 0, 1}},
			{"metadata service", 0, [4]byte{169, 254, 169, 254}},
		} {
			b.Run(name+"/"+c.name, func(b *testing.B) {
				program, ring := loadEgress(b, read, c.port)
				frame := requestFrame(c.to)
				var took, floor []float64
				for b.Loop() {
					for range 21 {
						took = append(took, perPacket(b, program, frame))
						floor = append(floor, perPacket(b, nothing, frame))
						drain(b, ring)
					}
				}
				b.ReportMetric(median(took), "ns/packet")
				b.ReportMetric(median(floor), "ns/nothing")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// perPacket is how many nanoseconds a program takes for a packet.
func perPacket(b *testing.B, program *ebpf.Program, frame []byte) float64 {
	b.Helper()
	const repeat = 2000 // their copies fit into the buffer
	_, took, err := program.Benchmark(frame, repeat, func() {})
	if err != nil {
		b.Fatal(err)
	}
	return float64(took.Nanoseconds())
}

func needRoot(b *testing.B) {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Skip("eBPF programs take root")
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		b.Log(err)
	}
}

// loadEgress loads an object for a service at a port, and gives its program for packets and its buffer.
func loadEgress(b *testing.B, read func() (*ebpf.CollectionSpec, error), port uint32) (*ebpf.Program, *ringbuf.Reader) {
	b.Helper()
	spec, err := read()
	if err != nil {
		b.Fatal(err)
	}
	if err := spec.Variables[bpf.Port].Set(port); err != nil {
		b.Fatal(err)
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	ring, err := ringbuf.NewReader(c.Maps[bpf.Events])
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ring.Close() })
	return c.Programs[bpf.Egress], ring
}

// drain empties a buffer, so that the next packets find room.
func drain(b *testing.B, ring *ringbuf.Reader) {
	b.Helper()
	if err := ring.Flush(); err != nil {
		b.Fatal(err)
	}
	var r ringbuf.Record
	for {
		if err := ring.ReadInto(&r); errors.Is(err, ringbuf.ErrFlushed) {
			return
		} else if err != nil {
			b.Fatal(err)
		}
	}
}

// requestFrame is an Ethernet frame with an IPv4 packet that holds a request as curl makes it.
func requestFrame(to [4]byte) []byte {
	payload := "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: 169.254.169.254\r\nUser-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n"
	ip, tcp := make([]byte, 20), make([]byte, 32)
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(tcp)+len(payload)))
	copy(ip[12:], []byte{10, 0, 0, 2})
	copy(ip[16:], to[:])
	binary.BigEndian.PutUint16(tcp, 40000)
	binary.BigEndian.PutUint16(tcp[2:], 80)
	tcp[12], tcp[13] = 8<<4, 0x18
	frame := append(make([]byte, 12), 0x08, 0x00)
	return slices.Concat(frame, ip, tcp, []byte(payload))
}

// BenchmarkTraceLoopback measures unrelated traffic, on loopback, with and without a capture, in turns: bytes a second of one connection,
// and the time of one byte there and back. Ratios of the medians are reported: 1 is no cost.
func BenchmarkTraceLoopback(b *testing.B) {
	needRoot(b)
	for b.Loop() {
		var rate, turn [2][]float64 // without, with
		for range 15 {
			for i, attached := range []bool{false, true} {
				stop := func() {}
				if attached {
					c, err := capture.Start(b.Context(), capture.Options{Tier: tracer.TierFull}, forgets{})
					if err != nil {
						b.Fatal(err)
					}
					stop = func() {
						if _, err := c.Stop(); err != nil {
							b.Fatal(err)
						}
					}
				}
				r, t := traffic(b)
				rate[i], turn[i] = append(rate[i], r), append(turn[i], t)
				stop()
			}
		}
		b.ReportMetric(median(rate[1])/median(rate[0]), "rate-ratio")
		b.ReportMetric(median(turn[1])/median(turn[0]), "latency-ratio")
		b.ReportMetric(spread(rate[0]), "rate-noise")
		b.ReportMetric(spread(turn[0]), "latency-noise")
		b.ReportMetric(median(rate[0])/1e9, "GB/s")
		b.ReportMetric(median(turn[0])*1e6, "µs/turn")
	}
}

// forgets is a sink that forgets.
type forgets struct{}

func (forgets) Connected(tracer.Connect) {}
func (forgets) Sent(tracer.Segment)      {}
func (forgets) Lost(uint64, string)      {}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// spread is the half of the values in the middle, against the median: what the same gives from one time to the next.
func spread(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[len(v)*3/4] - v[len(v)/4]) / median(v)
}

// traffic sends a gigabyte, and then a byte there and back twenty thousand times.
func traffic(b *testing.B) (bytesPerSecond, secondsPerTurn float64) {
	b.Helper()
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	const size, turns = 1 << 30, 20_000
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := io.CopyN(io.Discard, onlyReader{c}, size); err != nil {
			return
		}
		one := make([]byte, 1)
		for {
			if _, err := c.Write(one); err != nil {
				return
			}
			if _, err := io.ReadFull(c, one); err != nil {
				return
			}
		}
	}()
	c, err := (&net.Dialer{}).DialContext(b.Context(), "tcp4", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	block, one := make([]byte, 1<<17), make([]byte, 1)
	began := time.Now()
	for range size / len(block) {
		if _, err := c.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := io.ReadFull(c, one); err != nil { // it is all there
		b.Fatal(err)
	}
	bytesPerSecond = size / time.Since(began).Seconds()
	began = time.Now()
	for range turns {
		if _, err := c.Write(one); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, one); err != nil {
			b.Fatal(err)
		}
	}
	return bytesPerSecond, time.Since(began).Seconds() / turns
}

// onlyReader hides that a connection can copy within the kernel.
type onlyReader struct{ io.Reader }
