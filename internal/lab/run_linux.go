package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drain is how long what is no file of the caller's may go on to be copied to and from the processes, when they all have ended.
const drain = 2 * time.Second

// told is a word of the first process, with the files that came along.
type told struct {
	word
	files []*os.File
}

// running is one run, from the starting of its first process to its end.
type running struct {
	Options
	wire
	cmd    *exec.Cmd // nil before it is started, and when it has been waited for
	first  int       // its process id
	words  chan told // closed when the first process has no more to say
	listen []*net.TCPListener
	diag   diag
	result Result
	undo   []func() // in the order in which it was done
}

func run(ctx context.Context, o Options, argv []string) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	r := &running{Options: o, words: make(chan told, 1), result: Result{Unprivileged: !privileged()}}
	defer r.cleanUp()
	if o.Outside && r.result.Unprivileged {
		return r.result, fmt.Errorf("%w: the way to the outside takes root's rights: run imdsctl as root, or without it", ErrForbidden)
	}
	w, resolvers, err := r.work(argv)
	if err != nil {
		return r.result, err
	}
	if err := r.launch(w); err != nil {
		return r.result, err
	}
	ready, err := r.ready(ctx)
	if err != nil {
		return r.result, err
	}
	service, err := r.open(ctx, ready, resolvers)
	if err != nil {
		return r.result, err
	}
	err = r.follow(ctx, service)
	r.settle()
	r.kill()
	if stopped := service.stop(); err == nil {
		err = stopped
	}
	return r.result, err
}

// work says what the first process is to do.
func (r *running) work(argv []string) (work, resolvers, error) {
	w := work{Argv: argv, Env: r.Env, Dir: r.Dir, Routed: r.Routed, Unprivileged: r.result.Unprivileged}
	if r.Root != nil {
		root := *r.Root
		dir, err := filepath.Abs(root.Dir)
		if err != nil {
			return w, resolvers{}, err
		}
		root.Dir, w.Root = dir, &root
		if w.Unprivileged && root.UID != 0 {
			r.note("The command runs as root of a user namespace instead of as user %d: only root of the host can be other users.", root.UID)
		}
	}
	if !r.Outside {
		return w, resolvers{}, nil
	}
	found, err := readResolvers("/etc/resolv.conf")
	if err != nil {
		return w, found, err
	}
	w.Resolvers, w.ResolvConf = found.loopback, found.text
	r.result.Notes = append(r.result.Notes, found.notes...)
	return w, found, nil
}

func (r *running) note(format string, args ...any) {
	r.result.Notes = append(r.result.Notes, fmt.Sprintf(format, args...))
}

// launch starts the first process.
func (r *running) launch(w work) error {
	text, err := json.Marshal(w)
	if err != nil {
		return err
	}
	ours, theirs, err := pair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	r.wire, r.undo = ours, append(r.undo, func() { ours.Close() })
	out, in, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe for the lab's first process: %w", err)
	}
	defer out.Close()
	stdin, started, err := r.input()
	if err != nil {
		return err
	}
	defer started()
	r.cmd = &exec.Cmd{
		// No variable of ours is in its environment, which the command can read.
		Path: "/proc/self/exe", Args: []string{firstName}, Env: []string{},
		Stdin: stdin, Stdout: r.Stdout, Stderr: r.Stderr, ExtraFiles: []*os.File{theirs, out}, WaitDelay: drain,
		SysProcAttr: r.namespaces(),
	}
	if err := r.begin(); err != nil {
		in.Close()
		r.cmd = nil
		if refused(err) {
			return forbidden("/proc/sys", r.result.Unprivileged, err)
		}
		return fmt.Errorf("start the lab's first process: %w", err)
	}
	r.first = r.cmd.Process.Pid
	go func() {
		_, _ = in.Write(text) // it fails only where the process is gone, which words tells
		in.Close()
	}()
	go r.hear()
	return nil
}

// begin starts the first process from a thread that lasts as long as the run does, and with which the kernel kills it: should whoever
// called Run be killed while the first process is stopped, it could not see that for itself.
func (r *running) begin() error {
	started, over := make(chan error), make(chan struct{})
	r.undo = append(r.undo, func() { close(over) })
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- r.cmd.Start()
		<-over
	}()
	return <-started
}

