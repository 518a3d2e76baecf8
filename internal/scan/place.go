package scan

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/owners"
)

// pageSize is how many resources go to the store in one transaction.
const pageSize = 1000

// reading is the reading of one place.
type reading struct {
	*run
	place fleet.Place
	// instances holds the ids of those that were listed; past those that history told of.
	instances map[string]bool
	past      []string
	older     []string // of those, the ones that ended before the window
	// pins are the numbered template versions that consumers name, by template.
	pins map[string]map[string]bool
	// images are the ids of the images that resources run or launch from; listed those that were listed.
	images, listed map[string]bool
	// claims are what the place's stacks manage.
	claims owners.Book
	// metered are the resources whose v1 calls are counted by their own service.
	metered []metered
	// again: the place was read before, for what every account has, and counts as one.
	again bool
}

// place reads all kinds of a place. Kinds with versions come late, because consumers name the versions, and images last,
// because everything else names them; instances are closed after the history, which adds those that are no more.
func (s *run) place(ctx context.Context, p fleet.Place) error { return s.part(ctx, p, false) }

// once reads what an organization has once, which lives beside what every account has.
func (s *run) once(ctx context.Context, p fleet.Place) error { return s.part(ctx, p, true) }

// part reads the kinds of a place that an organization has once, or all others.
func (s *run) part(ctx context.Context, p fleet.Place, once bool) error {
	rd := &reading{run: s, place: p, instances: map[string]bool{}, pins: map[string]map[string]bool{},
		images: map[string]bool{}, listed: map[string]bool{}}
	opened := s.opt.Fleet.Open(p)
	rd.again = once && opened.holds(false)
	opened.Kinds = slices.DeleteFunc(slices.Clone(opened.Kinds), func(r Reader) bool { return r.Once != once })
	var instances *inventory.Scope
	var nameless []outcome
	answered := false
	stacks, err := rd.stacks(ctx, opened)
	if err != nil {
		return err
	}
	for _, r := range ordered(opened.Kinds) {
		if s.opt.Config.Excludes(r.Kind) {
			if err := s.close(ctx, excluded(p, r.Kind)); err != nil {
				return err
			}
			continue
		}
		sc, err := rd.kind(ctx, r)
		if err != nil {
			return err
		}
		answered = answered || sc.Status == inventory.ScopeComplete
		if sc.Status == inventory.ScopeGap && condemns(sc) {
			sc.Kind = ""
			if err := s.close(ctx, sc.Scope); err != nil {
				return err
			}
			s.end(p)
			s.update(func(p *Progress) {
				if !rd.again {
					p.PlacesDone++
				}
			})
			return nil
		}
		if sc.Class == fleet.ErrNotOffered {
			nameless = append(nameless, sc)
			continue
		}
		if past, ok := r.Driver.(kind.HistoryReader); ok && sc.Status == inventory.ScopeComplete &&
			!s.opt.Config.Excludes(inventory.KindInstance) {
			if err := rd.history(ctx, past, &sc.Scope); err != nil {
				return err
			}
		}
		if r.Kind == inventory.KindInstance {
			instances = &sc.Scope
			continue
		}
		if err := s.close(ctx, sc.Scope); err != nil {
			return err
		}
	}
	for i := range nameless {
		if err := s.close(ctx, nameless[i].notOffered(answered)); err != nil {
			return err
		}
	}
	if stacks != nil {
		if err := s.close(ctx, *stacks); err != nil {
			return err
		}
	}
	if instances != nil {
		if err := s.close(ctx, *instances); err != nil {
			return err
		}
	}
	rd.done()
	return nil
}

// stacks reads what the place's CloudFormation stacks manage, before anything that they could claim. Its scope is closed with
// the kinds', because a place that cannot be entered is a gap of its own. Where the stacks cannot be read, nothing is claimed by
// those that were not, and the gap says so.
func (rd *reading) stacks(ctx context.Context, opened Place) (*inventory.Scope, error) {
	if opened.Claims == nil {
		return nil, nil
	}
	out := outcome{Scope: inventory.Scope{Place: rd.place, Kind: inventory.ScopeStacks, Status: inventory.ScopeComplete}}
	err := opened.Claims(ctx, func(c owners.Claim) {
		out.Resources++
		rd.claims.Add(c)
	})
	return &out.Scope, out.fail(ctx, err)
}

// claimed lists the code that claims a resource.
func (rd *reading) claimed(r *inventory.Resource) []fleet.Owner {
	return slices.Concat(rd.claims.Of(r), rd.opt.Claims.Of(r))
}

// excluded is the scope of a kind that the configuration leaves out.
func excluded(p fleet.Place, kindName string) inventory.Scope {
	return inventory.Scope{Place: p, Kind: kindName, Status: inventory.ScopeExcluded,
		Detail: "`inventory.exclude_kinds` leaves it out"}
}

