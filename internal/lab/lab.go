// Package lab runs a command where 169.254.169.254 is ours: in a network namespace of its own, directly beside the service or behind
// a routed hop as containers are, with or without a way to the outside, as root or as anybody. Linux only.
//
// It owns namespaces, addresses and the command's process tree, and undoes all it made when the command ends. It tells of every
// connection to the service who is at the other end. What is answered is not its business: it hands listeners to whom it is told.
//
// # How it stands
//
// Run starts this program once more, as the first process of new process, mount and network namespaces (and, for who is not root, of a
// user namespace around them). That one lays the network, hands the listeners back and starts the command. Everything lives in these
// namespaces and nothing is registered anywhere else, so the kernel removes it with the first process: when the command ends, when
// the context ends, and when whoever called Run is killed. Whoever uses Run must therefore call Inside before all else in main, and
// in the TestMain of tests:
//
//	func main() {
//		lab.Inside() // does not return where Run started this process
//		...
//	}
//
// # Who is at the other end
//
// The listeners hold back what a connection sends until it is known whose it is, or that nobody can tell: while a request is
// answered, Peers.Of knows who waits for the answer. The address is that of http.Request.RemoteAddr and imds.Call.Remote:
//
//	peers := &lab.Peers{}
//	observe := func(c imds.Call) { who, known := peers.Of(c.Remote) ... }
//	result, err := lab.Run(ctx, lab.Options{Peers: peers, Serve: service.Serve}, argv)
package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/procfs"
)

// Options say how a command is run. Only Serve must be there.
type Options struct {
	// Serve answers on the service's listeners, that of IPv4 first and that of IPv6 where there is IPv6, until its context ends. It is
	// called once, before the command starts. Where it ends earlier, the run ends with its error.
	Serve func(ctx context.Context, listeners ...net.Listener) error
	// Peers is told who is at the other end of each connection; nil where nobody asks.
	Peers *Peers
	// Routed puts one routed hop between the command and the service, as there is between a container behind a bridge and its host's.
	Routed bool
	// Outside gives the command the host's network besides, through NAT. It takes root, Linux 5.12, and a host that forwards.
	// 169.254.169.254 and fd00:ec2::254 are ours nevertheless.
	Outside bool
	// Root is the file system that the command has; nil is this process's own.
	Root *RootFS
	// Dir is where the command starts, "" where this process is; with Root a path in there, made where it is missing, "" for "/".
	Dir string
	// Env is all of the command's environment, "NAME=value"; nil is this process's own. See Environment.
	Env []string
	// Stdin, Stdout and Stderr are the command's; where one is an *os.File, the command gets the file itself. nil is /dev/null.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Signals are handed on to the command, and to none of its children. What a terminal sends (Ctrl-C) has reached the whole
	// foreground process group already, the command with it: then SIGINT and SIGQUIT are not sent a second time.
	Signals <-chan os.Signal
	// Grace is how long the processes have, after SIGTERM, when the context ends. With 0 they are killed at once.
	Grace time.Duration
	// Linger is how long background processes may go on after the command has ended. They are killed then, and told in Result.Left.
	Linger time.Duration
	// Clock measures Grace and Linger; nil is the machine's.
	Clock clock.Clock
}

// RootFS is a directory that is the whole file system of a command, such as an unpacked image. The command writes into it as into any
// file system; /proc, /dev and /sys are mounted over it, and /etc/resolv.conf is written anew with Outside.
type RootFS struct {
	Dir string
	// UID, GID and Groups are whom the command runs as. Only root can be everybody: for others the command is root of a user namespace,
	// in which there is nobody else, and a note says so where UID is not 0.
	UID, GID int
	Groups   []int
}

// Result is how a command ended.
type Result struct {
	// ExitCode is as shells tell it: 127 where there is no such command, 126 where it cannot be executed, 128 and the signal's
	// number where a signal ended it.
	ExitCode int
	// Signal is what ended the command; 0 where it exited.
	Signal syscall.Signal
	// Left are the processes that went on when the command had ended.
	Left []procfs.Process
	// Unprivileged: all was done in a user namespace.
	Unprivileged bool
	// Notes say what is other than on an instance, or than what was asked for, each as one sentence.
	Notes []string
}

// The reasons for which a command does not run, to be told with errors.Is. The error's text says what to do instead.
var (
	// ErrUnsupported: this system has no network namespaces.
	ErrUnsupported = errors.New("a command is isolated by Linux's namespaces, which this system does not have: run imdsctl on Linux, " +
		"or serve with `imdsctl imds serve` and point the program there with AWS_EC2_METADATA_SERVICE_ENDPOINT")
	// ErrForbidden: this system does not let us make them, or not for what was asked.
	ErrForbidden = errors.New("namespaces are not allowed here")
	// ErrNotStarted: the namespaces were there, but the command could not be executed in them. Result.ExitCode is 126 or 127.
	ErrNotStarted = errors.New("the command was not started")
)

// Run runs a command to its end: the path or name of a program, searched in the PATH of its environment, and its arguments. That the
// command failed is no error. An error is ErrUnsupported, ErrForbidden, ErrNotStarted, the context's, or what failed in the lab itself;
// with ErrNotStarted and the context's there is a Result as well. When Run returns, no process, namespace or link of the run is left.
func Run(ctx context.Context, o Options, argv []string) (Result, error) {
	if len(argv) == 0 || argv[0] == "" {
		return Result{ExitCode: 127}, errors.Join(ErrNotStarted, errors.New("there is no command"))
	}
	if o.Serve == nil {
		return Result{}, errors.New("the lab has nobody who serves")
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Peers == nil {
		o.Peers = &Peers{}
	}
	if o.Env == nil {
		o.Env = os.Environ()
	}
	return run(ctx, o, argv)
}

// detours are the variables for which a program gets its credentials elsewhere, or does not ask 169.254.169.254:
// https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html and, for the older names, the sources of the SDKs.
var detours = [...]string{
	"AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SECURITY_TOKEN",
	"AWS_CREDENTIAL_EXPIRATION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_FILE",
	"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	"AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
	"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME",
}

// Environment leaves those variables out of an environment that would keep a program from asking the service, and tells the names of
// those that were there. Settings that belong to how the program asks, such as AWS_EC2_METADATA_V1_DISABLED, stay.
func Environment(env []string) (kept, removed []string) {
	kept = make([]string, 0, len(env))
next:
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		for _, d := range detours {
			if name == d {
				removed = append(removed, name)
				continue next
			}
		}
		kept = append(kept, entry)
	}
	return kept, removed
}
