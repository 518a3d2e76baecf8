package launchtemplate

import (
	"reflect"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// optionsOf projects a version's metadata options.
func optionsOf(data *types.ResponseLaunchTemplateData) fleet.Options {
	if data == nil || data.MetadataOptions == nil {
		return fleet.Options{}
	}
	o := data.MetadataOptions
	return fleet.Options{
		Tokens: string(o.HttpTokens), Endpoint: string(o.HttpEndpoint),
		HopLimit: int(aws.ToInt32(o.HttpPutResponseHopLimit)),
		IPv6:     string(o.HttpProtocolIpv6), Tags: string(o.InstanceMetadataTags),
	}
}

func imageOf(data *types.ResponseLaunchTemplateData) string {
	if data == nil {
		return ""
	}
	return aws.ToString(data.ImageId)
}

// requestData is what a copy is asked for with, besides its source: the options, and the block devices, whose snapshots
// EC2 leaves out unless they are given again. An equal copy of a version with neither repeats the image and the type,
// because EC2 wants some data to be sent.
func requestData(source *types.ResponseLaunchTemplateData, o fleet.Options) *types.RequestLaunchTemplateData {
	d := &types.RequestLaunchTemplateData{
		MetadataOptions: request(o), BlockDeviceMappings: blockDevices(source.BlockDeviceMappings),
	}
	if d.MetadataOptions == nil && d.BlockDeviceMappings == nil {
		d.ImageId, d.InstanceType = source.ImageId, source.InstanceType
	}
	return d
}

// request is the whole of the options; nil where none is set, because then the source had none and gets none.
func request(o fleet.Options) *types.LaunchTemplateInstanceMetadataOptionsRequest {
	if o == (fleet.Options{}) {
		return nil
	}
	r := &types.LaunchTemplateInstanceMetadataOptionsRequest{
		HttpTokens:           types.LaunchTemplateHttpTokensState(o.Tokens),
		HttpEndpoint:         types.LaunchTemplateInstanceMetadataEndpointState(o.Endpoint),
		HttpProtocolIpv6:     types.LaunchTemplateInstanceMetadataProtocolIpv6(o.IPv6),
		InstanceMetadataTags: types.LaunchTemplateInstanceMetadataTagsState(o.Tags),
	}
	if o.HopLimit != 0 {
		r.HttpPutResponseHopLimit = aws.Int32(int32(o.HopLimit)) //nolint:gosec // 1…64
	}
	return r
}

// blockDevices turns what EC2 answered into what it can be asked for: the same fields in other types.
func blockDevices(in []types.LaunchTemplateBlockDeviceMapping) []types.LaunchTemplateBlockDeviceMappingRequest {
	var out []types.LaunchTemplateBlockDeviceMappingRequest
	for _, m := range in {
		r := types.LaunchTemplateBlockDeviceMappingRequest{
			DeviceName: m.DeviceName, NoDevice: m.NoDevice, VirtualName: m.VirtualName,
		}
		if m.Ebs != nil {
			r.Ebs = (*types.LaunchTemplateEbsBlockDeviceRequest)(m.Ebs)
		}
		out = append(out, r)
	}
	return out
}

// differences names the fields, other than the metadata options, in which two versions differ. A field that this SDK
// does not know cannot be compared; CreateLaunchTemplateVersion takes those from the source by itself.
func differences(source, made *types.ResponseLaunchTemplateData) []string {
	var out []string
	if source == nil || made == nil {
		return append(out, "everything")
	}
	a, b := reflect.ValueOf(*source), reflect.ValueOf(*made)
	for i := range a.NumField() {
		f := a.Type().Field(i)
		if !f.IsExported() || f.Name == "MetadataOptions" {
			continue
		}
		if !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			out = append(out, f.Name)
		}
	}
	slices.Sort(out)
	return out
}
