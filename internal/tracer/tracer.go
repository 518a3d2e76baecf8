// Package tracer tells what a host's programs ask the instance metadata service: each call with its version, path and user agent,
// and the process, its parents, container and unit that made it.
//
// It owns the record of a call, the trace file (JSON lines), and the way from captured segments to calls: reassembly, the requests
// of a connection one after the other, redaction, and the summary that names who must change. What captures is tracer/capture, which
// hands events in; this package has no clock and opens no socket, so that a trace from any host can be read on any other.
//
// A header is matched as a header and never as part of a request's text: a v1 call whose path holds the name of the token's header
// is v1. Tokens and credentials are never kept. A trace that lost something says so, and never says that nothing was there.
package tracer

import "time"

// Version is how a call was made.
type Version string

// The versions. As EC2 does, a call is told by its headers: with the token's or its TTL's it is meant as version 2, and so is any PUT.
const (
	V1 Version = "v1"
	V2 Version = "v2"
	// Unknown: what tells it was not captured, or cannot be told: Why says what. It may be V1.
	Unknown Version = "unknown"
	// NotHTTP: what was sent is no request at all, and nothing answers it as one. One such record stands for all that follows it.
	NotHTTP Version = "not-http"
)

// Tier is how much a capture can tell.
type Tier string

// The tiers, the best first.
const (
	// TierFull reads the caller from the kernel as it connects: none is missed, however short-lived.
	TierFull Tier = "full"
	// TierNoProbe sees every call, and names the caller by its process id as it connects; the rest is read from /proc, where a process
	// that ended at once has left nothing.
	TierNoProbe Tier = "no-probe"
	// TierPackets sees packets alone: callers are looked for afterwards, at best effort.
	TierPackets Tier = "packets"
)

// Connect is a program's connection to the service, as it is being made.
type Connect struct {
	Socket uint64 // names the connection for as long as the trace lasts
	Time   time.Time
	From   Process
}

// Segment is a piece of what a program sends on a connection, perhaps again, perhaps out of order. Without bytes it tells where the
// stream begins (its SYN, say): then nothing has to be waited for.
type Segment struct {
	Socket uint64
	Time   time.Time
	Seq    uint32 // TCP's sequence number of the first byte
	Bytes  []byte // valid during the call only
	// Missing is how many bytes after these the sender sent with them and nobody captured.
	Missing int
	// Sender is the process that sends, where the capture is sure of it; nil where it is not. It may differ from who connected.
	Sender *Process
}

// Sink takes what a capture sees. It is called from one goroutine at a time.
type Sink interface {
	// Connected tells of a connection before anything is sent on it.
	Connected(Connect)
	// Sent tells what is sent.
	Sent(Segment)
	// Lost tells that n events were lost, and why; n is 0 where nobody could count them.
	Lost(n uint64, why string)
}

// Process is who calls.
type Process struct {
	PID  int    `json:"pid,omitempty"`
	Comm string `json:"comm,omitempty"` // the thread's name, at most 15 bytes
	Exe  string `json:"exe,omitempty"`  // as the process sees it: a container's path is one of the container
	// Args are the command line, with secrets redacted.
	Args    []string `json:"args,omitempty"`
	Parents []Parent `json:"parents,omitempty"` // the nearest first, without the first process of the host
	Cgroup  string   `json:"cgroup,omitempty"`  // path in cgroup v2, or of the pids controller in v1
	NetNS   uint64   `json:"netns,omitempty"`   // inode of the network namespace
	UID     *int     `json:"uid,omitempty"`
	// Guessed: it was found after the fact, and may be another's.
	Guessed bool `json:"guessed,omitempty"`
}

// Parent is one of the processes above a caller.
type Parent struct {
	PID  int    `json:"pid"`
	Comm string `json:"comm"`
}

// Place is where a process runs, as its cgroup tells.
type Place struct {
	Unit      string `json:"unit,omitempty"`      // systemd's: nginx.service
	Container string `json:"container,omitempty"` // id, 64 hexadecimal digits mostly; a name in LXC and in containerd's own client
	Runtime   string `json:"runtime,omitempty"`   // docker, containerd, cri-o, podman, lxc
	Pod       string `json:"pod,omitempty"`       // uid of the Kubernetes pod
	PodName   string `json:"pod_name,omitempty"`  // namespace/name, where the host could tell
	Task      string `json:"task,omitempty"`      // id of the ECS task
	TaskName  string `json:"task_name,omitempty"` // family:revision of its definition, where the agent on the host told
}

// Call is one request.
type Call struct {
	Time      time.Time `json:"time"`
	Version   Version   `json:"version"`
	Method    string    `json:"method"`
	Path      string    `json:"path"` // without query, at most 1024 bytes; what looks like a token is redacted
	UserAgent string    `json:"user_agent,omitempty"`
	// Product and ProductVersion are what the user agent says, as internal/product calls it.
	Product        string  `json:"product,omitempty"`
	ProductVersion string  `json:"product_version,omitempty"`
	Process        Process `json:"process,omitzero"`
	Place          Place   `json:"place,omitzero"`
	// Connected is who made the connection, where that is another process than the one that sends on it.
	Connected *Process `json:"connected,omitempty"`
	// Why says what is doubtful about the record: the connection is older than the trace, its headers were too long to keep.
	Why string `json:"why,omitempty"`
}
