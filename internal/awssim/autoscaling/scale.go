package autoscaling

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Retries of a launch that failed begin after a minute and grow to an hour.
const (
	firstRetry = time.Minute
	lastRetry  = time.Hour
)

// plan schedules the group to reach its desired capacity; why begins the causes of the activities ("" for none).
func (s *Store) plan(g *group, now time.Time, after time.Duration, why string) {
	if g.planned {
		return
	}
	g.planned = true
	s.place.After(now, after, func(at time.Time) {
		g.planned = false
		if s.groups[g.name] == g {
			s.reconcile(g, at, why)
		}
	})
}

// reconcile replaces members whose instance has gone, then launches or terminates until the capacity is the desired one.
func (s *Store) reconcile(g *group, now time.Time, why string) {
	s.dropGone(g, now)
	want := g.spec.Newest().Desired
	if g.deleting {
		want = 0
	}
	for n := g.live(); n < want; n++ {
		if _, err := s.launch(g, now, growCause(why, now, n, n+1)); err != nil {
			g.failures++
			s.plan(g, now, min(firstRetry<<min(g.failures-1, 10), lastRetry), "")
			return
		}
	}
	g.failures = 0
	for n := g.live(); n > want; n-- {
		m := g.oldest()
		if m == nil {
			return
		}
		s.terminate(g, m, now, shrinkCause(why, now, n, n-1, m.id))
	}
}

// oldest is the next member to go when the group shrinks.
func (g *group) oldest() *member {
	for _, m := range g.members {
		if !m.terminating && (!m.protected || g.deleting) {
			return m
		}
	}
	return nil
}

// dropGone lets go of members whose instance somebody else terminated or stopped.
func (s *Store) dropGone(g *group, now time.Time) {
	for _, m := range slices.Clone(g.members) {
		if m.terminating {
			continue
		}
		inst := s.ec2().Instance(m.id)
		state := "terminated"
		if inst != nil {
			state = inst.Newest().State
		}
		if state == "pending" || state == "running" {
			continue
		}
		m.unhealthy = true
		s.terminate(g, m, now, fmt.Sprintf("At %s an instance was taken out of service in response to an EC2 health check "+
			"indicating it has been terminated or stopped.", stamp(now)))
	}
}

// launch adds one instance. On an error the group is as it was, but for the failed activity.
func (s *Store) launch(g *group, now time.Time, cause string) (*member, error) {
	return s.launchFrom(g, now, g.spec.Newest().Source, cause)
}

func (s *Store) launchFrom(g *group, now time.Time, src Source, cause string) (*member, error) {
	spec := g.spec.Newest()
	ask, from, err := s.launchSpec(g, spec, src)
	if err == nil {
		var made []*ec2.Instance
		made, err = s.ec2().Launch(now, ask)
		if err == nil && len(made) != 1 {
			err = fmt.Errorf("EC2 launched %d instances, not 1", len(made))
		}
		if err == nil {
			m := s.adopt(g, made[0], from, now)
			s.launchActivity(g, m.id, m.zone, made[0].Newest().SubnetID, cause, now, s.place.World().Settle())
			return m, nil
		}
	}
	message := err.Error()
	if e, ok := errors.AsType[*wire.Error](err); ok {
		message = e.Message
	}
	s.failedLaunch(g, message, cause, now)
	return nil, err
}

func (s *Store) adopt(g *group, inst *ec2.Instance, from launched, now time.Time) *member {
	state := inst.Newest()
	from.typ, from.image = state.InstanceType, state.ImageID
	m := &member{
		id: inst.ID(), zone: state.AZ, from: g.shared(from), since: now, protected: g.spec.Newest().Protected,
	}
	g.members = append(g.members, m)
	s.memberOf[m.id] = g
	return m
}

// launchSpec says what to ask of EC2. Overrides, subnets and zones take turns.
func (s *Store) launchSpec(g *group, spec Spec, src Source) (ec2.LaunchSpec, launched, error) {
	ask := ec2.LaunchSpec{Count: 1, Tags: g.tagsFor(spec)}
	turn := g.turn
	g.turn++
	if len(spec.Subnets) > 0 {
		ask.SubnetID = spec.Subnets[turn%len(spec.Subnets)]
		ask.AZ = s.zoneOf(ask.SubnetID)
	} else if len(spec.Zones) > 0 {
		ask.AZ = spec.Zones[turn%len(spec.Zones)]
	}
	var from launched
	ref := src.Template
	switch {
	case src.Config != "":
		c := s.configs[src.Config]
		if c == nil {
			return ask, from, wire.Errorf("ValidationError", "Launch configuration name not found - %s", src.Config)
		}
		ask.ImageID, ask.InstanceType, ask.Options, ask.ProfileARN = c.ImageID, c.InstanceType, c.Options, c.Profile
		ask.KeyName = c.KeyName
		from.config = c.Name
		return ask, from, nil
	case src.Mixed != nil:
		ref = &src.Mixed.Template
		if n := len(src.Mixed.Overrides); n > 0 {
			o := src.Mixed.Overrides[turn%n]
			ask.InstanceType, ask.ImageID, from.weight = o.InstanceType, o.ImageID, o.Weight
			if o.Template != nil {
				ref = o.Template
			}
		}
	}
	ask.TemplateID, ask.Version = ref.ID, cmp.Or(ref.Version, "$Default")
	version, err := s.ec2().ResolveVersion(ref.ID, ask.Version)
	if err != nil {
		return ask, from, err
	}
	from.template, from.name, from.version = ref.ID, ref.Name, version
	return ask, from, nil
}

// terminate takes a member out; it leaves the group when its instance is gone.
func (s *Store) terminate(g *group, m *member, now time.Time, cause string) *Activity {
	m.terminating = true
	zone, subnet := m.zone, ""
	if inst := s.ec2().Instance(m.id); inst != nil {
		subnet = inst.Newest().SubnetID
		if state := inst.Newest().State; state != "terminated" && state != "shutting-down" {
			s.ec2().Terminate(now, m.id)
		}
	}
	settle := s.place.World().Settle()
	a := s.terminateActivity(g, m.id, zone, subnet, cause, now, settle)
	s.place.After(now, settle, func(at time.Time) { s.leave(g, m, at) })
	return a
}

func (s *Store) leave(g *group, m *member, now time.Time) {
	g.members = slices.DeleteFunc(g.members, func(x *member) bool { return x == m })
	delete(s.memberOf, m.id)
	s.formerly[m.id] = g.name
	if g.deleting && len(g.members) == 0 && s.groups[g.name] == g {
		delete(s.groups, g.name)
		return
	}
	if s.groups[g.name] == g && g.live() != g.spec.Newest().Desired {
		s.plan(g, now, 0, "")
	}
}

// lifecycle is the member's LifecycleState.
func (s *Store) lifecycle(m *member, now time.Time) string {
	switch {
	case m.terminating:
		return "Terminating"
	case now.Before(m.since.Add(s.place.World().Settle())):
		return "Pending"
	default:
		return "InService"
	}
}
