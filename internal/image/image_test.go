package image_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/imdsctl/imdsctl/internal/image"
	"github.com/imdsctl/imdsctl/internal/image/imagetest"
)

var (
	file    = imagetest.File
	program = imagetest.Program
	folder  = imagetest.Folder
	link    = imagetest.Link
	hard    = imagetest.Hard
)

// put writes a file with a name that says nothing.
func put(t testing.TB, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "given")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// budget is one for a test, whose folder must be empty once all is closed.
func budget(t testing.TB, l image.Limits) *image.Budget {
	t.Helper()
	if l.Unpacked == 0 {
		l.Unpacked = 64 << 20
	}
	if l.Entries == 0 {
		l.Entries = 100_000
	}
	temp := t.TempDir()
	t.Cleanup(func() {
		if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
			t.Errorf("closing the archive left %v behind, %v", left, err)
		}
	})
	return image.NewBudget(l, temp)
}

func open(t testing.TB, path string, b *image.Budget) *image.Archive {
	t.Helper()
	a, err := image.Open(t.Context(), path, image.Options{Budget: b})
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	t.Cleanup(a.Close)
	return a
}

// tree is the file system of the one image in an archive.
func tree(t testing.TB, data []byte) (*image.Index, []image.Gap) {
	t.Helper()
	a := open(t, put(t, data), budget(t, image.Limits{}))
	if len(a.Images) != 1 {
		t.Fatalf("there are %d images", len(a.Images))
	}
	x, gaps, err := a.Images[0].Tree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return x, append(a.Gaps, gaps...)
}

// layered is an image of layers.
func layered(t testing.TB, layers ...[]byte) []byte {
	t.Helper()
	return imagetest.Saved(t, imagetest.Image{Tags: []string{"a:1"}, Layers: layers})
}

