"""Auto Scaling: groups, launch configurations, activities, instance refreshes, tags."""

import json

from harness import SimulatorTest

GROUPS = sorted([f"group-{n}" for n in range(1, 6)] + ["old-style"])


class Groups(SimulatorTest):
    def setUp(self):
        super().setUp()
        self.autoscaling = self.client("autoscaling")

    def listed(self, call, key, size, **kwargs):
        return self.pages(call, key, "MaxRecords", ("NextToken", "NextToken"), size, **kwargs)

    def group(self, name):
        return self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]


class Describing(Groups):
    def test_groups(self):
        for size in (*range(1, 8), 100):
            found = self.listed(self.autoscaling.describe_auto_scaling_groups, "AutoScalingGroups", size)
            self.assertEqual(GROUPS, sorted(g["AutoScalingGroupName"] for g in found))
        by_name = {g["AutoScalingGroupName"]: g for g in found}
        self.assertEqual(["$Latest", "3", "$Default", "$Latest", "3"],
                         [by_name[f"group-{n}"]["LaunchTemplate"]["Version"] for n in range(1, 6)])
        self.assertEqual("config-1", by_name["old-style"]["LaunchConfigurationName"])
        self.assertEqual([2] * 5, [len(by_name[f"group-{n}"]["Instances"]) for n in range(1, 6)])
        tagged = self.autoscaling.describe_auto_scaling_groups(Filters=[{"Name": "tag:Name", "Values": ["group-2"]}])
        self.assertEqual(["group-2"], [g["AutoScalingGroupName"] for g in tagged["AutoScalingGroups"]])

    def test_page_sizes_and_names_that_are_wrong(self):
        self.refused("ValidationError", self.autoscaling.describe_auto_scaling_groups, MaxRecords=101)
        self.assertEqual([], self.autoscaling.describe_auto_scaling_groups(
            AutoScalingGroupNames=["nobody"])["AutoScalingGroups"])
        self.refused("InvalidNextToken", self.autoscaling.describe_auto_scaling_groups, NextToken="nonsense")

    def test_instances_activities_configurations_and_tags(self):
        for size in (1, 3, 50):
            members = self.listed(self.autoscaling.describe_auto_scaling_instances, "AutoScalingInstances", size)
            self.assertEqual(11, len({m["InstanceId"] for m in members}))
        for size in (1, 3, 7, 100):
            configs = self.listed(self.autoscaling.describe_launch_configurations, "LaunchConfigurations", size)
            self.assertEqual([f"config-{n}" for n in range(1, 8)], sorted(c["LaunchConfigurationName"] for c in configs))
        for size in (1, 2, 100):
            tags = self.listed(self.autoscaling.describe_tags, "Tags", size, Filters=[{"Name": "key", "Values": ["Name"]}])
            self.assertEqual(5, len(tags))
        whole = self.listed(self.autoscaling.describe_scaling_activities, "Activities", 100)
        self.assertGreaterEqual(len(whole), 11)
        self.assertIn("Launching a new EC2 instance", whole[0]["Description"])
        for size in (1, 5, 10):
            found = self.listed(self.autoscaling.describe_scaling_activities, "Activities", size)
            self.assertEqual([a["ActivityId"] for a in whole], [a["ActivityId"] for a in found])


