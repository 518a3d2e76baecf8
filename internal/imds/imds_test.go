package imds_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/imds"
)

// world is a service with a clock that the test moves, and all calls that were observed.
type world struct {
	*imds.Service
	mu    sync.Mutex
	at    time.Time
	calls []imds.Call
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newWorld(t testing.TB, state imds.State) *world {
	t.Helper()
	w := &world{at: start}
	s, err := imds.New(imds.Config{State: state, Now: w.now, Observe: func(c imds.Call) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.calls = append(w.calls, c)
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.Service = s
	return w
}

func (w *world) now() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.at }

func (w *world) pass(d time.Duration) { w.mu.Lock(); defer w.mu.Unlock(); w.at = w.at.Add(d) }

// last is the call that was observed last.
func (w *world) last() imds.Call { w.mu.Lock(); defer w.mu.Unlock(); return w.calls[len(w.calls)-1] }

// ask makes one request: headers are "Name: value".
func (w *world) ask(method, target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ":")
		r.Header.Add(name, strings.TrimSpace(value))
	}
	out := httptest.NewRecorder()
	w.ServeHTTP(out, r)
	return out
}

func (w *world) token(t testing.TB, ttl int) string {
	t.Helper()
	a := w.ask("PUT", imds.TokenPath, fmt.Sprintf("X-aws-ec2-metadata-token-ttl-seconds: %d", ttl))
	if a.Code != http.StatusOK {
		t.Fatalf("the token request got %d: %s", a.Code, a.Body)
	}
	return a.Body.String()
}

const idPath = "/latest/meta-data/instance-id"

func with(token string) string { return "X-aws-ec2-metadata-token: " + token }

func required() imds.State { return imds.State{Options: fleet.Options{Tokens: fleet.TokensRequired}} }

func TestTokenLives(t *testing.T) {
	w := newWorld(t, required())
	for _, ttl := range []int{1, 60, 21600} {
		token := w.token(t, ttl)
		if len(token) != 56 {
			t.Errorf("a token of EC2 has 56 characters; this one has %d", len(token))
		}
		w.pass(time.Duration(ttl)*time.Second - time.Millisecond)
		if a := w.ask("GET", idPath, with(token)); a.Code != 200 || a.Header().Get(imds.HeaderTTL) != "1" {
			t.Errorf("within its life of %d s: %d, TTL %q", ttl, a.Code, a.Header().Get(imds.HeaderTTL))
		}
		w.pass(time.Millisecond)
		if a := w.ask("GET", idPath, with(token)); a.Code != 401 || w.last().Why != "the token has expired" {
			t.Errorf("after its life of %d s: %d, %q", ttl, a.Code, w.last().Why)
		}
	}
	token := w.token(t, 60)
	w.pass(-time.Hour)
	if a := w.ask("GET", idPath, with(token)); a.Code != 200 || a.Header().Get(imds.HeaderTTL) != "60" {
		t.Errorf("a clock that was set back: %d, TTL %q; a token has never more than it was given", a.Code, a.Header().Get(imds.HeaderTTL))
	}
}

func TestTokenIsOfOneInstance(t *testing.T) {
	w := newWorld(t, required())
	token := w.token(t, 60)
	if a := newWorld(t, required()).ask("GET", idPath, with(token)); a.Code != 401 {
		t.Errorf("another service takes the token: %d", a.Code)
	}
	other := required()
	other.Options.HopLimit = 2
	if err := w.SetState(other); err != nil {
		t.Fatal(err)
	}
	if a := w.ask("GET", idPath, with(token)); a.Code != 200 {
		t.Errorf("a change of options makes the token void: %d", a.Code)
	}
	other.InstanceID = "i-00000000000000001"
	if err := w.SetState(other); err != nil {
		t.Fatal(err)
	}
	if a := w.ask("GET", idPath, with(token)); a.Code != 401 {
		t.Errorf("another instance takes the token: %d", a.Code)
	}
}

