"""Policies of an organization: service control policies bind, declarative policies are the accounts' defaults."""

import json

from harness import MANAGEMENT, MEMBER, REGION, SimulatorTest

SCP, DECLARATIVE = "SERVICE_CONTROL_POLICY", "DECLARATIVE_POLICY_EC2"


def declaration(tokens, **more):
    fields = {"http_tokens": tokens, **more}
    return json.dumps({"ec2_attributes": {
        "exception_message": {"@@assign": "ask the platform team"},
        "instance_metadata_defaults": {name: {"@@assign": value} for name, value in fields.items()}}}, indent=2)


DENY = json.dumps({"Version": "2012-10-17", "Statement": [{
    "Effect": "Deny", "Action": "ec2:RunInstances", "Resource": "arn:aws:ec2:*:*:instance/*",
    "Condition": {"StringNotEquals": {"ec2:MetadataHttpTokens": "required"}}}]})


class Policies(SimulatorTest):
    @classmethod
    def seed(cls):
        world = super().seed()
        world["services"]["organizations"] = {
            "policy_types": [SCP, DECLARATIVE],
            "policies": [{"id": f"p-seeded000{n}", "name": f"seeded-{n}", "type": SCP, "targets": ["sandbox"] if n else [],
                          "content": json.loads(DENY), "tags": {"n": str(n)}} for n in range(8)],
        }
        return world

    def setUp(self):
        super().setUp()
        self.organizations = self.client("organizations")

    def policies(self, size, kind=SCP):
        return self.pages(self.organizations.list_policies, "Policies", "MaxResults", ("NextToken", "NextToken"), size, Filter=kind)

    def content(self, policy):
        return self.organizations.describe_policy(PolicyId=policy)["Policy"]["Content"]

    def defaults(self, account, region=REGION):
        out = self.client("ec2", account=account, region=region).get_instance_metadata_defaults()["AccountLevel"]
        return {k: out.get(k) for k in ("HttpTokens", "HttpPutResponseHopLimit", "ManagedBy", "ManagedExceptionMessage")}

    def targets(self, policy):
        return [t["TargetId"] for t in self.pages(self.organizations.list_targets_for_policy, "Targets", "MaxResults",
                                                  ("NextToken", "NextToken"), 1, PolicyId=policy)]

    def test_pages(self):
        seeded = {f"p-seeded000{n}" for n in range(8)}
        for size in (1, 3, 20):
            found = self.policies(size)
            self.assertLessEqual(seeded | {"p-FullAWSAccess"}, {p["Id"] for p in found})
            self.assertEqual(["p-FullAWSAccess"], [p["Id"] for p in found if p["AwsManaged"]])
        self.assertEqual([], self.organizations.list_policies(Filter="TAG_POLICY")["Policies"])
        [sandbox] = self.targets("p-seeded0001")
        on = self.pages(self.organizations.list_policies_for_target, "Policies", "MaxResults", ("NextToken", "NextToken"), 2,
                        TargetId=sandbox, Filter=SCP)
        self.assertEqual(8, len(on))  # seven of the seed, and AWS's own
        self.assertEqual([{"Key": "n", "Value": "1"}], self.organizations.list_tags_for_resource(ResourceId="p-seeded0001")["Tags"])
        [root] = self.organizations.list_roots()["Roots"]
        self.assertEqual([SCP, DECLARATIVE], [t["Type"] for t in root["PolicyTypes"]])

    def test_a_declarative_policy_from_its_making_to_its_end(self):
        content = declaration("required", http_put_response_hop_limit="2")
        before = self.defaults(MEMBER)
        made = self.organizations.create_policy(Name="imds", Description="", Type=DECLARATIVE, Content=content,
                                                Tags=[{"Key": "team", "Value": "platform"}])["Policy"]
        policy = made["PolicySummary"]["Id"]
        self.eventually(True, lambda: policy in [p["Id"] for p in self.policies(20, DECLARATIVE)])
        self.assertEqual(content, self.content(policy))
        self.organizations.attach_policy(PolicyId=policy, TargetId=MEMBER)
        want = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2, "ManagedBy": "declarative-policy",
                "ManagedExceptionMessage": "ask the platform team"}
        self.eventually(want, lambda: self.defaults(MEMBER))
        self.assertEqual(want, self.defaults(MEMBER, "us-east-1"))
        self.eventually([MEMBER], lambda: self.targets(policy))
        member = self.client("ec2", account=MEMBER)
        message = self.refused("DeclarativePolicyViolation", member.modify_instance_metadata_defaults, HttpTokens="optional")
        self.assertIn("ask the platform team", message)
        effective = self.client("organizations", account=MEMBER).describe_effective_policy(PolicyType=DECLARATIVE)["EffectivePolicy"]
        self.assertEqual("required", json.loads(effective["PolicyContent"])["ec2_attributes"]["instance_metadata_defaults"]["http_tokens"])
        self.organizations.update_policy(PolicyId=policy, Content=declaration("optional"))
        self.eventually("optional", lambda: self.defaults(MEMBER)["HttpTokens"])
        self.refused("PolicyInUseException", self.organizations.delete_policy, PolicyId=policy)
        self.organizations.detach_policy(PolicyId=policy, TargetId=MEMBER)
        self.eventually(before, lambda: self.defaults(MEMBER))
        self.organizations.delete_policy(PolicyId=policy)
        self.eventually([], lambda: self.policies(20, DECLARATIVE))
        self.refused("EffectivePolicyNotFoundException", self.organizations.describe_effective_policy,
                     PolicyType=DECLARATIVE, TargetId=MEMBER)

    def test_a_service_control_policy_binds(self):
        account = "333344445555"
        image = "ami-0123456789abcdef0"
        run = self.client("ec2", account=account).run_instances
        policy = self.organizations.create_policy(Name="deny", Description="d", Type=SCP, Content=DENY)["Policy"]["PolicySummary"]["Id"]
        self.organizations.attach_policy(PolicyId=policy, TargetId=account)
        self.refused("UnauthorizedOperation", run, ImageId=image, MinCount=1, MaxCount=1, status=403)
        self.refused("DuplicatePolicyAttachmentException", self.organizations.attach_policy, PolicyId=policy, TargetId=account)
        self.organizations.detach_policy(PolicyId=policy, TargetId=account)
        self.refused("InvalidAMIID.NotFound", run, ImageId=image, MinCount=1, MaxCount=1)
        self.refused("PolicyNotAttachedException", self.organizations.detach_policy, PolicyId=policy, TargetId=account)

    def test_refusals(self):
        create = self.organizations.create_policy
        self.refused("MalformedPolicyDocumentException", create, Name="x", Description="", Type=SCP, Content="{")
        self.refused("MalformedPolicyDocumentException", create, Name="x", Description="", Type=DECLARATIVE,
                     Content=declaration("no-preference"))
        self.refused("DuplicatePolicyException", create, Name="seeded-1", Description="", Type=SCP, Content=DENY)
        self.refused("PolicyNotFoundException", self.organizations.describe_policy, PolicyId="p-nobody0000")
        self.refused("TargetNotFoundException", self.organizations.attach_policy, PolicyId="p-seeded0000", TargetId="999999999999")
        self.refused("InvalidInputException", self.organizations.update_policy, PolicyId="p-FullAWSAccess", Description="mine")
        self.refused("AccessDeniedException", self.client("organizations", account=MEMBER).list_policies, Filter=SCP)

    def test_the_command_line(self):
        listed = self.cli("organizations", "list-policies", "--filter", SCP, "--page-size", "3")["Policies"]
        self.assertIn("p-seeded0003", [p["Id"] for p in listed])
        self.cli("organizations", "update-policy", "--policy-id", "p-seeded0000", "--content", DENY + "\n\n")
        self.eventually(DENY + "\n\n", lambda: self.content("p-seeded0000"))


