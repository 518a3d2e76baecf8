package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/demo"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/rollout"
)

type demoOptions struct {
	headless            bool
	seed                uint64
	accounts, instances int
	keep                string
}

func (s *session) demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use: "demo", Short: "Show the whole journey on a simulated organization; no AWS account needed", GroupID: groupSetup,
		Args: cobra.NoArgs,
		Long: `Builds a simulated AWS organization in this process and runs the real commands on it: scan, status,
plan, approve, apply in waves. Days of watching pass in seconds, because the simulated clock is wound forward.
One workload calls IMDSv1 so seldom that nobody could know: its canary breaks, and is rolled back by itself.
Nothing leaves this machine.`,
		Example: `  imdsctl demo
  imdsctl demo --headless             # plain lines; fails unless the demo takes its course
  imdsctl demo --keep /tmp/demo       # keep the database, the plan and the rollback file to look around`,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.demo(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.headless, "headless", false, "plain lines, for logs; exit code 0 only if everything went as it should")
	f.Uint64Var(&o.seed, "seed", 0, "another number makes another organization")
	f.IntVar(&o.accounts, "accounts", 16, "number of accounts, 12 at least")
	f.IntVar(&o.instances, "instances", 3200, "about how many instances")
	f.StringVar(&o.keep, "keep", "", "keep everything in this `directory`")
	return cmd
}

// The demo's paces: how many times faster than this machine's the simulated clock runs.
const (
	paceWork = 60   // while calls are made: a minute a second
	paceBake = 5400 // while everybody only watches: an hour and a half a second
)

// surpriseAfter is when the hidden caller shows itself: within the bake of the first wave's canaries.
const surpriseAfter = 2 * time.Hour

// simulated is about how long the demo takes by its own clock: it begins that much in the past, so that what is kept
// of it does not lie in the future.
const simulated = 60 * time.Hour

// play is one performance of the demo.
type play struct {
	*session
	o     demoOptions
	stage *demo.Stage
	dir   string
	began time.Time

	before, after app.Counts
	mu            sync.Mutex
	broken        map[string]demo.Broken // by stack
	failed        map[string]courseEvent // by stack
}

func (s *session) demo(ctx context.Context, o demoOptions) error {
	if o.accounts < 12 || o.accounts > 500 || o.instances < 300 || o.instances > 100_000 {
		return misuse("", "Give 12 to 500 accounts and 300 to 100000 instances.", "the demo cannot be made that size")
	}
	if !s.out.terminal {
		o.headless = true
	}
	dir, clean, err := demoDir(o.keep)
	if err != nil {
		return err
	}
	defer clean()
	p := &play{o: o, dir: dir, began: time.Now(), broken: map[string]demo.Broken{}, failed: map[string]courseEvent{}}
	p.session = s
	s.say("imdsctl turns IMDSv1 off in an organization without breaking what runs in it. Here is the whole journey, " +
		"on a simulated AWS in this process: every call goes through the real SDK to a simulator that throttles, lags and " +
		"checks permissions as AWS does. Nothing leaves this machine.")
	if p.stage, err = demo.New(demo.Options{
		Seed: o.seed, Accounts: o.accounts, Instances: o.instances, SurpriseAfter: surpriseAfter, Pace: paceWork,
		Kinds: app.Kinds(), FollowUps: app.FollowUpActions(policy.Default()),
		Start: time.Now().Add(-simulated).Truncate(time.Hour),
	}); err != nil {
		return err
	}
	if err := p.prepare(); err != nil {
		return err
	}
	return p.perform(ctx)
}

