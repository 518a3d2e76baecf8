// Package python finds the virtual environment that `make test` installs, for the tests that drive imdsctl with programs
// of other people: boto3, the AWS CLI, moto.
//
// It owns where that environment is and nothing else. A test that needs it and does not find it fails, with the command
// that makes it; only `go test -short` leaves such tests out.
package python

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// EnvVenv is the environment variable that names another virtual environment than the module's .cache/venv.
const EnvVenv = "IMDSCTL_TEST_VENV"

// Need is the path of a program of the virtual environment ("python", "aws", "moto_server"). It skips the test under
// -short, and fails it when the environment is not there.
func Need(t testing.TB, program string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("left out by -short: it needs the Python environment of `make test`")
	}
	path, err := Find(program)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Find is the path of a program of the virtual environment; the error says how to make one.
func Find(program string) (string, error) {
	venv := os.Getenv(EnvVenv)
	if venv == "" {
		root, err := Root()
		if err != nil {
			return "", err
		}
		venv = filepath.Join(root, ".cache", "venv")
	}
	path := filepath.Join(venv, "bin", program)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the test's %s is not at %s: run `make test`, which installs what the tests need into "+
			".cache/venv, or name another environment in %s, or leave these tests out with -short", program, path, EnvVenv)
	}
	return path, nil
}

// Root is the module's root: the nearest folder above the working directory that holds go.mod.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the module's root: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("finding the module's root: no go.mod above the working directory")
		}
		dir = parent
	}
}
