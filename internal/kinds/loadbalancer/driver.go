package loadbalancer

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// mostResults is the largest page of all listings of both generations.
const mostResults = 400

// Words of the APIs.
const (
	facing  = string(types.LoadBalancerSchemeEnumInternetFacing)
	classic = "classic"
)

// first is the first generation by its API model (2012-06-01), for which no client of the SDK's is needed.
// https://docs.aws.amazon.com/general/latest/gr/elb.html
func first() awsx.QueryService {
	return awsx.QueryService{
		ID: "Elastic Load Balancing", Signing: "elasticloadbalancing", Version: "2012-06-01",
		Endpoint: func(region string) string {
			suffix := "amazonaws.com"
			if fleet.PartitionOf(fleet.Region(region)) == fleet.PartitionChina {
				suffix = "amazonaws.com.cn"
			}
			return "https://elasticloadbalancing." + region + "." + suffix
		},
	}
}

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{cfg: cfg, client: elb.NewFromConfig(cfg), place: place}
}

type driver struct {
	cfg    aws.Config
	client *elb.Client
	place  fleet.Place
}

// List reads the load balancers of the second generation, then those of the first. Target groups are only read where a load
// balancer faces the internet, and the targets only of the groups behind such a one.
func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	t := &targets{driver: d}
	in := &elb.DescribeLoadBalancersInput{PageSize: aws.Int32(kind.PageSize(ctx, mostResults))}
	for {
		page, err := d.client.DescribeLoadBalancers(ctx, in)
		if err != nil {
			return fmt.Errorf("list load balancers: %w", awsx.Plain(err))
		}
		for i := range page.LoadBalancers {
			if b := &page.LoadBalancers[i]; string(b.Scheme) == facing {
				r, err := d.resource(ctx, b, t)
				if err != nil {
					return err
				}
				if err := emit(r); err != nil {
					return err
				}
			}
		}
		if aws.ToString(page.NextMarker) == "" {
			break
		}
		in.Marker = page.NextMarker
	}
	return d.classics(ctx, "", emit)
}

// Read gives a load balancer as it is now; one that no longer faces the internet without what is behind it.
func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	gone := func() error {
		return kind.Errorf(fleet.ErrGone, d.place, actionBalancers, "load balancer %s does not exist", id)
	}
	parts := strings.Split(id, "/")
	if parts[0] == classic && len(parts) == 2 {
		var found *inventory.Resource
		err := d.classics(ctx, parts[1], func(r inventory.Resource) error {
			found = &r
			return nil
		})
		if err == nil && found == nil {
			err = gone()
		}
		if err != nil {
			return inventory.Resource{}, err
		}
		return *found, nil
	}
	if len(parts) != 3 {
		return inventory.Resource{}, gone()
	}
	out, err := d.client.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{Names: []string{parts[1]}})
	if err != nil {
		return inventory.Resource{}, fmt.Errorf("read load balancer %s: %w", id, awsx.Plain(err))
	}
	for i := range out.LoadBalancers {
		if b := &out.LoadBalancers[i]; idOf(aws.ToString(b.LoadBalancerArn)) == id {
			return d.resource(ctx, b, &targets{driver: d})
		}
	}
	return inventory.Resource{}, gone()
}

// idOf is the part of an ARN that tells a load balancer from all others: "app/web/50dc6c495c0c9188".
func idOf(arn string) string {
	_, id, _ := strings.Cut(arn, ":loadbalancer/")
	return id
}

func (d *driver) resource(ctx context.Context, b *types.LoadBalancer, t *targets) (inventory.Resource, error) {
	r := inventory.Resource{
		Ref:   fleet.Ref{Place: d.place, Kind: inventory.KindLoadBalancer, ID: idOf(aws.ToString(b.LoadBalancerArn))},
		Name:  aws.ToString(b.LoadBalancerName),
		State: fleet.State{FieldScheme: string(b.Scheme), FieldType: string(b.Type)},
		Attrs: map[string]string{},
	}
	d.guards(&r, b.SecurityGroups)
	if string(b.Scheme) != facing {
		return r, nil
	}
	behind, err := t.behind(ctx, aws.ToString(b.LoadBalancerArn), true)
	if err != nil {
		return r, err
	}
	d.fronts(&r, behind)
	return r, nil
}

// guards notes the security groups before a load balancer.
func (d *driver) guards(r *inventory.Resource, groups []string) {
	if len(groups) > 0 {
		r.Attrs[inventory.AttrSecurityGroups] = strings.Join(slices.Sorted(slices.Values(groups)), ",")
	}
}

// fronts links a load balancer to what is behind it: instances by id, all else by its address.
func (d *driver) fronts(r *inventory.Resource, behind []string) {
	slices.Sort(behind)
	var addresses []string
	for _, id := range slices.Compact(behind) {
		if strings.HasPrefix(id, "i-") {
			r.Links = append(r.Links, inventory.Link{Relation: inventory.Fronts,
				To: fleet.Ref{Place: d.place, Kind: inventory.KindInstance, ID: id}})
		} else {
			addresses = append(addresses, id)
		}
	}
	if len(addresses) > 0 {
		r.Attrs[inventory.AttrTargetIPs] = strings.Join(addresses, ",")
	}
}

