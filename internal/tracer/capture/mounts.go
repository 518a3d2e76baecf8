package capture

import (
	"bufio"
	"io"
	"iter"
	"strconv"
	"strings"
)

// mount is a line of a mountinfo file: see proc_pid_mountinfo(5).
type mount struct{ root, at, kind string }

// mounts reads a mountinfo file.
func mounts(mountinfo io.Reader) iter.Seq[mount] {
	return func(yield func(mount) bool) {
		unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
		lines := bufio.NewScanner(mountinfo)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			before, after, ok := strings.Cut(lines.Text(), " - ")
			fields := strings.Fields(before)
			if kind, _, _ := strings.Cut(after, " "); ok && len(fields) > 4 {
				if !yield(mount{unescape.Replace(fields[3]), unescape.Replace(fields[4]), kind}) {
					return
				}
			}
		}
	}
}

// cgroupMounts are the places where cgroup v2 is mounted.
func cgroupMounts(mountinfo io.Reader) []string {
	var paths []string
	for m := range mounts(mountinfo) {
		if m.kind == "cgroup2" {
			paths = append(paths, m.at)
		}
	}
	return paths
}

// namespaceMounts are the network namespaces that are mounted, by their inodes, with the places.
func namespaceMounts(mountinfo io.Reader) map[uint64][]string {
	all := map[uint64][]string{}
	for m := range mounts(mountinfo) {
		digits, ok := strings.CutPrefix(m.root, "net:[")
		if inode, err := strconv.ParseUint(strings.TrimSuffix(digits, "]"), 10, 64); ok && m.kind == "nsfs" && err == nil {
			all[inode] = append(all[inode], m.at)
		}
	}
	return all
}
