package image_test

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/image"
	"github.com/imdsctl/imdsctl/internal/image/imagetest"
)

func device(name string) imagetest.Entry {
	return imagetest.Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeBlock, Mode: 0o666, Devmajor: 8}}
}

// world is a folder with what must stay as it is, beside the one that is unpacked into.
type world struct{ base, outside, root string }

func newWorld(t testing.TB) world {
	t.Helper()
	base := t.TempDir()
	w := world{base, filepath.Join(base, "outside"), filepath.Join(base, "in", "root")}
	for _, dir := range []string{w.outside, w.root} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	imagetest.Write(t, w.outside, map[string]string{"canary": "alive", "folder/canary": "alive"})
	return w
}

// snapshot tells of all below a folder what it is: mode, times' order aside, and contents. What is unpacked is left out.
func (w world) snapshot(t testing.TB) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(w.base, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == w.root {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %s", name, info.Mode())
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %s %x", links(info), sha256.Sum256(data))
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unpacked lists what lies in the root as the index would.
func (w world) unpacked(t testing.TB) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(w.root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == w.root {
			return err
		}
		rel := strings.TrimPrefix(name, w.root+string(filepath.Separator))
		switch {
		case d.IsDir():
			rel += "/"
		case d.Type()&fs.ModeSymlink != 0:
			rel += "@"
		default:
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			rel += "=" + string(data)
		}
		out = append(out, filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unpack unpacks an image of layers, checks that nothing outside was touched, and removes it again when the test is over.
func (w world) unpack(t testing.TB, o image.UnpackOptions, layers ...[]byte) *image.Unpacked {
	t.Helper()
	before := w.snapshot(t)
	x, _ := tree(t, layered(t, layers...))
	if o.Budget == nil {
		o.Budget = budget(t, image.Limits{})
	}
	done, err := x.Unpack(t.Context(), w.root, o)
	if err != nil {
		t.Fatal(err)
	}
	if after := w.snapshot(t); !slices.Equal(before, after) {
		t.Errorf("what lies outside was\n  %s\nand is\n  %s", strings.Join(before, "\n  "), strings.Join(after, "\n  "))
	}
	t.Cleanup(func() { w.remove(t, before) })
	return done
}

func (w world) remove(t testing.TB, before []string) {
	t.Helper()
	if err := image.Remove(w.root); err != nil {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(w.root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
	if after := w.snapshot(t); !slices.Equal(before, after) {
		t.Errorf("removing made what lies outside of\n  %s\nto\n  %s", strings.Join(before, "\n  "), strings.Join(after, "\n  "))
	}
}

// TestUnpackStaysInside: nothing that a layer does, alone or after another, writes, links or changes anything outside. Names that lead
// out are taken as they would be in a container, from the root on.
func TestUnpackStaysInside(t *testing.T) {
	// The path of the folder outside is another in each world.
	type layers = func(outside string) [][]imagetest.Entry
	for name, c := range map[string]struct {
		layers layers
		want   []string
	}{
		"names that go up": {func(string) [][]imagetest.Entry {
			return [][]imagetest.Entry{{file("../../outside/canary", "x"), file("a/../../../outside/b", "x"), file("..", "x"), folder("/", 0), folder("../..", 0)}}
		}, []string{"outside/", "outside/b=x", "outside/canary=x"}},
		"a link out, then through it": {func(out string) [][]imagetest.Entry {
			return [][]imagetest.Entry{{link("l", out), file("l/canary", "x")}}
		}, []string{"l/", "l/canary=x"}},
		"a link out below, then through it": {func(out string) [][]imagetest.Entry {
			return [][]imagetest.Entry{{link("l", out), link("m", "../../outside")}, {file("l/canary", "x"), file("m/folder/canary", "x")}}
		}, []string{"l/", "l/canary=x", "m/", "m/folder/", "m/folder/canary=x"}},
		"a link out, and a link through it": {func(out string) [][]imagetest.Entry {
			return [][]imagetest.Entry{{link("l", out), link("l/canary", "/etc/passwd"), link("k", "l")}, {file("k/folder", "x")}}
		}, []string{"k@", "l/", "l/canary@", "l/folder=x"}},
		"the root of links": {func(string) [][]imagetest.Entry {
			return [][]imagetest.Entry{{link("r", "/"), link("u", "../../..")}, {file("r/r/u/u/a", "x"), file("u/outside/canary", "x")}}
		}, []string{"a=x", "outside/", "outside/canary=x", "r@", "u@"}},
		"links only": {func(out string) [][]imagetest.Entry {
			return [][]imagetest.Entry{{link("l", out+"/canary"), link("m", "../../outside/canary"), link(".wh.n", out)}}
		}, []string{"l@", "m@"}},
		"a file over a link out": {func(out string) [][]imagetest.Entry {
			return [][]imagetest.Entry{{link("l", out+"/canary")}, {file("l", "x")}}
		}, []string{"l=x"}},
		"a folder over a link out": {func(out string) [][]imagetest.Entry {
			return [][]imagetest.Entry{{link("l", out)}, {folder("l", 0o000), file("l/canary", "x")}}
		}, []string{"l/", "l/canary=x"}},
		"a hard link out": {func(out string) [][]imagetest.Entry {
			return [][]imagetest.Entry{{hard("h", out+"/canary"), hard("i", "../../outside/canary")}, {file("h", "x"), file("i", "x")}}
		}, []string{"h=x", "i=x"}},
		"a hard link of a link out": {func(out string) [][]imagetest.Entry {
			return [][]imagetest.Entry{{link("l", out+"/canary"), hard("h", "l"), hard("i", "l")}, {file("h", "x")}}
		}, []string{"h=x", "i@", "l@"}},
		"a hard link behind a link out": {func(out string) [][]imagetest.Entry {
			return [][]imagetest.Entry{{link("l", out), hard("h", "l/canary")}, {file("l/a", "x"), hard("b", "l/a")}}
		}, []string{"b=x", "l/", "l/a=x"}},
		"whiteouts outside": {func(out string) [][]imagetest.Entry {
			return [][]imagetest.Entry{
				{link("l", out), file("a", "x")},
				{file("../../outside/.wh.canary", ""), file(out+"/.wh..wh..opq", ""), file("l/.wh.canary", ""), file("l/.wh..wh..opq", ""), file(".wh...", "")},
			}
		}, []string{"a=x", "l@"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, owners := range ownerships() {
				w := newWorld(t)
				var layers [][]byte
				for _, l := range c.layers(w.outside) {
					layers = append(layers, imagetest.Tar(t, l...))
				}
				done := w.unpack(t, image.UnpackOptions{Owners: owners}, layers...)
				same(t, "unpacked", w.unpacked(t), c.want...)
				if done.GapCount != 0 {
					t.Errorf("gaps %+v", done.Gaps)
				}
			}
		})
	}
}

// ownerships are how an image can be unpacked here: only root gives files to others.
func ownerships() []bool {
	if os.Geteuid() == 0 {
		return []bool{false, true}
	}
	return []bool{false}
}

// TestUnpackNames: a name may have any letter; one that no file can have is a gap beside the others.
func TestUnpackNames(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("n", 300)
	deep := strings.Repeat("d/", 300) + "bottom"
	done := w.unpack(t, image.UnpackOptions{}, imagetest.Tar(t, file(`back\slash`, "1"), file("line\nfeed", "2"), file("latin\xe9", "3"), file("...", "4"),
		file(" ", "5"), file("-rf", "6"), file("con", "7"), file(long, "8"), file("esc\x1b[2J", "9"), link("empty", "x"), file(deep, "10"), file("ok", "11")))
	same(t, "unpacked", slices.DeleteFunc(w.unpacked(t), func(name string) bool { return strings.HasPrefix(name, "d/") }),
		" =5", "-rf=6", "...=4", `back\slash=1`, "con=7", "empty@", "esc\x1b[2J=9", "latin\xe9=3", "line\nfeed=2", "ok=11")
	if done.GapCount != 2 || !strings.HasSuffix(done.Gaps[0].Path, "/d") || done.Gaps[1].Path != long {
		t.Errorf("gaps %+v", done.Gaps)
	}
}

// TestUnpackModes: what root or the image's user could do in a container, the caller can do here; nobody gets more rights than the
// caller has; and what is left out is said.
func TestUnpackModes(t *testing.T) {
	special := func(name string, mode int64) imagetest.Entry {
		e := program(name, name)
		e.Mode = mode
		return e
	}
	capable := program("bin/ping", "ping")
	capable.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02", "SCHILY.xattr.user.x": "y"}
	owned := special("home/app/key", 0o600)
	owned.Uid, owned.Gid = 1000, 2000
	far := special("home/app/far", 0o644)
	far.Uid = -1
	stamped := file("etc/stamp", "")
	stamped.ModTime = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	layer := imagetest.Tar(t, special("bin/su", 0o4755), special("bin/wall", 0o2755), capable, device("dev/sda"),
		imagetest.Entry{Header: tar.Header{Name: "run/pipe", Typeflag: tar.TypeFifo, Mode: 0o666}},
		folder("closed", 0o000), file("closed/file", "x"), special("shadow", 0o000), folder("tmp", 0o1777), folder("home/app", 0o2750), owned, far,
		stamped, hard("bin/sudo", "bin/su"))
	for _, owners := range ownerships() {
		t.Run(fmt.Sprintf("owners %v", owners), func(t *testing.T) {
			w := newWorld(t)
			done := w.unpack(t, image.UnpackOptions{Owners: owners}, layer)
			mode := func(name string) fs.FileMode {
				info, err := os.Lstat(filepath.Join(w.root, name))
				if err != nil {
					t.Fatal(err)
				}
				return info.Mode()
			}
			want := map[string]fs.FileMode{
				"bin/su": 0o755, "bin/wall": 0o755, "closed": fs.ModeDir | 0o700, "shadow": 0o600, "tmp": fs.ModeDir | fs.ModeSticky | 0o777,
				"home/app": fs.ModeDir | 0o750, "home/app/key": 0o600, ".": fs.ModeDir | 0o755, "bin": fs.ModeDir | 0o755,
			}
			if owners {
				want["closed"], want["shadow"] = fs.ModeDir, 0
			}
			for name, m := range want {
				if have := mode(name); have != m {
					t.Errorf("/%s has mode %v, want %v", name, have, m)
				}
			}
			uid, gid := owner(t, filepath.Join(w.root, "home/app/key"))
			if owners && (uid != 1000 || gid != 2000) || !owners && uid != os.Geteuid() {
				t.Errorf("/home/app/key belongs to %d:%d", uid, gid)
			}
			if uid, _ := owner(t, filepath.Join(w.root, "home/app/far")); owners && uid != 65534 {
				t.Errorf("what has an impossible owner belongs to %d", uid)
			}
			if info, err := os.Stat(filepath.Join(w.root, "etc/stamp")); err != nil || !info.ModTime().Equal(stamped.ModTime) {
				t.Errorf("/etc/stamp is of %v, %v", info.ModTime(), err)
			}
			su, _ := os.Stat(filepath.Join(w.root, "bin/su"))
			sudo, _ := os.Stat(filepath.Join(w.root, "bin/sudo"))
			if !os.SameFile(su, sudo) {
				t.Error("a hard link is a file of its own")
			}
			same(t, "notes", done.Notes(), "devices and pipes of the image left out: 2, such as /dev/sda",
				"programs without the setuid or setgid bit that they have in the image: 2, such as /bin/su",
				"programs without the capabilities that their files have in the image: 1, such as /bin/ping")
		})
	}
}

// TestUnpackLimits: bytes are bounded, hard links counted once; the context ends it; and a folder in use is left alone.
func TestUnpackLimits(t *testing.T) {
	mib := strings.Repeat("x", 1<<20)
	layer := imagetest.Tar(t, file("a", mib), hard("b", "a"), hard("c", "b"), file("d", "x"))
	x, _ := tree(t, layered(t, layer))
	w := newWorld(t)
	var told []int64
	done, err := x.Unpack(t.Context(), w.root, image.UnpackOptions{
		Budget: budget(t, image.Limits{Unpacked: 1<<20 + 2}), Progress: func(_, bytes int64) { told = append(told, bytes) },
	})
	if err != nil || done.Bytes != 1<<20+1 || done.Files != 4 || !slices.Equal(told, []int64{1 << 20, 1<<20 + 1}) {
		t.Errorf("%+v, told of %v, %v", done, told, err)
	}
	if _, err := x.Unpack(t.Context(), w.root, image.UnpackOptions{Budget: budget(t, image.Limits{})}); err == nil {
		t.Error("a folder that is not empty was unpacked into")
	}
	w = newWorld(t)
	if _, err := x.Unpack(t.Context(), w.root, image.UnpackOptions{Budget: budget(t, image.Limits{Unpacked: 1 << 19})}); err == nil {
		t.Error("more was unpacked than may be")
	}
	if info, err := os.Stat(filepath.Join(w.root, "a")); err != nil || info.Size() > 1<<19 {
		t.Errorf("%v, %v", info, err)
	}
	w = newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Unpack(ctx, w.root, image.UnpackOptions{Budget: budget(t, image.Limits{})}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestRemove: folders that a program closed, to itself too, do not keep the rest; a link is removed and not followed.
func TestRemove(t *testing.T) {
	w := newWorld(t)
	before := w.snapshot(t)
	imagetest.Write(t, w.root, map[string]string{"a/b/c/file": "x", "d/e/file": "x", "f": "x"})
	for link, to := range map[string]string{"a/b/out": w.outside, "a/out": filepath.Join(w.outside, "canary"), "self": "."} {
		if err := os.Symlink(to, filepath.Join(w.root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"a/b/c", "a/b", "a", "d/e", "d", "."} {
		mode := fs.FileMode(0o555)
		if strings.HasPrefix(dir, "a") {
			mode = 0
		}
		if err := os.Chmod(filepath.Join(w.root, dir), mode); err != nil {
			t.Fatal(err)
		}
	}
	w.remove(t, before)
	if err := image.Remove(w.root); err != nil {
		t.Errorf("what is not there: %v", err)
	}
}

// vocabulary is what the fuzzer makes names and targets of.
func vocabulary(outside string) []string {
	return []string{
		"a", "b", "a/b", "a/b/c", "l", "l/a", "l/l", "l/canary", ".wh.a", ".wh.l", "a/.wh..wh..opq", ".wh..wh..opq", "a/.wh...", "..", ".", "/", "../a",
		"../../outside/canary", "../../outside/new", "../../outside", outside, outside + "/canary", outside + "/new", "a/../../../outside/folder",
		"/etc/new", "x\\..\\y", strings.Repeat("n", 260), "l/../../../outside/new", "folder/canary", "outside/canary", "a//b", "./l/", "l/.wh.canary",
	}
}

// FuzzUnpack makes layers of operations with names that lead anywhere: whatever they are, nothing outside changes, what is made can be
// removed, and the index and the folder hold the same.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte{2, 4, 20, 0, 5, 0, 4, 7, 1})
	f.Add([]byte{2, 4, 17, 5, 0, 0, 0, 7, 0, 1, 22, 0, 3, 0, 21, 0, 0, 0})
	f.Add([]byte{3, 0, 21, 0, 0, 0, 2, 4, 15, 0, 27, 0, 4, 8, 0, 1, 4, 0})
	kinds := []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo}
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 300 {
			t.Skip("longer is not stranger")
		}
		w := newWorld(t)
		words := vocabulary(w.outside)
		var layers [][]byte
		var entries []imagetest.Entry
		for ; len(ops) >= 3; ops = ops[3:] {
			if ops[0]%8 > 4 {
				layers, entries = append(layers, imagetest.Tar(t, entries...)), nil
				continue
			}
			kind := kinds[ops[0]%8]
			e := imagetest.Entry{Header: tar.Header{Typeflag: kind, Name: words[int(ops[1])%len(words)], Mode: int64(ops[2]) << 4}}
			switch kind {
			case tar.TypeSymlink, tar.TypeLink:
				e.Linkname = words[int(ops[2])%len(words)]
			case tar.TypeReg:
				e.Data = "new"
			}
			if kind != tar.TypeDir {
				e.Name = cmp.Or(strings.TrimRight(e.Name, "/"), ".") // archive/tar writes no other
			}
			entries = append(entries, e)
		}
		layers = append(layers, imagetest.Tar(t, entries...))
		owners := ownerships()
		done := w.unpack(t, image.UnpackOptions{Owners: owners[len(layers)%len(owners)]}, layers...)
		x, _ := tree(t, layered(t, layers...))
		if done.GapCount == 0 && os.Geteuid() == 0 {
			in := slices.DeleteFunc(listed(t, x), func(line string) bool { return strings.HasSuffix(line, "?") })
			same(t, "unpacked", w.unpacked(t), in...)
		}
	})
}

// FuzzArchive reads any bytes as an archive, and unpacks what it takes for images.
func FuzzArchive(f *testing.F) {
	layer := imagetest.Tar(f, file("etc/passwd", "root:x:0:0::/root:/bin/sh\n"), link("l", "../.."), file("l/a", ""), hard("h", "l/a"))
	im := imagetest.Image{Tags: []string{"a:1"}, Config: `{"config": {"Cmd": ["/a"], "User": "root"}}`, Layers: [][]byte{layer, imagetest.Gzip(f, layer)}}
	f.Add(layer)
	f.Add(imagetest.Saved(f, im))
	f.Add(imagetest.Gzip(f, imagetest.Saved(f, im, im)))
	f.Add(sparse(f, "s", 8192, map[int64]string{4096: strings.Repeat("a", 512)}))
	var entries []imagetest.Entry
	for name, data := range imagetest.Layout(f, im) {
		entries = append(entries, file(name, data))
	}
	f.Add(imagetest.Tar(f, entries...))
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWorld(t)
		before := w.snapshot(t)
		a, err := image.Open(t.Context(), put(t, data), image.Options{Budget: budget(t, image.Limits{Unpacked: 4 << 20, Entries: 1000}), Verify: len(data)%2 == 0})
		if err != nil {
			return
		}
		defer a.Close()
		for _, im := range a.Images {
			if c, err := im.Config(); err == nil {
				_, _ = c.Command(nil, nil)
			}
			x, _, err := im.Tree(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = x.User("root")
			if _, err := x.Unpack(t.Context(), w.root, image.UnpackOptions{Budget: budget(t, image.Limits{Unpacked: 4 << 20})}); err != nil {
				t.Logf("%v", err)
			}
			w.remove(t, before)
			if err := os.Mkdir(w.root, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if after := w.snapshot(t); !slices.Equal(before, after) {
			t.Errorf("what lies outside was %q and is %q", before, after)
		}
	})
}

// TestUnpackForeign: a system that does not let its caller give files away, as inside a container with few users, unpacks all the same,
// and says so. It is for who is not root: see TestAsNobody.
func TestUnpackForeign(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root can give files to anybody; TestAsNobody runs this as nobody")
	}
	w := newWorld(t)
	owned := file("a", "1")
	owned.Uid = 1000
	done := w.unpack(t, image.UnpackOptions{Owners: true}, imagetest.Tar(t, owned, link("b", "a")))
	same(t, "unpacked", w.unpacked(t), "a=1", "b@")
	same(t, "notes", done.Notes(), "files that do not have the owner that they have in the image: 2, such as /a")
}
