package attention

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/product"
)

// What remedies rest on.
const (
	linkSDKs         = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/use-a-supported-sdk-version-for-imdsv2.html"
	linkRetrieve     = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html"
	linkHops         = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html#imds-considerations"
	linkTransition   = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-transition-to-version-2.html"
	linkTrace        = "https://github.com/imdsctl/imdsctl/blob/main/docs/trace.md"
	linkPodIdentity  = "https://docs.aws.amazon.com/eks/latest/userguide/pod-identities.html"
	linkIRSA         = "https://docs.aws.amazon.com/eks/latest/userguide/iam-roles-for-service-accounts.html"
	linkTaskRole     = "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html"
	linkSSMAgent     = "https://docs.aws.amazon.com/systems-manager/latest/userguide/ssm-agent-automatic-updates.html"
	linkAmazonLinux1 = "https://aws.amazon.com/amazon-linux-ami/faqs/"
	linkMetrics      = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_metrics_with_cloudwatch.html"
)

// remedy writes title, fix and evidence of an item about a caller.
func (x *explanation) remedy(i *Item, c *caller) {
	i.Versions, i.First = c.versions, c.verdict.First
	if c.detail == "" {
		i.Title = c.title() + " " + manner(c.verdict.Judgement)
	}
	if c.verdict.Source != "" {
		i.Links = append(i.Links, c.verdict.Source)
	}
	switch i.Cause {
	case SSMAgent:
		x.updateAgent(i, c)
	case HopLimitLow, FallsBack:
		i.Title = c.title() + " speaks IMDSv2, and got its credentials by IMDSv1"
		x.reach(i)
	case CredentialProxy:
		i.Fix = cmp.Or(c.verdict.Fix, upgrade(c))
		i.Steps = append(i.Steps, "better: give each pod its own role by EKS Pod Identity or IRSA, and remove the proxy")
		i.Links = append(i.Links, linkPodIdentity, linkIRSA)
	case RawCall:
		i.Title = cmp.Or(c.detail, c.title()) + " calls the metadata service without a token"
		i.Fix = "Have it ask for a token first, and send it with each request."
		i.Links = append(i.Links, linkRetrieve)
	case UnknownCaller:
		x.unclear(i, c)
	default:
		i.Fix = cmp.Or(c.verdict.Fix, upgrade(c))
		if len(i.Links) == 0 {
			i.Links = append(i.Links, linkSDKs)
		}
	}
	if c.verdict.Judgement == product.Able {
		i.Because = append(i.Because, "its version can speak IMDSv2, and does not by itself")
	}
	if d := c.decides; c.below.First != "" && d.Product != c.ID {
		i.Steps = append(i.Steps, fmt.Sprintf("its %s has to be %s or later: see that nothing pins an older one", d.Product, c.below.First))
	}
	x.cite(i, c.findings)
}

// manner says how a version speaks.
func manner(j product.Judgement) string {
	switch j {
	case product.NoFix:
		return "knows only IMDSv1, and no version of it speaks IMDSv2"
	case product.Able:
		return "tries IMDSv1 first"
	case product.Speaks:
		return "speaks IMDSv2"
	case product.Unclear:
		return "calls IMDSv1"
	default:
		return "knows only IMDSv1"
	}
}

// upgrade is the remedy where the table has no words of its own.
func upgrade(c *caller) string {
	switch {
	case c.verdict.First != "":
		return fmt.Sprintf("Upgrade %s to %s or later.", c.Name, c.verdict.First)
	case c.verdict.Judgement == product.NoFix:
		return fmt.Sprintf("Replace %s: no version of it speaks IMDSv2.", c.Name)
	default:
		return fmt.Sprintf("Upgrade %s to a version that speaks IMDSv2.", c.Name)
	}
}

func (x *explanation) updateAgent(i *Item, c *caller) {
	first := cmp.Or(c.verdict.First, "a current version")
	i.Title = strings.TrimSpace("the SSM agent "+few(c.versions, 3)) + " calls IMDSv1 by itself"
	i.Fix = fmt.Sprintf("Update the SSM agent to %s or later; this is no work for the application.", first)
	i.Steps = append(i.Steps, "have Systems Manager do it: the document AWS-UpdateSSMAgent, or its automatic update for all managed nodes",
		"images that people make keep the agent they were made with: update it there too")
	i.Links = append(i.Links, linkSSMAgent)
	if x.w.verdict.Basis.Calls == 0 {
		i.Because = append(i.Because, "refused, it goes on with IMDSv2: nothing breaks")
	}
}

