package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// UnpackOptions say how an index is unpacked.
type UnpackOptions struct {
	// Owners keeps the numbers of users and groups, which takes root. Without it all is the caller's own, and every folder is made such
	// that its owner can list it, write into it and remove it.
	Owners bool
	// Budget bounds the bytes that are written. It must not be nil.
	Budget *Budget
	// Progress is told of every file that was made, and of all bytes; nil is nobody.
	Progress func(files, bytes int64)
}

// Unpacked is what came of it, and what is not as the image has it. Of each sort that is left out the first path is kept.
type Unpacked struct {
	Files, Folders, Links int
	Bytes                 int64
	Gaps                  []Gap // what has a name that no file here can have, at most maxGaps
	GapCount              int
	Devices               Tally // devices, pipes: left out
	SetID                 Tally // programs that lost their setuid or setgid bit
	Capable               Tally // programs that lost their file capabilities
	Foreign               Tally // files whose owner this system would not give them
}

// Tally counts things of one sort, and remembers the first.
type Tally struct {
	N     int
	First string
}

func (t *Tally) add(name string) {
	if t.N++; t.N == 1 {
		t.First = name
	}
}

// Notes say to a person what is not as the image has it; nil where all is.
func (u *Unpacked) Notes() []string {
	var out []string
	say := func(t Tally, what string) {
		if t.N > 0 {
			out = append(out, fmt.Sprintf(what, t.N, printable(t.First)))
		}
	}
	say(u.Devices, "devices and pipes of the image left out: %d, such as /%s")
	say(u.SetID, "programs without the setuid or setgid bit that they have in the image: %d, such as /%s")
	say(u.Capable, "programs without the capabilities that their files have in the image: %d, such as /%s")
	say(u.Foreign, "files that do not have the owner that they have in the image: %d, such as /%s")
	if u.GapCount > 0 {
		out = append(out, fmt.Sprintf("files of the image left out: %d, such as /%s: %s", u.GapCount,
			printable(u.Gaps[0].Path), u.Gaps[0].Reason))
	}
	return out
}

// printable is a stranger's text without what would move a terminal's cursor.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// Bounds of an unpacked file system.
const (
	maxDepth = 256 // folders within one another
	maxGaps  = 1000
)

// Unpack makes the file system of an index in a folder, which must be there, empty, and nobody else's to write into. Folders, files and
// links are made; devices and pipes are left out. Whatever happens, nothing is made, changed or opened outside of the folder; after an
// error it holds a part. Remove takes away what was made.
func (x *Index) Unpack(ctx context.Context, dir string, o UnpackOptions) (*Unpacked, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("unpack into %s: %w", dir, err)
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("unpack into %s: the folder is not empty", dir)
	}
	if err := runsPrograms(dir); err != nil {
		return nil, fmt.Errorf("unpack into %s: %w", dir, err)
	}
	top, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("unpack into %s: %w", dir, err)
	}
	defer top.Close()
	u := &unpacking{ctx: ctx, o: o, top: top, first: map[*node]string{}, done: &Unpacked{}}
	if err := u.below(top, x.root, ".", 0); err != nil {
		return u.done, fmt.Errorf("unpack into %s: %w", dir, err)
	}
	if err := top.Chmod(".", 0o755); err != nil {
		return u.done, fmt.Errorf("unpack into %s: %w", dir, err)
	}
	return u.done, nil
}

// unpacking is one call of Unpack.
type unpacking struct {
	ctx   context.Context //nolint:containedctx // it lives as long as one call
	o     UnpackOptions
	top   *os.Root
	first map[*node]string // where hard links have their file
	done  *Unpacked
}

// below fills a folder. It is open itself, and what it gets has names of one element: no link is on the way to it, whatever the image
// holds, and os.Root would follow none outside.
func (u *unpacking) below(dir *os.Root, n *node, name string, depth int) error {
	for _, base := range slices.Sorted(maps.Keys(n.children)) {
		if err := u.ctx.Err(); err != nil {
			return err
		}
		child, at := n.children[base], path.Join(name, base)
		err := u.one(dir, child, at, depth)
		if err != nil && !u.nameless(err) {
			return err
		}
		if err != nil {
			u.gap(at, Reason(err))
		}
	}
	return nil
}

func (u *unpacking) gap(name, reason string) {
	if u.done.GapCount++; len(u.done.Gaps) < maxGaps {
		u.done.Gaps = append(u.done.Gaps, Gap{Path: name, Reason: reason})
	}
}

