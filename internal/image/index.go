package image

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// Index is a file system in memory whose files lie in an archive. Names are keys only: no path of this machine is made of them. Paths
// are relative and clean, with slashes, and need not be UTF-8; "." is its root. Opened files are io.ReaderAt and io.Seeker.
type Index struct {
	root    *node
	entries int
	limit   int
}

// node is a file, a folder, a link or a device of an index.
type node struct {
	name     string
	mode     fs.FileMode
	size     int64
	modified time.Time
	layer    int
	uid, gid uint32
	link     string // of a symbolic link
	content  content
	children map[string]*node // of a folder
	first    *node            // of a hard link: the node that had the file first
	shared   bool             // of such a first one
	capable  bool             // it has file capabilities
}

// content opens the bytes of a file.
type content interface{ open() (reader, error) }

// reader is what an open file can do: be read from the front, and anywhere.
type reader interface {
	io.Reader
	io.ReaderAt
	io.Seeker
	io.Closer
}

var (
	errTooMany    = errors.New("it has more entries than the limit allows")
	errNotRegular = errors.New("it is no regular file")
)

// Linux's own limits, on paths in bytes and on symbolic links that follow one another.
const (
	maxPath  = 4096
	MaxLinks = 40
)

func newIndex(limit int) *Index {
	return &Index{root: &node{name: ".", mode: fs.ModeDir | 0o755, children: map[string]*node{}}, limit: limit}
}

// entryPath is the key of a name in an archive: relative, clean, inside. Left tells whether the name tried to leave.
func entryPath(name string, backslashes bool) (key string, left bool) {
	if backslashes {
		name = strings.ReplaceAll(name, `\`, "/")
	}
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
func (x *Index) put(key string, n *node) error {
	if key == "." {
		return nil
	}
	if x.entries++; x.entries > x.limit {
		return errTooMany
	}
	dir, base := path.Split(key)
	parent, err := x.folder(dir, n.layer)
	if err != nil {
		return err
	}
	n.name = base
	if n.mode.IsDir() {
		if old := parent.children[base]; old != nil && old.mode.IsDir() {
			old.mode, old.layer, old.uid, old.gid, old.modified = n.mode, n.layer, n.uid, n.gid, n.modified
			return nil
		}
		n.children = map[string]*node{}
	}
	parent.children[base] = n
	return nil
}

// folder gives a folder, made with those above it where they are missing: archives need not name them. What a layer puts behind a
// link goes to where the link leads, as in the container; a link that leads to no folder gives way to one.
func (x *Index) folder(dir string, layer int) (*node, error) {
	w := walk{at: []*node{x.root}, left: MaxLinks}
	for part := range strings.SplitSeq(dir, "/") {
		if part == "" || part == "." {
			continue
		}
		above := w.node()
		if w.follow(part) && w.node().mode.IsDir() {
			continue
		}
		if x.entries++; x.entries > x.limit {
			return nil, errTooMany
		}
		made := &node{name: part, mode: fs.ModeDir | 0o755, layer: layer, children: map[string]*node{}}
		above.children[part] = made
		w.at = []*node{x.root, made} // what is below it is new as well, and no link leads up from there
	}
	return w.node(), nil
}

// walk is a way through an index that follows symbolic links as Linux does: each element where it comes, and up from where it led to.
type walk struct {
	at   []*node // from the root to where it is
	left int     // links that it may still follow
}

func (w *walk) node() *node { return w.at[len(w.at)-1] }

// follow goes a path; false where nothing is there, or where links go in a circle.
func (w *walk) follow(to string) bool {
	for to != "" {
		var part string
		part, to, _ = strings.Cut(to, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			w.at = w.at[:max(1, len(w.at)-1)]
			continue
		}
		next := w.node().children[part]
		if next == nil {
			return false
		}
		if next.mode&fs.ModeSymlink == 0 {
			w.at = append(w.at, next)
			continue
		}
		if w.left--; w.left < 0 {
			return false
		}
		if strings.HasPrefix(next.link, "/") {
			w.at = w.at[:1]
		}
		to = next.link + "/" + to
	}
	return true
}

// at is the node at a key, links not followed; nil where there is none.
func (x *Index) at(key string) *node {
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

// resolve is the node at a path, links followed; nil where there is none.
func (x *Index) resolve(path string) *node {
	w := walk{at: []*node{x.root}, left: MaxLinks}
	if !w.follow(path) {
		return nil
	}
	return w.node()
}

// linkable is what a hard link may name: no folder. Links on the way are followed, one at the end is not.
func (x *Index) linkable(key string) *node {
	dir, base := path.Split(key)
	parent := x.resolve(dir)
	if parent == nil {
		return nil
	}
	if n := parent.children[base]; n != nil && !n.mode.IsDir() {
		return n
	}
	return nil
}

// hide takes away what lower layers put at a key.
func (x *Index) hide(key string, layer int) {
	dir, base := path.Split(key)
	if parent := x.resolve(dir); parent != nil {
		if n := parent.children[base]; n != nil && lower(n, layer) {
			delete(parent.children, base)
		}
	}
}

// hideBelow takes away what lower layers put into a folder.
func (x *Index) hideBelow(key string, layer int) {
	n := x.resolve(key)
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

// Open opens a file or a folder.
func (x *Index) Open(name string) (fs.File, error) {
	n, err := x.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.mode.IsDir() {
		return &openFolder{n}, nil
	}
	if n.content == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	r, err := n.content.open()
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &openFile{r, n}, nil
}

func (x *Index) find(op, name string) (*node, error) {
	if clean, _ := entryPath(name, false); clean != name {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n := x.resolve(name)
	if n == nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return n, nil
}

// Stat describes a file, links followed.
func (x *Index) Stat(name string) (fs.FileInfo, error) {
	n, err := x.find("stat", name)
	if err != nil {
		return nil, err
	}
	return nodeInfo{n}, nil
}

// ReadDir lists a folder by name; links in it are listed as links.
func (x *Index) ReadDir(name string) ([]fs.DirEntry, error) {
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

// openFolder is an open folder of an index: it can only be described.
type openFolder struct{ n *node }

// Stat describes the folder.
func (f *openFolder) Stat() (fs.FileInfo, error) { return nodeInfo{f.n}, nil }

func (f *openFolder) Read([]byte) (int, error) { return 0, errors.New("it is a folder") }
func (f *openFolder) Close() error             { return nil }

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