// TestEveryByteOfATokenCounts changes each character of a token.
func TestEveryByteOfATokenCounts(t *testing.T) {
	w := newWorld(t, required())
	token := w.token(t, 60)
	for i := range token {
		for _, c := range []byte("Aa0_-=") {
			changed := token[:i] + string(c) + token[i+1:]
			if a := w.ask("GET", idPath, with(changed)); changed != token && a.Code != 401 {
				t.Fatalf("the token with %q at %d gets %d", c, i, a.Code)
			}
		}
	}
	for _, changed := range []string{token + "A", token[1:], strings.TrimRight(token, "="), token + "=", "", token + " " + token} {
		if a := w.ask("GET", idPath, with(changed)); a.Code != 401 {
			t.Errorf("the token as %q gets %d", changed, a.Code)
		}
	}
	if a := w.ask("GET", idPath, with(token), with(token)); a.Code != 401 {
		t.Errorf("two tokens get %d; joined by a comma they are none", a.Code)
	}
}

// TestOptions holds each option to the documentation of ModifyInstanceMetadataOptions.
func TestOptions(t *testing.T) {
	w := newWorld(t, imds.State{Tags: map[string]string{"Name": "web", "team": "a/b"}})
	expect := func(what string, code int, a *httptest.ResponseRecorder) {
		t.Helper()
		if a.Code != code {
			t.Errorf("%s: %d, want %d", what, a.Code, code)
		}
	}
	set := func(o fleet.Options) {
		t.Helper()
		state := w.State()
		state.Options = o
		if err := w.SetState(state); err != nil {
			t.Fatal(err)
		}
	}
	expect("v1 while tokens are optional", 200, w.ask("GET", idPath))
	expect("tags that are not enabled", 404, w.ask("GET", "/latest/meta-data/tags/instance/"))
	set(fleet.Options{Tokens: fleet.TokensRequired, Tags: fleet.Enabled})
	expect("v1 while tokens are required", 401, w.ask("GET", idPath))
	a := w.ask("GET", "/latest/meta-data/tags/instance", with(w.token(t, 5)))
	if a.Body.String() != "Name\nteam" {
		t.Errorf("tags are %q", a.Body)
	}
	expect("a tag that is not there", 404, w.ask("GET", "/latest/meta-data/tags/instance/none", with(w.token(t, 5))))
	set(fleet.Options{Endpoint: fleet.Disabled})
	expect("v1 at a disabled endpoint", 403, w.ask("GET", idPath))
	expect("a token at a disabled endpoint", 403, w.ask("PUT", imds.TokenPath, "X-aws-ec2-metadata-token-ttl-seconds: 5"))
	for _, bad := range []fleet.Options{{HopLimit: 65}, {HopLimit: -1}, {Tokens: "no"}, {Endpoint: "on"}, {IPv6: "yes"}, {Tags: "all"}} {
		if err := w.SetState(imds.State{Options: bad}); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	expect("the options before a mistake", 403, w.ask("GET", idPath))
}

// TestCounts holds the counters to the two metrics: calls that worked without a token, and calls that were refused for having none.
func TestCounts(t *testing.T) {
	w := newWorld(t, imds.State{Role: "web"})
	w.ask("GET", idPath, "User-Agent: one")
	w.ask("HEAD", idPath, "User-Agent: one")
	w.ask("GET", "/latest/meta-data/nothing", "User-Agent: one")
	w.ask("POST", idPath)
	w.ask("GET", imds.TokenPath)
	w.ask("GET", idPath, with(w.token(t, 9)), "User-Agent: two")
	w.ask("GET", idPath+"?X-aws-ec2-metadata-token=none", "User-Agent: three")
	if err := w.SetState(required()); err != nil {
		t.Fatal(err)
	}
	w.ask("GET", idPath, "User-Agent: one")
	w.ask("GET", idPath, with("wrong"), "User-Agent: two")
	w.ask("PUT", imds.TokenPath)
	state := required()
	state.Options.Endpoint = fleet.Disabled
	if err := w.SetState(state); err != nil {
		t.Fatal(err)
	}
	w.ask("GET", idPath, "User-Agent: one")
	c := w.Counts()
	if want := (imds.Count{NoToken: 3, Rejected: 1}); c.Count != want || c.Paths[idPath] != want || len(c.Paths) != 1 {
		t.Errorf("counted %+v, by path %+v; want %+v of one path", c.Count, c.Paths, want)
	}
	one := imds.Client{Address: "192.0.2.1", UserAgent: "one"}
	if got := c.Clients[one]; got != (imds.Count{NoToken: 2, Rejected: 1}) || c.Callers()[0] != one || len(c.Clients) != 2 {
		t.Errorf("by client %+v", c.Clients)
	}
	for i := range 3000 {
		w.ask("GET", fmt.Sprintf("/latest/%d", i), fmt.Sprintf("User-Agent: %d", i))
	}
	if err := w.SetState(required()); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		w.ask("GET", fmt.Sprintf("/latest/%d", i), fmt.Sprintf("User-Agent: %d", i))
	}
	c = w.Counts()
	if c.Rejected != 3001 || len(c.Paths) > 1001 || len(c.Clients) > 1001 || c.Paths[imds.Others].Rejected < 1999 {
		t.Errorf("%d refused, %d paths, %d clients: counting is not bounded", c.Rejected, len(c.Paths), len(c.Clients))
	}
}

