package scenario

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// site is where a cell is filled: its place, locked, with its services.
type site struct {
	*builder
	cell
	place *core.Place
	ec2   *ec2.Store
	asg   *autoscaling.Store
}

func (b *builder) fill(c cell) error {
	if err := b.role(c); err != nil {
		return err
	}
	p, err := b.world.Place(c.account.id, c.region)
	if err != nil {
		return err
	}
	p.With(func(time.Time) {
		s := &site{builder: b, cell: c, place: p, ec2: ec2.StoreOf(p), asg: autoscaling.StoreOf(p)}
		if err = s.image(); err != nil {
			return
		}
		if err = s.guard(); err != nil {
			return
		}
		if c.service.shape == bare {
			err = s.bare()
		} else {
			err = s.grouped()
		}
	})
	return err
}

// imageID is the same wherever the image is the same: an image's id is of a region, and of an account if it is its own.
func (s *site) imageID() string {
	key := s.service.image + "/" + string(s.region)
	if i := s.imageInfo(); images[i].owner == "" {
		key += "/" + string(s.account.id)
	}
	var h uint64 = 14695981039346656037
	for _, b := range []byte(key) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return fmt.Sprintf("ami-0%016x", h)
}

func (s *site) imageInfo() int {
	for i := range images {
		if images[i].key == s.service.image {
			return i
		}
	}
	panic("scenario: no image " + s.service.image)
}

func (s *site) image() error {
	if _, ok := s.ec2.Image(s.imageID()); ok {
		return nil
	}
	i := images[s.imageInfo()]
	return s.ec2.AddImage(s.now, ec2.ImageSeed{
		ID: s.imageID(), Name: i.name, Owner: i.owner, OwnerAlias: i.alias, ImdsV2: i.v2, Public: i.alias == "amazon",
		Created: s.now.AddDate(0, -i.age, 0),
	})
}

// tags are what an instance of the cell carries; group is empty for bare ones.
func (s *site) tags(name, group string) map[string]string {
	t := map[string]string{"Name": name, "app": s.service.app, "team": s.account.team, "env": s.account.env}
	if s.service.image != "appliance" {
		t["patch-group"] = s.account.env
	}
	switch s.service.stack {
	case "cloudformation":
		stack := s.service.app + "-" + s.account.env
		t["aws:cloudformation:stack-name"] = stack
		t["aws:cloudformation:logical-id"] = "AutoScalingGroup"
		t["aws:cloudformation:stack-id"] = fmt.Sprintf("arn:%s:cloudformation:%s:%s:stack/%s/%08x-51c3-11ee-9c2f-0a5e1c2b7d11",
			s.place.Partition, s.region, s.account.id, stack, len(stack)*0x1f3d5b79)
	case "terraform":
		t["managed-by"] = "terraform"
		t["terraform:module"] = "git::https://git.northwind.example/infra/" + s.service.app
	case "eks":
		t["eks:cluster-name"], t["eks:nodegroup-name"] = "platform", "workers"
		t["kubernetes.io/cluster/platform"] = "owned"
	}
	if group != "" {
		t["aws:autoscaling:groupName"] = group
	}
	return t
}

func (s *site) profile() string {
	return "arn:" + string(s.place.Partition) + ":iam::" + string(s.account.id) + ":instance-profile/" + s.service.app
}

func (s *site) zone(i int) string { return string(s.region) + string("abc"[i%3]) }

// days is a time so many days ago, moved by up to a day.
func (s *site) days(n float64) time.Time {
	return s.now.Add(-time.Duration((n + s.rng.Float64()) * 24 * float64(time.Hour))).Truncate(time.Second)
}

const bastionGroup = "sg-0b4571000000000a1"

// guard makes the security group of the bastions.
func (s *site) guard() error {
	if s.service.app != "bastion" {
		return nil
	}
	ssh := int64(22)
	return s.ec2.AddSecurityGroup(ec2.SecurityGroupSeed{ID: bastionGroup, Name: "bastion", Description: "SSH from anywhere",
		Ingress: []ec2.RuleSeed{{Protocol: "tcp", From: &ssh, To: &ssh, CIDRs: []string{"0.0.0.0/0"}}}})
}

