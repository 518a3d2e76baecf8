package ec2_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
)

type templateData = types.RequestLaunchTemplateData

func (w *world) template(t *testing.T, name string, data *templateData) string {
	t.Helper()
	out := must[*api.CreateLaunchTemplateOutput](t)(w.CreateLaunchTemplate(t.Context(),
		&api.CreateLaunchTemplateInput{LaunchTemplateName: &name, LaunchTemplateData: data}))
	return *out.LaunchTemplate.LaunchTemplateId
}

func (w *world) version(t *testing.T, id, source string, data *templateData) types.LaunchTemplateVersion {
	t.Helper()
	in := &api.CreateLaunchTemplateVersionInput{LaunchTemplateId: &id, LaunchTemplateData: data}
	if source != "" {
		in.SourceVersion = &source
	}
	return *must[*api.CreateLaunchTemplateVersionOutput](t)(w.CreateLaunchTemplateVersion(t.Context(),
		in)).LaunchTemplateVersion
}

func (w *world) versions(t *testing.T, in api.DescribeLaunchTemplateVersionsInput) (numbers []string) {
	t.Helper()
	out := must[*api.DescribeLaunchTemplateVersionsOutput](t)(w.DescribeLaunchTemplateVersions(t.Context(), &in))
	for _, v := range out.LaunchTemplateVersions {
		numbers = append(numbers, *v.LaunchTemplateName+":"+strconv.FormatInt(*v.VersionNumber, 10))
	}
	return numbers
}

func rich() *templateData {
	return &templateData{
		ImageId: aws.String(image1), InstanceType: "m5.large", KeyName: aws.String("ops"),
		UserData:     aws.String("IyEvYmluL3No"),
		EbsOptimized: aws.Bool(true), SecurityGroupIds: []string{"sg-1", "sg-2"},
		IamInstanceProfile: &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: aws.String("app")},
		BlockDeviceMappings: []types.LaunchTemplateBlockDeviceMappingRequest{
			{DeviceName: aws.String("/dev/xvda"), Ebs: &types.LaunchTemplateEbsBlockDeviceRequest{
				SnapshotId: aws.String("snap-1"), VolumeSize: aws.Int32(20), VolumeType: "gp3", Encrypted: aws.Bool(true)}},
			{DeviceName: aws.String("/dev/xvdb"), VirtualName: aws.String("ephemeral0")}},
		NetworkInterfaces: []types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{
			{DeviceIndex: aws.Int32(0), Groups: []string{"sg-3"}, SubnetId: aws.String("subnet-9")}},
		TagSpecifications: []types.LaunchTemplateTagSpecificationRequest{
			{ResourceType: "instance", Tags: []types.Tag{{Key: aws.String("app"), Value: aws.String("web")}}}},
		MetadataOptions: &types.LaunchTemplateInstanceMetadataOptionsRequest{HttpTokens: "optional",
			HttpPutResponseHopLimit: aws.Int32(2)},
		InstanceRequirements: &types.InstanceRequirementsRequest{
			VCpuCount: &types.VCpuCountRangeRequest{Min: aws.Int32(2)},
			MemoryMiB: &types.MemoryMiBRequest{Min: aws.Int32(1024)}},
	}
}

