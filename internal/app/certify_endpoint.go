package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"sync"

	"github.com/imdsctl/imdsctl/internal/certify"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/imds"
	"github.com/imdsctl/imdsctl/internal/procfs"
)

// besides runs the command on this host as it is, and sends it to a service on the loopback interface by a variable.
func (c *certification) besides(ctx context.Context, it *prepared, s serve, w *watch, run *certify.Run) error {
	listener, err := imds.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	policy := c.environmentPolicy()
	policy.endpoint = "http://" + listener.Addr().String()
	it.env, c.changes = certifyEnvironment(c.Environment, policy)
	cmd := exec.CommandContext(ctx, it.argv[0], it.argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = it.env, it.dir, c.Stdin, c.Stdout, c.Stderr, stopGrace
	cmd.Cancel = func() error { return stopCommand(cmd.Process) }
	callers := &callers{at: map[string]procfs.Process{}}
	w.of = func(call imds.Call) (procfs.Process, bool) { return callers.of(call.Remote) }
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- s(serving, watchedListener{listener, callers}) }()
	ran := runCommand(cmd, callers)
	stop()
	if err := <-served; err != nil {
		return fmt.Errorf("the metadata service: %w", err)
	}
	if ran != nil && cmd.ProcessState == nil {
		return fleet.Diagnostic{Severity: fleet.SeverityError, Summary: "the command was not started: " + ran.Error(),
			Remedy: "Give a command as a shell would find it: `imdsctl certify -- python3 app.py`."}
	}
	run.End = endOf(cmd.ProcessState)
	return nil
}

// runCommand runs a command to its end, and tells the callers whose processes they are.
func runCommand(cmd *exec.Cmd, callers *callers) error {
	if err := callers.start(cmd); err != nil {
		return err
	}
	err := cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) { // it has ended, and a child of it holds its output open
		return nil
	}
	return err
}

// endOf is how a process ended.
func endOf(state *os.ProcessState) certify.End {
	if code := state.ExitCode(); code >= 0 {
		return certify.End{ExitCode: code}
	}
	return certify.End{ExitCode: state.ExitCode(), Signal: signalOf(state)}
}

// callers knows which processes below a command hold the connections to the service, where the system tells.
type callers struct {
	mu   sync.Mutex
	root int
	at   map[string]procfs.Process // by the client's address
}

// start starts the command. Nobody is looked for before it is known where.
func (k *callers) start(cmd *exec.Cmd) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := cmd.Start()
	if err == nil {
		k.root = cmd.Process.Pid
	}
	return err
}

func (k *callers) of(remote string) (procfs.Process, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	who, known := k.at[remote]
	return who, known
}

// accepted finds out who is at the other end of a connection, while it waits for an answer.
func (k *callers) accepted(conn net.Conn) {
	client, errClient := netip.ParseAddrPort(conn.RemoteAddr().String())
	server, errServer := netip.ParseAddrPort(conn.LocalAddr().String())
	k.mu.Lock()
	delete(k.at, conn.RemoteAddr().String()) // of an earlier connection from the same port
	root := k.root
	k.mu.Unlock()
	if errClient != nil || errServer != nil || root == 0 {
		return
	}
	inode, ok := procfs.Inode(os.Getpid(), client, server)
	if !ok {
		return
	}
	pid, ok := procfs.Owner(inode, slices.Values(procfs.Children(root)))
	if !ok {
		return
	}
	who, err := procfs.Read(pid)
	if err != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at[conn.RemoteAddr().String()] = who
}

// watchedListener tells callers of each connection before anything is read from it.
type watchedListener struct {
	net.Listener
	callers *callers
}

// Accept implements net.Listener.
func (l watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.callers.accepted(conn)
	}
	return conn, err
}
