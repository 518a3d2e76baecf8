package launchconfiguration

import (
	"reflect"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// content is everything that a launch configuration says, in words that both it and a launch template can be turned into.
// An empty field is not said.
type content struct {
	Image, InstanceType, Key, UserData, Kernel, RAMDisk string
	SecurityGroups                                      []string // ids, or names
	Profile                                             string   // ARN, or name
	SpotPrice, Tenancy                                  string
	EBSOptimized, Monitoring                            bool
	PublicAddress                                       string // "true" or "false"
	BlockDevices                                        []device
	Options                                             fleet.Options
}

type device struct {
	Name, Virtual             string
	None                      bool // the image's own device of this name is left out
	Volume                    bool
	Snapshot, Type            string
	Size, Iops, Throughput    int32
	DeleteOnEnd, Encrypted    string // "true" or "false"
	KmsKey                    string // a launch configuration cannot say one, so a template that replaces it must not
	CardIndex, Initialisation int32
}

// truth writes a boolean that may be left out.
func truth(b *bool) string {
	switch {
	case b == nil:
		return ""
	case *b:
		return "true"
	default:
		return "false"
	}
}

func pointer(s string) *bool {
	if s == "" {
		return nil
	}
	return aws.Bool(s == "true")
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return aws.String(s)
}

func number(n int32) *int32 {
	if n == 0 {
		return nil
	}
	return aws.Int32(n)
}

// optionsOf projects a launch configuration's metadata options.
func optionsOf(c *astypes.LaunchConfiguration) fleet.Options {
	if c.MetadataOptions == nil {
		return fleet.Options{}
	}
	return fleet.Options{
		Tokens: string(c.MetadataOptions.HttpTokens), Endpoint: string(c.MetadataOptions.HttpEndpoint),
		HopLimit: int(aws.ToInt32(c.MetadataOptions.HttpPutResponseHopLimit)),
	}
}

// hindrance says why no launch template can be made that launches the same; "" where one can.
func hindrance(c *astypes.LaunchConfiguration) string {
	named := func(group string) bool { return !strings.HasPrefix(group, "sg-") }
	switch {
	case aws.ToString(c.ClassicLinkVPCId) != "" || len(c.ClassicLinkVPCSecurityGroups) > 0:
		return "it links instances to the VPC " + aws.ToString(c.ClassicLinkVPCId) + " by ClassicLink, which launch templates do not have"
	case c.AssociatePublicIpAddress != nil && slices.ContainsFunc(c.SecurityGroups, named):
		return "it says whether instances get a public address, for which a launch template wants the ids of security groups, " +
			"and it has their names"
	}
	return ""
}

func fromConfiguration(c *astypes.LaunchConfiguration) content {
	out := content{
		Image: aws.ToString(c.ImageId), InstanceType: aws.ToString(c.InstanceType), Key: aws.ToString(c.KeyName),
		UserData: aws.ToString(c.UserData), Kernel: aws.ToString(c.KernelId), RAMDisk: aws.ToString(c.RamdiskId),
		Profile: aws.ToString(c.IamInstanceProfile), SpotPrice: aws.ToString(c.SpotPrice), Tenancy: aws.ToString(c.PlacementTenancy),
		EBSOptimized: aws.ToBool(c.EbsOptimized), PublicAddress: truth(c.AssociatePublicIpAddress),
		SecurityGroups: sorted(c.SecurityGroups), Options: optionsOf(c),
		// "Controls whether instances in this group are launched with detailed (true) or basic (false) monitoring. The default
		// value is true" (Auto Scaling API reference, CreateLaunchConfiguration).
		Monitoring: c.InstanceMonitoring == nil || c.InstanceMonitoring.Enabled == nil || *c.InstanceMonitoring.Enabled,
	}
	for _, m := range c.BlockDeviceMappings {
		d := device{Name: aws.ToString(m.DeviceName), Virtual: aws.ToString(m.VirtualName), None: aws.ToBool(m.NoDevice)}
		if e := m.Ebs; e != nil {
			d.Volume = true
			d.Snapshot, d.Type = aws.ToString(e.SnapshotId), aws.ToString(e.VolumeType)
			d.Size, d.Iops, d.Throughput = aws.ToInt32(e.VolumeSize), aws.ToInt32(e.Iops), aws.ToInt32(e.Throughput)
			d.DeleteOnEnd, d.Encrypted = truth(e.DeleteOnTermination), truth(e.Encrypted)
		}
		out.BlockDevices = append(out.BlockDevices, d)
	}
	return out
}

func sorted(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return slices.Sorted(slices.Values(list))
}

// request is the launch template data that says the content. What a template would leave to a default of its own, another
// than a launch configuration's, is always said.
func request(c content) *types.RequestLaunchTemplateData {
	r := &types.RequestLaunchTemplateData{
		ImageId: text(c.Image), InstanceType: types.InstanceType(c.InstanceType), KeyName: text(c.Key), UserData: text(c.UserData),
		KernelId: text(c.Kernel), RamDiskId: text(c.RAMDisk), EbsOptimized: aws.Bool(c.EBSOptimized),
		Monitoring:      &types.LaunchTemplatesMonitoringRequest{Enabled: aws.Bool(c.Monitoring)},
		MetadataOptions: requestOptions(c.Options),
	}
	switch {
	case strings.HasPrefix(c.Profile, "arn:"):
		r.IamInstanceProfile = &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Arn: text(c.Profile)}
	case c.Profile != "":
		r.IamInstanceProfile = &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: text(c.Profile)}
	}
	if c.SpotPrice != "" {
		r.InstanceMarketOptions = &types.LaunchTemplateInstanceMarketOptionsRequest{
			MarketType:  types.MarketTypeSpot,
			SpotOptions: &types.LaunchTemplateSpotMarketOptionsRequest{MaxPrice: text(c.SpotPrice)},
		}
	}
	if c.Tenancy != "" {
		r.Placement = &types.LaunchTemplatePlacementRequest{Tenancy: types.Tenancy(c.Tenancy)}
	}
	requestNetwork(c, r)
	for _, d := range c.BlockDevices {
		r.BlockDeviceMappings = append(r.BlockDeviceMappings, requestDevice(d))
	}
	return r
}