func TestTemplateDataComesBackWhole(t *testing.T) {
	w := calm(t)
	id := w.template(t, "web", rich())
	out := must[*api.DescribeLaunchTemplateVersionsOutput](t)(w.DescribeLaunchTemplateVersions(t.Context(),
		&api.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &id}))
	d := out.LaunchTemplateVersions[0].LaunchTemplateData
	checks := map[string]bool{
		"image": *d.ImageId == image1, "type": d.InstanceType == "m5.large", "key": *d.KeyName == "ops",
		"user data":     *d.UserData == "IyEvYmluL3No",
		"ebs optimized": *d.EbsOptimized, "groups": slices.Equal(d.SecurityGroupIds, []string{"sg-1", "sg-2"}),
		"profile": *d.IamInstanceProfile.Name == "app",
		"device": len(d.BlockDeviceMappings) == 2 && *d.BlockDeviceMappings[0].Ebs.SnapshotId == "snap-1" &&
			*d.BlockDeviceMappings[0].Ebs.VolumeSize == 20 && *d.BlockDeviceMappings[0].Ebs.Encrypted,
		"virtual": *d.BlockDeviceMappings[1].VirtualName == "ephemeral0",
		"nic":     *d.NetworkInterfaces[0].DeviceIndex == 0 && d.NetworkInterfaces[0].Groups[0] == "sg-3",
		"tags":    *d.TagSpecifications[0].Tags[0].Value == "web",
		"options": d.MetadataOptions.HttpTokens == "optional" && *d.MetadataOptions.HttpPutResponseHopLimit == 2 &&
			d.MetadataOptions.HttpEndpoint == "",
		"cpu": *d.InstanceRequirements.VCpuCount.Min == 2 && d.InstanceRequirements.VCpuCount.Max == nil,
	}
	for name, ok := range checks {
		if !ok {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestNewVersionMergesItsSource(t *testing.T) {
	w := calm(t)
	id := w.template(t, "web", rich())
	options := &types.LaunchTemplateInstanceMetadataOptionsRequest{HttpTokens: "required", HttpEndpoint: "enabled"}

	v := w.version(t, id, "1", &templateData{MetadataOptions: options})
	d := v.LaunchTemplateData
	if *v.VersionNumber != 2 || *v.DefaultVersion || *d.KeyName != "ops" {
		t.Fatalf("%+v", v)
	}
	// The top-level field is replaced as a whole: the source's hop limit is gone.
	if d.MetadataOptions.HttpTokens != "required" || d.MetadataOptions.HttpPutResponseHopLimit != nil {
		t.Errorf("metadata options %+v", d.MetadataOptions)
	}
	if ebs := d.BlockDeviceMappings[0].Ebs; ebs.SnapshotId != nil || *ebs.VolumeSize != 20 {
		t.Errorf("the source's snapshot must be dropped and nothing else: %+v", ebs)
	}
	source := rich()
	v = w.version(t, id, "1", &templateData{MetadataOptions: options, BlockDeviceMappings: source.BlockDeviceMappings})
	if ebs := v.LaunchTemplateData.BlockDeviceMappings[0].Ebs; *ebs.SnapshotId != "snap-1" {
		t.Errorf("a snapshot that is sent again must stay: %+v", ebs)
	}
	v = w.version(t, id, "", &templateData{MetadataOptions: options})
	if v.LaunchTemplateData.ImageId != nil {
		t.Error("without a source all other parameters are dropped")
	}
	// Version 1 has not changed.
	out := must[*api.DescribeLaunchTemplateVersionsOutput](t)(w.DescribeLaunchTemplateVersions(t.Context(),
		&api.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &id, Versions: []string{"1"}}))
	if d := out.LaunchTemplateVersions[0].LaunchTemplateData; d.MetadataOptions.HttpTokens != "optional" ||
		*d.BlockDeviceMappings[0].Ebs.SnapshotId != "snap-1" {
		t.Errorf("version 1 changed: %+v", d)
	}
}

func TestVersionsAreFoundInEveryWay(t *testing.T) {
	w := calm(t)
	a, b := w.template(t, "alpha", rich()), w.template(t, "beta", rich())
	for range 4 {
		w.version(t, a, "1", rich())
	}
	must[*api.ModifyLaunchTemplateOutput](t)(w.ModifyLaunchTemplate(t.Context(),
		&api.ModifyLaunchTemplateInput{LaunchTemplateId: &a, DefaultVersion: aws.String("3")}))
	for name, tc := range map[string]struct {
		in   api.DescribeLaunchTemplateVersionsInput
		want []string
	}{
		"all of one": {api.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &a}, []string{"alpha:1", "alpha:2",
			"alpha:3", "alpha:4", "alpha:5"}},
		"by name": {api.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: aws.String("beta")}, []string{"beta:1"}},
		"aliases": {api.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &a, Versions: []string{"$Latest",
			"$Default", "2"}}, []string{"alpha:2", "alpha:3", "alpha:5"}},
		"one, twice": {api.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &a, Versions: []string{"3", "$Default"}},
			[]string{"alpha:3"}},
		"range": {api.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &a, MinVersion: aws.String("2"),
			MaxVersion: aws.String("3")}, []string{"alpha:2", "alpha:3"}},
		"everything": {api.DescribeLaunchTemplateVersionsInput{Versions: []string{"$Latest", "$Default"}},
			[]string{"alpha:3", "alpha:5", "beta:1"}},
		"all latest": {api.DescribeLaunchTemplateVersionsInput{Versions: []string{"$Latest"}}, []string{"alpha:5", "beta:1"}},
		"by filter": {api.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &a, Filters: []types.Filter{
			{Name: aws.String("is-default-version"), Values: []string{"true"}}}}, []string{"alpha:3"}},
	} {
		if got := w.versions(t, tc.in); !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
	var paged []string
	p := api.NewDescribeLaunchTemplateVersionsPaginator(w.Client, &api.DescribeLaunchTemplateVersionsInput{
		Versions: []string{"$Latest", "$Default"}, MaxResults: aws.Int32(1)})
	for p.HasMorePages() {
		for _, v := range must[*api.DescribeLaunchTemplateVersionsOutput](t)(p.NextPage(t.Context())).LaunchTemplateVersions {
			paged = append(paged, *v.LaunchTemplateName+":"+strconv.FormatInt(*v.VersionNumber, 10))
		}
	}
	if !slices.Equal(paged, []string{"alpha:3", "alpha:5", "beta:1"}) {
		t.Errorf("pages of one: %v", paged)
	}
	for name, tc := range map[string]struct {
		in   api.DescribeLaunchTemplateVersionsInput
		code string
	}{
		"nothing named":  {api.DescribeLaunchTemplateVersionsInput{}, "MissingParameter"},
		"numbers of all": {api.DescribeLaunchTemplateVersionsInput{Versions: []string{"1"}}, "InvalidParameterValue"},
		"unknown version": {api.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &b, Versions: []string{"9"}},
			"InvalidLaunchTemplateId.VersionNotFound"},
		"unknown id": {api.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: aws.String("lt-00000000000000abc")},
			"InvalidLaunchTemplateId.NotFound"},
		"malformed id": {api.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: aws.String("lt-x")},
			"InvalidLaunchTemplateId.Malformed"},
		"unknown name": {api.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: aws.String("gamma")},
			"InvalidLaunchTemplateName.NotFoundException"},
		"id and name": {api.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &a,
			LaunchTemplateName: aws.String("alpha")}, "InvalidParameterCombination"},
		"versions and range": {api.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &a, Versions: []string{"1"},
			MinVersion: aws.String("1")}, "InvalidParameterCombination"},
		"page too large": {api.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &a, MaxResults: aws.Int32(201)},
			"InvalidParameterValue"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.DescribeLaunchTemplateVersions(t.Context(), &tc.in)
			wantCode(t, err, tc.code)
		})
	}
}

