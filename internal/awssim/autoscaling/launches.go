package autoscaling

import "github.com/imdsctl/imdsctl/internal/awssim/ec2"

// SourceOf is what a group launches from; ok is false where there is no such group.
func (s *Store) SourceOf(name string) (src Source, ok bool) {
	g := s.groups[name]
	if g == nil {
		return Source{}, false
	}
	return g.spec.Newest().Source, true
}

// Launches lists what a group would ask of EC2 for its next instances: one launch for each of its overrides, or the only
// one. Nothing is launched, and no turn is taken.
func (s *Store) Launches(name string) ([]ec2.LaunchSpec, error) {
	g := s.groups[name]
	if g == nil {
		return nil, groupNotFound(name)
	}
	spec, turns := g.spec.Newest(), 1
	if spec.Source.Mixed != nil {
		turns = max(1, len(spec.Source.Mixed.Overrides))
	}
	var out []ec2.LaunchSpec
	for turn := range turns {
		trial := *g
		trial.turn = turn
		ask, _, err := s.launchSpec(&trial, spec, spec.Source)
		if err != nil {
			return nil, err
		}
		out = append(out, ask)
	}
	return out, nil
}