// notOffered is the scope of a kind whose endpoint has no name. Where AWS has answered for another kind in the place, the
// network is well and the service is not there; else, or where the service itself has answered before, nobody can tell.
func (o *outcome) notOffered(answered bool) inventory.Scope {
	if answered && o.Resources == 0 {
		o.Status = inventory.ScopeNotOffered
	}
	return o.Scope
}

// ordered puts instances first, kinds with versions late, and what others refer to last, and leaves the rest as it is.
func ordered(readers []Reader) []Reader {
	rank := func(r Reader) int {
		_, versions := r.Driver.(kind.VersionReader)
		_, referred := r.Driver.(kind.ReferenceReader)
		switch {
		case r.Kind == inventory.KindInstance:
			return 0
		case referred:
			return 3
		case versions:
			return 2
		}
		return 1
	}
	return slices.SortedStableFunc(slices.Values(readers), func(a, b Reader) int { return rank(a) - rank(b) })
}

// outcome is a scope with the error behind its gap.
type outcome struct {
	inventory.Scope
	err error
}

// condemns tells a gap that every other kind of the place would meet as well.
func condemns(o outcome) bool {
	call, ok := errors.AsType[*fleet.CallError](o.err)
	return ok && (call.Class == fleet.ErrRegionDisabled || strings.HasPrefix(call.Action, "sts:"))
}

// kind lists one kind. Its scope is not closed yet. An error ends the scan.
func (rd *reading) kind(ctx context.Context, r Reader) (outcome, error) {
	out := outcome{Scope: inventory.Scope{Place: rd.place, Kind: r.Kind, Status: inventory.ScopeComplete}}
	versions, _ := r.Driver.(kind.VersionReader)
	page := rd.page(r.Kind)
	var waiting []inventory.Resource // their pinned versions are still to be read
	_, own := r.Driver.(kind.MetricReader)
	counted := metered{reader: r}
	err := r.Driver.List(ctx, func(res inventory.Resource) error {
		out.Resources++
		rd.note(&res)
		if own && res.Status != inventory.StatusTerminated {
			counted.ids = append(counted.ids, res.Ref.ID)
		}
		if versions != nil && len(rd.missing(&res)) > 0 {
			waiting = append(waiting, res)
			return nil
		}
		return page.put(ctx, res)
	})
	for _, res := range waiting {
		if err == nil {
			err = rd.versions(ctx, versions, &res)
		}
		if broken := page.put(ctx, res); broken != nil {
			return out, broken
		}
	}
	if from, ok := r.Driver.(kind.ReferenceReader); ok && err == nil {
		err = from.ReadReferenced(ctx, rd.referred(), func(res inventory.Resource) error {
			out.Resources++
			return page.put(ctx, res)
		})
	}
	if broken := page.flush(ctx); broken != nil {
		return out, broken
	}
	if len(counted.ids) > 0 {
		rd.metered = append(rd.metered, counted)
	}
	return out, out.fail(ctx, err)
}

// referred lists the images that resources name and that were not listed as the account's own.
func (rd *reading) referred() []string {
	maps.DeleteFunc(rd.images, func(id string, _ bool) bool { return rd.listed[id] })
	return slices.Sorted(maps.Keys(rd.images))
}

// fail makes the outcome a gap, unless the error ends the scan.
func (o *outcome) fail(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if fatal := stops(ctx, err); fatal != nil {
		return fatal
	}
	o.Status, o.Class, o.Detail, o.err = inventory.ScopeGap, fleet.ClassOf(err), err.Error(), err
	return nil
}

// note keeps what later steps need of a resource: an instance's id, an image's, the images it launches from, and the
// versions a consumer pins.
func (rd *reading) note(r *inventory.Resource) {
	switch r.Ref.Kind {
	case inventory.KindInstance:
		rd.instances[r.Ref.ID] = true
	case inventory.KindImage:
		rd.listed[r.Ref.ID] = true
	}
	rd.noteImages(r.Attrs)
	for _, l := range r.Links {
		if l.Relation != inventory.LaunchesFrom || !isNumber(l.Selector) {
			continue
		}
		if rd.pins[l.To.ID] == nil {
			rd.pins[l.To.ID] = map[string]bool{}
		}
		rd.pins[l.To.ID][l.Selector] = true
	}
}

