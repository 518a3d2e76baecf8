package ec2

import (
	"slices"
	"strconv"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// fleetView is a fleet as one describe call sees it.
type fleetView struct {
	*Fleet
	*fleetState
}

func fleetFilters() map[string]func(fleetView, func(string) bool) bool {
	return map[string]func(fleetView, func(string) bool) bool{
		"activity-status": by(func(v fleetView) string { return v.activity(v.fleetState) }),
		"excess-capacity-termination-policy": by(func(v fleetView) string {
			return strconv.FormatBool(v.Config.text("ExcessCapacityTerminationPolicy") != "no-termination")
		}),
		"fleet-state":                 by(func(v fleetView) string { return v.fleetState.State }),
		"replace-unhealthy-instances": by(func(v fleetView) string { return v.Config.text("ReplaceUnhealthyInstances") }),
		"type":                        by(func(v fleetView) string { return v.kind() }),
	}
}

// selectFleets finds one page of what a describe call asks for.
func selectFleets(c *core.Call, spot bool, parameter string, matches func(fleetView) bool) ([]fleetView, string, error) {
	s := storeOf(c)
	ids := c.In.Strings(parameter)
	p, err := pageOf(c, 1, 1000)
	if err != nil {
		return nil, "", err
	}
	if err := c.DryRun(); err != nil {
		return nil, "", err
	}
	c.Touch(ids...)
	for _, id := range ids {
		f, err := s.fleetFor(id, spot)
		if err != nil {
			return nil, "", err
		}
		if f.state.Seen(c.Now) == nil {
			return nil, "", wire.Errorf(identityOf(spot).code+".NotFound", "The fleet ID '%s' does not exist", id)
		}
	}
	var found []fleetView
	for _, f := range s.fleets().order {
		st := f.state.Seen(c.Now)
		if st == nil || f.spot != spot || uint64(f.serial) <= p.after || len(ids) > 0 && !slices.Contains(ids, f.id) {
			continue
		}
		// A fleet of type instant appears only where it is named (API reference, DescribeFleets).
		if st.kind() == fleetInstant && len(ids) == 0 {
			continue
		}
		v := fleetView{f, st}
		if !matches(v) {
			continue
		}
		if len(found) == p.limit {
			return found, p.token(uint64(found[len(found)-1].serial)), nil
		}
		found = append(found, v)
	}
	return found, "", nil
}

func describeFleets(c *core.Call) error {
	matches, err := filters(c, fleetFilters(), func(v fleetView) []Tag { return v.Tags })
	if err != nil {
		return err
	}
	found, next, err := selectFleets(c, false, "FleetId", matches)
	if err != nil {
		return err
	}
	c.Out.List("fleetSet", func() {
		for _, v := range found {
			c.Out.Struct("", func() { writeFleet(c.Out, v) })
		}
	})
	c.Out.Opt("nextToken", next)
	return nil
}

func writeFleet(w *wire.Writer, v fleetView) {
	w.Str("activityStatus", v.activity(v.fleetState))
	w.Time("createTime", v.created)
	w.Str("fleetId", v.id)
	w.Str("fleetState", v.fleetState.State)
	w.Float("fulfilledCapacity", v.fulfilled())
	w.Float("fulfilledOnDemandCapacity", 0)
	config := Data{"ExcessCapacityTerminationPolicy": "termination", "Type": fleetMaintain,
		"ReplaceUnhealthyInstances": "false", "TerminateInstancesWithExpiration": "false"}.with(v.Config)
	if capacity, ok := config["TargetCapacitySpecification"].(Data); ok {
		config["TargetCapacitySpecification"] = divided(capacity)
	}
	writeData(w, fleetFields, config)
	writeTags(w, v.Tags)
	if v.kind() == fleetInstant {
		writeLaunched(w, v.Fleet, "fleetInstanceSet")
	}
}

// with lays data over defaults.
func (d Data) with(over Data) Data {
	for name, value := range over {
		d[name] = value
	}
	return d
}

// divided says the target capacity as EC2 does: what was not sent is of the default type.
func divided(capacity Data) Data {
	out := Data{"DefaultTargetCapacityType": "spot", "OnDemandTargetCapacity": "0", "SpotTargetCapacity": "0"}.with(capacity)
	rest := amount(out, "TotalTargetCapacity") - amount(out, "OnDemandTargetCapacity") - amount(out, "SpotTargetCapacity")
	name := "SpotTargetCapacity"
	if out.text("DefaultTargetCapacityType") == "on-demand" {
		name = "OnDemandTargetCapacity"
	}
	if rest > 0 {
		out[name] = strconv.FormatFloat(amount(out, name)+rest, 'f', -1, 64)
	}
	return out
}

// writeLaunched tells what a fleet of type instant launched, and what it could not.
func writeLaunched(w *wire.Writer, f *Fleet, list string) {
	pool := func(p pool) {
		w.Struct("launchTemplateAndOverrides", func() {
			w.Struct("launchTemplateSpecification", func() { writeData(w, templateReference(), p.template) })
			w.Struct("overrides", func() {
				writeData(w, within(within(fleetFields, "LaunchTemplateConfigs").fields, "Overrides").fields, p.override)
			})
		})
		w.Str("lifecycle", "on-demand")
	}
	w.List("errorSet", func() {
		for _, e := range f.errors {
			w.Struct("", func() {
				pool(e.from)
				w.Str("errorCode", e.code)
				w.Str("errorMessage", e.message)
			})
		}
	})
	w.List(list, func() {
		for _, m := range f.members {
			w.Struct("", func() {
				pool(m.from)
				w.Strings("instanceIds", []string{m.instance.id})
				w.Str("instanceType", m.instance.Newest().InstanceType)
			})
		}
	})
}

func describeSpotFleets(c *core.Call) error {
	found, next, err := selectFleets(c, true, "SpotFleetRequestId", func(fleetView) bool { return true })
	if err != nil {
		return err
	}
	c.Out.Opt("nextToken", next)
	c.Out.List("spotFleetRequestConfigSet", func() {
		for _, v := range found {
			c.Out.Struct("", func() { writeSpotFleet(c.Out, v) })
		}
	})
	return nil
}

func writeSpotFleet(w *wire.Writer, v fleetView) {
	w.Str("activityStatus", v.activity(v.fleetState))
	w.Time("createTime", v.created)
	w.Struct("spotFleetRequestConfig", func() {
		writeData(w, spotFleetFields, Data{
			"AllocationStrategy": "lowestPrice", "ExcessCapacityTerminationPolicy": "default", "Type": fleetMaintain,
			"OnDemandTargetCapacity": "0", "OnDemandFulfilledCapacity": "0", "ReplaceUnhealthyInstances": "false",
			"TerminateInstancesWithExpiration": "false",
		}.with(v.Config).with(Data{"FulfilledCapacity": strconv.FormatFloat(v.fulfilled(), 'f', -1, 64)}))
	})
	w.Str("spotFleetRequestId", v.id)
	w.Str("spotFleetRequestState", v.fleetState.State)
	writeTags(w, v.Tags)
}

// describeFleetInstances lists the running instances of an EC2 Fleet or a Spot Fleet request.
func describeFleetInstances(c *core.Call) error {
	s := storeOf(c)
	spot, name, idName := false, "FleetId", "fleetId"
	if c.Action == "DescribeSpotFleetInstances" {
		spot, name, idName = true, "SpotFleetRequestId", "spotFleetRequestId"
	}
	id, err := required(c, name)
	if err != nil {
		return err
	}
	p, err := pageOf(c, 1, 1000)
	if err != nil {
		return err
	}
	matches, err := filters(c, map[string]func(member, func(string) bool) bool{
		"instance-type": by(func(m member) string { return m.instance.Newest().InstanceType }),
	}, nil)
	if err != nil {
		return err
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	c.Touch(id)
	f, err := s.fleetFor(id, spot)
	if err != nil {
		return err
	}
	if f.state.Newest().kind() == fleetInstant {
		return wire.Errorf("UnsupportedOperation", "The fleet '%s' is of type instant: name it in DescribeFleets", id)
	}
	var found []member
	next := ""
	for _, m := range f.members {
		if _, seen := m.instance.Seen(c.Now); !seen || uint64(m.instance.serial) <= p.after || !matches(m) {
			continue
		}
		if len(found) == p.limit {
			next = p.token(uint64(found[len(found)-1].instance.serial))
			break
		}
		found = append(found, m)
	}
	c.Out.List("activeInstanceSet", func() {
		for _, m := range found {
			c.Out.Struct("", func() {
				c.Out.Str("instanceId", m.instance.id)
				c.Out.Str("instanceType", m.instance.Newest().InstanceType)
				c.Out.Str("instanceHealth", "healthy")
			})
		}
	})
	c.Out.Opt("nextToken", next)
	c.Out.Str(idName, id)
	return nil
}