// requestNetwork: a public address can only be said of a network interface, which then has the security groups.
func requestNetwork(c content, r *types.RequestLaunchTemplateData) {
	if c.PublicAddress != "" {
		r.NetworkInterfaces = []types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{{
			DeviceIndex: aws.Int32(0), AssociatePublicIpAddress: pointer(c.PublicAddress), Groups: c.SecurityGroups,
		}}
		return
	}
	for _, g := range c.SecurityGroups {
		if strings.HasPrefix(g, "sg-") {
			r.SecurityGroupIds = append(r.SecurityGroupIds, g)
		} else {
			r.SecurityGroups = append(r.SecurityGroups, g)
		}
	}
}

func requestOptions(o fleet.Options) *types.LaunchTemplateInstanceMetadataOptionsRequest {
	return &types.LaunchTemplateInstanceMetadataOptionsRequest{
		HttpTokens:              types.LaunchTemplateHttpTokensState(o.Tokens),
		HttpEndpoint:            types.LaunchTemplateInstanceMetadataEndpointState(o.Endpoint),
		HttpProtocolIpv6:        types.LaunchTemplateInstanceMetadataProtocolIpv6(o.IPv6),
		InstanceMetadataTags:    types.LaunchTemplateInstanceMetadataTagsState(o.Tags),
		HttpPutResponseHopLimit: number(int32(o.HopLimit)), //nolint:gosec // 1…64
	}
}

func requestDevice(d device) types.LaunchTemplateBlockDeviceMappingRequest {
	r := types.LaunchTemplateBlockDeviceMappingRequest{DeviceName: text(d.Name), VirtualName: text(d.Virtual)}
	if d.None {
		r.NoDevice = aws.String("") // "To omit the device from the block device mapping, specify an empty string" (EC2)
	}
	if d.Volume {
		r.Ebs = &types.LaunchTemplateEbsBlockDeviceRequest{
			SnapshotId: text(d.Snapshot), VolumeType: types.VolumeType(d.Type), VolumeSize: number(d.Size), Iops: number(d.Iops),
			Throughput: number(d.Throughput), DeleteOnTermination: pointer(d.DeleteOnEnd), Encrypted: pointer(d.Encrypted),
		}
	}
	return r
}

