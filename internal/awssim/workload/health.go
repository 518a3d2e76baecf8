package workload

import (
	"iter"
	"math"
	"time"
)

// Break is a time in which a program did not get what it asked the metadata service for.
type Break struct {
	// From is when it showed, To when the next round worked or the instance stopped: Forever while it lasts.
	From, To int64
	Reason   Reason
	// Setting is the one in force when the break began.
	Setting Setting
}

// Fault is a program that is broken on an instance.
type Fault struct {
	Program *Program
	Since   time.Time
	Reason  Reason
	// Why is the explanation for a person.
	Why string
	// Impaired tells that the instance status check fails because of it.
	Impaired bool
}

// Faults lists the programs that are broken at t, in the order of Programs.
func (h *Host) Faults(t int64) []Fault {
	var out []Fault
	if !h.Life.RunningAt(t) {
		return nil
	}
	for _, p := range h.Programs {
		for b := range h.breaks(p, t+1) {
			if b.From <= t && t < b.To {
				out = append(out, Fault{
					Program: p, Since: time.Unix(b.From, 0).UTC(), Reason: b.Reason, Why: p.Explain(b.Reason, b.Setting),
					Impaired: p.Essential && t >= b.From+int64(p.ImpairedAfter.Seconds()),
				})
			}
		}
	}
	return out
}

// Impaired tells whether the instance status check fails at t, and since when.
func (h *Host) Impaired(t int64) (since time.Time, impaired bool) {
	for _, f := range h.Faults(t) {
		if at := f.Since.Add(f.Program.ImpairedAfter); f.Impaired && (!impaired || at.Before(since)) {
			since, impaired = at, true
		}
	}
	return since, impaired
}

// Breaks lists the times before until in which a program was broken, in order.
func (h *Host) Breaks(p *Program, until int64) []Break {
	var out []Break
	for b := range h.breaks(p, until) {
		out = append(out, b)
	}
	return out
}

// breaks walks the spans with the last success in the run. Within a span every round has the same outcome, so only the
// first and the last round of a span matter.
func (h *Host) breaks(p *Program, until int64) iter.Seq[Break] {
	return func(yield func(Break) bool) {
		var open *Break // of the current run
		var run *Run
		began := int64(-1)
		fresh := int64(-1) // when the cache of the last success ends; -1 before the first success since the start
		for s := range h.Life.spans(math.MinInt64, until) {
			if s.run != run {
				if open != nil {
					open.To = run.To
					if open.From < open.To && !yield(*open) {
						return
					}
				}
				open, run, fresh = nil, s.run, -1
			}
			if s.began != began { // what was cached is lost, and what it hid shows
				began, fresh = s.began, -1
				if open != nil {
					open.From = min(open.From, s.began)
				}
			}
			first, last, any := h.rounds(p, s)
			if !any {
				continue
			}
			if o := p.in(s); o.Reason == Works {
				if open != nil {
					open.To = first
					if open.From < open.To && !yield(*open) {
						return
					}
					open = nil
				}
				fresh = last + int64(p.CacheFor.Seconds())
			} else if open == nil {
				open = &Break{From: max(first, fresh), To: Forever, Reason: o.Reason, Setting: s.setting}
			}
		}
		if open == nil {
			return
		}
		if run.To < until {
			open.To = run.To
		}
		if open.From < min(open.To, until) {
			yield(*open)
		}
	}
}

// rounds gives the first and the last round of calls within the span.
func (h *Host) rounds(p *Program, s span) (first, last int64, any bool) {
	note := func(t int64) {
		if !any || t < first {
			first = t
		}
		if !any || t > last {
			last = t
		}
		any = true
	}
	if boot := h.bootRound(p, s.began); p.AtBoot && s.from <= boot && boot < s.to {
		note(boot)
	}
	if every := int64(p.Every.Seconds()); every > 0 {
		anchor := h.anchor(p, every)
		if t := anchor + ceilDiv(s.from-anchor, every)*every; t < s.to {
			note(t)
			note(anchor + (ceilDiv(s.to-anchor, every)-1)*every)
		}
	}
	return first, last, any
}

// NextRound is the program's first round of calls at or after t while the instance keeps running as it does now; ok is
// false where there is none.
func (h *Host) NextRound(p *Program, t int64) (at int64, ok bool) {
	for s := range h.Life.spans(t, Forever) {
		if first, _, any := h.rounds(p, s); any && (!ok || first < at) {
			at, ok = first, true
		}
	}
	return at, ok
}
