package tracer

import (
	"regexp"
	"strings"
)

// Runtimes of containers.
const (
	runtimeDocker     = "docker"
	runtimeContainerd = "containerd"
	runtimeCRIO       = "cri-o"
	runtimePodman     = "podman"
	runtimeLXC        = "lxc"
)

// prefixes by which runtimes call a container's cgroup, before its id.
var prefixes = []struct{ prefix, runtime string }{
	{"docker-", runtimeDocker},
	{"cri-containerd-", runtimeContainerd},
	{"containerd-", runtimeContainerd},
	{"nerdctl-", runtimeContainerd},
	{"crio-conmon-", runtimeCRIO},
	{"crio-", runtimeCRIO},
	{"libpod-payload-", runtimePodman},
	{"libpod-conmon-", runtimePodman},
	{"libpod-", runtimePodman},
}

var (
	containerID = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// podSlice is the pod's part of a slice's name, where dashes of the uid are underscores; podFolder is that of the cgroupfs driver. The
	// uid of a static pod is a hash without dashes.
	podSlice  = regexp.MustCompile(`^(?:kubelet-)?kubepods(?:-(?:burstable|besteffort|guaranteed))?-pod([0-9a-f_]{32,36})\.slice$`)
	podFolder = regexp.MustCompile(`^pod([0-9a-f-]{32,36})$`)
	// A task's id has 32 hexadecimal digits, or is a UUID in the old format ("Amazon Resource Names (ARNs) and IDs", ECS guide).
	taskID    = regexp.MustCompile(`^(?:[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$`)
	taskSlice = regexp.MustCompile(`^ecstasks-([0-9a-f-]{32,36})\.slice$`)
	fargateID = regexp.MustCompile(`^[0-9a-f]{32}-\d{6,12}$`)
)

// Locate tells from the path of a cgroup, of version 2 or 1, what runs there: the unit of systemd, the container, pod and task. Of
// things within one another the innermost counts. A last element alone, without the path, is understood as far as it goes.
func Locate(cgroup string) Place {
	var p Place
	elements := strings.Split(cgroup, "/")
	for i, e := range elements {
		if e == "" || e == "." || e == ".." {
			continue // ".." stands in paths as a private cgroup namespace shows them
		}
		// "kubepods-….slice:cri-containerd:ID" is the path of a systemd driver's cgroup under runc's cgroupfs driver.
		if parts := strings.Split(e, ":"); len(parts) == 3 && containerID.MatchString(parts[2]) {
			p.slice(parts[0])
			p.container(parts[2], runtimeOf(parts[1]+"-"))
			continue
		}
		p.element(e, elements[:i])
	}
	return p
}

// element adds what one element of the path says; before are those above it.
func (p *Place) element(e string, before []string) {
	above := ""
	if len(before) > 0 {
		above = before[len(before)-1]
	}
	if p.lxc(e, above) {
		return
	}
	switch bare := strings.TrimSuffix(e, ".scope"); {
	case containerID.MatchString(e):
		runtime := ""
		switch {
		case above == runtimeDocker:
			runtime = runtimeDocker
		case p.Pod == "" && p.Task == "" && (above == "libpod_parent" || strings.HasPrefix(above, "libpod")):
			runtime = runtimePodman
		case p.Task != "":
			runtime = runtimeDocker
		}
		p.container(e, runtime)
	case p.prefixed(bare):
	case strings.HasSuffix(e, ".slice"):
		p.slice(e)
	case podFolder.MatchString(e):
		p.Pod = podFolder.FindStringSubmatch(e)[1]
	case taskID.MatchString(e) && within(before, "ecs"):
		p.Task = e
	case fargateID.MatchString(e) && within(before, "ecs"):
		p.container(e, "")
	case strings.HasSuffix(e, ".service"), strings.HasSuffix(e, ".scope") && !strings.HasSuffix(p.Unit, ".service"):
		p.Unit = e
	case len(before) == 2 && above == "default" && before[0] == "":
		p.container(cut(e, 128), runtimeContainerd) // ctr's containers, in its default namespace, under names of people's
	}
}

// prefixed understands an element by which a runtime calls a container.
func (p *Place) prefixed(e string) bool {
	for _, known := range prefixes {
		if id, ok := strings.CutPrefix(e, known.prefix); ok && containerID.MatchString(id) {
			p.container(id, known.runtime)
			return true
		}
	}
	return false
}

func runtimeOf(prefix string) string {
	for _, known := range prefixes {
		if known.prefix == prefix {
			return known.runtime
		}
	}
	return ""
}

// container notes a container. The unit around it is that of a manager, except where podman runs a container as a unit of its own.
func (p *Place) container(id, runtime string) {
	p.Container, p.Runtime = id, runtime
	if runtime != runtimePodman || !strings.HasSuffix(p.Unit, ".service") || strings.HasPrefix(p.Unit, "user@") {
		p.Unit = ""
	}
}

// slice notes what the name of a slice says.
func (p *Place) slice(e string) {
	if m := podSlice.FindStringSubmatch(e); m != nil {
		p.Pod = strings.ReplaceAll(m[1], "_", "-")
	} else if m := taskSlice.FindStringSubmatch(e); m != nil && taskID.MatchString(m[1]) {
		p.Task = m[1]
	}
}

// lxc understands the cgroups of LXC, LXD and Incus: /lxc/NAME, /lxc.payload.NAME, /lxc.payload/NAME.
func (p *Place) lxc(e, above string) bool {
	name, ok := strings.CutPrefix(e, "lxc.payload.")
	if !ok && (above == "lxc" || above == "lxc.payload") {
		name, ok = e, true
	}
	if ok && name != "" {
		p.container(cut(name, 128), runtimeLXC)
	}
	return ok
}

func within(elements []string, name string) bool {
	for _, e := range elements {
		if e == name {
			return true
		}
	}
	return false
}
