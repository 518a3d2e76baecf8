// Package emrsecurityconfiguration is the kind emr-security-configuration: what the security configurations of Amazon EMR
// tell the instances of the clusters that name them.
//
// It owns how a configuration is read and which steps a person takes to replace one: EMR lets nobody change a security
// configuration, nor that of a cluster. Of a configuration's document it keeps what is about the metadata service and a
// hash of the whole, because the rest (keys, realms, locations) is nobody's business here. Clusters that name no security
// configuration launch with IMDSv1 allowed and are resources too, with ids that begin with "cluster/".
package emrsecurityconfiguration

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// Fields of the state, in the words of the document's InstanceMetadataServiceConfiguration.
const (
	FieldVersion  = "MinimumInstanceMetadataServiceVersion"
	FieldHopLimit = "HttpPutResponseHopLimit"
	// FieldConfiguration stands in the state of a cluster whose security configuration was deleted since.
	FieldConfiguration = "SecurityConfiguration"
)

// part is the part of the document that is read.
const part = "InstanceMetadataServiceConfiguration"

// Attributes.
const (
	// AttrClusters names the clusters that use a configuration and are not terminated: name and id, joined by commas.
	AttrClusters = "clusters"
	// AttrDocument is the SHA-256 of the document as EMR gives it, in hexadecimal.
	AttrDocument = "document-sha256"
	// AttrRelease is the release label of a cluster.
	AttrRelease = "release"
)

const (
	actionList         = "elasticmapreduce:ListSecurityConfigurations"
	actionDescribe     = "elasticmapreduce:DescribeSecurityConfiguration"
	actionListClusters = "elasticmapreduce:ListClusters"
	actionCluster      = "elasticmapreduce:DescribeCluster"
)

// Kind describes EMR security configurations.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindEMR,
		Doc: "Security configurations of Amazon EMR: the lowest version of the metadata service and the hop limit that the " +
			"instances of a cluster get, and clusters that have no security configuration and so allow IMDSv1. They cannot be " +
			"changed: a copy with the setting, and a new cluster with the copy, take their place. AWS's metric of v1 calls " +
			"cannot tell what a cluster of tomorrow runs, so that only a person can call one ready.",
		Manner: assess.Manner{Role: assess.RoleLauncher},
		Reads: []kind.Action{
			{Name: actionList, Resource: "*"},
			{Name: actionDescribe, Resource: "*"},
			{Name: actionListClusters, Resource: "*"},
			{Name: actionCluster, Resource: "arn:{partition}:elasticmapreduce:{region}:{account}:cluster/*"},
		},
		Propose: propose,
	}
}

// propose has manual steps only.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	r, v := c.Resource, c.Verdict
	if v.Status == assess.Done || v.Status == assess.Exempt {
		return nil, nil
	}
	m := plan.Manual{Ref: r.Ref, Name: r.Name}
	if id, ok := strings.CutPrefix(r.Ref.ID, clusterPrefix); ok {
		replaceCluster(&m, r, id, v.Want.HopLimit)
	} else {
		replaceConfiguration(&m, r, v.Want.HopLimit)
	}
	if v.Status != assess.Ready {
		m.Remedy = "First make sure that nothing on the cluster calls IMDSv1: " + v.Why() + ". " + m.Remedy
	}
	return nil, []plan.Manual{m}
}

