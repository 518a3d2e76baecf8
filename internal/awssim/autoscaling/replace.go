package autoscaling

import (
	"fmt"
	"time"
)

// Replace has a group launch from src from now on, and replaces its instances one after the other, as a service does that
// operates the group. done is told when the last new instance has warmed up, or with an error when a launch failed, which
// leaves the group with its new source. The place must be locked for writing, as it is when done is called.
func (s *Store) Replace(name string, now time.Time, src Source, done func(now time.Time, err error)) error {
	g := s.groups[name]
	if g == nil {
		return groupNotFound(name)
	}
	if err := s.checkSource(&src); err != nil {
		return fmt.Errorf("group %s: %w", name, err)
	}
	spec := g.spec.Newest().clone()
	spec.Source = src
	g.spec.Set(now, s.place.World().Consistency(), spec)
	var todo []string
	for _, m := range g.members {
		if !m.terminating {
			todo = append(todo, m.id)
		}
	}
	s.replaceNext(g, todo, now, done)
	return nil
}

func (s *Store) replaceNext(g *group, todo []string, now time.Time, done func(time.Time, error)) {
	for len(todo) > 0 {
		m := g.member(todo[0])
		todo = todo[1:]
		if m == nil || m.terminating {
			continue
		}
		n := g.live()
		why := "At " + stamp(now) + " an instance was launched in response to an update of the environment.  "
		if _, err := s.launch(g, now, why); err != nil {
			done(now, err)
			return
		}
		s.terminate(g, m, now, shrinkCause("At "+stamp(now)+" an instance was taken out of service in response to an update "+
			"of the environment.  ", now, n+1, n, m.id))
		s.place.After(now, s.place.World().Settle(), func(at time.Time) { s.replaceNext(g, todo, at, done) })
		return
	}
	done(now, nil)
}
