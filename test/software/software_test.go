package software_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/product"
	"github.com/imdsctl/imdsctl/internal/software"
)

// sdk is a version of a product, with how it is to be judged and where it is on a host of its age.
type sdk struct {
	id        product.ID
	version   string
	judgement product.Judgement
	first     string
	purl      string
	places    []string
}

// sdks are those of a host: see host.
func sdks(age string) []sdk {
	const site = "usr/lib/python3/site-packages/"
	java := func(jar, shade string) []string {
		return []string{"opt/java/" + jar, "opt/boot/app.jar!/BOOT-INF/lib/" + jar, "opt/shade/" + shade}
	}
	one := append(java("aws-java-sdk-core.jar", "one.jar"), "opt/ear/all.ear!/web.war!/WEB-INF/lib/one.jar")
	js := []string{"srv/web/node_modules/aws-sdk/package.json", "srv/lambda/index.js"}
	if age == "old" {
		return []sdk{
			{"botocore", "1.13.24", product.Old, "1.13.25", "pypi/botocore", []string{site + "botocore-1.13.24.dist-info/METADATA"}},
			{"boto3", "1.12.5", product.Old, "1.12.6", "pypi/boto3", []string{site + "boto3-1.12.5.dist-info/METADATA"}},
			{"boto", "2.49.0", product.NoFix, "", "pypi/boto", []string{site + "boto-2.49.0.dist-info/METADATA"}},
			{"aws-cli", "1.16.288", product.Old, "1.16.289", "pypi/awscli", []string{site + "awscli-1.16.288.dist-info/METADATA"}},
			{"aws-sdk-js-v2", "2.721.0", product.Old, "2.722.0", "npm/aws-sdk", js},
			{"aws-sdk-js-v3", "1.0.0-rc.10", product.Unclear, "", "npm/%40aws-sdk/credential-provider-imds",
				[]string{"srv/web/node_modules/@aws-sdk/credential-provider-imds/package.json"}},
			{"aws-sdk-java-v1", "1.11.677", product.Old, "1.11.678", "maven/com.amazonaws/aws-java-sdk-core", one},
			{"aws-sdk-java-v2", "2.10.20", product.Old, "2.10.21", "maven/software.amazon.awssdk/sdk-core", java("sdk-core.jar", "two.jar")},
			{"aws-sdk-go-v1", "1.25.37", product.Old, "1.25.38", "golang/github.com/aws/aws-sdk-go", []string{"usr/local/bin/one"}},
			{"aws-sdk-go-v2", "0.18.0", product.Old, "0.19.0", "golang/github.com/aws/aws-sdk-go-v2", []string{"usr/local/bin/two"}},
			{"aws-sdk-ruby", "3.78.0", product.Old, "3.79.0", "gem/aws-sdk-core", []string{
				"usr/lib/ruby/gems/2.7.0/specifications/aws-sdk-core-3.78.0.gemspec", "srv/ruby/vendor/aws-sdk-core-3.78.0/lib/aws-sdk-core.rb"}},
			{"aws-sdk-php", "3.147.6", product.Old, "3.147.7", "composer/aws/aws-sdk-php",
				[]string{"srv/php/vendor/composer/installed.json", "srv/phpcopy/aws/src/Sdk.php"}},
			{"aws-sdk-dotnet", "3.3.103.65", product.Old, "3.3.103.66", "nuget/AWSSDK.Core", []string{"srv/net/app.deps.json",
				"root/.nuget/packages/awssdk.core/3.3.103.65/awssdk.core.nuspec", "srv/framework/AWSSDK.Core.dll"}},
		}
	}
	return []sdk{
		{"botocore", "1.13.25", product.Speaks, "1.13.25", "pypi/botocore", []string{site + "botocore-1.13.25.dist-info/METADATA"}},
		{"boto3", "1.12.6", product.Speaks, "1.12.6", "pypi/boto3", []string{site + "boto3-1.12.6.dist-info/METADATA"}},
		{"aws-cli", "1.16.289", product.Speaks, "1.16.289", "pypi/awscli", []string{site + "awscli-1.16.289.dist-info/METADATA"}},
		{"aws-sdk-js-v2", "2.722.0", product.Speaks, "2.722.0", "npm/aws-sdk", js},
		{"aws-sdk-js-v3", "3.0.0", product.Speaks, "1.0.0", "npm/%40aws-sdk/credential-provider-imds",
			[]string{"srv/web/node_modules/@aws-sdk/credential-provider-imds/package.json"}},
		{"aws-sdk-js-v3", "2.0.1", product.Speaks, "1.0.0", "npm/%40smithy/credential-provider-imds",
			[]string{"srv/web/node_modules/@smithy/credential-provider-imds/package.json"}},
		{"aws-sdk-java-v1", "1.11.678", product.Speaks, "1.11.678", "maven/com.amazonaws/aws-java-sdk-core", one},
		{"aws-sdk-java-v2", "2.10.21", product.Speaks, "2.10.21", "maven/software.amazon.awssdk/sdk-core", java("sdk-core.jar", "two.jar")},
		{"aws-sdk-go-v1", "1.25.38", product.Speaks, "1.25.38", "golang/github.com/aws/aws-sdk-go", []string{"usr/local/bin/one"}},
		{"aws-sdk-go-v2", "0.19.0", product.Speaks, "0.19.0", "golang/github.com/aws/aws-sdk-go-v2", []string{"usr/local/bin/two"}},
		{"aws-sdk-ruby", "3.79.0", product.Speaks, "3.79.0", "gem/aws-sdk-core", []string{
			"usr/lib/ruby/gems/2.7.0/specifications/aws-sdk-core-3.79.0.gemspec", "srv/ruby/vendor/aws-sdk-core-3.79.0/lib/aws-sdk-core.rb"}},
		{"aws-sdk-php", "3.147.7", product.Speaks, "3.147.7", "composer/aws/aws-sdk-php",
			[]string{"srv/php/vendor/composer/installed.json", "srv/phpcopy/aws/src/Sdk.php"}},
		{"aws-sdk-dotnet", "3.3.103.66", product.Speaks, "3.3.103.66", "nuget/AWSSDK.Core", []string{"srv/net/app.deps.json",
			"root/.nuget/packages/awssdk.core/3.3.103.66/awssdk.core.nuspec", "srv/framework/AWSSDK.Core.dll"}},
	}
}