// demoDir is where the demo's files go, and how they go away again.
func demoDir(keep string) (string, func(), error) {
	if keep == "" {
		dir, err := os.MkdirTemp("", "imdsctl-demo-")
		return dir, func() { _ = os.RemoveAll(dir) }, err // a temporary directory that stays does no harm
	}
	if err := os.MkdirAll(keep, 0o700); err != nil {
		return "", nil, fmt.Errorf("keep the demo: %w", err)
	}
	if _, err := os.Stat(filepath.Join(keep, "imdsctl.db")); err == nil {
		return "", nil, misuse("--keep", "Give another directory.", "%s holds a database already", keep)
	}
	return keep, func() {}, nil
}

// prepare lets every command of the session work on the stage.
func (p *play) prepare() error {
	p.config, p.configGiven = filepath.Join(p.dir, "imdsctl.yaml"), true
	p.db, p.format = filepath.Join(p.dir, "imdsctl.db"), "table"
	p.env.Base.Clock, p.env.Base.AWS, p.env.Base.HTTPClient = p.stage.Clock, p.stage.AWS, p.stage.Client()
	p.env.Base.Actor = "you"
	p.noHints = true
	// The clock runs fast: a pause of this process must not look like a call that hangs.
	p.env.Base.Engine = app.EngineOptions{
		CallTimeout: 6 * time.Hour, VerifyTimeout: 6 * time.Hour, Consistency: 10 * time.Second,
		PollInterval: 5 * time.Minute, LaneWidth: 8,
	}
	if p.o.headless {
		p.err.terminal, p.out.terminal = false, false
		if p.out.width == 0 || p.out.width > 100 {
			p.out.width = 100
		}
	}
	return os.WriteFile(p.config, []byte(p.stage.Config()), 0o600)
}

func (p *play) perform(ctx context.Context) error {
	return p.with(ctx, func(ctx context.Context, a *app.App) error {
		for _, act := range []func(context.Context, *app.App) error{p.scanAct, p.blockedAct, p.planAct, p.rehearseAct} {
			if err := act(ctx, a); err != nil {
				return err
			}
			p.linger(ctx)
		}
		result, err := p.applyAct(ctx, a)
		if err != nil {
			return err
		}
		if err := p.againAct(ctx, a); err != nil {
			return err
		}
		return p.endAct(result)
	})
}

// linger leaves people the time to read. A log needs none.
func (p *play) linger(ctx context.Context) {
	if p.o.headless {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(3 * time.Second):
	}
}

// heading announces a step, with the command that does it on a real fleet.
func (p *play) heading(title, command string) {
	line := fmt.Sprintf("\n%s  %s", p.out.paint(bold+cyan, "▌ "+title), p.out.paint(dim, "$ "+command))
	fmt.Fprintln(p.env.Out, line)
}

// say prints a remark, wrapped.
func (s *session) say(words string) {
	fmt.Fprintln(s.env.Out, s.out.wrap(s.out.paint(dim, words), ""))
}

func (p *play) scanAct(ctx context.Context, a *app.App) error {
	p.heading("1 Scan", "imdsctl scan")
	if err := p.scan(ctx, a, scanOptions{}); err != nil {
		return p.unexpected(err)
	}
	st, err := a.Status(ctx)
	if err != nil {
		return err
	}
	p.before = st.Total
	p.heading("2 Posture", "imdsctl status")
	p.showStatus(st)
	return nil
}

// blockedAct shows who calls IMDSv1.
func (p *play) blockedAct(ctx context.Context, a *app.App) error {
	p.heading("3 Who still calls IMDSv1", "imdsctl resources --verdict blocked")
	blocked := map[fleet.Ref]bool{}
	filter := app.ResourceFilter{Statuses: []assess.Status{assess.Blocked}, Kinds: []string{inventory.KindInstance}}
	for row, err := range a.Resources(ctx, filter) {
		if err != nil {
			return err
		}
		blocked[row.Resource.Ref] = true
	}
	var rows [][]string
	callers := p.stage.Callers(blocked)
	for _, c := range callers[:min(len(callers), 8)] {
		rows = append(rows, []string{
			c.App, p.out.paint(red, c.SDK), count(c.Instances), count(c.Accounts), p.out.paint(green, c.Fix),
		})
	}
	fmt.Fprint(p.env.Out, p.out.table([]column{
		{title: "WORKLOAD", flexible: true, floor: 12}, {title: "CALLER"}, {title: "INSTANCES", right: true},
		{title: "ACCOUNTS", right: true}, {title: "FIX", flexible: true, floor: 16},
	}, rows))
	if len(callers) > 8 {
		fmt.Fprintf(p.env.Out, "%s\n", p.out.paint(dim, fmt.Sprintf("… and %s", plural(len(callers)-8, "other caller"))))
	}
	p.say("CloudWatch counts the calls; here the simulator names the callers, on AWS the user agent in CloudTrail does. " +
		"These stay as they are until they are fixed.")
	return nil
}

