package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
)

// resolvers are the host's nameservers, as a run with a way to the outside needs them.
type resolvers struct {
	text string // the file
	// loopback are those of the host's loopback interface (systemd-resolved's, say), which is another one inside: a socket there stands
	// in for each, and what it gets is asked of the real one.
	loopback []string
	notes    []string
}

// readResolvers reads a resolv.conf. A host without one has its nameserver, as resolv.conf(5) says, on the loopback interface.
func readResolvers(path string) (resolvers, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return resolvers{}, fmt.Errorf("read the host's nameservers: %w", err)
	}
	return parseResolvers(string(text)), nil
}

func parseResolvers(text string) resolvers {
	r, some := resolvers{text: text}, false
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		address, err := netip.ParseAddr(fields[1])
		if err != nil {
			continue
		}
		some = true
		switch {
		case address.Unmap().IsLoopback():
			if at := address.Unmap().String(); !slices.Contains(r.loopback, at) {
				r.loopback = append(r.loopback, at)
			}
		case address.Zone() != "":
			r.notes = append(r.notes, fmt.Sprintf("The nameserver %s cannot be reached: it is on one of the host's links.", address))
		}
	}
	if !some {
		r.loopback = []string{"127.0.0.1"}
	}
	return r
}

// relay asks the host's nameserver what comes to a socket inside, until it is ended.
func (r resolvers) relay(name string, file *os.File, c clock.Clock) (end func(), err error) {
	network, address, _ := strings.Cut(name, " ")
	server := net.JoinHostPort(address, "53")
	switch network {
	case "udp":
		inside, err := net.FilePacketConn(file)
		if err != nil {
			return nil, fmt.Errorf("stand in for the nameserver %s: %w", address, err)
		}
		go relayPackets(inside, server, c)
		return func() { inside.Close() }, nil
	case "tcp":
		inside, err := net.FileListener(file)
		if err != nil {
			return nil, fmt.Errorf("stand in for the nameserver %s: %w", address, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		go relayConnections(ctx, inside, server)
		return func() { cancel(); inside.Close() }, nil
	}
	return nil, fmt.Errorf("a file named %q came from within the lab", name)
}

const (
	largestAnswer = 1 << 16          // bytes; UDP carries no more
	askedFor      = 10 * time.Second // how long an answer is waited for: longer than resolvers do
	askedAtOnce   = 64               // questions; more are dropped, as UDP may
)

func relayPackets(inside net.PacketConn, server string, c clock.Clock) {
	slots := make(chan struct{}, askedAtOnce)
	for {
		question := make([]byte, largestAnswer)
		n, from, err := inside.ReadFrom(question)
		if err != nil {
			return // it was closed
		}
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		go func() {
			defer func() { <-slots }()
			if answer, err := ask(server, question[:n], c); err == nil { // whoever asked asks again
				_, _ = inside.WriteTo(answer, from)
			}
		}()
	}
}

func ask(server string, question []byte, c clock.Clock) ([]byte, error) {
	conn, err := net.Dial("udp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(c.Now().Add(askedFor)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(question); err != nil {
		return nil, err
	}
	answer := make([]byte, largestAnswer)
	n, err := conn.Read(answer)
	return answer[:n], err
}

func relayConnections(ctx context.Context, inside net.Listener, server string) {
	for {
		client, err := inside.Accept()
		if err != nil {
			return // it was closed
		}
		go func() {
			defer client.Close()
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", server)
			if err != nil {
				return
			}
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { client.Close(); conn.Close() })
			defer stop()
			go func() {
				_, _ = io.Copy(conn, client)
				if tcp, ok := conn.(*net.TCPConn); ok {
					_ = tcp.CloseWrite()
				}
			}()
			_, _ = io.Copy(client, conn)
		}()
	}
}
