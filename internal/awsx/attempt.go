package awsx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Backoff before the second attempt at most, doubled for each further one up to the longest.
const (
	throttleBackoff, longestThrottleBackoff   = time.Second, 30 * time.Second
	transientBackoff, longestTransientBackoff = 200 * time.Millisecond, 10 * time.Second
)

// lookups is how often a name is looked up that the resolver does not know.
const lookups = 3

// install puts the edge into the stack of one call: outermost what turns every error into a CallError, and around the
// SDK's own Retry step (which has a NopRetryer, makes one attempt and corrects the signing clock) the loop over
// attempts. Signing comes after it, so that each attempt is signed anew.
func (s *Session) install(stack *middleware.Stack) error {
	loop := middleware.FinalizeMiddlewareFunc("ImdsctlAttempts", s.attempts)
	if err := stack.Finalize.Insert(loop, "Retry", middleware.Before); err != nil {
		return fmt.Errorf("install the AWS edge: %w", err)
	}
	errors := middleware.InitializeMiddlewareFunc("ImdsctlErrors", s.errors)
	if _, ok := stack.Initialize.Get(serviceNames); ok { // a client of the older sort: its names are known only after this step
		return stack.Initialize.Insert(errors, serviceNames, middleware.After)
	}
	return stack.Initialize.Add(errors, middleware.Before)
}

// serviceNames is the SDK's step that says which operation of which service a call is. Clients of the newer sort say so before
// any step.
const serviceNames = "RegisterServiceMetadata"

type (
	actionKey  struct{}
	sessionKey struct{}
)

// errors is the outermost step.
func (s *Session) errors(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
	middleware.InitializeOutput, middleware.Metadata, error,
) {
	act := actionOf(ctx, in.Parameters)
	inner := middleware.WithStackValue(middleware.WithStackValue(ctx, actionKey{}, act), sessionKey{}, s)
	out, metadata, err := next.HandleInitialize(inner, in)
	if err == nil {
		return out, metadata, nil
	}
	if call, ok := errors.AsType[*fleet.CallError](err); ok {
		return out, metadata, call
	}
	if ctx.Err() != nil {
		return out, metadata, s.callError(act, cancelled(ctx))
	}
	// The call failed before its first attempt: parameters that cannot be sent.
	return out, metadata, s.callError(act, withoutAnswer(err))
}

// attempts is the loop.
func (s *Session) attempts(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
	middleware.FinalizeOutput, middleware.Metadata, error,
) {
	act, _ := middleware.GetStackValue(ctx, actionKey{}).(action)
	c := &call{session: s, action: act, hints: hintsOf(ctx)}
	for {
		c.attempt++
		out, metadata, f := c.try(ctx, in, next)
		if f == nil {
			return out, metadata, nil
		}
		if f.class == fleet.ErrLate && c.unknown {
			f.class = fleet.ErrTransient // this attempt was not sent, but one before it was
		}
		c.unknown = c.unknown || f.class == fleet.ErrTransient && !f.unsent
		if !c.again(ctx, f) {
			return out, metadata, s.callError(act, *f)
		}
	}
}

func (s *Session) callError(act action, f failure) error {
	return &fleet.CallError{
		Class: f.class, Place: s.place, Action: act.name, Code: f.code, RequestID: f.requestID, Err: f.err,
	}
}

// call is one call on its way through its attempts.
type call struct {
	session   *Session
	action    action
	hints     hints
	attempt   int
	first     time.Time // when the first attempt was sent
	creds     aws.Credentials
	refreshed bool
	resigned  bool
	unknown   bool // an attempt may have reached AWS, and had no answer
}

// try makes one attempt; a nil failure is a success.
func (c *call) try(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
	out middleware.FinalizeOutput, metadata middleware.Metadata, f *failure,
) {
	// Credentials come first: what is not sent takes no token.
	creds, err := c.session.creds.Retrieve(ctx)
	if err != nil {
		return out, metadata, noCredentials(ctx, err)
	}
	c.creds = creds
	waited, err := c.admit(ctx)
	if err != nil {
		return out, metadata, notAdmitted(ctx, err)
	}
	if c.attempt > 1 {
		if r, ok := in.Request.(interface{ RewindStream() error }); ok {
			if err := r.RewindStream(); err != nil {
				err = fmt.Errorf("send the request again: %w", err)
				return out, metadata, &failure{class: fleet.ErrOther, err: err, final: true}
			}
		}
	}
	return c.send(ctx, waited, in, next)
}

