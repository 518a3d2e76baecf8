// Package imagebuilder is the kind image-builder: the metadata options of the instances on which EC2 Image Builder builds and
// tests images, in its infrastructure configurations.
//
// It owns how a configuration is read and how its options are written. An update is the whole configuration: what it leaves out
// is reset. It is therefore made of what AWS says of it at that moment, member by member, those included that this program does
// not know. Images that were built, and pipelines, are not touched: the next build takes the new options.
package imagebuilder

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// VerbSetOptions sets tokens and hop limit of a configuration. Its state has them under EC2's names; absent is what nobody
// said.
const VerbSetOptions = "set-options"

const (
	actionList   = "imagebuilder:ListInfrastructureConfigurations"
	actionGet    = "imagebuilder:GetInfrastructureConfiguration"
	actionUpdate = "imagebuilder:UpdateInfrastructureConfiguration"
)

// attrProfile is the name of the instance profile; Image Builder gives no ARN of it.
const attrProfile = "profile-name"

// Kind describes Image Builder's infrastructure configurations.
func Kind() kind.Kind {
	const configurations = "arn:{partition}:imagebuilder:{region}:{account}:infrastructure-configuration/*"
	return kind.Kind{
		Name: inventory.KindImageBuilder,
		Doc: "EC2 Image Builder's infrastructure configurations: the metadata options of the instances on which images are " +
			"built and tested. A build's instances live for minutes, so that no metric of theirs proves a configuration ready: " +
			"that takes a person's override. A change holds from the next build on, and touches no image.",
		Manner: assess.Manner{Role: assess.RoleLauncher},
		Reads: []kind.Action{
			{Name: actionList, Resource: "*"},
			{Name: actionGet, Resource: configurations},
		},
		Writes: []kind.Action{{
			// An update passes the role of the instance profile on, and looks at the topic and the hosts that a configuration
			// names (service authorization reference for Image Builder, dependent actions).
			Name: actionUpdate, Resource: configurations, With: []string{
				"iam:PassRole", "sns:Publish", "ec2:DescribeAvailabilityZones", "ec2:DescribeHosts", "resource-groups:GetGroup",
			},
		}},
		Verbs: []kind.Verb{{
			Name: VerbSetOptions, Class: plan.ClassSet, Disruption: kind.DisruptsNothing, Undo: kind.UndoFull,
			Calls: map[string]int{actionGet: 3, actionUpdate: 1},
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
	patch := fleet.State{}
	if v.Want.Tokens == fleet.TokensRequired && r.State[fleet.FieldTokens] != fleet.TokensRequired {
		patch[fleet.FieldTokens] = fleet.TokensRequired
	}
	if hop := strconv.Itoa(v.Want.HopLimit); v.Want.HopLimit != 0 && r.State[fleet.FieldHopLimit] != hop {
		patch[fleet.FieldHopLimit] = hop
	}
	if len(patch) == 0 {
		return nil, nil
	}
	return []plan.Need{{
		Ref: r.Ref, Action: VerbSetOptions, Class: plan.ClassSet, Stage: plan.StageLaunch, Patch: patch,
		Why: "the instances on which images are built and tested would allow IMDSv1",
	}}, nil
}

// resourceARN is a configuration's ARN: the pattern of the Image Builder API reference.
var resourceARN = regexp.MustCompile(`^arn:aws[a-z-]*:imagebuilder:[a-z0-9-]+:[0-9]{12}:infrastructure-configuration/[a-z0-9_-]+$`)

// readOnly are the members of a configuration that an update does not take.
func readOnly() []string { return []string{"arn", "name", "dateCreated", "dateUpdated", "tags"} }

// The member of a configuration that holds the options, and its own.
const (
	memberOptions  = "instanceMetadataOptions"
	memberTokens   = "httpTokens"
	memberHopLimit = "httpPutResponseHopLimit"
	memberARN      = "infrastructureConfigurationArn"
)

// commands read the configuration as it is at that moment, edit it with jq and send it back whole.
func commands(w kind.Write) []string {
	hops, hasHops := w.After[fleet.FieldHopLimit]
	tokens, hasTokens := w.After[fleet.FieldTokens]
	if !resourceARN.MatchString(w.ID) || !writes(w) || checked(w.After) != nil {
		return nil
	}
	edits := []string{"del(." + strings.Join(readOnly(), ",.") + ")", "." + memberARN + "=" + strconv.Quote(w.ID)}
	if hasTokens {
		edits = append(edits, "."+memberOptions+"."+memberTokens+"="+strconv.Quote(tokens))
	} else {
		edits = append(edits, "del(."+memberOptions+"."+memberTokens+")")
	}
	if hasHops {
		edits = append(edits, "."+memberOptions+"."+memberHopLimit+"="+hops)
	} else {
		edits = append(edits, "del(."+memberOptions+"."+memberHopLimit+")")
	}
	edits = append(edits, "if ."+memberOptions+"=={} then del(."+memberOptions+") else . end")
	read := kind.Command(w.Place, "imagebuilder", "get-infrastructure-configuration", "--infrastructure-configuration-arn", w.ID,
		"--query", "infrastructureConfiguration", "--output", "json")
	return []string{kind.Command(w.Place, "imagebuilder", "update-infrastructure-configuration", "--cli-input-json") +
		` "$(` + read + " | jq -c " + kind.Quote(strings.Join(edits, "|")) + `)"`}
}

// writes tells whether the write changes options that a configuration has, and nothing else.
func writes(w kind.Write) bool {
	diff := fleet.Diff(w.Before, w.After)
	return len(diff) > 0 && !slices.ContainsFunc(diff, func(c fleet.FieldChange) bool {
		return c.Field != fleet.FieldTokens && c.Field != fleet.FieldHopLimit
	})
}
