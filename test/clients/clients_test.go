// Package clients drives `imdsctl sim serve` with clients that imdsctl did not write, boto3 and the AWS CLI, and holds every
// response against botocore's own models of the services.
//
// The tests are in Python, beside this file; run.py also fails when the simulator offers an operation that none of them
// calls. This file builds the program and starts them.
package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/imdsctl/imdsctl/test/python"
)

// TestClients runs the Python suite against the real program. IMDSCTL names one that is built already.
func TestClients(t *testing.T) {
	interpreter := python.Need(t, "python")
	binary := os.Getenv("IMDSCTL")
	if binary == "" {
		binary = filepath.Join(t.TempDir(), "imdsctl")
		build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", binary, "../../cmd/imdsctl")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building imdsctl: %v\n%s", err, out)
		}
	}
	run := exec.CommandContext(t.Context(), interpreter, "-B", "run.py")
	run.Env = append(os.Environ(), "IMDSCTL="+binary, "PYTHONUNBUFFERED=1", "AWS_EC2_METADATA_DISABLED=true")
	out, err := run.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("the client tests failed: %v", err)
	}
}
