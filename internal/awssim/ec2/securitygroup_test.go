package ec2_test

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

const securitySeed = `{"accounts": [{"id": "777788889999", "regions": {"eu-west-1": {"ec2": {
	"images": [{"id": "ami-0123456789abcdef0"}],
	"prefix_lists": [{"id": "pl-00000001", "entries": ["192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0"]}],
	"security_groups": [
		{"id": "sg-00000001", "name": "a", "tags": {"team": "web"}, "ingress": [
			{"protocol": "tcp", "from": 22, "to": 22, "cidrs": ["0.0.0.0/0", "::/0"], "groups": ["sg-00000002"], "prefix_lists": ["pl-00000001"]}]},
		{"id": "sg-00000002", "name": "b"}, {"id": "sg-00000003", "name": "c"}, {"id": "sg-00000004", "name": "d"},
		{"id": "sg-00000005", "name": "e"}, {"id": "sg-00000006", "name": "f", "vpc": "vpc-0123456789abcdef9"}, {"id": "sg-00000007", "name": "g"}],
	"instances": [
		{"id": "i-0123456789abcdef0", "image": "ami-0123456789abcdef0", "security_groups": ["sg-00000001", "sg-00000002"],
			"public_ip": "192.0.2.7", "ipv6": "2001:db8::7", "private_ip": "10.0.0.7"},
		{"id": "i-0123456789abcdef1", "image": "ami-0123456789abcdef0"}]}}}}]}`

// secured is a client of an account with security groups.
func secured(t *testing.T) *api.Client {
	t.Helper()
	w := calm(t)
	if err := w.Load([]byte(securitySeed)); err != nil {
		t.Fatal(err)
	}
	return w.as("777788889999", "eu-west-1", "")
}

func TestSecurityGroups(t *testing.T) {
	client := secured(t)
	var ids []string
	for p := api.NewDescribeSecurityGroupsPaginator(client, &api.DescribeSecurityGroupsInput{MaxResults: aws.Int32(5)}); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(page.SecurityGroups) > 5 {
			t.Errorf("%d on a page of 5", len(page.SecurityGroups))
		}
		for _, g := range page.SecurityGroups {
			ids = append(ids, *g.GroupId)
		}
	}
	if len(ids) != 7 || !slices.IsSorted(ids) {
		t.Errorf("listed %q", ids)
	}
	one, err := client.DescribeSecurityGroups(t.Context(), &api.DescribeSecurityGroupsInput{GroupIds: []string{"sg-00000001"}})
	if err != nil || len(one.SecurityGroups) != 1 {
		t.Fatalf("%+v, %v", one, err)
	}
	g := one.SecurityGroups[0]
	rule := g.IpPermissions[0]
	if *g.GroupName != "a" || len(g.Tags) != 1 || *rule.FromPort != 22 || *rule.IpRanges[0].CidrIp != "0.0.0.0/0" ||
		*rule.Ipv6Ranges[0].CidrIpv6 != "::/0" || *rule.UserIdGroupPairs[0].GroupId != "sg-00000002" ||
		*rule.PrefixListIds[0].PrefixListId != "pl-00000001" || *g.IpPermissionsEgress[0].IpProtocol != "-1" {
		t.Errorf("%+v", g)
	}
	inVPC, err := client.DescribeSecurityGroups(t.Context(), &api.DescribeSecurityGroupsInput{Filters: []types.Filter{
		{Name: aws.String("vpc-id"), Values: []string{"vpc-0123456789abcdef9"}}}})
	if err != nil || len(inVPC.SecurityGroups) != 1 || *inVPC.SecurityGroups[0].GroupId != "sg-00000006" {
		t.Errorf("%+v, %v", inVPC, err)
	}
	for _, in := range []*api.DescribeSecurityGroupsInput{
		{GroupIds: []string{"sg-0000000f"}}, {GroupIds: []string{"web"}}, {MaxResults: aws.Int32(4)}, {NextToken: aws.String("x")},
	} {
		if out, err := client.DescribeSecurityGroups(t.Context(), in); err == nil {
			t.Errorf("%+v was answered with %d groups", in, len(out.SecurityGroups))
		}
	}
}

func TestPrefixLists(t *testing.T) {
	client := secured(t)
	var entries []string
	in := &api.GetManagedPrefixListEntriesInput{PrefixListId: aws.String("pl-00000001"), MaxResults: aws.Int32(1)}
	for p := api.NewGetManagedPrefixListEntriesPaginator(client, in); p.HasMorePages(); {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			entries = append(entries, *e.Cidr)
		}
	}
	if !slices.Equal(entries, []string{"192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0"}) {
		t.Errorf("entries %q", entries)
	}
	in.PrefixListId = aws.String("pl-0000000f")
	if _, err := client.GetManagedPrefixListEntries(t.Context(), in); err == nil {
		t.Error("a list that is not there has entries")
	}
}

func TestNetworkOfAnInstance(t *testing.T) {
	client := secured(t)
	out, err := client.DescribeInstances(t.Context(), &api.DescribeInstancesInput{})
	if err != nil {
		t.Fatal(err)
	}
	var all []types.Instance
	for _, r := range out.Reservations {
		all = append(all, r.Instances...)
	}
	i, eni := all[0], all[0].NetworkInterfaces[0]
	if *i.PublicIpAddress != "192.0.2.7" || *i.Ipv6Address != "2001:db8::7" || len(i.SecurityGroups) != 2 || len(eni.Groups) != 2 ||
		*eni.PrivateIpAddresses[0].PrivateIpAddress != "10.0.0.7" || *eni.Ipv6Addresses[0].Ipv6Address != "2001:db8::7" {
		t.Errorf("%+v", i)
	}
	if bare := all[1]; bare.PublicIpAddress != nil || len(bare.SecurityGroups)+len(bare.NetworkInterfaces) > 0 {
		t.Errorf("%+v", bare)
	}
}
