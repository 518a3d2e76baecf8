package software

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

// flat gives what a possibly compressed stream holds, so that any place in it can be read: where it is not compressed that is the
// stream itself, else a file of the scan's own. Compression is told by the first bytes, never by a name or a media type.
func flat(r io.ReaderAt, size int64, b *budget) (io.ReaderAt, int64, func(), error) {
	head := make([]byte, 6)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, nil, err
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
		return r, size, func() {}, nil
	}
	if err != nil {
		return nil, 0, nil, fmt.Errorf("it cannot be decompressed: %w", err)
	}
	f, length, err := b.spill(plain)
	if err != nil {
		return nil, 0, nil, fmt.Errorf("it cannot be decompressed: %w", err)
	}
	return f, length, func() { f.Close() }, nil
}

// addTar lays the entries of an uncompressed tar over an index, as one layer: first what it deletes of the layers below, then what
// it brings. Gaps are entries that cannot be had; an error means that the rest of the tar cannot be read.
func (x *index) addTar(ctx context.Context, r io.ReaderAt, size int64, layer int, gap func(path, reason string)) error {
	section := io.NewSectionReader(r, 0, size)
	t := tar.NewReader(section)
	for count := 0; ; count++ {
		if count%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the tar is damaged after %d entries: %w", count, err)
		}
		// The reader stands where the entry's bytes begin: archive/tar reads headers in whole blocks, without reading ahead.
		at, err := section.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		key, left := entryPath(h.Name)
		if left {
			gap(h.Name, "the entry's name leads out of the archive; it was looked at as "+key)
		}
		if err := x.addEntry(key, h, source{r, at, size}, layer, gap); err != nil {
			return err
		}
	}
}

// source is where an entry's bytes are.
type source struct {
	from    io.ReaderAt
	at, end int64
}

func (x *index) addEntry(key string, h *tar.Header, src source, layer int, gap func(path, reason string)) error {
	dir, base := path.Split(key)
	dir = strings.TrimSuffix(dir, "/")
	switch {
	case base == whiteoutOpaque:
		x.hideBelow(dir, layer)
		return nil
	case strings.HasPrefix(base, whiteout+whiteout):
		return nil // other marks of the layer itself
	case strings.HasPrefix(base, whiteout):
		x.hide(path.Join(dir, strings.TrimPrefix(base, whiteout)), layer)
		return nil
	}
	n := &node{mode: h.FileInfo().Mode(), size: h.Size, modified: h.ModTime, layer: layer}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		if sparse(h) {
			gap(key, "the file is sparse, and lies in the archive in pieces")
			return nil
		}
		if src.at+h.Size > src.end {
			gap(key, "the archive ends within the file")
			return nil
		}
		n.content = section{src.from, src.at, h.Size}
	case tar.TypeDir:
	case tar.TypeSymlink:
		n.link = strings.ReplaceAll(h.Linkname, `\`, "/")
		n.mode = fs.ModeSymlink | 0o777
	case tar.TypeLink:
		target, _ := entryPath(h.Linkname)
		other := x.at(target)
		if other == nil || other.content == nil {
			gap(key, "the archive says that it is the same as "+target+", which is not there")
			return nil
		}
		n.mode, n.size, n.content = other.mode, other.size, other.content
	default:
		return nil // devices, pipes
	}
	return x.put(key, n)
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
