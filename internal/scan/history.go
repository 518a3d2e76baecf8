package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// evidence reads the history of all hosts: of instances from CloudWatch, after its cost is known and is not too high, and of
// the kinds that have a metric of their own from that.
func (s *run) evidence(ctx context.Context) error {
	if s.opt.Source == "" {
		return nil
	}
	places, own := s.observed()
	var counts, far []int
	for _, p := range places {
		if n := s.subjects[p].len(); n > 0 {
			counts = append(counts, n)
		}
		if n := s.subjects[p].len() + s.older[p].len(); n > 0 && s.looksBack() {
			far = append(far, n)
		}
	}
	s.sum.Cost = s.opt.Estimate(counts)
	if s.looksBack() {
		s.sum.Cost = s.sum.Cost.plus(s.opt.EstimateLookBack(far))
	}
	s.update(func(p *Progress) {
		p.Phase, p.Estimate, p.Instances = PhaseEvidence, s.sum.Cost, int(s.sum.Cost.Instances)+own
	})
	affordable := s.opt.Ceiling <= 0 || s.sum.Cost.Dollars <= s.opt.Ceiling
	if !affordable {
		s.sum.Notes = append(s.sum.Notes, fleet.Diagnostic{Severity: fleet.SeverityWarning,
			Summary: fmt.Sprintf("CloudWatch was not asked: reading %d metrics would cost about $%.2f, and the ceiling is $%.2f",
				s.sum.Cost.Metrics, s.sum.Cost.Dollars, s.opt.Ceiling),
			Remedy: "Raise the ceiling, scan fewer accounts at a time, or set `evidence.history: 0s` for a third less."})
	}
	q := newQueue(s.opt.Concurrency)
	for _, p := range places {
		if _, any := s.metered[p]; !any && !affordable {
			continue
		}
		q.add(p.Account, func(ctx context.Context) error {
			return s.holding(ctx, p, func(ctx context.Context, p fleet.Place) error { return s.observe(ctx, p, affordable) })
		})
	}
	return q.run(ctx)
}

// looksBack tells whether daily counts are read beyond the window.
func (s *run) looksBack() bool { return s.opt.Source != "" && s.opt.History.Slots > 0 }

// observed lists the places with hosts that something may have been observed of, and how many have a metric of their own.
func (s *run) observed() (places []fleet.Place, own int) {
	all := map[fleet.Place]bool{}
	for p := range s.subjects {
		all[p] = true
	}
	for p := range s.older {
		all[p] = all[p] || s.looksBack()
	}
	for p, metered := range s.metered {
		all[p] = true
		for _, m := range metered {
			own += len(m.ids)
		}
	}
	maps.DeleteFunc(all, func(_ fleet.Place, any bool) bool { return !any })
	return slices.SortedFunc(maps.Keys(all), fleet.Place.Compare), own
}

// observe reads the history of one place's hosts, source by source.
func (s *run) observe(ctx context.Context, p fleet.Place, cloudWatch bool) error {
	if from := s.opt.Fleet.Open(p).Evidence; from != nil && cloudWatch {
		if err := s.instances(ctx, p, from); err != nil {
			return err
		}
	}
	for _, m := range s.metered[p] {
		refs := make([]fleet.Ref, len(m.ids))
		for i, id := range m.ids {
			refs[i] = fleet.Ref{Place: p, Kind: m.reader.Kind, ID: id}
		}
		reader, _ := m.reader.Driver.(kind.MetricReader)
		_, err := s.from(ctx, p, look{source: m.reader.Source, span: s.opt.Span, read: reader.History, put: s.opt.Store.PutEvidence,
			count: func(asked int64) { s.sum.OwnMetrics[m.reader.Source] += asked }}, refs)
		if err != nil {
			return err
		}
	}
	return nil
}

