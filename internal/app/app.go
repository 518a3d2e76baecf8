// Package app wires imdsctl together: configuration, AWS, database, kinds, engine and gates. It decides nothing itself.
//
// The faces (cli, and whatever else shows imdsctl to people) use this package and the pure ones only; what they need of
// the others is given out here under an alias. An App opens the database and AWS when they are first needed, so that a
// command that needs neither works without them. Interrupting any method leaves what the part it was in leaves: a scan
// that is marked as interrupted, a rollout that the next run carries on.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/app/discovery"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/cloudwatch"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/followup"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/product"
	"github.com/imdsctl/imdsctl/internal/program"
	"github.com/imdsctl/imdsctl/internal/scan"
	"github.com/imdsctl/imdsctl/internal/store"
	"github.com/imdsctl/imdsctl/internal/worker"
)

// What faces need of the packages they may not import.
type (
	ScanProgress   = scan.Progress
	SkippedAccount = scan.SkippedAccount
	Cost           = scan.Cost
	ScanInfo       = store.Scan
	Record         = engine.Record
	Progress       = engine.Progress
	GateResult     = engine.GateResult
	Reading        = engine.Reading
	ChangeState    = engine.ChangeState
	ChangePhase    = engine.ChangePhase
	Approval       = store.Approval
	RolloutInfo    = store.RolloutSummary
	JournalEvent   = store.Event
	PlanInfo       = store.PlanRecord
	CallStats      = awsx.Stats
	CallCounts     = awsx.Counts
)

// Phases of a change, from the engine.
const (
	ChangePending  = engine.ChangePending
	ChangeOpen     = engine.ChangeOpen
	ChangeApplied  = engine.ChangeApplied
	ChangeVerified = engine.ChangeVerified
	ChangeConflict = engine.ChangeConflict
	ChangeFailed   = engine.ChangeFailed
	ChangeSkipped  = engine.ChangeSkipped
	ChangeReverted = engine.ChangeReverted
	ChangeStuck    = engine.ChangeStuck
)

// Options say what an App works with. The zero value is a laptop with the AWS defaults and no database.
type Options struct {
	// Config is policy.Default() when nil.
	Config *policy.Config
	// ConfigPath is where it was read from, for messages.
	ConfigPath string
	// DBPath is the database's file, or the URL of a PostgreSQL database. Empty means none: only Why and a part of Doctor work
	// then.
	DBPath string
	Logger *slog.Logger // discards when nil
	Clock  clock.Clock  // the machine's when nil
	// Version of imdsctl, into scans and plans.
	Version string
	// Actor is who approves, pauses and rolls back. Empty means the user of the operating system.
	Actor string
	// CloudWatchProtocol is how CloudWatch is spoken to: "" or "cbor" as the SDK does, "json" for stand-ins that need it.
	CloudWatchProtocol string
	// AWS gives the caller's configuration; nil is what any AWS tool uses (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL…).
	AWS        func(context.Context) (aws.Config, error)
	HTTPClient aws.HTTPClient
	// Concurrency is how many places are read at a time; 0 is the scan's default.
	Concurrency int
	Engine      EngineOptions
	// Tracer sees what calls the metadata service; nil is this host's own.
	Tracer Tracer
	// Boundary is called around each commit of the journal; tests stop the process in it.
	Boundary func(point string)
	// DatabasePages bounds the database, in pages of 4 KiB; 0 is no bound. Tests fill a disk with it.
	DatabasePages int
	// DatabaseBusy is how long a write waits for another process's transaction; 0 is the store's default.
	DatabaseBusy time.Duration
}

// EngineOptions adjust the engine; a zero is its default.
type EngineOptions struct {
	CallTimeout   time.Duration
	Consistency   time.Duration
	VerifyTimeout time.Duration
	PollInterval  time.Duration
	LeaseTTL      time.Duration
	LaneWidth     int
}

// App is imdsctl without a face. It is safe for many goroutines.
type App struct {
	opt    Options
	config *policy.Config
	log    *slog.Logger
	clock  clock.Clock

	mu     sync.Mutex
	db     *store.Store
	edge   *awsx.Edge
	finder *discovery.Finder
	// follows is the clock, where it follows that of the database: several machines must agree on the time.
	follows *clock.Follower
	runner  *followup.Runner
	// products is the table of software, with the configuration's own entries.
	products *product.Table
	globals  globals
}