// targets are the target groups of a place, and what is registered with those that were asked for.
type targets struct {
	*driver
	groups []types.TargetGroup
	listed bool
}

// behind lists the ids and addresses behind a load balancer; through also those behind another one that it forwards to.
func (t *targets) behind(ctx context.Context, arn string, through bool) ([]string, error) {
	if err := t.list(ctx); err != nil {
		return nil, err
	}
	var out []string
	for i := range t.groups {
		g := &t.groups[i]
		if !slices.Contains(g.LoadBalancerArns, arn) || g.TargetType == types.TargetTypeEnumLambda {
			continue
		}
		ids, err := t.registered(ctx, aws.ToString(g.TargetGroupArn))
		if err != nil {
			return nil, err
		}
		if g.TargetType != types.TargetTypeEnumAlb {
			out = append(out, ids...)
			continue
		}
		for _, id := range ids {
			if !through {
				break // AWS lets only a Network Load Balancer forward to an Application Load Balancer
			}
			further, err := t.behind(ctx, id, false)
			if err != nil {
				return nil, err
			}
			out = append(out, further...)
		}
	}
	return out, nil
}

// list reads all target groups of the place, once.
func (t *targets) list(ctx context.Context) error {
	if t.listed {
		return nil
	}
	in := &elb.DescribeTargetGroupsInput{PageSize: aws.Int32(kind.PageSize(ctx, mostResults))}
	for {
		page, err := t.client.DescribeTargetGroups(ctx, in)
		if err != nil {
			return fmt.Errorf("list target groups: %w", awsx.Plain(err))
		}
		t.groups = append(t.groups, page.TargetGroups...)
		if aws.ToString(page.NextMarker) == "" {
			t.listed = true
			return nil
		}
		in.Marker = page.NextMarker
	}
}

// registered lists the targets of a group, healthy or not: what is ill today is reached tomorrow. A group that is deleted
// meanwhile has none.
func (t *targets) registered(ctx context.Context, arn string) ([]string, error) {
	out, err := t.client.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: aws.String(arn)})
	if fleet.ClassOf(err) == fleet.ErrGone {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the targets of %s: %w", arn, awsx.Plain(err))
	}
	var ids []string
	for _, h := range out.TargetHealthDescriptions {
		if h.Target != nil {
			ids = append(ids, aws.ToString(h.Target.Id))
		}
	}
	return ids, nil
}

// oldBalancer is a load balancer of the first generation.
type oldBalancer struct {
	Name      string   `xml:"LoadBalancerName"`
	Scheme    string   `xml:"Scheme"`
	Groups    []string `xml:"SecurityGroups>member"`
	Instances []string `xml:"Instances>member>InstanceId"`
}

// classics emits the load balancers of the first generation that face the internet, or the one of the name.
func (d *driver) classics(ctx context.Context, name string, emit func(inventory.Resource) error) error {
	in := url.Values{}
	if name == "" {
		in.Set("PageSize", strconv.Itoa(int(kind.PageSize(ctx, mostResults))))
	} else {
		in.Set("LoadBalancerNames.member.1", name)
	}
	for {
		var page struct {
			Balancers []oldBalancer `xml:"LoadBalancerDescriptions>member"`
			Next      string        `xml:"NextMarker"`
		}
		if _, err := first().Call(ctx, d.cfg, "DescribeLoadBalancers", in, &page); err != nil {
			return fmt.Errorf("list classic load balancers: %w", err)
		}
		for i := range page.Balancers {
			b := &page.Balancers[i]
			if b.Scheme != facing && name == "" {
				continue
			}
			if err := emit(d.old(b)); err != nil {
				return err
			}
		}
		switch page.Next {
		case "":
			return nil
		case in.Get("Marker"):
			return kind.Errorf(fleet.ErrOther, d.place, actionBalancers, "list classic load balancers: AWS gives the same page again")
		}
		in.Set("Marker", page.Next)
	}
}

func (d *driver) old(b *oldBalancer) inventory.Resource {
	r := inventory.Resource{
		Ref:  fleet.Ref{Place: d.place, Kind: inventory.KindLoadBalancer, ID: classic + "/" + b.Name},
		Name: b.Name, State: fleet.State{FieldScheme: b.Scheme, FieldType: classic}, Attrs: map[string]string{},
	}
	d.guards(&r, b.Groups)
	if b.Scheme == facing {
		d.fronts(&r, slices.Clone(b.Instances))
	}
	return r
}

// Write refuses: a load balancer has no metadata options.
func (d *driver) Write(_ context.Context, w kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, w.Verb, "load balancers have no verb %q", w.Verb)
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
