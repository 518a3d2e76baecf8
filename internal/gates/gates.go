// Package gates reads what must hold after a step of a rollout: that no IMDSv1 call of a changed instance was refused,
// that its status checks pass, and that it still reports anything at all.
//
// It implements engine.GateReader over CloudWatch and EC2 and decides nothing else: when gates are read, and what
// follows, is the engine's and rollout's matter. What cannot be read is an error, never a pass. Reading changes
// nothing.
package gates

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/cloudwatch"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// Names of the gates.
const (
	GateRejected  = string(evidence.MetricRejected)
	GateNoToken   = string(evidence.MetricNoToken)
	GateHeartbeat = "heartbeat"
	GateStatus    = "status-check"
)

// Options say how gates are read.
type Options struct {
	// Session gives the way to a place, to read there. It makes no call.
	Session func(place fleet.Place, write bool) *awsx.Session
	// Protocol is how CloudWatch is spoken to.
	Protocol cloudwatch.Protocol
	Logger   *slog.Logger
}

// Reader reads gates. It is safe for many goroutines.
type Reader struct{ opt Options }

var _ engine.GateReader = (*Reader)(nil)

// New makes a reader.
func New(o Options) *Reader {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Reader{opt: o}
}

// period of a reading: what EC2 sends without detailed monitoring.
const period = 5 * time.Minute

// ReadGates implements engine.GateReader.
func (r *Reader) ReadGates(ctx context.Context, q engine.GateQuery) (engine.GateResult, error) {
	session := r.opt.Session(q.Place, false)
	hosts := newHosts(session)
	seen, err := hosts.find(ctx, q)
	if err != nil {
		return engine.GateResult{}, err
	}
	x := &examination{q: q, out: engine.GateResult{Pass: true}}
	if q.Rules.StatusChecks {
		if err := hosts.checks(ctx, seen); err != nil {
			return engine.GateResult{}, err
		}
		x.status(seen)
	}
	if len(seen) > 0 {
		if err := x.metrics(ctx, cloudwatch.New(session, r.opt.Protocol), seen); err != nil {
			return engine.GateResult{}, err
		}
	}
	return x.out, nil
}

// examination is one reading of all gates of a stack.
type examination struct {
	q   engine.GateQuery
	out engine.GateResult
}

// mostReadings bounds the single readings that are kept of one gate: the first few tell what is wrong.
const mostReadings = 20

// single records the reading of one host, where there is something to tell of it.
func (x *examination) single(gate string, subject fleet.Ref, pass bool, value string) {
	n := 0
	for _, r := range x.out.Readings {
		if r.Gate == gate && r.Pass == pass {
			n++
		}
	}
	if n < mostReadings {
		x.out.Readings = append(x.out.Readings, engine.Reading{Gate: gate, Subject: subject, Value: value, Pass: pass,
			At: x.q.Now})
	}
}

// whole records what a gate says of all hosts, and fails the step where it must. The first failure is the reason.
func (x *examination) whole(gate string, pass bool, value, reason string) {
	x.out.Readings = append(x.out.Readings, engine.Reading{Gate: gate, Value: value, Pass: pass, At: x.q.Now})
	if pass {
		return
	}
	if x.out.Pass {
		x.out.Reason = reason
	}
	x.out.Pass = false
}

// status looks at the status checks of the hosts that run. One that is still initializing passes, and is noted.
func (x *examination) status(seen []*host) {
	var impaired, settling []string
	running := 0
	for _, h := range seen {
		switch {
		case !h.running:
			x.single(GateStatus, h.ref, true, "not asked: "+h.state)
		case h.impaired():
			running++
			impaired = append(impaired, h.ref.ID)
			x.single(GateStatus, h.ref, false, "system "+h.system+", instance "+h.instance)
		case !h.passed():
			running++
			settling = append(settling, h.ref.ID)
			x.single(GateStatus, h.ref, true, "system "+h.system+", instance "+h.instance)
		default:
			running++
		}
	}
	value := fmt.Sprintf("%d of %d running instances pass", running-len(impaired)-len(settling), running)
	if len(settling) > 0 {
		value += fmt.Sprintf(", %d are not known yet", len(settling))
	}
	x.whole(GateStatus, len(impaired) == 0, value, fmt.Sprintf("status checks of %s fail", some(impaired)))
}

