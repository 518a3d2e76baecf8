"""Fills a moto_server with an organization whose instances cover every verdict, and writes down what it made.

    python seed.py --endpoint http://127.0.0.1:5000 --manifest manifest.json

The manifest lists accounts, regions, instances, templates and groups. Of each instance it says which verdict it must get,
what its metadata options are and what they must be when a migration has ended. moto is deaf to RunInstances' launch
times, so all instances are launched now, with whatever history is put for them.
"""

import argparse
import datetime
import json

import boto3
from botocore.config import Config

REGIONS = ["eu-west-1", "us-east-1"]
ROLE = "imdsctl-test"
EXTERNAL_ID = "orchid-7"
DAYS = 14
HOUR = datetime.timedelta(hours=1)
IMAGE = "ami-12c6146b"  # one that moto has from the start

#: moto fails on compressed requests, which large PutMetricData would be.
CONFIG = Config(disable_request_compression=True, retries={"total_max_attempts": 1})

# Standalone instances of every place: name, verdict, state, options, history, further tags. A history is how many v1
# calls there were in each hour, by the hour's number from the oldest, None where CloudWatch has no datapoint.
INSTANCES = [
    ("ready-hop1", "ready", "running", {"hop": 1, "tags": "disabled"}, "zero", {}),
    ("ready-hop2", "ready", "running", {"hop": 2, "tags": "enabled"}, "zero", {}),
    ("ready-hop3", "ready", "running", {"hop": 3, "tags": "disabled", "ipv6": "enabled"}, "zero", {}),
    ("ready-stopped", "ready", "stopped", {"hop": 2, "tags": "disabled"}, "zero", {}),
    ("legacy", "blocked", "running", {"hop": 1, "tags": "disabled"}, "calls", {}),
    ("legacy-once", "blocked", "running", {"hop": 2, "tags": "disabled"}, "one-call", {}),
    ("half-seen", "unknown", "running", {"hop": 1, "tags": "disabled"}, "half", {}),
    ("never-seen", "unknown", "running", {"hop": 1, "tags": "disabled"}, "none", {}),
    ("stopped-unseen", "unknown", "stopped", {"hop": 1, "tags": "disabled"}, "none", {}),
    ("exempt", "exempt", "running", {"hop": 1, "tags": "disabled"}, "zero", {"imdsctl-exempt": "yes"}),
    ("exempt-legacy", "exempt", "running", {"hop": 2, "tags": "disabled"}, "calls", {"imdsctl-exempt": "yes"}),
    ("done-hop1", "done", "running", {"tokens": "required", "hop": 1, "tags": "disabled"}, "none", {}),
    ("done-hop2", "done", "running", {"tokens": "required", "hop": 2, "tags": "enabled"}, "none", {}),
    ("endpoint-off", "done", "running", {"endpoint": "disabled", "hop": 1, "tags": "disabled"}, "none", {}),
    ("gone", "", "terminated", {"hop": 1, "tags": "disabled"}, "zero", {}),
]

# Groups of every place: name, the template's version they launch from, size, history of their members, verdict.
GROUPS = [
    ("web-default", "$Default", 2, "zero", "ready"),
    ("web-latest", "$Latest", 1, "zero", "ready"),
    ("web-pinned", "2", 1, "zero", "ready"),
    ("batch-legacy", "$Default", 2, "calls", "blocked"),
]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--endpoint", required=True)
    arguments.add_argument("--manifest", required=True)
    options = arguments.parse_args()
    manifest = Seeder(options.endpoint).run()
    with open(options.manifest, "w", encoding="utf-8") as f:
        json.dump(manifest, f, indent=1)


