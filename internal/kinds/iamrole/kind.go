// Package iamrole is the kind iam-role: the roles whose credentials hosts get from the metadata service.
//
// It owns how the roles of an account are read, and which are kept: those in an instance profile, and those that a service which
// hands credentials to hosts may assume. What a role may do is reduced by package access while it is read, and only the
// reduction is kept; no text of a policy is. A role carries no metadata setting, so this kind writes nothing: it says how much
// is at stake where IMDSv1 is open.
package iamrole

import (
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

const actionDetails = "iam:GetAccountAuthorizationDetails"

// Fields of the state, in IAM's words.
const (
	FieldARN      = "Arn"
	FieldProfiles = "InstanceProfileList" // names, sorted and joined by commas
	FieldTrust    = "AssumeRolePolicyDocument.Service"
	FieldBoundary = "PermissionsBoundaryArn"
)

// Kind describes the roles of hosts.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindRole,
		Doc: "IAM roles whose credentials hosts get from the metadata service: those in an instance profile, and those that EC2, " +
			"AppStream or SageMaker may assume. They live once in an account. Their policies are read with the policies of the whole " +
			"account in one listing, and reduced to what matters if the credentials are stolen: administration, paths of escalation, " +
			"access to data, or narrow. It carries no metadata setting and nothing is written; it is one part of the risk of what " +
			"uses it ([risk.md](risk.md)).",
		Manner: assess.Manner{Role: assess.RoleFact, Risk: true},
		Lives:  kind.Account,
		Reads:  []kind.Action{{Name: actionDetails, Resource: "*"}},
	}
}
