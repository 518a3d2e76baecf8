// Package imagetest makes container images for tests: tars of entries with any names and types, and the forms of docker save and of an
// OCI layout around them. It is imported by tests alone, and writes nothing but what a test asks for.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// Entry is an entry of a tar. What a header says of the size is put right.
type Entry struct {
	tar.Header
	Data string
}

// File is a file that its owner may write and all may read.
func File(name, data string) Entry { return Entry{tar.Header{Name: name, Mode: 0o644}, data} }

// Program is a file that all may execute.
func Program(name, data string) Entry { return Entry{tar.Header{Name: name, Mode: 0o755}, data} }

// Folder is a folder with a mode.
func Folder(name string, mode int64) Entry {
	return Entry{tar.Header{Name: name, Mode: mode, Typeflag: tar.TypeDir}, ""}
}

// Link is a symbolic link.
func Link(name, to string) Entry {
	return Entry{tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink, Mode: 0o777}, ""}
}

// Hard is another name of a file.
func Hard(name, of string) Entry {
	return Entry{tar.Header{Name: name, Linkname: of, Typeflag: tar.TypeLink, Mode: 0o644}, ""}
}

// Tar is a tar of entries.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		e.Size = int64(len(e.Data))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("write the header of %q: %v", e.Name, err)
		}
		if _, err := io.WriteString(w, e.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Gzip compresses.
func Gzip(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Image is an image that is to be made. Its layers are tars, compressed or not; Config is its configuration, as JSON; empty is "{}".
type Image struct {
	Tags     []string
	Config   string
	Layers   [][]byte
	Platform map[string]string // as an OCI index says it; docker save says none
}

func (im Image) config() string {
	if im.Config == "" {
		return "{}"
	}
	return im.Config
}

// Saved is what `docker save` writes of images, in the form with digests as names.
func Saved(t testing.TB, images ...Image) []byte {
	t.Helper()
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifest []entry
	var entries []Entry
	for _, im := range images {
		config := sum(im.config())
		e := entry{Config: config + ".json", RepoTags: im.Tags}
		entries = append(entries, File(e.Config, im.config()))
		for _, l := range im.Layers {
			name := sum(string(l)) + "/layer.tar"
			e.Layers = append(e.Layers, name)
			entries = append(entries, File(name, string(l)))
		}
		manifest = append(manifest, e)
	}
	return Tar(t, append(entries, File("manifest.json", text(t, manifest)))...)
}

// Layout are the files of an OCI layout of images, by path.
func Layout(t testing.TB, images ...Image) map[string]string {
	t.Helper()
	files := map[string]string{"oci-layout": `{"imageLayoutVersion": "1.0.0"}`}
	blob := func(kind, data string) map[string]any {
		files["blobs/sha256/"+sum(data)] = data
		return map[string]any{"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + sum(data), "size": len(data)}
	}
	var manifests []map[string]any
	for _, im := range images {
		var layers []map[string]any
		for _, l := range im.Layers {
			layers = append(layers, blob("layer.v1.tar", string(l)))
		}
		m := blob("manifest.v1+json", text(t, map[string]any{"schemaVersion": 2, "config": blob("config.v1+json", im.config()), "layers": layers}))
		if im.Platform != nil {
			m["platform"] = im.Platform
		}
		if len(im.Tags) > 0 {
			m["annotations"] = map[string]string{"org.opencontainers.image.ref.name": im.Tags[0]}
		}
		manifests = append(manifests, m)
	}
	files["index.json"] = text(t, map[string]any{"schemaVersion": 2, "manifests": manifests})
	return files
}

// Write makes files below a folder.
func Write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func sum(data string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(data))) }

func text(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
