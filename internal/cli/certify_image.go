package cli

import (
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/imdsctl/imdsctl/internal/app"
)

// certifyImageOptions are the flags about the image whose command is certified.
type certifyImageOptions struct {
	file, entrypoint string
	variables        []string
	hostNetwork      bool
	unpacked         int
}

func (o *certifyImageOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.file, "image", "", "run the command of this container image, a `file[#name]`, in its file system, behind a routed hop")
	f.StringVar(&o.entrypoint, "entrypoint", "", "this `program` in place of the image's entrypoint and arguments")
	f.StringArrayVar(&o.variables, "image-env", nil, "a variable over those of the image, `NAME[=VALUE]`; without a value it is this environment's")
	f.BoolVar(&o.hostNetwork, "host-network", false, "with --image: no routed hop, as for a container in its host's network")
	f.IntVar(&o.unpacked, "max-unpacked", 16, "decompress and unpack at most this many `GiB` of the image")
}

// check refuses what cannot be meant.
func (o *certifyImageOptions) check(container bool) error {
	for flag, given := range map[string]bool{
		"--entrypoint": o.entrypoint != "", "--image-env": len(o.variables) > 0, "--host-network": o.hostNetwork,
	} {
		if given && o.file == "" {
			return misuse(flag, "Say with --image of which, or leave it out.", "it is about an image")
		}
	}
	for _, v := range o.variables {
		if v == "" || v[0] == '=' {
			return misuse("--image-env", "Give NAME=VALUE.", "%q names no variable", v)
		}
	}
	switch {
	case container && o.hostNetwork:
		return misuse("--host-network", "Give one of the two.", "--container asks for a routed hop, and --host-network for none")
	case o.unpacked < 1:
		return misuse("--max-unpacked", "Give a number of GiB, at least 1.", "%d is no limit", o.unpacked)
	}
	return nil
}

func (s *session) certifyImage(o certifyImageOptions, given func(string) bool) app.CertifyImage {
	out := app.CertifyImage{File: o.file, Unpacked: int64(o.unpacked) << 30}
	out.Progress = func() (func(files, bytes int64), func()) { return s.softwareProgress(o.file) }
	if given("entrypoint") {
		out.Entrypoint = &o.entrypoint
	}
	for _, v := range o.variables {
		if !strings.Contains(v, "=") {
			value, there := os.LookupEnv(v)
			if !there {
				continue // as docker run does
			}
			v += "=" + value
		}
		out.Environment = append(out.Environment, v)
	}
	return out
}
