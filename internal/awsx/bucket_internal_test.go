package awsx

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

var start = time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)

func TestBucketNeverExceedsItsLimitInAnyWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := clock.NewManual(start)
		limit := Limit{Burst: rapid.Float64Range(1, 20).Draw(t, "burst"), Refill: rapid.Float64Range(0.1, 50).Draw(t, "refill")}
		share := rapid.Float64Range(0.1, 1).Draw(t, "share")
		b := newBucket(c, limit, share)
		type taking struct {
			at time.Time
			n  float64
		}
		var takings []taking
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"take", "take", "take", "take", "idle", "throttled", "drain"}).Draw(t, "step") {
			case "take":
				n := rapid.Float64Range(0.5, b.burst).Draw(t, "n")
				if _, err := b.take(t.Context(), n, time.Time{}); err != nil {
					t.Fatal(err)
				}
				takings = append(takings, taking{c.Now(), n})
			case "idle":
				c.Advance(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			case "throttled":
				b.throttled(time.Duration(rapid.IntRange(0, 3000).Draw(t, "pause")) * time.Millisecond)
			case "drain":
				b.empty(c.Now())
			}
		}
		for i := range takings {
			sum := 0.0
			for _, later := range takings[i:] {
				sum += later.n
				allowed := b.burst + b.refill*later.at.Sub(takings[i].at).Seconds()
				if sum > allowed+1e-6 {
					t.Fatalf("%v tokens in %s, %v allowed", sum, later.at.Sub(takings[i].at), allowed)
				}
			}
		}
	})
}

func TestBucketWithManyTakersKeepsItsLimit(t *testing.T) {
	c := clock.NewManual(start)
	b := newBucket(c, Limit{Burst: 10, Refill: 5}, 1)
	var wg sync.WaitGroup
	for range 60 {
		wg.Go(func() {
			if _, err := b.take(t.Context(), 1, time.Time{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// 10 at once, 50 more at 5 a second; nobody else moves this clock.
	if got := c.Now().Sub(start); got < 10*time.Second || got > 10*time.Second+time.Millisecond {
		t.Errorf("60 tokens took %s, want 10s", got)
	}
}

func TestBucketThrottledStartsFromEmptyAfterThePause(t *testing.T) {
	c := clock.NewManual(start)
	b := newBucket(c, Limit{Burst: 10, Refill: 2}, 1)
	b.throttled(3 * time.Second)
	waited, err := b.take(t.Context(), 1, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if want := 3500 * time.Millisecond; waited < want || waited > want+time.Millisecond {
		t.Errorf("waited %s, want the pause and half a second for the first token", waited)
	}
}

func TestBucketGivesUpWithoutTakingBeforeUntil(t *testing.T) {
	c := clock.NewManual(start)
	b := newBucket(c, Limit{Burst: 1, Refill: 1}, 1)
	for range 2 { // the second would fail if the first had taken the token
		if _, err := b.take(t.Context(), 1, start); !errors.Is(err, errNoToken) {
			t.Fatalf("got %v, want errNoToken", err)
		}
	}
	if _, err := b.take(t.Context(), 1, start.Add(time.Nanosecond)); err != nil {
		t.Fatalf("token was there: %v", err)
	}
	if _, err := b.take(t.Context(), 1, start.Add(500*time.Millisecond)); !errors.Is(err, errNoToken) {
		t.Fatalf("got %v, want errNoToken", err)
	}
	if c.Now() != start {
		t.Error("giving up must not wait")
	}
}

func TestBucketCancelledWhileWaiting(t *testing.T) {
	b := newBucket(clock.System(), Limit{Burst: 1, Refill: 0.0001}, 1)
	if _, err := b.take(t.Context(), 1, time.Time{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	for range 2 { // one sleeps, one waits for its turn
		go func() {
			_, err := b.take(ctx, 1, time.Time{})
			errs <- err
		}()
	}
	cancel()
	for range 2 {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}

func TestDrainEmptiesOpenAndFutureBucketsOfThePlaceOnly(t *testing.T) {
	c := clock.NewManual(start)
	bs := newBuckets(c, map[string]Limit{"*": {Burst: 10, Refill: 1}}, 1)
	here := fleet.Place{Partition: "aws", Account: "111111111111", Region: "eu-west-1"}
	there := fleet.Place{Partition: "aws", Account: "111111111111", Region: "eu-west-2"}
	open, elsewhere := bs.of(here, "a:Open"), bs.of(there, "a:Open")
	bs.drain(here)
	if wait := open.tryTake(1); wait == 0 {
		t.Error("an open bucket kept its tokens")
	}
	if wait := elsewhere.tryTake(1); wait != 0 {
		t.Error("another place was drained too")
	}
	c.Advance(2 * time.Second)
	future := bs.of(here, "a:Future")
	if future.tryTake(2) != 0 {
		t.Error("two seconds after the drain there are two tokens")
	}
	if future.tryTake(1) == 0 {
		t.Error("a bucket first used after the drain was full")
	}
}

func TestLimitFor(t *testing.T) {
	overrides := map[string]Limit{"ec2:Describe*": {7, 7}, "sts:*": {8, 8}, "sts:AssumeRole": {9, 9}}
	for _, tc := range []struct {
		name      string
		overrides map[string]Limit
		want      Limit
	}{
		{"ec2:DescribeInstances", nil, Limit{100, 20}},
		{"ec2:DescribeInstances#unfiltered", nil, Limit{50, 10}},
		{"ec2:DescribeSpotFleetRequests", nil, Limit{50, 3}},
		{"ec2:GetInstanceMetadataDefaults", nil, Limit{100, 20}},
		{"ec2:ModifyInstanceMetadataOptions", nil, Limit{100, 5}},
		{"ec2:CreateLaunchTemplateVersion", nil, Limit{100, 5}},
		{"ec2:ModifyLaunchTemplate", nil, Limit{100, 5}},
		{"ec2:ModifyImageAttribute", nil, Limit{100, 5}},
		{"ec2:ModifyInstanceMetadataDefaults", nil, Limit{2, 2}},
		{"ec2:DeleteLaunchTemplateVersions", nil, Limit{50, 5}},
		{"cloudwatch:GetMetricData", nil, Limit{50, 50}},
		{"cloudwatch:ListMetrics", nil, Limit{25, 25}},
		{DatapointsBucket, nil, Limit{198_000, 198_000}},
		{"organizations:ListAccounts", nil, Limit{8, 8}},
		{"nova:Anything", nil, Limit{10, 5}},
		{"ec2:DescribeInstances", overrides, Limit{7, 7}},
		{"ec2:DescribeInstances#unfiltered", overrides, Limit{7, 7}},
		{"ec2:ModifyLaunchTemplate", overrides, Limit{100, 5}},
		{"sts:AssumeRole", overrides, Limit{9, 9}},
		{"sts:GetCallerIdentity", overrides, Limit{8, 8}},
	} {
		if got := limitFor(tc.name, tc.overrides, defaultLimits()); got != tc.want {
			t.Errorf("%s (overrides %v): got %v, want %v", tc.name, tc.overrides != nil, got, tc.want)
		}
	}
}

func TestValidLimits(t *testing.T) {
	for _, bad := range []Limit{{0, 1}, {1, 0}, {-1, 1}, {1, -1}} {
		if validLimits(map[string]Limit{"*": bad}) == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
	if err := validLimits(map[string]Limit{"*": {1, 0.1}}); err != nil {
		t.Error(err)
	}
}
