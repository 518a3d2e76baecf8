"""EC2 Fleets and Spot Fleet requests."""

import json

from botocore.exceptions import ClientError

from harness import REGION, SimulatorTest, world

TEMPLATE = "lt-00000000000000001"
MISSING = "00000000-0000-4000-8000-00000000dead"


def seed():
    """The common world, with seven fleets of each sort."""
    w = world()
    ec2 = w["accounts"][0]["regions"][REGION]["ec2"]
    config = [{"LaunchTemplateSpecification": {"LaunchTemplateId": TEMPLATE, "Version": "$Default"}}]
    ec2["fleets"] = [{
        "id": f"fleet-{n:08x}-0000-4000-8000-{n:012x}", "tags": {"n": str(n)},
        "config": {"LaunchTemplateConfigs": config, "TargetCapacitySpecification": {"TotalTargetCapacity": 1}},
    } for n in range(1, 8)]
    ec2["spot_fleets"] = [{
        "id": f"sfr-{n:08x}-0000-4000-8000-{n:012x}", "tags": {"n": str(n)},
        "config": {"LaunchTemplateConfigs": config, "TargetCapacity": 1, "IamFleetRole": "arn:aws:iam::111122223333:role/spot"},
    } for n in range(1, 8)]
    return w


class Fleets(SimulatorTest):
    @classmethod
    def seed(cls):
        return seed()

    def setUp(self):
        super().setUp()
        self.ec2 = self.client("ec2")

    def fleet(self, fleet):
        try:
            return self.ec2.describe_fleets(FleetIds=[fleet])["Fleets"][0]
        except ClientError as e:  # not there yet
            if e.response["Error"]["Code"] != "InvalidFleetId.NotFound":
                raise
            return {"FleetState": "", "Type": ""}

    def active(self, fleet):
        self.eventually("active", lambda: self.fleet(fleet)["FleetState"])

    def tokens(self, tag, fleet):
        found = self.ec2.describe_instances(Filters=[
            {"Name": f"tag:{tag}", "Values": [fleet]}, {"Name": "instance-state-name", "Values": ["pending", "running"]}])
        return sorted(i["MetadataOptions"]["HttpTokens"] for r in found["Reservations"] for i in r["Instances"])

    def create(self, version="$Default", capacity=2, **kwargs):
        config = {"LaunchTemplateSpecification": {"LaunchTemplateId": TEMPLATE, "Version": version}, **kwargs.pop("config", {})}
        return self.ec2.create_fleet(
            LaunchTemplateConfigs=[config],
            TargetCapacitySpecification={"TotalTargetCapacity": capacity, "DefaultTargetCapacityType": "on-demand"}, **kwargs)


