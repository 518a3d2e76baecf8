package store_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/rollout"
	"github.com/imdsctl/imdsctl/internal/store"
	"github.com/imdsctl/imdsctl/internal/store/storetest"
	"github.com/imdsctl/imdsctl/test/postgres"
)

func TestPostgres(t *testing.T) { storetest.Run(t, openPostgres) }

// original is a database with all tables and nothing in them.
var original struct {
	sync.Mutex
	url string
}

func openPostgres(t testing.TB, o store.Options) *store.Store {
	t.Helper()
	return openURL(t, emptyDatabase(t), o)
}

// emptyDatabase gives the URL of a database of the test's own, with all tables.
func emptyDatabase(t testing.TB) string {
	t.Helper()
	server := postgres.Shared(t)
	original.Lock()
	defer original.Unlock()
	if original.url == "" {
		url := server.Database(t)
		s, err := store.OpenPostgres(t.Context(), url, store.Options{})
		if err == nil {
			err = s.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		original.url = url
	}
	return server.Clone(t, original.url)
}

func openURL(t testing.TB, url string, o store.Options) *store.Store {
	t.Helper()
	s, err := store.OpenPostgres(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// scene is a rollout whose stacks all apply their second step, and what is needed to go on with it.
type scene struct {
	t     testing.TB
	plan  *plan.Plan
	id    string
	seat  engine.Lease
	lanes map[string]engine.Lease // by stack
}

func play(t testing.TB, s *store.Store, stacks, changes, budget int) *scene {
	t.Helper()
	p := storetest.Plan(t, stacks, changes, budget)
	storetest.Approved(t, s, p)
	r, err := s.Begin(t.Context(), p, noon)
	if err != nil {
		t.Fatal(err)
	}
	sc := &scene{t: t, plan: p, id: r.ID, lanes: map[string]engine.Lease{}}
	sc.seat = sc.acquire(s, engine.SeatKey(r.ID), "coordinator")
	for _, st := range p.Stacks {
		sc.lanes[st.ID] = sc.acquire(s, engine.LaneKey(st.Place), "worker")
		state := r.Stacks[st.ID]
		for _, e := range []rollout.StackEvent{rollout.StackStart, rollout.StackClear, rollout.StackStepWritten, rollout.StackStepPassed} {
			next, _ := rollout.Next(state, e, "", rollout.Wait{}, noon)
			move := engine.Move{Stack: st.ID, From: state, To: next, Event: string(e)}
			if err := s.Move(t.Context(), r.ID, sc.seat, []engine.Move{move}, noon); err != nil {
				t.Fatal(err)
			}
			state = next
		}
	}
	return sc
}

func (sc *scene) acquire(s *store.Store, key, holder string) engine.Lease {
	sc.t.Helper()
	l, err := s.Acquire(sc.t.Context(), key, holder, noon, time.Hour)
	if err != nil {
		sc.t.Fatal(err)
	}
	return l
}

func (sc *scene) admit(s *store.Store, c *plan.Change) (engine.Intent, error) {
	return s.Admit(sc.t.Context(), engine.Admission{Rollout: sc.id, Change: c, Direction: engine.Forward, Lane: sc.lanes[c.Stack],
		Token: "t-" + c.ID, Now: noon, Lease: time.Minute})
}

func (sc *scene) settle(s *store.Store, in engine.Intent, stack string) error {
	return s.Settle(sc.t.Context(), engine.Settlement{Rollout: sc.id, Change: in.Change, Intent: in.ID, Lane: sc.lanes[stack],
		Phase: engine.ChangeVerified, Wrote: true, RequestID: "req", Now: noon})
}

// pending are the changes of the step that the stacks are at.
func (sc *scene) pending() []*plan.Change {
	var out []*plan.Change
	for i := range sc.plan.Changes {
		if c := &sc.plan.Changes[i]; c.Step == 1 {
			out = append(out, c)
		}
	}
	return out
}

// verify checks that each of the changes has one intent with one outcome, and that the chains are whole.
func (sc *scene) verify(s *store.Store, changes []*plan.Change) {
	sc.t.Helper()
	count := map[string]int{}
	for e, err := range s.Events(sc.t.Context(), sc.id, 0) {
		if err != nil {
			sc.t.Fatal(err)
		}
		if e.Change != "" {
			count[e.Change+" "+e.Name]++
		}
	}
	r, err := s.Load(sc.t.Context(), sc.id)
	if err != nil {
		sc.t.Fatal(err)
	}
	for _, c := range changes {
		if count[c.ID+" intent"] != 1 || count[c.ID+" outcome"] != 1 {
			sc.t.Errorf("%s has %d intents and %d outcomes", c.ID, count[c.ID+" intent"], count[c.ID+" outcome"])
		}
		if got := r.Changes[c.ID]; got.Phase != engine.ChangeVerified || got.Attempt != 1 {
			sc.t.Errorf("%s: %+v", c.ID, got)
		}
	}
	if _, broken, err := s.VerifyChain(sc.t.Context(), ""); err != nil || broken != nil {
		sc.t.Errorf("the chains: %v %v", broken, err)
	}
}

// TestPostgresComesAndGoes restarts and kills the server under a loop of admissions and outcomes: nothing fails, nothing is
// there twice, nothing is lost.
func TestPostgresComesAndGoes(t *testing.T) {
	server := postgres.Start(t)
	url := server.Database(t)
	s := openURL(t, url, store.Options{})
	sc := play(t, s, 4, 150, 100)
	todo := sc.pending()
	jobs := make(chan *plan.Change)
	var done atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for c := range jobs {
				in, err := sc.admit(s, c)
				if err != nil {
					t.Errorf("admit %s: %v", c.ID, err)
					continue
				}
				if err := sc.settle(s, in, c.Stack); err != nil {
					t.Errorf("settle %s: %v", c.ID, err)
				}
				done.Add(1)
			}
		})
	}
	group.Go(func() {
		defer close(jobs)
		for i, c := range todo {
			switch i {
			case 100, 300:
				if err := server.Restart(); err != nil {
					t.Error(err)
				}
			case 200, 400:
				server.Kill()
				if err := server.Start(); err != nil {
					t.Error(err)
				}
			}
			jobs <- c
		}
	})
	group.Wait()
	if int(done.Load()) != len(todo) {
		t.Errorf("%d of %d are done", done.Load(), len(todo))
	}
	sc.verify(s, todo)
}

