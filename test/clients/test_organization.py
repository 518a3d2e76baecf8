"""AWS Organizations, read by its management account."""

from harness import MANAGEMENT, MEMBER, SimulatorTest

ACCOUNTS = [MANAGEMENT, MEMBER, "333344445555", "444455556666", "555566667777"]


class Organization(SimulatorTest):
    def setUp(self):
        super().setUp()
        self.organizations = self.client("organizations")

    def listed(self, call, key, size, **kwargs):
        return self.pages(call, key, "MaxResults", ("NextToken", "NextToken"), size, **kwargs)

    def test_accounts_in_every_page_size(self):
        for size in (*range(1, 7), 20):
            found = self.listed(self.organizations.list_accounts, "Accounts", size)
            self.assertEqual(ACCOUNTS, sorted(a["Id"] for a in found))
        self.assertEqual({"ACTIVE"}, {a["Status"] for a in found})
        self.refused("InvalidInputException", self.organizations.list_accounts, NextToken="nonsense")

    def test_the_organization_and_its_accounts(self):
        organization = self.organizations.describe_organization()["Organization"]
        self.assertEqual(("o-exampleorg", MANAGEMENT), (organization["Id"], organization["MasterAccountId"]))
        self.assertEqual("shop", self.organizations.describe_account(AccountId=MEMBER)["Account"]["Name"])
        self.refused("AccountNotFoundException", self.organizations.describe_account, AccountId="999999999999")

    def test_the_tree(self):
        [root] = self.listed(self.organizations.list_roots, "Roots", 20)
        units = self.listed(self.organizations.list_organizational_units_for_parent, "OrganizationalUnits", 1, ParentId=root["Id"])
        self.assertEqual(["sandbox", "workloads"], sorted(u["Name"] for u in units))
        workloads = next(u["Id"] for u in units if u["Name"] == "workloads")
        [prod] = self.listed(self.organizations.list_organizational_units_for_parent, "OrganizationalUnits", 5, ParentId=workloads)
        self.assertEqual("prod", self.organizations.describe_organizational_unit(
            OrganizationalUnitId=prod["Id"])["OrganizationalUnit"]["Name"])
        for size in (1, 2, 20):
            inside = self.listed(self.organizations.list_accounts_for_parent, "Accounts", size, ParentId=prod["Id"])
            self.assertEqual([MEMBER, "333344445555"], sorted(a["Id"] for a in inside))
            children = self.listed(self.organizations.list_children, "Children", size, ParentId=prod["Id"], ChildType="ACCOUNT")
            self.assertEqual([MEMBER, "333344445555"], sorted(c["Id"] for c in children))
        [parent] = self.organizations.list_parents(ChildId=MEMBER)["Parents"]
        self.assertEqual((prod["Id"], "ORGANIZATIONAL_UNIT"), (parent["Id"], parent["Type"]))
        self.refused("OrganizationalUnitNotFoundException", self.organizations.describe_organizational_unit,
                     OrganizationalUnitId="ou-abcd-12345678")
        self.refused("ParentNotFoundException", self.organizations.list_accounts_for_parent, ParentId="ou-abcd-12345678")

    def test_tags(self):
        tags = self.organizations.list_tags_for_resource(ResourceId=MEMBER)["Tags"]
        self.assertEqual([{"Key": "criticality", "Value": "high"}], tags)

    def test_a_member_may_not(self):
        member = self.client("organizations", account=MEMBER)
        self.refused("AccessDeniedException", member.list_accounts, status=400)
        self.assertEqual("o-exampleorg", member.describe_organization()["Organization"]["Id"])


class Alone(SimulatorTest):
    @classmethod
    def seed(cls):
        return {"accounts": [{"id": MANAGEMENT}]}

    def test_an_account_without_an_organization(self):
        self.refused("AWSOrganizationsNotInUseException", self.client("organizations").describe_organization)
