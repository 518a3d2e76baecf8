package autoscaling

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

func createGroup(c *core.Call) error {
	name := c.In.Str("AutoScalingGroupName")
	if name == "" || len(name) > maxNameLength {
		return invalid("AutoScalingGroupName must have between 1 and 255 characters")
	}
	spec := Spec{Settings: map[string]string{}, Min: -1, Max: -1, Desired: -1}
	s := StoreOf(c.Place)
	if err := s.parseSpec(c, &spec); err != nil {
		return err
	}
	if spec.Min < 0 || spec.Max < 0 {
		return invalid("MinSize and MaxSize are required.")
	}
	if spec.Desired < 0 {
		spec.Desired = spec.Min
	}
	spec.TargetGroups, spec.LoadBalancers = c.In.Strings("TargetGroupARNs"), c.In.Strings("LoadBalancerNames")
	for _, t := range c.In.Items("Tags") {
		tag, err := parseTag(t)
		if err != nil {
			return err
		}
		spec.Tags = append(spec.Tags, tag)
	}
	g, err := s.create(c.Now, name, spec, s.template)
	if err != nil {
		return err
	}
	s.plan(g, c.Now, 0, "At "+stamp(c.Now)+" a user request created an AutoScalingGroup changing the desired capacity from "+
		"0 to "+itoa(spec.Desired)+".  ")
	c.Mutated(name)
	return nil
}

// create adds a group without instances. The templates it names are resolved by resolve.
func (s *Store) create(now time.Time, name string, spec Spec, resolve resolver) (*group, error) {
	if s.groups[name] != nil {
		return nil, wire.Errorf("AlreadyExists", "AutoScalingGroup by this name already exists - A group with the name %s "+
			"already exists", name)
	}
	if err := s.check(&spec, resolve); err != nil {
		return nil, err
	}
	g := &group{name: name, arn: s.arn("autoScalingGroup", name), created: now, spec: core.Always(spec)}
	s.groups[name] = g
	s.watch()
	return g, nil
}

// resolver completes a reference to a template and tells what is wrong with it.
type resolver func(TemplateRef) (TemplateRef, error)

// check completes the source of a configuration and tells what is wrong with it.
func (s *Store) check(spec *Spec, resolve resolver) error {
	n := 0
	for _, set := range []bool{spec.Source.Config != "", spec.Source.Template != nil, spec.Source.Mixed != nil} {
		if set {
			n++
		}
	}
	switch {
	case n != 1:
		return invalid("Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or " +
			"MixedInstancesPolicy parameter.")
	case spec.Min > spec.Max:
		return invalid("Max bound, %d, must be greater than or equal to min bound, %d", spec.Max, spec.Min)
	case spec.Desired < spec.Min:
		return invalid("Desired capacity:%d must be between the specified min size:%d and max size:%d", spec.Desired,
			spec.Min, spec.Max)
	case spec.Desired > spec.Max:
		return invalid("Desired capacity:%d must be between the specified min size:%d and max size:%d", spec.Desired,
			spec.Min, spec.Max)
	case len(spec.Zones) == 0 && len(spec.Subnets) == 0:
		return invalid("At least one Availability Zone or VPC Subnet is required.")
	case spec.Source.Config != "" && s.configs[spec.Source.Config] == nil:
		return invalid("Launch configuration name not found - Launch configuration %s not found", spec.Source.Config)
	}
	return spec.Source.complete(resolve)
}

func (s *Store) checkSource(src *Source) error { return src.complete(s.template) }

func (src *Source) complete(resolve resolver) error {
	complete := func(r TemplateRef) (TemplateRef, error) {
		full, err := resolve(r)
		if err != nil {
			message := err.Error()
			if e, ok := errors.AsType[*wire.Error](err); ok {
				message = e.Message
			}
			return r, invalid("You must use a valid fully-formed launch template. %s", message)
		}
		return full, nil
	}
	if src.Template != nil {
		full, err := complete(*src.Template)
		if err != nil {
			return err
		}
		src.Template = &full
	}
	if src.Mixed == nil {
		return nil
	}
	m := *src.Mixed
	m.Overrides = slices.Clone(m.Overrides)
	var err error
	if m.Template, err = complete(m.Template); err != nil {
		return err
	}
	for i, o := range m.Overrides {
		if o.Template != nil {
			full, err := complete(*o.Template)
			if err != nil {
				return err
			}
			m.Overrides[i].Template = &full
		}
	}
	src.Mixed = &m
	return nil
}

