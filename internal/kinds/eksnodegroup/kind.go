// Package eksnodegroup is the kind eks-nodegroup: from which version of a person's launch template EKS starts the nodes of a
// managed node group.
//
// It owns how node groups are read and how one is moved to another version of the template it was made with. EKS launches from
// a copy of its own, and operates the Auto Scaling group: neither is ever written. A move replaces all nodes, which EKS accepts
// at once and completes within minutes or hours. It sends the versions of Kubernetes and of the node image that the node group
// has, because without them EKS would move both to the newest, from where there is no way back. A node group without a
// template of its own is reported with the steps that give it one.
package eksnodegroup

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// VerbSetLaunchVersion moves a node group to another version of the launch template it has.
const VerbSetLaunchVersion = "set-launch-version"

const (
	actionClusters = "eks:ListClusters"
	actionList     = "eks:ListNodegroups"
	actionDescribe = "eks:DescribeNodegroup"
	actionUpdate   = "eks:UpdateNodegroupVersion"
)

// Fields of a node group's state. The template's are absent where EKS has made its own alone.
const (
	FieldTemplate        = "LaunchTemplate.Id"
	FieldTemplateVersion = "LaunchTemplate.Version" // a number, whatever was asked for
	FieldVersion         = "Version"                // of Kubernetes
	FieldReleaseVersion  = "ReleaseVersion"         // of the node image; of a custom image its id
)

// Attributes of this kind alone.
const (
	attrStatus  = "status" // of one that EKS does not update any more
	attrAMIType = "ami-type"
)

// Kind describes EKS managed node groups.
func Kind() kind.Kind {
	const nodegroups = "arn:{partition}:eks:{region}:{account}:nodegroup/*"
	return kind.Kind{
		Name: inventory.KindNodegroup,
		Doc: "EKS managed node groups: the version of the launch template they were made with. Moving one to another version " +
			"replaces its nodes, one after the other, and keeps the versions of Kubernetes and of the node image. A node group " +
			"that was made without a template has EKS's own, which is left alone: the way out is a new node group.",
		Manner: assess.Manner{Role: assess.RoleLauncher, Metric: true},
		Reads: []kind.Action{
			{Name: actionClusters, Resource: "*"},
			{Name: actionList, Resource: "arn:{partition}:eks:{region}:{account}:cluster/*"},
			{Name: actionDescribe, Resource: nodegroups},
		},
		Writes: []kind.Action{{
			// EKS refuses a template that the caller could not launch from (EKS user guide, "Troubleshoot problems with
			// clusters and nodes": "You are not authorized to launch instances with this launch template").
			Name: actionUpdate, With: []string{"ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"}, Resource: nodegroups,
		}},
		Verbs: []kind.Verb{{
			Name: VerbSetLaunchVersion, Class: plan.ClassStart, Disruption: kind.DisruptsReplace, Undo: kind.UndoFull,
			Residue: "all nodes are replaced once more, and EKS's own copy of the template keeps the versions it got",
			Calls:   map[string]int{actionDescribe: 3, actionUpdate: 1},
		}},
		Propose:  propose,
		Commands: commands,
	}
}

// propose has manual steps only: a node group with a template is moved by the plan for that template.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	r := c.Resource
	if r.State[FieldTemplate] != "" || c.Verdict.Status == assess.Done || c.Verdict.Status == assess.Exempt {
		return nil, nil
	}
	cluster, name, ok := split(r.Ref.ID)
	if !ok {
		return nil, nil
	}
	m := plan.Manual{
		Ref: r.Ref, Name: r.Name,
		Reason: "the node group was made without a launch template of its own; EKS owns the one it launches from, and cannot " +
			"be told of another",
		Remedy: "Make a node group with a launch template of your own beside it, let the workloads move, and delete this one. " +
			"Where the node group sets a disk size or remote access, say these in the template instead.",
		Commands: successor(r.Ref.Place, cluster, name, cmp.Or(c.Verdict.Want.HopLimit, containerHops)),
	}
	if r.Owner.Managed {
		m.Remedy, m.Commands = "Change the setting in "+r.Owner.String()+", which operates the node group.", nil
	}
	return nil, []plan.Manual{m}
}

