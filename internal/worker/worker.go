// Package worker lets any number of processes carry out rollouts that are journaled in PostgreSQL.
//
// A worker does two things at once. It coordinates: of every rollout that has not ended it tries to take the seat, and whoever
// has it steps the rollout's machines and posts orders. And it works: River, on the same database, gives it a job for every
// place where orders wait, and it carries them out under the lane's lease, for a short shift at a time. River only says who
// comes to work, and when; that nobody else is at work in a place, and that nothing is lost or done twice, is the journal's
// matter (leases with epochs, intents), whatever River does. The package owns those two loops and River's jobs, and decides
// nothing about a rollout.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Options are what a worker works with. All fields without a default in their comment are required.
type Options struct {
	Engine *engine.Engine
	// Pool is the database's, for River.
	Pool *pgxpool.Pool
	// Unfinished lists the rollouts that have not ended.
	Unfinished func(ctx context.Context) ([]string, error)
	Logger     *slog.Logger
	// Clock paces the worker's own rounds. River keeps the machine's time.
	Clock clock.Clock
	// Lanes is how many places are worked on at a time. Default 100.
	Lanes int
	// Shift is how long a lane is kept while there is work. It is short, so that lanes move on soon when workers come and go.
	// Default 20 s.
	Shift time.Duration
	// Look is how often rollouts are looked for that nobody coordinates. Default 2 s.
	Look time.Duration
}

// The times of River's jobs. A job that ran longer than stuck is taken for dead and given to another worker: until then the
// orders of a worker that died wait. Jobs end well before, or are broken off.
const (
	jobTimeout = 55 * time.Second
	stuck      = time.Minute
	// yield is how long a lane is left to those who wait for it, or who hold it now.
	yield = 2 * time.Second
	// retry is how often the seat of a rollout is tried again that another worker had.
	retry = 15 * time.Second
	// parting is how long a worker that is told to stop waits for its lanes.
	parting = 20 * time.Second
)

// Work is a job of River: to come and work on the orders of a place.
type Work struct {
	Partition fleet.Partition `json:"partition"`
	Account   fleet.AccountID `json:"account"`
	Region    fleet.Region    `json:"region"`
}

// Kind implements river.JobArgs.
func (Work) Kind() string { return "imdsctl-lane" }

// InsertOpts implements river.JobArgsWithInsertOpts: there is one job for a place at a time.
func (Work) InsertOpts() river.InsertOpts {
	return river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable, rivertype.JobStateRunning,
		rivertype.JobStateScheduled}}}
}

func (w Work) place() fleet.Place {
	return fleet.Place{Partition: w.Partition, Account: w.Account, Region: w.Region}
}

// Dispatcher calls workers to places, as part of somebody else's transaction.
type Dispatcher struct{ client *river.Client[pgx.Tx] }

// NewDispatcher makes one. It needs no connection of its own.
func NewDispatcher(log *slog.Logger) (*Dispatcher, error) {
	client, err := river.NewClient(riverpgxv5.New(nil), &river.Config{Logger: quiet(log)})
	if err != nil {
		return nil, fmt.Errorf("prepare River: %w", err)
	}
	return &Dispatcher{client}, nil
}

// Dispatch has somebody come to work in the places, if tx is committed.
func (d *Dispatcher) Dispatch(ctx context.Context, tx pgx.Tx, places []fleet.Place) error {
	jobs := make([]river.InsertManyParams, len(places))
	for i, p := range places {
		jobs[i] = river.InsertManyParams{Args: Work{p.Partition, p.Account, p.Region}}
	}
	if len(jobs) == 0 {
		return nil
	}
	_, err := d.client.InsertManyTx(ctx, tx, jobs)
	return err
}

// quiet leaves River's own notes of every start, stop and election to those who debug.
func quiet(log *slog.Logger) *slog.Logger { return slog.New(demoted{log.Handler()}) }

// demoted is a handler that takes everything below a warning for a debug message.
type demoted struct{ slog.Handler }

func (d demoted) Enabled(ctx context.Context, level slog.Level) bool {
	if level < slog.LevelWarn {
		level = slog.LevelDebug
	}
	return d.Handler.Enabled(ctx, level)
}

func (d demoted) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		r.Level = slog.LevelDebug
	}
	return d.Handler.Handle(ctx, r)
}

func (d demoted) WithAttrs(attrs []slog.Attr) slog.Handler {
	return demoted{d.Handler.WithAttrs(attrs)}
}

func (d demoted) WithGroup(name string) slog.Handler { return demoted{d.Handler.WithGroup(name)} }

// Worker is one process at work.
type Worker struct{ opt Options }

// New makes a worker.
func New(o Options) *Worker {
	if o.Lanes <= 0 {
		o.Lanes = 100
	}
	if o.Shift <= 0 {
		o.Shift = 20 * time.Second
	}
	if o.Look <= 0 {
		o.Look = 2 * time.Second
	}
	return &Worker{o}
}

