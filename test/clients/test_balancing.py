"""Elastic Load Balancing version 2: target groups and the health of their targets."""

from harness import SimulatorTest, instance_id

GROUPS = ["attached", "bare", "empty"]


class TargetGroups(SimulatorTest):
    def setUp(self):
        super().setUp()
        self.elb = self.client("elbv2")

    def arn(self, name):
        return self.elb.describe_target_groups(Names=[name])["TargetGroups"][0]["TargetGroupArn"]

    def test_pages_names_and_arns(self):
        for size in (1, 2, 3, 400):
            found = self.pages(self.elb.describe_target_groups, "TargetGroups", "PageSize", ("NextMarker", "Marker"), size)
            self.assertEqual(GROUPS, [g["TargetGroupName"] for g in found])
        self.assertEqual(["bare"], [g["TargetGroupName"] for g in self.elb.describe_target_groups(
            TargetGroupArns=[self.arn("bare")])["TargetGroups"]])
        self.refused("TargetGroupNotFound", self.elb.describe_target_groups, Names=["nobody"])
        self.refused("ValidationError", self.elb.describe_target_groups, PageSize=400, Marker="!")

    def test_health(self):
        health = lambda name, **more: {d["Target"]["Id"]: d["TargetHealth"]["State"] for d in self.elb.describe_target_health(
            TargetGroupArn=self.arn(name), **more)["TargetHealthDescriptions"]}
        self.assertEqual({instance_id(1): "healthy", instance_id(20): "unused"}, health("bare"))
        self.assertEqual({}, health("empty"))
        self.eventually(["healthy", "healthy"], lambda: list(health("attached").values()))
        self.assertEqual({instance_id(2): "unused"}, health("bare", Targets=[{"Id": instance_id(2)}]))
        self.refused("TargetGroupNotFound", self.elb.describe_target_health, TargetGroupArn=self.arn("bare") + "0")

    def test_cli(self):
        found = self.cli("elbv2", "describe-target-health", "--target-group-arn", self.arn("bare"))
        self.assertEqual(2, len(found["TargetHealthDescriptions"]))
