package scan

import (
	"slices"
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

func TestPackedIDsComeBack(t *testing.T) {
	tests := []struct {
		name string
		ids  []string
		odd  int // that take more than a number
	}{
		{"none", nil, 0},
		{"long", []string{"i-00000000000000000", "i-0123456789abcdef0", "i-0ffffffffffffffff"}, 0},
		{"short", []string{"i-01234567", "i-0abc1234"}, 2},
		{"first digit not 0", []string{"i-1234567890abcdef0"}, 1},
		{"capitals", []string{"i-0123456789ABCDEF0"}, 1},
		{"no id", []string{"", "i-0", "i-0+23456789abcdef0", "i-0_23456789abcdef0"}, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := pack(tt.ids)
			if len(p.odd) != tt.odd || p.len() != len(tt.ids) {
				t.Errorf("%d of %d ids are kept as they are, want %d of %d", len(p.odd), p.len(), tt.odd, len(tt.ids))
			}
			var got []string
			for _, ref := range p.refs(fleet.Place{}) {
				got = append(got, ref.ID)
			}
			if !slices.Equal(got, tt.ids) {
				t.Errorf("got %q, want %q", got, tt.ids)
			}
		})
	}
}

func FuzzPack(f *testing.F) {
	f.Add("i-0123456789abcdef0")
	f.Add("i-01234567")
	f.Fuzz(func(t *testing.T, id string) {
		if got := pack([]string{id}).refs(fleet.Place{}); len(got) != 1 || got[0].ID != id {
			t.Errorf("%q came back as %v", id, got)
		}
	})
}
