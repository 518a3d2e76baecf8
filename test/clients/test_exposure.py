"""What tells how much is at stake on a host: security groups, load balancers of both generations, and roles with their policies."""

from harness import MANAGEMENT, REGION, SimulatorTest, instance_id

EC2_TRUST = {"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"}}]}


def allow(action):
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]}


class Exposure(SimulatorTest):
    @classmethod
    def seed(cls):
        world = super().seed()
        account = next(a for a in world["accounts"] if a["id"] == MANAGEMENT)
        regional = account["regions"][REGION]
        regional["ec2"]["prefix_lists"] = [{"id": "pl-00000001", "entries": [f"198.51.100.{n}/32" for n in range(7)]}]
        regional["ec2"]["security_groups"] = [
            {"id": "sg-00000001", "name": "web", "description": "web", "tags": {"team": "web"}, "ingress": [
                {"protocol": "tcp", "from": 443, "to": 443, "cidrs": ["0.0.0.0/0", "::/0"]},
                {"protocol": "-1", "groups": ["sg-00000002"]}, {"protocol": "tcp", "from": 22, "to": 22, "prefix_lists": ["pl-00000001"]}]},
        ] + [{"id": f"sg-0000000{n}", "name": f"group-{n}"} for n in range(2, 8)]
        regional["ec2"]["instances"][0] |= {"security_groups": ["sg-00000001"], "public_ip": "198.51.100.7", "ipv6": "2001:db8::7"}
        regional["elasticloadbalancing"] |= {
            "load_balancers": [{"name": "api", "scheme": "internet-facing", "target_groups": ["bare"], "security_groups": ["sg-00000001"]},
                               {"name": "inner", "target_groups": ["empty"]}, {"name": "tcp", "type": "network"}],
            "classic": [{"name": f"old-{n}", "scheme": "internet-facing", "instances": [instance_id(1)]} for n in range(3)],
        }
        account["global"] = {"iam": {
            "policies": [{"name": "custom", "documents": [allow("s3:*"), allow("logs:*")]},
                         {"name": "ReadOnly", "aws": True, "documents": [allow("ec2:Describe*")]}],
            "roles": [{"name": "app", "trust": EC2_TRUST, "attached": ["custom", "ReadOnly"], "boundary": "ReadOnly", "profiles": ["app"],
                       "inline": {"more": allow("sqs:*")}, "tags": {"team": "web"}},
                      {"name": "bare", "trust": EC2_TRUST}],
        }}
        return world

    def test_security_groups(self):
        ec2 = self.client("ec2")
        found = self.pages(ec2.describe_security_groups, "SecurityGroups", "MaxResults", ("NextToken", "NextToken"), 5)
        self.assertEqual([f"sg-0000000{n}" for n in range(1, 8)], [g["GroupId"] for g in found])
        [web] = ec2.describe_security_groups(GroupIds=["sg-00000001"])["SecurityGroups"]
        self.assertEqual("::/0", web["IpPermissions"][0]["Ipv6Ranges"][0]["CidrIpv6"])
        self.assertEqual("sg-00000002", web["IpPermissions"][1]["UserIdGroupPairs"][0]["GroupId"])
        self.refused("InvalidGroup.NotFound", ec2.describe_security_groups, GroupIds=["sg-0000000f"])
        self.assertEqual(1, len(self.cli("ec2", "describe-security-groups", "--filters", "Name=group-name,Values=web")["SecurityGroups"]))

    def test_prefix_lists(self):
        ec2 = self.client("ec2")
        found = self.pages(ec2.get_managed_prefix_list_entries, "Entries", "MaxResults", ("NextToken", "NextToken"), 3,
                           PrefixListId="pl-00000001")
        self.assertEqual([f"198.51.100.{n}/32" for n in range(7)], [e["Cidr"] for e in found])
        self.refused("InvalidPrefixListID.NotFound", ec2.get_managed_prefix_list_entries, PrefixListId="pl-0000000f")

    def test_the_network_of_an_instance(self):
        reservations = self.client("ec2").describe_instances(InstanceIds=[instance_id(1)])["Reservations"]
        host = reservations[0]["Instances"][0]
        self.assertEqual(("198.51.100.7", "2001:db8::7"), (host["PublicIpAddress"], host["Ipv6Address"]))
        self.assertEqual("sg-00000001", host["SecurityGroups"][0]["GroupId"])
        self.assertEqual("2001:db8::7", host["NetworkInterfaces"][0]["Ipv6Addresses"][0]["Ipv6Address"])

    def test_load_balancers(self):
        elb = self.client("elbv2")
        found = self.pages(elb.describe_load_balancers, "LoadBalancers", "PageSize", ("NextMarker", "Marker"), 2)
        self.assertEqual([("api", "internet-facing"), ("inner", "internal"), ("tcp", "internal")],
                         [(b["LoadBalancerName"], b["Scheme"]) for b in found])
        groups = elb.describe_target_groups(LoadBalancerArn=found[0]["LoadBalancerArn"])["TargetGroups"]
        self.assertEqual([("bare", [found[0]["LoadBalancerArn"]])], [(g["TargetGroupName"], g["LoadBalancerArns"]) for g in groups])
        self.refused("LoadBalancerNotFound", elb.describe_load_balancers, Names=["nobody"])

    def test_classic_load_balancers(self):
        elb = self.client("elb")
        found = self.pages(elb.describe_load_balancers, "LoadBalancerDescriptions", "PageSize", ("NextMarker", "Marker"), 2)
        self.assertEqual(["old-0", "old-1", "old-2"], [b["LoadBalancerName"] for b in found])
        self.assertEqual([{"InstanceId": instance_id(1)}], found[0]["Instances"])
        self.refused("LoadBalancerNotFound", elb.describe_load_balancers, LoadBalancerNames=["api"])
        self.assertEqual(1, len(self.cli("elb", "describe-load-balancers", "--load-balancer-names", "old-1")["LoadBalancerDescriptions"]))

    def test_roles_with_their_policies(self):
        iam = self.client("iam")
        pages = list(iam.get_paginator("get_account_authorization_details").paginate(PaginationConfig={"PageSize": 1}))
        roles = [r for p in pages for r in p["RoleDetailList"]]
        policies = {v["PolicyName"]: v for p in pages for v in p["Policies"]}
        self.assertEqual((4, ["app", "bare"]), (len(pages), [r["RoleName"] for r in roles]))
        app = roles[0]
        self.assertEqual("app", app["InstanceProfileList"][0]["InstanceProfileName"])
        self.assertEqual("sqs:*", app["RolePolicyList"][0]["PolicyDocument"]["Statement"][0]["Action"])
        self.assertEqual(["custom", "ReadOnly"], [a["PolicyName"] for a in app["AttachedManagedPolicies"]])
        self.assertEqual("arn:aws:iam::aws:policy/ReadOnly", app["PermissionsBoundary"]["PermissionsBoundaryArn"])
        [in_force] = [v for v in policies["custom"]["PolicyVersionList"] if v["IsDefaultVersion"]]
        self.assertEqual("logs:*", in_force["Document"]["Statement"][0]["Action"])
        only = iam.get_account_authorization_details(Filter=["AWSManagedPolicy"])
        self.assertEqual(([], ["ReadOnly"]), (only["RoleDetailList"], [v["PolicyName"] for v in only["Policies"]]))
