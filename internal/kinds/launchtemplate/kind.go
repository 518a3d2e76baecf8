// Package launchtemplate is the kind launch-template: what the launch templates of a place tell future launches, by
// version.
//
// It owns how templates and versions are read, how a copy of a version is made, and (propose.go) which copies a plan
// needs. Versions are immutable, so a change is a new version that equals its source in all but the metadata options,
// and then something that points to it. A template's state is its two moving pointers, the default and the latest
// version; creating a version moves the second at once, and with it whoever launches from $Latest. An interrupted
// creation leaves at most one version that nothing but $Latest points to, with a marker in its description by which
// Find recognises it.
package launchtemplate

import (
	"encoding/json"
	"regexp"
	"strconv"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// Verbs of a launch template.
const (
	// VerbCreateVersion makes a copy of a version with other metadata options.
	VerbCreateVersion = "create-version"
	// VerbSetDefault makes a version the default.
	VerbSetDefault = "set-default"
)

// Parameters and output of VerbCreateVersion. The other parameters are the copy's metadata options by field name.
const (
	ParamSource   = "SourceVersion"
	OutputVersion = "Version"
)

const (
	actionTemplates = "ec2:DescribeLaunchTemplates"
	actionVersions  = "ec2:DescribeLaunchTemplateVersions"
	actionCreate    = "ec2:CreateLaunchTemplateVersion"
	actionModify    = "ec2:ModifyLaunchTemplate"
	actionDelete    = "ec2:DeleteLaunchTemplateVersions"
)

// Kind describes launch templates.
func Kind() kind.Kind {
	const arn = "arn:{partition}:ec2:{region}:{account}:launch-template/*"
	return kind.Kind{
		Name: inventory.KindLaunchTemplate,
		Doc: "EC2 launch templates. Metadata options stand in a version, and versions never change: a new one is copied " +
			"from the old with tokens required, compared with it in everything else, and then made the default or named by " +
			"the groups. A version is live for users of $Latest the moment it exists, so these are pinned first where the " +
			"copy is of another version than the latest.",
		Manner: assess.Manner{Role: assess.RoleSource, Metric: true},
		Reads: []kind.Action{
			{Name: actionTemplates, Resource: "*"},
			{Name: actionVersions, Resource: "*"},
		},
		Writes: []kind.Action{
			// A template whose image is a Systems Manager parameter is only copied by those who may read the parameter.
			{Name: actionCreate, With: []string{"ssm:GetParameters"}, Resource: arn},
			{Name: actionModify, Resource: arn},
			{Name: actionDelete, Resource: arn},
		},
		Verbs: []kind.Verb{
			{
				Name: VerbCreateVersion, Class: plan.ClassCreate, Disruption: kind.DisruptsNothing, Undo: kind.UndoFull,
				Residue: "the number of the version is used up: the next one made gets a higher number",
				Outputs: []string{OutputVersion},
				Calls:   map[string]int{actionTemplates: 2, actionVersions: 4, actionCreate: 1},
				Checks:  map[string]int{actionDelete: 1},
				DryRun:  map[string]int{actionVersions: 1, actionCreate: 1},
			},
			{
				Name: VerbSetDefault, Class: plan.ClassSet, Disruption: kind.DisruptsNothing, Undo: kind.UndoFull,
				Calls:  map[string]int{actionTemplates: 2, actionVersions: 2, actionModify: 1},
				Checks: map[string]int{actionModify: 1},
				DryRun: map[string]int{actionModify: 1},
			},
		},
		Propose:  propose,
		Commands: commands,
	}
}

var (
	templateID = regexp.MustCompile(`^lt-[0-9a-f]{8,17}$`)
	number     = regexp.MustCompile(`^[1-9][0-9]{0,18}$`)
	// numberOrOutput is a version as a plan may have it: known, or the output of an earlier change.
	numberOrOutput = regexp.MustCompile(`^([1-9][0-9]{0,18}|\$\{c-[0-9a-f]{12}\.Version\})$`)
)

func commands(w kind.Write) []string {
	if !templateID.MatchString(w.ID) {
		return nil
	}
	switch {
	case w.Verb == VerbSetDefault && numberOrOutput.MatchString(w.After[inventory.FieldDefaultVersion]):
		return []string{kind.Command(w.Place, "ec2", "modify-launch-template", "--launch-template-id", w.ID,
			"--default-version", w.After[inventory.FieldDefaultVersion])}
	case w.Verb == VerbCreateVersion && w.Revert && numberOrOutput.MatchString(made(w)):
		return []string{kind.Command(w.Place, "ec2", "delete-launch-template-versions", "--launch-template-id", w.ID,
			"--versions", made(w))}
	case w.Verb == VerbCreateVersion && !w.Revert && number.MatchString(w.Params[ParamSource]):
		return []string{kind.Command(w.Place, "ec2", "create-launch-template-version", "--launch-template-id", w.ID,
			"--source-version", w.Params[ParamSource], "--launch-template-data", optionsJSON(fleet.State(w.Params).Options()))}
	}
	return nil
}

// made is the number of the version that a revert removes. Before anything was made it is what the plan calls it.
func made(w kind.Write) string {
	if v := w.Made[OutputVersion]; v != "" {
		return v
	}
	return w.Before[inventory.FieldLatestVersion]
}

func optionsJSON(o fleet.Options) string {
	fields := map[string]any{}
	for field, value := range o.State() {
		fields[field] = value
		if n, err := strconv.Atoi(value); err == nil {
			fields[field] = n
		}
	}
	b, err := json.Marshal(map[string]any{"MetadataOptions": fields})
	if err != nil { // only strings and numbers get here
		return ""
	}
	return string(b)
}
