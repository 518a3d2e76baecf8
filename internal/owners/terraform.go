package owners

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// File is what one Terraform state says.
type File struct {
	Claims []Claim
	// Unplaced are the addresses of resources that imdsctl knows by a name, of which the state does not tell in which account and
	// region they are. They are claimed by nobody.
	Unplaced []string
}

// ParseTerraform reads a Terraform state of format 4 (terraform.tfstate), or the output of `terraform show -json` for one. name
// is the file's name, for the claims and for messages. An error is a fleet.Diagnostic that says what to do.
func ParseTerraform(data []byte, name string) (*File, error) {
	var in document
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, unreadable(name, err)
	}
	objects, err := in.objects(name)
	if err != nil {
		return nil, err
	}
	out := &File{}
	homes := homesOf(objects)
	for i := range objects {
		o := &objects[i]
		t, known := terraformTypes()[o.kind]
		if !known || o.data {
			continue
		}
		c := Claim{Kind: t.kind, ID: t.id(&o.attributes), Owner: fleet.Owner{Type: fleet.OwnerTerraform, Name: o.where(name)}}
		if c.ID == "" {
			continue // it is not made yet
		}
		c.Place = o.place(homes[o.provider])
		if t.global {
			c.Place.Region = ""
		}
		if t.local && (c.Place.Account == "" || c.Place.Region == "") {
			out.Unplaced = append(out.Unplaced, o.address())
			continue
		}
		out.Claims = append(out.Claims, c)
	}
	return out, nil
}

func unreadable(name string, err error) error {
	d := bad(name, "is not JSON", "Give a terraform.tfstate, or the output of `terraform show -json`.")
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		d.Summary = fmt.Sprintf("is not JSON (at byte %d)", s.Offset)
	} else if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		d.Summary = fmt.Sprintf("is no Terraform state: %s has an unexpected form (at byte %d)", cmp.Or(t.Field, "the document"), t.Offset)
	}
	return d
}

func bad(name, summary, remedy string) fleet.Diagnostic {
	return fleet.Diagnostic{Severity: fleet.SeverityError, Where: name, Summary: summary, Remedy: remedy}
}

// document is either of the two forms. Sources: "State" in Terraform's internals (statefile version 4), and "JSON Output Format"
// (https://developer.hashicorp.com/terraform/internals/json-format).
type document struct {
	Version       *int              `json:"version"`
	Resources     []stateResource   `json:"resources"`
	FormatVersion string            `json:"format_version"`
	Values        *shownValues      `json:"values"`
	Planned       json.RawMessage   `json:"planned_values"`
	Encrypted     json.RawMessage   `json:"encrypted_data"` // OpenTofu
	Modules       []json.RawMessage `json:"modules"`        // version 3 and older
	Backend       json.RawMessage   `json:"backend"`        // of .terraform/terraform.tfstate, which only says where the state is
}

type stateResource struct {
	Module    string `json:"module"`
	Mode      string `json:"mode"`
	Type      string `json:"type"`
	Name      string `json:"name"`
	Provider  string `json:"provider"`
	Instances []struct {
		Index      json.RawMessage `json:"index_key"`
		Deposed    string          `json:"deposed"`
		Attributes attributes      `json:"attributes"`
	} `json:"instances"`
}

type shownValues struct {
	Root shownModule `json:"root_module"`
}

type shownModule struct {
	Address   string `json:"address"`
	Resources []struct {
		Mode     string          `json:"mode"`
		Type     string          `json:"type"`
		Name     string          `json:"name"`
		Index    json.RawMessage `json:"index"`
		Provider string          `json:"provider_name"`
		Deposed  string          `json:"deposed_key"`
		Values   attributes      `json:"values"`
	} `json:"resources"`
	Children []shownModule `json:"child_modules"`
}

// attributes are those that tell a resource's identity; all others are left in the file.
type attributes struct {
	ID           text `json:"id"`
	ARN          text `json:"arn"`
	Name         text `json:"name"`
	Region       text `json:"region"`
	OwnerID      text `json:"owner_id"`
	SpotInstance text `json:"spot_instance_id"`
	Cluster      text `json:"cluster_name"`
	Nodegroup    text `json:"node_group_name"`
	Environment  text `json:"compute_environment_name"` // of AWS Batch, before version 6 of the provider
}

