package software_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/image/imagetest"
	"github.com/imdsctl/imdsctl/internal/product"
	"github.com/imdsctl/imdsctl/internal/software"
)

// A Python package as an installer records it: the shortest thing that is found.
const (
	record     = "Metadata-Version: 2.1\nName: botocore\nVersion: 1.13.24\n"
	recordPath = "site-packages/botocore-1.13.24.dist-info/METADATA"
	call       = "curl http://169.254.169.254/latest/meta-data/instance-id\n"
)

// write makes files below a folder.
func write(t testing.TB, dir string, files map[string]string) {
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

// scan scans a path, and checks that nothing is left behind.
func scan(t testing.TB, path string, o software.Options) *software.Report {
	t.Helper()
	o.Temp = t.TempDir()
	reports, err := software.Scan(t.Context(), path, o)
	if err != nil || len(reports) != 1 {
		t.Fatalf("scan %s: %d reports, %v", path, len(reports), err)
	}
	if left, err := os.ReadDir(o.Temp); err != nil || len(left) != 0 {
		t.Errorf("the scan left %v behind, %v", left, err)
	}
	return reports[0]
}

// found are the items as "product version path", and gaps and calls by path.
func found(r *software.Report) (items, gaps, calls []string) {
	for _, i := range r.Items {
		for _, p := range i.Places {
			items = append(items, fmt.Sprintf("%s %s %s", i.Product, i.Version, p.Path))
		}
	}
	for _, g := range r.Gaps {
		gaps = append(gaps, g.Path)
	}
	for _, c := range r.Raw {
		calls = append(calls, fmt.Sprintf("%s:%d", c.Path, c.Line))
	}
	slices.Sort(items)
	slices.Sort(gaps)
	return items, gaps, calls
}

func same(t *testing.T, what string, have []string, want ...string) {
	t.Helper()
	if !slices.Equal(have, want) {
		t.Errorf("%s: have\n  %s\nwant\n  %s", what, strings.Join(have, "\n  "), strings.Join(want, "\n  "))
	}
}

func zipOf(t testing.TB, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for i := 0; i+1 < len(files); i += 2 {
		f, err := w.Create(files[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// saved is what docker save writes of layers.
func saved(t testing.TB, layers ...[]byte) []byte {
	t.Helper()
	var names []string
	entries := []imagetest.Entry{imagetest.File("c.json", "{}")}
	for i, l := range layers {
		name := fmt.Sprintf("%d.tar", i)
		names, entries = append(names, `"`+name+`"`), append(entries, imagetest.File(name, string(l)))
	}
	manifest := `[{"Config":"c.json","RepoTags":["a:1"],"Layers":[` + strings.Join(names, ",") + `]}]`
	return imagetest.Tar(t, append(entries, imagetest.File("manifest.json", manifest))...)
}

func put(t testing.TB, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "given")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func writeOne(t testing.TB, name string, data []byte) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, map[string]string{name: string(data)})
	return filepath.Join(dir, name)
}

// TestLinks: what links lead to is looked at once, at its own place; what they lead to outside is a gap with its path, and so is a
// circle. Nothing outside is read.
func TestLinks(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	write(t, outside, map[string]string{recordPath: record, "boot.sh": call})
	write(t, dir, map[string]string{"real/" + recordPath: record, "usr/bin/tool": call})
	for name, to := range map[string]string{
		"again": "real", "up": "../" + filepath.Base(dir), "real/loop": ".", "absolute": "/usr/bin/tool", "gone": "nowhere",
		"circle/a": "b", "circle/b": "a", "far/site": outside, "far/boot.sh": filepath.Join(outside, "boot.sh"),
	} {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, at); err != nil {
			t.Fatal(err)
		}
	}
	r := scan(t, dir, software.Options{})
	items, gaps, calls := found(r)
	same(t, "items", items, "botocore 1.13.24 real/"+recordPath)
	same(t, "calls", calls, "usr/bin/tool:1")
	same(t, "gaps", gaps, "circle", "far")
	if r.Links != 9 {
		t.Errorf("%d links were counted", r.Links)
	}
}

// TestDamage: damaged files are gaps with their paths, and do not keep the scan from the rest.
func TestDamage(t *testing.T) {
	jar := zipOf(t, "META-INF/maven/com.amazonaws/aws-java-sdk-core/pom.properties",
		"groupId=com.amazonaws\nartifactId=aws-java-sdk-core\nversion=1.11.600\n")
	broken := bytes.Clone(jar)
	broken[bytes.Index(broken, []byte("pom.properties"))+20] ^= 0xff // of the compressed bytes
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"a/cut.jar": string(jar[:len(jar)/2]), "a/broken.jar": string(broken), "a/whole.jar": string(jar), "a/none.jar": "no zip at all",
		"b/node_modules/aws-sdk/package.json": `{"name": "aws-sdk", "version": `, "b/other/package.json": `{"name": `,
		"c/" + recordPath: record, "c/botocore-9.dist-info/METADATA": "Metadata-Version: 2.1\n", "var/lib/dpkg/status": "Package: \x00\nnothing\n\n",
		"bom.json": `{"bomFormat": "CycloneDX", `, "d/vendor/composer/installed.json": "[{",
	})
	items, gaps, _ := found(scan(t, dir, software.Options{}))
	same(t, "items", items, "aws-sdk-java-v1 1.11.600 a/whole.jar", "botocore 1.13.24 c/"+recordPath)
	want := []string{
		"a/broken.jar!/META-INF/maven/com.amazonaws/aws-java-sdk-core/pom.properties", "a/cut.jar", "a/none.jar",
		"b/node_modules/aws-sdk/package.json", "bom.json", "c/botocore-9.dist-info/METADATA", "d/vendor/composer/installed.json",
	}
	for _, w := range want {
		if !slices.Contains(gaps, w) {
			t.Errorf("%s is damaged, and no gap: %q", w, gaps)
		}
	}
	if slices.Contains(gaps, "b/other/package.json") {
		t.Error("a broken document that has nothing to do with AWS is a gap")
	}
}

