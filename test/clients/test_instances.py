"""EC2's instances, their metadata options, the account's defaults, images, tags and regions."""

import unittest

from harness import MANAGEMENT, MEMBER, REGION, SimulatorTest, instance_id


def ids(instances):
    return sorted(i["InstanceId"] for i in instances)


class Instances(SimulatorTest):
    def setUp(self):
        super().setUp()
        self.ec2 = self.client("ec2")

    def described(self, **kwargs):
        found = []
        for page in self.ec2.get_paginator("describe_instances").paginate(**kwargs):
            found += [i for r in page["Reservations"] for i in r["Instances"]]
        return found

    def options(self, instance):
        [found] = self.described(InstanceIds=[instance])
        return found["MetadataOptions"]


class Describing(Instances):
    def test_every_page_size_lists_the_same(self):
        whole = ids(self.described())
        self.assertGreaterEqual(len(whole), 23)
        self.assertEqual(len(whole), len(set(whole)))
        for size in [*range(5, len(whole) + 3), 1000]:
            with self.subTest(size=size):
                found, token = [], {}
                while True:
                    page = self.ec2.describe_instances(MaxResults=size, **token)
                    instances = [i for r in page["Reservations"] for i in r["Instances"]]
                    self.assertLessEqual(len(instances), size)
                    found += instances
                    if not page.get("NextToken"):
                        break
                    token = {"NextToken": page["NextToken"]}
                # What other tests have launched may become visible meanwhile.
                listed = [i["InstanceId"] for i in found]
                self.assertEqual(len(listed), len(set(listed)))
                self.assertEqual(whole, [i for i in ids(found) if i in whole])

    def test_page_sizes_out_of_range(self):
        for size in (4, 1001):
            self.refused("InvalidParameterValue", self.ec2.describe_instances, MaxResults=size, status=400)

    def test_a_token_that_was_never_given(self):
        for token in ("nonsense", "AAAA"):
            with self.subTest(token=token):
                self.refused("InvalidNextToken", self.ec2.describe_instances, MaxResults=5, NextToken=token)

    def test_ids_and_pages_do_not_go_together(self):
        self.refused("InvalidParameterCombination", self.ec2.describe_instances,
                     InstanceIds=[instance_id(1)], MaxResults=5)

    def test_filters(self):
        seeded = {instance_id(n) for n in range(1, 24)}
        for name, values, want in [
            ("instance-state-name", ["stopped"], [20]),
            ("instance-state-name", ["stopped", "terminated"], [20, 21]),
            ("tag:Name", ["host-01", "host-02"], [1, 2]),
            ("tag:Name", ["host-1*"], range(10, 20)),
            ("tag:Name", ["host-?3"], [3, 13, 23]),
            ("tag:team", ["search"], range(2, 24, 2)),
            ("tag-key", ["team"], range(1, 24)),
            ("instance-id", [instance_id(4), instance_id(5)], [4, 5]),
            ("image-id", ["ami-0123456789abcdef1"], range(2, 24, 2)),
            ("instance-type", ["c5.*"], range(3, 24, 3)),
            ("availability-zone", [REGION + "b"], range(1, 24, 3)),
            ("key-name", ["ops"], [11]),
            ("metadata-options.http-tokens", ["required"], range(5, 24, 5)),
            ("metadata-options.http-endpoint", ["disabled"], [22]),
            ("metadata-options.http-put-response-hop-limit", ["3"], range(2, 24, 3)),
            ("metadata-options.instance-metadata-tags", ["enabled"], [7, 14, 21]),
            ("metadata-options.http-protocol-ipv6", ["enabled"], [6]),
            ("tag:Name", ["HOST-01"], []),
        ]:
            with self.subTest(name=name, values=values):
                found = self.described(Filters=[{"Name": name, "Values": values}])
                got = sorted({i["InstanceId"] for i in found} & seeded)
                self.assertEqual([instance_id(n) for n in want], got)

    def test_filters_are_all_to_be_met_and_page(self):
        filters = [{"Name": "tag:team", "Values": ["payments"]}, {"Name": "instance-type", "Values": ["m5.large"]}]
        want = [instance_id(n) for n in range(1, 24) if n % 2 and n % 3]
        for size in range(5, 10):
            found = self.described(Filters=filters, PaginationConfig={"PageSize": size})
            self.assertEqual(want, [i for i in ids(found) if i <= instance_id(23)])

    def test_an_unknown_filter(self):
        self.refused("InvalidParameterValue", self.ec2.describe_instances, Filters=[{"Name": "colour", "Values": ["red"]}])

    def test_ids_that_are_not_there_or_no_ids(self):
        message = self.refused("InvalidInstanceID.NotFound", self.ec2.describe_instances,
                               InstanceIds=[instance_id(1), "i-00000000000000bad"], status=400)
        self.assertIn("i-00000000000000bad", message)
        self.refused("InvalidInstanceID.Malformed", self.ec2.describe_instances, InstanceIds=["host-01"])

    def test_status(self):
        # The seed's groups launched their members a moment ago, whose checks are still initializing.
        self.eventually({"ok"}, lambda: {s["InstanceStatus"]["Status"] for s in self.ec2.describe_instance_status()["InstanceStatuses"]})
        running = ids(self.described(Filters=[{"Name": "instance-state-name", "Values": ["running"]}]))
        for size in (5, 7, 1000):
            found = []
            pages = self.ec2.get_paginator("describe_instance_status").paginate(PaginationConfig={"PageSize": size})
            for page in pages:
                found += page["InstanceStatuses"]
            self.assertEqual(running, sorted(s["InstanceId"] for s in found))
            self.assertEqual({"ok"}, {s["InstanceStatus"]["Status"] for s in found})
        every = self.ec2.describe_instance_status(IncludeAllInstances=True, InstanceIds=[instance_id(20)])
        self.assertEqual("stopped", every["InstanceStatuses"][0]["InstanceState"]["Name"])
        self.refused("InvalidInstanceID.NotFound", self.ec2.describe_instance_status, InstanceIds=["i-00000000000000bad"])

    def test_dry_run_of_a_read(self):
        self.refused("DryRunOperation", self.ec2.describe_instances, DryRun=True, status=412)

    def test_another_account_has_its_own(self):
        other = self.client("ec2", account=MEMBER).describe_instances()
        self.assertEqual(["i-0aaaaaaaaaaaaaaa1"], [i["InstanceId"] for r in other["Reservations"] for i in r["Instances"]])
        self.assertEqual(MEMBER, other["Reservations"][0]["OwnerId"])
        self.assertEqual([], self.client("ec2", region="us-east-1").describe_instances()["Reservations"])


