package ec2

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Seed is EC2's section of a seed, in one region of one account.
type Seed struct {
	Defaults  *DefaultsSeed  `json:"defaults,omitempty"`
	Images    []ImageSeed    `json:"images,omitempty"`
	Templates []TemplateSeed `json:"templates,omitempty"`
	Instances []InstanceSeed `json:"instances,omitempty"`
	// Fleets are EC2 Fleets; SpotFleets are Spot Fleet requests.
	Fleets     []FleetSeed `json:"fleets,omitempty"`
	SpotFleets []FleetSeed `json:"spot_fleets,omitempty"`
	// PrefixLists come before the security groups that name them.
	PrefixLists    []PrefixListSeed    `json:"prefix_lists,omitempty"`
	SecurityGroups []SecurityGroupSeed `json:"security_groups,omitempty"`
}

// DefaultsSeed are the account's metadata defaults; a field left out has no preference.
type DefaultsSeed struct {
	HTTPTokens         string `json:"http_tokens,omitempty"`
	HTTPEndpoint       string `json:"http_endpoint,omitempty"`
	HopLimit           int    `json:"hop_limit,omitempty"`
	InstanceTags       string `json:"instance_tags,omitempty"`
	HTTPTokensEnforced string `json:"http_tokens_enforced,omitempty"`
	ManagedBy          string `json:"managed_by,omitempty"` // "account" by default, or "declarative-policy"
	Message            string `json:"message,omitempty"`
}

