// Package capture sees what this host's programs send to the instance metadata service, on Linux: by eBPF programs at the root of
// the cgroups, or, where the host does not allow them, by the packets of every network namespace.
//
// It owns the eBPF programs (bpf/), their loading, the choice of a tier by trying, and what it takes to name a process. It sends
// nothing and changes nothing on the host: programs let every packet pass, and end with the process. What it sees it hands to a
// tracer.Sink; it keeps no trace.
package capture
