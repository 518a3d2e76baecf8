package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/certify"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/imds"
	"github.com/imdsctl/imdsctl/internal/lab"
	"github.com/imdsctl/imdsctl/internal/procfs"
	"github.com/imdsctl/imdsctl/internal/product"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// ControlHopLimit is the hop limit of a run that others are compared with: the highest that EC2 has.
const ControlHopLimit = 64

// CertifyOptions say what is certified, and how.
type CertifyOptions struct {
	// Command is the program and its arguments. Behind an image it may be empty: the image says what it runs.
	Command []string
	// Name is what the certification is called where the command line differs from run to run; it may be empty.
	Name string
	// State is the instance that is played. Its tokens and its hop limit are set by the run.
	State imds.State
	// V1Allowed answers version 1.
	V1Allowed bool
	// HopLimits are tried one after the other, for as long as tokens are lost. At least one.
	HopLimits []int
	// Routed puts a router between the command and the service, as for a container.
	Routed bool
	// Outside gives the command the network of this host besides.
	Outside bool
	// Endpoint sends the command to a service on the loopback interface by a variable, without namespaces. Routed and Outside have no
	// meaning then.
	Endpoint bool
	// Image is a container image, in whose file system the command runs; without a file it is this host's.
	Image CertifyImage
	// Compare runs a command that did not succeed once more, with version 1 allowed and the highest hop limit.
	Compare bool
	Success certify.Success
	// TrustSuccess: see certify.Input.
	TrustSuccess bool
	// Environment is the command's, "NAME=value", before it is cleaned; KeepEnvironment leaves it as it is.
	Environment     []string
	KeepEnvironment bool
	// Timeout ends the command; 0 lets it run.
	Timeout time.Duration
	// Stdin, Stdout and Stderr are the command's; an *os.File is handed on as it is.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Begin is told of each run but the first before it begins, and why it is made. nil is nobody.
	Begin func(why string)
	// Products knows who calls; nil is the table of the program.
	Products *product.Table
	// Clock is the time; nil is the machine's.
	Clock clock.Clock
}

// stopGrace is how long a command that is stopped has to end by itself.
const stopGrace = 5 * time.Second

// Why a command was stopped: its time was over, or it waits in vain and will be run again with a higher hop limit.
var (
	errTimeout = errors.New("the command's time is over")
	errWaiting = errors.New("the command waits for a token that never comes")
)

// inVain is for how long a command may wait for a token that was lost, where it will be run again.
const inVain = 30 * time.Second

// certification is one on its way.
type certification struct {
	CertifyOptions
	argv    []string // the command, with what an image adds to it
	changes []certify.Change
	runs    []certify.Run
	another bool // run follows, with a higher hop limit, if tokens are lost
}

// Certify runs a command under our metadata service, more than once only where a higher hop limit may help or a comparison was asked
// for, and judges it. An error says what kept the command from being run; that it failed is none. Interrupted, it reports what was
// seen until then.
func Certify(ctx context.Context, o CertifyOptions) (*certify.Report, error) {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	c := &certification{CertifyOptions: o}
	for i, limit := range o.HopLimits {
		if i > 0 {
			c.begin(fmt.Sprintf("tokens were lost at hop limit %d; now with %d", o.HopLimits[i-1], limit))
		}
		c.another = i+1 < len(o.HopLimits)
		if err := c.run(ctx, certify.Run{V1Allowed: o.V1Allowed, HopLimit: limit}); err != nil {
			return nil, err
		}
		if last := c.last(); last.Verdict.Passed() || !last.LostTokens() || ctx.Err() != nil {
			break
		}
	}
	if last := c.last(); o.Compare && !last.Verdict.Passed() && !last.Succeeded && len(last.Calls) > 0 && ctx.Err() == nil {
		c.begin(fmt.Sprintf("to compare, with IMDSv1 allowed and hop limit %d", ControlHopLimit))
		if err := c.run(ctx, certify.Run{V1Allowed: true, HopLimit: ControlHopLimit, Control: true}); err != nil {
			run := &c.runs[len(c.runs)-1]
			run.Notes = append(run.Notes, "it was not compared: "+err.Error())
		}
	}
	return c.judge(), nil
}

