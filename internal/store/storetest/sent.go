package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/store"
)

func runSent(t *testing.T, open Open) {
	t.Run("what was sent is read", func(t *testing.T) { sentAndRead(t, open(t, store.Options{})) })
}

func sentAndRead(t *testing.T, s *store.Store) {
	none, err := s.SentSince(t.Context(), time.Time{})
	check(t, err)
	if len(none) != 0 {
		t.Fatalf("a fresh store has %+v", none)
	}
	first := store.Sent{Item: "a-1", Digest: "d-1", Owner: "Zoë <ops>", Target: "Slack ($A)", At: at(0).Truncate(time.Millisecond)}
	second := first
	second.At, second.Digest = at(5).Truncate(time.Millisecond), "d-2"
	elsewhere := second
	elsewhere.Target = "https://hooks.example.com"
	check(t, s.PutSent(t.Context(), []store.Sent{first}))
	check(t, s.PutSent(t.Context(), []store.Sent{elsewhere, second}))
	check(t, s.PutSent(t.Context(), nil))

	all, err := s.SentSince(t.Context(), time.Time{})
	check(t, err)
	same(t, "all", all, []store.Sent{first, second, elsewhere})
	late, err := s.SentSince(t.Context(), at(1))
	check(t, err)
	same(t, "those since", late, []store.Sent{second, elsewhere})

	// The same moment again says the last word once.
	corrected := second
	corrected.Digest, corrected.Owner = "d-3", "ops"
	check(t, s.PutSent(t.Context(), []store.Sent{corrected}))
	late, err = s.SentSince(t.Context(), second.At)
	check(t, err)
	same(t, "corrected", late, []store.Sent{corrected, elsewhere})

	var many []store.Sent
	for i := range 1001 { // more than a statement takes
		one := first
		one.Item, one.At = fmt.Sprintf("b-%04d", i), at(9).Truncate(time.Millisecond)
		many = append(many, one)
	}
	check(t, s.PutSent(t.Context(), many))
	late, err = s.SentSince(t.Context(), at(8))
	check(t, err)
	same(t, "many", late, many)
}
