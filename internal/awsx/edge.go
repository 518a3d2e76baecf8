// Package awsx is the AWS edge: the one place where imdsctl gets credentials, spends API limits, retries, and decides
// what a failed call means. It hands out an aws.Config per place (account and region); kinds and evidence sources
// construct their own service clients from it and need not think of any of these things.
//
// What every client made from a Session's Config gets, attempt by attempt:
//
//   - a token from the bucket of (account, region, action) before anything is sent, so that one busy or throttled place
//     slows only itself;
//   - a signature of its own, a rewound body and a timeout;
//   - an error class (fleet.ErrorClass), decided once here;
//   - a retry with full-jitter backoff where repeating is safe, on the Edge's clock. A write whose effect is unknown is
//     never sent again, unless the caller marked its context with Idempotent;
//   - a CallRecord, exactly one for each attempt, never with a secret in it.
//
// Every error that such a client returns contains a *fleet.CallError. A call that was cancelled satisfies
// errors.Is(err, context.Canceled) as well; its class is transient, because the effect of a cancelled write is unknown.
//
// The package imports fleet, clock and the SDK's core with STS. It keeps no state on disk: an interruption leaves
// nothing behind but calls that may or may not have reached AWS.
package awsx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Defaults of Options.
const (
	// DefaultShare is the part of each published limit that imdsctl uses. The rest is left to everybody else in the
	// account, for whom a throttled console or autoscaler would be a disruption.
	DefaultShare = 0.9
	// DefaultAttemptTimeout bounds one attempt, from connecting to the last byte of the answer.
	DefaultAttemptTimeout = 30 * time.Second
	// DefaultMaxAttempts bounds the attempts of one call.
	DefaultMaxAttempts = 8
	// DefaultMaxElapsed bounds the time from a call's first attempt to the start of its last.
	DefaultMaxElapsed = 3 * time.Minute
)

// Options configure an Edge. Only Clock is required.
type Options struct {
	Clock clock.Clock
	// Log gets one debug line for each attempt. Nil discards them.
	Log *slog.Logger
	// Load gives the caller's own configuration. Nil means config.LoadDefaultConfig, which reads the standard variables
	// and files (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, ~/.aws/config…) as any AWS tool does, but never asks by IMDSv1.
	Load func(context.Context) (aws.Config, error)
	// Recorder gets every attempt. Nil drops them.
	Recorder Recorder
	// Limits override the published limits. A key is an action ("ec2:DescribeInstances") or a pattern with one star
	// ("ec2:Describe*", "*"); among several that match, the longest counts.
	Limits map[string]Limit
	// Share is the part of a limit that is used, 0 < Share ≤ 1. Zero means DefaultShare.
	Share float64
	// AttemptTimeout, in real time even if Clock is not. Zero means DefaultAttemptTimeout.
	AttemptTimeout time.Duration
	// MaxAttempts of one call. Zero means DefaultMaxAttempts.
	MaxAttempts int
	// MaxElapsed bounds a call's retries. Zero means DefaultMaxElapsed.
	MaxElapsed time.Duration
	// HTTPClient sends the requests of every session. Nil means the one that Load gave, with its connections shared
	// between all clients.
	HTTPClient aws.HTTPClient
	// Jitter gives numbers in [0,1) for the backoff. Nil means math/rand.
	Jitter func() float64
}

// Edge is the caller's way to AWS. It is safe for many goroutines.
type Edge struct {
	clock       clock.Clock
	log         *slog.Logger
	recorder    Recorder
	base        aws.Config
	own         *credentialCache
	timeout     time.Duration
	maxAttempts int
	maxElapsed  time.Duration
	jitter      func() float64
	buckets     *buckets
	stats       stats
	skew        atomic.Pointer[time.Duration]

	identity caller
	mu       sync.Mutex
	roles    map[string]*credentialCache
}