// replaceConfiguration is done by a copy of the whole document, which only the shell sees.
func replaceConfiguration(m *plan.Manual, r *inventory.Resource, want int) {
	name, place := r.Name, r.Ref.Place
	copied := name + "-imdsv2"
	hops := hopLimit(r, want)
	read := kind.Command(place, "emr", "describe-security-configuration", "--name", name, "--query", "SecurityConfiguration",
		"--output", "text")
	program := fmt.Sprintf(".%s+={%q:2,%q:%d}", part, FieldVersion, FieldHopLimit, hops)
	m.Reason = "EMR security configurations cannot be changed, and " + name + " allows IMDSv1"
	m.Remedy = "Create a copy of " + name + " that requires version 2, launch the clusters that use it (" + users(r) +
		") anew with the copy, with all else as it was, and delete the old one when no cluster and no script names it."
	m.Commands = []string{
		kind.Command(place, "emr", "create-security-configuration", "--name", copied, "--security-configuration") +
			` "$(` + read + " | jq -c " + kind.Quote(program) + `)"`,
		launchAnew(place, copied),
		kind.Command(place, "emr", "delete-security-configuration", "--name", name),
	}
}

// launchAnew is a comment for the shell: only a person knows what else a cluster is launched with.
func launchAnew(place fleet.Place, configuration string) string {
	return "# " + kind.Command(place, "emr", "create-cluster", "--security-configuration", configuration) +
		" and all else as it was"
}

func users(r *inventory.Resource) string {
	if clusters := r.Attrs[AttrClusters]; clusters != "" {
		return clusters
	}
	return "none runs now"
}

// replaceCluster is done by a security configuration that says nothing else.
func replaceCluster(m *plan.Manual, r *inventory.Resource, id string, want int) {
	place, name := r.Ref.Place, "imdsv2"
	document := fmt.Sprintf(`{%q:{%q:2,%q:%d}}`, part, FieldVersion, FieldHopLimit, hopLimit(r, want))
	m.Reason = "the cluster has no security configuration, so its instances allow IMDSv1, and a cluster cannot be given one"
	m.Remedy = "Create a security configuration that requires version 2, launch the cluster anew with it, with all else as " +
		"it was, and terminate the old one."
	m.Commands = []string{
		kind.Command(place, "emr", "create-security-configuration", "--name", name, "--security-configuration", document),
	}
	if old, ok := r.State[FieldConfiguration]; ok {
		m.Reason = "the cluster's security configuration " + old + " was deleted, so that nobody can tell what its instances allow"
	}
	m.Commands = append(m.Commands,
		launchAnew(place, name),
		kind.Command(place, "emr", "terminate-clusters", "--cluster-ids", id))
}

// hopLimit is what a rule wants, else what is set, else what EC2 gives where nobody says anything.
func hopLimit(r *inventory.Resource, want int) int {
	if n := r.Options().HopLimit; want == 0 && n != 0 {
		return n
	}
	return max(want, 1)
}

// setting is what a document says of the metadata service; empty fields are not there.
type setting struct{ version, hops string }

// parse reads the one part of a security configuration's document that is kept. The document comes from people, by way of
// EMR, which checks it; numbers may be written as text.
func parse(document string) (setting, error) {
	var doc struct {
		Part *struct {
			Version *number `json:"MinimumInstanceMetadataServiceVersion"`
			Hops    *number `json:"HttpPutResponseHopLimit"`
		} `json:"InstanceMetadataServiceConfiguration"`
	}
	if err := json.Unmarshal([]byte(document), &doc); err != nil {
		return setting{}, fmt.Errorf("its document is not understood: %w", err)
	}
	var s setting
	if doc.Part == nil {
		return s, nil
	}
	if doc.Part.Version != nil {
		s.version = string(*doc.Part.Version)
	}
	if doc.Part.Hops != nil {
		s.hops = string(*doc.Part.Hops)
	}
	return s, nil
}

// number is a whole number above 0, as a JSON number or as text.
type number string

// UnmarshalJSON refuses what is no such number, without repeating it: a document holds what nobody should read in a message.
func (n *number) UnmarshalJSON(b []byte) error {
	i, err := strconv.ParseUint(strings.Trim(string(b), `"`), 10, 16)
	if err != nil || i == 0 {
		return fmt.Errorf("a value of %s is no whole number above 0", part)
	}
	*n = number(strconv.FormatUint(i, 10))
	return nil
}
