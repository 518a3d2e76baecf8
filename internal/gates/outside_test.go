package gates_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/gates"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// timer is a clock that stands still until the test lets all its sleepers go. Those that sleep for less than any time limit of these
// tests only pause, and are not kept.
type timer struct {
	clock.Clock
	over chan struct{}
}

func newTimer() *timer { return &timer{Clock: clock.NewManual(start), over: make(chan struct{})} }

func (c *timer) Sleep(ctx context.Context, d time.Duration) error {
	if d < 5*time.Second {
		return ctx.Err()
	}
	select {
	case <-c.over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestMain lets the test binary be the program that the tests of commands run, told by its arguments what to do.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "program" {
		os.Exit(program(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

func program(what string, args []string) int {
	switch what {
	case "say":
		fmt.Println(args[0])
		return 0
	case "complain":
		fmt.Fprintln(os.Stderr, args[0])
		return 3
	case "flood":
		for range 100_000 {
			fmt.Println("all is well")
		}
		return 0
	case "environment":
		fmt.Println(strings.Join(os.Environ(), " "))
		return 0
	case "stdin":
		var told struct {
			Version   int    `json:"imdsctl_gate"`
			Gate      string `json:"gate"`
			Moment    string `json:"moment"`
			Instances []string
			Gates     []any
		}
		if err := json.NewDecoder(os.Stdin).Decode(&told); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Printf("%d %s %s %s %d\n", told.Version, told.Gate, told.Moment, told.Instances, len(told.Gates))
		return 0
	case "wait": // until somebody ends it, while the test sees whether it lives by the connection
		conn, err := net.Dial("tcp", args[0])
		if err != nil {
			return 1
		}
		_, _ = io.Copy(io.Discard, conn)
		return 1
	case "family", "orphan": // a child that waits; a parent that waits for it, or does not
		child := exec.Command(os.Args[0], "program", "wait", args[0])
		child.Stdout = os.Stdout
		if child.Start() != nil {
			return 1
		}
		if what == "family" {
			_ = child.Wait()
		}
		return 0
	}
	return 99
}

func run(what string, args ...string) plan.Gate {
	argv := append([]string{os.Args[0], "program", what}, args...)
	return plan.Gate{Type: plan.GateCommand, Name: "smoke", Run: argv, Timeout: time.Minute}
}

// outside is a world whose gates look outside of AWS.
func outside(t *testing.T, o gates.Options) (*world, *gates.Reader) {
	t.Helper()
	w := newWorld(t, host(1, "required", 1, ""))
	o.Session = w.session
	if o.Clock == nil {
		o.Clock = newTimer()
	}
	return w, gates.New(o)
}

func env(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

func TestCommand(t *testing.T) {
	w, r := outside(t, gates.Options{Env: env(map[string]string{"PATH": "/nowhere", "AWS_SECRET_ACCESS_KEY": "secret",
		"AWS_PROFILE": "prod", "HOOK_KEY": "secret", "LANG": "C"})})
	for _, c := range []struct {
		name  string
		gate  plan.Gate
		notes []string
		fails []string
		err   []string
	}{
		{name: "passes", gate: run("say", "12 of 12 smoke tests"), notes: []string{"exit 0: 12 of 12 smoke tests"}},
		{name: "fails", gate: run("complain", "no answer from checkout"), fails: []string{"smoke", "exit 3", "no answer from checkout"}},
		{name: "hostile", gate: run("say", "\x1b[2Jfine\x07\u202e"), notes: []string{"exit 0: [2Jfine"}},
		{name: "long", gate: run("say", strings.Repeat("ä", 300)), notes: []string{strings.Repeat("ä", 199) + "…"}},
		{name: "a flood", gate: run("flood"), notes: []string{"exit 0: all is well"}},
		{name: "is told", gate: run("stdin"), notes: []string{"1 smoke after [aws/111111111111/eu-west-1/ec2-instance/" + id(1), "] 0"}},
		{name: "no shell", gate: run("say", "$HOME `id` ; false"), notes: []string{"$HOME `id` ; false"}},
		{name: "no such program", gate: plan.Gate{Type: plan.GateCommand, Name: "smoke", Run: []string{"/nowhere/smoke"}},
			err: []string{"command smoke", "/nowhere/smoke"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := w.query(1)
			q.Moment, q.Gates = engine.After, []plan.Gate{c.gate, {Type: plan.GateCommand, Name: "second", Run: run("say", "x").Run}}
			res, err := r.ReadGates(t.Context(), q)
			switch {
			case len(c.err) > 0:
				if err == nil || res.Pass {
					t.Fatalf("gave %+v", res)
				}
				for _, word := range c.err {
					if !strings.Contains(err.Error(), word) {
						t.Errorf("%v does not say %q", err, word)
					}
				}
			case err != nil:
				t.Fatal(err)
			case len(c.fails) > 0:
				mustFail(t, res, "command smoke", c.fails...)
			default:
				mustNote(t, res, "command smoke", "", c.notes...)
				if strings.ContainsAny(find(res, "command smoke", "")[0].Value, "\x1b\x07\u202e\n") {
					t.Errorf("control characters in %q", find(res, "command smoke", "")[0].Value)
				}
			}
		})
	}
}

// TestCommandGetsNoSecrets: a program sees the few variables of the list, and nothing of AWS or of webhooks.
func TestCommandGetsNoSecrets(t *testing.T) {
	w, r := outside(t, gates.Options{Env: env(map[string]string{"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "secret",
		"AWS_PROFILE": "prod", "HOOK_KEY": "secret"})})
	q := w.query(1)
	q.Stack, q.Moment, q.Gates = "web", engine.Before, []plan.Gate{run("environment")}
	res, err := r.ReadGates(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	value := find(res, "command smoke", "")[0].Value
	for _, word := range []string{"PATH=/bin", "IMDSCTL_GATE=smoke", "IMDSCTL_STACK=web", "IMDSCTL_MOMENT=before",
		"IMDSCTL_ACCOUNT=111111111111", "IMDSCTL_REGION=eu-west-1"} {
		if !strings.Contains(value, word) {
			t.Errorf("the program was not given %s: %s", word, value)
		}
	}
	for _, word := range []string{"AWS", "HOOK", "secret"} {
		if strings.Contains(value, word) {
			t.Errorf("the program was given %s: %s", word, value)
		}
	}
}

// waiting listens for a program that waits; alive gives its connection once it is there, which ends with the program.
func waiting(t *testing.T) (address string, alive <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	conns := make(chan net.Conn, 1)
	go func() {
		if conn, err := l.Accept(); err == nil {
			conns <- conn
		}
	}()
	return l.Addr().String(), conns
}

// ended waits until the program at the other end is no more.
func ended(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := bufio.NewReader(conn).ReadByte(); err == nil {
		t.Error("the program said something")
	}
	_ = conn.Close()
}

// TestCommandThatTakesTooLong is killed with its children, and that is an error.
func TestCommandThatTakesTooLong(t *testing.T) {
	c := newTimer()
	w, r := outside(t, gates.Options{Clock: c})
	address, alive := waiting(t)
	q := w.query(1)
	q.Gates = []plan.Gate{run("family", address)}
	done := make(chan error)
	go func() {
		_, err := r.ReadGates(t.Context(), q)
		done <- err
	}()
	conn := <-alive
	close(c.over)
	if err := <-done; err == nil || !strings.Contains(err.Error(), "did not end within 1m") {
		t.Errorf("gave %v", err)
	}
	ended(t, conn)
}

// TestCommandThatLeavesAChildBehind passes, and the child goes.
func TestCommandThatLeavesAChildBehind(t *testing.T) {
	w, r := outside(t, gates.Options{})
	address, alive := waiting(t)
	q := w.query(1)
	q.Gates = []plan.Gate{run("orphan", address)}
	res, err := r.ReadGates(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	mustNote(t, res, "command smoke", "", "exit 0")
	select {
	case conn := <-alive:
		ended(t, conn)
	default: // it was ended before it came so far
	}
}

func TestInterruptedCommand(t *testing.T) {
	w, r := outside(t, gates.Options{})
	address, alive := waiting(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn := <-alive
		cancel()
		ended(t, conn)
	}()
	q := w.query(1)
	q.Gates = []plan.Gate{run("wait", address)}
	if _, err := r.ReadGates(ctx, q); !errors.Is(err, context.Canceled) {
		t.Errorf("gave %v", err)
	}
}

const hookKey = "correct horse battery staple"

// hook is a webhook that checks each request's signature by itself, and answers as told.
func hook(t *testing.T, status int, body string) (*httptest.Server, *[]map[string]any) {
	t.Helper()
	var asked []map[string]any
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		var q map[string]any
		if err != nil || r.Method != http.MethodPost || json.Unmarshal(text, &q) != nil {
			t.Errorf("%s %q, %v", r.Method, text, err)
		}
		asked = append(asked, q)
		stamp, sum, _ := strings.Cut(r.Header.Get("Imdsctl-Signature"), ",")
		stamp, _ = strings.CutPrefix(stamp, "t=")
		mac := hmac.New(sha256.New, []byte(hookKey))
		fmt.Fprintf(mac, "%s.%s", stamp, text)
		if stamp != fmt.Sprint(start.Unix()) || sum != "v1="+hex.EncodeToString(mac.Sum(nil)) {
			t.Errorf("signature %q", r.Header.Get("Imdsctl-Signature"))
		}
		if status >= 300 && status < 400 {
			rw.Header().Set("Location", "/elsewhere")
		}
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, body)
	}))
	t.Cleanup(s.Close)
	return s, &asked
}

func TestWebhook(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		notes  []string
		fails  []string
		err    string
		asked  int // 1 where it is not said
	}{
		{name: "passes", status: 200, body: `{"pass": true, "reason": "error budget is full"}`, notes: []string{"pass: error budget is full"}},
		{name: "created", status: 201, body: `{"pass": true}`, notes: []string{"pass"}},
		{name: "fails", status: 200, body: `{"pass": false, "reason": "an incident is\nopen\u001b[2J"}`, fails: []string{"slo", "fail: an incident is"}},
		{name: "says no more", status: 200, body: `{"pass": false}`, fails: []string{"slo", "fail"}},
		{name: "unsure", status: 200, body: `{}`, err: `no "pass"`},
		{name: "text", status: 200, body: `OK`, err: "not JSON"},
		{name: "nothing", status: 200, err: "not JSON"},
		{name: "a string", status: 200, body: `{"pass": "true"}`, err: "true or false"},
		{name: "another spelling", status: 200, body: `{"Pass": true}`, err: `no "pass"`},
		{name: "two minds", status: 200, body: `{"pass": false, "pass": true}`, err: "twice"},
		{name: "too much", status: 200, body: `{"pass": true, "reason": "` + strings.Repeat("x", 70_000) + `"}`, err: "more than 65536 bytes"},
		{name: "an error", status: 500, body: `{"pass": true}`, err: "status 500", asked: 3},
		{name: "overrun", status: 429, body: `{"pass": true}`, err: "status 429", asked: 3},
		{name: "not allowed", status: 403, body: `{"pass": true}`, err: "status 403"},
		{name: "elsewhere", status: 307, body: `{"pass": true}`, err: "redirects are not followed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, asked := hook(t, c.status, c.body)
			w, r := outside(t, gates.Options{HTTP: s.Client(), Env: env(map[string]string{"HOOK_KEY": hookKey})})
			q := w.query(1)
			q.Stack, q.Moment = "web", engine.Before
			q.Gates = []plan.Gate{{Type: plan.GateWebhook, Name: "slo", URL: s.URL + "/gate?token=private", SecretEnv: "HOOK_KEY"},
				run("say", "not for others")}
			q.Rules.Gates = q.Gates
			res, err := r.ReadGates(t.Context(), q)
			switch {
			case c.err != "":
				if err == nil || res.Pass || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), "webhook slo") {
					t.Errorf("gave %+v, %v", res, err)
				} else if strings.Contains(err.Error(), "private") {
					t.Errorf("the error tells a part of the URL: %v", err)
				}
			case err != nil:
				t.Fatal(err)
			case len(c.fails) > 0:
				mustFail(t, res, "webhook slo", c.fails...)
			default:
				mustNote(t, res, "webhook slo", "", c.notes...)
			}
			if len(*asked) != max(1, c.asked) {
				t.Fatalf("asked %d times", len(*asked))
			}
			sent := (*asked)[0]
			text := fmt.Sprint(sent)
			if sent["stack"] != "web" || sent["moment"] != "before" || sent["gate"] != "slo" || sent["imdsctl_gate"] != 1.0 ||
				!strings.Contains(text, id(1)) || strings.Contains(text, "not for others") || strings.Contains(text, "HOOK_KEY") {
				t.Errorf("sent %s", text)
			}
		})
	}
}

