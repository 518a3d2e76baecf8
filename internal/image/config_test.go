package image_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/image"
	"github.com/imdsctl/imdsctl/internal/image/imagetest"
)

// TestConfig reads configurations as engines write them.
func TestConfig(t *testing.T) {
	c, err := image.ParseConfig([]byte(`{"architecture": "arm", "variant": "v7", "os": "linux", "created": "2026-01-02T03:04:05Z", "config": {
		"User": "app:web", "ExposedPorts": {"80/tcp": {}}, "Env": ["PATH=/bin", "A=b=c"], "Entrypoint": ["/run", "-v"], "Cmd": ["serve"],
		"WorkingDir": "srv/../app", "Volumes": {"/data": {}, "/cache": {}}, "Labels": null}, "rootfs": {"type": "layers", "diff_ids": []}}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Platform.String() != "linux/arm/v7" || c.User != "app:web" || c.Folder() != "/app" {
		t.Errorf("%+v", c)
	}
	same(t, "environment", c.Env, "PATH=/bin", "A=b=c")
	same(t, "volumes", c.Volumes, "/cache", "/data")
	for text, want := range map[string]string{
		`{"config": {"Entrypoint": "/run", "Cmd": ["a"]}}`:    "/run a",
		`{"config": {"Entrypoint": "", "Cmd": "sh"}}`:         "sh",
		`{"config": {"Entrypoint": null, "Cmd": ["a", "b"]}}`: "a b",
	} {
		c, err := image.ParseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if argv, err := c.Command(nil, nil); err != nil || strings.Join(argv, " ") != want {
			t.Errorf("%s: %q, %v", text, argv, err)
		}
	}
	for _, text := range []string{
		``, `[]`, `{"config": {"Env": ["A"]}}`, `{"config": {"Env": ["=a"]}}`, `{"config": {"Cmd": ["a\u0000b"]}}`, `{"config": {"Cmd": 1}}`,
		`{"config": {"User": "a\u0000"}}`, `{"config": {"Entrypoint": [1]}}`, `{"config": {"WorkingDir": "\u0000"}}`,
	} {
		if c, err := image.ParseConfig([]byte(text)); err == nil {
			t.Errorf("%s is read as %+v", text, c)
		}
	}
}

// TestCommand: docker run's rules. https://docs.docker.com/reference/dockerfile/#understand-how-cmd-and-entrypoint-interact
func TestCommand(t *testing.T) {
	none, other := "", "/other"
	both := image.Config{Entrypoint: []string{"/run", "-v"}, Cmd: []string{"serve", "all"}}
	for _, c := range []struct {
		config     image.Config
		entrypoint *string
		args       string
		want       string
	}{
		{both, nil, "", "/run -v serve all"},
		{both, nil, "check", "/run -v check"},
		{both, &other, "", "/other"},
		{both, &other, "check it", "/other check it"},
		{both, &none, "check", "check"},
		{both, &none, "", ""},
		{image.Config{Cmd: []string{"serve"}}, nil, "", "serve"},
		{image.Config{Cmd: []string{"serve"}}, nil, "sh -c true", "sh -c true"},
		{image.Config{Entrypoint: []string{"/run"}}, nil, "", "/run"},
		{image.Config{}, nil, "sh", "sh"},
		{image.Config{}, nil, "", ""},
		{image.Config{Cmd: []string{"", "a"}}, nil, "", ""},
	} {
		argv, err := c.config.Command(c.entrypoint, strings.Fields(c.args))
		if have := strings.Join(argv, " "); have != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v with %q: %q, %v; want %q", c.config, c.args, have, err, c.want)
		}
	}
	if slices.Equal(both.Entrypoint, []string{"/run"}) {
		t.Error("the configuration was changed")
	}
}

// TestEnvironment: the image's goes over Docker's own, and what is given over both.
func TestEnvironment(t *testing.T) {
	c := image.Config{Env: []string{"A=1", "B=2", "A=3"}}
	same(t, "without a PATH", c.Environment("/home/app", []string{"B=", "C=4"}),
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/home/app", "A=3", "B=", "C=4")
	c.Env = []string{"PATH=/opt/bin", "HOME=/srv"}
	same(t, "with one", c.Environment("/root", nil), "PATH=/opt/bin", "HOME=/srv")
}

// TestEnsure: a folder is made where there is none, behind links as well; what is no folder is said. Where something is to be mounted a
// link is none.
func TestEnsure(t *testing.T) {
	x, _ := tree(t, imagetest.Tar(t, file("file", ""), folder("real/app", 0o750), link("app", "/real/app"), link("none", "/nowhere")))
	for _, dir := range []string{"/", "", "/srv/data/", "/app/cache", "/none/a", "../../up", "/real/app"} {
		if err := x.Ensure(dir); err != nil {
			t.Errorf("%q: %v", dir, err)
		}
	}
	for _, dir := range []string{"/file", "/" + strings.Repeat("d/", 3000)} {
		if err := x.Ensure(dir); err == nil {
			t.Errorf("%.20q is no folder, and was made one", dir)
		}
	}
	for _, name := range []string{"none", "proc", "app", "file", "real"} {
		x.Mountpoint(name)
	}
	same(t, "files", listed(t, x), "app/", "file/", "none/", "none/a/", "proc/", "real/", "real/app/", "real/app/cache/", "srv/", "srv/data/", "up/")
}

// TestPick: by name, by digest, and by the machine; and what there is, is listed.
func TestPick(t *testing.T) {
	for i, c := range []struct {
		have, want string
		same       bool
	}{
		{"web:1.4", "web:1.4", true}, {"docker.io/library/web:1.4", "web:1.4", true}, {"web:latest", "web", true}, {"web:1.4", "web", false},
		{"host:5000/web:latest", "host:5000/web", true}, {"1.4", "1.4", true}, {"docker.io/acme/web:1", "acme/web:1", true}, {"web:1.4", "eb:1.4", false},
	} {
		a := open(t, put(t, imagetest.Saved(t, imagetest.Image{Tags: []string{c.have}})), budget(t, image.Limits{}))
		if im, err := a.Pick(c.want, "amd64"); (err == nil) != c.same || err == nil && im != a.Images[0] {
			t.Errorf("%d: %q of %q: %v", i, c.want, c.have, err)
		}
	}

	config := func(arch, variant string) string {
		return `{"os": "linux", "architecture": "` + arch + `", "variant": "` + variant + `"}`
	}
	many := imagetest.Saved(t, imagetest.Image{Tags: []string{"web:1", "web:latest"}, Config: config("amd64", "")},
		imagetest.Image{Tags: []string{"db:1"}, Config: config("amd64", "v1")}, imagetest.Image{Tags: []string{"old:1"}, Config: config("386", "")})
	a := open(t, put(t, many), budget(t, image.Limits{}))
	if im, err := a.Pick("web", "amd64"); err != nil || im != a.Images[0] {
		t.Errorf("%v", err)
	}
	if im, err := a.Pick(strings.TrimPrefix(a.Images[1].Digest, "sha256:")[:12], "amd64"); err != nil || im != a.Images[1] {
		t.Errorf("by digest: %v", err)
	}
	if im, err := a.Pick("old:1", "amd64"); err != nil || im != a.Images[2] {
		t.Errorf("an amd64 runs 386: %v", err)
	}
	for _, given := range [][2]string{{"", "amd64"}, {"sha256:", "amd64"}, {"nginx", "amd64"}, {"web", "arm64"}} {
		im, err := a.Pick(given[0], given[1])
		if err == nil {
			t.Errorf("%q on %s is %s", given[0], given[1], im.Title())
			continue
		}
		if !strings.Contains(err.Error(), "web:1, web:latest linux/amd64") {
			t.Errorf("%q on %s does not say what there is: %v", given[0], given[1], err)
		}
	}

	platform := func(os, arch, variant string) map[string]string {
		return map[string]string{"os": os, "architecture": arch, "variant": variant}
	}
	var images []imagetest.Image
	for i, p := range []map[string]string{
		platform("linux", "amd64", "v3"), platform("linux", "amd64", ""), platform("linux", "arm64", "v8"), platform("linux", "arm", "v6"),
		platform("linux", "arm", "v7"), platform("windows", "amd64", ""), platform("unknown", "unknown", ""), platform("linux", "s390x", ""),
	} {
		images = append(images, imagetest.Image{Tags: []string{"web"}, Platform: p, Config: `{"config": {"Cmd": ["` + string(rune('a'+i)) + `"]}}`})
	}
	dir := t.TempDir()
	imagetest.Write(t, dir, imagetest.Layout(t, images...))
	a = open(t, dir, budget(t, image.Limits{}))
	for machine, want := range map[string]int{"amd64": 1, "arm64": 2, "arm": 4, "s390x": 7} {
		if im, err := a.Pick("", machine); err != nil || im != a.Images[want] {
			t.Errorf("on %s: %v", machine, err)
		}
	}
	if _, err := a.Pick("", "riscv64"); err == nil || !strings.Contains(err.Error(), "linux/s390x") {
		t.Errorf("%v", err)
	}
}

// TestReference: the name of an image behind the path of its file.
func TestReference(t *testing.T) {
	dir := t.TempDir()
	imagetest.Write(t, dir, map[string]string{"a#b": ""})
	for given, want := range map[string][2]string{
		"web.tar": {"web.tar", ""}, "web.tar#web:1": {"web.tar", "web:1"}, "a#b#c": {"a#b", "c"}, "web.tar#": {"web.tar", ""}, dir + "/a#b": {dir + "/a#b", ""},
	} {
		if path, name := image.Reference(given); path != want[0] || name != want[1] {
			t.Errorf("%s is %q, %q", given, path, name)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(`{"architecture": "amd64", "os": "linux", "config": {"User": "a:b", "Env": ["A=b"], "Entrypoint": ["/x"], "Cmd": "y", "WorkingDir": "/", "Volumes": {"/v": {}}}}`)
	f.Add(`{"config": null}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := image.ParseConfig([]byte(text))
		if err != nil {
			return
		}
		argv, err := c.Command(nil, nil)
		if (err == nil) != (len(argv) > 0 && argv[0] != "") {
			t.Errorf("%q, %v", argv, err)
		}
		env := c.Environment("/", nil)
		seen := map[string]bool{}
		for _, e := range env {
			name, _, ok := strings.Cut(e, "=")
			if !ok || name == "" || seen[name] {
				t.Errorf("%q in %q", e, env)
			}
			seen[name] = true
		}
		for _, text := range slices.Concat(argv, env, c.Volumes, []string{c.User, c.Folder()}) {
			if strings.Contains(text, "\x00") {
				t.Errorf("%q would end early", text)
			}
		}
		if !strings.HasPrefix(c.Folder(), "/") || strings.Contains(c.Folder()+"/", "/../") {
			t.Errorf("the command begins in %q", c.Folder())
		}
	})
}
