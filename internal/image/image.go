// Package image reads container images and archives of file systems without a container engine: docker save's form, OCI layouts
// and plain tars, compressed or not, their layers merged into one file system that can be read or unpacked.
//
// It owns those formats and their dangers: names that lead out, links, whiteouts, sizes without end. It runs nothing.
//
// What an archive holds becomes an index in memory (Index), whose names are keys of maps and no paths of this machine; only whole
// layers are decompressed, into files with names of our own. What is unpacked is the index and never an archive as it comes: each name
// in it is one element, every folder is a folder and no link, and each is made anew through os.Root, so that there is no link yet, or
// none that we go through, wherever an archive would have us write. What could not be read is a gap, with its path.
//
// Whoever opens an archive closes it, which removes what was decompressed. A process that is killed leaves the folder that it was
// given for that (Budget), and the one that it unpacked into.
package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Form says what was found at a path.
type Form string

// The forms.
const (
	FormImages Form = "images" // docker save, or an OCI layout: any number of images
	FormTar    Form = "tar"    // the tar of a file system, as one image that says nothing of itself
	FormFile   Form = "file"   // any other file, as an image that holds it alone, decompressed
)

// Options say how archives are read.
type Options struct {
	// Budget bounds what is decompressed. It must not be nil.
	Budget *Budget
	// Backslashes in names of a tar separate as slashes do, for those who look into the archives of any system. On Linux, which an
	// image that is to be run is for, they are letters like others.
	Backslashes bool
	// Verify compares documents and layers with their digests, where the archive has any: what differs is as what cannot be read. It takes
	// another look at every byte.
	Verify bool
}

// Gap is something that could not be read, or is not as the archive has it.
type Gap struct {
	Path   string
	Reason string
	// Layer: it is a layer, or the rest of one, and nobody knows what was in it.
	Layer bool
}

// Archive is what was found at a path.
type Archive struct {
	Form Form
	// Images are in the archive's order. Those of an OCI layout are for any platform, without attestations about others.
	Images []*Image
	// Gaps are of what lies around the images.
	Gaps []Gap

	blobs   fs.FS // opens layers and documents
	options Options
	flat    map[string]flattened // layers that are open already, by name
	closers []func()
}

// Image is one image. Its layers are read by Tree, and not before.
type Image struct {
	// Names are its tags, or what the layout calls it.
	Names []string
	// Digest is of its manifest in an OCI layout, else of its configuration; empty in the tar of a file system.
	Digest string
	// Platform is what the layout's index says; it may be empty where the configuration says more.
	Platform Platform

	archive *Archive
	title   string
	config  string   // blob of the configuration
	layers  []string // blobs, the lowest first
	tree    *Index
	gaps    []Gap
}

// Title names an image to people: its names, its digest and its platform, as far as the archive's form tells them; empty where an
// archive's path says it all.
func (im *Image) Title() string { return im.title }