class ModifyingOptions(Instances):
    def test_dry_run_changes_nothing(self):
        before = self.options(instance_id(1))
        self.refused("DryRunOperation", self.ec2.modify_instance_metadata_options, status=412,
                     InstanceId=instance_id(1), HttpTokens="required", HttpEndpoint="enabled", DryRun=True)
        self.assertEqual(before, self.options(instance_id(1)))

    def test_fields_left_out_are_kept(self):
        target = instance_id(7)  # optional, hop limit 2, tags enabled
        before = self.options(target)
        answer = self.ec2.modify_instance_metadata_options(InstanceId=target, HttpTokens="required", HttpEndpoint="enabled")
        self.assertEqual(target, answer["InstanceId"])
        self.assertEqual("required", answer["InstanceMetadataOptions"]["HttpTokens"])
        want = before | {"HttpTokens": "required", "State": "applied"}
        self.eventually(want, lambda: self.options(target))
        self.ec2.modify_instance_metadata_options(InstanceId=target, HttpPutResponseHopLimit=5)
        self.eventually(want | {"HttpPutResponseHopLimit": 5}, lambda: self.options(target))

    def test_tags_that_the_metadata_cannot_show(self):
        """Where tags are shown, their keys are of fewer characters: see the EC2 User Guide on tags in instance metadata."""
        shown, hidden, image = instance_id(7), instance_id(9), "ami-0123456789abcdef0"
        for key in ("k8s.io/enabled", "a b", "käse", "_index", ".."):
            with self.subTest(key=key):
                tags, show = [{"Key": key, "Value": "x"}], {"InstanceMetadataTags": "enabled"}
                spec = [{"ResourceType": "instance", "Tags": tags}]
                message = self.refused("InvalidParameterValue", self.ec2.create_tags, Resources=[shown], Tags=tags)
                self.assertIn(f"'{key}' is not a valid tag key", message)
                self.refused("InvalidParameterValue", self.ec2.run_instances, ImageId=image, MinCount=1, MaxCount=1,
                             MetadataOptions=show, TagSpecifications=spec)
                self.ec2.create_tags(Resources=[hidden], Tags=tags)
                self.refused("InvalidParameterValue", self.ec2.modify_instance_metadata_options, InstanceId=hidden, **show)
                self.ec2.modify_instance_metadata_options(InstanceId=hidden, HttpTokens="required")
                self.ec2.delete_tags(Resources=[hidden], Tags=tags)
        self.ec2.create_tags(Resources=[shown], Tags=[{"Key": "a:b+c=d,e@f.g_h-1", "Value": "x"}])

    def test_pending_and_then_applied(self):
        answer = self.ec2.modify_instance_metadata_options(InstanceId=instance_id(2), HttpTokens="required")
        self.assertEqual("pending", answer["InstanceMetadataOptions"]["State"])
        self.eventually("applied", lambda: self.options(instance_id(2))["State"])

    def test_a_stopped_instance_too(self):
        self.ec2.modify_instance_metadata_options(InstanceId=instance_id(20), HttpTokens="required")
        self.eventually("required", lambda: self.options(instance_id(20))["HttpTokens"])

    def test_refusals(self):
        modify = self.ec2.modify_instance_metadata_options
        self.refused("InvalidInstanceID.NotFound", modify, InstanceId="i-00000000000000bad", HttpTokens="required")
        self.refused("InvalidInstanceID.Malformed", modify, InstanceId="host-01", HttpTokens="required")
        self.refused("InvalidParameterValue", modify, InstanceId=instance_id(1), HttpTokens="perhaps")
        for hops in (0, 65):
            self.refused("InvalidParameterValue", modify, InstanceId=instance_id(1), HttpPutResponseHopLimit=hops)
        # With the endpoint disabled, only HttpEndpoint can be sent (API reference of the operation).
        self.refused("InvalidParameterCombination", modify, InstanceId=instance_id(1), HttpEndpoint="disabled",
                     HttpTokens="required")
        with self.subTest("terminated"):
            self.refused("IncorrectState", modify, InstanceId=instance_id(21), HttpTokens="required")


