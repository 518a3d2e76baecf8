package software

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/image"
)

// scan is one scan of one thing.
type scan struct {
	src        *scanned
	o          Options
	extractors []extractor // by name
	binaries   []extractor // by first bytes
	found      map[found]bool
	helpers    helpers
	buffer     []byte
	rep        Report
}

// found is a package at a place.
type found struct {
	pkg
	path string
}

func newScan(src *scanned, o Options) *scan {
	s := &scan{src: src, o: o, extractors: extractors(), binaries: inBinaries(), found: map[found]bool{}, rep: Report{Origin: src.origin, Kind: src.kind}}
	for _, g := range src.gaps {
		s.gap(g.Path, g.Reason)
	}
	return s
}

func (s *scan) run(ctx context.Context) error {
	if s.src.sbom != "" {
		return s.bill(ctx)
	}
	top := &level{s: s, ctx: ctx, tree: s.src.tree, budget: s.src.budget}
	if s.src.kind == KindFolder {
		s.leaveOutSystem()
	}
	return s.src.tree.files(ctx, top)
}

// bill reads a bill of materials: the one file of its tree.
func (s *scan) bill(ctx context.Context) error {
	return s.src.tree.files(ctx, billWalker{&level{s: s, ctx: ctx, tree: s.src.tree, budget: s.src.budget}})
}

type billWalker struct{ *level }

func (w billWalker) visit(name string, info fs.FileInfo) error {
	w.s.count(info)
	for _, e := range w.s.extractors {
		if e.required(w.s.src.sbom, info) {
			w.extract(e, name, w.s.src.sbom, info)
		}
	}
	if w.s.rep.Packages == 0 && w.s.rep.GapCount == 0 && w.unnamed(name) {
		w.gap(name, "it names no package by a package URL, and nothing else tells what is meant")
	}
	return w.ctx.Err()
}

// unnamed tells whether a bill in which no package was found is about AWS nevertheless.
func (w billWalker) unnamed(name string) bool {
	f := w.open(name)
	if f == nil {
		return false
	}
	defer f.Close()
	return w.mentions(f, name)
}

// leaveOutSystem leaves out the file systems of a running system that hold no files: they are recognised by what is in them.
func (s *scan) leaveOutSystem() {
	if _, err := s.src.tree.Stat("proc/self"); err != nil {
		return
	}
	for _, dir := range []string{"proc", "sys", "dev"} {
		if !slices.Contains(s.o.Exclude, dir) {
			s.o.Exclude = append(slices.Clone(s.o.Exclude), dir)
			s.rep.LeftOut = append(s.rep.LeftOut, Gap{dir, "it is the running system's, and holds no files"})
		}
	}
}

func (s *scan) count(info fs.FileInfo) {
	s.rep.Files++
	s.rep.Bytes += info.Size()
	s.o.Progress(s.rep.Files, s.rep.Bytes)
}

func (s *scan) gap(path, reason string) {
	if s.rep.GapCount++; len(s.rep.Gaps) < s.o.Limits.Gaps {
		s.rep.Gaps = append(s.rep.Gaps, Gap{strings.ToValidUTF8(path, "\uFFFD"), reason})
	}
}

func (s *scan) raw(r Raw) {
	if s.rep.RawCount++; len(s.rep.Raw) < s.o.Limits.Raw {
		s.rep.Raw = append(s.rep.Raw, r)
	}
}

// level is a tree within the scan: what was asked for, or an archive in it.
type level struct {
	s      *scan
	ctx    context.Context //nolint:containedctx // it lives as long as one walk
	tree   tree
	prefix string // of an archive: its path and "!/"
	depth  int
	budget *image.Budget
}

func (l *level) gap(name, reason string) { l.s.gap(l.full(name), reason) }

func (l *level) link(string) { l.s.rep.Links++ }

func (l *level) skip(name string) bool { return l.prefix == "" && slices.Contains(l.s.o.Exclude, name) }

func (l *level) full(name string) string {
	if name == "." {
		if l.prefix == "" {
			return "."
		}
		return strings.TrimSuffix(l.prefix, "!/")
	}
	return l.prefix + name
}

