package tracer_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/tracer"
)

const (
	hex64   = "0f3a9c1b2d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8"
	other64 = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
	podUID  = "5c9f9e38-1d2a-4b6c-8e0f-112233445566"
	podDash = "5c9f9e38_1d2a_4b6c_8e0f_112233445566"
	static  = "ee4b6e7c1f2a3b4c5d6e7f8091a2b3c4"
	task    = "d9f3c1a2b4e5468797a0b1c2d3e4f506"
)

// places are paths of cgroups as they are found on hosts.
var places = map[string]tracer.Place{
	"":  {},
	"/": {},
	// systemd
	"/system.slice/nginx.service":                                               {Unit: "nginx.service"},
	"/system.slice/nginx.service/worker":                                        {Unit: "nginx.service"},
	"/system.slice/system-getty.slice/getty@tty1.service":                       {Unit: "getty@tty1.service"},
	"/user.slice/user-1000.slice/session-3.scope":                               {Unit: "session-3.scope"},
	"/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service":      {Unit: "sync.service"},
	"/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox.scope": {Unit: "user@1000.service"},
	"/user.slice/user-1000.slice/user@1000.service/init.scope":                  {Unit: "user@1000.service"},
	"/init.scope": {Unit: "init.scope"},
	"/machine.slice/machine-qemu\\x2d1\\x2dvm.scope": {Unit: "machine-qemu\\x2d1\\x2dvm.scope"},
	"/system.slice": {},
	"nginx.service": {Unit: "nginx.service"},
	// docker
	"/docker/" + hex64:                               {Container: hex64, Runtime: "docker"},
	"/system.slice/docker-" + hex64 + ".scope":       {Container: hex64, Runtime: "docker"},
	"docker-" + hex64 + ".scope":                     {Container: hex64, Runtime: "docker"},
	"/system.slice/docker.service/docker/" + hex64:   {Container: hex64, Runtime: "docker"},
	"/docker/" + other64 + "/docker/" + hex64:        {Container: hex64, Runtime: "docker"},
	"/docker/" + hex64 + "/system.slice/app.service": {Container: hex64, Runtime: "docker", Unit: "app.service"},
	"/mygroup/" + hex64:                              {Container: hex64},
	"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-" + hex64 + ".scope": {Container: hex64, Runtime: "docker"},
	// containerd
	"/system.slice/nerdctl-" + hex64 + ".scope": {Container: hex64, Runtime: "containerd"},
	"/default/redis":    {Container: "redis", Runtime: "containerd"},
	"/default/" + hex64: {Container: hex64},
	// Kubernetes, systemd driver
	"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + podDash + ".slice/cri-containerd-" + hex64 + ".scope":                                         {Pod: podUID, Container: hex64, Runtime: "containerd"},
	"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + podDash + ".slice/crio-" + hex64 + ".scope":                                                 {Pod: podUID, Container: hex64, Runtime: "cri-o"},
	"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + podDash + ".slice/crio-" + hex64 + ".scope/container":                                       {Pod: podUID, Container: hex64, Runtime: "cri-o"},
	"/kubepods.slice/kubepods-pod" + podDash + ".slice/docker-" + hex64 + ".scope":                                                                                    {Pod: podUID, Container: hex64, Runtime: "docker"},
	"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + static + ".slice/cri-containerd-" + hex64 + ".scope":                                          {Pod: static, Container: hex64, Runtime: "containerd"},
	"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod" + podDash + ".slice/cri-containerd-" + hex64 + ".scope": {Pod: podUID, Container: hex64, Runtime: "containerd"},
	"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod" + podDash + ".slice":                                                                          {Pod: podUID},
	"/../../kubepods-burstable-pod" + podDash + ".slice/cri-containerd-" + hex64 + ".scope":                                                                           {Pod: podUID, Container: hex64, Runtime: "containerd"},
	"/../cri-containerd-" + hex64 + ".scope": {Container: hex64, Runtime: "containerd"},
	// Kubernetes, cgroupfs driver
	"/kubepods/burstable/pod" + podUID + "/" + hex64:                                                        {Pod: podUID, Container: hex64},
	"/kubepods/pod" + podUID + "/" + hex64:                                                                  {Pod: podUID, Container: hex64},
	"/kubepods/besteffort/pod" + podUID + "/crio-" + hex64:                                                  {Pod: podUID, Container: hex64, Runtime: "cri-o"},
	"/system.slice/k3s.service/kubepods/burstable/pod" + podUID + "/" + hex64:                               {Pod: podUID, Container: hex64},
	"/docker/" + other64 + "/kubelet/kubepods/burstable/pod" + podUID + "/" + hex64:                         {Pod: podUID, Container: hex64},
	"/system.slice/containerd.service/kubepods-besteffort-pod" + podDash + ".slice:cri-containerd:" + hex64: {Pod: podUID, Container: hex64, Runtime: "containerd"},
	// ECS
	"/ecs/" + task + "/" + hex64:                                             {Task: task, Container: hex64, Runtime: "docker"},
	"/ecs/web/" + task + "/" + hex64:                                         {Task: task, Container: hex64, Runtime: "docker"},
	"/ecs/" + podUID + "/" + hex64:                                           {Task: podUID, Container: hex64, Runtime: "docker"},
	"/ecstasks.slice/ecstasks-" + task + ".slice/docker-" + hex64 + ".scope": {Task: task, Container: hex64, Runtime: "docker"},
	"/ecs/" + task + "/" + task + "-1234567890":                              {Task: task, Container: task + "-1234567890"},
	// podman
	"/machine.slice/libpod-" + hex64 + ".scope":                                                     {Container: hex64, Runtime: "podman"},
	"/machine.slice/libpod-" + hex64 + ".scope/container":                                           {Container: hex64, Runtime: "podman"},
	"/machine.slice/libpod-conmon-" + hex64 + ".scope":                                              {Container: hex64, Runtime: "podman"},
	"/machine.slice/machine-libpod_pod_" + other64 + ".slice/libpod-" + hex64 + ".scope":            {Container: hex64, Runtime: "podman"},
	"/libpod_parent/libpod-" + hex64:                                                                {Container: hex64, Runtime: "podman"},
	"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + hex64 + ".scope/container": {Container: hex64, Runtime: "podman"},
	"/system.slice/web.service/libpod-payload-" + hex64:                                             {Container: hex64, Runtime: "podman", Unit: "web.service"},
	// LXC
	"/lxc/web":         {Container: "web", Runtime: "lxc"},
	"/lxc.payload.web": {Container: "web", Runtime: "lxc"},
	"/lxc.payload/web/system.slice/nginx.service": {Container: "web", Runtime: "lxc", Unit: "nginx.service"},
	"/lxc/101/ns/system.slice/cron.service":       {Container: "101", Runtime: "lxc", Unit: "cron.service"},
	"/lxc.monitor.web":                            {},
	// What only looks like one
	"/docker/short": {},
	"/kubepods.slice/kubepods-burstable-podtoo_short.slice": {},
	"/ecs/not-a-task/x": {},
	"/system.slice/docker-" + strings.ToUpper(hex64) + ".scope": {Unit: "docker-" + strings.ToUpper(hex64) + ".scope"},
}

func TestLocate(t *testing.T) {
	for path, want := range places {
		if got := tracer.Locate(path); got != want {
			t.Errorf("%s\n is  %+v\n want %+v", path, got, want)
		}
	}
}

// FuzzLocate: whatever the path, what is told of it stands in it.
func FuzzLocate(f *testing.F) {
	for p := range places {
		f.Add(p)
	}
	uid := regexp.MustCompile(`^[0-9a-f-]{32,36}$`)
	f.Fuzz(func(t *testing.T, path string) {
		p := tracer.Locate(path)
		if !strings.Contains(path, p.Unit) || p.Runtime != "lxc" && !strings.Contains(path, p.Container) || !strings.Contains(path, p.Task) {
			t.Fatalf("%q: %+v", path, p)
		}
		if p.Pod != "" && !uid.MatchString(p.Pod) || p.Task != "" && !uid.MatchString(p.Task) || len(p.Container) > 128 || p.Runtime != "" && p.Container == "" {
			t.Fatalf("%q: %+v", path, p)
		}
	})
}
