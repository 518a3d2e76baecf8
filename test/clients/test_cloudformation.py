"""CloudFormation's stacks and what they manage, nested ones among them."""

from harness import MANAGEMENT, REGION, SimulatorTest


class CloudFormation(SimulatorTest):
    @classmethod
    def seed(cls):
        world = super().seed()
        regional = next(a for a in world["accounts"] if a["id"] == MANAGEMENT)["regions"][REGION]
        many = [{"logical": f"Q{n}", "physical": f"https://sqs/q{n}", "type": "AWS::SQS::Queue"} for n in range(103)]
        regional["cloudformation"] = {"stacks": [
            {"name": "shop", "resources": [
                {"logical": "Web", "physical": "shop-Web-1", "type": "AWS::CloudFormation::Stack"},
                {"logical": "Coming", "type": "AWS::EC2::Instance", "status": "CREATE_IN_PROGRESS"}, *many]},
            {"name": "shop-Web-1", "parent": "shop", "resources": [
                {"logical": "Group", "physical": "web", "type": "AWS::AutoScaling::AutoScalingGroup"}]},
            {"name": "shop-Inner", "parent": "shop-Web-1", "status": "UPDATE_COMPLETE"},
            {"name": "old", "status": "DELETE_COMPLETE"},
            *[{"name": f"stack-{n:03d}"} for n in range(100)]]}
        return world

    def setUp(self):
        super().setUp()
        self.cloudformation = self.client("cloudformation")

    def stacks(self, **kwargs):
        pages = list(self.cloudformation.get_paginator("list_stacks").paginate(**kwargs))
        self.assertLessEqual(max(len(p["StackSummaries"]) for p in pages), 100)
        return [s for p in pages for s in p["StackSummaries"]]

    def test_stacks(self):
        all_of_them = self.stacks()
        self.assertEqual(104, len(all_of_them))
        self.assertEqual(["stack-099", "shop"], [all_of_them[0]["StackName"], all_of_them[-1]["StackName"]])
        by_name = {s["StackName"]: s for s in all_of_them}
        self.assertNotIn("RootId", by_name["shop"])
        inner = by_name["shop-Inner"]
        self.assertEqual((by_name["shop-Web-1"]["StackId"], by_name["shop"]["StackId"]), (inner["ParentId"], inner["RootId"]))
        self.assertIn("DeletionTime", by_name["old"])
        self.assertEqual(["shop-Inner"], [s["StackName"] for s in self.stacks(StackStatusFilter=["UPDATE_COMPLETE"])])

    def test_resources(self):
        pages = list(self.cloudformation.get_paginator("list_stack_resources").paginate(StackName="shop"))
        self.assertEqual([100, 5], [len(p["StackResourceSummaries"]) for p in pages])
        self.assertNotIn("PhysicalResourceId", pages[0]["StackResourceSummaries"][1])
        arn = next(s["StackId"] for s in self.stacks() if s["StackName"] == "shop-Web-1")
        group = self.cloudformation.list_stack_resources(StackName=arn)["StackResourceSummaries"][0]
        self.assertEqual(("Group", "web", "AWS::AutoScaling::AutoScalingGroup"),
                         (group["LogicalResourceId"], group["PhysicalResourceId"], group["ResourceType"]))
        self.refused("ValidationError", self.cloudformation.list_stack_resources, StackName="nobody")
        self.refused("ValidationError", self.cloudformation.list_stack_resources, StackName="old")
        self.refused("ValidationError", self.cloudformation.list_stacks, NextToken="!")

    def test_cli(self):
        listed = self.cli("cloudformation", "list-stack-resources", "--stack-name", "shop")
        self.assertEqual(105, len(listed["StackResourceSummaries"]))
        self.assertEqual(104, len(self.cli("cloudformation", "list-stacks")["StackSummaries"]))
