package launchconfiguration

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	astypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

func ref(kindName, id string) fleet.Ref { return fleet.Ref{Place: place, Kind: kindName, ID: id} }

// site is a launch configuration with its groups.
type site struct {
	resources []inventory.Resource
	verdicts  map[fleet.Ref]*assess.Verdict
}

func newSite(options fleet.Options) *site {
	lc := inventory.Resource{
		Ref: ref(inventory.KindLaunchConfiguration, "old"), Name: "old", State: options.State(),
		Launch: map[string]fleet.Options{"": options}, Attrs: map[string]string{},
	}
	s := &site{resources: []inventory.Resource{lc}, verdicts: map[fleet.Ref]*assess.Verdict{}}
	s.verdicts[lc.Ref] = &assess.Verdict{Ref: lc.Ref, Status: assess.Ready}
	return s
}

func (s *site) group(name string, status assess.Status, change ...func(*inventory.Resource)) {
	r := inventory.Resource{
		Ref: ref(inventory.KindAutoScaling, name), State: fleet.State{fieldConfiguration: "old"},
		Links: []inventory.Link{{Relation: inventory.LaunchesFrom, To: s.resources[0].Ref}},
	}
	for _, f := range change {
		f(&r)
	}
	s.resources = append(s.resources, r)
	s.verdicts[r.Ref] = &assess.Verdict{Ref: r.Ref, Status: status}
}

func (s *site) member(group string, hop int) {
	s.resources = append(s.resources, inventory.Resource{
		Ref: ref(inventory.KindInstance, "i-"+group), Status: inventory.StatusRunning, State: fleet.Options{HopLimit: hop}.State(),
		Links: []inventory.Link{{Relation: inventory.MemberOf, To: ref(inventory.KindAutoScaling, group)}},
	})
}

func (s *site) propose() ([]plan.Need, []plan.Manual) {
	lc := s.resources[0].Ref
	return propose(kind.Case{
		Resource: &s.resources[0], Verdict: s.verdicts[lc],
		Index: inventory.NewIndex(&inventory.Snapshot{Place: place, Resources: s.resources}),
		Judge: func(r fleet.Ref) *assess.Verdict { return s.verdicts[r] },
	})
}

func steps(needs []plan.Need) []string {
	var out []string
	for _, n := range needs {
		out = append(out, n.Action+" "+n.Ref.ID)
	}
	return out
}

func TestPropose(t *testing.T) {
	optional := fleet.Options{Tokens: fleet.TokensOptional}
	managed := func(r *inventory.Resource) { r.Owner = fleet.Owner{Type: fleet.OwnerBeanstalk, Managed: true} }
	made := func(tokens string) func(*site) {
		return func(s *site) {
			s.resources[0].State[FieldTemplate] = "lt-01234567"
			s.resources = append(s.resources, inventory.Resource{
				Ref: ref(inventory.KindLaunchTemplate, "lt-01234567"), Launch: map[string]fleet.Options{"1": {Tokens: tokens}},
			})
		}
	}
	for name, c := range map[string]struct {
		options fleet.Options
		set     func(*site)
		want    []string
		manual  string
	}{
		"one ready group": {optional, func(s *site) { s.group("a", assess.Ready) },
			[]string{"create-template old", "set-launch-template a"}, ""},
		"only those that are ready": {fleet.Options{}, func(s *site) {
			s.group("a", assess.Ready)
			s.group("b", assess.Blocked)
			s.group("c", assess.Unknown)
			s.group("d", assess.Ready)
		}, []string{"create-template old", "set-launch-template a", "set-launch-template d"}, ""},
		"none is ready":              {optional, func(s *site) { s.group("a", assess.Unknown) }, nil, ""},
		"a service operates it":      {optional, func(s *site) { s.group("a", assess.Ready, managed) }, nil, ""},
		"nobody launches from it":    {optional, func(*site) {}, nil, ""},
		"it requires tokens already": {fleet.Options{Tokens: fleet.TokensRequired}, func(s *site) { s.group("a", assess.Ready) }, nil, ""},
		"its endpoint is off":        {fleet.Options{Endpoint: fleet.Disabled}, func(s *site) { s.group("a", assess.Ready) }, nil, ""},
		"it is exempt": {optional, func(s *site) {
			s.group("a", assess.Ready)
			s.verdicts[s.resources[0].Ref].Status = assess.Exempt
		}, nil, ""},
		"it cannot be a template": {optional, func(s *site) {
			s.group("a", assess.Ready)
			s.resources[0].Attrs[attrHindrance] = "it links instances to the VPC vpc-1 by ClassicLink"
		}, nil, "ClassicLink"},
		"a template is there": {optional, func(s *site) {
			s.group("a", assess.Ready)
			made(fleet.TokensRequired)(s)
		}, []string{"set-launch-template a"}, ""},
		"one that allows v1 is there": {optional, func(s *site) {
			s.group("a", assess.Ready)
			made(fleet.TokensOptional)(s)
		}, nil, "lt-01234567"},
		"two are there": {optional, func(s *site) {
			s.group("a", assess.Ready)
			made(fleet.TokensRequired)(s)
			s.resources[0].State[FieldTemplate] = "lt-01234567,lt-89abcdef"
		}, nil, "is not one template"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(c.options)
			c.set(s)
			needs, manuals := s.propose()
			if got := steps(needs); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if (len(manuals) > 0) != (c.manual != "") || len(manuals) > 0 && !strings.Contains(manuals[0].Reason, c.manual) {
				t.Errorf("steps for people %+v", manuals)
			}
			for _, m := range manuals {
				if m.Remedy == "" {
					t.Errorf("no remedy for %s", m.Reason)
				}
			}
		})
	}
}

