package ec2

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Template is a launch template.
type Template struct {
	id, name string
	serial   uint32
	created  time.Time
	by       string
	operator *Operator
	state    core.Versioned[*templateState] // nil: not there
}

// templateState is a template as of one moment. It is never changed, only replaced.
type templateState struct {
	Default, Latest int64
	Last            int64              // the highest number ever given; numbers are never used again
	Versions        []*TemplateVersion // by number
	Tags            []Tag
}

// TemplateVersion is one version; it never changes.
type TemplateVersion struct {
	Number      int64
	Description string
	Created     time.Time
	CreatedBy   string
	Data        Data
}

// ID is the template's id.
func (t *Template) ID() string { return t.id }

// Name is the template's name.
func (t *Template) Name() string { return t.name }

// Template finds a template by id or name.
func (s *Store) Template(idOrName string) (*Template, bool) {
	t := cmp.Or(s.templates[idOrName], s.byName[idOrName])
	return t, t != nil
}

// ResolveVersion turns "$Default", "$Latest" or a number into the number of a version that exists.
func (s *Store) ResolveVersion(idOrName, version string) (int64, error) {
	t, ok := s.Template(idOrName)
	if !ok {
		return 0, wire.Errorf("InvalidLaunchTemplateId.NotFound",
			"The specified launch template, with template ID %s, does not exist.", idOrName)
	}
	v, err := t.version(t.state.Newest(), version)
	if err != nil {
		return 0, err
	}
	return v.Number, nil
}

var templateID = regexp.MustCompile(`^lt-([0-9a-f]{8}|[0-9a-f]{17})$`)

// template finds a template for a request, by its id or its name, with EC2's errors.
func (s *Store) template(id, name string) (*Template, error) {
	switch {
	case id != "" && name != "":
		return nil, wire.Errorf("InvalidParameterCombination",
			"Only one of LaunchTemplateId and LaunchTemplateName can be specified.")
	case id != "":
		if !templateID.MatchString(id) {
			return nil, wire.Errorf("InvalidLaunchTemplateId.Malformed", "Invalid launch template ID: '%s'", id)
		}
		if t := s.templates[id]; t != nil {
			return t, nil
		}
		return nil, wire.Errorf("InvalidLaunchTemplateId.NotFound",
			"The specified launch template, with template ID %s, does not exist.", id)
	case name != "":
		if t := s.byName[name]; t != nil {
			return t, nil
		}
		return nil, wire.Errorf("InvalidLaunchTemplateName.NotFoundException",
			"The specified launch template, with template name %s, does not exist.", name)
	}
	return nil, wire.Errorf("MissingParameter", "The request must contain LaunchTemplateId or LaunchTemplateName")
}

// version finds one version in a state of the template.
func (t *Template) version(st *templateState, name string) (*TemplateVersion, error) {
	var n int64
	switch name {
	case "$Default":
		n = st.Default
	case "$Latest":
		n = st.Latest
	default:
		var err error
		if n, err = strconv.ParseInt(name, 10, 64); err != nil || n < 1 {
			return nil, wire.Errorf("InvalidLaunchTemplateId.VersionNotFound",
				"Could not find launch template version '%s' for launch template '%s'.", name, t.id)
		}
	}
	if at, ok := st.find(n); ok {
		return st.Versions[at], nil
	}
	return nil, wire.Errorf("InvalidLaunchTemplateId.VersionNotFound",
		"Could not find launch template version '%s' for launch template '%s'.", name, t.id)
}

func (st *templateState) find(n int64) (int, bool) {
	return slices.BinarySearchFunc(st.Versions, n, func(v *TemplateVersion, n int64) int {
		return cmp.Compare(v.Number,
			n)
	})
}

func (s *Store) updateTemplate(now time.Time, t *Template, change func(*templateState)) {
	next := *t.state.Newest()
	change(&next)
	t.state.Set(now, s.delay(), &next)
}