// New loads the caller's configuration. It makes no AWS call of its own (credentials are looked up when first needed).
func New(ctx context.Context, o Options) (*Edge, error) {
	if o.Clock == nil {
		return nil, errors.New("AWS edge: a clock is required")
	}
	if o.Share == 0 {
		o.Share = DefaultShare
	}
	if o.Share < 0 || o.Share > 1 {
		return nil, fmt.Errorf("AWS limits: a share of %v is not between 0 and 1", o.Share)
	}
	if err := validLimits(o.Limits); err != nil {
		return nil, err
	}
	load := o.Load
	if load == nil {
		load = loadOwn
	}
	base, err := load(ctx)
	if err != nil {
		return nil, fmt.Errorf("load the AWS configuration (AWS_PROFILE, AWS_REGION, ~/.aws/config): %w", err)
	}
	e := &Edge{
		clock: o.Clock, log: o.Log, recorder: o.Recorder, jitter: o.Jitter,
		timeout: o.AttemptTimeout, maxAttempts: o.MaxAttempts, maxElapsed: o.MaxElapsed,
		buckets:  newBuckets(o.Clock, o.Limits, o.Share),
		identity: caller{turn: make(chan struct{}, 1)},
		roles:    map[string]*credentialCache{},
	}
	e.defaults()
	e.base = tame(base, o.HTTPClient, o.Clock)
	e.own = ownCredentials(e.base.Credentials)
	return e, nil
}

func (e *Edge) defaults() {
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.recorder == nil {
		e.recorder = RecorderFunc(func(CallRecord) {})
	}
	if e.jitter == nil {
		e.jitter = rand.Float64
	}
	if e.timeout <= 0 {
		e.timeout = DefaultAttemptTimeout
	}
	if e.maxAttempts <= 0 {
		e.maxAttempts = DefaultMaxAttempts
	}
	if e.maxElapsed <= 0 {
		e.maxElapsed = DefaultMaxElapsed
	}
}

// tame turns off what the edge does by itself (retries) or must never happen (requests with credentials in a log).
func tame(cfg aws.Config, client aws.HTTPClient, clk clock.Clock) aws.Config {
	cfg = cfg.Copy()
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	cfg.RetryMaxAttempts = 0 // AWS_MAX_ATTEMPTS would wrap the retryer above
	cfg.ClientLogMode = 0
	if client != nil {
		cfg.HTTPClient = ownBody{client, clk}
		return cfg
	}
	// A buildable client is rebuilt, connection pool and all, in each service client: thousands of pools to the same
	// hosts. A frozen one is shared as it is. A custom CA bundle (AWS_CA_BUNDLE) is in it already.
	buildable, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if cfg.HTTPClient == nil {
		buildable, ok = awshttp.NewBuildableClient(), true
	}
	if ok {
		cfg.HTTPClient = buildable.WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns, t.MaxIdleConnsPerHost = 512, 64
		}).Freeze()
	}
	cfg.HTTPClient = ownBody{cfg.HTTPClient, clk}
	return cfg
}

// Drain empties the buckets of a place, those not used yet included. Whoever takes a place over from another process
// asks for it, because the one before may have spent the burst a moment ago.
func (e *Edge) Drain(place fleet.Place) { e.buckets.drain(place) }

// Stats tells what was called so far.
func (e *Edge) Stats() Stats { return e.stats.snapshot() }

// Skew is AWS's clock minus ours, from the Date header of the last answer (a second's precision); false before the
// first. AWS refuses signatures that are more than five minutes off.
func (e *Edge) Skew() (time.Duration, bool) {
	if d := e.skew.Load(); d != nil {
		return *d, true
	}
	return 0, false
}

// Region is the caller's configured region, or "" where none is configured.
func (e *Edge) Region() fleet.Region { return fleet.Region(e.base.Region) }

// Endpoint is the endpoint that AWS_ENDPOINT_URL or the profile puts in the place of AWS's own, or "".
func (e *Edge) Endpoint() string { return aws.ToString(e.base.BaseEndpoint) }
