package workload

// Metric is a metric that the package can compute, by its CloudWatch name in the namespace AWS/EC2.
type Metric string

// The metrics.
const (
	// NoToken counts successful v1 calls. Zero is a point too, for as long as the instance runs with v1 allowed.
	NoToken Metric = "MetadataNoToken"
	// NoTokenRejected counts v1 calls after v1 was turned off. Only periods with calls have a point: AWS promises zeros
	// for NoToken alone.
	NoTokenRejected Metric = "MetadataNoTokenRejected"
	// CPU is the heartbeat: a point for every period in which the instance ran, in percent.
	CPU Metric = "CPUUtilization"
	// StatusCheckFailed is 1 in periods in which the instance status check failed, else 0.
	StatusCheckFailed Metric = "StatusCheckFailed"
	// StatusCheckFailedInstance is the same, without the system check (which never fails here).
	StatusCheckFailedInstance Metric = "StatusCheckFailed_Instance"
)

// Metrics lists the metrics in the order CloudWatch lists them.
func Metrics() []Metric {
	return []Metric{CPU, NoToken, NoTokenRejected, StatusCheckFailed, StatusCheckFailedInstance}
}

// Point is one datapoint: the beginning of its period, in Unix seconds, and the sum over the period (the mean for CPU).
type Point struct {
	At    int64
	Value float64
}

// Host is a life with the programs that run there.
type Host struct {
	Life     *Life
	Programs []*Program
	// Seed spreads the phases of programs that have no anchor.
	Seed uint64
}

// Series appends the points of a metric for the periods that begin in [from, to) to dst, in order. from and to must be
// multiples of period (seconds, at least 1). What happened at or after until does not count: it is the future, or has not
// been published yet.
func (h *Host) Series(dst []Point, m Metric, from, to, period, until int64) []Point {
	if from >= to {
		return dst
	}
	switch m {
	case CPU:
		return h.heartbeat(dst, from, to, period, until)
	case StatusCheckFailed, StatusCheckFailedInstance:
		return h.statusChecks(dst, from, to, period, until)
	case NoToken, NoTokenRejected:
		return h.calls(dst, m, from, to, period, until)
	default:
		return dst
	}
}

// calls counts v1 calls. A bucket may be shared by several spans (a stop and a start within the hour): the later span
// then adds to the bucket that the earlier one left.
func (h *Host) calls(dst []Point, m Metric, from, to, period, until int64) []Point {
	first := len(dst)
	for s := range h.Life.spans(from, min(to, until)) {
		if s.setting.Disabled || s.setting.Required != (m == NoTokenRejected) {
			continue
		}
		begin := len(dst)
		at := floorTo(s.from, period)
		if begin > first && dst[begin-1].At == at {
			begin--
		}
		for len(dst) > begin && at <= dst[len(dst)-1].At {
			at += period
		}
		for ; at < s.to; at += period {
			dst = append(dst, Point{At: at})
		}
		for _, p := range h.Programs {
			if o := p.in(s); (m == NoToken && o.V1) || (m == NoTokenRejected && o.Rejected) {
				h.add(dst[begin:], p, s, period)
			}
		}
	}
	if m == NoToken {
		return dst
	}
	kept := dst[:first]
	for _, pt := range dst[first:] {
		if pt.Value > 0 {
			kept = append(kept, pt)
		}
	}
	return kept
}

// add counts one program's calls within the span into buckets, which cover the span.
func (h *Host) add(buckets []Point, p *Program, s span, period int64) {
	calls := p.calls()
	if boot := h.bootRound(p, s.began); p.AtBoot && s.from <= boot && boot < s.to {
		buckets[(boot-buckets[0].At)/period].Value += float64(calls)
	}
	every := int64(p.Every.Seconds())
	if every == 0 {
		return
	}
	anchor := h.anchor(p, every)
	if every >= 4*period { // few rounds: visit rounds, not buckets
		for t := anchor + ceilDiv(s.from-anchor, every)*every; t < s.to; t += every {
			buckets[(t-buckets[0].At)/period].Value += float64(calls)
		}
		return
	}
	before := ceilDiv(s.from-anchor, every) // rounds before the span
	for i := range buckets {
		upto := ceilDiv(min(buckets[i].At+period, s.to)-anchor, every)
		if upto > before {
			buckets[i].Value += float64((upto - before) * calls)
			before = upto
		}
	}
}