// TestDamagedImage: what the other layers hold is still there.
func TestDamagedImage(t *testing.T) {
	below := imagetest.Tar(t, imagetest.File(recordPath, record))
	above := imagetest.Tar(t, imagetest.File("boot.sh", call), imagetest.File("later.sh", call))
	packed := imagetest.Gzip(t, above)
	for name, layer := range map[string][]byte{
		"cut tar": above[:512+512+300], "cut gzip": packed[:len(packed)-20], "no tar": []byte(strings.Repeat("no tar ", 200)),
	} {
		r := scan(t, put(t, saved(t, below, layer)), software.Options{})
		items, gaps, _ := found(r)
		same(t, name+": items", items, "botocore 1.13.24 "+recordPath)
		if !slices.Contains(gaps, "1.tar") {
			t.Errorf("%s: the gaps are %q", name, gaps)
		}
	}
	missing := bytes.ReplaceAll(saved(t, below), []byte("0.tar"), []byte("9.tar"))
	missing = bytes.Replace(missing, []byte("9.tar"), []byte("0.tar"), 1) // the entry's own name; its sum is right again
	if _, gaps, _ := found(scan(t, put(t, missing), software.Options{})); !slices.Contains(gaps, "9.tar") {
		t.Errorf("a layer is missing, and the gaps are %q", gaps)
	}
	if _, err := software.Scan(t.Context(), put(t, imagetest.Tar(t, imagetest.File("oci-layout", "{}"), imagetest.File("index.json", "{"))), software.Options{}); err == nil {
		t.Error("a layout without an index is scanned")
	}
}

// TestNames: names that lead out of an archive are keys of a map: nothing is written under them, and that they are there is said.
func TestNames(t *testing.T) {
	names := []string{"../../../../outside/" + recordPath, "/etc/absolute.sh", `..\..\windows.sh`, "a/../../../b.sh"}
	at := t.TempDir()
	inside := filepath.Join(at, "inside")
	write(t, inside, map[string]string{"x.zip": string(zipOf(t, names[0], record, names[1], call, names[2], call, names[3], call))})
	check := func(r *software.Report, prefix string) {
		t.Helper()
		items, gaps, calls := found(r)
		same(t, "items", items, "botocore 1.13.24 "+prefix+"outside/"+recordPath)
		same(t, "calls", calls, prefix+"b.sh:1", prefix+"etc/absolute.sh:1", prefix+"windows.sh:1")
		same(t, "gaps", gaps, prefix+names[0], prefix+names[2], prefix+names[3])
	}
	check(scan(t, inside, software.Options{}), "x.zip!/")
	check(scan(t, put(t, imagetest.Tar(t, imagetest.File(names[0], record), imagetest.File(names[1], call), imagetest.File(names[2], call), imagetest.File(names[3], call))), software.Options{}), "")
	var all []string
	err := filepath.WalkDir(at, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, name)
		}
		return err
	})
	if err != nil || len(all) != 1 {
		t.Errorf("there are %q, %v", all, err)
	}
}