class Lives(Instances):
    def test_from_launch_to_termination(self):
        launched = self.ec2.run_instances(
            ImageId="ami-0123456789abcdef1", MinCount=2, MaxCount=2, InstanceType="m5.large",
            MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 3},
            TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "new"}]}])
        new = [i["InstanceId"] for i in launched["Instances"]]
        self.assertEqual(2, len(new))
        self.assertEqual("pending", launched["Instances"][0]["State"]["Name"])
        self.state(new, "running")
        self.assertEqual(("required", 3), tuple(self.options(new[0])[k] for k in ("HttpTokens", "HttpPutResponseHopLimit")))

        changed = self.ec2.stop_instances(InstanceIds=new)["StoppingInstances"]
        self.assertEqual(("running", "stopping"), (changed[0]["PreviousState"]["Name"], changed[0]["CurrentState"]["Name"]))
        self.state(new, "stopped")
        self.ec2.start_instances(InstanceIds=new)
        self.state(new, "running")
        self.ec2.reboot_instances(InstanceIds=new)
        self.ec2.terminate_instances(InstanceIds=new)
        self.state(new, "terminated")
        self.refused("IncorrectInstanceState", self.ec2.start_instances, InstanceIds=new)

    def state(self, instances, want):
        def read():
            found = self.described(Filters=[{"Name": "instance-id", "Values": instances}])
            return [i["State"]["Name"] for i in found]
        self.eventually([want] * len(instances), read)

    def test_from_a_template(self):
        launched = self.ec2.run_instances(
            LaunchTemplate={"LaunchTemplateName": "template-2", "Version": "$Latest"}, MinCount=1, MaxCount=1)
        instance = launched["Instances"][0]
        self.assertEqual("ami-0123456789abcdef0", instance["ImageId"])
        options = instance["MetadataOptions"]
        self.assertEqual(("optional", 2), (options["HttpTokens"], options["HttpPutResponseHopLimit"]))

    def test_launches_that_are_refused(self):
        run = self.ec2.run_instances
        self.refused("InvalidAMIID.NotFound", run, ImageId="ami-00000000000000bad", MinCount=1, MaxCount=1)
        self.refused("InvalidLaunchTemplateId.NotFound", run, MinCount=1, MaxCount=1,
                     LaunchTemplate={"LaunchTemplateId": "lt-00000000000000bad"})
        self.refused("DryRunOperation", run, ImageId="ami-0123456789abcdef1", MinCount=1, MaxCount=1, DryRun=True)


