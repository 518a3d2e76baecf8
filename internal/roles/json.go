package roles

import (
	"cmp"
	"encoding/json"
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// FormatVersion is the version of the JSON format.
const FormatVersion = 1

// Document is the JSON format: plain policy documents, to be pasted or read by any tool.
type Document struct {
	Format    int             `json:"imdsctl_roles"`
	Partition fleet.Partition `json:"partition"`
	Roles     []RoleDocument  `json:"roles"`
}

// RoleDocument is one role with its two policy documents.
type RoleDocument struct {
	Access      Access          `json:"access"`
	Name        string          `json:"name"`
	Path        string          `json:"path"`
	Description string          `json:"description"`
	Trust       json.RawMessage `json:"trust_policy"`
	Policy      json.RawMessage `json:"policy"`
}

// JSON gives plain documents. Account is the account the roles will live in; empty stands for any.
func JSON(roles []Role, o Options, account fleet.AccountID) (Document, error) {
	partition := cmp.Or(o.Partition, fleet.PartitionAWS)
	d := Document{Format: FormatVersion, Partition: partition}
	if o.Principal == "" {
		return d, fleet.Diagnostic{
			Severity: fleet.SeverityError, Where: "--principal", Summary: "a plain policy needs to know whom it trusts",
			Remedy: "Give the account id, or the ARN of the role, that runs imdsctl.",
		}
	}
	for _, r := range roles {
		trust, err := json.Marshal(policy{Version: policyVersion, Statement: []statement{trustStatement(o, partition)}})
		if err != nil {
			return d, err
		}
		doc, err := json.Marshal(document(r, string(partition), cmp.Or(string(account), "*")))
		if err != nil {
			return d, err
		}
		d.Roles = append(d.Roles, RoleDocument{
			Access: r.Access, Name: r.Name, Path: r.Path, Description: r.Description, Trust: trust, Policy: doc,
		})
	}
	return d, nil
}

const policyVersion = "2012-10-17"

type policy struct {
	Version   string
	Statement []statement
}

type statement struct {
	Sid       string `json:",omitempty"`
	Effect    string
	Principal map[string]string              `json:",omitempty"`
	Action    []string                       `json:",omitempty"`
	Resource  []string                       `json:",omitempty"`
	Condition map[string]map[string][]string `json:",omitempty"`
}

func trustStatement(o Options, partition fleet.Partition) statement {
	who := o.Principal
	if !strings.HasPrefix(who, "arn:") {
		who = "arn:" + string(partition) + ":iam::" + who + ":root"
	}
	s := statement{Effect: "Allow", Principal: map[string]string{"AWS": who}, Action: []string{"sts:AssumeRole"}}
	if o.ExternalID != "" {
		s.Condition = map[string]map[string][]string{"StringEquals": {"sts:ExternalId": {o.ExternalID}}}
	}
	return s
}

func document(r Role, partition, account string) policy {
	p := policy{Version: policyVersion}
	for _, s := range r.Statements {
		out := statement{Sid: s.Sid, Effect: "Allow", Action: s.Actions}
		for _, pattern := range s.Resources {
			out.Resource = append(out.Resource, fill(pattern, partition, account))
		}
		for _, c := range s.Conditions {
			if out.Condition == nil {
				out.Condition = map[string]map[string][]string{}
			}
			if out.Condition[c.Operator] == nil {
				out.Condition[c.Operator] = map[string][]string{}
			}
			for _, v := range c.Values {
				out.Condition[c.Operator][c.Key] = append(out.Condition[c.Operator][c.Key], fill(v, partition, account))
			}
		}
		p.Statement = append(p.Statement, out)
	}
	return p
}
