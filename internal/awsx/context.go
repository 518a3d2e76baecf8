package awsx

import (
	"context"
	"time"
)

// Idempotent marks the calls made with the context as safe to repeat although their effect is unknown: a write that
// sets a state which does not depend on the one before, or one that carries a client token.
func Idempotent(ctx context.Context) context.Context {
	return withHints(ctx, func(h *hints) { h.idempotent = true })
}

// Until bounds the calls made with the context by the Edge's clock: no attempt starts at t or later. A context's own
// deadline is in real time, which is another thing in a rehearsal.
func Until(ctx context.Context, t time.Time) context.Context {
	return withHints(ctx, func(h *hints) { h.until = t })
}

// Charge makes each attempt of the calls made with the context take n tokens from the bucket of that name in the same
// place, besides the one of its action. CloudWatch, for one, counts datapoints a second.
func Charge(ctx context.Context, bucket string, n float64) context.Context {
	return withHints(ctx, func(h *hints) { h.bucket, h.tokens = bucket, n })
}

// For says what the calls made with the context are made for, in one word that their records have.
func For(ctx context.Context, purpose string) context.Context {
	return withHints(ctx, func(h *hints) { h.purpose = purpose })
}

type hints struct {
	purpose    string
	idempotent bool
	until      time.Time
	bucket     string
	tokens     float64
}

type hintsKey struct{}

func withHints(ctx context.Context, set func(*hints)) context.Context {
	h := hintsOf(ctx)
	set(&h)
	return context.WithValue(ctx, hintsKey{}, h)
}

func hintsOf(ctx context.Context) hints {
	h, _ := ctx.Value(hintsKey{}).(hints)
	return h
}

// withoutHints keeps the hints of a call from the STS calls made for its credentials.
func withoutHints(ctx context.Context) context.Context {
	h := hintsOf(ctx)
	return context.WithValue(ctx, hintsKey{}, hints{until: h.until})
}
