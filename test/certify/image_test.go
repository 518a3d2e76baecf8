//go:build linux

package certify

import (
	"archive/tar"
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/imdsctl/imdsctl/internal/certify"
	"github.com/imdsctl/imdsctl/internal/image/imagetest"
)

// asker is the static program of the images: the test builds it, so that no image has to be fetched.
var asker = sync.OnceValues(func() (string, error) {
	path := filepath.Join(folder, "asker")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", path, "./testdata/asker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the images' program: %w\n%s", err, out)
	}
	data, err := os.ReadFile(path)
	return string(data), err
})

// seen is what the program tells of the world.
type seen struct {
	Args, Env, Root     []string
	Dir, Home, Problems string
	UID, GID            int
	Groups              []int
	Device, Deleted     bool
}

// webImage is an image as a build makes it: the program below, a user of its own, and a layer that deletes something.
func webImage(t *testing.T) imagetest.Image {
	t.Helper()
	program, err := asker()
	if err != nil {
		t.Fatal(err)
	}
	owned := func(e imagetest.Entry) imagetest.Entry {
		e.Uid, e.Gid = 1000, 1001
		return e
	}
	below := imagetest.Tar(t, imagetest.Program("usr/bin/asker", program), imagetest.Link("bin", "usr/bin"), imagetest.File("deleted", "x"),
		imagetest.Entry{Header: tar.Header{Name: "dev/sda", Typeflag: tar.TypeBlock, Mode: 0o666, Devmajor: 8}})
	secret := owned(imagetest.File("home/app/secret", "known"))
	secret.Mode = 0o400
	above := imagetest.Tar(t, imagetest.File(".wh.deleted", ""), owned(imagetest.Folder("home/app", 0o700)), secret,
		imagetest.File("etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"),
		imagetest.File("etc/group", "root:x:0:\napp:x:1001:\nlogs:x:2000:app\n"))
	config := fmt.Sprintf(`{"os": "linux", "architecture": %q, "config": {"User": "app", "WorkingDir": "/srv/app", "Entrypoint": ["asker"],
		"Cmd": ["v2"], "Env": ["COLOR=blue", "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE"]}}`, runtime.GOARCH)
	return imagetest.Image{Tags: []string{"web:1.4"}, Config: config, Layers: [][]byte{below, imagetest.Gzip(t, above)}}
}

// inImage certifies an image, as a user where one is given, and checks that nothing is left of it. Where the program ran, it gives what
// it saw first and last.
func inImage(t *testing.T, user uint32, name string, args, command []string) (result, []seen) {
	t.Helper()
	temp := t.TempDir()
	if err := os.Chmod(temp, 0o777); err != nil {
		t.Fatal(err)
	}
	r := trial{
		args: append([]string{"--image", name}, args...), command: command, user: user,
		env: []string{"PATH=" + os.Getenv("PATH"), "HOME=/nowhere", "TMPDIR=" + temp, "FROM_HERE=yes", "HIDDEN=yes"},
	}.run(t)
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	var out []seen
	for line := range strings.Lines(r.out) {
		var s seen
		if json.Unmarshal([]byte(line), &s) == nil {
			out = append(out, s)
		}
	}
	return r, out
}

// writeImage puts an image where every user can read it.
func writeImage(t *testing.T, data []byte) string {
	t.Helper()
	f, err := os.CreateTemp(folder, "image-*.tar")
	if err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(f.Name()) })
	return f.Name()
}

// everybody are the users that a test of an image runs as: this one, and from root somebody without rights.
func everybody() []uint32 {
	if os.Geteuid() == 0 {
		return []uint32{0, 65534}
	}
	return []uint32{0}
}

// TestImage certifies an image that calls by version 2: behind a hop, as containers are, unless it has the host's network.
func TestImage(t *testing.T) {
	needLab(t)
	name := writeImage(t, imagetest.Saved(t, webImage(t)))
	for _, user := range everybody() {
		for _, c := range []struct {
			args, command []string
			want          want
			argv          string
		}{
			{nil, nil, want{certify.PassesWithHops, 2, 0, ""}, "asker v2"},
			{[]string{"--allow-hop-limit", "1"}, nil, want{certify.PassesWithHops, 2, 3, ""}, "asker v2"},
			{[]string{"--host-network"}, nil, want{certify.Passes, 1, 0, ""}, "asker v2"},
			{[]string{"--host-network"}, []string{"v1"}, want{certify.Fails, 0, 3, "v1-refused problem"}, "asker v1"},
			{[]string{"--host-network", "--entrypoint", "/bin/asker"}, []string{"x", "v2"}, want{certify.Passes, 1, 0, ""}, "/bin/asker x v2"},
			{[]string{"--hop-limit", "1"}, nil, want{certify.Fails, 0, 3, "token-lost problem; time-lost warning"}, "asker v2"},
		} {
			t.Run(fmt.Sprintf("user %d %v %v", user, c.args, c.command), func(t *testing.T) {
				r, saw := inImage(t, user, name, c.args, c.command)
				c.want.check(t, r)
				if len(saw) == 0 || len(saw) != len(r.Runs) {
					t.Fatalf("the program ran %d times, in %d runs: %s", len(saw), len(r.Runs), r.err)
				}
				if argv := strings.Join(saw[0].Args, " "); argv != c.argv || strings.Join(r.Command, " ") != c.argv {
					t.Errorf("it was run as %q, and is told as %q; want %q", argv, r.Command, c.argv)
				}
				for _, call := range r.Runs[0].Calls {
					if call.Who.Exe != "/usr/bin/asker" {
						t.Errorf("%s %s was made by %+v", call.Method, call.Path, call.Who)
					}
				}
			})
		}
	}
}