// reach says how a token gets to a program in a container, or the program needs none.
func (x *explanation) reach(i *Item) {
	h := x.hops()
	c := x.containers()
	switch {
	case h.Low():
		i.Fix = fmt.Sprintf("Raise the hop limit to %d (it is %d), so that tokens reach its containers; then restart what runs in them.", h.Needed, h.Now)
		i.Because = append(i.Because, "the hop limit is too low: "+h.Why)
	case c.Runtime != "":
		i.Fix = "Find what keeps tokens from its containers, or give them credentials of their own."
		i.Because = append(i.Because, fmt.Sprintf("its hop limit (%d) suffices for what is known of its containers", hopsNow(h)),
			"a proxy in between, another bridge, or a process that started before the hop limit was raised keep a token away")
	default:
		i.Fix = "Find what stands between it and the metadata service: a container whose token has a hop too many, a proxy, a firewall."
		i.Because = append(i.Because, "no containers were recognised on its hosts, which proves nothing")
	}
	switch c.Runtime {
	case "eks", "kubernetes":
		i.Steps = append(i.Steps, "or give the pod a role of its own by EKS Pod Identity or IRSA: it then needs no metadata service")
		i.Links = append(i.Links, linkPodIdentity, linkIRSA)
	case "ecs", "batch":
		i.Steps = append(i.Steps, "or give the task a role of its own: it then needs no metadata service")
		i.Links = append(i.Links, linkTaskRole)
	default:
		i.Steps = append(i.Steps, "or give the container a role of its own: an ECS task role, EKS Pod Identity, IRSA")
		i.Links = append(i.Links, linkTaskRole, linkPodIdentity)
	}
	if h.Low() && h.Rule != "" {
		i.Steps = append(i.Steps, "`imdsctl plan` raises it, in a stage of its own, once nothing else keeps the workload: "+h.Rule)
	} else if h.Low() {
		i.Steps = append(i.Steps, "`hop_limit.default: auto` in the configuration gives such hosts the hop limit that they need")
	}
	i.Links = append(i.Links, linkHops)
}

// containers is what is known of the containers on the workload's hosts.
func (x *explanation) containers() inventory.Containers {
	for _, m := range x.w.members {
		if c := x.index.Containers(m); c.Runtime != "" {
			return c
		}
	}
	return inventory.Containers{}
}

// unclear is the remedy for a caller that a source named and the table cannot judge.
func (x *explanation) unclear(i *Item, c *caller) {
	switch {
	case c.detail != "":
		i.Title = c.title() + " calls IMDSv1; it is in no table of products"
		i.Fix = "Find the program that calls itself like this on its instances, and the SDK in it: an SDK that speaks IMDSv2 ends it."
	case len(c.versions) == 0:
		i.Fix = fmt.Sprintf("Find which version of %s runs there, and upgrade it to %s.", c.Name, cmp.Or(c.verdict.First, "one that speaks IMDSv2"))
	default:
		i.Fix = fmt.Sprintf("Ask the makers of %s which version speaks IMDSv2, and upgrade to it.", c.Name)
	}
	i.Steps = append(i.Steps, x.next()...)
	i.Links = append(i.Links, linkSDKs)
}

// change is the place where a service's setting is changed.
type change struct{ where, link string }

// placeOf says where the owner of a setting has it. Owners are named by tags, and by the kind of what operates a resource.
func placeOf(o fleet.Owner) change {
	name := cmp.Or(o.Name, "it")
	switch o.Type {
	case fleet.OwnerEKS:
		return change{"a version of " + name + "'s launch template that requires tokens, then the node group's update to it",
			"https://docs.aws.amazon.com/eks/latest/userguide/launch-templates.html"}
	case fleet.OwnerKarpenter:
		return change{"metadataOptions.httpTokens: required in the EC2NodeClass of " + name + "; Karpenter then replaces the nodes",
			"https://karpenter.sh/docs/concepts/nodeclasses/#specmetadataoptions"}
	case fleet.OwnerBeanstalk, inventory.KindBeanstalk:
		return change{"the environment's option DisableIMDSv1 (aws:autoscaling:launchconfiguration), set to true",
			"https://docs.aws.amazon.com/elasticbeanstalk/latest/dg/environments-cfg-ec2-imds.html"}
	case fleet.OwnerBatch, inventory.KindBatch:
		return change{"the launch template that the compute environment names, then an update of the environment",
			"https://docs.aws.amazon.com/batch/latest/userguide/launch-templates.html"}
	case fleet.OwnerEMR, inventory.KindEMR:
		return change{"a security configuration with MinimumInstanceMetadataServiceVersion 2, for the next cluster",
			"https://docs.aws.amazon.com/emr/latest/ManagementGuide/emr-create-security-configuration.html"}
	case fleet.OwnerParallel:
		return change{"Imds/ImdsSupport: v2.0 in the cluster's configuration, for the next cluster",
			"https://docs.aws.amazon.com/parallelcluster/latest/ug/cluster-configuration-file-v3.html"}
	case fleet.OwnerECS:
		return change{"the capacity provider's launch settings, or the launch template of its group",
			"https://docs.aws.amazon.com/AmazonECS/latest/developerguide/managed-instances-capacity-providers-concept.html"}
	case fleet.OwnerCloud9:
		return change{"the development environment: replace it by a new one", linkTransition}
	default:
		return change{"the settings of " + strings.TrimSpace(o.String()) + " in its own service", linkTransition}
	}
}
