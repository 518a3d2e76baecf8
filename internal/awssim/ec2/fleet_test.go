package ec2_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awssim/authz"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// templateOf makes a launch template of versions with the given tokens, "" for silent ones.
func (w *world) templateOf(t *testing.T, name string, tokens ...string) string {
	t.Helper()
	data := func(tokens string) *types.RequestLaunchTemplateData {
		d := &types.RequestLaunchTemplateData{ImageId: aws.String(image1), InstanceType: types.InstanceTypeM5Large}
		if tokens != "" {
			d.MetadataOptions = &types.LaunchTemplateInstanceMetadataOptionsRequest{HttpTokens: types.LaunchTemplateHttpTokensState(tokens)}
		}
		return d
	}
	made := must[*api.CreateLaunchTemplateOutput](t)(w.CreateLaunchTemplate(t.Context(),
		&api.CreateLaunchTemplateInput{LaunchTemplateName: aws.String(name), LaunchTemplateData: data(tokens[0])}))
	id := made.LaunchTemplate.LaunchTemplateId
	for _, v := range tokens[1:] {
		must[*api.CreateLaunchTemplateVersionOutput](t)(w.CreateLaunchTemplateVersion(t.Context(),
			&api.CreateLaunchTemplateVersionInput{LaunchTemplateId: id, LaunchTemplateData: data(v)}))
	}
	return *id
}

func config(template, version string, overrides ...types.FleetLaunchTemplateOverridesRequest) types.FleetLaunchTemplateConfigRequest {
	return types.FleetLaunchTemplateConfigRequest{
		LaunchTemplateSpecification: &types.FleetLaunchTemplateSpecificationRequest{
			LaunchTemplateId: aws.String(template), Version: aws.String(version),
		}, Overrides: overrides,
	}
}

func capacity(n int32) *types.TargetCapacitySpecificationRequest {
	return &types.TargetCapacitySpecificationRequest{TotalTargetCapacity: aws.Int32(n), DefaultTargetCapacityType: types.DefaultTargetCapacityTypeSpot}
}

func (w *world) fleet(t *testing.T, id string) types.FleetData {
	t.Helper()
	out := must[*api.DescribeFleetsOutput](t)(w.DescribeFleets(t.Context(), &api.DescribeFleetsInput{FleetIds: []string{id}}))
	if len(out.Fleets) != 1 {
		t.Fatalf("%d fleets %s", len(out.Fleets), id)
	}
	return out.Fleets[0]
}

// members are the running instances that EC2 shows of a fleet, with their tokens.
func (w *world) members(t *testing.T, tag, id string) map[string]string {
	t.Helper()
	out := must[*api.DescribeInstancesOutput](t)(w.DescribeInstances(t.Context(), &api.DescribeInstancesInput{Filters: []types.Filter{
		{Name: aws.String("tag:" + tag), Values: []string{id}},
		{Name: aws.String("instance-state-name"), Values: []string{"pending", "running"}},
	}}))
	found := map[string]string{}
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			found[*i.InstanceId] = string(i.MetadataOptions.HttpTokens)
		}
	}
	return found
}

func TestFleetLaunchesAndMaintains(t *testing.T) {
	w := calm(t)
	web := w.templateOf(t, "web", "", "required")
	in := &api.CreateFleetInput{
		LaunchTemplateConfigs: []types.FleetLaunchTemplateConfigRequest{config(web, "$Latest"), config(web, "$Default",
			types.FleetLaunchTemplateOverridesRequest{InstanceType: types.InstanceTypeC5Large, WeightedCapacity: aws.Float64(2)})},
		TargetCapacitySpecification: capacity(3), ClientToken: aws.String("once"),
	}
	made := must[*api.CreateFleetOutput](t)(w.CreateFleet(t.Context(), in))
	again := must[*api.CreateFleetOutput](t)(w.CreateFleet(t.Context(), in))
	if *again.FleetId != *made.FleetId {
		t.Errorf("one token made %s and %s", *made.FleetId, *again.FleetId)
	}
	w.clock.Advance(time.Minute)
	f := w.fleet(t, *made.FleetId)
	if f.FleetState != types.FleetStateCodeActive || f.ActivityStatus != types.FleetActivityStatusFulfilled ||
		*f.FulfilledCapacity != 3 || *f.TargetCapacitySpecification.SpotTargetCapacity != 3 {
		t.Errorf("got %+v", f)
	}
	if c := f.LaunchTemplateConfigs; *c[0].LaunchTemplateSpecification.Version != "2" || *c[1].LaunchTemplateSpecification.Version != "1" {
		t.Errorf("$Latest and $Default are not numbers: %+v", c)
	}
	had := w.members(t, "aws:ec2:fleet-id", *made.FleetId)
	tokens := []string{}
	for _, v := range had {
		tokens = append(tokens, v)
	}
	slices.Sort(tokens)
	if !slices.Equal(tokens, []string{"optional", "required"}) {
		t.Fatalf("launched %v: one for each template configuration, the second counts for two", had)
	}
	for id := range had {
		must[*api.TerminateInstancesOutput](t)(w.TerminateInstances(t.Context(), &api.TerminateInstancesInput{InstanceIds: []string{id}}))
	}
	w.clock.Advance(time.Minute)
	have := w.members(t, "aws:ec2:fleet-id", *made.FleetId)
	listed := must[*api.DescribeFleetInstancesOutput](t)(w.DescribeFleetInstances(t.Context(), &api.DescribeFleetInstancesInput{FleetId: made.FleetId}))
	if len(have) != 2 || len(listed.ActiveInstances) != 2 {
		t.Errorf("after its instances ended the fleet has %v, and lists %d", have, len(listed.ActiveInstances))
	}
	for id := range have {
		if had[id] != "" {
			t.Errorf("%s has ended and is a member", id)
		}
	}
}

