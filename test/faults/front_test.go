package faults

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
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
	// reset tells which requests lose their connection, and whether after their effect.
	reset func(*http.Request) (lost, after bool)

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
		if lost, after := reset(r); lost {
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

// refuse answers a signature of another time in each service's own words.
func refuse(rw http.ResponseWriter, r *http.Request, at, now time.Time) {
	scope := strings.Split(r.Header.Get("Authorization"), "/")
	service := scope[min(3, len(scope)-1)]
	expired := fmt.Sprintf("Signature expired: %s is now earlier than %s", at.Format(time.RFC3339), now.Add(-tolerance).Format(time.RFC3339))
	switch service {
	case "ec2":
		rw.Header().Set("Content-Type", "text/xml")
		rw.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(rw, `<Response><Errors><Error><Code>RequestExpired</Code><Message>Request has expired.</Message></Error></Errors>`+
			`<RequestID>0</RequestID></Response>`)
	case "sts", "autoscaling", "elasticloadbalancing", "iam":
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