// parseSpec lays the request's members over spec.
func (s *Store) parseSpec(c *core.Call, spec *Spec) error {
	for name, into := range map[string]*int{"MinSize": &spec.Min, "MaxSize": &spec.Max, "DesiredCapacity": &spec.Desired} {
		if _, err := intParam(c, name, into); err != nil {
			return err
		}
	}
	var sources int
	for _, name := range []string{"LaunchConfigurationName", "LaunchTemplate", "MixedInstancesPolicy"} {
		if c.In.Has(name) {
			sources++
		}
	}
	if sources > 1 {
		return invalid("Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or " +
			"MixedInstancesPolicy parameter.")
	}
	if sources == 1 {
		spec.Source = Source{Config: c.In.Str("LaunchConfigurationName")}
		if c.In.Has("LaunchTemplate") {
			ref := parseRef(c.In.Get("LaunchTemplate"))
			spec.Source.Template = &ref
		}
		if c.In.Has("MixedInstancesPolicy") {
			mixed, err := parseMixed(c.In.Get("MixedInstancesPolicy"))
			if err != nil {
				return err
			}
			spec.Source.Mixed = mixed
		}
	}
	if zones := c.In.Strings("AvailabilityZones"); zones != nil {
		spec.Zones = zones
	}
	if c.In.Has("VPCZoneIdentifier") {
		spec.Subnets = nil
		for id := range strings.SplitSeq(c.In.Str("VPCZoneIdentifier"), ",") {
			if id = strings.TrimSpace(id); id != "" {
				spec.Subnets = append(spec.Subnets, id)
			}
		}
	}
	if policies := c.In.Strings("TerminationPolicies"); policies != nil {
		spec.TerminationPolicies = policies
	}
	if protected, set, err := c.In.Bool("NewInstancesProtectedFromScaleIn"); err != nil {
		return err
	} else if set {
		spec.Protected = protected
	}
	for _, name := range settingNames {
		if c.In.Has(name) {
			spec.Settings[name] = c.In.Str(name)
		}
	}
	return nil
}

func parseRef(v wire.Value) TemplateRef {
	return TemplateRef{ID: v.Str("LaunchTemplateId"), Name: v.Str("LaunchTemplateName"), Version: v.Str("Version")}
}

func parseMixed(v wire.Value) (*Mixed, error) {
	lt := v.Get("LaunchTemplate")
	if !lt.Has("LaunchTemplateSpecification") {
		return nil, invalid("MixedInstancesPolicy must have a launch template.")
	}
	m := &Mixed{Template: parseRef(lt.Get("LaunchTemplateSpecification")), Distribution: map[string]string{}}
	for _, o := range lt.Items("Overrides") {
		if o.Has("InstanceRequirements") {
			return nil, invalid("InstanceRequirements are not offered by the simulator; name an InstanceType.")
		}
		over := Override{InstanceType: o.Str("InstanceType"), Weight: o.Str("WeightedCapacity"), ImageID: o.Str("ImageId")}
		if o.Has("LaunchTemplateSpecification") {
			ref := parseRef(o.Get("LaunchTemplateSpecification"))
			over.Template = &ref
		}
		m.Overrides = append(m.Overrides, over)
	}
	d := v.Get("InstancesDistribution")
	for _, name := range d.Names() {
		m.Distribution[name] = d.Str(name)
	}
	return m, nil
}

func updateGroup(c *core.Call) error {
	g, err := groupFor(c)
	if err != nil {
		return err
	}
	s := StoreOf(c.Place)
	old := g.spec.Newest()
	spec := old.clone()
	if spec.Settings == nil {
		spec.Settings = map[string]string{}
	}
	if err := s.parseSpec(c, &spec); err != nil {
		return err
	}
	if !c.In.Has("DesiredCapacity") { // moving a bound moves the capacity with it
		spec.Desired = min(max(spec.Desired, spec.Min), spec.Max)
	}
	if err := s.check(&spec, s.template); err != nil {
		return err
	}
	g.spec.Set(c.Now, c.World.Consistency(), spec)
	if spec.Desired != old.Desired {
		s.plan(g, c.Now, 0, "At "+stamp(c.Now)+" a user request update of AutoScalingGroup constraints to min: "+
			itoa(spec.Min)+", max: "+itoa(spec.Max)+", desired: "+itoa(spec.Desired)+" changing the desired capacity from "+
			itoa(old.Desired)+" to "+itoa(spec.Desired)+".  ")
	}
	c.Mutated(g.name)
	return nil
}

