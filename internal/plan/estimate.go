package plan

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// Estimate is how long a plan will take and what it will cost, computed from what the plan says, AWS's limits and the
// maintenance windows. It supposes that every wave is approved as soon as it may start, that no gate fails, and that nobody else
// uses the accounts' limits. A rehearsal runs the real engine instead, and says how far the two are apart.
type Estimate struct {
	// Begin is when the plan was made, End when its last stack ends.
	Begin time.Time      `json:"begin"`
	End   time.Time      `json:"end"`
	Waves []WaveEstimate `json:"waves"`
	// Limit names the calls that are waited for longest, with the place: "ec2:ModifyInstanceMetadataOptions in aws/…".
	Limit string `json:"limit,omitempty"`
	// GateCalls are AWS calls by action for reading gates, on top of the summary's calls for the changes.
	GateCalls map[string]int `json:"gate_calls,omitempty"`
	// Metrics is how many CloudWatch metrics the gates will ask for, and Dollars what AWS charges for that.
	Metrics int64   `json:"gate_metrics"`
	Dollars float64 `json:"gate_dollars"`
	// Never says why the plan cannot be estimated to its end: a stack whose calendar does not open again.
	Never string `json:"never,omitempty"`
}

// WaveEstimate is the time of one wave.
type WaveEstimate struct {
	Name  string    `json:"name"`
	Begin time.Time `json:"begin"`
	End   time.Time `json:"end"`
	// Writing is the longest time that one place is busy with the wave's changes; the rest is waiting: bakes and windows.
	Writing time.Duration `json:"writing"`
}

// Duration is how long all of it takes.
func (e *Estimate) Duration() time.Duration { return e.End.Sub(e.Begin) }

// Rates tells how many calls of an action imdsctl makes at once in a place, and how many a second after that.
type Rates func(action string) (burst, refill float64)

// What an estimate takes for granted of the time that nothing in a plan says.
const (
	// perStep is how long the last writes of a step take until they show and their gates were read.
	perStep = 5 * time.Second
	// microdollarsPerMetric is CloudWatch's price of one metric in GetMetricData.
	// https://aws.amazon.com/cloudwatch/pricing/
	microdollarsPerMetric = 10
	// metricsPerCall bounds what GetMetricData takes in one call.
	// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html
	metricsPerCall = 500
)

// NewEstimate estimates a plan whose stacks and changes are in order.
func NewEstimate(p *Plan, rates Rates) *Estimate {
	e := &estimator{plan: p, rates: rates, out: &Estimate{Begin: p.Header.Created, GateCalls: map[string]int{}},
		work: map[stepKey]*stepWork{}, free: map[bucketKey]bucketUse{}}
	e.measure()
	now := p.Header.Created
	byWave := make([][]*Stack, len(p.Header.Waves))
	for i := range p.Stacks {
		s := &p.Stacks[i]
		byWave[s.Wave] = append(byWave[s.Wave], s)
	}
	for i, w := range p.Header.Waves {
		began := now
		clear(e.busy())
		now = e.wave(byWave[i], now)
		e.out.Waves = append(e.out.Waves, WaveEstimate{Name: w.Name, Begin: began, End: now, Writing: e.longest()})
	}
	e.out.End = now
	e.out.Limit = e.limit()
	e.out.Dollars = float64(e.out.Metrics*microdollarsPerMetric) / 1e6
	return e.out
}

type estimator struct {
	plan  *Plan
	rates Rates
	out   *Estimate
	work  map[stepKey]*stepWork
	free  map[bucketKey]bucketUse
	spent map[bucketKey]time.Duration // waited for in the present wave
	total map[bucketKey]time.Duration
	ends  map[string]time.Time // of stacks
}

type stepKey struct {
	stack string
	step  int
}

// stepWork is what one step writes.
type stepWork struct {
	calls     map[string]int
	instances int
	// slow is how long what it starts takes at least.
	slow time.Duration
}

type bucketKey struct {
	place  fleet.Place
	action string
}

// bucketUse is a token bucket that calls are taken from in turn.
type bucketUse struct {
	tokens float64
	at     time.Time
}

func (e *estimator) busy() map[bucketKey]time.Duration {
	if e.spent == nil {
		e.spent, e.total = map[bucketKey]time.Duration{}, map[bucketKey]time.Duration{}
	}
	return e.spent
}