func TestWebhookThatCannotBeAsked(t *testing.T) {
	s, asked := hook(t, 200, `{"pass": true}`)
	for _, c := range []struct{ name, url, key, err string }{
		{"no key", s.URL, "", "HOOK_KEY"},
		{"nobody there", "http://127.0.0.1:1/private", hookKey, "refused"}, // a port that others do not get, as they may one that was closed
		{"no URL", "://private", hookKey, "URL"},
		{"another scheme", "file:///private", hookKey, "URL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			vars := map[string]string{"HOOK_KEY": c.key}
			w, r := outside(t, gates.Options{HTTP: s.Client(), Env: env(vars)})
			q := w.query(1)
			q.Gates = []plan.Gate{{Type: plan.GateWebhook, Name: "slo", URL: c.url, SecretEnv: "HOOK_KEY"}}
			res, err := r.ReadGates(t.Context(), q)
			if err == nil || res.Pass || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "private") {
				t.Errorf("gave %+v, %v", res, err)
			}
		})
	}
	if len(*asked) > 0 {
		t.Error("something was sent without a key")
	}
}

func TestWebhookThatTakesTooLong(t *testing.T) {
	c, there := newTimer(), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(there)
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	w, r := outside(t, gates.Options{HTTP: s.Client(), Clock: c, Env: env(map[string]string{"HOOK_KEY": hookKey})})
	go func() {
		<-there
		close(c.over)
	}()
	q := w.query(1)
	q.Gates = []plan.Gate{{Type: plan.GateWebhook, Name: "slo", URL: s.URL, SecretEnv: "HOOK_KEY", Timeout: 5 * time.Second}}
	if res, err := r.ReadGates(t.Context(), q); err == nil || res.Pass || !strings.Contains(err.Error(), "did not answer within 5s") {
		t.Errorf("gave %+v, %v", res, err)
	}
}

