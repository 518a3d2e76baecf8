"""Launch templates and their versions."""

from harness import SimulatorTest

TEMPLATE = "lt-00000000000000001"


class Templates(SimulatorTest):
    def setUp(self):
        super().setUp()
        self.ec2 = self.client("ec2")

    def versions(self, **kwargs):
        found = []
        for page in self.ec2.get_paginator("describe_launch_template_versions").paginate(**kwargs):
            found += page["LaunchTemplateVersions"]
        return found

    def template(self, name):
        return self.ec2.describe_launch_templates(LaunchTemplateNames=[name])["LaunchTemplates"][0]


class Describing(Templates):
    def test_pages_filters_and_names(self):
        for size in (1, 2, 3, 4, 5, 200):
            found = self.pages(self.ec2.describe_launch_templates, "LaunchTemplates", "MaxResults",
                               ("NextToken", "NextToken"), size)
            self.assertEqual([f"template-{n}" for n in range(1, 5)], sorted(t["LaunchTemplateName"] for t in found))
            self.assertEqual({(3, 5)}, {(t["DefaultVersionNumber"], t["LatestVersionNumber"]) for t in found})
        some = self.ec2.describe_launch_templates(Filters=[{"Name": "launch-template-name", "Values": ["template-[12]", "*-3"]}])
        self.assertEqual(["template-3"], [t["LaunchTemplateName"] for t in some["LaunchTemplates"]])
        tagged = self.ec2.describe_launch_templates(Filters=[{"Name": "tag:team", "Values": ["payments"]}])
        self.assertEqual(4, len(tagged["LaunchTemplates"]))

    def test_templates_that_are_not_there(self):
        describe = self.ec2.describe_launch_templates
        self.refused("InvalidLaunchTemplateId.NotFound", describe, LaunchTemplateIds=["lt-00000000000000bad"])
        self.refused("InvalidLaunchTemplateId.Malformed", describe, LaunchTemplateIds=["template-1"])
        self.refused("InvalidLaunchTemplateName.NotFoundException", describe, LaunchTemplateNames=["nobody"])

    def test_versions_of_one(self):
        for size in (1, 2, 3, 4, 5, 6, 200):
            found = self.pages(self.ec2.describe_launch_template_versions, "LaunchTemplateVersions", "MaxResults",
                               ("NextToken", "NextToken"), size, LaunchTemplateId=TEMPLATE)
            self.assertEqual([1, 2, 3, 4, 5], sorted(v["VersionNumber"] for v in found))
        self.assertEqual([3], [v["VersionNumber"] for v in self.versions(LaunchTemplateId=TEMPLATE, Versions=["$Default"])])
        self.assertEqual([5], [v["VersionNumber"] for v in self.versions(LaunchTemplateId=TEMPLATE, Versions=["$Latest"])])
        some = self.versions(LaunchTemplateName="template-1", MinVersion="2", MaxVersion="4")
        self.assertEqual([2, 3, 4], sorted(v["VersionNumber"] for v in some))
        [three] = self.versions(LaunchTemplateId=TEMPLATE, Versions=["3"])
        self.assertTrue(three["DefaultVersion"])
        self.assertEqual("version 3", three["VersionDescription"])
        self.assertEqual({"HttpTokens": "optional", "HttpPutResponseHopLimit": 2},
                         {k: three["LaunchTemplateData"]["MetadataOptions"][k] for k in ("HttpTokens", "HttpPutResponseHopLimit")})
        self.refused("InvalidLaunchTemplateId.VersionNotFound", self.ec2.describe_launch_template_versions,
                     LaunchTemplateId=TEMPLATE, Versions=["9"])

    def test_latest_and_default_of_all(self):
        found = self.versions(Versions=["$Latest", "$Default"])
        self.assertEqual(sorted((f"template-{n}", v) for n in range(1, 5) for v in (3, 5)),
                         sorted((v["LaunchTemplateName"], v["VersionNumber"]) for v in found))


