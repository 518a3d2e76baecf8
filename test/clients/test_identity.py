"""STS and IAM: who calls, assumed roles with external ids, and what the roles' policies let through."""

import json

from harness import MANAGEMENT, MEMBER, SimulatorTest, instance_id

READER = f"arn:aws:iam::{MEMBER}:role/imdsctl/reader"
WRITER = f"arn:aws:iam::{MEMBER}:role/writer"
THEIRS = "i-0aaaaaaaaaaaaaaa1"


class Identity(SimulatorTest):
    def setUp(self):
        super().setUp()
        self.sts = self.client("sts")

    def assumed(self, role, **kwargs):
        return self.sts.assume_role(RoleArn=role, RoleSessionName="imdsctl", **kwargs)["Credentials"]


class Sessions(Identity):
    def test_who_am_i(self):
        me = self.sts.get_caller_identity()
        self.assertEqual((MANAGEMENT, f"arn:aws:iam::{MANAGEMENT}:root"), (me["Account"], me["Arn"]))
        reader = self.client("sts", credentials=self.assumed(READER, ExternalId="orchid-7")).get_caller_identity()
        self.assertEqual((MEMBER, f"arn:aws:sts::{MEMBER}:assumed-role/reader/imdsctl"), (reader["Account"], reader["Arn"]))

    def test_the_external_id(self):
        for wrong in ({}, {"ExternalId": "orchid-8"}):
            message = self.refused("AccessDenied", self.assumed, READER, status=403, **wrong)
            self.assertIn("sts:AssumeRole", message)

    def test_roles_that_are_not_there_or_do_not_trust(self):
        self.refused("AccessDenied", self.assumed, f"arn:aws:iam::{MEMBER}:role/nobody")
        self.refused("AccessDenied", self.assumed, f"arn:aws:iam::{MEMBER}:role/reader", ExternalId="orchid-7")
        stranger = self.client("sts", account="333344445555")
        self.refused("AccessDenied", stranger.assume_role, RoleArn=WRITER, RoleSessionName="imdsctl")

    def test_durations(self):
        self.refused("ValidationError", self.assumed, WRITER, DurationSeconds=7201)
        self.assumed(WRITER, DurationSeconds=7200)

    def test_a_token_that_does_not_fit(self):
        credentials = dict(self.assumed(WRITER), SessionToken="another")
        self.refused("AuthFailure", self.client("ec2", credentials=credentials).describe_instances)
        self.refused("InvalidClientTokenId", self.client("sts", credentials=credentials).get_caller_identity)


class Enforced(Identity):
    def test_a_reader_reads_and_does_not_write(self):
        ec2 = self.client("ec2", credentials=self.assumed(READER, ExternalId="orchid-7"))
        self.assertEqual(1, len(ec2.describe_instances()["Reservations"]))
        message = self.refused("UnauthorizedOperation", ec2.modify_instance_metadata_options, status=403,
                               InstanceId=THEIRS, HttpTokens="required")
        self.assertIn("ec2:ModifyInstanceMetadataOptions", message)
        self.refused("UnauthorizedOperation", ec2.modify_instance_metadata_options, InstanceId=THEIRS, DryRun=True)
        self.refused("AccessDenied", self.client(
            "autoscaling", credentials=self.assumed(READER, ExternalId="orchid-7")).describe_auto_scaling_groups, status=403)
        self.refused("AccessDenied", self.client(
            "cloudwatch", credentials=self.assumed(READER, ExternalId="orchid-7")).list_metrics, status=403)

    def test_a_writer_writes(self):
        ec2 = self.client("ec2", credentials=self.assumed(WRITER))
        ec2.modify_instance_metadata_options(InstanceId=THEIRS, HttpTokens="required")
        read = lambda: ec2.describe_instances()["Reservations"][0]["Instances"][0]["MetadataOptions"]["HttpTokens"]
        self.eventually("required", read)
        self.refused("UnauthorizedOperation", ec2.describe_launch_templates)

    def test_a_session_policy_narrows(self):
        deny = {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "ec2:DescribeInstances", "Resource": "*"}]}
        ec2 = self.client("ec2", credentials=self.assumed(WRITER, Policy=json.dumps(deny)))
        ec2.describe_instances()
        self.refused("UnauthorizedOperation", ec2.modify_instance_metadata_options, InstanceId=THEIRS, HttpTokens="required")


class Roles(Identity):
    def setUp(self):
        super().setUp()
        self.iam = self.client("iam", account=MEMBER)

    def test_reading_roles(self):
        for size in (1, 2, 100):
            found, marker = [], {}
            for _ in range(10):
                page = self.iam.list_roles(MaxItems=size, **marker)
                found += page["Roles"]
                if not page["IsTruncated"]:
                    break
                marker = {"Marker": page["Marker"]}
            self.assertEqual(["reader", "writer"], [r["RoleName"] for r in found])
        role = self.iam.get_role(RoleName="reader")["Role"]
        self.assertEqual(READER, role["Arn"])
        self.assertEqual("orchid-7", role["AssumeRolePolicyDocument"]["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"])
        self.assertEqual(["read"], self.iam.list_role_policies(RoleName="reader")["PolicyNames"])
        policy = self.iam.get_role_policy(RoleName="reader", PolicyName="read")
        self.assertIn("ec2:Describe*", policy["PolicyDocument"]["Statement"][0]["Action"])
        self.refused("NoSuchEntity", self.iam.get_role, RoleName="nobody", status=404)
        self.refused("NoSuchEntity", self.iam.get_role_policy, RoleName="reader", PolicyName="nothing", status=404)

    def test_simulating_a_policy(self):
        results = self.iam.simulate_principal_policy(
            PolicySourceArn=READER, ActionNames=["ec2:DescribeInstances", "ec2:ModifyInstanceMetadataOptions"])["EvaluationResults"]
        self.assertEqual({"ec2:DescribeInstances": "allowed", "ec2:ModifyInstanceMetadataOptions": "implicitDeny"},
                         {r["EvalActionName"]: r["EvalDecision"] for r in results})
