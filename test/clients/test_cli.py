"""The AWS CLI, pointed at the simulator by AWS_ENDPOINT_URL and nothing else."""

import boto3
from botocore.config import Config
from botocore.exceptions import ProxyConnectionError

from harness import MEMBER, REGION, SimulatorTest, instance_id

REFUSED = 255  # the CLI's exit code for an error of the service (version 1; version 2 has 254)


class CommandLine(SimulatorTest):
    def test_reading_with_pages_and_filters(self):
        found = self.cli("ec2", "describe-instances", "--page-size", "5", "--filters", "Name=tag:team,Values=search",
                         "--query", "Reservations[].Instances[].InstanceId")
        self.assertEqual([instance_id(n) for n in range(2, 24, 2)], sorted(found))
        groups = self.cli("autoscaling", "describe-auto-scaling-groups", "--page-size", "2",
                          "--query", "AutoScalingGroups[].AutoScalingGroupName")
        self.assertEqual(6, len(groups))
        accounts = self.cli("organizations", "list-accounts", "--page-size", "2", "--query", "Accounts[].Id")
        self.assertEqual(5, len(accounts))
        versions = self.cli("ec2", "describe-launch-template-versions", "--versions", "$Latest", "$Default",
                            "--query", "LaunchTemplateVersions[].VersionNumber")
        self.assertEqual([3, 3, 3, 3, 5, 5, 5, 5], sorted(versions))
        metrics = self.cli("cloudwatch", "list-metrics", "--namespace", "AWS/EC2", "--metric-name", "MetadataNoToken",
                           "--dimensions", "Name=InstanceId,Value=" + instance_id(1))
        self.assertEqual(1, len(metrics["Metrics"]))

    def test_changing_an_instance(self):
        target = instance_id(9)
        refused = self.cli("ec2", "modify-instance-metadata-options", "--instance-id", target, "--http-tokens", "required",
                           "--http-endpoint", "enabled", "--dry-run", code=REFUSED)
        self.assertIn("(DryRunOperation)", refused)
        self.cli("ec2", "modify-instance-metadata-options", "--instance-id", target, "--http-tokens", "required",
                 "--http-endpoint", "enabled")
        read = lambda: self.cli("ec2", "describe-instances", "--instance-ids", target,
                                "--query", "Reservations[0].Instances[0].MetadataOptions.[HttpTokens,State]")
        self.eventually(["required", "applied"], read)
        gone = self.cli("ec2", "describe-instances", "--instance-ids", "i-00000000000000bad", code=REFUSED)
        self.assertIn("(InvalidInstanceID.NotFound)", gone)

    def test_nothing_beyond_this_machine_is_reached(self):
        elsewhere = "https://ec2.example.invalid"
        failed = self.cli("ec2", "describe-instances", "--endpoint-url", elsewhere, code=REFUSED)
        self.assertIn("Failed to connect to proxy URL", failed)
        with self.assertRaises(ProxyConnectionError):
            boto3.client("ec2", REGION, endpoint_url=elsewhere, aws_access_key_id="dummy", aws_secret_access_key="dummy",
                         config=Config(retries={"total_max_attempts": 1})).describe_instances()

    def test_an_assumed_role(self):
        credentials = self.cli("sts", "assume-role", "--role-arn", f"arn:aws:iam::{MEMBER}:role/imdsctl/reader",
                               "--role-session-name", "person", "--external-id", "orchid-7")["Credentials"]
        me = self.cli("sts", "get-caller-identity", credentials=credentials)
        self.assertEqual(MEMBER, me["Account"])
        refused = self.cli("ec2", "modify-instance-metadata-options", "--instance-id", "i-0aaaaaaaaaaaaaaa1",
                           "--http-tokens", "required", credentials=credentials, code=REFUSED)
        self.assertIn("(UnauthorizedOperation)", refused)
