package ec2

import (
	"slices"
	"strings"
)

// fleetFields is the shape of an EC2 Fleet's configuration: CreateFleetRequest beside FleetData (EC2 API model,
// 2016-11-15). What DescribeFleets does not tell is hidden.
var fleetFields = []field{
	{name: "ClientToken", kind: text},
	{name: "Context", kind: text},
	{name: "ExcessCapacityTerminationPolicy", kind: text},
	{name: "LaunchTemplateConfigs", kind: structures, fields: []field{
		{name: "LaunchTemplateSpecification", kind: structure, fields: append(templateReference(),
			field{name: "LaunchTemplateSpecificationUserData", kind: text, hidden: true})},
		{name: "Overrides", kind: structures, fields: fleetOverrideFields()},
	}},
	{name: "OnDemandOptions", kind: structure, fields: []field{
		{name: "AllocationStrategy", kind: text},
		{name: "CapacityReservationOptions", kind: structure, fields: []field{{name: "UsageStrategy", kind: text}}},
		{name: "SingleInstanceType", kind: truth},
		{name: "SingleAvailabilityZone", kind: truth},
		{name: "MinTargetCapacity", kind: number},
		{name: "MaxTotalPrice", kind: text},
	}},
	{name: "ReplaceUnhealthyInstances", kind: truth},
	{name: "SpotOptions", kind: structure, fields: []field{
		{name: "AllocationStrategy", kind: text},
		{name: "MaintenanceStrategies", kind: structure, fields: []field{rebalanceFields()}},
		{name: "InstanceInterruptionBehavior", kind: text},
		{name: "InstancePoolsToUseCount", kind: number},
		{name: "SingleInstanceType", kind: truth},
		{name: "SingleAvailabilityZone", kind: truth},
		{name: "MinTargetCapacity", kind: number},
		{name: "MaxTotalPrice", kind: text},
	}},
	{name: "TargetCapacitySpecification", kind: structure, fields: []field{
		{name: "TotalTargetCapacity", kind: number},
		{name: "OnDemandTargetCapacity", kind: number},
		{name: "SpotTargetCapacity", kind: number},
		{name: "DefaultTargetCapacityType", kind: text},
		{name: "TargetCapacityUnitType", kind: text},
	}},
	{name: "TerminateInstancesWithExpiration", kind: truth},
	{name: "Type", kind: text},
	{name: "ValidFrom", kind: text},
	{name: "ValidUntil", kind: text},
}

func templateReference() []field {
	return []field{
		{name: "LaunchTemplateId", kind: text}, {name: "LaunchTemplateName", kind: text}, {name: "Version", kind: text},
	}
}

func rebalanceFields() field {
	return field{name: "CapacityRebalance", kind: structure, fields: []field{
		{name: "ReplacementStrategy", kind: text}, {name: "TerminationDelay", kind: number},
	}}
}

// fleetOverrideFields are FleetLaunchTemplateOverridesRequest beside FleetLaunchTemplateOverrides, which tells less: of
// a placement only the group, and nothing of key pair, instance profile and metadata options.
func fleetOverrideFields() []field {
	return []field{
		{name: "InstanceType", kind: text},
		{name: "MaxPrice", kind: text},
		{name: "SubnetId", kind: text},
		{name: "AvailabilityZone", kind: text},
		{name: "AvailabilityZoneId", kind: text},
		{name: "WeightedCapacity", kind: number},
		{name: "Priority", kind: number},
		{name: "Placement", kind: structure, fields: concealed(within(templateFields, "Placement").fields, "GroupName")},
		{name: "KeyName", kind: text, hidden: true},
		{name: "BlockDeviceMappings", query: "BlockDeviceMapping", xml: "blockDeviceMappingSet", kind: structures,
			fields: within(templateFields, "BlockDeviceMappings").fields},
		{name: "IamInstanceProfile", kind: structure, hidden: true,
			fields: within(templateFields, "IamInstanceProfile").fields},
		{name: "MetadataOptions", kind: structure, hidden: true, fields: within(templateFields, "MetadataOptions").fields},
		within(templateFields, "InstanceRequirements"),
		{name: "ImageId", kind: text},
	}
}

// instantOnly are the overrides that EC2 takes for fleets of type instant alone (API reference,
// FleetLaunchTemplateOverridesRequest).
var instantOnly = []string{"KeyName", "BlockDeviceMappings", "IamInstanceProfile", "MetadataOptions", "ImageId"}

