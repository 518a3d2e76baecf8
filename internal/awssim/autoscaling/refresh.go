package autoscaling

import (
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// refresh is an instance refresh: the instances of a group are replaced one after the other.
type refresh struct {
	id, status, reason string
	start, end         time.Time
	todo               []string // instances still to be replaced
	total              int
	desired            *Source
	warmup             time.Duration
	preferences        wire.Value
}

func (r *refresh) active() bool { return r.status == "Pending" || r.status == "InProgress" }

// percent is how much of the refresh is done.
func (r *refresh) percent() int {
	if r.total == 0 {
		if r.active() {
			return 0
		}
		return 100
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
	r := &refresh{status: "Pending", start: c.Now, preferences: prefs}
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
	if !r.active() || s.groups[g.name] != g {
		return
	}
	r.status = "InProgress"
	for len(r.todo) > 0 {
		m := g.member(r.todo[0])
		if m == nil || m.terminating {
			r.todo = r.todo[1:]
			continue
		}
		src := g.spec.Newest().Source
		if r.desired != nil {
			src = *r.desired
		}
		n := g.live()
		why := "At " + stamp(now) + " an instance was launched in response to an instance refresh.  "
		if _, err := s.launchFrom(g, now, src, why); err != nil {
			r.status, r.end = "Failed", now
			r.reason = "Instance refresh failed: " + err.Error()
			return
		}
		s.terminate(g, m, now, shrinkCause("At "+stamp(now)+" an instance was taken out of service in response to an instance "+
			"refresh.  ", now, n+1, n, m.id))
		r.todo = r.todo[1:]
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

func cancelRefresh(c *core.Call) error {
	g, err := groupFor(c)
	if err != nil {
		return err
	}
	for _, r := range g.refreshes {
		if r.active() {
			r.status, r.end, r.reason = "Cancelled", c.Now, "Cancelled due to user request."
			c.Out.Str("InstanceRefreshId", r.id)
			c.Mutated(g.name)
			return nil
		}
	}
	return wire.Errorf("ActiveInstanceRefreshNotFound", "No in progress or pending Instance Refresh found for Auto Scaling "+
		"group %s", g.name)
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
	w.Str("Strategy", "Rolling")
}