class EC2Fleets(Fleets):
    def test_every_page_size_lists_the_same(self):
        for size in (1, 2, 3, 6, 7, 8, 1000):
            found = self.pages(self.ec2.describe_fleets, "Fleets", "MaxResults", ("NextToken", "NextToken"), size,
                               Filters=[{"Name": "tag-key", "Values": ["n"]}])
            self.assertEqual([str(n) for n in range(1, 8)], [f["Tags"][0]["Value"] for f in found])
        self.refused("InvalidParameterValue", self.ec2.describe_fleets, MaxResults=1001)
        self.refused("InvalidNextToken", self.ec2.describe_fleets, NextToken="nonsense")

    def test_fleets_that_are_not_there(self):
        self.refused("InvalidFleetId.NotFound", self.ec2.describe_fleets, FleetIds=["fleet-" + MISSING])
        self.refused("InvalidFleetId.Malformed", self.ec2.describe_fleets, FleetIds=["web"])
        self.refused("InvalidFleetId.NotFound", self.ec2.modify_fleet, FleetId="fleet-" + MISSING,
                     TargetCapacitySpecification={"TotalTargetCapacity": 1})

    def test_a_whole_life(self):
        made = self.create(ClientToken="a-whole-life", config={"Overrides": [
            {"InstanceType": "c5.large", "SubnetId": "subnet-0a1b2c3d", "WeightedCapacity": 1.0, "Priority": 2.0, "MaxPrice": "0.1"},
            {"InstanceRequirements": {"VCpuCount": {"Min": 2, "Max": 4}, "MemoryMiB": {"Min": 1024},
                                      "AllowedInstanceTypes": ["m5.*"]}}]},
            TagSpecifications=[{"ResourceType": "fleet", "Tags": [{"Key": "Name", "Value": "workers"}]}])
        fleet = made["FleetId"]
        self.eventually(["optional", "optional"], lambda: self.tokens("aws:ec2:fleet-id", fleet))
        self.active(fleet)
        found = self.fleet(fleet)
        self.assertEqual(("maintain", "fulfilled", 2.0), tuple(found[k] for k in ("Type", "ActivityStatus", "FulfilledCapacity")))
        self.assertEqual({"TotalTargetCapacity": 2, "OnDemandTargetCapacity": 2, "SpotTargetCapacity": 0,
                          "DefaultTargetCapacityType": "on-demand"}, found["TargetCapacitySpecification"])
        [config] = found["LaunchTemplateConfigs"]
        self.assertEqual("3", config["LaunchTemplateSpecification"]["Version"])  # what $Default meant
        self.assertEqual([("c5.large", 2.0), (None, None)],
                         [(o.get("InstanceType"), o.get("Priority")) for o in config["Overrides"]])
        self.assertEqual({"Min": 2, "Max": 4}, config["Overrides"][1]["InstanceRequirements"]["VCpuCount"])
        instances = self.pages(self.ec2.describe_fleet_instances, "ActiveInstances", "MaxResults",
                               ("NextToken", "NextToken"), 1, FleetId=fleet)
        self.assertEqual(2, len({i["InstanceId"] for i in instances}))

        new = self.ec2.create_launch_template_version(
            LaunchTemplateId=TEMPLATE, SourceVersion="3", LaunchTemplateData={"MetadataOptions": {"HttpTokens": "required"}})
        config["LaunchTemplateSpecification"] = {
            "LaunchTemplateId": TEMPLATE, "Version": str(new["LaunchTemplateVersion"]["VersionNumber"])}
        self.refused("DryRunOperation", self.ec2.modify_fleet, FleetId=fleet, LaunchTemplateConfigs=[config], DryRun=True)
        self.assertTrue(self.ec2.modify_fleet(
            FleetId=fleet, LaunchTemplateConfigs=[config], TargetCapacitySpecification={"TotalTargetCapacity": 3})["Return"])
        self.eventually(["optional", "optional", "required"], lambda: self.tokens("aws:ec2:fleet-id", fleet))
        self.active(fleet)
        self.assertEqual(2, len(self.fleet(fleet)["LaunchTemplateConfigs"][0]["Overrides"]))

        gone = self.ec2.delete_fleets(FleetIds=[fleet, "fleet-" + MISSING], TerminateInstances=True)
        self.assertEqual([("deleted_terminating", "active")], [(d["CurrentFleetState"], d["PreviousFleetState"])
                                                               for d in gone["SuccessfulFleetDeletions"]])
        self.assertEqual(["fleetIdDoesNotExist"], [d["Error"]["Code"] for d in gone["UnsuccessfulFleetDeletions"]])
        self.eventually([], lambda: self.tokens("aws:ec2:fleet-id", fleet))
        self.refused("InvalidFleetConfig", self.create, capacity=0, Type="request")

    def test_an_instant_fleet_launches_once(self):
        made = self.create(Type="instant", capacity=1, config={"Overrides": [
            {"InstanceType": "c5.large", "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}}]})
        [launched] = made["Instances"]
        self.assertEqual("c5.large", launched["InstanceType"])
        self.eventually(["required"], lambda: self.tokens("aws:ec2:fleet-id", made["FleetId"]))
        self.eventually("instant", lambda: self.fleet(made["FleetId"])["Type"])
        self.assertNotIn(made["FleetId"], [f["FleetId"] for f in self.ec2.describe_fleets()["Fleets"]])
        self.refused("UnsupportedOperation", self.ec2.describe_fleet_instances, FleetId=made["FleetId"])
        self.refused("NoTerminateInstancesNotSupported", self.ec2.delete_fleets, FleetIds=[made["FleetId"]],
                     TerminateInstances=False)
        self.refused("InvalidFleetConfig", self.ec2.modify_fleet, FleetId=made["FleetId"],
                     TargetCapacitySpecification={"TotalTargetCapacity": 2})

    def test_one_token_makes_one_fleet(self):
        first, second = (self.create(ClientToken="once")["FleetId"] for _ in range(2))
        self.assertEqual(first, second)
        self.refused("IdempotentParameterMismatch", self.create, ClientToken="once", capacity=1)

    def test_what_cannot_be_launched(self):
        self.refused("InvalidLaunchTemplateId.VersionNotFound", self.create, version="77")
        self.refused("InvalidFleetConfig", self.create, config={"Overrides": [{"ImageId": "ami-0123456789abcdef0"}]})

    def test_the_command_line(self):
        fleet = "fleet-00000001-0000-4000-8000-000000000001"
        found = self.cli("ec2", "describe-fleets", "--fleet-ids", fleet)["Fleets"][0]
        configs = found["LaunchTemplateConfigs"]
        for c in configs:
            c["LaunchTemplateSpecification"]["Version"] = "2"
        self.cli("ec2", "modify-fleet", "--fleet-id", fleet, "--target-capacity-specification",
                 json.dumps(found["TargetCapacitySpecification"]), "--launch-template-configs", json.dumps(configs))
        self.eventually("2", lambda: self.fleet(fleet)["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"]["Version"])
        self.cli("ec2", "create-tags", "--resources", fleet, "--tags", "Key=team,Value=web")
        self.eventually(["web"], lambda: [t["Value"] for t in self.fleet(fleet)["Tags"] if t["Key"] == "team"])


class SpotFleets(Fleets):
    def request(self, **config):
        return self.ec2.request_spot_fleet(SpotFleetRequestConfig={
            "IamFleetRole": "arn:aws:iam::111122223333:role/spot", "TargetCapacity": 2, **config})["SpotFleetRequestId"]

    def described(self, request):
        try:
            return self.ec2.describe_spot_fleet_requests(SpotFleetRequestIds=[request])["SpotFleetRequestConfigs"][0]
        except ClientError as e:  # not there yet
            if e.response["Error"]["Code"] != "InvalidSpotFleetRequestId.NotFound":
                raise
            return {"SpotFleetRequestState": ""}

    def test_every_page_size_lists_the_same(self):
        whole = [r["SpotFleetRequestId"] for r in self.ec2.describe_spot_fleet_requests()["SpotFleetRequestConfigs"]]
        self.assertGreaterEqual(len(whole), 7)
        for size in (1, 2, 3, 7, 1000):
            found = self.pages(self.ec2.describe_spot_fleet_requests, "SpotFleetRequestConfigs", "MaxResults",
                               ("NextToken", "NextToken"), size)
            self.assertEqual(whole, [r["SpotFleetRequestId"] for r in found])
        self.refused("InvalidSpotFleetRequestId.NotFound", self.ec2.describe_spot_fleet_requests,
                     SpotFleetRequestIds=["sfr-" + MISSING])
        self.refused("InvalidSpotFleetRequestId.Malformed", self.ec2.describe_spot_fleet_requests, SpotFleetRequestIds=["sfr-1"])

    def test_launch_specifications_say_nothing_of_metadata(self):
        request = self.request(
            LaunchSpecifications=[
                {"ImageId": "ami-0123456789abcdef1", "InstanceType": "m5.large", "SubnetId": "subnet-0a1b2c3d, subnet-0a1b2c3e",
                 "SecurityGroups": [{"GroupId": "sg-0a1b2c3d"}], "IamInstanceProfile": {"Name": "app"},
                 "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 30}}],
                 "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "render"}]}]},
                {"ImageId": "ami-0123456789abcdef0", "InstanceType": "c5.large", "WeightedCapacity": 1.0}],
            TagSpecifications=[{"ResourceType": "spot-fleet-request", "Tags": [{"Key": "Name", "Value": "render"}]}])
        # The second image has ImdsSupport v2.0.
        self.eventually(["optional", "required"], lambda: self.tokens("aws:ec2spot:fleet-request-id", request))
        self.eventually("active", lambda: self.described(request)["SpotFleetRequestState"])
        found = self.described(request)
        specs = found["SpotFleetRequestConfig"]["LaunchSpecifications"]
        self.assertEqual("subnet-0a1b2c3d, subnet-0a1b2c3e", specs[0]["SubnetId"])
        self.assertEqual(30, specs[0]["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"])
        self.assertEqual([{"Key": "team", "Value": "render"}], specs[0]["TagSpecifications"][0]["Tags"])
        self.assertEqual([{"Key": "Name", "Value": "render"}], found["Tags"])
        self.refused("InvalidSpotFleetRequestConfig", self.ec2.modify_spot_fleet_request, SpotFleetRequestId=request,
                     LaunchTemplateConfigs=[{"LaunchTemplateSpecification": {"LaunchTemplateId": TEMPLATE, "Version": "1"}}])

    def test_a_whole_life(self):
        config = {"LaunchTemplateSpecification": {"LaunchTemplateName": "template-1", "Version": "$Latest"},
                  "Overrides": [{"InstanceType": "c5.large", "SpotPrice": "0.05", "WeightedCapacity": 2.0}]}
        request = self.request(LaunchTemplateConfigs=[config])
        self.eventually("active", lambda: self.described(request)["SpotFleetRequestState"])
        found = self.described(request)["SpotFleetRequestConfig"]
        config["LaunchTemplateSpecification"]["Version"] = "5"  # what $Latest meant
        self.assertEqual(config, found["LaunchTemplateConfigs"][0])
        self.assertEqual(2.0, found["FulfilledCapacity"])
        config["LaunchTemplateSpecification"]["Version"] = "2"
        self.assertTrue(self.ec2.modify_spot_fleet_request(
            SpotFleetRequestId=request, LaunchTemplateConfigs=[config], TargetCapacity=4)["Return"])
        self.eventually(2, lambda: len(self.ec2.describe_spot_fleet_instances(SpotFleetRequestId=request)["ActiveInstances"]))
        self.eventually(config, lambda: self.described(request)["SpotFleetRequestConfig"]["LaunchTemplateConfigs"][0])
        gone = self.ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=[request, "sfr-" + MISSING], TerminateInstances=False)
        self.assertEqual(["cancelled_running"], [r["CurrentSpotFleetRequestState"] for r in gone["SuccessfulFleetRequests"]])
        self.assertEqual(["fleetRequestIdDoesNotExist"], [r["Error"]["Code"] for r in gone["UnsuccessfulFleetRequests"]])

    def test_the_command_line(self):
        request = "sfr-00000002-0000-4000-8000-000000000002"
        configs = self.cli("ec2", "describe-spot-fleet-requests", "--spot-fleet-request-ids", request)[
            "SpotFleetRequestConfigs"][0]["SpotFleetRequestConfig"]["LaunchTemplateConfigs"]
        configs[0]["LaunchTemplateSpecification"]["Version"] = "3"
        self.cli("ec2", "modify-spot-fleet-request", "--spot-fleet-request-id", request,
                 "--launch-template-configs", json.dumps(configs))
        self.eventually("3", lambda: self.described(request)["SpotFleetRequestConfig"]["LaunchTemplateConfigs"][0][
            "LaunchTemplateSpecification"]["Version"])
