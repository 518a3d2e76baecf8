package kindtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// pristine is the kind as the list has it, whatever was planted in the entry under test.
func (b *bench) pristine() all.Entry {
	if e, ok := all.Find(b.entry.Kind.Name); ok {
		return e
	}
	return b.entry
}

func ids(resources []inventory.Resource) []string {
	out := make([]string, len(resources))
	for i, r := range resources {
		out[i] = r.Ref.ID
	}
	return out
}

// everyPage checks that small pages give what large ones give: everything the fixture names, in the same order.
func (b *bench) everyPage(t T) {
	s := b.site(t)
	large, err := s.list(t.Context(), 0)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	calls := len(s.made())
	s.mark()
	small, err := s.list(t.Context(), tiny)
	if err != nil {
		t.Fatalf("list in pages of %d: %v", tiny, err)
	}
	if got := ids(large); !slices.Equal(got, b.fixture.IDs) {
		t.Errorf("list gave\n  %q, not\n  %q", got, b.fixture.IDs)
	}
	if got := ids(small); !slices.Equal(got, b.fixture.IDs) {
		t.Errorf("list in pages of %d gave\n  %q, not\n  %q", tiny, got, b.fixture.IDs)
	}
	if len(large) == len(small) && !reflect.DeepEqual(large, small) {
		t.Errorf("list gives something else when it reads in pages of %d", tiny)
	}
	if b.fixture.FixedPages && calls < 2 {
		t.Errorf("list made %d calls: the fixture's seed must make several pages of a fixed size", calls)
	}
	if !b.fixture.Single && !b.fixture.FixedPages && len(s.made()) <= calls {
		t.Errorf("list made %d calls in pages of %d and %d without: it does not honour kind.PageSize",
			len(s.made()), tiny, calls)
	}
	if changed := s.changed(); len(changed) > 0 {
		t.Errorf("list wrote: %v", changed)
	}
	want := fleet.Ref{Place: b.fixture.Place, Kind: b.entry.Kind.Name}
	for _, r := range large {
		if want.ID = r.Ref.ID; r.Ref != want {
			t.Errorf("list gave %s, not a %s of %s", r.Ref, want.Kind, want.Place)
		}
		if r.State == nil {
			t.Errorf("%s has no state", r.Ref)
		}
	}
}

