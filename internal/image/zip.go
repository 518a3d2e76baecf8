package image

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
)

// inMemory is how large a compressed entry of an archive may be to be read into memory rather than to disk, in bytes.
const inMemory = 16 << 20

// maxDirectory bounds the directory of a zip, in bytes: it is read into memory whole, where it takes several times as much.
const maxDirectory = 32 << 20

// metered gives no more than so many bytes of what it reads from.
type metered struct {
	from io.ReaderAt
	left int64
}

// ReadAt reads, and fails once more was asked for than there may be.
func (m *metered) ReadAt(p []byte, at int64) (int, error) {
	if m.left -= int64(len(p)); m.left < 0 {
		return 0, fmt.Errorf("its directory is larger than %d bytes", maxDirectory)
	}
	return m.from.ReadAt(p, at)
}

// Zip indexes a zip. Its entries are decompressed when they are opened, and only then. With an error comes what could be indexed, or
// nil.
func Zip(r io.ReaderAt, size int64, b *Budget, gap func(path, reason string)) (*Index, error) {
	m := &metered{from: r, left: maxDirectory}
	z, err := zip.NewReader(m, size)
	m.left = math.MaxInt64
	if errors.Is(err, zip.ErrInsecurePath) {
		err = nil // names are keys only
	}
	if err != nil {
		return nil, fmt.Errorf("the archive is damaged: %w", err)
	}
	x := newIndex(b.limits.Entries)
	for _, f := range z.File {
		key, left := entryPath(f.Name, true)
		if left {
			gap(f.Name, "the entry's name leads out of the archive; it was looked at as "+key)
		}
		if len(key) > maxPath {
			gap(key[:100]+"…", fmt.Sprintf("its name is longer than %d bytes", maxPath))
			continue
		}
		n := &node{mode: f.Mode(), size: int64(f.UncompressedSize64), modified: f.Modified}
		switch {
		case strings.HasSuffix(f.Name, "/"):
			n.mode = fs.ModeDir | 0o755
		case n.mode.IsRegular():
			n.content = zipped{f, b}
		default:
			continue
		}
		if f.Flags&1 != 0 && n.content != nil {
			gap(key, "the entry is encrypted")
			continue
		}
		if err := x.put(key, n); err != nil {
			return x, err
		}
	}
	return x, nil
}

// zipped is an entry of a zip.
type zipped struct {
	f *zip.File
	b *Budget
}

// open decompresses the entry, into memory where it says that it is small, else to disk. Its sum is checked on the way.
func (z zipped) open() (reader, error) {
	r, err := z.f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if z.f.UncompressedSize64 > inMemory {
		f, _, err := z.b.spill(r)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
	// archive/zip reads no more than the entry says.
	data, err := io.ReadAll(io.LimitReader(z.b.reader(r), inMemory+1))
	if err != nil {
		return nil, err
	}
	return inBytes(data), nil
}
