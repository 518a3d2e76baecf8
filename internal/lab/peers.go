package lab

import (
	"net"
	"net/netip"
	"sync"

	"github.com/imdsctl/imdsctl/internal/procfs"
)

// Peer is who is at the other end of a connection to the service.
type Peer struct {
	// Process is what could be read of it: of one that was ending, no more than its name and parents.
	procfs.Process
	// Connection counts the connections of a run from 1 on, in the order in which they were accepted.
	Connection int
}

// Peers knows who is at the other end of the connections of one run. It may be asked at any time, from any goroutine.
type Peers struct {
	mu    sync.Mutex
	count int
	open  int                      // accepted and not closed
	at    map[netip.AddrPort]*Peer // the last one from each address
}

// Of tells who is, or last was, at a remote address. It is sure while a request from there is answered; long after, another connection
// may have come from the same port. Where known is false nobody could tell the process; Connection is there nevertheless, and 0 where
// there was no connection from there.
func (p *Peers) Of(remote string) (peer Peer, known bool) {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return Peer{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	found := p.at[plain(at)]
	if found == nil {
		return Peer{}, false
	}
	return *found, found.PID != 0
}

// Connections is how many were accepted so far.
func (p *Peers) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// accepted notes a connection whose process is not known yet.
func (p *Peers) accepted(remote netip.AddrPort) *Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	p.open++
	peer := &Peer{Connection: p.count}
	if p.at == nil {
		p.at = map[netip.AddrPort]*Peer{}
	}
	p.at[plain(remote)] = peer
	return peer
}

func (p *Peers) closed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
}

// quiet tells that no connection is open.
func (p *Peers) quiet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open == 0
}

func (p *Peers) is(peer *Peer, who procfs.Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	peer.Process = who
}

// plain is an address as IPv4 where it is IPv4's in the clothes of IPv6.
func plain(at netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// attributed is a listener whose connections deliver nothing before it is known who sends it.
type attributed struct {
	*net.TCPListener
	peers *Peers
	// whose finds the process that has the client's end of a connection, now.
	whose func(client, server netip.AddrPort) (procfs.Process, bool)
}

// Accept implements net.Listener.
func (l attributed) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	client, server := endpoint(c.RemoteAddr()), endpoint(c.LocalAddr())
	peer, known := l.peers.accepted(client), make(chan struct{})
	go func() {
		defer close(known)
		if who, ok := l.whose(client, server); ok {
			l.peers.is(peer, who)
		}
	}()
	return &conn{TCPConn: c, known: known, closed: sync.OnceFunc(l.peers.closed)}, nil
}

func endpoint(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return plain(tcp.AddrPort())
}

// conn is a connection that can be read when it is known whose it is. It is a syscall.Conn as TCP connections are.
type conn struct {
	*net.TCPConn
	known  <-chan struct{}
	closed func()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	defer c.closed()
	return c.TCPConn.Close()
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	<-c.known
	return c.TCPConn.Read(b)
}
