package autoscaling

import "time"

// SetSource changes what a group launches from, as a service does that operates it; its instances stay. The place must be
// locked for writing.
func (s *Store) SetSource(name string, now time.Time, src Source) error {
	g := s.groups[name]
	if g == nil {
		return groupNotFound(name)
	}
	if err := s.checkSource(&src); err != nil {
		return err
	}
	spec := g.spec.Newest().clone()
	spec.Source = src
	g.spec.Set(now, s.place.World().Consistency(), spec)
	return nil
}
