package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
)

// The documents by which the forms are known.
const (
	savedFile  = "manifest.json"
	layoutFile = "oci-layout"
)

func (a *Archive) read(name string, into any) error {
	data, err := a.document(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// saved reads what `docker save` wrote; false where manifest.json is not Docker's: a file system may have one of its own.
// https://github.com/moby/docker-image-spec/blob/main/v1.2.md#combined-image-json--filesystem-changeset-format
func (a *Archive) saved() bool {
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := a.read(savedFile, &manifest); err != nil || len(manifest) == 0 || manifest[0].Config == "" {
		return false
	}
	a.Form = FormImages
	for _, m := range manifest {
		im := &Image{archive: a, Names: m.RepoTags, Digest: digestOf(m.Config), config: m.Config, layers: m.Layers}
		if im.title = strings.Join(m.RepoTags, ", "); im.title == "" {
			im.title = im.Digest
		}
		a.Images = append(a.Images, im)
	}
	return true
}

// digestOf makes a digest of the name of a configuration in docker save's forms, "<hex>.json" and "blobs/sha256/<hex>", or in that of
// other tools, "sha256:<hex>".
func digestOf(config string) string {
	return "sha256:" + strings.TrimPrefix(strings.TrimSuffix(path.Base(config), ".json"), "sha256:")
}

// Platform is what an image's programs are built for, in Go's words: linux, amd64. A variant says more of the processor: v7.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
}

// String gives "linux/arm/v7".
func (p Platform) String() string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// descriptor points to a blob. https://github.com/opencontainers/image-spec/blob/main/descriptor.md
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Annotations map[string]string `json:"annotations"`
	Platform    Platform          `json:"platform"`
}

// blob is the path of a digest in a layout; "" for what is none.
func (d descriptor) blob() string {
	algorithm, sum, ok := strings.Cut(d.Digest, ":")
	if !ok || algorithm == "" || sum == "" || strings.ContainsAny(d.Digest, `/\.`) {
		return ""
	}
	return "blobs/" + algorithm + "/" + sum
}

// manifestOrIndex is a manifest of an image or an index of manifests: whichever fields it has.
type manifestOrIndex struct {
	Manifests []descriptor `json:"manifests"`
	Config    descriptor   `json:"config"`
	Layers    []descriptor `json:"layers"`
}

// Bounds of what a layout's indexes hold.
const (
	maxIndexes = 4 // within one another
	maxImages  = 1000
)

// layout reads an OCI layout: every image of its index, whatever platform it is for.
// https://github.com/opencontainers/image-spec/blob/main/image-layout.md
func (a *Archive) layout() error {
	a.Form = FormImages
	var top manifestOrIndex
	if err := a.read("index.json", &top); err != nil {
		return fmt.Errorf("the OCI layout has no index that can be read: %w", err)
	}
	err := a.manifests(top.Manifests, nil, 0)
	switch {
	case err != nil || len(a.Images) > 0:
		return err
	case len(a.Gaps) > 0:
		last := a.Gaps[len(a.Gaps)-1]
		return fmt.Errorf("the OCI layout holds no image that can be read: %s: %s", last.Path, last.Reason)
	}
	return errors.New("the OCI layout holds no image")
}

func (a *Archive) manifests(of []descriptor, names []string, depth int) error {
	if depth > maxIndexes || len(a.Images) > maxImages {
		return errors.New("the OCI layout's indexes lie too deep within one another, or hold too many images")
	}
	for _, d := range of {
		if d.Annotations["vnd.docker.reference.type"] != "" {
			continue // an attestation about another image
		}
		called := names
		for _, key := range []string{"org.opencontainers.image.ref.name", "io.containerd.image.name"} {
			if v := d.Annotations[key]; v != "" {
				called = append([]string{v}, called...)
			}
		}
		var m manifestOrIndex
		if err := a.read(d.blob(), &m); err != nil {
			a.Gaps = append(a.Gaps, Gap{Path: d.Digest, Reason: "the manifest cannot be read: " + err.Error()})
			continue
		}
		if len(m.Manifests) > 0 {
			if err := a.manifests(m.Manifests, called, depth+1); err != nil {
				return err
			}
			continue
		}
		a.Images = append(a.Images, a.image(d, m, called))
	}
	return nil
}

func (a *Archive) image(d descriptor, m manifestOrIndex, names []string) *Image {
	im := &Image{archive: a, Names: names, Digest: d.Digest, Platform: d.Platform, config: m.Config.blob(), title: d.Digest}
	if len(names) > 0 {
		im.title = names[0] + " " + d.Digest
	}
	if d.Platform.Architecture != "" {
		im.title += " " + d.Platform.OS + "/" + d.Platform.Architecture
	}
	for _, l := range m.Layers {
		im.layers = append(im.layers, l.blob())
	}
	return im
}