// admit takes the tokens of one attempt.
func (c *call) admit(ctx context.Context) (time.Duration, error) {
	b := c.session.edge.buckets
	waited, err := b.of(c.session.place, c.action.bucket).take(ctx, 1, c.hints.until)
	if err != nil || c.hints.bucket == "" {
		return waited, err
	}
	more, err := b.of(c.session.place, c.hints.bucket).take(ctx, c.hints.tokens, c.hints.until)
	return waited + more, err
}

func (c *call) send(
	ctx context.Context, waited time.Duration, in middleware.FinalizeInput, next middleware.FinalizeHandler,
) (out middleware.FinalizeOutput, metadata middleware.Metadata, f *failure) {
	e := c.session.edge
	attemptCtx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	sent := e.clock.Now()
	if c.first.IsZero() {
		c.first = sent
	}
	out, metadata, err := next.HandleFinalize(attemptCtx, in)
	ended := e.clock.Now()
	record := CallRecord{
		Time: sent, Place: c.session.place, Action: c.action.name, Attempt: c.attempt, Purpose: c.hints.purpose,
		Waited: waited, Duration: ended.Sub(sent),
	}
	record.RequestID, _ = awsmiddleware.GetRequestIDMetadata(metadata)
	if response, ok := awsmiddleware.GetRawResponse(metadata).(*smithyhttp.Response); ok && response != nil {
		record.Status = response.StatusCode
		c.session.noteSkew(metadata, response, ended)
	}
	if err != nil {
		f = c.understand(ctx, attemptCtx, err)
		f.resign = f.resign || f.code == expiredCode && offClock(metadata)
		f.requestID = record.RequestID
		record.Code, record.Throttled = f.code, f.class == fleet.ErrThrottled
		if f.code != dryRunCode {
			record.Class = f.class
		}
	}
	c.session.record(record)
	return out, metadata, f
}

func (c *call) understand(ctx, attemptCtx context.Context, err error) *failure {
	if ctx.Err() != nil {
		f := cancelled(ctx)
		return &f
	}
	f := understand(c.action.name, err, []string{c.creds.SecretAccessKey, c.creds.SessionToken})
	if attemptCtx.Err() != nil && f.code == "" {
		// Not wrapped: this deadline is ours, not the caller's.
		f = failure{class: fleet.ErrTransient, err: fmt.Errorf("no answer from AWS within %s", c.session.edge.timeout)}
	}
	return &f
}

// again decides whether to make another attempt, and waits until it is due.
func (c *call) again(ctx context.Context, f *failure) bool {
	if f.final || f.code == dryRunCode {
		return false
	}
	switch f.class {
	case fleet.ErrExpired:
		return c.renew(ctx, f)
	case fleet.ErrThrottled:
		delay := c.backoff(throttleBackoff, longestThrottleBackoff)
		c.session.edge.buckets.of(c.session.place, c.action.bucket).throttled(delay)
		return c.wait(ctx, f, delay)
	case fleet.ErrTransient:
		if !c.action.read && !c.hints.idempotent && !f.unsent {
			return false
		}
		return c.wait(ctx, f, c.backoff(transientBackoff, longestTransientBackoff))
	case fleet.ErrNotOffered:
		// A resolver that has only just come up says the same; that is soon over.
		return f.unsent && c.attempt < lookups && c.wait(ctx, f, c.backoff(transientBackoff, longestTransientBackoff))
	default:
		return f.resign && c.resign()
	}
}

// renew handles refused credentials: the signing clock corrected once, then fresh credentials once. If those are
// refused as well where a region may be disabled, that is what it means; where it may not, a role's credentials that STS
// gave out a moment ago mean that the account as such is shut, which is no matter of the caller's login.
func (c *call) renew(ctx context.Context, f *failure) bool {
	if f.resign && c.resign() {
		return true
	}
	if !c.refreshed {
		c.refreshed = true
		changed, err := c.session.creds.refresh(ctx, c.creds)
		if err != nil {
			*f = *noCredentials(ctx, err)
			return false
		}
		if changed {
			return true
		}
	}
	if disabledCodes[f.code] && !alwaysEnabled[c.session.place.Region] && c.session.credentialsWork(ctx) {
		f.class = fleet.ErrRegionDisabled
		return false
	}
	if disabledCodes[f.code] && c.session.creds.renewable() {
		f.class = fleet.ErrDenied
		f.err = fmt.Errorf("AWS gives out credentials of this account's role and refuses them; the account may be closed or "+
			"suspended: %w", f.err)
	}
	return false
}

