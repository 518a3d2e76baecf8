package spotfleet

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

// typeMaintain is the one type of a request that can be modified.
const typeMaintain = string(types.FleetTypeMaintain)

// launches tells whether the request may still launch something.
func launches(r *types.SpotFleetRequestConfig) bool {
	switch r.SpotFleetRequestState {
	case types.BatchStateSubmitted, types.BatchStateActive, types.BatchStateModifying:
		return true
	default:
		return false
	}
}

// resource turns EC2's words into ours. names has the ids of templates by name.
func (d *driver) resource(f *types.SpotFleetRequestConfig, names map[string]string) inventory.Resource {
	config := configOf(f)
	of := typeOf(config)
	r := inventory.Resource{
		Ref:   fleet.Ref{Place: d.place, Kind: inventory.KindSpotFleet, ID: aws.ToString(f.SpotFleetRequestId)},
		State: state(config, names),
		Tags:  tagMap(f.Tags),
		// A request can be modified only while it is active.
		Settling: f.SpotFleetRequestState != types.BatchStateActive,
		Attrs: map[string]string{
			inventory.AttrRequestType: of,
			inventory.AttrDesired:     strconv.Itoa(int(aws.ToInt32(config.TargetCapacity))),
		},
	}
	r.Name = r.Tags["Name"]
	r.Owner = kind.OwnerByTags(r.Tags)
	if inline(r.State) {
		r.Says = &fleet.Options{} // a launch specification cannot say any
	}
	for n, spec := range config.LaunchSpecifications {
		if image := aws.ToString(spec.ImageId); image != "" {
			r.Attrs[inventory.AttrImage+"/"+strconv.Itoa(n)] = image
			if n == 0 {
				r.Attrs[inventory.AttrImage] = image
			}
		}
	}
	for n := range config.LaunchTemplateConfigs {
		field := versionField(n)
		id := r.State[prefixConfig+strconv.Itoa(n)+suffixID]
		if id == "" {
			continue
		}
		l := inventory.Link{
			Relation: inventory.LaunchesFrom, To: r.Ref.Sibling(inventory.KindLaunchTemplate, id), Selector: r.State[field],
		}
		if of == typeMaintain && number.MatchString(l.Selector) { // what is no number could not be set back
			l.Field = field
		}
		r.Links = append(r.Links, l)
	}
	return r
}

// typeOf is the type of a request; maintain is the default.
func typeOf(config *types.SpotFleetRequestConfigData) string {
	return cmp.Or(string(config.Type), typeMaintain)
}

func configOf(f *types.SpotFleetRequestConfig) *types.SpotFleetRequestConfigData {
	if f.SpotFleetRequestConfig == nil {
		return &types.SpotFleetRequestConfigData{}
	}
	return f.SpotFleetRequestConfig
}

func state(config *types.SpotFleetRequestConfigData, names map[string]string) fleet.State {
	s := fleet.State{}
	for n, spec := range config.LaunchSpecifications {
		s[prefixInline+strconv.Itoa(n)+suffixImage] = aws.ToString(spec.ImageId)
	}
	for n, c := range config.LaunchTemplateConfigs {
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

// inline tells whether the request launches from specifications of its own.
func inline(s fleet.State) bool {
	for field := range s {
		if strings.HasPrefix(field, prefixInline) {
			return true
		}
	}
	return false
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
