// Asker is the program of the images that the tests certify: it tells what it sees of the world, and asks the metadata service for the
// instance's id by the version that its first argument says.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

const service = "http://169.254.169.254/latest/"

func main() {
	tell()
	args := append(os.Args[1:], "v2")
	for _, arg := range args {
		switch {
		case arg == "stubborn":
			stubborn()
		case arg == "wait":
			fmt.Println("waiting")
			time.Sleep(time.Minute)
		case arg == "v1" || arg == "v2":
			if err := ask(arg == "v2"); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
}

// tell prints what a program of a container sees.
func tell() {
	dir, err := os.Getwd()
	groups, _ := os.Getgroups()
	root, _ := os.ReadDir("/")
	var names []string
	for _, e := range root {
		names = append(names, e.Name())
	}
	home, _ := os.ReadFile("/home/app/secret")
	written := os.WriteFile("/tmp/written", []byte("x"), 0o600)
	// A device that the image brings is not there; /dev has the harmless ones.
	_, device := os.Stat("/dev/sda")
	_, null := os.Stat("/dev/null")
	_ = json.NewEncoder(os.Stdout).Encode(map[string]any{
		"args": os.Args, "env": os.Environ(), "dir": dir, "uid": os.Getuid(), "gid": os.Getgid(), "groups": groups, "root": names,
		"home": string(home), "problems": fmt.Sprint(err, written, null), "device": device == nil, "deleted": exists("/deleted"),
	})
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// stubborn leaves what is hard to remove.
func stubborn() {
	for _, dir := range []string{"/tmp/a", "/tmp/a/b", "/tmp/a/b/c"} {
		_ = os.Mkdir(dir, 0o700)
	}
	_ = os.WriteFile("/tmp/a/b/c/file", []byte("x"), 0o400)
	_ = os.Symlink("/", "/tmp/a/link")
	for _, dir := range []string{"/tmp/a/b/c", "/tmp/a/b", "/tmp/a"} {
		_ = os.Chmod(dir, 0)
	}
}

func ask(tokens bool) error {
	client := http.Client{Timeout: 3 * time.Second}
	token := ""
	if tokens {
		r, err := http.NewRequest(http.MethodPut, service+"api/token", nil)
		if err != nil {
			return err
		}
		r.Header.Set("X-aws-ec2-metadata-token-ttl-seconds", "60")
		if token, err = answer(client.Do(r)); err != nil {
			return err
		}
	}
	r, err := http.NewRequest(http.MethodGet, service+"meta-data/instance-id", nil)
	if err != nil {
		return err
	}
	if tokens {
		r.Header.Set("X-aws-ec2-metadata-token", token)
	}
	id, err := answer(client.Do(r))
	fmt.Println(strings.TrimSpace(id))
	return err
}

func answer(a *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer a.Body.Close()
	data, err := io.ReadAll(a.Body)
	if err == nil && a.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", a.Request.URL, a.Status)
	}
	return string(data), err
}