// TestObservedCall is what certification reads: reuse of a token can be told, and nothing secret is in it.
func TestObservedCall(t *testing.T) {
	w := newWorld(t, imds.State{Role: "web"})
	token := w.token(t, 300)
	put := w.last()
	if put.Version != imds.V2 || put.Method != http.MethodPut || put.TTL != 300 || put.HopLimit != 0 || put.TokenID == "" || !put.Time.Equal(start) {
		t.Errorf("the token request is observed as %+v", put)
	}
	a := w.ask("GET", "/latest/meta-data/iam/security-credentials/web", with(token), "User-Agent: aws-cli/2.1 "+token)
	get := w.last()
	if get.TokenID != put.TokenID || get.Version != imds.V2 || !get.Credentials || get.Status != 200 {
		t.Errorf("the use of the token is observed as %+v", get)
	}
	w.ask("GET", "/latest/api/token/"+token+"?token="+token)
	lost := w.last()
	if lost.Version != imds.V1 || !strings.HasSuffix(lost.Path, "[redacted]") {
		t.Errorf("a token in the path is observed as %+v", lost)
	}
	w.ask("GET", "/latest/"+strings.TrimRight(token, "=")+"%253D%253D/"+strings.TrimRight(token, "="))
	if path := w.last().Path; path != "/latest/[redacted]%3D%3D/[redacted]" {
		t.Errorf("a token without its padding is observed as %s", path)
	}
	const long = "/latest/meta-data/iam/security-credentials/AmazonSageMaker-ExecutionRole-20260101T000000-of-the-data-team"
	if w.ask("GET", long); w.last().Path != long {
		t.Errorf("a role with a long name is observed as %s", w.last().Path)
	}
	w.ask("GET", idPath, "X-Forwarded-For: 10.0.0.1")
	if c := w.last(); !c.Forwarded || c.Status != 200 {
		t.Errorf("a forwarded GET is observed as %+v; only PUT is refused for it", c)
	}
	if other := w.token(t, 300); w.last().TokenID == put.TokenID || other == token {
		t.Error("two tokens cannot be told apart")
	}
	var secrets struct{ SecretAccessKey, Token string }
	if err := json.Unmarshal(a.Body.Bytes(), &secrets); err != nil || secrets.SecretAccessKey == "" {
		t.Fatalf("no credentials in %s: %v", a.Body, err)
	}
	told, err := json.Marshal(w.calls)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{token, secrets.SecretAccessKey, secrets.Token} {
		if strings.Contains(string(told), secret) {
			t.Errorf("a secret is told: %s", told)
		}
	}
}

// source gives fixed credentials, or an error.
type source struct {
	err   error
	asked []string
}

