package ssmagent

import (
	"maps"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

func TestWhatAnAgentTells(t *testing.T) {
	d := &driver{place: fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}}
	for _, tt := range []struct {
		in    types.InstanceInformation
		name  string
		state fleet.State
		attrs map[string]string
		on    string
	}{
		{
			types.InstanceInformation{
				InstanceId: aws.String("i-0123456789abcdef0"), AgentVersion: aws.String("2.3.1319.0"), PingStatus: types.PingStatusOnline,
				PlatformType: types.PlatformTypeLinux, PlatformName: aws.String("Amazon Linux"), PlatformVersion: aws.String("2"),
			}, "i-0123456789abcdef0", fleet.State{
				"AgentVersion": "2.3.1319.0", "PingStatus": "Online", "PlatformType": "Linux", "PlatformName": "Amazon Linux", "PlatformVersion": "2",
			}, map[string]string{"agent-version": "2.3.1319.0", "platform": "Amazon Linux 2"}, "i-0123456789abcdef0",
		},
		{ // has only just registered
			types.InstanceInformation{InstanceId: aws.String("i-0123456789abcdef1"), PingStatus: types.PingStatusConnectionLost},
			"i-0123456789abcdef1", fleet.State{"PingStatus": "ConnectionLost"}, map[string]string{}, "i-0123456789abcdef1",
		},
		{ // a machine outside of EC2
			types.InstanceInformation{InstanceId: aws.String("mi-0123456789abcdef0"), Name: aws.String("till-7"), AgentVersion: aws.String("3.1.0.0")},
			"till-7", fleet.State{"AgentVersion": "3.1.0.0"}, map[string]string{"agent-version": "3.1.0.0"}, "",
		},
	} {
		r := d.resource(&tt.in)
		if r.Name != tt.name || !r.State.Equal(tt.state) || !maps.Equal(r.Attrs, tt.attrs) {
			t.Errorf("%s: %q, %v, %v", r.Ref.ID, r.Name, r.State, r.Attrs)
		}
		link, ok := r.Link(inventory.RunsOn)
		if ok != (tt.on != "") || ok && link.To != (fleet.Ref{Place: d.place, Kind: inventory.KindInstance, ID: tt.on}) {
			t.Errorf("%s runs on %v", r.Ref.ID, link)
		}
	}
}
