package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long the first process waits for a connection over links that it has just made: far longer than one takes.
const patience = 30 * time.Second

// Inside plays the part of a run's first process where Run started this one, and then does not return. Elsewhere it returns at once.
func Inside() {
	if len(os.Args) != 1 || os.Args[0] != firstName || os.Getpid() != 1 {
		return
	}
	if err := inside(); err != nil {
		fmt.Fprintln(os.Stderr, "imdsctl's lab:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// first is the first process of a run's namespaces. All others end with it.
type first struct {
	work
	wire
	notes []string
	net   *laid
	start chan uplink
	pid   atomic.Int64 // the command's, once it has started
}

// inside has an error only where there is nobody to tell it to.
func inside() error {
	hold()
	control, err := newWire(os.NewFile(controlFile, "control"))
	if err != nil {
		return err
	}
	file := os.NewFile(workFile, "work")
	f := &first{wire: control, start: make(chan uplink, 1)}
	if err := json.NewDecoder(file).Decode(&f.work); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	file.Close()
	go f.obey()
	if err := f.prepare(); err != nil {
		denied := errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENOSPC)
		return f.send(word{Kind: wordFailed, Error: err.Error(), Denied: denied, Notes: f.notes})
	}
	if err := f.connect(<-f.start); err != nil {
		return f.send(word{Kind: wordFailed, Error: err.Error()})
	}
	pid, failed := f.execute()
	if failed != nil {
		return f.send(*failed)
	}
	f.pid.Store(int64(pid))
	if err := f.send(word{Kind: wordStarted}); err != nil {
		return err
	}
	if err := f.reap(pid); err != nil {
		return err
	}
	select {} // the network is there until Run has seen what it wants to: obey ends this process
}

// hold keeps signals that reach the whole process group, as a terminal's do, from ending this process and with it all others. They are
// caught and dropped, not ignored, which the command would inherit; what is ignored already stays so.
func hold() {
	signal.Reset()
	dropped := make(chan os.Signal, 1)
	for _, s := range []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM} {
		if !signal.Ignored(s) {
			signal.Notify(dropped, s)
		}
	}
}

// obey does what Run says, and ends with it: nobody is left when whoever called Run is killed.
func (f *first) obey() {
	for {
		var o order
		if _, err := f.receive(&o); err != nil {
			os.Exit(1)
		}
		pid := int(f.pid.Load())
		switch {
		case o.Start != nil:
			f.start <- *o.Start
		case o.All:
			_ = unix.Kill(-1, unix.Signal(o.Signal)) // nobody may be left to get it
		case pid > 0:
			_ = unix.Kill(pid, unix.Signal(o.Signal))
		}
	}
}

// prepare makes all that the command will find, and hands the sockets back.
func (f *first) prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("part the mounts from the host's: %w", err)
	}
	if err := mountProc("/proc"); err != nil {
		if f.Root != nil {
			return err
		}
		f.note("/proc shows the host's process ids: " + err.Error() + ".")
	}
	var err error
	if f.net, err = lay(f.Routed); err != nil {
		return err
	}
	if !f.net.ipv6 {
		f.note("This kernel has no IPv6: fd00:ec2::254 is not there.")
	}
	ready, files, err := f.sockets()
	defer closeAll(files)
	if err != nil {
		return err
	}
	if f.Root != nil {
		notes, err := enterRoot(*f.Root, f.ResolvConf)
		f.notes = append(f.notes, notes...)
		if err != nil {
			return err
		}
	}
	ready.Notes = f.notes
	return f.send(ready, files...)
}

func (f *first) note(text string) { f.notes = append(f.notes, text) }

// sockets are the files that Run gets, and the word that names them.
func (f *first) sockets() (word, []*os.File, error) {
	ready := word{Kind: wordReady}
	var files []*os.File
	add := func(name string, open interface{ File() (*os.File, error) }) error {
		file, err := open.File()
		if err != nil {
			return fmt.Errorf("hand a socket on: %w", err)
		}
		ready.Files, files = append(ready.Files, name), append(files, file)
		return nil
	}
	for i, l := range f.net.sockets {
		err := add([]string{fileIPv4, fileIPv6}[i], l)
		l.Close()
		if err != nil {
			return ready, files, err
		}
	}
	for _, address := range f.Resolvers {
		err := f.net.command.in(func() error {
			udp, err := net.ListenPacket("udp", net.JoinHostPort(address, "53"))
			if err != nil {
				return err
			}
			defer udp.Close()
			tcp, err := net.Listen("tcp", net.JoinHostPort(address, "53"))
			if err != nil {
				return err
			}
			defer tcp.Close()
			return errors.Join(add("udp "+address, udp.(*net.UDPConn)), add("tcp "+address, tcp.(*net.TCPListener)))
		})
		if err != nil {
			return ready, files, fmt.Errorf("stand in for the nameserver %s: %w", address, err)
		}
	}
	_ = f.net.command.in(func() error { // without it /proc tells the same, later
		diag, err := openDiag()
		if err == nil {
			ready.Files, files = append(ready.Files, fileDiag), append(files, diag)
		}
		return err
	})
	ns, err := unix.FcntlInt(f.net.edge().ns.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return ready, files, err
	}
	ready.Files, files = append(ready.Files, fileUplink), append(files, os.NewFile(uintptr(ns), fileUplink))
	return ready, files, nil
}