// Open finds out, by content, what a path is: the folder of an OCI layout, or a file. A folder that is none gives ErrNoLayout. The
// archive must be closed, and what its images' trees give is open as long as it is.
func Open(ctx context.Context, name string, o Options) (*Archive, error) {
	a := &Archive{options: o, flat: map[string]flattened{}}
	if err := a.find(ctx, name); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *Archive) find(ctx context.Context, name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	switch {
	case info.IsDir():
		root, err := os.OpenRoot(name)
		if err != nil {
			return err
		}
		a.closers = append(a.closers, func() { root.Close() })
		if _, err := root.Stat(layoutFile); err != nil {
			return ErrNoLayout
		}
		a.blobs = regular{root}
		return a.layout()
	case !info.Mode().IsRegular():
		return errors.New("it is neither a file nor a folder")
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	a.closers = append(a.closers, func() { f.Close() })
	return a.file(ctx, filepath.Base(name), f, info)
}

// ErrNoLayout says that a folder holds no image.
var ErrNoLayout = errors.New("the folder is no OCI layout: it has no file oci-layout")

// Close closes what was opened, and removes what was decompressed.
func (a *Archive) Close() {
	for i := len(a.closers) - 1; i >= 0; i-- {
		a.closers[i]()
	}
	a.closers = nil
}

// regular opens the regular files of a folder, and nothing outside of it. A named pipe would wait for somebody to write into it.
type regular struct{ root *os.Root }

// Open opens a file.
func (r regular) Open(name string) (fs.File, error) {
	name = filepath.FromSlash(name)
	info, err := r.root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	return r.root.Open(name)
}

// file finds out what a file is.
func (a *Archive) file(ctx context.Context, base string, f *os.File, info fs.FileInfo) error {
	plain, err := flatten(ctx, f, info.Size(), a.options.Budget)
	if err != nil {
		return err
	}
	a.closers = append(a.closers, plain.done)
	head := make([]byte, 512)
	n, err := plain.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	x := newIndex(a.options.Budget.limits.Entries)
	if isTar(head[:n]) {
		return a.tar(ctx, x, plain)
	}
	a.Form = FormFile
	a.Images = []*Image{{archive: a, tree: x}}
	return x.put(base, &node{mode: info.Mode(), size: plain.size, modified: info.ModTime(), content: section{plain, 0, plain.size}})
}

// tar opens the images of a tar, or the tar of a file system.
func (a *Archive) tar(ctx context.Context, x *Index, plain flattened) error {
	l := a.layer(ctx, x, func(p, why string) { a.Gaps = append(a.Gaps, Gap{Path: p, Reason: why}) })
	if err := l.lay(ctx, plain, plain.size); err != nil {
		if ctx.Err() != nil {
			return err
		}
		a.Gaps = append(a.Gaps, Gap{Path: ".", Reason: Reason(err), Layer: true})
	}
	a.blobs = x
	if x.at(savedFile) != nil && a.saved() {
		return nil
	}
	if x.at(layoutFile) != nil {
		return a.layout()
	}
	a.Form = FormTar
	a.Images = []*Image{{archive: a, tree: x}}
	return nil
}

// layer is one that is laid over an index.
func (a *Archive) layer(ctx context.Context, x *Index, gap func(path, reason string)) layer {
	whole := func(r io.Reader, size int64) (content, error) {
		c, done, err := a.options.Budget.keep(stoppable{ctx, r}, size)
		if err == nil {
			a.closers = append(a.closers, done)
		}
		return c, err
	}
	return layer{x: x, backslashes: a.options.Backslashes, gap: gap, whole: whole}
}

// isTar knows the magic of POSIX and GNU tars, and the sum of the header of older ones.
func isTar(head []byte) bool {
	if len(head) < 512 {
		return false
	}
	if bytes.Equal(head[257:262], []byte("ustar")) {
		return true
	}
	if head[0] == 0 {
		return false
	}
	sum, want, digits := 256, 0, 0 // the sum's own field counts as blanks
	for i, c := range head[:512] {
		if i < 148 || i >= 156 {
			sum += int(c)
		} else if c >= '0' && c <= '7' {
			want = want*8 + int(c-'0')
			digits++
		}
	}
	return digits > 0 && sum == want
}

// Tree merges the image's layers to the file system that a container of it begins with. A layer that cannot be read, or not to its
// end, is a gap; an error is the context's. Later calls give the same.
func (im *Image) Tree(ctx context.Context) (*Index, []Gap, error) {
	if im.tree != nil {
		return im.tree, im.gaps, nil
	}
	x := newIndex(im.archive.options.Budget.limits.Entries)
	digests := im.layerDigests()
	for i, name := range im.layers {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if err := im.layer(ctx, x, i, name, digests[i]); err != nil {
			if ctx.Err() != nil {
				return nil, nil, ctx.Err()
			}
			what := "the layer cannot be read to its end: "
			if errors.Is(err, errAltered) {
				what = "the layer cannot be used: "
			}
			im.gaps = append(im.gaps, Gap{Path: name, Reason: what + Reason(err), Layer: true})
		}
	}
	im.tree = x
	return x, im.gaps, nil
}

// layer lays a layer over an index. Its digest is that of its plain bytes, or "" where nobody says one.
func (im *Image) layer(ctx context.Context, x *Index, number int, name, digest string) error {
	plain, err := im.archive.open(ctx, name)
	if err != nil {
		return err
	}
	if err := im.verifyLayer(ctx, plain, digest); err != nil {
		return err
	}
	l := im.archive.layer(ctx, x, func(p, why string) { im.gaps = append(im.gaps, Gap{Path: p, Reason: why}) })
	l.number = number
	return l.lay(ctx, plain, plain.size)
}

// open gives a layer's plain bytes. Images share layers: one that was decompressed is not decompressed again.
func (a *Archive) open(ctx context.Context, name string) (flattened, error) {
	if plain, ok := a.flat[name]; ok {
		return plain, nil
	}
	if !fs.ValidPath(name) {
		return flattened{}, errors.New("it has no name")
	}
	f, err := a.blobs.Open(name)
	if err != nil {
		return flattened{}, err
	}
	a.closers = append(a.closers, func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		return flattened{}, err
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		return flattened{}, errors.New("it cannot be read from anywhere but its start")
	}
	plain, err := flatten(ctx, at, info.Size(), a.options.Budget)
	if err != nil {
		return flattened{}, err
	}
	a.closers = append(a.closers, plain.done)
	a.flat[name] = plain
	return plain, nil
}

// Reason is an error in few words, without the path that a gap has beside it.
func Reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	text := err.Error()
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// maxDocument bounds the documents that describe an image, in bytes.
const maxDocument = 16 << 20

// document reads one that describes an image, and compares it with the digest in its name.
func (a *Archive) document(name string) ([]byte, error) {
	data, err := document(a.blobs, name)
	if err == nil && a.options.Verify {
		if err = verify(bytes.NewReader(data), namedBy(name)); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
	}
	return data, err
}

// document reads a whole small file.
func document(from fs.FS, name string) ([]byte, error) {
	f, err := from.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", name, Reason(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > maxDocument {
		return nil, fmt.Errorf("%s: it is larger than %d bytes", name, maxDocument)
	}
	return data, nil
}
