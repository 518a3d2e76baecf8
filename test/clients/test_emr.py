"""EMR's security configurations and clusters, with the commands by which a person replaces one."""

import json

from harness import MANAGEMENT, REGION, SimulatorTest

PART = "InstanceMetadataServiceConfiguration"


class Emr(SimulatorTest):
    @classmethod
    def seed(cls):
        world = super().seed()
        regional = next(a for a in world["accounts"] if a["id"] == MANAGEMENT)["regions"][REGION]
        regional["elasticmapreduce"] = {
            "security_configurations": [{"name": f"secure-{n:02d}", "document": {"EncryptionConfiguration": {
                "EnableInTransitEncryption": False, "EnableAtRestEncryption": False}}} for n in range(1, 54)],
            "clusters": [
                {"id": f"j-{n:013d}", "name": f"cluster-{n}", "state": "TERMINATED" if n == 2 else "WAITING",
                 "security_configuration": "secure-01" if n % 2 else "", "tags": {"team": "data"},
                 "created": f"2026-01-01T{n // 60:02d}:{n % 60:02d}:00Z"} for n in range(1, 53)],
        }
        return world

    def setUp(self):
        super().setUp()
        self.emr = self.client("emr")

    def listed(self, operation, key, **kwargs):
        pages = list(self.emr.get_paginator(operation).paginate(**kwargs))
        self.assertLessEqual(max(len(p[key]) for p in pages), 50)
        return [item for p in pages for item in p[key]]

    def exists(self, name):
        try:
            return self.emr.describe_security_configuration(Name=name)["Name"] == name
        except self.emr.exceptions.InvalidRequestException:
            return False

    def by_cli(self, *args):
        # The AWS CLI's emr commands do not read AWS_ENDPOINT_URL.
        return self.cli("emr", *args, "--endpoint-url", self.server.url)

    def test_lists(self):
        names = [c["Name"] for c in self.listed("list_security_configurations", "SecurityConfigurations")]
        self.assertEqual([f"secure-{n:02d}" for n in range(1, 54)], names[:53])
        clusters = self.listed("list_clusters", "Clusters")
        self.assertEqual([f"cluster-{n}" for n in range(52, 0, -1)], [c["Name"] for c in clusters])
        waiting = self.listed("list_clusters", "Clusters", ClusterStates=["WAITING", "RUNNING"])
        self.assertEqual(51, len(waiting))
        self.assertEqual(1, len(self.listed("list_clusters", "Clusters", ClusterStates=["TERMINATED"])))
        one = self.emr.describe_cluster(ClusterId="j-0000000000001")["Cluster"]
        self.assertEqual(("secure-01", [{"Key": "team", "Value": "data"}]), (one["SecurityConfiguration"], one["Tags"]))
        self.assertNotIn("SecurityConfiguration", self.emr.describe_cluster(ClusterId="j-0000000000004")["Cluster"])

    def test_a_configuration_is_replaced(self):
        # What the plan tells a person to do, without jq.
        document = json.loads(self.by_cli("describe-security-configuration", "--name", "secure-07")["SecurityConfiguration"])
        document[PART] = {"MinimumInstanceMetadataServiceVersion": 2, "HttpPutResponseHopLimit": 1}
        self.by_cli("create-security-configuration", "--name", "secure-07-imdsv2", "--security-configuration", json.dumps(document))
        self.eventually(True, lambda: self.exists("secure-07-imdsv2"))
        made = self.emr.describe_security_configuration(Name="secure-07-imdsv2")
        self.assertEqual(document, json.loads(made["SecurityConfiguration"]))
        self.by_cli("delete-security-configuration", "--name", "secure-07-imdsv2")
        self.eventually(False, lambda: self.exists("secure-07-imdsv2"))

    def test_by_boto3_too(self):
        self.emr.create_security_configuration(Name="mine", SecurityConfiguration="{}")
        self.refused("InvalidRequestException", self.emr.create_security_configuration, Name="mine", SecurityConfiguration="{}")
        self.emr.delete_security_configuration(Name="mine")
        self.refused("InvalidRequestException", self.emr.delete_security_configuration, Name="mine")

    def test_refusals(self):
        create = self.emr.create_security_configuration
        for wrong in ("{", json.dumps({PART: {"MinimumInstanceMetadataServiceVersion": 3}}),
                      json.dumps({PART: {"HttpPutResponseHopLimit": 65}})):
            self.refused("InvalidRequestException", create, Name="wrong", SecurityConfiguration=wrong)
        self.assertIn("does not exist", self.refused(
            "InvalidRequestException", self.emr.describe_security_configuration, Name="nobody"))
        self.assertIn("is not valid", self.refused(
            "InvalidRequestException", self.emr.describe_cluster, ClusterId="j-9999999999999"))
        self.refused("InvalidRequestException", self.emr.list_clusters, Marker="nonsense")
