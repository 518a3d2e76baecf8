package core

import "github.com/imdsctl/imdsctl/internal/fleet"

// RegionInfo is one region of a partition.
type RegionInfo struct {
	Name fleet.Region
	// OptIn regions are off until an account enables them.
	OptIn bool
}

// Regions lists a partition's regions (AWS General Reference, "Specify which AWS Regions your account can use").
func Regions(p fleet.Partition) []RegionInfo {
	list := func(optIn bool, names ...fleet.Region) (out []RegionInfo) {
		for _, n := range names {
			out = append(out, RegionInfo{Name: n, OptIn: optIn})
		}
		return out
	}
	switch p {
	case fleet.PartitionChina:
		return list(false, "cn-north-1", "cn-northwest-1")
	case fleet.PartitionGov:
		return list(false, "us-gov-east-1", "us-gov-west-1")
	}
	return append(
		list(false, "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1", "ap-southeast-2",
			"ca-central-1", "eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1",
			"us-east-1", "us-east-2", "us-west-1", "us-west-2"),
		list(true, "af-south-1", "ap-east-1", "ap-east-2", "ap-south-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5",
			"ap-southeast-6", "ap-southeast-7", "ca-west-1", "eu-central-2", "eu-south-1", "eu-south-2", "il-central-1",
			"me-central-1", "me-south-1", "mx-central-1")...)
}
