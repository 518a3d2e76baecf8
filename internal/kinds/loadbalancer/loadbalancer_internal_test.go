package loadbalancer

import (
	"encoding/xml"
	"slices"
	"testing"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// TestAnAnswerOfTheFirstGeneration has the shape of the example in the API reference of DescribeLoadBalancers, 2012-06-01.
func TestAnAnswerOfTheFirstGeneration(t *testing.T) {
	var b oldBalancer
	err := xml.Unmarshal([]byte(`<member><SecurityGroups><member>sg-2</member><member>sg-1</member></SecurityGroups>
		<LoadBalancerName>my-loadbalancer</LoadBalancerName><Scheme>internet-facing</Scheme>
		<Instances><member><InstanceId>i-e4cbe38d</InstanceId></member><member><InstanceId>i-00000000</InstanceId></member></Instances></member>`), &b)
	if err != nil {
		t.Fatal(err)
	}
	r := (&driver{place: fleet.Place{Account: "1"}}).old(&b)
	var behind []string
	for _, l := range r.Links {
		behind = append(behind, l.To.Kind+" "+l.To.ID)
	}
	if r.Ref.ID != "classic/my-loadbalancer" || r.Attrs[inventory.AttrSecurityGroups] != "sg-1,sg-2" ||
		!slices.Equal(behind, []string{"ec2-instance i-00000000", "ec2-instance i-e4cbe38d"}) {
		t.Errorf("%+v", r)
	}
	b.Scheme = "internal"
	if r := (&driver{}).old(&b); len(r.Links) > 0 {
		t.Errorf("an internal one exposes %+v", r.Links)
	}
}

func TestWhatIsBehind(t *testing.T) {
	d := &driver{}
	r := &inventory.Resource{Attrs: map[string]string{}}
	d.fronts(r, []string{"i-2", "10.0.0.9", "i-1", "10.0.0.7", "i-2"})
	if len(r.Links) != 2 || r.Links[0].To.ID != "i-1" || r.Links[0].Relation != inventory.Fronts || r.Attrs[inventory.AttrTargetIPs] != "10.0.0.7,10.0.0.9" {
		t.Errorf("%+v", r)
	}
	if id := idOf("arn:aws:elasticloadbalancing:us-west-2:123456789012:loadbalancer/app/my-load-balancer/50dc6c495c0c9188"); id != "app/my-load-balancer/50dc6c495c0c9188" {
		t.Errorf("id %q", id)
	}
}