func TestModifyFleetReplacesWhatIsSent(t *testing.T) {
	w := newWorld(t, core.Options{})
	web := w.templateOf(t, "web", "", "required")
	over := types.FleetLaunchTemplateOverridesRequest{InstanceType: types.InstanceTypeC5Large, SubnetId: aws.String("subnet-0a1b2c3d"), Priority: aws.Float64(1)}
	made := must[*api.CreateFleetOutput](t)(w.CreateFleet(t.Context(), &api.CreateFleetInput{
		LaunchTemplateConfigs: []types.FleetLaunchTemplateConfigRequest{config(web, "$Default", over)}, TargetCapacitySpecification: capacity(2),
	}))
	id := made.FleetId
	modify := func(in *api.ModifyFleetInput) error {
		in.FleetId = id
		_, err := w.ModifyFleet(t.Context(), in)
		return err
	}
	wantCode(t, modify(&api.ModifyFleetInput{TargetCapacitySpecification: capacity(1)}), "FleetNotInModifiableState")
	w.clock.Advance(time.Minute)
	wantCode(t, modify(&api.ModifyFleetInput{DryRun: aws.Bool(true), TargetCapacitySpecification: capacity(9)}), "DryRunOperation")
	wantCode(t, modify(&api.ModifyFleetInput{LaunchTemplateConfigs: []types.FleetLaunchTemplateConfigRequest{config(web, "9")}}),
		"InvalidLaunchTemplateId.VersionNotFound")
	before := w.members(t, "aws:ec2:fleet-id", *id)
	if err := modify(&api.ModifyFleetInput{LaunchTemplateConfigs: []types.FleetLaunchTemplateConfigRequest{config(web, "2")}}); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Minute)
	f := w.fleet(t, *id)
	if c := f.LaunchTemplateConfigs; len(c) != 1 || *c[0].LaunchTemplateSpecification.Version != "2" || len(c[0].Overrides) != 0 {
		t.Errorf("overrides that were not sent are still there: %+v", c)
	}
	if *f.TargetCapacitySpecification.TotalTargetCapacity != 2 || f.FleetState != types.FleetStateCodeActive {
		t.Errorf("got %+v", f)
	}
	if after := w.members(t, "aws:ec2:fleet-id", *id); len(after) != 2 {
		t.Errorf("a change of the version touched what runs: %v, then %v", before, after)
	}
	if err := modify(&api.ModifyFleetInput{TargetCapacitySpecification: capacity(3)}); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Minute)
	required := 0
	for _, v := range w.members(t, "aws:ec2:fleet-id", *id) {
		if v == "required" {
			required++
		}
	}
	if required != 1 {
		t.Errorf("%d instances of the new version, want 1", required)
	}
	if err := modify(&api.ModifyFleetInput{TargetCapacitySpecification: capacity(1)}); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Minute)
	if left := w.members(t, "aws:ec2:fleet-id", *id); len(left) != 1 {
		t.Errorf("%d instances after the target was lowered to 1", len(left))
	}
}