// Credentials implements imds.CredentialSource.
func (s *source) Credentials(_ context.Context, role string, by imds.Delivery) (imds.Credentials, error) {
	s.asked = append(s.asked, role+" "+string(by))
	return imds.Credentials{AccessKeyID: "ASIAEXAMPLE", Updated: start, Expiration: start.Add(time.Hour)}, s.err
}

func TestCredentials(t *testing.T) {
	given := &source{}
	s, err := imds.New(imds.Config{State: imds.State{Role: "web"}, Credentials: given, Now: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Service: s, at: start}
	const path = "/latest/meta-data/iam/security-credentials/web"
	body := w.ask("GET", path).Body.String()
	want := `{
  "Code" : "Success",
  "LastUpdated" : "2026-03-01T12:00:00Z",
  "Type" : "AWS-HMAC",
  "AccessKeyId" : "ASIAEXAMPLE",
  "SecretAccessKey" : "",
  "Token" : "",
  "Expiration" : "2026-03-01T13:00:00Z"
}`
	if body != want {
		t.Errorf("credentials are written as %s", body)
	}
	w.ask("GET", path, with(w.token(t, 5)))
	if want := []string{"web 1.0", "web 2.0"}; !slices.Equal(given.asked, want) {
		t.Errorf("the source was asked for %q, want %q", given.asked, want)
	}
	given.err = errors.New("the role is gone")
	if a := w.ask("GET", path); a.Code != 500 || strings.Contains(a.Body.String(), "gone") {
		t.Errorf("a source that fails gives %d: %s", a.Code, a.Body)
	}
	if a := w.ask("GET", "/latest/meta-data/iam/security-credentials/other"); a.Code != 404 {
		t.Errorf("another role gives %d", a.Code)
	}
	if a := newWorld(t, imds.State{}).ask("GET", "/latest/meta-data/iam/security-credentials/"); a.Code != 404 {
		t.Errorf("an instance without a role gives %d", a.Code)
	}
}

// TestGeneratedCredentials are good for hours whenever they are asked for, stay while they are, and differ by delivery.
func TestGeneratedCredentials(t *testing.T) {
	now := start
	g := imds.Generated(func() time.Time { return now })
	get := func(by imds.Delivery) imds.Credentials {
		c, err := g.Credentials(t.Context(), "web", by)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	one, two := get(imds.Delivery1), get(imds.Delivery2)
	if one.SessionToken == two.SessionToken || len(one.AccessKeyID) != 20 || len(one.SecretAccessKey) != 40 {
		t.Errorf("generated %+v and %+v", one, two)
	}
	changes := 0
	for range 24 * 60 {
		now = now.Add(time.Minute)
		next := get(imds.Delivery1)
		if next != one {
			changes++
		}
		if one = next; one.Expiration.Sub(now) < 30*time.Minute-time.Second || one.Expiration.Sub(now) > 6*time.Hour {
			t.Fatalf("at %s they live until %s", now, one.Expiration)
		}
	}
	if changes != 4 {
		t.Errorf("they changed %d times in a day, want 4", changes)
	}
}

// TestTokensUnsupported: what no instance does, and stand-ins that are older than tokens do.
func TestTokensUnsupported(t *testing.T) {
	w := newWorld(t, imds.State{Role: "web", Options: fleet.Options{Tokens: imds.TokensUnsupported}})
	for _, r := range []struct {
		method, path, header string
		status               int
	}{
		{"PUT", imds.TokenPath, imds.HeaderTTL + ": 60", 404},
		{"PUT", imds.TokenPath, "", 404},
		{"GET", imds.TokenPath, "", 404},
		{"PUT", idPath, "", 405},
		{"POST", idPath, "", 405},
		{"OPTIONS", imds.TokenPath, "", 200},
		{"GET", idPath, "", 200},
		{"HEAD", idPath, "", 200},
		{"GET", idPath, with("anything"), 200},
		{"GET", idPath, imds.HeaderTTL + ": 60", 200},
		{"GET", "/latest/meta-data/iam/security-credentials/web", "", 200},
		{"GET", "/latest/meta-data/none", "", 404},
	} {
		var headers []string
		if r.header != "" {
			headers = append(headers, r.header)
		}
		a := w.ask(r.method, r.path, headers...)
		if a.Code != r.status || a.Header().Get(imds.HeaderTTL) != "" || strings.Contains(a.Header().Get("Allow"), "PUT") {
			t.Errorf("%s %s %s: %d with %v, want %d", r.method, r.path, r.header, a.Code, a.Header(), r.status)
		}
	}
	if c := w.Counts(); c.NoToken != 3 || c.Rejected != 0 {
		t.Errorf("counted %+v: the calls with headers of version 2 are none of version 1", c)
	}
	// It is a state like any other: tokens can be had as soon as they are known.
	if err := w.SetState(imds.State{}); err != nil {
		t.Fatal(err)
	}
	w.token(t, 60)
	if s, err := imds.ParseState([]byte("tokens: unsupported"), "x"); err != nil || s.Options.Tokens != imds.TokensUnsupported {
		t.Errorf("read %+v, %v", s.Options, err)
	}
}

// TestVersions holds dated builds to what they had.
func TestVersions(t *testing.T) {
	w := newWorld(t, imds.State{Role: "web", UserData: []byte("#!/bin/sh\n"), Options: fleet.Options{Tags: fleet.Enabled}, Tags: map[string]string{"a": "b"}})
	for path, want := range map[string]int{
		"/1.0/meta-data/instance-id": 200, "/1.0/meta-data/instance-type": 404, "/2007-08-29/meta-data/instance-type": 200,
		"/2011-05-01/meta-data/iam/info": 404, "/2012-01-12/meta-data/iam/info": 200, "/2021-01-03/meta-data/tags/instance/a": 404,
		"/2021-03-23/meta-data/tags/instance/a": 200, "/2008-09-01/dynamic/instance-identity/document": 404,
		"/2009-04-04/dynamic/instance-identity/document": 200, "/1.0/user-data": 200, "/2010-01-01/meta-data/": 404, "/3.0/": 404,
		"/latest/user-data/": 200, "/latest/user-data/x": 404, "/latest/api/": 404, "//latest//meta-data//instance-id": 200,
		"/latest/meta-data/instance-id/": 200, "/latest/meta-data/instance-id//": 200, "/latest/meta-data/instance-id/x": 404, "/LATEST/meta-data/": 404,
		"/latest/meta-data/../meta-data/": 404, "/latest/%6deta-data/": 200, "/2018-03-28/meta-data/identity-credentials/": 404,
		"/2018-08-17/meta-data/identity-credentials/ec2/info": 200, "/2021-03-23": 200, "/2021-03-24/": 404, "/latest/dynamic/fws/": 200,
	} {
		if a := w.ask("GET", path); a.Code != want {
			t.Errorf("%s: %d, want %d", path, a.Code, want)
		}
	}
	if got := w.ask("GET", "/1.0/meta-data/").Body.String(); strings.Contains(got, "instance-type") || !strings.Contains(got, "instance-id") {
		t.Errorf("build 1.0 lists %q", got)
	}
	if got := w.ask("GET", "/latest").Body.String(); got != "dynamic\nmeta-data\nuser-data" {
		t.Errorf("the newest build lists %q", got)
	}
}

// TestTreeIsWhole asks for all that lists name: each must be there.
func TestTreeIsWhole(t *testing.T) {
	w := newWorld(t, full())
	seen := 0
	var walk func(path string)
	walk = func(path string) {
		a := w.ask("GET", path)
		if a.Code != 200 || a.Body.Len() == 0 {
			t.Errorf("%s is listed and gives %d", path, a.Code)
		}
		seen++
		if !strings.HasSuffix(path, "/") {
			return
		}
		for name := range strings.SplitSeq(a.Body.String(), "\n") {
			if before, _, labelled := strings.Cut(name, "="); labelled {
				name = before + "/"
			}
			walk(path + name)
		}
	}
	walk("/latest/meta-data/")
	walk("/latest/dynamic/")
	if seen < 60 {
		t.Errorf("only %d paths", seen)
	}
}

func full() imds.State {
	return imds.State{
		Options: fleet.Options{Tags: fleet.Enabled}, Role: "web", PublicKey: "ssh-rsa AAAA my-public-key", Tags: map[string]string{"Name": "x"},
		PublicIPv4: "203.0.113.25", PublicHostname: "ec2-203-0-113-25.compute-1.amazonaws.com", IPv6: "2001:db8::1", ZoneID: "use1-az1",
		ProductCodes: []string{"abc"}, Target: "InService", SpotAction: "terminate", SpotTime: start, Rebalance: start,
	}
}

func TestIPv6IsAnOption(t *testing.T) {
	w := newWorld(t, imds.State{})
	r := httptest.NewRequest(http.MethodGet, idPath, nil)
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.ParseIP("fd00:ec2::254"), Port: 80})))
	aborted := func() (got any) {
		defer func() { got = recover() }()
		w.ServeHTTP(httptest.NewRecorder(), r)
		return nil
	}
	if got := aborted(); got == nil || !errors.Is(got.(error), http.ErrAbortHandler) || w.last().Status != 0 {
		t.Errorf("with IPv6 disabled: %v, observed %+v", got, w.last())
	}
	if err := w.SetState(imds.State{Options: fleet.Options{IPv6: fleet.Enabled}}); err != nil {
		t.Fatal(err)
	}
	if got := aborted(); got != nil || w.last().Status != 200 {
		t.Errorf("with IPv6 enabled: %v, observed %+v", got, w.last())
	}
}