func setDesired(c *core.Call) error {
	g, err := groupFor(c)
	if err != nil {
		return err
	}
	want := -1
	if _, err := intParam(c, "DesiredCapacity", &want); err != nil {
		return err
	}
	if want < 0 {
		return invalid("DesiredCapacity is required.")
	}
	if err := StoreOf(c.Place).scale(g, c.Now, want); err != nil {
		return err
	}
	c.Mutated(g.name)
	return nil
}

func (s *Store) scale(g *group, now time.Time, want int) error {
	spec := g.spec.Newest().clone()
	switch {
	case want > spec.Max:
		return invalid("New SetDesiredCapacity value %d is above max value %d for the AutoScalingGroup.", want, spec.Max)
	case want < spec.Min:
		return invalid("New SetDesiredCapacity value %d is below min value %d for the AutoScalingGroup.", want, spec.Min)
	}
	old := spec.Desired
	spec.Desired = want
	g.spec.Set(now, 0, spec)
	s.plan(g, now, 0, "At "+stamp(now)+" a user request explicitly set group desired capacity changing the desired capacity "+
		"from "+itoa(old)+" to "+itoa(want)+".  ")
	return nil
}

func deleteGroup(c *core.Call) error {
	g, err := groupFor(c)
	if err != nil {
		return err
	}
	force, _, err := c.In.Bool("ForceDelete")
	if err != nil {
		return err
	}
	if len(g.members) > 0 && !force {
		return wire.Errorf("ResourceInUse", "You cannot delete an AutoScalingGroup while there are instances or pending "+
			"Spot instance request(s) still in the group.")
	}
	s := StoreOf(c.Place)
	if len(g.members) == 0 {
		delete(s.groups, g.name)
	} else {
		g.deleting = true
		spec := g.spec.Newest().clone()
		spec.Min, spec.Desired = 0, 0
		g.spec.Set(c.Now, 0, spec)
		s.plan(g, c.Now, 0, "At "+stamp(c.Now)+" a user request force deleted the AutoScalingGroup.  ")
	}
	c.Mutated(g.name)
	return nil
}

func terminateInstance(c *core.Call) error {
	id := c.In.Str("InstanceId")
	decrement, set, err := c.In.Bool("ShouldDecrementDesiredCapacity")
	if err != nil || !set {
		return invalid("ShouldDecrementDesiredCapacity is required and must be true or false.")
	}
	s := StoreOf(c.Place)
	g := s.memberOf[id]
	if g == nil {
		return invalid("Instance Id not found - No managed instance found for instance ID: %s", id)
	}
	spec := g.spec.Newest().clone()
	if decrement {
		if spec.Desired-1 < spec.Min {
			return invalid("Currently, desiredSize equals minSize (%d). Terminating instance without replacement will violate "+
				"group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower group's min size.",
				spec.Min)
		}
		spec.Desired--
		g.spec.Set(c.Now, 0, spec)
	}
	n := g.live()
	a := s.terminate(g, g.member(id), c.Now, "At "+stamp(c.Now)+" instance "+id+" was taken out of service in response to a "+
		"user request, shrinking the capacity from "+itoa(n)+" to "+itoa(n-1)+".")
	if !decrement {
		s.plan(g, c.Now, 0, "")
	}
	c.Out.Struct("Activity", func() { writeActivity(c, a, false) })
	c.Mutated(g.name, id)
	return nil
}

