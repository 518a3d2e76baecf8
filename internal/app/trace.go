package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/cloudtrail"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// Tracer sees what a host's programs send to the metadata service. Options.Tracer replaces that of this host, for tests.
type Tracer interface {
	// Probe says of every tier, the best first, whether it works here.
	Probe() []TraceTier
	// Start sees all that is sent from its return on, until the capture is stopped. tick is called about once a second from the goroutine
	// that calls the sink. Without a tier the best that works is taken.
	Start(ctx context.Context, tier tracer.Tier, tick func(now time.Time), sink tracer.Sink) (TraceCapture, error)
}

// TraceTier says whether a tier works; Why says why not.
type TraceTier struct {
	Tier  tracer.Tier `json:"tier"`
	Works bool        `json:"works"`
	Why   string      `json:"why,omitempty"`
}

// TraceCapture is a capture under way.
type TraceCapture interface {
	// Tier is the one that was taken.
	Tier() tracer.Tier
	// Partial are the reasons why only a part of the host is seen.
	Partial() []string
	// Notices are what else a reader of the trace must know.
	Notices() []string
	// Done is closed when the capture has ended, by itself too.
	Done() <-chan struct{}
	// Stop ends it and hands over what was seen until then. lost is how many events were lost in all, as far as they could be counted.
	Stop() (lost uint64, err error)
}

// TraceOptions say what is traced, for how long, and where it goes.
type TraceOptions struct {
	// Tier is the one to take; "" is the best that works.
	Tier tracer.Tier
	// For is how long; 0 is until the context ends.
	For time.Duration
	// V1Only leaves the lines of calls of version 2 out. They are counted.
	V1Only bool
	// Lines gets the trace as JSON lines; nil is nobody.
	Lines io.Writer
	// File is where the trace is kept; the zero value is nowhere.
	File TraceFile
	// Host is what is known of this host; what is not is found out.
	Host TraceHost
	// Begun is told the header when the trace has begun, and Seen each line after it; both from one goroutine. nil is nobody.
	Begun func(tracer.Header)
	Seen  func(tracer.Line)
}

// ProbeTrace says which tiers work on this host.
func (a *App) ProbeTrace() []TraceTier { return a.tracer().Probe() }

// Trace traces this host until the context ends or the time is over, and adds up what it saw. An error of the capture, or of a file, ends
// it; the summary is then of what was seen until then, and says so.
func (a *App) Trace(ctx context.Context, o TraceOptions) (*tracer.Summary, error) {
	h := a.traceHeader(ctx, o)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := &traceRun{o: o, names: newTraceNames(o.Host), events: make(chan traceEvent, 4096), over: make(chan struct{}), tally: tracer.NewTally()}
	file, err := o.File.open()
	if err != nil {
		return nil, err
	}
	r.file = file
	assembler := tracer.NewAssembler(tracer.AssemblerOptions{Products: a.products, Lost: func(l tracer.Loss) { r.events <- traceEvent{loss: &l} }},
		func(c tracer.Call) { r.events <- traceEvent{call: &c} })
	capture, err := a.tracer().Start(context.WithoutCancel(ctx), o.Tier, func(now time.Time) {
		assembler.Flush(now)
		r.events <- traceEvent{tick: now}
	}, assembler)
	if err != nil {
		return nil, file.abandon(err)
	}
	h.Started, h.Tier, h.Partial, h.Notices = a.clock.Now().UTC(), capture.Tier(), capture.Partial(), capture.Notices()
	written := make(chan error, 1)
	go func() { written <- r.write(h) }()
	select {
	case <-ctx.Done():
	case <-r.over:
	case <-capture.Done():
	}
	lost, err := capture.Stop()
	assembler.Close()
	if counted := sumLosses(assembler.Losses()); lost > counted {
		assembler.Lost(lost-counted, "the capture counted more than it could tell")
	}
	r.events <- traceEvent{tick: a.clock.Now().UTC()}
	r.failed = err
	close(r.events)
	err = errors.Join(err, <-written)
	return r.tally.Summary(time.Time{}), err
}

func sumLosses(losses []tracer.Loss) (n uint64) {
	for _, l := range losses {
		n += l.Events
	}
	return n
}

// traceEvent is one of what a trace consists of.
type traceEvent struct {
	call *tracer.Call
	loss *tracer.Loss
	tick time.Time
}

// traceRun is one trace: what comes from the capture is written by a goroutine of its own, so that a slow disk is no loss at once.
type traceRun struct {
	o      TraceOptions
	names  *traceNames
	file   *traceFiles
	events chan traceEvent
	over   chan struct{} // closed when the time is over, or nothing can be written any more
	failed error         // of the capture; set before events is closed

	header tracer.Header
	now    time.Time
	lasted time.Duration // by the ticks, which do not leap when the time of day is set
	ended  bool
	lines  *tracer.Writer
	tally  *tracer.Tally
	part   *tracer.Part
}

// write takes all events. After an error the rest is read and dropped, so that the capture can end.
func (r *traceRun) write(h tracer.Header) error {
	err := r.begin(h)
	if err != nil {
		r.end()
	}
	for e := range r.events {
		if err != nil {
			continue
		}
		if err = r.event(e); err != nil {
			r.end()
		}
	}
	if err != nil {
		return r.file.abandon(err)
	}
	return r.finish()
}

// begin writes the header.
func (r *traceRun) begin(h tracer.Header) (err error) {
	r.header, r.now = h, h.Started
	r.part = r.tally.Part(h)
	if r.o.Lines != nil {
		if r.lines, err = tracer.NewWriter(r.o.Lines, h); err != nil {
			return err
		}
	}
	if err := r.file.begin(h); err != nil {
		return err
	}
	if r.o.Begun != nil {
		r.o.Begun(h)
	}
	return nil
}

