package imds_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/imds"
)

// FuzzRequest sends any method, path and headers: nothing panics, v1 is never answered where tokens are required, no token is given to a
// request that was forwarded or to another method, and none is accepted that was not given.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/latest/meta-data/instance-id", "X-Aws-Ec2-Metadata-Token", "AAAA", true)
	f.Add("PUT", "/latest/api/token", "X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60", false)
	f.Add("PUT", "/latest/api/token", "X-Forwarded-For", "10.0.0.1", true)
	f.Add("HEAD", "//latest//dynamic/instance-identity/document", "Expect", "100-continue", false)
	f.Add("OPTIONS", "*", "Connection", "keep-alive", true)
	f.Add("GET", "/1.0/meta-data/public-keys/0/", "X-Aws-Ec2-Metadata-Token", "", false)
	state := full()
	state.Options = fleet.Options{Tokens: fleet.TokensRequired, Tags: fleet.Enabled}
	f.Fuzz(func(t *testing.T, method, path, name, value string, ttl bool) {
		w := newWorld(t, state)
		r := &http.Request{Method: method, URL: &url.URL{Path: path}, Header: http.Header{http.CanonicalHeaderKey(name): {value}}, RemoteAddr: "192.0.2.1:1"}
		if ttl {
			r.Header.Set(imds.HeaderTTL, "60")
		}
		a := httptest.NewRecorder()
		w.ServeHTTP(a, r.WithContext(t.Context()))
		_, forwarded := r.Header["X-Forwarded-For"]
		given := a.Code == 200 && method == "PUT"
		switch {
		case a.Code == 200 && (method == "GET" || method == "HEAD"):
			t.Fatalf("answered without a token of ours: %s %q, %s: %q", method, path, name, value)
		case given && (forwarded || path != imds.TokenPath):
			t.Fatalf("a token for %q, forwarded %v", path, forwarded)
		case given && len(a.Body.String()) != 56, !given && a.Header().Get(imds.HeaderTTL) != "":
			t.Fatalf("%d with %q and TTL %q", a.Code, a.Body, a.Header().Get(imds.HeaderTTL))
		case a.Header().Get("Server") != "EC2ws":
			t.Fatalf("no Server header with %d", a.Code)
		}
		c := w.last()
		if c.Status != a.Code || len(c.Path) > 1024 || len(c.UserAgent) > 512 || w.Counts().NoToken != 0 {
			t.Fatalf("observed %+v", c)
		}
		if given && strings.Contains(c.Path+c.UserAgent, a.Body.String()) {
			t.Fatalf("the token is told: %+v", c)
		}
	})
}

// FuzzTree asks for any path as v1, where that is allowed: it ends, and what is found is told as found.
func FuzzTree(f *testing.F) {
	for _, p := range []string{
		"/", "/latest/", "/latest/meta-data/network/interfaces/macs/", "/2016-09-02/user-data", "/latest/meta-data//",
		"/latest/meta-data/public-keys/0/",
	} {
		f.Add(p)
	}
	w := newWorld(f, full())
	f.Fuzz(func(t *testing.T, path string) {
		a := httptest.NewRecorder()
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}, Header: http.Header{}, RemoteAddr: "192.0.2.1:1"}
		w.ServeHTTP(a, r.WithContext(t.Context()))
		if path != imds.TokenPath && a.Code != 200 && a.Code != 404 {
			t.Fatalf("%q: %d", path, a.Code)
		}
	})
}

// FuzzParseState reads any text: an error, or a state that can be played.
func FuzzParseState(f *testing.F) {
	f.Add([]byte("tokens: required\nhop_limit: 2\ntags: {a: b}\n"))
	f.Add([]byte(`{"role": "web", "launched": "2026-01-01T00:00:00Z"}`))
	f.Add([]byte("&a [*a, *a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := imds.ParseState(data, "x")
		if err == nil {
			newWorld(t, s)
		}
	})
}