// visit looks at a file.
func (l *level) visit(name string, info fs.FileInfo) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	if l.skip(name) {
		return nil
	}
	l.s.count(info)
	if info.Size() == 0 {
		return nil
	}
	if isArchive(name) {
		l.archive(name, info)
		return l.ctx.Err()
	}
	known := false
	for _, e := range l.s.extractors {
		if e.required(name, info) {
			known = true
			l.extract(e, name, name, info)
		}
	}
	if known {
		return l.ctx.Err()
	}
	if isSealed(name) {
		l.s.rep.Unopened++
		return nil
	}
	for _, d := range detectors {
		if d.wants(name) {
			l.detect(d, name, info)
		}
	}
	if !opaque(name) {
		l.content(name, info)
	}
	return l.ctx.Err()
}

// open opens a file with all that extractors ask of one. What goes wrong is a gap, and nil is given.
func (l *level) open(name string) *opened {
	f, err := l.tree.Open(name)
	if err != nil {
		l.gap(name, "it cannot be opened: "+image.Reason(err))
		return nil
	}
	r, ok := f.(seekable)
	if !ok {
		f.Close()
		l.gap(name, "it cannot be read from anywhere but its start")
		return nil
	}
	return &opened{r}
}

// opened is an open file of a tree.
type opened struct{ seekable }

type seekable interface {
	fs.File
	io.ReaderAt
	io.Seeker
}

// skipMark leaves out the mark with which some programs begin texts in UTF-8, and which readers of JSON do not take.
func (f *opened) skipMark(size int64) {
	var head [3]byte
	if n, _ := f.ReadAt(head[:], 0); n == len(head) && string(head[:]) == "\xef\xbb\xbf" {
		f.seekable = unmarked{io.NewSectionReader(f.seekable, 3, size-3), f.seekable}
	}
}

// unmarked is a file without its mark.
type unmarked struct {
	*io.SectionReader
	file fs.File
}

// Stat describes the file, with its mark.
func (u unmarked) Stat() (fs.FileInfo, error) { return u.file.Stat() }

// Close closes the file.
func (u unmarked) Close() error { return u.file.Close() }

// whole reads a file that is looked at as a whole; what is too large, or cannot be read, is a gap.
func (l *level) whole(name string, info fs.FileInfo) ([]byte, bool) {
	if info.Size() > l.s.o.Limits.File {
		l.gap(name, fmt.Sprintf("it is larger than %d bytes, and has to be read whole", l.s.o.Limits.File))
		return nil, false
	}
	f := l.open(name)
	if f == nil {
		return nil, false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, l.s.o.Limits.File+1))
	if err == nil && int64(len(data)) > l.s.o.Limits.File {
		err = errors.New("it grew while it was read")
	}
	if err != nil {
		l.gap(name, "it cannot be read: "+image.Reason(err))
		return nil, false
	}
	return data, true
}

func (l *level) detect(d detector, name string, info fs.FileInfo) {
	data, ok := l.whole(name, info)
	if !ok {
		return
	}
	for _, p := range d.find(&file{name: name, data: data, level: l}) {
		l.add(p, name)
	}
}

// add keeps a package. What describes an archive from within is found at the archive.
func (l *level) add(p pkg, name string) {
	l.s.rep.Packages++
	if l.prefix != "" && p.ecosystem == maven {
		name = "."
	}
	if _, ok := l.s.o.Products.ByPackage(p.ecosystem, p.name); !ok && !(l.s.o.All && looksLikeAWS(p)) {
		return
	}
	l.s.found[found{p, l.full(name)}] = true
}

// archive opens a zip and looks at what is in it. Its entries are decompressed one at a time, and the sum of them is bounded for
// each archive that does not lie in another.
func (l *level) archive(name string, info fs.FileInfo) {
	if l.depth >= l.s.o.Limits.Depth {
		l.gap(name, fmt.Sprintf("archives lie more than %d deep within one another", l.s.o.Limits.Depth))
		return
	}
	f := l.open(name)
	if f == nil {
		return
	}
	defer f.Close()
	l.s.rep.Archives++
	inner := &level{s: l.s, ctx: l.ctx, prefix: l.full(name) + "!/", depth: l.depth + 1, budget: l.budget}
	if l.depth == 0 {
		inner.budget = l.budget.Again()
	}
	x, err := image.Zip(f, info.Size(), inner.budget, inner.gap)
	if err != nil {
		l.gap(name, image.Reason(err))
	}
	if x == nil {
		return
	}
	inner.tree = archived{x}
	if err := inner.tree.files(l.ctx, inner); err != nil {
		return // the caller sees the context's error as well
	}
	for _, p := range javaByName(path.Base(name), inner.tree) {
		inner.add(p, ".")
	}
}
