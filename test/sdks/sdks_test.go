package sdks_test

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/product"
	"github.com/imdsctl/imdsctl/test/sdks"
)

// TestJudged holds what the table of products says of the programs' versions to what they are known to do.
func TestJudged(t *testing.T) {
	names, languages := map[string]bool{}, map[string]int{}
	for _, p := range sdks.Programs(t) {
		if names[p.Name] {
			t.Errorf("two programs are called %s", p.Name)
		}
		names[p.Name] = true
		languages[p.Language]++
		v := product.Default().Judge(p.Product, p.Version)
		// AWS's guide names 2.722.0 as the first. It is the SDK's own log of changes that has "Signed IMDS workflow" under 2.575.0.
		if speaks := v.Judgement == product.Speaks; speaks != p.V2 && p.Name != "aws-sdk-js-v2-2.575.0" {
			t.Errorf("%s asks for tokens: %v, and is judged %s", p.Name, p.V2, v.Judgement)
		}
	}
	for _, l := range []string{"Python", "Go", "JavaScript", "Java"} {
		if languages[l] < 6 {
			t.Errorf("there are %d programs in %s alone", languages[l], l)
		}
	}
}

// TestVersions looks into what was fetched and built for the versions that the programs are said to have.
func TestVersions(t *testing.T) {
	for _, p := range sdks.Programs(t) {
		have, err := versions(p)
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
		} else if !slices.Contains(have, p.Version) {
			t.Errorf("%s has %q", p.Name, have)
		}
	}
}

// versions are those that the files of a program's SDK have in their names, or within.
func versions(p sdks.Program) ([]string, error) {
	last := p.Argv[len(p.Argv)-1]
	switch p.Language {
	case "Go":
		info, err := buildinfo.ReadFile(p.Argv[0])
		if err != nil {
			return nil, err
		}
		module := map[product.ID]string{"aws-sdk-go-v1": "github.com/aws/aws-sdk-go", "aws-sdk-go-v2": "github.com/aws/aws-sdk-go-v2"}[p.Product]
		for _, d := range info.Deps {
			if d.Path == module {
				return []string{strings.TrimPrefix(d.Version, "v")}, nil
			}
		}
		return nil, fmt.Errorf("%s is not in it", module)
	case "JavaScript":
		data, err := os.ReadFile(filepath.Join(last, "package.json"))
		if err != nil {
			return nil, err
		}
		var said struct{ Version string }
		err = json.Unmarshal(data, &said)
		return []string{said.Version}, err
	case "Java":
		path := filepath.SplitList(p.Argv[slices.Index(p.Argv, "-cp")+1])
		return named(path[len(path)-1], "*", "-", ".jar")
	}
	if !strings.HasSuffix(p.Argv[2], "older.py") {
		return []string{p.Version}, nil // of the virtual environment, where it was read
	}
	return named(p.Argv[3], "/*", "-", ".dist-info")
}

// named finds the files of a pattern, and what is between the last separator and the ending of their names.
func named(folder, pattern, separator, ending string) ([]string, error) {
	found, err := filepath.Glob(strings.TrimSuffix(folder, "*") + pattern + ending)
	for i, f := range found {
		_, after, _ := strings.Cut(strings.TrimSuffix(filepath.Base(f), ending), separator)
		found[i] = after[strings.LastIndex(after, separator)+1:]
	}
	return found, err
}
