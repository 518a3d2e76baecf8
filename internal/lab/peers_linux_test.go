package lab_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/imdsctl/imdsctl/internal/lab"
)

// many starts so many clients, some at a time, each of which asks for its own number and ends: at once, or with the answer.
func many(client string, count int) int {
	var failed sync.Map
	var group sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range count {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if out, err := exec.Command("/proc/self/exe", "program", client, strconv.Itoa(i)).CombinedOutput(); err != nil {
				failed.Store(i, string(out))
			}
		})
	}
	group.Wait()
	code := 0
	failed.Range(func(i, out any) bool { fmt.Println(i, out); code = 1; return true })
	return code
}

// client makes one v1 call with a socket of a family, for a path that names it.
func client(number string, mapped, forget bool) int {
	family, to := syscall.AF_INET, syscall.Sockaddr(&syscall.SockaddrInet4{Port: 80, Addr: [4]byte{169, 254, 169, 254}})
	if mapped {
		at := &syscall.SockaddrInet6{Port: 80}
		copy(at.Addr[:], net.ParseIP("169.254.169.254").To16())
		family, to = syscall.AF_INET6, at
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err == nil {
		err = syscall.Connect(fd, to)
	}
	if err == nil {
		_, err = syscall.Write(fd, []byte("GET /latest/meta-data/"+number+" HTTP/1.0\r\n\r\n"))
	}
	if err == nil && !forget {
		_, err = syscall.Read(fd, make([]byte, 1<<12))
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// TestPeers: each of many short-lived clients, eight at a time, is named by its call, whichever kind of socket it has.
func TestPeers(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		for kind, routed := range map[string]bool{"client": false, "mapped": true} {
			peers := &lab.Peers{}
			s, seen := service(t, 1, peers)
			result, out, err := try(t, lab.Options{Serve: s.Serve, Peers: peers, Routed: routed}, self("many", kind, "100")...)
			if err != nil || result.ExitCode != 0 || len(seen.seen) != 100 {
				t.Fatalf("%s: %+v %v, %d calls: %s", kind, result, err, len(seen.seen), out)
			}
			connections := map[int]bool{}
			for _, c := range seen.seen {
				number := c.Path[strings.LastIndex(c.Path, "/")+1:]
				if !c.known || !slices.Equal(c.who.Args, self(kind, number)) || c.who.UID != os.Geteuid() || c.who.Exe == "" {
					t.Errorf("%s: the call for %s is by %+v", kind, c.Path, c.who)
				}
				if len(c.who.Parents) == 0 || !slices.ContainsFunc(c.who.Parents, isThis) {
					t.Errorf("%s: its parents are %+v", kind, c.who.Parents)
				}
				connections[c.who.Connection] = true
			}
			if len(connections) != 100 || peers.Connections() != 100 || !connections[1] || !connections[100] {
				t.Errorf("%s: %d connections, and %d", kind, len(connections), peers.Connections())
			}
		}
	})
}

// TestPeersThatAreGone: who sends and ends without an answer may be unknown, or known in part, and is never taken for another.
func TestPeersThatAreGone(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		peers := &lab.Peers{}
		s, seen := service(t, 1, peers)
		if result, out, err := try(t, lab.Options{Serve: s.Serve, Peers: peers}, self("many", "forget", "100")...); err != nil || result.ExitCode != 0 {
			t.Fatalf("%+v %v: %s", result, err, out)
		}
		if len(seen.seen) != 100 {
			t.Errorf("the service saw %d of 100 calls", len(seen.seen))
		}
		known := 0
		for _, c := range seen.seen {
			number := c.Path[strings.LastIndex(c.Path, "/")+1:]
			if c.known && len(c.who.Args) > 0 && !slices.Equal(c.who.Args, self("forget", number)) {
				t.Errorf("the call for %s is by %+v", c.Path, c.who)
			}
			if c.known {
				known++
			}
		}
		t.Logf("of 100 clients that ended without an answer %d were known", known)
	})
}

// TestPeersByShell: a socket that a shell passes on to its children is the shell's.
func TestPeersByShell(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		give(t, "it takes bash: %v", err)
	}
	peers := &lab.Peers{}
	s, seen := service(t, 1, peers)
	script := `exec 3<>/dev/tcp/169.254.169.254/80; (printf 'GET /latest/meta-data/ HTTP/1.0\r\n\r\n' >&3; cat <&3) | cat`
	if result, out, err := try(t, lab.Options{Serve: s.Serve, Peers: peers}, "bash", "-c", script); err != nil || !strings.Contains(out, "ami-id") {
		t.Fatalf("%+v %v: %s", result, err, out)
	}
	if len(seen.seen) != 1 || !seen.seen[0].known || seen.seen[0].who.Comm != "bash" {
		t.Errorf("%+v", seen.seen)
	}
}

// TestPeersAreAsked: of addresses that nobody had, and of what is no address.
func TestPeersAreAsked(t *testing.T) {
	peers := &lab.Peers{}
	for _, remote := range []string{"198.18.0.2:1", "nonsense", ""} {
		if p, known := peers.Of(remote); known || p.Connection != 0 {
			t.Errorf("%q: %+v %v", remote, p, known)
		}
	}
}

// TestTwoRuns: runs at the same time know nothing of each other.
func TestTwoRuns(t *testing.T) {
	asBoth(t, func(t *testing.T) {
		var group sync.WaitGroup
		for run := range 4 {
			group.Go(func() {
				peers := &lab.Peers{}
				serve := func(ctx context.Context, listeners ...net.Listener) error {
					server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
						w.WriteHeader(200 + run)
					})}
					for _, l := range listeners {
						go func() { _ = server.Serve(l) }()
					}
					<-ctx.Done()
					return server.Close()
				}
				result, out, err := try(t, lab.Options{Serve: serve, Peers: peers, Routed: run%2 == 0}, self("token", over6)...)
				if want := fmt.Sprint(200+run, 0) + " <nil>"; err != nil || out != want || peers.Connections() != 1 {
					t.Errorf("run %d: %+v %v: %s, want %s", run, result, err, out, want)
				}
			})
		}
		group.Wait()
	})
}
