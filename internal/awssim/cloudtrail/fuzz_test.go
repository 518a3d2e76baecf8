package cloudtrail

import (
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Whatever a look-up asks, it is refused, or has bounds to look within; and a token gives back what it was made of.
func FuzzParseLookup(f *testing.F) {
	f.Add([]byte(`{"StartTime":1790000000,"LookupAttributes":[{"AttributeKey":"Username","AttributeValue":"i-0"}]}`))
	f.Add([]byte(`{"NextToken":"eyJTa2lwIjoxfQ"}`))
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := wire.ParseJSON(body)
		if err != nil {
			return
		}
		q, err := parseLookup(&core.Call{In: in, Now: now})
		if err != nil {
			return
		}
		q.Skip++
		if q.Skip < 1 {
			return
		}
		again, err := parseLookup(&core.Call{In: wire.Fields(map[string]wire.Value{"NextToken": wire.Scalar(q.token())}), Now: now})
		if err != nil || again != q {
			t.Errorf("%+v comes back as %+v, %v", q, again, err)
		}
	})
}
