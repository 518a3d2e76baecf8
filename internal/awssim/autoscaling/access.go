package autoscaling

import (
	"cmp"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
)

// accessGroup needs the group that the request names and, where the request says what to launch from, the right to launch.
func accessGroup(c *core.Call) []core.Access {
	name := c.In.Str("AutoScalingGroupName")
	a := core.Access{Resource: c.ARN("autoscaling", "autoScalingGroup:*:autoScalingGroupName/"+name)}
	if g := StoreOf(c.Place).groups[name]; g != nil {
		a.Resource = g.arn
	}
	needs := []core.Access{a}
	says := c.In
	if says.Has("DesiredConfiguration") { // of an instance refresh
		says = says.Get("DesiredConfiguration")
	}
	if says.Has("LaunchTemplate") {
		needs = append(needs, launchAccess(c, parseRef(says.Get("LaunchTemplate")))...)
	}
	if says.Has("MixedInstancesPolicy") {
		if mixed, err := parseMixed(says.Get("MixedInstancesPolicy")); err == nil {
			needs = append(needs, launchAccess(c, mixed.Template)...)
			for _, o := range mixed.Overrides {
				if o.Template != nil {
					needs = append(needs, launchAccess(c, *o.Template)...)
				}
			}
		}
	}
	return needs
}

func launchAccess(c *core.Call, ref TemplateRef) []core.Access {
	return ec2.AccessToLaunch(c, cmp.Or(ref.ID, ref.Name), ref.Version)
}
