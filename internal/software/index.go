package software

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// index is a file system in memory whose files lie in an archive. Names are keys only: no path of this machine is made of them.
type index struct {
	root    *node
	entries int
	limit   int
}

// node is a file, a folder or a link of an index.
type node struct {
	name     string
	mode     fs.FileMode
	size     int64
	modified time.Time
	layer    int
	link     string // of a symbolic link
	content  content
	children map[string]*node // of a folder
}

// content opens the bytes of a file.
type content interface{ open() (reader, error) }

// reader is what extractors read: from the front, and anywhere.
type reader interface {
	io.Reader
	io.ReaderAt
	io.Seeker
	io.Closer
}

var errTooMany = errors.New("it has more entries than the limit allows")

func newIndex(limit int) *index {
	return &index{root: &node{name: ".", mode: fs.ModeDir | 0o755, children: map[string]*node{}}, limit: limit}
}

// entryPath is the key of a name in an archive: relative, clean, inside. Left tells whether the name tried to leave.
func entryPath(name string) (key string, left bool) {
	name = strings.ReplaceAll(name, `\`, "/")
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				left = true
			}
		default:
			depth++
		}
	}
	key = strings.TrimPrefix(path.Clean("/"+name), "/")
	if key == "" {
		key = "."
	}
	return key, left
}

// put lays a file, folder or link over what is there. A folder over a folder keeps what is in it.
func (x *index) put(key string, n *node) error {
	if key == "." {
		return nil
	}
	if x.entries++; x.entries > x.limit {
		return errTooMany
	}
	dir, base := path.Split(key)
	parent, err := x.folder(strings.TrimSuffix(dir, "/"), n.layer)
	if err != nil {
		return err
	}
	n.name = base
	if n.mode.IsDir() {
		if old := parent.children[base]; old != nil && old.mode.IsDir() {
			old.mode, old.layer = n.mode, n.layer
			return nil
		}
		n.children = map[string]*node{}
	}
	parent.children[base] = n
	return nil
}

// folder gives a folder, made with those above it where they are missing: archives need not name them.
func (x *index) folder(key string, layer int) (*node, error) {
	at := x.root
	if key == "" || key == "." {
		return at, nil
	}
	walked := ""
	for part := range strings.SplitSeq(key, "/") {
		walked = path.Join(walked, part)
		next := at.children[part]
		if next != nil && next.mode&fs.ModeSymlink != 0 {
			// What a layer puts behind a link goes to where the link leads, as in the container.
			if to := x.resolve(walked); to != nil && to.mode.IsDir() {
				next = to
			}
		}
		if next == nil || !next.mode.IsDir() {
			if x.entries++; x.entries > x.limit {
				return nil, errTooMany
			}
			next = &node{name: part, mode: fs.ModeDir | 0o755, layer: layer, children: map[string]*node{}}
			at.children[part] = next
		}
		at = next
	}
	return at, nil
}

// hide takes away what lower layers put at a key.
func (x *index) hide(key string, layer int) {
	dir, base := path.Split(key)
	if parent := x.at(strings.TrimSuffix(dir, "/")); parent != nil {
		if n := parent.children[base]; n != nil && lower(n, layer) {
			delete(parent.children, base)
		}
	}
}

// hideBelow takes away what lower layers put into a folder.
func (x *index) hideBelow(key string, layer int) {
	n := x.at(key)
	if n == nil {
		return
	}
	maps.DeleteFunc(n.children, func(_ string, child *node) bool { return lower(child, layer) })
}

// lower tells whether all of a node is of lower layers; of a folder that the layer shares it takes away what is lower.
func lower(n *node, layer int) bool {
	if n.layer < layer && n.children == nil {
		return true
	}
	maps.DeleteFunc(n.children, func(_ string, child *node) bool { return lower(child, layer) })
	return n.layer < layer && len(n.children) == 0
}

// at is the node at a key, links not followed; nil where there is none.
func (x *index) at(key string) *node {
	n := x.root
	if key == "" || key == "." {
		return n
	}
	for part := range strings.SplitSeq(key, "/") {
		if n = n.children[part]; n == nil {
			return nil
		}
	}
	return n
}

// resolve is the node at a key, links followed; nil where there is none, or where links go in a circle.
func (x *index) resolve(key string) *node {
	left := maxLinks
	parts := strings.Split(key, "/")
	var walked []string
	n := x.root
	for len(parts) > 0 {
		part := parts[0]
		parts = parts[1:]
		if part == "." || part == "" {
			continue
		}
		next := n.children[part]
		if next == nil {
			return nil
		}
		if next.mode&fs.ModeSymlink == 0 {
			walked, n = append(walked, part), next
			continue
		}
		if left--; left < 0 {
			return nil
		}
		target := next.link
		if !strings.HasPrefix(target, "/") {
			target = strings.Join(walked, "/") + "/" + target
		}
		clean, _ := entryPath(target)
		parts = append(strings.Split(clean, "/"), parts...)
		walked, n = nil, x.root
	}
	return n
}

// Open opens a file or a folder.
func (x *index) Open(name string) (fs.File, error) {
	n, err := x.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.mode.IsDir() {
		return &openFolderNode{n}, nil
	}
	if n.content == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("it is no regular file")}
	}
	r, err := n.content.open()
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &openFile{r, n}, nil
}

func (x *index) find(op, name string) (*node, error) {
	if clean, _ := entryPath(name); clean != name {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n := x.resolve(name)
	if n == nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

// Stat describes a file.
func (x *index) Stat(name string) (fs.FileInfo, error) {
	n, err := x.find("stat", name)
	if err != nil {
		return nil, err
	}
	return nodeInfo{n}, nil
}

// ReadDir lists a folder by name.
func (x *index) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := x.find("readdir", name)
	if err != nil {
		return nil, err
	}
	var out []fs.DirEntry
	for _, base := range slices.Sorted(maps.Keys(n.children)) {
		out = append(out, fs.FileInfoToDirEntry(nodeInfo{n.children[base]}))
	}
	return out, nil
}

func (x *index) files(ctx context.Context, w walker) error { return x.below(ctx, ".", x.root, w) }

func (x *index) below(ctx context.Context, dir string, n *node, w walker) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, base := range slices.Sorted(maps.Keys(n.children)) {
		child, name := n.children[base], path.Join(dir, base)
		var err error
		switch {
		case child.mode.IsDir():
			if !w.skip(name) {
				err = x.below(ctx, name, child, w)
			}
		case child.mode&fs.ModeSymlink != 0:
			w.link(name)
		case child.content != nil:
			err = w.visit(name, nodeInfo{child})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// nodeInfo describes a node.
type nodeInfo struct{ n *node }

// Name is the last part of the path.
func (i nodeInfo) Name() string { return i.n.name }

// Size is in bytes.
func (i nodeInfo) Size() int64 { return i.n.size }

// Mode is the file's type and permissions.
func (i nodeInfo) Mode() fs.FileMode { return i.n.mode }

// ModTime is what the archive says.
func (i nodeInfo) ModTime() time.Time { return i.n.modified }

// IsDir tells whether it is a folder.
func (i nodeInfo) IsDir() bool { return i.n.mode.IsDir() }

// Sys is nothing.
func (i nodeInfo) Sys() any { return nil }

// openFile is an open file of an index.
type openFile struct {
	reader
	n *node
}

// Stat describes the file.
func (f *openFile) Stat() (fs.FileInfo, error) { return nodeInfo{f.n}, nil }

// openFolderNode is an open folder of an index: it can only be described.
type openFolderNode struct{ n *node }

// Stat describes the folder.
func (f *openFolderNode) Stat() (fs.FileInfo, error) { return nodeInfo{f.n}, nil }

func (f *openFolderNode) Read([]byte) (int, error) { return 0, errors.New("it is a folder") }
func (f *openFolderNode) Close() error             { return nil }

// section is a file that lies uncompressed within another.
type section struct {
	from     io.ReaderAt
	at, size int64
}

func (s section) open() (reader, error) {
	return unclosed{io.NewSectionReader(s.from, s.at, s.size)}, nil
}

// unclosed is a reader of something that somebody else closes.
type unclosed struct{ anywhere }

type anywhere interface {
	io.Reader
	io.ReaderAt
	io.Seeker
}

func (unclosed) Close() error { return nil }

func inBytes(b []byte) reader { return unclosed{bytes.NewReader(b)} }