// bare launches instances by hand. Half of the busy ones were restarted lately; others are stopped or have no endpoint.
func (s *site) bare() error {
	for i := range s.count {
		name := fmt.Sprintf("%s-%02d", s.service.app, i+1)
		seed := ec2.InstanceSeed{
			ImageID: s.imageID(), InstanceType: s.service.kind, AZ: s.zone(i), ProfileARN: s.profile(), Launched: s.days(40 + s.rng.Float64()*400),
			Tags: s.tags(name, ""), Options: fleet.Options{Tokens: fleet.TokensOptional, HopLimit: max(s.service.hop, 1)},
		}
		if s.service.app == "bastion" { // open to everyone, as they are
			seed.SecurityGroups, seed.PublicIP = []string{bastionGroup}, fmt.Sprintf("198.51.100.%d", i%250+1)
		}
		if s.service.operator != "" {
			seed.Operator = &ec2.Operator{Managed: true, Principal: s.service.operator, Hidden: i%2 == 0}
		}
		switch {
		case s.service.disabled && i%2 == 0:
			seed.Options = fleet.Options{Tokens: fleet.TokensOptional, Endpoint: fleet.Disabled, HopLimit: 1}
			seed.Tags["app"] = s.service.app + "-standby"
		case s.service.stopped && i%3 != 0:
			seed.State, seed.Stopped = ec2.StateStopped, s.days(1+s.rng.Float64()*30)
		case s.service.app == "kafka-broker" && i%5 == 0:
			seed.Options.Tokens = fleet.TokensRequired // somebody has begun
		}
		inst, err := s.ec2.AddInstance(s.now, seed)
		if err != nil {
			return err
		}
		if seed.State == "" && !s.service.quiet && !s.service.disabled && i%2 == 0 {
			down := s.days(2 + s.rng.Float64()*9)
			s.ec2.Interrupt(inst, down, down.Add(4*time.Minute))
		}
		s.sum.Instances++
	}
	return nil
}

// launchSource is a group with what it launches from.
type launchSource struct {
	name    string
	spec    autoscaling.Spec
	version int64
	options fleet.Options // of instances launched from it
}

