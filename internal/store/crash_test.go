package store_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
	"github.com/imdsctl/imdsctl/internal/store"
	"github.com/imdsctl/imdsctl/internal/store/storetest"
	"github.com/imdsctl/imdsctl/test/postgres"
)

// roleVariable tells a copy of the test binary which part it plays.
const roleVariable = "IMDSCTL_STORE_TEST_ROLE"

func TestMain(m *testing.M) {
	role, args, _ := strings.Cut(os.Getenv(roleVariable), " ")
	var err error
	switch role {
	case "":
		os.Exit(postgres.Main(m))
	case "journal":
		err = playJournal(strings.SplitN(args, " ", 2))
	case "scan":
		err = playScan(args)
	case "findings":
		err = playFindings(args)
	case "lock":
		err = playLock(args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(7) // a player that was meant to be killed was not
}

// player starts a copy of the test binary in a role.
func player(t *testing.T, role string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// kill ends this very process as kill -9 does.
func kill() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err == nil {
		time.Sleep(time.Minute)
	}
	panic(err)
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// act is one committed step of a rollout's life. All of it is known beforehand, so that a resumed life can be compared.
type act struct {
	name string
	do   func(ctx context.Context, s *store.Store) error
}

func life(p *plan.Plan) []act {
	const id = 0
	place, c := p.Stacks[0].Place, &p.Changes[0]
	rolloutID := "r-" + p.Digest[:12]
	lane := engine.Lease{Key: engine.LaneKey(place), Holder: "worker", Epoch: 1}
	seat := engine.Lease{Key: engine.SeatKey(rolloutID), Holder: "coordinator", Epoch: 1}
	waiting := rollout.Stack{Phase: rollout.StackWaiting}
	checking, _ := rollout.Next(waiting, rollout.StackStart, "", rollout.Wait{}, noon)
	applying, _ := rollout.Next(checking, rollout.StackClear, "", rollout.Wait{}, noon)
	reverting, _ := rollout.Next(applying, rollout.StackUndo, "bob", rollout.Wait{}, noon)
	move := func(from, to rollout.Stack, e rollout.StackEvent) func(context.Context, *store.Store) error {
		return func(ctx context.Context, s *store.Store) error {
			return s.Move(ctx, rolloutID, seat, []engine.Move{{Stack: p.Stacks[id].ID, From: from, To: to, Event: string(e)}}, noon)
		}
	}
	admit := func(d engine.Direction) func(context.Context, *store.Store) error {
		return func(ctx context.Context, s *store.Store) error {
			_, err := s.Admit(ctx, engine.Admission{Rollout: rolloutID, Change: c, Direction: d, Lane: lane, Token: "t", Now: noon,
				Lease: time.Minute})
			return err
		}
	}
	settle := func(phase engine.ChangePhase) func(context.Context, *store.Store) error {
		return func(ctx context.Context, s *store.Store) error {
			in, _, err := s.OpenIntent(ctx, rolloutID, c.ID)
			if err != nil {
				return err
			}
			return s.Settle(ctx, engine.Settlement{Rollout: rolloutID, Change: c.ID, Intent: in.ID, Lane: lane, Phase: phase, Wrote: true,
				Now: noon})
		}
	}
	order := engine.Order{Rollout: rolloutID, Subject: c.ID, Place: place, Act: engine.ActForward}
	who := store.Request{Rollout: rolloutID, Actor: "bob", Reason: "why not", Now: noon}
	return []act{
		{"approve", func(ctx context.Context, s *store.Store) error {
			if err := s.PutPlan(ctx, p.Digest, p.Header, "plan.json", noon); err != nil {
				return err
			}
			_, err := s.Approve(ctx, p.Digest, "ann", "", noon)
			return err
		}},
		{"begin", func(ctx context.Context, s *store.Store) error { _, err := s.Begin(ctx, p, noon); return err }},
		{"acquire", func(ctx context.Context, s *store.Store) error {
			_, err := s.Acquire(ctx, lane.Key, "worker", noon, time.Hour)
			return err
		}},
		{"sit down", func(ctx context.Context, s *store.Store) error {
			_, err := s.Acquire(ctx, seat.Key, "coordinator", noon, time.Hour)
			return err
		}},
		{"start", move(waiting, checking, rollout.StackStart)},
		{"clear", move(checking, applying, rollout.StackClear)},
		{"post", func(ctx context.Context, s *store.Store) error {
			return s.Queue().Post(ctx, rolloutID, seat, []engine.Order{order}, noon)
		}},
		{"take", func(ctx context.Context, s *store.Store) error {
			_, err := s.Queue().Take(ctx, lane, place, 9, noon)
			return err
		}},
		{"admit", admit(engine.Forward)},
		{"settle", settle(engine.ChangeVerified)},
		{"close", func(ctx context.Context, s *store.Store) error {
			return s.Queue().Close(ctx, lane, place, []engine.Report{{Rollout: rolloutID, Subject: c.ID}}, noon)
		}},
		{"collect", func(ctx context.Context, s *store.Store) error {
			_, err := s.Queue().Collect(ctx, rolloutID, seat, noon)
			return err
		}},
		{"stop", func(ctx context.Context, s *store.Store) error { return s.StopAll(ctx, "bob", "fire", noon) }},
		{"allow", func(ctx context.Context, s *store.Store) error { return s.AllowAll(ctx, "bob", "out", noon) }},
		{"approve a wave", func(ctx context.Context, s *store.Store) error { return s.ApproveWave(ctx, who, "second") }},
		{"renew", func(ctx context.Context, s *store.Store) error { return s.Renew(ctx, lane, noon, 2*time.Hour) }},
		{"note", func(ctx context.Context, s *store.Store) error {
			return s.Note(ctx, rolloutID, p.Stacks[0].ID, "gate", map[string]string{"a": "b"}, noon)
		}},
		{"pause", func(ctx context.Context, s *store.Store) error { _, err := s.Pause(ctx, who); return err }},
		{"resume", func(ctx context.Context, s *store.Store) error { _, err := s.Resume(ctx, who); return err }},
		{"undo", func(ctx context.Context, s *store.Store) error {
			_, err := s.RequestUndo(ctx, who, p.Stacks[0].ID)
			return err
		}},
		{"revert", move(applying, reverting, rollout.StackUndo)},
		{"admit back", admit(engine.Backward)},
		{"settle back", settle(engine.ChangeReverted)},
		{"release", func(ctx context.Context, s *store.Store) error { _, err := s.Release(ctx, lane, noon); return err }},
	}
}

// playJournal lives the life and is killed at the boundary of the given number.
func playJournal(args []string) error {
	fatal, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	passed := 0
	o := store.Options{Boundary: func(string) {
		if passed++; passed == fatal {
			kill()
		}
	}}
	var s *store.Store
	if store.IsPostgres(args[1]) {
		s, err = store.OpenPostgres(context.Background(), args[1], o)
	} else {
		s, err = store.Open(args[1], o)
	}
	if err != nil {
		return err
	}
	for _, a := range life(storetest.Plan(panicking{}, 2, 3, 5)) {
		if err := a.do(context.Background(), s); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	return nil
}

// panicking is a testing.TB outside a test.
type panicking struct{ testing.TB }

func (panicking) Helper()           {}
func (panicking) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// dump is all of the journal that a reader can see. PostgreSQL gives out numbers that a transaction which was rolled back has
// used up, and with them other hashes: those are left out.
func dump(t *testing.T, s *store.Store) string {
	t.Helper()
	var all []any
	list, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	approvals, err := s.Approvals(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, approvals)
	for _, r := range list {
		record, err := s.Load(t.Context(), r.ID)
		if err != nil {
			t.Fatal(err)
		}
		control, err := s.Control(t.Context(), r.ID)
		if err != nil {
			t.Fatal(err)
		}
		orders, err := s.Queue().Outstanding(t.Context(), r.ID, noon)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r, record, control, orders)
		for _, id := range slices.Sorted(maps.Keys(record.Changes)) {
			in, open, err := s.OpenIntent(t.Context(), r.ID, id)
			if err != nil {
				t.Fatal(err)
			}
			if s.Pool() != nil {
				in.ID = 0
			}
			if open {
				all = append(all, in)
			}
		}
	}
	for e, err := range s.Events(t.Context(), "", 0) {
		if err != nil {
			t.Fatal(err)
		}
		if s.Pool() != nil {
			e.ID, e.Prev, e.Hash = 0, "", ""
			delete(e.Detail, "intent")
		}
		all = append(all, e)
	}
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestKilledAtEveryBoundary kills the process before and after each commit of the journal: what was committed is there whole,
// what was not is not there at all, and going on from there ends as if nothing had happened.
func TestKilledAtEveryBoundary(t *testing.T) {
	killedAtEveryBoundary(t, func(t testing.TB) string { return filepath.Join(t.TempDir(), "imdsctl.db") }, openAt)
}

// TestPostgresKilledAtEveryBoundary is the same with the database in another process, which goes on.
func TestPostgresKilledAtEveryBoundary(t *testing.T) {
	killedAtEveryBoundary(t, emptyDatabase, openURL)
}

func killedAtEveryBoundary(t *testing.T, fresh func(testing.TB) string,
	open func(t testing.TB, where string, o store.Options) *store.Store) {
	acts := life(storetest.Plan(t, 2, 3, 5))
	undisturbed := open(t, fresh(t), store.Options{})
	states := []string{dump(t, undisturbed)}
	for _, a := range acts {
		if err := a.do(t.Context(), undisturbed); err != nil {
			t.Fatalf("%s: %v", a.name, err)
		}
		states = append(states, dump(t, undisturbed))
	}
	for boundary := 1; boundary <= 2*len(acts); boundary++ {
		done := boundary / 2 // acts whose commit was reached
		t.Run(fmt.Sprintf("%d %s", boundary, acts[(boundary-1)/2].name), func(t *testing.T) {
			t.Parallel()
			path := fresh(t)
			cmd := player(t, fmt.Sprintf("journal %d %s", boundary, path))
			if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() == 7 {
				t.Fatalf("the player was not killed: %v", err)
			}
			s := open(t, path, store.Options{})
			if err := s.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := dump(t, s); got != states[done] {
				t.Fatalf("after %d of %d acts:\n got %s\nwant %s", done, len(acts), got, states[done])
			}
			for _, a := range acts[done:] {
				if err := a.do(t.Context(), s); err != nil {
					t.Fatalf("resume with %s: %v", a.name, err)
				}
			}
			if got := dump(t, s); got != states[len(acts)] {
				t.Fatalf("resumed:\n got %s\nwant %s", got, states[len(acts)])
			}
		})
	}
}

const scanPage = 50

// playScan stores pages until it is killed, and says which it has stored.
func playScan(path string) error {
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return err
	}
	ctx := context.Background()
	scan, err := s.BeginScan(ctx, store.ScanInfo{Started: noon})
	if err != nil {
		return err
	}
	place := benchPlace(0)
	for page := 0; ; page++ {
		var resources []inventory.Resource
		for i := range scanPage {
			resources = append(resources, benchInstance(place, page*scanPage+i))
		}
		if err := s.PutResources(ctx, scan, place, inventory.KindInstance, resources); err != nil {
			return err
		}
		fmt.Println(page)
	}
}

// TestKilledScan kills a scan while it writes: every page it had reported is there, and pages are there whole or not at all.
func TestKilledScan(t *testing.T) {
	path := filepath.Join(t.TempDir(), "imdsctl.db")
	for round := range 5 {
		cmd := player(t, "scan "+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, reported := bufio.NewScanner(out), 0
		for reported < 3+4*round && lines.Scan() {
			reported++
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			reported++
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the player ended by itself")
		}
		s := openAt(t, path, store.Options{})
		if err := s.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		snap, err := s.Snapshot(t.Context(), benchPlace(0))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(snap.Resources); n < reported*scanPage || n%scanPage != 0 {
			t.Errorf("%d pages were reported, %d resources are there", reported, n)
		}
		release, err := s.LockProcess(t.Context(), "test", noon)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.BeginScan(t.Context(), store.ScanInfo{Started: noon}); err != nil {
			t.Fatal(err)
		}
		scans, err := s.Scans(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if killed := scans[len(scans)-2]; killed.Status != store.ScanInterrupted {
			t.Errorf("the killed scan is %s", killed.Status)
		}
		if err := release(); err != nil {
			t.Fatal(err)
		}
	}
}

// playFindings takes findings in, and is killed when all are written and nothing is committed.
func playFindings(where string) error {
	o := store.Options{Boundary: func(point string) {
		if point == "findings:before-commit" {
			kill()
		}
	}}
	var s *store.Store
	var err error
	if store.IsPostgres(where) {
		s, err = store.OpenPostgres(context.Background(), where, o)
	} else {
		s, err = store.Open(where, o)
	}
	if err != nil {
		return err
	}
	_, err = s.PutFindings(context.Background(), findingsImport, []string{"digest"}, someFindings)
	return err
}

var findingsImport = evidence.Import{Source: evidence.SourceTrace, Origin: "host", At: noon}

func someFindings(yield func(evidence.Finding, error) bool) {
	for i := range 1000 {
		f := evidence.Finding{What: evidence.WhatV1Call, Count: 1, First: noon,
			Subject: evidence.Subject{Kind: inventory.KindInstance, ID: fmt.Sprintf("i-%d", i)}}
		if !yield(f, nil) {
			return
		}
	}
}

// TestKilledImport kills an import before its commit: nothing of it is there, and it can be done again.
func TestKilledImport(t *testing.T) {
	killedImport(t, func(t testing.TB) string { return filepath.Join(t.TempDir(), "imdsctl.db") }, openAt)
}

// TestPostgresKilledImport is the same with the database in another process.
func TestPostgresKilledImport(t *testing.T) { killedImport(t, emptyDatabase, openURL) }

func killedImport(t *testing.T, fresh func(testing.TB) string, open func(t testing.TB, where string, o store.Options) *store.Store) {
	where := fresh(t)
	cmd := player(t, "findings "+where)
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() == 7 {
		t.Fatalf("the player was not killed: %v", err)
	}
	s := open(t, where, store.Options{})
	state := func() (imports, findings int, known bool) {
		list, err := s.Imports(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found, err := s.Findings(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		known, err = s.HasFile(t.Context(), evidence.SourceTrace, "digest")
		if err != nil {
			t.Fatal(err)
		}
		return len(list), len(found), known
	}
	if imports, findings, known := state(); imports != 0 || findings != 0 || known {
		t.Errorf("of a killed import there are %d imports, %d findings, the file: %t", imports, findings, known)
	}
	if _, err := s.PutFindings(t.Context(), findingsImport, []string{"digest"}, someFindings); err != nil {
		t.Fatal(err)
	}
	if imports, findings, known := state(); imports != 1 || findings != 1000 || !known {
		t.Errorf("done again there are %d imports, %d findings, the file: %t", imports, findings, known)
	}
}

// playLock takes the process lock and a lane, says so, and waits to be killed.
func playLock(path string) error {
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return err
	}
	if _, err := s.LockProcess(context.Background(), "imdsctl apply plan.json", noon); err != nil {
		return err
	}
	if _, err := s.Acquire(context.Background(), engine.LaneKey(benchPlace(0)), "dead", noon, 24*time.Hour); err != nil {
		return err
	}
	fmt.Println("locked")
	time.Sleep(time.Minute)
	return nil
}

// TestProcessLock: one process coordinates; the other is told who; and when that one is dead, nothing waits for its leases.
func TestProcessLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "imdsctl.db")
	s := openAt(t, path, store.Options{})
	cmd := player(t, "lock "+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() {
		t.Fatal("the player did not lock")
	}
	_, err = s.LockProcess(t.Context(), "imdsctl scan", noon)
	says(t, err, "another imdsctl", "imdsctl apply plan.json", fmt.Sprintf("process %d", cmd.Process.Pid))
	acquire := func() error {
		_, err := s.Acquire(t.Context(), engine.LaneKey(benchPlace(0)), "alive", noon.Add(time.Minute), time.Hour)
		return err
	}
	if acquire() == nil {
		t.Error("a lane was taken from a live process")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the player ended by itself")
	}
	if acquire() == nil {
		t.Error("a lane was taken without knowing that its holder is dead")
	}
	release, err := s.LockProcess(t.Context(), "imdsctl scan", noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.LockProcess(t.Context(), "again", noon); err == nil {
		t.Error("a store was locked twice")
	}
	if err := acquire(); err != nil {
		t.Errorf("a dead process's lane: %v", err)
	}
	if _, err := s.Acquire(t.Context(), engine.LaneKey(benchPlace(0)), "other", noon.Add(time.Minute), time.Hour); err == nil {
		t.Error("a lane of this very process was taken")
	}
	second := openAt(t, path, store.Options{})
	_, err = second.LockProcess(t.Context(), "imdsctl watch", noon)
	says(t, err, "imdsctl scan", fmt.Sprintf("process %d", os.Getpid()))
	for range 2 {
		if err := release(); err != nil {
			t.Fatal(err)
		}
	}
	release, err = second.LockProcess(t.Context(), "imdsctl watch", noon)
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
}
