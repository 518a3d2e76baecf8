"""Lightsail instances, as people and scripts use them."""

import datetime

from harness import MANAGEMENT, REGION, SimulatorTest


class Lightsail(SimulatorTest):
    @classmethod
    def seed(cls):
        world = super().seed()
        regional = next(a for a in world["accounts"] if a["id"] == MANAGEMENT)["regions"]
        names = [f"shop-{n}" for n in range(1, 6)]
        regional[REGION]["lightsail"] = {"page_size": 2, "instances": [
            *({"name": name, "tags": {"app": "shop"}} for name in names),
            {"name": "cold", "state": "stopped", "options": {"tokens": "required", "hop_limit": 2}, "public_ip": "198.51.100.7"},
            {"name": "closed", "options": {"endpoint": "disabled"}},
        ]}
        world["services"]["workload"]["programs"].append({
            "name": "shop-front", "speaks": "v1-only", "every": "5m", "where": {"instances": ["shop-1"]}})
        world["not_offered"] = {"lightsail": ["eu-west-3"]}
        return world

    def setUp(self):
        super().setUp()
        self.lightsail = self.client("lightsail")

    def options(self, name):
        got = self.lightsail.get_instance(instanceName=name)["instance"]["metadataOptions"]
        return got["state"], got["httpTokens"], got["httpPutResponseHopLimit"], got["httpEndpoint"]

    def test_pages(self):
        found, token, pages = [], {}, 0
        while token is not None:
            page = self.lightsail.get_instances(**token)
            self.assertLessEqual(len(page["instances"]), 2)
            found += [i["name"] for i in page["instances"]]
            pages += 1
            token = {"pageToken": page["nextPageToken"]} if page.get("nextPageToken") else None
        self.assertEqual([f"shop-{n}" for n in range(1, 6)] + ["cold", "closed"], found)
        self.assertEqual(4, pages)
        listed = [i for page in self.lightsail.get_paginator("get_instances").paginate() for i in page["instances"]]
        self.assertEqual(7, len(listed))
        self.refused("InvalidInputException", self.lightsail.get_instances, pageToken="nonsense")

    def test_one(self):
        cold = self.lightsail.get_instance(instanceName="cold", includeHealthStatus=True)["instance"]
        self.assertEqual(("stopped", 80, "198.51.100.7"), (cold["state"]["name"], cold["state"]["code"], cold["publicIpAddress"]))
        self.assertEqual("not-applicable", cold["instanceStatus"]["status"])
        shop = self.lightsail.get_instance(instanceName="shop-1", includeHealthStatus=True)["instance"]
        self.assertEqual(("ok", "ok"), (shop["instanceStatus"]["status"], shop["systemStatus"]["status"]))
        self.assertEqual([{"key": "app", "value": "shop"}], shop["tags"])
        self.assertNotIn("instanceStatus", self.lightsail.get_instance(instanceName="shop-1")["instance"])
        self.refused("NotFoundException", self.lightsail.get_instance, instanceName="never-was")

    def test_options(self):
        self.assertEqual(("applied", "optional", 1, "enabled"), self.options("shop-2"))
        done = self.lightsail.update_instance_metadata_options(
            instanceName="shop-2", httpTokens="required", httpPutResponseHopLimit=3)["operation"]
        self.assertEqual(("UpdateInstanceMetadataOptions", "shop-2"), (done["operationType"], done["resourceName"]))
        self.eventually(("applied", "required", 3, "enabled"), lambda: self.options("shop-2"))
        # What the reference says of tokens that are left out.
        self.lightsail.update_instance_metadata_options(instanceName="shop-2", httpPutResponseHopLimit=2)
        self.eventually(("applied", "optional", 2, "enabled"), lambda: self.options("shop-2"))
        update = self.lightsail.update_instance_metadata_options
        self.refused("InvalidInputException", update, instanceName="shop-2", httpPutResponseHopLimit=65)
        self.refused("InvalidInputException", update, instanceName="shop-2", httpProtocolIpv6="enabled")
        self.refused("NotFoundException", update, instanceName="never-was", httpTokens="required")

    def test_metric(self):
        now = datetime.datetime.now(datetime.timezone.utc).replace(minute=0, second=0, microsecond=0)
        now -= datetime.timedelta(hours=1)  # the last period is published late
        ask = {"metricName": "MetadataNoToken", "period": 3600, "unit": "Count", "statistics": ["Sum"],
               "startTime": now - datetime.timedelta(hours=6), "endTime": now}
        busy = self.lightsail.get_instance_metric_data(instanceName="shop-1", **ask)
        self.assertEqual("MetadataNoToken", busy["metricName"])
        self.assertEqual([24.0] * 6, [p["sum"] for p in busy["metricData"]][:6])
        quiet = self.lightsail.get_instance_metric_data(instanceName="shop-3", **ask)["metricData"]
        self.assertEqual({0.0}, {p["sum"] for p in quiet})
        self.assertEqual([], self.lightsail.get_instance_metric_data(instanceName="cold", **ask)["metricData"])
        cpu = self.lightsail.get_instance_metric_data(instanceName="shop-3", **ask | {
            "metricName": "CPUUtilization", "unit": "Percent", "statistics": ["Average", "Minimum", "Maximum", "SampleCount"]})
        self.assertTrue(all(p["minimum"] <= p["average"] <= p["maximum"] for p in cpu["metricData"]))
        refused = self.lightsail.get_instance_metric_data
        self.refused("InvalidInputException", refused, instanceName="shop-1", **ask | {"period": 90})
        self.refused("InvalidInputException", refused, instanceName="shop-1", **ask | {"startTime": now, "endTime": now})

    def test_where_it_is_not_offered(self):
        self.refused("UnknownEndpoint", self.client("lightsail", region="eu-west-3").get_instances, status=404)
        self.problems.clear()  # the one answer that no model has: AWS's own is a name that does not resolve

    def test_cli(self):
        self.assertEqual(7, len(self.cli("lightsail", "get-instances")["instances"]))
        self.cli("lightsail", "update-instance-metadata-options", "--instance-name", "shop-4", "--http-tokens", "required",
                 "--http-put-response-hop-limit", "1", "--http-endpoint", "enabled")
        self.eventually(("applied", "required", 1, "enabled"), lambda: self.options("shop-4"))
