package software

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// scanned is one thing to be scanned: the file system, what to call it, and what was missed when it was opened.
type scanned struct {
	origin string
	kind   Kind
	tree   tree
	budget *budget
	gaps   []Gap
	// sbom is the name that the one file of the tree goes by to the extractors of bills of materials; empty where it is none.
	sbom string
}

// open finds out, by content, what a path is, and gives what is to be scanned in it. The function closes what it opened, and is never
// nil.
func open(ctx context.Context, name string, info fs.FileInfo, b *budget) (out []*scanned, closeAll func(), err error) {
	var closers []func()
	closeAll = func() {
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
	}
	if info.IsDir() {
		f, err := openFolder(name)
		if err != nil {
			return nil, closeAll, err
		}
		closers = append(closers, func() { f.root.Close() })
		if _, err := f.Stat("oci-layout"); err == nil {
			im := &image{tree: f, origin: name, budget: b, closers: &closers}
			out, err := im.layout(ctx)
			return out, closeAll, err
		}
		return []*scanned{{origin: name, kind: KindFolder, tree: f, budget: b}}, closeAll, nil
	}
	if !info.Mode().IsRegular() {
		return nil, closeAll, errors.New("it is neither a file nor a folder")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, closeAll, err
	}
	closers = append(closers, func() { f.Close() })
	out, err = openOne(ctx, name, f, info, b, &closers)
	return out, closeAll, err
}

// openOne finds out what a file is.
func openOne(ctx context.Context, name string, f *os.File, info fs.FileInfo, b *budget, closers *[]func()) ([]*scanned, error) {
	plain, size, done, err := flat(f, info.Size(), b)
	if err != nil {
		return nil, err
	}
	*closers = append(*closers, done)
	head := make([]byte, 64<<10)
	n, err := plain.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	head = head[:n]
	if isTar(head) {
		return openTar(ctx, name, plain, size, b, closers)
	}
	x := newIndex(b.limits.Entries)
	one := &node{mode: info.Mode(), size: size, modified: info.ModTime(), content: section{plain, 0, size}}
	base := filepath.Base(name)
	if err := x.put(base, one); err != nil {
		return nil, err
	}
	s := &scanned{origin: name, kind: KindFile, tree: x, budget: b, sbom: sbomName(head)}
	if s.sbom != "" {
		s.kind = KindSBOM
	}
	return []*scanned{s}, nil
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

// sbomName recognises a bill of materials by how it begins, and gives the name by which the scanner library knows its format; "" for
// what is none.
func sbomName(head []byte) string {
	text := bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n")
	switch {
	case bytes.HasPrefix(text, []byte("{")):
		switch {
		case bytes.Contains(text, []byte(`"bomFormat"`)) && bytes.Contains(text, []byte(`"CycloneDX"`)):
			return "bom.json"
		case bytes.Contains(text, []byte(`"spdxVersion"`)), bytes.Contains(text, []byte(`https://spdx.org/rdf/3.`)):
			return "bom.spdx.json"
		}
	case bytes.HasPrefix(text, []byte("<")) && bytes.Contains(text, []byte("http://cyclonedx.org/schema/bom")):
		return "bom.xml"
	case bytes.HasPrefix(text, []byte("SPDXVersion:")):
		return "bom.spdx"
	}
	return ""
}

// openTar opens an image, or the tar of a file system.
func openTar(ctx context.Context, name string, r io.ReaderAt, size int64, b *budget, closers *[]func()) ([]*scanned, error) {
	x := newIndex(b.limits.Entries)
	s := &scanned{origin: name, kind: KindTar, tree: x, budget: b}
	gap := func(p, why string) { s.gaps = append(s.gaps, Gap{p, why}) }
	if err := x.addTar(ctx, r, size, 0, gap); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		gap(".", reason(err))
	}
	im := &image{tree: x, origin: name, budget: b, closers: closers, gaps: s.gaps}
	if x.at("manifest.json") != nil {
		if out, err := im.saved(ctx); err != nil || out != nil {
			return out, err
		}
	}
	if x.at("oci-layout") != nil {
		return im.layout(ctx)
	}
	return []*scanned{s}, nil
}

// image reads container images out of a tree that holds them.
type image struct {
	tree    tree
	origin  string
	budget  *budget
	closers *[]func()
	gaps    []Gap
}

// maxDocument bounds the documents that describe an image, in bytes.
const maxDocument = 16 << 20

