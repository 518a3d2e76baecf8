package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/image"
	"github.com/imdsctl/imdsctl/internal/lab"
)

// CertifyImage is the image whose command is certified.
type CertifyImage struct {
	// File is docker save's, an OCI layout's folder or tar, or the tar of a file system, with an image's name behind a # where it holds
	// several. Empty is no image: the command runs in this host's file system.
	File string
	// Entrypoint takes the place of the image's, and of its arguments; nil leaves it, and "" takes it away.
	Entrypoint *string
	// Environment goes over the image's, "NAME=value".
	Environment []string
	// Unpacked bounds what is decompressed and unpacked, in bytes; 0 is image.DefaultLimits.
	Unpacked int64
	// Progress makes what is told of the files that are unpacked, and what is called when they are there, before the command runs; nil is
	// nobody.
	Progress func() (show func(files, bytes int64), stop func())
}

// enterImage unpacks the image into a new folder of this process's own, which it.done removes, and makes its command the one that is run,
// as a container would begin with it. The image's user is kept where this process is root; for others all files are their own.
func (c *certification) enterImage(ctx context.Context, it *prepared) (err error) {
	if runtime.GOOS != "linux" {
		return labError(lab.ErrUnsupported, true)
	}
	base, err := os.MkdirTemp("", "imdsctl-image-") // mode 0700: nobody else gets at what is in it
	if err != nil {
		return fmt.Errorf("make a folder for the image: %w", err)
	}
	it.done = func() error {
		if err := image.Remove(base); err != nil {
			return fmt.Errorf("remove the unpacked image: %w", err)
		}
		return nil
	}
	root, layers := filepath.Join(base, "root"), filepath.Join(base, "layers")
	for _, dir := range []string{root, layers} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("make a folder for the image: %w", err)
		}
	}
	limits := image.DefaultLimits()
	if c.Image.Unpacked > 0 {
		limits.Unpacked = c.Image.Unpacked
	}
	budget := image.NewBudget(limits, layers)
	path, name := image.Reference(c.Image.File)
	unusable := func(err error, remedy string) error {
		return fleet.Diagnostic{Severity: fleet.SeverityError, Where: path, Summary: err.Error(), Remedy: remedy}
	}
	archive, err := image.Open(ctx, path, image.Options{Budget: budget, Verify: true})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return unusable(errors.New(image.Reason(err)), unopened(err))
	}
	defer archive.Close()
	if archive.Form == image.FormFile {
		return unusable(errors.New("it is no image"), imageForms)
	}
	im, err := archive.Pick(name, runtime.GOARCH)
	if err != nil {
		return unusable(err, "")
	}
	err = c.unpack(ctx, it, im, archive.Gaps, root, budget)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, image.ErrNoCommand):
		return unusable(err, "Give one: `imdsctl certify --image FILE -- COMMAND`.")
	case err != nil:
		return unusable(err, "")
	}
	return nil
}

// imageForms is what to do about a file that is no image.
const imageForms = "--image takes what `docker save` wrote, an OCI layout, or the tar of a file system: see docs/certify.md."

// unopened is what to do about an image that could not be opened.
func unopened(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "Set TMPDIR to a folder with room for the unpacked image, and for its layers until that is there."
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return "Name a file, or the folder of an OCI layout, that is there and that you may read."
	}
	return imageForms
}

// unpack makes the image's file system, and says how its command is run in it. What nobody could read of a layer is an error: the command
// might miss it. Other gaps, those of the archive with them, are notes.
func (c *certification) unpack(
	ctx context.Context, it *prepared, im *image.Image, gaps []image.Gap, root string, budget *image.Budget,
) error {
	if err := unread(gaps); err != nil { // else it would be what is missing behind the damage that is told
		return err
	}
	config, err := im.Config()
	if err != nil {
		return err
	}
	if it.argv, err = config.Command(c.Image.Entrypoint, c.Command); err != nil {
		return err
	}
	tree, more, err := im.Tree(ctx)
	if err != nil {
		return err
	}
	if err := unread(more); err != nil {
		return err
	}
	gaps = slices.Concat(gaps, more)
	user, err := tree.User(config.User)
	if err != nil {
		return err
	}
	for _, dir := range append(config.Volumes, config.Folder()) {
		if err := tree.Ensure(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{"proc", "dev", "sys"} {
		tree.Mountpoint(dir)
	}
	options := image.UnpackOptions{Owners: os.Geteuid() == 0, Budget: budget}
	stop := func() {}
	if c.Image.Progress != nil {
		options.Progress, stop = c.Image.Progress()
	}
	done, err := tree.Unpack(ctx, root, options)
	stop()
	if err != nil {
		return err
	}
	if len(gaps) > 0 {
		it.notes = append(it.notes, fmt.Sprintf("entries of the image's layers that could not be taken as they are: %d, such as %q: %s",
			len(gaps), gaps[0].Path, gaps[0].Reason))
	}
	it.notes = append(it.notes, done.Notes()...)
	it.env, it.dir = config.Environment(user.Home, c.Image.Environment), config.Folder()
	it.root = &lab.RootFS{Dir: root, UID: user.UID, GID: user.GID, Groups: user.Groups}
	return nil
}

// unread tells of a layer, or the rest of one, that nobody could read.
func unread(gaps []image.Gap) error {
	at := slices.IndexFunc(gaps, func(g image.Gap) bool { return g.Layer })
	switch {
	case at < 0:
		return nil
	case gaps[at].Path == ".":
		return errors.New(gaps[at].Reason)
	}
	return fmt.Errorf("%s: %s", gaps[at].Path, gaps[at].Reason)
}
