package bpf

import (
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

// TestLoad has the kernel check both objects.
func TestLoad(t *testing.T) {
	give := t.Skipf
	if os.Getenv("IMDSCTL_CI_ROOT") == "1" {
		give = t.Fatalf
	}
	if os.Geteuid() != 0 {
		give("loading eBPF programs takes root: run `go test ./internal/tracer/...` as root")
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Log(err)
	}
	for name, read := range map[string]func() (*ebpf.CollectionSpec, error){"full": Full, "noprobe": NoProbe} {
		spec, err := read()
		if err != nil {
			t.Fatal(err)
		}
		c, err := ebpf.NewCollection(spec)
		if err != nil {
			give("%s: %+v", name, err)
		}
		defer c.Close()
		for _, p := range []string{Connect4, Connect6, Egress} {
			info, err := c.Programs[p].Info()
			if err != nil {
				t.Fatal(err)
			}
			n, _ := info.TranslatedSize()
			checked, _ := info.VerifiedInstructions()
			t.Logf("%s: %s has %d instructions, of which %d were checked", name, p, n/8, checked)
		}
		for _, m := range []string{Events, Lost} {
			if c.Maps[m] == nil {
				t.Errorf("%s has no map %s", name, m)
			}
		}
	}
}
