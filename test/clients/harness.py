"""A fresh `imdsctl sim serve` for every test class, clients that are pointed at it, and the check of every response.

The environment variable IMDSCTL names the program. All credentials are dummies: for the simulator, the number of an
account is an access key of its administrator.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

import modelcheck

MANAGEMENT = "111122223333"
MEMBER = "222233334444"
REGION = "eu-west-1"

#: No client gets further than this machine, whatever endpoint it makes up: the AWS CLI's `emr` commands, for one, know nothing of
#: AWS_ENDPOINT_URL. Nothing listens where all calls but those to loopback are sent.
NOWHERE = {"HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}
NOWHERE |= {name.lower(): value for name, value in NOWHERE.items()}
os.environ.update(NOWHERE)
os.environ.pop("ALL_PROXY", None)
os.environ.pop("all_proxy", None)

#: Every (signing name, operation) that was answered and checked in this process.
COVERED = set()

#: The services' models, each read once and not once for every client: EC2's alone takes a fifth of a second.
MODELS = botocore.loaders.create_loader()


class SimulatorTest(unittest.TestCase):
    """A test class with its own simulated world, from the class's seed()."""

    server = None

    @classmethod
    def seed(cls):
        """The world's seed; classes change a copy of it."""
        return world()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(cls.seed())
        cls.addClassCleanup(cls.server.stop)

    def setUp(self):
        self.problems = []

    def tearDown(self):
        self.assertEqual([], self.problems, "responses that do not fit botocore's models")

    def client(self, service, account=MANAGEMENT, region=REGION, credentials=None, protocol=None, **config):
        """A boto3 client as an account's administrator, or with the credentials of an assumed role."""
        session = botocore.session.Session()
        if protocol:
            speak(session, protocol)
        else:
            session.register_component("data_loader", MODELS)
        keys = {"aws_access_key_id": account, "aws_secret_access_key": "dummy"}
        if credentials:
            keys = {
                "aws_access_key_id": credentials["AccessKeyId"],
                "aws_secret_access_key": credentials["SecretAccessKey"],
                "aws_session_token": credentials["SessionToken"],
            }
        config.setdefault("retries", {"total_max_attempts": 1})
        client = boto3.Session(botocore_session=session, region_name=region, **keys).client(
            service, endpoint_url=self.server.url, config=Config(**config))
        client.meta.events.register("before-parse.*", self._received)
        return client

    def _received(self, operation_model, response_dict, **_):
        model = operation_model.service_model
        COVERED.add((model.signing_name, operation_model.name))
        self.problems += modelcheck.check(
            operation_model, response_dict["status_code"], response_dict["headers"], response_dict["body"])

    def refused(self, code, call, *args, status=None, **kwargs):
        """Asserts that a call is refused with an error code; returns the message."""
        with self.assertRaises(ClientError) as caught:
            call(*args, **kwargs)
        response = caught.exception.response
        self.assertEqual(code, response["Error"]["Code"], response["Error"].get("Message"))
        if status:
            self.assertEqual(status, response["ResponseMetadata"]["HTTPStatusCode"])
        self.assertTrue(response["ResponseMetadata"]["RequestId"])
        return response["Error"]["Message"]

    def eventually(self, want, read):
        """Reads until the value is the one wanted: reads after writes are eventually consistent, as AWS's are. Reading too often is
        refused, as by AWS, and no answer."""
        deadline, got = time.monotonic() + 60, None
        while time.monotonic() < deadline:
            try:
                if (got := read()) == want:
                    break
                time.sleep(0.1)
            except ClientError as e:
                if e.response["Error"]["Code"] not in ("RequestLimitExceeded", "Throttling", "ThrottlingException"):
                    raise
                time.sleep(1)
        self.assertEqual(want, got)

    def pages(self, call, key, size_name, token, size, **kwargs):
        """Reads a whole list page by page; checks that no page is larger than asked, and that only the last has no token."""
        found, after = [], {}
        for _ in range(1000):
            response = call(**{size_name: size}, **after, **kwargs)
            items = response[key]
            self.assertLessEqual(len(items), size)
            found += items
            if not response.get(token[0]):
                return found
            after = {token[1]: response[token[0]]}
        self.fail("the pages do not end")

    def cli(self, *args, account=MANAGEMENT, region=REGION, credentials=None, code=0):
        """Runs the AWS CLI and returns its output, parsed; for another exit code than 0, its standard error."""
        got, stdout, stderr = CLI.run([*args, "--output", "json"], self.server.environment(account, region, credentials))
        self.assertEqual(code, got, stderr)
        if code:
            return stderr
        return json.loads(stdout) if stdout.strip() else None


