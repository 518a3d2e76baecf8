package ec2

import (
	"cmp"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
)

// reservedTag begins the keys of tags that AWS gives; callers can neither set nor remove them.
const reservedTag = "aws:"

// index notes the reserved tags of an instance, by which the members of a group or of a template are asked for.
func (s *Store) index(i *Instance) {
	for _, t := range i.state.Newest().Tags {
		if !strings.HasPrefix(t.Key, reservedTag) {
			continue
		}
		known := s.byTag[t]
		if at, ok := slices.BinarySearchFunc(known, i.serial, bySerial); !ok {
			s.byTag[t] = slices.Insert(known, at, i)
		}
	}
}

func (s *Store) unindex(i *Instance) {
	for _, t := range i.state.Newest().Tags {
		known := s.byTag[t]
		at, ok := slices.BinarySearchFunc(known, i.serial, bySerial)
		switch {
		case ok && len(known) == 1:
			delete(s.byTag, t)
		case ok:
			s.byTag[t] = slices.Delete(known, at, at+1)
		}
	}
}

// candidates are the instances, by serial, among which those are that a call's filters let through: all of the place, or
// fewer where a filter names instances or reserved tags. The filters are still to be applied.
func (s *Store) candidates(c *core.Call) []*Instance {
	for _, item := range c.In.Items("Filter") {
		key, tagged := strings.CutPrefix(item.Str("Name"), "tag:")
		tagged = tagged && strings.HasPrefix(key, reservedTag)
		values := item.Strings("Value")
		if !tagged && key != "instance-id" || slices.ContainsFunc(values, isPattern) {
			continue
		}
		var out []*Instance
		for _, value := range values {
			if tagged {
				out = append(out, s.byTag[Tag{Key: key, Value: value}]...)
			} else if i := s.byID[value]; i != nil {
				out = append(out, i)
			}
		}
		slices.SortFunc(out, func(a, b *Instance) int { return cmp.Compare(a.serial, b.serial) })
		return slices.Compact(out)
	}
	return s.order
}
