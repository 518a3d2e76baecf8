package clock

import (
	"context"
	"time"
)

// WithEnd says that what is done under the context must have begun before t, by the clock of whoever does it, and before
// any earlier end that the context has. A context's own deadline is in the machine's time, and nobody watches it while the
// process is stopped.
func WithEnd(ctx context.Context, t time.Time) context.Context {
	return WithMovingEnd(ctx, func() time.Time { return t })
}

// WithMovingEnd is WithEnd for an end that may be put off, such as that of a lease that is renewed. until may be called from
// many goroutines.
func WithMovingEnd(ctx context.Context, until func() time.Time) context.Context {
	if outer, ok := ctx.Value(endKey{}).(func() time.Time); ok {
		inner := until
		until = func() time.Time {
			a, b := inner(), outer()
			if b.Before(a) {
				return b
			}
			return a
		}
	}
	return context.WithValue(ctx, endKey{}, until)
}

// End is the time by which what is done under the context must have begun, as it stands now; false where there is none.
func End(ctx context.Context) (time.Time, bool) {
	until, ok := ctx.Value(endKey{}).(func() time.Time)
	if !ok {
		return time.Time{}, false
	}
	return until(), true
}

type endKey struct{}