// cancellation checks that a listing ends with the context's or the receiver's error.
func (b *bench) cancellation(t T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := b.site(t).list(ctx, 0); !errors.Is(err, context.Canceled) || len(got) > 0 {
		t.Errorf("list under a cancelled context gave %d resources and %v, not context.Canceled", len(got), err)
	}
	if _, err := b.site(t).driver.Read(ctx, b.fixture.IDs[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("read under a cancelled context gave %v, not context.Canceled", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	n := 0
	err := b.site(t).driver.List(kind.WithPageSize(ctx, tiny), func(inventory.Resource) error {
		n++
		cancel()
		return nil
	})
	if err == nil && n < len(b.fixture.IDs) || err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("list that was cancelled half-way gave %d of %d resources and %v", n, len(b.fixture.IDs), err)
	}
	full := errors.New("the receiver is full")
	n = 0
	err = b.site(t).driver.List(t.Context(), func(inventory.Resource) error {
		n++
		return full
	})
	if !errors.Is(err, full) || n != 1 {
		t.Errorf("list went on for %d resources after the receiver's error and gave %v", n, err)
	}
}

// readsOne checks that each way of reading a resource gives the same, and that one that is no more is told apart.
func (b *bench) readsOne(t T) {
	s := b.site(t)
	listed, err := s.list(t.Context(), 0)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	for _, r := range listed {
		got, err := s.driver.Read(t.Context(), r.Ref.ID)
		if r.Status == inventory.StatusTerminated {
			if fleet.ClassOf(err) != fleet.ErrGone {
				t.Errorf("read of terminated %s gave %v, not an error of class gone", r.Ref.ID, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("read %s: %v", r.Ref.ID, err)
		} else if !reflect.DeepEqual(got, r) {
			t.Errorf("read %s gave\n  %+v, list\n  %+v", r.Ref.ID, got, r)
		}
	}
	if _, err := s.driver.Read(t.Context(), b.fixture.Missing); fleet.ClassOf(err) != fleet.ErrGone {
		t.Errorf("read of missing %s gave %v, not an error of class gone", b.fixture.Missing, err)
	}
	if many, ok := s.driver.(kind.BatchReader); ok {
		b.readsMany(t, many, listed)
	}
	if versions, ok := s.driver.(kind.VersionReader); ok {
		b.readsVersions(t, versions)
	}
	if references, ok := s.driver.(kind.ReferenceReader); ok {
		b.readsReferences(t, s, references)
	}
	if changed := s.changed(); len(changed) > 0 {
		t.Errorf("reading wrote: %v", changed)
	}
}

func (b *bench) readsMany(t T, d kind.BatchReader, listed []inventory.Resource) {
	want := map[string]inventory.Resource{}
	for _, r := range listed {
		if r.Status != inventory.StatusTerminated {
			want[r.Ref.ID] = r
		}
	}
	missing := b.fixture.Missing
	for _, asked := range [][]string{b.fixture.IDs, append([]string{missing}, b.fixture.IDs...), {missing}, nil} {
		got, err := d.ReadMany(t.Context(), asked)
		if err != nil {
			t.Errorf("read %q: %v", asked, err)
			continue
		}
		expect := map[string]inventory.Resource{}
		for _, id := range asked {
			if r, ok := want[id]; ok {
				expect[id] = r
			}
		}
		if !reflect.DeepEqual(got, expect) {
			t.Errorf("read of %q at once gave %q, not %q as list does", asked,
				slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(expect)))
		}
	}
}

func (b *bench) readsVersions(t T, d kind.VersionReader) {
	if len(b.fixture.Versions) == 0 {
		t.Errorf("fixture of %s names no versions to read", b.entry.Kind.Name)
	}
	for id, versions := range b.fixture.Versions {
		got, err := d.ReadVersions(t.Context(), id, slices.Sorted(maps.Keys(versions)))
		if err != nil {
			t.Errorf("read versions of %s: %v", id, err)
			continue
		}
		for number, exists := range versions {
			if _, ok := got.Launch[number]; ok != exists {
				t.Errorf("version %s of %s: read %t, exists %t", number, id, ok, exists)
			}
		}
	}
}

// readsReferences checks that what is shown comes out once and as Read gives it, and that the rest is no error.
func (b *bench) readsReferences(t T, s *site, d kind.ReferenceReader) {
	if len(b.fixture.References) == 0 {
		t.Errorf("fixture of %s names no references to read", b.entry.Kind.Name)
	}
	for _, page := range []int32{0, 1} {
		ctx, seen := t.Context(), map[string]bool{}
		if page > 0 {
			ctx = kind.WithPageSize(ctx, page)
		}
		err := d.ReadReferenced(ctx, slices.Sorted(maps.Keys(b.fixture.References)), func(r inventory.Resource) error {
			if one, err := s.driver.Read(t.Context(), r.Ref.ID); err != nil || !reflect.DeepEqual(one, r) || seen[r.Ref.ID] {
				t.Errorf("%s, which is referred to, is %+v; by itself %+v (%v)", r.Ref, r, one, err)
			}
			seen[r.Ref.ID] = true
			return nil
		})
		if err != nil {
			t.Errorf("read what is referred to: %v", err)
		}
		for id, shown := range b.fixture.References {
			if seen[id] != shown {
				t.Errorf("%s, which is referred to: read %t, shown %t", id, seen[id], shown)
			}
		}
	}
}

// reading is one way in which a driver reads, with a fingerprint of what it gave.
type reading struct {
	name string
	do   func(context.Context, *site) ([]string, error)
}

func (b *bench) readings(t T) []reading {
	out := []reading{
		{"list", func(ctx context.Context, s *site) ([]string, error) {
			got, err := s.list(ctx, tiny)
			return ids(got), err
		}},
		{"read", func(ctx context.Context, s *site) ([]string, error) {
			_, err := s.driver.Read(ctx, b.fixture.IDs[0])
			return nil, err
		}},
	}
	d := b.site(t).driver
	if _, ok := d.(kind.BatchReader); ok {
		out = append(out, reading{"read many", func(ctx context.Context, s *site) ([]string, error) {
			_, err := s.driver.(kind.BatchReader).ReadMany(ctx, append([]string{b.fixture.Missing}, b.fixture.IDs...))
			return nil, err
		}})
	}
	if _, ok := d.(kind.VersionReader); ok {
		for id, versions := range b.fixture.Versions {
			out = append(out, reading{"read versions", func(ctx context.Context, s *site) ([]string, error) {
				_, err := s.driver.(kind.VersionReader).ReadVersions(ctx, id, slices.Sorted(maps.Keys(versions)))
				return nil, err
			}})
		}
	}
	if _, ok := d.(kind.MetricReader); ok {
		out = append(out, reading{"metrics", b.readMetrics})
	}
	if _, ok := d.(kind.ReferenceReader); ok {
		out = append(out, reading{"read what is referred to", func(ctx context.Context, s *site) ([]string, error) {
			var got []string
			err := s.driver.(kind.ReferenceReader).ReadReferenced(kind.WithPageSize(ctx, 1),
				slices.Sorted(maps.Keys(b.fixture.References)), func(r inventory.Resource) error {
					got = append(got, r.Ref.ID)
					return nil
				})
			return got, err
		}})
	}
	if _, ok := d.(kind.HistoryReader); ok {
		out = append(out, reading{"history", func(ctx context.Context, s *site) ([]string, error) {
			return b.readHistory(ctx, t, s)
		}})
	}
	return out
}

// readMetrics reads the kind's own metric of all its resources, and says of each how many datapoints came.
func (b *bench) readMetrics(ctx context.Context, s *site) ([]string, error) {
	var subjects []fleet.Ref
	for _, id := range b.fixture.IDs {
		subjects = append(subjects, fleet.Ref{Place: b.fixture.Place, Kind: b.entry.Kind.Name, ID: id})
	}
	var out []string
	var gaps []error
	span := evidence.NewSpan(s.clock.Now(), 24*time.Hour, time.Hour)
	err := s.driver.(kind.MetricReader).History(ctx, subjects, span, func(o kind.Observation) error {
		if o.Gap == nil && len(o.Windows) > 0 {
			out = append(out, fmt.Sprint(o.Windows[0].Subject.ID, " ", o.Windows[0].Covered.Count()))
		}
		gaps = append(gaps, o.Gap)
		return nil
	})
	if err == nil && len(gaps) != len(subjects) {
		err = fmt.Errorf("%d subjects gave %d observations", len(subjects), len(gaps))
	}
	return out, errors.Join(append(gaps, err)...)
}

func (b *bench) readHistory(ctx context.Context, t T, s *site) ([]string, error) {
	since := s.clock.Now().Add(-time.Hour)
	b.makeHistory(t, s)
	s.mark()
	var out []string
	err := s.driver.(kind.HistoryReader).History(kind.WithPageSize(ctx, 1), since, func(r inventory.Resource) error {
		out = append(out, r.Ref.ID)
		link, ok := r.Link(inventory.MemberOf)
		if r.Status != inventory.StatusTerminated || !ok || link.To.ID != b.fixture.History.Group || r.Launched.IsZero() {
			t.Errorf("history gave %+v, not a terminated member of %s with its launch", r, b.fixture.History.Group)
		}
		return nil
	})
	return out, err
}

// makeHistory lowers and raises a group's capacity, as somebody else.
func (b *bench) makeHistory(t T, s *site) {
	h := b.fixture.History
	if h == nil {
		t.Fatalf("fixture of %s has no history", b.entry.Kind.Name)
	}
	client := autoscaling.NewFromConfig(s.config(t, awsx.Role{}))
	_, err := client.SetDesiredCapacity(t.Context(), &autoscaling.SetDesiredCapacityInput{
		AutoScalingGroupName: aws.String(h.Group), DesiredCapacity: aws.Int32(h.Desired),
	})
	if err != nil {
		t.Fatalf("set the capacity of %s: %v", h.Group, err)
	}
	s.clock.Advance(30 * time.Minute)
}

// illness is a way for calls to go wrong, and how the edge understands it.
type illness struct {
	name  string
	fault core.Fault
	class fleet.ErrorClass
}

func illnesses() []illness {
	return []illness{
		{"a denial", core.Fault{Deny: true}, fleet.ErrDenied},
		{"a throttle", core.Fault{Throttle: true}, fleet.ErrThrottled},
		{"a fault of the service", core.Fault{Status: 503}, fleet.ErrTransient},
		{"a connection dropped before the effect", core.Fault{DropBefore: true}, fleet.ErrTransient},
		{"a connection dropped after the effect", core.Fault{DropAfter: true}, fleet.ErrTransient},
	}
}

// faultsWhileReading makes each call of each way to read go wrong, in each way: the error must come out, and what was
// given before it must be the beginning of the truth.
func (b *bench) faultsWhileReading(t T) {
	for _, r := range b.readings(t) {
		clean := b.site(t)
		whole, err := r.do(t.Context(), clean)
		if err != nil {
			t.Errorf("%s: %v", r.name, err)
			continue
		}
		if h := b.fixture.History; r.name == "history" && len(whole) != h.Ended {
			t.Errorf("history gave %q, not %d instances", whole, h.Ended)
		}
		for n := 1; n <= len(clean.made()); n++ {
			for _, ill := range illnesses() {
				s := b.site(t)
				s.fault(t, n, ill.fault)
				got, err := r.do(t.Context(), s)
				if fleet.ClassOf(err) != ill.class {
					t.Errorf("%s with %s at call %d gave %d of %d and the error %v, not one of class %s", r.name, ill.name, n,
						len(got), len(whole), err, ill.class)
				}
				if len(got) > len(whole) || !slices.Equal(got, whole[:len(got)]) {
					t.Errorf("%s with %s at call %d gave %q, not a beginning of %q", r.name, ill.name, n, got, whole)
				}
			}
		}
	}
}

// proposes checks that proposing is pure and asks for what the kinds can write.
func (b *bench) proposes(t T) {
	k := &b.entry.Kind
	if k.Propose == nil {
		return
	}
	s := b.site(t)
	snapshot := inventory.Snapshot{Place: b.fixture.Place}
	for _, e := range b.suite.entries {
		if !e.Kind.Lives.In(b.fixture.Place) {
			continue // it does not live here
		}
		cfg := s.config(t, awsx.Role{})
		err := e.Open(cfg, b.fixture.Place, s.clock).List(t.Context(), func(r inventory.Resource) error {
			snapshot.Resources = append(snapshot.Resources, r)
			return nil
		})
		if err != nil {
			t.Fatalf("list %s: %v", e.Kind.Name, err)
		}
	}
	index := inventory.NewIndex(&snapshot)
	before := s.world.CallCount()
	for _, status := range assess.Statuses() {
		judge := func(r fleet.Ref) *assess.Verdict {
			return &assess.Verdict{Ref: r, Status: status, Want: fleet.Options{Tokens: fleet.TokensRequired, HopLimit: 2}}
		}
		var needs []plan.Need
		for i := range snapshot.Resources {
			r := &snapshot.Resources[i]
			if r.Ref.Kind != k.Name {
				continue
			}
			state := r.State.Clone()
			got, manuals := k.Propose(kind.Case{Resource: r, Verdict: judge(r.Ref), Index: index, Judge: judge})
			if !r.State.Equal(state) {
				t.Errorf("propose changed the state of %s", r.Ref.ID)
			}
			for _, m := range manuals {
				if m.Reason == "" || m.Remedy == "" {
					t.Errorf("propose for %s gives a manual step without reason or remedy: %+v", r.Ref.ID, m)
				}
			}
			needs = append(needs, got...)
		}
		b.needs(t, index, status, needs)
	}
	if s.world.CallCount() != before {
		t.Errorf("propose made calls")
	}
}

// mayPropose tells whether a need fits the verdict. What requires tokens needs evidence, and so does what lowers a hop
// limit, unless tokens are required already and nothing is left for evidence to say. Raising a hop limit breaks nothing,
// whoever calls what. What is exempt is left alone.
func mayPropose(n *plan.Need, r *inventory.Resource, status assess.Status) bool {
	_, hops := n.Patch[fleet.FieldHopLimit]
	if r == nil || !hops || len(n.Patch) > 1 {
		return status == assess.Ready
	}
	if now := r.State.Options().HopLimit; now > 0 && n.Patch.Options().HopLimit > now {
		return status != assess.Exempt
	}
	return status == assess.Ready || status == assess.Done
}

func (b *bench) needs(t T, index *inventory.Index, status assess.Status, needs []plan.Need) {
	for i := range needs {
		n := &needs[i]
		if !mayPropose(n, index.Resource(n.Ref), status) {
			t.Errorf("propose asks for %s of %s (%v), which is %s, not ready", n.Action, n.Ref.ID, n.Patch, status)
			break
		}
	}
	keys := map[plan.Key]bool{}
	for i := range needs {
		keys[needs[i].Key()] = true
	}
	if len(keys) != len(needs) {
		t.Errorf("propose asks for two things under one key")
	}
	for i := range needs {
		n := &needs[i]
		at := slices.IndexFunc(b.suite.entries, func(e all.Entry) bool { return e.Kind.Name == n.Ref.Kind })
		if at < 0 {
			continue // the kind that writes it is not under test
		}
		v, ok := b.suite.entries[at].Kind.Verb(n.Action)
		if !ok || v.Class != n.Class || !slices.Equal(v.Outputs, n.Outputs) {
			t.Errorf("propose asks for %s (%s, outputs %q) of %s, which has no such verb",
				n.Action, n.Class, n.Outputs, n.Ref.Kind)
		}
		if !slices.Contains(plan.Stages(), n.Stage) || n.Why == "" || len(n.Patch) == 0 {
			t.Errorf("need %s: stage, patch and why must be there", n.Key())
		}
		for _, k := range n.After {
			if !keys[k] {
				t.Errorf("need %s comes after %s, which nobody proposes", n.Key(), k)
			}
		}
	}
}