// check compares a report with what is on a host: exactly that, judged so, at exactly these places.
func check(t *testing.T, r *software.Report, want []sdk, place func(string) string) {
	t.Helper()
	have := map[string]software.Item{}
	for _, i := range r.Items {
		have[string(i.Product)+" "+i.Version] = i
	}
	for _, w := range want {
		key := string(w.id) + " " + w.version
		i, ok := have[key]
		if !ok {
			t.Errorf("%s was not found", key)
			continue
		}
		delete(have, key)
		if i.Verdict.Judgement != w.judgement || i.Verdict.First != w.first {
			t.Errorf("%s is judged %s, first %q; it is %s, first %q", key, i.Verdict.Judgement, i.Verdict.First, w.judgement, w.first)
		}
		var places, wanted []string
		for _, p := range i.Places {
			places = append(places, p.Path)
		}
		for _, p := range w.places {
			if p = place(p); !slices.Contains(wanted, p) {
				wanted = append(wanted, p)
			}
		}
		slices.Sort(wanted)
		if !slices.Equal(places, wanted) {
			t.Errorf("%s was found at\n  %s\nand is at\n  %s", key, strings.Join(places, "\n  "), strings.Join(wanted, "\n  "))
		}
	}
	for key := range have {
		t.Errorf("%s was found, and is not there: %+v", key, have[key].Places)
	}
	if r.GapCount != 0 || r.RawCount != 0 {
		t.Errorf("%d gaps %+v and %d calls %+v in what is whole and calls nothing by hand", r.GapCount, r.Gaps, r.RawCount, r.Raw)
	}
}

func itself(p string) string { return p }

// scan scans a path and gives its one report.
func scan(t *testing.T, path string) *software.Report {
	t.Helper()
	temp := t.TempDir()
	reports, err := software.Scan(t.Context(), path, software.Options{Temp: temp})
	if err != nil || len(reports) != 1 {
		t.Fatalf("scan %s: %d reports, %v", path, len(reports), err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("the scan left %v behind, %v", left, err)
	}
	return reports[0]
}

func TestFolder(t *testing.T) {
	for _, age := range []string{"old", "new"} {
		t.Run(age, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			host(t, age).write(t, dir)
			r := scan(t, dir)
			if r.Kind != software.KindFolder || r.Origin != dir {
				t.Errorf("it is %s %s", r.Kind, r.Origin)
			}
			check(t, r, sdks(age), itself)
		})
	}
}

// image is an image of two layers: the old host, over which the new one is laid as an upgrade would, deleting what is replaced.
func image(t *testing.T) (layers [][]byte) {
	t.Helper()
	before, after := host(t, "old"), host(t, "new")
	upper := tree{}
	maps.Copy(upper, after)
	for name := range before {
		if _, again := after[name]; again {
			continue
		}
		dir, base := path.Split(name)
		// What is deleted with a whole folder is marked once, in one of the two ways that there are.
		switch {
		case strings.HasPrefix(name, "usr/lib/python3/"):
			upper["usr/lib/python3/.wh..wh..opq"] = nil
		default:
			upper[dir+".wh."+base] = nil
		}
	}
	return [][]byte{before.layer(t), upper.layer(t)}
}

