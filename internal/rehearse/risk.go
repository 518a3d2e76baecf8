package rehearse

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/elbv2"
	"github.com/imdsctl/imdsctl/internal/awssim/iam"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// Fields of the kinds that only say how much is at stake.
const (
	roleARN        = "Arn"
	roleTrust      = "AssumeRolePolicyDocument.Service"
	roleBoundary   = "PermissionsBoundaryArn"
	groupName      = "GroupName"
	groupVPC       = "VpcId"
	groupOpen      = "IpPermissions.open"
	balancerScheme = "Scheme"
	balancerType   = "Type"
)

// seedRole copies roles without what they may do: nothing in a rehearsal asks for it.
func seedRole(s *Sections, resources []inventory.Resource) error {
	seed := Section[iam.Seed](s, iam.Name)
	for i := range resources {
		r := &resources[i]
		_, path, ok := strings.Cut(r.State[roleARN], ":role/")
		if !ok {
			return fmt.Errorf("%s has the ARN %q, which is none of a role", r.Ref, r.State[roleARN])
		}
		services := listOf(r.State[roleTrust])
		if services == nil {
			services = []string{"lambda.amazonaws.com"} // it was kept for its profiles alone
		}
		trust, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": map[string]any{
			"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": map[string]any{"Service": services}}})
		if err != nil {
			return fmt.Errorf("trust policy of %s: %w", r.Ref, err)
		}
		role := iam.RoleSeed{Name: r.Ref.ID, Path: "/" + path[:strings.LastIndexByte(path, '/')+1], Trust: trust,
			Profiles: listOf(r.Attrs[inventory.AttrProfiles]), Tags: r.Tags}
		if account, path, ok := strings.Cut(r.State[roleBoundary], ":policy/"); ok {
			p := iam.PolicySeed{Name: path[strings.LastIndexByte(path, '/')+1:], Path: "/" + path[:strings.LastIndexByte(path, '/')+1],
				AWS: strings.HasSuffix(account, ":aws"), Documents: []json.RawMessage{
					json.RawMessage(`{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`)}}
			role.Boundary = p.Name
			if !slices.ContainsFunc(seed.Policies, func(have iam.PolicySeed) bool { return have.Name == p.Name }) {
				seed.Policies = append(seed.Policies, p)
			}
		}
		seed.Roles = append(seed.Roles, role)
	}
	return nil
}

// seedSecurityGroup copies what of a group is open to everyone.
func seedSecurityGroup(s *Sections, resources []inventory.Resource) error {
	seed := Section[ec2.Seed](s, ec2Section)
	for i := range resources {
		r := &resources[i]
		g := ec2.SecurityGroupSeed{ID: r.Ref.ID, Name: r.State[groupName], VPC: r.State[groupVPC], Tags: r.Tags}
		for text := range strings.SplitSeq(r.State[groupOpen], ", ") {
			protocol, ports, some := strings.Cut(text, " ")
			rule := ec2.RuleSeed{Protocol: cmp.Or(map[string]string{"all": "-1"}[protocol], protocol), CIDRs: []string{"0.0.0.0/0"}}
			if some {
				from, to, isRange := strings.Cut(ports, "-")
				if !isRange {
					to = from
				}
				first, err := strconv.ParseInt(from, 10, 64)
				if err != nil {
					return fmt.Errorf("what %s lets in: %w", r.Ref, err)
				}
				last, err := strconv.ParseInt(to, 10, 64)
				if err != nil {
					return fmt.Errorf("what %s lets in: %w", r.Ref, err)
				}
				rule.From, rule.To = &first, &last
			}
			g.Ingress = append(g.Ingress, rule)
		}
		seed.SecurityGroups = append(seed.SecurityGroups, g)
	}
	return nil
}

// seedLoadBalancer copies load balancers, each with target groups of its own for what is behind it.
func seedLoadBalancer(s *Sections, resources []inventory.Resource) error {
	seed := Section[elbv2.Seed](s, elbv2.Name)
	for i := range resources {
		r := &resources[i]
		var instances []string
		for _, l := range r.Links {
			if l.Relation == inventory.Fronts {
				instances = append(instances, l.To.ID)
			}
		}
		groups := listOf(r.Attrs[inventory.AttrSecurityGroups])
		if r.State[balancerType] == "classic" {
			seed.Classic = append(seed.Classic, elbv2.Classic{Name: r.Name, Scheme: r.State[balancerScheme], SecurityGroups: groups,
				Instances: instances})
			continue
		}
		parts := strings.Split(r.Ref.ID, "/")
		if len(parts) != 3 {
			return fmt.Errorf("%s is no load balancer", r.Ref)
		}
		b := elbv2.Balancer{Name: parts[1], ID: parts[2], Type: r.State[balancerType], Scheme: r.State[balancerScheme],
			SecurityGroups: groups}
		for _, g := range []elbv2.TargetGroup{
			{Name: fmt.Sprintf("copied-instances-%d", i), Unchecked: true, Instances: instances},
			{Name: fmt.Sprintf("copied-addresses-%d", i), Type: "ip", Addresses: listOf(r.Attrs[inventory.AttrTargetIPs])},
		} {
			if len(g.Instances)+len(g.Addresses) > 0 {
				seed.TargetGroups = append(seed.TargetGroups, g)
				b.TargetGroups = append(b.TargetGroups, g.Name)
			}
		}
		seed.LoadBalancers = append(seed.LoadBalancers, b)
	}
	return nil
}

// listOf splits what is joined by commas; nil for nothing.
func listOf(joined string) []string {
	if joined == "" {
		return nil
	}
	return strings.Split(joined, ",")
}

func firstOf(joined string) string {
	first, _, _ := strings.Cut(joined, ",")
	return first
}
