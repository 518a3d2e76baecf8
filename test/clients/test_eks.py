"""Managed node groups of EKS, as people and scripts update them."""

from harness import MANAGEMENT, REGION, SimulatorTest

TEMPLATE = "lt-00000000000000001"


class Nodegroups(SimulatorTest):
    @classmethod
    def seed(cls):
        world = super().seed()
        services = next(a for a in world["accounts"] if a["id"] == MANAGEMENT)["regions"][REGION]
        services["ec2"]["templates"].append({"id": "lt-0000000000000000a", "name": "nodes", "versions": [
            {"data": {"MetadataOptions": {"HttpTokens": tokens}}} for tokens in ("optional", "required")]})
        image = "ami-0123456789abcdef1"
        services["eks"] = {
            "node_seconds": 1,
            "releases": [{"version": "1.32", "release": "1.32.3-20250301", "image": image},
                         {"version": "1.32", "release": "1.32.9-20250901", "image": image}],
            "clusters": [
                {"name": "prod", "version": "1.33", "tags": {"team": "core"}, "nodegroups": [
                    {"name": "golden", "template": "template-1", "template_version": 3, "version": "1.32"},
                    {"name": "plain", "version": "1.32", "release_version": "1.32.3-20250301"},
                    {"name": "web", "template": "nodes", "version": "1.32", "release_version": "1.32.3-20250301", "desired": 2,
                     "image": image, "instance_types": ["m5.large"], "tags": {"app": "web"}, "labels": {"tier": "front"}},
                    {"name": "stuck", "template": "nodes", "evicts": "a disruption budget allows none"},
                ]}] + [{"name": f"empty-{n}"} for n in range(5)],
        }
        return world

    def setUp(self):
        super().setUp()
        self.eks = self.client("eks")

    def group(self, name):
        return self.eks.describe_nodegroup(clusterName="prod", nodegroupName=name)["nodegroup"]

    def test_clusters_are_listed_and_described(self):
        found = self.pages(self.eks.list_clusters, "clusters", "maxResults", ("nextToken", "nextToken"), 2)
        self.assertEqual([f"empty-{n}" for n in range(5)] + ["prod"], found)
        self.assertEqual(found, self.eks.list_clusters(include=["all"])["clusters"])
        cluster = self.eks.describe_cluster(name="prod")["cluster"]
        self.assertEqual(("prod", "1.33", "ACTIVE", {"team": "core"}),
                         tuple(cluster[k] for k in ("name", "version", "status", "tags")))
        self.assertEqual(cluster["arn"], self.cli("eks", "describe-cluster", "--name", "prod")["cluster"]["arn"])
        self.refused("ResourceNotFoundException", self.eks.describe_cluster, name="none", status=404)
        self.refused("InvalidParameterException", self.eks.list_clusters, nextToken="x", status=400)

    def test_nodegroups_are_listed_and_described(self):
        found = self.pages(self.eks.list_nodegroups, "nodegroups", "maxResults", ("nextToken", "nextToken"), 3, clusterName="prod")
        self.assertEqual(["golden", "plain", "stuck", "web"], found)
        self.assertEqual(found, self.cli("eks", "list-nodegroups", "--cluster-name", "prod")["nodegroups"])
        golden = self.group("golden")
        self.assertEqual(("CUSTOM", "ami-0123456789abcdef0"), (golden["amiType"], golden["releaseVersion"]))
        self.assertEqual({"name": "template-1", "version": "3", "id": TEMPLATE}, golden["launchTemplate"])
        self.assertNotIn("launchTemplate", self.group("plain"))
        self.refused("ResourceNotFoundException", self.eks.describe_nodegroup, clusterName="prod", nodegroupName="none")
        self.refused("ResourceNotFoundException", self.eks.list_nodegroups, clusterName="none")

    def test_an_update_replaces_the_nodes_and_can_be_taken_back(self):
        web = self.group("web")
        autoscaling, ec2 = self.client("autoscaling"), self.client("ec2")
        name = web["resources"]["autoScalingGroups"][0]["name"]

        def nodes():
            [group] = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
            ids = [i["InstanceId"] for i in group["Instances"] if i["LifecycleState"] == "InService"]
            reservations = ec2.describe_instances(InstanceIds=ids)["Reservations"] if ids else []
            return ids, [i["MetadataOptions"]["HttpTokens"] for r in reservations for i in r["Instances"]]

        self.eventually(2, lambda: len(nodes()[0]))
        before, tokens = nodes()
        self.assertEqual(["optional"] * 2, tokens)
        asked = {
            "clusterName": "prod", "nodegroupName": "web", "clientRequestToken": "once", "version": web["version"],
            "releaseVersion": web["releaseVersion"], "launchTemplate": {"id": "lt-0000000000000000a", "version": "2"},
        }
        update = self.eks.update_nodegroup_version(**asked)["update"]
        self.assertEqual(("InProgress", "VersionUpdate"), (update["status"], update["type"]))
        self.assertEqual(update["id"], self.eks.update_nodegroup_version(**asked)["update"]["id"])
        self.refused("InvalidParameterException", self.eks.update_nodegroup_version, **(asked | {"force": True}))
        self.refused("ResourceInUseException", self.eks.update_nodegroup_version, status=409,
                     **(asked | {"clientRequestToken": "twice"}))
        self.eks.get_waiter("nodegroup_active").wait(
            clusterName="prod", nodegroupName="web", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        about = {"name": "prod", "nodegroupName": "web"}
        self.eventually("Successful", lambda: self.eks.describe_update(updateId=update["id"], **about)["update"]["status"])
        self.eventually("2", lambda: self.group("web")["launchTemplate"]["version"])
        self.assertEqual((web["version"], web["releaseVersion"]),
                         tuple(self.group("web")[k] for k in ("version", "releaseVersion")))
        self.eventually(["required"] * 2, lambda: nodes()[1])
        self.assertFalse(set(before) & set(nodes()[0]))

        back = self.cli("eks", "update-nodegroup-version", "--cluster-name", "prod", "--nodegroup-name", "web",
                        "--launch-template", "id=lt-0000000000000000a,version=1", "--kubernetes-version", web["version"],
                        "--release-version", web["releaseVersion"])["update"]
        self.assertEqual(sorted([update["id"], back["id"]]), sorted(self.pages(
            self.eks.list_updates, "updateIds", "maxResults", ("nextToken", "nextToken"), 1, **about)))
        self.assertIsNone(self.cli("eks", "wait", "--region", REGION, "nodegroup-active",
                                   "--cluster-name", "prod", "--nodegroup-name", "web"))
        self.eventually("1", lambda: self.group("web")["launchTemplate"]["version"])

    def test_what_is_not_pinned_moves(self):
        self.eks.update_nodegroup_version(clusterName="prod", nodegroupName="plain")
        self.eventually(("ACTIVE", "1.33"), lambda: tuple(self.group("plain")[k] for k in ("status", "version")))
        for refused in ({"version": "1.32"}, {"version": "1.34"}, {"releaseVersion": "1.32.9-20250901"},
                        {"launchTemplate": {"name": "nodes", "version": "2"}}):
            self.refused("InvalidParameterException", self.eks.update_nodegroup_version,
                         clusterName="prod", nodegroupName="plain", **refused)
        self.refused("InvalidParameterException", self.eks.update_nodegroup_version,
                     clusterName="prod", nodegroupName="golden", version="1.32")

    def test_an_update_that_cannot_drain_fails(self):
        update = self.eks.update_nodegroup_version(clusterName="prod", nodegroupName="stuck")["update"]["id"]
        about = {"name": "prod", "nodegroupName": "stuck", "updateId": update}
        self.eventually("Failed", lambda: self.eks.describe_update(**about)["update"]["status"])
        [error] = self.eks.describe_update(**about)["update"]["errors"]
        self.assertEqual("PodEvictionFailure", error["errorCode"])
        self.refused("ResourceNotFoundException", self.eks.describe_update, **(about | {"updateId": "none"}))
