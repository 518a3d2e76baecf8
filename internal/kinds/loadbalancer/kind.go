// Package loadbalancer is the kind load-balancer: the load balancers that the internet reaches, with the hosts behind them.
//
// It owns how load balancers of both generations are read, and how their targets are followed: through target groups of
// instances and of addresses, and from a load balancer to another one behind it. Internal ones are not kept. A load balancer carries
// no metadata setting, so this kind writes nothing: it says which hosts the internet can reach, and with that how much is at stake
// where IMDSv1 is open.
package loadbalancer

import (
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

const (
	actionBalancers = "elasticloadbalancing:DescribeLoadBalancers"
	actionGroups    = "elasticloadbalancing:DescribeTargetGroups"
	actionHealth    = "elasticloadbalancing:DescribeTargetHealth"
)

// Fields of the state, in the words of the API.
const (
	FieldScheme = "Scheme"
	FieldType   = "Type" // "classic" for the first generation
)

// Kind describes internet-facing load balancers.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindLoadBalancer,
		Doc: "Application, Network and Classic Load Balancers that face the internet, with the instances and addresses behind them. " +
			"Internal ones are not kept. It carries no metadata setting and nothing is written; it is one part of the risk of the " +
			"hosts behind it ([risk.md](risk.md)).",
		Manner: assess.Manner{Role: assess.RoleFact, Risk: true},
		// AWS offers no narrower resource for any of these: Service Authorization Reference, "AWS Elastic Load Balancing V2". Both
		// generations share the name of the first.
		Reads: []kind.Action{
			{Name: actionBalancers, Resource: "*"}, {Name: actionGroups, Resource: "*"}, {Name: actionHealth, Resource: "*"},
		},
	}
}