// ImageSeed is an AMI.
type ImageSeed struct {
	ID           string            `json:"id"`
	Name         string            `json:"name,omitempty"`
	Description  string            `json:"description,omitempty"`
	Owner        string            `json:"owner,omitempty"` // the account by default
	OwnerAlias   string            `json:"owner_alias,omitempty"`
	Architecture string            `json:"architecture,omitempty"` // x86_64 by default
	ImdsV2       bool              `json:"imds_v2,omitempty"`
	Public       bool              `json:"public,omitempty"`
	Created      time.Time         `json:"created,omitzero"`
	Deprecated   time.Time         `json:"deprecated,omitzero"` // from when on it is deprecated; never by default
	Platform     string            `json:"platform,omitempty"`  // "Linux/UNIX" by default
	State        string            `json:"state,omitempty"`     // "available" by default; "pending", "disabled", "deregistered"
	ProductCodes []string          `json:"product_codes,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
}

// TemplateSeed is a launch template with its versions, the oldest first.
type TemplateSeed struct {
	ID       string            `json:"id,omitempty"` // made when empty
	Name     string            `json:"name"`
	Default  int64             `json:"default,omitempty"` // 1 by default
	Created  time.Time         `json:"created,omitzero"`
	Tags     map[string]string `json:"tags,omitempty"`
	Operator *Operator         `json:"operator,omitempty"`
	Versions []VersionSeed     `json:"versions"`
}

// VersionSeed is one version; its data is in the API's own names: {"ImageId": "ami-…", "MetadataOptions": {…}}.
type VersionSeed struct {
	Number      int64           `json:"number,omitempty"` // one more than the last when 0
	Description string          `json:"description,omitempty"`
	Data        json.RawMessage `json:"data"`
}

// InstanceSeed is an instance that is there already.
type InstanceSeed struct {
	ID      string        `json:"id,omitempty"`    // made when empty
	State   string        `json:"state,omitempty"` // running by default
	Options fleet.Options `json:"options,omitzero"`
	ImageID string        `json:"image"`
	// Template and Version name the launch template it came from, for the tags that EC2 puts on; the options are not
	// taken from it.
	Template     string `json:"template,omitempty"`
	Version      int64  `json:"version,omitempty"`
	InstanceType string `json:"type,omitempty"` // m5.large by default
	SubnetID     string `json:"subnet,omitempty"`
	VPCID        string `json:"vpc,omitempty"`
	AZ           string `json:"az,omitempty"`
	ProfileARN   string `json:"profile_arn,omitempty"`
	KeyName      string `json:"key_name,omitempty"`
	PrivateIP    string `json:"private_ip,omitempty"`
	PublicIP     string `json:"public_ip,omitempty"`
	IPv6         string `json:"ipv6,omitempty"`
	// SecurityGroups are ids; they need not be in the seed.
	SecurityGroups []string          `json:"security_groups,omitempty"`
	ProductCodes   []string          `json:"product_codes,omitempty"` // its image's by default
	Launched       time.Time         `json:"launched,omitzero"`       // 90 days ago by default
	Stopped        time.Time         `json:"stopped,omitzero"`        // for stopped and terminated ones; a day ago by default
	Status         Status            `json:"status,omitempty"`
	Tags           map[string]string `json:"tags,omitempty"`
	Operator       *Operator         `json:"operator,omitempty"`
}

func seedPlace(p *core.Place, section json.RawMessage, path string) error {
	var seed Seed
	if err := core.DecodeStrict(path, section, &seed); err != nil {
		return err
	}
	s, now := StoreOf(p), p.World().Now()
	if seed.Defaults != nil {
		if err := s.seedDefaults(*seed.Defaults); err != nil {
			return fmt.Errorf("%s.defaults: %w", path, err)
		}
	}
	for i, image := range seed.Images {
		if err := s.AddImage(now, image); err != nil {
			return fmt.Errorf("%s.images[%d]: %w", path, i, err)
		}
	}
	for i, t := range seed.Templates {
		if _, err := s.AddTemplate(now, t, fmt.Sprintf("%s.templates[%d]", path, i)); err != nil {
			return err
		}
	}
	for i, in := range seed.Instances {
		if _, err := s.AddInstance(now, in); err != nil {
			return fmt.Errorf("%s.instances[%d]: %w", path, i, err)
		}
	}
	if err := s.seedSecurity(&seed, path); err != nil {
		return err
	}
	return s.seedFleets(now, &seed, path)
}

func (s *Store) seedDefaults(d DefaultsSeed) error {
	o := fleet.Options{Tokens: d.HTTPTokens, Endpoint: d.HTTPEndpoint, HopLimit: d.HopLimit, Tags: d.InstanceTags}
	if err := checkOptions(o); err != nil {
		return err
	}
	if err := oneOf("http_tokens_enforced", d.HTTPTokensEnforced, fleet.Enabled, fleet.Disabled); err != nil {
		return err
	}
	if err := oneOf("managed_by", d.ManagedBy, ManagedByAccount, ManagedByPolicy); err != nil {
		return err
	}
	if d.HopLimit != 0 {
		if err := fleet.ValidHopLimit(d.HopLimit); err != nil {
			return err
		}
	}
	s.defaults = core.Always(Defaults{
		Options: o, Enforced: d.HTTPTokensEnforced, ManagedBy: cmp.Or(d.ManagedBy, ManagedByAccount), Message: d.Message,
	})
	return nil
}

// AddImage adds an image that is there already.
func (s *Store) AddImage(now time.Time, seed ImageSeed) error {
	if !imageID.MatchString(seed.ID) || s.images[seed.ID] != nil {
		return fmt.Errorf("image id %q: want ami- and 8 or 17 hexadecimal digits, each once", seed.ID)
	}
	if err := oneOf("state", seed.State, "available", "pending", "disabled", "deregistered"); err != nil {
		return fmt.Errorf("image %s: %w", seed.ID, err)
	}
	if seed.Created.IsZero() {
		seed.Created = now.AddDate(-1, 0, 0)
	}
	s.addImage(now, 0, seed.ID, &ImageState{
		Name: cmp.Or(seed.Name, seed.ID), Description: seed.Description, Owner: cmp.Or(seed.Owner, string(s.place.Account)),
		OwnerAlias: seed.OwnerAlias, Architecture: cmp.Or(seed.Architecture, "x86_64"), ImdsV2: seed.ImdsV2,
		Public: seed.Public, Created: seed.Created, Deprecated: seed.Deprecated, State: cmp.Or(seed.State, "available"),
		Platform: cmp.Or(seed.Platform, "Linux/UNIX"), Tags: tagsOf(seed.Tags), ProductCodes: strings.Join(seed.ProductCodes, ","),
	})
	return nil
}

// AddTemplate adds a template that is there already; path is for errors.
func (s *Store) AddTemplate(now time.Time, seed TemplateSeed, path string) (*Template, error) {
	if seed.Created.IsZero() {
		seed.Created = now.AddDate(-1, 0, 0)
	}
	t := &Template{
		id: cmp.Or(seed.ID, s.place.World().NewID("lt-")), name: seed.Name, created: seed.Created, operator: seed.Operator,
		by: "arn:" + string(s.place.Partition) + ":iam::" + string(s.place.Account) + ":root",
	}
	switch {
	case !templateID.MatchString(t.id) || s.templates[t.id] != nil:
		return nil, fmt.Errorf("%s: template id %q: want lt- and 8 or 17 hexadecimal digits, each once", path, t.id)
	case !templateName.MatchString(t.name) || s.byName[t.name] != nil:
		return nil, fmt.Errorf("%s: template name %q is not valid or used twice", path, t.name)
	case len(seed.Versions) == 0:
		return nil, fmt.Errorf("%s: a template needs a version", path)
	}
	st := &templateState{Default: cmp.Or(seed.Default, 1), Tags: tagsOf(seed.Tags)}
	for i, v := range seed.Versions {
		here := fmt.Sprintf("%s.versions[%d]", path, i)
		data, err := dataFromSeed(here+".data", v.Data)
		if err != nil {
			return nil, err
		}
		n := cmp.Or(v.Number, st.Last+1)
		if n <= st.Last {
			return nil, fmt.Errorf("%s: number %d is not above the one before", here, n)
		}
		st.Versions = append(st.Versions, &TemplateVersion{
			Number: n, Description: v.Description, Created: seed.Created, CreatedBy: t.by, Data: data,
		})
		st.Last, st.Latest = n, n
	}
	if _, ok := st.find(st.Default); !ok {
		return nil, fmt.Errorf("%s: the default version %d is not among the versions", path, st.Default)
	}
	t.state = core.Always(st)
	s.addTemplate(t)
	return t, nil
}

// AddInstance adds an instance that is there already, with options as if resolved by EC2's own defaults where unset. It
// is for seeds made by a program, too: large fleets need not pass through JSON.
func (s *Store) AddInstance(now time.Time, seed InstanceSeed) (*Instance, error) {
	w := s.place.World()
	id := cmp.Or(seed.ID, w.NewID("i-"))
	state := cmp.Or(seed.State, StateRunning)
	switch _, known := stateCodes[state]; {
	case !instanceID.MatchString(id) || s.byID[id] != nil:
		return nil, fmt.Errorf("instance id %q: want i- and 8 or 17 hexadecimal digits, each once", id)
	case !known:
		return nil, fmt.Errorf("instance %s: state %q is not known", id, state)
	case seed.ImageID == "":
		return nil, fmt.Errorf("instance %s: needs an image", id)
	case !slices.Contains([]Status{"", StatusOK, StatusImpaired, StatusInitializing}, seed.Status):
		return nil, fmt.Errorf("instance %s: status %q is not known", id, seed.Status)
	}
	if err := checkOptions(seed.Options); err != nil {
		return nil, fmt.Errorf("instance %s: %w", id, err)
	}
	if seed.Options.HopLimit != 0 {
		if err := fleet.ValidHopLimit(seed.Options.HopLimit); err != nil {
			return nil, fmt.Errorf("instance %s: %w", id, err)
		}
	}
	if seed.Launched.IsZero() {
		seed.Launched = now.AddDate(0, 0, -90)
	}
	if seed.Template != "" {
		t, ok := s.Template(seed.Template)
		if !ok {
			return nil, fmt.Errorf("instance %s: template %q is not there", id, seed.Template)
		}
		if seed.Tags == nil {
			seed.Tags = map[string]string{}
		}
		seed.Tags["aws:ec2launchtemplate:id"] = t.id
		seed.Tags["aws:ec2launchtemplate:version"] = fmt.Sprint(cmp.Or(seed.Version, t.state.Newest().Default))
	}
	i := &Instance{id: id, status: cmp.Or(seed.Status, StatusOK)}
	options := Resolve(seed.Options, fleet.Options{}, false)
	i.state = core.Always(&InstanceState{
		State: state, Options: internOptions(options), ImageID: intern(seed.ImageID),
		InstanceType: intern(cmp.Or(seed.InstanceType, "m5.large")), SubnetID: intern(seed.SubnetID),
		VPCID: intern(cmp.Or(seed.VPCID, s.vpc())), AZ: intern(cmp.Or(seed.AZ, string(s.place.Region)+"a")),
		ProfileARN: intern(seed.ProfileARN), KeyName: intern(seed.KeyName), PrivateIP: cmp.Or(seed.PrivateIP, s.address()),
		PublicIP: seed.PublicIP, IPv6: seed.IPv6, SecurityGroups: intern(strings.Join(seed.SecurityGroups, ",")),
		ProductCodes: intern(cmp.Or(strings.Join(seed.ProductCodes, ","), s.productCodesOf(seed.ImageID))),
		Reservation:  "r-" + id[2:], LaunchTime: seed.Launched, Tags: tagsOf(seed.Tags), Operator: seed.Operator,
	})
	i.applied(seed.Launched, i.state.Newest().Options)
	life := Life{From: seed.Launched}
	if state != StateRunning && state != StatePending {
		life.To = seed.Stopped
		if life.To.IsZero() {
			life.To = now.AddDate(0, 0, -1)
		}
		if life.To.Before(life.From) {
			life.To = life.From
		}
	}
	i.lives = []Life{life}
	s.add(i)
	return i, nil
}

// SeedTag gives an instance that is there already a tag, as if it had had it from its launch on. It is for seeds of
// other services, which may set tags that no caller may.
func (s *Store) SeedTag(i *Instance, key, value string) {
	next := *i.state.Newest()
	next.Tags = append(slices.DeleteFunc(slices.Clone(next.Tags), func(t Tag) bool { return t.Key == key }),
		Tag{Key: intern(key), Value: intern(value)})
	slices.SortFunc(next.Tags, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
	i.state = core.Always(&next)
	s.index(i)
}

func internOptions(o fleet.Options) fleet.Options {
	o.Tokens, o.Endpoint, o.IPv6, o.Tags = intern(o.Tokens), intern(o.Endpoint), intern(o.IPv6), intern(o.Tags)
	return o
}