func (p *play) planAct(ctx context.Context, a *app.App) error {
	p.heading("4 Plan", "imdsctl plan --out plan.json")
	return p.unexpected(p.plan(ctx, a, planOptions{out: p.planPath(), force: true}))
}

// rehearseAct tries the plan on a copy of the fleet. The copy knows what the scan saw, and so nothing of the hidden caller.
func (p *play) rehearseAct(ctx context.Context, a *app.App) error {
	pl, err := readPlan(p.planPath())
	if err != nil {
		return err
	}
	p.heading("5 Rehearse", "imdsctl rehearse plan.json")
	began := time.Now()
	r, err := a.Rehearse(ctx, pl, app.RehearseOptions{})
	if err != nil {
		return err
	}
	p.showRehearsedEnd(pl, r, time.Since(began))
	p.showRehearsedWaves(pl, r)
	p.showRehearsedFailures(r)
	p.say("The copy breaks where the scan saw someone call IMDSv1. What nobody has seen yet, only the real thing shows.")
	return nil
}

func (p *play) planPath() string { return filepath.Join(p.dir, "plan.json") }

// applyAct approves and applies, and winds the clock forward where everybody only watches.
func (p *play) applyAct(ctx context.Context, a *app.App) (*app.ApplyResult, error) {
	pl, err := readPlan(p.planPath())
	if err != nil {
		return nil, err
	}
	p.heading("6 Approve", "imdsctl rollout approve "+short(pl.Digest))
	approval, err := a.Approve(ctx, pl.Digest, "the demo")
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(p.env.Out, "Plan %s approved by %s.\n", short(approval.Digest), approval.Actor)
	p.heading("7 Apply", "imdsctl apply plan.json")
	p.say("Each stack changes one canary first and watches it for hours, then the rest, then what future launches get. " +
		"The clock is wound forward while everybody only watches.")
	c := newCourse(pl, p.now)
	screen := p.out
	var stop func()
	if p.o.headless {
		stop = func() {}
	} else {
		fmt.Fprintln(p.env.Out)
		stop = p.watch(ctx, screen, c, p.stage.Names(), a.Stats)
	}
	c.tell = p.witness
	wind := p.wind(c)
	result, err := a.Apply(ctx, pl, app.ApplyOptions{Progress: c.observe})
	wind()
	stop()
	if result != nil && result.Record != nil {
		p.showApplied(result, err)
	}
	return result, err
}

// witness prints events where there is no live picture, and looks at the workload when a step breaks.
func (p *play) witness(e courseEvent) {
	if p.o.headless && (e.mood != moodPlain || e.stack == nil) {
		fmt.Fprintln(p.env.Out, p.out.wrap(e.line(), "                  "))
	}
	if e.stack == nil || e.name != string(rollout.StackGateFailed) && e.name != string(rollout.StackOverBudget) {
		return
	}
	place, id := e.stack.Place, e.stack.ID
	found := p.stage.BrokenNow(place)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed[id] = e
	for _, b := range found {
		if strings.Contains(e.stack.Name, b.Group) && b.Group != "" || strings.Contains(e.text, b.Instance) {
			p.broken[id] = b
			return
		}
	}
}