// listed gives what is in an index: "path=data" of files, "path/" of folders, "path@" of links and "path?" of anything else.
func listed(t testing.TB, x *image.Index) []string {
	t.Helper()
	var out []string
	err := fs.WalkDir(x, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
		case d.IsDir():
			out = append(out, name+"/")
		case d.Type()&fs.ModeSymlink != 0:
			out = append(out, name+"@")
		case d.Type().IsRegular():
			data, err := fs.ReadFile(x, name)
			if err != nil {
				return err
			}
			out = append(out, name+"="+string(data))
		default:
			out = append(out, name+"?")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func same(t testing.TB, what string, have []string, want ...string) {
	t.Helper()
	if !slices.Equal(have, want) {
		t.Errorf("%s: have\n  %s\nwant\n  %s", what, strings.Join(have, "\n  "), strings.Join(want, "\n  "))
	}
}

func paths(gaps []image.Gap) (out []string) {
	for _, g := range gaps {
		out = append(out, g.Path)
	}
	return out
}

// TestForms: each form is known by what is in it, whole or compressed, as a file or a folder.
func TestForms(t *testing.T) {
	layer := imagetest.Tar(t, file("etc/hello", "hello"))
	im := imagetest.Image{Tags: []string{"web:1.4"}, Layers: [][]byte{layer}, Platform: map[string]string{"os": "linux", "architecture": "arm64"}}
	layout := imagetest.Layout(t, im)
	dir := t.TempDir()
	imagetest.Write(t, dir, layout)
	var entries []imagetest.Entry
	for name, data := range layout {
		entries = append(entries, file(name, data))
	}
	for name, c := range map[string]struct {
		path  string
		form  image.Form
		title string
		files []string
	}{
		"docker save":             {put(t, imagetest.Saved(t, im)), image.FormImages, "web:1.4", []string{"etc/", "etc/hello=hello"}},
		"docker save, compressed": {put(t, imagetest.Gzip(t, imagetest.Saved(t, im))), image.FormImages, "web:1.4", []string{"etc/", "etc/hello=hello"}},
		"a layout":                {dir, image.FormImages, "web:1.4 sha256:", []string{"etc/", "etc/hello=hello"}},
		"the tar of a layout":     {put(t, imagetest.Tar(t, entries...)), image.FormImages, "web:1.4 sha256:", []string{"etc/", "etc/hello=hello"}},
		"a file system":           {put(t, layer), image.FormTar, "", []string{"etc/", "etc/hello=hello"}},
		"a manifest of its own": {
			put(t, imagetest.Tar(t, file("manifest.json", `{"name": "app"}`))), image.FormTar, "", []string{`manifest.json={"name": "app"}`},
		},
		"any file":              {put(t, []byte("text")), image.FormFile, "", []string{"given=text"}},
		"any file, compressed":  {put(t, imagetest.Gzip(t, []byte("text"))), image.FormFile, "", []string{"given=text"}},
		"a file without a byte": {put(t, nil), image.FormFile, "", []string{"given="}},
	} {
		t.Run(name, func(t *testing.T) {
			a := open(t, c.path, budget(t, image.Limits{}))
			if a.Form != c.form || len(a.Images) != 1 || len(a.Gaps) != 0 {
				t.Fatalf("%s, %d images, gaps %+v", a.Form, len(a.Images), a.Gaps)
			}
			if title := a.Images[0].Title(); !strings.HasPrefix(title, c.title) || (c.title == "") != (title == "") {
				t.Errorf("it is called %q", title)
			}
			x, gaps, err := a.Images[0].Tree(t.Context())
			if err != nil || len(gaps) != 0 {
				t.Fatal(gaps, err)
			}
			same(t, "files", listed(t, x), c.files...)
		})
	}
	if _, err := image.Open(t.Context(), t.TempDir(), image.Options{Budget: budget(t, image.Limits{})}); !errors.Is(err, image.ErrNoLayout) {
		t.Errorf("a folder that is no layout: %v", err)
	}
}

// TestCompression: each form of compression is told by its first bytes.
func TestCompression(t *testing.T) {
	layer := imagetest.Tar(t, file("a", "b"))
	var z, x bytes.Buffer
	zw, err := zstd.NewWriter(&z)
	if err != nil {
		t.Fatal(err)
	}
	xw, err := xz.NewWriter(&x)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []interface {
		Write(p []byte) (int, error)
		Close() error
	}{zw, xw} {
		if _, err := w.Write(layer); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// What bzip2 makes of a tar of the file a with the text b: Go writes none.
	bz, err := base64.StdEncoding.DecodeString(bzipped)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"none": layer, "gzip": imagetest.Gzip(t, layer), "zstd": z.Bytes(), "xz": x.Bytes(), "bzip2": bz} {
		t.Run(name, func(t *testing.T) {
			x, gaps := tree(t, layered(t, data))
			same(t, "files", listed(t, x), "a=b")
			same(t, "gaps", paths(gaps))
		})
	}
}

// TestLayers: layers are laid over one another as a container sees them.
func TestLayers(t *testing.T) {
	for name, c := range map[string]struct {
		layers [][]imagetest.Entry
		want   []string
	}{
		"a file over a file": {[][]imagetest.Entry{{file("a", "1")}, {file("a", "2")}}, []string{"a=2"}},
		"a whiteout":         {[][]imagetest.Entry{{file("d/a", ""), file("d/b", "")}, {file("d/.wh.a", "")}}, []string{"d/", "d/b="}},
		"a whiteout behind a link": {
			[][]imagetest.Entry{{file("usr/lib/a", ""), file("usr/lib/b", ""), link("lib", "usr/lib")}, {file("lib/.wh.a", "")}},
			[]string{"lib@", "usr/", "usr/lib/", "usr/lib/b="},
		},
		"a whiteout of what is above": {
			[][]imagetest.Entry{{file("d/e/a", "")}, {file("d/e/.wh...", ""), file("d/e/.wh..", ""), file("d/e/.wh.", "")}},
			[]string{"d/", "d/e/", "d/e/a="},
		},
		"an opaque folder": {[][]imagetest.Entry{{file("d/a", "")}, {file("d/b", ""), file("d/.wh..wh..opq", "")}}, []string{"d/", "d/b="}},
		"through a link":   {[][]imagetest.Entry{{folder("x/y", 0o755), link("l", "x/y/..")}, {file("l/a", "")}}, []string{"l@", "x/", "x/a=", "x/y/"}},
		"up goes from where the link leads": {
			[][]imagetest.Entry{{folder("x/y", 0o755), link("l", "x/y"), link("m", "l/../z"), file("x/z", "1"), file("z", "2")}, {hard("n", "m")}},
			[]string{"l@", "m@", "n@", "x/", "x/y/", "x/z=1", "z=2"},
		},
		"a link that leads nowhere gives way": {[][]imagetest.Entry{{link("l", "/none")}, {file("l/a", "")}}, []string{"l/", "l/a="}},
		"a link in a circle gives way":        {[][]imagetest.Entry{{link("l", "l")}, {file("l/a", "")}}, []string{"l/", "l/a="}},
		"up and out stays in":                 {[][]imagetest.Entry{{link("l", "../../..")}, {file("l/a", "")}}, []string{"a=", "l@"}},
		"a hard link behind a link":           {[][]imagetest.Entry{{file("x/a", "1"), link("l", "x")}, {hard("b", "l/a")}}, []string{"b=1", "l@", "x/", "x/a=1"}},
		"a hard link of a link":               {[][]imagetest.Entry{{link("l", "x"), hard("m", "l")}}, []string{"l@", "m@"}},
		"a backslash is a letter":             {[][]imagetest.Entry{{file(`a\x2db`, "")}}, []string{`a\x2db=`}},
		"a device hides what is below":        {[][]imagetest.Entry{{file("a", "1")}, {device("a")}}, []string{"a?"}},
	} {
		t.Run(name, func(t *testing.T) {
			var layers [][]byte
			for _, l := range c.layers {
				layers = append(layers, imagetest.Tar(t, l...))
			}
			x, gaps := tree(t, layered(t, layers...))
			same(t, "files", listed(t, x), c.want...)
			same(t, "gaps", paths(gaps))
		})
	}
}

// TestMissing: what of an image cannot be read is a gap, and a layer's says that it is one.
func TestMissing(t *testing.T) {
	below, above := imagetest.Tar(t, file("a", "1")), imagetest.Tar(t, file("b", "2"), file("c", "3"))
	whole := layered(t, below, above)
	for name, c := range map[string]struct {
		data  []byte
		files []string
		layer bool
	}{
		"no damage":      {whole, []string{"a=1", "b=2", "c=3"}, false},
		"a damaged tar":  {layered(t, below, above[:1024+300]), []string{"a=1", "b=2"}, true},
		"no tar":         {layered(t, below, []byte(strings.Repeat("no tar ", 100))), []string{"a=1"}, true},
		"the end is off": {whole[:bytes.LastIndex(whole, []byte("manifest.json"))-len(above)], nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.files == nil {
				a := open(t, put(t, c.data), budget(t, image.Limits{}))
				if !slices.ContainsFunc(a.Gaps, func(g image.Gap) bool { return g.Layer }) {
					t.Errorf("gaps %+v", a.Gaps)
				}
				return
			}
			x, gaps := tree(t, c.data)
			same(t, "files", listed(t, x), c.files...)
			if slices.ContainsFunc(gaps, func(g image.Gap) bool { return g.Layer }) != c.layer {
				t.Errorf("gaps %+v", gaps)
			}
		})
	}
}

// TestLimits: entries, names and bytes are bounded.
func TestLimits(t *testing.T) {
	var many []imagetest.Entry
	for i := range 100 {
		many = append(many, file(fmt.Sprintf("%d/%d", i, i), ""))
	}
	a := open(t, put(t, layered(t, imagetest.Tar(t, many...))), budget(t, image.Limits{Entries: 50}))
	_, gaps, err := a.Images[0].Tree(t.Context())
	if err != nil || len(gaps) != 1 || !gaps[0].Layer || !strings.Contains(gaps[0].Reason, "entries") {
		t.Errorf("gaps %+v, %v", gaps, err)
	}
	deep := strings.Repeat("d/", 3000) + "a"
	x, gaps := tree(t, imagetest.Tar(t, file(deep, ""), link("l", deep), file("b", "")))
	same(t, "files beside names without end", listed(t, x), "b=")
	if len(gaps) != 2 {
		t.Errorf("gaps %+v", gaps)
	}
	bomb := imagetest.Gzip(t, imagetest.Tar(t, file("zeros", strings.Repeat("\x00", 8<<20))))
	a = open(t, put(t, layered(t, bomb)), budget(t, image.Limits{Unpacked: 1 << 20}))
	if _, gaps, err = a.Images[0].Tree(t.Context()); err != nil || len(gaps) != 1 || !strings.Contains(gaps[0].Reason, "decompressed") {
		t.Errorf("gaps %+v, %v", gaps, err)
	}
	// Two images of the same compressed layer decompress it once.
	layer := imagetest.Gzip(t, imagetest.Tar(t, file("zeros", strings.Repeat("\x00", 1<<20))))
	both := imagetest.Saved(t, imagetest.Image{Tags: []string{"a:1"}, Layers: [][]byte{layer}},
		imagetest.Image{Tags: []string{"b:1"}, Config: `{"os": "linux"}`, Layers: [][]byte{layer}})
	a = open(t, put(t, both), budget(t, image.Limits{Unpacked: 3 << 19}))
	for _, im := range a.Images {
		if _, gaps, err := im.Tree(t.Context()); err != nil || len(gaps) != 0 {
			t.Errorf("%s: gaps %+v, %v", im.Title(), gaps, err)
		}
	}
}

// TestInterrupted: decompressing ends when the context does, and leaves nothing.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	data := imagetest.Gzip(t, layered(t, imagetest.Tar(t, file("a", ""))))
	if _, err := image.Open(ctx, put(t, data), image.Options{Budget: budget(t, image.Limits{})}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

const bzipped = `QlpoOTFBWSZTWcet5aQAAGzbgMmAYABlgAAA8AAeAAgIIABUNJoADQeoIooGg9TQH3NiUQviCJUdVYrfXNBICDiRmBLyhW1VXwuqhunhJmiIB8XckU4UJDHreWkA`

// TestLayoutFolder: indexes within indexes, attestations about other images, and blobs that are none or lie outside of the layout.
func TestLayoutFolder(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	imagetest.Write(t, outside, map[string]string{"secret": "{}"})
	im := imagetest.Image{Layers: [][]byte{imagetest.Tar(t, file("a", "1"))}, Platform: map[string]string{"os": "linux", "architecture": "amd64"}}
	files := imagetest.Layout(t, im)
	var inner struct {
		Manifests []map[string]any `json:"manifests"`
	}
	if err := json.Unmarshal([]byte(files["index.json"]), &inner); err != nil {
		t.Fatal(err)
	}
	files["blobs/sha256/aa"] = `{"manifests": [` + marshal(t, inner.Manifests[0]) + `,
		{"digest": "sha256:bb", "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}, {"digest": "sha256:cc"}, {"digest": "sha256:dd"},
		{"digest": "sha256:../../../secret"}, {"digest": "no digest"}]}`
	files["blobs/sha256/cc"] = "no document"
	files["index.json"] = `{"manifests": [{"digest": "sha256:aa", "annotations": {"org.opencontainers.image.ref.name": "1.4",
		"io.containerd.image.name": "docker.io/library/web:1.4"}}]}`
	imagetest.Write(t, dir, files)
	if err := os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "blobs", "sha256", "dd")); err != nil {
		t.Fatal(err)
	}
	a := open(t, dir, budget(t, image.Limits{}))
	same(t, "gaps", paths(a.Gaps), "sha256:cc", "sha256:dd", "sha256:../../../secret", "no digest")
	if len(a.Images) != 1 || !strings.HasPrefix(a.Images[0].Title(), "docker.io/library/web:1.4 sha256:") || !strings.HasSuffix(a.Images[0].Title(), " linux/amd64") {
		t.Fatalf("%+v", a.Images)
	}
	for _, name := range []string{"web:1.4", "1.4"} {
		if _, err := a.Pick(name, "amd64"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	for what, change := range map[string]map[string]string{
		"an index that holds itself": {"index.json": `{"manifests": [{"digest": "sha256:ee"}]}`, "blobs/sha256/ee": `{"manifests": [{"digest": "sha256:ee"}]}`},
		"no index":                   {"index.json": "["},
		"an index of nothing":        {"index.json": `{}`},
	} {
		imagetest.Write(t, dir, change)
		if _, err := image.Open(t.Context(), dir, image.Options{Budget: budget(t, image.Limits{})}); err == nil {
			t.Errorf("%s is a layout", what)
		}
	}
}

func marshal(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestOldTar: tars from before POSIX are known by the sum of their first header, and what has no such sum is no tar.
func TestOldTar(t *testing.T) {
	data := imagetest.Tar(t, file("old", "1"))
	copy(data[257:], make([]byte, 255)) // the magic, and the fields that came with it
	sum := 0
	for i, c := range data[:512] {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int(c)
	}
	copy(data[148:], fmt.Sprintf("%06o\x00 ", sum))
	x, gaps := tree(t, data)
	same(t, "files", listed(t, x), "old=1")
	same(t, "gaps", paths(gaps))
	data[0]++
	if a := open(t, put(t, data), budget(t, image.Limits{})); a.Form != image.FormFile {
		t.Errorf("with a wrong sum it is %s", a.Form)
	}
}

// TestUserOfImage reads who runs the command where the files lie behind links, as in images that keep /etc elsewhere.
func TestUserOfImage(t *testing.T) {
	x, _ := tree(t, imagetest.Tar(t, link("etc", "/usr/etc"), file("usr/etc/passwd", "app:x:7:8::/srv:/bin/sh\n"), link("usr/etc/group", "../lib/group"),
		file("usr/lib/group", "web:x:9:app\n")))
	if u, err := x.User("app"); err != nil || u.UID != 7 || u.GID != 8 || !slices.Equal(u.Groups, []int{9}) || u.Home != "/srv" {
		t.Errorf("%+v, %v", u, err)
	}
	empty, _ := tree(t, imagetest.Tar(t, folder("etc", 0o755)))
	if u, err := empty.User(""); err != nil || u.UID != 0 || u.Home != "/" {
		t.Errorf("%+v, %v", u, err)
	}
	strange, _ := tree(t, imagetest.Tar(t, folder("etc/passwd", 0o755)))
	if u, err := strange.User(""); err == nil {
		t.Errorf("a folder for a list of users: %+v", u)
	}
}