class CLI:
    """The AWS CLI, in a process that has it loaded and copies itself for every call: see ../python/cli.py. It cannot be loaded here, where it
    would put its own botocore in the place of boto3's. That process ends when this one does, and its standard input with it."""

    process = None

    @classmethod
    def run(cls, args, env):
        """Makes one call: exit code, standard output, standard error."""
        if cls.process is None:
            cls.process = subprocess.Popen(
                [sys.executable, "-B", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python", "cli.py")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with tempfile.TemporaryDirectory() as folder:
            streams = [os.path.join(folder, name) for name in ("stdout", "stderr")]
            cls.process.stdin.write(json.dumps({"args": args, "env": env, "streams": streams}) + "\n")
            cls.process.stdin.flush()
            code = cls.process.stdout.readline()
            texts = []
            for path in streams:
                with open(path, encoding="utf-8") as f:
                    texts.append(f.read())
        return int(code), *texts


def speak(session, protocol):
    """Makes botocore speak one protocol of a service that offers several."""
    loader = session.get_component("data_loader")
    load = loader.load_service_model

    def narrowed(service_name, type_name, api_version=None):
        model = load(service_name, type_name, api_version)
        if type_name == "service-2":
            model = copy.deepcopy(model)
            model["metadata"] = dict(model["metadata"], protocol=protocol, protocols=[protocol])
        return model

    loader.load_service_model = narrowed


class Server:
    """One `imdsctl sim serve` on a loopback port of its own choice."""

    def __init__(self, seed):
        self.folder = tempfile.TemporaryDirectory()
        path = os.path.join(self.folder.name, "seed.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(seed, f)
        with open(os.path.join(self.folder.name, "stderr"), "w+", encoding="utf-8") as stderr:
            self.process = subprocess.Popen(
                [os.environ["IMDSCTL"], "sim", "serve", "--listen", "127.0.0.1:0", "--scenario", path],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True)
            line = self.process.stdout.readline()
            if not line:
                code = self.process.wait()
                stderr.seek(0)
                raise RuntimeError(f"imdsctl sim serve ended with code {code} before it listened:\n{stderr.read()}")
        self.url = json.loads(line)["listening"]

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.process.stdout.close()
        self.folder.cleanup()

    def control(self, path):
        """Reads one of the simulator's own pages under /_sim/."""
        with urllib.request.urlopen(self.url + "/_sim/" + path, timeout=30) as response:
            return response.read().decode()

    def calls(self):
        """The simulator's log of calls so far."""
        return [json.loads(line) for line in self.control("calls").splitlines()]

    def environment(self, account, region, credentials=None):
        keep = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        keys = {"AWS_ACCESS_KEY_ID": account, "AWS_SECRET_ACCESS_KEY": "dummy"}
        if credentials:
            keys = {
                "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
                "AWS_SESSION_TOKEN": credentials["SessionToken"],
            }
        return keep | keys | NOWHERE | {
            "AWS_ENDPOINT_URL": self.url, "AWS_DEFAULT_REGION": region, "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_MAX_ATTEMPTS": "1",
        }


def instance_id(n):
    """The id of the seed's nth instance."""
    return f"i-{n:017x}"


def world():
    """An organization of five accounts: 23 instances, four templates and six groups in the management account's region."""
    instances = []
    for n in range(1, 24):
        instances.append({
            "id": instance_id(n),
            "image": "ami-0123456789abcdef0" if n % 2 else "ami-0123456789abcdef1",
            "type": "m5.large" if n % 3 else "c5.xlarge",
            "state": "stopped" if n == 20 else "terminated" if n == 21 else "running",
            "options": {
                "tokens": "required" if n % 5 == 0 else "optional",
                "hop_limit": 1 + n % 3,
                "endpoint": "disabled" if n == 22 else "enabled",
                "instance_tags": "enabled" if n % 7 == 0 else "disabled",
                "ipv6": "enabled" if n == 6 else "disabled",
            },
            "az": REGION + "abc"[n % 3],
            "tags": {"Name": f"host-{n:02d}", "team": "payments" if n % 2 else "search"},
        })
    instances[10]["profile_arn"] = f"arn:aws:iam::{MANAGEMENT}:instance-profile/app"
    instances[10]["key_name"] = "ops"
    templates = [{
        "id": f"lt-{n:017x}", "name": f"template-{n}", "default": 3, "tags": {"team": "payments"},
        "versions": [{
            "description": f"version {v}",
            "data": {
                "ImageId": "ami-0123456789abcdef0", "InstanceType": "m5.large",
                "MetadataOptions": {"HttpTokens": "optional", "HttpPutResponseHopLimit": 2},
            },
        } for v in range(1, 6)],
    } for n in range(1, 5)]
    groups = [{
        "name": f"group-{n}", "template": "template-1", "version": ["$Default", "$Latest", "3"][n % 3],
        "min": 0, "max": 9, "desired": 2, "tags": {"Name": f"group-{n}"}, "zones": [REGION + "a", REGION + "b"],
    } for n in range(1, 6)]
    groups.append({"name": "old-style", "launch_configuration": "config-1", "min": 0, "max": 5, "desired": 1})
    regional = {
        "ec2": {
            "images": [
                {"id": "ami-0123456789abcdef0", "name": "al2023", "imds_v2": True},
                {"id": "ami-0123456789abcdef1", "name": "al2"},
            ],
            "templates": templates, "instances": instances,
        },
        "autoscaling": {
            "launch_configurations": [
                {"name": f"config-{n}", "image_id": "ami-0123456789abcdef1", "instance_type": "m5.large"} for n in range(1, 8)
            ],
            "groups": groups,
        },
        "elasticloadbalancing": {"target_groups": [
            {"name": "bare", "port": 8080, "instances": [instance_id(1), instance_id(20)]},
            {"name": "attached", "groups": ["group-1"]},
            {"name": "empty", "type": "ip"},
        ]},
        "cloudwatch": {"alarms": [
            {"name": "errors", "state": "ALARM", "reason": "Threshold Crossed", "namespace": "AWS/ApplicationELB",
             "metric": "HTTPCode_Target_5XX_Count"},
            {"name": "latency", "state": "INSUFFICIENT_DATA"},
            {"name": "whole-shop", "composite": True},
        ]},
    }
    return {
        "organization": {
            "id": "o-exampleorg", "management_account": MANAGEMENT,
            "ous": [{"name": "workloads"}, {"name": "prod", "parent": "workloads"}, {"name": "sandbox"}],
        },
        "services": {"workload": {"programs": [
            {"name": "legacy-agent", "speaks": "v1-only", "every": "15m", "calls": 3, "where": {"tags": ["team=payments"]}},
        ]}},
        "accounts": [
            {"id": MANAGEMENT, "name": "management", "regions": {REGION: regional}},
            {"id": MEMBER, "name": "shop", "ou": "prod", "tags": {"criticality": "high"}, "roles": roles(),
             "regions": {REGION: {"ec2": {"instances": [
                 {"id": "i-0aaaaaaaaaaaaaaa1", "image": "ami-0123456789abcdef0", "tags": {"team": "shop"}},
             ]}}}},
            {"id": "333344445555", "name": "search", "ou": "prod"},
            {"id": "444455556666", "name": "playground", "ou": "sandbox"},
            {"id": "555566667777", "name": "logs", "ou": "workloads"},
        ],
    }


def roles():
    """A role that reads, behind an external id, and one that writes only what is tagged as the shop's."""
    def trust(external_id=None):
        statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": f"arn:aws:iam::{MANAGEMENT}:root"}}
        if external_id:
            statement["Condition"] = {"StringEquals": {"sts:ExternalId": external_id}}
        return {"Version": "2012-10-17", "Statement": [statement]}

    def allow(*actions, **more):
        return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*", **more}]}

    return [
        {"name": "reader", "path": "/imdsctl/", "trust": trust("orchid-7"),
         "policies": {"read": allow("ec2:Describe*", "cloudwatch:GetMetricData", "iam:GetRole")}},
        {"name": "writer", "trust": trust(), "max_session_seconds": 7200,
         "policies": {"write": allow("ec2:DescribeInstances", "ec2:ModifyInstanceMetadataOptions", Condition={
             "StringEqualsIfExists": {"aws:ResourceTag/team": "shop"}})}},
    ]
