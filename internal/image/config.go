package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Config is what an image says of how its command is run: the part of it that counts without a network, limits and volumes.
// https://github.com/opencontainers/image-spec/blob/main/config.md
type Config struct {
	Platform   Platform
	User       string
	Env        []string // NAME=value
	Entrypoint []string
	Cmd        []string
	WorkingDir string
	Volumes    []string // folders that are there even where no layer brings them, sorted
	Layers     []string // digests of the plain layers, the lowest first; nil where it says none
}

// Config reads the image's configuration. That of an archive that says nothing of itself is empty.
func (im *Image) Config() (Config, error) {
	if im.config == "" {
		return Config{Platform: im.Platform}, nil
	}
	if !fs.ValidPath(im.config) {
		return Config{}, errors.New("the image's configuration has no name that could be one")
	}
	data, err := im.archive.document(im.config)
	if err != nil {
		return Config{}, fmt.Errorf("read the image's configuration: %w", err)
	}
	c, err := ParseConfig(data)
	if err != nil {
		return Config{}, fmt.Errorf("read the image's configuration %s: %w", im.config, err)
	}
	return c, nil
}

// ParseConfig reads a configuration as Docker and OCI write it. What cannot be handed to a program, or is no environment, is an error.
func ParseConfig(data []byte) (Config, error) {
	var doc struct {
		Platform
		Config struct {
			User       string
			Env        []string
			Entrypoint words
			Cmd        words
			WorkingDir string
			Volumes    map[string]struct{}
		} `json:"config"`
		RootFS struct {
			Layers []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return Config{}, err
	}
	c := Config{
		Platform: doc.Platform, User: doc.Config.User, Env: doc.Config.Env, Entrypoint: doc.Config.Entrypoint, Cmd: doc.Config.Cmd,
		WorkingDir: doc.Config.WorkingDir, Layers: doc.RootFS.Layers,
	}
	for v := range doc.Config.Volumes {
		c.Volumes = append(c.Volumes, v)
	}
	slices.Sort(c.Volumes)
	for _, text := range slices.Concat(c.Env, c.Entrypoint, c.Cmd, c.Volumes, []string{c.User, c.WorkingDir}) {
		if strings.Contains(text, "\x00") {
			return Config{}, fmt.Errorf("%q holds a zero byte", text)
		}
	}
	for _, e := range c.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return Config{}, fmt.Errorf("%q is no variable of the environment", e)
		}
	}
	return c, nil
}

// words are a list, or one word alone, as old versions of Docker wrote it.
type words []string

// UnmarshalJSON reads either.
func (w *words) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		if *w = nil; one != "" {
			*w = words{one}
		}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(w))
}

// Command is what a container of the image starts, by the rules of `docker run`: the entrypoint, the image's unless another is given,
// with the arguments that are given, or else the image's. An entrypoint that is given takes the image's arguments away; one that is
// empty leaves only the arguments. Where neither says a command the error is ErrNoCommand.
func (c Config) Command(entrypoint *string, args []string) ([]string, error) {
	first, rest := c.Entrypoint, c.Cmd
	if entrypoint != nil {
		if first, rest = nil, nil; *entrypoint != "" {
			first = []string{*entrypoint}
		}
	}
	if len(args) > 0 {
		rest = args
	}
	argv := slices.Concat(first, rest)
	if len(argv) == 0 || argv[0] == "" {
		return nil, ErrNoCommand
	}
	return argv, nil
}

// ErrNoCommand says that nobody knows what to run.
var ErrNoCommand = errors.New("the image says no command of its own, and none was given")

// defaultPath is Docker's, where an image says none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Environment is what the command sees: the image's, with what Docker adds to it (a PATH, a HOME), and over it what is given. Of a
// variable that is there twice the later counts.
func (c Config) Environment(home string, given []string) []string {
	at := map[string]int{}
	var out []string
	for _, e := range slices.Concat([]string{"PATH=" + defaultPath, "HOME=" + home}, c.Env, given) {
		name, _, _ := strings.Cut(e, "=")
		if i, ok := at[name]; ok {
			out[i] = e
			continue
		}
		at[name] = len(out)
		out = append(out, e)
	}
	return out
}

// Folder is the command's working directory.
func (c Config) Folder() string { return path.Join("/", c.WorkingDir) }

// Ensure makes a folder where there is none, as runtimes do for the working directory and for what is mounted. What is no folder, nor a
// link to one, is an error.
func (x *Index) Ensure(folder string) error {
	key, _ := entryPath(folder, false)
	if len(key) > maxPath {
		return fmt.Errorf("the name of the image's folder %.100s… is longer than %d bytes", key, maxPath)
	}
	if n := x.resolve(key); n != nil && !n.mode.IsDir() {
		return fmt.Errorf("/%s should be a folder of the image, and is none", printable(key))
	}
	_, err := x.folder(key, 0)
	return err
}

// Mountpoint makes a folder in the root where there is none. A link gives way, wherever it leads: two of them could lead to one place, and
// what is mounted there last would hide the other.
func (x *Index) Mountpoint(name string) {
	if n := x.root.children[name]; n == nil || !n.mode.IsDir() {
		x.root.children[name] = &node{name: name, mode: fs.ModeDir | 0o755, children: map[string]*node{}}
	}
}

// text reads a file of the image that people write, such as etc/passwd, links followed; nil where there is none.
func (x *Index) text(name string) ([]byte, error) {
	if x.resolve(name) == nil {
		return nil, nil
	}
	return document(x, name)
}
