// Package elbv2 is the simulator's Elastic Load Balancing: load balancers of both generations, each by its version of the API, and
// the target groups of the second: which instances are registered with them, and how healthy the load balancer finds those. There
// are no listeners.
//
// It keeps load balancers, target groups, registrations and states set by hand. Everything else follows from EC2, Auto Scaling and the
// programs on an instance at the time of the question: members of a group that is attached to a target group are
// registered, and an instance whose essential program is broken is unhealthy.
package elbv2

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Name is IAM's prefix, the name in signatures, and that of the section in a seed.
const Name = "elasticloadbalancing"

// pageSize is the largest and the default page of DescribeTargetGroups.
// https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTargetGroups.html
const pageSize = 400

// Service declares Elastic Load Balancing.
func Service() *core.Service {
	read := core.Bucket{Burst: 40, Refill: 10}
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.Query}, Namespace: "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/",
		Actions: map[string]core.Action{
			"DescribeTargetGroups": {Bucket: read, Handle: describeGroups,
				Params: []string{"LoadBalancerArn", "TargetGroupArns", "Names", "Marker", "PageSize"}},
			"DescribeTargetHealth": {Bucket: read, Handle: describeHealth, Params: []string{"TargetGroupArn", "Targets"}},
			"DescribeLoadBalancers": {Bucket: read, Handle: describeBalancers,
				Params: []string{"LoadBalancerArns", "Names", "LoadBalancerNames", "Marker", "PageSize"}},
		},
		SeedPlace: seedPlace,
		Controls:  controls(),
	}
}

func invalid(format string, args ...any) error {
	return wire.Errorf("ValidationError", format, args...)
}

func notFound() error {
	return wire.Errorf("TargetGroupNotFound", "One or more target groups not found")
}

// describeGroups lists target groups by name, page by page. A name or ARN that does not exist is an error.
func describeGroups(c *core.Call) error {
	size, set, err := c.In.Int("PageSize")
	if err != nil || set && (size < 1 || size > pageSize) {
		return invalid("Page size must be between 1 and %d", pageSize)
	}
	if !set {
		size = pageSize
	}
	after, err := markerOf(c)
	if err != nil {
		return err
	}
	s := StoreOf(c.Place)
	found, err := s.selected(c.In.Strings("TargetGroupArns"), c.In.Strings("Names"))
	if err != nil {
		return err
	}
	if arn := c.In.Str("LoadBalancerArn"); arn != "" {
		if s.balancerByARN(arn) == nil {
			return balancerNotFound()
		}
		found = slices.DeleteFunc(found, func(g *targetGroup) bool { return !slices.Contains(s.before(g), arn) })
	}
	var page []*targetGroup
	more := false
	for _, g := range found {
		if g.Name <= after {
			continue
		}
		if more = len(page) == int(size); more {
			break
		}
		page = append(page, g)
	}
	c.Out.List("TargetGroups", func() {
		for _, g := range page {
			c.Out.Struct("", func() { writeGroup(c.Out, g, s.before(g)) })
		}
	})
	if more {
		c.Out.Str("NextMarker", base64.RawURLEncoding.EncodeToString([]byte(page[len(page)-1].Name)))
	}
	return nil
}

// markerOf is the name that the page before ended with.
func markerOf(c *core.Call) (after string, err error) {
	marker := c.In.Str("Marker")
	b, err := base64.RawURLEncoding.DecodeString(marker)
	if err != nil {
		return "", invalid("The marker '%s' is not valid", marker)
	}
	return string(b), nil
}

func writeGroup(w *wire.Writer, g *targetGroup, balancers []string) {
	w.Str("TargetGroupArn", g.arn)
	w.Str("TargetGroupName", g.Name)
	w.Str("Protocol", g.Protocol)
	w.Int("Port", int64(g.Port))
	w.Str("VpcId", "vpc-0123456789abcdef0")
	w.Str("HealthCheckProtocol", g.Protocol)
	w.Str("HealthCheckPort", "traffic-port")
	w.Bool("HealthCheckEnabled", true)
	w.Int("HealthCheckIntervalSeconds", 30)
	w.Int("HealthCheckTimeoutSeconds", 5)
	w.Int("HealthyThresholdCount", 5)
	w.Int("UnhealthyThresholdCount", 2)
	if strings.HasPrefix(g.Protocol, "HTTP") {
		w.Str("HealthCheckPath", "/")
		w.Struct("Matcher", func() { w.Str("HttpCode", "200") })
	}
	w.Strings("LoadBalancerArns", balancers)
	w.Str("TargetType", g.Type)
	w.Str("IpAddressType", "ipv4")
}

// describeHealth tells the health of all targets of a group, or of the ones that are asked for: those that are not
// registered are "unused".
func describeHealth(c *core.Call) error {
	s := StoreOf(c.Place)
	arn := c.In.Str("TargetGroupArn")
	g := s.byARN(arn)
	if g == nil {
		if !strings.HasPrefix(arn, "arn:") {
			return invalid("'%s' is not a valid target group ARN", arn)
		}
		return notFound()
	}
	all := s.targets(g, c.Now)
	if asked := c.In.Items("Targets"); len(asked) > 0 {
		var some []target
		for _, t := range asked {
			some = append(some, pick(all, t.Str("Id"), g.Port))
		}
		all = some
	}
	c.Touch(arn)
	c.Out.List("TargetHealthDescriptions", func() {
		for _, t := range all {
			c.Out.Struct("", func() { writeHealth(c.Out, t) })
		}
	})
	return nil
}

func pick(all []target, id string, port int) target {
	for _, t := range all {
		if t.id == id {
			return t
		}
	}
	return target{id: id, port: port, state: "unused", reason: "Target.NotRegistered",
		description: "Target is not registered to the target group"}
}

func writeHealth(w *wire.Writer, t target) {
	w.Struct("Target", func() {
		w.Str("Id", t.id)
		w.Int("Port", int64(t.port))
	})
	w.Str("HealthCheckPort", wirePort(t.port))
	w.Struct("TargetHealth", func() {
		w.Str("State", t.state)
		w.Opt("Reason", t.reason)
		w.Opt("Description", t.description)
	})
}
