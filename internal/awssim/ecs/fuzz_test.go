package ecs

import (
	"slices"
	"testing"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// FuzzPage feeds the reader of pages with any JSON: it must refuse or give a page within the limits, and pages put together must
// be the whole.
func FuzzPage(f *testing.F) {
	f.Add(`{"maxResults": 2, "nextToken": "YmI"}`)
	f.Add(`{"maxResults": 0}`)
	f.Add(`{"nextToken": "!"}`)
	names := []string{"a", "b", "c", "d", "e"}
	f.Fuzz(func(t *testing.T, body string) {
		v, err := wire.ParseJSON([]byte(body))
		if err != nil {
			return
		}
		p, err := pageOf(&core.Call{In: v}, mostListed)
		if err != nil {
			return
		}
		if p.size < 1 || p.size > mostListed {
			t.Fatalf("accepted a page of %d", p.size)
		}
		p.after = ""
		var got []string
		for {
			part, next := cut(p, names, func(n string) string { return n })
			got = append(got, part...)
			if next == "" {
				break
			}
			more, err := pageOf(&core.Call{In: wire.Fields(map[string]wire.Value{"nextToken": wire.Scalar(next)})}, p.size)
			if err != nil {
				t.Fatal(err)
			}
			p.after = more.after
		}
		if !slices.Equal(got, names) {
			t.Errorf("pages of %d give %q", p.size, got)
		}
	})
}