// fromTemplate reads back what a template says, with the names of the fields in it that no launch configuration has.
func fromTemplate(t *types.ResponseLaunchTemplateData) (c content, others []string) {
	rest := *t // what is taken from it is set to nothing
	c = content{
		Image: aws.ToString(t.ImageId), InstanceType: string(t.InstanceType), Key: aws.ToString(t.KeyName),
		UserData: aws.ToString(t.UserData), Kernel: aws.ToString(t.KernelId), RAMDisk: aws.ToString(t.RamDiskId),
		EBSOptimized: aws.ToBool(t.EbsOptimized), SecurityGroups: sorted(append(slices.Clone(t.SecurityGroupIds), t.SecurityGroups...)),
	}
	rest.ImageId, rest.InstanceType, rest.KeyName, rest.UserData, rest.KernelId, rest.RamDiskId = nil, "", nil, nil, nil, nil
	rest.EbsOptimized, rest.SecurityGroupIds, rest.SecurityGroups = nil, nil, nil
	if t.Monitoring != nil {
		c.Monitoring, rest.Monitoring = aws.ToBool(t.Monitoring.Enabled), nil
	}
	if p := t.IamInstanceProfile; p != nil {
		c.Profile, rest.IamInstanceProfile = aws.ToString(p.Arn)+aws.ToString(p.Name), nil
	}
	if o := t.MetadataOptions; o != nil {
		c.Options = fleet.Options{Tokens: string(o.HttpTokens), Endpoint: string(o.HttpEndpoint), IPv6: string(o.HttpProtocolIpv6),
			Tags: string(o.InstanceMetadataTags), HopLimit: int(aws.ToInt32(o.HttpPutResponseHopLimit))}
		rest.MetadataOptions = nil
	}
	if m := t.InstanceMarketOptions; m != nil && m.SpotOptions != nil && m.MarketType == types.MarketTypeSpot {
		c.SpotPrice = aws.ToString(m.SpotOptions.MaxPrice)
		if reflect.DeepEqual(*m.SpotOptions, types.LaunchTemplateSpotMarketOptions{MaxPrice: m.SpotOptions.MaxPrice}) {
			rest.InstanceMarketOptions = nil
		}
	}
	if p := t.Placement; p != nil && reflect.DeepEqual(*p, types.LaunchTemplatePlacement{Tenancy: p.Tenancy}) {
		c.Tenancy, rest.Placement = string(p.Tenancy), nil
	}
	fromNetwork(&c, t, &rest)
	for _, m := range t.BlockDeviceMappings {
		c.BlockDevices = append(c.BlockDevices, fromDevice(m))
	}
	rest.BlockDeviceMappings = nil
	return c, said(rest)
}

func fromNetwork(c *content, t, rest *types.ResponseLaunchTemplateData) {
	if len(t.NetworkInterfaces) != 1 || aws.ToInt32(t.NetworkInterfaces[0].DeviceIndex) != 0 {
		return
	}
	n := t.NetworkInterfaces[0]
	plain := types.LaunchTemplateInstanceNetworkInterfaceSpecification{
		DeviceIndex: n.DeviceIndex, AssociatePublicIpAddress: n.AssociatePublicIpAddress, Groups: n.Groups,
		Ipv6Addresses: n.Ipv6Addresses, PrivateIpAddresses: n.PrivateIpAddresses, Ipv4Prefixes: n.Ipv4Prefixes, Ipv6Prefixes: n.Ipv6Prefixes,
	}
	lists := len(n.Ipv6Addresses) + len(n.PrivateIpAddresses) + len(n.Ipv4Prefixes) + len(n.Ipv6Prefixes)
	if lists > 0 || !reflect.DeepEqual(n, plain) {
		return
	}
	c.PublicAddress = truth(n.AssociatePublicIpAddress)
	c.SecurityGroups = sorted(append(c.SecurityGroups, n.Groups...))
	rest.NetworkInterfaces = nil
}

func fromDevice(m types.LaunchTemplateBlockDeviceMapping) device {
	d := device{Name: aws.ToString(m.DeviceName), Virtual: aws.ToString(m.VirtualName), None: m.NoDevice != nil}
	if e := m.Ebs; e != nil {
		d.Volume = true
		d.Snapshot, d.Type, d.KmsKey = aws.ToString(e.SnapshotId), string(e.VolumeType), aws.ToString(e.KmsKeyId)
		d.Size, d.Iops, d.Throughput = aws.ToInt32(e.VolumeSize), aws.ToInt32(e.Iops), aws.ToInt32(e.Throughput)
		d.DeleteOnEnd, d.Encrypted = truth(e.DeleteOnTermination), truth(e.Encrypted)
		d.CardIndex, d.Initialisation = aws.ToInt32(e.EbsCardIndex), aws.ToInt32(e.VolumeInitializationRate)
	}
	return d
}

// said names the fields that say something.
func said(t types.ResponseLaunchTemplateData) []string {
	var out []string
	v := reflect.ValueOf(t)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || v.Field(i).IsZero() || f.Type.Kind() == reflect.Slice && v.Field(i).Len() == 0 {
			continue
		}
		out = append(out, f.Name)
	}
	return out
}

// differences names the fields in which a template differs from what it should say.
func differences(want content, made *types.ResponseLaunchTemplateData) []string {
	if made == nil {
		return []string{"everything"}
	}
	got, out := fromTemplate(made)
	a, b := reflect.ValueOf(want), reflect.ValueOf(got)
	for i := range a.NumField() {
		if !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			out = append(out, a.Type().Field(i).Name)
		}
	}
	slices.Sort(out)
	return out
}
