package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Markers of deleted files in a layer. https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
const (
	whiteout       = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// flattened is a stream that was perhaps compressed, so that any place in it can be read.
type flattened struct {
	io.ReaderAt
	size int64
	done func()
}

// flatten gives what a possibly compressed stream holds: where it is not compressed that is the stream itself, else a file of our own.
// Compression is told by the first bytes, never by a name or a media type.
func flatten(ctx context.Context, r io.ReaderAt, size int64, b *Budget) (flattened, error) {
	head := make([]byte, 6)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return flattened{}, err
	}
	stream := bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 1<<20)
	var plain io.Reader
	switch head = head[:n]; {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		plain, err = gzip.NewReader(stream)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		var d *zstd.Decoder
		d, err = zstd.NewReader(stream, zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderConcurrency(1))
		if err == nil {
			defer d.Close()
			plain = d
		}
	case bytes.HasPrefix(head, []byte("BZh")):
		plain = bzip2.NewReader(stream)
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		plain, err = xz.ReaderConfig{DictCap: 64 << 20}.NewReader(stream)
	default:
		return flattened{r, size, func() {}}, nil
	}
	if err != nil {
		return flattened{}, fmt.Errorf("it cannot be decompressed: %w", err)
	}
	f, length, err := b.spill(stoppable{ctx, plain})
	if err != nil {
		return flattened{}, fmt.Errorf("it cannot be decompressed: %w", err)
	}
	return flattened{f, length, func() { f.Close() }}, nil
}

// layer lays one tar over an index.
type layer struct {
	x           *Index
	number      int
	backslashes bool
	gap         func(path, reason string)
	// whole makes one piece of a file that lies in the tar in several.
	whole func(r io.Reader, size int64) (content, error)
}

// lay lays the entries of an uncompressed tar over the index: what it deletes of the layers below, and what it brings. Gaps are
// entries that cannot be had; an error means that the rest of the tar cannot be read.
func (l *layer) lay(ctx context.Context, r io.ReaderAt, size int64) error {
	from := io.NewSectionReader(r, 0, size)
	t := tar.NewReader(from)
	for count := 0; ; count++ {
		if count%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("the tar is damaged after %d entries: %w", count, err)
		}
		// The reader stands where the entry's bytes begin: archive/tar reads headers in whole blocks, without reading ahead.
		at, err := from.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if sparse(h) {
			err = l.pieces(h, t)
		} else {
			err = l.entry(h, section{r, at, h.Size}, at+h.Size > size)
		}
		if err != nil {
			return err
		}
	}
}

// pieces lays a sparse file: its holes are not in the tar, and what is lies there in pieces.
func (l *layer) pieces(h *tar.Header, r io.Reader) error {
	body, err := l.whole(r, h.Size)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return l.entry(h, nil, true)
	case errors.Is(err, errTooMuch), errors.Is(err, tar.ErrHeader):
		key, _ := entryPath(h.Name, l.backslashes)
		l.gap(key[:min(len(key), 100)], "the file is sparse: "+err.Error())
		return nil
	case err != nil:
		return err
	}
	return l.entry(h, body, false)
}

// entry lays one entry. Its bytes, if it has any, are said to lie somewhere; cut where the tar ends before they do.
func (l *layer) entry(h *tar.Header, body content, cut bool) error {
	key, left := entryPath(h.Name, l.backslashes)
	if left {
		l.gap(h.Name, "the entry's name leads out of the archive; it was looked at as "+key)
	}
	if len(key) > maxPath || len(h.Linkname) > maxPath {
		l.gap(key[:min(len(key), 100)]+"…", fmt.Sprintf("its name, or what it links to, is longer than %d bytes", maxPath))
		return nil
	}
	dir, base := path.Split(key)
	dir = strings.TrimSuffix(dir, "/")
	switch {
	case base == whiteoutOpaque:
		l.x.hideBelow(dir, l.number)
		return nil
	case strings.HasPrefix(base, whiteout+whiteout):
		return nil // other marks of the layer itself
	case strings.HasPrefix(base, whiteout):
		if hidden := strings.TrimPrefix(base, whiteout); hidden != "" && hidden != "." && hidden != ".." {
			l.x.hide(path.Join(dir, hidden), l.number)
		}
		return nil
	}
	n := l.node(key, h, body, cut)
	if n == nil {
		return nil
	}
	return l.x.put(key, n)
}

// special are the bits of a mode beside the permissions that an archive may give: its type is what the entry's own type says.
const special = fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// node makes a node of an entry; nil of one that is nothing in a file system, or cannot be had, which is a gap.
func (l *layer) node(key string, h *tar.Header, body content, cut bool) *node {
	mode := h.FileInfo().Mode()
	n := &node{
		mode: mode & (fs.ModePerm | special), size: h.Size, modified: h.ModTime, layer: l.number, uid: owner(h.Uid), gid: owner(h.Gid),
		capable: h.PAXRecords["SCHILY.xattr.security.capability"] != "",
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		if cut {
			l.gap(key, "the archive ends within the file")
			return nil
		}
		n.content = body
	case tar.TypeDir:
		n.mode |= fs.ModeDir
	case tar.TypeSymlink:
		n.link = h.Linkname
		if l.backslashes {
			n.link = strings.ReplaceAll(n.link, `\`, "/")
		}
		n.mode, n.size = fs.ModeSymlink|0o777, 0
	case tar.TypeLink:
		return l.linked(key, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		n.mode, n.size = mode, 0
	default:
		return nil
	}
	return n
}

// linked makes another name of a file that is there already.
func (l *layer) linked(key string, h *tar.Header) *node {
	target, _ := entryPath(h.Linkname, l.backslashes)
	other := l.x.linkable(target)
	if other == nil {
		l.gap(key, "the archive says that it is the same as "+target+", which is not there")
		return nil
	}
	n := *other
	n.layer = l.number
	if other.content != nil {
		if n.first == nil {
			n.first = other
		}
		n.first.shared = true
	}
	return &n
}

// nobody is the owner of what has one that no system knows.
const nobody = 65534

func owner(id int) uint32 {
	if id < 0 || int64(id) >= 1<<32-1 { // the highest means "leave it as it is" to chown(2)
		return nobody
	}
	return uint32(id)
}

func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}