// edge is the namespace that an uplink leads out of.
func (n *laid) edge() *space {
	if n.router != nil {
		return n.router
	}
	return n.command
}

// connect leads the uplink to the command. Run has made the link and its other end.
func (f *first) connect(u uplink) error {
	if !u.Present {
		return nil
	}
	edge, addresses := f.net.edge(), []string{u.IPv4}
	if u.IPv6 != "" {
		addresses = append(addresses, u.IPv6)
	}
	if err := edge.up(u.Link, addresses...); err != nil {
		return err
	}
	// Else the command's first packets would be lost, and a question for a name be asked again after seconds.
	if err := edge.carries(u.Link, u.IPv6 != "" && f.net.ipv6); err != nil {
		return err
	}
	routes := [][2]string{{u.Via4, "198.18.1.1"}, {u.Via6, "2001:2:0:2::1"}}
	for i, via := range routes {
		if via[0] == "" || i == 1 && !f.net.ipv6 {
			continue
		}
		if err := edge.route("", via[0]); err != nil {
			return err
		}
		if f.net.router == nil {
			continue
		}
		if err := f.net.command.route("", via[1]); err != nil {
			return err
		}
	}
	if f.net.router == nil {
		return nil
	}
	return f.net.router.in(func() error {
		_, err := masquerade("lab", nearCommand, u.Link, u.IPv6 != "" && f.net.ipv6)
		return err
	})
}

// execute starts the command; where it cannot, the word says why.
func (f *first) execute() (pid int, failed *word) {
	refused := func(exit int, err error) (int, *word) {
		return 0, &word{Kind: wordUnstarted, Exit: exit, Error: err.Error()}
	}
	if f.Root != nil {
		f.Dir = filepath.Join("/", f.Dir)
		if err := os.MkdirAll(f.Dir, 0o755); err != nil {
			return refused(126, fmt.Errorf("make the folder to start in: %w", err))
		}
	}
	if f.Dir != "" {
		if err := os.Chdir(f.Dir); err != nil {
			return refused(126, fmt.Errorf("start in a folder: %w", err))
		}
	}
	path, exit, err := find(f.Argv[0], f.Env)
	if err != nil {
		return refused(exit, err)
	}
	attr := &syscall.ProcAttr{Env: f.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{}}
	if f.Root != nil && !f.Unprivileged {
		c := &syscall.Credential{Uid: uint32(f.Root.UID), Gid: uint32(f.Root.GID)}
		for _, g := range f.Root.Groups {
			c.Groups = append(c.Groups, uint32(g))
		}
		attr.Sys.Credential = c
	}
	limited, started := f.Unprivileged || f.Root != nil, make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with it: its rights are fewer than the other threads'
		if limited {
			if err := limit(); err != nil {
				started <- err
				return
			}
		}
		var err error
		pid, err = syscall.ForkExec(path, f.Argv, attr)
		started <- err
	}()
	if err := <-started; err != nil {
		exit := 126
		if errors.Is(err, fs.ErrNotExist) {
			exit, err = 127, errors.New("the program that would interpret it, or its loader, is not there")
		}
		return refused(exit, fmt.Errorf("execute %s: %w", path, err))
	}
	return pid, nil
}

// find looks a command up as shells do: in the folders of PATH where its name has no slash. With an error it gives the exit code that
// shells have for it.
func find(name string, env []string) (path string, exit int, err error) {
	if strings.Contains(name, "/") {
		exit, err := executable(name)
		return name, exit, err
	}
	search := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			search = value
		}
	}
	exit, err = 127, fmt.Errorf("%s: command not found in %s", name, search)
	for _, dir := range filepath.SplitList(search) {
		path := "./" + name // an empty entry
		if dir != "" {
			path = filepath.Join(dir, name)
		}
		if _, err := os.Stat(path); err != nil {
			continue // not there, or in a folder that is closed to this user
		}
		code, failed := executable(path)
		switch {
		case failed == nil:
			return path, 0, nil
		case code == 126 && exit == 127:
			exit, err = code, failed
		}
	}
	return "", exit, err
}

// executable tells that a file can be executed, or why not and how shells say it.
func executable(path string) (exit int, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
		return 127, err
	case err != nil:
		return 126, err
	case info.IsDir():
		return 126, fmt.Errorf("%s is a directory", path)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS); err != nil {
		return 126, &fs.PathError{Op: "execute", Path: path, Err: err}
	}
	return 0, nil
}

// reap waits for the command and for all that it left behind, whose parent this process is by then, and tells of both.
func (f *first) reap(command int) error {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil: // ECHILD
			return f.send(word{Kind: wordEmpty})
		case pid == command:
			f.pid.Store(0) // the id may be another's soon
			w := word{Kind: wordEnded, Exit: status.ExitStatus()}
			if status.Signaled() {
				w.Signal, w.Exit = int(status.Signal()), 128+int(status.Signal())
			}
			if err := f.send(w); err != nil {
				return err
			}
		}
	}
}
