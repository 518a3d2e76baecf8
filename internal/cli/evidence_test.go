package cli

import (
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
)

// TestSpanOf: an import whose source does not say when it was made shows no day at all.
func TestSpanOf(t *testing.T) {
	from, to := time.Date(2026, 11, 1, 23, 0, 0, 0, time.UTC), time.Date(2026, 11, 20, 1, 0, 0, 0, time.UTC)
	for want, in := range map[string]evidence.Import{
		"":                      {At: to},
		"2026-11-20":            {At: to, Made: to},
		"2026-11-01…2026-11-20": {Made: to, From: from, To: to},
		"2026-11-01…":           {Made: to, From: from},
	} {
		if got := spanOf(in); got != want {
			t.Errorf("%q of %+v, want %q", got, in, want)
		}
	}
}
