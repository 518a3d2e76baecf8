"""The agents that report to Systems Manager, as people list them."""

from harness import MANAGEMENT, REGION, SimulatorTest, instance_id

ONLINE, LOST, STOPPED, UNMANAGED = (instance_id(n) for n in (1, 2, 20, 3))
OUTSIDE = "mi-0123456789abcdef0"


class Agents(SimulatorTest):
    @classmethod
    def seed(cls):
        world = super().seed()
        regional = next(a for a in world["accounts"] if a["id"] == MANAGEMENT)["regions"][REGION]
        regional["ssm"] = {"unmanaged": [UNMANAGED], "agents": [
            {"instance": ONLINE, "version": "2.3.1319.0"},
            {"instance": LOST, "version": "3.3.987.0", "ping": "ConnectionLost", "platform_type": "Windows",
             "platform_name": "Microsoft Windows Server 2019 Datacenter", "platform_version": "10.0.17763"},
            {"instance": STOPPED, "version": "3.3.987.0"}, {"instance": UNMANAGED, "version": "3.3.987.0"},
            {"instance": OUTSIDE, "version": "3.1.1732.0"},
        ] + [{"instance": instance_id(n), "version": "3.3.987.0"} for n in range(4, 10)]}
        return world

    def setUp(self):
        super().setUp()
        self.ssm = self.client("ssm")
        self.all = [ONLINE, LOST, OUTSIDE] + [instance_id(n) for n in range(4, 10)]

    def ids(self, **kwargs):
        return [i["InstanceId"] for i in self.ssm.describe_instance_information(**kwargs)["InstanceInformationList"]]

    def test_who_reports_and_pages(self):
        self.assertEqual(self.all, self.ids())
        for size in (5, 8, 9, 50):
            found = self.pages(self.ssm.describe_instance_information, "InstanceInformationList", "MaxResults",
                               ("NextToken", "NextToken"), size)
            self.assertEqual(self.all, [i["InstanceId"] for i in found])

    def test_what_is_told_of_one(self):
        [old] = self.ssm.describe_instance_information(Filters=[{"Key": "InstanceIds", "Values": [ONLINE]}])["InstanceInformationList"]
        self.assertEqual(("2.3.1319.0", "Online", "Linux", "EC2Instance"),
                         tuple(old[k] for k in ("AgentVersion", "PingStatus", "PlatformType", "ResourceType")))
        legacy = [{"key": "PingStatus", "valueSet": ["ConnectionLost"]}]
        [lost] = self.ssm.describe_instance_information(InstanceInformationFilterList=legacy)["InstanceInformationList"]
        self.assertEqual((LOST, "10.0.17763"), (lost["InstanceId"], lost["PlatformVersion"]))
        self.assertEqual([OUTSIDE], self.ids(Filters=[{"Key": "ResourceType", "Values": ["ManagedInstance"]}]))
        self.assertEqual([], self.ids(Filters=[{"Key": "InstanceIds", "Values": [STOPPED, UNMANAGED]}]))

    def test_refusals(self):
        describe = self.ssm.describe_instance_information
        self.refused("InvalidNextToken", describe, NextToken="nonsense")
        self.refused("InvalidFilterKey", describe, Filters=[{"Key": "Colour", "Values": ["red"]}])
        self.refused("InvalidInstanceInformationFilterValue", describe, Filters=[{"Key": "InstanceIds", "Values": ["web-1"]}])

    def test_the_command_line(self):
        versions = self.cli("ssm", "describe-instance-information", "--query", "InstanceInformationList[].AgentVersion")
        self.assertEqual(["2.3.1319.0", "3.3.987.0", "3.1.1732.0"] + 6 * ["3.3.987.0"], versions)