func (rd *reading) noteImages(attrs map[string]string) {
	for name, id := range attrs {
		if name == inventory.AttrImage || strings.HasPrefix(name, inventory.AttrImage+"/") {
			rd.images[id] = true
		}
	}
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// missing lists the pinned versions of a template that its listing did not bring.
func (rd *reading) missing(r *inventory.Resource) []string {
	var out []string
	for n := range rd.pins[r.Ref.ID] {
		if _, ok := r.Launch[n]; !ok {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// versions reads the pinned versions of a template into it.
func (rd *reading) versions(ctx context.Context, from kind.VersionReader, r *inventory.Resource) error {
	found, err := from.ReadVersions(ctx, r.Ref.ID, rd.missing(r))
	if err != nil {
		return fmt.Errorf("read versions of %s %s: %w", r.Ref.Kind, r.Ref.ID, err)
	}
	launch := maps.Clone(r.Launch)
	if launch == nil {
		launch = map[string]fleet.Options{}
	}
	maps.Copy(launch, found.Launch)
	attrs := maps.Clone(r.Attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	maps.Copy(attrs, found.Attrs)
	r.Launch, r.Attrs = launch, attrs
	rd.noteImages(found.Attrs)
	return nil
}

// history records the instances that are no more. Where it cannot be read, the groups are not known completely: a
// member that called v1 and is gone would be missing.
func (rd *reading) history(ctx context.Context, from kind.HistoryReader, sc *inventory.Scope) error {
	page := rd.page(inventory.KindInstance)
	since := rd.opt.Span.Start
	if rd.looksBack() && rd.opt.History.Start.Before(since) {
		since = rd.opt.History.Start // as far as the service keeps it
	}
	window := rd.opt.Span.Start.Format(time.DateOnly)
	err := from.History(ctx, since, func(res inventory.Resource) error {
		if rd.instances[res.Ref.ID] {
			return nil // it was listed, which tells more
		}
		if ended := res.Attrs[inventory.AttrEnded]; ended != "" && ended < window {
			rd.older = append(rd.older, res.Ref.ID)
		} else {
			rd.past = append(rd.past, res.Ref.ID)
		}
		rd.update(func(*Progress) { rd.sum.Terminated++ })
		return page.put(ctx, res)
	})
	if broken := page.flush(ctx); broken != nil {
		return broken
	}
	if err == nil {
		return nil
	}
	if fatal := stops(ctx, err); fatal != nil {
		return fatal
	}
	sc.Status, sc.Class, sc.Detail = inventory.ScopeGap, fleet.ClassOf(err), err.Error()
	return nil
}

// done counts the place as read, and keeps the ids of its instances for the evidence.
func (rd *reading) done() {
	ids := slices.Sorted(maps.Keys(rd.instances))
	ids = append(ids, rd.past...)
	rd.end(rd.place)
	rd.update(func(p *Progress) {
		if !rd.again {
			p.PlacesDone++
			rd.sum.Places++
		}
		if len(ids) > 0 {
			rd.subjects[rd.place] = pack(ids)
		}
		if len(rd.older) > 0 {
			rd.run.older[rd.place] = pack(rd.older)
		}
		if len(rd.metered) > 0 {
			rd.run.metered[rd.place] = rd.metered
		}
	})
}

// packed are the ids of a place's instances in eight bytes each: "i-0" and the sixteen digits after it. Others, such as the
// short ids of old instances, are kept as they are, and come last.
type packed struct {
	ids []uint64
	odd []string
}

// longID begins the ids that fit into a number.
const longID = "i-0"

func pack(ids []string) packed {
	p := packed{ids: make([]uint64, 0, len(ids))}
	for _, id := range ids {
		digits, long := strings.CutPrefix(id, longID)
		n, err := strconv.ParseUint(digits, 16, 64)
		if !long || err != nil || unpack(n) != id {
			p.odd = append(p.odd, id)
			continue
		}
		p.ids = append(p.ids, n)
	}
	return p
}

func unpack(n uint64) string { return fmt.Sprintf(longID+"%016x", n) }

func (p packed) len() int { return len(p.ids) + len(p.odd) }

func (p packed) refs(place fleet.Place) []fleet.Ref {
	out := make([]fleet.Ref, 0, p.len())
	for _, n := range p.ids {
		out = append(out, fleet.Ref{Place: place, Kind: inventory.KindInstance, ID: unpack(n)})
	}
	for _, id := range p.odd {
		out = append(out, fleet.Ref{Place: place, Kind: inventory.KindInstance, ID: id})
	}
	return out
}

// page collects resources for one transaction.
type page struct {
	rd   *reading
	kind string
	rows []inventory.Resource
}

func (rd *reading) page(kindName string) *page { return &page{rd: rd, kind: kindName} }

func (p *page) put(ctx context.Context, r inventory.Resource) error {
	r.Claims = p.rd.claimed(&r)
	p.rows = append(p.rows, r)
	if len(p.rows) < pageSize {
		return nil
	}
	return p.flush(ctx)
}

// flush stores what was collected, even while the scan is being stopped.
func (p *page) flush(ctx context.Context) error {
	if len(p.rows) == 0 {
		return nil
	}
	if err := p.rd.opt.Store.PutResources(context.WithoutCancel(ctx), p.rd.opt.Scan, p.rd.place, p.kind,
		p.rows); err != nil {
		return &storeError{err}
	}
	n, kindName := len(p.rows), p.kind
	p.rows = p.rows[:0]
	p.rd.update(func(pr *Progress) {
		pr.Resources += n
		pr.Place = p.rd.place
		p.rd.sum.Resources[kindName] += n
		if kindName == inventory.KindInstance {
			pr.Instances += n
		}
	})
	return nil
}
