package ec2

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// refusedConfig is EC2's refusal of a configuration.
func refusedConfig(spot bool, format string, args ...any) error {
	if spot {
		return wire.Errorf("InvalidSpotFleetRequestConfig", format, args...)
	}
	return wire.Errorf("InvalidFleetConfig", format, args...)
}

func createFleet(c *core.Call) error {
	if c.In.Has("ReservedCapacityOptions") {
		return wire.Errorf("Unsupported", "Fleets of reserved capacity are not simulated.")
	}
	config, err := structIn("CreateFleet", fleetFields, c.In, "TagSpecification", "DryRun")
	if err != nil {
		return err
	}
	tags, err := tagSpecification(c, "fleet")
	if err != nil {
		return err
	}
	instances, err := tagSpecification(c, "instance")
	if err != nil {
		return err
	}
	f, fresh, err := request(c, false, config, tags, instances)
	if err != nil {
		return err
	}
	note(c, fresh, f.id)
	c.Out.Str("fleetId", f.id)
	if f.state.Newest().kind() == fleetInstant {
		writeLaunched(c.Out, f, "fleetInstanceSet")
	}
	return nil
}

func requestSpotFleet(c *core.Call) error {
	config, err := structIn("SpotFleetRequestConfig", spotFleetFields, c.In.Get("SpotFleetRequestConfig"))
	if err != nil {
		return err
	}
	tags := map[string]string{}
	for _, spec := range config.list("TagSpecifications") {
		if spec.text("ResourceType") != "spot-fleet-request" {
			return refusedConfig(true, "Only the resource type spot-fleet-request can be tagged here")
		}
		for key, value := range tagsIn(spec) {
			if err := checkTagKey(key); err != nil {
				return err
			}
			tags[key] = value
		}
	}
	if config.text("IamFleetRole") == "" {
		return wire.Errorf("MissingParameter", "The request must contain the parameter IamFleetRole")
	}
	f, fresh, err := request(c, true, config, tags, nil)
	if err != nil {
		return err
	}
	note(c, fresh, f.id)
	c.Out.Str("spotFleetRequestId", f.id)
	return nil
}

// request makes a fleet and has it launch; once for each client token.
func request(c *core.Call, spot bool, config Data, tags, instances map[string]string) (f *Fleet, fresh bool, err error) {
	s := storeOf(c)
	if config.text("Type") == "" {
		config["Type"] = fleetMaintain
	}
	f = &Fleet{spot: spot, created: c.Now}
	st := &fleetState{State: fleetSubmitted, Config: config, Tags: tagsOf(tags)}
	if err := s.checkFleet(f, st); err != nil {
		return nil, false, err
	}
	s.resolveVersions(config)
	if len(instances) > 0 && st.kind() != fleetInstant {
		return nil, false, refusedConfig(spot, "Instances can be tagged here only by a fleet of type instant")
	}
	f, err = remembered(c, s, func() (*Fleet, error) {
		if err := c.DryRun(); err != nil {
			return nil, err
		}
		fresh = true
		f.id = s.newFleetID(map[bool]string{false: "fleet-", true: "sfr-"}[spot])
		if st.kind() == fleetInstant {
			st.State = fleetActive
		}
		f.state.Set(c.Now, s.delay(), st)
		s.addFleet(f)
		s.fulfil(c.Now, f, st, instances)
		if f.fulfilled() < f.target(st) {
			s.planFleet(c.Now, f, firstFleetRetry)
		}
		s.activate(c.Now, f)
		return f, nil
	})
	return f, fresh, err
}

// checkFleet checks a configuration as EC2 does before it takes a request.
func (s *Store) checkFleet(f *Fleet, st *fleetState) error {
	types := []string{fleetMaintain, fleetRequest, fleetInstant}
	if f.spot {
		types = types[:2]
	}
	if !slices.Contains(types, st.kind()) {
		return refusedConfig(f.spot, "The fleet type '%s' is not valid", st.kind())
	}
	inline, configs := len(st.Config.list("LaunchSpecifications")), st.Config.list("LaunchTemplateConfigs")
	switch {
	case f.spot && (inline == 0) == (len(configs) == 0):
		return refusedConfig(true, "Exactly one of LaunchSpecifications and LaunchTemplateConfigs must be specified")
	case !f.spot && len(configs) == 0:
		return wire.Errorf("MissingParameter", "The request must contain the parameter LaunchTemplateConfigs")
	case f.target(st) < 0 || f.target(st) == 0 && st.kind() != fleetMaintain:
		return refusedConfig(f.spot, "The target capacity must be at least 1")
	}
	for _, spec := range st.Config.list("LaunchSpecifications") {
		if spec.text("ImageId") == "" {
			return refusedConfig(true, "A launch specification needs an ImageId")
		}
	}
	for _, config := range configs {
		if err := s.checkConfig(f.spot, st.kind(), config); err != nil {
			return err
		}
	}
	return nil
}