func TestParseState(t *testing.T) {
	s, err := imds.ParseState([]byte("tokens: required\nhop_limit: 2\ninstance_tags: enabled\nregion: eu-west-1\ntags: {Name: web}\nuser_data: ''\n"), "x.yaml")
	if err != nil || s.Options.Tokens != "required" || s.Options.HopLimit != 2 || s.Tags["Name"] != "web" || s.UserData == nil {
		t.Errorf("read %+v, %v", s, err)
	}
	if s, err = imds.ParseState([]byte(`{"tokens":"optional","role":"web","spot_time":"2026-01-01T00:00:00Z"}`), "x.json"); err != nil || s.Role != "web" {
		t.Errorf("read %+v, %v", s, err)
	}
	for _, empty := range []string{"", "\n", "# nothing\n", "{}"} {
		if _, err := imds.ParseState([]byte(empty), "x"); err != nil {
			t.Errorf("%q: %v", empty, err)
		}
	}
	for _, bad := range []string{
		"token: required", "tokens: perhaps", "hop_limit: 0", "hop_limit: two", "account: '12'", "[1]", "local_ipv4: here", "role: a b",
		"instance_tags: enabled\ntags: {'a/b': c}", "instance_tags: enabled\ntags: {käse: c}", "instance_tags: enabled\ntags: {'a#b': c}",
		"instance_tags: enabled\ntags: {_index: c}", "tokens: required\n---\ntokens: optional", "life_cycle: long", "monitoring: often",
		"ipv6_address: 10.0.0.1", "ipv6_address: here", "public_ipv4: 1.2.3.4/24", "public_ipv4: '::1'", "region: here",
		"region: eu-west-1\navailability_zone: us-east-1a", "availability_zone: here", "target_lifecycle_state: Asleep",
		"scheduled_events: soon", "event_history: '[{]'", "spot_action: sing\nspot_time: 2026-01-01T00:00:00Z", "spot_action: stop",
		"spot_action: stop\nspot_time: 2026-01-01T00:00:00Z\nlife_cycle: on-demand",
	} {
		if _, err := imds.ParseState([]byte(bad), "bad.yaml"); err == nil || !strings.Contains(err.Error(), "bad.yaml") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestStateIsMadeUpFromTheID(t *testing.T) {
	a, b := newWorld(t, imds.State{InstanceID: "i-1"}).State(), newWorld(t, imds.State{InstanceID: "i-1"}).State()
	c := newWorld(t, imds.State{InstanceID: "i-2", InstanceType: "m7g.large", Zone: "cn-north-1b"}).State()
	if a.MAC != b.MAC || a.LocalIPv4 != b.LocalIPv4 || a.MAC == c.MAC || a.SubnetID != b.SubnetID {
		t.Errorf("%+v\n%+v\n%+v", a, b, c)
	}
	for zone, region := range map[string]fleet.Region{
		"us-gov-west-1a": "us-gov-west-1", "us-east-1-bos-1a": "us-east-1", "us-west-2-wl1-las-wlz-1": "us-west-2", "ap-southeast-7c": "ap-southeast-7",
	} {
		if got := newWorld(t, imds.State{Zone: zone}).State(); got.Region != region || got.Zone != zone {
			t.Errorf("the zone %s is one of %s, it says", zone, got.Region)
		}
	}
	if c.Region != "cn-north-1" || c.Architecture != "arm64" || a.Architecture != "x86_64" || a.Region != "us-east-1" {
		t.Errorf("%+v\n%+v", a, c)
	}
}

// TestAddressesFitTheirNetworks asks for the networks of an address that was given: programs make routes of them.
func TestAddressesFitTheirNetworks(t *testing.T) {
	w := newWorld(t, imds.State{LocalIPv4: "172.31.37.6", IPv6: "2001:db8:1234:1a42::5", MAC: "02:00:00:00:00:01"})
	for name, want := range map[string]string{
		"subnet-ipv4-cidr-block": "172.31.32.0/20", "vpc-ipv4-cidr-block": "172.31.0.0/16", "vpc-ipv4-cidr-blocks": "172.31.0.0/16",
		"subnet-ipv6-cidr-blocks": "2001:db8:1234:1a42::/64", "vpc-ipv6-cidr-blocks": "2001:db8:1234:1a00::/56",
	} {
		if a := w.ask("GET", "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/"+name); a.Body.String() != want {
			t.Errorf("%s is %s, want %s", name, a.Body, want)
		}
	}
}

// TestEmptyUserData is as none at all: EC2 keeps no empty user data.
func TestEmptyUserData(t *testing.T) {
	w := newWorld(t, imds.State{UserData: []byte{}})
	if a := w.ask("GET", "/latest/user-data"); a.Code != 404 {
		t.Errorf("%d", a.Code)
	}
	if got := w.ask("GET", "/latest/").Body.String(); got != "dynamic\nmeta-data" {
		t.Errorf("listed are %q", got)
	}
}

// TestSpotActionMakesASpotInstance asks what life cycle an instance has that EC2 is about to take.
func TestSpotActionMakesASpotInstance(t *testing.T) {
	w := newWorld(t, imds.State{SpotAction: "stop", SpotTime: start})
	if a := w.ask("GET", "/latest/meta-data/instance-life-cycle"); a.Body.String() != "spot" {
		t.Errorf("it is %s", a.Body)
	}
	if a := w.ask("GET", "/latest/meta-data/spot/termination-time"); a.Code != 404 {
		t.Errorf("an instance that is only stopped has a termination time: %s", a.Body)
	}
}

// TestOtherOptionsAreNoOtherLaunch changes options while time goes by: the identity document stays what it was, as its signatures do.
func TestOtherOptionsAreNoOtherLaunch(t *testing.T) {
	const document = "/latest/dynamic/instance-identity/document"
	w := newWorld(t, imds.State{})
	before := w.ask("GET", document).Body.String()
	w.pass(time.Hour)
	if err := w.SetState(imds.State{Options: fleet.Options{HopLimit: 2}}); err != nil {
		t.Fatal(err)
	}
	if after := w.ask("GET", document).Body.String(); after != before || !strings.Contains(after, "2026-03-01T12:00:00Z") {
		t.Errorf("the document was\n%s\nand is\n%s", before, after)
	}
	if err := w.SetState(imds.State{InstanceID: "i-0feed"}); err != nil {
		t.Fatal(err)
	}
	if other := w.ask("GET", document).Body.String(); !strings.Contains(other, "2026-03-01T13:00:00Z") {
		t.Errorf("another instance was launched with the first:\n%s", other)
	}
}
