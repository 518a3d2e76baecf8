//go:build linux

package imds

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/product"
	"github.com/imdsctl/imdsctl/test/sdks"
)

// manner is a state of the service, what a program is told of it, and what is to come of that.
type manner struct {
	name string
	args []string
	env  string
	// expect says whether a program gets credentials, asks for a token, and calls without one.
	expect func(sdks.Program) (gets, asks, without bool)
}

func manners() []manner {
	at := func(address, tokens string, more ...string) []string {
		return append([]string{"--role", "web", "--listen", address, "--tokens", tokens}, more...)
	}
	const v4, v6 = "169.254.169.254:80", "[fd00:ec2::254]:80"
	return []manner{
		{"v1 and v2", at(v4, "optional"), "", func(p sdks.Program) (gets, asks, without bool) { return true, p.V2, !p.V2 }},
		{"v2 alone", at(v4, "required"), "", func(p sdks.Program) (gets, asks, without bool) { return p.V2, p.V2, !p.V2 }},
		{"v1 alone", at(v4, "unsupported"), "", func(p sdks.Program) (gets, asks, without bool) { return p.V1, p.V2, p.V1 }},
		{
			"v1 alone, and told to do without", at(v4, "unsupported"), "AWS_EC2_METADATA_V1_DISABLED=true",
			func(p sdks.Program) (gets, asks, without bool) { return p.V1 && !p.NoV1, p.V2, p.V1 && !p.NoV1 },
		},
		{
			"v2 alone over IPv6", at(v6, "required", "--ipv6"), "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6",
			func(p sdks.Program) (gets, asks, without bool) { return p.IPv6, p.IPv6, false },
		},
	}
}

// TestOldAndNewSDKs has every program of test/sdks look for credentials where v1 and v2 are allowed, where v2 is required, and where
// tokens are not known, and holds what it gets, and what it called, to what its SDK's source says that it does.
func TestOldAndNewSDKs(t *testing.T) {
	needNamespaces(t)
	if _, err := binary(); err != nil {
		t.Fatal(err)
	}
	for _, p := range sdks.Programs(t) {
		for _, m := range manners() {
			t.Run(p.Name+", "+m.name, func(t *testing.T) {
				t.Parallel()
				m.try(t, p)
			})
		}
	}
}

// try runs a program against a service in a network namespace of its own.
func (m manner) try(t *testing.T, p sdks.Program) {
	t.Helper()
	ns := alone(t)
	s := start(t, in(ns), m.args...)
	if m.env != "" {
		p.Env = append(slices.Clone(p.Env), m.env)
	}
	gets, asks, without := m.expect(p)
	key, err := run(t, ns, p)
	if gets != (err == nil) || gets != (key != "") {
		t.Errorf("it prints the key %q and ends with %v; it should get credentials: %v", key, err, gets)
	}
	summary, o := s.end(t), observe(s.calls)
	if gets != (o.handed > 0) || asks != (o.asked > 0) || without != (o.without > 0) {
		t.Errorf("it should get credentials: %v, ask for a token: %v, call without one: %v; %+v was seen", gets, asks, without, o)
	}
	if summary.NoToken != o.v1 || summary.Rejected != o.rejected {
		t.Errorf("the summary is %+v, and %+v was seen", summary, o)
	}
	if o.tokens > 0 && o.v2 == 0 {
		t.Errorf("it got tokens and did not use them: %+v", o)
	}
	agents(t, p, s.calls)
	if t.Failed() {
		for _, c := range s.calls {
			t.Logf("%+v", c)
		}
	}
}

// observed is what a service saw of a program.
type observed struct {
	asked, tokens    int // requests for a token, and tokens given
	without          int // calls without a token
	v1, v2           int // GET and HEAD that were answered with 200
	handed, rejected int // times that credentials were handed out, and that a call was refused for want of a token
}

func observe(calls []call) observed {
	var o observed
	for _, c := range calls {
		switch {
		case c.Method == http.MethodPut:
			o.asked++
			if c.Status == 200 {
				o.tokens++
			}
		case c.Version == "v1":
			o.without++
			if c.Status == 200 {
				o.v1++
			} else if c.Status == 401 {
				o.rejected++
			}
		case c.Status == 200:
			o.v2++
		}
		if c.Credentials {
			o.handed++
		}
	}
	return o
}

// agents holds the user agents of calls to the SDK that made them: they name it if they should, and never another version of it.
func agents(t *testing.T, p sdks.Program, calls []call) {
	t.Helper()
	for _, c := range calls {
		right, wrong := false, false
		for _, m := range product.Default().ParseAgent(c.UserAgent) {
			right = right || m.Product == p.Product && m.Version == p.Version
			wrong = wrong || m.Product == p.Product && m.Version != p.Version
		}
		if p.Agent && !right || wrong {
			t.Errorf("%s %s was called by %s %s, by the user agent %q", c.Method, c.Path, p.Product, p.Version, c.UserAgent)
		}
	}
}

// run runs a program in a network namespace and gives the key that it printed; an error is how it ended, with what it said.
func run(t *testing.T, ns string, p sdks.Program) (key string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", append(in(ns)[1:], p.Argv...)...)
	cmd.Env = p.Env
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if ctx.Err() != nil {
		t.Fatalf("it did not end: %s%s", out, &said)
	}
	if err != nil {
		err = fmt.Errorf("%w: %s%s", err, out, &said)
	}
	return p.Key(out), err
}
