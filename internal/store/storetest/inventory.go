// Package storetest is what every database behind the store must pass. A database's tests call Run with a way to open a fresh
// store; the suite knows nothing of the engine underneath.
package storetest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/store"
)

// Open gives a fresh, empty store that is closed when the test ends.
type Open func(t testing.TB, o store.Options) *store.Store

// Run runs the whole suite.
func Run(t *testing.T, open Open) {
	t.Run("inventory", func(t *testing.T) { runInventory(t, open) })
	t.Run("evidence", func(t *testing.T) { runEvidence(t, open) })
	t.Run("findings", func(t *testing.T) { runFindings(t, open) })
	t.Run("sent", func(t *testing.T) { runSent(t, open) })
	t.Run("plans", func(t *testing.T) { runPlans(t, open) })
	t.Run("journal", func(t *testing.T) { runJournal(t, open) })
	t.Run("control", func(t *testing.T) { runControl(t, open) })
	t.Run("leases", func(t *testing.T) { runLeases(t, open) })
	t.Run("queue", func(t *testing.T) { runQueue(t, open) })
}

// Start is when the suite's clock begins.
var start = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func at(hours int) time.Time { return start.Add(time.Duration(hours) * time.Hour) }

func placeOf(account int, region fleet.Region) fleet.Place {
	return fleet.Place{Partition: fleet.PartitionAWS, Account: fleet.AccountID(fmt.Sprintf("%012d", account)), Region: region}
}

func instance(place fleet.Place, id, tokens string) inventory.Resource {
	return inventory.Resource{
		Ref: fleet.Ref{Place: place, Kind: inventory.KindInstance, ID: id}, Name: "web", Status: inventory.StatusRunning,
		Launched: time.Date(2026, 2, 1, 3, 4, 5, 0, time.UTC),
		State:    fleet.State{fleet.FieldTokens: tokens, fleet.FieldHopLimit: "2"},
		Tags:     map[string]string{"Name": "web", "Team": "<payments & co>"},
		Owner:    fleet.Owner{Type: fleet.OwnerAutoScaling, Name: "web"},
		Links: []inventory.Link{
			{Relation: inventory.MemberOf, To: fleet.Ref{Place: place, Kind: inventory.KindAutoScaling, ID: "web/blue"}},
			{Relation: inventory.LaunchedFrom, To: fleet.Ref{Place: placeOf(99, "eu-west-1"), Kind: inventory.KindLaunchTemplate,
				ID: "lt-1"}, Selector: "3", Field: "LaunchTemplate.Version"},
		},
		Attrs: map[string]string{inventory.AttrImage: "ami-1"},
	}
}

func begin(t testing.TB, s *store.Store, hour int) int64 {
	t.Helper()
	scan, err := s.BeginScan(t.Context(), store.ScanInfo{Started: at(hour), Tool: "test", Config: "c", Window: 14 * 24 * time.Hour})
	check(t, err)
	return scan
}

func put(t testing.TB, s *store.Store, scan int64, place fleet.Place, page ...inventory.Resource) {
	t.Helper()
	check(t, s.PutResources(t.Context(), scan, place, inventory.KindInstance, page))
}

func closeScope(t testing.TB, s *store.Store, scan int64, place fleet.Place, kind string, status inventory.ScopeStatus, hour int) {
	t.Helper()
	check(t, s.CloseScope(t.Context(), scan, inventory.Scope{Place: place, Kind: kind, Status: status, At: at(hour)}))
}

