package ec2

import (
	"slices"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

func regionActions() map[string]core.Action {
	return map[string]core.Action{"DescribeRegions": describe(describeRegions, "RegionName", "AllRegions", "Filter")}
}

type regionView struct{ name, endpoint, optIn string }

func describeRegions(c *core.Call) error {
	all, _, err := c.In.Bool("AllRegions")
	if err != nil {
		return err
	}
	matches, err := filters(c, map[string]func(regionView, func(string) bool) bool{
		"region-name":   by(func(v regionView) string { return v.name }),
		"endpoint":      by(func(v regionView) string { return v.endpoint }),
		"opt-in-status": by(func(v regionView) string { return v.optIn }),
	}, nil)
	if err != nil {
		return err
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	names := c.In.Strings("RegionName")
	var found []regionView
	for _, r := range core.Regions(c.Place.Partition) {
		v := regionView{name: string(r.Name), endpoint: "ec2." + string(r.Name) + dnsSuffix(c.Place.Partition),
			optIn: "opt-in-not-required"}
		enabled := c.World.RegionEnabled(c.Place.Account, r.Name)
		switch {
		case r.OptIn && enabled:
			v.optIn = "opted-in"
		case r.OptIn:
			v.optIn = "not-opted-in"
		}
		if (enabled || all || slices.Contains(names, v.name)) && (len(names) == 0 || slices.Contains(names,
			v.name)) && matches(v) {
			found = append(found, v)
		}
	}
	for _, n := range names {
		if !slices.ContainsFunc(core.Regions(c.Place.Partition),
			func(r core.RegionInfo) bool { return string(r.Name) == n }) {
			return wire.Errorf("InvalidParameterValue", "Invalid region '%s'", n)
		}
	}
	c.Out.List("regionInfo", func() {
		for _, v := range found {
			c.Out.Struct("", func() {
				c.Out.Str("optInStatus", v.optIn)
				c.Out.Str("regionName", v.name)
				c.Out.Str("regionEndpoint", v.endpoint)
			})
		}
	})
	return nil
}

func dnsSuffix(p fleet.Partition) string {
	if p == fleet.PartitionChina {
		return ".amazonaws.com.cn"
	}
	return ".amazonaws.com"
}
