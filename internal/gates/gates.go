// Package gates reads what must hold before, during and after a step of a rollout: that no IMDSv1 call of a changed
// instance was refused, that its status checks pass and it still reports anything at all, that its Auto Scaling group
// and target groups find it healthy, and what a configuration's own gates say: alarms, commands and webhooks.
//
// It implements engine.GateReader and decides nothing else: when gates are read, and what follows, is the engine's and
// rollout's matter. What cannot be read is an error, never a pass. Reading changes nothing in AWS; a command and a
// webhook are asked anew at each reading and must bear that. docs/gates.md tells people what each gate means.
package gates

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/cloudwatch"
	"github.com/imdsctl/imdsctl/internal/engine"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// Names of the gates. Those of a configuration are called by type and name: "alarm checkout".
const (
	GateRejected  = string(evidence.MetricRejected)
	GateNoToken   = string(evidence.MetricNoToken)
	GateHeartbeat = "heartbeat"
	GateStatus    = "status-check"
	GateGroup     = "group-health"
	GateTarget    = "target-health"
)

// Options say how gates are read.
type Options struct {
	// Session gives the way to a place, to read there. It makes no call.
	Session func(place fleet.Place, write bool) *awsx.Session
	// Protocol is how CloudWatch is spoken to.
	Protocol cloudwatch.Protocol
	// HTTP sends webhooks; a client of its own when nil. Redirects are never followed.
	HTTP *http.Client
	// Env looks up an environment variable, for the keys of webhooks and what commands are given; os.LookupEnv when nil.
	Env func(name string) (value string, ok bool)
	// Clock bounds commands and webhooks and dates signatures. These are things of the machine and of others, so it is the
	// machine's clock when nil, also where the rollout's own runs faster.
	Clock  clock.Clock
	Logger *slog.Logger
}

// Reader reads gates. It is safe for many goroutines.
type Reader struct {
	opt        Options
	registered registry
}

var _ engine.GateReader = (*Reader)(nil)

