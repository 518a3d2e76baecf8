package batchenvironment

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/batch/types"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// mostOverrides is how many launch template overrides an environment may have (API reference,
// LaunchTemplateSpecification).
const mostOverrides = 10

func overridePrefix(n int) string { return prefixOverride + strconv.Itoa(n) + "." }

// putTemplates writes an environment's templates into a state.
func putTemplates(s fleet.State, t *types.LaunchTemplateSpecification) {
	if t == nil {
		return
	}
	putTemplate(s, prefixTemplate, t.LaunchTemplateId, t.LaunchTemplateName, t.Version, string(t.UserdataType))
	for n, o := range t.Overrides {
		putTemplate(s, overridePrefix(n), o.LaunchTemplateId, o.LaunchTemplateName, o.Version, string(o.UserdataType))
		s[overridePrefix(n)+suffixTypes] = strings.Join(o.TargetInstanceTypes, ",")
	}
}

// putTemplate writes one template. A version that was never given means $Default.
func putTemplate(s fleet.State, prefix string, id, name, version *string, userdata string) {
	put := func(suffix, v string) {
		if v != "" {
			s[prefix+suffix] = v
		}
	}
	put(suffixID, aws.ToString(id))
	put(suffixName, aws.ToString(name))
	put(suffixUserdata, userdata)
	put(suffixVersion, cmp.Or(aws.ToString(version), inventory.SelectDefault))
}

// specification is the whole of what a state says of templates, as an update must send it: overrides that are left out of a
// request are unset.
func specification(s fleet.State) *types.LaunchTemplateSpecification {
	out := &types.LaunchTemplateSpecification{
		LaunchTemplateId: optional(s, prefixTemplate+suffixID), LaunchTemplateName: optional(s, prefixTemplate+suffixName),
		Version: optional(s, prefixTemplate+suffixVersion), UserdataType: types.UserdataType(s[prefixTemplate+suffixUserdata]),
	}
	for n := range mostOverrides {
		prefix := overridePrefix(n)
		if _, there := s[prefix+suffixVersion]; !there {
			break
		}
		out.Overrides = append(out.Overrides, types.LaunchTemplateSpecificationOverride{
			LaunchTemplateId: optional(s, prefix+suffixID), LaunchTemplateName: optional(s, prefix+suffixName),
			Version: optional(s, prefix+suffixVersion), UserdataType: types.UserdataType(s[prefix+suffixUserdata]),
			TargetInstanceTypes: split(s[prefix+suffixTypes]),
		})
	}
	return out
}

func optional(s fleet.State, field string) *string {
	if v, ok := s[field]; ok {
		return aws.String(v)
	}
	return nil
}

func split(joined string) []string {
	if joined == "" {
		return nil
	}
	return strings.Split(joined, ",")
}

// versionFields are the fields of a state that hold a selector, the environment's own first.
func versionFields(s fleet.State) []string {
	var out []string
	if _, ok := s[prefixTemplate+suffixVersion]; ok {
		out = append(out, prefixTemplate+suffixVersion)
	}
	for n := range mostOverrides {
		if field := overridePrefix(n) + suffixVersion; s[field] != "" {
			out = append(out, field)
		}
	}
	return out
}

// namedBy are the fields of the id and the name that belong to a version field.
func namedBy(versionField string) (id, name string) {
	prefix := strings.TrimSuffix(versionField, suffixVersion)
	return prefix + suffixID, prefix + suffixName
}

var (
	templateID   = regexp.MustCompile(`^lt-[0-9a-f]{8,17}$`)
	templateName = regexp.MustCompile(`^[a-zA-Z0-9().\-/_]{3,128}$`) // API reference, CreateLaunchTemplate
	// environmentName is the pattern of CreateComputeEnvironment.
	environmentName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$`)
	// selector is a version as an environment may name it; in a plan also a reference to a version that is not made yet.
	selector     = regexp.MustCompile(`^(\$Default|\$Latest|[1-9][0-9]{0,18}|\$\{c-[0-9a-f]{12}\.Version\})$`)
	instanceType = regexp.MustCompile(`^[a-z0-9.-]{1,64}$`)
)

// checked says what of a state could not be sent, if anything.
func checked(s fleet.State) error {
	fields := versionFields(s)
	if len(fields) == 0 {
		return fmt.Errorf("it names no launch template")
	}
	for _, field := range fields {
		id, name := namedBy(field)
		switch _, byID := s[id]; {
		case byID && !templateID.MatchString(s[id]), !byID && !templateName.MatchString(s[name]):
			return fmt.Errorf("%s is not a launch template", s[id]+s[name])
		case !selector.MatchString(s[field]):
			return fmt.Errorf("%q is not a launch template's version", s[field])
		}
		prefix := strings.TrimSuffix(field, suffixVersion)
		for _, t := range split(s[prefix+suffixTypes]) {
			if !instanceType.MatchString(t) {
				return fmt.Errorf("%q is not an instance type", t)
			}
		}
	}
	return nil
}

// changedVersions lists the version fields in which two states differ; ok is false where anything else does.
func changedVersions(before, after fleet.State) (fields []string, ok bool) {
	for _, c := range fleet.Diff(before, after) {
		if !strings.HasPrefix(c.Field, prefixTemplate) || !strings.HasSuffix(c.Field, "."+suffixVersion) || !c.HadBefore || !c.HasAfter {
			return nil, false
		}
		fields = append(fields, c.Field)
	}
	return fields, len(fields) > 0
}
