package autoscaling

import (
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// refresh is an instance refresh: the instances of a group are replaced one after the other.
type refresh struct {
	id, status, reason string
	start, end         time.Time
	todo               []string // instances still to be replaced
	made               []string // instances launched in the place of others
	total              int
	rollback           *rollback
	desired            *Source
	warmup             time.Duration
	preferences        wire.Value
}

// rollback is the way back of a refresh.
type rollback struct {
	start             time.Time
	percent, toUpdate int
	todo              []string // instances that the refresh launched, still to be replaced
}

// Statuses of a refresh that has not ended.
const (
	statusPending    = "Pending"
	statusInProgress = "InProgress"
	statusCancelling = "Cancelling"
	statusRollback   = "RollbackInProgress"
)

// active tells whether another refresh has to wait.
func (r *refresh) active() bool {
	return r.status == statusPending || r.status == statusInProgress || r.status == statusCancelling || r.status == statusRollback
}

// stoppable tells whether the refresh goes forward and may be cancelled or rolled back.
func (r *refresh) stoppable() bool { return r.status == statusPending || r.status == statusInProgress }

// percent is how much of the refresh is done.
func (r *refresh) percent() int {
	if r.total == 0 {
		if r.active() {
			return 0
		}
		return 100 // nothing had to be replaced
	}
	return 100 * (r.total - len(r.todo)) / r.total
}

// preferenceNames are those that are understood.
var preferenceNames = [...]string{
	"MinHealthyPercentage", "MaxHealthyPercentage", "InstanceWarmup", "SkipMatching", "AutoRollback",
	"ScaleInProtectedInstances", "StandbyInstances",
}

func startRefresh(c *core.Call) error {
	g, err := groupFor(c)
	if err != nil {
		return err
	}
	for _, r := range g.refreshes {
		if r.active() {
			return wire.Errorf("InstanceRefreshInProgress", "An Instance Refresh is already in progress and blocks the "+
				"execution of this Instance Refresh.")
		}
	}
	if strategy := c.In.Str("Strategy"); strategy != "" && strategy != "Rolling" {
		return invalid("The simulator offers the strategy Rolling only.")
	}
	s, prefs := StoreOf(c.Place), c.In.Get("Preferences")
	for _, name := range prefs.Names() {
		if !slices.Contains(preferenceNames[:], name) {
			return invalid("The simulator does not offer the preference %s.", name)
		}
	}
	r := &refresh{status: statusPending, start: c.Now, preferences: prefs}
	warmup, _, err := prefs.Int("InstanceWarmup")
	if err != nil {
		return err
	}
	r.warmup = max(time.Duration(warmup)*time.Second, c.World.Settle())
	skip, _, err := prefs.Bool("SkipMatching")
	if err != nil {
		return err
	}
	if r.desired, err = s.desiredConfiguration(c.In.Get("DesiredConfiguration")); err != nil {
		return err
	}
	src := g.spec.Newest().Source
	if r.desired != nil {
		src = *r.desired
	}
	for _, m := range g.members {
		if !m.terminating && !(skip && s.matches(m, src)) {
			r.todo = append(r.todo, m.id)
		}
	}
	r.id, r.total = s.uuid(), len(r.todo)
	g.refreshes = append(g.refreshes, r)
	s.place.After(c.Now, c.World.Settle(), func(at time.Time) { s.step(g, r, at) })
	c.Out.Str("InstanceRefreshId", r.id)
	c.Mutated(g.name)
	return nil
}

func (s *Store) desiredConfiguration(v wire.Value) (*Source, error) {
	var src Source
	switch {
	case v.Has("LaunchTemplate"):
		ref := parseRef(v.Get("LaunchTemplate"))
		src.Template = &ref
	case v.Has("MixedInstancesPolicy"):
		mixed, err := parseMixed(v.Get("MixedInstancesPolicy"))
		if err != nil {
			return nil, err
		}
		src.Mixed = mixed
	default:
		return nil, nil
	}
	return &src, s.checkSource(&src)
}

// matches tells whether a member was launched from what the source says now.
func (s *Store) matches(m *member, src Source) bool {
	ref := src.Template
	if src.Mixed != nil {
		ref = &src.Mixed.Template
	}
	if ref == nil {
		return m.from.config == src.Config
	}
	version, err := s.ec2().ResolveVersion(ref.ID, ref.Version)
	return err == nil && m.from.template == ref.ID && m.from.version == version
}

// step replaces the next instance, and comes again when the new one has warmed up.
func (s *Store) step(g *group, r *refresh, now time.Time) {
	if !r.stoppable() || s.groups[g.name] != g {
		return
	}
	r.status = statusInProgress
	src := g.spec.Newest().Source
	if r.desired != nil {
		src = *r.desired
	}
	m := g.next(&r.todo)
	if m != nil {
		made, err := s.replace(g, m, src, now, "an instance refresh")
		if err != nil {
			r.status, r.end = "Failed", now
			r.reason = "Instance refresh failed: " + err.Error()
			return
		}
		r.made = append(r.made, made.id)
		s.place.After(now, r.warmup, func(at time.Time) { s.step(g, r, at) })
		return
	}
	r.status, r.end = "Successful", now
	if r.desired != nil {
		spec := g.spec.Newest().clone()
		spec.Source = *r.desired
		g.spec.Set(now, s.place.World().Consistency(), spec)
	}
}

// next takes the first of the instances that is still a member.
func (g *group) next(ids *[]string) *member {
	for len(*ids) > 0 {
		m := g.member((*ids)[0])
		*ids = (*ids)[1:]
		if m != nil && !m.terminating {
			return m
		}
	}
	return nil
}

// replace launches an instance and takes another out for it.
func (s *Store) replace(g *group, m *member, src Source, now time.Time, because string) (*member, error) {
	n := g.live()
	made, err := s.launchFrom(g, now, src, "At "+stamp(now)+" an instance was launched in response to "+because+".  ")
	if err != nil {
		return nil, err
	}
	s.terminate(g, m, now, shrinkCause("At "+stamp(now)+" an instance was taken out of service in response to "+because+".  ",
		now, n+1, n, m.id))
	return made, nil
}

// cancelRefresh stops a refresh; what it has replaced stays. It has ended once what is under way has settled.
func cancelRefresh(c *core.Call) error {
	g, r, err := stoppable(c)
	if err != nil {
		return err
	}
	r.status = statusCancelling
	c.Place.After(c.Now, c.World.Settle(), func(at time.Time) {
		r.status, r.end, r.reason = "Cancelled", at, "Cancelled due to user request."
	})
	c.Out.Str("InstanceRefreshId", r.id)
	c.Mutated(g.name)
	return nil
}

// stoppable is the refresh of the group that the request names, as long as it goes forward.
func stoppable(c *core.Call) (*group, *refresh, error) {
	g, err := groupFor(c)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range g.refreshes {
		if r.stoppable() {
			return g, r, nil
		}
	}
	return nil, nil, wire.Errorf("ActiveInstanceRefreshNotFound", "No in progress or pending Instance Refresh found for Auto "+
		"Scaling group %s", g.name)
}

// rollbackRefresh replaces what a refresh has launched by instances of the group's own configuration, which a refresh with
// a desired configuration changes only at its end.
// https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-rollback.html
func rollbackRefresh(c *core.Call) error {
	g, r, err := stoppable(c)
	if err != nil {
		return err
	}
	own := g.spec.Newest().Source
	irreversible := func(why string) error {
		return wire.Errorf("IrreversibleInstanceRefresh", "The instance refresh cannot be rolled back: %s", why)
	}
	switch {
	case r.desired == nil:
		return irreversible("no desired configuration was specified.")
	case own.moves():
		return irreversible("the Auto Scaling group uses the launch template's $Latest or $Default version.")
	}
	r.rollback = &rollback{start: c.Now, percent: r.percent(), toUpdate: len(r.todo), todo: r.made}
	r.status = statusRollback
	s := StoreOf(c.Place)
	s.place.After(c.Now, c.World.Settle(), func(at time.Time) { s.stepBack(g, r, at) })
	c.Out.Str("InstanceRefreshId", r.id)
	c.Mutated(g.name)
	return nil
}

// moves tells whether the source names a template's version that changes by itself.
func (src Source) moves() bool {
	moving := func(t *TemplateRef) bool { return t != nil && strings.HasPrefix(t.Version, "$") }
	return moving(src.Template) || src.Mixed != nil && moving(&src.Mixed.Template)
}

// stepBack replaces the next instance of the refresh, and comes again when the new one has warmed up.
func (s *Store) stepBack(g *group, r *refresh, now time.Time) {
	if r.status != statusRollback || s.groups[g.name] != g {
		return
	}
	if m := g.next(&r.rollback.todo); m != nil {
		if _, err := s.replace(g, m, g.spec.Newest().Source, now, "the rollback of an instance refresh"); err != nil {
			r.status, r.end, r.reason = "RollbackFailed", now, "Rollback failed: "+err.Error()
			return
		}
		s.place.After(now, r.warmup, func(at time.Time) { s.stepBack(g, r, at) })
		return
	}
	r.status, r.end = "RollbackSuccessful", now
}

// describeRefreshes lists the refreshes of a group, newest first.
func describeRefreshes(c *core.Call) error {
	g, err := groupFor(c)
	if err != nil {
		return err
	}
	size, after, err := page(c, refreshPage)
	if err != nil {
		return err
	}
	ids := c.In.Strings("InstanceRefreshIds")
	var found []*refresh
	started := after == ""
	for _, r := range slices.Backward(g.refreshes) {
		if started && (len(ids) == 0 || slices.Contains(ids, r.id)) {
			found = append(found, r)
		}
		started = started || r.id == after
	}
	shown := found[:min(size, len(found))]
	c.Out.List("InstanceRefreshes", func() {
		for _, r := range shown {
			c.Out.Struct("", func() { writeRefresh(c.Out, g, r) })
		}
	})
	if len(shown) < len(found) {
		nextToken(c, shown[len(shown)-1].id)
	}
	return nil
}

func writeRefresh(w *wire.Writer, g *group, r *refresh) {
	w.Str("InstanceRefreshId", r.id)
	w.Str("AutoScalingGroupName", g.name)
	w.Str("Status", r.status)
	w.Opt("StatusReason", r.reason)
	w.Time("StartTime", r.start)
	if !r.end.IsZero() {
		w.Time("EndTime", r.end)
	}
	w.Int("PercentageComplete", int64(r.percent()))
	w.Int("InstancesToUpdate", int64(len(r.todo)))
	w.Struct("Preferences", func() {
		for _, name := range r.preferences.Names() {
			w.Str(name, r.preferences.Str(name))
		}
	})
	if r.desired != nil {
		w.Struct("DesiredConfiguration", func() { writeSource(w, *r.desired) })
	}
	if back := r.rollback; back != nil {
		w.Struct("RollbackDetails", func() {
			w.Str("RollbackReason", "Manual rollback.")
			w.Time("RollbackStartTime", back.start)
			w.Int("PercentageCompleteOnRollback", int64(back.percent))
			w.Int("InstancesToUpdateOnRollback", int64(back.toUpdate))
		})
	}
	w.Str("Strategy", "Rolling")
}
