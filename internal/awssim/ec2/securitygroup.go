package ec2

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// SecurityGroupSeed is a security group. What it lets out is everything.
type SecurityGroupSeed struct {
	ID          string            `json:"id"`
	Name        string            `json:"name,omitempty"` // the id by default
	Description string            `json:"description,omitempty"`
	VPC         string            `json:"vpc,omitempty"` // the default one by default
	Ingress     []RuleSeed        `json:"ingress,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
}

// RuleSeed is one entry of what a security group lets in, in the words of the API's IpPermission.
type RuleSeed struct {
	Protocol string `json:"protocol"`       // "tcp", "udp", "icmp", "icmpv6", "-1" or a number
	From     *int64 `json:"from,omitempty"` // nil for all ports
	To       *int64 `json:"to,omitempty"`
	// CIDRs are ranges of both versions; Lists are prefix lists, Groups other security groups.
	CIDRs  []string `json:"cidrs,omitempty"`
	Lists  []string `json:"prefix_lists,omitempty"`
	Groups []string `json:"groups,omitempty"`
}

// PrefixListSeed is a managed prefix list.
type PrefixListSeed struct {
	ID      string   `json:"id"`
	Entries []string `json:"entries,omitempty"` // CIDRs
}

type securityGroup struct {
	SecurityGroupSeed
	serial uint64
}

var (
	groupID      = regexp.MustCompile(`^sg-([0-9a-f]{8}|[0-9a-f]{17})$`)
	prefixListID = regexp.MustCompile(`^pl-([0-9a-f]{8}|[0-9a-f]{17})$`)
)

// seedSecurity adds prefix lists and security groups.
func (s *Store) seedSecurity(seed *Seed, path string) error {
	for i, l := range seed.PrefixLists {
		if !prefixListID.MatchString(l.ID) || s.prefixLists[l.ID] != nil {
			return fmt.Errorf("%s.prefix_lists[%d]: id %q: want pl- and 8 or 17 hexadecimal digits, each once", path, i, l.ID)
		}
		for _, e := range l.Entries {
			if _, err := netip.ParsePrefix(e); err != nil {
				return fmt.Errorf("%s.prefix_lists[%d]: %w", path, i, err)
			}
		}
		if s.prefixLists == nil {
			s.prefixLists = map[string]*PrefixListSeed{}
		}
		s.prefixLists[l.ID] = &l
	}
	for i, g := range seed.SecurityGroups {
		if err := s.AddSecurityGroup(g); err != nil {
			return fmt.Errorf("%s.security_groups[%d]: %w", path, i, err)
		}
	}
	return nil
}

// AddSecurityGroup adds a security group that is there already.
func (s *Store) AddSecurityGroup(g SecurityGroupSeed) error {
	if !groupID.MatchString(g.ID) || s.securityGroup(g.ID) != nil {
		return fmt.Errorf("security group id %q: want sg- and 8 or 17 hexadecimal digits, each once", g.ID)
	}
	for _, r := range g.Ingress {
		for _, c := range r.CIDRs {
			if _, err := netip.ParsePrefix(c); err != nil {
				return fmt.Errorf("security group %s: %w", g.ID, err)
			}
		}
		for _, l := range r.Lists {
			if s.prefixLists[l] == nil {
				return fmt.Errorf("security group %s: prefix list %s is not there", g.ID, l)
			}
		}
		if r.Protocol == "" || (r.From == nil) != (r.To == nil) {
			return fmt.Errorf("security group %s: a rule needs a protocol, and both ports or none", g.ID)
		}
	}
	if g.Name == "" {
		g.Name = g.ID
	}
	if g.VPC == "" {
		g.VPC = s.vpc()
	}
	s.securityGroups = append(s.securityGroups, &securityGroup{SecurityGroupSeed: g, serial: uint64(len(s.securityGroups) + 1)})
	return nil
}

func (s *Store) securityGroup(id string) *securityGroup {
	i := slices.IndexFunc(s.securityGroups, func(g *securityGroup) bool { return g.ID == id })
	if i < 0 {
		return nil
	}
	return s.securityGroups[i]
}

func securityActions() map[string]core.Action {
	list := func(c *core.Call) []core.Access {
		return []core.Access{{Resource: c.ARN(Name, "prefix-list/"+c.In.Str("PrefixListId"))}}
	}
	entries := describe(prefixListEntries, "PrefixListId", "TargetVersion", "MaxResults", "NextToken")
	entries.Access = list
	return map[string]core.Action{
		"DescribeSecurityGroups":      describe(describeSecurityGroups, "GroupId", "GroupName", "Filter", "MaxResults", "NextToken"),
		"GetManagedPrefixListEntries": entries,
	}
}

func securityFilters() map[string]func(*securityGroup, func(string) bool) bool {
	return map[string]func(*securityGroup, func(string) bool) bool{
		"group-id":   by(func(g *securityGroup) string { return g.ID }),
		"group-name": by(func(g *securityGroup) string { return g.Name }),
		"vpc-id":     by(func(g *securityGroup) string { return g.VPC }),
	}
}

func describeSecurityGroups(c *core.Call) error {
	s := storeOf(c)
	p, err := pageOf(c, 5, 1000)
	if err != nil {
		return err
	}
	matches, err := filters(c, securityFilters(), func(g *securityGroup) []Tag { return tagsOf(g.Tags) })
	if err != nil {
		return err
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	ids, names := c.In.Strings("GroupId"), c.In.Strings("GroupName")
	c.Touch(ids...)
	for _, id := range ids {
		switch {
		case !groupID.MatchString(id):
			return wire.Errorf("InvalidGroupId.Malformed", `Invalid id: "%s" (expecting "sg-...")`, id)
		case s.securityGroup(id) == nil:
			return wire.Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
		}
	}
	var found []*securityGroup
	next := ""
	for _, g := range s.securityGroups {
		if g.serial <= p.after || len(ids) > 0 && !slices.Contains(ids, g.ID) || len(names) > 0 && !slices.Contains(names, g.Name) ||
			!matches(g) {
			continue
		}
		if len(found) == p.limit {
			next = p.token(found[len(found)-1].serial)
			break
		}
		found = append(found, g)
	}
	c.Out.List("securityGroupInfo", func() {
		for _, g := range found {
			c.Out.Struct("", func() { writeSecurityGroup(c, g) })
		}
	})
	c.Out.Opt("nextToken", next)
	return nil
}

func writeSecurityGroup(c *core.Call, g *securityGroup) {
	w, owner := c.Out, string(c.Place.Account)
	w.Str("ownerId", owner)
	w.Str("groupId", g.ID)
	w.Str("groupName", g.Name)
	w.Str("groupDescription", g.Description)
	w.Str("vpcId", g.VPC)
	w.Str("securityGroupArn", c.ARN(Name, "security-group/"+g.ID))
	w.List("ipPermissions", func() {
		for _, r := range g.Ingress {
			w.Struct("", func() { writeRule(w, owner, r) })
		}
	})
	w.List("ipPermissionsEgress", func() {
		w.Struct("", func() { writeRule(w, owner, RuleSeed{Protocol: "-1", CIDRs: []string{"0.0.0.0/0"}}) })
	})
	writeTags(w, tagsOf(g.Tags))
}

func writeRule(w *wire.Writer, owner string, r RuleSeed) {
	w.Str("ipProtocol", r.Protocol)
	if r.From != nil {
		w.Int("fromPort", *r.From)
		w.Int("toPort", *r.To)
	}
	each := func(list string, items []string, body func(string)) {
		w.List(list, func() {
			for _, item := range items {
				w.Struct("", func() { body(item) })
			}
		})
	}
	six := func(cidr string) bool { return strings.Contains(cidr, ":") }
	each("groups", r.Groups, func(id string) {
		w.Str("groupId", id)
		w.Str("userId", owner)
	})
	each("ipRanges", slices.DeleteFunc(slices.Clone(r.CIDRs), six), func(c string) { w.Str("cidrIp", c) })
	each("ipv6Ranges", slices.DeleteFunc(slices.Clone(r.CIDRs), func(c string) bool { return !six(c) }),
		func(c string) { w.Str("cidrIpv6", c) })
	each("prefixListIds", r.Lists, func(id string) { w.Str("prefixListId", id) })
}

// prefixListEntries gives the entries of a list, page by page.
func prefixListEntries(c *core.Call) error {
	id, err := required(c, "PrefixListId")
	if err != nil {
		return err
	}
	p, err := pageOf(c, 1, 100)
	if err != nil {
		return err
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	c.Touch(id)
	l := storeOf(c).prefixLists[id]
	switch {
	case !prefixListID.MatchString(id):
		return wire.Errorf("InvalidPrefixListId.Malformed", `Invalid id: "%s" (expecting "pl-...")`, id)
	case l == nil:
		return wire.Errorf("InvalidPrefixListID.NotFound", "The prefix list ID '%s' does not exist", id)
	}
	from := min(int(p.after), len(l.Entries)) //nolint:gosec // a position that this gave out
	to := min(from+min(p.limit, 100), len(l.Entries))
	c.Out.List("entrySet", func() {
		for _, e := range l.Entries[from:to] {
			c.Out.Struct("", func() { c.Out.Str("cidr", e) })
		}
	})
	if to < len(l.Entries) {
		c.Out.Str("nextToken", p.token(uint64(to))) //nolint:gosec // a length
	}
	return nil
}

// writeNetwork writes what says how an instance can be reached: its addresses and the security groups before it.
func writeNetwork(w *wire.Writer, v view) {
	groups := func() {
		w.List("groupSet", func() {
			for id := range strings.SplitSeq(v.SecurityGroups, ",") {
				if id != "" {
					w.Struct("", func() { w.Str("groupId", id) })
				}
			}
		})
	}
	groups()
	w.Opt("ipAddress", v.PublicIP)
	w.Opt("ipv6Address", v.IPv6)
	if v.SubnetID == "" && v.SecurityGroups == "" && v.PublicIP == "" && v.IPv6 == "" || v.PrivateIP == "" {
		return // nothing of it was seeded, and a large fleet's answers are long enough
	}
	w.List("networkInterfaceSet", func() {
		w.Struct("", func() {
			w.Str("networkInterfaceId", "eni-"+v.id[2:])
			w.Opt("subnetId", v.SubnetID)
			w.Opt("vpcId", v.VPCID)
			w.Str("status", "in-use")
			w.Str("privateIpAddress", v.PrivateIP)
			groups()
			w.List("privateIpAddressesSet", func() {
				w.Struct("", func() {
					w.Str("privateIpAddress", v.PrivateIP)
					w.Bool("primary", true)
				})
			})
			w.List("ipv6AddressesSet", func() {
				if v.IPv6 != "" {
					w.Struct("", func() { w.Str("ipv6Address", v.IPv6) })
				}
			})
		})
	})
}
