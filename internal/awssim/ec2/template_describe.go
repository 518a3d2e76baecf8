package ec2

import (
	"slices"
	"strconv"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// templateView is a template, and perhaps one version of it, as one describe call sees it.
type templateView struct {
	*Template
	*templateState
	version *TemplateVersion
}

func templateFilters() map[string]func(templateView, func(string) bool) bool {
	return map[string]func(templateView, func(string) bool) bool{
		"launch-template-id":   by(func(v templateView) string { return v.id }),
		"launch-template-name": by(func(v templateView) string { return v.name }),
		"create-time":          by(func(v templateView) string { return v.created.UTC().Format(iso8601) }),
	}
}

func versionFilters() map[string]func(templateView, func(string) bool) bool {
	data := func(path ...string) func(templateView, func(string) bool) bool {
		return by(func(v templateView) string { return v.version.Data.text(path...) })
	}
	return map[string]func(templateView, func(string) bool) bool{
		"create-time":          by(func(v templateView) string { return v.version.Created.UTC().Format(iso8601) }),
		"image-id":             data("ImageId"),
		"instance-type":        data("InstanceType"),
		"is-default-version":   by(func(v templateView) string { return strconv.FormatBool(v.version.Number == v.Default) }),
		"http-tokens":          data("MetadataOptions", "HttpTokens"),
		"http-endpoint":        data("MetadataOptions", "HttpEndpoint"),
		"http-protocol-ipv4":   data("MetadataOptions", "HttpEndpoint"),
		"iam-instance-profile": data("IamInstanceProfile", "Arn"),
	}
}

// visible is how a call sees a template; nil when it does not.
func (t *Template) visible(c *core.Call, managed bool) *templateState {
	if !managed && t.operator != nil && t.operator.Hidden {
		return nil
	}
	return t.state.Seen(c.Now)
}

func describeTemplates(c *core.Call) error {
	s := storeOf(c)
	ids, names := c.In.Strings("LaunchTemplateId"), c.In.Strings("LaunchTemplateName")
	if len(ids)+len(names) > 0 && c.In.Has("MaxResults") {
		return wire.Errorf("InvalidParameterCombination",
			"MaxResults cannot be used together with LaunchTemplateIds or LaunchTemplateNames.")
	}
	p, err := pageOf(c, 1, 200)
	if err != nil {
		return err
	}
	matches, err := filters(c, templateFilters(), func(v templateView) []Tag { return v.Tags })
	if err != nil {
		return err
	}
	managed, _, err := c.In.Bool("IncludeManagedResources")
	if err != nil {
		return err
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	var found []templateView
	next := ""
	asked := map[string]bool{}
	for _, n := range append(slices.Clone(ids), names...) {
		asked[n] = true
	}
	for _, t := range s.tmplOrder {
		st := t.visible(c, managed)
		if st == nil || uint64(t.serial) <= p.after || len(ids)+len(names) > 0 && !asked[t.id] && !asked[t.name] {
			continue
		}
		asked[t.id], asked[t.name] = false, false
		if v := (templateView{Template: t, templateState: st}); matches(v) {
			if len(found) == p.limit {
				next = p.token(uint64(found[len(found)-1].serial))
				break
			}
			found = append(found, v)
		}
	}
	if err := unanswered(asked, ids, names); err != nil {
		return err
	}
	c.Touch(ids...)
	c.Touch(names...)
	c.Out.List("launchTemplates", func() {
		for _, v := range found {
			c.Out.Struct("", func() { writeTemplate(c.Out, v.Template, v.templateState) })
		}
	})
	c.Out.Opt("nextToken", next)
	return nil
}

func unanswered(asked map[string]bool, ids, names []string) error {
	for _, id := range ids {
		if !templateID.MatchString(id) {
			return wire.Errorf("InvalidLaunchTemplateId.Malformed", "Invalid launch template ID: '%s'", id)
		}
		if asked[id] {
			return wire.Errorf("InvalidLaunchTemplateId.NotFound",
				"The specified launch template, with template ID %s, does not exist.", id)
		}
	}
	for _, name := range names {
		if asked[name] {
			return wire.Errorf("InvalidLaunchTemplateName.NotFoundException",
				"At least one of the launch templates specified in the request does not exist.")
		}
	}
	return nil
}

// describeVersions lists versions of one template, or the latest and default versions of all.
func describeVersions(c *core.Call) error {
	p, err := pageOf(c, 1, 200)
	if err != nil {
		return err
	}
	matches, err := filters(c, versionFilters(), nil)
	if err != nil {
		return err
	}
	managed, _, err := c.In.Bool("IncludeManagedResources")
	if err != nil {
		return err
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	all, err := candidateVersions(c, managed)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(v templateView) bool { return !matches(v) })
	// A position is the template's serial and the version's number.
	position := func(v templateView) uint64 { return uint64(v.serial)<<32 | uint64(v.version.Number) }
	from := 0
	for from < len(all) && position(all[from]) <= p.after {
		from++
	}
	all = all[from:]
	next := ""
	if len(all) > p.limit {
		all = all[:p.limit]
		next = p.token(position(all[len(all)-1]))
	}
	c.Out.List("launchTemplateVersionSet", func() {
		for _, v := range all {
			c.Out.Struct("", func() { writeVersion(c.Out, v.Template, v.templateState, v.version) })
		}
	})
	c.Out.Opt("nextToken", next)
	return nil
}

func candidateVersions(c *core.Call, managed bool) ([]templateView, error) {
	s := storeOf(c)
	wanted := c.In.Strings("LaunchTemplateVersion")
	id, name := c.In.Str("LaunchTemplateId"), c.In.Str("LaunchTemplateName")
	if id == "" && name == "" {
		return aliasesOfAll(c, s, wanted, managed)
	}
	t, err := s.template(id, name)
	if err != nil {
		return nil, err
	}
	c.Touch(t.id)
	st := t.visible(c, managed)
	if st == nil {
		return nil, wire.Errorf("InvalidLaunchTemplateId.NotFound",
			"The specified launch template, with template ID %s, does not exist.", t.id)
	}
	least, _, err1 := c.In.Int("MinVersion")
	most, set, err2 := c.In.Int("MaxVersion")
	switch {
	case err1 != nil:
		return nil, err1
	case err2 != nil:
		return nil, err2
	case len(wanted) > 0 && (least > 0 || set):
		return nil, wire.Errorf("InvalidParameterCombination", "Versions cannot be used with MinVersion or MaxVersion.")
	}
	var out []templateView
	if len(wanted) == 0 {
		for _, v := range st.Versions {
			if v.Number >= least && (!set || v.Number <= most) {
				out = append(out, templateView{t, st, v})
			}
		}
		return out, nil
	}
	return pick(t, st, wanted)
}

// pick finds the versions wanted, each once, by number.
func pick(t *Template, st *templateState, wanted []string) ([]templateView, error) {
	var out []templateView
	for _, w := range wanted {
		v, err := t.version(st, w)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(out, func(o templateView) bool { return o.version == v }) {
			out = append(out, templateView{t, st, v})
		}
	}
	slices.SortFunc(out, func(a, b templateView) int { return int(a.version.Number - b.version.Number) })
	return out, nil
}

func aliasesOfAll(c *core.Call, s *Store, wanted []string, managed bool) ([]templateView, error) {
	if len(wanted) == 0 {
		return nil, wire.Errorf("MissingParameter",
			"Either a launch template or the versions $Latest or $Default must be specified.")
	}
	for _, w := range wanted {
		if w != "$Latest" && w != "$Default" {
			return nil, wire.Errorf("InvalidParameterValue",
				"Version '%s' can be described only for a specified launch template; use $Latest or $Default.", w)
		}
	}
	var out []templateView
	for _, t := range s.tmplOrder {
		st := t.visible(c, managed)
		if st == nil {
			continue
		}
		views, err := pick(t, st, wanted)
		if err != nil {
			return nil, err
		}
		out = append(out, views...)
	}
	return out, nil
}
