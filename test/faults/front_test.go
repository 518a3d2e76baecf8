package faults

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// front stands between the socket and the simulated AWS, for what goes wrong on the way: connections that are reset, and
// AWS's clock, by which it accepts signatures, apart from that of the caller's machine.
type front struct {
	next http.Handler

	mu sync.Mutex
	// skew is AWS's clock minus the machine's. The signatures of other times are refused.
	skew   time.Duration
	checks bool
	// reset tells which calls lose their connection, and whether after their effect. It is asked about EC2's.
	reset func(action string) (lost, after bool)

	refused, cut atomic.Int64
}

// tolerance is how far off a signature's time may be ("Signature Version 4 signing process": five minutes).
const tolerance = 5 * time.Minute

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	skew, checks, reset := f.skew, f.checks, f.reset
	f.mu.Unlock()
	if checks {
		now := time.Now().Add(skew).UTC()
		rw.Header().Set("Date", now.Format(http.TimeFormat))
		at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err != nil || at.Sub(now).Abs() > tolerance {
			f.refused.Add(1)
			refuse(rw, r, at, now)
			return
		}
	}
	if reset != nil {
		if lost, after := reset(action(r)); lost {
			if after {
				f.next.ServeHTTP(httptest.NewRecorder(), r)
			}
			f.cut.Add(1)
			cut(rw)
			return
		}
	}
	f.next.ServeHTTP(rw, r)
}

// action is that of a request in a query protocol. The body can be read again.
func action(r *http.Request) string {
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, bad := url.ParseQuery(string(body))
	if err != nil || bad != nil {
		return ""
	}
	return form.Get("Action")
}

// refuse answers a signature of another time in each service's own words.
func refuse(rw http.ResponseWriter, r *http.Request, at, now time.Time) {
	scope := strings.Split(r.Header.Get("Authorization"), "/")
	service := scope[min(3, len(scope)-1)]
	expired := fmt.Sprintf("Signature expired: %s is now earlier than %s", at.Format(time.RFC3339), now.Add(-tolerance).Format(time.RFC3339))
	switch {
	case r.Header.Get("Smithy-Protocol") == "rpc-v2-cbor":
		rw.Header().Set("Content-Type", "application/cbor")
		rw.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
		rw.WriteHeader(http.StatusForbidden)
		_, _ = rw.Write(mapOf("__type", "InvalidSignatureException", "message", expired)) // who has gone away needs no answer
	case service == "ec2":
		rw.Header().Set("Content-Type", "text/xml")
		rw.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(rw, `<Response><Errors><Error><Code>RequestExpired</Code><Message>Request has expired.</Message></Error></Errors>`+
			`<RequestID>0</RequestID></Response>`)
	case slices.Contains([]string{"sts", "autoscaling", "elasticbeanstalk", "elasticloadbalancing", "iam"}, service):
		rw.Header().Set("Content-Type", "text/xml")
		rw.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(rw, `<ErrorResponse><Error><Type>Sender</Type><Code>SignatureDoesNotMatch</Code><Message>%s</Message></Error>`+
			`<RequestId>0</RequestId></ErrorResponse>`, expired)
	default:
		rw.Header().Set("Content-Type", "application/x-amz-json-1.1")
		rw.Header().Set("X-Amzn-Errortype", "InvalidSignatureException")
		rw.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(rw, `{"__type":"InvalidSignatureException","message":%q}`, expired)
	}
}

// mapOf writes texts, by pairs, as a map in CBOR (RFC 8949).
func mapOf(texts ...string) []byte {
	out := []byte{0xa0 | byte(len(texts)/2)}
	for _, text := range texts {
		out = append(out, 0x78, byte(len(text)))
		out = append(out, text...)
	}
	return out
}

// cut resets the connection: the caller gets no answer, not even an orderly end.
func cut(rw http.ResponseWriter) {
	conn, _, err := rw.(http.Hijacker).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