class Defaults(Instances):
    def setUp(self):
        super().setUp()
        self.ec2 = self.client("ec2", retries={"total_max_attempts": 10})  # the bucket holds two calls

    def test_absent_set_and_absent_again(self):
        read = lambda: self.ec2.get_instance_metadata_defaults().get("AccountLevel", {})
        first = read()
        self.assertNotIn("HttpTokens", first)
        self.assertTrue(self.ec2.modify_instance_metadata_defaults(HttpTokens="required", HttpPutResponseHopLimit=2)["Return"])
        self.eventually(("required", 2), lambda: tuple(read().get(k) for k in ("HttpTokens", "HttpPutResponseHopLimit")))
        launched = self.ec2.run_instances(ImageId="ami-0123456789abcdef1", MinCount=1, MaxCount=1)["Instances"][0]
        self.assertEqual("required", launched["MetadataOptions"]["HttpTokens"])
        self.ec2.modify_instance_metadata_defaults(HttpTokens="no-preference", HttpPutResponseHopLimit=-1)
        self.eventually(first, read)

    def test_refusals(self):
        modify = self.ec2.modify_instance_metadata_defaults
        self.refused("InvalidParameterValue", modify, HttpTokens="perhaps")
        self.refused("InvalidParameterValue", modify, HttpPutResponseHopLimit=65)
        self.refused("DryRunOperation", modify, HttpTokens="required", DryRun=True)


class Enforcement(Instances):
    def test_launches_and_changes_that_would_be_optional(self):
        self.ec2.modify_instance_metadata_defaults(HttpTokensEnforced="enabled")
        self.eventually("enabled", lambda: self.ec2.get_instance_metadata_defaults()["AccountLevel"].get("HttpTokensEnforced"))
        self.refused("UnsupportedOperation", self.ec2.run_instances, ImageId="ami-0123456789abcdef1", MinCount=1, MaxCount=1)
        self.refused("UnsupportedOperation", self.ec2.modify_instance_metadata_options,
                     InstanceId=instance_id(5), HttpTokens="optional")
        self.ec2.modify_instance_metadata_options(InstanceId=instance_id(1), HttpTokens="required")