// containerHops lets a container reach the metadata service through the one bridge of its node.
const containerHops = 2

// longestName is the most characters that a node group's name may have (EKS API reference, CreateNodegroup).
const longestName = 63

// successor are the commands that put a node group with a template in the place of one without. What the new one is told is
// read from the old one at that moment.
func successor(place fleet.Place, cluster, name string, hops int) []string {
	next := name[:min(len(name), longestName-len("-imdsv2"))] + "-imdsv2"
	template := cluster + "-" + next
	data := fmt.Sprintf(`{"MetadataOptions":{"HttpTokens":"required","HttpPutResponseHopLimit":%d}}`, hops)
	read := kind.Command(place, "eks", "describe-nodegroup", "--cluster-name", cluster, "--nodegroup-name", name,
		"--query", "nodegroup", "--output", "json")
	program := fmt.Sprintf(`{clusterName,subnets,nodeRole,scalingConfig,amiType,instanceTypes,capacityType,labels,taints,`+
		`updateConfig,nodeRepairConfig,version,releaseVersion,tags}+{nodegroupName:%q,launchTemplate:{name:%q,version:"1"}}`+
		`|del(..|nulls)`, next, template)
	return []string{
		kind.Command(place, "ec2", "create-launch-template", "--launch-template-name", template, "--launch-template-data", data),
		kind.Command(place, "eks", "create-nodegroup", "--cli-input-json") + ` "$(` + read + " | jq -c " + kind.Quote(program) + `)"`,
		kind.Command(place, "eks", "wait", "nodegroup-active", "--cluster-name", cluster, "--nodegroup-name", next),
		kind.Command(place, "eks", "delete-nodegroup", "--cluster-name", cluster, "--nodegroup-name", name),
	}
}

var (
	templateID = regexp.MustCompile(`^lt-[0-9a-f]{8,17}$`)
	// number is a version as a node group is given it; in a plan also a reference to one that is not made yet.
	number = regexp.MustCompile(`^([1-9][0-9]{0,18}|\$\{c-[0-9a-f]{12}\.Version\})$`)
	// release is a version of Kubernetes or of a node image.
	release = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]{0,99}$`)
)

// commands start the move and wait until it has ended, because EKS takes one at a time.
func commands(w kind.Write) []string {
	cluster, name, ok := split(w.ID)
	version := w.After[FieldTemplateVersion]
	if !ok || !moves(w) || !number.MatchString(version) || !templateID.MatchString(w.After[FieldTemplate]) {
		return nil
	}
	args := []string{
		"--cluster-name", cluster, "--nodegroup-name", name,
		"--launch-template", "id=" + w.After[FieldTemplate] + ",version=" + version,
	}
	if !custom(w.After) {
		if !release.MatchString(w.After[FieldVersion]) || !release.MatchString(w.After[FieldReleaseVersion]) {
			return nil
		}
		args = append(args, "--kubernetes-version", w.After[FieldVersion], "--release-version", w.After[FieldReleaseVersion])
	}
	return []string{
		kind.Command(w.Place, "eks", "update-nodegroup-version", args...),
		kind.Command(w.Place, "eks", "wait", "nodegroup-active", "--cluster-name", cluster, "--nodegroup-name", name),
	}
}

// moves tells whether the write changes the version of the template, and nothing else.
func moves(w kind.Write) bool {
	diff := fleet.Diff(w.Before, w.After)
	return len(diff) == 1 && diff[0].Field == FieldTemplateVersion && diff[0].HadBefore && diff[0].HasAfter
}

// custom tells whether the nodes boot from an image that the template names: EKS gives its id as the release, and refuses to
// be told one.
func custom(s fleet.State) bool { return strings.HasPrefix(s[FieldReleaseVersion], "ami-") }

// split takes an id apart. A cluster's name has no slash.
func split(id string) (cluster, name string, ok bool) {
	cluster, name, ok = strings.Cut(id, "/")
	return cluster, name, ok && cluster != "" && name != "" && !strings.Contains(name, "/")
}