// TestBombs: what would fill the disk or the memory ends at the limit, as a gap, and the rest is scanned.
func TestBombs(t *testing.T) {
	zeros := strings.Repeat("\x00", 8<<20)
	bomb := imagetest.Gzip(t, imagetest.Tar(t, imagetest.File("zeros", zeros)))
	r := scan(t, put(t, saved(t, imagetest.Tar(t, imagetest.File(recordPath, record)), bomb)), software.Options{Limits: software.Limits{Unpacked: 1 << 20}})
	items, gaps, _ := found(r)
	same(t, "items beside a bomb", items, "botocore 1.13.24 "+recordPath)
	same(t, "gaps", gaps, "1.tar")

	dir := t.TempDir()
	nested := zipOf(t, "boot.sh", call)
	for range 12 {
		nested = zipOf(t, "next.zip", string(nested))
	}
	write(t, dir, map[string]string{
		"a.jar": string(zipOf(t, "x.sh", "#!/bin/sh\n"+strings.Repeat("echo\n", 2<<20))), "b/" + recordPath: record,
		"c.zip": string(nested), "d.sh": "curl 169.254.169.254/latest\n" + strings.Repeat("#\n", 1<<20),
	})
	r = scan(t, dir, software.Options{Limits: software.Limits{Unpacked: 1 << 20, File: 1 << 20}})
	items, gaps, _ = found(r)
	same(t, "items beside bombs", items, "botocore 1.13.24 b/"+recordPath)
	same(t, "gaps", gaps, "a.jar!/x.sh", "c.zip!/"+strings.Repeat("next.zip!/", 7)+"next.zip", "d.sh")

	var names []string
	for i := range 600 {
		names = append(names, fmt.Sprintf("%d%s", i, strings.Repeat("n", 60_000)), "")
	}
	r = scan(t, filepath.Dir(writeOne(t, "names.jar", zipOf(t, names...))), software.Options{})
	if _, gaps, _ := found(r); !slices.Equal(gaps, []string{"names.jar"}) || !strings.Contains(r.Gaps[0].Reason, "directory is larger") {
		t.Errorf("the gaps of an archive that is all directory: %.300q", r.Gaps)
	}

	var many []imagetest.Entry
	for i := range 100 {
		many = append(many, imagetest.File(fmt.Sprintf("%d/%d", i, i), "x"))
	}
	r = scan(t, put(t, imagetest.Tar(t, many...)), software.Options{Limits: software.Limits{Entries: 50}})
	if _, gaps, _ := found(r); !slices.Equal(gaps, []string{"."}) || r.Files > 50 {
		t.Errorf("%d files, gaps %q", r.Files, gaps)
	}
}