// TestPostgresBudget has two stores, as two processes would, admit at once: the budgets of all and of an account hold.
func TestPostgresBudget(t *testing.T) {
	url := emptyDatabase(t)
	stores := []*store.Store{openURL(t, url, store.Options{}), openURL(t, url, store.Options{})}
	const budget = 5
	sc := play(t, stores[0], 3, 60, budget)
	todo := sc.pending()
	var flying, most atomic.Int64
	var group sync.WaitGroup
	for w := range 12 {
		group.Go(func() {
			for i := range todo {
				c := todo[(i+w*7)%len(todo)] // several go for the same change
				s := stores[w%2]
				for {
					in, err := sc.admit(s, c)
					if errors.Is(err, engine.ErrNotAdmitted) {
						if strings.Contains(err.Error(), "plan allows") {
							continue
						}
						break
					}
					if err != nil {
						t.Errorf("admit %s: %v", c.ID, err)
						return
					}
					now := flying.Add(1)
					for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
					}
					flying.Add(-1)
					if err := sc.settle(s, in, c.Stack); err != nil {
						t.Errorf("settle %s: %v", c.ID, err)
					}
					break
				}
			}
		})
	}
	group.Wait()
	if most.Load() > budget {
		t.Errorf("%d intents were open at once, the budget is %d", most.Load(), budget)
	}
	sc.verify(stores[0], todo)
}