// grouped makes the groups of a service with their members and what became of earlier ones.
func (s *site) grouped() error {
	sources, err := s.sources()
	if err != nil {
		return err
	}
	for i, src := range sources {
		n := s.count / len(sources)
		if i == 0 {
			n += s.count % len(sources)
		}
		if err := s.group(src, max(n, 1)); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) group(src launchSource, n int) error {
	src.spec.Min, src.spec.Desired, src.spec.Max = max(n/2, 1), n, n*2
	src.spec.Zones = []string{s.zone(0), s.zone(1), s.zone(2)}
	for _, k := range []string{"app", "team", "env"} {
		src.spec.Tags = append(src.spec.Tags, autoscaling.Tag{Key: k, Value: s.tags("", "")[k], Propagate: true})
	}
	if err := s.asg.Create(s.days(200), src.name, src.spec); err != nil {
		return err
	}
	s.sum.Groups++
	if s.service.app == surpriseApp {
		s.sum.Surprises = append(s.sum.Surprises, s.account.name+"/"+string(s.region)+"/"+src.name)
	}
	for i := range n {
		if err := s.memberOf(src, i); err != nil {
			return err
		}
	}
	return nil
}

// memberOf adds a member. About every third replaced another within the last twelve days; the first always did, so that
// each group has a boot and a whole window of evidence by lineage.
func (s *site) memberOf(src launchSource, i int) error {
	seed := ec2.InstanceSeed{
		ImageID: s.imageID(), InstanceType: s.service.kind, AZ: s.zone(i), ProfileARN: s.profile(), Options: src.options,
		Tags: s.tags(s.service.app+"-"+s.account.env, src.name),
	}
	if id := src.template(); id != "" {
		seed.Template, seed.Version = id, src.version
	}
	seed.Launched = s.days(18 + s.rng.Float64()*60)
	if i == 0 || (i > 1 && s.rng.IntN(3) == 0) {
		past := seed
		past.Tags = maps.Clone(seed.Tags)
		past.Stopped = s.days(1.5 + s.rng.Float64()*10)
		gone, err := s.ec2.AddPast(s.now, past)
		if err != nil {
			return err
		}
		if err := s.asg.Succeed(src.name, gone, past.Stopped); err != nil {
			return err
		}
		s.sum.Past++
		seed.Launched = past.Stopped.Add(30 * time.Second)
	}
	inst, err := s.ec2.AddInstance(s.now, seed)
	if err != nil {
		return err
	}
	s.sum.Instances++
	return s.asg.Attach(src.name, inst, src.version)
}

func (l launchSource) template() string {
	switch {
	case l.spec.Source.Template != nil:
		return l.spec.Source.Template.ID
	case l.spec.Source.Mixed != nil:
		return l.spec.Source.Mixed.Template.ID
	}
	return ""
}

// sources makes what the service launches from, by its shape.
func (s *site) sources() ([]launchSource, error) {
	app, env := s.service.app, s.account.env
	name := app + "-" + env
	hop := max(s.service.hop, 1)
	optional := &fleet.Options{Tokens: fleet.TokensOptional, Endpoint: fleet.Enabled, HopLimit: hop}
	required := &fleet.Options{Tokens: fleet.TokensRequired, Endpoint: fleet.Enabled, HopLimit: hop}
	on := func(suffix, template, version string, number int64, o *fleet.Options) launchSource {
		return launchSource{
			name: name + suffix, version: number, options: s.resolved(o),
			spec: autoscaling.Spec{Source: autoscaling.Source{Template: &autoscaling.TemplateRef{ID: template, Version: version}}},
		}
	}
	switch s.service.shape {
	case plain:
		id, err := s.template(name, 1, nil)
		return []launchSource{on("", id, "$Default", 1, nil)}, err
	case explicit:
		id, err := s.template(name, 2, optional, optional)
		return []launchSource{on("", id, "$Default", 2, optional)}, err
	case done:
		id, err := s.template(name, 2, optional, required)
		return []launchSource{on("", id, "$Default", 2, required)}, err
	case behind: // a newer version that requires tokens was made, and nobody made it the default
		id, err := s.template(name, 3, nil, nil, optional, optional, required)
		return []launchSource{on("", id, "$Default", 3, optional)}, err
	case latest:
		id, err := s.template(name, 1, nil, nil, optional)
		return []launchSource{on("", id, "$Latest", 3, optional)}, err
	case pinned:
		id, err := s.template(name, 4, nil, optional, required, required)
		return []launchSource{on("", id, "2", 2, optional)}, err
	case shared:
		id, err := s.template(name, 2, nil, nil, nil)
		return []launchSource{on("", id, "$Default", 2, nil), on("-spot", id, "$Latest", 3, nil)}, err
	case mixed:
		return s.mixedSource(name)
	default:
		cfg := autoscaling.Config{
			Name: name + "-2021-04-16", ImageID: s.imageID(), InstanceType: s.service.kind, Profile: s.profile(), Created: s.now.AddDate(-4, 0, 0),
		}
		src := launchSource{name: name, options: s.resolved(nil), spec: autoscaling.Spec{Source: autoscaling.Source{Config: cfg.Name}}}
		return []launchSource{src}, s.asg.PutConfig(cfg)
	}
}

// mixedSource is a group whose override for another processor names a template of its own.
func (s *site) mixedSource(name string) ([]launchSource, error) {
	id, err := s.template(name, 1, nil)
	if err != nil {
		return nil, err
	}
	other, err := s.template(name+"-x86", 1, nil)
	spec := autoscaling.Spec{Source: autoscaling.Source{Mixed: &autoscaling.Mixed{
		Template: autoscaling.TemplateRef{ID: id, Version: "$Default"},
		Overrides: []autoscaling.Override{
			{InstanceType: s.service.kind},
			{InstanceType: "r6i.large", Template: &autoscaling.TemplateRef{ID: other, Version: "$Latest"}},
		},
		Distribution: map[string]string{"OnDemandPercentageAboveBaseCapacity": "50", "SpotAllocationStrategy": "capacity-optimized"},
	}}}
	return []launchSource{{name: name, version: 1, options: s.resolved(nil), spec: spec}}, err
}

// resolved is what an instance launched with the options has.
func (s *site) resolved(o *fleet.Options) fleet.Options {
	image, _ := s.ec2.Image(s.imageID())
	var launch fleet.Options
	if o != nil {
		launch = *o
	}
	return ec2.Resolve(launch, fleet.Options{}, image.Newest().ImdsV2)
}

// template makes a launch template with a version for each of the given options; nil says nothing of them.
func (s *site) template(name string, def int64, versions ...*fleet.Options) (string, error) {
	seed := ec2.TemplateSeed{
		Name: name, Default: def, Created: s.days(210), Tags: map[string]string{"app": s.service.app, "team": s.account.team},
	}
	for i, o := range versions {
		data := map[string]any{
			"ImageId": s.imageID(), "InstanceType": s.service.kind, "IamInstanceProfile": map[string]any{"Arn": s.profile()},
			"SecurityGroupIds": []string{"sg-0" + string(s.account.id)[:8] + fmt.Sprintf("%08x", len(name)*7919)},
		}
		if o != nil {
			data["MetadataOptions"] = map[string]any{
				"HttpTokens": o.Tokens, "HttpEndpoint": cmp.Or(o.Endpoint, fleet.Enabled), "HttpPutResponseHopLimit": fmt.Sprint(o.HopLimit),
			}
		}
		raw, err := json.Marshal(data)
		if err != nil {
			return "", fmt.Errorf("template %s: %w", name, err)
		}
		seed.Versions = append(seed.Versions, ec2.VersionSeed{Description: fmt.Sprintf("release %d", i+1), Data: raw})
	}
	t, err := s.ec2.AddTemplate(s.now, seed, "template "+name)
	if err != nil {
		return "", err
	}
	s.sum.Templates++
	return t.ID(), nil
}
