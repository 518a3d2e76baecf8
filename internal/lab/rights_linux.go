package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// kept are the capabilities that root may have in a file system or a user namespace of ours: those that container engines leave, without
// the one to make device files. None of them reaches the network's configuration, mounts or other processes' memory.
var kept = map[int]bool{
	unix.CAP_CHOWN: true, unix.CAP_DAC_OVERRIDE: true, unix.CAP_FSETID: true, unix.CAP_FOWNER: true, unix.CAP_NET_RAW: true,
	unix.CAP_SETGID: true, unix.CAP_SETUID: true, unix.CAP_SETFCAP: true, unix.CAP_SETPCAP: true, unix.CAP_NET_BIND_SERVICE: true,
	unix.CAP_SYS_CHROOT: true, unix.CAP_KILL: true, unix.CAP_AUDIT_WRITE: true,
}

// needed are the capabilities with which a user's first process makes the namespaces.
var needed = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE, unix.CAP_SETPCAP}

// limit takes from the calling thread what programs that it starts are not to have: a program of who is not root then has no rights,
// and one of root those that are kept.
func limit() error {
	for c := 0; ; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if err != nil {
			break // the last one was before it
		}
		if has == 0 || kept[c] {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	sets[0].Inheritable, sets[1].Inheritable = 0, 0 // and so no ambient ones
	if err := unix.Capset(&header, &sets[0]); err != nil {
		return fmt.Errorf("drop inheritable capabilities: %w", err)
	}
	return nil
}

// privileged tells that this process can make namespaces without a user namespace.
func privileged() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if os.Geteuid() != 0 || unix.Capget(&header, &sets[0]) != nil {
		return false
	}
	for _, c := range needed {
		if sets[0].Effective&(1<<c) == 0 {
			return false
		}
	}
	return true
}

// refusals are the errors by which a kernel says that namespaces are not to be had.
var refusals = []error{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS}

func refused(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}

// instead is what works without namespaces.
const instead = "serve with `imdsctl imds serve` and point the program there with AWS_EC2_METADATA_SERVICE_ENDPOINT"

// forbidden says why namespaces are not allowed, as the settings under /proc/sys tell.
func forbidden(settings string, unprivileged bool, cause error) error {
	for _, s := range []struct {
		name, value string
		users       bool // it binds user namespaces, which root does without
	}{
		{"user/max_user_namespaces", "0", true}, {"kernel/unprivileged_userns_clone", "0", true},
		{"kernel/apparmor_restrict_unprivileged_userns", "1", true},
		{"user/max_net_namespaces", "0", false}, {"user/max_pid_namespaces", "0", false}, {"user/max_mnt_namespaces", "0", false},
	} {
		text, err := os.ReadFile(filepath.Join(settings, s.name))
		if err != nil || strings.TrimSpace(string(text)) != s.value || s.users && !unprivileged {
			continue
		}
		setting, otherwise := strings.ReplaceAll(s.name, "/", "."), instead
		if s.users {
			otherwise = "run imdsctl as root, or " + instead
		}
		return fmt.Errorf("%w: %s = %s forbids it (%w): change that setting, or %s", ErrForbidden, setting, s.value, cause, otherwise)
	}
	if unprivileged {
		return fmt.Errorf("%w: a security module, or the container that this runs in, forbids user namespaces (%w): run imdsctl as root "+
			"(in a container with CAP_SYS_ADMIN, CAP_NET_ADMIN and no seccomp profile), or %s", ErrForbidden, cause, instead)
	}
	return fmt.Errorf("%w, even to root: a security module or the container that this runs in forbids it (%w): "+
		"run imdsctl outside of it, or %s", ErrForbidden, cause, instead)
}