func describeGroups(c *core.Call) error {
	filters, err := filtersOf(c, func(name string) bool {
		return name == "tag-key" || name == "tag-value" || strings.HasPrefix(name, "tag:")
	})
	if err != nil {
		return err
	}
	size, after, err := page(c, groupPage)
	if err != nil {
		return err
	}
	withInstances := true
	if show, set, err := c.In.Bool("IncludeInstances"); err != nil {
		return err
	} else if set {
		withInstances = show
	}
	s, names := StoreOf(c.Place), c.In.Strings("AutoScalingGroupNames")
	var found []*group
	for _, name := range slices.Sorted(maps.Keys(s.groups)) {
		g := s.groups[name]
		if name <= after || (len(names) > 0 && !slices.Contains(names, name)) || !matches(g.spec.Seen(c.Now).Tags, filters) {
			continue
		}
		if found = append(found, g); len(found) > size {
			break
		}
	}
	shown := found[:min(size, len(found))]
	c.Out.List("AutoScalingGroups", func() {
		for _, g := range shown {
			c.Out.Struct("", func() { s.writeGroup(c, g, withInstances) })
		}
	})
	if len(shown) < len(found) {
		nextToken(c, shown[len(shown)-1].name)
	}
	return nil
}

// matches applies tag filters: all filters, any value of each.
func matches(tags []Tag, filters []filter) bool {
	for _, f := range filters {
		if !slices.ContainsFunc(tags, func(t Tag) bool {
			switch f.name {
			case "tag-key":
				return slices.Contains(f.values, t.Key)
			case "tag-value":
				return slices.Contains(f.values, t.Value)
			default:
				return "tag:"+t.Key == f.name && slices.Contains(f.values, t.Value)
			}
		}) {
			return false
		}
	}
	return true
}

func (s *Store) writeGroup(c *core.Call, g *group, withInstances bool) {
	w, spec := c.Out, g.spec.Seen(c.Now)
	w.Str("AutoScalingGroupName", g.name)
	w.Str("AutoScalingGroupARN", g.arn)
	writeSource(w, spec.Source)
	w.Int("MinSize", int64(spec.Min))
	w.Int("MaxSize", int64(spec.Max))
	w.Int("DesiredCapacity", int64(spec.Desired))
	w.Str("DefaultCooldown", cmp.Or(spec.Settings["DefaultCooldown"], "300"))
	w.Strings("AvailabilityZones", s.zones(spec))
	w.Strings("LoadBalancerNames", spec.LoadBalancers)
	w.Strings("TargetGroupARNs", spec.TargetGroups)
	w.Str("HealthCheckType", cmp.Or(spec.Settings["HealthCheckType"], "EC2"))
	w.Str("HealthCheckGracePeriod", cmp.Or(spec.Settings["HealthCheckGracePeriod"], "0"))
	w.List("Instances", func() {
		for _, m := range g.members {
			if withInstances {
				w.Struct("", func() { s.writeMember(c, m) })
			}
		}
	})
	w.Time("CreatedTime", g.created)
	w.List("SuspendedProcesses", func() {})
	w.Opt("VPCZoneIdentifier", strings.Join(spec.Subnets, ","))
	w.List("EnabledMetrics", func() {})
	if g.deleting {
		w.Str("Status", "Delete in progress")
	}
	w.List("Tags", func() {
		for _, t := range spec.Tags {
			w.Struct("", func() { writeTag(w, g.name, t) })
		}
	})
	w.Strings("TerminationPolicies", cmpSlice(spec.TerminationPolicies, "Default"))
	w.Bool("NewInstancesProtectedFromScaleIn", spec.Protected)
	w.Str("ServiceLinkedRoleARN", cmp.Or(spec.Settings["ServiceLinkedRoleARN"], "arn:"+string(c.Place.Partition)+":iam::"+
		string(c.Account())+":role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"))
	if spec.Operator != "" {
		w.Struct("Operator", func() { w.Str("Principal", spec.Operator) })
	}
	for _, name := range []string{
		"PlacementGroup", "MaxInstanceLifetime", "CapacityRebalance", "Context", "DesiredCapacityType", "DefaultInstanceWarmup",
	} {
		w.Opt(name, spec.Settings[name])
	}
}

func cmpSlice(s []string, otherwise string) []string {
	if len(s) == 0 {
		return []string{otherwise}
	}
	return s
}

