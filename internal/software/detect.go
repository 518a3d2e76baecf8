package software

import (
	"encoding/json"
	"path"
	"regexp"
	"strings"

	"github.com/imdsctl/imdsctl/internal/image"
)

// detector finds packages that the scanner library does not see, in a file that it asks for by its path.
type detector struct {
	wants func(name string) bool
	find  func(f *file) []pkg
}

// file is what a detector looks at.
type file struct {
	name  string
	data  []byte
	level *level
}

// beside reads a small file near the one that is looked at; nil where there is none.
func (f *file) beside(elements ...string) []byte {
	name := path.Join(append([]string{path.Dir(f.name)}, elements...)...)
	info, err := f.level.tree.Stat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > headSize {
		return nil
	}
	data, _ := f.level.whole(name, info)
	return data
}

// detectors are all of them.
var detectors = []detector{
	{ending("/pom.properties"), pomProperties},
	{ending("com/amazonaws/sdk/versionInfo.properties"), javaVersionInfo},
	{ending("software/amazon/awssdk/core/util/VersionInfo.class"), javaVersionClass},
	{isPythonPackage, pythonPackage},
	{isCLI, bundledCLI},
	{isScript, bundledScript},
	{ending(".nuspec"), nuspec},
	{isNetLibrary, netLibrary},
	{ending("composer/installed.json"), composerInstalled},
	{ending("src/Sdk.php", "src/Aws/Common/Aws.php"), phpSource},
	{ending("lib/aws-sdk-core.rb", "lib/aws/version.rb"), rubySource},
	{ending("amazon-cloudwatch-agent/bin/CWAGENT_VERSION"), cloudWatchAgent},
}

// ending makes a test for paths that end in one of some texts, at a whole element where the text has none of its own.
func ending(with ...string) func(string) bool {
	return func(name string) bool {
		for _, w := range with {
			if strings.HasSuffix(name, w) && (len(name) == len(w) || w[0] == '/' || w[0] == '.' || name[len(name)-len(w)-1] == '/') {
				return true
			}
		}
		return false
	}
}

// one is a single package, or none where the version was not found.
func one(p pkg) []pkg {
	if p.version == "" {
		return nil
	}
	return []pkg{p}
}

// first is the first group of a pattern's first match; empty where there is none.
func first(pattern *regexp.Regexp, data []byte) string {
	if m := pattern.FindSubmatch(data); m != nil {
		return string(m[1])
	}
	return ""
}

// Python packages that are copied into others, without the record of an installer: AWS's command line, and what vendors bundle.
var pythonVersion = regexp.MustCompile(`(?m)^__version__\s*=\s*['"]([^'"]+)['"]`)

func isPythonPackage(name string) bool {
	return ending("botocore/__init__.py", "boto3/__init__.py", "awscli/__init__.py", "boto/__init__.py")(name)
}

func pythonPackage(f *file) []pkg {
	return one(pkg{ecosystem: pypi, name: path.Base(path.Dir(f.name)), version: first(pythonVersion, f.data), guessed: true})
}

// AWS's command line of version 2 is a frozen program whose version is in no file that can be read: its installer puts it into a
// folder named after the version. https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html
var cliPath = regexp.MustCompile(`(?:^|/)v2/(\d+\.\d+\.\d+)/dist/aws$`)

func isCLI(name string) bool {
	return cliPath.MatchString(name) || ending("aws/dist/aws")(name)
}

func bundledCLI(f *file) []pkg {
	return []pkg{{ecosystem: pypi, name: "awscli", version: first(cliPath, []byte(f.name))}}
}

// Bundled JavaScript: SDKs that a bundler has put into one file with the application. Version 2 names itself in its core, version 3
// in the package documents that its clients import for their user agents.
var (
	scriptVersion2 = regexp.MustCompile(`\bVERSION\s*:\s*['"](2\.\d+\.\d+)['"]`)
	scriptBanner2  = regexp.MustCompile(`AWS SDK for JavaScript v(2\.\d+\.\d+)`)
	scriptPackage3 = regexp.MustCompile(`(?:"name"|name)\s*:\s*"(@(?:aws-sdk|smithy)/[a-z0-9-]+)"\s*,\s*` +
		`(?:(?:"[a-z]+"|[a-z]+)\s*:\s*"[^"]*"\s*,\s*){0,3}(?:"version"|version)\s*:\s*"(\d+\.\d+\.\d+(?:-[\w.]+)?)"`)
)

// bundled is how little a bundle of an SDK can be, in bytes.
const bundled = 20 << 10

func isScript(name string) bool {
	switch path.Ext(name) {
	case ".js", ".cjs", ".mjs":
		return !strings.Contains("/"+name, "/node_modules/aws-sdk/lib/")
	}
	return false
}

