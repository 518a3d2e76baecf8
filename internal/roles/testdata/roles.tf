# Made by `imdsctl roles`. Apply it in every account that imdsctl looks after.

variable "trusted_principal" {
  type        = string
  description = "Who may assume the roles, an account id or the ARN of a role or user"
  default     = "111122223333"
}

variable "external_id" {
  type        = string
  description = "The external id that imdsctl.yaml names, empty for none"
  default     = "imdsctl-4f7c"
}

variable "create_write_role" {
  type        = bool
  description = "Whether the role that may change settings is made"
  default     = true
}

variable "read_role_name" {
  type        = string
  description = "imdsctl: reads metadata settings and who uses them"
  default     = "imdsctl-read"
}

variable "write_role_name" {
  type        = string
  description = "imdsctl: carries out approved plans"
  default     = "imdsctl-write"
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

data "aws_iam_policy_document" "read" {
  statement {
    sid = "Read"

    actions = [
      "autoscaling:DescribeAutoScalingGroups",
      "autoscaling:DescribeAutoScalingInstances",
      "autoscaling:DescribeScalingActivities",
      "cloudwatch:DescribeAlarms",
      "cloudwatch:GetMetricData",
      "ec2:DescribeInstanceStatus",
      "ec2:DescribeInstances",
      "ec2:DescribeLaunchTemplateVersions",
      "ec2:DescribeLaunchTemplates",
      "ec2:DescribeRegions",
      "ec2:GetInstanceMetadataDefaults",
      "elasticloadbalancing:DescribeTargetGroups",
      "elasticloadbalancing:DescribeTargetHealth",
    ]

    resources = ["*"]
  }
}

resource "aws_iam_role" "read" {
  name                 = var.read_role_name
  path                 = "/"
  description          = "imdsctl: reads metadata settings and who uses them"
  max_session_duration = 3600
  assume_role_policy   = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_role_policy" "read" {
  name   = "imdsctl"
  role   = aws_iam_role.read.id
  policy = data.aws_iam_policy_document.read.json
}

data "aws_iam_policy_document" "write" {
  statement {
    sid = "ReadAgain"

    actions = [
      "autoscaling:DescribeAutoScalingGroups",
      "ec2:DescribeInstances",
      "ec2:DescribeLaunchTemplateVersions",
      "ec2:DescribeLaunchTemplates",
      "ec2:GetInstanceMetadataDefaults",
    ]

    resources = ["*"]
  }

  statement {
    sid = "WriteEc2Instance"

    actions = [
      "ec2:ModifyInstanceMetadataOptions",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:ec2:*:${data.aws_caller_identity.current.account_id}:instance/*"]
  }

  statement {
    sid = "WriteLaunchTemplate"

    actions = [
      "ec2:CreateLaunchTemplateVersion",
      "ec2:DeleteLaunchTemplateVersions",
      "ec2:ModifyLaunchTemplate",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:ec2:*:${data.aws_caller_identity.current.account_id}:launch-template/*"]
  }

  statement {
    sid = "ReadImageParameters"

    actions = [
      "ssm:GetParameters",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:ssm:*:*:parameter/*"]
  }

  statement {
    sid = "WriteAutoScalingGroup"

    actions = [
      "autoscaling:UpdateAutoScalingGroup",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:autoscaling:*:${data.aws_caller_identity.current.account_id}:autoScalingGroup:*:autoScalingGroupName/*"]
  }

  statement {
    sid = "LaunchFromTemplates"

    actions = [
      "ec2:RunInstances",
    ]

    resources = ["*"]

    condition {
      test     = "ArnLike"
      variable = "ec2:LaunchTemplate"
      values   = ["arn:${data.aws_partition.current.partition}:ec2:*:${data.aws_caller_identity.current.account_id}:launch-template/*"]
    }
  }

  statement {
    sid = "TagAtLaunch"

    actions = [
      "ec2:CreateTags",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:ec2:*:${data.aws_caller_identity.current.account_id}:*/*"]

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["RunInstances"]
    }
  }

  statement {
    sid = "PassInstanceRoles"

    actions = [
      "iam:PassRole",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:role/*"]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ec2.amazonaws.com", "ec2.amazonaws.com.cn"]
    }
  }

  statement {
    sid = "WriteAccountDefaults"

    actions = [
      "ec2:ModifyInstanceMetadataDefaults",
    ]

    resources = ["*"]
  }
}

resource "aws_iam_role" "write" {
  count                = var.create_write_role ? 1 : 0
  name                 = var.write_role_name
  path                 = "/"
  description          = "imdsctl: carries out approved plans"
  max_session_duration = 3600
  assume_role_policy   = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_role_policy" "write" {
  count  = var.create_write_role ? 1 : 0
  name   = "imdsctl"
  role   = aws_iam_role.write[0].id
  policy = data.aws_iam_policy_document.write.json
}

output "read_role_arn" {
  value = aws_iam_role.read.arn
}

output "write_role_arn" {
  value = one(aws_iam_role.write[*].arn)
}