// spotFleetFields is SpotFleetRequestConfigData, which requests and responses share.
var spotFleetFields = shared([]field{
	{name: "AllocationStrategy", kind: text},
	{name: "ClientToken", kind: text},
	{name: "Context", kind: text},
	{name: "ExcessCapacityTerminationPolicy", kind: text},
	{name: "FulfilledCapacity", kind: number},
	{name: "IamFleetRole", kind: text},
	{name: "InstanceInterruptionBehavior", kind: text},
	{name: "InstancePoolsToUseCount", kind: number},
	{name: "LaunchSpecifications", kind: structures, fields: []field{
		{name: "AddressingType", kind: text},
		{name: "BlockDeviceMappings", xml: "blockDeviceMapping", kind: structures,
			fields: within(templateFields, "BlockDeviceMappings").fields},
		{name: "EbsOptimized", kind: truth},
		within(templateFields, "IamInstanceProfile"),
		{name: "ImageId", kind: text},
		{name: "InstanceType", kind: text},
		{name: "KernelId", kind: text},
		{name: "KeyName", kind: text},
		{name: "Monitoring", kind: structure, fields: []field{{name: "Enabled", kind: truth}}},
		{name: "Placement", kind: structure, fields: []field{
			{name: "AvailabilityZone", kind: text},
			{name: "AvailabilityZoneId", kind: text},
			{name: "GroupName", kind: text},
			{name: "Tenancy", kind: text},
		}},
		{name: "RamdiskId", kind: text},
		{name: "SpotPrice", kind: text},
		{name: "SubnetId", kind: text},
		{name: "UserData", kind: text},
		{name: "WeightedCapacity", kind: number},
		{name: "TagSpecifications", xml: "tagSpecificationSet", kind: structures, fields: []field{
			{name: "ResourceType", kind: text},
			{name: "Tags", xml: "tag", kind: structures, fields: tagFields()},
		}},
		within(templateFields, "InstanceRequirements"),
		{name: "SecurityGroups", xml: "groupSet", kind: structures, fields: []field{
			{name: "GroupId", kind: text},
			{name: "GroupName", kind: text},
		}},
	}},
	{name: "LaunchTemplateConfigs", kind: structures, fields: []field{
		{name: "LaunchTemplateSpecification", kind: structure, fields: templateReference()},
		{name: "Overrides", kind: structures, fields: []field{
			{name: "InstanceType", kind: text},
			{name: "SpotPrice", kind: text},
			{name: "SubnetId", kind: text},
			{name: "AvailabilityZone", kind: text},
			{name: "AvailabilityZoneId", kind: text},
			{name: "WeightedCapacity", kind: number},
			{name: "Priority", kind: number},
			within(templateFields, "InstanceRequirements"),
		}},
	}},
	{name: "LoadBalancersConfig", kind: structure, fields: []field{
		{name: "ClassicLoadBalancersConfig", kind: structure, fields: []field{
			{name: "ClassicLoadBalancers", kind: structures, fields: []field{{name: "Name", kind: text}}},
		}},
		{name: "TargetGroupsConfig", kind: structure, fields: []field{
			{name: "TargetGroups", kind: structures, fields: []field{{name: "Arn", kind: text}}},
		}},
	}},
	{name: "OnDemandAllocationStrategy", kind: text},
	{name: "OnDemandFulfilledCapacity", kind: number},
	{name: "OnDemandMaxTotalPrice", kind: text},
	{name: "OnDemandTargetCapacity", kind: number},
	{name: "ReplaceUnhealthyInstances", kind: truth},
	{name: "SpotMaintenanceStrategies", kind: structure, fields: []field{rebalanceFields()}},
	{name: "SpotMaxTotalPrice", kind: text},
	{name: "SpotPrice", kind: text},
	{name: "TagSpecifications", xml: "TagSpecification", kind: structures, fields: []field{
		{name: "ResourceType", kind: text},
		{name: "Tags", xml: "Tag", kind: structures, fields: tagFields()},
	}},
	{name: "TargetCapacity", kind: number},
	{name: "TargetCapacityUnitType", kind: text},
	{name: "TerminateInstancesWithExpiration", kind: truth},
	{name: "Type", kind: text},
	{name: "ValidFrom", kind: text},
	{name: "ValidUntil", kind: text},
})

func tagFields() []field { return []field{{name: "Key", kind: text}, {name: "Value", kind: text}} }

// within finds a field that other shapes use as well.
func within(fields []field, name string) field {
	return fields[slices.IndexFunc(fields, func(f field) bool { return f.name == name })]
}

// concealed hides all fields from responses but the named ones.
func concealed(fields []field, but ...string) []field {
	out := slices.Clone(fields)
	for i := range out {
		out[i].hidden = !slices.Contains(but, out[i].name)
	}
	return out
}

// shared makes the fields of a shape that requests and responses share: a request has the names of the response, with an
// upper-case letter in front.
func shared(fields []field) []field {
	out := slices.Clone(fields)
	for i, f := range out {
		xml := f.xmlName()
		out[i].query, out[i].fields = strings.ToUpper(xml[:1])+xml[1:], shared(f.fields)
	}
	return out
}
