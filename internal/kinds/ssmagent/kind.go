// Package ssmagent is the kind ssm-agent: what Systems Manager knows of its agent on an instance.
//
// It owns how agents are read and nothing else. An agent carries no metadata option. Its version says whether the agent itself
// calls IMDSv1: before 3.0.431.0 it asks v1 first and drowns the metric, so that knowing the version keeps an application from
// being blamed for it (https://github.com/aws/amazon-ssm-agent/issues/319). This kind writes nothing; agents are updated by
// Systems Manager.
package ssmagent

import (
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

const actionDescribe = "ssm:DescribeInstanceInformation"

// Fields of the state, in the words of Systems Manager. A field that an agent has not reported yet is absent.
const (
	FieldVersion         = "AgentVersion"
	FieldPing            = "PingStatus"
	FieldPlatformType    = "PlatformType"
	FieldPlatform        = "PlatformName"
	FieldPlatformVersion = "PlatformVersion"
)

// Kind describes the agents of Systems Manager.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindSSMAgent,
		Doc: "SSM agents that report to Systems Manager: which version runs on which instance, on which platform, and whether it is " +
			"connected. An agent before 3.0.431.0 calls IMDSv1 by itself, whatever the application does. Machines outside of EC2 " +
			"(mi-) are listed and belong to no instance; stopped instances are not listed. Nothing is written here: the document " +
			"AWS-UpdateSSMAgent updates agents.",
		Manner: assess.Manner{Role: assess.RoleFact},
		// Service Authorization Reference, "AWS Systems Manager": the action takes no resource.
		Reads: []kind.Action{{Name: actionDescribe, Resource: "*"}},
	}
}