// resolveVersions makes numbers of $Default and $Latest, as EC2 does when it takes a configuration: a fleet does not move
// with its template (found by the EC2 controller of AWS Controllers for Kubernetes, pull request 308).
func (s *Store) resolveVersions(config Data) {
	var out []Data
	for _, c := range config.list("LaunchTemplateConfigs") {
		spec, _ := c["LaunchTemplateSpecification"].(Data)
		t, err := s.template(spec.text("LaunchTemplateId"), spec.text("LaunchTemplateName"))
		if err != nil {
			return // checked before
		}
		v, err := t.version(t.state.Newest(), spec.text("Version"))
		if err != nil {
			return
		}
		c, spec = maps.Clone(c), maps.Clone(spec)
		spec["Version"] = strconv.FormatInt(v.Number, 10)
		c["LaunchTemplateSpecification"] = spec
		out = append(out, c)
	}
	if out != nil {
		config["LaunchTemplateConfigs"] = out
	}
}

// checkConfig checks one launch template with its overrides. A version must be said (FleetLaunchTemplateSpecification).
func (s *Store) checkConfig(spot bool, kind string, config Data) error {
	spec, _ := config["LaunchTemplateSpecification"].(Data)
	t, err := s.template(spec.text("LaunchTemplateId"), spec.text("LaunchTemplateName"))
	if err != nil {
		return err
	}
	if spec.text("Version") == "" {
		return wire.Errorf("MissingParameter", "The request must contain the version of the launch template")
	}
	if _, err := t.version(t.state.Newest(), spec.text("Version")); err != nil {
		return err
	}
	for _, o := range config.list("Overrides") {
		if kind != fleetInstant {
			for _, name := range instantOnly {
				if _, ok := o[name]; ok {
					return refusedConfig(spot, "%s is supported only for fleets of type instant", name)
				}
			}
		}
		if o.text("InstanceType") != "" && o["InstanceRequirements"] != nil {
			return refusedConfig(spot, "InstanceType and InstanceRequirements cannot be specified together")
		}
		if err := checkOptions(o.options()); err != nil {
			return err
		}
	}
	return nil
}

func modifyFleet(c *core.Call) error {
	patch, err := structIn("ModifyFleet", []field{named("LaunchTemplateConfigs", "LaunchTemplateConfig", fleetFields),
		within(fleetFields, "TargetCapacitySpecification"), within(fleetFields, "ExcessCapacityTerminationPolicy"),
		within(fleetFields, "Context")}, c.In, "FleetId", "DryRun")
	if err != nil {
		return err
	}
	return modify(c, c.In.Str("FleetId"), false, patch)
}

func modifySpotFleet(c *core.Call) error {
	patch, err := structIn("ModifySpotFleetRequest", []field{
		named("LaunchTemplateConfigs", "LaunchTemplateConfig", spotFleetFields), within(spotFleetFields, "TargetCapacity"),
		within(spotFleetFields, "OnDemandTargetCapacity"), within(spotFleetFields, "ExcessCapacityTerminationPolicy"),
		within(spotFleetFields, "Context"),
	}, c.In, "SpotFleetRequestId")
	if err != nil {
		return err
	}
	return modify(c, c.In.Str("SpotFleetRequestId"), true, patch)
}

// named is a field under another name in requests.
func named(name, query string, fields []field) field {
	f := within(fields, name)
	f.query = query
	return f
}

// modify replaces, whole, every parameter that is sent. Only a fleet that maintains its capacity takes it, and only while
// it is active.
func modify(c *core.Call, id string, spot bool, patch Data) error {
	s := storeOf(c)
	c.Touch(id)
	f, err := s.fleetFor(id, spot)
	if err != nil {
		return err
	}
	old := f.state.Newest()
	next := *old
	next.Config = maps.Clone(old.Config)
	maps.Copy(next.Config, patch)
	next.State = fleetModifying
	switch _, configs := patch["LaunchTemplateConfigs"]; {
	case old.kind() != fleetMaintain:
		return refusedConfig(spot, "Only a fleet of type maintain can be modified, and '%s' is of type %s", id, old.kind())
	case old.State != fleetActive:
		return wire.Errorf("FleetNotInModifiableState", "The fleet '%s' is %s, and must be active to be modified", id,
			strings.ReplaceAll(old.State, "_", " "))
	case configs && len(old.Config.list("LaunchSpecifications")) > 0:
		return refusedConfig(true, "A request that was made with LaunchSpecifications takes no LaunchTemplateConfigs")
	}
	if err := s.checkFleet(f, &next); err != nil {
		return err
	}
	if _, sent := patch["LaunchTemplateConfigs"]; sent {
		s.resolveVersions(next.Config)
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	f.state.Set(c.Now, s.delay(), &next)
	c.Mutated(id)
	s.activate(c.Now, f)
	s.planFleet(c.Now, f, s.place.World().Settle())
	c.Out.Bool("return", true)
	return nil
}
