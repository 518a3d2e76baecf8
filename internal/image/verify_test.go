package image_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/image"
	"github.com/imdsctl/imdsctl/internal/image/imagetest"
)

func digest(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// TestVerify: what is not as its digest says is as what cannot be read, in every form, and digests that nobody gives or knows are no digests.
func TestVerify(t *testing.T) {
	below, above := imagetest.Tar(t, file("a", "first of them")), imagetest.Tar(t, file("b", "second of them"))
	of := func(layers [][]byte, digests ...string) imagetest.Image {
		config := marshal(t, map[string]any{"os": "linux", "config": map[string]any{"Cmd": []string{"/command"}}, "rootfs": map[string]any{"diff_ids": digests}})
		return imagetest.Image{Tags: []string{"a:1"}, Config: config, Layers: layers}
	}
	layout := func(im imagetest.Image) []byte {
		var entries []imagetest.Entry
		for name, data := range imagetest.Layout(t, im) {
			entries = append(entries, file(name, data))
		}
		slices.SortFunc(entries, func(a, b imagetest.Entry) int { return strings.Compare(a.Name, b.Name) })
		return imagetest.Tar(t, entries...)
	}
	plain, packed := [][]byte{below, above}, [][]byte{imagetest.Gzip(t, below), imagetest.Gzip(t, above)}
	right := []string{digest(below), digest(above)}
	change := func(data []byte, from, to string) []byte {
		if bytes.Count(data, []byte(from)) != 1 {
			t.Fatalf("%q is not there once", from)
		}
		return bytes.Replace(data, []byte(from), []byte(to), 1)
	}
	for name, c := range map[string]struct {
		data []byte
		want string // of a gap or an error; empty: all is well
	}{
		"as it was saved":                   {imagetest.Saved(t, of(plain, right...)), ""},
		"compressed":                        {imagetest.Saved(t, of(packed, right...)), ""},
		"a layout":                          {layout(of(packed, right...)), ""},
		"without digests":                   {imagetest.Saved(t, of(plain)), ""},
		"with digests of an unknown kind":   {imagetest.Saved(t, of(plain, "md5:00", "none")), ""},
		"a damaged layer":                   {change(imagetest.Saved(t, of(plain, right...)), "second of", "sec0nd of"), "damaged"},
		"a damaged layer of a layout":       {change(layout(of(plain, right...)), "first of", "f1rst of"), "damaged"},
		"layers in each other's places":     {imagetest.Saved(t, of([][]byte{above, below}, right...)), "damaged"},
		"a layer too few":                   {imagetest.Saved(t, of(plain[:1], right...)), "2 layers, and there are 1"},
		"a damaged configuration":           {change(imagetest.Saved(t, of(plain, right...)), "/command", "/comm4nd"), "damaged"},
		"a damaged configuration, a layout": {change(layout(of(plain, right...)), "/command", "/comm4nd"), "damaged"},
		"a damaged manifest":                {change(layout(of(plain, right...)), "image.config.v1", "image.config.v2"), "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := image.Open(t.Context(), put(t, c.data), image.Options{Budget: budget(t, image.Limits{}), Verify: true})
			if err != nil && c.want != "" && strings.Contains(err.Error(), c.want) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			_, failed := a.Images[0].Config()
			x, gaps, err := a.Images[0].Tree(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				if len(gaps)+len(a.Gaps) > 0 || failed != nil {
					t.Errorf("gaps %+v %+v, %v", a.Gaps, gaps, failed)
				}
				same(t, "files", listed(t, x), "a=first of them", "b=second of them")
				return
			}
			told := func(g image.Gap) bool { return g.Layer && strings.Contains(g.Reason, c.want) }
			if !slices.ContainsFunc(gaps, told) && (failed == nil || !strings.Contains(failed.Error(), c.want)) {
				t.Errorf("gaps %+v, %v", gaps, failed)
			}
		})
	}
}

// sparse is a tar with a sparse file as GNU's tar writes it, between two others.
// https://www.gnu.org/software/tar/manual/html_node/Standard.html
func sparse(t testing.TB, name string, size int64, at map[int64]string) []byte {
	t.Helper()
	head := imagetest.Tar(t, file(name, "x"))[:512]
	var data []byte
	piece := 386
	for _, offset := range []int64{0, 4096, 1 << 20} { // in their order
		text, ok := at[offset]
		if !ok {
			continue
		}
		if len(text)%512 != 0 {
			t.Fatal("a piece is of whole blocks")
		}
		copy(head[piece:], fmt.Sprintf("%011o\x00%011o\x00", offset, len(text)))
		data, piece = append(data, text...), piece+24
	}
	copy(head[257:], "ustar  \x00")
	copy(head[124:], fmt.Sprintf("%011o\x00", len(data)))
	head[156] = 'S'
	copy(head[483:], fmt.Sprintf("%011o\x00", size))
	copy(head[148:], "        ")
	sum := 0
	for _, c := range head {
		sum += int(c)
	}
	copy(head[148:], fmt.Sprintf("%06o\x00 ", sum))
	before := imagetest.Tar(t, file("before", "1"))
	return slices.Concat(before[:1024], head, data, imagetest.Tar(t, file("behind", "2"), hard("same", name)))
}

// TestSparse: a file with holes is there whole, a hard link to it as well, and what lies around it; one that is cut off or larger than
// what may be unpacked is a gap.
func TestSparse(t *testing.T) {
	first, second := strings.Repeat("a", 512), strings.Repeat("b", 1024)
	data := sparse(t, "holes", 8192, map[int64]string{0: first, 4096: second})
	whole := first + strings.Repeat("\x00", 4096-512) + second + strings.Repeat("\x00", 8192-4096-1024)
	w := newWorld(t)
	if done := w.unpack(t, image.UnpackOptions{}, data); len(done.Gaps) > 0 {
		t.Errorf("gaps %+v", done.Gaps)
	}
	same(t, "unpacked files", w.unpacked(t), "before=1", "behind=2", "holes="+whole, "same="+whole)
	x, gaps := tree(t, data)
	same(t, "gaps", paths(gaps))
	same(t, "files", listed(t, x), "before=1", "behind=2", "holes="+whole, "same="+whole)

	x, gaps = tree(t, data[:1024+512+512+100])
	if len(gaps) != 2 || gaps[0].Path != "holes" || !gaps[1].Layer {
		t.Errorf("of one that is cut off: %+v", gaps)
	}
	same(t, "files before the cut", listed(t, x), "before=1")

	x, gaps = tree(t, sparse(t, "holes", 1<<32, map[int64]string{0: first}))
	same(t, "gaps where one is too large", paths(gaps), "holes", "same")
	same(t, "files beside one that is too large", listed(t, x), "before=1", "behind=2")
}