func (im *image) document(name string, into any) error {
	f, err := im.tree.Open(name)
	if err != nil {
		return fmt.Errorf("%s: %s", name, reason(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > maxDocument {
		return fmt.Errorf("%s: it is larger than %d bytes", name, maxDocument)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// saved reads what `docker save` wrote; nil where manifest.json is not Docker's.
func (im *image) saved(ctx context.Context) ([]*scanned, error) {
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := im.document("manifest.json", &manifest); err != nil || len(manifest) == 0 || manifest[0].Config == "" {
		return nil, nil //nolint:nilerr // a file system may have a manifest.json of its own
	}
	var out []*scanned
	for _, m := range manifest {
		name := strings.Join(m.RepoTags, ", ")
		if name == "" {
			name = digestOf(m.Config)
		}
		s, err := im.merge(ctx, im.origin+" ("+name+")", m.Layers)
		if err != nil {
			return out, err
		}
		out = append(out, s)
	}
	return out, nil
}

// digestOf makes a digest of the name of a configuration in docker save's forms, "<hex>.json" and "blobs/sha256/<hex>".
func digestOf(config string) string {
	return "sha256:" + strings.TrimSuffix(path.Base(config), ".json")
}

// descriptor points to a blob. https://github.com/opencontainers/image-spec/blob/main/descriptor.md
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Annotations map[string]string `json:"annotations"`
	Platform    struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
	} `json:"platform"`
}

// blob is the path of a digest in a layout; "" for what is none.
func (d descriptor) blob() string {
	algorithm, sum, ok := strings.Cut(d.Digest, ":")
	if !ok || algorithm == "" || sum == "" || strings.ContainsAny(d.Digest, `/\.`) {
		return ""
	}
	return "blobs/" + algorithm + "/" + sum
}

// manifestOrIndex is a manifest of an image or an index of manifests: whichever fields it has.
type manifestOrIndex struct {
	Manifests []descriptor `json:"manifests"`
	Layers    []descriptor `json:"layers"`
}

// layout reads an OCI layout: every image of its index, whatever platform it is for.
func (im *image) layout(ctx context.Context) ([]*scanned, error) {
	var top manifestOrIndex
	if err := im.document("index.json", &top); err != nil {
		return nil, fmt.Errorf("the OCI layout has no index that can be read: %w", err)
	}
	var out []*scanned
	err := im.manifests(ctx, top.Manifests, "", 0, &out)
	if err == nil && len(out) == 0 {
		err = errors.New("the OCI layout holds no image")
	}
	if len(out) > 0 {
		out[0].gaps = append(im.gaps, out[0].gaps...)
	}
	return out, err
}

func (im *image) manifests(ctx context.Context, of []descriptor, name string, depth int, out *[]*scanned) error {
	if depth > 4 || len(*out) > 1000 {
		return errors.New("the OCI layout's indexes lie too deep within one another")
	}
	for _, d := range of {
		if d.Annotations["vnd.docker.reference.type"] != "" {
			continue // an attestation about another image
		}
		called := name
		for _, key := range []string{"org.opencontainers.image.ref.name", "io.containerd.image.name"} {
			if v := d.Annotations[key]; v != "" {
				called = v
			}
		}
		var m manifestOrIndex
		if err := im.document(d.blob(), &m); err != nil {
			im.gaps = append(im.gaps, Gap{d.Digest, "the manifest cannot be read: " + err.Error()})
			continue
		}
		if len(m.Manifests) > 0 {
			if err := im.manifests(ctx, m.Manifests, called, depth+1, out); err != nil {
				return err
			}
			continue
		}
		origin := im.origin + " (" + strings.TrimSpace(called+" "+d.Digest)
		if p := d.Platform; p.Architecture != "" {
			origin += " " + p.OS + "/" + p.Architecture
		}
		var layers []string
		for _, l := range m.Layers {
			layers = append(layers, l.blob())
		}
		s, err := im.merge(ctx, origin+")", layers)
		if err != nil {
			return err
		}
		*out = append(*out, s)
	}
	return nil
}

// merge makes one file system of layers, the lowest first. A layer that cannot be read, or not to its end, is a gap.
func (im *image) merge(ctx context.Context, origin string, layers []string) (*scanned, error) {
	x := newIndex(im.budget.limits.Entries)
	s := &scanned{origin: origin, kind: KindImage, tree: x, budget: im.budget}
	for i, name := range layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := im.layer(ctx, x, s, i, name); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			s.gaps = append(s.gaps, Gap{name, "the layer cannot be read to its end: " + reason(err)})
		}
	}
	return s, nil
}

func (im *image) layer(ctx context.Context, x *index, s *scanned, number int, name string) error {
	if !fs.ValidPath(name) {
		return errors.New("it has no name")
	}
	f, err := im.tree.Open(name)
	if err != nil {
		return err
	}
	*im.closers = append(*im.closers, func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		return err
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		return errors.New("it cannot be read from anywhere but its start")
	}
	plain, size, done, err := flat(at, info.Size(), im.budget)
	if err != nil {
		return err
	}
	*im.closers = append(*im.closers, done)
	return x.addTar(ctx, plain, size, number, func(p, why string) { s.gaps = append(s.gaps, Gap{p, why}) })
}
