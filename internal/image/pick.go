package image

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Reference is a path and the name of an image in it, as people give both: "web.tar", "all.tar#web:1.4". A path that is there as it
// stands has no name, whatever letters it has.
func Reference(given string) (path, name string) {
	at := strings.LastIndexByte(given, '#')
	if at < 0 {
		return given, ""
	}
	if _, err := os.Lstat(given); err == nil {
		return given, ""
	}
	return given[:at], given[at+1:]
}

// Pick chooses the image that is meant: by a name, or the beginning of a digest, unless it is empty; and of several for different
// machines one that a machine of an architecture, in Go's word, can run. An error lists what there is.
func (a *Archive) Pick(name, architecture string) (*Image, error) {
	named := slices.DeleteFunc(slices.Clone(a.Images), func(im *Image) bool { return name != "" && !im.called(name) })
	if len(named) == 0 {
		return nil, fmt.Errorf("no image in it is called %q; there are:%s", name, list(a.Images))
	}
	var fit []*Image
	best := -1
	for _, im := range named {
		p, err := im.platform()
		if err != nil && len(named) == 1 {
			return nil, err
		}
		rank := p.rank(architecture)
		if err != nil || rank < 0 || best >= 0 && rank > best {
			continue
		}
		if rank != best {
			fit, best = nil, rank
		}
		if !slices.ContainsFunc(fit, func(o *Image) bool { return o.Digest == im.Digest }) {
			fit = append(fit, im)
		}
	}
	switch {
	case len(fit) == 0:
		return nil, fmt.Errorf("no image in it runs on this machine, which is linux/%s; there are:%s", architecture, list(named))
	case len(fit) > 1:
		return nil, fmt.Errorf("it holds several images; name one behind a #, as in FILE#NAME:%s", list(fit))
	}
	return fit[0], nil
}

// platform is what the configuration says: the layout's index may say nothing.
func (im *Image) platform() (Platform, error) {
	c, err := im.Config()
	if c.Platform.Architecture == "" && im.Platform.Architecture != "" {
		return im.Platform, nil
	}
	return c.Platform, err
}

// rank tells how well a machine runs a platform's programs: 0 as its own, negative not at all. What says nothing is taken to be fine.
func (p Platform) rank(architecture string) int {
	if p.OS != "" && p.OS != "linux" {
		return -1
	}
	runs := map[string][]string{"amd64": {"amd64", "386"}, "arm64": {"arm64", "arm"}}[architecture]
	if runs == nil {
		runs = []string{architecture}
	}
	if p.Architecture == "" {
		return 0
	}
	at := slices.Index(runs, p.Architecture)
	if at < 0 {
		return -1
	}
	// Of several for newer and older processors the one without a variant is for all of them.
	rank := at * 10
	switch {
	case p.Architecture == "amd64" && p.Variant != "" && p.Variant != "v1":
		rank += 5
	case p.Architecture == "arm" && p.Variant != "v7":
		rank += 5
	}
	return rank
}

// called tells whether a name is the image's: one of its tags, with what Docker leaves out of them or not, or the beginning of its
// digest.
func (im *Image) called(name string) bool {
	if im.Digest != "" && len(name) >= 6 {
		_, sum, _ := strings.Cut(im.Digest, ":")
		if strings.HasPrefix(im.Digest, name) && len(name) > len(im.Digest)-len(sum) || strings.HasPrefix(sum, name) {
			return true
		}
	}
	return slices.ContainsFunc(im.Names, func(own string) bool { return own == name || familiar(own) == familiar(name) })
}

// familiar is a tag in its shortest form: "web:latest" of "docker.io/library/web".
func familiar(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/"), "library/")
	if !strings.Contains(name[strings.LastIndexByte(name, '/')+1:], ":") && !strings.Contains(name, "@") {
		name += ":latest"
	}
	return name
}

// maxListed is how many images a message names.
const maxListed = 20

func list(images []*Image) string {
	var out strings.Builder
	for i, im := range images {
		if i == maxListed {
			fmt.Fprintf(&out, "\n  and %d more", len(images)-i)
			break
		}
		out.WriteString("\n  " + printable(im.Title()))
		if p, err := im.platform(); err == nil && im.Platform.Architecture == "" && p.Architecture != "" {
			out.WriteString(" " + printable(p.String()))
		}
	}
	return out.String()
}