class Changing(Groups):
    def test_a_pin_moves(self):
        template = self.group("group-1")["LaunchTemplate"]["LaunchTemplateId"]
        self.autoscaling.update_auto_scaling_group(
            AutoScalingGroupName="group-1", LaunchTemplate={"LaunchTemplateId": template, "Version": "2"})
        self.eventually("2", lambda: self.group("group-1")["LaunchTemplate"]["Version"])
        self.refused("ValidationError", self.autoscaling.update_auto_scaling_group, AutoScalingGroupName="nobody", MinSize=1)
        self.refused("ValidationError", self.autoscaling.update_auto_scaling_group, AutoScalingGroupName="group-1", MinSize=99)

    def test_capacity_and_members(self):
        self.autoscaling.set_desired_capacity(AutoScalingGroupName="group-2", DesiredCapacity=3)
        self.eventually(3, lambda: len([i for i in self.group("group-2")["Instances"] if i["LifecycleState"] == "InService"]))
        victim = self.group("group-2")["Instances"][0]["InstanceId"]
        activity = self.autoscaling.terminate_instance_in_auto_scaling_group(
            InstanceId=victim, ShouldDecrementDesiredCapacity=True)["Activity"]
        self.assertIn(victim, activity["Description"])
        self.eventually(False, lambda: victim in [i["InstanceId"] for i in self.group("group-2")["Instances"]])
        ended = self.autoscaling.describe_scaling_activities(AutoScalingGroupName="group-2")["Activities"]
        self.assertTrue(any(victim in a["Description"] and "Terminating" in a["Description"] for a in ended))
        self.refused("ValidationError", self.autoscaling.set_desired_capacity, AutoScalingGroupName="group-2", DesiredCapacity=99)

    def test_refresh(self):
        started = self.autoscaling.start_instance_refresh(AutoScalingGroupName="group-3")["InstanceRefreshId"]
        read = lambda: self.autoscaling.describe_instance_refreshes(AutoScalingGroupName="group-3")["InstanceRefreshes"]
        self.assertEqual([started], [r["InstanceRefreshId"] for r in read()])
        self.refused("InstanceRefreshInProgress", self.autoscaling.start_instance_refresh, AutoScalingGroupName="group-3")
        self.autoscaling.cancel_instance_refresh(AutoScalingGroupName="group-3")
        self.eventually("Cancelled", lambda: read()[0]["Status"])
        self.refused("ActiveInstanceRefreshNotFound", self.autoscaling.cancel_instance_refresh, AutoScalingGroupName="group-3")

    def test_refresh_with_a_desired_configuration_and_its_rollback(self):
        template = self.group("group-2")["LaunchTemplate"]["LaunchTemplateId"]
        self.autoscaling.start_instance_refresh(
            AutoScalingGroupName="group-2", Preferences={"SkipMatching": True, "InstanceWarmup": 1},
            DesiredConfiguration={"LaunchTemplate": {"LaunchTemplateId": template, "Version": "1"}})
        read = lambda: self.autoscaling.describe_instance_refreshes(
            AutoScalingGroupName="group-2", MaxRecords=1)["InstanceRefreshes"][0]
        self.assertEqual("1", read()["DesiredConfiguration"]["LaunchTemplate"]["Version"])
        self.autoscaling.rollback_instance_refresh(AutoScalingGroupName="group-2")
        self.assertIn("RollbackReason", read()["RollbackDetails"])
        self.eventually("RollbackSuccessful", lambda: read()["Status"])
        self.refused("ActiveInstanceRefreshNotFound", self.autoscaling.rollback_instance_refresh, AutoScalingGroupName="group-2")
        self.autoscaling.start_instance_refresh(AutoScalingGroupName="group-2")
        self.refused("IrreversibleInstanceRefresh", self.autoscaling.rollback_instance_refresh, AutoScalingGroupName="group-2")
        self.autoscaling.cancel_instance_refresh(AutoScalingGroupName="group-2", WaitForTransitioningInstances=False)

    def test_a_launch_configuration_becomes_a_template(self):
        whole = {
            "LaunchConfigurationName": "whole", "ImageId": "ami-0123456789abcdef1", "InstanceType": "m5.large", "KeyName": "ops",
            "UserData": "#!", "KernelId": "aki-01234567", "RamdiskId": "ari-01234567", "SecurityGroups": ["sg-01234567"],
            "IamInstanceProfile": "web", "SpotPrice": "0.05", "PlacementTenancy": "dedicated", "EbsOptimized": True,
            "AssociatePublicIpAddress": True, "InstanceMonitoring": {"Enabled": False},
            "BlockDeviceMappings": [
                {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8, "VolumeType": "gp3", "Iops": 3000, "Throughput": 125,
                                                   "DeleteOnTermination": True, "Encrypted": True}},
                {"DeviceName": "/dev/xvdb", "NoDevice": True}],
        }
        self.autoscaling.create_launch_configuration(**whole)
        found = self.autoscaling.describe_launch_configurations(LaunchConfigurationNames=["whole"])["LaunchConfigurations"][0]
        self.assertEqual(whole | {"UserData": "IyE="}, {k: found[k] for k in whole})  # boto3 encodes it
        ec2 = self.client("ec2")
        made = ec2.create_launch_template(
            LaunchTemplateName="whole-v2", LaunchTemplateData={"ImageId": found["ImageId"], "InstanceType": found["InstanceType"]},
            TagSpecifications=[{"ResourceType": "launch-template", "Tags": [{"Key": "imdsctl:replaces", "Value": "whole *"}]}],
        )["LaunchTemplate"]["LaunchTemplateId"]
        tagged = lambda value: [t["LaunchTemplateId"] for t in ec2.describe_launch_templates(
            Filters=[{"Name": "tag:imdsctl:replaces", "Values": [value]}])["LaunchTemplates"]]
        self.eventually([made], lambda: tagged("whole *"))
        self.assertEqual([[made], []], [tagged("whole \\*"), tagged("whole \\?")])
        self.autoscaling.update_auto_scaling_group(
            AutoScalingGroupName="old-style", LaunchTemplate={"LaunchTemplateId": made, "Version": "1"})
        self.eventually(None, lambda: self.group("old-style").get("LaunchConfigurationName"))
        self.autoscaling.update_auto_scaling_group(AutoScalingGroupName="old-style", LaunchConfigurationName="config-1")
        self.eventually("config-1", lambda: self.group("old-style").get("LaunchConfigurationName"))
        listed = self.cli("autoscaling", "describe-launch-configurations", "--launch-configuration-names", "whole")
        self.assertIn("aki-01234567", json.dumps(listed))
        ec2.delete_launch_template(LaunchTemplateId=made)

    def test_tags(self):
        tag = {"ResourceId": "group-4", "ResourceType": "auto-scaling-group", "Key": "wave", "Value": "1", "PropagateAtLaunch": False}
        self.autoscaling.create_or_update_tags(Tags=[tag])
        read = lambda: sorted(t["Key"] for t in self.autoscaling.describe_tags(
            Filters=[{"Name": "auto-scaling-group", "Values": ["group-4"]}])["Tags"])
        self.eventually(["Name", "wave"], read)
        self.autoscaling.delete_tags(Tags=[{k: tag[k] for k in ("ResourceId", "ResourceType", "Key")}])
        self.eventually(["Name"], read)

    def test_whole_lives(self):
        self.autoscaling.create_launch_configuration(
            LaunchConfigurationName="short-lived", ImageId="ami-0123456789abcdef1", InstanceType="m5.large",
            MetadataOptions={"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 1})
        self.refused("AlreadyExists", self.autoscaling.create_launch_configuration,
                     LaunchConfigurationName="short-lived", ImageId="ami-0123456789abcdef1", InstanceType="m5.large")
        self.autoscaling.create_auto_scaling_group(
            AutoScalingGroupName="short-lived", LaunchConfigurationName="short-lived", MinSize=0, MaxSize=1,
            AvailabilityZones=["eu-west-1a"], Tags=[{"Key": "a", "Value": "b", "PropagateAtLaunch": True}])
        self.refused("ResourceInUse", self.autoscaling.delete_launch_configuration, LaunchConfigurationName="short-lived")
        self.refused("AlreadyExists", self.autoscaling.create_auto_scaling_group, AutoScalingGroupName="short-lived",
                     LaunchConfigurationName="short-lived", MinSize=0, MaxSize=1, AvailabilityZones=["eu-west-1a"])
        self.autoscaling.delete_auto_scaling_group(AutoScalingGroupName="short-lived", ForceDelete=True)
        self.eventually([], lambda: self.autoscaling.describe_auto_scaling_groups(
            AutoScalingGroupNames=["short-lived"])["AutoScalingGroups"])
        self.autoscaling.delete_launch_configuration(LaunchConfigurationName="short-lived")
        self.refused("ValidationError", self.autoscaling.delete_launch_configuration, LaunchConfigurationName="short-lived")
