package deploy_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/imdsctl/imdsctl/internal/tracer/deploy"
)

// Stand-ins for the programs that scripts call. Each notes how it was called; files that the AWS CLI moves end up in a folder.
const (
	standInAWS = `#!/bin/sh
echo "aws $*" >> "$NOTES"
[ -z "$AWS_FAILS" ] || exit 1
case "$2" in
  cp) exec cp "$DOWNLOAD" "$5" ;;
  mv) from=$3; while [ $# -gt 0 ]; do [ "$1" = --include ] && mv "$from"$2 "$BUCKET/"; shift; done ;;
esac
`
	standInCurl = `#!/bin/sh
echo "curl $*" >> "$NOTES"
while [ "$1" != -o ]; do shift; done
exec cp "$DOWNLOAD" "$2"
`
	standInTracer = `#!/bin/sh
echo "$0 $*" >> "$NOTES"
while [ "$1" != --out ]; do shift; done
echo finished > "${2%.imds.jsonl}-20260302T090000Z-0001.imds.jsonl"
echo unfinished > "$2.part" # with the mode that the script lets files have
exit "${TRACER_CODE:-0}"
`
)

// host is a folder that stands for a host, with stand-ins for its programs and for a bucket.
type host struct {
	t    *testing.T
	root string
	env  []string
}