func TestDeleteVersions(t *testing.T) {
	w := calm(t)
	id := w.template(t, "web", rich())
	for range 3 {
		w.version(t, id, "1", rich())
	}
	out := must[*api.DeleteLaunchTemplateVersionsOutput](t)(w.DeleteLaunchTemplateVersions(t.Context(),
		&api.DeleteLaunchTemplateVersionsInput{LaunchTemplateId: &id, Versions: []string{"4", "1", "9"}}))
	if len(out.SuccessfullyDeletedLaunchTemplateVersions) != 1 ||
		*out.SuccessfullyDeletedLaunchTemplateVersions[0].VersionNumber != 4 {
		t.Errorf("deleted %+v", out.SuccessfullyDeletedLaunchTemplateVersions)
	}
	codes := map[int64]string{}
	for _, f := range out.UnsuccessfullyDeletedLaunchTemplateVersions {
		codes[*f.VersionNumber] = string(f.ResponseError.Code)
	}
	if codes[1] != "unexpectedError" || codes[9] != "launchTemplateVersionDoesNotExist" {
		t.Errorf("refused %v", codes)
	}
	if v := w.version(t, id, "1", rich()); *v.VersionNumber != 5 {
		t.Errorf("number %d: a deleted version's number was used again", *v.VersionNumber)
	}
	lt := must[*api.DescribeLaunchTemplatesOutput](t)(w.DescribeLaunchTemplates(t.Context(),
		&api.DescribeLaunchTemplatesInput{}))
	if l := lt.LaunchTemplates[0]; *l.LatestVersionNumber != 5 || *l.DefaultVersionNumber != 1 {
		t.Errorf("%+v", l)
	}
	must[*api.DeleteLaunchTemplateOutput](t)(w.DeleteLaunchTemplate(t.Context(),
		&api.DeleteLaunchTemplateInput{LaunchTemplateId: &id}))
	_, err := w.DescribeLaunchTemplates(t.Context(), &api.DescribeLaunchTemplatesInput{LaunchTemplateIds: []string{id}})
	wantCode(t, err, "InvalidLaunchTemplateId.NotFound")
}

