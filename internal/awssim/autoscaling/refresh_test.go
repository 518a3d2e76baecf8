package autoscaling_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	as "github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
)

// refresh starts one of a group, to a version of the template where that is said, and lets it replace some instances.
func (s *stage) refresh(group, version string, halfway time.Duration) {
	s.t.Helper()
	in := &as.StartInstanceRefreshInput{
		AutoScalingGroupName: &group, Preferences: &types.RefreshPreferences{InstanceWarmup: aws.Int32(60), SkipMatching: aws.Bool(true)},
	}
	if version != "" {
		in.DesiredConfiguration = &types.DesiredConfiguration{
			LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: &s.template, Version: &version},
		}
	}
	if _, err := s.asg.StartInstanceRefresh(s.t.Context(), in); err != nil {
		s.t.Fatal(err)
	}
	s.clock.Advance(halfway)
}

func (s *stage) refreshOf(group string) types.InstanceRefresh {
	s.t.Helper()
	out, err := s.asg.DescribeInstanceRefreshes(s.t.Context(), &as.DescribeInstanceRefreshesInput{AutoScalingGroupName: &group})
	if err != nil || len(out.InstanceRefreshes) == 0 {
		s.t.Fatalf("refreshes of %s: %+v, %v", group, out, err)
	}
	return out.InstanceRefreshes[0]
}

// versions counts the members of a group by the version they were launched from.
func (s *stage) versions(group string) map[string]int {
	s.t.Helper()
	out := map[string]int{}
	for _, m := range s.group(group).Instances {
		if m.LifecycleState == types.LifecycleStateInService || m.LifecycleState == types.LifecycleStatePending {
			out[*m.LaunchTemplate.Version]++
		}
	}
	return out
}

func TestCancelledRefreshLeavesWhatItReplaced(t *testing.T) {
	s := newStage(t)
	s.create("web", "2", 3)
	s.refresh("web", "3", 70*time.Second)
	if _, err := s.asg.CancelInstanceRefresh(t.Context(), &as.CancelInstanceRefreshInput{AutoScalingGroupName: aws.String("web")}); err != nil {
		t.Fatal(err)
	}
	if r := s.refreshOf("web"); r.Status != types.InstanceRefreshStatusCancelling {
		t.Errorf("at once: %s", r.Status)
	}
	s.clock.Advance(5 * time.Minute)
	if r := s.refreshOf("web"); r.Status != types.InstanceRefreshStatusCancelled || r.EndTime == nil {
		t.Errorf("at the end: %+v", r)
	}
	if v := s.versions("web"); v["2"] == 0 || v["3"] == 0 || v["2"]+v["3"] != 3 {
		t.Errorf("members by version %v", v)
	}
	if g := s.group("web"); *g.LaunchTemplate.Version != "2" {
		t.Errorf("the group launches version %s", *g.LaunchTemplate.Version)
	}
	_, err := s.asg.CancelInstanceRefresh(t.Context(), &as.CancelInstanceRefreshInput{AutoScalingGroupName: aws.String("web")})
	wantCode(t, err, "ActiveInstanceRefreshNotFound", "")
}

func TestRolledBackRefreshRestoresTheMembers(t *testing.T) {
	s := newStage(t)
	s.create("web", "2", 3)
	rollBack := func() error {
		_, err := s.asg.RollbackInstanceRefresh(t.Context(), &as.RollbackInstanceRefreshInput{AutoScalingGroupName: aws.String("web")})
		return err
	}
	wantCode(t, rollBack(), "ActiveInstanceRefreshNotFound", "")
	s.refresh("web", "3", 70*time.Second)
	if err := rollBack(); err != nil {
		t.Fatal(err)
	}
	s.settle()
	if r := s.refreshOf("web"); r.Status != types.InstanceRefreshStatusRollbackInProgress || r.RollbackDetails == nil ||
		*r.RollbackDetails.PercentageCompleteOnRollback == 0 {
		t.Errorf("on the way: %+v", r)
	}
	s.clock.Advance(10 * time.Minute)
	if r := s.refreshOf("web"); r.Status != types.InstanceRefreshStatusRollbackSuccessful {
		t.Errorf("at the end: %s", r.Status)
	}
	if v := s.versions("web"); v["2"] != 3 {
		t.Errorf("members by version %v", v)
	}
}

