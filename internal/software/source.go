package software

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"

	"github.com/imdsctl/imdsctl/internal/image"
)

// scanned is one thing to be scanned: the file system, what to call it, and what was missed when it was opened.
type scanned struct {
	origin string
	kind   Kind
	tree   tree
	budget *image.Budget
	gaps   []image.Gap
	// sbom is the name that the one file of the tree goes by to the extractors of bills of materials; empty where it is none.
	sbom string
}

// open finds out, by content, what a path is, and gives what is to be scanned in it. The function closes what it opened, and is never
// nil.
func open(ctx context.Context, name string, b *image.Budget) (out []*scanned, closeAll func(), err error) {
	a, err := image.Open(ctx, name, image.Options{Budget: b, Backslashes: true})
	if errors.Is(err, image.ErrNoLayout) {
		f, err := openFolder(name)
		if err != nil {
			return nil, func() {}, err
		}
		return []*scanned{{origin: name, kind: KindFolder, tree: f, budget: b}}, func() { f.root.Close() }, nil
	}
	if err != nil {
		return nil, func() {}, err
	}
	for _, im := range a.Images {
		x, gaps, err := im.Tree(ctx)
		if err != nil {
			return nil, a.Close, err
		}
		s := &scanned{origin: name, kind: KindImage, tree: archived{x}, budget: b, gaps: gaps}
		if title := im.Title(); title != "" {
			s.origin += " (" + title + ")"
		}
		out = append(out, s)
	}
	if len(out) > 0 {
		out[0].gaps = append(a.Gaps, out[0].gaps...)
	}
	switch a.Form {
	case image.FormTar:
		out[0].kind = KindTar
	case image.FormFile:
		out[0].kind = KindFile
		if out[0].sbom, err = sbomName(out[0].tree, filepath.Base(name)); err == nil && out[0].sbom != "" {
			out[0].kind = KindSBOM
		}
	}
	return out, a.Close, err
}

// sbomName recognises a bill of materials by how it begins, one in JSON by what it says of itself, and gives the name by which the
// scanner library knows its format; "" for what is none.
func sbomName(t tree, name string) (string, error) {
	f, err := t.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return "", err
	}
	text := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	switch {
	case bytes.HasPrefix(text, []byte("{")):
		return jsonBill(io.MultiReader(bytes.NewReader(text), io.LimitReader(f, largestBill)))
	case bytes.HasPrefix(text, []byte("<")) && bytes.Contains(text, []byte("http://cyclonedx.org/schema/bom")):
		return "bom.xml", nil
	case bytes.HasPrefix(text, []byte("SPDXVersion:")):
		return "bom.spdx", nil
	}
	return "", nil
}

// largestBill bounds how far a document in JSON is searched for what says that it is a bill of materials, in bytes. Larger bills are not
// read whole either.
const largestBill = 512 << 20

// What makes a document in JSON a bill. Writers that sort the members, or begin with the files, have it behind all packages.
var (
	cycloneMark = regexp.MustCompile(`"bomFormat"\s*:\s*"CycloneDX"`)
	spdxMark    = regexp.MustCompile(`"spdxVersion"\s*:\s*"SPDX-|https://spdx\.org/rdf/3\.`)
)

// jsonBill searches a document in JSON, part by part.
func jsonBill(r io.Reader) (string, error) {
	buf, kept := make([]byte, chunk), 0
	for {
		n, err := io.ReadFull(r, buf[kept:])
		switch part := buf[:kept+n]; {
		case cycloneMark.Match(part):
			return "bom.json", nil
		case spdxMark.Match(part):
			return "bom.spdx.json", nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return "", nil
		case err != nil:
			return "", err
		default:
			kept = copy(buf, part[len(part)-overlap:])
		}
	}
}

// archived is what lies in an image or an archive.
type archived struct{ *image.Index }

// files walks the index, folder by folder, by name.
func (a archived) files(ctx context.Context, w walker) error {
	return fs.WalkDir(a.Index, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if name != "." && w.skip(name) {
				return fs.SkipDir
			}
			return ctx.Err()
		case d.Type()&fs.ModeSymlink != 0:
			w.link(name)
		case d.Type().IsRegular():
			info, err := d.Info()
			if err != nil {
				return err
			}
			return w.visit(name, info)
		}
		return nil
	})
}
