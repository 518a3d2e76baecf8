package ecs

import (
	"slices"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// The providers that every account has.
const (
	fargate     = "FARGATE"
	fargateSpot = "FARGATE_SPOT"
)

// describeProviders lists capacity providers: those of the account or, where a cluster is named, those associated with it.
// Managed instances providers belong to their cluster, so that only the latter has them.
// https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeCapacityProviders.html
func describeProviders(c *core.Call) error {
	p, err := pageOf(c, mostProviders)
	if err != nil {
		return err
	}
	s := StoreOf(c.Place)
	all, err := s.visible(c)
	if err != nil {
		return err
	}
	names := c.In.Strings("capacityProviders")
	var missing []string
	if len(names) > 0 {
		if len(names) > mostDescribed {
			return invalid("capacityProviders cannot have more than %d elements.", mostDescribed)
		}
		p.size = mostDescribed
		for i, n := range names {
			names[i] = short(n)
			if !slices.ContainsFunc(all, func(v ProviderSeed) bool { return v.Name == names[i] }) {
				missing = append(missing, s.arn("capacity-provider", names[i]))
			}
		}
		all = slices.DeleteFunc(all, func(v ProviderSeed) bool { return !slices.Contains(names, v.Name) })
	}
	part, next := cut(p, all, func(v ProviderSeed) string { return v.Name })
	c.Out.List("capacityProviders", func() {
		for _, v := range part {
			c.Touch(v.Name)
			c.Out.Struct("", func() { writeProvider(c, s, v) })
		}
	})
	writeFailures(c.Out, missing)
	c.Out.Opt("nextToken", next)
	return nil
}

// visible are the providers that a call can see, by name.
func (s *Store) visible(c *core.Call) ([]ProviderSeed, error) {
	own := ""
	holds := func(ProviderSeed) bool { return true }
	if c.In.Has("cluster") {
		cl, err := clusterOf(c)
		if err != nil {
			return nil, err
		}
		own = cl.Name
		holds = func(v ProviderSeed) bool { return v.Cluster == own || slices.Contains(cl.CapacityProviders, v.Name) }
	}
	var out []ProviderSeed
	for _, v := range append([]ProviderSeed{{Name: fargate, Status: "ACTIVE"}, {Name: fargateSpot, Status: "ACTIVE"}}, s.providers...) {
		if (v.Cluster == "" || v.Cluster == own) && holds(v) {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b ProviderSeed) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out, nil
}

func writeProvider(c *core.Call, s *Store, v ProviderSeed) {
	w := c.Out
	w.Str("capacityProviderArn", s.arn("capacity-provider", v.Name))
	w.Str("name", v.Name)
	w.Opt("cluster", v.Cluster)
	w.Str("status", v.Status)
	switch {
	case v.Cluster != "":
		w.Str("type", "MANAGED_INSTANCES")
		w.Struct("managedInstancesProvider", func() { writeManaged(w, v) })
	case v.AutoScalingGroup != "":
		w.Str("type", "EC2_AUTOSCALING")
		w.Struct("autoScalingGroupProvider", func() {
			w.Str("autoScalingGroupArn", v.AutoScalingGroup)
			w.Struct("managedScaling", func() { w.Str("status", "ENABLED") })
			w.Str("managedTerminationProtection", "DISABLED")
		})
	default:
		w.Str("type", v.Name)
	}
	if includes(c, "TAGS") {
		writeTags(w, v.Tags)
	} else {
		writeTags(w, nil)
	}
}

func writeManaged(w *wire.Writer, v ProviderSeed) {
	w.Str("infrastructureRoleArn", v.InfrastructureRole)
	w.Struct("instanceLaunchTemplate", func() {
		w.Str("ec2InstanceProfileArn", v.InstanceProfile)
		w.Struct("networkConfiguration", func() {
			w.Strings("subnets", []string{"subnet-0123456789abcdef0"})
			w.Strings("securityGroups", []string{"sg-0123456789abcdef0"})
		})
	})
	w.Str("propagateTags", "NONE")
}
