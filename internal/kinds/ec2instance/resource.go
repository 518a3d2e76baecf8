package ec2instance

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// Tags that EC2 sets on what was launched from a template, and by a fleet.
const (
	tagFleet           = "aws:ec2:fleet-id"
	tagSpotFleet       = "aws:ec2spot:fleet-request-id"
	tagTemplateID      = "aws:ec2launchtemplate:id"
	tagTemplateVersion = "aws:ec2launchtemplate:version"
)

// resource turns EC2's words into ours.
func (d *driver) resource(in *types.Instance) inventory.Resource {
	r := inventory.Resource{
		Ref:      d.ref(inventory.KindInstance, aws.ToString(in.InstanceId)),
		Status:   status(in.State),
		Launched: aws.ToTime(in.LaunchTime),
		State:    state(in.MetadataOptions),
		Tags:     tagMap(in.Tags),
		Attrs:    attrs(in),
	}
	r.Name = r.Tags["Name"]
	r.Owner = owner(in.Operator, r.Tags)
	// What was changed on a stopped instance stays pending until it starts; there is nothing to wait for.
	r.Settling = r.Status != inventory.StatusStopped && in.MetadataOptions != nil &&
		in.MetadataOptions.State == types.InstanceMetadataOptionsStatePending
	if group := d.group(r.Tags); group.ID != "" {
		r.Links = append(r.Links, inventory.Link{Relation: inventory.MemberOf, To: group})
	}
	if template := r.Tags[tagTemplateID]; template != "" {
		r.Links = append(r.Links, inventory.Link{
			Relation: inventory.LaunchedFrom, To: d.ref(inventory.KindLaunchTemplate, template),
			Selector: r.Tags[tagTemplateVersion],
		})
	}
	return r
}

// group is what launched the instance and would launch the next: its Auto Scaling group, which may itself use a fleet for
// that, else its fleet.
func (d *driver) group(tags map[string]string) fleet.Ref {
	for _, by := range [][2]string{
		{kind.TagGroup, inventory.KindAutoScaling}, {tagSpotFleet, inventory.KindSpotFleet}, {tagFleet, inventory.KindFleet},
	} {
		if id := tags[by[0]]; id != "" {
			return d.ref(by[1], id)
		}
	}
	return fleet.Ref{}
}

func (d *driver) ref(kindName, id string) fleet.Ref {
	return fleet.Ref{Place: d.place, Kind: kindName, ID: id}
}

func state(o *types.InstanceMetadataOptionsResponse) fleet.State {
	s := fleet.State{}
	if o == nil {
		return s
	}
	put := func(field, value string) {
		if value != "" {
			s[field] = value
		}
	}
	put(fleet.FieldTokens, string(o.HttpTokens))
	put(fleet.FieldEndpoint, string(o.HttpEndpoint))
	if o.HttpPutResponseHopLimit != nil {
		s[fleet.FieldHopLimit] = strconv.Itoa(int(*o.HttpPutResponseHopLimit))
	}
	put(fleet.FieldIPv6, string(o.HttpProtocolIpv6))
	put(fleet.FieldTags, string(o.InstanceMetadataTags))
	return s
}

func status(s *types.InstanceState) inventory.Status {
	if s == nil {
		return inventory.StatusPending
	}
	switch s.Name {
	case types.InstanceStateNameRunning:
		return inventory.StatusRunning
	case types.InstanceStateNameStopped, types.InstanceStateNameStopping:
		return inventory.StatusStopped
	case types.InstanceStateNameTerminated, types.InstanceStateNameShuttingDown:
		return inventory.StatusTerminated
	default:
		return inventory.StatusPending
	}
}

func tagMap(tags []types.Tag) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return m
}

func owner(operator *types.OperatorResponse, tags map[string]string) fleet.Owner {
	if operator != nil && aws.ToBool(operator.Managed) {
		return fleet.Owner{Type: fleet.OwnerService, Name: aws.ToString(operator.Principal), Managed: true}
	}
	return kind.OwnerByTags(tags)
}

func attrs(in *types.Instance) map[string]string {
	a := map[string]string{}
	put := func(name, value string) {
		if value != "" {
			a[name] = value
		}
	}
	put(inventory.AttrImage, aws.ToString(in.ImageId))
	put(inventory.AttrInstanceType, string(in.InstanceType))
	if in.IamInstanceProfile != nil {
		put(inventory.AttrProfile, aws.ToString(in.IamInstanceProfile.Arn))
	}
	put(inventory.AttrPlatform, cmp.Or(aws.ToString(in.PlatformDetails), string(in.Platform)))
	put(inventory.AttrProductCodes, productCodes(in.ProductCodes))
	put(inventory.AttrPublicIP, aws.ToString(in.PublicIpAddress))
	if in.State == nil || in.State.Name != types.InstanceStateNameTerminated {
		network(in, put)
	}
	return a
}

// productCodes joins the codes of AWS Marketplace, sorted.
func productCodes(of []types.ProductCode) string {
	var out []string
	for _, c := range of {
		if id := aws.ToString(c.ProductCodeId); id != "" {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ",")
}

// network says how the instance can be reached: by all addresses of all its interfaces, through the security groups of any of
// them.
func network(in *types.Instance, put func(name, value string)) {
	groups, private, six := map[string]bool{}, map[string]bool{}, map[string]bool{}
	public := aws.ToString(in.PublicIpAddress)
	note := func(set map[string]bool, value *string) {
		if v := aws.ToString(value); v != "" {
			set[v] = true
		}
	}
	note(private, in.PrivateIpAddress)
	note(six, in.Ipv6Address)
	for _, g := range in.SecurityGroups {
		note(groups, g.GroupId)
	}
	for _, eni := range in.NetworkInterfaces {
		if public == "" && eni.Association != nil {
			public = aws.ToString(eni.Association.PublicIp)
		}
		for _, g := range eni.Groups {
			note(groups, g.GroupId)
		}
		for _, ip := range eni.PrivateIpAddresses {
			note(private, ip.PrivateIpAddress)
			if public == "" && ip.Association != nil {
				public = aws.ToString(ip.Association.PublicIp)
			}
		}
		for _, ip := range eni.Ipv6Addresses {
			note(six, ip.Ipv6Address)
		}
	}
	joined := func(set map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(set)), ",") }
	put(inventory.AttrPublicIP, public)
	put(inventory.AttrIPv6, joined(six))
	put(inventory.AttrPrivateIPs, joined(private))
	put(inventory.AttrSecurityGroups, joined(groups))
}