// zones are the group's zones, those of its subnets where it names none.
func (s *Store) zones(spec Spec) []string {
	if len(spec.Zones) > 0 {
		return spec.Zones
	}
	var out []string
	for _, id := range spec.Subnets {
		if az := s.zoneOf(id); !slices.Contains(out, az) {
			out = append(out, az)
		}
	}
	return out
}

func writeSource(w *wire.Writer, src Source) {
	w.Opt("LaunchConfigurationName", src.Config)
	if src.Template != nil {
		w.Struct("LaunchTemplate", func() { writeRef(w, *src.Template) })
	}
	if src.Mixed != nil {
		w.Struct("MixedInstancesPolicy", func() { writeMixed(w, src.Mixed) })
	}
}

func writeMixed(w *wire.Writer, m *Mixed) {
	w.Struct("LaunchTemplate", func() {
		w.Struct("LaunchTemplateSpecification", func() { writeRef(w, m.Template) })
		w.List("Overrides", func() {
			for _, o := range m.Overrides {
				w.Struct("", func() {
					w.Opt("InstanceType", o.InstanceType)
					w.Opt("WeightedCapacity", o.Weight)
					w.Opt("ImageId", o.ImageID)
					if o.Template != nil {
						w.Struct("LaunchTemplateSpecification", func() { writeRef(w, *o.Template) })
					}
				})
			}
		})
	})
	w.Struct("InstancesDistribution", func() {
		for _, d := range [...][2]string{
			{"OnDemandAllocationStrategy", "prioritized"}, {"OnDemandBaseCapacity", "0"},
			{"OnDemandPercentageAboveBaseCapacity", "100"}, {"SpotAllocationStrategy", "lowest-price"},
			{"SpotInstancePools", ""}, {"SpotMaxPrice", ""},
		} {
			w.Opt(d[0], cmp.Or(m.Distribution[d[0]], d[1]))
		}
	})
}

func writeRef(w *wire.Writer, r TemplateRef) {
	w.Str("LaunchTemplateId", r.ID)
	w.Str("LaunchTemplateName", r.Name)
	w.Opt("Version", r.Version)
}

func (s *Store) writeMember(c *core.Call, m *member) {
	w := c.Out
	w.Str("InstanceId", m.id)
	w.Opt("InstanceType", m.from.typ)
	w.Str("AvailabilityZone", m.zone)
	w.Str("LifecycleState", s.lifecycle(m, c.Now))
	w.Str("HealthStatus", s.health(m))
	w.Opt("LaunchConfigurationName", m.from.config)
	if m.from.template != "" {
		w.Struct("LaunchTemplate", func() {
			writeRef(w, TemplateRef{m.from.template, m.from.name, itoa(int(m.from.version))})
		})
	}
	w.Opt("ImageId", m.from.image)
	w.Bool("ProtectedFromScaleIn", m.protected)
	w.Opt("WeightedCapacity", m.from.weight)
}

// health is the member's HealthStatus. One that the group itself takes out to shrink was healthy and stays so.
func (s *Store) health(m *member) string {
	if m.terminating && !m.unhealthy {
		return "Healthy"
	}
	if inst := s.ec2().Instance(m.id); inst != nil && !m.unhealthy {
		if state := inst.Newest().State; state == "pending" || state == "running" {
			return "Healthy"
		}
	}
	return "Unhealthy"
}

func describeInstances(c *core.Call) error {
	size, after, err := page(c, instancePage)
	if err != nil {
		return err
	}
	s, ids := StoreOf(c.Place), c.In.Strings("InstanceIds")
	if len(ids) > instancePage {
		return invalid("The number of instance ids must be at most %d", instancePage)
	}
	if len(ids) == 0 {
		ids = slices.Collect(maps.Keys(s.memberOf))
	}
	slices.Sort(ids)
	var found []string
	for _, id := range ids {
		if id > after && s.memberOf[id] != nil {
			found = append(found, id)
		}
	}
	shown := found[:min(size, len(found))]
	c.Out.List("AutoScalingInstances", func() {
		for _, id := range shown {
			g := s.memberOf[id]
			c.Out.Struct("", func() {
				c.Out.Str("AutoScalingGroupName", g.name)
				s.writeMember(c, g.member(id))
			})
		}
	})
	if len(shown) < len(found) {
		nextToken(c, shown[len(shown)-1])
	}
	return nil
}
