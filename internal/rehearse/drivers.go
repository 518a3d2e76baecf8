package rehearse

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/followup"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// roleName is the role that the rehearsal enters accounts by. It may do everything: roles are the doctor's matter.
const roleName = "rehearsal"

// caller is the rehearsal's own identity: the administrator of the first account.
func (s *stage) caller(places []fleet.Place) func(context.Context) (aws.Config, error) {
	return func(context.Context) (aws.Config, error) {
		if len(places) == 0 {
			return aws.Config{}, fmt.Errorf("the plan has no stack: there is nothing to rehearse")
		}
		first := places[0]
		region := first.Region
		if region == "" {
			region = first.Partition.HomeRegion()
		}
		return aws.Config{
			Region: string(region), BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: s.world.Client(),
			Credentials: credentials.NewStaticCredentialsProvider(string(first.Account), "rehearsal", ""),
		}, nil
	}
}

func (s *stage) session(place fleet.Place) *awsx.Session {
	return s.edge.Session(place, awsx.Role{Name: roleName})
}

func (s *stage) gateSession(place fleet.Place, _ bool) *awsx.Session { return s.session(place) }

// constant is a latency that is the same for each call.
func constant(d time.Duration) func(*core.Call) time.Duration {
	return func(*core.Call) time.Duration { return d }
}

// drivers are the real kinds at work in the simulated AWS.
type drivers struct {
	session func(fleet.Place) *awsx.Session
	clock   clock.Clock
	calls   awsx.Recorder

	mu   sync.Mutex
	open map[driverKey]kind.Driver
}

type driverKey struct {
	place fleet.Place
	kind  string
}

// Driver implements engine.Drivers.
func (d *drivers) Driver(place fleet.Place, kindName string) (kind.Driver, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := driverKey{place, kindName}
	if have := d.open[key]; have != nil {
		return have, nil
	}
	if d.open == nil {
		d.open = map[driverKey]kind.Driver{}
	}
	if kindName == plan.KindFollowUp {
		real := followup.NewRunner(nil).Open(d.session(place).Config(), place, d.clock)
		d.open[key] = &followUps{Driver: real, reader: real.(kind.WriteReader), clock: d.clock, calls: d.calls,
			seen: map[string]look{}, assumed: assumed{place: place}}
		return d.open[key], nil
	}
	e, ok := all.Find(kindName)
	if !ok {
		return nil, fmt.Errorf("kind %q is not known to this imdsctl", kindName)
	}
	d.open[key] = e.Open(d.session(place).Config(), place, d.clock)
	return d.open[key], nil
}

// Kind implements engine.Drivers.
func (d *drivers) Kind(name string) (kind.Kind, bool) {
	if name == plan.KindFollowUp {
		return followup.Kind(), true
	}
	e, ok := all.Find(name)
	return e.Kind, ok
}

// followUps are real as far as AWS is all they need, and the others are assumed.
type followUps struct {
	kind.Driver
	reader  kind.WriteReader
	clock   clock.Clock
	calls   awsx.Recorder
	assumed assumed

	mu   sync.Mutex
	seen map[string]look // by id
}

// look is what was seen of something that is waited for.
type look struct {
	at time.Time
	r  inventory.Resource
}

// launchLook is how often a rehearsal looks whether something was launched, at first after that time. Nothing scales out by itself
// in a copy, so that nearly all launches are waited for in vain, and a rollout would look some thirty times for each. The looks left
// out are counted as the calls that they would have been.
const launchLook = 30 * time.Minute

// actionLook is the call by which launches are looked for.
const actionLook = "ec2:DescribeInstances"

// ReadFor implements kind.WriteReader.
func (f *followUps) ReadFor(ctx context.Context, w kind.Write) (inventory.Resource, error) {
	if outside(w.Verb) {
		return f.assumed.Read(ctx, w.ID)
	}
	now := f.clock.Now()
	f.mu.Lock()
	last, ok := f.seen[w.ID]
	if !ok && len(w.Made) > 0 { // the waiting has begun
		last = look{now, inventory.Resource{Ref: fleet.Ref{Place: w.Place, Kind: plan.KindFollowUp, ID: w.ID},
			State: fleet.State{plan.FieldStatus: followup.StatusRunning}, Settling: true}}
		f.seen[w.ID], ok = last, true
	}
	f.mu.Unlock()
	if ok && last.r.Settling && now.Sub(last.at) < launchLook {
		f.calls.Call(awsx.CallRecord{Time: now, Place: w.Place, Action: actionLook})
		return last.r, nil
	}
	r, err := f.reader.ReadFor(ctx, w)
	if err == nil {
		f.mu.Lock()
		f.seen[w.ID] = look{now, r}
		f.mu.Unlock()
	}
	return r, err
}

// Write implements kind.Driver.
func (f *followUps) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	if outside(w.Verb) {
		return f.assumed.Write(ctx, w)
	}
	return f.Driver.Write(ctx, w)
}

// Find implements kind.Driver.
func (f *followUps) Find(ctx context.Context, w kind.Write) (kind.Result, error) {
	if outside(w.Verb) {
		return f.assumed.Find(ctx, w)
	}
	return f.Driver.Find(ctx, w)
}

// assumed are follow-ups that go well at once.
type assumed struct {
	place fleet.Place
	mu    sync.Mutex
	done  map[string]bool
}

func (a *assumed) Read(_ context.Context, id string) (inventory.Resource, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := inventory.Resource{Ref: fleet.Ref{Place: a.place, Kind: plan.KindFollowUp, ID: id}, State: fleet.State{}}
	if a.done[id] {
		r.State[plan.FieldStatus] = plan.StatusDone
	}
	return r, nil
}

func (a *assumed) Write(_ context.Context, w kind.Write) (kind.Result, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done == nil {
		a.done = map[string]bool{}
	}
	a.done[w.ID] = true
	return kind.Result{}, nil
}

func (a *assumed) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
