package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// traceVariable names a file with what a trace sees, in place of what this host's programs do.
const traceVariable = "IMDSCTL_TEST_TRACE"

// scriptTracer tells what a file says: calls of programs, each a while after the beginning of the trace.
type scriptTracer struct{ file string }

// scriptTrace is such a file.
type scriptTrace struct {
	Tier             tracer.Tier
	Partial, Notices []string
	Probe            []app.TraceTier
	Refuse, Fail     string
	Calls            []struct {
		After   string
		Process tracer.Process
		Send    string
	}
	// Lost are events lost, for a reason.
	Lost int
	// Lasts is how long the trace seems to last; after that it ends by itself.
	Lasts string
}

func (s *scriptTracer) read() (t scriptTrace) {
	data, err := os.ReadFile(s.file)
	if err == nil {
		err = json.Unmarshal(data, &t)
	}
	if err != nil {
		panic(err)
	}
	return t
}

func (s *scriptTracer) Probe() []app.TraceTier { return s.read().Probe }

func (s *scriptTracer) Start(_ context.Context, _ tracer.Tier, tick func(time.Time), sink tracer.Sink) (app.TraceCapture, error) {
	t := s.read()
	if t.Refuse != "" {
		return nil, errors.New(t.Refuse)
	}
	c := &scriptCapture{scriptTrace: t, done: make(chan struct{})}
	begin := time.Now()
	at := func(after string) time.Time {
		d, err := time.ParseDuration(after)
		if err != nil {
			panic(err)
		}
		return begin.Add(d)
	}
	go func() {
		defer close(c.done)
		for i, call := range t.Calls {
			socket, now := uint64(i+1), at(call.After)
			sink.Connected(tracer.Connect{Socket: socket, Time: now, From: call.Process})
			sink.Sent(tracer.Segment{Socket: socket, Time: now, Seq: 1})
			sink.Sent(tracer.Segment{Socket: socket, Time: now, Seq: 1, Bytes: []byte(call.Send)})
		}
		if t.Lost > 0 {
			sink.Lost(uint64(t.Lost), "the buffer was full")
		}
		if t.Lasts != "" {
			tick(at(t.Lasts))
		}
	}()
	return c, nil
}

type scriptCapture struct {
	scriptTrace
	done chan struct{}
}

func (c *scriptCapture) Tier() tracer.Tier     { return c.scriptTrace.Tier }
func (c *scriptCapture) Partial() []string     { return c.scriptTrace.Partial }
func (c *scriptCapture) Notices() []string     { return c.scriptTrace.Notices }
func (c *scriptCapture) Done() <-chan struct{} { return c.done }
func (c *scriptCapture) Stop() (uint64, error) {
	<-c.done
	if c.Fail != "" {
		return 0, errors.New(c.Fail)
	}
	return 0, nil
}
