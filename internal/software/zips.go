package software

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"
)

// archives are the endings of files that are opened as archives, if they begin as a zip does.
var archives = []string{
	".aar", ".ear", ".egg", ".hpi", ".jar", ".jmod", ".jpi", ".kar", ".lpkg", ".nar", ".nbm", ".nupkg", ".par", ".pex", ".pyz", ".sar",
	".vsix", ".war", ".whl", ".zip",
}

// sealed are the endings of archives that are not opened.
var sealed = []string{".7z", ".cab", ".cpio", ".deb", ".gem", ".msi", ".rar", ".rpm", ".squashfs", ".tar", ".tbz2", ".tgz", ".txz"}

func isArchive(name string) bool { return slices.Contains(archives, strings.ToLower(path.Ext(name))) }

func isSealed(name string) bool {
	name = strings.ToLower(name)
	return slices.Contains(sealed, path.Ext(name)) || strings.Contains(path.Base(name), ".tar.")
}

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

// indexZip indexes a zip. Its entries are decompressed when they are opened, and only then.
func indexZip(r io.ReaderAt, size int64, b *budget, gap func(path, reason string)) (*index, error) {
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
		key, left := entryPath(f.Name)
		if left {
			gap(f.Name, "the entry's name leads out of the archive; it was looked at as "+key)
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
	b *budget
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
