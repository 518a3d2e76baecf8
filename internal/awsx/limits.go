package awsx

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Limit is a token bucket: how many calls at once, and how many a second after that.
type Limit struct {
	Burst  float64 `json:"burst"`
	Refill float64 `json:"refill"`
}

// unfiltered is appended to the name of a Describe call that neither pages nor filters: EC2 counts those apart.
const unfiltered = "#unfiltered"

// DatapointsBucket is what calls of cloudwatch:GetMetricData are charged to besides their own bucket: datapoints a
// second, counted by what a request could return. See CloudWatch's service quotas, "GetMetricData".
const DatapointsBucket = "cloudwatch:GetMetricData#datapoints"

// defaultLimits are what AWS grants an account in a region. EC2's are published ("Request throttling for the Amazon EC2
// API"), CloudWatch's are its service quotas. For the services without published numbers the values are chosen low
// enough to have been harmless in practice; a configuration may raise them.
func defaultLimits() map[string]Limit {
	return map[string]Limit{
		"ec2:Describe*":                      {100, 20},
		"ec2:Get*":                           {100, 20},
		"ec2:List*":                          {100, 20},
		"ec2:Search*":                        {100, 20},
		"ec2:Describe*" + unfiltered:         {50, 10},
		"ec2:DescribeSpotFleetRequests":      {50, 3},
		"ec2:*":                              {50, 5},
		"ec2:ModifyInstanceMetadataOptions":  {100, 5},
		"ec2:CreateLaunchTemplateVersion":    {100, 5},
		"ec2:ModifyLaunchTemplate":           {100, 5},
		"ec2:ModifyImageAttribute":           {100, 5},
		"ec2:ModifyInstanceMetadataDefaults": {2, 2},

		"cloudwatch:GetMetricData":  {50, 50},
		DatapointsBucket:            {198_000, 198_000},
		"cloudwatch:ListMetrics":    {25, 25},
		"cloudwatch:DescribeAlarms": {9, 9},
		"cloudwatch:*":              {3, 3},

		"sts:*":                      {100, 100}, // of 600 a second for the account
		"organizations:ListAccounts": {8, 8},
		"organizations:*":            {5, 3},
		"cloudtrail:LookupEvents":    {2, 2},
		"s3:*":                       {500, 500}, // of 5,500 reads a second of a prefix
		"athena:Start*":              {80, 20},
		"athena:Get*":                {200, 100},
		"autoscaling:Describe*":      {20, 10},
		"autoscaling:*":              {10, 3},
		"ecs:*":                      {20, 10}, // published by groups of actions, and raised on request
		"elasticloadbalancing:*":     {20, 10},
		"elasticbeanstalk:*":         {10, 3},
		"elasticmapreduce:*":         {10, 2},
		"iam:*":                      {5, 2}, // not published; one service for all regions
		"lightsail:Get*":             {10, 5},
		"lightsail:*":                {5, 1},
		"sagemaker:*":                {10, 2},
		"*":                          {10, 5},
	}
}

// limitFor finds the limit of a bucket: the longest pattern among the overrides, else the longest among the defaults.
func limitFor(name string, overrides, defaults map[string]Limit) Limit {
	for _, table := range []map[string]Limit{overrides, defaults} {
		best, found := "", false
		for pattern := range table {
			if matches(pattern, name) && (!found || len(pattern) > len(best)) {
				best, found = pattern, true
			}
		}
		if found {
			return table[best]
		}
	}
	return Limit{Burst: 1, Refill: 1}
}

// matches tells whether the name is the pattern, whose first star stands for any text.
func matches(pattern, name string) bool {
	before, after, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	return len(name) >= len(before)+len(after) && strings.HasPrefix(name, before) && strings.HasSuffix(name, after)
}

func validLimits(limits map[string]Limit) error {
	for _, pattern := range slices.Sorted(maps.Keys(limits)) {
		l := limits[pattern]
		if !(l.Burst >= 1) || !(l.Refill > 0) { // written so that NaN is refused
			return fmt.Errorf("AWS limits: %q: want a burst of at least 1 and a refill above 0, not %v and %v",
				pattern, l.Burst, l.Refill)
		}
	}
	return nil
}

// Used gives the limits that an Edge with these options keeps to: AWS's, or what overrides them, times the share.
func Used(overrides map[string]Limit, share float64) func(action string) Limit {
	defaults := defaultLimits()
	if share == 0 {
		share = DefaultShare
	}
	return func(action string) Limit {
		l := limitFor(action, overrides, defaults)
		return Limit{Burst: max(1, l.Burst*share), Refill: l.Refill * share}
	}
}
