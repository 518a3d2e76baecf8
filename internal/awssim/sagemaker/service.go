// Package sagemaker is the simulator's part of Amazon SageMaker AI that carries a minimum version of the metadata service:
// notebook instances, which can be stopped, updated and started again.
//
// It owns the notebook instances of a place. Their statuses follow the API's own rules: only one in service can be
// stopped, only a stopped one updated, and each passes through a status in between for as long as the world takes to
// settle. No metric counts what calls the metadata service there, and none does here.
package sagemaker

import (
	"slices"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Name is the service's name, and that of its section in a seed's region.
const Name = "sagemaker"

// Service declares notebook instances.
//
// SageMaker publishes no rates for these calls in tokens. The buckets are of a size that its accounts are known to get.
func Service() *core.Service {
	read, write := core.Bucket{Burst: 20, Refill: 10}, core.Bucket{Burst: 10, Refill: 2}
	act := func(handle func(*core.Call) error, names ...string) core.Action {
		return core.Action{
			Mutating: true, Bucket: write, Access: access, Handle: known(handle, append(names, "NotebookInstanceName")...),
		}
	}
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.JSON11}, Targets: []string{"SageMaker"},
		Actions: map[string]core.Action{
			"ListNotebookInstances": {
				Bucket: read, Handle: known(list, "MaxResults", "NextToken", "SortBy", "SortOrder", "NameContains", "StatusEquals"),
			},
			"DescribeNotebookInstance": {Bucket: read, Access: access, Handle: known(describe, "NotebookInstanceName")},
			"ListTags": {
				Bucket: read, Access: accessTags, Handle: known(listTags, "ResourceArn", "NextToken", "MaxResults"),
			},
			"UpdateNotebookInstance": act(update, "InstanceMetadataServiceConfiguration"),
			"StopNotebookInstance":   act(stop),
			"StartNotebookInstance":  act(start),
		},
		SeedPlace: seedPlace,
	}
}

// known refuses parameters that the simulator does not understand, so that none is silently without effect.
func known(handle func(*core.Call) error, names ...string) func(*core.Call) error {
	return func(c *core.Call) error {
		for _, name := range c.In.Names() {
			if !slices.Contains(names, name) {
				return validation("The parameter %s is not known to the simulator", name)
			}
		}
		return handle(c)
	}
}

// access needs the notebook instance. The minimum version that is asked for is a condition key (Service Authorization
// Reference, Amazon SageMaker AI).
func access(c *core.Call) []core.Access {
	name := c.In.Str("NotebookInstanceName")
	condition := map[string][]string{}
	if v := c.In.Get("InstanceMetadataServiceConfiguration").Str("MinimumInstanceMetadataServiceVersion"); v != "" {
		condition["sagemaker:minimuminstancemetadataserviceversion"] = []string{v}
	}
	if n := storeOf(c.Place).byName[name]; n != nil {
		for _, t := range n.tags {
			condition["aws:resourcetag/"+t.Key] = []string{t.Value}
			condition["sagemaker:resourcetag/"+t.Key] = []string{t.Value}
		}
	}
	return []core.Access{{Resource: arn(c.Place, name), Condition: condition}}
}

func accessTags(c *core.Call) []core.Access {
	return []core.Access{{Resource: c.In.Str("ResourceArn")}}
}

func validation(format string, args ...any) error {
	return wire.Errorf("ValidationException", format, args...)
}
