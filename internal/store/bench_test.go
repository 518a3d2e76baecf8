package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
	"github.com/imdsctl/imdsctl/internal/store"
	"github.com/imdsctl/imdsctl/internal/store/storetest"
)

// The benchmark's fleet: 5,000 instances a place, seven in ten in groups of ten that share tags, the rest with a name of
// their own; one in ten calls v1 in a fifth of its hours; a window of fourteen hourly days for each.
const (
	perPlace = 5000
	perPage  = 1000
)

var scanned = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func benchPlace(i int) fleet.Place {
	return fleet.Place{Partition: "aws", Account: fleet.AccountID(fmt.Sprintf("%012d", 100000+i/4)),
		Region: []fleet.Region{"eu-west-1", "us-east-1", "us-west-2", "ap-southeast-2"}[i%4]}
}

func benchInstance(place fleet.Place, i int) inventory.Resource {
	r := rand.New(rand.NewPCG(uint64(i), 7))
	team := []string{"payments", "search", "checkout", "data-platform", "identity"}[i/100%5]
	name := fmt.Sprintf("%s-%s-%d", team, []string{"api", "worker", "web", "batch"}[i/10%4], i/10)
	res := inventory.Resource{
		Ref:    fleet.Ref{Place: place, Kind: inventory.KindInstance, ID: fmt.Sprintf("i-0%016x", r.Uint64())},
		Status: inventory.StatusRunning, Launched: scanned.Add(-time.Duration(r.IntN(1e6)) * time.Second),
		State: fleet.State{fleet.FieldTokens: "optional", fleet.FieldEndpoint: "enabled", fleet.FieldHopLimit: "2",
			fleet.FieldIPv6: "disabled", fleet.FieldTags: "disabled"},
		Tags: map[string]string{"Environment": "production", "Team": team, "CostCenter": "cc-4711", "Application": name},
		Attrs: map[string]string{inventory.AttrImage: fmt.Sprintf("ami-0%016x", i/50), inventory.AttrInstanceType: "m6i.large",
			inventory.AttrProfile: "arn:aws:iam::" + string(place.Account) + ":instance-profile/" + team + "-node"},
	}
	if i%10 >= 3 {
		group, template := res.Ref.Sibling(inventory.KindAutoScaling, name), fmt.Sprintf("lt-0%016x", i/10)
		res.Owner = fleet.Owner{Type: fleet.OwnerAutoScaling, Name: name}
		res.Tags["aws:autoscaling:groupName"], res.Tags["aws:ec2launchtemplate:id"] = name, template
		res.Links = []inventory.Link{{Relation: inventory.MemberOf, To: group}, {Relation: inventory.LaunchedFrom,
			To: res.Ref.Sibling(inventory.KindLaunchTemplate, template), Selector: "3"}}
	} else {
		name = fmt.Sprintf("%s-%d", name, i)
	}
	res.Name, res.Tags["Name"] = name, name
	return res
}

func benchWindow(ref fleet.Ref, i int) *evidence.Window {
	w := evidence.NewWindow(ref, evidence.SourceCloudWatch, evidence.MetricNoToken,
		evidence.NewSpan(scanned, 14*24*time.Hour, time.Hour))
	for slot := range w.Span.Slots {
		calls := int64(0)
		if i%10 == 0 && slot%5 == 0 {
			calls = int64(12 + slot)
		}
		if err := w.Add(w.Span.Start.Add(time.Duration(slot)*time.Hour), calls); err != nil {
			panic(err)
		}
	}
	return w
}

