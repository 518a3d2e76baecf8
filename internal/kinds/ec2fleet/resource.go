package ec2fleet

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// launches tells whether the fleet may still launch something.
func launches(f *types.FleetData) bool {
	switch f.FleetState {
	case types.FleetStateCodeSubmitted, types.FleetStateCodeActive, types.FleetStateCodeModifying:
		return f.Type != types.FleetTypeInstant
	default:
		return false
	}
}

// resource turns EC2's words into ours. names has the ids of templates by name.
func (d *driver) resource(f *types.FleetData, names map[string]string) inventory.Resource {
	r := inventory.Resource{
		Ref:   fleet.Ref{Place: d.place, Kind: inventory.KindFleet, ID: aws.ToString(f.FleetId)},
		State: state(f, names),
		Tags:  tagMap(f.Tags),
		// A fleet can be modified only while it is active.
		Settling: f.FleetState != types.FleetStateCodeActive,
		Attrs:    map[string]string{inventory.AttrRequestType: string(typeOf(f))},
	}
	r.Name = r.Tags["Name"]
	r.Owner = kind.OwnerByTags(r.Tags)
	if t := f.TargetCapacitySpecification; t != nil {
		r.Attrs[inventory.AttrDesired] = strconv.Itoa(int(aws.ToInt32(t.TotalTargetCapacity)))
	}
	why := fixed(f)
	if why != "" {
		r.Attrs[attrFixed] = why
	}
	for n := range f.LaunchTemplateConfigs {
		field := versionField(n)
		id := r.State[prefixConfig+strconv.Itoa(n)+suffixID]
		if id == "" {
			continue
		}
		l := inventory.Link{
			Relation: inventory.LaunchesFrom, To: r.Ref.Sibling(inventory.KindLaunchTemplate, id),
			Selector: r.State[field], Field: field,
		}
		if why != "" || !number.MatchString(l.Selector) { // what is no number could not be set back
			l.Field = ""
		}
		r.Links = append(r.Links, l)
	}
	return r
}

// typeOf is the type of a fleet; maintain is the default.
func typeOf(f *types.FleetData) types.FleetType { return cmp.Or(f.Type, types.FleetTypeMaintain) }

// fixed says why the fleet's configurations cannot be sent again with another version.
func fixed(f *types.FleetData) string {
	if typeOf(f) != types.FleetTypeMaintain {
		return "a fleet of type " + string(f.Type) + " cannot be modified"
	}
	for _, c := range f.LaunchTemplateConfigs {
		for _, o := range c.Overrides {
			if o.Placement != nil && *o.Placement != (types.PlacementResponse{}) {
				return "one of its overrides has a placement, of which EC2 tells only a part, so that it cannot be sent again whole"
			}
		}
	}
	return ""
}

func state(f *types.FleetData, names map[string]string) fleet.State {
	s := fleet.State{}
	for n, c := range f.LaunchTemplateConfigs {
		t := c.LaunchTemplateSpecification
		if t == nil {
			continue
		}
		name := aws.ToString(t.LaunchTemplateName)
		if id := cmp.Or(aws.ToString(t.LaunchTemplateId), names[name]); id != "" {
			s[prefixConfig+strconv.Itoa(n)+suffixID] = id
		} else {
			s[prefixConfig+strconv.Itoa(n)+suffixName] = name
		}
		s[versionField(n)] = cmp.Or(aws.ToString(t.Version), inventory.SelectDefault)
	}
	return s
}

func versionField(n int) string { return prefixConfig + strconv.Itoa(n) + suffixVersion }

// configIndex reads the index from a configuration's version field.
func configIndex(field string) (int, bool) {
	rest, ok := strings.CutPrefix(field, prefixConfig)
	if !ok {
		return 0, false
	}
	number, ok := strings.CutSuffix(rest, suffixVersion)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(number)
	return n, err == nil && n >= 0 && number == strconv.Itoa(n)
}

func tagMap(tags []types.Tag) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return m
}
