"""Trails: their log files in S3, their newest events by LookupEvents, and a question about them to Athena."""

import datetime
import gzip
import json
import time

from harness import MANAGEMENT, MEMBER, REGION, SimulatorTest, instance_id

LOGS = "555566667777"
BUCKET, ELSEWHERE = "org-trail", "us-west-2"
CALLER = instance_id(11)  # it has an instance profile
SQL = (
    "SELECT substr(eventtime, 1, 10) AS day, useridentity.accountid AS account, useridentity.arn AS arn, "
    "useridentity.principalid AS principal, useridentity.sessioncontext.sessionissuer.username AS role, "
    "useridentity.sessioncontext.ec2roledelivery AS delivery, useragent AS agent, count(*) AS calls, "
    "min(eventtime) AS first_call, max(eventtime) AS last_call FROM \"audit\".\"logs\" "
    "WHERE useridentity.sessioncontext.ec2roledelivery IN ('1.0', '2.0') "
    "AND eventtime >= '{0}T00:00:00Z' AND eventtime < '{1}T00:00:00Z' GROUP BY 1, 2, 3, 4, 5, 6, 7")


class Trails(SimulatorTest):
    @classmethod
    def seed(cls):
        world = super().seed()
        world["services"]["workload"]["programs"].append({
            "name": "billing", "user_agent": "Boto3/1.9.2 Python/2.7.18 Botocore/1.12.2", "speaks": "v1-only", "every": "30m",
            "api_calls": ["s3:GetObject", "ec2:DescribeTags"], "where": {"instances": [CALLER]}})
        world["services"]["cloudtrail"] = {"trails": [{
            "name": "org", "bucket": BUCKET, "organization": "o-exampleorg", "accounts": [MANAGEMENT], "data_events": True,
            "history": "72h"}]}
        accounts = {a["id"]: a for a in world["accounts"]}
        accounts[LOGS]["global"] = {"s3": {"buckets": [
            {"name": BUCKET, "region": REGION, "readers": [MANAGEMENT]},
            {"name": "far", "region": ELSEWHERE, "readers": ["*"], "objects": [
                {"key": f"a/{n}/b c+ü&.txt", "text": "0123456789"} for n in range(5)] + [{"key": "top", "text": "x"}]},
            {"name": "shut", "region": REGION}]}}
        accounts[MANAGEMENT]["global"] = {"athena": {
            "region": REGION, "workgroups": [{"name": "audit", "output": "s3://results/"}],
            "tables": [{"database": "audit", "name": "logs", "trail": "org"}]}}
        return world

    def setUp(self):
        super().setUp()
        self.s3 = self.client("s3")
        self.trail = self.client("cloudtrail")
        self.athena = self.client("athena")

    def test_log_files(self):
        prefix = f"AWSLogs/o-exampleorg/{MANAGEMENT}/CloudTrail/{REGION}/"
        objects = [o for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix) for o in page["Contents"]]
        self.assertTrue(3 * 144 - 3 <= len(objects) <= 3 * 144 + 1, len(objects))
        self.assertEqual(sorted(o["Key"] for o in objects), [o["Key"] for o in objects])
        found = []
        for o in objects[-12:]:
            body = self.s3.get_object(Bucket=BUCKET, Key=o["Key"])["Body"].read()
            self.assertEqual(o["Size"], len(body))
            found += json.loads(gzip.decompress(body))["Records"]
        delivered = [r for r in found if r["userIdentity"].get("sessionContext", {}).get("ec2RoleDelivery")]
        self.assertEqual({"1.0"}, {r["userIdentity"]["sessionContext"]["ec2RoleDelivery"] for r in delivered})
        self.assertEqual({f"arn:aws:sts::{MANAGEMENT}:assumed-role/app/{CALLER}"}, {r["userIdentity"]["arn"] for r in delivered})
        self.assertEqual({"GetObject", "DescribeTags"}, {r["eventName"] for r in delivered})
        self.assertTrue(len(found) > len(delivered) > 3)

    def test_pages_and_prefixes(self):
        far = self.client("s3", region=ELSEWHERE)
        keys = [f"a/{n}/b c+ü&.txt" for n in range(5)] + ["top"]
        for size in range(1, 8):
            found = self.pages(far.list_objects_v2, "Contents", "MaxKeys", ("NextContinuationToken", "ContinuationToken"), size, Bucket="far")
            self.assertEqual(keys, [o["Key"] for o in found])
        for size in (1, 2, 3, 10):
            pages = list(far.get_paginator("list_objects_v2").paginate(Bucket="far", Delimiter="/", PaginationConfig={"PageSize": size}))
            self.assertEqual(["a/"], [p["Prefix"] for page in pages for p in page.get("CommonPrefixes", [])])
            self.assertEqual(["top"], [o["Key"] for page in pages for o in page.get("Contents", [])])
            pages = list(far.get_paginator("list_objects_v2").paginate(
                Bucket="far", Prefix="a/", Delimiter="/", PaginationConfig={"PageSize": size}))
            self.assertEqual([f"a/{n}/" for n in range(5)], [p["Prefix"] for page in pages for p in page["CommonPrefixes"]])
        after = far.list_objects_v2(Bucket="far", StartAfter="a/3")
        self.assertEqual(keys[3:], [o["Key"] for o in after["Contents"]])

    def test_ranges_and_conditions(self):
        far = self.client("s3", region=ELSEWHERE)
        for asked, got in [("bytes=0-3", b"0123"), ("bytes=8-", b"89"), ("bytes=-3", b"789"), ("bytes=5-99", b"56789")]:
            answer = far.get_object(Bucket="far", Key="a/0/b c+ü&.txt", Range=asked)
            self.assertEqual((206, got), (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Body"].read()))
        tag = far.get_object(Bucket="far", Key="top")["ETag"]
        self.assertEqual(b"x", far.get_object(Bucket="far", Key="top", IfMatch=tag)["Body"].read())
        self.refused("PreconditionFailed", far.get_object, Bucket="far", Key="top", IfMatch='"other"', status=412)
        self.refused("InvalidRange", far.get_object, Bucket="far", Key="top", Range="bytes=5-6", status=416)

    def test_where_a_bucket_is_and_who_may_read_it(self):
        self.assertEqual(REGION, self.s3.head_bucket(Bucket=BUCKET)["BucketRegion"])
        # boto3 follows the redirect to the bucket's region by itself.
        self.assertEqual(b"x", self.s3.get_object(Bucket="far", Key="top")["Body"].read())
        self.refused("404", self.s3.head_bucket, Bucket="nowhere", status=404)
        self.refused("403", self.s3.head_bucket, Bucket="shut", status=403)
        self.refused("NoSuchBucket", self.s3.list_objects_v2, Bucket="nowhere", status=404)
        self.refused("NoSuchKey", self.s3.get_object, Bucket=BUCKET, Key="nothing", status=404)
        self.refused("AccessDenied", self.s3.list_objects_v2, Bucket="shut", status=403)
        self.refused("AccessDenied", self.client("s3", account=MEMBER).list_objects_v2, Bucket=BUCKET, status=403)
        self.refused("InvalidAccessKeyId", self.client("s3", account="999999999999").list_objects_v2, Bucket=BUCKET, status=403)

    def test_the_aws_cli(self):
        listed = self.cli("s3api", "list-objects-v2", "--bucket", BUCKET, "--max-items", "3")
        self.assertEqual(3, len(listed["Contents"]))
        events = self.cli("cloudtrail", "lookup-events", "--max-items", "5", "--lookup-attributes", f"AttributeKey=Username,AttributeValue={CALLER}")
        self.assertEqual({CALLER}, {e["Username"] for e in events["Events"]})
        started = self.cli("athena", "start-query-execution", "--work-group", "audit", "--query-string", SQL.format("2026-01-01", "2026-01-02"))
        self.assertTrue(started["QueryExecutionId"])

    def test_look_ups(self):
        now = datetime.datetime.now(datetime.timezone.utc)
        span = {"StartTime": now - datetime.timedelta(hours=6), "EndTime": now - datetime.timedelta(hours=1)}
        mine = {"LookupAttributes": [{"AttributeKey": "Username", "AttributeValue": CALLER}]}
        events, token = [], {}
        while True:  # two calls a second are allowed
            time.sleep(0.6)
            page = self.trail.lookup_events(**span, **mine, MaxResults=4, **token)
            self.assertLessEqual(len(page["Events"]), 4)
            events += page["Events"]
            if "NextToken" not in page:
                break
            token = {"NextToken": page["NextToken"]}
        self.assertEqual(10, len(events))  # every half hour; calls on objects are data events
        self.assertEqual({"DescribeTags"}, {e["EventName"] for e in events})
        times = [e["EventTime"] for e in events]
        self.assertEqual(sorted(times, reverse=True), times)
        inner = json.loads(events[0]["CloudTrailEvent"])
        self.assertEqual((events[0]["EventId"], "1.0"), (inner["eventID"], inner["userIdentity"]["sessionContext"]["ec2RoleDelivery"]))
        time.sleep(1.1)
        one = self.trail.lookup_events(LookupAttributes=[{"AttributeKey": "EventId", "AttributeValue": events[3]["EventId"]}])
        self.assertEqual([events[3]["EventId"]], [e["EventId"] for e in one["Events"]])
        time.sleep(1.1)
        self.refused("InvalidTimeRangeException", self.trail.lookup_events, StartTime=now, EndTime=now - datetime.timedelta(hours=1))
        self.refused("InvalidNextTokenException", self.trail.lookup_events, NextToken="none")
        time.sleep(1.1)
        self.refused("InvalidMaxResultsException", self.trail.lookup_events, MaxResults=51)

    def test_look_ups_are_limited(self):
        member = self.client("cloudtrail", account=MEMBER)
        member.lookup_events(MaxResults=1)
        member.lookup_events(MaxResults=1)
        self.refused("ThrottlingException", lambda: [member.lookup_events(MaxResults=1) for _ in range(5)])

    def test_a_question_to_athena(self):
        today = datetime.datetime.now(datetime.timezone.utc).date()
        asked = {"QueryString": SQL.format(today - datetime.timedelta(days=2), today), "WorkGroup": "audit",
                 "ClientRequestToken": "0123456789abcdef0123456789abcdef"}
        query = self.athena.start_query_execution(**asked)["QueryExecutionId"]
        self.assertEqual(query, self.athena.start_query_execution(**asked)["QueryExecutionId"])
        self.assertIn("not yet finished", self.refused("InvalidRequestException", self.athena.get_query_results, QueryExecutionId=query))
        state = lambda: self.athena.get_query_execution(QueryExecutionId=query)["QueryExecution"]["Status"]["State"]
        self.eventually("SUCCEEDED", state)
        done = self.athena.get_query_execution(QueryExecutionId=query)["QueryExecution"]
        self.assertGreater(done["Statistics"]["DataScannedInBytes"], 1000)
        rows = [[d["VarCharValue"] for d in row["Data"]] for page in self.athena.get_paginator("get_query_results").paginate(
            QueryExecutionId=query, PaginationConfig={"PageSize": 2}) for row in page["ResultSet"]["Rows"]]
        self.assertEqual("day", rows[0][0])
        # Two days, two forms of the user agent: S3 puts brackets around it.
        self.assertEqual([("48", CALLER)] * 4, [(r[7], r[2].rsplit("/", 1)[1]) for r in rows[1:]])

    def test_other_questions(self):
        self.assertIn("one question only", self.refused(
            "InvalidRequestException", self.athena.start_query_execution, QueryString="SELECT 1", WorkGroup="audit"))
        self.refused("InvalidRequestException", self.athena.start_query_execution, QueryString=SQL.format("2026-01-01", "2026-01-02"))
        self.refused("InvalidRequestException", self.athena.get_query_execution, QueryExecutionId="none")
        lost = self.athena.start_query_execution(
            QueryString=SQL.format("2026-01-01", "2026-01-02").replace('"logs"', '"nothing"'), WorkGroup="audit")["QueryExecutionId"]
        status = lambda: self.athena.get_query_execution(QueryExecutionId=lost)["QueryExecution"]["Status"]
        self.eventually("FAILED", lambda: status()["State"])
        self.assertIn("TABLE_NOT_FOUND", status()["StateChangeReason"])
