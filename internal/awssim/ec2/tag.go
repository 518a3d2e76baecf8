package ec2

import (
	"maps"
	"regexp"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

func tagActions() map[string]core.Action {
	return map[string]core.Action{
		"CreateTags":   change(core.BucketMutating, createTags, accessTags, "ResourceId", "Tag"),
		"DeleteTags":   change(core.BucketMutating, deleteTags, accessTags, "ResourceId", "Tag"),
		"DescribeTags": describe(describeTags, "Filter", "MaxResults", "NextToken"),
	}
}

func accessTags(c *core.Call) []core.Access {
	var out []core.Access
	for _, id := range c.In.Strings("ResourceId") {
		out = append(out, core.Access{Resource: c.ARN(Name, resourceType(id)+"/"+id)})
	}
	return out
}

func resourceType(id string) string {
	switch {
	case strings.HasPrefix(id, "i-"):
		return "instance"
	case strings.HasPrefix(id, "lt-"):
		return "launch-template"
	case strings.HasPrefix(id, "ami-"):
		return "image"
	case strings.HasPrefix(id, "fleet-"):
		return "fleet"
	case strings.HasPrefix(id, "sfr-"):
		return "spot-fleet-request"
	}
	return "unknown"
}

// tagSpecification reads the tags that a request gives to new resources of a type.
func tagSpecification(c *core.Call, resource string) (map[string]string, error) {
	out := map[string]string{}
	for _, spec := range c.In.Items("TagSpecification") {
		if spec.Str("ResourceType") != resource {
			continue // volumes and network interfaces are not simulated
		}
		for _, t := range spec.Items("Tag") {
			if err := checkTagKey(t.Str("Key")); err != nil {
				return nil, err
			}
			out[t.Str("Key")] = t.Str("Value")
		}
	}
	return out, nil
}

func checkTagKey(key string) error {
	switch {
	case key == "" || len(key) > 128:
		return wire.Errorf("InvalidParameterValue", "Tag key must be between 1 and 128 characters.")
	case strings.HasPrefix(strings.ToLower(key), "aws:"):
		return wire.Errorf("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
	}
	return nil
}

// shownKey is the key of a tag that the metadata service can show.
var shownKey = regexp.MustCompile(`^[0-9a-zA-Z\-_+=,.@:]{1,255}$`)

// checkShownTags refuses tags that the metadata service cannot show, where it is to show them: the launch fails, and so does the call that
// would enable it or add such a tag (EC2 User Guide, "View tags for your EC2 instances using instance metadata").
func checkShownTags(o fleet.Options, tags []Tag) error {
	if o.Tags != fleet.Enabled {
		return nil
	}
	for _, t := range tags {
		if t.Key == "." || t.Key == ".." || t.Key == "_index" || !shownKey.MatchString(t.Key) {
			return wire.Errorf("InvalidParameterValue", "'%s' is not a valid tag key. Tag keys must match pattern "+
				`([0-9a-zA-Z\-_+=,.@:]{1,255}), and must not be a reserved name ('.', '..', '_index')`, t.Key)
		}
	}
	return nil
}

// tagged reads a resource's tags and makes a function that replaces them; ok is false when it does not exist.
func (s *Store) tagged(id string) (tags []Tag, set func(time.Time, []Tag), ok bool) {
	if i := s.byID[id]; i != nil {
		return i.state.Newest().Tags, func(now time.Time, t []Tag) {
			s.update(now, i, func(st *InstanceState) { st.Tags = t })
		}, true
	}
	if t := s.templates[id]; t != nil {
		return t.state.Newest().Tags, func(now time.Time, tags []Tag) {
			s.updateTemplate(now, t, func(st *templateState) { st.Tags = tags })
		}, true
	}
	if i := s.images[id]; i != nil {
		return i.Newest().Tags, func(now time.Time, tags []Tag) {
			next := i.Newest()
			next.Tags = tags
			i.state.Set(now, s.delay(), &next)
		}, true
	}
	if f := s.Fleet(id); f != nil && f.state.Newest() != nil {
		return f.state.Newest().Tags, func(now time.Time, tags []Tag) {
			s.updateFleet(now, f, func(st *fleetState) { st.Tags = tags })
		}, true
	}
	return nil, nil, false
}

func createTags(c *core.Call) error {
	return retag(c, func(tags map[string]string, t wire.Value) error {
		if err := checkTagKey(t.Str("Key")); err != nil {
			return err
		}
		tags[t.Str("Key")] = t.Str("Value")
		if len(tags) > 50 {
			return wire.Errorf("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
		}
		return nil
	})
}

// deleteTags removes by key, or by key and value where a value is sent.
func deleteTags(c *core.Call) error {
	return retag(c, func(tags map[string]string, t wire.Value) error {
		key := t.Str("Key")
		if err := checkTagKey(key); err != nil {
			return err
		}
		if !t.Has("Value") || tags[key] == t.Str("Value") {
			delete(tags, key)
		}
		return nil
	})
}

func retag(c *core.Call, change func(map[string]string, wire.Value) error) error {
	s := storeOf(c)
	ids := c.In.Strings("ResourceId")
	if len(ids) == 0 || len(c.In.Items("Tag")) == 0 && c.Action == "CreateTags" {
		return wire.Errorf("MissingParameter", "The request must contain the parameters ResourceId and Tag")
	}
	c.Touch(ids...)
	next := make([][]Tag, len(ids))
	for n, id := range ids {
		old, _, ok := s.tagged(id)
		if !ok {
			code := map[string]string{
				"instance": "InvalidInstanceID.NotFound", "launch-template": "InvalidLaunchTemplateId.NotFound",
				"image": "InvalidAMIID.NotFound", "fleet": "InvalidFleetId.NotFound",
				"spot-fleet-request": "InvalidSpotFleetRequestId.NotFound", "unknown": "InvalidID",
			}[resourceType(id)]
			return wire.Errorf(code, "The ID '%s' does not exist", id)
		}
		tags := map[string]string{}
		for _, t := range old {
			tags[t.Key] = t.Value
		}
		for _, t := range c.In.Items("Tag") {
			if err := change(tags, t); err != nil {
				return err
			}
		}
		if len(c.In.Items("Tag")) == 0 { // DeleteTags without tags removes all that are not AWS's
			maps.DeleteFunc(tags, func(k, _ string) bool { return !strings.HasPrefix(k, "aws:") })
		}
		next[n] = tagsOf(tags)
		if i := s.byID[id]; i != nil {
			if err := checkShownTags(i.state.Newest().Options, next[n]); err != nil {
				return err
			}
		}
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	for n, id := range ids {
		_, set, _ := s.tagged(id)
		set(c.Now, next[n])
		c.Mutated(id)
	}
	c.Out.Bool("return", true)
	return nil
}

type tagView struct {
	Tag
	id string
}

func describeTags(c *core.Call) error {
	s := storeOf(c)
	p, err := pageOf(c, 5, 1000)
	if err != nil {
		return err
	}
	matches, err := filters(c, map[string]func(tagView, func(string) bool) bool{
		"key":           by(func(v tagView) string { return v.Key }),
		"value":         by(func(v tagView) string { return v.Value }),
		"resource-id":   by(func(v tagView) string { return v.id }),
		"resource-type": by(func(v tagView) string { return resourceType(v.id) }),
	}, nil)
	if err != nil {
		return err
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	var all []tagView
	collect := func(id string, tags []Tag) {
		for _, t := range tags {
			if v := (tagView{t, id}); matches(v) {
				all = append(all, v)
			}
		}
	}
	for _, i := range s.order {
		if st := i.state.Seen(c.Now); st != nil {
			collect(i.id, st.Tags)
		}
	}
	for _, t := range s.tmplOrder {
		if st := t.state.Seen(c.Now); st != nil {
			collect(t.id, st.Tags)
		}
	}
	for _, id := range s.imageIDs {
		if st := s.images[id].state.Seen(c.Now); st != nil {
			collect(id, st.Tags)
		}
	}
	for _, f := range s.fleets().order {
		if st := f.state.Seen(c.Now); st != nil {
			collect(f.id, st.Tags)
		}
	}
	all = all[min(p.after, uint64(len(all))):]
	next := ""
	if len(all) > p.limit {
		all, next = all[:p.limit], p.token(p.after+uint64(p.limit))
	}
	c.Out.List("tagSet", func() {
		for _, v := range all {
			c.Out.Struct("", func() {
				c.Out.Str("resourceId", v.id)
				c.Out.Str("resourceType", resourceType(v.id))
				c.Out.Str("key", v.Key)
				c.Out.Str("value", v.Value)
			})
		}
	})
	c.Out.Opt("nextToken", next)
	return nil
}
