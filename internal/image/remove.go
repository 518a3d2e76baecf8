package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Remove removes a folder that Unpack filled, with whatever the programs in it made of it: folders that their owner may not list or
// write are opened up first. It goes through no link. Where something is mounted in it nothing is removed, since that would be somebody
// else's.
func Remove(dir string) error {
	if err := mounted(dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	err := os.RemoveAll(dir)
	if err == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrPermission) && os.Chmod(dir, 0o700) == nil {
		root, err = os.OpenRoot(dir)
	}
	if err != nil {
		return err
	}
	openUp(root, ".")
	root.Close()
	return os.RemoveAll(dir)
}

// openUp lets the owner of folders write into them. What it cannot change the removal will tell.
func openUp(root *os.Root, name string) {
	if root.Chmod(name, 0o700) != nil {
		return
	}
	f, err := root.Open(name)
	if err != nil {
		return
	}
	entries, _ := f.ReadDir(-1)
	f.Close()
	for _, e := range entries {
		if e.IsDir() {
			openUp(root, filepath.Join(name, e.Name()))
		}
	}
}