// bootRound is when the program makes its first round after a start.
func (h *Host) bootRound(p *Program, began int64) int64 {
	return began + 20 + int64(h.mix(p.Name, uint64(began))%100)
}

// anchor is the time of one round.
func (h *Host) anchor(p *Program, every int64) int64 {
	if !p.Anchor.IsZero() {
		return p.Anchor.Unix()
	}
	return int64(h.mix(p.Name, 0) % uint64(every))
}

// mix hashes the seed, the instance, a name and a number to an even spread, the same on every run and machine (FNV-1a,
// then the finaliser of SplitMix64).
func (h *Host) mix(name string, n uint64) uint64 {
	const prime = 1099511628211
	x := uint64(14695981039346656037) ^ h.Seed
	for i := range len(h.Life.ID) {
		x = (x ^ uint64(h.Life.ID[i])) * prime
	}
	for i := range len(name) {
		x = (x ^ uint64(name[i])) * prime
	}
	return scramble(x ^ n*0x9e3779b97f4a7c15)
}

func scramble(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// heartbeat gives a plausible CPU use: a level for each instance, moved by the time of day and a little noise.
func (h *Host) heartbeat(dst []Point, from, to, period, until int64) []Point {
	base := h.mix("cpu", 0)
	level := 4 + float64(base%2800)/100
	first := len(dst)
	for i := range h.Life.Runs {
		r := h.Life.Runs[i]
		begin, end := max(r.From, from), min(r.To, to, until)
		for at := floorTo(begin, period); at < end && begin < end; at += period {
			if len(dst) > first && dst[len(dst)-1].At >= at {
				continue
			}
			day := float64((at+int64(base%7200))%86400) / 86400
			wave := 1 - abs(2*day-1) // 0 at midnight, 1 at noon
			noise := float64(scramble(base^uint64(at))%400) / 100
			dst = append(dst, Point{At: at, Value: level*(0.7+0.6*wave) + noise})
		}
	}
	return dst
}

func (h *Host) statusChecks(dst []Point, from, to, period, until int64) []Point {
	first := len(dst)
	for i := range h.Life.Runs {
		r := h.Life.Runs[i]
		begin, end := max(r.From, from), min(r.To, to, until)
		for at := floorTo(begin, period); at < end && begin < end; at += period {
			if len(dst) == first || dst[len(dst)-1].At < at {
				dst = append(dst, Point{At: at})
			}
		}
	}
	if len(dst) == first {
		return dst
	}
	for _, p := range h.Programs {
		if !p.Essential {
			continue
		}
		for b := range h.breaks(p, until) {
			failed := b.From + int64(p.ImpairedAfter.Seconds())
			for j := first; j < len(dst); j++ {
				if dst[j].At+period > failed && dst[j].At < b.To {
					dst[j].Value = 1
				}
			}
		}
	}
	return dst
}

func abs(x float64) float64 { return max(x, -x) }

func floorTo(t, period int64) int64 { return floorDiv(t, period) * period }

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func ceilDiv(a, b int64) int64 { return -floorDiv(-a, b) }

// Reported tells whether the metric has a point in [from, until).
func (h *Host) Reported(m Metric, from, until int64) bool {
	for s := range h.Life.spans(from, until) {
		switch m {
		case CPU, StatusCheckFailed, StatusCheckFailedInstance:
			return true
		case NoToken:
			if !s.setting.Disabled && !s.setting.Required {
				return true
			}
		case NoTokenRejected:
			if s.setting.Disabled || !s.setting.Required {
				continue
			}
			for _, p := range h.Programs {
				if _, _, any := h.rounds(p, s); any && p.in(s).Rejected {
					return true
				}
			}
		}
	}
	return false
}
