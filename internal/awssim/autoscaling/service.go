package autoscaling

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Page sizes. https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_Operations.html
const (
	groupPage     = 100
	configPage    = 100
	activityPage  = 100
	instancePage  = 50
	refreshPage   = 100
	defaultPage   = 50
	tagPage       = 100
	maxNameLength = 255
)

// settingNames are group parameters that are kept and described but have no effect on what the simulator does.
var settingNames = [...]string{
	"DefaultCooldown", "HealthCheckType", "HealthCheckGracePeriod", "PlacementGroup", "ServiceLinkedRoleARN",
	"MaxInstanceLifetime", "CapacityRebalance", "Context", "DesiredCapacityType", "DefaultInstanceWarmup",
}

// Service declares Auto Scaling.
func Service() *core.Service {
	read := core.Bucket{Burst: 100, Refill: 20}
	write := core.BucketMutating
	group := append([]string{
		"AutoScalingGroupName", "LaunchConfigurationName", "LaunchTemplate", "MixedInstancesPolicy", "MinSize", "MaxSize",
		"DesiredCapacity", "AvailabilityZones", "VPCZoneIdentifier", "TerminationPolicies", "NewInstancesProtectedFromScaleIn",
	}, settingNames[:]...)
	describe := func(handle func(*core.Call) error, params ...string) core.Action {
		return core.Action{Bucket: read, Params: append(params, "NextToken", "MaxRecords"), Handle: handle}
	}
	change := func(handle func(*core.Call) error, params ...string) core.Action {
		return core.Action{Bucket: write, Mutating: true, Params: params, Handle: handle}
	}
	onGroup := func(a core.Action) core.Action {
		a.Access = accessGroup
		return a
	}
	return &core.Service{
		Name: "autoscaling", Protocols: []wire.Protocol{wire.Query}, Namespace: "http://autoscaling.amazonaws.com/doc/2011-01-01/",
		Actions: map[string]core.Action{
			"DescribeAutoScalingGroups": describe(describeGroups, "AutoScalingGroupNames", "Filters", "IncludeInstances"),
			"CreateAutoScalingGroup": onGroup(change(createGroup,
				append(group, "Tags", "TargetGroupARNs", "LoadBalancerNames")...)),
			"UpdateAutoScalingGroup":              onGroup(change(updateGroup, group...)),
			"SetDesiredCapacity":                  onGroup(change(setDesired, "AutoScalingGroupName", "DesiredCapacity", "HonorCooldown")),
			"DeleteAutoScalingGroup":              onGroup(change(deleteGroup, "AutoScalingGroupName", "ForceDelete")),
			"DescribeAutoScalingInstances":        describe(describeInstances, "InstanceIds"),
			"TerminateInstanceInAutoScalingGroup": change(terminateInstance, "InstanceId", "ShouldDecrementDesiredCapacity"),
			"DescribeScalingActivities": describe(describeActivities, "ActivityIds", "AutoScalingGroupName",
				"IncludeDeletedGroups", "Filters"),
			"CreateLaunchConfiguration": change(createConfig, "LaunchConfigurationName", "ImageId", "InstanceType", "KeyName",
				"SecurityGroups", "UserData", "IamInstanceProfile", "MetadataOptions", "EbsOptimized", "InstanceMonitoring",
				"AssociatePublicIpAddress", "SpotPrice", "PlacementTenancy", "KernelId", "RamdiskId", "BlockDeviceMappings"),
			"DescribeLaunchConfigurations": describe(describeConfigs, "LaunchConfigurationNames"),
			"DeleteLaunchConfiguration":    change(deleteConfig, "LaunchConfigurationName"),
			"StartInstanceRefresh": onGroup(change(startRefresh, "AutoScalingGroupName", "Strategy", "DesiredConfiguration",
				"Preferences")),
			"CancelInstanceRefresh":     onGroup(change(cancelRefresh, "AutoScalingGroupName", "WaitForTransitioningInstances")),
			"RollbackInstanceRefresh":   onGroup(change(rollbackRefresh, "AutoScalingGroupName")),
			"DescribeInstanceRefreshes": describe(describeRefreshes, "AutoScalingGroupName", "InstanceRefreshIds"),
			"CreateOrUpdateTags":        change(putTags, "Tags"),
			"DeleteTags":                change(deleteTags, "Tags"),
			"DescribeTags":              describe(describeTags, "Filters"),
		},
		SeedPlace: seedPlace,
		Controls: map[string]func(*core.World, http.ResponseWriter, *http.Request){
			"POST /_sim/group-health": serveHealth,
		},
	}
}

func invalid(format string, args ...any) error {
	return wire.Errorf("ValidationError", format, args...)
}

func groupNotFound(name string) error {
	return invalid("AutoScalingGroup name not found - AutoScalingGroup '%s' not found", name)
}

// groupFor finds the group a request names.
func groupFor(c *core.Call) (*group, error) {
	name := c.In.Str("AutoScalingGroupName")
	if name == "" {
		return nil, invalid("1 validation error detected: Value null at 'autoScalingGroupName' failed to satisfy constraint: " +
			"Member must not be null")
	}
	if g := StoreOf(c.Place).groups[name]; g != nil {
		return g, nil
	}
	return nil, groupNotFound(name)
}

// page reads MaxRecords and NextToken: the size of the page, and the text after which it begins.
func page(c *core.Call, most int) (size int, after string, err error) {
	n, set, err := c.In.Int("MaxRecords")
	if err != nil || (set && (n < 1 || n > int64(most))) {
		return 0, "", invalid("1 validation error detected: Value at 'maxRecords' failed to satisfy constraint: Member must "+
			"have value less than or equal to %d", most)
	}
	size = min(defaultPage, most)
	if set {
		size = int(n)
	}
	if token := c.In.Str("NextToken"); token != "" {
		b, err := base64.RawURLEncoding.DecodeString(token)
		text, ok := strings.CutPrefix(string(b), c.Action+" ")
		if err != nil || !ok {
			return 0, "", wire.Errorf("InvalidNextToken", "The token '%s' is invalid.", token)
		}
		after = text
	}
	return size, after, nil
}

// nextToken writes the token of the page that begins after the given text.
func nextToken(c *core.Call, after string) {
	c.Out.Str("NextToken", base64.RawURLEncoding.EncodeToString([]byte(c.Action+" "+after)))
}

// filter is one element of Filters.
type filter struct {
	name   string
	values []string
}

func filtersOf(c *core.Call, known func(string) bool) ([]filter, error) {
	var out []filter
	for _, f := range c.In.Items("Filters") {
		name := f.Str("Name")
		if !known(name) {
			return nil, invalid("Filter type %s is not correct. Please check the documentation for allowed filter types", name)
		}
		out = append(out, filter{name, f.Strings("Values")})
	}
	return out, nil
}

func intParam(c *core.Call, name string, into *int) (bool, error) {
	n, set, err := c.In.Int(name)
	if err != nil {
		return false, invalid("%s must be an integer", name)
	}
	if !set {
		return false, nil
	}
	if n < 0 {
		return false, invalid("%s must be at least 0", fmt.Sprint(name))
	}
	*into = int(n)
	return true, nil
}