class WorkSpaces(SimulatorTest):
    @classmethod
    def seed(cls):
        world = super().seed()
        account = next(a for a in world["accounts"] if a["id"] == MANAGEMENT)
        account["regions"][REGION]["workspaces-instances"] = {"instances": [
            {"id": f"wsinst-{n:010d}", **({"instance": f"i-{n:017x}"} if n % 3 else {"state": "DEALLOCATED", "billing": "MONTHLY"})}
            for n in range(1, 12)]}
        return world

    def test_listing_and_reading(self):
        for protocol in ("smithy-rpc-v2-cbor", "json"):
            client = self.client("workspaces-instances", protocol=protocol)
            for size in (5, 25):
                found = self.pages(client.list_workspace_instances, "WorkspaceInstances", "MaxResults",
                                   ("NextToken", "NextToken"), size)
                self.assertEqual([f"wsinst-{n:010d}" for n in range(1, 12)], [i["WorkspaceInstanceId"] for i in found])
            gone = client.list_workspace_instances(ProvisionStates=["DEALLOCATED"])["WorkspaceInstances"]
            self.assertEqual(3, len(gone))
            self.assertNotIn("EC2ManagedInstance", gone[0])
            one = client.get_workspace_instance(WorkspaceInstanceId="wsinst-0000000001")
            self.assertEqual(("ALLOCATED", "i-00000000000000001", "HOURLY"), (
                one["ProvisionState"], one["EC2ManagedInstance"]["InstanceId"], one["BillingConfiguration"]["BillingMode"]))
            self.refused("ResourceNotFoundException", client.get_workspace_instance, WorkspaceInstanceId="wsinst-0000000099")
            self.refused("ValidationException", client.list_workspace_instances, NextToken="nonsense")

    def test_the_command_line(self):
        found = self.cli("workspaces-instances", "list-workspace-instances", "--page-size", "4")["WorkspaceInstances"]
        self.assertEqual(11, len(found))