func TestProposedChangesBuildOnEachOther(t *testing.T) {
	s := newSite(fleet.Options{Tokens: fleet.TokensOptional, HopLimit: 1})
	s.group("a", assess.Ready)
	s.member("a", 2)
	needs, _ := s.propose()
	if len(needs) != 2 {
		t.Fatalf("%d needs", len(needs))
	}
	create, move := needs[0], needs[1]
	out := plan.OutputOf(create.Key(), OutputTemplate)
	if create.Patch[FieldTemplate] != out || move.Patch[fieldTemplateID] != out || move.Patch[fieldTemplateVersion] != "1" ||
		move.Patch[fieldConfiguration] != fleet.Absent || !slices.Equal(move.After, []plan.Key{create.Key()}) {
		t.Errorf("create %+v\nmove %+v", create, move)
	}
	if o := fleet.State(create.Params).Options(); o.Tokens != fleet.TokensRequired || o.HopLimit != 2 {
		t.Errorf("the template gets %+v, but an instance runs with two hops", o)
	}
}

// rich is a launch configuration that says everything a template can say.
func rich() *astypes.LaunchConfiguration {
	return &astypes.LaunchConfiguration{
		ImageId: aws.String("ami-01234567"), InstanceType: aws.String("m5.large"), KeyName: aws.String("ops"),
		UserData: aws.String("IyE="), KernelId: aws.String("aki-01234567"), RamdiskId: aws.String("ari-01234567"),
		SecurityGroups: []string{"sg-2", "sg-1"}, IamInstanceProfile: aws.String("web"), SpotPrice: aws.String("0.05"),
		PlacementTenancy: aws.String("dedicated"), EbsOptimized: aws.Bool(true), AssociatePublicIpAddress: aws.Bool(false),
		InstanceMonitoring: &astypes.InstanceMonitoring{Enabled: aws.Bool(false)},
		MetadataOptions:    &astypes.InstanceMetadataOptions{HttpTokens: astypes.InstanceMetadataHttpTokensStateOptional},
		BlockDeviceMappings: []astypes.BlockDeviceMapping{
			{DeviceName: aws.String("/dev/xvda"), Ebs: &astypes.Ebs{VolumeSize: aws.Int32(8), Encrypted: aws.Bool(false)}},
			{DeviceName: aws.String("/dev/xvdb"), NoDevice: aws.Bool(true)},
		},
	}
}