// replacing is how long a replacement of instances takes at the least: nobody knows before it was done once.
const replacing = 10 * time.Minute

func (e *estimator) measure() {
	for i := range e.plan.Changes {
		c := &e.plan.Changes[i]
		k := stepKey{c.Stack, c.Step}
		w := e.work[k]
		if w == nil {
			w = &stepWork{calls: map[string]int{}}
			e.work[k] = w
		}
		for action, n := range c.Calls {
			w.calls[action] += n
		}
		if c.Ref.Kind == inventory.KindInstance {
			w.instances++
		}
		w.slow = max(w.slow, lasting(c))
	}
}

// lasting is how long AWS takes for what a change starts, or how long a launch is waited for.
func lasting(c *Change) time.Duration {
	switch {
	case c.Class != ClassStart:
		return 0
	case c.Action == ActionLaunched && c.Ref.Kind == KindFollowUp:
		patience, err := time.ParseDuration(c.Params[ParamTimeout])
		if err != nil {
			return 0
		}
		return patience
	case c.Disruption == "replace":
		return replacing
	}
	return 0
}

// wave runs the stacks of a wave from now on, ring by ring, as many side by side as the rules allow.
func (e *estimator) wave(stacks []*Stack, now time.Time) time.Time {
	slices.SortStableFunc(stacks, func(a, b *Stack) int { return cmp.Compare(a.Ring, b.Ring) })
	for len(stacks) > 0 {
		n := 1
		for n < len(stacks) && stacks[n].Ring == stacks[0].Ring {
			n++
		}
		now = e.ring(stacks[:n], now)
		stacks = stacks[n:]
	}
	return now
}

// ring is done when all its stacks are; what waits for others comes when those have ended.
func (e *estimator) ring(stacks []*Stack, now time.Time) time.Time {
	if e.ends == nil {
		e.ends = map[string]time.Time{}
	}
	t := &turns{estimator: e, waiting: map[fleet.AccountID][]*Stack{}, running: map[fleet.AccountID]int{}}
	for _, s := range stacks {
		if len(s.After) > 0 {
			t.held = append(t.held, s)
			continue
		}
		if t.waiting[s.Place.Account] == nil {
			t.accounts = append(t.accounts, s.Place.Account)
		}
		t.waiting[s.Place.Account] = append(t.waiting[s.Place.Account], s)
	}
	return t.run(now)
}

// turns are the stacks of a ring: those that run, and by account those that wait for their turn.
type turns struct {
	*estimator
	course   course
	waiting  map[fleet.AccountID][]*Stack
	accounts []fleet.AccountID
	next     int      // the account whose turn it is
	held     []*Stack // these come after other stacks
	running  map[fleet.AccountID]int
}

func (t *turns) run(now time.Time) time.Time {
	last := now
	t.admit(now)
	for len(t.course) > 0 {
		p := t.course[0]
		now = p.at
		if p.step < len(p.stack.Steps) {
			p.at = t.step(p.stack, p.step, now)
			p.step++
			heap.Fix(&t.course, 0)
			continue
		}
		heap.Pop(&t.course)
		t.running[p.stack.Place.Account]--
		t.ends[p.stack.ID] = now
		last = later(last, now)
		t.admit(now)
	}
	return last
}

// admit starts what may start, one account after the other.
func (t *turns) admit(now time.Time) {
	t.held = slices.DeleteFunc(t.held, func(s *Stack) bool { return t.after(s, now) && t.start(s, now) })
	for refused := 0; refused < len(t.accounts); t.next++ {
		id := t.accounts[t.next%len(t.accounts)]
		if queue := t.waiting[id]; len(queue) > 0 && t.start(queue[0], now) {
			t.waiting[id], refused = queue[1:], 0
		} else {
			refused++
		}
	}
}

// start starts a stack, if the rules let one more run.
func (t *turns) start(s *Stack, now time.Time) bool {
	r, account := t.plan.Header.Rules, s.Place.Account
	if r.MaxStacks > 0 && len(t.course) >= r.MaxStacks || r.MaxStacksAccount > 0 && t.running[account] >= r.MaxStacksAccount {
		return false
	}
	t.running[account]++
	heap.Push(&t.course, &progress{stack: s, at: now})
	return true
}