// TestLayers: layers are laid over one another as a container sees them.
func TestLayers(t *testing.T) {
	sh := func(name string) imagetest.Entry { return imagetest.File(name, call) }
	hard := imagetest.Entry{Header: tar.Header{Name: "hard.sh", Linkname: "lower.sh", Typeflag: tar.TypeLink}, Data: ""}
	folder := imagetest.Entry{Header: tar.Header{Name: "lib", Mode: 0o755, Typeflag: tar.TypeDir}, Data: ""}
	cases := map[string]struct {
		layers [][]byte
		want   []string
	}{
		"above replaces below": {[][]byte{imagetest.Tar(t, sh("a.sh")), imagetest.Tar(t, imagetest.File("a.sh", "true\n"))}, nil},
		"a whiteout":           {[][]byte{imagetest.Tar(t, sh("d/a.sh"), sh("d/b.sh")), imagetest.Tar(t, imagetest.File("d/.wh.a.sh", ""))}, []string{"d/b.sh:1"}},
		"of a folder":          {[][]byte{imagetest.Tar(t, sh("d/e/a.sh"), sh("f.sh")), imagetest.Tar(t, imagetest.File(".wh.d", ""))}, []string{"f.sh:1"}},
		"and back again": {
			[][]byte{imagetest.Tar(t, sh("a.sh")), imagetest.Tar(t, imagetest.File(".wh.a.sh", "")), imagetest.Tar(t, sh("a.sh"))}, []string{"a.sh:1"},
		},
		"an opaque folder hides what is below, wherever it stands in the layer": {
			[][]byte{imagetest.Tar(t, sh("d/old.sh"), sh("d/e/old.sh")), imagetest.Tar(t, sh("d/new.sh"), sh("d/e/new.sh"), imagetest.File("d/.wh..wh..opq", ""))},
			[]string{"d/e/new.sh:1", "d/new.sh:1"},
		},
		"a whiteout hides nothing of its own layer": {[][]byte{imagetest.Tar(t, sh("a.sh"), imagetest.File(".wh.a.sh", ""))}, []string{"a.sh:1"}},
		"a file becomes a folder":                   {[][]byte{imagetest.Tar(t, sh("x")), imagetest.Tar(t, sh("x/a.sh"))}, []string{"x/a.sh:1"}},
		"a folder becomes a file":                   {[][]byte{imagetest.Tar(t, sh("x/a.sh")), imagetest.Tar(t, sh("x"))}, []string{"x:1"}},
		"a folder again keeps what is in it":        {[][]byte{imagetest.Tar(t, sh("lib/a.sh")), imagetest.Tar(t, folder)}, []string{"lib/a.sh:1"}},
		"a hard link":                               {[][]byte{imagetest.Tar(t, sh("lower.sh"), hard)}, []string{"hard.sh:1", "lower.sh:1"}},
		"behind a link":                             {[][]byte{imagetest.Tar(t, sh("usr/lib/a.sh"), imagetest.Link("lib", "usr/lib")), imagetest.Tar(t, sh("lib/b.sh"))}, []string{"usr/lib/a.sh:1", "usr/lib/b.sh:1"}},
		"links in a circle":                         {[][]byte{imagetest.Tar(t, imagetest.Link("a", "b"), imagetest.Link("b", "/a"), sh("c.sh"))}, []string{"c.sh:1"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, gaps, calls := found(scan(t, put(t, saved(t, c.layers...)), software.Options{}))
			same(t, "calls", calls, c.want...)
			same(t, "gaps", gaps)
		})
	}
}

func TestZstandard(t *testing.T) {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	layer := w.EncodeAll(imagetest.Tar(t, imagetest.File(recordPath, record)), nil)
	items, _, _ := found(scan(t, put(t, saved(t, layer)), software.Options{}))
	same(t, "items", items, "botocore 1.13.24 "+recordPath)
}