// input is the command's standard input as a file (nil: there is none); started says that the first process has it. A reader of the
// caller's that gives nothing does not keep the run from ending, as it would by os/exec: it is left behind.
func (r *running) input() (stdin io.Reader, started func(), err error) {
	if _, ok := r.Stdin.(*os.File); ok || r.Stdin == nil {
		return r.Stdin, func() {}, nil
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make a pipe for the command's input: %w", err)
	}
	r.undo = append(r.undo, func() { in.Close() })
	go func() {
		_, _ = io.Copy(in, r.Stdin) // a command may end before its input
		in.Close()
	}()
	return out, func() { out.Close() }, nil
}

func (r *running) namespaces() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	uid, gid := os.Geteuid(), os.Getegid()
	insideUID, insideGID := uid, gid
	if r.Root != nil {
		attr.Cloneflags |= unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
		insideUID, insideGID = 0, 0
	}
	if r.result.Unprivileged {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: insideUID, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: insideGID, HostID: gid, Size: 1}}
		attr.AmbientCaps = needed
	}
	return attr
}

// hear hands on what the first process says.
func (r *running) hear() {
	defer close(r.words)
	for {
		var t told
		files, err := r.receive(&t.word)
		if err != nil {
			return
		}
		t.files = files
		r.words <- t
	}
}

// errLost tells of a first process that ended without a word.
var errLost = errors.New("the lab's first process was killed: by somebody else, or for want of memory")

// ready waits until the network is laid.
func (r *running) ready(ctx context.Context) (told, error) {
	select {
	case <-ctx.Done():
		return told{}, ctx.Err()
	case t, ok := <-r.words:
		r.result.Notes = append(r.result.Notes, t.Notes...)
		switch {
		case !ok:
			return told{}, errLost
		case t.Kind == wordReady:
			return t, nil
		case t.Denied:
			return told{}, forbidden("/proc/sys", r.result.Unprivileged, errors.New(t.Error))
		}
		return told{}, fmt.Errorf("lay the lab's network: %s", t.Error)
	}
}

// serving is the call of Serve.
type serving struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done is closed
}

// stop ends it and waits for it.
func (s *serving) stop() error {
	s.cancel()
	<-s.done
	return s.err
}

// open serves on the sockets that came, connects the outside and lets the command start.
func (r *running) open(ctx context.Context, t told, names resolvers) (*serving, error) {
	defer closeAll(t.files)
	var listeners []net.Listener
	up := uplink{}
	for i, name := range t.Files {
		switch name {
		case fileIPv4, fileIPv6:
			l, err := net.FileListener(t.files[i])
			if err != nil {
				return nil, fmt.Errorf("serve in the lab: %w", err)
			}
			r.undo = append(r.undo, func() { l.Close() })
			tcp, ok := l.(*net.TCPListener)
			if !ok {
				return nil, fmt.Errorf("serve in the lab: a %T came", l)
			}
			r.listen = append(r.listen, tcp)
			listeners = append(listeners, attributed{tcp, r.Peers, r.whose})
		case fileDiag:
			r.diag.file, t.files[i] = t.files[i], nil
			r.undo = append(r.undo, r.diag.close)
		case fileUplink:
			if !r.Outside {
				continue
			}
			end, err := connectHost(&up, t.files[i], r.note)
			if err != nil {
				return nil, err
			}
			r.undo = append(r.undo, end)
		default:
			end, err := names.relay(name, t.files[i], r.Clock)
			if err != nil {
				return nil, err
			}
			r.undo = append(r.undo, end)
		}
	}
	s := &serving{done: make(chan struct{})}
	var serve context.Context
	serve, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(s.done)
		s.err = r.Serve(serve, listeners...)
	}()
	if err := r.send(order{Start: &up}); err != nil {
		return nil, errors.Join(errLost, s.stop())
	}
	return s, nil
}

