// Package software finds the software that calls the metadata service where it lies: in a folder, in a container image, in an
// archive, in a bill of materials. It names each AWS SDK, command line and agent with its version and what internal/product says of
// it, and each line of a script or a program that calls the service itself without a token.
//
// It owns the reading: which files hold a package's name and version (osv-scalibr's extractors, and detectors of its own for what
// those do not see), how archives within archives are looked into, and the lint of raw calls (Lint). How layers of an image become a
// file system is internal/image's, and what a version is worth internal/product's to say.
//
// What is read was written by strangers. Nothing of it is ever run, and nothing is written under a name that it gives: the layers of
// an image are decompressed into files of a folder of the scan's own, and an index in memory says which file of the image lies where
// in them, so that a name such as ../../etc/passwd is a key of a map and no path. What could not be read is a gap of the report, with
// its path: a report with gaps shows what is there, and not what is missing. An interrupted scan leaves nothing behind.
package software

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	scalibrlog "github.com/google/osv-scalibr/log"

	"github.com/imdsctl/imdsctl/internal/image"
	"github.com/imdsctl/imdsctl/internal/product"
)

// Options say what a scan looks for, and how much it may use.
type Options struct {
	// Products is the table; nil is product.Default.
	Products *product.Table
	// All keeps packages that the table does not know and whose names say that they are of an AWS SDK.
	All bool
	// Exclude are paths that are left out with all below them, relative to what is scanned, with slashes.
	Exclude []string
	// Limits bound what a scan takes; zero fields have the values of DefaultLimits.
	Limits Limits
	// Temp is the folder in which the scan makes its own; empty is the system's.
	Temp string
	// Progress is told of every file that is looked at; nil is nobody.
	Progress func(files, bytes int64)
}

// Limits bound what a scan takes of the machine, against archives that are made to fill it.
type Limits struct {
	// Unpacked is how many bytes one scan decompresses to disk or memory, in all.
	Unpacked int64
	// Entries is how many entries an image or an archive may have.
	Entries int
	// Depth is how deep archives may lie within archives.
	Depth int
	// File is how large a file may be, in bytes, to be read whole: a script, a lock file, a bill of materials.
	File int64
	// Gaps and Raw are how many of each a report holds; more are only counted.
	Gaps, Raw int
}

// DefaultLimits are for a machine image of ordinary size.
func DefaultLimits() Limits {
	of := image.DefaultLimits()
	return Limits{Unpacked: of.Unpacked, Entries: of.Entries, Depth: 8, File: 64 << 20, Gaps: 1000, Raw: 10_000}
}

// Kind says what was scanned.
type Kind string

// Kinds.
const (
	KindFolder Kind = "folder"
	KindFile   Kind = "file"
	KindImage  Kind = "image" // docker save, or an OCI layout
	KindTar    Kind = "tar"   // the tar of a file system
	KindSBOM   Kind = "sbom"
)

// Report is what a scan found.
type Report struct {
	// Origin is what was scanned: a path, with the image's name or digest behind it.
	Origin string `json:"origin"`
	Kind   Kind   `json:"kind"`
	// Items are products of the table and, with Options.All, other AWS packages: those that need work first.
	Items []Item `json:"items"`
	// Raw are lines that call the service without a token, in the order of their paths.
	Raw []Raw `json:"raw_calls"`
	// Gaps are what could not be read; GapCount and RawCount count those above the limits as well.
	Gaps     []Gap `json:"gaps"`
	GapCount int   `json:"gap_count"`
	RawCount int   `json:"raw_count"`
	// LeftOut are folders that were not looked into, with why.
	LeftOut []Gap `json:"left_out,omitempty"`
	// Files and Bytes were looked at, archives and the files within them included; Unopened are archives of forms that are not opened.
	Files    int64 `json:"files"`
	Bytes    int64 `json:"bytes"`
	Archives int64 `json:"archives"`
	Links    int64 `json:"links"`
	Unopened int64 `json:"unopened"`
	Packages int64 `json:"packages"`
}

