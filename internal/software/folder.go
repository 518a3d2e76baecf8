package software

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/image"
)

// folder is a folder of this machine. os.Root keeps every opening inside it, whatever links say.
type folder struct {
	root *os.Root
	real string // its path without links
}

func openFolder(name string) (*folder, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	real, err := filepath.EvalSymlinks(name)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &folder{root: root, real: real}, nil
}

// Open opens a file only where it is a regular one: a named pipe would wait for somebody to write into it.
func (f *folder) Open(name string) (fs.File, error) {
	info, err := f.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("it is no regular file")}
	}
	return f.root.Open(filepath.FromSlash(name))
}

// Stat describes a file, links followed.
func (f *folder) Stat(name string) (fs.FileInfo, error) { return f.root.Stat(filepath.FromSlash(name)) }

// ReadDir lists a folder by name; with an error it gives what it could list.
func (f *folder) ReadDir(name string) ([]fs.DirEntry, error) {
	dir, err := f.root.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

func (f *folder) files(ctx context.Context, w walker) error { return f.below(ctx, ".", w) }

func (f *folder) below(ctx context.Context, dir string, w walker) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := f.ReadDir(dir)
	if err != nil {
		w.gap(dir, "the folder cannot be listed: "+image.Reason(err))
	}
	out, first := 0, ""
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch kind := e.Type(); {
		case kind.IsDir():
			if !w.skip(name) {
				if err := f.below(ctx, name, w); err != nil {
					return err
				}
			}
		case kind&fs.ModeSymlink != 0:
			w.link(name)
			if why := f.leadsOut(name); why != "" {
				if out++; out == 1 {
					first = e.Name() + ": " + why
				}
			}
		case kind.IsRegular():
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // it was removed meanwhile
			}
			if err != nil {
				w.gap(name, image.Reason(err))
				continue
			}
			if err := w.visit(name, info); err != nil {
				return err
			}
		}
	}
	switch {
	case out == 1:
		w.gap(dir, first)
	case out > 1:
		w.gap(dir, fmt.Sprintf("%d links lead to what is not scanned, such as %s", out, first))
	}
	return nil
}

// leadsOut says why what a symbolic link points to is not scanned at its own place; "" where it is, where there is nothing, or where
// it is a file that would not be opened. An absolute link is read as the system in the folder would read it, from the folder's root,
// if there is something; else as this machine reads it.
func (f *folder) leadsOut(name string) string {
	at := name
	for range image.MaxLinks {
		target, err := f.root.Readlink(filepath.FromSlash(at))
		if err != nil {
			return "" // no link: a file, a folder, or nothing
		}
		next := path.Join(path.Dir(at), filepath.ToSlash(target))
		if filepath.IsAbs(target) || strings.HasPrefix(target, "/") {
			next = path.Join(".", strings.TrimPrefix(path.Clean(filepath.ToSlash(target)), "/"))
			if _, err := f.root.Lstat(filepath.FromSlash(next)); err != nil {
				return f.outside(name, target)
			}
		}
		if next == ".." || strings.HasPrefix(next, "../") {
			return f.outside(name, target)
		}
		if _, err := f.root.Lstat(filepath.FromSlash(next)); err != nil {
			return ""
		}
		at = next
	}
	return "the links lead in a circle"
}

// outside looks where on this machine a link ends that leaves the folder: it may come back.
func (f *folder) outside(name, target string) string {
	end, err := filepath.EvalSymlinks(filepath.Join(f.root.Name(), filepath.FromSlash(name)))
	if err != nil || opaque(filepath.ToSlash(end)) {
		return ""
	}
	if back, err := filepath.Rel(f.real, end); err == nil && filepath.IsLocal(back) {
		return ""
	}
	return "the link leads out of what is scanned, to " + filepath.ToSlash(target)
}
