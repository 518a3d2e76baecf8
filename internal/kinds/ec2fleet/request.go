package ec2fleet

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// request asks for the fleet as it is, with the versions of a state. Everything that EC2 replaces as a whole is in it.
func request(f *types.FleetData, to fleet.State) *ec2.ModifyFleetInput {
	in := &ec2.ModifyFleetInput{FleetId: f.FleetId}
	attributes := false
	for n, c := range f.LaunchTemplateConfigs {
		config := types.FleetLaunchTemplateConfigRequest{}
		if t := c.LaunchTemplateSpecification; t != nil {
			spec := &types.FleetLaunchTemplateSpecificationRequest{
				LaunchTemplateId: t.LaunchTemplateId, LaunchTemplateName: t.LaunchTemplateName,
				Version: aws.String(to[versionField(n)]),
			}
			if aws.ToString(t.LaunchTemplateId) != "" {
				spec.LaunchTemplateName = nil // EC2 takes one of the two
			}
			config.LaunchTemplateSpecification = spec
		}
		for i := range c.Overrides {
			config.Overrides = append(config.Overrides, override(&c.Overrides[i]))
			attributes = attributes || c.Overrides[i].InstanceRequirements != nil
		}
		in.LaunchTemplateConfigs = append(in.LaunchTemplateConfigs, config)
	}
	if t := f.TargetCapacitySpecification; t != nil {
		in.TargetCapacitySpecification = &types.TargetCapacitySpecificationRequest{
			TotalTargetCapacity: t.TotalTargetCapacity, OnDemandTargetCapacity: t.OnDemandTargetCapacity,
			SpotTargetCapacity: t.SpotTargetCapacity, DefaultTargetCapacityType: t.DefaultTargetCapacityType,
		}
		if attributes { // EC2 takes a unit only where types are chosen by their attributes
			in.TargetCapacitySpecification.TargetCapacityUnitType = t.TargetCapacityUnitType
		}
	}
	return in
}

// override turns what EC2 answered into what it can be asked for. A placement cannot be: see fixed.
func override(o *types.FleetLaunchTemplateOverrides) types.FleetLaunchTemplateOverridesRequest {
	r := types.FleetLaunchTemplateOverridesRequest{
		AvailabilityZone: o.AvailabilityZone, AvailabilityZoneId: o.AvailabilityZoneId, ImageId: o.ImageId,
		InstanceType: o.InstanceType, MaxPrice: o.MaxPrice, Priority: o.Priority, SubnetId: o.SubnetId,
		WeightedCapacity: o.WeightedCapacity, InstanceRequirements: requirements(o.InstanceRequirements),
	}
	for _, b := range o.BlockDeviceMappings {
		r.BlockDeviceMappings = append(r.BlockDeviceMappings, types.FleetBlockDeviceMappingRequest{
			DeviceName: b.DeviceName, NoDevice: b.NoDevice, VirtualName: b.VirtualName,
			Ebs: (*types.FleetEbsBlockDeviceRequest)(b.Ebs),
		})
	}
	return r
}

// requirements are the same attributes in the types of a request.
func requirements(r *types.InstanceRequirements) *types.InstanceRequirementsRequest {
	if r == nil {
		return nil
	}
	return &types.InstanceRequirementsRequest{
		AcceleratorCount:           (*types.AcceleratorCountRequest)(r.AcceleratorCount),
		AcceleratorManufacturers:   r.AcceleratorManufacturers,
		AcceleratorNames:           r.AcceleratorNames,
		AcceleratorTotalMemoryMiB:  (*types.AcceleratorTotalMemoryMiBRequest)(r.AcceleratorTotalMemoryMiB),
		AcceleratorTypes:           r.AcceleratorTypes,
		AllowedInstanceTypes:       r.AllowedInstanceTypes,
		BareMetal:                  r.BareMetal,
		BaselineEbsBandwidthMbps:   (*types.BaselineEbsBandwidthMbpsRequest)(r.BaselineEbsBandwidthMbps),
		BaselinePerformanceFactors: performance(r.BaselinePerformanceFactors),
		BurstablePerformance:       r.BurstablePerformance,
		CpuManufacturers:           r.CpuManufacturers,
		ExcludedInstanceTypes:      r.ExcludedInstanceTypes,
		InstanceGenerations:        r.InstanceGenerations,
		LocalStorage:               r.LocalStorage,
		LocalStorageTypes:          r.LocalStorageTypes,
		MaxSpotPriceAsPercentageOfOptimalOnDemandPrice: r.MaxSpotPriceAsPercentageOfOptimalOnDemandPrice,
		MemoryGiBPerVCpu:      (*types.MemoryGiBPerVCpuRequest)(r.MemoryGiBPerVCpu),
		MemoryMiB:             memory(r.MemoryMiB),
		NetworkBandwidthGbps:  (*types.NetworkBandwidthGbpsRequest)(r.NetworkBandwidthGbps),
		NetworkInterfaceCount: (*types.NetworkInterfaceCountRequest)(r.NetworkInterfaceCount),
		OnDemandMaxPricePercentageOverLowestPrice: r.OnDemandMaxPricePercentageOverLowestPrice,
		RequireEncryptionInTransit:                r.RequireEncryptionInTransit,
		RequireHibernateSupport:                   r.RequireHibernateSupport,
		SpotMaxPricePercentageOverLowestPrice:     r.SpotMaxPricePercentageOverLowestPrice,
		TotalLocalStorageGB:                       (*types.TotalLocalStorageGBRequest)(r.TotalLocalStorageGB),
		VCpuCount:                                 vcpus(r.VCpuCount),
	}
}

func memory(m *types.MemoryMiB) *types.MemoryMiBRequest {
	if m == nil {
		return nil
	}
	return &types.MemoryMiBRequest{Min: m.Min, Max: m.Max}
}

func vcpus(v *types.VCpuCountRange) *types.VCpuCountRangeRequest {
	if v == nil {
		return nil
	}
	return &types.VCpuCountRangeRequest{Min: v.Min, Max: v.Max}
}

func performance(p *types.BaselinePerformanceFactors) *types.BaselinePerformanceFactorsRequest {
	if p == nil || p.Cpu == nil {
		return nil
	}
	cpu := &types.CpuPerformanceFactorRequest{}
	for _, ref := range p.Cpu.References {
		cpu.References = append(cpu.References, types.PerformanceFactorReferenceRequest(ref))
	}
	return &types.BaselinePerformanceFactorsRequest{Cpu: cpu}
}
