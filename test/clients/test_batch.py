"""AWS Batch: from which launch template versions compute environments launch."""

from harness import MANAGEMENT, REGION, SimulatorTest

TEMPLATE = f"lt-{1:017x}"
OTHER = f"lt-{2:017x}"


class Environments(SimulatorTest):
    @classmethod
    def seed(cls):
        world = super().seed()
        regional = next(a for a in world["accounts"] if a["id"] == MANAGEMENT)["regions"][REGION]
        managed = {"allocation_strategy": "BEST_FIT_PROGRESSIVE", "instance_types": ["m5"], "max_vcpus": 256}
        regional["batch"] = {"compute_environments": [
            {"name": "default", "compute_resources": managed | {"launch_template": {"id": TEMPLATE}}},
            {"name": "fargate", "compute_resources": {"type": "FARGATE", "max_vcpus": 16}},
            {"name": "kubernetes", "orchestration": "EKS", "eks_cluster": f"arn:aws:eks:{REGION}:{MANAGEMENT}:cluster/shop",
             "compute_resources": managed | {"launch_template": {"id": TEMPLATE, "version": "1", "userdata_type": "EKS_NODEADM"}}},
            {"name": "numbered", "tags": {"team": "science"}, "update_policy": {"terminate_jobs": True, "timeout_minutes": 60},
             "compute_resources": managed | {"launch_template": {"name": "template-1", "version": "2", "overrides": [
                 {"id": OTHER, "version": "$Latest", "instance_types": ["m5.large"]}]}}},
            {"name": "simple", "compute_resources": managed | {"allocation_strategy": "BEST_FIT"}},
            {"name": "unmanaged", "type": "UNMANAGED"},
        ]}
        return world

    def setUp(self):
        super().setUp()
        self.batch = self.client("batch")

    def read(self, name):
        return self.batch.describe_compute_environments(computeEnvironments=[name])["computeEnvironments"][0]

    def template(self, name):
        return self.read(name)["computeResources"]["launchTemplate"]

    def test_pages_and_names(self):
        for size in (1, 2, 5, 100):
            found = self.pages(self.batch.describe_compute_environments, "computeEnvironments", "maxResults", ("nextToken", "nextToken"), size)
            self.assertEqual(["default", "fargate", "kubernetes", "numbered", "simple", "unmanaged"],
                             [e["computeEnvironmentName"] for e in found])
        numbered = self.read(found[3]["computeEnvironmentArn"])
        self.assertEqual({"team": "science"}, numbered["tags"])
        self.assertEqual({"terminateJobsOnUpdate": True, "jobExecutionTimeoutMinutes": 60}, numbered["updatePolicy"])
        self.assertIn(":cluster/AWSBatch-numbered-", numbered["ecsClusterArn"])
        self.assertEqual([], self.batch.describe_compute_environments(computeEnvironments=["nobody"])["computeEnvironments"])

    def test_an_infrastructure_update(self):
        wanted = {"launchTemplateName": "template-1", "version": "3", "overrides": [
            {"launchTemplateId": OTHER, "version": "4", "targetInstanceTypes": ["m5.large"]}]}
        answer = self.batch.update_compute_environment(computeEnvironment="numbered", computeResources={"launchTemplate": wanted})
        self.assertEqual("numbered", answer["computeEnvironmentName"])
        self.refused("ClientException", self.batch.update_compute_environment, computeEnvironment="numbered", state="DISABLED")
        self.eventually("VALID", lambda: self.read("numbered")["status"] if self.template("numbered") == wanted else None)
        self.batch.update_compute_environment(computeEnvironment="numbered", computeResources={
            "launchTemplate": {"launchTemplateId": "", "version": ""}})
        self.eventually(False, lambda: "launchTemplate" in self.read("numbered")["computeResources"])

    def test_a_scaling_update(self):
        self.batch.update_compute_environment(computeEnvironment="simple", state="DISABLED", computeResources={"maxvCpus": 8},
                                              updatePolicy={"terminateJobsOnUpdate": False})
        self.eventually(("DISABLED", 8, "VALID"), lambda: (
            self.read("simple")["state"], self.read("simple")["computeResources"]["maxvCpus"], self.read("simple")["status"]))

    def test_refusals(self):
        for name, template in [("simple", {"launchTemplateId": TEMPLATE}), ("fargate", {"launchTemplateId": TEMPLATE}),
                               ("unmanaged", {"launchTemplateId": TEMPLATE}), ("nobody", {"launchTemplateId": TEMPLATE}),
                               ("default", {"version": "3"}), ("default", {"launchTemplateId": TEMPLATE, "launchTemplateName": "template-1"})]:
            with self.subTest(name):
                self.refused("ClientException", self.batch.update_compute_environment, status=400, computeEnvironment=name,
                             computeResources={"launchTemplate": template})
        self.refused("ClientException", self.batch.describe_compute_environments, maxResults=101)
        self.refused("UnknownParameter", self.batch.update_compute_environment, computeEnvironment="default", unmanagedvCpus=4)

    def test_the_command_line(self):
        self.cli("batch", "update-compute-environment", "--compute-environment", "kubernetes", "--compute-resources",
                 '{"launchTemplate":{"launchTemplateId":"' + TEMPLATE + '","version":"5","userdataType":"EKS_NODEADM"}}')
        self.eventually({"launchTemplateId": TEMPLATE, "version": "5", "userdataType": "EKS_NODEADM"}, lambda: self.template("kubernetes"))
        found = self.cli("batch", "describe-compute-environments", "--query", "computeEnvironments[].computeEnvironmentName")
        self.assertEqual(6, len(found))
