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
	places, counts := slices.SortedFunc(maps.Keys(s.subjects), fleet.Place.Compare), []int(nil)
	for _, p := range places {
		counts = append(counts, s.subjects[p].len())
	}
	own := 0
	for p, all := range s.metered {
		if _, both := s.subjects[p]; !both {
			places = append(places, p)
		}
		for _, m := range all {
			own += len(m.ids)
		}
	}
	slices.SortFunc(places, fleet.Place.Compare)
	s.sum.Cost = s.opt.Estimate(counts)
	s.update(func(p *Progress) {
		p.Phase, p.Estimate, p.Instances = PhaseEvidence, s.sum.Cost, int(s.sum.Cost.Instances)+own
	})
	affordable := s.opt.Ceiling <= 0 || s.sum.Cost.Dollars <= s.opt.Ceiling
	if !affordable {
		s.sum.Notes = append(s.sum.Notes, fleet.Diagnostic{Severity: fleet.SeverityWarning,
			Summary: fmt.Sprintf("CloudWatch was not asked: reading %d metrics would cost about $%.2f, and the ceiling is $%.2f",
				s.sum.Cost.Metrics, s.sum.Cost.Dollars, s.opt.Ceiling),
			Remedy: "Raise the ceiling, scan fewer accounts at a time, or shorten `evidence.window`."})
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

// observe reads the history of one place's hosts, source by source.
func (s *run) observe(ctx context.Context, p fleet.Place, cloudWatch bool) error {
	if from := s.opt.Fleet.Open(p).Evidence; from != nil && cloudWatch && s.subjects[p].len() > 0 {
		err := s.from(ctx, p, s.opt.Source, from, s.subjects[p].refs(p), func(asked int64) {
			s.sum.Asked.Instances += asked
			s.sum.Asked.Metrics += 2 * asked
		})
		if err != nil {
			return err
		}
	}
	for _, m := range s.metered[p] {
		refs := make([]fleet.Ref, len(m.ids))
		for i, id := range m.ids {
			refs[i] = fleet.Ref{Place: p, Kind: m.reader.Kind, ID: id}
		}
		reader, _ := m.reader.Driver.(kind.MetricReader)
		err := s.from(ctx, p, m.reader.Source, reader, refs, func(asked int64) { s.sum.OwnMetrics[m.reader.Source] += asked })
		if err != nil {
			return err
		}
	}
	return nil
}

// from reads what one source knows of a place's hosts. Any part that is missing makes the whole a gap of that source:
// windows are joined along lineages, in which the other members would hide what one of them did not tell.
func (s *run) from(ctx context.Context, p fleet.Place, source evidence.Source, from Evidence, subjects []fleet.Ref,
	count func(asked int64)) error {
	batch := &windows{run: s}
	var gaps []error
	asked, missing := 0, 0
	err := from.History(ctx, subjects, s.opt.Span, func(o Observation) error {
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
		return broken
	}
	s.update(func(*Progress) { count(int64(asked)) })
	if err != nil {
		if fatal := stops(ctx, err); fatal != nil {
			// What was stored of this place is a part that must not be taken for the whole.
			return errors.Join(fatal, s.gap(ctx, p, string(source), fleet.ClassOf(err),
				"the scan was interrupted: "+err.Error()))
		}
		return s.gap(ctx, p, string(source), fleet.ClassOf(err), err.Error())
	}
	if missing > 0 {
		texts := make([]string, len(gaps))
		for i, g := range gaps {
			texts[i] = g.Error()
		}
		return s.gap(ctx, p, string(source), fleet.ClassOf(gaps[0]),
			fmt.Sprintf("the history of %d of %d instances is not complete: %s", missing, asked, strings.Join(texts, "; ")))
	}
	return s.close(ctx, inventory.Scope{Place: p, Kind: string(source), Status: inventory.ScopeComplete, Resources: asked})
}

// windows collects evidence for one transaction.
type windows struct {
	run  *run
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
		if err := w.run.opt.Store.PutEvidence(context.WithoutCancel(ctx), w.run.opt.Scan, w.rows); err != nil {
			return &storeError{err}
		}
	}
	n := w.done
	w.rows, w.done = w.rows[:0], 0
	w.run.update(func(p *Progress) { p.InstancesDone += n })
	return nil
}

func compareScopes(a, b inventory.Scope) int {
	return cmp.Or(a.Place.Compare(b.Place), cmp.Compare(a.Kind, b.Kind))
}
