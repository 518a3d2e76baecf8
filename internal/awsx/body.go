package awsx

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// ownBody gives the transport a request body of its own. The SDK closes its body as soon as an answer begins; where that
// is before the transport has let go of the body, net/http takes the connection for broken and the answer is lost. For a
// write that would be an unknown effect. Requests of this tool are a few kilobytes, so a copy costs nothing.
type ownBody struct{ next aws.HTTPClient }

// Do implements aws.HTTPClient.
func (c ownBody) Do(r *http.Request) (*http.Response, error) {
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
