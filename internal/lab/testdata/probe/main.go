// Command probe tells what a program finds in a file system of the lab: it is all that there is in it.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	dir, _ := os.Getwd()
	groups, _ := os.Getgroups()
	found := map[string]any{
		"uid": os.Getuid(), "gid": os.Getgid(), "groups": groups, "dir": dir, "env": os.Environ(), "pid": os.Getpid(), "token": token(),
		"rights": rights(), "forbidden": forbidden(), "broken": broken(), "root": names("/"), "processes": len(names("/proc/[0-9]*")),
	}
	text, _ := json.Marshal(found)
	fmt.Println(string(text))
}

func names(dir string) []string {
	if !strings.ContainsAny(dir, "*") {
		dir = filepath.Join(dir, "*")
	}
	all, _ := filepath.Glob(dir)
	return all
}

func token() string {
	request, _ := http.NewRequest(http.MethodPut, "http://169.254.169.254/latest/api/token", nil)
	request.Header.Set("X-aws-ec2-metadata-token-ttl-seconds", "60")
	answer, err := (&http.Client{Timeout: time.Minute}).Do(request)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	return fmt.Sprint(answer.StatusCode, len(body))
}

func rights() string {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if set, ok := strings.CutPrefix(line, "CapEff:\t"); ok {
			return strings.TrimSpace(set)
		}
	}
	return "unknown"
}

// forbidden tries what would reach the host, and tells what was possible.
func forbidden() (done []string) {
	own, _ := os.Stat("/")
	for _, path := range []string{"/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/power/state", "/proc/irq/default_smp_affinity"} {
		if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			f.Close()
			done = append(done, path)
		}
	}
	if f, err := os.Open("/proc/kcore"); err == nil {
		if n, _ := f.Read(make([]byte, 1)); n > 0 {
			done = append(done, "read /proc/kcore")
		}
	}
	if evil, err := os.Stat("/evil"); err == nil && !os.SameFile(evil, own) {
		done = append(done, "the host's files by a link")
	}
	if f, err := os.OpenFile("/device", os.O_RDONLY, 0); err == nil {
		f.Close()
		done = append(done, "opened a device file of the image")
	}
	return done
}

// broken tries what programs count on, and tells what was not possible.
func broken() (failed []string) {
	check := func(err error) {
		if err != nil {
			failed = append(failed, err.Error())
		}
	}
	for _, path := range []string{"/tmp/written", "/dev/shm/written", "/dev/null", "/dev/full"} {
		err := os.WriteFile(path, []byte("x"), 0o600)
		if path == "/dev/full" && err != nil {
			continue
		}
		check(err)
	}
	for _, path := range []string{"/dev/urandom", "/dev/zero", "/dev/random"} {
		f, err := os.Open(path)
		if err == nil {
			_, err = f.Read(make([]byte, 8))
		}
		check(err)
	}
	for _, path := range []string{"/dev/stdout", "/dev/fd/0", "/proc/self/exe", "/dev/ptmx", "/etc/hosts"} {
		_, err := os.Stat(path)
		check(err)
	}
	_, err := os.Stat(fmt.Sprintf("/proc/%d/status", os.Getpid()))
	check(err)
	return failed
}