func newHost(t *testing.T, program string) *host {
	t.Helper()
	h := &host{t: t, root: t.TempDir()}
	for name, text := range map[string]string{"bin/aws": standInAWS, "bin/curl": standInCurl, "download": standInTracer, program: standInTracer} {
		if name != "" {
			h.write(name, text)
		}
	}
	for _, dir := range []string{"bucket", "state"} {
		if err := os.MkdirAll(h.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h.env = append(os.Environ(), "PATH="+h.path("bin")+":"+os.Getenv("PATH"), "NOTES="+h.path("notes"), "DOWNLOAD="+h.path("download"), "BUCKET="+h.path("bucket"))
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.root, name) }

func (h *host) write(name, text string) {
	h.t.Helper()
	if err := os.MkdirAll(filepath.Dir(h.path(name)), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.path(name), []byte(text), 0o700); err != nil {
		h.t.Fatal(err)
	}
}

// names are those of the files in a folder.
func (h *host) names(dir string) (names []string) {
	h.t.Helper()
	entries, err := os.ReadDir(h.path(dir))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// run runs a script on the host, where the folder of traces is the host's, and gives its exit code and what was called.
func (h *host) run(shell, script string, env ...string) (code int, notes string) {
	h.t.Helper()
	script = strings.ReplaceAll(script, "/var/lib/imdsctl-trace", "./state") // and not its whole path, which may have blanks
	cmd := exec.CommandContext(h.t.Context(), shell)
	cmd.Dir, cmd.Stdin, cmd.Env = h.root, strings.NewReader(script), append(slices.Clip(h.env), env...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	h.t.Logf("%s: %s", shell, said.String())
	called, err := os.ReadFile(h.path("notes"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(called)
}

// shells are those that are here, of those that hosts have as /bin/sh.
func shells(t *testing.T) (found []string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the scripts are for Linux, whose tools they call")
	}
	for _, name := range []string{"sh", "bash", "dash"} {
		if path, err := exec.LookPath(name); err == nil {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		t.Fatal("there is no shell")
	}
	return found
}

// commandOf is the script of the SSM document with its parameters filled in.
func commandOf(t *testing.T, parameters map[string]string) string {
	t.Helper()
	var doc struct {
		Parameters map[string]struct{ Default string }
		MainSteps  []struct{ Inputs struct{ RunCommand []string } } `json:"mainSteps"`
	}
	if err := json.Unmarshal([]byte(render(t, "ssm", mine)["ssm.json"]), &doc); err != nil {
		t.Fatal(err)
	}
	script := strings.Join(doc.MainSteps[0].Inputs.RunCommand, "\n")
	for name, p := range doc.Parameters {
		value, given := parameters[name]
		if !given {
			value = p.Default
		}
		script = strings.ReplaceAll(script, "{{ "+name+" }}", value)
	}
	return script
}

// TestTheCommandOfSystemsManager runs it, in every shell that is here: what it sends, what it leaves, and what it says by its exit code.
func TestTheCommandOfSystemsManager(t *testing.T) {
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(standInTracer)))
	const sent, left = "ssm-20260302T090000Z-0001.imds.jsonl", "ssm.imds.jsonl.part"
	tests := map[string]struct {
		parameters   map[string]string
		env          []string
		notInstalled bool
		code         int
		called, not  []string
		bucket       []string
		state        []string
	}{
		"clean": {called: []string{"/imdsctl trace --for 2h --out ", " --max-size 64MB --keep 20 --quiet\n", " s3://logs.example/traces/"},
			not: []string{"curl"}, bucket: []string{sent}, state: []string{left}},
		"v1 is called": {env: []string{"TRACER_CODE=3"}, bucket: []string{sent}, state: []string{left}},
		"it failed":    {env: []string{"TRACER_CODE=1"}, code: 1, bucket: []string{sent}, state: []string{left}},
		"not sent":     {env: []string{"AWS_FAILS=1"}, code: 1, state: []string{sent, left}},
		"kept":         {parameters: map[string]string{"S3Uri": ""}, not: []string{"aws"}, state: []string{sent, left}},
		"not there":    {notInstalled: true, code: 2, not: []string{"aws", "curl", "imdsctl"}},
		"no sum": {parameters: map[string]string{"ProgramUrl": "https://example.com/imdsctl"}, notInstalled: true, code: 2,
			not: []string{"aws", "curl", "imdsctl"}},
		"another sum": {parameters: map[string]string{"ProgramUrl": "https://example.com/imdsctl", "ProgramSha256": strings.Repeat("0", 64)}, notInstalled: true,
			code: 1, called: []string{"curl -fsSL --proto =https -o "}, not: []string{"trace", "aws"}},
		"downloaded": {parameters: map[string]string{"ProgramUrl": "https://example.com/imdsctl", "ProgramSha256": sum}, notInstalled: true,
			called: []string{"curl ", "state/imdsctl trace --for 2h"}, bucket: []string{sent}, state: []string{"imdsctl", left}},
		"downloaded from S3": {parameters: map[string]string{"ProgramUrl": "s3://example-bucket/imdsctl", "ProgramSha256": sum}, notInstalled: true,
			called: []string{"aws s3 cp --only-show-errors s3://example-bucket/imdsctl ", "state/imdsctl trace --for 2h"}, not: []string{"curl"},
			bucket: []string{sent}, state: []string{"imdsctl", left}},
	}
	for _, shell := range shells(t) {
		for name, test := range tests {
			t.Run(filepath.Base(shell)+"/"+name, func(t *testing.T) {
				program := "opt/imdsctl"
				if test.notInstalled {
					program = ""
				}
				h := newHost(t, program)
				parameters := map[string]string{"Program": "./opt/imdsctl"}
				for k, v := range test.parameters {
					parameters[k] = v
				}
				code, notes := h.run(shell, commandOf(t, parameters), test.env...)
				if code != test.code {
					t.Errorf("exit code %d, want %d", code, test.code)
				}
				for _, want := range test.called {
					if !strings.Contains(notes, want) {
						t.Errorf("%q was not called: %s", want, notes)
					}
				}
				for _, not := range test.not {
					if slices.ContainsFunc(strings.Split(notes, "\n"), func(l string) bool { return strings.HasPrefix(l, not) || strings.Contains(l, "/"+not+" ") }) {
						t.Errorf("%q was called: %s", not, notes)
					}
				}
				if bucket, state := h.names("bucket"), h.names("state"); !slices.Equal(bucket, test.bucket) || !slices.Equal(state, test.state) {
					t.Errorf("sent %q, left %q", bucket, state)
				}
				if info, err := os.Stat(h.path("state/" + left)); err == nil && info.Mode().Perm() != 0o600 {
					t.Errorf("files are made with the mode %s", info.Mode())
				}
				if info, err := os.Stat(h.path("state/imdsctl")); err == nil && info.Mode().Perm() != 0o700 {
					t.Errorf("the program's mode is %s", info.Mode())
				}
			})
		}
	}
}

// uploads are the endless scripts of the containers that send.
func uploads(t *testing.T) map[string]string {
	t.Helper()
	var task struct {
		ContainerDefinitions []struct{ Command []string }
	}
	if err := json.Unmarshal([]byte(render(t, "ecs", mine)["task-definition.json"]), &task); err != nil {
		t.Fatal(err)
	}
	var set struct {
		Spec struct {
			Template struct {
				Spec struct{ Containers []struct{ Args []string } }
			}
		}
	}
	manifests := strings.Split(render(t, "kubernetes", mine)["kubernetes.yaml"], "\n---\n")
	if err := yaml.Unmarshal([]byte(manifests[len(manifests)-1]), &set); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"ecs": task.ContainerDefinitions[1].Command[0], "kubernetes": set.Spec.Template.Spec.Containers[1].Args[0]}
}

// TestContainersThatSend go round twice, with a sending that fails first: what was not sent is sent the next time, and what is still
// written is not.
func TestContainersThatSend(t *testing.T) {
	const sleep = `#!/bin/sh
echo "sleep $*" >> "$NOTES"
case $(grep -c ^sleep "$NOTES") in
  1) echo one > "$STATE/trace-1.imds.jsonl" ;;
  3) kill "$PPID" ;;
esac
`
	const aws = `#!/bin/sh
[ "$(grep -c ^sleep "$NOTES")" != 1 ] || AWS_FAILS=1
` + "\n"
	for _, shell := range shells(t) {
		for name, script := range uploads(t) {
			h := newHost(t, "")
			h.write("bin/sleep", sleep)
			h.write("bin/aws", aws+strings.TrimPrefix(standInAWS, "#!/bin/sh\n"))
			h.write("state/trace.imds.jsonl.part", "unfinished")
			_, notes := h.run(shell, script, "STATE="+h.path("state"), "NODE_NAME=node-1")
			if strings.Count(notes, "sleep 900\n") != 3 || strings.Count(notes, "aws s3 mv ") != 2 {
				t.Errorf("%s in %s did:\n%s", name, shell, notes)
			}
			if bucket, state := h.names("bucket"), h.names("state"); !slices.Equal(bucket, []string{"trace-1.imds.jsonl"}) || len(state) != 1 {
				t.Errorf("%s in %s: sent %q, left %q", name, shell, bucket, state)
			}
		}
	}
}

// TestTheUploadOfSystemd: systemd runs no shell, so its line is divided at blanks, and a pattern reaches the AWS CLI as it is.
func TestTheUploadOfSystemd(t *testing.T) {
	sh := shells(t)[0]
	line := unit(t, render(t, "systemd", deploy.Options{S3: "s3://logs.example"})["imdsctl-trace-upload.service"])["Service"]["ExecStart"][0]
	words := strings.Fields(strings.ReplaceAll(line, "%H", "web-1"))
	for i, w := range words {
		words[i] = "'" + w + "'"
	}
	h := newHost(t, "")
	h.write("state/trace-1.imds.jsonl", "one")
	h.write("state/trace.imds.jsonl.part", "two")
	code, notes := h.run(sh, strings.Join(words, " "))
	if want := " s3://logs.example/web-1/ --recursive --exclude * --include *.imds.jsonl --only-show-errors\n"; code != 0 || !strings.HasSuffix(notes, want) {
		t.Errorf("exit code %d: %s", code, notes)
	}
	if bucket := h.names("bucket"); !slices.Equal(bucket, []string{"trace-1.imds.jsonl"}) {
		t.Errorf("sent %q", bucket)
	}
}
