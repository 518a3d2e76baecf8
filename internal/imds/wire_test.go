package imds_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/imds"
)

// serve runs the service on a free port of this machine until the test ends.
func (w *world) serve(t testing.TB) net.Addr {
	t.Helper()
	l, err := imds.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("serving ended with %v", err)
		}
	})
	return l.Addr()
}

// say sends bytes in the pieces that are given and reads answers until the service closes the connection.
func say(t *testing.T, at net.Addr, pieces ...string) []string {
	t.Helper()
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var out []string
	r := bufio.NewReader(c)
	for {
		a, err := http.ReadResponse(r, nil)
		if err != nil {
			return out
		}
		body, err := io.ReadAll(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%d %.19s", a.StatusCode, body))
	}
}

const (
	idLine = "GET /latest/meta-data/instance-id"
	host   = " HTTP/1.1\r\nHost: 169.254.169.254\r\n"
	ofID   = "200 i-0123456789abcdef0"
	no     = "401 <?xml version=\"1.0\" "
)

// TestWire sends what clients and those who look for holes send, while tokens are required, and checks which version each was told as.
func TestWire(t *testing.T) {
	w := newWorld(t, required())
	at := w.serve(t)
	token := w.token(t, 300)
	header := "X-aws-ec2-metadata-token"
	get := idLine + host
	put := "PUT /latest/api/token" + host + header + "-ttl-seconds: 5\r\n"
	carry := header + ": " + token + "\r\n\r\n"
	for name, c := range map[string]struct {
		send    []string
		answers []string
		version imds.Version
	}{
		"v1":                                {[]string{get + "\r\n"}, []string{no[:23]}, imds.V1},
		"HTTP/1.0":                          {[]string{idLine + " HTTP/1.0\r\n\r\n"}, []string{no[:23]}, imds.V1},
		"v2":                                {[]string{get + carry}, []string{ofID}, imds.V2},
		"in lower case":                     {[]string{get + strings.ToLower(header) + ":" + token + "\r\n\r\n"}, []string{ofID}, imds.V2},
		"in capitals":                       {[]string{get + strings.ToUpper(header) + ":  " + token + " \r\n\r\n"}, []string{ofID}, imds.V2},
		"byte by byte":                      {strings.Split(get+header+": "+token+"\r\n\r\n", ""), []string{ofID}, imds.V2},
		"the header's name in the URL":      {[]string{idLine + "?" + header + ":%20" + token + host + "\r\n"}, []string{no[:23]}, imds.V1},
		"the header within another":         {[]string{get + "X-Other: " + carry}, []string{no[:23]}, imds.V1},
		"the header in a body":              {[]string{get + "Content-Length: 86\r\n\r\n" + header + ": " + token + "\r\n\r\n\r\n"}, []string{no[:23]}, imds.V1},
		"a header with another beginning":   {[]string{get + "X-" + carry}, []string{no[:23]}, imds.V1},
		"an empty token":                    {[]string{get + header + ":\r\n\r\n"}, []string{no[:23]}, imds.V2},
		"the TTL header on a GET":           {[]string{get + header + "-ttl-seconds: 60\r\n\r\n"}, []string{no[:23]}, imds.V2},
		"absolute form":                     {[]string{"GET http://169.254.169.254/latest/meta-data/instance-id" + host + carry}, []string{ofID}, imds.V2},
		"60 KB of headers":                  {[]string{get + "X-Fill: " + strings.Repeat("x", 60<<10) + "\r\n" + carry}, []string{ofID}, imds.V2},
		"v1 behind v2, connection kept":     {[]string{get + "Connection: keep-alive\r\n" + carry + get + "\r\n"}, []string{ofID, no[:23]}, imds.V1},
		"v1 behind v2, connection ended":    {[]string{get + carry + get + "\r\n"}, []string{ofID}, imds.V2},
		"a PUT with a body":                 {[]string{put + "Content-Length: 3\r\n\r\nabc"}, []string{"200 "}, imds.V2},
		"a PUT that expects":                {[]string{put + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"}, []string{"417 "}, imds.V2},
		"a forwarded PUT":                   {[]string{put + "x-forwarded-for: a\r\n\r\n"}, []string{"403 "}, imds.V2},
		"a forwarded PUT, the header empty": {[]string{put + "X-Forwarded-For:\r\n\r\n"}, []string{"403 "}, imds.V2},
		"OPTIONS of everything":             {[]string{"OPTIONS *" + host + "\r\n"}, []string{"200 "}, imds.V1},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(w.all())
			got := say(t, at, c.send...)
			for i, want := range c.answers {
				if len(got) != len(c.answers) || !strings.HasPrefix(got[i], want) {
					t.Fatalf("answers %q, want %q", got, c.answers)
				}
			}
			if calls := w.all()[before:]; len(calls) != len(c.answers) || calls[len(calls)-1].Version != c.version {
				t.Errorf("observed %+v, want the last to be %s", calls, c.version)
			}
		})
	}
}

// TestFoldedHeader continues a header on the next line, which HTTP/1.1 has given up: it may be understood or refused, but a token in it
// must not be lost so that the rest of the request is answered as v1.
func TestFoldedHeader(t *testing.T) {
	w := newWorld(t, imds.State{})
	at := w.serve(t)
	got := say(t, at, idLine+host+"X-aws-ec2-metadata-token:\r\n "+w.token(t, 5)+"\r\n\r\n")
	if !slices.Equal(got, []string{ofID}) && (len(got) != 1 || !strings.HasPrefix(got[0], "400")) {
		t.Errorf("answers %q", got)
	}
	if n := w.Counts().NoToken; n != 0 {
		t.Errorf("counted as %d calls of v1", n)
	}
}

func (w *world) all() []imds.Call { w.mu.Lock(); defer w.mu.Unlock(); return slices.Clone(w.calls) }
