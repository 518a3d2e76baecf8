package awsx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/logging"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// failing answers the first n calls of an action with an error.
func failing(action string, n int, a answer) func(seen) (answer, bool) {
	return func(s seen) (answer, bool) { return a, s.Action == action && s.N <= n }
}

var (
	throttle   = answer{status: 400, code: "ThrottlingException", message: "Rate exceeded"}
	internal   = answer{status: 500, code: "InternalServiceError", message: "oops"}
	dropped    = answer{reset: true}
	expired    = answer{status: 403, code: "ExpiredTokenException", message: "The security token included in the request is expired"}
	notAllowed = answer{status: 403, code: "AccessDeniedException", message: "You may not"}
)

func TestRetries(t *testing.T) {
	const listAll, set = "ListMetrics", "SetAlarmState"
	for _, tc := range []struct {
		name   string
		action string
		fail   answer
		times  int
		mark   bool
		calls  int
		class  fleet.ErrorClass
	}{
		{"throttled read", listAll, throttle, 3, false, 4, ""},
		{"throttled write was not accepted", set, throttle, 3, false, 4, ""},
		{"throttled for good", listAll, throttle, 99, false, 8, fleet.ErrThrottled},
		{"fault on a read", listAll, internal, 2, false, 3, ""},
		{"fault on a read for good", listAll, internal, 99, false, 8, fleet.ErrTransient},
		{"fault on a write: effect unknown", set, internal, 1, false, 1, fleet.ErrTransient},
		{"fault on a marked write", set, internal, 2, true, 3, ""},
		{"dropped connection on a read", listAll, dropped, 2, false, 3, ""},
		{"dropped connection on a write: effect unknown", set, dropped, 1, false, 1, fleet.ErrTransient},
		{"dropped connection on a marked write", set, dropped, 1, true, 2, ""},
		{"garbage for an answer to a read", listAll, answer{body: "<html>"}, 1, false, 2, ""},
		{"garbage for an answer to a write: effect unknown", set, answer{status: 502, body: "<html>"}, 1, false, 1, fleet.ErrTransient},
		{"denied", listAll, notAllowed, 1, false, 1, fleet.ErrDenied},
		{"conflict on a marked write", set, answer{status: 400, code: "ResourceInUseException"}, 1, true, 1, fleet.ErrConflict},
		{"dry run", set, answer{status: 412, code: "DryRunOperation"}, 1, true, 1, fleet.ErrOther},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.on = failing(tc.action, tc.times, tc.fail)
			s := f.edge().Session(own, awsx.Role{})
			ctx := t.Context()
			if tc.mark {
				ctx = awsx.Idempotent(ctx)
			}
			call := read
			if tc.action == set {
				call = write
			}
			err := call(ctx, s)
			if got := fleet.ClassOf(err); got != tc.class {
				t.Errorf("class %q, want %q: %v", got, tc.class, err)
			}
			sent := f.seen(tc.action)
			if len(sent) != tc.calls {
				t.Fatalf("%d calls, want %d", len(sent), tc.calls)
			}
			for _, again := range sent[1:] {
				if again.Body != sent[0].Body || again.Body == "" {
					t.Errorf("attempt %d has another body: %q", again.N, again.Body)
				}
				if again.Signature == "" || again.AccessKey != baseKey {
					t.Errorf("attempt %d is not signed", again.N)
				}
			}
			if tc.class != "" {
				call, ok := errors.AsType[*fleet.CallError](err)
				if !ok {
					t.Fatalf("no CallError in %T", err)
				}
				if call.Place != own || call.Action != "cloudwatch:"+tc.action || call.Code != tc.fail.code {
					t.Errorf("got %+v", call)
				}
				if want := fmt.Sprintf("req-%s-%d", tc.action, tc.calls); tc.fail.code != "" && call.RequestID != want {
					t.Errorf("request id %q, want %q", call.RequestID, want)
				}
			}
		})
	}
}

func TestDryRunOK(t *testing.T) {
	f := newFake(t)
	f.on = failing("SetAlarmState", 1, answer{status: 412, code: "DryRunOperation", message: "would have succeeded"})
	e := f.edge()
	if err := write(t.Context(), e.Session(own, awsx.Role{})); !awsx.DryRunOK(err) {
		t.Errorf("got %v", err)
	}
	if got := e.Stats().ByAction["cloudwatch:SetAlarmState"]; got != (awsx.Counts{Calls: 1}) {
		t.Errorf("a permitted dry run is no error: %+v", got)
	}
	f.on = failing("SetAlarmState", 9, notAllowed)
	if err := write(t.Context(), e.Session(own, awsx.Role{})); awsx.DryRunOK(err) || err == nil {
		t.Errorf("got %v", err)
	}
	if awsx.DryRunOK(nil) || awsx.DryRunOK(errors.New("DryRunOperation")) {
		t.Error("only AWS's own answer counts")
	}
}