// Item is one version of one product, or package, with all its places.
type Item struct {
	Product product.ID      `json:"product,omitempty"`
	Name    string          `json:"name"`
	Class   product.Class   `json:"class,omitempty"`
	Version string          `json:"version,omitempty"`
	Verdict product.Verdict `json:"verdict"`
	Places  []Place         `json:"places"`
}

// Place is where something was found.
type Place struct {
	// Path is relative to what was scanned, with slashes; "!/" stands between an archive and what is in it.
	Path string `json:"path"`
	// Package is its name there, "pypi/botocore".
	Package string `json:"package,omitempty"`
	// Declared: a lock file or a bill of materials says so. The software itself was not seen.
	Declared bool `json:"declared,omitempty"`
}

// Raw is a line that calls the metadata service without a token.
type Raw struct {
	Path string `json:"path"`
	Line int    `json:"line"`
	// Rule is the lint's: see Lint.
	Rule Rule   `json:"rule"`
	Fix  string `json:"fix"`
}

// Gap is something that could not be read, or was left out.
type Gap struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// quiet takes the scanner library's own log away: it would write to standard error, and what fails there is a gap here.
var quiet = sync.OnceFunc(func() { scalibrlog.SetLogger(silence{}) })

// Scan looks at a folder, a file, an image or a bill of materials, whichever path is; an image file with several images gives a
// report each. Reports come with an error as well: they hold what was seen until then. The path itself must be readable; what cannot
// be read below it is a gap.
func Scan(ctx context.Context, path string, o Options) (reports []*Report, err error) {
	quiet()
	o = o.complete()
	temp, err := os.MkdirTemp(o.Temp, "imdsctl-software-") // mode 0700
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", path, err)
	}
	defer func() {
		if e := os.RemoveAll(temp); e != nil && err == nil {
			err = fmt.Errorf("scan %s: remove what was unpacked: %w", path, e)
		}
	}()
	b := image.NewBudget(image.Limits{Unpacked: o.Limits.Unpacked, Entries: o.Limits.Entries}, temp)
	sources, closeAll, err := open(ctx, path, b)
	defer closeAll()
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", path, err)
	}
	for _, src := range sources {
		s := newScan(src, o)
		err := s.run(ctx)
		reports = append(reports, s.report())
		if err != nil {
			return reports, fmt.Errorf("scan %s: %w", src.origin, err)
		}
	}
	return reports, nil
}

func (o Options) complete() Options {
	if o.Products == nil {
		o.Products = product.Default()
	}
	d := DefaultLimits()
	l := &o.Limits
	for _, f := range []struct{ at, or *int64 }{{&l.Unpacked, &d.Unpacked}, {&l.File, &d.File}} {
		if *f.at == 0 {
			*f.at = *f.or
		}
	}
	for _, f := range []struct{ at, or *int }{{&l.Entries, &d.Entries}, {&l.Depth, &d.Depth}, {&l.Gaps, &d.Gaps}, {&l.Raw, &d.Raw}} {
		if *f.at == 0 {
			*f.at = *f.or
		}
	}
	for i, e := range o.Exclude {
		o.Exclude = slices.Clone(o.Exclude)
		o.Exclude[i] = strings.Trim(filepath.ToSlash(filepath.Clean(e)), "/")
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	return o
}

// silence is a logger that says nothing.
type silence struct{}

func (silence) Errorf(string, ...any) {}
func (silence) Error(...any)          {}
func (silence) Warnf(string, ...any)  {}
func (silence) Warn(...any)           {}
func (silence) Infof(string, ...any)  {}
func (silence) Info(...any)           {}
func (silence) Debugf(string, ...any) {}
func (silence) Debug(...any)          {}

// tree is a file system to be scanned. Paths in it are relative and clean, with slashes; "." is its root. Opened files are
// io.ReaderAt. None of its methods writes.
type tree interface {
	fs.FS
	fs.ReadDirFS
	fs.StatFS
	// files calls visit for every regular file, folder by folder in the order of names, until it returns an error; what cannot be
	// listed goes to gap, and symbolic links are counted by link.
	files(ctx context.Context, w walker) error
}

// walker is told what a tree holds.
type walker interface {
	visit(path string, info fs.FileInfo) error
	gap(path, reason string)
	link(path string)
	// skip tells whether a folder is left out.
	skip(path string) bool
}
