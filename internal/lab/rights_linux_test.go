package lab

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestForbidden: what forbids is named, as far as the settings tell, with what to do.
func TestForbidden(t *testing.T) {
	for _, c := range []struct {
		setting, value string
		unprivileged   bool
		want           string
	}{
		{"user/max_user_namespaces", "0\n", true, "user.max_user_namespaces = 0 forbids it"},
		{"kernel/unprivileged_userns_clone", "0\n", true, "kernel.unprivileged_userns_clone = 0 forbids it"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1\n", true, "kernel.apparmor_restrict_unprivileged_userns = 1 forbids it"},
		{"kernel/apparmor_restrict_unprivileged_userns", "0\n", true, "a security module"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1\n", false, "even to root"},
		{"user/max_net_namespaces", "0\n", false, "user.max_net_namespaces = 0 forbids it"},
		{"user/max_net_namespaces", "100\n", true, "a security module"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, c.setting)
		if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(c.value), 0o600)); err != nil {
			t.Fatal(err)
		}
		err := forbidden(dir, c.unprivileged, unix.EPERM)
		if !errors.Is(err, ErrForbidden) || !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), c.want) ||
			!strings.Contains(err.Error(), "imdsctl imds serve") || strings.Contains(err.Error(), "as root") != c.unprivileged {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestResolvers: nameservers on the host's loopback interface are stood in for; others are reached through NAT.
func TestResolvers(t *testing.T) {
	for text, want := range map[string]string{
		"nameserver 127.0.0.53\noptions edns0\n": "127.0.0.53",
		"# nothing\nsearch example.com\n":        "127.0.0.1",
		"":                                       "127.0.0.1",
		"nameserver 192.0.2.1\nnameserver ::1\nnameserver 127.0.0.53\n": "::1 127.0.0.53",
		"nameserver 127.0.0.1\nnameserver ::ffff:127.0.0.1\n":           "127.0.0.1",
		"nameserver 192.0.2.1\nnameserver\nnameserver x\n":              "",
		"nameserver fe80::1%eth0\n":                                     "",
	} {
		got := parseResolvers(text)
		if strings.Join(got.loopback, " ") != want || got.text != text || (len(got.notes) == 1) != strings.Contains(text, "%") {
			t.Errorf("%q: %+v, want %q", text, got, want)
		}
	}
	if got, err := readResolvers(filepath.Join(t.TempDir(), "none")); err != nil || !slices.Equal(got.loopback, []string{"127.0.0.1"}) {
		t.Errorf("no file: %+v %v", got, err)
	}
}

// FuzzResolvers: nothing in a resolv.conf makes an address that is none.
func FuzzResolvers(f *testing.F) {
	f.Add("nameserver 127.0.0.53\nnameserver fe80::1%eth0\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, address := range parseResolvers(text).loopback {
			if !strings.HasPrefix(address, "127.") && address != "::1" {
				t.Errorf("%q: %s", text, address)
			}
		}
	})
}

// needRoot leaves a test out where it is not root, and fails it where everything must run.
func needRoot(t *testing.T) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("IMDSCTL_CI_ROOT") == "1":
		t.Fatal("IMDSCTL_CI_ROOT=1, but this is not root")
	default:
		t.Skip("it takes root: run `go test ./internal/lab/` as root")
	}
}

// TestFirewall: a chain that drops what is forwarded is seen, and goes with the file that made it.
func TestFirewall(t *testing.T) {
	needRoot(t)
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread's network is the test's own
		failed <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			if firewallDrops() {
				return errors.New("a new network drops")
			}
			for policy, want := range map[uint32]bool{0: true, 1: false} {
				fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
				if err != nil {
					return err
				}
				chain := masquerading(unix.NFPROTO_IPV4, "it", 12, netip.MustParsePrefix("198.19.0.0/24"), "")[:2]
				chain[1].body[2] = nested(unix.NFTA_CHAIN_HOOK, number(unix.NFTA_HOOK_HOOKNUM, 2), number(unix.NFTA_HOOK_PRIORITY, 0))
				chain[1].body[3] = text(unix.NFTA_CHAIN_TYPE, "filter")
				chain[1].body = append(chain[1].body, number(unix.NFTA_CHAIN_POLICY, policy))
				if err := batch(fd, chain); err != nil {
					return err
				}
				if got := firewallDrops(); got != want {
					return errors.New("a policy that is not seen")
				}
				unix.Close(fd)
				if firewallDrops() {
					return errors.New("a table outlives who made it")
				}
			}
			return nil
		}()
	}()
	if err := <-failed; err != nil {
		t.Error(err)
	}
}

// TestUplinks: no two runs have the same addresses, none of them another link's of the lab.
func TestUplinks(t *testing.T) {
	seen := map[string]bool{nearService.near4: true, nearService.near6: true, nearCommand.near4: true, nearCommand.near6: true}
	for n := range runs {
		for _, address := range []string{uplinkSegment(n).near4, uplinkSegment(n).near6} {
			if seen[address] {
				t.Errorf("run %d: %s is another's", n, address)
			}
			seen[address] = true
		}
	}
}
