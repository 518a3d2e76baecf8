"""Images: whose they are, whether they are deprecated, and ImdsSupport, which cannot be undone."""

from harness import REGION, SimulatorTest, world

OURS = [f"ami-{n:017x}" for n in range(0x10, 0x17)]
PUBLIC, SHARED = "ami-000000000000000a0", "ami-000000000000000b0"


class Images(SimulatorTest):
    @classmethod
    def seed(cls):
        w = world()
        images = [{"id": i, "name": f"ours-{n}", "created": f"2024-0{n + 1}-01T00:00:00Z"} for n, i in enumerate(OURS)]
        images[1]["deprecated"] = "2024-12-01T00:00:00Z"
        images[2]["state"] = "disabled"
        images[3]["platform"] = "Windows"
        images[6]["product_codes"] = ["6njl1pau431dv1qxipg63mvah"]
        images += [
            {"id": PUBLIC, "name": "amzn2", "owner": "137112412989", "owner_alias": "amazon", "public": True,
             "deprecated": "2024-06-01T00:00:00Z"},
            {"id": SHARED, "name": "golden", "owner": "444455556666", "imds_v2": True},
        ]
        w["accounts"][0]["regions"][REGION]["ec2"]["images"] = images
        w["accounts"][0]["regions"][REGION]["ec2"]["instances"] = []
        w["accounts"][0]["regions"][REGION]["autoscaling"] = {}
        w["accounts"][0]["regions"][REGION]["elasticloadbalancing"] = {}
        return w

    def setUp(self):
        super().setUp()
        self.ec2 = self.client("ec2")

    def ids(self, **kwargs):
        return [i["ImageId"] for i in self.ec2.describe_images(**kwargs)["Images"]]

    def one(self, image):
        return self.ec2.describe_images(ImageIds=[image], IncludeDisabled=True)["Images"][0]

    def test_owners_deprecation_and_pages(self):
        shown = [i for n, i in enumerate(OURS) if n != 2]  # the disabled one is not, unless asked for
        self.assertEqual(shown, self.ids(Owners=["self"]))
        self.assertEqual(OURS, self.ids(Owners=["self"], IncludeDisabled=True))
        self.assertEqual([], self.ids(Owners=["amazon"]))
        self.assertEqual([PUBLIC], self.ids(Owners=["amazon"], IncludeDeprecated=True))
        self.assertEqual([SHARED], self.ids(Owners=["444455556666"]))
        for size in (1, 2, 6, 7, 1000):
            found = self.pages(self.ec2.describe_images, "Images", "MaxResults", ("NextToken", "NextToken"), size,
                               Owners=["self"], IncludeDisabled=True)
            self.assertEqual(OURS, [i["ImageId"] for i in found])
        some = [{"Name": "image-id", "Values": [PUBLIC, SHARED, "ami-00000000000000bad"]}]
        self.assertEqual([PUBLIC, SHARED], self.ids(Filters=some, IncludeDeprecated=True))

    def test_what_is_told_of_one(self):
        old = self.one(OURS[1])
        self.assertEqual(("2024-02-01T00:00:00.000Z", "2024-12-01T00:00:00.000Z"),
                         (old["CreationDate"], old["DeprecationTime"]))
        self.assertEqual("111122223333", old["OwnerId"])
        self.assertNotIn("ImdsSupport", old)
        self.assertEqual("v2.0", self.one(SHARED)["ImdsSupport"])
        self.assertEqual(("Windows", "Windows"), tuple(self.one(OURS[3])[k] for k in ("PlatformDetails", "Platform")))
        self.assertEqual("disabled", self.one(OURS[2])["State"])

    def test_product_codes(self):
        want = [{"ProductCodeId": "6njl1pau431dv1qxipg63mvah", "ProductCodeType": "marketplace"}]
        self.assertEqual(want, self.one(OURS[6])["ProductCodes"])
        self.assertNotIn("ProductCodes", self.one(OURS[5]))
        coded = [{"Name": "product-code", "Values": ["6njl1pau431dv1qxipg63mvah"]}]
        self.assertEqual([OURS[6]], self.ids(Filters=coded))
        [launched] = self.ec2.run_instances(ImageId=OURS[6], MinCount=1, MaxCount=1)["Instances"]
        self.assertEqual(want, launched["ProductCodes"])

    def test_required_for_good(self):
        modify, image = self.ec2.modify_image_attribute, OURS[4]
        self.refused("DryRunOperation", modify, ImageId=image, ImdsSupport={"Value": "v2.0"}, DryRun=True)
        self.assertNotIn("ImdsSupport", self.one(image))
        modify(ImageId=image, ImdsSupport={"Value": "v2.0"})
        self.eventually("v2.0", lambda: self.one(image).get("ImdsSupport"))
        for other in ("v1.0", "optional"):
            self.refused("InvalidParameterValue", modify, ImageId=image, ImdsSupport={"Value": other})
        self.refused("InvalidParameterCombination", modify, ImageId=image)
        self.refused("AuthFailure", modify, ImageId=PUBLIC, ImdsSupport={"Value": "v2.0"}, status=403)
        [launched] = self.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"]
        self.assertEqual(("required", 2), (launched["MetadataOptions"]["HttpTokens"],
                                           launched["MetadataOptions"]["HttpPutResponseHopLimit"]))

    def test_the_command_line(self):
        self.cli("ec2", "modify-image-attribute", "--image-id", OURS[5], "--imds-support", "v2.0")
        self.eventually("v2.0", lambda: self.one(OURS[5]).get("ImdsSupport"))
        found = self.cli("ec2", "describe-images", "--owners", "self", "--include-deprecated")
        self.assertEqual(6, len(found["Images"]))