// Run works until ctx ends. It leaves nothing half done: lanes and seats are given up, and what was under way is settled, or
// left as an open intent that the lane's next holder settles. It survives the loss of the database for a while.
func (w *Worker) Run(ctx context.Context) error {
	workers := river.NewWorkers()
	river.AddWorker(workers, &lanes{opt: w.opt})
	client, err := river.NewClient(riverpgxv5.New(w.opt.Pool), &river.Config{
		Logger:               quiet(w.opt.Logger),
		Queues:               map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: w.opt.Lanes}},
		Workers:              workers,
		JobTimeout:           jobTimeout,
		RescueStuckJobsAfter: stuck,
		RetryPolicy:          soon{clock.System()},
		ErrorHandler:         &complaints{log: w.opt.Logger},
	})
	if err != nil {
		return fmt.Errorf("prepare River: %w", err)
	}
	// River's context is not the worker's: told to stop, it lets its jobs end first.
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start River: %w", err)
	}
	w.coordinate(ctx)
	goodbye, cancel := context.WithTimeout(context.WithoutCancel(ctx), parting)
	defer cancel()
	if err := client.StopAndCancel(goodbye); err != nil {
		w.opt.Logger.Warn("some lanes did not stop in time; what they had under way is settled by their next holder", "error", err)
	}
	return nil
}

// coordinate keeps looking for rollouts that nobody coordinates, and coordinates them, until ctx ends.
func (w *Worker) coordinate(ctx context.Context) {
	var seats sync.WaitGroup
	defer seats.Wait()
	var mu sync.Mutex
	mine, tried := map[string]bool{}, map[string]time.Time{}
	for {
		unfinished, err := w.opt.Unfinished(ctx)
		if err != nil && ctx.Err() == nil {
			w.opt.Logger.Warn("could not look for rollouts", "error", err)
		}
		for _, id := range unfinished {
			mu.Lock()
			busy := mine[id] || w.opt.Clock.Now().Sub(tried[id]) < retry
			if !busy {
				mine[id], tried[id] = true, w.opt.Clock.Now()
			}
			mu.Unlock()
			if busy {
				continue
			}
			seats.Go(func() {
				theirs := w.sit(ctx, id)
				mu.Lock()
				defer mu.Unlock()
				delete(mine, id)
				if !theirs {
					delete(tried, id)
				}
			})
		}
		if w.opt.Clock.Sleep(ctx, w.opt.Look/2+rand.N(w.opt.Look)) != nil {
			return
		}
	}
}

// sit coordinates one rollout for as long as it can; theirs: another worker does.
func (w *Worker) sit(ctx context.Context, id string) (theirs bool) {
	record, err := w.opt.Engine.Coordinate(ctx, id)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, engine.ErrFenced):
		w.opt.Logger.Debug("another worker coordinates", "rollout", id)
		return true
	case err != nil:
		w.opt.Logger.Error("could not go on coordinating; another attempt follows", "rollout", id, "error", err)
	case record != nil:
		w.opt.Logger.Info("rollout ended", "rollout", id, "status", record.Status, "reason", record.Reason)
	}
	return false
}

// lanes carries out River's jobs.
type lanes struct {
	river.WorkerDefaults[Work]
	opt Options
}

// Work implements river.Worker.
func (l *lanes) Work(ctx context.Context, job *river.Job[Work]) error {
	place := job.Args.place()
	shift, err := l.opt.Engine.Work(ctx, place, l.opt.Shift)
	switch {
	case errors.Is(err, engine.ErrFenced):
		l.opt.Logger.Debug("the lane is another's", "place", place)
		return river.JobSnooze(yield)
	case err != nil:
		return err
	case shift.Wanted:
		return river.JobSnooze(yield)
	case shift.More:
		return river.JobSnooze(0)
	}
	return nil
}

// soon is how long a job waits that failed: what failed is the database, the credentials or the journal, and another worker may
// have better luck at once.
type soon struct{ clock clock.Clock }

// NextRetry implements river.ClientRetryPolicy.
func (s soon) NextRetry(job *rivertype.JobRow) time.Time {
	return s.clock.Now().Add(min(30*time.Second, time.Duration(max(1, job.Attempt))*2*time.Second))
}

// complaints tells of jobs that failed.
type complaints struct{ log *slog.Logger }

// HandleError implements river.ErrorHandler.
func (c *complaints) HandleError(_ context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	c.log.Warn("a lane could not be worked in; its orders wait for the next attempt", "place", string(job.EncodedArgs),
		"attempt", job.Attempt, "error", err)
	return nil
}

// HandlePanic implements river.ErrorHandler.
func (c *complaints) HandlePanic(_ context.Context, job *rivertype.JobRow, value any, trace string) *river.ErrorHandlerResult {
	c.log.Error("a lane failed in a way that it should not", "place", string(job.EncodedArgs), "panic", value, "trace", trace)
	return nil
}