class Seeder:
    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.management = boto3.Session(
            aws_access_key_id="testing", aws_secret_access_key="testing", region_name="us-east-1")
        now = datetime.datetime.now(datetime.timezone.utc)
        hour = now.replace(minute=0, second=0, microsecond=0)
        # Up to the current hour, and the next one as well, so that a test that runs over the hour is not short of one.
        first = hour - (24 * DAYS - 1) * HOUR
        self.hours = [first + n * HOUR for n in range(24 * DAYS + 1)]
        self.manifest = {
            "role": ROLE, "external_id": EXTERNAL_ID, "regions": REGIONS, "exempt_tag": {"imdsctl-exempt": "yes"},
            "first_hour": first.isoformat(), "accounts": [], "instances": [], "templates": [], "groups": [],
        }

    def client(self, session, service, region="us-east-1"):
        return session.client(service, region_name=region, endpoint_url=self.endpoint, config=CONFIG)

    def run(self):
        for name, session, account in self.accounts():
            self.manifest["accounts"].append({"id": account, "name": name})
            for region in REGIONS:
                Place(self, session, account, region).fill()
        return self.manifest

    def accounts(self):
        """The management account and two members, each with a session in it."""
        organizations = self.client(self.management, "organizations")
        organizations.create_organization(FeatureSet="ALL")
        own = self.client(self.management, "sts").get_caller_identity()["Account"]
        found = [("management", self.management, own)]
        self.role(self.management, own)
        for name in ("shop", "search"):
            made = organizations.create_account(AccountName=name, Email=f"{name}@example.com")
            account = made["CreateAccountStatus"]["AccountId"]
            session = self.assume(account)
            self.role(session, own)
            found.append((name, session, account))
        self.manifest["management_account"] = own
        return found

    def role(self, session, trusted):
        self.client(session, "iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps({
            "Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": f"arn:aws:iam::{trusted}:root"},
                "Condition": {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}},
            }]}))

    def assume(self, account):
        keys = self.client(self.management, "sts").assume_role(
            RoleArn=f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole", RoleSessionName="seed")["Credentials"]
        return boto3.Session(
            aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"])


class Place:
    """One region of one account."""

    def __init__(self, seeder, session, account, region):
        self.seeder, self.account, self.region = seeder, account, region
        self.manifest = seeder.manifest
        self.ec2 = seeder.client(session, "ec2", region)
        self.autoscaling = seeder.client(session, "autoscaling", region)
        self.cloudwatch = seeder.client(session, "cloudwatch", region)
        self.history = []

    def fill(self):
        for spec in INSTANCES:
            self.instance(*spec)
        self.template("web", 3, 2)
        self.template("batch", 1, 1)
        self.template("unused", 1, 1)
        for spec in GROUPS:
            self.group(*spec)
        for n in range(0, len(self.history), 1000):
            self.cloudwatch.put_metric_data(Namespace="AWS/EC2", MetricData=self.history[n:n + 1000])

    def instance(self, name, verdict, state, options, history, tags):
        tags = {"Name": name, "team": "shop", **tags}
        made = self.ec2.run_instances(
            ImageId=IMAGE, InstanceType="m5.large", MinCount=1, MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}])
        instance = made["Instances"][0]["InstanceId"]
        now = self.set_options(instance, **options)
        if state == "stopped":
            self.ec2.stop_instances(InstanceIds=[instance])
        elif state == "terminated":
            self.ec2.terminate_instances(InstanceIds=[instance])
        self.record(instance, name, verdict, state, now, history)

    def set_options(self, instance, tokens="optional", endpoint="enabled", hop=1, tags="disabled", ipv6="disabled"):
        """Sets all options at once: moto resets every field that is not sent."""
        self.ec2.modify_instance_metadata_options(
            InstanceId=instance, HttpTokens=tokens, HttpEndpoint=endpoint, HttpPutResponseHopLimit=hop,
            InstanceMetadataTags=tags, HttpProtocolIpv6=ipv6)
        return {"tokens": tokens, "endpoint": endpoint, "hop_limit": hop, "instance_tags": tags, "ipv6": ipv6}

    def record(self, instance, name, verdict, state, now, history, group=""):
        after = dict(now, tokens="required") if verdict == "ready" else now
        self.manifest["instances"].append({
            "account": self.account, "region": self.region, "id": instance, "name": name, "group": group, "state": state,
            "verdict": verdict, "options": now, "after": after,
        })
        for hour, calls in zip(self.seeder.hours, counts(history, len(self.seeder.hours))):
            if calls is not None:
                self.history.append({
                    "MetricName": "MetadataNoToken", "Dimensions": [{"Name": "InstanceId", "Value": instance}],
                    "Timestamp": hour, "Value": calls, "Unit": "Count"})

    def template(self, name, versions, default):
        data = {
            "ImageId": IMAGE, "InstanceType": "m5.large",
            "MetadataOptions": {"HttpTokens": "optional", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 2},
        }
        made = self.ec2.create_launch_template(LaunchTemplateName=name, VersionDescription="1", LaunchTemplateData=data)
        template = made["LaunchTemplate"]["LaunchTemplateId"]
        for n in range(2, versions + 1):
            self.ec2.create_launch_template_version(
                LaunchTemplateId=template, VersionDescription=str(n), LaunchTemplateData=data)
        self.ec2.modify_launch_template(LaunchTemplateId=template, DefaultVersion=str(default))
        self.manifest["templates"].append({
            "account": self.account, "region": self.region, "id": template, "name": name, "default": default, "latest": versions})

    def group(self, name, version, size, history, verdict):
        template = name.split("-", maxsplit=1)[0]
        self.autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=name, MinSize=0, MaxSize=5, DesiredCapacity=size, AvailabilityZones=[self.region + "a"],
            LaunchTemplate={"LaunchTemplateName": template, "Version": version},
            Tags=[{"Key": "Name", "Value": name, "PropagateAtLaunch": True}])
        made = self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]
        members = sorted(i["InstanceId"] for i in made["Instances"])
        for member in members:  # moto gives them no options of the template
            now = self.set_options(member, hop=2)
            self.record(member, name, verdict, "running", now, history, group=name)
        self.manifest["groups"].append({
            "account": self.account, "region": self.region, "name": name, "template": template, "version": version,
            "instances": members, "verdict": verdict})


def counts(history, hours):
    """v1 calls in each hour, oldest first."""
    if history == "zero":
        return [0] * hours
    if history == "calls":
        return [n % 24 for n in range(hours)]
    if history == "one-call":
        return [1 if n == hours // 3 else 0 for n in range(hours)]
    if history == "half":
        return [None if n < hours // 2 else 0 for n in range(hours)]
    return [None] * hours


if __name__ == "__main__":
    main()
