"""Elastic Beanstalk's environments: their settings, what they operate, and an update that replaces instances."""

from harness import MANAGEMENT, REGION, SimulatorTest

NAMESPACE, OPTION = "aws:autoscaling:launchconfiguration", "DisableIMDSv1"
WEB, LAUNCHING = "e-aaaaaaaaa1", "e-aaaaaaaaa2"


class Beanstalk(SimulatorTest):
    @classmethod
    def seed(cls):
        world = super().seed()
        regional = next(a for a in world["accounts"] if a["id"] == MANAGEMENT)["regions"][REGION]
        regional["autoscaling"]["groups"].append(
            {"name": "awseb-web", "template": "template-2", "version": "3", "desired": 2, "max": 3})
        regional["elasticbeanstalk"] = {"environments": [
            {"id": WEB, "name": "web-prod", "application": "shop", "groups": ["awseb-web"], "tags": {"team": "web"},
             "solution_stack": "64bit Amazon Linux 2 v3.5.10 running Docker",
             "options": {f"{NAMESPACE}/{OPTION}": "false", "aws:elasticbeanstalk:application:environment/MODE": "fast"}},
            {"id": LAUNCHING, "name": "launching", "application": "shop", "status": "Launching"},
            {"id": "e-aaaaaaaaa3", "name": "failed", "application": "api", "options": {f"{NAMESPACE}/{OPTION}": "false"},
             "failed": {f"{NAMESPACE}/{OPTION}": "true"},
             "platform_arn": "arn:aws:elasticbeanstalk:eu-west-1::platform/Docker running on 64bit Amazon Linux 2023/4.3.0"},
            {"id": "e-aaaaaaaaa4", "name": "ended", "application": "api", "status": "Terminated"},
        ]}
        return world

    def setUp(self):
        super().setUp()
        self.beanstalk = self.client("elasticbeanstalk")

    def option(self, application, name):
        """The option in each set of settings, by the set's status; None where it has no value."""
        sets = self.beanstalk.describe_configuration_settings(ApplicationName=application, EnvironmentName=name)
        return {s["DeploymentStatus"]: next((o.get("Value") for o in s["OptionSettings"] if o["OptionName"] == OPTION), None)
                for s in sets["ConfigurationSettings"]}

    def status(self, name):
        [found] = self.beanstalk.describe_environments(EnvironmentNames=[name])["Environments"]
        return found["Status"]

    def tokens(self):
        """What the running instances of the environment's group say."""
        found = self.client("ec2").describe_instances(Filters=[
            {"Name": "tag:aws:autoscaling:groupName", "Values": ["awseb-web"]},
            {"Name": "instance-state-name", "Values": ["running"]}])["Reservations"]
        return [i["MetadataOptions"]["HttpTokens"] for r in found for i in r["Instances"]]

    def test_environments(self):
        names = lambda **kwargs: [e["EnvironmentName"] for e in self.beanstalk.describe_environments(**kwargs)["Environments"]]
        self.assertEqual(["web-prod", "launching", "failed"], names(IncludeDeleted=False))
        self.assertEqual(["web-prod", "launching", "failed", "ended"], names(IncludeDeleted=True))
        self.assertEqual(["web-prod", "launching"], names(ApplicationName="shop"))
        self.assertEqual(["failed"], names(EnvironmentIds=["e-aaaaaaaaa3"]))
        self.assertEqual([], names(EnvironmentNames=["nobody"]))
        for size in range(1, 4):
            found = self.pages(self.beanstalk.describe_environments, "Environments", "MaxRecords", ("NextToken", "NextToken"), size)
            self.assertEqual(["web-prod", "launching", "failed"], [e["EnvironmentName"] for e in found])

    def test_settings_resources_and_tags(self):
        self.assertEqual({"failed": "true", "deployed": "false"}, self.option("api", "failed"))
        self.assertEqual({"deployed": None}, self.option("shop", "launching"))
        resources = self.beanstalk.describe_environment_resources(EnvironmentId=WEB)["EnvironmentResources"]
        self.assertEqual([{"Name": "awseb-web"}], resources["AutoScalingGroups"])
        self.assertGreaterEqual(len(resources["Instances"]), 2)  # more while they are replaced
        [web] = self.beanstalk.describe_environments(EnvironmentIds=[WEB])["Environments"]
        tags = self.beanstalk.list_tags_for_resource(ResourceArn=web["EnvironmentArn"])["ResourceTags"]
        self.assertEqual([{"Key": "team", "Value": "web"}], tags)

    def test_an_update(self):
        self.eventually(["optional", "optional"], self.tokens)
        setting = {"Namespace": NAMESPACE, "OptionName": OPTION, "Value": "true"}
        done = self.beanstalk.update_environment(EnvironmentName="web-prod", OptionSettings=[setting])
        self.assertEqual("Updating", done["Status"])
        self.refused("InvalidParameterValue", self.beanstalk.update_environment, EnvironmentId=WEB, OptionSettings=[setting])
        self.eventually("Updating", lambda: self.status("web-prod"))
        self.assertEqual({"pending": "true", "deployed": "false"}, self.option("shop", "web-prod"))
        self.eventually("Ready", lambda: self.status("web-prod"))
        self.eventually({"deployed": "true"}, lambda: self.option("shop", "web-prod"))
        self.eventually(["required", "required"], self.tokens)
        # And back, as the plan's commands do it.
        self.cli("elasticbeanstalk", "update-environment", "--environment-id", WEB, "--options-to-remove",
                 f"Namespace={NAMESPACE},OptionName={OPTION}")
        self.eventually({"deployed": None}, lambda: self.option("shop", "web-prod"))
        self.eventually(["optional", "optional"], self.tokens)
        self.cli("elasticbeanstalk", "update-environment", "--environment-id", WEB, "--option-settings",
                 f"Namespace={NAMESPACE},OptionName={OPTION},Value=false")
        self.eventually({"deployed": "false"}, lambda: self.option("shop", "web-prod"))

    def test_refusals(self):
        update = self.beanstalk.update_environment
        self.assertIn("No Environment found", self.refused("InvalidParameterValue", update, EnvironmentName="nobody"))
        self.assertIn("Must be Ready", self.refused("InvalidParameterValue", update, EnvironmentId=LAUNCHING))
        self.refused("MissingRequiredParameter", update)
        self.refused("ConfigurationValidationException", update, EnvironmentId="e-aaaaaaaaa3", OptionSettings=[
            {"Namespace": NAMESPACE, "OptionName": OPTION, "Value": "perhaps"}])
        self.refused("UnknownParameter", update, EnvironmentId="e-aaaaaaaaa3", VersionLabel="v2")
        self.refused("InvalidParameterValue", self.beanstalk.describe_configuration_settings,
                     ApplicationName="api", EnvironmentName="web-prod")
        self.refused("InvalidParameterValue", self.beanstalk.describe_environment_resources, EnvironmentName="ended")
        self.refused("ResourceNotFoundException", self.beanstalk.list_tags_for_resource,
                     ResourceArn="arn:aws:elasticbeanstalk:eu-west-1:111122223333:environment/shop/nobody")
        self.refused("InvalidParameterValue", self.beanstalk.describe_environments, NextToken="nonsense")
