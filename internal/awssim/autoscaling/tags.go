package autoscaling

import (
	"cmp"
	"slices"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

func parseTag(v wire.Value) (Tag, error) {
	propagate, _, err := v.Bool("PropagateAtLaunch")
	if err != nil {
		return Tag{}, err
	}
	if v.Str("Key") == "" {
		return Tag{}, invalid("1 validation error detected: Value at 'tags.member.key' failed to satisfy constraint: Member " +
			"must have length greater than or equal to 1")
	}
	return Tag{Key: v.Str("Key"), Value: v.Str("Value"), Propagate: propagate}, nil
}

func writeTag(w *wire.Writer, group string, t Tag) {
	w.Str("ResourceId", group)
	w.Str("ResourceType", "auto-scaling-group")
	w.Str("Key", t.Key)
	w.Str("Value", t.Value)
	w.Bool("PropagateAtLaunch", t.Propagate)
}

// putTags sets tags of groups; all or nothing.
func putTags(c *core.Call) error { return editTags(c, true) }

func deleteTags(c *core.Call) error { return editTags(c, false) }

func editTags(c *core.Call, put bool) error {
	s := StoreOf(c.Place)
	edited := map[string]Spec{}
	for _, item := range c.In.Items("Tags") {
		t, err := parseTag(item)
		if err != nil {
			return err
		}
		name := item.Str("ResourceId")
		g := s.groups[name]
		if g == nil {
			return groupNotFound(name)
		}
		spec, ok := edited[name]
		if !ok {
			spec = g.spec.Newest().clone()
		}
		at := slices.IndexFunc(spec.Tags, func(x Tag) bool { return x.Key == t.Key })
		switch {
		case put && at >= 0:
			spec.Tags[at] = t
		case put:
			spec.Tags = append(spec.Tags, t)
		case at >= 0:
			spec.Tags = slices.Delete(spec.Tags, at, at+1)
		}
		edited[name] = spec
	}
	for name, spec := range edited {
		s.groups[name].spec.Set(c.Now, c.World.Consistency(), spec)
		c.Mutated(name)
	}
	return nil
}

// describeTags lists the tags of all groups, by group and key.
func describeTags(c *core.Call) error {
	filters, err := filtersOf(c, func(name string) bool {
		return slices.Contains([]string{"auto-scaling-group", "key", "value", "propagate-at-launch"}, name)
	})
	if err != nil {
		return err
	}
	size, after, err := page(c, tagPage)
	if err != nil {
		return err
	}
	type found struct {
		group string
		tag   Tag
	}
	var all []found
	s := StoreOf(c.Place)
	for _, name := range s.Groups() {
		tags := slices.Clone(s.groups[name].spec.Seen(c.Now).Tags)
		slices.SortFunc(tags, func(a, b Tag) int { return cmp.Compare(a.Key, b.Key) })
		for _, t := range tags {
			if name+" "+t.Key > after && tagMatches(name, t, filters) {
				all = append(all, found{name, t})
			}
		}
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.group+" "+a.tag.Key, b.group+" "+b.tag.Key) })
	shown := all[:min(size, len(all))]
	c.Out.List("Tags", func() {
		for _, f := range shown {
			c.Out.Struct("", func() { writeTag(c.Out, f.group, f.tag) })
		}
	})
	if len(shown) < len(all) {
		last := shown[len(shown)-1]
		nextToken(c, last.group+" "+last.tag.Key)
	}
	return nil
}

func tagMatches(group string, t Tag, filters []filter) bool {
	for _, f := range filters {
		value := map[string]string{
			"auto-scaling-group": group, "key": t.Key, "value": t.Value,
			"propagate-at-launch": map[bool]string{true: "true", false: "false"}[t.Propagate],
		}[f.name]
		if !slices.Contains(f.values, value) {
			return false
		}
	}
	return true
}