// TestDetectors: software that leaves no package manager's record.
func TestDetectors(t *testing.T) {
	elf := func(texts ...string) string {
		return "\x7fELF" + strings.Repeat("\x00", 6000) + strings.Join(texts, "\x00") + "\x00"
	}
	wide := "\xff\xfe" + strings.Join(strings.Split("$a = Invoke-RestMethod http://169.254.169.254/latest/meta-data/\n", ""), "\x00") + "\x00"
	bundle := strings.Repeat("var a=1;\n", 4000)
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"usr/local/aws-cli/v2/2.0.30/dist/aws":                elf("x"),
		"app/vendor/botocore/__init__.py":                     "import os\n__version__ = '1.12.2'\n",
		"opt/aws/amazon-cloudwatch-agent/bin/CWAGENT_VERSION": "1.247347.4\n",
		"usr/bin/amazon-ssm-agent":                            elf("github.com/aws/amazon-ssm-agent/agent/agent.go", "abc2.3.714.0def", "10.20.30.40"),
		"old/ssm/amazon-ssm-agent":                            elf("github.com/aws/amazon-ssm-agent/agent/agent.go", "2.3.714.0", "3.0.431.0"),
		"usr/bin/rusty":                                       elf("/root/.cargo/registry/src/index.crates.io-6f17d22bba15001f/rusoto_credential-0.48.0/src/lib.rs"),
		"usr/bin/gopath":                                      elf("github.com/aws/aws-sdk-go/aws/ec2metadata.New"),
		"app/bundle.js":                                       bundle + `AWS.EC2MetadataCredentials;var agent="aws-sdk-"+x;AWS.util.update(AWS,{VERSION:"2.500.0",Signers:{}})`,
		"app/other.js":                                        bundle + `lib={VERSION:"2.500.0"}`,
		"app/three.mjs":                                       bundle + `var p={name:"@aws-sdk/credential-provider-node",description:"x",version:"3.10.0"};`,
		"ruby/aws-sdk-v1-1.67.0/lib/aws/version.rb":           "module AWS\n  # Current version of the AWS SDK for Ruby\n  VERSION = \"1.67.0\"\nend\n",
		"php/src/Aws/Common/Aws.php":                          "<?php\nnamespace Aws\\Common;\nclass Aws {\n    const VERSION = '2.8.31';\n}\n",
		"win/boot.ps1":                                        wide,
		"data/blob":                                           "\x00" + call,
		"docs/README.md":                                      call,
		"lib/botocore/utils.py":                               "METADATA = 'http://169.254.169.254/latest/meta-data/'\n",
		"snap/amazon-ssm-agent/5656/meta/snap.yaml":           "name: amazon-ssm-agent\nversion: 3.0.1124.0\nsummary: a\ndescription: b\n",
		"var/lib/dpkg/status":                                 "Package: awscli\nStatus: install ok installed\nArchitecture: all\nVersion: 1.14.44-1ubuntu1\nMaintainer: a\nDescription: b\n\n",
		"lib/apk/db/installed":                                "P:aws-cli\nV:1.16.200-r0\nA:x86_64\nT:x\n\n",
		"web/package-lock.json":                               `{"name":"w","lockfileVersion":2,"packages":{"":{"name":"w"},"node_modules/aws-sdk":{"version":"2.100.0","integrity":"sha512-a"}}}`,
		"shade/by-name/aws-java-sdk-bundle-1.11.375.jar":      string(zipOf(t, "com/amazonaws/Request.class", "x")),
		"shade/by-name/auth-2.1.0.jar":                        string(zipOf(t, "org/example/Auth.class", "x")),
		"shade/class.jar":                                     string(zipOf(t, "x/software/amazon/awssdk/core/util/VersionInfo.class", class("2.5.0"))),
	})
	r := scan(t, dir, software.Options{})
	items, gaps, calls := found(r)
	same(t, "items", items,
		"amazon-cloudwatch-agent 1.247347.4 opt/aws/amazon-cloudwatch-agent/bin/CWAGENT_VERSION",
		"amazon-ssm-agent  old/ssm/amazon-ssm-agent",
		"amazon-ssm-agent 2.3.714.0 usr/bin/amazon-ssm-agent",
		"amazon-ssm-agent 3.0.1124.0 snap/amazon-ssm-agent/5656/meta/snap.yaml",
		"aws-cli 1.14.44-1ubuntu1 var/lib/dpkg/status",
		"aws-cli 1.16.200-r0 lib/apk/db/installed",
		"aws-cli 2.0.30 usr/local/aws-cli/v2/2.0.30/dist/aws",
		"aws-sdk-go-v1  usr/bin/gopath",
		"aws-sdk-java-v1 1.11.375 shade/by-name/aws-java-sdk-bundle-1.11.375.jar",
		"aws-sdk-java-v2 2.5.0 shade/class.jar",
		"aws-sdk-js-v2 2.100.0 web/package-lock.json",
		"aws-sdk-js-v2 2.500.0 app/bundle.js",
		"aws-sdk-js-v3 3.10.0 app/three.mjs",
		"aws-sdk-php 2.8.31 php/src/Aws/Common/Aws.php",
		"aws-sdk-ruby-v1 1.67.0 ruby/aws-sdk-v1-1.67.0/lib/aws/version.rb",
		"botocore 1.12.2 app/vendor/botocore/__init__.py",
		"rusoto 0.48.0 usr/bin/rusty",
	)
	same(t, "calls", calls, "win/boot.ps1:1")
	same(t, "gaps", gaps)
	for _, i := range r.Items {
		if declared := i.Version == "2.100.0"; i.Places[0].Declared != declared {
			t.Errorf("%s %s: declared is %v", i.Name, i.Version, !declared)
		}
	}
}

