package cloudwatch

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
)

// sample is a statistic set over one base period, which begins at `at` (Unix seconds).
type sample struct {
	at            int64
	n             float64
	sum, min, max float64
}

func (s *sample) merge(o sample) {
	if s.n == 0 {
		s.n, s.sum, s.min, s.max = o.n, o.sum, o.min, o.max
		return
	}
	s.n, s.sum, s.min, s.max = s.n+o.n, s.sum+o.sum, min(s.min, o.min), max(s.max, o.max)
}

// metricID is a metric within a place: its namespace, name and dimensions, joined in order of the dimensions' names.
type metricID string

// dimension is one name and value.
type dimension struct{ name, value string }

func idOf(namespace, name string, dims []dimension) metricID {
	dims = slices.Clone(dims)
	slices.SortFunc(dims, func(a, b dimension) int { return cmp.Compare(a.name, b.name) })
	var b strings.Builder
	b.WriteString(namespace)
	b.WriteByte(0)
	b.WriteString(name)
	for _, d := range dims {
		b.WriteByte(0)
		b.WriteString(d.name)
		b.WriteByte(0)
		b.WriteString(d.value)
	}
	return metricID(b.String())
}

// parts is the reverse of idOf.
func (m metricID) parts() (namespace, name string, dims []dimension) {
	f := strings.Split(string(m), "\x00")
	for i := 2; i+1 < len(f); i += 2 {
		dims = append(dims, dimension{f[i], f[i+1]})
	}
	return f[0], f[1], dims
}

// store is what CloudWatch keeps in one place; the place's lock guards it.
type store struct {
	points map[metricID]map[int64]sample // by the beginning of the minute
	alarms map[string]Alarm
}

func storeOf(p *core.Place) *store {
	return p.Store("cloudwatch", func() any {
		return &store{points: map[metricID]map[int64]sample{}, alarms: map[string]Alarm{}}
	}).(*store)
}

// put adds to the point of the minute.
func (s *store) put(id metricID, at time.Time, v sample) {
	if s.points[id] == nil {
		s.points[id] = map[int64]sample{}
	}
	minute := floor(at.Unix(), 60)
	point := s.points[id][minute]
	point.at = minute
	point.merge(v)
	s.points[id][minute] = point
}

// within lists the points of a metric in [from, to), in order.
func (s *store) within(id metricID, from, to int64) []sample {
	var out []sample
	for at, p := range s.points[id] {
		if from <= at && at < to {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b sample) int { return cmp.Compare(a.at, b.at) })
	return out
}

// since lists, in order, the metrics of a place with a point at or after from.
func (s *store) since(from int64) []metricID {
	var out []metricID
	for id := range s.points {
		if s.recent(id, from) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// recent tells whether a point was put for the metric at or after from.
func (s *store) recent(id metricID, from int64) bool {
	for at := range s.points[id] {
		if at >= from {
			return true
		}
	}
	return false
}
