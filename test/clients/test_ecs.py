"""Elastic Container Service: what runs containers, in which network modes."""

from harness import MANAGEMENT, REGION, SimulatorTest, instance_id

GROUP = f"arn:aws:autoscaling:{REGION}:{MANAGEMENT}:autoScalingGroup:0a1b2c3d:autoScalingGroupName/group-1"
ROLE = f"arn:aws:iam::{MANAGEMENT}:role/"


def container_instance(n):
    return f"{n:032x}"


class Capacity(SimulatorTest):
    @classmethod
    def seed(cls):
        world = super().seed()
        regional = next(a for a in world["accounts"] if a["id"] == MANAGEMENT)["regions"][REGION]
        regional["ecs"] = {
            "task_definitions": [
                {"family": "web", "network_mode": "awsvpc", "task_role_arn": ROLE + "web"}, {"family": "worker"},
                {"family": "worker", "revision": 2, "network_mode": "bridge"},
                {"family": "iis", "operating_system": "WINDOWS_SERVER_2022_CORE"},
            ],
            "capacity_providers": [{"name": f"capacity-{n}", "auto_scaling_group": GROUP, "tags": {"n": str(n)}} for n in range(1, 13)] + [
                {"name": "own", "cluster": "shop", "infrastructure_role": ROLE + "infrastructure",
                 "instance_profile": f"arn:aws:iam::{MANAGEMENT}:instance-profile/ecs"}],
            "clusters": [{"name": "default"}, {"name": "empty"}, {
                "name": "shop", "capacity_providers": ["capacity-1", "own", "FARGATE"], "tags": {"team": "shop"},
                "container_instances": [
                    {"id": container_instance(n), "instance": instance_id(n), "capacity_provider": "capacity-1", "tags": {"n": str(n)},
                     "status": "DRAINING" if n == 3 else "ACTIVE"} for n in range(1, 8)],
                "tasks": [{"definition": "web:1", "instance": instance_id(n)} for n in range(1, 8)] + [
                    {"definition": "worker:1", "instance": instance_id(1), "task_role_arn": ROLE + "worker"}, {"definition": "web:1"}],
            }],
        }
        return world

    def setUp(self):
        super().setUp()
        self.ecs = self.client("ecs")

    def listed(self, call, key, size, **kwargs):
        return self.pages(call, key, "maxResults", ("nextToken", "nextToken"), size, **kwargs)

    def test_clusters(self):
        for size in (1, 2, 3, 100):
            found = self.listed(self.ecs.list_clusters, "clusterArns", size)
            self.assertEqual(["default", "empty", "shop"], [arn.split("/")[-1] for arn in found])
        got = self.ecs.describe_clusters(clusters=found + ["nobody"], include=["TAGS"])
        self.assertEqual([0, 0, 7], [c["registeredContainerInstancesCount"] for c in got["clusters"]])
        self.assertEqual([{"key": "team", "value": "shop"}], got["clusters"][2]["tags"])
        self.assertEqual(["MISSING"], [f["reason"] for f in got["failures"]])
        self.assertEqual("default", self.ecs.describe_clusters()["clusters"][0]["clusterName"])

    def test_container_instances(self):
        for size in (1, 3, 7, 100):
            found = self.listed(self.ecs.list_container_instances, "containerInstanceArns", size, cluster="shop")
            self.assertEqual(7, len(found))
        draining = self.ecs.list_container_instances(cluster="shop", status="DRAINING")["containerInstanceArns"]
        got = self.ecs.describe_container_instances(cluster="shop", containerInstances=draining + ["f" * 32], include=["TAGS"])
        [one] = got["containerInstances"]
        self.assertEqual((instance_id(3), "DRAINING", "capacity-1", 1), tuple(
            one[k] for k in ("ec2InstanceId", "status", "capacityProviderName", "runningTasksCount")))
        self.assertEqual(1, len(got["failures"]))

    def test_tasks_and_their_definitions(self):
        for size in (2, 9, 100):
            found = self.listed(self.ecs.list_tasks, "taskArns", size, cluster="shop")
            self.assertEqual(9, len(found))
        here = self.ecs.list_tasks(cluster="shop", containerInstance=container_instance(1))["taskArns"]
        tasks = self.ecs.describe_tasks(cluster="shop", tasks=here)["tasks"]
        self.assertEqual({("web:1", None), ("worker:1", ROLE + "worker")}, {
            (t["taskDefinitionArn"].split("/")[-1], t["overrides"].get("taskRoleArn")) for t in tasks})
        modes = {name: self.ecs.describe_task_definition(taskDefinition=name)["taskDefinition"].get("networkMode")
                 for name in ("web", "worker:1", "worker", "iis")}
        self.assertEqual({"web": "awsvpc", "worker:1": None, "worker": "bridge", "iis": None}, modes)

    def test_capacity_providers(self):
        account = self.listed(self.ecs.describe_capacity_providers, "capacityProviders", 10)
        self.assertEqual(14, len(account))
        self.assertNotIn("own", [p["name"] for p in account])
        group = next(p for p in account if p["name"] == "capacity-3")
        self.assertEqual(GROUP, group["autoScalingGroupProvider"]["autoScalingGroupArn"])
        of_shop = self.ecs.describe_capacity_providers(cluster="shop", include=["TAGS"])["capacityProviders"]
        self.assertEqual(["FARGATE", "capacity-1", "own"], [p["name"] for p in of_shop])
        self.assertEqual(ROLE + "infrastructure", of_shop[2]["managedInstancesProvider"]["infrastructureRoleArn"])

    def test_refusals(self):
        self.refused("ClusterNotFoundException", self.ecs.list_tasks, cluster="nobody")
        self.refused("InvalidParameterException", self.ecs.list_clusters, maxResults=101)
        self.refused("InvalidParameterException", self.ecs.list_clusters, nextToken="!")
        self.refused("InvalidParameterException", self.ecs.describe_tasks, cluster="shop", tasks=[])
        self.refused("ClientException", self.ecs.describe_task_definition, taskDefinition="worker:9")
        self.refused("UnknownParameter", self.ecs.list_tasks, cluster="shop", startedBy="me")

    def test_the_command_line(self):
        ids = self.cli("ecs", "list-container-instances", "--cluster", "shop", "--query", "containerInstanceArns[]")
        hosts = self.cli("ecs", "describe-container-instances", "--cluster", "shop", "--container-instances", *ids,
                         "--query", "containerInstances[?capacityProviderName=='capacity-1'].ec2InstanceId")
        self.assertEqual([instance_id(n) for n in range(1, 8)], hosts)