// metrics looks at v1 calls and heartbeats. Hop limits are changed while v1 still works: what fails there falls back to
// v1, so that the successful calls rise.
func (x *examination) metrics(ctx context.Context, client *cloudwatch.Client, seen []*host) error {
	q := x.q
	length := roundUp(q.Now.Sub(q.Since)) + period
	rising := q.Stage == plan.StageHopLimit
	if rising {
		length *= 2
	}
	span, err := cloudwatch.RecentSpan(q.Now, length, period)
	if err != nil {
		return err
	}
	refs := make([]fleet.Ref, len(seen))
	for i, h := range seen {
		refs[i] = h.ref
	}
	readings, err := client.Gate(ctx, refs, cloudwatch.Watch{Span: span, Heartbeat: q.Rules.Heartbeat})
	if err != nil {
		return fmt.Errorf("read the gates in %s: %w", q.Place, err)
	}
	for i, r := range readings {
		if r.Gap != nil {
			return fmt.Errorf("read the gates of %s: %w", refs[i], r.Gap)
		}
	}
	if rising {
		x.rising(readings)
	} else {
		x.rejected(readings)
	}
	if q.Rules.Heartbeat {
		x.heartbeats(seen, readings)
	}
	return nil
}

func roundUp(d time.Duration) time.Duration {
	return max(period, (d+period-1)/period*period)
}

// rejected sums up the calls refused since the step began.
func (x *examination) rejected(readings []cloudwatch.Reading) {
	var sum int64
	var worst fleet.Ref
	var most int64
	for _, r := range readings {
		n := since(r.Rejected, x.q.Since)
		sum += n
		if n > most {
			worst, most = r.Subject, n
		}
		if n > 0 {
			x.single(GateRejected, r.Subject, sum <= x.q.Rules.MaxRejected, fmt.Sprint(n))
		}
	}
	value := fmt.Sprintf("%d in %s since %s", sum, instances(len(readings)), clockTime(x.q.Since))
	x.whole(GateRejected, sum <= x.q.Rules.MaxRejected, value,
		fmt.Sprintf("%s: %d IMDSv1 calls were refused since %s (%d in all of the step, %d tolerated)",
			worst.ID, most, clockTime(x.q.Since), sum, x.q.Rules.MaxRejected))
}

// rising compares the successful v1 calls since the step began with those of as long before. Only a metric that was
// there tells anything: an instance without one cannot be compared.
func (x *examination) rising(readings []cloudwatch.Reading) {
	var rise int64
	var worst fleet.Ref
	var most, was int64
	for _, r := range readings {
		now, before := since(r.NoToken, x.q.Since), before(r.NoToken, x.q.Since)
		if now <= before {
			continue
		}
		rise += now - before
		if now-before > most-was {
			worst, most, was = r.Subject, now, before
		}
		x.single(GateNoToken, r.Subject, rise <= x.q.Rules.MaxRejected, fmt.Sprintf("%d, %d before", now, before))
	}
	value := fmt.Sprintf("risen by %d in %s since %s", rise, instances(len(readings)), clockTime(x.q.Since))
	x.whole(GateNoToken, rise <= x.q.Rules.MaxRejected, value, fmt.Sprintf(
		"%s: %d IMDSv1 calls since the hop limit was changed at %s, %d in as long before: what cannot get a token any more falls back to v1",
		worst.ID, most, clockTime(x.q.Since), was))
}

// heartbeats makes sure that silence is not death: an instance without a refused call must report something else. One
// that does not run, or was launched a moment ago, is not asked.
func (x *examination) heartbeats(seen []*host, readings []cloudwatch.Reading) {
	lag := x.q.Rules.MetricDelay + 2*period
	fresh := x.q.Now.Add(-lag)
	var silent []string
	asked := 0
	for i, h := range seen {
		switch {
		case !h.running:
		case h.launched.After(fresh):
			x.single(GateHeartbeat, h.ref, true, "launched a moment ago")
		case readings[i].FreshSince(fresh):
			asked++
		default:
			asked++
			silent = append(silent, h.ref.ID)
			value := "none"
			if !readings[i].Heartbeat.IsZero() {
				value = clockTime(readings[i].Heartbeat)
			}
			x.single(GateHeartbeat, h.ref, false, value)
		}
	}
	value := fmt.Sprintf("%d of %d running instances report", asked-len(silent), asked)
	x.whole(GateHeartbeat, len(silent) == 0, value,
		fmt.Sprintf("%s reported no metric since %s, so that the absence of refused calls proves nothing", some(silent),
			clockTime(fresh)))
}

// since sums up the calls of the periods that end after t.
func since(w *evidence.Window, t time.Time) int64 {
	var n int64
	for _, p := range w.Points {
		if p.Slot >= w.Span.Slot(t) {
			n += p.Count
		}
	}
	return n
}

// before sums up the calls of as many periods before that of t as there are from it on.
func before(w *evidence.Window, t time.Time) int64 {
	at := w.Span.Slot(t)
	var n int64
	for _, p := range w.Points {
		if p.Slot < at && p.Slot >= at-(w.Span.Slots-at) {
			n += p.Count
		}
	}
	return n
}

func instances(n int) string {
	if n == 1 {
		return "1 instance"
	}
	return fmt.Sprintf("%d instances", n)
}

func clockTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// some names the first few.
func some(ids []string) string {
	ids = slices.Sorted(slices.Values(ids))
	if len(ids) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(ids[:3], ", "), len(ids)-3)
	}
	return strings.Join(ids, ", ")
}
