// Package bpf holds the eBPF programs that see what is sent to the instance metadata service, and who sends it: their source, in C,
// and the two objects that scripts/bpf.sh makes of it, which are committed so that building imdsctl takes no C compiler.
//
// It owns what the kernel runs and the form of its events, and nothing of their loading or meaning. The objects serve all
// little-endian machines and all kernels from 5.9 on; where the members of kernel structures are is found when they are loaded.
package bpf

import (
	"bytes"
	_ "embed" // the objects
	"fmt"

	"github.com/cilium/ebpf"
)

//go:generate bash ../../../../scripts/bpf.sh

//go:embed full_bpfel.o
var full []byte

//go:embed noprobe_bpfel.o
var noProbe []byte

// The programs of an object, and its maps.
const (
	Connect4 = "see_connect4" // cgroup/connect4
	Connect6 = "see_connect6" // cgroup/connect6
	Egress   = "see_sent"     // cgroup_skb/egress

	Events = "events" // ring buffer
	// Lost is an array of two numbers: the callers and the pieces that found no room in Events.
	Lost = "lost"

	// Port is a variable: the port of the service. It is 80; measurements set others.
	Port = "service_port"
)

// Full is the object that reads of the kernel who a caller is.
func Full() (*ebpf.CollectionSpec, error) { return load("full", full) }

// NoProbe is the object for kernels that do not let programs read their memory: callers are told by process id, name and user.
func NoProbe() (*ebpf.CollectionSpec, error) { return load("noprobe", noProbe) }

func load(name string, object []byte) (*ebpf.CollectionSpec, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, fmt.Errorf("reading the eBPF object %s: %w", name, err)
	}
	return spec, nil
}