// TestWebhookIsAskedAgain: a connection that broke and a server that is out of order are no answer yet; what comes after them is.
func TestWebhookIsAskedAgain(t *testing.T) {
	for _, c := range []struct {
		name string
		last string
		pass bool
	}{{"it passes", `{"pass": true}`, true}, {"it fails", `{"pass": false}`, false}} {
		t.Run(c.name, func(t *testing.T) {
			var bodies []string
			s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				text, _ := io.ReadAll(r.Body)
				bodies = append(bodies, string(text))
				switch len(bodies) {
				case 1:
					panic(http.ErrAbortHandler)
				case 2:
					rw.WriteHeader(http.StatusBadGateway)
				default:
					_, _ = io.WriteString(rw, c.last)
				}
			}))
			t.Cleanup(s.Close)
			w, r := outside(t, gates.Options{HTTP: s.Client(), Env: env(map[string]string{"HOOK_KEY": hookKey})})
			q := w.query(1)
			q.Gates = []plan.Gate{{Type: plan.GateWebhook, Name: "slo", URL: s.URL, SecretEnv: "HOOK_KEY"}}
			res, err := r.ReadGates(t.Context(), q)
			if err != nil || res.Pass != c.pass {
				t.Errorf("gave %+v, %v", res, err)
			}
			if len(bodies) != 3 || bodies[0] == "" || bodies[1] != bodies[0] || bodies[2] != bodies[0] {
				t.Errorf("asked %q", bodies)
			}
		})
	}
}

