package capture

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

const mountinfo = `22 28 0:21 / /proc rw,nosuid shared:5 - proc proc rw
30 28 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate
31 28 0:26 /kubepods /mnt/a\040folder\134 rw master:1 propagate_from:2 - cgroup2 none rw
32 28 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
40 28 0:4 net:[4026532345] /run/netns/cni-1 rw shared:12 - nsfs nsfs rw
41 28 0:4 net:[4026532346] /run/docker/netns/2 rw - nsfs nsfs rw
42 28 0:4 mnt:[4026532347] /run/snapd/ns/lxd.mnt rw - nsfs nsfs rw
43 28 8:1 /net:[5] /srv/x rw - ext4 /dev/sda1 rw
44 28 0:4 net:[] /run/netns/none rw - nsfs nsfs rw
46 28 0:4 net:[4026532345] /mnt/again rw - nsfs nsfs rw
no line at all
45 28 - cgroup2
`

func TestMounts(t *testing.T) {
	if got, want := cgroupMounts(strings.NewReader(mountinfo)), []string{"/sys/fs/cgroup", `/mnt/a folder\`}; !slices.Equal(got, want) {
		t.Errorf("cgroup v2 is at %q, want %q", got, want)
	}
	want := map[uint64][]string{4026532345: {"/run/netns/cni-1", "/mnt/again"}, 4026532346: {"/run/docker/netns/2"}}
	if got := namespaceMounts(strings.NewReader(mountinfo)); !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("namespaces %v, want %v", got, want)
	}
}