func snapshot(t testing.TB, s *store.Store, place fleet.Place) *inventory.Snapshot {
	t.Helper()
	snap, err := s.Snapshot(t.Context(), place)
	check(t, err)
	return snap
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// same compares by JSON: what a reader of either would see.
func same(t testing.TB, what string, got, want any) {
	t.Helper()
	g, err := json.Marshal(got)
	check(t, err)
	w, err := json.Marshal(want)
	check(t, err)
	if string(g) != string(w) {
		t.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func runInventory(t *testing.T, open Open) {
	t.Run("what is put is read", func(t *testing.T) { roundTrip(t, open(t, store.Options{})) })
	t.Run("a gap hides nothing", func(t *testing.T) { gaps(t, open(t, store.Options{})) })
	t.Run("gone and back", func(t *testing.T) { goneAndBack(t, open(t, store.Options{})) })
	t.Run("a scan that overtakes", func(t *testing.T) { overtaken(t, open(t, store.Options{})) })
	t.Run("scopes", func(t *testing.T) { scopes(t, open(t, store.Options{})) })
	t.Run("scanning again takes no space", func(t *testing.T) { unchanged(t, open(t, store.Options{})) })
	t.Run("pages that do not belong", func(t *testing.T) { misplaced(t, open(t, store.Options{})) })
	t.Run("scans and accounts", func(t *testing.T) { scans(t, open(t, store.Options{})) })
	t.Run("posture", func(t *testing.T) { posture(t, open(t, store.Options{})) })
	t.Run("history equals a naive model", func(t *testing.T) { historyProperty(t, open(t, store.Options{})) })
}

func roundTrip(t *testing.T, s *store.Store) {
	place := placeOf(1, "eu-west-1")
	full := instance(place, "i-1", "optional")
	full.Launch = map[string]fleet.Options{"1": {Tokens: "optional", HopLimit: 2}, "2": {}}
	full.Settling = true
	bare := inventory.Resource{Ref: full.Ref.Sibling(inventory.KindInstance, "i-0"), State: fleet.State{}}
	global := inventory.Resource{Ref: fleet.Ref{Place: placeOf(1, ""), Kind: "organization-policy", ID: "p/1"}, State: fleet.State{"a": ""}}

	scan := begin(t, s, 0)
	put(t, s, scan, place, full, bare)
	check(t, s.PutResources(t.Context(), scan, global.Ref.Place, global.Ref.Kind, []inventory.Resource{global}))
	check(t, s.PutAccounts(t.Context(), scan, []inventory.Account{{Partition: "aws", ID: place.Account, Name: "shop", OU: "Prod/Shop", OUIDs: []string{"ou-ab12-prodprod", "ou-ab12-shopshop"},
		Tags: map[string]string{"a": "b"}, Status: "ACTIVE"}}))
	closeScope(t, s, scan, place, inventory.KindInstance, inventory.ScopeComplete, 1)

	snap := snapshot(t, s, place)
	same(t, "resources", snap.Resources, []inventory.Resource{bare, full})
	if snap.Account.Name != "shop" || snap.Account.OU != "Prod/Shop" || snap.Account.Tags["a"] != "b" {
		t.Errorf("account: %+v", snap.Account)
	}
	if snap.Scan != scan || !snap.Taken.Equal(at(1)) {
		t.Errorf("scan %d taken %s", snap.Scan, snap.Taken)
	}
	same(t, "global", snapshot(t, s, global.Ref.Place).Resources, []inventory.Resource{global})
	if empty := snapshot(t, s, placeOf(7, "eu-west-1")); len(empty.Resources)+len(empty.Scopes) != 0 {
		t.Errorf("a place never scanned has %+v", empty)
	}
	places, err := s.Places(t.Context())
	check(t, err)
	same(t, "places", places, []fleet.Place{global.Ref.Place, place})
}

func gaps(t *testing.T, s *store.Store) {
	place := placeOf(1, "eu-west-1")
	scan := begin(t, s, 0)
	put(t, s, scan, place, instance(place, "i-1", "optional"), instance(place, "i-2", "optional"))
	closeScope(t, s, scan, place, inventory.KindInstance, inventory.ScopeComplete, 0)

	scan = begin(t, s, 24)
	put(t, s, scan, place, instance(place, "i-2", "required"))
	closeScope(t, s, scan, place, inventory.KindInstance, inventory.ScopeGap, 24)
	snap := snapshot(t, s, place)
	same(t, "after a gap", snap.Resources,
		[]inventory.Resource{instance(place, "i-1", "optional"), instance(place, "i-2", "required")})
	if _, gap := snap.Gap(inventory.KindInstance); !gap {
		t.Error("the snapshot does not tell of the gap")
	}
	stale, err := s.Stale(t.Context(), place)
	check(t, err)
	same(t, "stale", stale, []store.Stale{{Ref: instance(place, "i-1", "").Ref, Seen: at(0)}})

	// A scan that was killed before it closed the scope takes nothing away either.
	scan = begin(t, s, 48)
	put(t, s, scan, place, instance(place, "i-1", "required"))
	if n := len(snapshot(t, s, place).Resources); n != 2 {
		t.Errorf("an unfinished scan leaves %d resources, not 2", n)
	}
	scan = begin(t, s, 72)
	put(t, s, scan, place, instance(place, "i-1", "required"))
	closeScope(t, s, scan, place, inventory.KindInstance, inventory.ScopeComplete, 72)
	same(t, "after a complete scan", snapshot(t, s, place).Resources, []inventory.Resource{instance(place, "i-1", "required")})
	stale, err = s.Stale(t.Context(), place)
	check(t, err)
	if len(stale) != 0 {
		t.Errorf("stale after a complete scan: %v", stale)
	}
}

func goneAndBack(t *testing.T, s *store.Store) {
	place := placeOf(1, "eu-west-1")
	ref := instance(place, "i-1", "").Ref
	stopped := instance(place, "i-1", "required")
	stopped.Status = inventory.StatusStopped
	pages := [][]inventory.Resource{{instance(place, "i-1", "optional")}, {stopped}, {}, {stopped}}
	first := int64(0)
	for i, page := range pages {
		scan := begin(t, s, i)
		if i == 0 {
			first = scan
		}
		put(t, s, scan, place, page...)
		closeScope(t, s, scan, place, inventory.KindInstance, inventory.ScopeComplete, i)
	}
	var kinds []store.ChangeKind
	for c, err := range s.Changes(t.Context(), store.ChangeFilter{Ref: ref}) {
		check(t, err)
		kinds = append(kinds, c.Kind)
		if !c.At.Equal(at(len(kinds)-1)) || c.Ref != ref {
			t.Errorf("%s of %s at %s", c.Kind, c.Ref, c.At)
		}
		if c.Kind == store.Changed {
			same(t, "fields", c.Fields, []fleet.FieldChange{
				{Field: fleet.FieldTokens, Before: "optional", HadBefore: true, After: "required", HasAfter: true},
				{Field: "status", Before: "running", HadBefore: true, After: "stopped", HasAfter: true}})
		}
	}
	same(t, "history", kinds, []store.ChangeKind{store.Appeared, store.Changed, store.Gone, store.Appeared})
	n := 0
	for c, err := range s.Changes(t.Context(), store.ChangeFilter{Place: place, Since: first + 2}) {
		check(t, err)
		n++
		if c.Scan < first+2 {
			t.Errorf("a change of scan %d", c.Scan)
		}
		if c.Kind == store.Gone {
			break // breaking off must not hold the database
		}
	}
	if n != 1 {
		t.Errorf("%d changes before breaking off", n)
	}
	begin(t, s, 9)
}

// overtaken: a slow scan neither closes what a later one saw nor takes it back.
func overtaken(t *testing.T, s *store.Store) {
	place := placeOf(1, "eu-west-1")
	slow, fast := begin(t, s, 0), begin(t, s, 1)
	put(t, s, slow, place, instance(place, "i-1", "optional"))
	put(t, s, fast, place, instance(place, "i-1", "required"), instance(place, "i-2", "required"))
	closeScope(t, s, fast, place, inventory.KindInstance, inventory.ScopeComplete, 1)
	put(t, s, slow, place, instance(place, "i-2", "optional"))
	closeScope(t, s, slow, place, inventory.KindInstance, inventory.ScopeComplete, 2)
	same(t, "resources", snapshot(t, s, place).Resources,
		[]inventory.Resource{instance(place, "i-1", "required"), instance(place, "i-2", "required")})
}

func scopes(t *testing.T, s *store.Store) {
	place := placeOf(1, "eu-west-1")
	status := func() map[string]inventory.ScopeStatus {
		out := map[string]inventory.ScopeStatus{}
		for _, sc := range snapshot(t, s, place).Scopes {
			out[sc.Kind] = sc.Status
		}
		return out
	}
	scan := begin(t, s, 0)
	closeScope(t, s, scan, place, "a", inventory.ScopeComplete, 0)
	closeScope(t, s, scan, place, "b", inventory.ScopeGap, 0)
	same(t, "first", status(), map[string]inventory.ScopeStatus{"a": "complete", "b": "gap"})
	scan = begin(t, s, 1)
	closeScope(t, s, scan, place, "", inventory.ScopeGap, 1)
	if _, gap := snapshot(t, s, place).Gap("a"); !gap {
		t.Error("a place that could not be entered is no gap")
	}
	scan = begin(t, s, 2)
	closeScope(t, s, scan, place, "a", inventory.ScopeComplete, 2)
	closeScope(t, s, scan, place, "b", inventory.ScopeComplete, 2)
	same(t, "entered again", status(), map[string]inventory.ScopeStatus{"a": "complete", "b": "complete"})
	closeScope(t, s, scan, place, "b", inventory.ScopeDisabled, 3)
	same(t, "closed twice", status(), map[string]inventory.ScopeStatus{"a": "complete", "b": "region-disabled"})
}

// compactSize is the size without the room that PostgreSQL leaves for its own vacuum to find.
func compactSize(t testing.TB, s *store.Store) int64 {
	t.Helper()
	if pool := s.Pool(); pool != nil {
		_, err := pool.Exec(t.Context(), "VACUUM FULL")
		check(t, err)
	}
	size, err := s.Size(t.Context())
	check(t, err)
	return size
}

func unchanged(t *testing.T, s *store.Store) {
	place := placeOf(1, "eu-west-1")
	var page []inventory.Resource
	for i := range 1000 {
		page = append(page, instance(place, fmt.Sprintf("i-%04d", i), []string{"optional", "required"}[i%2]))
	}
	scanAll := func(hour int) {
		scan := begin(t, s, hour)
		put(t, s, scan, place, page...)
		closeScope(t, s, scan, place, inventory.KindInstance, inventory.ScopeComplete, hour)
		var windows []*evidence.Window
		for _, r := range page {
			w := evidence.NewWindow(r.Ref, evidence.SourceCloudWatch, evidence.MetricNoToken, evidence.NewSpan(at(hour), 48*time.Hour, time.Hour))
			check(t, w.Add(at(hour), 1))
			windows = append(windows, w)
		}
		check(t, s.PutEvidence(t.Context(), scan, windows))
		closeScope(t, s, scan, place, string(evidence.SourceCloudWatch), inventory.ScopeComplete, hour)
	}
	scanAll(0)
	scanAll(0) // while a scan runs, there is room for the evidence of two
	before := compactSize(t, s)
	for i := range 10 {
		scanAll(i + 1)
	}
	after := compactSize(t, s)
	if after > before+32<<10 {
		t.Errorf("ten scans without a change: %d bytes became %d", before, after)
	}
	n := 0
	for _, err := range s.Changes(t.Context(), store.ChangeFilter{Place: place}) {
		check(t, err)
		n++
	}
	if n != 1000 {
		t.Errorf("%d changes, not 1000 first sightings", n)
	}
}

func misplaced(t *testing.T, s *store.Store) {
	here, there := placeOf(1, "eu-west-1"), placeOf(1, "us-east-1")
	scan := begin(t, s, 0)
	page := []inventory.Resource{instance(here, "i-1", "optional"), instance(there, "i-2", "optional")}
	if err := s.PutResources(t.Context(), scan, here, inventory.KindInstance, page); err == nil {
		t.Error("a resource of another place was taken")
	}
	if n := len(snapshot(t, s, here).Resources); n != 0 {
		t.Errorf("a refused page left %d resources", n)
	}
	put(t, s, scan, here, instance(here, "i-1", "optional"), instance(here, "i-1", "required"))
	same(t, "twice in a page", snapshot(t, s, here).Resources, []inventory.Resource{instance(here, "i-1", "required")})
	put(t, s, scan, here, instance(here, "i-1", "optional"))
	same(t, "on another page of the scan", snapshot(t, s, here).Resources, []inventory.Resource{instance(here, "i-1", "optional")})
	n := 0
	for _, err := range s.Changes(t.Context(), store.ChangeFilter{Place: here}) {
		check(t, err)
		n++
	}
	if n != 1 {
		t.Errorf("one scan made %d changes of one resource", n)
	}
}

func scans(t *testing.T, s *store.Store) {
	if _, ok, err := s.LastScan(t.Context()); ok || err != nil {
		t.Fatalf("an empty store has a last scan: %v", err)
	}
	one := begin(t, s, 0)
	check(t, s.PutAccounts(t.Context(), one, []inventory.Account{{Partition: "aws", ID: "000000000001", Name: "old"},
		{Partition: "aws", ID: "000000000002", Name: "two"}}))
	check(t, s.FinishScan(t.Context(), one, store.ScanPartial, json.RawMessage(`{"calls":3}`), at(1)))
	two := begin(t, s, 2)
	check(t, s.PutAccounts(t.Context(), two, []inventory.Account{{Partition: "aws", ID: "000000000001", Name: "new"}}))
	last, ok, err := s.LastScan(t.Context())
	check(t, err)
	if !ok || last.ID != two || two <= one || last.Status != store.ScanRunning || !last.Started.Equal(at(2)) ||
		last.Window != 14*24*time.Hour {
		t.Errorf("last scan: %+v", last)
	}
	all, err := s.Scans(t.Context(), 0)
	check(t, err)
	if len(all) != 2 || all[0].Status != store.ScanPartial || string(all[0].Stats) != `{"calls":3}` || !all[0].Finished.Equal(at(1)) {
		t.Errorf("scans: %+v", all)
	}
	accounts, err := s.Accounts(t.Context())
	check(t, err)
	if len(accounts) != 2 || accounts[0].Name != "new" || accounts[1].Name != "two" {
		t.Errorf("accounts: %+v", accounts)
	}
	if err := s.FinishScan(t.Context(), 4711, store.ScanComplete, nil, at(3)); err == nil {
		t.Error("a scan that never began was finished")
	}
}

func posture(t *testing.T, s *store.Store) {
	a, b := placeOf(1, "eu-west-1"), placeOf(2, "eu-west-1")
	put := func(day int, p fleet.Place, counts map[assess.Status]int) {
		check(t, s.PutPosture(t.Context(), []store.PostureDay{{Day: at(24 * day), Place: p, Counts: counts}}))
	}
	put(0, a, map[assess.Status]int{assess.Ready: 3, assess.Done: 1})
	put(0, a, map[assess.Status]int{assess.Done: 4})
	put(0, b, map[assess.Status]int{assess.Blocked: 2})
	put(2, a, map[assess.Status]int{assess.Done: 5})
	day := at(0).Truncate(24 * time.Hour)
	got, err := s.Posture(t.Context(), at(0), at(24))
	check(t, err)
	same(t, "posture", got, []store.PostureDay{{Day: day, Place: a, Counts: map[assess.Status]int{assess.Done: 4}},
		{Day: day, Place: b, Counts: map[assess.Status]int{assess.Blocked: 2}}})
}

// historyProperty runs random scans, with gaps and kills, against a model that keeps a plain list.
func historyProperty(t *testing.T, s *store.Store) {
	account := 1000
	rapid.Check(t, func(rt *rapid.T) {
		account++
		place := placeOf(account, "eu-west-1")
		model := map[string]string{} // name → tokens
		var history []string
		names := []string{"a", "b", "c", "d", "e"}
		for range rapid.IntRange(1, 8).Draw(rt, "scans") {
			scan := begin(t, s, 0)
			seen := map[string]bool{}
			for range rapid.IntRange(0, 2).Draw(rt, "pages") {
				values := rapid.MapOf(rapid.SampledFrom(names), rapid.SampledFrom([]string{"optional", "required", ""})).Draw(rt, "page")
				var page []inventory.Resource
				for _, name := range slices.Sorted(maps.Keys(values)) {
					if seen[name] {
						continue
					}
					seen[name] = true
					page = append(page, instance(place, name, values[name]))
					old, had := model[name]
					switch {
					case !had:
						history = append(history, fmt.Sprintf("%s %d appeared %q", name, scan, values[name]))
					case old != values[name]:
						history = append(history, fmt.Sprintf("%s %d changed %q", name, scan, values[name]))
					}
					model[name] = values[name]
				}
				put(t, s, scan, place, page...)
			}
			switch rapid.SampledFrom([]inventory.ScopeStatus{inventory.ScopeComplete, inventory.ScopeGap, "killed"}).Draw(rt, "end") {
			case inventory.ScopeComplete:
				closeScope(t, s, scan, place, inventory.KindInstance, inventory.ScopeComplete, 0)
				for _, name := range slices.Sorted(maps.Keys(model)) {
					if !seen[name] {
						history = append(history, fmt.Sprintf("%s %d gone %q", name, scan, ""))
						delete(model, name)
					}
				}
			case inventory.ScopeGap:
				closeScope(t, s, scan, place, inventory.KindInstance, inventory.ScopeGap, 0)
			}
			now := map[string]string{}
			for _, r := range snapshot(t, s, place).Resources {
				now[r.Ref.ID] = r.State[fleet.FieldTokens]
			}
			if !maps.Equal(now, model) {
				rt.Fatalf("the store has %v, the model %v", now, model)
			}
		}
		var got []string
		for c, err := range s.Changes(t.Context(), store.ChangeFilter{Place: place}) {
			if err != nil {
				rt.Fatal(err)
			}
			tokens := ""
			for _, f := range c.Fields {
				if f.Field == fleet.FieldTokens {
					tokens = f.After
				}
			}
			got = append(got, fmt.Sprintf("%s %d %s %q", c.Ref.ID, c.Scan, c.Kind, tokens))
		}
		slices.Sort(got)
		slices.Sort(history)
		if !slices.Equal(got, history) {
			rt.Fatalf("history:\n got %v\nwant %v", got, history)
		}
	})
}

func runEvidence(t *testing.T, open Open) {
	span := evidence.NewSpan(at(0), 14*24*time.Hour, time.Hour)
	place := placeOf(1, "eu-west-1")
	ref := func(id string) fleet.Ref { return fleet.Ref{Place: place, Kind: inventory.KindInstance, ID: id} }
	window := func(id string, calls int64) *evidence.Window {
		w := evidence.NewWindow(ref(id), evidence.SourceCloudWatch, evidence.MetricNoToken, span)
		if calls >= 0 {
			check(t, w.Add(at(-2), 0))
			check(t, w.Add(at(-30), calls))
		}
		return w
	}
	read := func(s *store.Store) map[fleet.Ref][]*evidence.Window {
		got, err := s.EvidenceOf(t.Context(), place)
		check(t, err)
		return got
	}
	source := string(evidence.SourceCloudWatch)

	t.Run("what is put is read", func(t *testing.T) {
		s := open(t, store.Options{})
		scan := begin(t, s, 0)
		put(t, s, scan, place, instance(place, "i-1", "optional"))
		rejected := evidence.NewWindow(ref("i-1"), evidence.SourceCloudWatch, evidence.MetricRejected, span)
		check(t, s.PutEvidence(t.Context(), scan, []*evidence.Window{window("i-1", 1), window("i-1", 7), rejected, window("i-ghost", -1)}))
		closeScope(t, s, scan, place, source, inventory.ScopeComplete, 0)
		same(t, "windows", read(s), map[fleet.Ref][]*evidence.Window{
			ref("i-1"): {window("i-1", 7), rejected}, ref("i-ghost"): {window("i-ghost", -1)}})
		if n := len(snapshot(t, s, place).Resources); n != 1 {
			t.Errorf("evidence of an unlisted instance made it a resource: %d", n)
		}
		for range s.Evidence(t.Context(), place) {
			break
		}
	})
	t.Run("windows of two scans never mix", func(t *testing.T) {
		s := open(t, store.Options{})
		scan := begin(t, s, 0)
		check(t, s.PutEvidence(t.Context(), scan, []*evidence.Window{window("i-1", 1), window("i-2", 2)}))
		closeScope(t, s, scan, place, source, inventory.ScopeComplete, 0)

		killed := begin(t, s, 1)
		check(t, s.PutEvidence(t.Context(), killed, []*evidence.Window{window("i-1", 0)}))
		if got := read(s); len(got) != 2 || got[ref("i-1")][0].Total != 1 {
			t.Errorf("a scan that was killed half-way changed the evidence: %v", got)
		}
		gap := begin(t, s, 2)
		check(t, s.PutEvidence(t.Context(), gap, []*evidence.Window{window("i-2", 5)}))
		closeScope(t, s, gap, place, source, inventory.ScopeGap, 2)
		if got := read(s); len(got) != 1 || got[ref("i-2")][0].Total != 5 {
			t.Errorf("after a gap, only what was read counts: %v", got)
		}
		denied := begin(t, s, 3)
		closeScope(t, s, denied, place, source, inventory.ScopeGap, 3)
		if got := read(s); len(got) != 0 {
			t.Errorf("where nothing could be read there is no evidence: %v", got)
		}
		last := begin(t, s, 4)
		check(t, s.PutEvidence(t.Context(), last, []*evidence.Window{window("i-1", 9)}))
		closeScope(t, s, last, place, source, inventory.ScopeComplete, 4)
		if got := read(s); len(got) != 1 || got[ref("i-1")][0].Total != 9 {
			t.Errorf("the last complete scan: %v", got)
		}
	})
}