func TestWhatCannotBeRolledBack(t *testing.T) {
	for name, c := range map[string]struct{ own, desired, why string }{
		"no desired configuration": {"2", "", "desired configuration"},
		"a version that moves":     {"$Default", "3", "$Latest or $Default"},
	} {
		s := newStage(t)
		s.create("web", c.own, 3)
		s.refresh("web", c.desired, 0)
		_, err := s.asg.RollbackInstanceRefresh(t.Context(), &as.RollbackInstanceRefreshInput{AutoScalingGroupName: aws.String("web")})
		t.Log(name)
		wantCode(t, err, "IrreversibleInstanceRefresh", c.why)
	}
}

func TestMatchingInstancesAreSkipped(t *testing.T) {
	s := newStage(t)
	s.create("web", "2", 2)
	before := s.group("web").Instances
	s.refresh("web", "2", time.Minute)
	if r := s.refreshOf("web"); r.Status != types.InstanceRefreshStatusSuccessful || len(s.group("web").Instances) != len(before) ||
		*s.group("web").Instances[0].InstanceId != *before[0].InstanceId {
		t.Errorf("refresh %+v", r)
	}
}

func TestLaunchConfigurationComesBackWhole(t *testing.T) {
	s := newStage(t)
	in := &as.CreateLaunchConfigurationInput{
		LaunchConfigurationName: aws.String("all"), ImageId: aws.String(image), InstanceType: aws.String("m5.large"),
		KeyName: aws.String("ops"), UserData: aws.String("IyE="), KernelId: aws.String("aki-01234567"), RamdiskId: aws.String("ari-01234567"),
		SecurityGroups: []string{"sg-1", "sg-2"}, IamInstanceProfile: aws.String("web"), SpotPrice: aws.String("0.05"),
		PlacementTenancy: aws.String("dedicated"), EbsOptimized: aws.Bool(true), AssociatePublicIpAddress: aws.Bool(false),
		InstanceMonitoring: &types.InstanceMonitoring{Enabled: aws.Bool(false)},
		MetadataOptions: &types.InstanceMetadataOptions{HttpTokens: types.InstanceMetadataHttpTokensStateOptional,
			HttpEndpoint: types.InstanceMetadataEndpointStateEnabled, HttpPutResponseHopLimit: aws.Int32(3)},
		BlockDeviceMappings: []types.BlockDeviceMapping{
			{DeviceName: aws.String("/dev/xvda"), Ebs: &types.Ebs{SnapshotId: aws.String("snap-01234567"), VolumeSize: aws.Int32(8),
				VolumeType: aws.String("gp3"), Iops: aws.Int32(3000), Throughput: aws.Int32(125), DeleteOnTermination: aws.Bool(false),
				Encrypted: aws.Bool(true)}},
			{DeviceName: aws.String("/dev/xvdb"), VirtualName: aws.String("ephemeral0")},
			{DeviceName: aws.String("/dev/xvdc"), NoDevice: aws.Bool(true)},
		},
	}
	if _, err := s.asg.CreateLaunchConfiguration(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	out, err := s.asg.DescribeLaunchConfigurations(t.Context(), &as.DescribeLaunchConfigurationsInput{LaunchConfigurationNames: []string{"all"}})
	if err != nil || len(out.LaunchConfigurations) != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	got, want := reflect.ValueOf(out.LaunchConfigurations[0]), reflect.ValueOf(*in)
	for i := range want.NumField() {
		f := want.Type().Field(i)
		if !f.IsExported() || want.Field(i).IsZero() {
			continue
		}
		if have := got.FieldByName(f.Name); !reflect.DeepEqual(have.Interface(), want.Field(i).Interface()) {
			t.Errorf("%s came back as %+v", f.Name, have.Interface())
		}
	}
}