// response is what EC2 answers for a request: the same fields in other types.
func response(r *types.RequestLaunchTemplateData) *types.ResponseLaunchTemplateData {
	out := &types.ResponseLaunchTemplateData{
		ImageId: r.ImageId, InstanceType: r.InstanceType, KeyName: r.KeyName, UserData: r.UserData, KernelId: r.KernelId,
		RamDiskId: r.RamDiskId, EbsOptimized: r.EbsOptimized, SecurityGroupIds: r.SecurityGroupIds, SecurityGroups: r.SecurityGroups,
		Monitoring: (*types.LaunchTemplatesMonitoring)(r.Monitoring), Placement: (*types.LaunchTemplatePlacement)(r.Placement),
		IamInstanceProfile: (*types.LaunchTemplateIamInstanceProfileSpecification)(r.IamInstanceProfile),
	}
	if m := r.InstanceMarketOptions; m != nil {
		out.InstanceMarketOptions = &types.LaunchTemplateInstanceMarketOptions{
			MarketType: m.MarketType, SpotOptions: &types.LaunchTemplateSpotMarketOptions{MaxPrice: m.SpotOptions.MaxPrice},
		}
	}
	if o := r.MetadataOptions; o != nil {
		out.MetadataOptions = &types.LaunchTemplateInstanceMetadataOptions{
			HttpTokens: o.HttpTokens, HttpEndpoint: o.HttpEndpoint, HttpPutResponseHopLimit: o.HttpPutResponseHopLimit,
		}
	}
	for _, n := range r.NetworkInterfaces {
		out.NetworkInterfaces = append(out.NetworkInterfaces, types.LaunchTemplateInstanceNetworkInterfaceSpecification{
			DeviceIndex: n.DeviceIndex, AssociatePublicIpAddress: n.AssociatePublicIpAddress, Groups: n.Groups,
		})
	}
	for _, m := range r.BlockDeviceMappings {
		out.BlockDeviceMappings = append(out.BlockDeviceMappings, types.LaunchTemplateBlockDeviceMapping{
			DeviceName: m.DeviceName, VirtualName: m.VirtualName, NoDevice: m.NoDevice, Ebs: (*types.LaunchTemplateEbsBlockDevice)(m.Ebs),
		})
	}
	return out
}

func TestEveryDifferenceIsSeen(t *testing.T) {
	want := fromConfiguration(rich())
	whole := func() *types.ResponseLaunchTemplateData { return response(request(want)) }
	if d := differences(want, whole()); len(d) > 0 {
		t.Fatalf("an equal template differs in %q", d)
	}
	for field, change := range map[string]func(*types.ResponseLaunchTemplateData){
		"Image":        func(d *types.ResponseLaunchTemplateData) { d.ImageId = aws.String("ami-89abcdef") },
		"InstanceType": func(d *types.ResponseLaunchTemplateData) { d.InstanceType = "m5.xlarge" },
		"Key":          func(d *types.ResponseLaunchTemplateData) { d.KeyName = nil },
		"UserData":     func(d *types.ResponseLaunchTemplateData) { d.UserData = nil },
		"Kernel":       func(d *types.ResponseLaunchTemplateData) { d.KernelId = nil },
		"RAMDisk":      func(d *types.ResponseLaunchTemplateData) { d.RamDiskId = nil },
		"Profile":      func(d *types.ResponseLaunchTemplateData) { d.IamInstanceProfile = nil },
		"SpotPrice":    func(d *types.ResponseLaunchTemplateData) { d.InstanceMarketOptions = nil },
		"Tenancy":      func(d *types.ResponseLaunchTemplateData) { d.Placement = nil },
		"EBSOptimized": func(d *types.ResponseLaunchTemplateData) { d.EbsOptimized = nil },
		"Monitoring":   func(d *types.ResponseLaunchTemplateData) { d.Monitoring.Enabled = aws.Bool(true) },
		"PublicAddress": func(d *types.ResponseLaunchTemplateData) {
			d.NetworkInterfaces[0].AssociatePublicIpAddress = aws.Bool(true)
		},
		"SecurityGroups":    func(d *types.ResponseLaunchTemplateData) { d.NetworkInterfaces[0].Groups = []string{"sg-1"} },
		"NetworkInterfaces": func(d *types.ResponseLaunchTemplateData) { d.NetworkInterfaces[0].SubnetId = aws.String("subnet-1") },
		"BlockDevices":      func(d *types.ResponseLaunchTemplateData) { d.BlockDeviceMappings[0].Ebs.KmsKeyId = aws.String("k") },
		"Options":           func(d *types.ResponseLaunchTemplateData) { d.MetadataOptions.HttpTokens = "required" },
		"CpuOptions":        func(d *types.ResponseLaunchTemplateData) { d.CpuOptions = &types.LaunchTemplateCpuOptions{} },
		"TagSpecifications": func(d *types.ResponseLaunchTemplateData) {
			d.TagSpecifications = make([]types.LaunchTemplateTagSpecification, 1)
		},
	} {
		d := whole()
		change(d)
		if got := differences(want, d); !slices.Contains(got, field) {
			t.Errorf("another %s: told %q", field, got)
		}
	}
	if d := differences(want, nil); len(d) == 0 {
		t.Error("nothing at all passed for equal")
	}
}

