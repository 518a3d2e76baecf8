package imds

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// The headers of version 2, and the path of its tokens.
const (
	HeaderToken = "X-Aws-Ec2-Metadata-Token"
	HeaderTTL   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	TokenPath   = "/latest/api/token"
)

// answer is a response before it is written.
type answer struct {
	status      int
	body        string
	contentType string // "" is text/plain
	allow       string
	ttl         int       // seconds; 0 sends no header
	modified    time.Time // zero sends no header
	why         string    // for the observer
}

// page is an error with a body, as the service sends them.
func page(status int, why string) answer {
	title := fmt.Sprintf("%d - %s", status, http.StatusText(status))
	return answer{status: status, body: fmt.Sprintf(errorPage, title, title), contentType: "text/html", why: why}
}

// bare is an error without a body.
func bare(status int, why string) answer { return answer{status: status, why: why} }

// errorPage is the page of an error, as many have posted it; 343 bytes for a 401.
// https://github.com/aws/amazon-ec2-metadata-mock/issues/81, https://github.com/guardicore/monkey/issues/4275
const errorPage = "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n" +
	"<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n" +
	"\t\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n" +
	"<html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n" +
	" <head>\n  <title>%s</title>\n </head>\n <body>\n  <h1>%s</h1>\n </body>\n</html>\n"

// ServeHTTP answers one request. A request that comes in over IPv6 while the IPv6 endpoint is disabled gets no answer: its connection
// is closed.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := s.served.Load()
	call := s.begin(at, r)
	if overIPv6(r) && at.state.Options.IPv6 != fleet.Enabled {
		call.Why = "the IPv6 endpoint is disabled"
		s.tell(call)
		panic(http.ErrAbortHandler)
	}
	a := s.decide(at, r, &call)
	limit := 0
	if r.Method == http.MethodPut {
		limit = at.state.Options.HopLimit
	}
	var err error
	if call.HopLimit, err = limitHops(r.Context(), limit); err != nil {
		// A token that travels further than it may is worse than none.
		a = page(http.StatusInternalServerError, "the hop limit could not be set: "+err.Error())
		call.TTL, call.TokenID = 0, ""
	}
	call.Status, call.Why = a.status, a.why
	s.counts.add(call)
	a.write(w, r)
	s.tell(call)
}

// decide finds the answer, and notes in the call what it learned about it.
func (s *Service) decide(at *served, r *http.Request, call *Call) answer {
	switch {
	case at.state.Options.Endpoint == fleet.Disabled:
		return page(http.StatusForbidden, "the endpoint is disabled")
	case r.Header["Expect"] != nil:
		// Seen with a token request that announces a body: https://github.com/s3fs-fuse/s3fs-fuse/issues/1765
		return bare(http.StatusExpectationFailed, "the request expects something")
	case at.state.Options.Tokens == TokensUnsupported:
		return withoutTokens(at, r, call)
	case r.Method == http.MethodPut:
		return s.put(at, r, call)
	case r.URL.Path == TokenPath:
		return notAllowed(r, "OPTIONS, PUT")
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return s.get(at, r, call)
	}
	return notAllowed(r, "OPTIONS, GET, HEAD")
}

// withoutTokens answers as a service that has never heard of version 2: its path is one like any other that is not there.
func withoutTokens(at *served, r *http.Request, call *Call) answer {
	switch {
	case r.URL.Path == TokenPath && r.Method != http.MethodOptions:
		return page(http.StatusNotFound, "the service is told to know no tokens")
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return at.read(r, call, Delivery1)
	}
	return notAllowed(r, "OPTIONS, GET, HEAD")
}

// notAllowed answers a method that a path does not have, and OPTIONS.
func notAllowed(r *http.Request, allow string) answer {
	if r.Method == http.MethodOptions {
		return answer{status: http.StatusOK, allow: allow}
	}
	return answer{status: http.StatusMethodNotAllowed, allow: allow, why: "the path does not have this method"}
}

// put answers PUT: a token, or no.
func (s *Service) put(at *served, r *http.Request, call *Call) answer {
	if _, forwarded := r.Header["X-Forwarded-For"]; forwarded {
		return bare(http.StatusForbidden, "the request was forwarded")
	}
	if r.URL.Path != TokenPath {
		return bare(http.StatusForbidden, "PUT is for "+TokenPath+" alone")
	}
	ttl, err := parseTTL(r.Header[HeaderTTL])
	if err != nil {
		return page(http.StatusBadRequest, err.Error())
	}
	token := s.tokens.issue(at.state.InstanceID, ttl, s.now())
	call.TTL, call.TokenID = ttl, tokenID(token)
	return answer{status: http.StatusOK, body: token, ttl: ttl}
}

// get answers GET and HEAD.
func (s *Service) get(at *served, r *http.Request, call *Call) answer {
	given, present := r.Header[HeaderToken]
	ttl := 0
	switch {
	case present:
		token := strings.Join(given, ", ")
		remaining, err := s.tokens.check(at.state.InstanceID, token, s.now())
		if err != nil {
			return page(http.StatusUnauthorized, err.Error())
		}
		ttl = remaining
	case call.Version == V2:
		return page(http.StatusUnauthorized, "the request has a TTL and no token")
	case at.state.Options.Tokens == fleet.TokensRequired:
		call.rejected = true
		return page(http.StatusUnauthorized, "tokens are required")
	}
	delivery := Delivery1
	if present {
		delivery = Delivery2
	}
	a := at.read(r, call, delivery)
	a.ttl = ttl
	return a
}

// read answers GET and HEAD where nothing is in the way, and notes whether that handed out credentials.
func (at *served) read(r *http.Request, call *Call, by Delivery) answer {
	a := at.find(r.URL.Path, request{ctx: r.Context(), delivery: by})
	call.Credentials = a.status == http.StatusOK && isCredentials(r.URL.Path)
	return a
}

// isCredentials tells whether a path is that of a role's credentials.
func isCredentials(path string) bool {
	parts := segments(path)
	i := slices.Index(parts, "security-credentials")
	return i >= 0 && i+1 < len(parts)
}

// overIPv6 tells whether a request came to an IPv6 address of ours.
func overIPv6(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.IP.To4() == nil
}

// write sends the answer with the headers of the service. Its connections end with the answer unless the client asks for more:
// https://github.com/aws-beam/aws_credentials/issues/47
func (a answer) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Server", "EC2ws")
	h.Set("Content-Type", "text/plain")
	if a.contentType != "" {
		h.Set("Content-Type", a.contentType)
	}
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	if a.allow != "" {
		h.Set("Allow", a.allow)
	}
	if a.ttl > 0 {
		h.Set(HeaderTTL, strconv.Itoa(a.ttl))
	}
	if !a.modified.IsZero() {
		h.Set("Accept-Ranges", "none")
		h.Set("Last-Modified", a.modified.UTC().Format(http.TimeFormat))
	}
	if !strings.EqualFold(r.Header.Get("Connection"), "keep-alive") {
		h.Set("Connection", "close")
	}
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		// A client that has gone away is no error of ours.
		_, _ = w.Write([]byte(a.body))
	}
}
