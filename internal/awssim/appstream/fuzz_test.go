package appstream

import (
	"fmt"
	"testing"
)

// FuzzPaged: the pages of a list are the list, whatever their size.
func FuzzPaged(f *testing.F) {
	f.Add(7, 3)
	f.Add(0, 1)
	f.Add(25, 25)
	f.Fuzz(func(t *testing.T, n, size int) {
		if n < 0 || n > 200 || size < 1 {
			return
		}
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("m%d", i))
		}
		var got []string
		for after := ""; ; {
			page, more := paged(all, func(s string) string { return s }, size, after)
			if len(page) > size || len(got) > n {
				t.Fatalf("%d by %d gave a page of %d after %d", n, size, len(page), len(got))
			}
			got = append(got, page...)
			if after = more; more == "" {
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(all) {
			t.Errorf("%d by %d gave %q", n, size, got)
		}
	})
}
