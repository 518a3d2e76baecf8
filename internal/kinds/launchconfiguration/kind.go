// Package launchconfiguration is the kind launch-configuration: what the launch configurations of a place tell the launches
// of their Auto Scaling groups, and the launch template that replaces one.
//
// It owns how launch configurations are read, how one is written anew as a launch template (content.go), and which of them
// a plan replaces (propose.go). A launch configuration never changes: its state is its metadata options, and the template that
// names it in the tag imdsctl:replaces. An interrupted creation leaves at most one template that nobody launches from, with
// the attempt's marker in another tag, by which Find recognises it.
package launchconfiguration

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// VerbCreateTemplate makes a launch template equal to the launch configuration in everything but the metadata options. Its
// parameters are those options by field name; what they leave out is as the launch configuration has it, and tokens are
// required in any case.
const VerbCreateTemplate = "create-template"

// OutputTemplate is the id of the template that was made.
const OutputTemplate = "TemplateId"

// FieldTemplate of the state is the id of the launch template that replaces the launch configuration; of several, which
// somebody else must have made, all ids, sorted and joined by commas. It is absent where there is none.
const FieldTemplate = "Template"

// attrHindrance is an attribute: why no launch template can be made to launch the same.
const attrHindrance = "not-a-template"

// Tags of a template that was made: the launch configuration it replaces, and the attempt that made it.
const (
	tagReplaces = "imdsctl:replaces"
	tagMarker   = "imdsctl:marker"
)

const (
	actionConfigurations = "autoscaling:DescribeLaunchConfigurations"
	actionGroups         = "autoscaling:DescribeAutoScalingGroups"
	actionTemplates      = "ec2:DescribeLaunchTemplates"
	actionVersions       = "ec2:DescribeLaunchTemplateVersions"
	actionCreate         = "ec2:CreateLaunchTemplate"
	actionDelete         = "ec2:DeleteLaunchTemplate"
)

// Kind describes launch configurations.
func Kind() kind.Kind {
	const arn = "arn:{partition}:ec2:{region}:{account}:launch-template/*"
	return kind.Kind{
		Name: inventory.KindLaunchConfiguration,
		Doc: "Launch configurations, from which Auto Scaling groups launched before there were launch templates. They can " +
			"neither be changed nor, in newer accounts, be made. So a launch template is made that is equal in everything else and " +
			"requires tokens, compared with its source, and then named by the groups. The launch configuration stays.",
		Manner: assess.Manner{Role: assess.RoleSource, Metric: true},
		Reads: []kind.Action{
			{Name: actionConfigurations, Resource: "*"},
			{Name: actionGroups, Resource: "*"},
			{Name: actionTemplates, Resource: "*"},
			{Name: actionVersions, Resource: "*"},
		},
		Writes: []kind.Action{
			{Name: actionCreate, With: []string{"ec2:CreateTags"}, Resource: arn},
			{Name: actionDelete, Resource: arn},
		},
		Verbs: []kind.Verb{{
			Name: VerbCreateTemplate, Class: plan.ClassCreate, Disruption: kind.DisruptsNothing, Undo: kind.UndoFull,
			Outputs: []string{OutputTemplate},
			Calls:   map[string]int{actionConfigurations: 3, actionTemplates: 2, actionVersions: 1, actionCreate: 1},
			Checks:  map[string]int{actionDelete: 1},
			DryRun:  map[string]int{actionConfigurations: 1, actionCreate: 1},
		}},
		Propose:  propose,
		Commands: commands,
	}
}

var (
	templateID = regexp.MustCompile(`^lt-[0-9a-f]{8,17}$`)
	// idOrOutput is a template as a plan may have it: known, or the output of an earlier change.
	idOrOutput = regexp.MustCompile(`^(lt-[0-9a-f]{8,17}|\$\{c-[0-9a-f]{12}\.TemplateId\})$`)
	// unnamed is what the name of a template cannot hold.
	unnamed = regexp.MustCompile(`[^a-zA-Z0-9()./_-]`)
)

