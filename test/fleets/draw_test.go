package fleets

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/roles"
)

// Tags of AWS that tell where an instance comes from, and who owns it.
const (
	tagGroup     = "aws:autoscaling:groupName"
	tagTemplate  = "aws:ec2launchtemplate:id"
	tagNodegroup = "eks:nodegroup-name"
)

// drawn is a random fleet, with what the configuration says of it. The same seed draws the same fleet.
type drawn struct {
	seed  uint64
	rng   *rand.Rand
	world *awssim.World
	next  int // of the ids
	// calm fleets have little that keeps anything from being migrated, so that templates with many users come to move.
	calm   bool
	places []fleet.Place

	exempt  map[string]bool // "kind/id" of the place's resources: ids are unique over the fleet
	hop     map[string]int  // hop limit by rule, of the same
	managed map[string]bool // templates and groups that a service operates
	words   []string        // what was drawn, for messages

	byPlace map[fleet.Place]*ground
}

// ground is what the draws of one place refer to.
type ground struct {
	images    []string
	templates []template
	configs   []string
}

type template struct {
	id, name string
	versions int
}

func key(kind, id string) string { return kind + "/" + id }

// draw makes the fleet of a seed in a new world.
func draw(t *testing.T, seed uint64, world *awssim.World) *drawn {
	t.Helper()
	d := &drawn{seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), world: world, exempt: map[string]bool{},
		hop: map[string]int{}, managed: map[string]bool{}, byPlace: map[fleet.Place]*ground{}}
	d.calm = d.chance(0.6)
	accounts := []fleet.AccountID{"222222222222", "333333333333"}[:d.between(1, 2)]
	if err := world.LoadSeed(organization(t, accounts)); err != nil {
		t.Fatal(err)
	}
	all := []fleet.Region{"eu-west-1", "us-east-1"}
	regions := all[:d.between(1, 2)]
	for _, account := range append(accounts, management) {
		for i, region := range all {
			d.place(t, account, region, account != management && i < len(regions))
		}
	}
	return d
}

// organization has the accounts, with both roles in each, and the management account that asks.
func organization(t *testing.T, accounts []fleet.AccountID) *core.Seed {
	t.Helper()
	allowed := allowances(t)
	s := &core.Seed{Organization: core.Organization{ID: "o-test123456", ManagementAccount: management},
		Accounts: []core.AccountSeed{{ID: management, Name: "management"}}}
	for i, id := range accounts {
		a := core.AccountSeed{ID: id, Name: fmt.Sprintf("account-%d", i)}
		for _, name := range []string{policy.DefaultReadRole, policy.DefaultWriteRole} {
			a.Roles = append(a.Roles, core.RoleSeed{Name: name, Trust: json.RawMessage(core.TrustAccount(management, "")),
				Policies: map[string]json.RawMessage{"all": json.RawMessage(core.AllowActions(allowed[name]...))}})
		}
		s.Accounts = append(s.Accounts, a)
	}
	return s
}

// allowances are the actions of the roles that imdsctl prints, by the name of the role: what the kinds declare and no more.
func allowances(t *testing.T) map[string][]string {
	t.Helper()
	printed, err := roles.Build(app.Kinds(), roles.Options{FollowUps: app.FollowUpActions(policy.Default())}, roles.Read, roles.Write)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, r := range printed {
		for _, s := range r.Statements {
			out[r.Name] = append(out[r.Name], s.Actions...)
		}
	}
	return out
}

func (d *drawn) chance(p float64) bool       { return d.rng.Float64() < p }
func (d *drawn) between(least, most int) int { return least + d.rng.IntN(most-least+1) }

// snag is chance for what stands in the way of a migration.
func (d *drawn) snag(p float64) bool {
	if d.calm {
		p /= 8
	}
	return d.chance(p)
}

func one[T any](d *drawn, of ...T) T { return of[d.rng.IntN(len(of))] }

func (d *drawn) id(prefix string) string {
	d.next++
	return fmt.Sprintf("%s0%016x", prefix, d.next)
}

func (d *drawn) say(format string, args ...any) {
	d.words = append(d.words, fmt.Sprintf(format, args...))
}

// place draws what is in a place: nothing where nobody lives.
func (d *drawn) place(t *testing.T, account fleet.AccountID, region fleet.Region, inhabited bool) {
	t.Helper()
	p, err := d.world.Place(account, region)
	if err != nil {
		t.Fatal(err)
	}
	d.places = append(d.places, p.Place)
	d.byPlace[p.Place] = &ground{}
	if !inhabited {
		return
	}
	d.say("place %s", p.Place)
	var where []running
	p.With(func(now time.Time) {
		d.defaults(p, now)
		for _, step := range []func(*core.Place, time.Time) error{d.templates, d.configs} {
			if err == nil {
				err = step(p, now)
			}
		}
		for range d.between(0, 6) {
			if err == nil {
				var r running
				r, err = d.group(p, now)
				where = append(where, r)
			}
		}
		for range d.between(0, 4) {
			if err == nil {
				var r running
				r, err = d.bare(p, now)
				where = append(where, r)
			}
		}
	})
	if err != nil {
		t.Fatalf("seed %d: %v", d.seed, err)
	}
	for _, r := range where {
		d.deploy(t, account, r)
	}
}

func (d *drawn) defaults(p *core.Place, now time.Time) {
	o := fleet.Options{Tokens: one(d, "", "", fleet.TokensOptional, fleet.TokensRequired)}
	if d.chance(0.3) {
		o.HopLimit = d.between(1, 3)
	}
	by := ec2.ManagedByAccount
	if d.chance(0.1) {
		by = ec2.ManagedByPolicy
	}
	ec2.StoreOf(p).SetDefaults(now.Add(-time.Hour), ec2.Defaults{Options: o, ManagedBy: by})
	d.say("  defaults %+v by %s", o, by)
}

// options draws metadata options as templates have them: none, some or all.
func (d *drawn) options() map[string]any {
	switch d.between(0, 6) {
	case 0, 1:
		return nil
	case 2:
		return map[string]any{"HttpPutResponseHopLimit": d.between(1, 3)}
	case 3:
		return map[string]any{"HttpTokens": "required", "HttpPutResponseHopLimit": d.between(1, 3)}
	case 4:
		if !d.snag(1) {
			return nil
		}
		return map[string]any{"HttpEndpoint": "disabled"}
	default:
		o := map[string]any{"HttpTokens": "optional", "HttpEndpoint": "enabled"}
		if d.chance(0.5) {
			o["HttpPutResponseHopLimit"] = d.between(1, 3)
		}
		if d.chance(0.3) {
			o["InstanceMetadataTags"] = "enabled"
		}
		return o
	}
}

// data draws the data of a template version, with an image of its own.
func (d *drawn) data(g *ground) map[string]any {
	data := map[string]any{"ImageId": d.image(g), "InstanceType": one(d, "m5.large", "c6g.medium", "t3.micro")}
	if o := d.options(); o != nil {
		data["MetadataOptions"] = o
	}
	if d.chance(0.3) {
		data["BlockDeviceMappings"] = []any{map[string]any{"DeviceName": "/dev/xvda", "Ebs": map[string]any{
			"SnapshotId": fmt.Sprintf("snap-0%016x", d.next), "VolumeSize": d.between(8, 100), "Encrypted": d.chance(0.5)}}}
	}
	if d.chance(0.3) {
		data["NetworkInterfaces"] = []any{map[string]any{"DeviceIndex": 0, "SubnetId": "subnet-0123456789abcdef0",
			"Groups": []string{"sg-0123456789abcdef0"}, "AssociatePublicIpAddress": d.chance(0.5)}}
	}
	if d.chance(0.3) {
		data["TagSpecifications"] = []any{map[string]any{"ResourceType": "instance",
			"Tags": []any{map[string]any{"Key": "team", "Value": "blue"}}}}
	}
	if d.chance(0.3) {
		data["UserData"] = "IyEvYmluL3NoCg=="
	}
	if d.chance(0.3) {
		data["IamInstanceProfile"] = map[string]any{"Name": "app"}
	}
	return data
}

func (d *drawn) image(g *ground) string {
	id := d.id("ami-")
	g.images = append(g.images, id)
	return id
}

func (d *drawn) templates(p *core.Place, now time.Time) error {
	g, s := d.byPlace[p.Place], ec2.StoreOf(p)
	most := 4
	if d.calm {
		most = 2
	}
	for range d.between(1, most) {
		t := template{id: d.id("lt-"), versions: d.between(1, 6)}
		t.name = "template-" + t.id[len(t.id)-3:]
		seed := ec2.TemplateSeed{ID: t.id, Name: t.name, Default: int64(d.between(1, t.versions))}
		if d.snag(0.07) {
			seed.Operator = &ec2.Operator{Managed: true, Principal: "eks.amazonaws.com"}
			d.managed[key(inventory.KindLaunchTemplate, t.id)] = true
		}
		d.except(inventory.KindLaunchTemplate, t.id, 0.05)
		d.say("  template %s default %d %s", t.id, seed.Default, d.marks(inventory.KindLaunchTemplate, t.id))
		for n := range t.versions {
			data := d.data(g)
			b, err := json.Marshal(data)
			if err != nil {
				return err
			}
			seed.Versions = append(seed.Versions, ec2.VersionSeed{Data: b})
			image := ec2.ImageSeed{ID: data["ImageId"].(string), ImdsV2: d.chance(0.07)}
			if err := s.AddImage(now, image); err != nil {
				return err
			}
			d.say("    %d: %v v2 image %t", n+1, data["MetadataOptions"], image.ImdsV2)
		}
		if _, err := s.AddTemplate(now, seed, t.id); err != nil {
			return err
		}
		g.templates = append(g.templates, t)
	}
	return nil
}

func (d *drawn) configs(p *core.Place, now time.Time) error {
	g := d.byPlace[p.Place]
	image := d.image(g)
	if err := ec2.StoreOf(p).AddImage(now, ec2.ImageSeed{ID: image}); err != nil {
		return err
	}
	g.configs = append(g.configs, "config-1")
	return autoscaling.StoreOf(p).PutConfig(autoscaling.Config{Name: "config-1", ImageID: image, InstanceType: "m5.large",
		Options: fleet.Options{Tokens: one(d, "", "optional", "required")}, Created: now})
}

// reference draws a template with a selector.
func (d *drawn) reference(g *ground) autoscaling.TemplateRef {
	t := one(d, g.templates...)
	r := autoscaling.TemplateRef{Version: one(d, "", "$Default", "$Latest", "number", "number")}
	if r.Version == "number" {
		r.Version = fmt.Sprint(d.between(1, t.versions))
	}
	if d.chance(0.5) {
		r.ID = t.id
	} else {
		r.Name = t.name
	}
	return r
}

func (d *drawn) source(g *ground) autoscaling.Source {
	switch {
	case d.snag(0.1):
		return autoscaling.Source{Config: g.configs[0]}
	case d.chance(0.3):
		m := &autoscaling.Mixed{Template: d.reference(g), Distribution: map[string]string{
			"OnDemandBaseCapacity": "1", "OnDemandPercentageAboveBaseCapacity": "50", "OnDemandAllocationStrategy": "prioritized",
			"SpotAllocationStrategy": "capacity-optimized"}}
		for i := range d.between(0, 3) {
			o := autoscaling.Override{InstanceType: fmt.Sprintf("m%d.large", 4+i), Weight: "2"}
			if d.chance(0.5) {
				ref := d.reference(g)
				o.Template = &ref
			}
			if d.chance(0.15) {
				o.ImageID = one(d, g.images...)
			}
			m.Overrides = append(m.Overrides, o)
		}
		return autoscaling.Source{Mixed: m}
	default:
		ref := d.reference(g)
		return autoscaling.Source{Template: &ref}
	}
}

// references lists the templates of a source.
func references(s autoscaling.Source) []autoscaling.TemplateRef {
	var out []autoscaling.TemplateRef
	if s.Template != nil {
		out = append(out, *s.Template)
	}
	if s.Mixed != nil {
		out = append(out, s.Mixed.Template)
		for _, o := range s.Mixed.Overrides {
			if o.Template != nil {
				out = append(out, *o.Template)
			}
		}
	}
	return out
}

// running is where programs may be put.
type running struct {
	group     string
	instances []string
}

func (d *drawn) group(p *core.Place, now time.Time) (running, error) {
	g, s := d.byPlace[p.Place], autoscaling.StoreOf(p)
	d.next++
	r := running{group: fmt.Sprintf("group-%d", d.next)}
	members := d.between(0, 3)
	if members == 0 && !d.snag(1) {
		members = 1
	}
	spec := autoscaling.Spec{Source: d.source(g), Max: 6, Desired: members, Zones: []string{string(p.Region) + "a"}}
	if d.snag(0.05) {
		spec.Tags = append(spec.Tags, autoscaling.Tag{Key: tagNodegroup, Value: "nodes", Propagate: true})
		d.managed[key(inventory.KindAutoScaling, r.group)] = true
	}
	if err := s.Create(now.AddDate(0, 0, -50), r.group, spec); err != nil {
		return r, err
	}
	d.except(inventory.KindAutoScaling, r.group, 0.06)
	d.say("  group %s %+v %s", r.group, spec.Source, d.marks(inventory.KindAutoScaling, r.group))
	for range members {
		seed := d.instance(now)
		seed.Tags = map[string]string{tagGroup: r.group}
		version := d.launchedFrom(g, spec.Source, &seed)
		inst, err := ec2.StoreOf(p).AddInstance(now, seed)
		if err != nil {
			return r, err
		}
		if err := s.Attach(r.group, inst, version); err != nil {
			return r, err
		}
		d.note(&r, seed)
	}
	for range d.between(0, 2) {
		if d.chance(0.5) {
			continue
		}
		seed := d.instance(now)
		seed.Operator, seed.Tags = nil, map[string]string{tagGroup: r.group}
		seed.Launched, seed.Stopped = now.AddDate(0, 0, -d.between(10, 12)), now.AddDate(0, 0, -d.between(4, 8))
		d.launchedFrom(g, spec.Source, &seed)
		gone, err := ec2.StoreOf(p).AddPast(now, seed)
		if err != nil {
			return r, err
		}
		if err := s.Succeed(r.group, gone, seed.Stopped); err != nil {
			return r, err
		}
		d.say("    terminated:")
		d.note(&r, seed)
	}
	return r, nil
}

// launchedFrom says which template and version an instance of a group came from.
func (d *drawn) launchedFrom(g *ground, s autoscaling.Source, seed *ec2.InstanceSeed) int64 {
	refs := references(s)
	if len(refs) == 0 {
		return 0
	}
	ref := one(d, refs...)
	for _, t := range g.templates {
		if t.id == ref.ID || t.name == ref.Name {
			seed.Template, seed.Version = t.id, int64(d.between(1, t.versions))
		}
	}
	return seed.Version
}

func (d *drawn) instance(now time.Time) ec2.InstanceSeed {
	seed := ec2.InstanceSeed{ID: d.id("i-"), ImageID: "ami-0123456789abcdef0", Launched: now.AddDate(0, 0, -d.between(20, 40)),
		Options: fleet.Options{Tokens: fleet.TokensOptional, Endpoint: fleet.Enabled, HopLimit: d.between(1, 3)}}
	if d.chance(0.12) {
		seed.Options.Tokens = fleet.TokensRequired
	}
	if d.snag(0.08) {
		seed.Options.Endpoint = fleet.Disabled
	}
	if d.chance(0.2) {
		seed.Options.Tags = fleet.Enabled
	}
	if d.snag(0.15) {
		seed.Launched = now.AddDate(0, 0, -d.between(1, 5))
	}
	if d.snag(0.05) {
		seed.Operator = &ec2.Operator{Managed: true, Principal: "ecs.amazonaws.com"}
	}
	d.except(inventory.KindInstance, seed.ID, 0.05)
	if d.chance(0.1) {
		d.hop[key(inventory.KindInstance, seed.ID)] = d.between(2, 3)
	}
	return seed
}

func (d *drawn) note(r *running, seed ec2.InstanceSeed) {
	r.instances = append(r.instances, seed.ID)
	d.say("    %s %s from %s %d, launched %s, %+v, managed %t %s", seed.ID, seed.State, seed.Template, seed.Version,
		seed.Launched.Format(time.DateOnly), seed.Options, seed.Operator != nil, d.marks(inventory.KindInstance, seed.ID))
}

// bare draws an instance without a group.
func (d *drawn) bare(p *core.Place, now time.Time) (running, error) {
	g := d.byPlace[p.Place]
	seed := d.instance(now)
	if d.chance(0.2) {
		seed.State = ec2.StateStopped
		seed.Stopped = now.AddDate(0, 0, -d.between(1, 20))
	}
	if d.chance(0.5) {
		t := one(d, g.templates...)
		seed.Template, seed.Version = t.id, int64(d.between(1, t.versions))
	}
	if _, err := ec2.StoreOf(p).AddInstance(now, seed); err != nil {
		return running{}, err
	}
	var r running
	d.note(&r, seed)
	return r, nil
}

// except makes an exception or a hop limit of a resource, sometimes.
func (d *drawn) except(kind, id string, p float64) {
	if d.snag(p) {
		d.exempt[key(kind, id)] = true
	}
	if kind == inventory.KindAutoScaling && d.chance(0.1) {
		d.hop[key(kind, id)] = d.between(2, 3)
	}
}

func (d *drawn) marks(kind, id string) string {
	k := key(kind, id)
	var out []string
	if d.exempt[k] {
		out = append(out, "exempt")
	}
	if d.managed[k] {
		out = append(out, "managed")
	}
	if n := d.hop[k]; n > 0 {
		out = append(out, fmt.Sprintf("hop limit %d", n))
	}
	return strings.Join(out, ", ")
}

// deploy puts a program on a whole group, on one instance, or none. Nothing runs that needs more than two hops.
func (d *drawn) deploy(t *testing.T, account fleet.AccountID, r running) {
	t.Helper()
	p := workload.Program{Every: 15 * time.Minute, AtBoot: true}
	switch n := d.between(0, 9); {
	case n <= 2:
		return
	case n <= 4 && d.snag(1):
		p.Name, p.Speaks = "legacy", workload.V1Only
	case n == 5 && d.snag(1):
		p.Name, p.Speaks = "old-agent", workload.V1First
	case n == 6 || n == 7 && d.snag(1):
		p.Name, p.Speaks, p.ExtraHops = "container", workload.V2ThenV1, 1
	default:
		p.Name, p.Speaks = "modern", workload.V2ThenV1
	}
	where := workload.Where{Account: string(account)}
	switch {
	case r.group != "" && (len(r.instances) == 0 || d.chance(0.6)):
		where.Groups = []string{r.group}
	default:
		where.Instances = []string{one(d, r.instances...)}
	}
	d.say("  %s on %v%v", p.Name, where.Groups, where.Instances)
	if err := programs.Deploy(d.world, p, where); err != nil {
		t.Fatal(err)
	}
}
