package kind

import (
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// TagGroup is the tag by which an instance names its Auto Scaling group. Only AWS can set tags that begin with "aws:".
const TagGroup = "aws:autoscaling:groupName"

// OwnerByTags tells who created a resource, from the tags that AWS services and tools leave, the nearest owner first:
// an instance of a group that a CloudFormation stack made belongs to the group. Elastic Beanstalk is the one owner that
// is always Managed; what a service says of itself (Operator.Managed) comes from elsewhere.
func OwnerByTags(tags map[string]string) fleet.Owner {
	for _, rule := range ownerTags() {
		value, ok := tags[rule.key]
		if !ok || rule.value != "" && !strings.EqualFold(value, rule.value) {
			continue
		}
		name := value
		if rule.value != "" {
			name = ""
		}
		return fleet.Owner{Type: rule.owner, Name: name, Managed: rule.owner == fleet.OwnerBeanstalk}
	}
	return fleet.Owner{}
}

type ownerTag struct {
	key   string
	value string // empty: any, and it is the owner's name
	owner string
}

func ownerTags() []ownerTag {
	return []ownerTag{
		{"elasticbeanstalk:environment-name", "", fleet.OwnerBeanstalk},
		{"eks:nodegroup-name", "", fleet.OwnerEKS},
		{"karpenter.sh/nodepool", "", fleet.OwnerKarpenter},
		{"karpenter.sh/provisioner-name", "", fleet.OwnerKarpenter}, // before Karpenter 0.32
		{"AWSBatchServiceTag", "batch", fleet.OwnerBatch},
		{"aws:ecs:clusterName", "", fleet.OwnerECS},
		{TagGroup, "", fleet.OwnerAutoScaling},
		{"aws:cloudformation:stack-name", "", fleet.OwnerCloudFormation},
		{"terraform", "true", fleet.OwnerTerraform},
		{"Terraform", "true", fleet.OwnerTerraform},
		{"ManagedBy", "terraform", fleet.OwnerTerraform},
		{"managed-by", "terraform", fleet.OwnerTerraform},
		{"managed_by", "terraform", fleet.OwnerTerraform},
	}
}
