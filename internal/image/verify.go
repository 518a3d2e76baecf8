package image

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"
)

// errAltered says that something is not what its digest names. Whoever makes a file can give it any digests: this finds what was damaged
// on its way, which a layer that is not compressed does not show by itself.
var errAltered = errors.New("it was damaged or changed")

// hashes are the algorithms of digests: https://github.com/opencontainers/image-spec/blob/main/descriptor.md#registered-algorithms
var hashes = map[string]func() hash.Hash{"sha256": sha256.New, "sha512": sha512.New}

// sumOf is what a digest must come to, and how it is made; false for one that cannot be checked.
func sumOf(digest string) (h hash.Hash, want string, ok bool) {
	algorithm, want, _ := strings.Cut(digest, ":")
	known := hashes[algorithm]
	if known == nil {
		return nil, "", false
	}
	h = known()
	sum, err := hex.DecodeString(want)
	return h, strings.ToLower(want), err == nil && len(sum) == h.Size()
}

// verify compares bytes with a digest.
func verify(r io.Reader, digest string) error {
	h, want, ok := sumOf(digest)
	if !ok {
		return nil
	}
	if _, err := io.Copy(h, r); err != nil {
		return err
	}
	if have := hex.EncodeToString(h.Sum(nil)); have != want {
		return fmt.Errorf("%w: its digest should be %s and is %s", errAltered, want, have)
	}
	return nil
}

// verifyLayer compares a layer's plain bytes with the digest that the configuration has for it, if anybody wants that.
func (im *Image) verifyLayer(ctx context.Context, plain flattened, digest string) error {
	if !im.archive.options.Verify {
		return nil
	}
	return verify(stoppable{ctx, io.NewSectionReader(plain, 0, plain.size)}, digest)
}

// layerDigests are those of the image's plain layers, "" where nobody says one. Layers and digests that do not belong together are a gap.
func (im *Image) layerDigests() []string {
	out := make([]string, len(im.layers))
	if !im.archive.options.Verify || im.config == "" {
		return out
	}
	config, err := im.Config()
	if err != nil {
		im.gaps = append(im.gaps, Gap{Path: im.config, Reason: err.Error(), Layer: true})
		return out
	}
	if n := len(config.Layers); n > 0 && n != len(out) {
		im.gaps = append(im.gaps, Gap{Path: im.config, Reason: fmt.Sprintf("the configuration is of %d layers, and there are %d", n, len(out)), Layer: true})
		return out
	}
	copy(out, config.Layers)
	return out
}

// namedBy is the digest in a blob's name, as layouts ("blobs/sha256/…") and `docker save` ("….json", of a configuration) have it.
func namedBy(name string) string {
	if algorithm, blob := path.Base(path.Dir(name)), strings.HasPrefix(name, "blobs/"); blob {
		return algorithm + ":" + path.Base(name)
	}
	return digestOf(name)
}