// TestImageWorld: the program sees what it would see in a container of the image, and nothing of this host.
func TestImageWorld(t *testing.T) {
	needLab(t)
	name := writeImage(t, imagetest.Saved(t, webImage(t)))
	for _, user := range everybody() {
		t.Run(fmt.Sprintf("user %d", user), func(t *testing.T) {
			r, saw := inImage(t, user, name, []string{"--host-network", "--image-env", "COLOR=red", "--image-env", "FROM_HERE", "--image-env", "UNKNOWN"}, nil)
			if len(saw) != 1 {
				t.Fatal(r.err)
			}
			s := saw[0]
			slices.Sort(s.Env)
			if env := strings.Join(s.Env, " "); env != "COLOR=red FROM_HERE=yes HOME=/home/app PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" {
				t.Errorf("its environment is %s", env)
			}
			if s.Dir != "/srv/app" || s.Home != "known" || s.Device || s.Deleted || s.Problems != "<nil> <nil> <nil>" {
				t.Errorf("%+v", s)
			}
			if root := strings.Join(s.Root, " "); root != "bin dev etc home proc srv sys tmp usr" {
				t.Errorf("its root has %s", root)
			}
			notes := strings.Join(r.Runs[0].Notes, "\n")
			if !strings.Contains(notes, "/dev/sda") {
				t.Errorf("nothing is said of the device: %s", notes)
			}
			if user == 0 && os.Geteuid() == 0 && (s.UID != 1000 || s.GID != 1001 || !slices.Contains(s.Groups, 2000)) {
				t.Errorf("it runs as %d:%d %v, want the image's user", s.UID, s.GID, s.Groups)
			}
			if user != 0 && !strings.Contains(notes, "1000") {
				t.Errorf("it does not run as the image's user, and nothing is said: %s", notes)
			}
			if !slices.ContainsFunc(r.Environment, func(c certify.Change) bool { return c.Name == "AWS_ACCESS_KEY_ID" }) {
				t.Errorf("of the image's own credentials nothing is said: %+v", r.Environment)
			}
		})
	}
}

// TestImageForms certifies images in each form, and of several the one that is meant.
func TestImageForms(t *testing.T) {
	needLab(t)
	web := webImage(t)
	other := web
	other.Tags, other.Config = []string{"other:1"}, strings.Replace(web.Config, `["v2"]`, `["v1"]`, 1)
	here, elsewhere := web, web
	here.Platform = map[string]string{"os": "linux", "architecture": runtime.GOARCH}
	elsewhere.Platform, elsewhere.Config = map[string]string{"os": "linux", "architecture": "s390x"}, `{"os": "linux", "architecture": "s390x"}`
	layout := filepath.Join(folder, "layout")
	imagetest.Write(t, layout, imagetest.Layout(t, elsewhere, here))
	program, err := asker()
	if err != nil {
		t.Fatal(err)
	}
	both := writeImage(t, imagetest.Saved(t, web, other))
	passes := want{certify.Passes, 1, 0, ""}
	for what, c := range map[string]struct {
		path    string
		command []string
		want    want
	}{
		"compressed":            {writeImage(t, imagetest.Gzip(t, imagetest.Saved(t, web))), nil, passes},
		"a layout's folder":     {layout, nil, passes},
		"a file system":         {writeImage(t, imagetest.Tar(t, imagetest.Program("app/asker", program))), []string{"/app/asker"}, passes},
		"the first of several":  {both + "#web:1.4", nil, passes},
		"the second of several": {both + "#other:1", nil, want{certify.Fails, 0, 3, "v1-refused problem"}},
	} {
		t.Run(what, func(t *testing.T) {
			r, _ := inImage(t, 0, c.path, []string{"--host-network"}, c.command)
			c.want.check(t, r)
		})
	}
}

