package batchenvironment

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/batch/types"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// propose has manual steps only: versions are made and set by the template's kind.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	r := c.Resource
	if c.Verdict.Status == assess.Exempt {
		return nil, nil
	}
	m := plan.Manual{Ref: r.Ref, Name: r.Name}
	done := c.Verdict.Status == assess.Done
	switch moving := movingFields(r.State); {
	case r.Attrs[AttrResources] == resourcesManaged && !done:
		m.Reason = fixed(r)
		m.Remedy = "Give its jobs job roles, so that none needs the metadata service, or move its queues to an environment with " +
			"resources of type EC2 and a launch template that requires tokens."
	case r.Owner.Managed && !done:
		m.Reason = "the environment is operated by " + r.Owner.String()
		m.Remedy = "Change its launch template in " + r.Owner.String() + "."
	case fixed(r) != "" && !done:
		m.Reason, m.Remedy = fixed(r), replaceByAnother(r)
	case len(versionFields(r.State)) == 0 && !done:
		m.Reason = "the environment has no launch template, so its instances get what the account's default and the image say"
		m.Remedy = "Make a launch template with the metadata options alone and give it to the environment, which replaces its " +
			"instances: " + giveTemplate(r)
	case len(moving) > 0:
		m.Reason = "it names its launch template's version by " + r.State[moving[0]] + ", which Batch reads only at an " +
			"infrastructure update; what it read at the last one cannot be read from Batch"
		m.Remedy = "Once the version meant requires tokens, name it by its number, which replaces the instances: " + pin(r, moving)
	default:
		return nil, nil
	}
	return nil, []plan.Manual{m}
}

// movingFields are the version fields that name no number.
func movingFields(s fleet.State) []string {
	var out []string
	for _, field := range versionFields(s) {
		if moves(s[field]) {
			out = append(out, field)
		}
	}
	return out
}

func moves(selector string) bool {
	return selector == inventory.SelectDefault || selector == inventory.SelectLatest
}

// numberOf is the shell's way to the number that a selector means, as the command is run.
func numberOf(r *inventory.Resource, field string) string {
	idField, nameField := namedBy(field)
	by, value := "--launch-template-ids", r.State[idField]
	if value == "" {
		by, value = "--launch-template-names", r.State[nameField]
	}
	query := "LaunchTemplates[0].DefaultVersionNumber"
	if r.State[field] == inventory.SelectLatest {
		query = "LaunchTemplates[0].LatestVersionNumber"
	}
	return kind.Command(r.Ref.Place, "ec2", "describe-launch-templates", by, value, "--query", query, "--output", "text")
}

// pin gives the command that names each moving version by its number, which the shell looks up when it is run.
func pin(r *inventory.Resource, moving []string) string {
	after := r.State.Clone()
	for n, field := range moving {
		after[field] = "NUMBER" + strconv.Itoa(n)
	}
	command := update(r.Ref.Place, r.Ref.ID, after) // its JSON is in single quotes
	for n, field := range moving {
		command = strings.Replace(command, `"NUMBER`+strconv.Itoa(n)+`"`, `"'"$(`+numberOf(r, field)+`)"'"`, 1)
	}
	return command
}

// giveTemplate gives the commands that make a launch template and give it to an environment that has none.
func giveTemplate(r *inventory.Resource) string {
	name := "imdsv2-" + r.Name
	return kind.Command(r.Ref.Place, "ec2", "create-launch-template", "--launch-template-name", name, "--launch-template-data",
		`{"MetadataOptions":{"HttpTokens":"required","HttpPutResponseHopLimit":2}}`) + " && " +
		update(r.Ref.Place, r.Ref.ID, fleet.State{prefixTemplate + suffixName: name, prefixTemplate + suffixVersion: "1"})
}

// replaceByAnother is the way out where Batch makes no infrastructure update (user guide, "Performing blue/green updates").
func replaceByAnother(r *inventory.Resource) string {
	if r.State[FieldStatus] != "" {
		return "Make it VALID again, then plan anew: " + kind.Command(r.Ref.Place, "batch", "describe-compute-environments",
			"--compute-environments", r.Ref.ID, "--query", "computeEnvironments[0].statusReason")
	}
	return "Make another environment from it, with the service role " + serviceLinkedRole + ", the allocation strategy " +
		"BEST_FIT_PROGRESSIVE (SPOT_PRICE_CAPACITY_OPTIMIZED for Spot) and a launch template version that requires tokens, by its " +
		"number; move its job queues there with aws batch update-job-queue, then disable and delete it. What it is made of: " +
		kind.Command(r.Ref.Place, "batch", "describe-compute-environments", "--compute-environments", r.Ref.ID)
}

// commands gives the command of the update: the launch template whole, with its overrides.
func commands(w kind.Write) []string {
	if _, ok := changedVersions(w.Before, w.After); !ok || w.Verb != VerbSetLaunchVersion ||
		!environmentName.MatchString(w.ID) || checked(w.After) != nil {
		return nil
	}
	return []string{update(w.Place, w.ID, w.After)}
}

// templateJSON is a launch template specification as the CLI reads it.
type templateJSON struct {
	ID        string         `json:"launchTemplateId,omitempty"`
	Name      string         `json:"launchTemplateName,omitempty"`
	Version   string         `json:"version,omitempty"`
	Userdata  string         `json:"userdataType,omitempty"`
	Types     []string       `json:"targetInstanceTypes,omitempty"`
	Overrides []templateJSON `json:"overrides,omitempty"`
}

// update is the command that gives an environment the templates of a state.
func update(place fleet.Place, id string, s fleet.State) string {
	spec := specification(s)
	t := templateJSON{
		ID: aws.ToString(spec.LaunchTemplateId), Name: aws.ToString(spec.LaunchTemplateName), Version: aws.ToString(spec.Version),
		Userdata: string(spec.UserdataType),
	}
	for _, o := range spec.Overrides {
		t.Overrides = append(t.Overrides, override(o))
	}
	b, err := json.Marshal(map[string]templateJSON{"launchTemplate": t})
	if err != nil { // strings always marshal
		panic(err)
	}
	return kind.Command(place, "batch", "update-compute-environment", "--compute-environment", id, "--compute-resources", string(b))
}

func override(o types.LaunchTemplateSpecificationOverride) templateJSON {
	return templateJSON{
		ID: aws.ToString(o.LaunchTemplateId), Name: aws.ToString(o.LaunchTemplateName), Version: aws.ToString(o.Version),
		Userdata: string(o.UserdataType), Types: o.TargetInstanceTypes,
	}
}