// event writes one event.
func (r *traceRun) event(e traceEvent) error {
	switch {
	case e.call != nil:
		r.names.name(e.call)
		r.at(e.call.Time)
		return r.line(tracer.Line{Call: e.call}, func(w *tracer.Writer) error { return w.Call(*e.call) })
	case e.loss != nil:
		return r.line(tracer.Line{Loss: e.loss}, func(w *tracer.Writer) error { return w.Loss(*e.loss) })
	}
	r.at(e.tick)
	r.lasted = max(r.lasted, e.tick.Sub(r.header.Started))
	if r.o.For > 0 && r.lasted >= r.o.For {
		r.end()
	}
	return r.file.tick(r.now)
}

func (r *traceRun) at(now time.Time) {
	if now.After(r.now) {
		r.now = now
	}
}

// end asks for the end of the trace.
func (r *traceRun) end() {
	if !r.ended {
		r.ended = true
		close(r.over)
	}
}

// line gives a line to all who want it.
func (r *traceRun) line(l tracer.Line, put func(*tracer.Writer) error) error {
	r.part.Add(l)
	if r.o.Seen != nil {
		r.o.Seen(l)
	}
	if r.lines != nil {
		if err := put(r.lines); err != nil {
			return err
		}
	}
	return r.file.put(r.now, put)
}

// finish writes the end.
func (r *traceRun) finish() error {
	reason := tracer.EndAsked
	switch {
	case r.failed != nil:
		reason = tracer.EndFailed
	case r.o.For > 0 && r.lasted >= r.o.For:
		reason = tracer.EndTime
	}
	r.part.End(r.now, reason)
	var err error
	if r.lines != nil {
		err = r.lines.Close(r.now, reason)
	}
	return errors.Join(err, r.file.finish(r.now, reason))
}

// traceID names a trace.
func traceID() string { return rand.Text()[:16] }

// TraceSummary adds up trace files: each path is a file or a folder with such, compressed or not. A part that is there several times
// counts once. Of a folder, a file that cannot be read leaves a doubt, and keeps no other out.
func (a *App) TraceSummary(ctx context.Context, paths []string) (*tracer.Summary, error) {
	parts, unread, err := findParts(ctx, paths)
	tally := tracer.NewTally()
	for _, p := range parts {
		if err == nil {
			err = unread.note(ctx, p.file, p.given, readTrace(ctx, p.file, func(h tracer.Header) func(tracer.Line) { return tally.Part(h).Add }))
		}
	}
	switch {
	case err != nil:
		return nil, err
	case len(parts) == 0 && len(unread) > 0:
		return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Summary: unread[0]}
	case len(parts) == 0:
		return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: strings.Join(paths, ", "), Summary: "there is no trace file",
			Remedy: "Give files that `imdsctl trace --out` has written, or folders with files named *" + tracer.Suffix + "."}
	}
	sum := tally.Summary(time.Time{})
	const most = 3
	for _, reason := range unread[:min(len(unread), most)] {
		sum.Doubt("a file could not be read: " + reason)
	}
	if n := len(unread) - most; n > 0 {
		sum.Doubt(fmt.Sprintf("%d more files could not be read", n))
	}
	return sum, nil
}

// unreadFiles are the reasons why files could not be read.
type unreadFiles []string

// note takes note of an error of a file. One that was given by its name is the caller's matter, and so is the end of the context.
func (u *unreadFiles) note(ctx context.Context, f cloudtrail.File, given bool, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case given && strings.HasPrefix(err.Error(), f.Name):
		return fleet.Diagnostic{Severity: fleet.SeverityError, Summary: err.Error()}
	case given:
		return fleet.Diagnostic{Severity: fleet.SeverityError, Where: f.Name, Summary: err.Error()}
	}
	*u = append(*u, err.Error())
	return nil
}

// partFile is a file with a part of a trace.
type partFile struct {
	file   cloudtrail.File
	given  bool // by its name; else it was found in a folder
	header tracer.Header
}

// findParts finds the parts at paths, the better one of those that are there twice.
func findParts(ctx context.Context, paths []string) (parts []partFile, unread unreadFiles, err error) {
	type key struct {
		host, instance, trace string
		part                  int
	}
	known := map[key]int{}
	for _, path := range paths {
		for f, err := range tracesIn(path) {
			p := partFile{file: f, given: f.Name == path}
			if err == nil {
				p.header, err = traceHeaderOf(ctx, f)
			}
			if err != nil {
				if err = unread.note(ctx, f, p.given, err); err != nil {
					return nil, nil, err
				}
				continue
			}
			k := key{p.header.Host, p.header.InstanceID, p.header.Trace, p.header.Part}
			at, twice := known[k]
			switch {
			case !twice:
				known[k] = len(parts)
				parts = append(parts, p)
			case p.better(ctx, parts[at]):
				parts[at] = p
			}
		}
	}
	return parts, unread, nil
}

// better tells whether a copy of a part holds more than another one: its end, or more lines.
func (p partFile) better(ctx context.Context, o partFile) bool {
	weigh := func(f cloudtrail.File) (ended bool, lines int) {
		err := readTrace(ctx, f, func(tracer.Header) func(tracer.Line) {
			return func(l tracer.Line) { ended, lines = l.End != nil, lines+1 }
		})
		return ended && err == nil, lines
	}
	mine, many := weigh(p.file)
	other, others := weigh(o.file)
	return mine && !other || mine == other && many > others
}

// TraceTiers are the names of the tiers, for flags.
func TraceTiers() []string {
	var out []string
	for _, t := range tracer.Tiers() {
		out = append(out, string(t))
	}
	return slices.Clip(out)
}
