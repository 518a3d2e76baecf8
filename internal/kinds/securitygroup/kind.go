// Package securitygroup is the kind security-group: the security groups that let everyone in.
//
// It owns how groups are read and what counts as everyone. Groups that are open to nobody but their own networks are not kept. A
// security group carries no metadata setting, so this kind writes nothing: it says which hosts the internet can reach, and with
// that how much is at stake where IMDSv1 is open.
package securitygroup

import (
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

const (
	actionDescribe = "ec2:DescribeSecurityGroups"
	actionEntries  = "ec2:GetManagedPrefixListEntries"
)

// Fields of the state.
const (
	FieldName = "GroupName"
	FieldVPC  = "VpcId"
	// FieldOpen is what of IpPermissions is open to everyone, as inventory.AttrOpen says it.
	FieldOpen = "IpPermissions.open"
)

// Kind describes security groups that are open to everyone.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindSecurityGroup,
		Doc: "EC2 security groups that let everyone in: by 0.0.0.0/0 or ::/0, by halves of these, or by a prefix list that holds " +
			"such a range, on which protocols and ports. Others are not kept. It carries no metadata setting and nothing is " +
			"written; it is one part of the risk of the hosts behind it ([risk.md](risk.md)).",
		Manner: assess.Manner{Role: assess.RoleFact, Risk: true},
		Reads: []kind.Action{
			{Name: actionDescribe, Resource: "*"},
			// A list may belong to another account, which shares it, or to AWS.
			{Name: actionEntries, Resource: "arn:{partition}:ec2:{region}:*:prefix-list/*"},
		},
	}
}