// New makes an App. It opens nothing, and reads the files that the configuration names.
func New(o Options) (*App, error) {
	if err := (cloudwatch.Settings{Protocol: cloudwatch.Protocol(o.CloudWatchProtocol)}).Validate(); err != nil {
		return nil, err
	}
	a := &App{opt: o, config: o.Config, log: o.Logger, clock: o.Clock}
	if a.config == nil {
		a.config = policy.Default()
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.clock == nil {
		a.clock = clock.System()
	}
	if store.IsPostgres(o.DBPath) {
		a.follows = clock.NewFollower(a.clock)
		a.clock = a.follows
	}
	var err error
	if a.products, err = productTable(a.config.Evidence.Products); err != nil {
		return nil, err
	}
	a.runner = followup.NewRunner(program.Environment(os.LookupEnv))
	if a.opt.Actor == "" {
		a.opt.Actor = actor()
	}
	return a, nil
}

// productTable is the built-in table of software, with the entries of a file.
func productTable(file string) (*product.Table, error) {
	if file == "" {
		return product.Default(), nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: "evidence.products", Summary: err.Error(),
			Remedy: "Correct the path, or run imdsctl in the directory that it begins from."}
	}
	return product.Default().With(data, file)
}

// actor is who the operating system says is at work.
func actor() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// Close gives back what was opened.
func (a *App) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.db == nil {
		return nil
	}
	err := a.db.Close()
	a.db = nil
	return err
}

// Config is the configuration the App works with. It is for reading.
func (a *App) Config() *policy.Config { return a.config }

// Actor is who approves, pauses and rolls back.
func (a *App) Actor() string { return a.opt.Actor }

// ExpiredExceptions warns of the exceptions that no longer hold.
func (a *App) ExpiredExceptions() []fleet.Diagnostic { return a.config.Expired(a.clock.Now()) }

// Stats counts the AWS calls this App has made.
func (a *App) Stats() CallStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.edge == nil {
		return CallStats{}
	}
	return a.edge.Stats()
}

// database opens the database at first use.
func (a *App) database() (*store.Store, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.db != nil {
		return a.db, nil
	}
	if a.opt.DBPath == "" {
		return nil, errors.New("no database is named: give one with --db")
	}
	o := store.Options{Logger: a.log, Boundary: a.opt.Boundary, MaxPages: a.opt.DatabasePages,
		BusyTimeout: a.opt.DatabaseBusy}
	open := func() (*store.Store, error) { return store.Open(a.opt.DBPath, o) }
	if a.follows != nil {
		open = func() (*store.Store, error) { return a.shared(context.Background(), o) }
	}
	db, err := open()
	if err != nil {
		return nil, err
	}
	a.db = db
	return db, nil
}

// shared opens a database that several processes work on, and has the clock follow its.
func (a *App) shared(ctx context.Context, o store.Options) (*store.Store, error) {
	caller, err := worker.NewDispatcher(a.log)
	if err != nil {
		return nil, err
	}
	o.Dispatch = caller.Dispatch
	db, err := store.OpenPostgres(ctx, a.opt.DBPath, o)
	if err != nil {
		return nil, err
	}
	if err := a.follow(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// worstSkew is how far this machine's clock may be from the database's without a word.
const worstSkew = 2 * time.Second

// follow sets the clock by the database's.
func (a *App) follow(ctx context.Context, db *store.Store) error {
	ahead, err := a.follows.Set(ctx, db.Now)
	if err == nil && ahead.Abs() > worstSkew {
		a.log.Warn("this machine's clock differs from the database's, which is followed; set it right, because AWS looks at it as well",
			"ahead", -ahead)
	}
	return err
}

// cloud makes the way to AWS at first use.
func (a *App) cloud(ctx context.Context) (*awsx.Edge, *discovery.Finder, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.edge != nil {
		return a.edge, a.finder, nil
	}
	edge, err := awsx.New(ctx, awsx.Options{Clock: a.clock, Log: a.log, Load: a.opt.AWS, Limits: a.limits(),
		Share:      a.config.Limits.Safety,
		HTTPClient: a.opt.HTTPClient})
	if err != nil {
		return nil, nil, err
	}
	a.edge, a.finder = edge, discovery.New(edge, a.config)
	return a.edge, a.finder, nil
}

// protocol is how CloudWatch is spoken to.
func (a *App) protocol() cloudwatch.Protocol { return cloudwatch.Protocol(a.opt.CloudWatchProtocol) }

// settings are what evidence is read with.
func (a *App) settings() cloudwatch.Settings {
	return cloudwatch.Settings{Window: a.config.Evidence.Window, Period: a.config.Evidence.Period, History: a.config.Evidence.LookBack(),
		Protocol: a.protocol()}
}

// Database is the name of the database, without the password that its address may hold.
func (a *App) Database() string {
	if !store.IsPostgres(a.opt.DBPath) {
		return a.opt.DBPath
	}
	return store.Redacted(a.opt.DBPath)
}

// Holder names this process in leases.
func Holder() string { return holder() }

// holder names this process in leases.
func holder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}