func TestDeletedTemplateStaysVisibleForAWhile(t *testing.T) {
	w := newWorld(t, core.Options{Consistency: time.Second})
	id := w.template(t, "web", rich())
	count := func() int {
		return len(must[*api.DescribeLaunchTemplatesOutput](t)(w.DescribeLaunchTemplates(t.Context(),
			&api.DescribeLaunchTemplatesInput{})).LaunchTemplates)
	}
	if count() != 0 {
		t.Error("visible at once")
	}
	w.clock.Advance(2 * time.Second)
	must[*api.DeleteLaunchTemplateOutput](t)(w.DeleteLaunchTemplate(t.Context(),
		&api.DeleteLaunchTemplateInput{LaunchTemplateId: &id}))
	if count() != 1 {
		t.Error("gone at once")
	}
	w.clock.Advance(2 * time.Second)
	if count() != 0 {
		t.Error("still there")
	}
}

func TestTemplateTokens(t *testing.T) {
	w := calm(t)
	id := w.template(t, "web", rich())
	in := &api.CreateLaunchTemplateVersionInput{LaunchTemplateId: &id, SourceVersion: aws.String("1"),
		ClientToken:        aws.String("t"),
		LaunchTemplateData: &templateData{InstanceType: "t3.nano"}, VersionDescription: aws.String("mark")}
	a := must[*api.CreateLaunchTemplateVersionOutput](t)(w.CreateLaunchTemplateVersion(t.Context(), in))
	b := must[*api.CreateLaunchTemplateVersionOutput](t)(w.CreateLaunchTemplateVersion(t.Context(), in))
	if *a.LaunchTemplateVersion.VersionNumber != 2 || *b.LaunchTemplateVersion.VersionNumber != 2 ||
		*b.LaunchTemplateVersion.VersionDescription != "mark" {
		t.Fatalf("%d and %d", *a.LaunchTemplateVersion.VersionNumber, *b.LaunchTemplateVersion.VersionNumber)
	}
	in.SourceVersion = aws.String("2")
	_, err := w.CreateLaunchTemplateVersion(t.Context(), in)
	wantCode(t, err, "IdempotentParameterMismatch")
	in.ClientToken, in.DryRun = aws.String("u"), aws.Bool(true)
	_, err = w.CreateLaunchTemplateVersion(t.Context(), in)
	wantCode(t, err, "DryRunOperation")
	if got := w.versions(t, api.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: &id}); len(got) != 2 {
		t.Errorf("versions %v", got)
	}
	mutated := 0
	for _, c := range w.Calls() {
		if c.Action == "CreateLaunchTemplateVersion" && c.Mutated {
			mutated++
		}
	}
	if mutated != 1 {
		t.Errorf("the log counts %d changes", mutated)
	}
}

