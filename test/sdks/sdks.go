// Package sdks has programs of other people's SDKs, old and new, each of which looks for credentials as every program that uses its
// SDK does: by the default chain, in an environment that says nothing, so that it ends at the metadata service. Tests run them against
// a metadata service of ours, at 169.254.169.254 of a network namespace: SDKs that know only v1 cannot be told another address.
//
// It owns which programs there are, what their makers' sources say that they do, and where `make test` puts them (fetch.py,
// .cache/sdks). It starts no service, makes no network and judges nothing.
//
// A test asks for Programs and runs each by its Argv and Env, behind what puts a command into a network namespace or into
// certification:
//
//	for _, p := range sdks.Programs(t) {
//		cmd := exec.CommandContext(t.Context(), "ip", append([]string{"netns", "exec", ns}, p.Argv...)...)
//		cmd.Env = p.Env
//		out, err := cmd.Output()
//		// exit code 0, and p.Key(out) is the access key id; or another exit code, and no key
//		// where tokens are required:   it has credentials if p.V2
//		// where v1 and v2 are allowed: it has credentials; by v2 if p.V2
//		// where tokens are not known:  it has credentials if p.V1
//	}
//
// Each program makes its calls in one process and ends; nothing is kept between two runs.
package sdks

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/imdsctl/imdsctl/internal/product"
	"github.com/imdsctl/imdsctl/test/python"
)

// Program is a program that looks for the credentials of the instance's role.
type Program struct {
	// Name tells it from all others, and fits the name of a subtest: "botocore-1.13.24".
	Name string
	// Language is what it is written in: Python, Go, JavaScript or Java.
	Language string
	// Product and Version are the SDK that makes its calls, as internal/product knows it.
	Product product.ID
	Version string
	// V2: it asks for a token, and uses it. Without, it knows only v1.
	V2 bool
	// V1: it makes calls without a token, because it knows no others or where its token request is answered with 403, 404 or 405.
	// Only a service that knows no tokens shows this: on EC2 a program with V2 gets its token.
	V1 bool
	// Agent: all of its calls to the service have a user agent that names Product and Version.
	Agent bool
	// NoV1: it makes no call without a token where AWS_EC2_METADATA_V1_DISABLED=true.
	NoV1 bool
	// IPv6: it calls the IPv6 address where AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6.
	IPv6 bool

	Argv []string // absolute path of the program, and its arguments
	Env  []string // all of its environment
}

// keyShape is an access key id of temporary credentials.
var keyShape = regexp.MustCompile(`\bASIA[A-Z0-9]{16}\b`)

// Key is the access key id that a program wrote to its standard output, or empty.
func (p Program) Key(stdout []byte) string { return string(keyShape.Find(stdout)) }

// Programs are all programs, in an order that does not change: by language, by SDK, oldest first. It skips the test under -short, and
// fails it where they are not there. Their environment names a home folder that is empty and lives as long as the test.
func Programs(t testing.TB) []Program {
	t.Helper()
	interpreter, node := python.Need(t, "python"), python.Need(t, "node")
	at, err := find()
	if err != nil {
		t.Fatal(err)
	}
	at.python, at.node = interpreter, node
	var all []Program
	for _, list := range [][]Program{at.pythons(t), at.gos(), at.nodes(), at.javas()} {
		all = append(all, list...)
	}
	home := t.TempDir()
	for i := range all {
		all[i].Env = append(all[i].Env, environment(home)...)
	}
	return all
}

// environment is one in which no SDK finds credentials but those of the instance. The region is given so that none asks for it.
func environment(home string) []string {
	none := filepath.Join(home, "none")
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8", "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
		"AWS_CONFIG_FILE=" + none, "AWS_SHARED_CREDENTIALS_FILE=" + none,
	}
}

// place is where the programs are.
type place struct {
	source       string // this package's folder
	fetched      string // .cache/sdks
	python, node string // of the virtual environment
}

func find() (place, error) {
	root, err := python.Root()
	if err != nil {
		return place{}, err
	}
	p := place{source: filepath.Join(root, "test", "sdks"), fetched: filepath.Join(root, ".cache", "sdks")}
	if _, err := os.Stat(filepath.Join(p.fetched, "fetched")); err != nil {
		return place{}, fmt.Errorf("the SDKs of the tests are not in %s: run `make test`, which fetches them, or leave these tests out with -short", p.fetched)
	}
	return p, nil
}
