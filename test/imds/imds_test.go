// Package imds holds `imdsctl imds serve` to the documentation of the metadata service, with clients that imdsctl did not write: curl,
// boto3 and the AWS CLI. The program runs as users run it; its log is read as they read it.
package imds

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// folder is where the program is built, for all tests of a run.
var folder string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if folder, err = os.MkdirTemp("", "imdsctl-imds-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(folder)
		return m.Run()
	}())
}

// binary is the program under test, built once. IMDSCTL names one that is built already.
var binary = sync.OnceValues(func() (string, error) {
	if given := os.Getenv("IMDSCTL"); given != "" {
		return given, nil
	}
	path := filepath.Join(folder, "imdsctl")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", path, "../../cmd/imdsctl")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building imdsctl: %w\n%s", err, out)
	}
	return path, nil
})

// service is a running `imdsctl imds serve`.
type service struct {
	URL   string
	cmd   *exec.Cmd
	lines chan string
	err   lockedBuffer
	stop  sync.Once
	calls []call
}

// call is a line of the log.
type call struct {
	Version, Method, Path, Remote, Why string
	Status                             int
	TokenID                            string `json:"token_id"`
	UserAgent                          string `json:"user_agent"`
	HopLimit                           int    `json:"hop_limit"`
	Credentials                        bool
}

// lockedBuffer is what the program writes to standard error, readable while it runs.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// start runs the program with a prefix, such as that of a network namespace, and waits until it listens.
func start(t *testing.T, prefix []string, args ...string) *service {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	line := append(append(append([]string{}, prefix...), path, "imds", "serve", "--format", "json"), args...)
	s := &service{cmd: exec.Command(line[0], line[1:]...), lines: make(chan string, 4096)}
	s.cmd.Stderr = &s.err
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.lines)
		in := bufio.NewScanner(out)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			s.lines <- in.Text()
		}
	}()
	t.Cleanup(func() { s.end(t) })
	var said struct {
		Format    int `json:"imdsctl_imds"`
		Listening []string
	}
	first, ok := <-s.lines
	if !ok {
		t.Fatalf("it ended at once: %v\n%s", s.cmd.Wait(), &s.err)
	}
	if err := json.Unmarshal([]byte(first), &said); err != nil || said.Format != 1 || len(said.Listening) == 0 {
		t.Fatalf("its first line is %q", first)
	}
	s.URL = said.Listening[0]
	return s
}

// end stops the program, reads what is left of its log, and gives the summary.
func (s *service) end(t *testing.T) (summary struct {
	NoToken  int `json:"metadata_no_token"`
	Rejected int `json:"metadata_no_token_rejected"`
}) {
	t.Helper()
	s.stop.Do(func() {
		if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Errorf("stop it: %v", err)
		}
		for line := range s.lines {
			var last struct{ Summary json.RawMessage }
			if err := json.Unmarshal([]byte(line), &last); err != nil {
				t.Errorf("a line of the log is %q: %v", line, err)
			}
			if last.Summary != nil {
				if err := json.Unmarshal(last.Summary, &summary); err != nil {
					t.Errorf("the summary is %s: %v", last.Summary, err)
				}
				continue
			}
			var c call
			if err := json.Unmarshal([]byte(line), &c); err != nil {
				t.Errorf("a line of the log is %q: %v", line, err)
			}
			s.calls = append(s.calls, c)
		}
		if err := s.cmd.Wait(); err != nil {
			t.Errorf("it ended with %v\n%s", err, &s.err)
		}
	})
	return summary
}

// response is what curl got.
type response struct {
	Status  string // code and reason
	Headers map[string]string
	Body    string
}

// curl runs the real curl. An error is its exit code and what it said.
func curl(t *testing.T, prefix []string, args ...string) (response, error) {
	t.Helper()
	line := append(append([]string{}, prefix...), "curl", "-sS", "-i", "--path-as-is", "--noproxy", "*", "--max-time", "20")
	line = append(line, args...)
	cmd := exec.CommandContext(t.Context(), line[0], line[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return response{}, fmt.Errorf("%w: %s", err, stderr.String())
	}
	r := response{Headers: map[string]string{}}
	in := bufio.NewReader(bytes.NewReader(out))
	for {
		text, err := in.ReadString('\n')
		if text = strings.TrimRight(text, "\r\n"); err != nil || text == "" {
			break
		}
		if name, value, ok := strings.Cut(text, ": "); ok {
			r.Headers[strings.ToLower(name)] = value
		} else {
			_, r.Status, _ = strings.Cut(text, " ")
		}
	}
	body, err := io.ReadAll(in)
	r.Body = string(body)
	return r, err
}

// token asks for a token with curl.
func token(t *testing.T, url string) string {
	t.Helper()
	r, err := curl(t, nil, "-X", "PUT", url+"/latest/api/token", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 21600")
	if err != nil || !strings.HasPrefix(r.Status, "200") {
		t.Fatalf("the token request: %v, %+v", err, r)
	}
	return r.Body
}