func TestTemplatesPageAndHide(t *testing.T) {
	w := calm(t)
	for _, n := range []string{"aaa", "bbb", "ccc"} {
		w.template(t, n, rich())
	}
	w.place(t).With(func(now time.Time) {
		_, err := ec2.StoreOf(w.place(t)).AddTemplate(now, ec2.TemplateSeed{Name: "hidden",
			Operator: &ec2.Operator{Managed: true, Principal: "eks.amazonaws.com", Hidden: true},
			Versions: []ec2.VersionSeed{{Data: []byte(`{"ImageId":"` + image1 + `"}`)}}}, "test")
		if err != nil {
			t.Fatal(err)
		}
	})
	list := func(managed bool) (names []string) {
		p := api.NewDescribeLaunchTemplatesPaginator(w.Client, &api.DescribeLaunchTemplatesInput{
			MaxResults: aws.Int32(1), IncludeManagedResources: aws.Bool(managed)})
		for p.HasMorePages() {
			for _, l := range must[*api.DescribeLaunchTemplatesOutput](t)(p.NextPage(t.Context())).LaunchTemplates {
				names = append(names, *l.LaunchTemplateName)
			}
		}
		return names
	}
	if got := list(false); !slices.Equal(got, []string{"aaa", "bbb", "ccc"}) {
		t.Errorf("%v", got)
	}
	if got := list(true); !slices.Equal(got, []string{"aaa", "bbb", "ccc", "hidden"}) {
		t.Errorf("%v", got)
	}
	out := must[*api.DescribeLaunchTemplateVersionsOutput](t)(w.DescribeLaunchTemplateVersions(t.Context(),
		&api.DescribeLaunchTemplateVersionsInput{Versions: []string{"$Latest"}, IncludeManagedResources: aws.Bool(true)}))
	if n := len(out.LaunchTemplateVersions); n != 4 || !*out.LaunchTemplateVersions[3].Operator.Managed {
		t.Errorf("%d versions", n)
	}
	_, err := w.CreateLaunchTemplate(t.Context(), &api.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("aaa"),
		LaunchTemplateData: rich()})
	wantCode(t, err, "InvalidLaunchTemplateName.AlreadyExistsException")
}

func TestLaunchFromTemplateByVersion(t *testing.T) {
	w := calm(t)
	id := w.template(t, "web", rich())
	w.version(t, id, "1", &templateData{InstanceType: "c5.large",
		MetadataOptions: &types.LaunchTemplateInstanceMetadataOptionsRequest{HttpTokens: "required"}})
	for version, want := range map[string]string{"": "optional", "$Default": "optional", "$Latest": "required",
		"1": "optional", "2": "required"} {
		spec := &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("web")}
		if version != "" {
			spec.Version = &version
		}
		run := must[*api.RunInstancesOutput](t)(w.RunInstances(t.Context(), &api.RunInstancesInput{
			LaunchTemplate: spec, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}))
		i := run.Instances[0]
		if string(i.MetadataOptions.HttpTokens) != want ||
			*i.IamInstanceProfile.Arn != "arn:aws:iam::111122223333:instance-profile/app" {
			t.Errorf("version %q: %+v", version, i.MetadataOptions)
		}
		tags := map[string]string{}
		for _, tag := range i.Tags {
			tags[*tag.Key] = *tag.Value
		}
		if tags["app"] != "web" || tags["aws:ec2launchtemplate:id"] != id ||
			tags["aws:ec2launchtemplate:version"] != map[string]string{"optional": "1", "required": "2"}[want] {
			t.Errorf("version %q: tags %v", version, tags)
		}
	}
	_, err := w.RunInstances(t.Context(), &api.RunInstancesInput{MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: &id, Version: aws.String("7")}})
	wantCode(t, err, "InvalidLaunchTemplateId.VersionNotFound")
}
