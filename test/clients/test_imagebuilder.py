"""Infrastructure configurations of EC2 Image Builder."""

from harness import MANAGEMENT, REGION, SimulatorTest

ARN = f"arn:aws:imagebuilder:{REGION}:{MANAGEMENT}:infrastructure-configuration/"
READ_ONLY = ("arn", "name", "dateCreated", "dateUpdated", "tags")


class Infrastructure(SimulatorTest):
    @classmethod
    def seed(cls):
        world = super().seed()
        services = next(a for a in world["accounts"] if a["id"] == MANAGEMENT)["regions"][REGION]
        services["imagebuilder"] = {"infrastructure": [
            {"name": "Golden Image", "description": "everything", "instance_types": ["m5.large"], "instance_profile": "builder",
             "security_groups": ["sg-1"], "subnet": "subnet-1", "key_pair": "ops", "log_bucket": "logs", "log_prefix": "ib/",
             "sns_topic": f"arn:aws:sns:{REGION}:{MANAGEMENT}:images", "terminate_instance_on_failure": False,
             "terminate_instance_on_completion": True, "resource_tags": {"a": "b"}, "tags": {"c": "d"},
             "http_tokens": "optional", "hop_limit": 2, "placement": {"tenancy": "dedicated"},
             "parent_group": "builders", "parent_wait": 0},
        ] + [{"name": f"plain-{n}", "instance_profile": "builder"} for n in range(4)]}
        return world

    def setUp(self):
        super().setUp()
        self.builder = self.client("imagebuilder")

    def read(self, name):
        return self.builder.get_infrastructure_configuration(
            infrastructureConfigurationArn=ARN + name)["infrastructureConfiguration"]

    def test_pages_and_filters(self):
        found = self.pages(self.builder.list_infrastructure_configurations, "infrastructureConfigurationSummaryList", "maxResults",
                           ("nextToken", "nextToken"), 2)
        self.assertEqual([ARN + "golden-image"] + [f"{ARN}plain-{n}" for n in range(4)], [c["arn"] for c in found])
        [one] = self.builder.list_infrastructure_configurations(
            filters=[{"name": "name", "values": ["plain-2"]}])["infrastructureConfigurationSummaryList"]
        self.assertEqual("plain-2", one["name"])
        listed = self.cli("imagebuilder", "list-infrastructure-configurations")["infrastructureConfigurationSummaryList"]
        self.assertEqual(5, len(listed))
        self.refused("InvalidPaginationTokenException", self.builder.list_infrastructure_configurations, nextToken="x")
        self.refused("InvalidRequestException", self.builder.list_infrastructure_configurations,
                     filters=[{"name": "color", "values": ["red"]}])

    def test_what_is_sent_comes_back_and_the_rest_is_reset(self):
        was = self.read("golden-image")
        self.assertEqual({"httpTokens": "optional", "httpPutResponseHopLimit": 2}, was["instanceMetadataOptions"])
        self.assertEqual({"autoScalingGroup": {"name": "builders", "capacityWaitTimeoutSeconds": 0}}, was["parentInstance"])
        whole = {k: v for k, v in was.items() if k not in READ_ONLY}
        options = {"httpTokens": "required", "httpPutResponseHopLimit": 3}
        sent = whole | {"instanceMetadataOptions": options, "infrastructureConfigurationArn": was["arn"], "clientToken": "once"}
        for _ in range(2):
            answer = self.builder.update_infrastructure_configuration(**sent)
            self.assertEqual((was["arn"], "once"), (answer["infrastructureConfigurationArn"], answer["clientToken"]))
        now = self.read("golden-image")
        self.assertEqual(whole | {"instanceMetadataOptions": options}, {k: v for k, v in now.items() if k not in READ_ONLY})
        self.assertEqual(was["tags"], now["tags"])
        self.refused("IdempotentParameterMismatchException", self.builder.update_infrastructure_configuration,
                     **(sent | {"description": "another"}))
        self.builder.update_infrastructure_configuration(
            infrastructureConfigurationArn=was["arn"], instanceProfileName="builder", clientToken="again")
        self.assertEqual({"instanceProfileName", "arn", "name", "dateCreated", "dateUpdated", "tags"}, set(self.read("golden-image")))

    def test_refusals(self):
        self.refused("ResourceNotFoundException", self.builder.get_infrastructure_configuration,
                     infrastructureConfigurationArn=ARN + "none", status=404)
        self.refused("InvalidRequestException", self.builder.update_infrastructure_configuration, status=400,
                     infrastructureConfigurationArn=ARN + "plain-1", instanceProfileName="builder", clientToken="t",
                     instanceMetadataOptions={"httpTokens": "required", "httpPutResponseHopLimit": 64 + 1})
        got = self.cli("imagebuilder", "get-infrastructure-configuration", "--infrastructure-configuration-arn", ARN + "plain-1")
        self.assertEqual("plain-1", got["infrastructureConfiguration"]["name"])
