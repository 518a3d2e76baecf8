package ec2

// templateFields is the shape of launch template data: the model's RequestLaunchTemplateData beside its
// ResponseLaunchTemplateData (EC2 API model, 2016-11-15).
// The query name is the name unless given, the XML name is the name in lower camel case unless given.
var templateFields = []field{
	{name: "KernelId", kind: text},
	{name: "EbsOptimized", kind: truth},
	{name: "IamInstanceProfile", kind: structure, fields: []field{
		{name: "Arn", kind: text},
		{name: "Name", kind: text},
	}},
	{name: "BlockDeviceMappings", query: "BlockDeviceMapping", xml: "blockDeviceMappingSet", kind: structures,
		fields: []field{
			{name: "DeviceName", kind: text},
			{name: "VirtualName", kind: text},
			{name: "Ebs", kind: structure, fields: []field{
				{name: "Encrypted", kind: truth},
				{name: "DeleteOnTermination", kind: truth},
				{name: "Iops", kind: number},
				{name: "KmsKeyId", kind: text},
				{name: "SnapshotId", kind: text},
				{name: "VolumeSize", kind: number},
				{name: "VolumeType", kind: text},
				{name: "Throughput", kind: number},
				{name: "VolumeInitializationRate", kind: number},
				{name: "EbsCardIndex", kind: number},
			}},
			{name: "NoDevice", kind: text},
		}},
	{name: "NetworkInterfaces", query: "NetworkInterface", xml: "networkInterfaceSet", kind: structures, fields: []field{
		{name: "AssociateCarrierIpAddress", kind: truth},
		{name: "AssociatePublicIpAddress", kind: truth},
		{name: "DeleteOnTermination", kind: truth},
		{name: "Description", kind: text},
		{name: "DeviceIndex", kind: number},
		{name: "Groups", query: "SecurityGroupId", xml: "groupSet", kind: texts, item: "groupId"},
		{name: "InterfaceType", kind: text},
		{name: "Ipv6AddressCount", kind: number},
		{name: "Ipv6Addresses", xml: "ipv6AddressesSet", kind: structures, fields: []field{
			{name: "Ipv6Address", kind: text},
		}},
		{name: "NetworkInterfaceId", kind: text},
		{name: "PrivateIpAddress", kind: text},
		{name: "PrivateIpAddresses", xml: "privateIpAddressesSet", kind: structures, fields: []field{
			{name: "Primary", kind: truth},
			{name: "PrivateIpAddress", kind: text},
		}},
		{name: "SecondaryPrivateIpAddressCount", kind: number},
		{name: "SubnetId", kind: text},
		{name: "NetworkCardIndex", kind: number},
		{name: "Ipv4Prefixes", query: "Ipv4Prefix", xml: "ipv4PrefixSet", kind: structures, fields: []field{
			{name: "Ipv4Prefix", kind: text},
		}},
		{name: "Ipv4PrefixCount", kind: number},
		{name: "Ipv6Prefixes", query: "Ipv6Prefix", xml: "ipv6PrefixSet", kind: structures, fields: []field{
			{name: "Ipv6Prefix", kind: text},
		}},
		{name: "Ipv6PrefixCount", kind: number},
		{name: "PrimaryIpv6", kind: truth},
		{name: "EnaSrdSpecification", kind: structure, fields: []field{
			{name: "EnaSrdEnabled", kind: truth},
			{name: "EnaSrdUdpSpecification", kind: structure, fields: []field{
				{name: "EnaSrdUdpEnabled", kind: truth},
			}},
		}},
		{name: "ConnectionTrackingSpecification", kind: structure, fields: []field{
			{name: "TcpEstablishedTimeout", kind: number},
			{name: "UdpStreamTimeout", kind: number},
			{name: "UdpTimeout", kind: number},
		}},
		{name: "EnaQueueCount", kind: number},
	}},
	{name: "ImageId", kind: text},
	{name: "InstanceType", kind: text},
	{name: "KeyName", kind: text},
	{name: "Monitoring", kind: structure, fields: []field{
		{name: "Enabled", kind: truth},
	}},
	{name: "Placement", kind: structure, fields: []field{
		{name: "AvailabilityZone", kind: text},
		{name: "AvailabilityZoneId", kind: text},
		{name: "Affinity", kind: text},
		{name: "GroupName", kind: text},
		{name: "HostId", kind: text},
		{name: "Tenancy", kind: text},
		{name: "SpreadDomain", kind: text},
		{name: "HostResourceGroupArn", kind: text},
		{name: "PartitionNumber", kind: number},
		{name: "GroupId", kind: text},
	}},
	{name: "RamDiskId", kind: text},
	{name: "DisableApiTermination", kind: truth},
	{name: "InstanceInitiatedShutdownBehavior", kind: text},
	{name: "UserData", kind: text},
	{name: "TagSpecifications", query: "TagSpecification", xml: "tagSpecificationSet", kind: structures, fields: []field{
		{name: "ResourceType", kind: text},
		{name: "Tags", query: "Tag", xml: "tagSet", kind: structures, fields: []field{
			{name: "Key", kind: text},
			{name: "Value", kind: text},
		}},
	}},
	{name: "ElasticGpuSpecifications", query: "ElasticGpuSpecification", xml: "elasticGpuSpecificationSet",
		kind: structures, fields: []field{
			{name: "Type", kind: text},
		}},
	{name: "ElasticInferenceAccelerators", query: "ElasticInferenceAccelerator", xml: "elasticInferenceAcceleratorSet",
		kind: structures, fields: []field{
			{name: "Type", kind: text},
			{name: "Count", kind: number},
		}},
	{name: "SecurityGroupIds", query: "SecurityGroupId", xml: "securityGroupIdSet", kind: texts},
	{name: "SecurityGroups", query: "SecurityGroup", xml: "securityGroupSet", kind: texts},
	{name: "InstanceMarketOptions", kind: structure, fields: []field{
		{name: "MarketType", kind: text},
		{name: "SpotOptions", kind: structure, fields: []field{
			{name: "MaxPrice", kind: text},
			{name: "SpotInstanceType", kind: text},
			{name: "BlockDurationMinutes", kind: number},
			{name: "ValidUntil", kind: text},
			{name: "InstanceInterruptionBehavior", kind: text},
		}},
	}},
	{name: "CreditSpecification", kind: structure, fields: []field{
		{name: "CpuCredits", kind: text},
	}},
	{name: "CpuOptions", kind: structure, fields: []field{
		{name: "CoreCount", kind: number},
		{name: "ThreadsPerCore", kind: number},
		{name: "AmdSevSnp", kind: text},
		{name: "NestedVirtualization", kind: text},
	}},
	{name: "CapacityReservationSpecification", kind: structure, fields: []field{
		{name: "CapacityReservationPreference", kind: text},
		{name: "CapacityReservationTarget", kind: structure, fields: []field{
			{name: "CapacityReservationId", kind: text},
			{name: "CapacityReservationResourceGroupArn", kind: text},
		}},
	}},
	{name: "LicenseSpecifications", query: "LicenseSpecification", xml: "licenseSet", kind: structures, fields: []field{
		{name: "LicenseConfigurationArn", kind: text},
	}},
	{name: "HibernationOptions", kind: structure, fields: []field{
		{name: "Configured", kind: truth},
	}},
	{name: "MetadataOptions", kind: structure, fields: []field{
		{name: "HttpTokens", kind: text},
		{name: "HttpPutResponseHopLimit", kind: number},
		{name: "HttpEndpoint", kind: text},
		{name: "HttpProtocolIpv6", kind: text},
		{name: "InstanceMetadataTags", kind: text},
	}},
	{name: "EnclaveOptions", kind: structure, fields: []field{
		{name: "Enabled", kind: truth},
	}},
	{name: "InstanceRequirements", kind: structure, fields: []field{
		{name: "VCpuCount", kind: structure, fields: []field{
			{name: "Min", kind: number},
			{name: "Max", kind: number},
		}},
		{name: "MemoryMiB", kind: structure, fields: []field{
			{name: "Min", kind: number},
			{name: "Max", kind: number},
		}},
		{name: "CpuManufacturers", query: "CpuManufacturer", xml: "cpuManufacturerSet", kind: texts},
		{name: "MemoryGiBPerVCpu", kind: structure, fields: []field{
			{name: "Min", kind: number},
			{name: "Max", kind: number},
		}},
		{name: "ExcludedInstanceTypes", query: "ExcludedInstanceType", xml: "excludedInstanceTypeSet", kind: texts},
		{name: "InstanceGenerations", query: "InstanceGeneration", xml: "instanceGenerationSet", kind: texts},
		{name: "SpotMaxPricePercentageOverLowestPrice", kind: number},
		{name: "OnDemandMaxPricePercentageOverLowestPrice", kind: number},
		{name: "BareMetal", kind: text},
		{name: "BurstablePerformance", kind: text},
		{name: "RequireHibernateSupport", kind: truth},
		{name: "NetworkInterfaceCount", kind: structure, fields: []field{
			{name: "Min", kind: number},
			{name: "Max", kind: number},
		}},
		{name: "LocalStorage", kind: text},
		{name: "LocalStorageTypes", query: "LocalStorageType", xml: "localStorageTypeSet", kind: texts},
		{name: "TotalLocalStorageGB", kind: structure, fields: []field{
			{name: "Min", kind: number},
			{name: "Max", kind: number},
		}},
		{name: "BaselineEbsBandwidthMbps", kind: structure, fields: []field{
			{name: "Min", kind: number},
			{name: "Max", kind: number},
		}},
		{name: "AcceleratorTypes", query: "AcceleratorType", xml: "acceleratorTypeSet", kind: texts},
		{name: "AcceleratorCount", kind: structure, fields: []field{
			{name: "Min", kind: number},
			{name: "Max", kind: number},
		}},
		{name: "AcceleratorManufacturers", query: "AcceleratorManufacturer", xml: "acceleratorManufacturerSet", kind: texts},
		{name: "AcceleratorNames", query: "AcceleratorName", xml: "acceleratorNameSet", kind: texts},
		{name: "AcceleratorTotalMemoryMiB", kind: structure, fields: []field{
			{name: "Min", kind: number},
			{name: "Max", kind: number},
		}},
		{name: "NetworkBandwidthGbps", kind: structure, fields: []field{
			{name: "Min", kind: number},
			{name: "Max", kind: number},
		}},
		{name: "AllowedInstanceTypes", query: "AllowedInstanceType", xml: "allowedInstanceTypeSet", kind: texts},
		{name: "MaxSpotPriceAsPercentageOfOptimalOnDemandPrice", kind: number},
		{name: "BaselinePerformanceFactors", kind: structure, fields: []field{
			{name: "Cpu", kind: structure, fields: []field{
				{name: "References", query: "Reference", xml: "referenceSet", kind: structures, fields: []field{
					{name: "InstanceFamily", kind: text},
				}},
			}},
		}},
		{name: "RequireEncryptionInTransit", kind: truth},
	}},
	{name: "PrivateDnsNameOptions", kind: structure, fields: []field{
		{name: "HostnameType", kind: text},
		{name: "EnableResourceNameDnsARecord", kind: truth},
		{name: "EnableResourceNameDnsAAAARecord", kind: truth},
	}},
	{name: "MaintenanceOptions", kind: structure, fields: []field{
		{name: "AutoRecovery", kind: text},
	}},
	{name: "DisableApiStop", kind: truth},
	{name: "Operator", kind: structure, fields: []field{
		{name: "Principal", kind: text},
	}},
	{name: "NetworkPerformanceOptions", kind: structure, fields: []field{
		{name: "BandwidthWeighting", kind: text},
	}},
	{name: "SecondaryInterfaces", query: "SecondaryInterface", xml: "secondaryInterfaceSet", kind: structures,
		fields: []field{
			{name: "DeleteOnTermination", kind: truth},
			{name: "DeviceIndex", kind: number},
			{name: "PrivateIpAddresses", query: "PrivateIpAddress", xml: "privateIpAddressesSet", kind: structures,
				fields: []field{
					{name: "PrivateIpAddress", kind: text},
				}},
			{name: "PrivateIpAddressCount", kind: number},
			{name: "SecondarySubnetId", kind: text},
			{name: "InterfaceType", kind: text},
			{name: "NetworkCardIndex", kind: number},
		}},
}