// text is a string; anything else counts as not there.
type text string

// UnmarshalJSON takes any value.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = text(s)
	}
	return nil
}

// object is one resource of a state in either form.
type object struct {
	kind, name, module, index, provider string
	data                                bool
	attributes
}

// stateVersion is the format that Terraform writes since 0.12.
const stateVersion = 4

func (d *document) objects(name string) ([]object, error) {
	switch {
	case len(d.Encrypted) > 0:
		return nil, bad(name, "is an encrypted state", "Give the output of `tofu show -json` instead, and delete it when the scan is done.")
	case len(d.Backend) > 0 && len(d.Resources) == 0:
		return nil, bad(name, "only says where Terraform keeps the state, and is no state",
			"Give what `terraform state pull` writes, and keep .terraform out of the pattern.")
	case d.Version != nil && *d.Version != stateVersion:
		return nil, bad(name, fmt.Sprintf("is a Terraform state of format %d, and format %d is read", *d.Version, stateVersion),
			"Run `terraform apply -refresh-only` with Terraform 0.12 or later, which writes the state anew.")
	case d.Version != nil:
		return d.stated(), nil
	case d.FormatVersion != "" && len(d.Planned) > 0:
		return nil, bad(name, "is a Terraform plan", "Give the state: the output of `terraform show -json` without a plan's name.")
	case d.FormatVersion != "":
		if d.Values == nil {
			return nil, nil // an empty state
		}
		return shown(nil, &d.Values.Root), nil
	}
	return nil, bad(name, "is no Terraform state", "Give a terraform.tfstate, or the output of `terraform show -json`.")
}

func (d *document) stated() []object {
	var out []object
	for i := range d.Resources {
		r := &d.Resources[i]
		for j := range r.Instances {
			in := &r.Instances[j]
			if in.Deposed != "" {
				continue // it is about to be destroyed
			}
			out = append(out, object{kind: r.Type, name: r.Name, module: r.Module, index: indexOf(in.Index), provider: r.Provider,
				data: r.Mode != "managed", attributes: in.Attributes})
		}
	}
	return out
}

func shown(out []object, m *shownModule) []object {
	for i := range m.Resources {
		r := &m.Resources[i]
		if r.Deposed != "" {
			continue
		}
		out = append(out, object{kind: r.Type, name: r.Name, module: m.Address, index: indexOf(r.Index), provider: r.Provider,
			data: r.Mode != "managed", attributes: r.Values})
	}
	for i := range m.Children {
		out = shown(out, &m.Children[i])
	}
	return out
}

// indexOf is the instance's index as an address has it: [0], or ["blue"]; empty where it has none.
func indexOf(raw json.RawMessage) string {
	s := strings.TrimSpace(string(raw))
	if s == "" || s == "null" {
		return ""
	}
	return "[" + s + "]"
}

// address is the resource's own part of its address.
func (o *object) address() string { return o.kind + "." + o.name + o.index }

// where is the resource's address as a person reads it, with module and file.
func (o *object) where(file string) string {
	if o.module == "" {
		return o.address() + " of " + file
	}
	return o.address() + " in " + o.module + " of " + file
}

// place is where the resource is: as its ARN and attributes tell, else as everything of its provider does.
func (o *object) place(home fleet.Place) fleet.Place {
	p := o.own()
	return fleet.Place{Partition: cmp.Or(p.Partition, home.Partition), Account: cmp.Or(p.Account, home.Account),
		Region: cmp.Or(p.Region, home.Region)}
}

// own is what the resource itself tells of its place.
func (o *object) own() fleet.Place {
	parts := strings.SplitN(string(o.ARN), ":", 6)
	var p fleet.Place
	if len(parts) == 6 && parts[0] == "arn" {
		p.Partition, p.Region = fleet.Partition(parts[1]), fleet.Region(parts[3])
		if id := fleet.AccountID(parts[4]); id.Valid() {
			p.Account = id
		}
	}
	if id := fleet.AccountID(o.OwnerID); p.Account == "" && id.Valid() {
		p.Account = id
	}
	if p.Region == "" {
		p.Region = fleet.Region(o.Region)
	}
	return p
}