class Images(Instances):
    def test_describe_and_filter(self):
        images = self.ec2.describe_images(Owners=["self"])["Images"]
        self.assertEqual({"ami-0123456789abcdef0": "v2.0", "ami-0123456789abcdef1": None},
                         {i["ImageId"]: i.get("ImdsSupport") for i in images})
        [one] = self.ec2.describe_images(Filters=[{"Name": "name", "Values": ["al20*"]}])["Images"]
        self.assertEqual("ami-0123456789abcdef0", one["ImageId"])
        self.refused("InvalidAMIID.NotFound", self.ec2.describe_images, ImageIds=["ami-00000000000000bad"])

    def test_registering_and_the_one_way_door(self):
        new = self.ec2.register_image(Name="ours", RootDeviceName="/dev/xvda", Architecture="x86_64")["ImageId"]
        support = lambda: self.ec2.describe_images(ImageIds=[new])["Images"][0].get("ImdsSupport")
        self.eventually(True, lambda: any(i["ImageId"] == new for i in self.ec2.describe_images(Owners=["self"])["Images"]))
        self.ec2.modify_image_attribute(ImageId=new, Attribute="imdsSupport", ImdsSupport={"Value": "v2.0"})
        self.eventually("v2.0", support)
        launched = self.ec2.run_instances(ImageId=new, MinCount=1, MaxCount=1)["Instances"][0]["MetadataOptions"]
        self.assertEqual(("required", 2), (launched["HttpTokens"], launched["HttpPutResponseHopLimit"]))


class Tags(Instances):
    def test_create_describe_delete(self):
        target = instance_id(3)
        mine = [{"Name": "resource-id", "Values": [target]}]
        read = lambda: {t["Key"]: t["Value"] for t in self.ec2.describe_tags(Filters=mine)["Tags"]}
        before = read()
        self.ec2.create_tags(Resources=[target], Tags=[{"Key": "imdsctl:exempt", "Value": "until spring"}])
        self.eventually(before | {"imdsctl:exempt": "until spring"}, read)
        self.ec2.delete_tags(Resources=[target], Tags=[{"Key": "imdsctl:exempt"}])
        self.eventually(before, read)
        self.refused("InvalidInstanceID.NotFound", self.ec2.create_tags,
                     Resources=["i-00000000000000bad"], Tags=[{"Key": "a", "Value": "b"}])

    def test_pages(self):
        whole = self.ec2.describe_tags()["Tags"]
        key = lambda t: (t["ResourceId"], t["Key"])
        for size in (5, 6, 13, 1000):
            found = self.pages(self.ec2.describe_tags, "Tags", "MaxResults", ("NextToken", "NextToken"), size)
            self.assertEqual(sorted(map(key, whole)), sorted(map(key, found)))


class Regions(Instances):
    def test_regions_of_an_account(self):
        on = {r["RegionName"]: r["OptInStatus"] for r in self.ec2.describe_regions()["Regions"]}
        self.assertEqual("opt-in-not-required", on[REGION])
        every = {r["RegionName"]: r["OptInStatus"] for r in self.ec2.describe_regions(AllRegions=True)["Regions"]}
        self.assertLess(len(on), len(every))
        off = sorted(every.keys() - on.keys())
        self.assertEqual({"not-opted-in"}, {every[r] for r in off})
        self.refused("AuthFailure", self.client("ec2", region=off[0]).describe_instances, status=401)


class Requests(Instances):
    def test_keys_that_are_nobodys(self):
        self.refused("AuthFailure", self.client("ec2", account="AKIAIOSFODNN7EXAMPLE").describe_instances, status=401)

    def test_an_operation_that_is_not_there(self):
        self.refused("InvalidAction", self.ec2.describe_vpcs, status=400)

    def test_the_log_knows_the_caller(self):
        self.ec2.describe_regions()
        last = self.server.calls()[-1]
        self.assertEqual(("ec2", "DescribeRegions", MANAGEMENT), (last["service"], last["action"], last["account"]))


if __name__ == "__main__":
    unittest.main()