// TestImageRefused: what cannot be run is an error that says why, and nothing is left.
func TestImageRefused(t *testing.T) {
	needLab(t)
	web := webImage(t)
	with := func(change func(*imagetest.Image)) string {
		im := web
		change(&im)
		return writeImage(t, imagetest.Saved(t, im))
	}
	for what, c := range map[string]struct {
		path    string
		command []string
		say     string
	}{
		"several":       {writeImage(t, imagetest.Saved(t, web, imagetest.Image{Tags: []string{"b:1"}})), nil, "web:1.4"},
		"none so named": {writeImage(t, imagetest.Saved(t, web)) + "#nginx", nil, "web:1.4"},
		"another machine's": {with(func(im *imagetest.Image) { im.Config = strings.Replace(im.Config, runtime.GOARCH, "s390x", 1) }), nil,
			"linux/s390x"},
		"no command":        {with(func(im *imagetest.Image) { im.Config = "{}" }), nil, "no command"},
		"a user it has not": {with(func(im *imagetest.Image) { im.Config = strings.Replace(im.Config, `"app"`, `"web"`, 1) }), nil, `"web"`},
		"a broken layer":    {with(func(im *imagetest.Image) { im.Layers = [][]byte{im.Layers[0][:100_000]} }), nil, "layer"},
		"a broken tar":      {writeImage(t, imagetest.Tar(t, imagetest.Program("app", "x"), imagetest.File("b", strings.Repeat("x", 2000)))[:2000]), []string{"/app"}, "damaged"},
		"a damaged layer": {with(func(im *imagetest.Image) {
			im.Config = strings.Replace(im.Config, "{", `{"rootfs": {"diff_ids": ["sha256:`+strings.Repeat("0", 64)+`"]}, `, 1)
			im.Layers = im.Layers[:1]
		}), nil, "damaged"},
		"half an image":      {writeImage(t, imagetest.Saved(t, web)[:200_000]), nil, "damaged"},
		"a broken document":  {with(func(im *imagetest.Image) { im.Config = "{" }), nil, "configuration"},
		"no image":           {writeImage(t, []byte("text")), nil, "no image"},
		"no file":            {filepath.Join(folder, "nowhere.tar"), nil, "nowhere.tar"},
		"no such program":    {writeImage(t, imagetest.Saved(t, web)), nil, "no-such-program"},
		"another's programs": {writeImage(t, imagetest.Saved(t, web)), nil, "usr/bin/true"},
	} {
		t.Run(what, func(t *testing.T) {
			args := []string{"--host-network"}
			if what == "no such program" || what == "another's programs" {
				args = append(args, "--entrypoint", c.say)
			}
			r, saw := inImage(t, 0, c.path, args, c.command)
			if r.code != 1 || !strings.Contains(r.err, c.say) || len(saw) != 0 {
				t.Errorf("exit code %d, ran %d times: %s", r.code, len(saw), r.err)
			}
		})
	}
}

// TestImageHostile: an image whose links lead everywhere touches nothing of this host, and what its program makes is removed.
func TestImageHostile(t *testing.T) {
	needLab(t)
	outside, err := os.MkdirTemp(folder, "outside")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	imagetest.Write(t, outside, map[string]string{"canary": "alive"})
	im := webImage(t)
	im.Config = strings.Replace(im.Config, `"/srv/app"`, fmt.Sprintf("%q", "/way/out"), 1)
	im.Layers = append(im.Layers, imagetest.Tar(t, imagetest.Link("tmp", outside), imagetest.Link("proc", outside), imagetest.Link("dev", outside),
		imagetest.Link("sys", "/"), imagetest.Link("way", outside), imagetest.Link("etc/resolv.conf", outside+"/canary"), imagetest.Link("etc/hosts", outside+"/hosts"),
		imagetest.File("../../.."+outside+"/new", "x")), imagetest.Tar(t, imagetest.File("tmp/new", "x"), imagetest.File(outside+"/.wh.canary", "")))
	name := writeImage(t, imagetest.Saved(t, im))
	for _, user := range everybody() {
		r, saw := inImage(t, user, name, []string{"--host-network"}, []string{"stubborn", "v2"})
		want{certify.Passes, 1, 0, ""}.check(t, r)
		if len(saw) != 1 || saw[0].Dir != outside+"/out" {
			t.Errorf("user %d: %+v\n%s", user, saw, r.err)
		}
		left, err := os.ReadDir(outside)
		if data, readErr := os.ReadFile(filepath.Join(outside, "canary")); err != nil || len(left) != 1 || readErr != nil || string(data) != "alive" {
			t.Errorf("user %d: outside there are %v and %q", user, left, data)
		}
	}
}

// TestImageInterrupted: nothing is left when a person ends it while the image's command runs.
func TestImageInterrupted(t *testing.T) {
	needLab(t)
	name := writeImage(t, imagetest.Saved(t, webImage(t)))
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	cmd := exec.CommandContext(t.Context(), path, "certify", "--image", name, "--host-network", "--", "wait")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + temp}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "waiting" {
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it was interrupted, and says that all is well")
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
