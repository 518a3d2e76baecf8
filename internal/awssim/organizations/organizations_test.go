package organizations_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	orgs "github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/organizations/types"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/organizations"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

const management = fleet.AccountID("100000000000")

// world has 45 accounts: the management account in the root, the others in turn in Production and Sandbox/Experiments.
func world(t *testing.T, partition fleet.Partition) *core.World {
	t.Helper()
	w := core.New(core.Options{
		Clock: clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)), Unthrottled: true,
	}, organizations.Service())
	w.SetOrganization(core.Organization{
		ID: "o-abcdefghij", ManagementAccount: management,
		OUs: []core.OU{{Name: "Production"}, {Name: "Sandbox"}, {Name: "Experiments", Parent: "Sandbox"}},
	})
	for i := range 45 {
		a := core.Account{ID: fleet.AccountID(fmt.Sprint(100000000000 + i)), Partition: partition, Name: fmt.Sprint("team-", i)}
		switch {
		case i == 0:
		case i%2 == 0:
			a.OU, a.Tags = "Production", map[string]string{"criticality": "high", "team": "payments"}
		default:
			a.OU = "Experiments"
		}
		if err := w.AddAccount(a); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func client(w *core.World, account fleet.AccountID, region string) *orgs.Client {
	return orgs.New(orgs.Options{
		Region: region, BaseEndpoint: aws.String(core.BaseURL), HTTPClient: w.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(string(account), "dummy", ""),
	})
}

func TestWalk(t *testing.T) {
	w := world(t, fleet.PartitionAWS)
	c := client(w, management, "us-east-1")
	accounts := map[string]bool{}
	pages := 0
	for p := orgs.NewListAccountsPaginator(c, &orgs.ListAccountsInput{}); p.HasMorePages(); pages++ {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page.Accounts {
			accounts[*a.Id] = true
			if a.Status != types.AccountStatusActive || a.State != types.AccountStateActive || a.JoinedTimestamp == nil ||
				*a.Arn != "arn:aws:organizations::100000000000:account/o-abcdefghij/"+*a.Id {
				t.Errorf("account %+v", a)
			}
		}
	}
	if len(accounts) != 45 || pages != 3 {
		t.Errorf("%d accounts on %d pages, want 45 on 3", len(accounts), pages)
	}

	roots, err := c.ListRoots(t.Context(), &orgs.ListRootsInput{})
	if err != nil || len(roots.Roots) != 1 {
		t.Fatalf("roots %+v: %v", roots, err)
	}
	found := walk(t, c, *roots.Roots[0].Id, "")
	if len(found) != 45 || found["100000000002"] != "/Production" || found["100000000001"] != "/Sandbox/Experiments" ||
		found[string(management)] != "" {
		t.Errorf("%d accounts by units; of three: %q, %q, %q", len(found), found["100000000002"], found["100000000001"],
			found[string(management)])
	}
}

// walk lists the accounts beneath a parent with the names of their units.
func walk(t *testing.T, c *orgs.Client, parent, path string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for p := orgs.NewListAccountsForParentPaginator(c, &orgs.ListAccountsForParentInput{ParentId: &parent}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page.Accounts {
			out[*a.Id] = path
			parents, err := c.ListParents(t.Context(), &orgs.ListParentsInput{ChildId: a.Id})
			if err != nil || len(parents.Parents) != 1 || *parents.Parents[0].Id != parent {
				t.Errorf("parents of %s: %+v, %v", *a.Id, parents, err)
			}
		}
	}
	units, err := c.ListOrganizationalUnitsForParent(t.Context(), &orgs.ListOrganizationalUnitsForParentInput{ParentId: &parent})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range units.OrganizationalUnits {
		if _, err := c.DescribeOrganizationalUnit(t.Context(), &orgs.DescribeOrganizationalUnitInput{OrganizationalUnitId: u.Id}); err != nil {
			t.Error(err)
		}
		for id, where := range walk(t, c, *u.Id, path+"/"+*u.Name) {
			out[id] = where
		}
	}
	children, err := c.ListChildren(t.Context(), &orgs.ListChildrenInput{ParentId: &parent, ChildType: types.ChildTypeOrganizationalUnit})
	if err != nil || len(children.Children) != len(units.OrganizationalUnits) {
		t.Errorf("children of %s: %+v, %v; want %d units", parent, children, err, len(units.OrganizationalUnits))
	}
	return out
}

func TestDescribeAndTags(t *testing.T) {
	w := world(t, fleet.PartitionGov)
	c := client(w, management, "us-gov-west-1")
	org, err := c.DescribeOrganization(t.Context(), &orgs.DescribeOrganizationInput{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := *org.Organization.Arn, "arn:aws-us-gov:organizations::100000000000:organization/o-abcdefghij"; got != want {
		t.Errorf("organization %s, want %s", got, want)
	}
	if *org.Organization.MasterAccountId != string(management) || org.Organization.FeatureSet != types.OrganizationFeatureSetAll {
		t.Errorf("organization %+v", org.Organization)
	}
	tags, err := c.ListTagsForResource(t.Context(), &orgs.ListTagsForResourceInput{ResourceId: aws.String("100000000002")})
	if err != nil || len(tags.Tags) != 2 || *tags.Tags[0].Key != "criticality" || *tags.Tags[0].Value != "high" {
		t.Errorf("tags %+v: %v", tags, err)
	}
	a, err := c.DescribeAccount(t.Context(), &orgs.DescribeAccountInput{AccountId: aws.String("100000000003")})
	if err != nil || *a.Account.Name != "team-3" || !strings.HasSuffix(a.Account.Paths[0], "/100000000003/") {
		t.Errorf("account %+v: %v", a, err)
	}
}

func TestRefusals(t *testing.T) {
	w := world(t, fleet.PartitionAWS)
	if err := w.AddAccount(core.Account{ID: "900000000000", Partition: fleet.PartitionChina}); err != nil {
		t.Fatal(err)
	}
	organizations.Configure(w, organizations.Settings{
		DelegatedAdministrators: []fleet.AccountID{"100000000004"}, Suspended: []fleet.AccountID{"100000000008"},
	})
	list := func(c *orgs.Client) error {
		_, err := c.ListAccounts(t.Context(), &orgs.ListAccountsInput{})
		return err
	}
	member := client(w, "100000000006", "us-east-1")
	if err := list(member); !errorIs[*types.AccessDeniedException](err) {
		t.Errorf("a member lists accounts: %v, want AccessDeniedException", err)
	}
	if _, err := member.DescribeOrganization(t.Context(), &orgs.DescribeOrganizationInput{}); err != nil {
		t.Errorf("a member describes the organization: %v", err)
	}
	if err := list(client(w, "100000000004", "us-east-1")); err != nil {
		t.Errorf("a delegated administrator lists accounts: %v", err)
	}
	if err := list(client(w, "900000000000", "cn-north-1")); !errorIs[*types.AWSOrganizationsNotInUseException](err) {
		t.Errorf("an outsider lists accounts: %v, want AWSOrganizationsNotInUseException", err)
	}
	c := client(w, management, "us-east-1")
	if a, err := c.DescribeAccount(t.Context(), &orgs.DescribeAccountInput{AccountId: aws.String("100000000008")}); err != nil ||
		a.Account.Status != types.AccountStatusSuspended {
		t.Errorf("a suspended account: %+v, %v", a, err)
	}
	_, err := c.DescribeAccount(t.Context(), &orgs.DescribeAccountInput{AccountId: aws.String("123123123123")})
	if !errorIs[*types.AccountNotFoundException](err) {
		t.Errorf("unknown account: %v", err)
	}
	_, err = c.ListAccountsForParent(t.Context(), &orgs.ListAccountsForParentInput{ParentId: aws.String("ou-none-00000000")})
	if !errorIs[*types.ParentNotFoundException](err) {
		t.Errorf("unknown parent: %v", err)
	}
	_, err = c.ListAccounts(t.Context(), &orgs.ListAccountsInput{MaxResults: aws.Int32(21)})
	if !errorIs[*types.InvalidInputException](err) {
		t.Errorf("MaxResults 21: %v", err)
	}
	_, err = c.ListAccounts(t.Context(), &orgs.ListAccountsInput{NextToken: aws.String("garbage!")})
	if !errorIs[*types.InvalidInputException](err) {
		t.Errorf("bad token: %v", err)
	}
}

func TestNoOrganization(t *testing.T) {
	w := core.New(core.Options{}, organizations.Service())
	if err := w.AddAccount(core.Account{ID: management}); err != nil {
		t.Fatal(err)
	}
	_, err := client(w, management, "us-east-1").DescribeOrganization(t.Context(), &orgs.DescribeOrganizationInput{})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "AWSOrganizationsNotInUseException" {
		t.Errorf("got %v, want AWSOrganizationsNotInUseException", err)
	}
}

func errorIs[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}