func TestFleetTypes(t *testing.T) {
	w := calm(t)
	web := w.templateOf(t, "web", "")
	create := func(of types.FleetType, o types.FleetLaunchTemplateOverridesRequest) (*api.CreateFleetOutput, error) {
		return w.CreateFleet(t.Context(), &api.CreateFleetInput{
			Type: of, LaunchTemplateConfigs: []types.FleetLaunchTemplateConfigRequest{config(web, "1", o)}, TargetCapacitySpecification: capacity(2),
		})
	}
	options := types.FleetLaunchTemplateOverridesRequest{InstanceType: types.InstanceTypeC5Large,
		MetadataOptions: &types.FleetInstanceMetadataOptionsRequest{HttpTokens: types.FleetHttpTokensStateRequired}}
	_, err := create(types.FleetTypeMaintain, options)
	wantCode(t, err, "InvalidFleetConfig")
	once := must[*api.CreateFleetOutput](t)(create(types.FleetTypeInstant, options))
	if len(once.Instances) != 2 || len(once.Errors) != 0 {
		t.Errorf("an instant fleet answered %+v", once)
	}
	for id, v := range w.members(t, "aws:ec2:fleet-id", *once.FleetId) {
		if v != "required" {
			t.Errorf("%s has %s: an override of an instant fleet may say metadata options", id, v)
		}
	}
	request := must[*api.CreateFleetOutput](t)(create(types.FleetTypeRequest, types.FleetLaunchTemplateOverridesRequest{}))
	all := must[*api.DescribeFleetsOutput](t)(w.DescribeFleets(t.Context(), &api.DescribeFleetsInput{}))
	if len(all.Fleets) != 1 || *all.Fleets[0].FleetId != *request.FleetId {
		t.Errorf("listed %d fleets: an instant one appears only where it is named", len(all.Fleets))
	}
	for id := range w.members(t, "aws:ec2:fleet-id", *request.FleetId) {
		must[*api.TerminateInstancesOutput](t)(w.TerminateInstances(t.Context(), &api.TerminateInstancesInput{InstanceIds: []string{id}}))
	}
	w.clock.Advance(time.Hour)
	if left := w.members(t, "aws:ec2:fleet-id", *request.FleetId); len(left) != 0 {
		t.Errorf("a fleet of type request launched again: %v", left)
	}
	_, err = w.ModifyFleet(t.Context(), &api.ModifyFleetInput{FleetId: request.FleetId, TargetCapacitySpecification: capacity(3)})
	wantCode(t, err, "InvalidFleetConfig")
	gone := must[*api.DeleteFleetsOutput](t)(w.DeleteFleets(t.Context(), &api.DeleteFleetsInput{
		FleetIds: []string{*once.FleetId, "fleet-00000000-0000-4000-8000-000000000000"}, TerminateInstances: aws.Bool(true)}))
	if len(gone.SuccessfulFleetDeletions) != 1 || len(gone.UnsuccessfulFleetDeletions) != 1 ||
		gone.UnsuccessfulFleetDeletions[0].Error.Code != types.DeleteFleetErrorCodeFleetIdDoesNotExist {
		t.Errorf("deleted %+v", gone)
	}
	if left := w.members(t, "aws:ec2:fleet-id", *once.FleetId); len(left) != 0 {
		t.Errorf("%v run on", left)
	}
}

func TestFleetUnderEnforcementLaunchesNothing(t *testing.T) {
	w := calm(t)
	web := w.templateOf(t, "web", "")
	w.place(t).With(func(now time.Time) {
		ec2.StoreOf(w.place(t)).SetDefaults(now, ec2.Defaults{Enforced: fleet.Enabled, ManagedBy: ec2.ManagedByAccount})
	})
	made := must[*api.CreateFleetOutput](t)(w.CreateFleet(t.Context(), &api.CreateFleetInput{
		LaunchTemplateConfigs: []types.FleetLaunchTemplateConfigRequest{config(web, "1")}, TargetCapacitySpecification: capacity(1)}))
	if f := w.fleet(t, *made.FleetId); f.ActivityStatus != types.FleetActivityStatusError || *f.FulfilledCapacity != 0 {
		t.Errorf("got %s with %v", f.ActivityStatus, *f.FulfilledCapacity)
	}
	w.place(t).With(func(now time.Time) {
		ec2.StoreOf(w.place(t)).SetDefaults(now, ec2.Defaults{ManagedBy: ec2.ManagedByAccount})
	})
	w.clock.Advance(2 * time.Minute)
	if got := w.members(t, "aws:ec2:fleet-id", *made.FleetId); len(got) != 1 {
		t.Errorf("it did not try again: %v", got)
	}
}

