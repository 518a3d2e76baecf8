package elbv2

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Balancer is a load balancer of the second generation.
type Balancer struct {
	Name string `json:"name"`
	// Type is application, network or gateway; application when empty.
	Type string `json:"type,omitempty"`
	// Scheme is internet-facing or internal; internal when empty.
	Scheme         string   `json:"scheme,omitempty"`
	SecurityGroups []string `json:"security_groups,omitempty"`
	// TargetGroups are names of those it forwards to.
	TargetGroups []string `json:"target_groups,omitempty"`
	// ID is the end of its ARN; made of its name when empty.
	ID string `json:"id,omitempty"`
}

type balancer struct {
	Balancer
	arn string
}

// Classic is a load balancer of the first generation, with the instances that are registered with it.
type Classic struct {
	Name           string   `json:"name"`
	Scheme         string   `json:"scheme,omitempty"`
	SecurityGroups []string `json:"security_groups,omitempty"`
	Instances      []string `json:"instances,omitempty"`
}

// Schemes, in the API's words.
const (
	Facing   = "internet-facing"
	Internal = "internal"
)

// classicVersion is the API version of the first generation; both answer to the same name.
const classicVersion = "2012-06-01"

// arnTypes are the words for a type in an ARN.
var arnTypes = map[string]string{"application": "app", "network": "net", "gateway": "gwy"}

func (s *Store) seedBalancers(in *seedSection, path string) error {
	if s.balancers == nil {
		s.balancers, s.classic = map[string]*balancer{}, map[string]*Classic{}
	}
	for n, b := range in.LoadBalancers {
		b.Type, b.Scheme = cmp.Or(b.Type, "application"), cmp.Or(b.Scheme, Internal)
		switch {
		case b.Name == "" || s.balancers[b.Name] != nil:
			return fmt.Errorf("%s.load_balancers[%d]: name %q is empty or used twice", path, n, b.Name)
		case arnTypes[b.Type] == "" || b.Scheme != Facing && b.Scheme != Internal:
			return fmt.Errorf("%s.load_balancers[%d]: type %q or scheme %q is not known", path, n, b.Type, b.Scheme)
		}
		for _, g := range b.TargetGroups {
			if s.groups[g] == nil {
				return fmt.Errorf("%s.load_balancers[%d]: there is no target group %q", path, n, g)
			}
		}
		s.balancers[b.Name] = &balancer{Balancer: b, arn: s.balancerARN(&b)}
	}
	for n, c := range in.Classic {
		c.Scheme = cmp.Or(c.Scheme, Internal)
		if c.Name == "" || s.classic[c.Name] != nil || c.Scheme != Facing && c.Scheme != Internal {
			return fmt.Errorf("%s.classic[%d]: name %q is empty or used twice, or scheme %q is not known", path, n, c.Name, c.Scheme)
		}
		s.classic[c.Name] = &c
	}
	return nil
}

func (s *Store) balancerARN(b *Balancer) string {
	id := b.ID
	if id == "" {
		h := fnv.New64a()
		fmt.Fprintf(h, "%s %s", s.place.Place, b.Name)
		id = fmt.Sprintf("%016x", h.Sum64())
	}
	return fmt.Sprintf("arn:%s:elasticloadbalancing:%s:%s:loadbalancer/%s/%s/%s", s.place.Partition, s.place.Region, s.place.Account,
		arnTypes[b.Type], b.Name, id)
}

func (s *Store) balancerByARN(arn string) *balancer {
	for _, b := range s.balancers {
		if b.arn == arn {
			return b
		}
	}
	return nil
}

// before lists the ARNs of the load balancers that forward to a target group, by name.
func (s *Store) before(g *targetGroup) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.balancers)) {
		if slices.Contains(s.balancers[name].TargetGroups, g.Name) {
			out = append(out, s.balancers[name].arn)
		}
	}
	return out
}

func balancerNotFound() error {
	return wire.Errorf("LoadBalancerNotFound", "One or more load balancers not found")
}

// describeBalancers lists load balancers by name, of the generation whose version of the API is asked for. Not more than 400 are
// on a page. https://docs.aws.amazon.com/elasticloadbalancing/2012-06-01/APIReference/API_DescribeLoadBalancers.html
func describeBalancers(c *core.Call) error {
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
	if c.Version == classicVersion {
		return describeClassic(c, after, int(size))
	}
	s := StoreOf(c.Place)
	names := c.In.Strings("Names")
	for _, arn := range c.In.Strings("LoadBalancerArns") {
		b := s.balancerByARN(arn)
		if b == nil {
			return balancerNotFound()
		}
		names = append(names, b.Name)
	}
	page, next, err := pageOf(s.balancers, names, after, int(size))
	if err != nil {
		return err
	}
	c.Out.List("LoadBalancers", func() {
		for _, b := range page {
			c.Out.Struct("", func() { writeBalancer(c.Out, b) })
		}
	})
	c.Out.Opt("NextMarker", next)
	return nil
}

// pageOf gives one page of what is kept by name.
func pageOf[T any](all map[string]*T, names []string, after string, size int) (page []*T, next string, err error) {
	last := ""
	for _, name := range names {
		if all[name] == nil {
			return nil, "", balancerNotFound()
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name <= after || len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		if len(page) == size {
			return page, base64.RawURLEncoding.EncodeToString([]byte(last)), nil
		}
		page, last = append(page, all[name]), name
	}
	return page, "", nil
}

func writeBalancer(w *wire.Writer, b *balancer) {
	w.Str("LoadBalancerArn", b.arn)
	w.Str("DNSName", b.Name+"-1234567890.elb.amazonaws.com")
	w.Str("LoadBalancerName", b.Name)
	w.Str("Scheme", b.Scheme)
	w.Str("VpcId", "vpc-0123456789abcdef0")
	w.Struct("State", func() { w.Str("Code", "active") })
	w.Str("Type", b.Type)
	w.Strings("SecurityGroups", b.SecurityGroups)
	w.Str("IpAddressType", "ipv4")
}

func describeClassic(c *core.Call, after string, size int) error {
	page, next, err := pageOf(StoreOf(c.Place).classic, c.In.Strings("LoadBalancerNames"), after, size)
	if err != nil {
		return wire.Errorf("LoadBalancerNotFound", "There is no ACTIVE Load Balancer of that name")
	}
	w := c.Out
	w.List("LoadBalancerDescriptions", func() {
		for _, b := range page {
			w.Struct("", func() {
				w.Str("LoadBalancerName", b.Name)
				w.Str("DNSName", b.Name+"-123456789.elb.amazonaws.com")
				w.Str("Scheme", b.Scheme)
				w.Str("VPCId", "vpc-0123456789abcdef0")
				w.Strings("SecurityGroups", b.SecurityGroups)
				w.List("Instances", func() {
					for _, id := range b.Instances {
						w.Struct("", func() { w.Str("InstanceId", id) })
					}
				})
			})
		}
	})
	w.Opt("NextMarker", next)
	return nil
}
