package clock

import (
	"context"
	"time"
)

// WithEnd says that what is done under the context must have begun before t, by the clock of whoever does it. A context's own
// deadline is in the machine's time, and nobody watches it while the process is stopped.
func WithEnd(ctx context.Context, t time.Time) context.Context {
	return context.WithValue(ctx, endKey{}, t)
}

// End is the time of the innermost WithEnd; false where there is none.
func End(ctx context.Context) (time.Time, bool) {
	t, ok := ctx.Value(endKey{}).(time.Time)
	return t, ok
}

type endKey struct{}
