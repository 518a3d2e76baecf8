package workload

import (
	"iter"
	"math"
)

// All times in this package's arithmetic are Unix seconds.

// Forever is the end of a run that has not ended, and of the last setting.
const Forever = math.MaxInt64

// Run is a time in which the instance ran: From ≤ t < To.
type Run struct{ From, To int64 }

// Setting is the metadata options of an instance from a moment on.
type Setting struct {
	From     int64
	Required bool // HttpTokens is required
	Disabled bool // HttpEndpoint is disabled
	HopLimit int
}

// Life is the part of an instance's history that decides what its programs see. Runs are in order and do not overlap;
// settings are in order, and the first counts from the beginning of time.
type Life struct {
	ID       string
	Runs     []Run
	Settings []Setting
	// Restarts are when the programs were started anew while the instance kept running, in order.
	Restarts []int64
	// Detailed monitoring gives points by the minute, basic monitoring every five minutes.
	Detailed bool
}

// Resolution is the length, in seconds, of the shortest period CloudWatch has points for.
func (l *Life) Resolution() int64 {
	if l.Detailed {
		return 60
	}
	return 300
}

// SettingAt is the setting in force at t.
func (l *Life) SettingAt(t int64) Setting {
	var s Setting
	for i, c := range l.Settings {
		if i > 0 && c.From > t {
			break
		}
		s = c
	}
	return s
}

// RunningAt tells whether the instance ran at t.
func (l *Life) RunningAt(t int64) bool {
	for _, r := range l.Runs {
		if r.From <= t && t < r.To {
			return true
		}
	}
	return false
}

// span is a stretch of a run under one setting, in which the programs kept running.
type span struct {
	from, to int64
	run      *Run
	setting  Setting
	// began is when the programs started, with the instance or by a restart, and start the setting they found then.
	began int64
	start Setting
}

// spans walks the runs cut at changes of the setting and at restarts, in order, clipped to [from, to).
func (l *Life) spans(from, to int64) iter.Seq[span] {
	return func(yield func(span) bool) {
		for i := range l.Runs {
			r := &l.Runs[i]
			if r.To <= from || r.From >= to {
				continue
			}
			for j := range l.Settings {
				begin, end := l.Settings[j].From, int64(Forever)
				if j == 0 {
					begin = math.MinInt64
				}
				if j+1 < len(l.Settings) {
					end = l.Settings[j+1].From
				}
				s := span{from: max(r.From, begin, from), to: min(r.To, end, to), run: r, setting: l.Settings[j]}
				if s.from < s.to && !l.cut(s, yield) {
					return
				}
			}
		}
	}
}

// cut yields the span in pieces that begin at restarts.
func (l *Life) cut(s span, yield func(span) bool) bool {
	s.began = s.run.From
	next := 0
	for next < len(l.Restarts) && l.Restarts[next] <= s.from {
		s.began = max(s.began, l.Restarts[next])
		next++
	}
	for end := s.to; s.from < end; s.from, s.began = s.to, s.to {
		s.start, s.to = l.SettingAt(s.began), end
		if next < len(l.Restarts) {
			s.to = min(end, l.Restarts[next])
			next++
		}
		if s.from < s.to && !yield(s) {
			return false
		}
	}
	return true
}
