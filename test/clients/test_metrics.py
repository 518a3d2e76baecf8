"""CloudWatch, in each of the three protocols that its clients speak."""

import datetime

from harness import SimulatorTest, instance_id

HOUR = datetime.timedelta(hours=1)


class Metrics:
    """The tests, once for each protocol below."""

    protocol = None

    def setUp(self):
        super().setUp()
        self.cloudwatch = self.client("cloudwatch", protocol=self.protocol)
        now = datetime.datetime.now(datetime.timezone.utc)
        self.end = now.replace(minute=0, second=0, microsecond=0)

    def query(self, id, instance, metric="MetadataNoToken"):
        return {"Id": id, "MetricStat": {
            "Metric": {"Namespace": "AWS/EC2", "MetricName": metric, "Dimensions": [{"Name": "InstanceId", "Value": instance}]},
            "Period": 3600, "Stat": "Sum"}}

    def read(self, queries, **kwargs):
        values, token = {}, {}
        for _ in range(1000):
            page = self.cloudwatch.get_metric_data(
                MetricDataQueries=queries, StartTime=self.end - 14 * 24 * HOUR, EndTime=self.end, **token, **kwargs)
            for r in page["MetricDataResults"]:
                have = values.setdefault(r["Id"], ([], []))
                have[0].extend(r["Timestamps"])
                have[1].extend(r["Values"])
            if not page.get("NextToken"):
                return values
            token = {"NextToken": page["NextToken"]}
        self.fail("the pages do not end")

    def test_two_weeks_hourly_in_pages_of_every_kind(self):
        queries = [self.query(f"m{n}", instance_id(n)) for n in range(1, 13)]
        whole = self.read(queries, ScanBy="TimestampAscending")
        self.assertEqual(12, len(whole))
        stamps, values = whole["m1"]  # payments: three calls every quarter of an hour
        self.assertEqual(14 * 24, len(stamps))
        self.assertEqual({HOUR}, {b - a for a, b in zip(stamps, stamps[1:])})
        self.assertGreater(sum(values), 14 * 24 * 6)
        self.assertEqual({0.0}, set(whole["m2"][1]))  # search: covered, and nothing called
        for size in (500, 1000, 4032, 100800):
            self.assertEqual(whole, self.read(queries, ScanBy="TimestampAscending", MaxDatapoints=size))
        newest = self.read(queries[:1], ScanBy="TimestampDescending")
        self.assertEqual(whole["m1"][1][::-1], newest["m1"][1])

    def test_no_dimension_proves_nothing(self):
        query = self.query("m1", instance_id(1))
        query["MetricStat"]["Metric"].pop("Dimensions")
        self.assertEqual(([], []), self.read([query])["m1"])

    def test_refusals(self):
        query = self.query("m1", instance_id(1))
        get = lambda queries, **kw: self.cloudwatch.get_metric_data(
            **({"MetricDataQueries": queries, "StartTime": self.end - HOUR, "EndTime": self.end} | kw))
        self.refused("ValidationError", get, [query, query])
        self.refused("ValidationError", get, [query], EndTime=self.end - 2 * HOUR)
        self.refused("ValidationError", get, [self.query(f"m{n}", instance_id(1)) for n in range(501)])

    def test_list_metrics(self):
        found, token = [], {}
        for _ in range(1000):
            page = self.cloudwatch.list_metrics(Namespace="AWS/EC2", MetricName="MetadataNoToken", **token)
            found += [m["Dimensions"][0]["Value"] for m in page["Metrics"]]
            if not page.get("NextToken"):
                break
            token = {"NextToken": page["NextToken"]}
        self.assertIn(instance_id(1), found)
        self.assertEqual(len(found), len(set(found)))
        [one] = self.cloudwatch.list_metrics(Namespace="AWS/EC2", MetricName="MetadataNoToken", Dimensions=[
            {"Name": "InstanceId", "Value": instance_id(2)}])["Metrics"]
        self.assertEqual("MetadataNoToken", one["MetricName"])

    def test_statistics(self):
        points = self.cloudwatch.get_metric_statistics(
            Namespace="AWS/EC2", MetricName="MetadataNoToken", Dimensions=[{"Name": "InstanceId", "Value": instance_id(1)}],
            StartTime=self.end - 24 * HOUR, EndTime=self.end, Period=3600, Statistics=["Sum", "SampleCount"])["Datapoints"]
        self.assertEqual(24, len(points))
        self.assertTrue(all(p["Sum"] > 0 for p in points))
        self.refused("InvalidParameterCombination", self.cloudwatch.get_metric_statistics,
                     Namespace="AWS/EC2", MetricName="MetadataNoToken", StartTime=self.end, EndTime=self.end - HOUR,
                     Period=3600, Statistics=["Sum"])

    def test_what_was_put_is_read(self):
        self.cloudwatch.put_metric_data(Namespace="Custom", MetricData=[
            {"MetricName": "Errors", "Dimensions": [{"Name": "App", "Value": "shop"}], "Timestamp": self.end - 2 * HOUR, "Value": n}
            for n in (1, 2, 4)])
        query = self.query("e1", "")
        query["MetricStat"]["Metric"] = {
            "Namespace": "Custom", "MetricName": "Errors", "Dimensions": [{"Name": "App", "Value": "shop"}]}
        self.eventually([7.0], lambda: self.read([query])["e1"][1])

    def test_alarms(self):
        states = lambda found: {a["AlarmName"]: a["StateValue"] for a in found}
        page = self.cloudwatch.describe_alarms()
        self.assertEqual({"errors": "ALARM", "latency": "INSUFFICIENT_DATA"}, states(page["MetricAlarms"]))
        self.assertEqual([], page["CompositeAlarms"])
        page = self.cloudwatch.describe_alarms(
            AlarmNames=["errors", "whole-shop", "nobody"], AlarmTypes=["MetricAlarm", "CompositeAlarm"], MaxRecords=100)
        self.assertEqual({"errors": "ALARM"}, states(page["MetricAlarms"]))
        self.assertEqual({"whole-shop": "OK"}, states(page["CompositeAlarms"]))
        self.assertEqual(["errors"], [a["AlarmName"] for a in self.cloudwatch.describe_alarms(
            StateValue="ALARM")["MetricAlarms"]])


class InCBOR(Metrics, SimulatorTest):
    protocol = "smithy-rpc-v2-cbor"


class InJSON(Metrics, SimulatorTest):
    protocol = "json"


class InQuery(Metrics, SimulatorTest):
    protocol = "query"
