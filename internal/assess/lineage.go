package assess

import (
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// lineage is whose history speaks for an instance: its group's, since groups replace their instances; else that of the
// template it was launched from; else its own.
func (j *judge) lineage(r *inventory.Resource) fleet.Ref {
	group, grouped := r.Link(inventory.MemberOf)
	// A fleet that is not there any more, or that launched once and for all, will not replace the instance. One that could not be
	// read may be there.
	ended := ofFleets(group.To.Kind) && j.index.Group(r) == nil && j.missing(group.To.Kind) == ""
	if grouped && !ended {
		return group.To
	}
	if l, ok := r.Link(inventory.LaunchedFrom); ok {
		return l.To
	}
	if grouped {
		return group.To // what it launched beside this one
	}
	return r.Ref
}

// ofFleets tells whether a kind is that of EC2 Fleets or Spot Fleets.
func ofFleets(kind string) bool {
	return kind == inventory.KindFleet || kind == inventory.KindSpotFleet
}

// basis joins the evidence of a lineage, terminated members included. It is computed once for each lineage.
func (j *judge) basis(lineage fleet.Ref) Basis {
	if b, ok := j.bases[lineage]; ok {
		return *b
	}
	b := j.join(lineage, j.members(lineage))
	j.bases[lineage] = &b
	return b
}

// members are the hosts of a lineage, those that are no more included.
func (j *judge) members(lineage fleet.Ref) []*inventory.Resource {
	members := j.index.Hosts(lineage)
	if len(members) == 0 {
		if r := j.index.Resource(lineage); r != nil && j.in.Manners[r.Ref.Kind].Role == RoleHost {
			members = []*inventory.Resource{r}
		}
	}
	return members
}

// own is the evidence of one instance by itself; nil where its lineage is itself.
func (j *judge) own(r *inventory.Resource) *Basis {
	b := j.join(r.Ref, []*inventory.Resource{r})
	return &b
}

// join adds up windows: calls are summed, coverage is the union, and a launch inside the window counts as a boot if the
// member reported in the same period or later.
func (j *judge) join(lineage fleet.Ref, members []*inventory.Resource) Basis {
	span := j.in.Span
	b := Basis{Lineage: lineage, Source: j.source(lineage.Kind), Start: span.Start, End: span.End(),
		Periods: span.Slots}
	covered := evidence.NewBitmap(span.Slots)
	for _, m := range members {
		reported, booted := false, false
		for _, w := range j.in.Evidence[m.Ref] {
			if w.Span != span {
				continue // an older scan's window says nothing about this one
			}
			switch w.Metric {
			case evidence.MetricNoToken:
				b.Calls += w.Total
				if last := w.LastNonZero(); last.After(b.LastCall) {
					b.LastCall = last
				}
				covered.Union(w.Covered)
				booted = booted || span.Contains(m.Launched) && w.CoveredSince(m.Launched)
			case evidence.MetricRejected:
				b.Rejected += w.Total
				if last := w.LastNonZero(); last.After(b.LastRejected) {
					b.LastRejected = last
				}
			}
			reported = reported || w.Covered.Count() > 0
		}
		if reported {
			b.Members++
		}
		if booted {
			b.Boots++
		}
	}
	b.Covered = covered.Count()
	for slot := span.Slots - 1; slot >= 0; slot-- {
		if covered.Has(slot) {
			b.seen = span.Start.Add(time.Duration(slot+1) * span.Period)
			break
		}
	}
	return b
}
