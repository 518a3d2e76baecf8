package imds_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/imds"
)

// caught is a listener that shows the connections it accepts.
type caught struct {
	net.Listener
	conns chan *net.TCPConn
}

// Accept implements net.Listener.
func (c caught) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		c.conns <- tcp
	}
	return conn, err
}

// TestHopLimitOfASocket reads the limit of the service's socket after each answer on one connection: it is that of the options after
// a PUT, given a token or not, and the system's own after all else.
func TestHopLimitOfASocket(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			l, err := imds.Listen(t.Context(), address)
			if err != nil && address == "[::1]:0" {
				t.Skipf("this machine has no IPv6: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t, imds.State{Options: fleet.Options{HopLimit: 3, IPv6: fleet.Enabled}})
			ctx, stop := context.WithCancel(t.Context())
			ended, c := make(chan error, 1), caught{l, make(chan *net.TCPConn, 1)}
			go func() { ended <- w.Serve(ctx, c) }()
			t.Cleanup(func() { stop(); <-ended })
			client, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, answers := <-c.conns, bufio.NewReader(client)
			usual := limitOf(t, server)
			for i, step := range []struct {
				line, headers string
				status, limit int
			}{
				{"GET /latest/", "", 200, usual},
				{"PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 5\r\n", 200, 3},
				{"PUT /latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 0\r\n", 400, 3},
				{"GET /latest/", "", 200, usual},
				{"HEAD /latest/", "", 200, usual},
				{"PUT /latest/", "", 403, 3},
				{"POST /latest/", "", 405, usual},
			} {
				method, _, _ := strings.Cut(step.line, " ")
				fmt.Fprintf(client, "%s HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n%s\r\n", step.line, step.headers)
				a, err := http.ReadResponse(answers, &http.Request{Method: method})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, a.Body); err != nil {
					t.Fatal(err)
				}
				if got := limitOf(t, server); a.StatusCode != step.status || got != step.limit {
					t.Errorf("step %d, %s: %d with limit %d, want %d with %d", i, step.line, a.StatusCode, got, step.status, step.limit)
				}
			}
		})
	}
}

func limitOf(t *testing.T, c *net.TCPConn) (limit int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	level, option := syscall.IPPROTO_IP, syscall.IP_TTL
	if c.LocalAddr().(*net.TCPAddr).IP.To4() == nil {
		level, option = syscall.IPPROTO_IPV6, syscall.IPV6_UNICAST_HOPS
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { limit, failed = syscall.GetsockoptInt(int(fd), level, option) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return limit
}
