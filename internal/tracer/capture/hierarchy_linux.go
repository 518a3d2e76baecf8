package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// hierarchy is the root of cgroup v2, or what is seen of it.
type hierarchy struct {
	dir     *os.File
	mounted string // where it is, or was, mounted: for messages
	// whole tells that it is the host's root. In a cgroup namespace, what is called root is a part.
	whole bool
}

// rootInode is that of the root of cgroup v2, and of no other of its directories.
const rootInode = 1

// findHierarchy opens the root of cgroup v2: where it is mounted, where the host's first process has it, or by mounting it for a moment.
// Where only a part is to be had, that is opened.
func findHierarchy() (*hierarchy, error) {
	var part *hierarchy
	for _, open := range []func() []*hierarchy{mountedHere, mountedOnHost, mountedForUs} {
		for _, h := range open() {
			if h.whole || part == nil {
				if part != nil {
					part.close()
				}
				part = h
			} else {
				h.close()
			}
		}
		if part != nil && part.whole {
			return part, nil
		}
	}
	if part == nil {
		return nil, errors.New("there is no cgroup v2, and none could be mounted: it takes Linux 4.5 and root")
	}
	return part, nil
}

// mountedHere opens what this process's list of mounts holds.
func mountedHere() []*hierarchy {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []*hierarchy
	for _, path := range cgroupMounts(f) {
		if h, err := openHierarchy(path); err == nil {
			all = append(all, h)
		}
	}
	return all
}

// mountedOnHost opens what the first process has, which is the host's where its PID namespace is shared with us.
func mountedOnHost() []*hierarchy {
	var all []*hierarchy
	for _, path := range []string{"/proc/1/root/sys/fs/cgroup", "/proc/1/root/sys/fs/cgroup/unified"} {
		if h, err := openHierarchy(path); err == nil {
			all = append(all, h)
		}
	}
	return all
}

// mountedForUs mounts it where nobody else looks. Once it is open the mount is taken away again.
func mountedForUs() []*hierarchy {
	dir, err := os.MkdirTemp("", "imdsctl-cgroup-")
	if err != nil {
		return nil
	}
	defer os.Remove(dir)
	if err := unix.Mount("imdsctl", dir, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return nil
	}
	h, err := openHierarchy(dir)
	if unmount := unix.Unmount(dir, unix.MNT_DETACH); unmount != nil || err != nil {
		return nil
	}
	return []*hierarchy{h}
}

func openHierarchy(path string) (*hierarchy, error) {
	dir, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	var kind unix.Statfs_t
	var stat unix.Stat_t
	err = errors.Join(unix.Fstatfs(int(dir.Fd()), &kind), unix.Fstat(int(dir.Fd()), &stat))
	if err == nil && kind.Type != unix.CGROUP2_SUPER_MAGIC {
		err = fmt.Errorf("%s is no cgroup v2", path)
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return &hierarchy{dir: dir, mounted: path, whole: stat.Ino == rootInode}, nil
}

// path leads to the open directory, also when it is mounted no more.
func (h *hierarchy) path() string { return fmt.Sprintf("/proc/self/fd/%d", h.dir.Fd()) }

// cgroup is the path of a cgroup by its id, while it exists.
func (h *hierarchy) cgroup(id uint64) (string, bool) {
	const kernfsID = 0xfe // FILEID_KERNFS: the id alone
	f, err := unix.OpenByHandleAt(int(h.dir.Fd()), unix.NewFileHandle(kernfsID, binary.NativeEndian.AppendUint64(nil, id)), unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return "", false
	}
	defer unix.Close(f)
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f))
	if err != nil {
		return "", false
	}
	root, err := os.Readlink(h.path())
	if err != nil {
		return "", false
	}
	if root == "/" {
		return path, true
	}
	below, ok := strings.CutPrefix(path, root)
	return "/" + strings.TrimPrefix(below, "/"), ok
}

func (h *hierarchy) close() { h.dir.Close() }
