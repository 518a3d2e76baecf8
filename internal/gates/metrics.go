package gates

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/cloudwatch"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// metrics looks at v1 calls and heartbeats of the hosts.
func (x *examination) metrics(ctx context.Context, client meters, seen []*host) error {
	if x.q.Moment == engine.Before {
		return x.evidenceAgain(ctx, client, seen)
	}
	if len(seen) == 0 {
		return nil
	}
	return x.sinceWritten(ctx, client, seen)
}

// leeway is how much further back than as long as a step is old its v1 calls are compared. A program that calls every hour is seen
// in one half hour and not in the next, and seven times in one stretch of six hours and six times in another: the most of all
// stretches within the leeway is what it does, for programs that call at least so often.
const leeway = 6 * time.Hour

// longestStep bounds how far back the metrics of a step are read that has been open for long, as one that waits for the replacement
// of all instances: CloudWatch keeps points of five minutes for 63 days, and what was earlier was read when it was new.
const longestStep = 28 * 24 * time.Hour

// sinceWritten looks at what happened since the step began to be written. Hop limits are changed while v1 still works:
// what fails there falls back to v1, so that the successful calls rise.
func (x *examination) sinceWritten(ctx context.Context, client meters, seen []*host) error {
	q, from := x.q, x.q.Since
	if earliest := q.Now.Add(-longestStep); from.Before(earliest) {
		from = earliest
	}
	length := roundUp(q.Now.Sub(from)) + period
	rising := q.Stage == plan.StageHopLimit
	if rising {
		length += length + leeway
	}
	readings, err := x.ask(ctx, client, seen, length, q.Rules.Heartbeat)
	if err != nil {
		return err
	}
	if rising {
		x.rising(readings, from)
	} else {
		x.rejected(seen, readings, from)
	}
	if q.Rules.Heartbeat {
		x.heartbeats(seen, readings)
	}
	return nil
}

// ask reads the metrics of the hosts in the last so many minutes, all of them or an error.
func (x *examination) ask(
	ctx context.Context, client meters, seen []*host, last time.Duration, heartbeat bool,
) ([]cloudwatch.Reading, error) {
	span, err := cloudwatch.RecentSpan(x.q.Now, last, period)
	if err != nil {
		return nil, err
	}
	readings, err := client.gate(ctx, seen, cloudwatch.Watch{Span: span, Heartbeat: heartbeat})
	if err != nil {
		return nil, fmt.Errorf("read the gates in %s: %w", x.q.Place, err)
	}
	for i, r := range readings {
		if r.Gap != nil {
			return nil, fmt.Errorf("read the gates of %s: %w", seen[i].ref, r.Gap)
		}
	}
	return readings, nil
}

// longestLook bounds how far back evidence is read again; an older plan is refused before it comes to that.
const longestLook = 14 * 24 * time.Hour

// accepted tells whether a person has accepted the v1 calls of a host, or of some that one launched since is the like of.
func (x *examination) accepted(h *host) bool {
	return slices.Contains(x.q.Excused, h.ref) || h.since && len(x.q.Excused) > 0
}

// evidenceAgain looks, before a step that requires tokens, for v1 calls since the plan's evidence was taken: the plan
// was made because there were none. It begins a little earlier, for what CloudWatch was late with then. Where a person
// has accepted the v1 calls of some instances, nothing can be said of instances launched since, which are their like.
func (x *examination) evidenceAgain(ctx context.Context, client meters, seen []*host) error {
	q := x.q
	if q.Stage == plan.StageHopLimit {
		return nil
	}
	var asked []*host
	for _, h := range seen {
		if !x.accepted(h) {
			asked = append(asked, h)
		}
	}
	if len(asked) == 0 {
		return nil
	}
	from := q.Since.Add(-q.Rules.MetricDelay)
	last := min(roundUp(min(q.Now.Sub(from), longestLook))+period, longestLook)
	readings, err := x.ask(ctx, client, asked, last, false)
	if err != nil {
		return err
	}
	var sum, most int64
	var worst fleet.Ref
	for _, r := range readings {
		n := since(r.NoToken, from)
		sum += n
		if n > most {
			worst, most = r.Subject, n
		}
		if n > 0 {
			x.single(GateNoToken, r.Subject, sum <= q.Rules.MaxRejected, fmt.Sprint(n))
		}
	}
	value := fmt.Sprintf("%d in %s since %s", sum, instances(len(readings)), clockTime(from))
	if n := len(seen) - len(asked); n > 0 {
		value += fmt.Sprintf(", %d not asked, as their v1 calls were accepted", n)
	}
	x.whole(GateNoToken, sum <= q.Rules.MaxRejected, value, fmt.Sprintf(
		"IMDSv1 calls were seen since the plan was made: %d from %s (%d in all of the stack since %s, %d tolerated)",
		most, worst.ID, sum, clockTime(from), q.Rules.MaxRejected))
	return nil
}