// pausing is a clock on which the time limit of a gate passes while it pauses between two tries.
type pausing struct{ *timer }

func (c pausing) Sleep(ctx context.Context, d time.Duration) error {
	if d >= 5*time.Second {
		return c.timer.Sleep(ctx, d)
	}
	close(c.over)
	<-ctx.Done()
	return ctx.Err()
}

// TestWebhookIsNotAskedBeyondItsTime: the time limit is for all tries together, and the error tells what came of the last.
func TestWebhookIsNotAskedBeyondItsTime(t *testing.T) {
	s, asked := hook(t, http.StatusServiceUnavailable, "")
	w, r := outside(t, gates.Options{HTTP: s.Client(), Clock: pausing{newTimer()}, Env: env(map[string]string{"HOOK_KEY": hookKey})})
	q := w.query(1)
	q.Gates = []plan.Gate{{Type: plan.GateWebhook, Name: "slo", URL: s.URL, SecretEnv: "HOOK_KEY", Timeout: 5 * time.Second}}
	if res, err := r.ReadGates(t.Context(), q); err == nil || res.Pass || !strings.Contains(err.Error(), "status 503") {
		t.Errorf("gave %+v, %v", res, err)
	}
	if len(*asked) != 1 {
		t.Errorf("asked %d times", len(*asked))
	}
}