// after tells whether everything that the stack waits for has ended.
func (e *estimator) after(s *Stack, now time.Time) bool {
	for _, id := range s.After {
		if end, ok := e.ends[id]; !ok || end.After(now) {
			return false
		}
	}
	return true
}

// step writes, and then watches. Its calls take their turn with those of the other stacks of the place.
func (e *estimator) step(s *Stack, n int, now time.Time) time.Time {
	if s.Calendar > 0 {
		opening := e.plan.Header.Calendars[s.Calendar-1].At(now)
		if !opening.Open {
			if opening.Until.IsZero() {
				e.out.Never = cmp.Or(e.out.Never, "stack "+s.Name+" in "+s.Place.String()+" cannot start: "+opening.Why)
				return now
			}
			now = opening.Until
		}
	}
	written := now
	w := e.work[stepKey{s.ID, n}]
	if w == nil {
		w = &stepWork{}
	}
	for _, action := range slices.Sorted(maps.Keys(w.calls)) {
		written = later(written, e.take(bucketKey{s.Place, action}, w.calls[action], now))
	}
	written = written.Add(perStep + w.slow)
	bake := s.Steps[n].Bake
	e.gates(w, bake)
	return written.Add(bake)
}

// take is when the last of so many calls goes out.
func (e *estimator) take(k bucketKey, calls int, now time.Time) time.Time {
	burst, refill := e.rates(k.action)
	if refill <= 0 {
		return now
	}
	b, ok := e.free[k]
	if !ok {
		b = bucketUse{tokens: burst, at: now}
	}
	if now.After(b.at) {
		b.tokens = min(burst, b.tokens+refill*now.Sub(b.at).Seconds())
		b.at = now
	}
	b.tokens -= float64(calls)
	wait := time.Duration(0)
	if b.tokens < 0 {
		wait = time.Duration(-b.tokens / refill * float64(time.Second))
	}
	e.free[k] = b
	e.busy()[k] += time.Duration(float64(calls) / refill * float64(time.Second))
	e.total[k] += wait
	return b.at.Add(wait)
}

// gates counts what reading the gates of a step takes: both metrics and the heartbeat of each changed instance, and its status,
// once more at the end.
func (e *estimator) gates(w *stepWork, bake time.Duration) {
	if w.instances == 0 {
		return
	}
	r := e.plan.Header.Rules
	readings := 1
	if r.GateInterval > 0 {
		readings += int(bake / r.GateInterval)
	}
	metrics := w.instances
	if r.Heartbeat {
		metrics *= 2
	}
	e.out.Metrics += int64(readings * metrics)
	e.out.GateCalls["cloudwatch:GetMetricData"] += readings * ((metrics + metricsPerCall - 1) / metricsPerCall)
	if r.StatusChecks {
		e.out.GateCalls["ec2:DescribeInstanceStatus"] += readings * ((w.instances + 99) / 100)
	}
}

// longest is the time of the busiest bucket of the present wave.
func (e *estimator) longest() time.Duration {
	most := time.Duration(0)
	for _, d := range e.spent {
		most = max(most, d)
	}
	return most.Round(time.Second)
}

// limit names the bucket that was waited for longest; "" where nothing was.
func (e *estimator) limit() string {
	var best bucketKey
	most := time.Duration(0)
	for k, d := range e.total {
		if d > most || d == most && d > 0 && k.action+k.place.String() < best.action+best.place.String() {
			best, most = k, d
		}
	}
	if most == 0 {
		return ""
	}
	return best.action + " in " + best.place.String()
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// progress is a stack on its way.
type progress struct {
	stack *Stack
	step  int
	at    time.Time
}

// course are the running stacks, the one whose turn it is first.
type course []*progress

func (c course) Len() int           { return len(c) }
func (c course) Less(i, j int) bool { return c[i].at.Before(c[j].at) }
func (c course) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }

// Push is for package heap.
func (c *course) Push(x any) { *c = append(*c, x.(*progress)) }

// Pop is for package heap.
func (c *course) Pop() any {
	last := len(*c) - 1
	p := (*c)[last]
	*c = (*c)[:last]
	return p
}
