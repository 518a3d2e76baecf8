package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mountProc mounts a /proc of this process's own process namespace.
func mountProc(at string) error {
	if err := unix.Mount("proc", at, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", at, err)
	}
	return nil
}

// devices are the device files that a program may count on.
var devices = [...]string{"null", "zero", "full", "random", "urandom", "tty"}

// Of /proc, what would change the kernel of the host is read-only, and what tells of it is hidden, as in container engines.
var (
	readOnly = [...]string{"bus", "fs", "irq", "sys", "sysrq-trigger"}
	hidden   = [...]string{"acpi", "asound", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi"}
)

// enterRoot makes a directory the root of this process and of all that come after it, with /proc, /dev and /sys. Everything is made
// from inside, so that a symbolic link in there, wherever it points, leads to nothing outside.
func enterRoot(root RootFS, resolvConf string) (notes []string, err error) {
	old, err := os.Open("/")
	if err != nil {
		return nil, err
	}
	defer old.Close()
	if err := pivot(root.Dir); err != nil {
		return nil, err
	}
	for _, dir := range []string{"proc", "dev", "sys", "tmp", "etc"} {
		if err := folder("/" + dir); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod("/tmp", 0o777|os.ModeSticky); err != nil {
		return nil, fmt.Errorf("open /tmp of the command's file system to all: %w", err)
	}
	if err := mountProc("/proc"); err != nil {
		return nil, err
	}
	if err := mountDev(old); err != nil {
		return nil, err
	}
	guarded := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY)
	if err := unix.Mount("sysfs", "/sys", "sysfs", guarded, ""); err != nil {
		notes = append(notes, fmt.Sprintf("/sys is empty: it cannot be mounted here (%v).", err))
	}
	// The host's file system is in sight until here, for its devices.
	if err := leave(old); err != nil {
		return notes, err
	}
	if err := guardProc(); err != nil {
		return notes, err
	}
	return notes, writeNames(resolvConf)
}

// pivot makes a directory this process's root. The former root is mounted over it, out of sight of all paths, until leave.
func pivot(dir string) error {
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s as a file system of its own: %w", dir, err)
	}
	// Device files in there stay files: who may write the disk's would own the host.
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NODEV|lockedFlags(dir), ""); err != nil {
		return fmt.Errorf("mount %s without devices: %w", dir, err)
	}
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("enter %s: %w", dir, err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("make %s the root: %w", dir, err)
	}
	return nil
}

// lockedFlags are those of a mount's flags that a user namespace may not take away.
func lockedFlags(path string) uintptr {
	var s unix.Statfs_t
	if unix.Statfs(path, &s) != nil {
		return 0
	}
	var flags uintptr
	for st, ms := range map[int64]uintptr{
		unix.ST_NOSUID: unix.MS_NOSUID, unix.ST_NOEXEC: unix.MS_NOEXEC, unix.ST_RDONLY: unix.MS_RDONLY,
		unix.ST_NOATIME: unix.MS_NOATIME, unix.ST_NODIRATIME: unix.MS_NODIRATIME, unix.ST_RELATIME: unix.MS_RELATIME,
	} {
		if s.Flags&st != 0 {
			flags |= ms
		}
	}
	return flags
}

// leave lets go of the former root.
func leave(old *os.File) error {
	if err := unix.Fchdir(int(old.Fd())); err != nil {
		return fmt.Errorf("find the former root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the former root: %w", err)
	}
	return os.Chdir("/")
}

// folder makes a folder, in place of what is there and is none.
func folder(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make %s in the command's file system: %w", path, err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		return fmt.Errorf("make %s in the command's file system: %w", path, err)
	}
	return nil
}

// mountDev makes /dev of the host's harmless devices.
func mountDev(old *os.File) error {
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=65536k"); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	for _, name := range devices {
		if err := bindDevice(old, name); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
	}
	for link, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"} {
		if err := os.Symlink(to, "/dev/"+link); err != nil {
			return err
		}
	}
	for _, m := range []struct{ at, kind, options string }{{"/dev/shm", "tmpfs", "mode=1777,size=65536k"}, {"/dev/pts", "devpts", "newinstance,ptmxmode=0666"}} {
		if err := os.Mkdir(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, unix.MS_NOSUID|unix.MS_NOEXEC, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return nil
}

// bindDevice mounts a device file of the former root. Making one takes rights that only root of the host has.
func bindDevice(old *os.File, name string) error {
	fd, err := unix.Openat(int(old.Fd()), "dev/"+name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil // the host has none either
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	at := "/dev/" + name
	if err := os.WriteFile(at, nil, 0o666); err != nil {
		return err
	}
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), at, "", unix.MS_BIND, "")
}

func guardProc() error {
	for _, name := range readOnly {
		at := filepath.Join("/proc", name)
		if _, err := os.Lstat(at); err != nil {
			continue
		}
		flags := uintptr(unix.MS_BIND | unix.MS_REC)
		if err := unix.Mount(at, at, "", flags, ""); err != nil {
			return fmt.Errorf("protect %s: %w", at, err)
		}
		flags = unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
		if err := unix.Mount("", at, "", flags, ""); err != nil {
			return fmt.Errorf("protect %s: %w", at, err)
		}
	}
	for _, name := range hidden {
		at := filepath.Join("/proc", name)
		info, err := os.Lstat(at)
		switch {
		case err != nil:
		case info.IsDir():
			err = unix.Mount("tmpfs", at, "tmpfs", unix.MS_RDONLY, "size=0")
			if err != nil {
				return fmt.Errorf("hide %s: %w", at, err)
			}
		default:
			if err := unix.Mount("/dev/null", at, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("hide %s: %w", at, err)
			}
		}
	}
	return nil
}

// writeNames gives the command nameservers, where there is a way to them, and the name localhost. What the image has at these paths
// may be a link to nowhere; it is replaced.
func writeNames(resolvConf string) error {
	if resolvConf != "" {
		if err := replace("/etc/resolv.conf", resolvConf); err != nil {
			return err
		}
	}
	if _, err := os.Stat("/etc/hosts"); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return replace("/etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n")
}

// replace writes a file of the command's file system, in place of what is there.
func replace(path, text string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace %s of the command's file system: %w", path, err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write %s of the command's file system: %w", path, err)
	}
	return nil
}