func roundUp(d time.Duration) time.Duration {
	return max(period, (d+period-1)/period*period)
}

// rejected sums up the calls refused since the step began, or as far back as it is looked at. Those of instances whose v1 calls a
// person has accepted, and of their like, are shown and not counted: their being refused is what was decided.
func (x *examination) rejected(seen []*host, readings []cloudwatch.Reading, from time.Time) {
	var sum, accepted int64
	var worst fleet.Ref
	var most int64
	uncounted := 0
	for i, r := range readings {
		if seen[i].onLightsail() {
			uncounted++
			x.single(GateRejected, r.Subject, true, "not counted: Lightsail has no metric of refused calls")
			continue
		}
		n := since(r.Rejected, from)
		if x.accepted(seen[i]) {
			accepted += n
			if n > 0 {
				x.single(GateRejected, r.Subject, true, fmt.Sprintf("%d, accepted by an override", n))
			}
			continue
		}
		sum += n
		if n > most {
			worst, most = r.Subject, n
		}
		if n > 0 {
			x.single(GateRejected, r.Subject, sum <= x.q.Rules.MaxRejected, fmt.Sprint(n))
		}
	}
	value := fmt.Sprintf("%d in %s since %s", sum, instances(len(readings)-uncounted), clockTime(from))
	if uncounted > 0 {
		value += fmt.Sprintf(", not counted in %s on Lightsail", instances(uncounted))
	}
	if accepted > 0 {
		value += fmt.Sprintf(", besides %d that an override accepts", accepted)
	}
	x.whole(GateRejected, sum <= x.q.Rules.MaxRejected, value,
		fmt.Sprintf("%s: %d IMDSv1 calls were refused since %s (%d in all of the step, %d tolerated)",
			worst.ID, most, clockTime(from), sum, x.q.Rules.MaxRejected))
}

// rising compares the successful v1 calls since the step began with the most of as long a time before. Only a metric that was
// there tells anything: an instance without one cannot be compared.
func (x *examination) rising(readings []cloudwatch.Reading, from time.Time) {
	var rise int64
	var worst fleet.Ref
	var most, was int64
	for _, r := range readings {
		now, before := since(r.NoToken, from), mostBefore(r.NoToken, from)
		if now <= before {
			continue
		}
		rise += now - before
		if now-before > most-was {
			worst, most, was = r.Subject, now, before
		}
		x.single(GateNoToken, r.Subject, rise <= x.q.Rules.MaxRejected, fmt.Sprintf("%d, at most %d before", now, before))
	}
	value := fmt.Sprintf("risen by %d in %s since %s", rise, instances(len(readings)), clockTime(from))
	x.whole(GateNoToken, rise <= x.q.Rules.MaxRejected, value, fmt.Sprintf(
		"%s: %d IMDSv1 calls since the hop limit was changed at %s, at most %d in as long before: what cannot get a token any more falls back to v1",
		worst.ID, most, clockTime(from), was))
}

// heartbeats makes sure that silence is not death: an instance without a refused call must report something else. One
// that does not run, or was launched a moment ago, is not asked. While a step is being written silence is noted only.
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
			x.single(GateHeartbeat, h.ref, x.q.Moment == engine.During, value)
		}
	}
	value := fmt.Sprintf("%d of %d running instances report", asked-len(silent), asked)
	x.whole(GateHeartbeat, len(silent) == 0 || x.q.Moment == engine.During, value,
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

// mostBefore is the most calls in any as many periods on end before that of t as there are from it on.
func mostBefore(w *evidence.Window, t time.Time) int64 {
	at := w.Span.Slot(t)
	length := max(1, w.Span.Slots-at)
	var most, sum int64
	first := 0 // the oldest point that is still counted in sum
	for _, p := range w.Points {
		if p.Slot >= at {
			break
		}
		sum += p.Count
		for ; w.Points[first].Slot <= p.Slot-length; first++ {
			sum -= w.Points[first].Count
		}
		most = max(most, sum)
	}
	return most
}
