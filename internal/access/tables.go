package access

// administers are the steps of whoever may do everything: an action of any service, and those of IAM with which the rest can be
// had.
var administers = [][]string{
	{anything}, {"iam:attachrolepolicy"}, {"iam:putrolepolicy"}, {"iam:createpolicyversion"}, {"iam:createuser"}, {"iam:passrole"},
	{"sts:assumerole"}, {"ec2:runinstances"}, {"s3:getobject"},
}

// escalations are the known ways from some permissions to more. The first part is the list of Rhino Security Labs ("AWS IAM
// Privilege Escalation – Methods and Mitigation", https://rhinosecuritylabs.com/aws/aws-privilege-escalation-methods-mitigation/
// and its second part), the rest are ways to run programs under other roles, or on other hosts.
var escalations = []way{
	{name: "iam:CreatePolicyVersion", steps: steps("iam:createpolicyversion")},
	{name: "iam:SetDefaultPolicyVersion", steps: steps("iam:setdefaultpolicyversion")},
	{name: "iam:AttachRolePolicy", steps: steps("iam:attachrolepolicy")},
	{name: "iam:AttachUserPolicy", steps: steps("iam:attachuserpolicy")},
	{name: "iam:AttachGroupPolicy", steps: steps("iam:attachgrouppolicy")},
	{name: "iam:PutRolePolicy", steps: steps("iam:putrolepolicy")},
	{name: "iam:PutUserPolicy", steps: steps("iam:putuserpolicy")},
	{name: "iam:PutGroupPolicy", steps: steps("iam:putgrouppolicy")},
	{name: "iam:AddUserToGroup", steps: steps("iam:addusertogroup")},
	{name: "iam:CreateAccessKey", steps: steps("iam:createaccesskey")},
	{name: "iam:CreateLoginProfile", steps: steps("iam:createloginprofile")},
	{name: "iam:UpdateLoginProfile", steps: steps("iam:updateloginprofile")},
	{name: "iam:UpdateAssumeRolePolicy + sts:AssumeRole", steps: steps("iam:updateassumerolepolicy", "sts:assumerole")},
	passing("ec2", "ec2:RunInstances", "ec2:runinstances"),
	passing("lambda", "lambda:CreateFunction + lambda:InvokeFunction", "lambda:createfunction", "lambda:invokefunction"),
	passing("lambda", "lambda:CreateFunction + lambda:CreateEventSourceMapping", "lambda:createfunction",
		"lambda:createeventsourcemapping"),
	{name: "lambda:UpdateFunctionCode", steps: steps("lambda:updatefunctioncode")},
	{name: "lambda:UpdateFunctionConfiguration", steps: steps("lambda:updatefunctionconfiguration")},
	passing("glue", "glue:CreateDevEndpoint", "glue:createdevendpoint"),
	{name: "glue:UpdateDevEndpoint", steps: steps("glue:updatedevendpoint")},
	passing("cloudformation", "cloudformation:CreateStack", "cloudformation:createstack"),
	passing("datapipeline", "datapipeline:CreatePipeline + datapipeline:PutPipelineDefinition + datapipeline:ActivatePipeline",
		"datapipeline:createpipeline", "datapipeline:putpipelinedefinition", "datapipeline:activatepipeline"),
	passing("codestar", "codestar:CreateProject", "codestar:createproject"),
	passing("sagemaker", "sagemaker:CreateNotebookInstance + sagemaker:CreatePresignedNotebookInstanceUrl",
		"sagemaker:createnotebookinstance", "sagemaker:createpresignednotebookinstanceurl"),
	passing("sagemaker", "sagemaker:CreateTrainingJob", "sagemaker:createtrainingjob"),
	passing("sagemaker", "sagemaker:CreateProcessingJob", "sagemaker:createprocessingjob"),
	{name: "sagemaker:CreatePresignedNotebookInstanceUrl", steps: steps("sagemaker:createpresignednotebookinstanceurl")},
	passing("codebuild", "codebuild:CreateProject + codebuild:StartBuild", "codebuild:createproject", "codebuild:startbuild"),
	passing("ecs-tasks", "ecs:RegisterTaskDefinition + ecs:RunTask", "ecs:registertaskdefinition", "ecs:runtask"),
	passing("ec2", "ec2:AssociateIamInstanceProfile", "ec2:associateiaminstanceprofile"),
	passing("ec2", "ec2:ReplaceIamInstanceProfileAssociation", "ec2:replaceiaminstanceprofileassociation"),
	{name: "iam:DeleteRolePermissionsBoundary", steps: steps("iam:deleterolepermissionsboundary")},
	{name: "sts:AssumeRole of any role", steps: steps("sts:assumerole")},
	{name: "ssm:SendCommand", steps: steps("ssm:sendcommand")},
	{name: "ssm:StartSession", steps: steps("ssm:startsession")},
	{name: "ec2-instance-connect:SendSSHPublicKey", steps: steps("ec2-instance-connect:sendsshpublickey")},
	{name: "ec2:ModifyInstanceAttribute + ec2:StopInstances + ec2:StartInstances", // user data runs as root at the next start
		steps: steps("ec2:modifyinstanceattribute", "ec2:stopinstances", "ec2:startinstances")},
	{name: "cloudformation:UpdateStack", steps: steps("cloudformation:updatestack")},
	{name: "codebuild:UpdateProject + codebuild:StartBuild", steps: steps("codebuild:updateproject", "codebuild:startbuild")},
}

