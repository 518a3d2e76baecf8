package securitygroup

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

func TestEveryone(t *testing.T) {
	for cidr, want := range map[string]bool{
		"0.0.0.0/0": true, "::/0": true, "0.0.0.0/1": true, "128.0.0.0/1": true, "2000::/3": true, "::/1": true,
		"64.0.0.0/2": false, "10.0.0.0/8": false, "192.0.2.1/32": false, "fc00::/7": false, "8000::/1": false, "2001:db8::/32": false,
		"": false, "everyone": false, "0.0.0.0": false,
	} {
		if got := everyone(cidr); got != want {
			t.Errorf("%q: %t", cidr, got)
		}
	}
}

func TestWords(t *testing.T) {
	rule := func(protocol string, from, to int32) types.IpPermission {
		return types.IpPermission{IpProtocol: aws.String(protocol), FromPort: aws.Int32(from), ToPort: aws.Int32(to),
			IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}}
	}
	g := types.SecurityGroup{GroupId: aws.String("sg-1"), IpPermissions: []types.IpPermission{
		rule("udp", 1000, 2000), rule("tcp", 443, 443), rule("6", 22, 22), rule("tcp", 443, 443), rule("tcp", 0, 65535), rule("icmp", -1, -1),
		{IpProtocol: aws.String("-1"), Ipv6Ranges: []types.Ipv6Range{{CidrIpv6: aws.String("::/0")}}},
		{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(25), ToPort: aws.Int32(25), IpRanges: []types.IpRange{{CidrIp: aws.String("10.0.0.0/8")}}},
		{IpProtocol: aws.String("50"), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}},
	}}
	r, err := (&driver{place: fleet.Place{}}).resource(t.Context(), &g, map[string]bool{})
	const want = "50, all, icmp, tcp, tcp 22, tcp 443, udp 1000-2000"
	if err != nil || r.State[FieldOpen] != want {
		t.Errorf("%q, want %q: %v", r.State[FieldOpen], want, err)
	}
}
