// Package batchenvironment is the kind batch-environment: from which launch template, and which version of it, AWS Batch
// launches the instances of a managed compute environment.
//
// It owns how an environment is read and how its version selectors are written. An environment has no metadata options of its
// own: they are in the template (kind launch-template), and Batch copies what it finds there into a template and an Auto Scaling
// group that it makes itself and that nobody else may change. Writing a selector is an infrastructure update: Batch replaces
// all instances.
package batchenvironment

import (
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// VerbSetLaunchVersion makes an environment's selectors name other versions of the templates that it names already.
const VerbSetLaunchVersion = "set-launch-version"

const (
	actionDescribe  = "batch:DescribeComputeEnvironments"
	actionUpdate    = "batch:UpdateComputeEnvironment"
	actionTemplates = "ec2:DescribeLaunchTemplates"
)

// Fields of an environment's state, in the words of Batch's API.
const (
	prefixTemplate = "computeResources.launchTemplate."
	prefixOverride = prefixTemplate + "overrides." // followed by the index and a dot
	suffixID       = "launchTemplateId"
	suffixName     = "launchTemplateName"
	suffixVersion  = "version"
	suffixUserdata = "userdataType"
	suffixTypes    = "targetInstanceTypes" // joined by commas

	FieldTerminate = "updatePolicy.terminateJobsOnUpdate"
	FieldTimeout   = "updatePolicy.jobExecutionTimeoutMinutes"
	// FieldStatus is only there while an environment is INVALID: an update that ended so has not reached its target.
	FieldStatus = "status"
)

// Attributes besides those of package inventory.
const (
	AttrState         = "state"         // ENABLED or DISABLED
	AttrResources     = "resource-type" // EC2, SPOT or ECS_MANAGED_INSTANCES
	AttrStrategy      = "allocation-strategy"
	AttrServiceRole   = "service-role"  // ARN
	AttrOrchestration = "orchestration" // ECS or EKS
	AttrReason        = "status-reason"
)

// Kind describes compute environments of AWS Batch.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindBatch,
		Doc: "Managed compute environments of AWS Batch that launch EC2 instances: the launch templates that they name, in their " +
			"overrides too, by $Default, $Latest or number. Batch reads $Default and $Latest only when it builds the " +
			"infrastructure, so what it launches is what they meant at the last infrastructure update, which its API does not " +
			"tell: name a number. Setting a version is such an update and replaces all instances; running jobs are treated as " +
			"the update policy says. It takes the service-linked role and another allocation strategy than BEST_FIT. The Auto " +
			"Scaling group and the template that Batch makes are Batch's, and not named by its API. Environments on Fargate have " +
			"no instances, and those of an unmanaged environment are launched by its owner and found through its ECS cluster " +
			"(ecs-capacity): neither is listed.",
		Manner: assess.Manner{Role: assess.RoleLauncher, Metric: true},
		Reads: []kind.Action{
			{Name: actionDescribe, Resource: "*"},
			{Name: actionTemplates, Resource: "*"},
		},
		Writes: []kind.Action{
			{Name: actionUpdate, Resource: "arn:{partition}:batch:{region}:{account}:compute-environment/*"},
		},
		Verbs: []kind.Verb{{
			Name: VerbSetLaunchVersion, Class: plan.ClassStart, Disruption: kind.DisruptsReplace, Undo: kind.UndoFull,
			Residue: "all instances are replaced once more, and $Default or $Latest mean what they mean at that time",
			Calls:   map[string]int{actionDescribe: 2, actionUpdate: 1},
		}},
		Propose:  propose,
		Commands: commands,
	}
}
