package workload

import "iter"

// Delivery is the version of the protocol by which a round of calls got credentials: "1.0", "2.0", or "" where it got none. It is what
// CloudTrail calls ec2RoleDelivery.
func (o Outcome) Delivery() string {
	switch {
	case o.Reason != Works:
		return ""
	case o.V2:
		return "2.0"
	case o.V1:
		return "1.0"
	}
	return ""
}

// Rounds gives the program's rounds of calls in [from, to), by spans of one setting, with what each came to. Within a span the round
// at boot comes first.
func (h *Host) Rounds(p *Program, from, to int64) iter.Seq2[int64, Outcome] {
	return func(yield func(int64, Outcome) bool) {
		every := int64(p.Every.Seconds())
		for s := range h.Life.spans(from, to) {
			o := p.in(s)
			if boot := h.bootRound(p, s.began); p.AtBoot && s.from <= boot && boot < s.to && !yield(boot, o) {
				return
			}
			if every == 0 {
				continue
			}
			anchor := h.anchor(p, every)
			for t := anchor + ceilDiv(s.from-anchor, every)*every; t < s.to; t += every {
				if !yield(t, o) {
					return
				}
			}
		}
	}
}
