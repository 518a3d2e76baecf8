// Package spotfleet is the kind spot-fleet: from which launch templates, and which versions of them, a Spot Fleet request
// will launch; or that it launches from specifications of its own.
//
// It owns how a request is read and how one of its version selectors is written. A request with launch specifications
// cannot say metadata options at all: its launches get what the account's default or their image says, and only a new
// request can change that. EC2 replaces a request's launch template configurations as a whole, so that a write sends back
// what it has just read, with nothing but versions changed.
package spotfleet

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

// VerbSetLaunchVersion makes one of a request's selectors name another version of the template it names already.
const VerbSetLaunchVersion = "set-launch-version"

const (
	actionDescribe  = "ec2:DescribeSpotFleetRequests"
	actionTemplates = "ec2:DescribeLaunchTemplates" // of requests that name theirs by name
	actionModify    = "ec2:ModifySpotFleetRequest"
)

// Fields of a request's state: one template for each launch template configuration, or one image for each launch
// specification, by their place in the list.
const (
	prefixConfig  = "LaunchTemplateConfigs." // followed by the index
	suffixID      = ".LaunchTemplateId"
	suffixName    = ".LaunchTemplateName" // only where no template of the name is there
	suffixVersion = ".Version"
	prefixInline  = "LaunchSpecifications." // followed by the index
	suffixImage   = ".ImageId"
)

// Kind describes Spot Fleet requests.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindSpotFleet,
		Doc: "Spot Fleet requests that have not been cancelled: the launch templates that they launch from, each by $Default, " +
			"$Latest or number. EC2 makes a number of $Default and $Latest when it takes a request, so that it does not move with " +
			"its template, and only numbers are written here. Only a request of type maintain can be modified; what runs is not " +
			"touched by that. A request with launch specifications of its own cannot say metadata options: what it launches gets the account's default, or " +
			"what its image says, and another request must replace it.",
		Manner: assess.Manner{Role: assess.RoleLauncher, Metric: true},
		Reads: []kind.Action{
			{Name: actionDescribe, Resource: "*"},
			{Name: actionTemplates, Resource: "*"},
		},
		Writes: []kind.Action{{
			// EC2 User Guide, "Spot Fleet permissions": who lets a fleet launch must be able to.
			Name: actionModify, With: []string{"ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"},
			Resource: "arn:{partition}:ec2:{region}:{account}:spot-fleet-request/*",
		}},
		Verbs: []kind.Verb{{
			Name: VerbSetLaunchVersion, Class: plan.ClassSet, Disruption: kind.DisruptsNothing, Undo: kind.UndoFull,
			Calls: map[string]int{actionDescribe: 3, actionTemplates: 3, actionModify: 1},
		}},
		Propose:  propose,
		Commands: commands,
	}
}

// propose has manual steps only: what a request launches from a template is changed there, by that kind. What has no
// template, or names a number and cannot be modified, must be requested anew.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	r := c.Resource
	if c.Verdict.Status == assess.Done || c.Verdict.Status == assess.Exempt {
		return nil, nil
	}
	manual := func(reason, remedy string) ([]plan.Need, []plan.Manual) {
		return nil, []plan.Manual{{Ref: r.Ref, Name: r.Name, Reason: reason, Remedy: remedy}}
	}
	if inline(r.State) {
		if r.Owner.Managed {
			return manual("its launch specifications cannot say metadata options, so that IMDSv1 is allowed by what the account "+
				"or the image leaves open", "Change the setting in "+r.Owner.String()+", which operates the request.")
		}
		return manual("its launch specifications cannot say metadata options, so that IMDSv1 is allowed by what the account or "+
			"the image leaves open", inlineRemedy(r))
	}
	if c.Verdict.Status != assess.Ready || r.Attrs[inventory.AttrRequestType] == typeMaintain {
		return nil, nil
	}
	for _, l := range r.Links {
		template := c.Index.Resource(l.To)
		if l.Relation != inventory.LaunchesFrom || template == nil {
			continue
		}
		o, read := template.Launch[l.Selector] // of a number; the others move with their template
		if read && o.Tokens != fleet.TokensRequired && o.Endpoint != fleet.Disabled {
			return manual(fmt.Sprintf("the request launches from version %s of %s, which still allows IMDSv1, and a request of "+
				"type %s cannot be modified", l.Selector, cmp.Or(template.Name, l.To.ID), r.Attrs[inventory.AttrRequestType]),
				templateRemedy(r.Ref))
		}
	}
	return nil, nil
}

