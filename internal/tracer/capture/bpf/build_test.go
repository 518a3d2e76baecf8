package bpf

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestObjectsAreBuilt builds the objects again: those that are committed must be the same to the byte.
func TestObjectsAreBuilt(t *testing.T) {
	root, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}
	venv := os.Getenv("IMDSCTL_TEST_VENV")
	if venv == "" {
		venv = filepath.Join(root, ".cache", "venv")
	}
	ci := os.Getenv("IMDSCTL_CI_ROOT") == "1"
	if testing.Short() && !ci {
		t.Skip("left out by -short: it needs the compiler of `make test`")
	}
	if _, err := os.Stat(filepath.Join(venv, "bin", "python")); err != nil {
		t.Fatalf("the compiler is not there: run `make test`, which installs it: %v", err)
	}
	out := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "bash", filepath.Join(root, "scripts", "bpf.sh"), out)
	cmd.Env = append(os.Environ(), "IMDSCTL_TEST_VENV="+venv, "ZIG_LOCAL_CACHE_DIR="+t.TempDir())
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("scripts/bpf.sh: %v\n%s", err, said)
	}
	for _, name := range []string{"full_bpfel.o", "noprobe_bpfel.o"} {
		committed, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		built, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(committed, built) {
			t.Errorf("%s is not what trace.c gives: run `bash scripts/bpf.sh`, look at the difference, and commit it", name)
		}
		if bytes.Contains(built, []byte(root)) {
			t.Errorf("%s tells where it was built", name)
		}
	}
}