// data are the ways to data: what is kept in a service, and who can be read or robbed of it. Any one action does.
var data = []way{
	{name: "secrets in Secrets Manager", steps: anyOf("secretsmanager:getsecretvalue")},
	{name: "parameters in SSM", steps: anyOf("ssm:getparameter", "ssm:getparameters", "ssm:getparametersbypath")},
	{name: "what KMS keys protect", steps: anyOf("kms:decrypt")},
	{name: "objects in S3", steps: anyOf("s3:getobject")},
	{name: "changing objects in S3", steps: anyOf("s3:putobject", "s3:deleteobject")},
	{name: "items in DynamoDB", steps: anyOf("dynamodb:getitem", "dynamodb:query", "dynamodb:scan", "dynamodb:batchgetitem")},
	{name: "changing items in DynamoDB", steps: anyOf("dynamodb:putitem", "dynamodb:updateitem", "dynamodb:deleteitem")},
	{name: "databases by the RDS Data API", steps: anyOf("rds-data:executestatement")},
	{name: "copies of databases in RDS", steps: anyOf("rds:modifydbsnapshotattribute", "rds:modifydbclustersnapshotattribute")},
	{name: "blocks of EBS snapshots", steps: anyOf("ebs:getsnapshotblock", "ec2:modifysnapshotattribute")},
	{name: "Redshift clusters", steps: anyOf("redshift:getclustercredentials", "redshift-data:executestatement")},
	{name: "queries in Athena", steps: anyOf("athena:startqueryexecution")},
	{name: "messages in SQS", steps: anyOf("sqs:receivemessage")},
	{name: "records in Kinesis", steps: anyOf("kinesis:getrecords")},
	{name: "documents in OpenSearch", steps: anyOf("es:eshttpget", "aoss:apiaccessall")},
	{name: "logs in CloudWatch", steps: anyOf("logs:getlogevents", "logs:filterlogevents", "logs:startquery")},
	{name: "the code of Lambda functions", steps: anyOf("lambda:getfunction")},
	{name: "repositories in CodeCommit", steps: anyOf("codecommit:gitpull")},
	{name: "images in ECR", steps: [][]string{{"ecr:batchgetimage"}, {"ecr:getdownloadurlforlayer"}}},
	{name: "changing images in ECR", steps: anyOf("ecr:putimage")},
}

// steps asks for all of the actions.
func steps(actions ...string) [][]string {
	out := make([][]string, len(actions))
	for i, a := range actions {
		out[i] = []string{a}
	}
	return out
}

// anyOf asks for one of the actions.
func anyOf(actions ...string) [][]string { return [][]string{actions} }

// passing is a way on which a role is passed to a service, which then acts by it.
func passing(service, name string, actions ...string) way {
	return way{name: "iam:PassRole + " + name, service: service + ".amazonaws.com",
		steps: append(steps("iam:passrole"), steps(actions...)...)}
}