// TestPostgresFence takes a lane over and over while its holders write: whoever has lost it writes nothing more.
func TestPostgresFence(t *testing.T) {
	url := emptyDatabase(t)
	stores := []*store.Store{openURL(t, url, store.Options{}), openURL(t, url, store.Options{})}
	const rounds = 10
	sc := play(t, stores[0], 1, 2000, 10_000)
	todo := sc.pending()
	key := engine.LaneKey(sc.plan.Stacks[0].Place)
	var next atomic.Int64
	// hold admits under a lease until it is lost, and says so for each of the first few admitted.
	hold := func(s *store.Store, lane engine.Lease, said chan<- error) {
		for n := 0; ; n++ {
			c := todo[int(next.Add(1))-1]
			_, err := s.Admit(t.Context(), engine.Admission{Rollout: sc.id, Change: c, Direction: engine.Forward, Lane: lane, Token: "t",
				Now: noon, Lease: time.Minute})
			if err != nil || n < 3 {
				said <- err
			}
			if err != nil {
				return
			}
		}
	}
	var lost []chan error
	for round := range rounds {
		lane, err := stores[round%2].Acquire(t.Context(), key, "worker", noon, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for _, former := range lost {
			for err := range former {
				if errors.Is(err, engine.ErrFenced) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		lost = nil
		for _, s := range stores {
			said := make(chan error, 4)
			go hold(s, lane, said)
			if err := <-said; err != nil {
				t.Fatal(err)
			}
			lost = append(lost, said)
		}
	}
	if _, err := stores[0].Acquire(t.Context(), key, "worker", noon, time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, former := range lost {
		for err := range former {
			if err != nil {
				break
			}
		}
	}
	last := ""
	epochs := map[string]bool{}
	for e, err := range stores[1].Events(t.Context(), sc.id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Name != "intent" {
			continue
		}
		if epoch := e.Detail["epoch"]; epoch != last && epochs[epoch] {
			t.Errorf("an intent under epoch %s after one under %s", epoch, last)
		} else {
			last, epochs[epoch] = epoch, true
		}
	}
	if len(epochs) != rounds {
		t.Errorf("%d holders of %d wrote", len(epochs), rounds)
	}
	if _, broken, err := stores[0].VerifyChain(t.Context(), ""); err != nil || broken != nil {
		t.Errorf("the chains: %v %v", broken, err)
	}
}

// TestPostgresEvents has two stores note into the same chains while readers go on from the last event they saw: no chain
// breaks and no reader misses an event.
func TestPostgresEvents(t *testing.T) {
	url := emptyDatabase(t)
	stores := []*store.Store{openURL(t, url, store.Options{}), openURL(t, url, store.Options{})}
	sc := play(t, stores[0], 2, 3, 5)
	const writers, notes = 8, 60
	var group, readers sync.WaitGroup
	stop := make(chan struct{})
	for i := range 2 {
		readers.Go(func() {
			since, seen := int64(0), map[string]int{}
			read := func() {
				for e, err := range stores[i].Events(t.Context(), sc.id, since) {
					if err != nil {
						t.Error(err)
						return
					}
					if e.ID <= since {
						t.Errorf("event %d after %d", e.ID, since)
					}
					since = e.ID
					if e.Name == "remark" {
						seen[e.Detail["note"]]++
					}
				}
			}
			for {
				select {
				case <-stop:
					read()
					if len(seen) != writers*notes {
						t.Errorf("a reader saw %d of %d", len(seen), writers*notes)
					}
					return
				default:
					read()
				}
			}
		})
	}
	for w := range writers {
		group.Go(func() {
			for n := range notes {
				stack := []string{"", "s-0", "s-1"}[(w+n)%3]
				detail := map[string]string{"note": fmt.Sprintf("%d/%d", w, n)}
				if err := stores[w%2].Note(t.Context(), sc.id, stack, "remark", detail, noon); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	close(stop)
	readers.Wait()
	if _, broken, err := stores[0].VerifyChain(t.Context(), ""); err != nil || broken != nil {
		t.Errorf("the chains: %v %v", broken, err)
	}
}

// TestPostgresStopIsExact: once StopAll has returned, no intent starts, whoever asks.
func TestPostgresStopIsExact(t *testing.T) {
	url := emptyDatabase(t)
	stores := []*store.Store{openURL(t, url, store.Options{}), openURL(t, url, store.Options{})}
	sc := play(t, stores[0], 2, 200, 10_000)
	todo := sc.pending()
	var stopped atomic.Bool
	var before, after, refused atomic.Int64
	var next atomic.Int64
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(todo) {
					return
				}
				late := stopped.Load()
				_, err := sc.admit(stores[w%2], todo[i])
				switch {
				case err == nil && late:
					after.Add(1)
				case err == nil:
					if before.Add(1) == 50 {
						if err := stores[1-w%2].StopAll(t.Context(), "bob", "fire", noon); err != nil {
							t.Error(err)
						}
						stopped.Store(true)
					}
				case errors.Is(err, engine.ErrNotAdmitted):
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if after.Load() > 0 || before.Load() < 50 || refused.Load() == 0 {
		t.Errorf("%d intents before the stop, %d after it, %d refused", before.Load(), after.Load(), refused.Load())
	}
	// What the journal itself says: after the event of the stop there is no intent.
	seen := false
	for e, err := range stores[0].Events(t.Context(), sc.id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		seen = seen || e.Name == "stop"
		if seen && e.Name == "intent" {
			t.Fatalf("intent %d was written after the stop", e.ID)
		}
	}
}

// laneJob has somebody come to work in a place.
type laneJob struct {
	Place string `json:"place"`
}

func (laneJob) Kind() string { return "lane" }

// TestPostgresDispatch: those who are to come to work are called in the transaction that posts the orders, or not at all.
func TestPostgresDispatch(t *testing.T) {
	client, err := river.NewClient(riverpgxv5.New(nil), &river.Config{})
	if err != nil {
		t.Fatal(err)
	}
	fail := false
	var called [][]fleet.Place
	dispatch := func(ctx context.Context, tx pgx.Tx, places []fleet.Place) error {
		called = append(called, places)
		var jobs []river.InsertManyParams
		for _, p := range places {
			jobs = append(jobs, river.InsertManyParams{Args: laneJob{p.String()}})
		}
		if _, err := client.InsertManyTx(ctx, tx, jobs); err != nil {
			return err
		}
		inner, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := client.InsertTx(ctx, inner, laneJob{"of a savepoint that is rolled back"}, nil); err != nil {
			return err
		}
		if err := inner.Rollback(ctx); err != nil {
			return err
		}
		if tx.Commit(ctx) == nil || tx.Rollback(ctx) == nil {
			return errors.New("a lent transaction was ended")
		}
		if fail {
			return errors.New("nobody is there")
		}
		return nil
	}
	s := openPostgres(t, store.Options{Dispatch: dispatch})
	sc := play(t, s, 3, 3, 5)
	order := func(n int) engine.Order {
		c := &sc.plan.Changes[n]
		return engine.Order{Rollout: sc.id, Subject: c.ID, Place: c.Ref.Place, Act: engine.ActForward}
	}
	jobs := func() (out []string) {
		t.Helper()
		rows, err := s.Pool().Query(t.Context(), `SELECT args->>'place' FROM river_job ORDER BY id`)
		if err != nil {
			t.Fatal(err)
		}
		if out, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			t.Fatal(err)
		}
		return out
	}
	q := s.Queue()
	if err := q.Post(t.Context(), sc.id, sc.seat, []engine.Order{order(3), order(0), order(1)}, noon); err != nil {
		t.Fatal(err)
	}
	want := []fleet.Place{sc.plan.Stacks[0].Place, sc.plan.Stacks[1].Place}
	if len(called) != 1 || !slices.Equal(called[0], want) {
		t.Errorf("called for %v", called)
	}
	if got := jobs(); !slices.Equal(got, []string{want[0].String(), want[1].String()}) {
		t.Errorf("jobs: %q", got)
	}
	if err := q.Post(t.Context(), sc.id, sc.seat, []engine.Order{order(3)}, noon); err != nil || len(called) != 1 {
		t.Errorf("an order that is there already: %v, %v", err, called)
	}
	fail = true
	if err := q.Post(t.Context(), sc.id, sc.seat, []engine.Order{order(6)}, noon); err == nil {
		t.Error("posted, though nobody can be called")
	}
	lost := sc.seat
	lost.Epoch--
	if err := q.Post(t.Context(), sc.id, lost, []engine.Order{order(6)}, noon); !errors.Is(err, engine.ErrFenced) {
		t.Errorf("posted without the seat: %v", err)
	}
	fail = false
	if got := jobs(); len(got) != 2 {
		t.Errorf("what was rolled back left jobs: %q", got)
	}
	if _, err := q.Take(t.Context(), sc.lanes["s-1"], want[1], 9, noon); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(t.Context(), sc.lanes["s-1"], want[1], []engine.Report{{Rollout: sc.id, Subject: "c-1-0"}}, noon); err != nil {
		t.Fatal(err)
	}
	out, err := q.Outstanding(t.Context(), sc.id, noon)
	if err != nil || len(out) != 3 {
		t.Fatalf("outstanding: %+v %v", out, err)
	}
	if last := called[len(called)-1]; !slices.Equal(last, want[:1]) {
		t.Errorf("what waits is in %v", last)
	}
}

// TestPostgresUnansweredCommits cuts the connection right before the server hears of a commit, and right before it answers:
// each call ends as if nothing had happened, with each effect once.
func TestPostgresUnansweredCommits(t *testing.T) {
	for _, when := range []cut{cutBefore, cutAfter} {
		t.Run(string(when), func(t *testing.T) {
			direct := emptyDatabase(t)
			wire := tap(t, direct)
			s := openURL(t, wire.url, store.Options{})
			calm := openPostgres(t, store.Options{})
			p := storetest.Plan(t, 2, 3, 5)
			acts := life(p)
			for _, a := range acts {
				wire.armed.Store(&when)
				if err := a.do(t.Context(), s); err != nil {
					t.Fatalf("%s: %v", a.name, err)
				}
				if wire.armed.Load() != nil {
					t.Errorf("%s: no commit was cut off", a.name)
				}
				if err := a.do(t.Context(), calm); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := dump(t, s), dump(t, calm); got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
			if _, broken, err := s.VerifyChain(t.Context(), ""); err != nil || broken != nil {
				t.Errorf("the chains: %v %v", broken, err)
			}
			// Reports that were collected in a commit without an answer are not lost.
			r := rolloutOf(t, s)
			seat, err := s.Acquire(t.Context(), engine.SeatKey(r), "again", noon.Add(2*time.Hour), time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			place := p.Stacks[1].Place
			lane, err := s.Acquire(t.Context(), engine.LaneKey(place), "again", noon, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			q := s.Queue()
			order := engine.Order{Rollout: r, Subject: "c-1-0", Place: place, Act: engine.ActForward}
			wire.armed.Store(&when)
			err = q.Post(t.Context(), r, seat, []engine.Order{order}, noon)
			if err != nil {
				t.Fatal(err)
			}
			wire.armed.Store(&when)
			if tasks, err := q.Take(t.Context(), lane, place, 9, noon); err != nil || len(tasks) != 1 {
				t.Fatalf("taken: %v %v", tasks, err)
			}
			wire.armed.Store(&when)
			if err := q.Close(t.Context(), lane, place, []engine.Report{{Rollout: r, Subject: "c-1-0"}}, noon); err != nil {
				t.Fatal(err)
			}
			wire.armed.Store(&when)
			if reports, err := q.Collect(t.Context(), r, seat, noon); err != nil || len(reports) != 1 {
				t.Fatalf("collected: %v %v", reports, err)
			}
		})
	}
}

func rolloutOf(t *testing.T, s *store.Store) string {
	t.Helper()
	list, err := s.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%v %v", list, err)
	}
	return list[0].ID
}

// cut says where the wire is cut.
type cut string

const (
	cutBefore cut = "before the server hears of the commit"
	cutAfter  cut = "after the commit, before the answer"
)

// wiretap is a wire to PostgreSQL that can be cut at a commit.
type wiretap struct {
	url    string
	server string
	armed  atomic.Pointer[cut] // the next commit is cut off, once
}

func tap(t *testing.T, direct string) *wiretap {
	t.Helper()
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wiretap{server: u.Host}
	u.Host = l.Addr().String()
	w.url = u.String()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // the test is over
			}
			go w.carry(client)
		}
	}()
	return w
}

func (w *wiretap) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", w.server)
	if err != nil {
		return
	}
	defer server.Close()
	var mute atomic.Bool
	answered := make(chan struct{})
	var once sync.Once
	go func() {
		defer client.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if mute.Load() {
				once.Do(func() { close(answered) })
				return
			}
			if err != nil {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	startup := true
	for {
		message, err := readMessage(client, startup)
		if err != nil {
			return
		}
		startup = false
		if message[0] == 'Q' && strings.Contains(string(message), "commit\x00") {
			if when := w.armed.Swap(nil); when != nil {
				if *when == cutBefore {
					return
				}
				mute.Store(true)
				if _, err := server.Write(message); err == nil {
					<-answered
				}
				return
			}
		}
		if _, err := server.Write(message); err != nil {
			return
		}
	}
}

// readMessage reads one message of PostgreSQL's protocol: a type, but for the first, and a length that counts itself.
func readMessage(r io.Reader, startup bool) ([]byte, error) {
	head := make([]byte, 5)
	if startup {
		head = head[:4]
	}
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	rest := make([]byte, binary.BigEndian.Uint32(head[len(head)-4:])-4)
	_, err := io.ReadFull(r, rest)
	return append(head, rest...), err
}

// TestPostgresHeldUp: a process that stops in the middle of a transaction holds nobody up for long, and finds out.
func TestPostgresHeldUp(t *testing.T) {
	url := emptyDatabase(t)
	stopped, resume := make(chan struct{}), make(chan struct{})
	var once sync.Once
	sleepy := openURL(t, url, store.Options{Boundary: func(point string) {
		if point == "settle:before-commit" {
			once.Do(func() { close(stopped); <-resume })
		}
	}})
	other := openURL(t, url, store.Options{})
	sc := play(t, other, 1, 4, 5)
	c := sc.pending()[0]
	in, err := sc.admit(sleepy, c)
	if err != nil {
		t.Fatal(err)
	}
	late := make(chan error)
	go func() { late <- sc.settle(sleepy, in, c.Stack) }()
	<-stopped
	// Acquire needs the lease's row, which the sleeper's transaction holds until the server ends it.
	lane, err := other.Acquire(t.Context(), sc.lanes["s-0"].Key, "other", noon.Add(2*time.Hour), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	close(resume)
	if err := <-late; !errors.Is(err, engine.ErrFenced) {
		t.Errorf("who was held up and has lost the lane: %v", err)
	}
	sc.lanes["s-0"] = lane
	if err := sc.settle(other, in, c.Stack); err != nil {
		t.Errorf("the new holder: %v", err)
	}
}

func TestPostgresRefuses(t *testing.T) {
	const secret = "geheim"
	server := postgres.Shared(t)
	refused := func(url string, words ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s, err := store.OpenPostgres(ctx, url, store.Options{Patience: time.Millisecond})
		if err == nil {
			t.Fatal(errors.Join(errors.New("it opened"), s.Close()))
		}
		says(t, err, words...)
		if strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
			t.Errorf("it tells the password: %v", err)
		}
	}
	with := func(user, database string) string {
		u, err := url.Parse(server.DSN())
		if err != nil {
			t.Fatal(err)
		}
		u.User, u.Path = url.UserPassword(user, secret), "/"+database
		return u.String()
	}
	refused("postgres://ann:"+secret+"@localhost:port/x", "no PostgreSQL URL")
	refused("postgres://ann:"+secret+"%zz@localhost/x", "no PostgreSQL URL")
	refused("postgres://ann:"+secret+"@localhost/x?sslmode=perhaps", "no PostgreSQL URL")
	refused("postgres://ann:"+secret+"@127.0.0.1:1/x?connect_timeout=1", "connection to PostgreSQL", "postgres://ann@127.0.0.1:1/x")
	refused(with("nobody", "postgres"), "PostgreSQL refuses", `"nobody"`)
	refused(with("postgres", "none"), "PostgreSQL refuses", `"none"`)

	foreign := server.Database(t)
	execute(t, foreign, `CREATE TABLE bookmarks (url TEXT)`)
	refused(foreign, "1 tables of another program", "search_path")
	newer := emptyDatabase(t)
	execute(t, newer, `INSERT INTO imdsctl_schema (version_id, is_applied) VALUES (4711, true)`)
	refused(newer, "schema 4711", "newer imdsctl")

	// Beside another program's tables there is room in a schema of its own.
	execute(t, foreign, `CREATE SCHEMA imdsctl`)
	s := openURL(t, foreign+"&search_path=imdsctl", store.Options{})
	if strings.Contains(s.Path(), "?") {
		t.Errorf("path: %s", s.Path())
	}
	sc := play(t, s, 1, 2, 5)
	sc.verify(s, nil)
}

func execute(t *testing.T, url, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func TestPostgresManyStartOne(t *testing.T) {
	url := postgres.Shared(t).Database(t)
	var group sync.WaitGroup
	p := storetest.Plan(t, 1, 2, 5)
	for range 4 {
		group.Go(func() {
			s, err := store.OpenPostgres(t.Context(), url, store.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.PutPlan(t.Context(), p.Digest, p.Header, "plan.json", noon); err != nil {
				t.Error(err)
			}
			if _, err := s.Approve(t.Context(), p.Digest, "ann", "", noon); err != nil {
				t.Error(err)
			}
			if _, err := s.Begin(t.Context(), p, noon); err != nil {
				t.Error(err)
			}
			if release, err := s.LockProcess(t.Context(), "test", noon); err != nil || release() != nil {
				t.Errorf("there is no process lock to wait for: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	s := openURL(t, url, store.Options{})
	if list, err := s.List(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%v %v", list, err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