// wind sets the clock's pace by what goes on, until it is stopped.
func (p *play) wind(c *course) (stop func()) {
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				p.stage.Clock.SetRate(paceWork)
				return
			case <-tick.C:
				p.stage.Clock.SetRate(c.pace())
			}
		}
	})
	return func() { close(end); wg.Wait() }
}

// pace is slow while something is written or put back, and fast while all that goes on is watched.
func (c *course) pace() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	baking := false
	for _, v := range c.order {
		switch phase := v.state.Phase; {
		case phase == rollout.StackBaking, phase == rollout.StackApplying && v.onlyWatches():
			baking = true
		case phase == rollout.StackApplying, phase == rollout.StackRevertingStep, phase == rollout.StackReverting:
			return paceWork
		}
	}
	if baking {
		return paceBake
	}
	return paceWork
}

func (p *play) againAct(ctx context.Context, a *app.App) error {
	p.heading("8 Scan again: what does AWS say now?", "imdsctl scan")
	if err := p.scan(ctx, a, scanOptions{}); err != nil {
		return p.unexpected(err)
	}
	st, err := a.Status(ctx)
	if err != nil {
		return err
	}
	p.after = st.Total
	return nil
}

// unexpected lets a step go on that ended with attention to gaps: a demo has none, so that is a failure of its course.
func (p *play) unexpected(err error) error {
	if a, ok := errors.AsType[attention](err); ok {
		return fmt.Errorf("the demo did not take its course: %s", a.why)
	}
	return err
}

// endAct is the last screen, and the judgement whether the demo took its course.
func (p *play) endAct(r *app.ApplyResult) error {
	fmt.Fprintf(p.env.Out, "\n%s\n\n", p.out.paint(bold+cyan, "▌ What happened"))
	p.beforeAfter()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(p.failed)) {
		p.autopsy(id, r)
	}
	p.farewell()
	return p.judge(r)
}

func (p *play) beforeAfter() {
	total := 0
	for _, n := range p.after {
		total += n
	}
	var rows [][]string
	for _, v := range assess.Statuses() {
		b, a := p.before[v], p.after[v]
		rows = append(rows, []string{"  " + p.verdict(v), some(b), p.out.paint(verdictStyle(v), bar(20, b, total)), "→",
			some(a),
			p.out.paint(verdictStyle(v), bar(20, a, total))})
	}
	fmt.Fprint(p.env.Out, p.out.table([]column{
		{title: "  INSTANCES"}, {title: "BEFORE", right: true}, {title: ""}, {title: ""}, {title: "AFTER",
			right: true}, {title: ""},
	}, rows))
}

// autopsy says which workload broke, how it was seen, why, and what to do.
func (p *play) autopsy(id string, r *app.ApplyResult) {
	e, b := p.failed[id], p.broken[id]
	names := p.stage.Names()
	fmt.Fprintf(p.env.Out, "\n%s %s in %s, %s\n", p.out.paint(red+bold, "✗ One canary broke:"),
		p.out.paint(bold, e.stack.Name),
		names[e.stack.Place.Account], e.stack.Place.Region)
	line := func(label, words string) {
		if words != "" {
			fmt.Fprintln(p.env.Out, p.out.labelled("  "+p.out.paint(dim, fmt.Sprintf("%-6s", label)), words))
		}
	}
	line("seen", oneLine(r.Record.Stacks[id].Reason))
	if b.Program != "" {
		line("who", fmt.Sprintf("%s on %s, built with %s", b.Program, b.Instance, b.SDK))
		line("why", b.Why+". It runs once a year: neither two weeks of CloudWatch nor the look back over 200 days showed it.")
	}
	others, were := instancesOf(r, id)-1, "were"
	if others == 1 {
		were = "was"
	}
	line("then", fmt.Sprintf("rolled back by itself at %s, simulated time: one instance was affected, the stack's %s %s not, "+
		"and all other stacks went on", e.at.UTC().Format("15:04"), plural(others, "other instance"), were))
	if b.Fix != "" {
		line("fix", b.SDK+": "+b.Fix+", then scan and plan again")
	}
}