func TestBackoffIsExponentialOnTheEdgesClock(t *testing.T) {
	f := newFake(t)
	f.on = failing("ListMetrics", 4, internal)
	if err := read(t.Context(), f.edge().Session(own, awsx.Role{})); err != nil {
		t.Fatal(err)
	}
	var gaps []time.Duration
	sent := f.seen("ListMetrics")
	for i := range sent[1:] {
		gaps = append(gaps, sent[i+1].Time.Sub(sent[i].Time))
	}
	want := []time.Duration{100, 200, 400, 800} // half of 200 ms, doubled each time
	for i := range want {
		if gaps[i] != want[i]*time.Millisecond {
			t.Errorf("gaps %v, want %v ms", gaps, want)
		}
	}
}

func TestRetriesEndWithTheirTime(t *testing.T) {
	f := newFake(t)
	f.on = failing("ListMetrics", 99, throttle)
	e := f.edge(func(o *awsx.Options) { o.MaxElapsed = 4 * time.Second; o.MaxAttempts = 50 })
	if got := fleet.ClassOf(read(t.Context(), e.Session(own, awsx.Role{}))); got != fleet.ErrThrottled {
		t.Errorf("class %q", got)
	}
	if last := f.clock.Now().Sub(epoch); last > 4*time.Second+time.Second {
		t.Errorf("went on for %s", last)
	}

	until := f.clock.Now().Add(2 * time.Second)
	err := read(awsx.Until(t.Context(), until), e.Session(own, awsx.Role{}))
	if got := fleet.ClassOf(err); got != fleet.ErrThrottled {
		t.Errorf("class %q", got)
	}
	for _, s := range f.seen("ListMetrics") {
		if !s.Time.Before(until) {
			t.Errorf("an attempt started at %s, after %s", s.Time, until)
		}
	}
}

func TestEachAttemptIsSignedAnew(t *testing.T) {
	f := newFake(t)
	f.life = 20 * time.Minute
	f.on = func(s seen) (answer, bool) {
		if s.Action == "ListMetrics" && s.N == 1 {
			f.clock.Advance(30 * time.Minute) // a slow answer: the credentials are past their end at the next attempt
			return internal, true
		}
		return answer{}, false
	}
	e := f.edge(func(o *awsx.Options) { o.MaxElapsed = time.Hour })
	if err := read(t.Context(), e.Session(member, reader)); err != nil {
		t.Fatal(err)
	}
	sent := f.seen("ListMetrics")
	if len(sent) != 2 || sent[0].AccessKey == sent[1].AccessKey || sent[0].Signature == sent[1].Signature {
		t.Errorf("the second attempt was signed as the first: %+v", sent)
	}
}