// follow hands signals on until the run is over: the command and all it left behind have ended, or are to be killed.
func (r *running) follow(ctx context.Context, service *serving) error {
	over, cancel := make(chan struct{}), context.CancelFunc(func() {})
	defer func() { cancel() }()
	after := func(d time.Duration) {
		cancel()
		var wait context.Context
		wait, cancel = context.WithCancel(context.WithoutCancel(ctx))
		ended := make(chan struct{})
		over = ended
		go func() {
			if r.Clock.Sleep(wait, d) == nil {
				close(ended)
			}
		}()
	}
	done, started, hasEnded := ctx.Done(), false, false
	var failed error
	for {
		select {
		case t, ok := <-r.words:
			closeAll(t.files)
			switch {
			case !ok && hasEnded, ok && t.Kind == wordEmpty:
				return failed
			case !ok:
				return cmp.Or(failed, errLost)
			case t.Kind == wordStarted:
				started = true
			case t.Kind == wordFailed:
				return fmt.Errorf("connect the lab: %s", t.Error)
			case t.Kind == wordUnstarted:
				r.result.ExitCode = t.Exit
				return fmt.Errorf("%w: %s", ErrNotStarted, t.Error)
			case t.Kind == wordEnded:
				hasEnded, r.result.ExitCode, r.result.Signal = true, t.Exit, syscall.Signal(t.Signal)
				r.result.Left = r.left()
				if failed == nil {
					after(r.Linger)
				}
			}
		case <-service.done:
			return cmp.Or(failed, service.err, errors.New("the service ended before the command"))
		case s, ok := <-r.Signals:
			if !ok {
				r.Signals = nil
			}
			r.forward(s)
		case <-done:
			done, failed = nil, ctx.Err()
			if r.Grace <= 0 || !started {
				r.killed(hasEnded)
				return failed
			}
			_ = r.send(order{Signal: int(unix.SIGTERM), All: true}) // where nobody is there to hear it, words says so
			after(r.Grace)
		case <-over:
			if failed != nil {
				r.killed(hasEnded)
			}
			return failed
		}
	}
}

// killed notes how the command ended that is about to be killed.
func (r *running) killed(hasEnded bool) {
	if !hasEnded {
		r.result.Signal, r.result.ExitCode = unix.SIGKILL, 128+int(unix.SIGKILL)
	}
}

// forward sends a signal to the command, unless it has got it already from the terminal.
func (r *running) forward(s os.Signal) {
	number, ok := s.(syscall.Signal)
	if !ok || (number == unix.SIGINT || number == unix.SIGQUIT) && inForeground() {
		return
	}
	_ = r.send(order{Signal: int(number)}) // where nobody is there to hear it, words says so
}

// inForeground tells that this process's group, to which the command belongs, is whom its terminal sends signals.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// settle lets the service see what was sent before the end: a program may send and end without an answer. All processes but the first
// are ended; the network is still there, and tells the service of each connection that it is closed.
func (r *running) settle() {
	if r.send(order{Signal: int(unix.SIGKILL), All: true}) != nil {
		return // it has ended, and so all that it could tell is told
	}
	for waited := time.Duration(0); waited < drain && !r.settled(); waited += blink {
		if r.Clock.Sleep(context.Background(), blink) != nil {
			return
		}
	}
}

// blink is how often it is looked whether a service is done.
const blink = 2 * time.Millisecond

// settled tells that no process is left which could ask, no connection waits to be accepted, and none is open.
func (r *running) settled() bool {
	if len(r.tree()) > 0 {
		return false
	}
	for _, l := range r.listen {
		if waiting, err := backlog(l); err == nil && waiting > 0 {
			return false
		}
	}
	return r.Peers.quiet()
}

// backlog is how many connections wait to be accepted.
func backlog(l *net.TCPListener) (n int, err error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int(info.Unacked) // so the kernel tells it of a listening socket, in tcp_get_info
		}
	})
	return n, errors.Join(failed, err)
}

// kill ends all processes of the run and waits until they are gone: the kernel lets nobody survive the first one of a process
// namespace. Output that was not copied yet is.
func (r *running) kill() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill() // it may have ended
	for t := range r.words { // so that nobody waits to be heard
		closeAll(t.files)
	}
	_ = r.cmd.Wait() // that it was killed is known
	r.cmd = nil
}

// cleanUp undoes what is left to undo, the last thing first.
func (r *running) cleanUp() {
	r.kill()
	for _, undo := range slices.Backward(r.undo) {
		undo()
	}
}