// instancesOf counts the instances that a stack would have changed.
func instancesOf(r *app.ApplyResult, stack string) int {
	n := 0
	for i := range r.Plan.Changes {
		if c := &r.Plan.Changes[i]; c.Stack == stack && c.Ref.Kind == inventory.KindInstance {
			n++
		}
	}
	return n
}

func (p *play) farewell() {
	fmt.Fprintf(p.env.Out, "\n%s of simulated time in %s.\n", brief(p.stage.Clock.Now().Sub(p.stage.Started)),
		brief(time.Since(p.began)))
	if p.o.keep != "" {
		fmt.Fprintf(p.env.Out, "\nLook around in %s:\n", p.o.keep)
		for _, c := range []string{
			"imdsctl --db imdsctl.db status", "imdsctl show plan.json", "imdsctl rollout list",
			"imdsctl attention", "imdsctl resources --verdict blocked",
		} {
			fmt.Fprintf(p.env.Out, "  %s\n", c)
		}
		return
	}
	fmt.Fprintln(p.env.Out, "\nTry next:")
	for _, c := range [][2]string{
		{"imdsctl demo --keep demo/", "keep the database, plan and undo commands to look at"},
		{"imdsctl sim serve", "the same organization for your own tools"},
		{"imdsctl roles --principal ACCOUNT", "the IAM roles for your accounts, to review"},
		{"imdsctl doctor && imdsctl scan", "your own account; nothing is changed"},
	} {
		fmt.Fprintf(p.env.Out, "  %-36s %s\n", c[0], p.out.paint(dim, c[1]))
	}
}

// judge compares what happened with what the stage was set for: the surprise broke at its canary and was put back
// whole, every other stack is done, and imdsctl broke nothing else.
func (p *play) judge(r *app.ApplyResult) error {
	var wrong []string
	surprises := 0
	notDone := func(id string) bool { return r.Record.Stacks[id].Phase != rollout.StackDone }
	for _, st := range r.Plan.Stacks {
		state := r.Record.Stacks[st.ID]
		group := p.broken[st.ID].Group
		surprising := group != "" && p.stage.Surprising(st.Place.Account, group)
		switch {
		case state.Phase == rollout.StackDone:
		case state.Phase == rollout.StackFailed && st.Steps[state.Step].Name == "canary" && surprising:
			surprises++
		case state.Phase == rollout.StackSkipped && slices.ContainsFunc(st.After, notDone):
		default:
			wrong = append(wrong, fmt.Sprintf("%s is %s: %s", st.Name, state.Phase, oneLine(state.Reason)))
		}
	}
	if surprises == 0 {
		wrong = append(wrong, "no canary broke")
	}
	if r.Counts.Stuck+r.Counts.Conflict+r.Counts.Failed+r.Counts.Skipped+r.Counts.Open > 0 {
		wrong = append(wrong, countsText(r.Counts))
	}
	for place := range p.places(r) {
		for _, b := range p.stage.BrokenNow(place) {
			if p.stage.Surprising(b.Account, b.Group) {
				continue // it was put back; the job tells so only when it runs again, in a year
			}
			wrong = append(wrong, fmt.Sprintf("%s on %s in %s is still broken: %s", b.Program, b.Instance, place, b.Why))
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("the demo did not take its course: %s", strings.Join(wrong[:min(5, len(wrong))], "; "))
	}
	return nil
}

func (p *play) places(r *app.ApplyResult) map[fleet.Place]bool {
	out := map[fleet.Place]bool{}
	for _, st := range r.Plan.Stacks {
		out[st.Place] = true
	}
	return out
}