// instances reads the window of a place's instances, and the long look back.
func (s *run) instances(ctx context.Context, p fleet.Place, from Evidence) error {
	refs := s.subjects[p].refs(p)
	if len(refs) > 0 {
		read, err := s.from(ctx, p, look{source: s.opt.Source, span: s.opt.Span, read: from.History, put: s.opt.Store.PutEvidence,
			count: func(asked int64) {
				s.sum.Asked.Instances += asked
				s.sum.Asked.Metrics += 2 * asked
			}}, refs)
		if err != nil || !read { // that it cannot be read has been said; nothing is asked in vain
			return err
		}
	}
	far, ok := from.(LookBack)
	refs = append(refs, s.older[p].refs(p)...)
	if !ok || !s.looksBack() || len(refs) == 0 {
		return nil
	}
	_, err := s.from(ctx, p, look{source: s.opt.Source.History(), span: s.opt.History, read: far.LookBack, put: s.opt.Store.PutHistory,
		again: true, count: func(asked int64) {
			s.sum.Asked.Metrics += asked
			s.sum.Asked.LookBack += asked
		}}, refs)
	return err
}

// look is one reading of one source.
type look struct {
	source evidence.Source // the scope's name
	span   evidence.Span
	read   func(context.Context, []fleet.Ref, evidence.Span, func(Observation) error) error
	put    func(context.Context, int64, []*evidence.Window) error
	// again: the hosts are counted as read by another one.
	again bool
	count func(asked int64)
}

// from reads what one source knows of a place's hosts. Any part that is missing makes the whole a gap of that source:
// windows are joined along lineages, in which the other members would hide what one of them did not tell. read tells whether the
// source answered at all.
func (s *run) from(ctx context.Context, p fleet.Place, l look, subjects []fleet.Ref) (read bool, err error) {
	batch := &windows{run: s, look: l}
	var gaps []error
	asked, missing := 0, 0
	err = l.read(ctx, subjects, l.span, func(o Observation) error {
		asked++
		if o.Gap != nil {
			missing++
			if len(gaps) < 3 {
				gaps = append(gaps, o.Gap)
			}
		}
		return batch.put(ctx, o.Windows)
	})
	if broken := batch.flush(ctx); broken != nil {
		return false, broken
	}
	s.update(func(*Progress) { l.count(int64(asked)) })
	if err != nil {
		if fatal := stops(ctx, err); fatal != nil {
			// What was stored of this place is a part that must not be taken for the whole.
			return false, errors.Join(fatal, s.gap(ctx, p, string(l.source), fleet.ClassOf(err),
				"the scan was interrupted: "+err.Error()))
		}
		return false, s.gap(ctx, p, string(l.source), fleet.ClassOf(err), err.Error())
	}
	if missing > 0 {
		texts := make([]string, len(gaps))
		for i, g := range gaps {
			texts[i] = g.Error()
		}
		return true, s.gap(ctx, p, string(l.source), fleet.ClassOf(gaps[0]),
			fmt.Sprintf("the history of %d of %d instances is not complete: %s", missing, asked, strings.Join(texts, "; ")))
	}
	return true, s.close(ctx, inventory.Scope{Place: p, Kind: string(l.source), Status: inventory.ScopeComplete, Resources: asked})
}

// windows collects evidence for one transaction.
type windows struct {
	run  *run
	look look
	rows []*evidence.Window
	done int
}

// put takes the windows in which something was observed. One without a datapoint tells as much as none.
func (w *windows) put(ctx context.Context, observed []*evidence.Window) error {
	w.done++
	for _, o := range observed {
		if o != nil && o.Covered.Count() > 0 {
			w.rows = append(w.rows, o)
		}
	}
	if w.done < pageSize {
		return nil
	}
	return w.flush(ctx)
}

// flush stores what was collected, even while the scan is being stopped.
func (w *windows) flush(ctx context.Context) error {
	if len(w.rows) > 0 {
		if err := w.look.put(context.WithoutCancel(ctx), w.run.opt.Scan, w.rows); err != nil {
			return &storeError{err}
		}
	}
	n := w.done
	w.rows, w.done = w.rows[:0], 0
	if !w.look.again {
		w.run.update(func(p *Progress) { p.InstancesDone += n })
	}
	return nil
}

func compareScopes(a, b inventory.Scope) int {
	return cmp.Or(a.Place.Compare(b.Place), cmp.Compare(a.Kind, b.Kind))
}
