package procfs

import "testing"

func TestCgroup(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, c := range []struct{ name, v2, v1, want string }{
		{"v2 alone", "/system.slice/nginx.service", "", "/system.slice/nginx.service"},
		{"v1 alone", "", "/docker/" + id, "/docker/" + id},
		{"neither", "", "", ""},
		{"v2 without content beside v1", "/", "/docker/" + id, "/docker/" + id},
		{"v2 beside v1 without content", "/user.slice", "/", "/user.slice"},
		{"v2 of the runtime's service, v1 of the container", "/system.slice/containerd.service", "/kubepods/pod1/" + id, "/kubepods/pod1/" + id},
		{"both of the container", "/kubepods/" + id + "/init", "/kubepods/" + id, "/kubepods/" + id + "/init"},
		{"both of no container", "/system.slice/a.service", "/system.slice", "/system.slice/a.service"},
	} {
		if got := Cgroup(c.v2, c.v1); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
