package software

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	cpb "github.com/google/osv-scalibr/binary/proto/config_go_proto"
	scalibr "github.com/google/osv-scalibr/extractor"
	"github.com/google/osv-scalibr/extractor/filesystem"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/depsjson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/packagesconfig"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/packageslockjson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/golang/gobinary"
	"github.com/google/osv-scalibr/extractor/filesystem/language/golang/gomod"
	"github.com/google/osv-scalibr/extractor/filesystem/language/java/gradlelockfile"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/packagejson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/packagelockjson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/pnpmlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/yarnlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/php/composerlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/pipfilelock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/poetrylock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/uvlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/wheelegg"
	"github.com/google/osv-scalibr/extractor/filesystem/language/ruby/gemfilelock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/ruby/gemspec"
	"github.com/google/osv-scalibr/extractor/filesystem/language/rust/cargoauditable"
	"github.com/google/osv-scalibr/extractor/filesystem/language/rust/cargolock"
	"github.com/google/osv-scalibr/extractor/filesystem/os/apk"
	"github.com/google/osv-scalibr/extractor/filesystem/os/dpkg"
	"github.com/google/osv-scalibr/extractor/filesystem/os/rpm"
	"github.com/google/osv-scalibr/extractor/filesystem/os/snap"
	"github.com/google/osv-scalibr/extractor/filesystem/sbom/cdx"
	"github.com/google/osv-scalibr/extractor/filesystem/sbom/spdx"
	"github.com/google/osv-scalibr/purl"

	"github.com/imdsctl/imdsctl/internal/image"
)

// Ecosystems, as package URLs name them.
const (
	pypi     = "pypi"
	npm      = "npm"
	maven    = "maven"
	golang   = "golang"
	gem      = "gem"
	composer = "composer"
	nuget    = "nuget"
	cargo    = "cargo"
	generic  = "generic"
)

// extractor is one of the scanner library's, with what is known of it here.
type extractor struct {
	filesystem.Extractor
	// declares: it reads what somebody asked for, not what is installed.
	declares bool
	// must: what it cannot read is a gap, whatever it is about. Of the others only files that mention AWS are: a package's own tests
	// may hold broken files on purpose.
	must bool
}

// chosen are the extractors that look at a file by its name. Java archives have detectors of ours (see detect_java.go): the library's
// own reader of them brings a gRPC client for a service that identifies archives by their sum, and does not see relocated packages.
var chosen = []struct {
	make           func(*cpb.PluginConfig) (filesystem.Extractor, error)
	declares, must bool
}{
	{make: wheelegg.New}, {make: packagejson.New}, {make: gemspec.New},
	{make: depsjson.New}, {make: dpkg.New, must: true}, {make: rpm.New, must: true}, {make: apk.New, must: true}, {make: snap.New},
	{make: packagelockjson.New, declares: true}, {make: yarnlock.New, declares: true}, {make: pnpmlock.New, declares: true},
	{make: pipfilelock.New, declares: true}, {make: poetrylock.New, declares: true}, {make: uvlock.New, declares: true},
	{make: gemfilelock.New, declares: true}, {make: composerlock.New, declares: true}, {make: packagesconfig.New, declares: true},
	{make: packageslockjson.New, declares: true}, {make: gradlelockfile.New, declares: true}, {make: gomod.New, declares: true},
	{make: cargolock.New, declares: true}, {make: cdx.New, declares: true, must: true}, {make: spdx.New, declares: true, must: true},
}

// extractors are those by name. They keep nothing between files.
func extractors() []extractor {
	var out []extractor
	for _, c := range chosen {
		if e, err := c.make(&cpb.PluginConfig{}); err == nil { // what the tests rule out
			out = append(out, extractor{e, c.declares, c.must})
		}
	}
	return out
}

// inBinaries are the extractors of programs, which are told by their first bytes and not by their names or permissions.
func inBinaries() []extractor {
	var out []extractor
	for _, make := range []func(*cpb.PluginConfig) (filesystem.Extractor, error){gobinary.New, cargoauditable.New} {
		if e, err := make(&cpb.PluginConfig{}); err == nil {
			out = append(out, extractor{Extractor: e})
		}
	}
	return out
}

// required tells whether the extractor reads files of a name.
func (e extractor) required(name string, info fs.FileInfo) bool {
	return e.FileRequired(named{name, info})
}

// named is what an extractor asks of a file before it is opened.
type named struct {
	path string
	info fs.FileInfo
}

// Path is relative, with slashes.
func (n named) Path() string { return n.path }

// Stat describes the file.
func (n named) Stat() (fs.FileInfo, error) { return n.info, nil }

// extract reads a file with an extractor; as is the name that the extractor is told. A file that an extractor reads whole is bounded.
func (l *level) extract(e extractor, name, as string, info fs.FileInfo) {
	if info.Size() > 8*l.s.o.Limits.File {
		l.gap(name, fmt.Sprintf("it is larger than %d bytes, and has to be read whole", 8*l.s.o.Limits.File))
		return
	}
	f := l.open(name)
	if f == nil {
		return
	}
	defer f.Close()
	f.skipMark(info.Size())
	packages, err := l.guarded(e, f, as, info)
	if err != nil && l.ctx.Err() == nil && (e.must || l.mentions(f, name)) {
		l.gap(name, "the package record cannot be read: "+image.Reason(err))
	}
	for _, p := range packages {
		if found, ok := asPackage(p); ok {
			found.declared = e.declares
			l.add(found, name)
		}
	}
}

// guarded calls an extractor. A panic in it is an error of the file: one crafted file must not end a scan.
func (l *level) guarded(e extractor, f *opened, as string, info fs.FileInfo) (out []*scalibr.Package, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the reader of %s gave up: %v", e.Name(), p)
		}
	}()
	// Without a root the library takes the file system for one that is not on this machine: it copies a database into a temporary
	// folder before it opens it, and so never writes a journal beside it.
	got, err := e.Extract(l.ctx, &filesystem.ScanInput{FS: l.tree, Path: as, Info: info, Reader: f})
	if errors.Is(err, io.EOF) && len(got.Packages) > 0 {
		err = nil
	}
	return got.Packages, err
}

// mentions tells whether a file that could not be read may be about AWS, by its path and its first bytes.
func (l *level) mentions(f *opened, name string) bool {
	head := make([]byte, 64<<10)
	n, _ := f.ReadAt(head, 0)
	text := strings.ToLower(l.full(name) + "\n" + string(head[:n]))
	for _, word := range []string{"aws", "boto", "amazon"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// asPackage names a package of the library's as a package URL would. False: it is none, or of an ecosystem that has no name for it.
func asPackage(p *scalibr.Package) (pkg, bool) {
	out := pkg{ecosystem: p.PURLType, name: p.Name, version: p.Version}
	if u := p.PURL(); u != nil {
		out.ecosystem, out.name = u.Type, joined(u)
		if out.version == "" {
			out.version = u.Version
		}
	}
	if out.ecosystem == golang {
		out.version = strings.TrimPrefix(out.version, "v") // as a bill has it; Go's own record comes without
	}
	if out.ecosystem == "snap" {
		out.ecosystem = "deb" // Canonical's own agents have one name in both
	}
	return out, out.ecosystem != "" && out.name != ""
}

// joined is a package URL's name with its namespace, where that is part of the name.
func joined(u *purl.PackageURL) string {
	switch {
	case u.Namespace == "":
		return u.Name
	case u.Type == maven:
		return u.Namespace + ":" + u.Name
	case u.Type == npm, u.Type == golang, u.Type == composer:
		return path.Join(u.Namespace, u.Name, u.Subpath)
	}
	return u.Name
}