func (s *Store) addTemplate(t *Template) {
	s.serial++
	t.serial = s.serial
	s.templates[t.id], s.byName[t.name] = t, t
	s.tmplOrder = append(s.tmplOrder, t)
}

func templateActions() map[string]core.Action {
	return map[string]core.Action{
		"CreateLaunchTemplate": change(core.BucketMutating, createTemplate, accessTemplate,
			"LaunchTemplateName", "VersionDescription", "LaunchTemplateData", "TagSpecification", "ClientToken"),
		"DescribeLaunchTemplates": describe(describeTemplates,
			"LaunchTemplateId", "LaunchTemplateName", "Filter", "MaxResults", "NextToken", "IncludeManagedResources"),
		"DescribeLaunchTemplateVersions": describe(describeVersions,
			"LaunchTemplateId", "LaunchTemplateName", "LaunchTemplateVersion", "MinVersion", "MaxVersion", "Filter",
			"MaxResults",
			"NextToken", "IncludeManagedResources", "ResolveAlias"),
		"CreateLaunchTemplateVersion": change(core.BucketModify, createVersion, accessTemplate,
			"LaunchTemplateId", "LaunchTemplateName", "SourceVersion", "VersionDescription", "LaunchTemplateData", "ClientToken",
			"ResolveAlias"),
		"ModifyLaunchTemplate": change(core.BucketModify, modifyTemplate, accessTemplate,
			"LaunchTemplateId", "LaunchTemplateName", "SetDefaultVersion", "ClientToken"),
		"DeleteLaunchTemplateVersions": change(core.BucketMutating, deleteVersions, accessTemplate,
			"LaunchTemplateId", "LaunchTemplateName", "LaunchTemplateVersion"),
		"DeleteLaunchTemplate": change(core.BucketMutating, deleteTemplate, accessTemplate, "LaunchTemplateId",
			"LaunchTemplateName"),
	}
}

// accessTemplate is what a call about a template needs. Who tags one while creating it must be allowed to tag
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/supported-iam-actions-tagging.html).
func accessTemplate(c *core.Call) []core.Access {
	t, err := storeOf(c).template(c.In.Str("LaunchTemplateId"), c.In.Str("LaunchTemplateName"))
	if err != nil || c.Action == "CreateLaunchTemplate" {
		needs := []core.Access{{Resource: c.ARN(Name, "launch-template/*")}}
		if len(c.In.Items("TagSpecification")) > 0 {
			needs = append(needs, core.Access{
				Action: "ec2:CreateTags", Resource: c.ARN(Name, "launch-template/*"),
				Condition: map[string][]string{"ec2:createaction": {"CreateLaunchTemplate"}},
			})
		}
		return needs
	}
	return []core.Access{{
		Resource: c.ARN(Name, "launch-template/"+t.id), Condition: tagConditions(c, t.state.Newest().Tags),
	}}
}

var templateName = regexp.MustCompile(`^[a-zA-Z0-9()./_-]{3,128}$`)