func TestDockerSave(t *testing.T) {
	t.Parallel()
	layers := image(t)
	for count, age := range map[int]string{1: "old", 2: "new"} {
		manifest := []map[string]any{{"Config": "0123abcd.json", "RepoTags": []string{"billing/web:1.4"}}}
		outer := tree{"0123abcd.json": []byte(`{"architecture":"amd64","os":"linux"}`)}
		var names []string
		for i, l := range layers[:count] {
			name := fmt.Sprintf("layer%d/layer.tar", i)
			names, outer[name] = append(names, name), l
		}
		manifest[0]["Layers"] = names
		outer["manifest.json"] = document(t, manifest)
		saved := outer.layer(t)
		for ending, data := range map[string][]byte{".tar": saved, ".tar.gz": gzipped(t, saved)} {
			t.Run(age+ending, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "image"+ending)
				put(t, file, data)
				r := scan(t, file)
				if r.Kind != software.KindImage || r.Origin != file+" (billing/web:1.4)" {
					t.Errorf("it is %s %s", r.Kind, r.Origin)
				}
				check(t, r, sdks(age), itself)
			})
		}
	}
}

func TestOCILayout(t *testing.T) {
	t.Parallel()
	blobs := tree{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	add := func(mediaType string, data []byte) map[string]any {
		digest := fmt.Sprintf("%x", sha256.Sum256(data))
		blobs["blobs/sha256/"+digest] = data
		return map[string]any{"mediaType": mediaType, "digest": "sha256:" + digest, "size": len(data)}
	}
	layers := image(t)
	manifest := map[string]any{
		"schemaVersion": 2, "config": add("application/vnd.oci.image.config.v1+json", []byte("{}")),
		"layers": []any{
			add("application/vnd.oci.image.layer.v1.tar+gzip", gzipped(t, layers[0])),
			add("application/vnd.oci.image.layer.v1.tar", layers[1]),
		},
	}
	of := add("application/vnd.oci.image.manifest.v1+json", document(t, manifest))
	of["platform"] = map[string]any{"os": "linux", "architecture": "arm64"}
	index := add("application/vnd.oci.image.index.v1+json", document(t, map[string]any{"schemaVersion": 2, "manifests": []any{of}}))
	index["annotations"] = map[string]any{"org.opencontainers.image.ref.name": "web:1.4"}
	blobs["index.json"] = document(t, map[string]any{"schemaVersion": 2, "manifests": []any{index}})

	dir := t.TempDir()
	blobs.write(t, dir)
	file := filepath.Join(t.TempDir(), "layout.tar")
	put(t, file, blobs.layer(t))
	for _, at := range []string{dir, file} {
		r := scan(t, at)
		if want := fmt.Sprintf("%s (web:1.4 %s linux/arm64)", at, of["digest"]); r.Kind != software.KindImage || r.Origin != want {
			t.Errorf("it is %s %s, and not %s", r.Kind, r.Origin, want)
		}
		check(t, r, sdks("new"), itself)
	}
}

// TestFileSystemTar: what `docker export` writes.
func TestFileSystemTar(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "rootfs.tar")
	put(t, file, host(t, "old").layer(t))
	r := scan(t, file)
	if r.Kind != software.KindTar {
		t.Errorf("it is %s", r.Kind)
	}
	check(t, r, sdks("old"), itself)
}

func TestBillsOfMaterials(t *testing.T) {
	t.Parallel()
	for _, age := range []string{"old", "new"} {
		var components, packages []any
		for i, w := range sdks(age) {
			purl := "pkg:" + w.purl + "@" + w.version
			if strings.HasPrefix(w.purl, "golang") {
				purl = "pkg:" + w.purl + "@v" + w.version
			}
			name := path.Base(w.purl)
			components = append(components, map[string]any{"type": "library", "bom-ref": fmt.Sprint(i), "name": name, "version": w.version, "purl": purl})
			packages = append(packages, map[string]any{
				"SPDXID": fmt.Sprintf("SPDXRef-%d", i), "name": name, "versionInfo": w.version, "downloadLocation": "NOASSERTION", "licenseConcluded": "NOASSERTION",
				"externalRefs": []any{map[string]any{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}},
			})
		}
		components = append(components, map[string]any{"type": "library", "name": "left-pad", "version": "1.3.0", "purl": "pkg:npm/left-pad@1.3.0"})
		for name, bill := range map[string]any{
			"cyclonedx": map[string]any{"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components},
			"spdx": map[string]any{
				"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": "web", "documentNamespace": "https://example.com/web",
				"creationInfo": map[string]any{"created": "2026-01-02T03:04:05Z", "creators": []string{"Tool: test"}}, "packages": packages,
			},
		} {
			t.Run(age+" "+name, func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "what-it-is-called-does-not-matter")
				put(t, file, document(t, bill))
				r := scan(t, file)
				if r.Kind != software.KindSBOM {
					t.Errorf("it is %s", r.Kind)
				}
				check(t, r, sdks(age), func(string) string { return "what-it-is-called-does-not-matter" })
				for _, i := range r.Items {
					if !i.Places[0].Declared {
						t.Errorf("%s %s is in a bill only, and not said to be declared", i.Name, i.Version)
					}
				}
			})
		}
	}
}

func document(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func put(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
