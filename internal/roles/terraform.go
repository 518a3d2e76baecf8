package roles

import (
	"fmt"
	"strings"
)

// Terraform writes a module for one account. Partition and account come from data sources, everything else from
// variables; what the options know is their default.
func Terraform(roles []Role, o Options) string {
	w := &text{}
	if forManagement(roles, o) {
		w.line(0, "# Made by `imdsctl roles` for the account that manages the organization. Apply it there, and in no other account.")
	} else {
		w.line(0, "# Made by `imdsctl roles`. Apply it in every account that imdsctl looks after.")
	}
	w.line(0, "")
	w.line(0, `variable "trusted_principal" {`)
	w.line(1, "type        = string")
	w.line(1, `description = "Who may assume the roles, an account id or the ARN of a role or user"`)
	if o.Principal != "" {
		w.line(1, "default     = %q", o.Principal)
	}
	w.line(0, "}")
	w.line(0, "")
	tfVariable(w, "external_id", "string", "The external id that imdsctl.yaml names, empty for none",
		fmt.Sprintf("%q", o.ExternalID))
	if has(roles, Write) {
		tfVariable(w, "create_write_role", "bool", "Whether the role that may change settings is made", "true")
	}
	for _, r := range roles {
		tfVariable(w, string(r.Access)+"_role_name", "string", r.Description, fmt.Sprintf("%q", r.Name))
	}
	w.line(0, `data "aws_partition" "current" {}`)
	w.line(0, "")
	w.line(0, `data "aws_caller_identity" "current" {}`)
	w.line(0, "")
	tfTrust(w)
	for _, r := range roles {
		tfRole(w, r, o)
	}
	for i, r := range roles {
		if i > 0 {
			w.line(0, "")
		}
		w.line(0, `output "%s_role_arn" {`, r.Access)
		if r.Access == Write {
			w.line(1, "value = one(aws_iam_role.write[*].arn)")
		} else {
			w.line(1, "value = aws_iam_role.%s.arn", r.Access)
		}
		w.line(0, "}")
	}
	return w.String()
}

func tfVariable(w *text, name, kind, description, value string) {
	w.line(0, `variable "%s" {`, name)
	w.line(1, "type        = %s", kind)
	w.line(1, "description = %q", description)
	w.line(1, "default     = %s", value)
	w.line(0, "}")
	w.line(0, "")
}

func tfTrust(w *text) {
	w.line(0, `data "aws_iam_policy_document" "trust" {`)
	w.line(1, "statement {")
	w.line(2, `actions = ["sts:AssumeRole"]`)
	w.line(0, "")
	w.line(2, "principals {")
	w.line(3, `type        = "AWS"`)
	w.line(3, "identifiers = [var.trusted_principal]")
	w.line(2, "}")
	w.line(0, "")
	w.line(2, `dynamic "condition" {`)
	w.line(3, `for_each = var.external_id == "" ? [] : [var.external_id]`)
	w.line(0, "")
	w.line(3, "content {")
	w.line(4, `test     = "StringEquals"`)
	w.line(4, `variable = "sts:ExternalId"`)
	w.line(4, "values   = [condition.value]")
	w.line(3, "}")
	w.line(2, "}")
	w.line(1, "}")
	w.line(0, "}")
	w.line(0, "")
}

func tfRole(w *text, r Role, o Options) {
	count, index := "", ""
	if r.Access == Write {
		count, index = "var.create_write_role ? 1 : 0", "[0]"
	}
	w.line(0, `data "aws_iam_policy_document" "%s" {`, r.Access)
	for i, s := range r.Statements {
		if i > 0 {
			w.line(0, "")
		}
		tfStatement(w, s)
	}
	w.line(0, "}")
	w.line(0, "")
	w.line(0, `resource "aws_iam_role" "%s" {`, r.Access)
	if count != "" {
		w.line(1, "count                = %s", count)
	}
	w.line(1, "name                 = var.%s_role_name", r.Access)
	w.line(1, "path                 = %q", r.Path)
	w.line(1, "description          = %q", r.Description)
	w.line(1, "max_session_duration = %d", seconds(o))
	w.line(1, "assume_role_policy   = data.aws_iam_policy_document.trust.json")
	w.line(0, "}")
	w.line(0, "")
	w.line(0, `resource "aws_iam_role_policy" "%s" {`, r.Access)
	if count != "" {
		w.line(1, "count  = %s", count)
	}
	w.line(1, `name   = "imdsctl"`)
	w.line(1, "role   = aws_iam_role.%s%s.id", r.Access, index)
	w.line(1, "policy = data.aws_iam_policy_document.%s.json", r.Access)
	w.line(0, "}")
	w.line(0, "")
}

func tfStatement(w *text, s Statement) {
	w.line(1, "statement {")
	w.line(2, "sid = %q", s.Sid)
	w.line(0, "")
	w.line(2, "actions = [")
	for _, a := range s.Actions {
		w.line(3, "%q,", a)
	}
	w.line(2, "]")
	w.line(0, "")
	w.line(2, "resources = [%s]", tfValues(s.Resources))
	for _, c := range s.Conditions {
		w.line(0, "")
		w.line(2, "condition {")
		w.line(3, "test     = %q", c.Operator)
		w.line(3, "variable = %q", c.Key)
		w.line(3, "values   = [%s]", tfValues(c.Values))
		w.line(2, "}")
	}
	w.line(1, "}")
}

func tfValues(patterns []string) string {
	out := make([]string, len(patterns))
	for i, p := range patterns {
		out[i] = `"` + fill(p, "${data.aws_partition.current.partition}",
			"${data.aws_caller_identity.current.account_id}") + `"`
	}
	return strings.Join(out, ", ")
}