func (c *certification) begin(why string) {
	if c.Begin != nil {
		c.Begin(why)
	}
}

func (c *certification) judge() *certify.Report {
	return certify.Judge(certify.Input{
		Command: tracer.Redact(c.argv), Image: c.Image.File, Name: c.Name, Runs: c.runs, Success: c.Success, TrustSuccess: c.TrustSuccess,
		Environment: c.changes, Products: c.Products,
	})
}

// last is the run that was made last, judged.
func (c *certification) last() certify.Judged {
	r := c.judge()
	return r.Runs[len(r.Runs)-1]
}

// run runs the command once, as the run says, and keeps what came of it.
func (c *certification) run(ctx context.Context, run certify.Run) (err error) {
	run.Endpoint = c.Endpoint
	if c.Routed && !c.Endpoint {
		run.Hops = 1
	}
	state := c.State
	state.Options.HopLimit, state.Options.Tokens = run.HopLimit, fleet.TokensRequired
	if run.V1Allowed {
		state.Options.Tokens = fleet.TokensOptional
	}
	watch := &watch{}
	service, err := imds.New(imds.Config{State: state, Now: c.Clock.Now, Observe: watch.call})
	if err != nil {
		return fmt.Errorf("the metadata service: %w", err)
	}
	it, err := c.prepare(ctx)
	defer func() {
		undone := it.done()
		if undone != nil && err == nil { // the run is there, and is reported
			kept := &c.runs[len(c.runs)-1]
			kept.Notes, undone = append(kept.Notes, undone.Error()), nil
		}
		err = errors.Join(err, undone)
	}()
	if err != nil {
		return err
	}
	bounded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	run.Started = c.Clock.Now()
	run.Ended = run.Started
	serve := func(ctx context.Context, listeners ...net.Listener) error {
		run.Started = c.Clock.Now() // the command starts now: making namespaces takes its time
		if c.Timeout > 0 {
			go func() {
				if c.Clock.Sleep(bounded, c.Timeout) == nil {
					cancel(errTimeout)
				}
			}()
		}
		if c.another {
			go func() {
				if c.waitsInVain(bounded, watch, run.Hops) {
					cancel(errWaiting)
				}
			}()
		}
		defer func() { run.Ended = c.Clock.Now() }()
		return service.Serve(ctx, listeners...)
	}
	if c.Endpoint {
		err = c.besides(bounded, it, serve, watch, &run)
	} else {
		err = c.isolated(bounded, it, serve, watch, &run)
	}
	switch {
	case errors.Is(context.Cause(bounded), errTimeout):
		run.End.Stopped = certify.StoppedTimeout
	case errors.Is(context.Cause(bounded), errWaiting):
		run.End.Stopped = certify.StoppedWaiting
	case ctx.Err() != nil:
		run.End.Stopped = certify.StoppedInterrupt
	case err != nil:
		return err
	}
	run.Notes = append(it.notes, run.Notes...)
	run.Calls = watch.seen()
	c.runs = append(c.runs, run)
	return nil
}

// waitsInVain returns once the command has lost a token and asked for nothing since for a while; false where the run ends before.
func (c *certification) waitsInVain(ctx context.Context, w *watch, hops int) bool {
	for c.Clock.Sleep(ctx, time.Second) == nil {
		if since, waiting := certify.Waiting(w.seen(), hops); waiting && c.Clock.Now().Sub(since) >= inVain {
			return true
		}
	}
	return false
}

// serve answers on listeners until its context ends.
type serve func(ctx context.Context, listeners ...net.Listener) error

