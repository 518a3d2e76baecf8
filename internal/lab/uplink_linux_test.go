package lab

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestTheUplinkCarries: both ends of the link between the host and the command carry packets when it has been made. The kernel may turn
// them on only a second after they were told to, and the command's first packet, or the answer to it, would be lost until then.
func TestTheUplinkCarries(t *testing.T) {
	needRoot(t)
	for range 5 { // the first link has the same index at both ends, which is when the kernel hurries least
		host, err := newSpace()
		edge, failed := newSpace()
		if err := errors.Join(err, failed); err != nil {
			t.Fatal(err)
		}
		var unlink func()
		err = host.in(func() (err error) {
			unlink, err = hostLink("imdsctl0", "out0", edge.ns, uplinkSegment(0), false)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for name, end := range map[string]*space{"imdsctl0": host, "out0": edge} {
			link, err := end.LinkByName(name)
			if err != nil {
				t.Fatal(err)
			}
			if state := link.Attrs().OperState; state != netlink.OperUp {
				t.Errorf("%s is %s", name, state)
			}
		}
		if err := host.in(func() error { unlink(); return nil }); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*space{host, edge} {
			close(s.call)
			s.Close()
			s.ns.Close()
		}
	}
}
