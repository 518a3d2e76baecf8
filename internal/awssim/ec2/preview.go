package ec2

import (
	"cmp"
	"maps"
)

// Preview says what a launch would be now, with every field decided as Launch would, and the whole data of the template
// version it rests on (nil without a template). Nothing is launched. It is for tests that judge what future launches get.
func (s *Store) Preview(spec LaunchSpec) (LaunchSpec, Data, error) {
	r, err := s.resolve(spec)
	if err != nil {
		return LaunchSpec{}, nil, err
	}
	if spec.TemplateID == "" && spec.TemplateName == "" {
		return r.LaunchSpec, nil, nil
	}
	t, err := s.template(spec.TemplateID, spec.TemplateName)
	if err != nil {
		return LaunchSpec{}, nil, err
	}
	v, err := t.version(t.state.Newest(), cmp.Or(spec.Version, "$Default"))
	if err != nil {
		return LaunchSpec{}, nil, err
	}
	return r.LaunchSpec, maps.Clone(v.Data), nil
}