// inlineRemedy tells how a request is replaced by one of a launch template; its instances run on.
func inlineRemedy(r *inventory.Resource) string {
	image := cmp.Or(r.Attrs[inventory.AttrImage], "IMAGE")
	data := `{"ImageId":"` + image + `","MetadataOptions":{"HttpTokens":"required"}}`
	return "Move what each launch specification says into a launch template that requires tokens, and request the fleet anew: " +
		export(r.Ref) + "; " +
		kind.Command(r.Ref.Place, "ec2", "create-launch-template", "--launch-template-name", "from-"+r.Ref.ID,
			"--launch-template-data", data) + " (add key pair, profile, security groups and user data); in request.json, put " +
		`"LaunchTemplateConfigs":[{"LaunchTemplateSpecification":{"LaunchTemplateName":"from-` + r.Ref.ID +
		`","Version":"$Default"}}] in the place of LaunchSpecifications, with types and subnets as Overrides; ` + replace(r.Ref)
}

// templateRemedy tells how a request is replaced by one of another version of its template.
func templateRemedy(ref fleet.Ref) string {
	return "Request the fleet anew from a version that requires tokens: " + export(ref) +
		"; set the new Version in request.json; " + replace(ref)
}

func export(ref fleet.Ref) string {
	return kind.Command(ref.Place, "ec2", "describe-spot-fleet-requests", "--spot-fleet-request-ids", ref.ID, "--output",
		"json", "--query", "SpotFleetRequestConfigs[0].SpotFleetRequestConfig") +
		" | jq 'del(.FulfilledCapacity,.OnDemandFulfilledCapacity,.ClientToken)' > request.json"
}

func replace(ref fleet.Ref) string {
	return kind.Command(ref.Place, "ec2", "request-spot-fleet", "--spot-fleet-request-config", "file://request.json") + "; " +
		kind.Command(ref.Place, "ec2", "cancel-spot-fleet-requests", "--spot-fleet-request-ids", ref.ID,
			"--no-terminate-instances")
}

var (
	requestID = regexp.MustCompile(`^sfr-[0-9a-f-]{36}$`)
	// number is a version as it is written; in a plan also a reference to a version that is not made yet.
	number = regexp.MustCompile(`^([1-9][0-9]{0,18}|\$\{c-[0-9a-f]{12}\.Version\})$`)
)

// commands read the configurations, edit them with jq and send them back, since they are replaced as a whole and hold more
// than the state does. A template is named by its id or its name, not both.
func commands(w kind.Write) []string {
	fields := changedVersions(w)
	if len(fields) == 0 || !requestID.MatchString(w.ID) {
		return nil
	}
	edits := []string{"map(if .LaunchTemplateSpecification.LaunchTemplateId then del(.LaunchTemplateSpecification." +
		"LaunchTemplateName) else . end)"}
	for _, field := range fields {
		n, ok := configIndex(field)
		if !ok || !number.MatchString(w.After[field]) {
			return nil
		}
		edits = append(edits, fmt.Sprintf(".[%d].LaunchTemplateSpecification.Version=%q", n, w.After[field]))
	}
	read := kind.Command(w.Place, "ec2", "describe-spot-fleet-requests", "--spot-fleet-request-ids", w.ID, "--output", "json",
		"--query", "SpotFleetRequestConfigs[0].SpotFleetRequestConfig.LaunchTemplateConfigs")
	return []string{kind.Command(w.Place, "ec2", "modify-spot-fleet-request", "--spot-fleet-request-id", w.ID,
		"--launch-template-configs") + ` "$(` + read + " | jq -c " + kind.Quote(strings.Join(edits, "|")) + `)"`}
}

// changedVersions lists the version fields that the write changes, to numbers. Anything else that differs is not for this verb.
func changedVersions(w kind.Write) []string {
	var out []string
	for _, c := range fleet.Diff(w.Before, w.After) {
		if !strings.HasSuffix(c.Field, suffixVersion) || !c.HadBefore || !c.HasAfter || !number.MatchString(c.After) {
			return nil
		}
		out = append(out, c.Field)
	}
	return out
}
