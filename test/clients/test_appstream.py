"""AppStream's fleets, image builders and app block builders, in both protocols that its clients speak."""

from harness import MANAGEMENT, REGION, SimulatorTest

ARN = f"arn:aws:appstream:{REGION}:{MANAGEMENT}"


class AppStream(SimulatorTest):
    protocol = "smithy-rpc-v2-cbor"  # botocore's default

    @classmethod
    def seed(cls):
        world = super().seed()
        regional = next(a for a in world["accounts"] if a["id"] == MANAGEMENT)["regions"][REGION]
        regional["appstream"] = {
            "fleets": [{"name": "office", "state": "RUNNING", "disable_imdsv1": False, "tags": {"team": "it"},
                        "image_arn": ARN + ":image/office-7"}]
            + [{"name": f"fleet-{n:02d}", "type": "ELASTIC"} for n in range(1, 30)],
            "image_builders": [{"name": f"builder-{n}", "disable_imdsv1": n == 2} for n in range(1, 5)],
            "app_block_builders": [{"name": "packager", "state": "RUNNING"}, {"name": "second", "disable_imdsv1": True}],
            "images": [{"arn": f"{ARN}:image/office-{n}", "agent": "06-17-2024", "base_released": "2024-05-01T00:00:00Z"}
                       for n in range(1, 9)],
        }
        return world

    def setUp(self):
        super().setUp()
        self.appstream = self.client("appstream", protocol=self.protocol)

    def fleet(self, name):
        [found] = self.appstream.describe_fleets(Names=[name])["Fleets"]
        return found["State"], found.get("DisableIMDSV1")

    def builder(self, name):
        [found] = self.appstream.describe_app_block_builders(Names=[name])["AppBlockBuilders"]
        return found["State"], found.get("DisableIMDSV1")

    def test_lists(self):
        found, token = [], {}
        while True:
            page = self.appstream.describe_fleets(**token)
            self.assertLessEqual(len(page["Fleets"]), 25)
            found += [f["Name"] for f in page["Fleets"]]
            if "NextToken" not in page:
                break
            token = {"NextToken": page["NextToken"]}
        self.assertEqual(["office"] + [f"fleet-{n:02d}" for n in range(1, 30)], found)
        for call, key, count in [
            (self.appstream.describe_image_builders, "ImageBuilders", 4),
            (self.appstream.describe_app_block_builders, "AppBlockBuilders", 2),
            (self.appstream.describe_images, "Images", 8),
        ]:
            for size in (1, 3):
                self.assertEqual(count, len(self.pages(call, key, "MaxResults", ("NextToken", "NextToken"), size)))
        builders = {b["Name"]: b.get("DisableIMDSV1") for b in self.appstream.describe_image_builders()["ImageBuilders"]}
        self.assertEqual((False, True), (builders["builder-1"], builders["builder-2"]))
        [image] = self.appstream.describe_images(Arns=[ARN + ":image/office-7"])["Images"]
        self.assertEqual(("06-17-2024", 2024), (image["AppstreamAgentVersion"], image["PublicBaseImageReleasedDate"].year))
        self.assertEqual({"team": "it"}, self.appstream.list_tags_for_resource(ResourceArn=ARN + ":fleet/office")["Tags"])

    def test_a_fleet_is_stopped_set_and_started(self):
        self.assertEqual(("RUNNING", False), self.fleet("office"))
        self.refused("OperationNotPermittedException", self.appstream.update_fleet, Name="office", DisableIMDSV1=True)
        self.appstream.stop_fleet(Name="office")
        self.refused("ConcurrentModificationException", self.appstream.start_fleet, Name="office")
        self.eventually(("STOPPED", False), lambda: self.fleet("office"))
        self.assertTrue(self.appstream.update_fleet(Name="office", DisableIMDSV1=True)["Fleet"]["DisableIMDSV1"])
        self.appstream.start_fleet(Name="office")
        self.eventually(("RUNNING", True), lambda: self.fleet("office"))
        # And back, as the plan's commands do it.
        for command in (["stop-fleet"], ["update-fleet", "--no-disable-imdsv1"], ["start-fleet"]):
            self.cli("appstream", *command, "--name", "office")
            want = "RUNNING" if command == ["start-fleet"] else "STOPPED"
            self.eventually(want, lambda: self.fleet("office")[0])
        self.eventually(("RUNNING", False), lambda: self.fleet("office"))

    def test_an_app_block_builder_too(self):
        self.refused("OperationNotPermittedException", self.appstream.update_app_block_builder, Name="packager", DisableIMDSV1=True)
        self.assertEqual("STOPPING", self.appstream.stop_app_block_builder(Name="packager")["AppBlockBuilder"]["State"])
        self.eventually("STOPPED", lambda: self.builder("packager")[0])
        self.appstream.update_app_block_builder(Name="packager", DisableIMDSV1=True)
        self.assertEqual("STARTING", self.appstream.start_app_block_builder(Name="packager")["AppBlockBuilder"]["State"])
        self.eventually(("RUNNING", True), lambda: self.builder("packager"))

    def test_refusals(self):
        for call in (self.appstream.describe_fleets, self.appstream.describe_image_builders,
                     self.appstream.describe_app_block_builders):
            self.refused("ResourceNotFoundException", call, Names=["nobody"])
        self.refused("ResourceNotFoundException", self.appstream.stop_fleet, Name="nobody")
        self.refused("ResourceNotFoundException", self.appstream.describe_images, Arns=[ARN + ":image/none"])
        self.refused("ResourceNotFoundException", self.appstream.list_tags_for_resource, ResourceArn=ARN + ":fleet/nobody")
        self.refused("UnknownParameter", self.appstream.update_fleet, Name="fleet-01", DisplayName="Office")
        self.assertEqual("STOPPED", self.fleet("fleet-01")[0])


class AppStreamByJSON(AppStream):
    """The same by JSON 1.1, which the Go SDK and older clients speak."""

    protocol = "json"
