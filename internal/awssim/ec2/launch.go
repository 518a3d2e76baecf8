package ec2

import (
	"cmp"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// LaunchSpec is what a launch asks for. Fields that are set win over the template's.
type LaunchSpec struct {
	Count        int // 1 when zero
	TemplateID   string
	TemplateName string
	Version      string // "$Default" when empty
	ImageID      string
	InstanceType string
	SubnetID     string
	AZ           string
	KeyName      string
	ProfileARN   string
	Options      fleet.Options
	Tags         map[string]string
	Operator     *Operator
	ClientToken  string
}

// Launch starts instances, or explains in EC2's words why not; then nothing was started.
func (s *Store) Launch(now time.Time, spec LaunchSpec) ([]*Instance, error) {
	r, err := s.resolve(spec)
	if err != nil {
		return nil, err
	}
	return s.start(now, r), nil
}

// resolved is a launch whose every field is decided.
type resolved struct {
	LaunchSpec
	tags []Tag
}

// resolve decides a launch: parameters win over the template's, then Options, then enforcement.
func (s *Store) resolve(spec LaunchSpec) (resolved, error) {
	r := resolved{LaunchSpec: spec}
	r.Tags = maps.Clone(spec.Tags)
	if r.Tags == nil {
		r.Tags = map[string]string{}
	}
	if spec.TemplateID != "" || spec.TemplateName != "" {
		if err := s.fromTemplate(&r); err != nil {
			return r, err
		}
	}
	if r.ImageID == "" {
		return r, wire.Errorf("MissingParameter", "The request must contain the parameter ImageId")
	}
	if !strings.HasPrefix(r.ImageID, "ami-") {
		return r, wire.Errorf("InvalidAMIID.Malformed", `Invalid id: "%s" (expecting "ami-...")`, r.ImageID)
	}
	image := s.images[r.ImageID]
	if image == nil {
		return r, wire.Errorf("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", r.ImageID)
	}
	r.InstanceType = cmp.Or(r.InstanceType, "m1.small") // EC2's documented default
	r.AZ = cmp.Or(r.AZ, string(s.place.Region)+"a")
	defaults := s.Defaults()
	r.Options = Resolve(r.Options, defaults.Options, image.Newest().ImdsV2)
	if defaults.Enforced == fleet.Enabled && r.Options.Tokens == fleet.TokensOptional {
		return r, enforced("You can't launch instances with IMDSv1")
	}
	r.tags = tagsOf(r.Tags)
	return r, checkShownTags(r.Options, r.tags)
}

// Resolve decides a launch's metadata options field by field: launch parameters and template, then account default,
// then
// the image (ImdsSupport v2.0: tokens required, hop limit 2), then EC2's own defaults (EC2 User Guide, "Order of
// precedence for instance metadata options"). A default of "no-preference" is unset.
func Resolve(launch, account fleet.Options, imageV2 bool) fleet.Options {
	base := fleet.Options{
		Tokens: fleet.TokensOptional, Endpoint: fleet.Enabled, HopLimit: 1, IPv6: fleet.Disabled, Tags: fleet.Disabled,
	}
	if imageV2 {
		base.Tokens, base.HopLimit = fleet.TokensRequired, 2
	}
	return launch.Over(account).Over(base)
}

// fromTemplate lays the launch over its template's version and marks the instance with where it came from.
func (s *Store) fromTemplate(r *resolved) error {
	t, err := s.template(r.TemplateID, r.TemplateName)
	if err != nil {
		return err
	}
	v, err := t.version(t.state.Newest(), cmp.Or(r.Version, "$Default"))
	if err != nil {
		return err
	}
	d := v.Data
	r.ImageID = cmp.Or(r.ImageID, d.text("ImageId"))
	r.InstanceType = cmp.Or(r.InstanceType, d.text("InstanceType"))
	r.KeyName = cmp.Or(r.KeyName, d.text("KeyName"))
	r.AZ = cmp.Or(r.AZ, d.text("Placement", "AvailabilityZone"))
	if ifs := d.list("NetworkInterfaces"); r.SubnetID == "" && len(ifs) > 0 {
		r.SubnetID = ifs[0].text("SubnetId")
	}
	r.ProfileARN = cmp.Or(r.ProfileARN, d.text("IamInstanceProfile", "Arn"), s.profileARN(d.text("IamInstanceProfile",
		"Name")))
	r.Options = r.Options.Over(d.options())
	tags := map[string]string{}
	for _, spec := range d.list("TagSpecifications") {
		if spec.text("ResourceType") == "instance" {
			for _, tag := range spec.list("Tags") {
				tags[tag.text("Key")] = tag.text("Value")
			}
		}
	}
	maps.Copy(tags, r.Tags)
	tags["aws:ec2launchtemplate:id"] = t.id
	tags["aws:ec2launchtemplate:version"] = fmt.Sprint(v.Number)
	r.Tags = tags
	return nil
}

func (s *Store) profileARN(name string) string {
	if name == "" {
		return ""
	}
	return "arn:" + string(s.place.Partition) + ":iam::" + string(s.place.Account) + ":instance-profile/" + name
}

func (s *Store) start(now time.Time, r resolved) []*Instance {
	w := s.place.World()
	reservation := w.NewID("r-")
	out := make([]*Instance, max(r.Count, 1))
	for n := range out {
		st := &InstanceState{
			State: StatePending, Options: r.Options, Pending: true, ImageID: intern(r.ImageID),
			InstanceType: intern(r.InstanceType), SubnetID: intern(r.SubnetID), AZ: intern(r.AZ), VPCID: "vpc-default",
			ProfileARN: intern(r.ProfileARN), KeyName: intern(r.KeyName), PrivateIP: s.address(), Reservation: reservation,
			ClientToken: r.ClientToken, LaunchTime: now.Truncate(time.Second), Tags: r.tags, Operator: r.Operator,
			ProductCodes: intern(s.productCodesOf(r.ImageID)),
		}
		st.VPCID = s.vpc()
		i := &Instance{id: w.NewID("i-"), index: int32(n), lives: []Life{{From: now}}}
		i.state.Set(now, s.delay(), st)
		i.applied(now, r.Options)
		s.add(i)
		s.boot(now, i)
		out[n] = i
	}
	return out
}

// vpc is the account's default VPC in the region.
func (s *Store) vpc() string {
	return intern("vpc-0" + string(s.place.Account)[8:] + fmt.Sprintf("%012x", crc(string(s.place.Region))))
}

func crc(s string) uint64 {
	var h uint64 = 14695981039346656037
	for _, b := range []byte(s) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h & 0xffffffffffff
}

// launchSpec reads RunInstances.
func (s *Store) launchSpec(c *core.Call) (LaunchSpec, error) {
	t := c.In.Get("LaunchTemplate")
	spec := LaunchSpec{
		TemplateID: t.Str("LaunchTemplateId"), TemplateName: t.Str("LaunchTemplateName"), Version: t.Str("Version"),
		ImageID: c.In.Str("ImageId"), InstanceType: c.In.Str("InstanceType"), SubnetID: c.In.Str("SubnetId"),
		AZ: c.In.Get("Placement").Str("AvailabilityZone"), KeyName: c.In.Str("KeyName"), ClientToken: c.In.Str("ClientToken"),
		ProfileARN: cmp.Or(c.In.Get("IamInstanceProfile").Str("Arn"),
			s.profileARN(c.In.Get("IamInstanceProfile").Str("Name"))),
	}
	var err error
	if spec.Options, err = optionsIn(c.In.Get("MetadataOptions")); err != nil {
		return spec, err
	}
	least, set1, err1 := c.In.Int("MinCount")
	most, set2, err2 := c.In.Int("MaxCount")
	switch {
	case err1 != nil || err2 != nil:
		return spec, cmp.Or(err1, err2)
	case !set1 || !set2:
		return spec, wire.Errorf("MissingParameter", "The request must contain the parameters MinCount and MaxCount")
	case least < 1 || most < least || most > 1000:
		return spec, wire.Errorf("InvalidParameterValue", "Value (%d) for parameter maxCount is invalid.", most)
	}
	spec.Count = int(most)
	spec.Tags, err = tagSpecification(c, "instance")
	return spec, err
}

// accessRun needs the image, the template and the new instances; the instances' options are the condition keys that
// guard launches. They are judged as resolved, except where nothing is resolved because the launch cannot be.
func accessRun(c *core.Call) []core.Access {
	s := storeOf(c)
	spec, err := s.launchSpec(c)
	conditions := map[string][]string{"ec2:region": {string(c.Place.Region)}}
	if err == nil {
		r, err := s.resolve(spec)
		if err == nil {
			spec.ImageID, spec.InstanceType = r.ImageID, r.InstanceType
			maps.Copy(conditions, optionConditions(r.Options))
		} else {
			maps.Copy(conditions, optionConditions(spec.Options))
		}
		conditions["ec2:instancetype"] = []string{spec.InstanceType}
		for k, v := range spec.Tags {
			conditions["aws:requesttag/"+k] = []string{v}
			conditions["aws:tagkeys"] = append(conditions["aws:tagkeys"], k)
		}
	}
	needs := []core.Access{
		{Resource: c.ARN(Name, "instance/*"), Condition: conditions},
		{Resource: imageARN(c, spec.ImageID)},
	}
	if t, err := s.template(spec.TemplateID, spec.TemplateName); err == nil {
		needs = append(needs, core.Access{Resource: c.ARN(Name, "launch-template/"+t.id)})
	}
	if len(spec.Tags) > 0 {
		needs = append(needs, core.Access{
			Action: "ec2:CreateTags", Resource: c.ARN(Name, "instance/*"),
			Condition: map[string][]string{"ec2:createaction": {"RunInstances"}},
		})
	}
	if spec.ProfileARN != "" {
		role := strings.Replace(spec.ProfileARN, ":instance-profile/", ":role/", 1)
		needs = append(needs, core.Access{
			Action: "iam:PassRole", Resource: role, Condition: map[string][]string{"iam:passedtoservice": {"ec2.amazonaws.com"}},
		})
	}
	return needs
}

func runInstances(c *core.Call) error {
	s := storeOf(c)
	spec, err := s.launchSpec(c)
	if err != nil {
		return err
	}
	fresh := false
	started, err := remembered(c, s, func() ([]*Instance, error) {
		r, err := s.resolve(spec)
		if err != nil {
			return nil, err
		}
		if err := c.DryRun(); err != nil {
			return nil, err
		}
		fresh = true
		return s.start(c.Now, r), nil
	})
	if err != nil {
		return err
	}
	views := make([]view, len(started))
	for n, i := range started {
		views[n] = view{Instance: i, InstanceState: i.state.Newest(), owner: string(c.Place.Account)}
		if fresh {
			c.Mutated(i.id)
		} else {
			c.Touch(i.id)
		}
	}
	writeReservation(c, views, "-")
	return nil
}