// scanFleet scans n instances as one scan would, page by page.
func scanFleet(b *testing.B, s *store.Store, n int, withEvidence bool) {
	b.Helper()
	ctx := b.Context()
	scan, err := s.BeginScan(ctx, store.ScanInfo{Started: scanned})
	if err != nil {
		b.Fatal(err)
	}
	for from := 0; from < n; from += perPlace {
		place := benchPlace(from / perPlace)
		for page := from; page < min(from+perPlace, n); page += perPage {
			var resources []inventory.Resource
			var windows []*evidence.Window
			for i := page; i < min(page+perPage, n); i++ {
				r := benchInstance(place, i)
				resources = append(resources, r)
				if withEvidence {
					windows = append(windows, benchWindow(r.Ref, i))
				}
			}
			if err := s.PutResources(ctx, scan, place, inventory.KindInstance, resources); err != nil {
				b.Fatal(err)
			}
			if err := s.PutEvidence(ctx, scan, windows); err != nil {
				b.Fatal(err)
			}
		}
		for _, kind := range []string{inventory.KindInstance, string(evidence.SourceCloudWatch)} {
			scope := inventory.Scope{Place: place, Kind: kind, Status: inventory.ScopeComplete, Resources: perPlace, At: scanned}
			if err := s.CloseScope(ctx, scan, scope); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := s.FinishScan(ctx, scan, store.ScanComplete, nil, scanned); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkScan stores a fleet that the database does not know. Run it with -benchtime 1x; the largest takes some minutes.
func BenchmarkScan(b *testing.B) {
	for _, n := range []int{20_000, 100_000, 1_000_000} {
		for _, withEvidence := range []bool{false, true} {
			b.Run(fmt.Sprintf("instances=%d/evidence=%t", n, withEvidence), func(b *testing.B) {
				if n > 100_000 && testing.Short() {
					b.Skip("left out with -short")
				}
				for b.Loop() {
					s := openFresh(b, store.Options{})
					begun := time.Now()
					scanFleet(b, s, n, withEvidence)
					report(b, s, n, time.Since(begun))
				}
			})
		}
	}
}

// BenchmarkScanAgain stores a fleet of which nothing has changed.
func BenchmarkScanAgain(b *testing.B) {
	const n = 100_000
	s := openFresh(b, store.Options{})
	scanFleet(b, s, n, true)
	for b.Loop() {
		begun := time.Now()
		scanFleet(b, s, n, true)
		report(b, s, n, time.Since(begun))
	}
}

func report(b *testing.B, s *store.Store, n int, took time.Duration) {
	b.Helper()
	size, err := s.Size(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(size)/float64(n), "B/instance")
	b.ReportMetric(float64(n)/took.Seconds(), "instances/s")
	b.ReportMetric(float64(m.HeapInuse)/(1<<20), "MB-heap")
	b.ReportMetric(residentMB(), "MB-peak-rss")
}

// BenchmarkRead reads places whole: resources and evidence.
func BenchmarkRead(b *testing.B) {
	const n = 20_000
	s := openFresh(b, store.Options{})
	scanFleet(b, s, n, true)
	for b.Loop() {
		for i := range n / perPlace {
			snap, err := s.Snapshot(b.Context(), benchPlace(i))
			if err != nil || len(snap.Resources) != perPlace {
				b.Fatal(len(snap.Resources), err)
			}
			windows, err := s.EvidenceOf(b.Context(), benchPlace(i))
			if err != nil || len(windows) != perPlace {
				b.Fatal(len(windows), err)
			}
		}
	}
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "instances/s")
}

// BenchmarkRollout begins, loads and rebuilds a rollout of 100,000 changes.
func BenchmarkRollout(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { benchRollout(b, openFresh) })
	b.Run("postgres", func(b *testing.B) { benchRollout(b, openPostgres) })
}

func benchRollout(b *testing.B, open storetest.Open) {
	p := storetest.Plan(b, 200, 500, 10)
	s := open(b, store.Options{})
	storetest.Approved(b, s, p)
	begun := time.Now()
	r, err := s.Begin(b.Context(), p, scanned)
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(begun)
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			if rec, err := s.Load(b.Context(), r.ID); err != nil || len(rec.Changes) != 100_000 {
				b.Fatal(err)
			}
		}
		b.ReportMetric(took.Seconds(), "s-to-begin")
	})
	b.Run("plan", func(b *testing.B) {
		for b.Loop() {
			if got, err := s.Plan(b.Context(), r.ID); err != nil || len(got.Changes) != 100_000 {
				b.Fatal(err)
			}
		}
	})
	b.Run("control", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Control(b.Context(), r.ID); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkJournal admits and settles one change at a time, from 1 and from 16 goroutines; each step is synced to disk.
func BenchmarkJournal(b *testing.B) {
	for _, workers := range []int{1, 16} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) { benchJournal(b, openFresh, workers) })
		b.Run(fmt.Sprintf("postgres/workers=%d", workers), func(b *testing.B) { benchJournal(b, openPostgres, workers) })
	}
}

func benchJournal(b *testing.B, open storetest.Open, workers int) {
	p := storetest.Plan(b, 1, 20, 1000)
	s := open(b, store.Options{})
	storetest.Approved(b, s, p)
	r, err := s.Begin(b.Context(), p, scanned)
	if err != nil {
		b.Fatal(err)
	}
	lane, err := s.Acquire(b.Context(), engine.LaneKey(p.Stacks[0].Place), "w", scanned, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	seat, err := s.Acquire(b.Context(), engine.SeatKey(r.ID), "w", scanned, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	from := r.Stacks["s-0"]
	for _, e := range []rollout.StackEvent{rollout.StackStart, rollout.StackClear, rollout.StackStepWritten,
		rollout.StackStepPassed} {
		to, _ := rollout.Next(from, e, "", rollout.Wait{Bake: time.Hour}, scanned)
		moves := []engine.Move{{Stack: "s-0", From: from, To: to, Event: string(e)}}
		if err := s.Move(b.Context(), r.ID, seat, moves, scanned); err != nil {
			b.Fatal(err)
		}
		from = to
	}
	jobs := make(chan *plan.Change)
	done := make(chan error, workers)
	for range workers {
		go func() { done <- journalWorker(b, s, r.ID, lane, jobs) }()
	}
	b.ResetTimer()
	for i := range b.N {
		jobs <- &p.Changes[1+i%(len(p.Changes)-1)]
	}
	close(jobs)
	for range workers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(2*b.N)/b.Elapsed().Seconds(), "steps/s")
}

func journalWorker(b *testing.B, s *store.Store, id string, lane engine.Lease, jobs <-chan *plan.Change) error {
	for c := range jobs {
		in, err := s.Admit(b.Context(), engine.Admission{Rollout: id, Change: c, Direction: engine.Forward, Lane: lane, Now: scanned,
			Lease: time.Minute})
		if errors.Is(err, engine.ErrNotAdmitted) { // another worker has the same change in its hands
			continue
		}
		if err != nil {
			return err
		}
		if err := s.Settle(b.Context(), engine.Settlement{Rollout: id, Change: c.ID, Intent: in.ID, Lane: lane,
			Phase: engine.ChangePending, Now: scanned}); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkOpen opens a database that is up to date, as every command does.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "imdsctl.db")
	for b.Loop() {
		s, err := store.Open(path, store.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