func (c *call) resign() bool {
	again := !c.resigned
	c.resigned = true
	return again
}

// backoff is full jitter: anything from nothing to the doubled base ("Exponential Backoff And Jitter", AWS Architecture
// Blog).
func (c *call) backoff(base, longest time.Duration) time.Duration {
	most := min(longest, base<<min(c.attempt-1, 16))
	return time.Duration(c.session.edge.jitter() * float64(most))
}

// wait sleeps before another attempt, if there is to be one.
func (c *call) wait(ctx context.Context, f *failure, delay time.Duration) bool {
	e := c.session.edge
	due := e.clock.Now().Add(delay)
	if c.attempt >= e.maxAttempts || due.Sub(c.first) > e.maxElapsed {
		return false
	}
	if !c.hints.until.IsZero() && !due.Before(c.hints.until) {
		return false
	}
	if err := e.clock.Sleep(ctx, delay); err != nil {
		*f = cancelled(ctx)
		return false
	}
	return true
}

// disabledCodes are what services say in a region that the account has not enabled, as well as of credentials that are
// wrong everywhere.
var disabledCodes = map[string]bool{
	"AuthFailure": true, "InvalidClientTokenId": true, "UnrecognizedClientException": true, "InvalidToken": true,
}

// alwaysEnabled are the regions that cannot be disabled ("Enable or disable AWS Regions in your account"). All regions
// that came after March 20, 2019 must be enabled first; the other partitions have none of those.
var alwaysEnabled = map[fleet.Region]bool{
	"": true, "us-east-1": true, "us-east-2": true, "us-west-1": true, "us-west-2": true, "ap-south-1": true,
	"ap-northeast-1": true, "ap-northeast-2": true, "ap-northeast-3": true, "ap-southeast-1": true, "ap-southeast-2": true,
	"ca-central-1": true, "eu-central-1": true, "eu-west-1": true, "eu-west-2": true, "eu-west-3": true,
	"eu-north-1": true,
	"sa-east-1":  true, "cn-north-1": true, "cn-northwest-1": true, "us-gov-west-1": true, "us-gov-east-1": true,
}

// credentialsWork asks STS, in the region where it surely answers, whether the session's credentials are good.
func (s *Session) credentialsWork(ctx context.Context) bool {
	region := s.edge.stsRegion(s.place.Partition)
	if !alwaysEnabled[region] {
		region = s.place.Partition.HomeRegion()
	}
	if region == s.place.Region {
		return false
	}
	_, err := s.identityAt(withoutHints(ctx), region)
	return err == nil
}

// noCredentials is the failure of a call whose credentials could not be had. Its class is that of the STS call's.
func noCredentials(ctx context.Context, err error) *failure {
	if ctx.Err() != nil {
		f := cancelled(ctx)
		return &f
	}
	f := failure{class: fleet.ErrExpired, err: err, final: true}
	if inner, ok := errors.AsType[*fleet.CallError](err); ok {
		f.class, f.code = inner.Class, inner.Code
	}
	return &f
}

func notAdmitted(ctx context.Context, err error) *failure {
	if ctx.Err() != nil {
		f := cancelled(ctx)
		return &f
	}
	return &failure{class: fleet.ErrThrottled, err: err, final: true}
}

// noteSkew keeps the difference of the clocks, unless a cache answered.
func (s *Session) noteSkew(metadata middleware.Metadata, response *smithyhttp.Response, now time.Time) {
	if at, ok := awsmiddleware.GetServerTime(metadata); ok && response.Header.Get("Age") == "" {
		skew := at.Sub(now)
		s.skew.Store(&skew)
		s.edge.skew.Store(&skew)
	}
}

func (s *Session) record(r CallRecord) {
	s.edge.stats.add(r)
	s.edge.recorder.Call(r)
	s.edge.log.LogAttrs(context.Background(), slog.LevelDebug, "aws call",
		slog.String("action", r.Action), slog.String("place", r.Place.String()), slog.Int("attempt", r.Attempt),
		slog.Int("status", r.Status), slog.String("code", r.Code), slog.String("class", string(r.Class)),
		slog.Duration("waited", r.Waited), slog.Duration("duration", r.Duration), slog.String("request", r.RequestID))
}