// class is the least class file with a text among its constants, behind one of each sort.
func class(text string) string {
	out := []byte{0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 52, 0, 6}
	out = append(out, 5, 0, 0, 0, 0, 0, 0, 0, 1) // a long, which takes two places
	out = append(out, 7, 0, 4)                   // a class
	out = append(out, 1)
	out = binary.BigEndian.AppendUint16(out, uint16(len(text)))
	out = append(out, text...)
	return string(append(out, 8, 0, 4))
}

// TestHelpers: calls of a helper are fine where the helper is there and asks for a token.
func TestHelpers(t *testing.T) {
	const caller = "#!/bin/sh\nec2-metadata -i\nec2metadata --ami-id\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"neither is there": {map[string]string{"boot.sh": caller}, []string{"boot.sh:2", "boot.sh:3"}},
		"one of them asks": {
			map[string]string{"boot.sh": caller, "usr/bin/ec2-metadata": "#!/bin/bash\n# X-aws-ec2-metadata-token\nURL=http://169.254.169.254/latest\n"},
			[]string{"boot.sh:3"},
		},
		"it is old": {
			map[string]string{"boot.sh": caller, "usr/bin/ec2-metadata": "#!/bin/bash\nMETA=$(curl http://169.254.169.254/latest/meta-data/)\n"},
			[]string{"boot.sh:2", "boot.sh:3", "usr/bin/ec2-metadata:2"},
		},
	} {
		dir := t.TempDir()
		write(t, dir, c.files)
		_, _, calls := found(scan(t, dir, software.Options{}))
		same(t, name, calls, c.want...)
	}
}

// TestOptions: what is left out, what is shown besides, and a table of one's own.
func TestOptions(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"a/" + recordPath: record, "b/" + recordPath: record, "b/c/boot.sh": call,
		"s3/s3transfer-0.2.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: s3transfer\nVersion: 0.2.0\n",
		"own/our-agent-1.0.dist-info/METADATA":   "Metadata-Version: 2.1\nName: our-agent\nVersion: 1.0\n",
	})
	table, err := product.Default().With([]byte(`products:
  - {id: our-agent, name: Our agent, class: agent, packages: [pypi/our-agent], lines: [{first: "2.0"}]}
`), "own.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var told int64
	r := scan(t, dir, software.Options{Exclude: []string{"b/"}, All: true, Products: table, Progress: func(files, _ int64) { told = files }})
	items, _, calls := found(r)
	same(t, "items", items, " 0.2.0 s3/s3transfer-0.2.0.dist-info/METADATA", "botocore 1.13.24 a/"+recordPath,
		"our-agent 1.0 own/our-agent-1.0.dist-info/METADATA")
	same(t, "calls", calls)
	if told != r.Files || r.Files != 3 {
		t.Errorf("%d files, told of %d", r.Files, told)
	}
	again := scan(t, dir, software.Options{Exclude: []string{"b/"}, All: true, Products: table})
	if !reflect.DeepEqual(r, again) {
		t.Errorf("the same folder gives another report:\n%+v\n%+v", r, again)
	}
	r = scan(t, dir, software.Options{Limits: software.Limits{Raw: 1, Gaps: 1}})
	if r.RawCount != 1 || len(r.Items) != 1 {
		t.Errorf("%+v", r)
	}
}

