package ec2

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Launches that failed are tried again after a minute at first, and after an hour at most.
const (
	firstFleetRetry = time.Minute
	lastFleetRetry  = time.Hour
)

// pool is one of the ways in which a fleet may launch an instance: a launch template with one of its overrides, or an
// inline specification of a Spot Fleet.
type pool struct {
	template Data
	override Data
	inline   Data
}

// launchError is why a fleet of type instant could not launch from one of its pools.
type launchError struct {
	from          pool
	code, message string
}

// pools lists the ways in which the fleet launches.
func (st *fleetState) pools() []pool {
	var out []pool
	for _, inline := range st.Config.list("LaunchSpecifications") {
		out = append(out, pool{inline: inline})
	}
	for _, config := range st.Config.list("LaunchTemplateConfigs") {
		template, _ := config["LaunchTemplateSpecification"].(Data)
		overrides := config.list("Overrides")
		for _, o := range overrides {
			out = append(out, pool{template: template, override: o})
		}
		if len(overrides) == 0 {
			out = append(out, pool{template: template})
		}
	}
	return out
}

// weight is how many units an instance of the pool counts for.
func (p pool) weight() float64 {
	if w := max(amount(p.inline, "WeightedCapacity"), amount(p.override, "WeightedCapacity")); w > 0 {
		return w
	}
	return 1
}

// launch is what the pool asks of EC2. The fields of an override win over the template's.
func (s *Store) poolLaunch(f *Fleet, p pool) LaunchSpec {
	from := p.override
	if p.inline != nil {
		from = p.inline
	}
	subnet, _, _ := strings.Cut(from.text("SubnetId"), ",")
	spec := LaunchSpec{
		Count: 1, ImageID: from.text("ImageId"), InstanceType: from.text("InstanceType"), SubnetID: strings.TrimSpace(subnet),
		AZ: cmp.Or(from.text("AvailabilityZone"), from.text("Placement", "AvailabilityZone")), KeyName: from.text("KeyName"),
		ProfileARN: cmp.Or(from.text("IamInstanceProfile", "Arn"), s.profileARN(from.text("IamInstanceProfile", "Name"))),
		Options:    from.options(), Tags: map[string]string{},
	}
	if need, ok := from["InstanceRequirements"].(Data); ok {
		// Which types have the attributes is not simulated: the first that is allowed by its whole name, or a common one.
		spec.InstanceType = "m5.large"
		allowed, _ := need["AllowedInstanceTypes"].([]string)
		if n := slices.IndexFunc(allowed, func(name string) bool { return !strings.Contains(name, "*") }); n >= 0 {
			spec.InstanceType = allowed[n]
		}
	}
	spec.TemplateID, spec.TemplateName = p.template.text("LaunchTemplateId"), p.template.text("LaunchTemplateName")
	if spec.TemplateID != "" {
		spec.TemplateName = ""
	}
	spec.Version = p.template.text("Version")
	for _, t := range from.list("TagSpecifications") {
		if t.text("ResourceType") == "instance" {
			maps.Copy(spec.Tags, tagsIn(t))
		}
	}
	return spec
}

func tagsIn(specification Data) map[string]string {
	out := map[string]string{}
	for _, t := range specification.list("Tags") {
		out[t.text("Key")] = t.text("Value")
	}
	return out
}

// fulfil launches until the fleet has its target, from one pool after the other. It stops when no pool launches.
func (s *Store) fulfil(now time.Time, f *Fleet, st *fleetState, more map[string]string) {
	pools, target := st.pools(), f.target(st)
	f.errors = nil
	for refused := 0; f.fulfilled() < target && refused < len(pools); {
		p := pools[f.turn%len(pools)]
		f.turn++
		spec := s.poolLaunch(f, p)
		maps.Copy(spec.Tags, more)
		spec.Tags[f.tag()] = f.id
		made, err := s.Launch(now, spec)
		if err != nil {
			refused++
			f.errors = append(f.errors, refusal(p, err))
			continue
		}
		refused = 0
		for _, i := range made {
			s.join(f, member{instance: i, weight: p.weight(), from: p})
		}
	}
}

func refusal(p pool, err error) launchError {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return launchError{from: p, code: e.Code, message: e.Message}
	}
	return launchError{from: p, code: "InternalError", message: err.Error()}
}

func (s *Store) join(f *Fleet, m member) {
	f.members = append(f.members, m)
	s.fleets().memberOf[m.instance.id] = f
}

// plan has the fleet looked at after a while.
func (s *Store) planFleet(now time.Time, f *Fleet, after time.Duration) {
	if f.planned {
		return
	}
	f.planned = true
	s.place.After(now, after, func(now time.Time) {
		f.planned = false
		s.reconcile(now, f)
	})
}

// reconcile brings a fleet that maintains its capacity to its target.
func (s *Store) reconcile(now time.Time, f *Fleet) {
	st := f.state.Newest()
	if st == nil || !st.works() || st.kind() != fleetMaintain {
		return
	}
	s.fulfil(now, f, st, nil)
	if f.fulfilled() < f.target(st) {
		f.failed++
		s.planFleet(now, f, min(firstFleetRetry<<min(f.failed-1, 6), lastFleetRetry))
		return
	}
	f.failed = 0
	if policy := st.Config.text("ExcessCapacityTerminationPolicy"); policy == "no-termination" || policy == "noTermination" {
		return
	}
	for len(f.members) > 0 && f.fulfilled()-f.members[0].weight >= f.target(st) {
		s.Terminate(now, f.members[0].instance.id)
	}
}

// watchFleets has fleets let go of instances that end, and replace them where they maintain their capacity.
func (s *Store) watchFleets() {
	all := s.fleets()
	if all.watching {
		return
	}
	all.watching = true
	s.Watch(func(now time.Time, i *Instance) {
		f := all.memberOf[i.id]
		if f == nil || !ended(i.state.Newest().State) {
			return
		}
		delete(all.memberOf, i.id)
		f.members = slices.DeleteFunc(f.members, func(m member) bool { return m.instance == i })
		s.planFleet(now, f, s.place.World().Settle())
	})
}

// activate ends the state in which a fleet was asked for or is being modified.
func (s *Store) activate(now time.Time, f *Fleet) {
	s.place.After(now, s.place.World().Settle(), func(now time.Time) {
		if st := f.state.Newest(); st != nil && (st.State == fleetSubmitted || st.State == fleetModifying) {
			s.updateFleet(now, f, func(st *fleetState) { st.State = fleetActive })
		}
	})
}

// activity is the progress of a fleet.
func (f *Fleet) activity(st *fleetState) string {
	switch target := f.target(st); {
	case st.kind() == fleetInstant:
		return "fulfilled"
	case f.fulfilled() < target && len(f.errors) > 0:
		return "error"
	case f.fulfilled() < target:
		return "pending_fulfillment"
	}
	return "fulfilled"
}
