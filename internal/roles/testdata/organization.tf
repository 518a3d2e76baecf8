# Made by `imdsctl roles` for the account that manages the organization. Apply it there, and in no other account.

variable "trusted_principal" {
  type        = string
  description = "Who may assume the roles, an account id or the ARN of a role or user"
}

variable "external_id" {
  type        = string
  description = "The external id that imdsctl.yaml names, empty for none"
  default     = ""
}

variable "organization_role_name" {
  type        = string
  description = "imdsctl: lists the accounts of the organization"
  default     = "imdsctl-organization"
}

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "AWS"
      identifiers = [var.trusted_principal]
    }

    dynamic "condition" {
      for_each = var.external_id == "" ? [] : [var.external_id]

      content {
        test     = "StringEquals"
        variable = "sts:ExternalId"
        values   = [condition.value]
      }
    }
  }
}

data "aws_iam_policy_document" "organization" {
  statement {
    sid = "ListAccounts"

    actions = [
      "organizations:DescribeOrganization",
      "organizations:DescribeOrganizationalUnit",
      "organizations:ListAccounts",
      "organizations:ListParents",
      "organizations:ListTagsForResource",
    ]

    resources = ["*"]
  }
}

resource "aws_iam_role" "organization" {
  name                 = var.organization_role_name
  path                 = "/"
  description          = "imdsctl: lists the accounts of the organization"
  max_session_duration = 3600
  assume_role_policy   = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_role_policy" "organization" {
  name   = "imdsctl"
  role   = aws_iam_role.organization.id
  policy = data.aws_iam_policy_document.organization.json
}

output "organization_role_arn" {
  value = aws_iam_role.organization.arn
}