// New makes a reader.
func New(o Options) *Reader {
	if o.HTTP == nil {
		o.HTTP = &http.Client{}
	}
	if o.Env == nil {
		o.Env = os.LookupEnv
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Reader{opt: o, registered: registry{places: map[fleet.Place]*registrations{}}}
}

// period of a reading: what EC2 sends without detailed monitoring.
const period = 5 * time.Minute

// ReadGates implements engine.GateReader. With an error it gives what was read before it, as a failure.
func (r *Reader) ReadGates(ctx context.Context, q engine.GateQuery) (engine.GateResult, error) {
	x := &examination{q: q, out: engine.GateResult{Pass: true}}
	err := r.read(ctx, x)
	if err != nil {
		x.fail("a gate could not be read: " + err.Error())
		r.opt.Logger.DebugContext(ctx, "a gate could not be read", "stack", q.Stack, "place", q.Place, "error", err)
	}
	return x.out, err
}

// read goes through the gates, AWS's own first. A gate that fails does not keep the others from being read: people look
// at all of them.
func (r *Reader) read(ctx context.Context, x *examination) error {
	q := x.q
	session := r.opt.Session(q.Place, false)
	hosts, lightsail := newHosts(session), newVirtual(session)
	mine, err := hosts.find(ctx, q)
	if err != nil {
		return err
	}
	others, err := lightsail.find(ctx, of(q.Instances, inventory.KindLightsail))
	if err != nil {
		return err
	}
	seen := slices.Concat(mine, others)
	if q.Rules.StatusChecks {
		if err := hosts.checks(ctx, mine); err != nil {
			return err
		}
		x.status(seen)
	}
	metrics := cloudwatch.New(session, r.opt.Protocol)
	if err := x.metrics(ctx, meters{metrics, lightsail}, seen); err != nil {
		return err
	}
	if (q.Rules.GroupHealth || q.Rules.TargetHealth) && len(mine)+len(q.Groups) > 0 {
		if err := r.health(ctx, session, x, mine); err != nil {
			return err
		}
	}
	for _, g := range q.Gates {
		if err := r.further(ctx, metrics, x, g); err != nil {
			return fmt.Errorf("gate %s: %w", nameOf(g), err)
		}
	}
	return nil
}

// health reads what Auto Scaling and load balancers think of the hosts.
func (r *Reader) health(ctx context.Context, session *awsx.Session, x *examination, seen []*host) error {
	groups := newGroups(session)
	found, err := groups.find(ctx, seen, x.q.Groups)
	if err != nil {
		return err
	}
	if x.q.Rules.GroupHealth {
		x.groups(found, seen)
	}
	if x.q.Rules.TargetHealth {
		return r.targets(ctx, session, x, found, seen)
	}
	return nil
}

// further reads one gate of the configuration.
func (r *Reader) further(ctx context.Context, metrics *cloudwatch.Client, x *examination, g plan.Gate) error {
	switch g.Type {
	case plan.GateAlarm:
		return x.alarms(ctx, metrics, g)
	case plan.GateCommand:
		return r.command(ctx, x, g)
	case plan.GateWebhook:
		return r.webhook(ctx, x, g)
	default:
		return fmt.Errorf("its type %q is not known to this version of imdsctl", g.Type)
	}
}

func nameOf(g plan.Gate) string { return string(g.Type) + " " + g.Name }

// examination is one reading of all gates of a stack.
type examination struct {
	q   engine.GateQuery
	out engine.GateResult
}

// mostReadings bounds the single readings that are kept of one gate: the first few tell what is wrong.
const mostReadings = 20

// single records the reading of one resource, where there is something to tell of it.
func (x *examination) single(gate string, subject fleet.Ref, pass bool, value string) {
	n := 0
	for _, r := range x.out.Readings {
		if r.Gate == gate && r.Pass == pass {
			n++
		}
	}
	if n < mostReadings {
		x.out.Readings = append(x.out.Readings, engine.Reading{Gate: gate, Subject: subject, Value: value, Pass: pass,
			At: x.q.Now})
	}
}

// whole records what a gate says of all resources, and fails the step where it must.
func (x *examination) whole(gate string, pass bool, value, reason string) {
	x.out.Readings = append(x.out.Readings, engine.Reading{Gate: gate, Value: value, Pass: pass, At: x.q.Now})
	if !pass {
		x.fail(reason)
	}
}

// fail fails the step. The first failure is the reason.
func (x *examination) fail(reason string) {
	if x.out.Pass {
		x.out.Reason = reason
	}
	x.out.Pass = false
}

// status looks at the status checks of the hosts that run. One that is still initializing passes, and is noted.
func (x *examination) status(seen []*host) {
	var impaired, settling []string
	running := 0
	for _, h := range seen {
		switch {
		case !h.running:
			x.single(GateStatus, h.ref, true, "not asked: "+h.state)
		case h.impaired():
			running++
			impaired = append(impaired, h.ref.ID)
			x.single(GateStatus, h.ref, false, "system "+h.system+", instance "+h.instance)
		case !h.passed():
			running++
			settling = append(settling, h.ref.ID)
			x.single(GateStatus, h.ref, true, "system "+h.system+", instance "+h.instance)
		default:
			running++
		}
	}
	value := fmt.Sprintf("%d of %d running instances pass", running-len(impaired)-len(settling), running)
	if len(settling) > 0 {
		value += fmt.Sprintf(", %d are not known yet", len(settling))
	}
	x.whole(GateStatus, len(impaired) == 0, value, fmt.Sprintf("status checks of %s fail", some(impaired)))
}

func instances(n int) string {
	if n == 1 {
		return "1 instance"
	}
	return fmt.Sprintf("%d instances", n)
}

func clockTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// some names the first few.
func some(ids []string) string {
	ids = slices.Sorted(slices.Values(ids))
	if len(ids) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(ids[:3], ", "), len(ids)-3)
	}
	return strings.Join(ids, ", ")
}
