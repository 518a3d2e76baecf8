package python

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// CLI is the AWS CLI for many calls: a process that has it loaded and copies itself for each call (cli.py). It makes one call at a
// time, and ends with its test.
type CLI struct {
	dir  string
	in   io.WriteCloser
	out  *bufio.Reader
	next int
}

// StartCLI starts the process.
func StartCLI(t testing.TB) *CLI {
	t.Helper()
	interpreter := Need(t, "python")
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(interpreter, "-B", filepath.Join(root, "test", "python", "cli.py"))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting the AWS CLI: %v", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Errorf("the AWS CLI's process: %v", err)
		}
	})
	return &CLI{dir: t.TempDir(), in: in, out: bufio.NewReader(out)}
}

// Run makes a call with an environment of its own ("NAME=value"), and gives its standard output; an error says the command, its exit
// code and its standard error.
func (c *CLI) Run(env []string, args ...string) ([]byte, error) {
	c.next++
	about := "aws " + strings.Join(args, " ")
	streams := []string{filepath.Join(c.dir, fmt.Sprintf("%d.out", c.next)), filepath.Join(c.dir, fmt.Sprintf("%d.err", c.next))}
	variables := map[string]string{}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		variables[name] = value
	}
	if err := json.NewEncoder(c.in).Encode(map[string]any{"args": args, "env": variables, "streams": streams}); err != nil {
		return nil, fmt.Errorf("%s: asking the AWS CLI's process: %w", about, err)
	}
	answer, err := c.out.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("%s: the AWS CLI's process has ended: %w", about, err)
	}
	code, err := strconv.Atoi(strings.TrimSpace(answer))
	if err != nil {
		return nil, fmt.Errorf("%s: its exit code: %w", about, err)
	}
	stdout, err := os.ReadFile(streams[0])
	stderr, err2 := os.ReadFile(streams[1])
	switch {
	case err != nil || err2 != nil:
		return nil, fmt.Errorf("%s: its output: %w", about, errors.Join(err, err2))
	case code != 0:
		return nil, fmt.Errorf("%s: exit code %d: %s", about, code, stderr)
	}
	return stdout, nil
}
