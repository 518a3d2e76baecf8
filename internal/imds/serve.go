package imds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// The addresses of the service on EC2.
const (
	AddressIPv4 = "169.254.169.254:80"
	AddressIPv6 = "[fd00:ec2::254]:80"
)

// Listen opens a TCP socket at an address with a port, for one version of IP alone, so that the hop limit has one meaning. The port 0
// takes a free one.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen at %q: want an address and a port, such as 127.0.0.1:1338 or [::1]:1338", address)
	}
	network := "tcp4"
	if at.Addr().Is6() {
		network = "tcp6"
	}
	var config net.ListenConfig
	config.SetMultipathTCP(false) // its subflows would keep hop limits of their own
	l, err := config.Listen(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", address, err)
	}
	return l, nil
}

// Serve answers on all listeners until the context ends, and closes them and all connections. It gives nil then, and otherwise what
// stopped a listener. When it returns the observer has been told of every call that was answered.
func (s *Service) Serve(ctx context.Context, listeners ...net.Listener) error {
	var answering sync.RWMutex // read-locked by each request that is being answered
	handler := func(w http.ResponseWriter, r *http.Request) {
		answering.RLock()
		defer answering.RUnlock()
		s.ServeHTTP(w, r)
	}
	server := &http.Server{
		Handler: http.HandlerFunc(handler), ConnContext: withConnection, DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second, IdleTimeout: time.Minute, WriteTimeout: time.Minute,
		// A client that hangs up or sends no HTTP is its own affair; calls are told to the observer.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	ended := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { ended <- server.Serve(l) }()
	}
	var failed error
	for range listeners {
		if err := <-ended; failed == nil && !errors.Is(err, http.ErrServerClosed) {
			failed = err
			_ = server.Close()
		}
	}
	answering.Lock() // none is left
	defer answering.Unlock()
	if ctx.Err() != nil {
		return nil
	}
	return failed
}

// connection is one connection of Serve, whose requests come one after the other.
type connection struct {
	conn  net.Conn
	limit int // the hop limit that was set; 0 is the system's own
}

type connectionKey struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, &connection{conn: c})
}

// limitHops sets the hop limit of what the request's connection sends from now on, and gives the limit that then holds; 0 is the
// system's own, which holds outside of Serve and where the system cannot do it. On EC2 it is for the answers to PUT alone:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
//
// A lower limit stays while what was sent under it has not arrived. The system sends that again, under the limit of that time: a client
// behind too many hops would get its token by asking for something else right behind it.
func limitHops(ctx context.Context, limit int) (int, error) {
	c, ok := ctx.Value(connectionKey{}).(*connection)
	switch {
	case !ok || !HopLimits:
		return 0, nil
	case limit == c.limit:
		return limit, nil
	case c.limit > 0 && (limit == 0 || limit > c.limit):
		if waits, err := unconfirmed(c.conn); err != nil || waits {
			return c.limit, err
		}
	}
	if err := setHopLimit(c.conn, limit); err != nil {
		return 0, err
	}
	c.limit = limit
	return limit, nil
}
