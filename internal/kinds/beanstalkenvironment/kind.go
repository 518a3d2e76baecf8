// Package beanstalkenvironment is the kind beanstalk-environment: whether an AWS Elastic Beanstalk environment launches its
// instances with IMDSv1 disabled.
//
// It owns how an environment is read and how its one option for the metadata service is set. What the environment operates
// (its Auto Scaling groups, their templates and instances) is never written here or elsewhere: Beanstalk changes them by
// itself, and replaces the instances, when the option changes. Until it has finished, the deployed settings are those of
// before and the environment is settling.
package beanstalkenvironment

import (
	"fmt"
	"regexp"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// VerbSetOption sets or removes the option DisableIMDSv1.
const VerbSetOption = "set-option"

// FieldDisableV1 is the state's one field: "true" or "false"; absent where the option has no value, so that the platform's
// default holds.
const FieldDisableV1 = "DisableIMDSv1"

// namespace is where the option stands (developer guide, "General options for all environments").
const namespace = "aws:autoscaling:launchconfiguration"

// AttrApplication is the name of the environment's application; AttrPlatformARN that of its platform version.
const (
	AttrApplication = "application"
	AttrPlatformARN = "platform-arn"
)

const (
	actionDescribe  = "elasticbeanstalk:DescribeEnvironments"
	actionSettings  = "elasticbeanstalk:DescribeConfigurationSettings"
	actionResources = "elasticbeanstalk:DescribeEnvironmentResources"
	actionTags      = "elasticbeanstalk:ListTagsForResource"
	actionUpdate    = "elasticbeanstalk:UpdateEnvironment"
)

// Kind describes Elastic Beanstalk environments.
func Kind() kind.Kind {
	const resource = "arn:{partition}:elasticbeanstalk:{region}:{account}:environment/*"
	return kind.Kind{
		Name: inventory.KindBeanstalk,
		Doc: "AWS Elastic Beanstalk environments: the option DisableIMDSv1, which decides the metadata options of everything " +
			"that an environment launches. Setting it replaces the environment's instances, by rolling or immutable updates as " +
			"the environment is configured. There is no option for a hop limit. Beanstalk carries an update out with the " +
			"caller's permissions, unless the environment has an operations role: the role that writes then needs what the " +
			"managed policy AdministratorAccess-AWSElasticBeanstalk allows.",
		Manner: assess.Manner{Role: assess.RoleLauncher, Metric: true},
		Reads: []kind.Action{
			{Name: actionDescribe, Resource: "*"},
			{Name: actionSettings, Resource: resource},
			{Name: actionResources, Resource: resource},
			{Name: actionTags, Resource: resource},
		},
		Writes: []kind.Action{{Name: actionUpdate, Resource: resource}},
		Verbs: []kind.Verb{{
			Name: VerbSetOption, Class: plan.ClassStart, Disruption: kind.DisruptsReplace, Undo: kind.UndoFull,
			Residue: "a group that had a launch configuration keeps the launch template that Beanstalk made in its place",
			Calls: map[string]int{
				actionDescribe: 2, actionSettings: 2, actionResources: 2, actionTags: 2, actionUpdate: 1,
			},
		}},
		Propose:  propose,
		Commands: commands,
	}
}

func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	r, v := c.Resource, c.Verdict
	if v.Status != assess.Ready {
		return nil, nil
	}
	var needs []plan.Need
	if v.Want.Tokens == fleet.TokensRequired && r.Options().Tokens != fleet.TokensRequired {
		needs = append(needs, plan.Need{
			Ref: r.Ref, Action: VerbSetOption, Class: plan.ClassStart, Stage: plan.StageLaunch,
			Patch: fleet.State{FieldDisableV1: "true"}, For: []fleet.Ref{r.Ref},
			Why: "what the environment launches allows IMDSv1",
		})
	}
	if v.Want.HopLimit == 0 {
		return needs, nil
	}
	return needs, []plan.Manual{{
		Ref: r.Ref, Name: r.Name,
		Reason: fmt.Sprintf("a rule wants the hop limit %d, and Elastic Beanstalk has no option for it", v.Want.HopLimit),
		Remedy: fmt.Sprintf("Set it in the application's source, in a file .ebextensions/imds.config that overrides the launch "+
			"template of the environment: Resources.AWSEBEC2LaunchTemplate.Properties.LaunchTemplateData.MetadataOptions."+
			"HttpPutResponseHopLimit: %d; then deploy the application, which replaces the instances.", v.Want.HopLimit),
	}}
}

var environmentID = regexp.MustCompile(`^e-[a-z0-9]{10}$`)

func commands(w kind.Write) []string {
	value, set, ok := change(w)
	if !ok || !environmentID.MatchString(w.ID) {
		return nil
	}
	option := "Namespace=" + namespace + ",OptionName=" + FieldDisableV1
	args := []string{"--environment-id", w.ID, "--options-to-remove", option}
	if set {
		args = []string{"--environment-id", w.ID, "--option-settings", option + ",Value=" + value}
	}
	return []string{kind.Command(w.Place, "elasticbeanstalk", "update-environment", args...)}
}

// change tells what the write makes of the option: a value that is set, or none. It is not ok where the write changes
// nothing, or more than the option.
func change(w kind.Write) (value string, set, ok bool) {
	changes := fleet.Diff(w.Before, w.After)
	if w.Verb != VerbSetOption || len(changes) != 1 || changes[0].Field != FieldDisableV1 {
		return "", false, false
	}
	value, set = w.After[FieldDisableV1]
	return value, set, !set || value == "true" || value == "false"
}
