// Package software_test looks with the real scanner for real SDKs: those that `make test` fetches from PyPI, npm, Maven Central and
// Go's proxy, pinned, old and new, the last version that knows only v1 and the first that speaks v2.
//
// RubyGems, NuGet and Packagist publish theirs too; of those the tests have what their package managers write on a host (testdata),
// so that they need no more than the four registries. The tests fail where nothing was fetched, unless -short leaves them out.
package software_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/imdsctl/imdsctl/test/python"
)

// tree is files by their path: what a host, or a layer of an image, holds.
type tree map[string][]byte

// fetched is the folder of what was fetched.
func fetched(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("left out by -short: it needs the SDKs that `make test` fetches")
	}
	root, err := python.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, ".cache", "software")
	if _, err := os.Stat(filepath.Join(dir, "fetched")); err != nil {
		t.Fatalf("the SDKs are not in %s: run `make test`, which fetches them, or leave these tests out with -short", dir)
	}
	return dir
}

func read(t *testing.T, elements ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// folder puts the files of a folder of this machine under a path.
func (tr tree) folder(t *testing.T, under string, keep func(name string) bool, elements ...string) {
	t.Helper()
	root := filepath.Join(elements...)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if rel = filepath.ToSlash(rel); err == nil && keep(rel) {
			tr[path.Join(under, rel)], err = os.ReadFile(name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// npm unpacks a package as npm does: the folder that all its entries share is left out.
func (tr tree) npm(t *testing.T, under string, keep func(name string) bool, tgz []byte) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(tgz))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		_, rel, _ := strings.Cut(h.Name, "/")
		if h.Typeflag != tar.TypeReg || !keep(rel) {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		tr[path.Join(under, rel)] = data
	}
}

// leaving keeps all but what is under some paths: descriptions of APIs, which are most of an SDK's bytes.
func leaving(under ...string) func(string) bool {
	return func(name string) bool {
		return !slices.ContainsFunc(under, func(u string) bool { return strings.HasPrefix(name, u) })
	}
}

// zipOf makes an archive of files, uncompressed where raw: as Spring Boot stores the archives within its own.
func zipOf(t *testing.T, files tree, raw bool) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		method := zip.Deflate
		if raw {
			method = zip.Store
		}
		f, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// shaded makes the archive that a shading plug-in makes: the classes moved into another package, Maven's records left out.
func shaded(t *testing.T, jar []byte, from string) []byte {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(jar), int64(len(jar)))
	if err != nil {
		t.Fatal(err)
	}
	out := tree{"META-INF/MANIFEST.MF": []byte("Manifest-Version: 1.0\r\nMain-Class: org.example.Main\r\n")}
	for _, f := range r.File {
		if !strings.HasPrefix(f.Name, from) || strings.HasSuffix(f.Name, "/") {
			continue
		}
		c, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		out["org/example/shaded/"+f.Name] = data
	}
	return zipOf(t, out, false)
}

// dll is the least of a library of .NET that says its version: the mark of a Windows program, and the strings of a version resource.
func dll(version string) []byte {
	out := append([]byte("MZ"), make([]byte, 510)...)
	text := func(s string) {
		for _, u := range utf16.Encode([]rune(s)) {
			out = binary.LittleEndian.AppendUint16(out, u)
		}
		out = append(out, 0, 0)
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
	}
	text("CompanyName")
	text("Amazon.com, Inc")
	out = append(out, 0x34, 0, 0x0c, 0, 1, 0, 0, 0)[:len(out)+6] // sizes and type, which leave the key at an odd word
	text("FileVersion")
	text(version)
	text("InternalName")
	text("AWSSDK.Core.dll")
	return append(out, make([]byte, 512)...)
}

// host is a host with all SDKs of one age.
func host(t *testing.T, age string) tree {
	t.Helper()
	dir, old := fetched(t), age == "old"
	pick := func(before, after string) string {
		if old {
			return before
		}
		return after
	}
	tr := tree{}
	tr.folder(t, "usr/lib/python3/site-packages", leaving("botocore/data", "awscli/examples", "awscli/topics", "boto3/data"), dir, "python", age)

	file := func(name string) []byte { return read(t, dir, "files", name) }
	sdk := file("aws-sdk-" + pick("2.721.0", "2.722.0") + ".tgz")
	tr.npm(t, "srv/web/node_modules/aws-sdk", leaving("apis/", "clients/", "dist/"), sdk)
	browser := tree{}
	browser.npm(t, "", func(name string) bool { return name == "dist/aws-sdk.js" }, sdk)
	_, bundle, _ := bytes.Cut(browser["dist/aws-sdk.js"], []byte("\n")) // without the banner, as a minifier leaves it
	tr["srv/lambda/index.js"] = bundle
	tr.npm(t, "srv/web/node_modules/@aws-sdk/credential-provider-imds", leaving(), file("aws-sdk-credential-provider-imds-"+pick("1.0.0-rc.10",
		"3.0.0")+".tgz"))
	if !old {
		tr.npm(t, "srv/web/node_modules/@smithy/credential-provider-imds", leaving(), file("smithy-credential-provider-imds-2.0.1.tgz"))
	}

	one := file("aws-java-sdk-core-" + pick("1.11.677", "1.11.678") + ".jar")
	two := file("sdk-core-" + pick("2.10.20", "2.10.21") + ".jar")
	tr["opt/java/aws-java-sdk-core.jar"], tr["opt/java/sdk-core.jar"] = one, two
	tr["opt/boot/app.jar"] = zipOf(t, tree{"BOOT-INF/lib/aws-java-sdk-core.jar": one, "BOOT-INF/lib/sdk-core.jar": two}, true)
	tr["opt/shade/one.jar"], tr["opt/shade/two.jar"] = shaded(t, one, "com/amazonaws/"), shaded(t, two, "software/amazon/awssdk/")
	tr["opt/ear/all.ear"] = zipOf(t, tree{"web.war": zipOf(t, tree{"WEB-INF/lib/one.jar": tr["opt/shade/one.jar"]}, false)}, false)

	tr["usr/local/bin/one"], tr["usr/local/bin/two"] = read(t, dir, "bin", "v1-"+age), read(t, dir, "bin", "v2-"+age)

	ruby := pick("3.78.0", "3.79.0")
	tr["usr/lib/ruby/gems/2.7.0/specifications/aws-sdk-core-"+ruby+".gemspec"] = read(t, "testdata", "ruby", "aws-sdk-core-"+ruby+".gemspec")
	tr["srv/ruby/vendor/aws-sdk-core-"+ruby+"/lib/aws-sdk-core.rb"] = read(t, "testdata", "ruby", "aws-sdk-core.rb")
	tr["srv/ruby/vendor/aws-sdk-core-"+ruby+"/VERSION"] = []byte(ruby + "\n")

	tr["srv/php/vendor/composer/installed.json"] = read(t, "testdata", "php", pick("installed-1.json", "installed-2.json"))
	tr["srv/phpcopy/aws/src/Sdk.php"] = bytes.ReplaceAll(read(t, "testdata", "php", "Sdk.php"), []byte("@VERSION@"), []byte(pick("3.147.6", "3.147.7")))

	net := pick("3.3.103.65", "3.3.103.66")
	tr["srv/net/app.deps.json"] = read(t, "testdata", "dotnet", "app-"+net+".deps.json")
	tr["root/.nuget/packages/awssdk.core/"+net+"/awssdk.core.nuspec"] = read(t, "testdata", "dotnet", "awssdk.core-"+net+".nuspec")
	tr["srv/framework/AWSSDK.Core.dll"] = dll(net)
	return tr
}

// write makes the folder of a tree. Programs are no more executable than other files: they are told by what is in them.
func (tr tree) write(t *testing.T, dir string) {
	t.Helper()
	for name, data := range tr {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// layer is the tar of a tree, with the marks of what it deletes.
func (tr tree) layer(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(tr)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(tr[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(tr[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