func bundledScript(f *file) []pkg {
	if len(f.data) < bundled {
		return nil
	}
	version := first(scriptBanner2, f.data)
	// Its user agent, and the provider that asks the metadata service, are what else has a VERSION of its own does not have.
	text := string(f.data)
	if version == "" && strings.Contains(text, "aws-sdk-") && strings.Contains(text, "EC2MetadataCredentials") {
		version = first(scriptVersion2, f.data)
	}
	out := one(pkg{ecosystem: npm, name: "aws-sdk", version: version, guessed: true})
	if !strings.Contains(text, "@aws-sdk/") {
		return out
	}
	for _, m := range scriptPackage3.FindAllStringSubmatch(text, -1) {
		out = append(out, pkg{ecosystem: npm, name: m[1], version: m[2], guessed: true})
	}
	return out
}

// NuGet's package documents, which lie in its cache and in packages.
var (
	nuspecID      = regexp.MustCompile(`(?i)<id>\s*([^<\s]+)\s*</id>`)
	nuspecVersion = regexp.MustCompile(`(?i)<version>\s*([^<\s]+)\s*</version>`)
)

func nuspec(f *file) []pkg {
	id := first(nuspecID, f.data)
	if id == "" {
		return nil
	}
	return one(pkg{ecosystem: nuget, name: id, version: first(nuspecVersion, f.data)})
}

// isNetLibrary knows AWS's .NET libraries by name. Their assembly version is that of the major version only, so that the version of
// the file is read, which Windows' resources hold.
func isNetLibrary(name string) bool {
	base := strings.ToLower(path.Base(name))
	return strings.HasPrefix(base, "awssdk") && strings.HasSuffix(base, ".dll")
}

func netLibrary(f *file) []pkg {
	name := strings.TrimSuffix(path.Base(f.name), path.Ext(f.name))
	return one(pkg{ecosystem: nuget, name: name, version: fileVersion(f.data), guessed: true})
}

// fileVersion reads FileVersion from a version resource: a key and a value in UTF-16, each ended by a zero and filled up to four
// bytes. https://learn.microsoft.com/en-us/windows/win32/menurc/string-str
func fileVersion(data []byte) string {
	key := "F\x00i\x00l\x00e\x00V\x00e\x00r\x00s\x00i\x00o\x00n\x00\x00\x00"
	_, after, ok := strings.Cut(string(data), key)
	if !ok {
		return ""
	}
	var out strings.Builder
	for i := 0; i+1 < len(after) && i < 128; i += 2 {
		c := after[i]
		switch {
		case after[i+1] == 0 && (c >= '0' && c <= '9' || c == '.'):
			out.WriteByte(c)
		case out.Len() > 0:
			return out.String()
		case c != 0 || after[i+1] != 0:
			return ""
		}
	}
	return out.String()
}

// composerInstalled reads what Composer writes beside the packages that it installs: a list, or since version 2 an object with one.
func composerInstalled(f *file) []pkg {
	type installed struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	var list []installed
	if json.Unmarshal(f.data, &list) != nil {
		var object struct {
			Packages []installed `json:"packages"`
		}
		if err := json.Unmarshal(f.data, &object); err != nil {
			f.level.gap(f.name, "the package record cannot be read: "+image.Reason(err))
			return nil
		}
		list = object.Packages
	}
	var out []pkg
	for _, p := range list {
		out = append(out, pkg{ecosystem: composer, name: p.Name, version: strings.TrimPrefix(p.Version, "v")})
	}
	return out
}

// The SDK for PHP says its version in its source: that is all there is where it was copied, or comes as one archive.
var phpVersion = regexp.MustCompile(`\bconst VERSION = '(\d[^']*)'`)

func phpSource(f *file) []pkg {
	if !strings.Contains(string(f.data), "namespace Aws") {
		return nil
	}
	return one(pkg{ecosystem: composer, name: "aws/aws-sdk-php", version: first(phpVersion, f.data), guessed: true})
}

// The SDKs for Ruby, where a gem was unpacked without its specification.
var (
	rubyVersion  = regexp.MustCompile(`(?m)^\s*VERSION\s*=\s*['"](1\.[\d.]+)['"]`)
	digitVersion = regexp.MustCompile(`^\s*v?(\d+(?:\.\d+)+\S*)`)
)

func rubySource(f *file) []pkg {
	if path.Base(f.name) == "version.rb" {
		if !strings.Contains(string(f.data), "module AWS") {
			return nil
		}
		return one(pkg{ecosystem: gem, name: "aws-sdk-v1", version: first(rubyVersion, f.data), guessed: true})
	}
	return one(pkg{ecosystem: gem, name: "aws-sdk-core", version: first(digitVersion, f.beside("..", "VERSION")), guessed: true})
}

// cloudWatchAgent reads the file that the agent's own control script reads.
func cloudWatchAgent(f *file) []pkg {
	return one(pkg{ecosystem: "rpm", name: "amazon-cloudwatch-agent", version: first(digitVersion, f.data), guessed: true})
}