class Changing(Templates):
    def test_a_version_from_a_source(self):
        name = "template-2"
        new = self.ec2.create_launch_template_version(
            LaunchTemplateName=name, SourceVersion="3", VersionDescription="imdsctl",
            LaunchTemplateData={"MetadataOptions": {"HttpTokens": "required"}})["LaunchTemplateVersion"]
        self.assertEqual((6, "imdsctl", False), (new["VersionNumber"], new["VersionDescription"], new["DefaultVersion"]))
        self.eventually([6], lambda: [v["VersionNumber"] for v in self.versions(LaunchTemplateName=name, Versions=["$Latest"])])
        [read] = self.versions(LaunchTemplateName=name, Versions=["6"])
        self.assertEqual("m5.large", read["LaunchTemplateData"]["InstanceType"])
        self.assertEqual("required", read["LaunchTemplateData"]["MetadataOptions"]["HttpTokens"])

        answer = self.ec2.modify_launch_template(LaunchTemplateName=name, DefaultVersion="6")["LaunchTemplate"]
        self.assertEqual(6, answer["DefaultVersionNumber"])
        self.eventually(6, lambda: self.template(name)["DefaultVersionNumber"])
        self.ec2.modify_launch_template(LaunchTemplateName=name, DefaultVersion="3")
        self.eventually(3, lambda: self.template(name)["DefaultVersionNumber"])
        gone = self.ec2.delete_launch_template_versions(LaunchTemplateName=name, Versions=["6", "99"])
        self.assertEqual([6], [v["VersionNumber"] for v in gone["SuccessfullyDeletedLaunchTemplateVersions"]])
        self.assertEqual([99], [v["VersionNumber"] for v in gone["UnsuccessfullyDeletedLaunchTemplateVersions"]])

    def test_a_version_without_a_source_has_only_what_was_sent(self):
        new = self.ec2.create_launch_template_version(
            LaunchTemplateName="template-3", LaunchTemplateData={"MetadataOptions": {"HttpTokens": "required"}})
        self.assertNotIn("ImageId", new["LaunchTemplateVersion"]["LaunchTemplateData"])

    def test_one_token_makes_one_version(self):
        create = lambda tokens: self.ec2.create_launch_template_version(
            LaunchTemplateName="template-4", SourceVersion="5", ClientToken="once",
            LaunchTemplateData={"MetadataOptions": {"HttpTokens": tokens}})
        first, second = create("required"), create("required")
        self.assertEqual(first["LaunchTemplateVersion"]["VersionNumber"], second["LaunchTemplateVersion"]["VersionNumber"])
        self.refused("IdempotentParameterMismatch", create, "optional")

    def test_dry_run_and_refusals(self):
        create = self.ec2.create_launch_template_version
        data = {"MetadataOptions": {"HttpTokens": "required"}}
        self.refused("DryRunOperation", create, LaunchTemplateId=TEMPLATE, LaunchTemplateData=data, DryRun=True)
        self.refused("DryRunOperation", self.ec2.modify_launch_template, LaunchTemplateId=TEMPLATE, DefaultVersion="5", DryRun=True)
        self.assertEqual((3, 5), tuple(self.template("template-1")[k] for k in ("DefaultVersionNumber", "LatestVersionNumber")))
        self.refused("InvalidLaunchTemplateId.VersionNotFound", create,
                     LaunchTemplateId=TEMPLATE, SourceVersion="9", LaunchTemplateData=data)

    def test_a_whole_life(self):
        made = self.ec2.create_launch_template(
            LaunchTemplateName="short-lived", LaunchTemplateData={"ImageId": "ami-0123456789abcdef1"},
            TagSpecifications=[{"ResourceType": "launch-template", "Tags": [{"Key": "a", "Value": "b"}]}])["LaunchTemplate"]
        self.assertEqual(1, made["DefaultVersionNumber"])
        self.refused("InvalidLaunchTemplateName.AlreadyExistsException", self.ec2.create_launch_template,
                     LaunchTemplateName="short-lived", LaunchTemplateData={"ImageId": "ami-0123456789abcdef1"})
        self.ec2.delete_launch_template(LaunchTemplateId=made["LaunchTemplateId"])
        self.eventually([], lambda: self.ec2.describe_launch_templates(
            Filters=[{"Name": "launch-template-name", "Values": ["short-lived"]}])["LaunchTemplates"])