// templateName is the name of the template that replaces a launch configuration. EC2 takes 3 to 128 characters, and each name
// once: the marker keeps the name of a template that was removed again from being in the way of the next.
func templateName(configuration, marker string) string {
	sum := sha256.Sum256([]byte(configuration + "\n" + marker))
	name := unnamed.ReplaceAllString(configuration, "-")
	return name[:min(len(name), 100)] + "-v2-" + hex.EncodeToString(sum[:5])
}

// commands makes the template out of what the launch configuration says at that moment: the state has only a part of it.
func commands(w kind.Write) []string {
	if w.ID == "" || w.Verb != VerbCreateTemplate {
		return nil
	}
	if w.Revert {
		id := w.Made[OutputTemplate]
		if id == "" { // before anything was made it is what the plan calls it
			id = w.Before[FieldTemplate]
		}
		if !idOrOutput.MatchString(id) {
			return nil
		}
		return []string{kind.Command(w.Place, "ec2", "delete-launch-template", "--launch-template-id", id)}
	}
	o := fleet.State(w.Params).Options()
	o.Tokens = fleet.TokensRequired
	read := kind.Command(w.Place, "autoscaling", "describe-launch-configurations", "--launch-configuration-names", w.ID,
		"--query", "LaunchConfigurations[0]", "--output", "json")
	return []string{kind.Command(w.Place, "ec2", "create-launch-template", "--launch-template-name", templateName(w.ID, w.Marker),
		"--tag-specifications", tagSpecification(w), "--launch-template-data") +
		` "$(` + read + " | jq -c " + kind.Quote(program(o)) + `)"`}
}

// tagSpecification is in JSON, because a name may hold what the CLI's own form takes for punctuation.
func tagSpecification(w kind.Write) string {
	tags := []map[string]string{{"Key": tagReplaces, "Value": w.ID}}
	if w.Marker != "" {
		tags = append(tags, map[string]string{"Key": tagMarker, "Value": w.Marker})
	}
	b, err := json.Marshal([]any{map[string]any{"ResourceType": "launch-template", "Tags": tags}})
	if err != nil { // texts always marshal
		return ""
	}
	return string(b)
}

// program is jq's: it turns a launch configuration into launch template data, as request does.
func program(o fleet.Options) string {
	options := make([]string, 0, 5)
	for _, field := range []string{fleet.FieldTokens, fleet.FieldEndpoint, fleet.FieldHopLimit, fleet.FieldIPv6, fleet.FieldTags} {
		value, ok := o.State()[field]
		switch {
		case !ok:
		case field == fleet.FieldHopLimit:
			options = append(options, field+":"+value)
		default:
			options = append(options, field+":"+strconv.Quote(value))
		}
	}
	return `. as $c|{ImageId,InstanceType,KeyName,UserData,KernelId,RamDiskId:.RamdiskId,EbsOptimized,` +
		`Monitoring:.InstanceMonitoring,` +
		`BlockDeviceMappings:(.BlockDeviceMappings|map(if .NoDevice then .NoDevice="" else del(.NoDevice) end)),` +
		`IamInstanceProfile:(.IamInstanceProfile|if .==null then null elif startswith("arn:") then {Arn:.} else {Name:.} end),` +
		`InstanceMarketOptions:(.SpotPrice|if .==null then null else {MarketType:"spot",SpotOptions:{MaxPrice:.}} end),` +
		`Placement:(.PlacementTenancy|if .==null then null else {Tenancy:.} end),` +
		`NetworkInterfaces:(if .AssociatePublicIpAddress==null then null else [{DeviceIndex:0,` +
		`AssociatePublicIpAddress:.AssociatePublicIpAddress,Groups:.SecurityGroups}] end),` +
		`SecurityGroupIds:(if .AssociatePublicIpAddress==null then [.SecurityGroups[]|select(startswith("sg-"))] else [] end),` +
		`SecurityGroups:(if .AssociatePublicIpAddress==null then [.SecurityGroups[]|select(startswith("sg-")|not)] else [] end),` +
		`MetadataOptions:(($c.MetadataOptions//{})+{` + strings.Join(options, ",") + `})}` +
		`|with_entries(select(.value!=null and .value!="" and .value!=[]))`
}
