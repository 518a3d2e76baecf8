// Package capture sees what this host's programs send to the instance metadata service, on Linux: by eBPF programs at the root of
// the cgroups, or, where the host does not allow them, by the packets of every network namespace.
//
// It owns the eBPF programs (bpf/), their loading, the choice of a tier by trying, and what it takes to name a process. It sends
// nothing and changes nothing on the host: programs let every packet pass, and end with the process. What it sees it hands to a
// tracer.Sink; it keeps no trace.
package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/tracer"
)

// ErrUnsupported says that this system cannot be captured on: only Linux can.
var ErrUnsupported = errors.New("only Linux lets the calls of its programs be seen; on Windows and macOS there is no tracer")

// Options say how to capture.
type Options struct {
	// Tier is the one to take; "" takes the best that works here.
	Tier tracer.Tier
	// Logger is told what goes wrong on the way and stops nothing; nil is nobody.
	Logger *slog.Logger
	// Tick, where it is not nil, is called about once a second, from the goroutine that calls the Sink.
	Tick func(now time.Time)
}

// Availability says whether a tier works on this host.
type Availability struct {
	Tier tracer.Tier
	Err  error // why not; nil where it works
}

// Stats counts what a capture saw.
type Stats struct {
	Connects uint64 // connections to the service that were begun
	Segments uint64 // pieces of what was sent
	Lost     uint64 // events that were lost, as far as they could be counted
}

// Capture is a capture under way.
type Capture struct {
	tier    tracer.Tier
	notices []string
	source  source
	ended   chan struct{}
	stop    context.CancelFunc

	mu    sync.Mutex
	stats Stats
	err   error
}

// source is a tier at work.
type source interface {
	// run hands what is seen to the sink until the context ends, and then what was seen until then. It releases everything.
	run(ctx context.Context, sink tracer.Sink, tick func(time.Time)) error
	// notices are what a reader must know; partial are those of them by which a part of the host alone is seen.
	notices() []string
	partial() []string
}

// tiers are all, the best first.
var tiers = [...]tracer.Tier{tracer.TierFull, tracer.TierNoProbe, tracer.TierPackets}

// Probe tries every tier, the best first. Each is set up as for a capture, and taken down again at once.
func Probe() []Availability {
	var all []Availability
	for _, tier := range tiers {
		s, err := open(tier, slog.New(slog.DiscardHandler))
		if err == nil {
			err = discard(s)
		}
		all = append(all, Availability{tier, err})
	}
	return all
}

// discard takes a source down without listening to it.
func discard(s source) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return s.run(ctx, nobody{}, func(time.Time) {})
}

// Start captures into a sink until Stop is called or the context ends. When it returns, everything that is sent from then on is seen.
// An error says for each tier that was tried why it does not work here; without a tier in the options they are all tried.
func Start(ctx context.Context, o Options, sink tracer.Sink) (*Capture, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Tick == nil {
		o.Tick = func(time.Time) {}
	}
	wanted := tiers[:]
	if o.Tier != "" {
		if !slices.Contains(wanted, o.Tier) {
			return nil, fmt.Errorf("there is no tier %q: want full, no-probe or packets", o.Tier)
		}
		wanted = []tracer.Tier{o.Tier}
	}
	var failed []error
	for _, tier := range wanted {
		s, err := open(tier, o.Logger)
		if err != nil {
			failed = append(failed, fmt.Errorf("tier %s: %w", tier, err))
			continue
		}
		return begin(ctx, o, tier, s, sink, failed), nil
	}
	if err := errors.Join(failed...); errors.Is(err, ErrUnsupported) {
		return nil, ErrUnsupported
	}
	return nil, fmt.Errorf("nothing can be captured on this host: %w", errors.Join(failed...))
}

// begin runs a source. What failed before it becomes a notice.
func begin(ctx context.Context, o Options, tier tracer.Tier, s source, sink tracer.Sink, failed []error) *Capture {
	ctx, cancel := context.WithCancel(ctx)
	c := &Capture{tier: tier, source: s, ended: make(chan struct{}), stop: cancel}
	for _, err := range failed {
		c.notices = append(c.notices, err.Error())
	}
	c.notices = append(c.notices, s.notices()...)
	go func() {
		defer close(c.ended)
		err := s.run(ctx, &counted{sink: sink, in: c}, o.Tick)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.err = err
	}()
	return c
}

// Tier is the one that was taken.
func (c *Capture) Tier() tracer.Tier { return c.tier }

// Notices say what a reader of the trace must know: why no better tier was taken, that only a part of the host is seen, that
// connections are older than the capture.
func (c *Capture) Notices() []string { return slices.Clone(c.notices) }

// Partial are those of the notices that say that only a part of the host is seen.
func (c *Capture) Partial() []string { return slices.Clone(c.source.partial()) }

// Done is closed when the capture has ended, by Stop, by its context, or by an error that Stop then returns.
func (c *Capture) Done() <-chan struct{} { return c.ended }

// Stats are the counts so far.
func (c *Capture) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Stop ends the capture, after the sink was told all that was seen before, and counts. The error is what ended the capture earlier,
// if something did. It may be called again.
func (c *Capture) Stop() (Stats, error) {
	c.stop()
	<-c.ended
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats, c.err
}

// counted is a sink that counts what it hands on.
type counted struct {
	sink tracer.Sink
	in   *Capture
}

func (s *counted) count(connects, segments, lost uint64) {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	s.in.stats.Connects += connects
	s.in.stats.Segments += segments
	s.in.stats.Lost += lost
}

// Connected counts and hands on.
func (s *counted) Connected(c tracer.Connect) {
	s.count(1, 0, 0)
	s.sink.Connected(c)
}

// Sent counts and hands on.
func (s *counted) Sent(g tracer.Segment) {
	s.count(0, 1, 0)
	s.sink.Sent(g)
}

// Lost counts and hands on.
func (s *counted) Lost(n uint64, why string) {
	s.count(0, 0, n)
	s.sink.Lost(n, why)
}

// nobody is a sink that forgets.
type nobody struct{}

// Connected forgets.
func (nobody) Connected(tracer.Connect) {}

// Sent forgets.
func (nobody) Sent(tracer.Segment) {}

// Lost forgets.
func (nobody) Lost(uint64, string) {}