// stopping is a clock on which the process is interrupted while a gate pauses between two tries.
type stopping struct {
	*timer
	stop context.CancelFunc
}

func (c stopping) Sleep(ctx context.Context, d time.Duration) error {
	if d < 5*time.Second {
		c.stop()
	}
	return c.timer.Sleep(ctx, d)
}

// TestInterruptedWebhook: who was interrupted has not read a gate that failed.
func TestInterruptedWebhook(t *testing.T) {
	s, _ := hook(t, http.StatusServiceUnavailable, "")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w, r := outside(t, gates.Options{HTTP: s.Client(), Clock: stopping{newTimer(), stop}, Env: env(map[string]string{"HOOK_KEY": hookKey})})
	q := w.query(1)
	q.Gates = []plan.Gate{{Type: plan.GateWebhook, Name: "slo", URL: s.URL, SecretEnv: "HOOK_KEY"}}
	if _, err := r.ReadGates(ctx, q); !errors.Is(err, context.Canceled) {
		t.Errorf("gave %v", err)
	}
}

// TestWebhookOfAStranger: a certificate that is not trusted is no lost connection, and nothing is sent.
func TestWebhookOfAStranger(t *testing.T) {
	var connections atomic.Int64
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	w, r := outside(t, gates.Options{HTTP: &http.Client{Transport: &http.Transport{}}, Env: env(map[string]string{"HOOK_KEY": hookKey})})
	q := w.query(1)
	q.Gates = []plan.Gate{{Type: plan.GateWebhook, Name: "slo", URL: s.URL, SecretEnv: "HOOK_KEY"}}
	if res, err := r.ReadGates(t.Context(), q); err == nil || res.Pass || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("gave %+v, %v", res, err)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// TestAllGatesAreShown: one that fails does not hide what the others say, and its reason stands.
func TestAllGatesAreShown(t *testing.T) {
	w, r := outside(t, gates.Options{})
	w.alarm(t, "errors", "ALARM", false)
	q := w.query(1)
	q.Gates = []plan.Gate{{Type: plan.GateAlarm, Name: "errors", Alarms: []string{"errors"}}, run("complain", "down"), run("say", "up")}
	q.Gates[2].Name = "second"
	res, err := r.ReadGates(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	mustFail(t, res, "command smoke", "alarm errors")
	if got := find(res, "command second", ""); len(got) != 1 || !slices.ContainsFunc(got, func(r engine.Reading) bool { return r.Pass }) {
		t.Errorf("%+v", res.Readings)
	}
}
