package awsx

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/clock"
)

// ownBody gives the transport a request body of its own. The SDK closes its body as soon as an answer begins; where that
// is before the transport has let go of the body, net/http takes the connection for broken and the answer is lost. For a
// write that would be an unknown effect. Requests of this tool are a few kilobytes, so a copy costs nothing.
//
// It is the last to look at the clock: a process that was stopped in the middle of a call and woken later finds that the
// call's time is over (clock.WithEnd) and does not send it.
type ownBody struct {
	next  aws.HTTPClient
	clock clock.Clock
}

// Do implements aws.HTTPClient.
func (c ownBody) Do(r *http.Request) (*http.Response, error) {
	if end, ok := clock.End(r.Context()); ok && !c.clock.Now().Before(end) {
		return nil, errTooLate
	}
	if r.Body == nil || r.Body == http.NoBody {
		return c.next.Do(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, fmt.Errorf("read the request's body: %w", err)
	}
	own := r.Clone(r.Context())
	own.Body = io.NopCloser(bytes.NewReader(body))
	own.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	own.ContentLength = int64(len(body))
	return c.next.Do(own)
}

// errTooLate: the time for a call was over before it was sent.
var errTooLate = errors.New("not sent: the time for this call was over")