// homesOf finds the place of each provider configuration: what all its resources agree on. A part on which they differ, as where
// several configurations go by one name, is not known.
func homesOf(objects []object) map[string]fleet.Place {
	type seen struct {
		partitions []fleet.Partition
		accounts   []fleet.AccountID
		regions    []fleet.Region
	}
	all := map[string]*seen{}
	for i := range objects {
		o := &objects[i]
		if all[o.provider] == nil {
			all[o.provider] = &seen{}
		}
		if o.data {
			continue // what was looked up may belong to others
		}
		s, p := all[o.provider], o.own()
		s.partitions, s.accounts, s.regions = note(s.partitions, p.Partition), note(s.accounts, p.Account), note(s.regions, p.Region)
	}
	out := map[string]fleet.Place{}
	for provider, s := range all {
		out[provider] = fleet.Place{Partition: single(s.partitions), Account: single(s.accounts), Region: single(s.regions)}
	}
	return out
}

func note[T ~string](have []T, v T) []T {
	if v == "" || slices.Contains(have, v) {
		return have
	}
	return append(have, v)
}

func single[T ~string](have []T) T {
	if len(have) == 1 {
		return have[0]
	}
	return ""
}

// terraformType says which kind a type of resource is, and how its id is made of its attributes.
type terraformType struct {
	kind string
	id   func(*attributes) string
	// local: the id is a name, and says nothing without the account and region.
	local bool
	// global: it is in no region.
	global bool
}

func terraformTypes() map[string]terraformType {
	byID := func(a *attributes) string { return string(a.ID) }
	byName := func(a *attributes) string { return string(a.Name) }
	prefixed := func(prefix string) func(*attributes) string {
		return func(a *attributes) string {
			if a.Name == "" {
				return ""
			}
			return prefix + string(a.Name)
		}
	}
	image := terraformType{kind: inventory.KindImage, id: byID}
	return map[string]terraformType{
		"aws_instance":              {kind: inventory.KindInstance, id: byID},
		"aws_spot_instance_request": {kind: inventory.KindInstance, id: func(a *attributes) string { return string(a.SpotInstance) }},
		"aws_launch_template":       {kind: inventory.KindLaunchTemplate, id: byID},
		"aws_launch_configuration":  {kind: inventory.KindLaunchConfiguration, id: byName, local: true},
		"aws_autoscaling_group":     {kind: inventory.KindAutoScaling, id: byName, local: true},
		"aws_ec2_fleet":             {kind: inventory.KindFleet, id: byID},
		"aws_spot_fleet_request":    {kind: inventory.KindSpotFleet, id: byID},
		"aws_ami":                   image,
		"aws_ami_copy":              image,
		"aws_ami_from_instance":     image,
		"aws_ec2_instance_metadata_defaults": {
			kind: inventory.KindAccountDefaults, local: true, id: func(*attributes) string { return defaultsID },
		},
		"aws_eks_node_group": {kind: inventory.KindNodegroup, local: true, id: func(a *attributes) string {
			if a.Cluster == "" || a.Nodegroup == "" {
				return ""
			}
			return string(a.Cluster) + "/" + string(a.Nodegroup)
		}},
		"aws_batch_compute_environment": {kind: inventory.KindBatch, local: true, id: func(a *attributes) string {
			return string(cmp.Or(a.Environment, a.Name))
		}},
		"aws_elastic_beanstalk_environment":             {kind: inventory.KindBeanstalk, id: byID},
		"aws_emr_security_configuration":                {kind: inventory.KindEMR, id: byName, local: true},
		"aws_imagebuilder_infrastructure_configuration": {kind: inventory.KindImageBuilder, id: func(a *attributes) string { return string(a.ARN) }},
		"aws_sagemaker_notebook_instance":               {kind: inventory.KindNotebook, id: byName, local: true},
		"aws_lightsail_instance":                        {kind: inventory.KindLightsail, id: byName, local: true},
		"aws_appstream_fleet":                           {kind: inventory.KindAppStream, id: prefixed("fleet/"), local: true},
		"aws_appstream_image_builder":                   {kind: inventory.KindAppStream, id: prefixed("image-builder/"), local: true},
		"aws_organizations_policy":                      {kind: inventory.KindOrganizationPolicy, id: byID, global: true},
	}
}

// defaultsID is the one resource of its kind in a place.
const defaultsID = "metadata-defaults"
