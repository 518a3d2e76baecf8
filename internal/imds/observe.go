package imds

import (
	"cmp"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Version is how a call was made.
type Version string

// The versions of the protocol. A call is told by its headers, as AWS tells it: with either of those of version 2 it is meant as one.
const (
	V1 Version = "v1"
	V2 Version = "v2"
)

// Call is one request and what became of it. It holds no token, no credentials and no query of the URL.
type Call struct {
	Time    time.Time `json:"time"`
	Version Version   `json:"version"`
	Method  string    `json:"method"`
	Path    string    `json:"path"` // decoded; at most 1024 bytes
	// Status is that of the answer; 0 where the connection was closed without one.
	Status int `json:"status"`
	// Why says what was wrong with the request, where something was.
	Why       string `json:"why,omitempty"`
	UserAgent string `json:"user_agent,omitempty"` // at most 512 bytes
	Remote    string `json:"remote"`               // address and port
	Local     string `json:"local,omitempty"`
	// TokenID names the token that was given or used, as 16 hexadecimal digits of its hash: equal where it was used again.
	TokenID string `json:"token_id,omitempty"`
	// TTL is the life of a token that was given, in seconds.
	TTL int `json:"ttl,omitempty"`
	// HopLimit is that of the answer's packets, where it was limited, under Serve, on Linux: answers to PUT, and what follows one on the
	// same connection that has not arrived.
	HopLimit int `json:"hop_limit,omitempty"`
	// Credentials tells that a role's credentials were handed out.
	Credentials bool `json:"credentials,omitempty"`
	// Forwarded tells that the request had an X-Forwarded-For header.
	Forwarded bool `json:"forwarded,omitempty"`

	rejected bool
}

// V1Accepted tells a v1 call that succeeded: what MetadataNoToken counts.
func (c Call) V1Accepted() bool {
	return c.Version == V1 && (c.Method == http.MethodGet || c.Method == http.MethodHead) && c.Status == http.StatusOK
}

// V1Rejected tells a v1 call that was refused because tokens are required: what MetadataNoTokenRejected counts.
func (c Call) V1Rejected() bool { return c.rejected }

// begin notes what a request is before it is answered.
func (s *Service) begin(at *served, r *http.Request) Call {
	c := Call{
		Time: s.now(), Version: V1, Method: cut(clean(r.Method), 32), Path: cut(clean(r.URL.Path), 1024),
		UserAgent: cut(clean(r.UserAgent()), 512), Remote: r.RemoteAddr,
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		c.Local = local.String()
	}
	_, token := r.Header[HeaderToken]
	_, ttl := r.Header[HeaderTTL]
	if token || ttl || r.Method == http.MethodPut {
		c.Version = V2
	}
	if token && r.Method != http.MethodPut {
		c.TokenID = tokenID(strings.Join(r.Header[HeaderToken], ", "))
	}
	_, c.Forwarded = r.Header["X-Forwarded-For"]
	return c
}

func (s *Service) tell(c Call) {
	if s.observe != nil {
		s.observe(c)
	}
}

// tokenShape is what EC2's tokens and ours look like, and tokenLength their length without the padding.
var tokenShape = regexp.MustCompile(`[A-Za-z0-9_-]{54,}(==)?`)

const tokenLength = 54

// clean takes out what looks like a token: some write it into the path by mistake. One without its padding, or with that escaped twice,
// is a token to whoever puts it back.
func clean(s string) string {
	s = tokenShape.ReplaceAllStringFunc(s, func(found string) string {
		if len(found) == tokenLength || strings.HasSuffix(found, "==") {
			return "[redacted]"
		}
		return found
	})
	return strings.ToValidUTF8(s, "\uFFFD")
}

// cut keeps at most n bytes, and no broken character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// Count is how many v1 calls there were: NoToken as MetadataNoToken counts them, Rejected as MetadataNoTokenRejected.
type Count struct {
	NoToken  int64 `json:"metadata_no_token"`
	Rejected int64 `json:"metadata_no_token_rejected"`
}

// Client is who called, as far as a call says it: an address without its port, and a user agent.
type Client struct {
	Address   string `json:"address"`
	UserAgent string `json:"user_agent,omitempty"`
}

// Counts are v1 calls, in all and divided.
type Counts struct {
	Count
	Paths   map[string]Count
	Clients map[Client]Count
}

// Callers lists the clients of the counts, those with the most calls first.
func (c Counts) Callers() []Client {
	return slices.SortedFunc(maps.Keys(c.Clients), func(a, b Client) int {
		x, y := c.Clients[a], c.Clients[b]
		return cmp.Or(cmp.Compare(y.NoToken+y.Rejected, x.NoToken+x.Rejected), cmp.Compare(a.Address, b.Address), cmp.Compare(a.UserAgent, b.UserAgent))
	})
}

// Others is the path, and the user agent of the client, under which v1 calls are counted when there are too many to tell apart.
const Others = "(others)"

// maxCounted bounds the memory that counting takes, whatever clients send.
const maxCounted = 1000

type counters struct {
	mu      sync.Mutex
	total   Count
	paths   map[string]Count
	clients map[Client]Count
}

func (c *counters) add(call Call) {
	n := Count{}
	switch {
	case call.V1Accepted():
		n.NoToken = 1
	case call.V1Rejected():
		n.Rejected = 1
	default:
		return
	}
	address, _, err := net.SplitHostPort(call.Remote)
	if err != nil {
		address = call.Remote
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total = c.total.plus(n)
	c.paths = count(c.paths, call.Path, Others, n)
	c.clients = count(c.clients, Client{address, call.UserAgent}, Client{UserAgent: Others}, n)
}

// count adds to a key of a map, or to that of the others where the map is full.
func count[K comparable](m map[K]Count, key, others K, n Count) map[K]Count {
	if m == nil {
		m = map[K]Count{}
	}
	if _, known := m[key]; !known && len(m) >= maxCounted {
		key = others
	}
	m[key] = m[key].plus(n)
	return m
}

func (c Count) plus(n Count) Count { return Count{c.NoToken + n.NoToken, c.Rejected + n.Rejected} }

func (c *counters) snapshot() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Counts{Count: c.total, Paths: maps.Clone(c.paths), Clients: maps.Clone(c.clients)}
}