func TestMonitoringIsOnUnlessSaid(t *testing.T) {
	c := rich()
	c.InstanceMonitoring = nil
	if !fromConfiguration(c).Monitoring {
		t.Error("a launch configuration monitors in detail unless it says otherwise")
	}
}

func TestHindrance(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*astypes.LaunchConfiguration)
		want   string
	}{
		"none":         {func(*astypes.LaunchConfiguration) {}, ""},
		"ClassicLink":  {func(c *astypes.LaunchConfiguration) { c.ClassicLinkVPCId = aws.String("vpc-1") }, "vpc-1"},
		"named groups": {func(c *astypes.LaunchConfiguration) { c.SecurityGroups = []string{"web"} }, "public address"},
		"named, no public address": {func(c *astypes.LaunchConfiguration) {
			c.SecurityGroups, c.AssociatePublicIpAddress = []string{"web"}, nil
		}, ""},
	} {
		lc := rich()
		c.change(lc)
		if got := hindrance(lc); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestCommands(t *testing.T) {
	forward := kind.Write{Place: place, ID: "it's", Verb: VerbCreateTemplate,
		Params: map[string]string{fleet.FieldTokens: "required", fleet.FieldHopLimit: "2"}}
	got := commands(forward)
	if len(got) != 1 {
		t.Fatalf("got %q", got)
	}
	for _, part := range []string{
		"aws ec2 create-launch-template --region eu-west-1 --launch-template-name it-s-v2-", `imdsctl:replaces","Value":"it'\''s"`,
		`--launch-template-data "$(aws autoscaling describe-launch-configurations`, `HttpTokens:"required"`, "HttpPutResponseHopLimit:2",
	} {
		if !strings.Contains(got[0], part) {
			t.Errorf("%s\nlacks %s", got[0], part)
		}
	}
	back := kind.Write{Place: place, ID: "old", Verb: VerbCreateTemplate, Revert: true,
		Before: fleet.State{FieldTemplate: plan.OutputOf("k", OutputTemplate)}}
	if got := commands(back); len(got) != 1 || !strings.Contains(got[0], "delete-launch-template") {
		t.Errorf("got %q", got)
	}
	back.Made = map[string]string{OutputTemplate: "lt-0123456789abcdef0"}
	if got := commands(back); len(got) != 1 || !strings.HasSuffix(got[0], "--launch-template-id lt-0123456789abcdef0") {
		t.Errorf("got %q", got)
	}
	back.Made[OutputTemplate] = "lt-0; reboot"
	if got := commands(back); got != nil {
		t.Errorf("an id that is none gave %q", got)
	}
}

func FuzzTemplateName(f *testing.F) {
	f.Add("web", "m")
	f.Add("ä*'; \x00", "")
	f.Fuzz(func(t *testing.T, name, marker string) {
		got := templateName(name, marker)
		if len(got) < 3 || len(got) > 128 || unnamed.MatchString(got) {
			t.Errorf("%q, %q gave %q", name, marker, got)
		}
	})
}