// TestFindings: a report's findings can be written to a findings file and read again.
func TestFindings(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a/" + recordPath: record, "b\xffad.sh": "\n" + call, "broken.jar": "x"})
	r := scan(t, dir, software.Options{})
	subject := evidence.Subject{Kind: "auto-scaling-group", ID: "web"}
	at := time.Date(2026, 3, 1, 2, 3, 4, 0, time.UTC)
	var out bytes.Buffer
	h := evidence.FileHeader{Source: evidence.SourceSoftware, Made: at, Origin: r.Origin, Subject: subject, Lost: r.Lost()}
	if err := evidence.WriteFindings(&out, h, r.Findings(subject, at)); err != nil {
		t.Fatal(err)
	}
	back, findings, err := evidence.ReadFindings(&out, "findings.jsonl")
	if err != nil || !strings.Contains(back.Lost, "broken.jar") {
		t.Fatalf("%+v, %v", back, err)
	}
	var have []string
	for f, err := range findings {
		if err != nil {
			t.Fatal(err)
		}
		have = append(have, fmt.Sprintf("%s %s %s %s %s", f.Subject, f.What, f.Product, f.Version, f.Detail))
	}
	same(t, "findings", have, "auto-scaling-group/web software botocore 1.13.24 a/"+recordPath, "auto-scaling-group/web raw-call   b\uFFFDad.sh:2")
}

// TestBills: a bill is told by what it says of itself, in each of its forms and wherever it says so; one of a version that is not read, or
// that names AWS and no package URL, is a gap.
func TestBills(t *testing.T) {
	xml := `<?xml version="1.0"?><bom xmlns="http://cyclonedx.org/schema/bom/1.4" version="1"><components><component type="library">` +
		`<name>boto3</name><version>1.9.2</version><purl>pkg:pypi/boto3@1.9.2</purl></component></components></bom>`
	tags := "SPDXVersion: SPDX-2.2\nDataLicense: CC0-1.0\nSPDXID: SPDXRef-DOCUMENT\nDocumentName: a\nDocumentNamespace: https://example.com/a\n" +
		"Creator: Tool: test\nCreated: 2026-01-02T03:04:05Z\n\nPackageName: boto3\nSPDXID: SPDXRef-1\nPackageVersion: 1.9.2\n" +
		"PackageDownloadLocation: NOASSERTION\nExternalRef: PACKAGE-MANAGER purl pkg:pypi/boto3@1.9.2\n"
	json := `{"bomFormat":"CycloneDX","specVersion":"1.5","components":[{"type":"library","name":"boto3","version":"1.9.2","purl":"pkg:pypi/boto3@1.9.2"}]}`
	spdx := `{` + strings.Repeat(" ", 3<<20) + `"packages":[{"SPDXID":"SPDXRef-1","name":"boto3","versionInfo":"1.9.2","downloadLocation":"NOASSERTION",` +
		`"externalRefs":[{"referenceCategory":"PACKAGE-MANAGER","referenceType":"purl","referenceLocator":"pkg:pypi/boto3@1.9.2"}]}],` +
		`"SPDXID":"SPDXRef-DOCUMENT","dataLicense":"CC0-1.0","name":"a","documentNamespace":"https://example.com/a",` +
		`"creationInfo":{"created":"2026-01-02T03:04:05Z","creators":["Tool: test"]},"spdxVersion" : "SPDX-2.3"}`
	for name, data := range map[string][]byte{
		"SPDX that says so at its end": []byte(spdx), "XML": []byte(xml), "tag-value": []byte(tags), "compressed JSON": imagetest.Gzip(t, []byte(json)), "JSON with a mark": []byte("\xef\xbb\xbf" + json),
	} {
		r := scan(t, put(t, data), software.Options{})
		items, gaps, _ := found(r)
		same(t, name, items, "boto3 1.9.2 given")
		if r.Kind != software.KindSBOM || len(gaps) != 0 || !r.Items[0].Places[0].Declared {
			t.Errorf("%s: %s, gaps %q, %+v", name, r.Kind, gaps, r.Items)
		}
	}
	for _, text := range []string{
		`{"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": []}`, `{"bomFormat":"CycloneDX","specVersion":"1.5","components":[`,
		`{"bomFormat":"CycloneDX","specVersion":"1.5","components":[{"type":"library","name":"boto3","version":"1.9.2"}]}`,
	} {
		if _, gaps, _ := found(scan(t, put(t, []byte(text)), software.Options{})); !slices.Equal(gaps, []string{"given"}) {
			t.Errorf("the gaps of %s are %q", text, gaps)
		}
	}
}