func TestSpotFleetOfSpecifications(t *testing.T) {
	w := calm(t)
	web := w.templateOf(t, "web", "")
	made := must[*api.RequestSpotFleetOutput](t)(w.RequestSpotFleet(t.Context(), &api.RequestSpotFleetInput{
		SpotFleetRequestConfig: &types.SpotFleetRequestConfigData{
			IamFleetRole: aws.String("arn:aws:iam::111122223333:role/spot"), TargetCapacity: aws.Int32(2),
			LaunchSpecifications: []types.SpotFleetLaunchSpecification{
				{ImageId: aws.String(image1), InstanceType: types.InstanceTypeM5Large, TagSpecifications: []types.SpotFleetTagSpecification{
					{ResourceType: types.ResourceTypeInstance, Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("render")}}},
				}},
				{ImageId: aws.String(image2), InstanceType: types.InstanceTypeC5Large},
			},
			TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeSpotFleetRequest,
				Tags: []types.Tag{{Key: aws.String("Name"), Value: aws.String("render")}}}},
		},
	}))
	got := []string{}
	for _, v := range w.members(t, "aws:ec2spot:fleet-request-id", *made.SpotFleetRequestId) {
		got = append(got, v)
	}
	slices.Sort(got)
	if !slices.Equal(got, []string{"optional", "required"}) { // the second image says so
		t.Errorf("launched with %v", got)
	}
	_, err := w.ModifySpotFleetRequest(t.Context(), &api.ModifySpotFleetRequestInput{SpotFleetRequestId: made.SpotFleetRequestId,
		LaunchTemplateConfigs: []types.LaunchTemplateConfig{{LaunchTemplateSpecification: &types.FleetLaunchTemplateSpecification{
			LaunchTemplateId: aws.String(web), Version: aws.String("1")}}}})
	wantCode(t, err, "InvalidSpotFleetRequestConfig")
	listed := must[*api.DescribeSpotFleetRequestsOutput](t)(w.DescribeSpotFleetRequests(t.Context(), &api.DescribeSpotFleetRequestsInput{}))
	if c := listed.SpotFleetRequestConfigs; len(c) != 1 || len(c[0].SpotFleetRequestConfig.LaunchSpecifications) != 2 ||
		*c[0].Tags[0].Value != "render" || c[0].SpotFleetRequestConfig.Type != types.FleetTypeMaintain {
		t.Errorf("got %+v", c)
	}
	must[*api.CancelSpotFleetRequestsOutput](t)(w.CancelSpotFleetRequests(t.Context(), &api.CancelSpotFleetRequestsInput{
		SpotFleetRequestIds: []string{*made.SpotFleetRequestId}, TerminateInstances: aws.Bool(false)}))
	if left := w.members(t, "aws:ec2spot:fleet-request-id", *made.SpotFleetRequestId); len(left) != 2 {
		t.Errorf("%d run on", len(left))
	}
}

func TestFleetPermissions(t *testing.T) {
	w := calm(t)
	web := w.templateOf(t, "web", "")
	policy, err := authz.Parse(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},
		{"Effect":"Deny","Action":"ec2:RunInstances","Resource":"arn:aws:ec2:*:*:launch-template/` + web + `"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	w.SetGuardrails(func(fleet.AccountID) [][]*authz.Policy { return [][]*authz.Policy{{policy}} })
	_, err = w.CreateFleet(t.Context(), &api.CreateFleetInput{
		LaunchTemplateConfigs: []types.FleetLaunchTemplateConfigRequest{config(web, "1")}, TargetCapacitySpecification: capacity(1)})
	wantCode(t, err, "UnauthorizedOperation")
}

func TestDeprecatedImages(t *testing.T) {
	w := calm(t)
	const own, theirs = "ami-000000000000000aa", "ami-000000000000000bb"
	w.place(t).With(func(now time.Time) {
		for _, i := range []ec2.ImageSeed{
			{ID: own, Deprecated: now.AddDate(0, 0, -1)},
			{ID: theirs, Owner: "137112412989", OwnerAlias: "amazon", Public: true, Deprecated: now.AddDate(0, 0, -1)},
		} {
			if err := ec2.StoreOf(w.place(t)).AddImage(now, i); err != nil {
				t.Fatal(err)
			}
		}
	})
	ids := func(in *api.DescribeImagesInput) (out []string) {
		for _, i := range must[*api.DescribeImagesOutput](t)(w.DescribeImages(t.Context(), in)).Images {
			if i.DeprecationTime != nil {
				out = append(out, *i.ImageId)
			}
		}
		return out
	}
	if got := ids(&api.DescribeImagesInput{}); !slices.Equal(got, []string{own}) {
		t.Errorf("without IncludeDeprecated: %q", got)
	}
	if got := ids(&api.DescribeImagesInput{IncludeDeprecated: aws.Bool(true)}); !slices.Equal(got, []string{own, theirs}) {
		t.Errorf("with IncludeDeprecated: %q", got)
	}
}