// isolated runs the command in namespaces of its own.
func (c *certification) isolated(ctx context.Context, it *prepared, s serve, w *watch, run *certify.Run) error {
	peers := &lab.Peers{}
	w.between = 1
	w.of = func(call imds.Call) (procfs.Process, bool) {
		peer, known := peers.Of(call.Remote)
		return peer.Process, known
	}
	result, err := lab.Run(ctx, lab.Options{
		Serve: s, Peers: peers, Routed: c.Routed, Outside: c.Outside, Root: it.root, Dir: it.dir, Env: it.env,
		Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr, Grace: stopGrace, Clock: c.Clock,
	}, it.argv)
	if err != nil && ctx.Err() == nil {
		return labError(err, it.root != nil)
	}
	run.End = certify.End{ExitCode: result.ExitCode}
	if result.Signal != 0 {
		run.End.Signal = result.Signal.String()
	}
	if result.Unprivileged {
		run.Notes = append(run.Notes, "without root: the command ran in a user namespace, with its own user and without capabilities")
	}
	run.Notes = append(run.Notes, result.Notes...)
	for _, left := range result.Left {
		run.Notes = append(run.Notes, fmt.Sprintf("%s (%d) was still running when the command had ended, and was killed", left.Comm, left.PID))
	}
	return nil
}

// labError says what to do where there are no namespaces, or no such command in this file system or an image's.
func labError(err error, inImage bool) error {
	d := fleet.Diagnostic{Severity: fleet.SeverityError, Summary: err.Error()}
	switch {
	case errors.Is(err, lab.ErrUnsupported), errors.Is(err, lab.ErrForbidden):
		d.Remedy = "Or certify with --endpoint, which needs no namespaces and shows less: see docs/certify.md."
	case errors.Is(err, lab.ErrNotStarted) && inImage:
		d.Remedy = "It is looked for in the image alone. Give another one: `imdsctl certify --image FILE --entrypoint PROGRAM -- ARGUMENTS`."
	case errors.Is(err, lab.ErrNotStarted):
		d.Remedy = "Give a command as a shell would find it: `imdsctl certify -- python3 app.py`."
	default:
		return err
	}
	return d
}

// watch gathers the calls of a run, with who made them.
type watch struct {
	// of tells who waits for the answer of a call. between is how many processes of ours lie between this one and the command.
	of      func(imds.Call) (procfs.Process, bool)
	between int

	mu    sync.Mutex
	calls []certify.Call
}

func (w *watch) call(c imds.Call) {
	call := certify.Call{Call: c}
	if who, known := w.of(c); known {
		call.Who = caller(who, w.between)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, call)
}

func (w *watch) seen() []certify.Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

// caller is a process as reports show it: without secrets in its arguments, and without what stands above the command, which is this
// process with so many between.
func caller(p procfs.Process, between int) tracer.Process {
	out := tracer.Process{
		PID: p.PID, Comm: p.Comm, Exe: strings.TrimSuffix(p.Exe, " (deleted)"), Args: tracer.Redact(p.Args), Cgroup: p.Cgroup, NetNS: p.NetNS,
	}
	if p.UID >= 0 {
		out.UID = new(p.UID)
	}
	above := p.Parents
	if own := slices.IndexFunc(above, func(a procfs.Parent) bool { return a.PID == os.Getpid() }); own >= 0 {
		above = above[:max(own-between, 0)]
	}
	for _, a := range above {
		out.Parents = append(out.Parents, tracer.Parent{PID: a.PID, Comm: a.Comm})
	}
	return out
}

// prepared is a command with all that it is run with, once.
type prepared struct {
	argv, env []string
	dir       string
	root      *lab.RootFS
	notes     []string
	done      func() error // never nil
}

// prepare makes the command's environment, and its file system where it comes from an image. What it gives is to be undone, also
// where it fails.
func (c *certification) prepare(ctx context.Context) (*prepared, error) {
	it := &prepared{argv: c.Command, env: c.Environment, done: func() error { return nil }}
	if c.Image.File != "" {
		if err := c.enterImage(ctx, it); err != nil {
			return it, err
		}
	}
	it.env, c.changes = certifyEnvironment(it.env, c.environmentPolicy())
	c.argv = it.argv
	return it, nil
}

// Inside plays its part where this process was started as the first one of a lab, and then does not return: see lab.Inside. It must be
// called before all else in main.
func Inside() { lab.Inside() }