func TestAssumedRole(t *testing.T) {
	f := newFake(t)
	rec := &recording{}
	e := f.edge(func(o *awsx.Options) { o.Recorder = rec })
	there := member
	there.Region = "us-west-2"
	for _, place := range []fleet.Place{member, there, member} {
		s := e.Session(place, reader)
		if s.Place() != place || s.Config().Region != string(place.Region) {
			t.Errorf("session of %s: %s, region %s", place, s.Place(), s.Config().Region)
		}
		if err := read(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	assumed := f.seen("AssumeRole")
	if len(assumed) != 1 {
		t.Fatalf("the role was assumed %d times, once is enough for all regions", len(assumed))
	}
	a := assumed[0]
	if a.Form.Get("RoleArn") != "arn:aws:iam::222222222222:role/imdsctl-read" || a.Form.Get("ExternalId") != "ext-1" ||
		a.Form.Get("RoleSessionName") != "imdsctl" || a.Form.Get("DurationSeconds") != "3600" {
		t.Errorf("assumed with %v", a.Form)
	}
	if a.Region != "eu-west-1" || a.AccessKey != baseKey {
		t.Errorf("assumed in %s by %s", a.Region, a.AccessKey)
	}
	for i, s := range f.seen("ListMetrics") {
		if s.AccessKey != "ASIA2222222222221" || s.Token != "token-of-ASIA2222222222221" {
			t.Errorf("call %d was made by %s", i, s.AccessKey)
		}
	}
	if got := rec.of("sts:AssumeRole"); len(got) != 1 || got[0].Place != own {
		t.Errorf("AssumeRole is charged to the caller's account: %+v", got)
	}
}

func TestAssumedCredentialsAreReplacedEarly(t *testing.T) {
	f := newFake(t)
	s := f.edge().Session(member, reader)
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {54 * time.Minute, 1}, {time.Minute + time.Second, 2}, {time.Minute, 2}} {
		f.clock.Advance(step.after)
		if err := read(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if got := len(f.seen("AssumeRole")); got != step.want {
			t.Errorf("at %s: assumed %d times, want %d", f.clock.Now().Sub(epoch), got, step.want)
		}
	}
}

func TestExpiredCredentialsAreRefreshedOnce(t *testing.T) {
	t.Run("then the call goes on, a write too", func(t *testing.T) {
		f := newFake(t)
		f.on = failing("SetAlarmState", 1, expired)
		if err := write(t.Context(), f.edge().Session(member, reader)); err != nil {
			t.Fatal(err)
		}
		sent := f.seen("SetAlarmState")
		if len(sent) != 2 || sent[1].AccessKey == sent[0].AccessKey {
			t.Errorf("sent %+v", sent)
		}
	})
	t.Run("and no more", func(t *testing.T) {
		f := newFake(t)
		f.on = failing("SetAlarmState", 99, expired)
		err := write(t.Context(), f.edge().Session(member, reader))
		if fleet.ClassOf(err) != fleet.ErrExpired || len(f.seen("SetAlarmState")) != 2 || len(f.seen("AssumeRole")) != 2 {
			t.Errorf("%d calls, %d roles assumed: %v", len(f.seen("SetAlarmState")), len(f.seen("AssumeRole")), err)
		}
	})
	t.Run("not at all where there are no others", func(t *testing.T) {
		f := newFake(t)
		f.on = failing("SetAlarmState", 99, expired)
		err := write(t.Context(), f.edge().Session(own, awsx.Role{}))
		if fleet.ClassOf(err) != fleet.ErrExpired || len(f.seen("SetAlarmState")) != 1 {
			t.Errorf("%d calls: %v", len(f.seen("SetAlarmState")), err)
		}
	})
	t.Run("by one of many callers", func(t *testing.T) {
		f := newFake(t)
		f.on = func(s seen) (answer, bool) {
			return expired, s.Action == "ListMetrics" && s.AccessKey == "ASIA2222222222221"
		}
		s := f.edge().Session(member, reader)
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				if err := read(t.Context(), s); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := len(f.seen("AssumeRole")); got != 2 {
			t.Errorf("the role was assumed %d times, want 2", got)
		}
	})
}

func TestRoleChain(t *testing.T) {
	f := newFake(t)
	rec := &recording{}
	e := f.edge(func(o *awsx.Options) { o.Recorder = rec })
	role := awsx.Role{
		Name: "imdsctl-write", ExternalID: "inner", SessionName: "ops",
		Via: &awsx.Role{ARN: "arn:{partition}:iam::" + hubAccount + ":role/hub", ExternalID: "outer"},
	}
	if err := write(t.Context(), e.Session(member, role)); err != nil {
		t.Fatal(err)
	}
	assumed := f.seen("AssumeRole")
	if len(assumed) != 2 {
		t.Fatalf("assumed %d roles, want 2", len(assumed))
	}
	for i, want := range []struct{ arn, external, session, by string }{
		{"arn:aws:iam::333333333333:role/hub", "outer", "imdsctl", baseKey},
		{"arn:aws:iam::222222222222:role/imdsctl-write", "inner", "ops", "ASIA3333333333331"},
	} {
		a := assumed[i]
		if a.Form.Get("RoleArn") != want.arn || a.Form.Get("ExternalId") != want.external ||
			a.Form.Get("RoleSessionName") != want.session || a.AccessKey != want.by {
			t.Errorf("step %d: %v by %s", i, a.Form, a.AccessKey)
		}
	}
	if got := f.seen("SetAlarmState")[0].AccessKey; got != "ASIA2222222222222" {
		t.Errorf("written by %s", got)
	}
	records := rec.of("sts:AssumeRole")
	if records[0].Place.Account != callerAccount || records[1].Place.Account != hubAccount {
		t.Errorf("charged to %s and %s", records[0].Place, records[1].Place)
	}
}

func TestRoleThatMayNotBeAssumed(t *testing.T) {
	f := newFake(t)
	f.on = failing("AssumeRole", 99, answer{status: 403, code: "AccessDenied", message: "not authorized to perform: sts:AssumeRole"})
	e := f.edge()
	for range 3 { // the refusal is believed for a while
		err := read(t.Context(), e.Session(member, reader))
		call, ok := errors.AsType[*fleet.CallError](err)
		if !ok || call.Class != fleet.ErrDenied || call.Place != member || call.Action != "cloudwatch:ListMetrics" || call.Code != "AccessDenied" {
			t.Fatalf("got %+v", call)
		}
		for _, part := range []string{"assume role arn:aws:iam::222222222222:role/imdsctl-read", "not authorized to perform"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
	}
	if len(f.seen("AssumeRole")) != 1 || len(f.seen("ListMetrics")) != 0 {
		t.Errorf("%d AssumeRole, %d ListMetrics", len(f.seen("AssumeRole")), len(f.seen("ListMetrics")))
	}
	f.clock.Advance(2 * time.Minute)
	_ = read(t.Context(), e.Session(member, reader))
	if len(f.seen("AssumeRole")) != 2 {
		t.Error("the refusal was believed for ever")
	}
}

func TestNeverTheWrongAccount(t *testing.T) {
	f := newFake(t)
	e := f.edge()
	for name, s := range map[string]*awsx.Session{
		"no role for another account":            e.Session(member, awsx.Role{}),
		"an ARN without {account}":               e.Session(member, awsx.Role{ARN: "arn:aws:iam::" + hubAccount + ":role/r"}),
		"another partition with our credentials": e.Session(fleet.Place{Partition: "aws-cn", Account: memberAccount, Region: "cn-north-1"}, reader),
		"a role STS would refuse":                e.Session(member, awsx.Role{Name: "r", SessionName: "a b"}),
	} {
		err := read(t.Context(), s)
		if fleet.ClassOf(err) != fleet.ErrInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(f.seen("ListMetrics")); n != 0 {
		t.Errorf("%d calls were sent", n)
	}
}

func TestPartition(t *testing.T) {
	f := newFake(t)
	f.owners[baseKey] = "arn:aws-cn:iam::" + callerAccount + ":user/someone"
	e := f.edge(func(o *awsx.Options) {
		load := o.Load
		o.Load = func(ctx context.Context) (aws.Config, error) {
			cfg, err := load(ctx)
			cfg.Region = "cn-northwest-1"
			return cfg, err
		}
	})
	id, err := e.Caller(t.Context())
	if err != nil || id.Partition != fleet.PartitionChina || id.Account != callerAccount {
		t.Fatalf("%+v %v", id, err)
	}
	place := fleet.Place{Partition: "aws-cn", Account: memberAccount}
	s := e.Session(place, reader)
	if s.Config().Region != "cn-north-1" {
		t.Errorf("global services of aws-cn are in %s", s.Config().Region)
	}
	if err := read(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	a := f.seen("AssumeRole")[0]
	if a.Form.Get("RoleArn") != "arn:aws-cn:iam::222222222222:role/imdsctl-read" || a.Region != "cn-northwest-1" {
		t.Errorf("assumed %s in %s", a.Form.Get("RoleArn"), a.Region)
	}
	if n := len(f.seen("GetCallerIdentity")); n != 1 {
		t.Errorf("asked %d times who the caller is", n)
	}
}

func TestRegionDisabled(t *testing.T) {
	refuse := func(region string) func(seen) (answer, bool) {
		return func(s seen) (answer, bool) {
			return answer{status: 403, code: "UnrecognizedClientException", message: "The security token is invalid"},
				s.Action == "ListMetrics" && s.Region == region
		}
	}
	for _, tc := range []struct {
		region fleet.Region
		role   awsx.Role
		want   fleet.ErrorClass
	}{
		{"af-south-1", reader, fleet.ErrRegionDisabled},
		{"us-east-1", reader, fleet.ErrDenied}, // cannot be disabled: the account is at fault
	} {
		f := newFake(t)
		f.on = refuse(string(tc.region))
		place := member
		place.Region = tc.region
		if got := fleet.ClassOf(read(t.Context(), f.edge().Session(place, tc.role))); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.region, got, tc.want)
		}
	}
	f := newFake(t) // a role's credentials that are refused everywhere
	refused := refuse("af-south-1")
	f.on = func(s seen) (answer, bool) {
		if s.Action == "GetCallerIdentity" && s.AccessKey != baseKey {
			return answer{status: 403, code: "InvalidClientTokenId"}, true
		}
		return refused(s)
	}
	place := member
	place.Region = "af-south-1"
	if got := fleet.ClassOf(read(t.Context(), f.edge().Session(place, reader))); got != fleet.ErrDenied {
		t.Errorf("a shut account reads as %s", got)
	}
}

func TestThrottledPlaceDoesNotDelayAnother(t *testing.T) {
	f := newFake(t)
	f.on = func(s seen) (answer, bool) { return throttle, s.Action == "ListMetrics" && s.Region == "us-east-1" }
	rec := &recording{}
	e := f.edge(func(o *awsx.Options) { o.Recorder = rec })
	noisy := own
	noisy.Region = "us-east-1"
	if got := fleet.ClassOf(read(t.Context(), e.Session(noisy, awsx.Role{}))); got != fleet.ErrThrottled {
		t.Fatalf("class %q", got)
	}
	before := f.clock.Now()
	for range 20 {
		if err := read(t.Context(), e.Session(own, awsx.Role{})); err != nil {
			t.Fatal(err)
		}
	}
	if !f.clock.Now().Equal(before) {
		t.Errorf("the calls of a quiet place took %s", f.clock.Now().Sub(before))
	}
	f.on = nil // another action of the noisy place is free too; the throttled one waits for its bucket
	if err := write(t.Context(), e.Session(noisy, awsx.Role{})); err != nil {
		t.Fatal(err)
	}
	if !f.clock.Now().Equal(before) {
		t.Error("another action waited")
	}
	if err := read(t.Context(), e.Session(noisy, awsx.Role{})); err != nil {
		t.Fatal(err)
	}
	records := rec.of("cloudwatch:ListMetrics")
	if records[len(records)-1].Waited == 0 {
		t.Error("the throttled action did not wait")
	}
}

func TestLimitsHoldForRealClients(t *testing.T) {
	f := newFake(t)
	e := f.edge(func(o *awsx.Options) {
		o.Limits = map[string]awsx.Limit{"cloudwatch:ListMetrics": {Burst: 4, Refill: 2}}
		o.Share = 0.5
	})
	s := e.Session(own, awsx.Role{})
	for range 6 {
		if err := read(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	// A burst of 2, then one a second.
	if got := f.clock.Now().Sub(epoch); got < 4*time.Second || got > 4*time.Second+time.Millisecond {
		t.Errorf("6 calls took %s, want 4s", got)
	}
	e.Drain(own)
	before := f.clock.Now()
	if err := write(t.Context(), s); err != nil { // first call of its bucket: full, had the place not been drained
		t.Fatal(err)
	}
	if f.clock.Now().Equal(before) {
		t.Error("a drained place had tokens")
	}
}

func TestChargeTakesFromAnotherBucketToo(t *testing.T) {
	f := newFake(t)
	e := f.edge(func(o *awsx.Options) {
		o.Limits = map[string]awsx.Limit{awsx.DatapointsBucket: {Burst: 100, Refill: 10}}
	})
	s := e.Session(own, awsx.Role{})
	for range 3 {
		if err := read(awsx.Charge(t.Context(), awsx.DatapointsBucket, 50), s); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.clock.Now().Sub(epoch); got < 5*time.Second || got > 5*time.Second+time.Millisecond {
		t.Errorf("150 datapoints took %s, want 5s", got)
	}
}

func TestRecorderGetsEveryAttemptExactly(t *testing.T) {
	f := newFake(t)
	f.on = func(s seen) (answer, bool) {
		if s.Action != "ListMetrics" {
			return answer{}, false
		}
		switch s.N {
		case 1:
			return throttle, true
		case 2:
			return internal, true
		case 4:
			return notAllowed, true
		}
		return answer{}, false
	}
	rec := &recording{}
	e := f.edge(func(o *awsx.Options) { o.Recorder = rec })
	s := e.Session(member, reader)
	_ = read(t.Context(), s)
	_ = read(t.Context(), s)
	type row struct {
		attempt, status int
		code            string
		class           fleet.ErrorClass
		throttled       bool
	}
	want := []row{
		{1, 400, "ThrottlingException", fleet.ErrThrottled, true}, {2, 500, "InternalServiceError", fleet.ErrTransient, false},
		{3, 200, "", "", false}, {1, 403, "AccessDeniedException", fleet.ErrDenied, false},
	}
	got := rec.of("cloudwatch:ListMetrics")
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	sent := f.seen("ListMetrics")
	for i, r := range got {
		if (row{r.Attempt, r.Status, r.Code, r.Class, r.Throttled}) != want[i] {
			t.Errorf("record %d: %+v, want %+v", i, r, want[i])
		}
		if r.Place != member || r.RequestID != fmt.Sprintf("req-ListMetrics-%d", i+1) || !r.Time.Equal(sent[i].Time) {
			t.Errorf("record %d: %+v", i, r)
		}
	}
	if len(rec.records) != len(f.seen("")) {
		t.Errorf("%d records of %d requests", len(rec.records), len(f.seen("")))
	}
	stats := e.Stats()
	if stats.ByAction["cloudwatch:ListMetrics"] != (awsx.Counts{Calls: 4, Throttles: 1, Errors: 2}) ||
		stats.Counts != (awsx.Counts{Calls: 6, Throttles: 1, Errors: 2}) {
		t.Errorf("stats %+v", stats)
	}
}

func TestNoSecretGetsOut(t *testing.T) {
	f := newFake(t)
	var assumedSecrets []string
	f.on = func(s seen) (answer, bool) {
		if s.Action != "ListMetrics" {
			return answer{}, false
		}
		assumedSecrets = append(assumedSecrets, "secret-of-"+s.AccessKey, s.Token)
		if s.N%2 == 1 {
			return answer{status: 403, code: "SignatureDoesNotMatch", message: "No match.\n\nThe Canonical String for this request " +
				"should have been\nx-amz-security-token:" + s.Token}, true
		}
		return answer{status: 400, code: "Weird", message: "your token is " + s.Token}, true
	}
	var out bytes.Buffer
	rec := &recording{}
	e := f.edge(func(o *awsx.Options) {
		o.Log = slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.Recorder = rec
		load := o.Load
		o.Load = func(ctx context.Context) (aws.Config, error) {
			cfg, err := load(ctx)
			cfg.ClientLogMode = aws.LogSigning | aws.LogRequestWithBody | aws.LogResponseWithBody
			cfg.Logger = logging.NewStandardLogger(&out)
			return cfg, err
		}
	})
	for range 3 {
		err := read(t.Context(), e.Session(member, reader))
		if err == nil {
			t.Fatal("no error")
		}
		fmt.Fprintln(&out, err)
	}
	fmt.Fprintf(&out, "%+v %+v", rec.records, e.Stats())
	if len(assumedSecrets) == 0 || !strings.Contains(out.String(), "cloudwatch:ListMetrics") {
		t.Fatal("nothing was logged")
	}
	for _, secret := range append(assumedSecrets, baseSecret, baseToken) {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%q got out:\n%s", secret, out.String())
		}
	}
}

func TestCancellation(t *testing.T) {
	for name, prepare := range map[string]func(*fakeAWS, context.CancelFunc){
		"before the call": func(_ *fakeAWS, cancel context.CancelFunc) { cancel() },
		"while AWS works": func(f *fakeAWS, cancel context.CancelFunc) {
			f.on = func(s seen) (answer, bool) {
				if s.Action == "SetAlarmState" {
					cancel()
					return answer{hang: true}, true
				}
				return answer{}, false
			}
		},
		"before a retry": func(f *fakeAWS, cancel context.CancelFunc) {
			f.on = func(s seen) (answer, bool) {
				if s.Action == "SetAlarmState" {
					cancel()
					return throttle, true
				}
				return answer{}, false
			}
		},
		"while a role is assumed": func(f *fakeAWS, cancel context.CancelFunc) {
			f.on = func(s seen) (answer, bool) {
				if s.Action == "AssumeRole" {
					cancel()
					return answer{hang: true}, true
				}
				return answer{}, false
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			prepare(f, cancel)
			e := f.edge()
			err := write(ctx, e.Session(member, reader))
			if !errors.Is(err, context.Canceled) || fleet.ClassOf(err) != fleet.ErrTransient {
				t.Errorf("class %q: %v", fleet.ClassOf(err), err)
			}
			if n := len(f.seen("SetAlarmState")); n > 1 {
				t.Errorf("%d calls", n)
			}
			f.on = nil // the cancelled caller does not spoil it for others
			if err := write(t.Context(), e.Session(member, reader)); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

func TestAttemptTimeoutIsNotTheCallersDeadline(t *testing.T) {
	f := newFake(t)
	f.on = failing("SetAlarmState", 1, answer{hang: true})
	e := f.edge(func(o *awsx.Options) { o.AttemptTimeout = 300 * time.Millisecond })
	err := write(t.Context(), e.Session(own, awsx.Role{}))
	if fleet.ClassOf(err) != fleet.ErrTransient || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "300ms") {
		t.Errorf("class %q: %v", fleet.ClassOf(err), err)
	}
	f.on = failing("ListMetrics", 1, answer{hang: true})
	if err := read(t.Context(), e.Session(own, awsx.Role{})); err != nil {
		t.Errorf("a read is tried again: %v", err)
	}
}

func TestUnsentWriteIsRepeated(t *testing.T) {
	f := newFake(t)
	refusing := &refusingClient{next: http.DefaultClient, action: "SetAlarmState", times: 2}
	e := f.edge(func(o *awsx.Options) { o.HTTPClient = refusing })
	if err := write(t.Context(), e.Session(own, awsx.Role{})); err != nil {
		t.Fatal(err)
	}
	if n := len(f.seen("SetAlarmState")); n != 1 || refusing.times != 0 {
		t.Errorf("%d calls arrived, %d refusals left", n, refusing.times)
	}
}

// refusingClient fails to connect a few times.
type refusingClient struct {
	next   *http.Client
	action string
	times  int
}

func (c *refusingClient) Do(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.Header.Get("X-Amz-Target"), c.action) && c.times > 0 {
		c.times--
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	}
	return c.next.Do(r)
}

func TestParametersThatCannotBeSent(t *testing.T) {
	f := newFake(t)
	e := f.edge()
	c := watch(e.Session(own, awsx.Role{}))
	_, err := c.SetAlarmState(t.Context(), nil)
	call, ok := errors.AsType[*fleet.CallError](err)
	if !ok || call.Class != fleet.ErrInvalid || call.Action != "cloudwatch:SetAlarmState" {
		t.Errorf("got %v", err)
	}
	if len(f.seen("")) != 0 || e.Stats().Calls != 0 {
		t.Error("something was sent")
	}
	if plain := awsx.Plain(err).Error(); strings.Contains(plain, "operation error") {
		t.Errorf("not plain: %s", plain)
	}
}

func TestSkew(t *testing.T) {
	f := newFake(t)
	f.skew = -7 * time.Minute
	e := f.edge()
	s := e.Session(own, awsx.Role{})
	if _, ok := e.Skew(); ok {
		t.Error("a skew before the first answer")
	}
	if err := read(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for name, skew := range map[string]func() (time.Duration, bool){"edge": e.Skew, "session": s.Skew} {
		if got, ok := skew(); !ok || got != f.skew {
			t.Errorf("%s: %s %v", name, got, ok)
		}
	}
}

func TestSkewedSignatureIsCorrected(t *testing.T) {
	for _, code := range []string{"RequestTimeTooSkewed", "RequestExpired"} {
		f := newFake(t)
		f.skew = 24 * time.Hour
		f.on = failing("SetAlarmState", 1, answer{status: 403, code: code})
		if err := write(t.Context(), f.edge().Session(own, awsx.Role{})); err != nil {
			t.Fatal(err)
		}
		if sent := f.seen("SetAlarmState"); len(sent) != 2 || sent[0].Signature == sent[1].Signature {
			t.Errorf("%s: sent %d", code, len(sent))
		}
	}
}

// The account is shut: STS gives out credentials of its role, and nothing takes them. The caller's own login is fine.
func TestShutAccountIsDenied(t *testing.T) {
	f := newFake(t)
	refuse := func(s seen) (answer, bool) {
		return answer{status: 403, code: "InvalidClientTokenId"}, s.Action == "SetAlarmState"
	}
	f.on = refuse
	e := f.edge()
	if err := write(t.Context(), e.Session(member, reader)); fleet.ClassOf(err) != fleet.ErrDenied ||
		!strings.Contains(err.Error(), "may be closed") {
		t.Errorf("a role's: class %q: %v", fleet.ClassOf(err), err)
	}
	if n := len(f.seen("SetAlarmState")); n != 2 {
		t.Errorf("%d calls, want one with the credentials of before and one with new ones", n)
	}
	if err := write(t.Context(), e.Session(own, awsx.Role{})); fleet.ClassOf(err) != fleet.ErrExpired {
		t.Errorf("the caller's own: class %q: %v", fleet.ClassOf(err), err)
	}
}

func TestIdentity(t *testing.T) {
	f := newFake(t)
	e := f.edge()
	id, err := e.Session(member, reader).Identity(t.Context())
	if err != nil || id.Account != memberAccount || !strings.HasSuffix(id.ARN, "assumed-role/imdsctl-read/imdsctl") {
		t.Errorf("%+v %v", id, err)
	}
	if err := identity(t.Context(), e.Session(own, awsx.Role{})); err != nil {
		t.Error(err)
	}
}

func TestRoleValidate(t *testing.T) {
	via := &awsx.Role{Name: "hub"}
	for _, tc := range []struct {
		role awsx.Role
		ok   bool
	}{
		{awsx.Role{Name: "imdsctl-read"}, true},
		{awsx.Role{Name: "/path/imdsctl-read", ExternalID: "a:b/c", SessionName: "me@work", Duration: 12 * time.Hour}, true},
		{awsx.Role{ARN: "arn:{partition}:iam::{account}:role/x", Via: via}, true},
		{awsx.Role{}, false},
		{awsx.Role{ARN: "arn:aws:iam::1:user/x"}, false},
		{awsx.Role{ARN: "role/x"}, false},
		{awsx.Role{Name: "/"}, false},
		{awsx.Role{Name: "r", SessionName: "x"}, false},
		{awsx.Role{Name: "r", ExternalID: "a b"}, false},
		{awsx.Role{Name: "r", ExternalID: strings.Repeat("x", 1225)}, false},
		{awsx.Role{Name: "r", Duration: time.Minute}, false},
		{awsx.Role{Name: "r", Duration: 2 * time.Hour, Via: via}, false},
		{awsx.Role{Name: "r", Via: &awsx.Role{}}, false},
	} {
		if err := tc.role.Validate(); (err == nil) != tc.ok {
			t.Errorf("%+v: %v", tc.role, err)
		}
	}
}

func TestStandardVariables(t *testing.T) {
	f := newFake(t)
	for _, v := range []string{"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_CLOUDWATCH",
		"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_CA_BUNDLE"} {
		t.Setenv(v, "") // whatever the caller has
	}
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_ACCESS_KEY_ID", baseKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", baseSecret)
	t.Setenv("AWS_REGION", "eu-central-1")
	t.Setenv("AWS_ENDPOINT_URL", f.server.URL)
	t.Setenv("AWS_MAX_ATTEMPTS", "9") // must not bring the SDK's retries back
	f.on = failing("SetAlarmState", 9, internal)
	e := f.edge(func(o *awsx.Options) { o.Load = nil })
	if e.Region() != "eu-central-1" || e.Endpoint() != f.server.URL {
		t.Errorf("region %s, endpoint %s", e.Region(), e.Endpoint())
	}
	if err := write(t.Context(), e.Session(own, awsx.Role{})); fleet.ClassOf(err) != fleet.ErrTransient {
		t.Errorf("got %v", err)
	}
	if n := len(f.seen("SetAlarmState")); n != 1 {
		t.Errorf("%d attempts", n)
	}
	// The STS client adds a code of its own to what the SDK would retry.
	f.on = failing("GetCallerIdentity", 99, answer{status: 400, code: "IDPCommunicationError"})
	before := len(f.seen("GetCallerIdentity"))
	if err := identity(t.Context(), e.Session(own, awsx.Role{})); fleet.ClassOf(err) != fleet.ErrTransient {
		t.Errorf("got %v", err)
	}
	if n := len(f.seen("GetCallerIdentity")) - before; n != awsx.DefaultMaxAttempts {
		t.Errorf("%d attempts, want ours only", n)
	}
}

func TestNewRefuses(t *testing.T) {
	ok := func(context.Context) (aws.Config, error) { return aws.Config{}, nil }
	c := clock.NewManual(epoch)
	for name, o := range map[string]awsx.Options{
		"no clock":   {Load: ok},
		"bad share":  {Clock: c, Load: ok, Share: 2},
		"bad limit":  {Clock: c, Load: ok, Limits: map[string]awsx.Limit{"*": {}}},
		"bad config": {Clock: c, Load: func(context.Context) (aws.Config, error) { return aws.Config{}, errors.New("no such profile") }},
	} {
		if _, err := awsx.New(t.Context(), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestNoCredentials(t *testing.T) {
	f := newFake(t)
	e := f.edge(func(o *awsx.Options) {
		o.Load = func(context.Context) (aws.Config, error) {
			return aws.Config{Region: "eu-west-1", BaseEndpoint: &f.server.URL}, nil
		}
	})
	err := read(t.Context(), e.Session(member, reader))
	if fleet.ClassOf(err) != fleet.ErrExpired || !strings.Contains(err.Error(), "AWS_PROFILE") {
		t.Errorf("class %q: %v", fleet.ClassOf(err), err)
	}
	if len(f.seen("")) != 0 {
		t.Error("something was sent")
	}
}

// The SDK closes the body of a request once the answer begins: what the transport reads must not be that body.
func TestTheTransportHasABodyOfItsOwn(t *testing.T) {
	f := newFake(t)
	var sdk, sent atomic.Int32
	inner := http.DefaultTransport.(*http.Transport).Clone()
	e := f.edge(func(o *awsx.Options) {
		o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			if r.Body != nil && r.GetBody != nil {
				again, err := r.GetBody()
				if err != nil {
					return nil, err
				}
				body, err := io.ReadAll(again)
				if err != nil {
					return nil, err
				}
				sdk.Add(1)
				if len(body) > 0 && int64(len(body)) == r.ContentLength {
					sent.Add(1)
				}
			}
			return inner.RoundTrip(r)
		})
	})
	if _, err := e.Caller(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sdk.Load() == 0 || sdk.Load() != sent.Load() {
		t.Errorf("%d requests, %d with a body that can be read again whole", sdk.Load(), sent.Load())
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }
