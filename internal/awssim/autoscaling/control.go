package autoscaling

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// What follows is for tests, scenarios and the simulator's controls: groups made and moved without a request. The place
// must be locked by the caller, as for StoreOf.

// Create adds a group that has no instances yet and was created at the given time. It does not launch any by itself:
// Attach gives it some, and Act lets it launch what is missing.
func (s *Store) Create(created time.Time, name string, spec Spec) error {
	_, err := s.create(created, name, spec, s.named)
	return err
}

// Attach makes an instance a member, as if the group had launched it from the template version (0: from the group's
// launch configuration) when it was launched, and records that activity unless it is too old to be described.
func (s *Store) Attach(name string, inst *ec2.Instance, version int64) error {
	g := s.groups[name]
	if g == nil {
		return groupNotFound(name)
	}
	if s.memberOf[inst.ID()] != nil {
		return fmt.Errorf("instance %s is in group %s already", inst.ID(), s.memberOf[inst.ID()].name)
	}
	if tag, _ := ec2.TagValue(inst.Newest().Tags, tagGroup); tag != name {
		s.ec2().SeedTag(inst, tagGroup, name)
	}
	src := g.spec.Newest().Source
	from := launched{config: src.Config, version: version}
	switch {
	case src.Template != nil:
		from.template, from.name = src.Template.ID, src.Template.Name
	case src.Mixed != nil:
		from.template, from.name = src.Mixed.Template.ID, src.Mixed.Template.Name
	}
	at, n := inst.Newest().LaunchTime, g.live()
	m := s.adopt(g, inst, from, at)
	if s.place.World().Now().Sub(at) < keepActivities {
		s.launchActivity(g, m.id, m.zone, inst.Newest().SubnetID, growCause("", at, n, n+1), at, s.place.World().Settle())
	}
	return nil
}

// Succeed records that a group replaced an instance, which EC2 shows no more: it was terminated at the given time.
func (s *Store) Succeed(name string, gone *ec2.Instance, at time.Time) error {
	g := s.groups[name]
	if g == nil {
		return groupNotFound(name)
	}
	st, n := gone.Newest(), g.spec.Newest().Desired
	launched := gone.Lives()[0].From
	if settle := s.place.World().Settle(); s.place.World().Now().Sub(launched) < keepActivities {
		s.launchActivity(g, gone.ID(), st.AZ, st.SubnetID, growCause("", launched, n-1, n), launched, settle)
	}
	s.terminateActivity(g, gone.ID(), st.AZ, st.SubnetID, shrinkCause("", at, n, n-1, gone.ID()), at, s.place.World().Settle())
	s.formerly[gone.ID()] = name
	return nil
}

// Act lets the group launch or terminate until it has its desired capacity, now.
func (s *Store) Act(name string, now time.Time) error {
	g := s.groups[name]
	if g == nil {
		return groupNotFound(name)
	}
	s.reconcile(g, now, "")
	return nil
}

// SetDesired changes the desired capacity, and lets the group act.
func (s *Store) SetDesired(name string, now time.Time, desired int) error {
	g := s.groups[name]
	if g == nil {
		return groupNotFound(name)
	}
	if err := s.scale(g, now, desired); err != nil {
		return err
	}
	s.reconcile(g, now, "At "+stamp(now)+" a user request explicitly set group desired capacity.  ")
	return nil
}

// AttachTargetGroup attaches a load balancer's target group to a group: the group's members are registered with it.
func (s *Store) AttachTargetGroup(name, arn string) error {
	g := s.groups[name]
	if g == nil {
		return groupNotFound(name)
	}
	spec := g.spec.Newest().clone()
	if !slices.Contains(spec.TargetGroups, arn) {
		spec.TargetGroups = append(slices.Clone(spec.TargetGroups), arn)
		g.spec.Set(s.place.World().Now(), 0, spec)
	}
	return nil
}

// Behind lists the members of all groups that a target group is attached to.
func (s *Store) Behind(arn string) []string {
	var out []string
	for _, name := range s.Groups() {
		if slices.Contains(s.groups[name].spec.Newest().TargetGroups, arn) {
			out = append(out, s.Members(name)...)
		}
	}
	return out
}

// SetHealth makes an instance of a group unhealthy, or healthy again, whatever EC2 says of it. The group does not
// replace it, as one does not whose ReplaceUnhealthy process is suspended, so that a test can look at it for as long as
// it likes.
func (s *Store) SetHealth(instance string, healthy bool) error {
	g := s.memberOf[instance]
	if g == nil {
		return fmt.Errorf("instance %s is in no group", instance)
	}
	g.member(instance).unhealthy = !healthy
	return nil
}

// healthOrder is the body of the simulator's own POST /_sim/group-health.
type healthOrder struct {
	Account  fleet.AccountID `json:"account"`
	Region   fleet.Region    `json:"region"`
	Instance string          `json:"instance"`
	Healthy  bool            `json:"healthy"`
}

func serveHealth(w *core.World, rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	var in healthOrder
	if err == nil {
		err = core.DecodeStrict("group-health", body, &in)
	}
	var p *core.Place
	if err == nil {
		p, err = w.Place(in.Account, in.Region)
	}
	if err == nil {
		p.With(func(time.Time) { err = StoreOf(p).SetHealth(in.Instance, in.Healthy) })
	}
	if err != nil {
		http.Error(rw, strings.TrimSpace(err.Error()), http.StatusBadRequest)
		return
	}
	rw.WriteHeader(http.StatusNoContent)
}

// Seed is the section "autoscaling" of a seed's region.
type Seed struct {
	LaunchConfigurations []ConfigSeed `json:"launch_configurations,omitempty"`
	Groups               []GroupSeed  `json:"groups,omitempty"`
}

// ConfigSeed is a launch configuration that is there already.
type ConfigSeed struct {
	Name              string        `json:"name"`
	ImageID           string        `json:"image_id"`
	InstanceType      string        `json:"instance_type"`
	KeyName           string        `json:"key_name,omitempty"`
	UserData          string        `json:"user_data,omitempty"` // base64, as it is described
	Profile           string        `json:"profile,omitempty"`
	SpotPrice         string        `json:"spot_price,omitempty"`
	Tenancy           string        `json:"tenancy,omitempty"`
	Kernel            string        `json:"kernel,omitempty"`
	RAMDisk           string        `json:"ramdisk,omitempty"`
	SecurityGroups    []string      `json:"security_groups,omitempty"`
	EBSOptimized      bool          `json:"ebs_optimized,omitempty"`
	Monitoring        *bool         `json:"monitoring,omitempty"` // detailed, unless false
	PublicIP          *bool         `json:"public_ip,omitempty"`
	BlockDevices      []BlockDevice `json:"block_devices,omitempty"`
	ClassicLinkVPC    string        `json:"classic_link_vpc,omitempty"`
	ClassicLinkGroups []string      `json:"classic_link_groups,omitempty"`
	Options           fleet.Options `json:"metadata_options,omitzero"`
}

// GroupSeed is a group that is there already.
type GroupSeed struct {
	Name                string            `json:"name"`
	LaunchConfiguration string            `json:"launch_configuration,omitempty"`
	Template            string            `json:"template,omitempty"` // id or name
	Version             string            `json:"version,omitempty"`  // $Default when empty
	Overrides           []OverrideSeed    `json:"overrides,omitempty"`
	Min                 int               `json:"min,omitempty"`
	Max                 int               `json:"max,omitempty"`
	Desired             int               `json:"desired,omitempty"`
	Zones               []string          `json:"zones,omitempty"` // the region's first zone when empty
	Tags                map[string]string `json:"tags,omitempty"`  // propagated at launch
	// Instances of the EC2 section are members; what is missing to the desired capacity is launched.
	Instances []string `json:"instances,omitempty"`
	// Adopt makes members of all instances of the EC2 section that carry the group's tag, too.
	Adopt bool `json:"adopt,omitempty"`
	// Operator is the service that operates the group: its principal.
	Operator string `json:"operator,omitempty"`
	// Mixed makes a mixed instances policy, even without overrides.
	Mixed bool `json:"mixed,omitempty"`
}

// OverrideSeed is an override of a mixed instances policy.
type OverrideSeed struct {
	InstanceType string `json:"instance_type"`
	Template     string `json:"template,omitempty"`
	Version      string `json:"version,omitempty"`
}

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var in Seed
	if err := core.DecodeStrict(path, section, &in); err != nil {
		return err
	}
	s, now := StoreOf(p), p.World().Now()
	for i, c := range in.LaunchConfigurations {
		cfg := Config{
			Name: c.Name, ImageID: c.ImageID, InstanceType: c.InstanceType, KeyName: c.KeyName, UserData: c.UserData,
			Profile: c.Profile, SpotPrice: c.SpotPrice, Tenancy: c.Tenancy, Kernel: c.Kernel, RAMDisk: c.RAMDisk,
			SecurityGroups: c.SecurityGroups, EBSOptimized: c.EBSOptimized, Monitoring: c.Monitoring, PublicIP: c.PublicIP,
			BlockDevices: c.BlockDevices, ClassicLinkVPC: c.ClassicLinkVPC, ClassicLinkGroups: c.ClassicLinkGroups,
			Options: c.Options, Created: now,
		}
		if err := s.PutConfig(cfg); err != nil {
			return fmt.Errorf("%s.launch_configurations[%d]: %w", path, i, err)
		}
	}
	tagged := s.tagged(in.Groups)
	for i, g := range in.Groups {
		if g.Adopt {
			for _, id := range tagged[g.Name] {
				if !slices.Contains(g.Instances, id) {
					g.Instances = append(slices.Clip(g.Instances), id)
				}
			}
		}
		if err := s.seedGroup(g, now); err != nil {
			return fmt.Errorf("%s.groups[%d]: %w", path, i, err)
		}
	}
	return nil
}

// tagged lists the running instances of the EC2 section by the group whose tag they carry, for the groups that adopt them.
func (s *Store) tagged(groups []GroupSeed) map[string][]string {
	if !slices.ContainsFunc(groups, func(g GroupSeed) bool { return g.Adopt }) {
		return nil
	}
	out := map[string][]string{}
	for inst := range s.ec2().Instances() {
		st := inst.Newest()
		if st.State != "running" && st.State != "pending" {
			continue
		}
		for _, t := range st.Tags {
			if t.Key == tagGroup {
				out[t.Value] = append(out[t.Value], inst.ID())
			}
		}
	}
	return out
}

func (s *Store) seedGroup(in GroupSeed, now time.Time) error {
	spec := Spec{Operator: in.Operator, Min: in.Min, Max: max(in.Max, in.Desired, len(in.Instances)), Desired: max(in.Desired, len(in.Instances)), Zones: in.Zones}
	if len(spec.Zones) == 0 {
		spec.Zones = []string{string(s.place.Region) + "a"}
	}
	for _, k := range sortedKeys(in.Tags) {
		spec.Tags = append(spec.Tags, Tag{k, in.Tags[k], true})
	}
	ref := func(template, version string) *TemplateRef {
		if template == "" {
			return nil
		}
		if strings.HasPrefix(template, "lt-") {
			return &TemplateRef{ID: template, Version: version}
		}
		return &TemplateRef{Name: template, Version: version}
	}
	spec.Source = Source{Config: in.LaunchConfiguration, Template: ref(in.Template, in.Version)}
	if (in.Mixed || len(in.Overrides) > 0) && spec.Source.Template != nil {
		mixed := &Mixed{Template: *spec.Source.Template}
		for _, o := range in.Overrides {
			mixed.Overrides = append(mixed.Overrides, Override{InstanceType: o.InstanceType, Template: ref(o.Template, o.Version)})
		}
		spec.Source.Template, spec.Source.Mixed = nil, mixed
	}
	if err := s.Create(now, in.Name, spec); err != nil {
		return err
	}
	for _, id := range in.Instances {
		inst := s.ec2().Instance(id)
		if inst == nil {
			return fmt.Errorf("group %s: instance %s is not in the ec2 section", in.Name, id)
		}
		if err := s.Attach(in.Name, inst, s.versionOf(spec.Source)); err != nil {
			return err
		}
	}
	return s.Act(in.Name, now)
}

// versionOf is the number of the version that the source's template resolves to, 0 where there is none.
func (s *Store) versionOf(src Source) int64 {
	ref := src.Template
	if src.Mixed != nil {
		ref = &src.Mixed.Template
	}
	if ref == nil {
		return 0
	}
	id := ref.ID
	if id == "" {
		id = ref.Name
	}
	n, err := s.ec2().ResolveVersion(id, ref.Version)
	if err != nil {
		return 0
	}
	return n
}