// TestInterrupted: a scan that is interrupted says so, and leaves nothing behind.
func TestInterrupted(t *testing.T) {
	dir, temp := t.TempDir(), t.TempDir()
	for i := range 50 {
		write(t, dir, map[string]string{fmt.Sprintf("%d/a.sh", i): call})
	}
	image := put(t, saved(t, imagetest.Gzip(t, imagetest.Tar(t, imagetest.File("a.sh", call), imagetest.File("b.sh", call)))))
	for _, path := range []string{dir, image} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := software.Scan(ctx, path, software.Options{Temp: temp, Progress: func(files, _ int64) { cancel() }})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", path, err)
		}
		if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
			t.Errorf("the scan left %v behind, %v", left, err)
		}
	}
}

// TestDenied: what may not be read is a gap with its path. Nothing is denied to root, who runs it as somebody else.
func TestDenied(t *testing.T) {
	switch os.Geteuid() {
	case -1:
		t.Skip("Windows has other permissions")
	case 0:
		asNobody(t)
		return
	}
	dir := t.TempDir()
	write(t, dir, map[string]string{"a/boot.sh": call, "b/boot.sh": call, "c/boot.sh": call})
	for name, mode := range map[string]fs.FileMode{"a/boot.sh": 0, "b": 0} {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.Chmod(at, mode); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(at, 0o700) })
	}
	_, gaps, calls := found(scan(t, dir, software.Options{}))
	same(t, "gaps", gaps, "a/boot.sh", "b")
	same(t, "calls", calls, "c/boot.sh:1")
}

// TestNotThere: a path that cannot be read is an error, not an empty report.
func TestNotThere(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "none"), os.DevNull} {
		if reports, err := software.Scan(t.Context(), path, software.Options{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %+v, %v", path, reports, err)
		}
	}
}

func FuzzScan(f *testing.F) {
	layer := imagetest.Tar(f, imagetest.File(recordPath, record), imagetest.File("d/.wh..wh..opq", ""), imagetest.Link("l", "../.."))
	f.Add("given", saved(f, layer))
	f.Add("given", saved(f, imagetest.Gzip(f, layer)))
	f.Add("given", layer)
	f.Add("x.jar", zipOf(f, "a/software/amazon/awssdk/core/util/VersionInfo.class", class("2.1.0"), "b.zip", string(zipOf(f, "c.sh", call))))
	f.Add("given", []byte(`{"bomFormat":"CycloneDX","specVersion":"1.5","components":[{"name":"botocore","version":"1","purl":"pkg:pypi/botocore@1"}]}`))
	f.Add("given", []byte(`{"spdxVersion":"SPDX-2.3","packages":[{"name":"a","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:pypi/boto@2"}]}]}`))
	f.Add("package.json", []byte(`{"name":"aws-sdk","version":"2.1.0"}`))
	f.Add("AWSSDK.Core.dll", []byte("MZ\x00F\x00i\x00l\x00e\x00V\x00e\x00r\x00s\x00i\x00o\x00n\x00\x00\x001\x00.\x002\x00\x00\x00"))
	f.Add("a.sh", []byte(call))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		name = filepath.Base(name)
		if !fs.ValidPath(name) || name == "." || len(name) > 100 || strings.ContainsAny(name, "\x00/\\") {
			name = "given"
		}
		dir, temp := t.TempDir(), t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Skip("no name that this system takes")
		}
		o := software.Options{Temp: temp, Limits: software.Limits{Unpacked: 4 << 20, Entries: 1000, File: 1 << 20}}
		for _, path := range []string{dir, filepath.Join(dir, name)} {
			reports, err := software.Scan(t.Context(), path, o)
			if err != nil && path == dir {
				t.Fatalf("a folder with one strange file: %v", err)
			}
			for _, r := range reports {
				h := evidence.FileHeader{Source: evidence.SourceSoftware, Origin: "x", Subject: evidence.Subject{Kind: "fleet", ID: "*"}, Lost: r.Lost()}
				if err := evidence.WriteFindings(io.Discard, h, r.Findings(h.Subject, time.Unix(1e9, 0))); err != nil {
					t.Fatal(err)
				}
			}
			if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
				t.Fatalf("the scan left %v behind, %v", left, err)
			}
		}
	})
}