// nameless tells an error of one name, that no file can have here, from one that ends the unpacking.
func (u *unpacking) nameless(err error) bool {
	for _, e := range []error{syscall.ENAMETOOLONG, syscall.EINVAL, syscall.EILSEQ, fs.ErrExist, errNameless} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

var errNameless = errors.New("no such file can be made here")

func (u *unpacking) one(dir *os.Root, n *node, name string, depth int) error {
	if !filepath.IsLocal(n.name) || filepath.Base(n.name) != n.name {
		return errNameless // on another system than the image's, or a zero byte
	}
	switch {
	case n.mode.IsDir():
		return u.folder(dir, n, name, depth)
	case n.mode&fs.ModeSymlink != 0 && n.link == "":
		return fmt.Errorf("%w: it is a link to nothing", errNameless)
	case n.mode&fs.ModeSymlink != 0:
		if err := dir.Symlink(n.link, n.name); err != nil {
			return err
		}
		u.done.Links++
		return u.own(name, dir.Lchown, n)
	case n.content == nil:
		u.done.Devices.add(name)
		return nil
	}
	return u.file(dir, n, name)
}

func (u *unpacking) folder(dir *os.Root, n *node, name string, depth int) error {
	if depth >= maxDepth {
		return fmt.Errorf("%w: it lies more than %d folders deep", errNameless, maxDepth)
	}
	if err := dir.Mkdir(n.name, 0o700); err != nil {
		return err
	}
	u.done.Folders++
	inner, err := dir.OpenRoot(n.name)
	if err != nil {
		return err
	}
	err = u.below(inner, n, name, depth+1)
	inner.Close()
	if err != nil {
		return err
	}
	if err := u.own(name, dir.Lchown, n); err != nil {
		return err
	}
	if err := dir.Chmod(n.name, u.mode(n)); err != nil {
		return err
	}
	return u.stamp(dir, n)
}

func (u *unpacking) file(dir *os.Root, n *node, name string) error {
	key := n
	if n.first != nil {
		key = n.first
	}
	if there, ok := u.first[key]; ok {
		u.done.Files++
		return u.top.Link(filepath.FromSlash(there), filepath.FromSlash(name))
	}
	if err := u.copy(dir, n, name); err != nil {
		return err
	}
	if u.o.Progress != nil {
		u.o.Progress(int64(u.done.Files), u.done.Bytes)
	}
	if n.first != nil || n.shared {
		u.first[key] = name
	}
	u.done.Files++
	if n.mode&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
		u.done.SetID.add(name)
	}
	if n.capable {
		u.done.Capable.add(name)
	}
	return u.stamp(dir, n)
}

// copy writes a new file: one that is there already is not opened.
func (u *unpacking) copy(dir *os.Root, n *node, name string) error {
	from, err := n.content.open()
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := dir.OpenFile(n.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	written, err := io.Copy(to, stoppable{u.ctx, u.o.Budget.reader(from)})
	u.done.Bytes += written
	if err == nil {
		err = u.own(name, func(_ string, uid, gid int) error { return to.Chown(uid, gid) }, n)
	}
	if err == nil {
		err = to.Chmod(u.mode(n))
	}
	if e := to.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("write /%s: %w", name, err)
	}
	return nil
}

// mode is what may be done with a file or folder. Where all is the caller's own, the caller stands for root as well, to whom an image's
// modes forbid nothing.
func (u *unpacking) mode(n *node) fs.FileMode {
	mode := n.mode.Perm()
	if n.mode.IsDir() {
		mode |= n.mode & fs.ModeSticky
	}
	switch {
	case u.o.Owners:
	case n.mode.IsDir(), mode&0o111 != 0:
		mode |= 0o700
	default:
		mode |= 0o600
	}
	return mode
}

// own gives something the owner that it has in the image. A system that maps only some users, as one inside a container does, has no
// such owner to give for others.
func (u *unpacking) own(name string, chown func(name string, uid, gid int) error, n *node) error {
	if !u.o.Owners {
		return nil
	}
	err := chown(n.name, int(n.uid), int(n.gid))
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, fs.ErrPermission) {
		u.done.Foreign.add(name)
		return nil
	}
	return err
}

// stamp gives something the time that it has in the image: Python compiles again what is newer than it remembers. A time that no file
// here can have is left.
func (u *unpacking) stamp(dir *os.Root, n *node) error {
	if s := n.modified.Unix(); s < 0 || s > math.MaxUint32 {
		return nil
	}
	return dir.Chtimes(n.name, time.Time{}, n.modified)
}
