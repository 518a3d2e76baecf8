package faults

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/policy"
)

const image = "ami-0123456789abcdef0"

// permissions are what the roles of the members may do: everything in the services of the kinds and of the gates.
var permissions = core.AllowActions(services()...)

func services() []string {
	out := []string{"cloudwatch:*", "elasticloadbalancing:*", "ssm:*", "iam:PassRole"}
	for _, k := range app.Kinds() {
		for _, a := range slices.Concat(k.Reads, k.Writes) {
			service, _, _ := strings.Cut(a.Name, ":")
			out = append(out, service+":*")
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// organization is three member accounts, each with a group of three instances launched from a template's default version, and
// a stack of four instances by themselves.
func organization() *core.Seed {
	s := &core.Seed{
		Organization: core.Organization{ID: "o-test123456", ManagementAccount: management, OUs: []core.OU{{Name: "Production"}}},
		Accounts:     []core.AccountSeed{{ID: management, Name: "management"}},
		Services: map[string]json.RawMessage{"workload": json.RawMessage(`{"programs": [{"name": "modern", "agent": "boto3",
			"version": "1.34.0", "speaks": "v2-then-v1", "every": "15m", "at_boot": true, "where": {"groups": ["web"]}}]}`)},
	}
	for _, account := range members {
		a := core.AccountSeed{ID: account, Name: "member-" + string(account[:3]), OU: "Production",
			Regions: map[fleet.Region]map[string]json.RawMessage{region: place(account)}}
		for _, name := range []string{policy.DefaultReadRole, policy.DefaultWriteRole} {
			a.Roles = append(a.Roles, core.RoleSeed{Name: name, Trust: json.RawMessage(core.TrustAccount(management, "")),
				Policies: map[string]json.RawMessage{"all": json.RawMessage(permissions)}})
		}
		s.Accounts = append(s.Accounts, a)
	}
	return s
}

// instance is the n-th instance's id in an account.
func instance(account fleet.AccountID, n int) string {
	return fmt.Sprintf("i-0%s%014x", account[:2], n)
}

func template(account fleet.AccountID) string { return fmt.Sprintf("lt-0%s%014x", account[:2], 1) }

func place(account fleet.AccountID) map[string]json.RawMessage {
	var instances, group []string
	for n := 1; n <= 7; n++ {
		tags := `{"app": "batch"}`
		if n <= 3 {
			tags = fmt.Sprintf(`{"aws:autoscaling:groupName": "web", "aws:ec2launchtemplate:id": %q, "aws:ec2launchtemplate:version": "1"}`,
				template(account))
			group = append(group, fmt.Sprintf("%q", instance(account, n)))
		}
		instances = append(instances, fmt.Sprintf(`{"id": %q, "image": %q, "launched": %q, "tags": %s,
			"options": {"tokens": "optional", "hop_limit": 2, "endpoint": "enabled"}}`,
			instance(account, n), image, start.AddDate(0, 0, -40).Format(time.RFC3339), tags))
	}
	return map[string]json.RawMessage{
		"ec2": json.RawMessage(fmt.Sprintf(`{"images": [{"id": %q}], "templates": [{"id": %q, "name": "web", "versions": [{"data":
			{"ImageId": %q, "InstanceType": "m5.large", "MetadataOptions": {"HttpTokens": "optional",
			"HttpPutResponseHopLimit": 2}}}]}], "instances": [%s]}`, image, template(account), image, strings.Join(instances, ","))),
		"autoscaling": json.RawMessage(fmt.Sprintf(`{"groups": [{"name": "web", "template": %q, "min": 1, "max": 6,
			"instances": [%s]}]}`, template(account), strings.Join(group, ","))),
	}
}