func createTemplate(c *core.Call) error {
	s := storeOf(c)
	name, err := required(c, "LaunchTemplateName")
	if err != nil {
		return err
	}
	data, err := dataIn(c.In.Get("LaunchTemplateData"))
	if err != nil {
		return err
	}
	tags, err := tagSpecification(c, "launch-template")
	if err != nil {
		return err
	}
	if !templateName.MatchString(name) {
		return wire.Errorf("InvalidLaunchTemplateName.MalformedException", "The launch template name '%s' is malformed.",
			name)
	}
	if len(data) == 0 {
		return wire.Errorf("MissingParameter", "The request must contain the parameter LaunchTemplateData")
	}
	fresh := false
	t, err := remembered(c, s, func() (*Template, error) {
		if s.byName[name] != nil {
			return nil, wire.Errorf("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
		}
		if err := c.DryRun(); err != nil {
			return nil, err
		}
		fresh = true
		t := &Template{id: c.World.NewID("lt-"), name: name, created: c.Now, by: c.Principal.ARN}
		t.state.Set(c.Now, s.delay(), &templateState{
			Default: 1, Latest: 1, Last: 1, Tags: tagsOf(tags),
			Versions: []*TemplateVersion{{
				Number: 1, Description: c.In.Str("VersionDescription"), Created: c.Now, CreatedBy: c.Principal.ARN, Data: data,
			}},
		})
		s.addTemplate(t)
		return t, nil
	})
	if err != nil {
		return err
	}
	note(c, fresh, t.id)
	c.Out.Struct("launchTemplate", func() { writeTemplate(c.Out, t, t.state.Newest()) })
	return nil
}

// note names a resource in the call log, as changed only by the first of several calls with one client token.
func note(c *core.Call, fresh bool, id string) {
	if fresh {
		c.Mutated(id)
	} else {
		c.Touch(id)
	}
}

func createVersion(c *core.Call) error {
	s := storeOf(c)
	t, err := s.template(c.In.Str("LaunchTemplateId"), c.In.Str("LaunchTemplateName"))
	if err != nil {
		return err
	}
	c.Touch(t.id)
	data, err := dataIn(c.In.Get("LaunchTemplateData"))
	if err != nil {
		return err
	}
	if source := c.In.Str("SourceVersion"); source != "" {
		v, err := t.version(t.state.Newest(), source)
		if err != nil {
			return err
		}
		data = data.over(v.Data)
	}
	if len(data) == 0 {
		return wire.Errorf("MissingParameter", "The request must contain the parameter LaunchTemplateData")
	}
	if err := refuseManaged(t.id, t.operator); err != nil {
		return err
	}
	fresh := false
	v, err := remembered(c, s, func() (*TemplateVersion, error) {
		if err := c.DryRun(); err != nil {
			return nil, err
		}
		fresh = true
		v := &TemplateVersion{
			Number: t.state.Newest().Last + 1, Description: c.In.Str("VersionDescription"), Created: c.Now,
			CreatedBy: c.Principal.ARN, Data: data,
		}
		s.updateTemplate(c.Now, t, func(st *templateState) {
			st.Versions = append(slices.Clip(st.Versions), v)
			st.Latest, st.Last = v.Number, v.Number
		})
		return v, nil
	})
	if err != nil {
		return err
	}
	note(c, fresh, t.id)
	c.Out.Struct("launchTemplateVersion", func() { writeVersion(c.Out, t, t.state.Newest(), v) })
	return nil
}

func modifyTemplate(c *core.Call) error {
	s := storeOf(c)
	t, err := s.template(c.In.Str("LaunchTemplateId"), c.In.Str("LaunchTemplateName"))
	if err != nil {
		return err
	}
	c.Touch(t.id)
	want, err := required(c, "SetDefaultVersion")
	if err != nil {
		return err
	}
	v, err := t.version(t.state.Newest(), want)
	if err != nil {
		return err
	}
	if err := refuseManaged(t.id, t.operator); err != nil {
		return err
	}
	fresh := false
	if _, err = remembered(c, s, func() (bool, error) {
		if err := c.DryRun(); err != nil {
			return false, err
		}
		fresh = true
		s.updateTemplate(c.Now, t, func(st *templateState) { st.Default = v.Number })
		return true, nil
	}); err != nil {
		return err
	}
	note(c, fresh, t.id)
	c.Out.Struct("launchTemplate", func() { writeTemplate(c.Out, t, t.state.Newest()) })
	return nil
}

// deleteVersions deletes what it can and tells of the rest; it fails as a whole only for the template itself.
func deleteVersions(c *core.Call) error {
	s := storeOf(c)
	t, err := s.template(c.In.Str("LaunchTemplateId"), c.In.Str("LaunchTemplateName"))
	if err != nil {
		return err
	}
	c.Touch(t.id)
	wanted := c.In.Strings("LaunchTemplateVersion")
	if len(wanted) == 0 || len(wanted) > 200 {
		return wire.Errorf("InvalidParameterValue", "Specify between 1 and 200 launch template versions.")
	}
	for _, name := range wanted {
		if n, err := strconv.ParseInt(name, 10, 64); err != nil || n < 1 {
			return wire.Errorf("InvalidParameterValue", "Invalid launch template version: '%s'.", name)
		}
	}
	if err := refuseManaged(t.id, t.operator); err != nil {
		return err
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	type failure struct {
		n             int64
		code, message string
	}
	var deleted []int64
	var failed []failure
	st := t.state.Newest()
	for _, name := range wanted {
		n, _ := strconv.ParseInt(name, 10, 64) // checked above
		_, found := st.find(n)
		switch {
		case n == st.Default:
			failed = append(failed, failure{n, "unexpectedError",
				"Cannot delete the launch template version because it is currently set as the default version."})
		case !found || slices.Contains(deleted, n):
			failed = append(failed, failure{n, "launchTemplateVersionDoesNotExist",
				"Could not find launch template version '" + name + "' for launch template '" + t.id + "'."})
		default:
			deleted = append(deleted, n)
		}
	}
	if len(deleted) > 0 {
		s.updateTemplate(c.Now, t, func(st *templateState) {
			st.Versions = slices.DeleteFunc(slices.Clone(st.Versions), func(v *TemplateVersion) bool {
				return slices.Contains(deleted, v.Number)
			})
			st.Latest = st.Versions[len(st.Versions)-1].Number
		})
		c.Mutated(t.id)
	}
	item := func(n int64, more func()) {
		c.Out.Struct("", func() {
			c.Out.Str("launchTemplateId", t.id)
			c.Out.Str("launchTemplateName", t.name)
			c.Out.Int("versionNumber", n)
			more()
		})
	}
	c.Out.List("successfullyDeletedLaunchTemplateVersionSet", func() {
		for _, n := range deleted {
			item(n, func() {})
		}
	})
	c.Out.List("unsuccessfullyDeletedLaunchTemplateVersionSet", func() {
		for _, f := range failed {
			item(f.n, func() {
				c.Out.Struct("responseError", func() {
					c.Out.Str("code", f.code)
					c.Out.Str("message", f.message)
				})
			})
		}
	})
	return nil
}

func deleteTemplate(c *core.Call) error {
	s := storeOf(c)
	t, err := s.template(c.In.Str("LaunchTemplateId"), c.In.Str("LaunchTemplateName"))
	if err != nil {
		return err
	}
	c.Touch(t.id)
	if err := refuseManaged(t.id, t.operator); err != nil {
		return err
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	last := t.state.Newest()
	delete(s.templates, t.id)
	delete(s.byName, t.name)
	t.state.Set(c.Now, s.delay(), nil)
	// Describe calls see it until the deletion has spread.
	s.place.After(c.Now, s.delay(), func(time.Time) {
		s.tmplOrder = slices.DeleteFunc(s.tmplOrder, func(o *Template) bool { return o == t })
	})
	c.Mutated(t.id)
	c.Out.Struct("launchTemplate", func() { writeTemplate(c.Out, t, last) })
	return nil
}

func writeTemplate(w *wire.Writer, t *Template, st *templateState) {
	w.Str("launchTemplateId", t.id)
	w.Str("launchTemplateName", t.name)
	w.Time("createTime", t.created)
	w.Str("createdBy", t.by)
	w.Int("defaultVersionNumber", st.Default)
	w.Int("latestVersionNumber", st.Latest)
	writeTags(w, st.Tags)
	writeOperator(w, t.operator)
}

func writeVersion(w *wire.Writer, t *Template, st *templateState, v *TemplateVersion) {
	w.Str("launchTemplateId", t.id)
	w.Str("launchTemplateName", t.name)
	w.Int("versionNumber", v.Number)
	w.Opt("versionDescription", v.Description)
	w.Time("createTime", v.Created)
	w.Str("createdBy", v.CreatedBy)
	w.Bool("defaultVersion", v.Number == st.Default)
	w.Struct("launchTemplateData", func() { writeData(w, templateFields, v.Data) })
	writeOperator(w, t.operator)
}
