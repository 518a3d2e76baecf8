package securitygroup

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// Page sizes from the EC2 API reference: DescribeSecurityGroups gives 5 to 1000 groups, GetManagedPrefixListEntries up to 100
// entries.
const (
	mostGroups  = 1000
	leastGroups = 5
	mostEntries = 100
)

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{client: ec2.NewFromConfig(cfg), place: place}
}

type driver struct {
	client *ec2.Client
	place  fleet.Place
}

// List reads all security groups, and the entries of each prefix list that one of them lets in, once.
func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	lists := map[string]bool{}
	in := &ec2.DescribeSecurityGroupsInput{MaxResults: aws.Int32(max(leastGroups, kind.PageSize(ctx, mostGroups)))}
	for {
		page, err := d.client.DescribeSecurityGroups(ctx, in)
		if err != nil {
			return fmt.Errorf("list security groups: %w", awsx.Plain(err))
		}
		for i := range page.SecurityGroups {
			r, err := d.resource(ctx, &page.SecurityGroups[i], lists)
			if err != nil {
				return err
			}
			if r.State[FieldOpen] == "" {
				continue
			}
			if err := emit(r); err != nil {
				return err
			}
		}
		if aws.ToString(page.NextToken) == "" {
			return nil
		}
		in.NextToken = page.NextToken
	}
}

// Read gives a security group as it is now, also one that has ceased to be open.
func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	out, err := d.client.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{id}})
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read security group %s: %w", id, awsx.Plain(err))
	}
	if len(out.SecurityGroups) != 1 {
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionDescribe, "security group %s does not exist", id)
	}
	return d.resource(ctx, &out.SecurityGroups[0], map[string]bool{})
}

// resource turns a group into what it lets in. lists remembers which prefix lists hold everyone.
func (d *driver) resource(ctx context.Context, g *types.SecurityGroup, lists map[string]bool) (inventory.Resource, error) {
	r := inventory.Resource{
		Ref:   fleet.Ref{Place: d.place, Kind: inventory.KindSecurityGroup, ID: aws.ToString(g.GroupId)},
		Name:  aws.ToString(g.GroupName),
		State: fleet.State{FieldName: aws.ToString(g.GroupName)},
		Attrs: map[string]string{},
	}
	if vpc := aws.ToString(g.VpcId); vpc != "" {
		r.State[FieldVPC] = vpc
	}
	for _, t := range g.Tags {
		if r.Tags == nil {
			r.Tags = map[string]string{}
		}
		r.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	r.Owner = kind.OwnerByTags(r.Tags)
	var open []ports
	for i := range g.IpPermissions {
		p := &g.IpPermissions[i]
		everyone := slices.ContainsFunc(p.IpRanges, func(c types.IpRange) bool { return everyone(aws.ToString(c.CidrIp)) }) ||
			slices.ContainsFunc(p.Ipv6Ranges, func(c types.Ipv6Range) bool { return everyone(aws.ToString(c.CidrIpv6)) })
		for _, l := range p.PrefixListIds {
			if everyone {
				break
			}
			var err error
			if everyone, err = d.holdsEveryone(ctx, aws.ToString(l.PrefixListId), lists); err != nil {
				return r, err
			}
		}
		if everyone {
			open = append(open, portsOf(p))
		}
	}
	if len(open) > 0 {
		r.State[FieldOpen] = words(open)
		r.Attrs[inventory.AttrOpen] = r.State[FieldOpen]
	}
	return r, nil
}

// holdsEveryone reads a prefix list's entries, unless it is known already.
func (d *driver) holdsEveryone(ctx context.Context, id string, lists map[string]bool) (bool, error) {
	if open, known := lists[id]; known {
		return open, nil
	}
	in := &ec2.GetManagedPrefixListEntriesInput{PrefixListId: aws.String(id), MaxResults: aws.Int32(kind.PageSize(ctx, mostEntries))}
	open := false
	for {
		page, err := d.client.GetManagedPrefixListEntries(ctx, in)
		if fleet.ClassOf(err) == fleet.ErrGone {
			break // deleted, or no longer shared: it lets nobody in
		}
		if err != nil {
			return false, fmt.Errorf("read prefix list %s: %w", id, awsx.Plain(err))
		}
		open = open || slices.ContainsFunc(page.Entries, func(e types.PrefixListEntry) bool { return everyone(aws.ToString(e.Cidr)) })
		if open || aws.ToString(page.NextToken) == "" {
			break
		}
		in.NextToken = page.NextToken
	}
	lists[id] = open
	return open, nil
}

// everyone tells whether a range is all of the internet, or as good as that: half of IPv4's addresses at least, or all that IPv6
// has given out (2000::/3).
func everyone(cidr string) bool {
	p, err := netip.ParsePrefix(cidr)
	switch {
	case err != nil:
		return false
	case p.Addr().Is4():
		return p.Bits() <= 1
	default:
		return p.Bits() <= 3 && p.Overlaps(netip.MustParsePrefix("2000::/3"))
	}
}

// ports are what one rule opens.
type ports struct {
	protocol string
	from, to int32 // -1 for all
}

// protocolNumbers are the numbers that EC2 may give instead of names.
var protocolNumbers = map[string]string{"1": "icmp", "6": "tcp", "17": "udp", "58": "icmpv6"}

func portsOf(p *types.IpPermission) ports {
	protocol := aws.ToString(p.IpProtocol)
	out := ports{protocol: cmp.Or(protocolNumbers[protocol], protocol), from: -1, to: -1}
	switch {
	case out.protocol == "-1":
		out.protocol = "all"
	case (out.protocol == "tcp" || out.protocol == "udp") && p.FromPort != nil && p.ToPort != nil:
		if out.from, out.to = *p.FromPort, *p.ToPort; out.from <= 0 && out.to >= 65535 {
			out.from, out.to = -1, -1
		}
	}
	return out
}

// words says what is open, in order and each once: "tcp 22, tcp 8000-9000, all".
func words(open []ports) string {
	slices.SortFunc(open, func(a, b ports) int {
		return cmp.Or(strings.Compare(a.protocol, b.protocol), cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	})
	var out []string
	for _, p := range slices.Compact(open) {
		text := p.protocol
		switch {
		case p.from < 0:
		case p.from == p.to:
			text += " " + strconv.Itoa(int(p.from))
		default:
			text += " " + strconv.Itoa(int(p.from)) + "-" + strconv.Itoa(int(p.to))
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// Write refuses: a security group has no metadata options.
func (d *driver) Write(_ context.Context, w kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, w.Verb, "security groups have no verb %q", w.Verb)
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
