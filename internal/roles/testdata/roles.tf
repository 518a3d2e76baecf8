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
      "appstream:DescribeAppBlockBuilders",
      "appstream:DescribeFleets",
      "appstream:DescribeImageBuilders",
      "appstream:DescribeImages",
      "appstream:ListTagsForResource",
      "autoscaling:DescribeAutoScalingGroups",
      "autoscaling:DescribeLaunchConfigurations",
      "autoscaling:DescribeScalingActivities",
      "batch:DescribeComputeEnvironments",
      "cloudwatch:DescribeAlarms",
      "cloudwatch:GetMetricData",
      "ec2:DescribeFleets",
      "ec2:DescribeImages",
      "ec2:DescribeInstanceStatus",
      "ec2:DescribeInstances",
      "ec2:DescribeLaunchTemplateVersions",
      "ec2:DescribeLaunchTemplates",
      "ec2:DescribeRegions",
      "ec2:DescribeSecurityGroups",
      "ec2:DescribeSpotFleetRequests",
      "ec2:GetInstanceMetadataDefaults",
      "ecs:DescribeCapacityProviders",
      "ecs:DescribeTaskDefinition",
      "ecs:ListClusters",
      "ecs:ListTasks",
      "eks:ListClusters",
      "elasticbeanstalk:DescribeEnvironments",
      "elasticloadbalancing:DescribeLoadBalancers",
      "elasticloadbalancing:DescribeTargetGroups",
      "elasticloadbalancing:DescribeTargetHealth",
      "elasticmapreduce:DescribeSecurityConfiguration",
      "elasticmapreduce:ListClusters",
      "elasticmapreduce:ListSecurityConfigurations",
      "iam:GetAccountAuthorizationDetails",
      "imagebuilder:ListInfrastructureConfigurations",
      "lightsail:GetInstance",
      "lightsail:GetInstanceMetricData",
      "lightsail:GetInstances",
      "sagemaker:ListNotebookInstances",
      "ssm:DescribeInstanceInformation",
      "workspaces-instances:ListWorkspaceInstances",
    ]

    resources = ["*"]
  }

  statement {
    sid = "ReadEksNodegroup"

    actions = [
      "eks:ListNodegroups",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:eks:*:${data.aws_caller_identity.current.account_id}:cluster/*"]
  }

  statement {
    sid = "ReadEksNodegroup2"

    actions = [
      "eks:DescribeNodegroup",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:eks:*:${data.aws_caller_identity.current.account_id}:nodegroup/*"]
  }

  statement {
    sid = "ReadEcsCapacity"

    actions = [
      "ecs:DescribeClusters",
      "ecs:ListContainerInstances",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:ecs:*:${data.aws_caller_identity.current.account_id}:cluster/*"]
  }

  statement {
    sid = "ReadEcsCapacity2"

    actions = [
      "ecs:DescribeContainerInstances",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:ecs:*:${data.aws_caller_identity.current.account_id}:container-instance/*"]
  }

  statement {
    sid = "ReadEcsCapacity3"

    actions = [
      "ecs:DescribeTasks",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:ecs:*:${data.aws_caller_identity.current.account_id}:task/*"]
  }

  statement {
    sid = "ReadSagemakerNotebook"

    actions = [
      "sagemaker:DescribeNotebookInstance",
      "sagemaker:ListTags",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:sagemaker:*:${data.aws_caller_identity.current.account_id}:notebook-instance/*"]
  }

  statement {
    sid = "ReadBeanstalkEnvironment"

    actions = [
      "elasticbeanstalk:DescribeConfigurationSettings",
      "elasticbeanstalk:DescribeEnvironmentResources",
      "elasticbeanstalk:ListTagsForResource",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:elasticbeanstalk:*:${data.aws_caller_identity.current.account_id}:environment/*"]
  }

  statement {
    sid = "ReadEmrSecurityConfiguration"

    actions = [
      "elasticmapreduce:DescribeCluster",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:elasticmapreduce:*:${data.aws_caller_identity.current.account_id}:cluster/*"]
  }

  statement {
    sid = "ReadWorkspacesInstance"

    actions = [
      "workspaces-instances:GetWorkspaceInstance",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:workspaces-instances:*:${data.aws_caller_identity.current.account_id}:workspaceinstance/*"]
  }

  statement {
    sid = "ReadImageBuilder"

    actions = [
      "imagebuilder:GetInfrastructureConfiguration",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:imagebuilder:*:${data.aws_caller_identity.current.account_id}:infrastructure-configuration/*"]
  }

  statement {
    sid = "ReadSecurityGroup"

    actions = [
      "ec2:GetManagedPrefixListEntries",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:ec2:*:*:prefix-list/*"]
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
      "appstream:DescribeAppBlockBuilders",
      "appstream:DescribeFleets",
      "appstream:DescribeImages",
      "appstream:ListTagsForResource",
      "autoscaling:DescribeAutoScalingGroups",
      "autoscaling:DescribeInstanceRefreshes",
      "autoscaling:DescribeLaunchConfigurations",
      "batch:DescribeComputeEnvironments",
      "ec2:DescribeFleets",
      "ec2:DescribeImages",
      "ec2:DescribeInstances",
      "ec2:DescribeLaunchTemplateVersions",
      "ec2:DescribeLaunchTemplates",
      "ec2:DescribeSpotFleetRequests",
      "ec2:GetInstanceMetadataDefaults",
      "elasticbeanstalk:DescribeEnvironments",
      "lightsail:GetInstance",
    ]

    resources = ["*"]
  }

  statement {
    sid = "ReadEksNodegroup"

    actions = [
      "eks:DescribeNodegroup",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:eks:*:${data.aws_caller_identity.current.account_id}:nodegroup/*"]
  }

  statement {
    sid = "ReadSagemakerNotebook"

    actions = [
      "sagemaker:DescribeNotebookInstance",
      "sagemaker:ListTags",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:sagemaker:*:${data.aws_caller_identity.current.account_id}:notebook-instance/*"]
  }

  statement {
    sid = "ReadBeanstalkEnvironment"

    actions = [
      "elasticbeanstalk:DescribeConfigurationSettings",
      "elasticbeanstalk:DescribeEnvironmentResources",
      "elasticbeanstalk:ListTagsForResource",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:elasticbeanstalk:*:${data.aws_caller_identity.current.account_id}:environment/*"]
  }

  statement {
    sid = "ReadImageBuilder"

    actions = [
      "imagebuilder:GetInfrastructureConfiguration",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:imagebuilder:*:${data.aws_caller_identity.current.account_id}:infrastructure-configuration/*"]
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
      "ec2:CreateLaunchTemplate",
      "ec2:CreateLaunchTemplateVersion",
      "ec2:DeleteLaunchTemplate",
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
    sid = "TagAtCreation"

    actions = [
      "ec2:CreateTags",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:ec2:*:${data.aws_caller_identity.current.account_id}:*/*"]

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["CreateLaunchTemplate", "RunInstances"]
    }
  }

  statement {
    sid = "WriteAutoScalingGroup"

    actions = [
      "autoscaling:CancelInstanceRefresh",
      "autoscaling:StartInstanceRefresh",
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
    sid = "WriteEc2Fleet"

    actions = [
      "ec2:ModifyFleet",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:ec2:*:${data.aws_caller_identity.current.account_id}:fleet/*"]
  }

  statement {
    sid = "WriteSpotFleet"

    actions = [
      "ec2:ModifySpotFleetRequest",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:ec2:*:${data.aws_caller_identity.current.account_id}:spot-fleet-request/*"]
  }

  statement {
    sid = "WriteAmi"

    actions = [
      "ec2:ModifyImageAttribute",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:ec2:*::image/*"]
  }

  statement {
    sid = "WriteEksNodegroup"

    actions = [
      "eks:UpdateNodegroupVersion",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:eks:*:${data.aws_caller_identity.current.account_id}:nodegroup/*"]
  }

  statement {
    sid = "WriteBatchEnvironment"

    actions = [
      "batch:UpdateComputeEnvironment",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:batch:*:${data.aws_caller_identity.current.account_id}:compute-environment/*"]
  }

  statement {
    sid = "WriteSagemakerNotebook"

    actions = [
      "sagemaker:StartNotebookInstance",
      "sagemaker:StopNotebookInstance",
      "sagemaker:UpdateNotebookInstance",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:sagemaker:*:${data.aws_caller_identity.current.account_id}:notebook-instance/*"]
  }

  statement {
    sid = "WriteLightsailInstance"

    actions = [
      "lightsail:UpdateInstanceMetadataOptions",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:lightsail:*:${data.aws_caller_identity.current.account_id}:Instance/*"]
  }

  statement {
    sid = "WriteBeanstalkEnvironment"

    actions = [
      "elasticbeanstalk:UpdateEnvironment",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:elasticbeanstalk:*:${data.aws_caller_identity.current.account_id}:environment/*"]
  }

  statement {
    sid = "WriteAppstream"

    actions = [
      "appstream:StartFleet",
      "appstream:StopFleet",
      "appstream:UpdateFleet",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:appstream:*:${data.aws_caller_identity.current.account_id}:fleet/*"]
  }

  statement {
    sid = "WriteAppstream2"

    actions = [
      "appstream:StartAppBlockBuilder",
      "appstream:StopAppBlockBuilder",
      "appstream:UpdateAppBlockBuilder",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:appstream:*:${data.aws_caller_identity.current.account_id}:app-block-builder/*"]
  }

  statement {
    sid = "WriteImageBuilder"

    actions = [
      "imagebuilder:UpdateInfrastructureConfiguration",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:imagebuilder:*:${data.aws_caller_identity.current.account_id}:infrastructure-configuration/*"]
  }

  statement {
    sid = "NameTopics"

    actions = [
      "sns:Publish",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:sns:*:${data.aws_caller_identity.current.account_id}:*"]
  }

  statement {
    sid = "WriteImageBuilder2"

    actions = [
      "ec2:DescribeAvailabilityZones",
      "ec2:DescribeHosts",
      "ec2:ModifyInstanceMetadataDefaults",
    ]

    resources = ["*"]
  }

  statement {
    sid = "NameHostGroups"

    actions = [
      "resource-groups:GetGroup",
    ]

    resources = ["arn:${data.aws_partition.current.partition}:resource-groups:*:${data.aws_caller_identity.current.account_id}:group/*"]
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
