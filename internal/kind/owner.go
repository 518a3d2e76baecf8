package kind

import (
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// TagGroup is the tag by which an instance names its Auto Scaling group. Only AWS can set tags that begin with "aws:".
const TagGroup = "aws:autoscaling:groupName"

// FilterValue is the value of a filter of EC2 that stands for exactly s: in a filter a star and a question mark stand for other
// text, unless a backslash is before them (Amazon EC2 User Guide, "Find your Amazon EC2 resources").
func FilterValue(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`).Replace(s)
}

// OwnerByTags tells who created a resource, from the tags that AWS services and tools leave, the nearest owner first:
// an instance of a group that a CloudFormation stack made belongs to the group. What a service or a cluster's own controller
// makes and replaces is Managed; what a service says of itself (Operator.Managed) and what follows from references comes
// from elsewhere.
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
		return fleet.Owner{Type: rule.owner, Name: name, Managed: rule.managed}
	}
	return fleet.Owner{}
}

type ownerTag struct {
	key     string
	value   string // empty: any, and it is the owner's name
	owner   string
	managed bool
}

// ownerTags are in the order in which they are looked at. Sources: the user guides of Elastic Beanstalk ("Tagging resources"),
// EKS ("Managed node groups"), Karpenter ("NodePools"), Batch ("Tagging"), EMR ("Tag and categorize"), ParallelCluster
// ("AWS ParallelCluster tags") and Cloud9.
func ownerTags() []ownerTag {
	return []ownerTag{
		{"elasticbeanstalk:environment-name", "", fleet.OwnerBeanstalk, true},
		{"eks:nodegroup-name", "", fleet.OwnerEKS, true},
		{"karpenter.sh/nodepool", "", fleet.OwnerKarpenter, true},
		{"karpenter.sh/provisioner-name", "", fleet.OwnerKarpenter, true}, // before Karpenter 0.32
		{"karpenter.k8s.aws/cluster", "", fleet.OwnerKarpenter, true},     // its launch templates
		{"AWSBatchServiceTag", "batch", fleet.OwnerBatch, true},
		{"aws:elasticmapreduce:job-flow-id", "", fleet.OwnerEMR, true},
		{"parallelcluster:cluster-name", "", fleet.OwnerParallel, true},
		{"aws:cloud9:environment", "", fleet.OwnerCloud9, true},
		{"aws:ecs:clusterName", "", fleet.OwnerECS, false},
		{TagGroup, "", fleet.OwnerAutoScaling, false},
		{"aws:cloudformation:stack-name", "", fleet.OwnerCloudFormation, false},
		{"terraform", "true", fleet.OwnerTerraform, false},
		{"Terraform", "true", fleet.OwnerTerraform, false},
		{"ManagedBy", "terraform", fleet.OwnerTerraform, false},
		{"managed-by", "terraform", fleet.OwnerTerraform, false},
		{"managed_by", "terraform", fleet.OwnerTerraform, false},
	}
}
