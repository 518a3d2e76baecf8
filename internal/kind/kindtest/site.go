package kindtest

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// roleName is the role the kind is tried as. It may do what the kind declares and nothing else.
const roleName = "kindtest"

// byRole matches, in fault rules, the calls of the kind alone.
const byRole = "*:assumed-role/" + roleName + "/*"

// site is a fresh simulated AWS from the fixture's seed, with a driver in it.
type site struct {
	bench  *bench
	world  *awssim.World
	clock  *clock.Manual
	driver kind.Driver
	writer kind.Driver // as the role that writes, where there is one of its own
	log    int64       // calls before this number are not looked at
}

func (b *bench) site(t T) *site {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC))
	s := &site{bench: b, clock: c, world: awssim.New(awssim.Options{Clock: c, Seed: 1, Unthrottled: true})}
	if err := s.world.Load(b.fixture.Seed); err != nil {
		t.Fatalf("fixture of %s: %v", b.entry.Kind.Name, err)
	}
	account := b.fixture.Place.Account
	allowed := core.AllowActions(permissions(&b.entry.Kind)...)
	err := s.world.PutRole(account, roleName, core.TrustAccount(account, ""), allowed)
	if err != nil {
		t.Fatalf("role: %v", err)
	}
	c.Advance(time.Minute) // whatever the seed began has settled
	s.restart(t)
	return s
}

// restart forgets everything in memory, as a new process would.
func (s *site) restart(t T) {
	t.Helper()
	s.driver = s.bench.entry.Open(s.config(t, awsx.Role{Name: roleName}), s.bench.fixture.Place, s.clock)
	s.log = s.world.CallCount()
}

// config is a way into the site: as the role, or, with none, as an administrator who stands for everybody else.
func (s *site) config(t T, role awsx.Role) aws.Config {
	t.Helper()
	place := s.bench.fixture.Place
	edge, err := awsx.New(t.Context(), awsx.Options{
		Clock: s.clock, Share: 1, MaxAttempts: 3, Jitter: func() float64 { return 0.5 }, Log: slog.New(slog.DiscardHandler),
		Load: func(context.Context) (aws.Config, error) {
			return aws.Config{
				Region: string(place.Region), BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: s.world.Client(),
				Credentials: credentials.NewStaticCredentialsProvider(string(place.Account), "secret", ""),
			}, nil
		},
	})
	if err != nil {
		t.Fatalf("AWS edge: %v", err)
	}
	return edge.Session(place, role).Config()
}

// another is the same kind in the hands of somebody else.
func (s *site) another(t T) kind.Driver {
	t.Helper()
	return s.bench.pristine().Open(s.config(t, awsx.Role{}), s.bench.fixture.Place, s.clock)
}

// settle lets lagging reads catch up.
func (s *site) settle() { s.clock.Advance(10 * time.Second) }

// made are the calls of the kind since the site was made or mark was called.
func (s *site) made() []core.CallRecord {
	var out []core.CallRecord
	for _, c := range s.world.CallsSince(s.log) {
		if strings.Contains(c.Principal, ":assumed-role/"+roleName+"/") {
			out = append(out, c)
		}
	}
	return out
}

func (s *site) mark() { s.log = s.world.CallCount() }

// changed counts, by action, the kind's calls that had an effect.
func (s *site) changed() map[string]int {
	out := map[string]int{}
	for _, c := range s.made() {
		if c.Mutated {
			out[iamName(c)]++
		}
	}
	return out
}

func iamName(c core.CallRecord) string { return c.Service + ":" + c.Action }

// fault makes the n-th of the kind's calls from now on, and all after it, go wrong.
func (s *site) fault(t T, n int, f core.Fault) {
	t.Helper()
	f.Principal, f.Nth = byRole, n
	if _, err := s.world.AddFault(f); err != nil {
		t.Fatalf("fault: %v", err)
	}
}

func (s *site) heal() { s.world.RemoveFault(0) }

func permissions(k *kind.Kind) []string {
	var out []string
	for _, a := range append(append([]kind.Action(nil), k.Reads...), k.Writes...) {
		out = append(append(out, a.Name), a.With...)
	}
	return out
}

func declared(k *kind.Kind, action string) bool {
	for _, a := range append(append([]kind.Action(nil), k.Reads...), k.Writes...) {
		if a.Name == action {
			return true
		}
	}
	return false
}

// list reads everything, in pages of the given size (0 for the kind's own).
func (s *site) list(ctx context.Context, page int32) ([]inventory.Resource, error) {
	if page > 0 {
		ctx = kind.WithPageSize(ctx, page)
	}
	var out []inventory.Resource
	err := s.driver.List(ctx, func(r inventory.Resource) error {
		out = append(out, r)
		return nil
	})
	return out, err
}

// read reads one resource, and waits until it is settled.
func (s *site) read(t T, id string) inventory.Resource {
	t.Helper()
	return s.await(t, s.driver, id)
}

// await reads one resource with a driver until nothing is under way with it any more, or it seems to stay so.
func (s *site) await(t T, d kind.Driver, id string) inventory.Resource {
	t.Helper()
	for n := 0; ; n++ {
		s.settle()
		r, err := d.Read(t.Context(), id)
		if err != nil {
			t.Fatalf("read %s: %v", id, err)
		}
		if !r.Settling || n == looks {
			return r
		}
	}
}

// launches launches what the fixture says, as somebody else, and tells what came out: image and metadata options.
func (s *site) launches(t T) []string {
	t.Helper()
	if len(s.bench.fixture.Launches) == 0 {
		return nil
	}
	s.settle()
	cfg := s.config(t, awsx.Role{})
	var out []string
	for _, l := range s.bench.fixture.Launches {
		came, err := s.launch(t.Context(), cfg, l)
		if err != nil {
			t.Fatalf("launch %+v: %v", l, err)
		}
		out = append(out, came)
	}
	return out
}

func (s *site) launch(ctx context.Context, cfg aws.Config, l launch) (string, error) {
	in := &ec2.RunInstancesInput{
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), ClientToken: aws.String(fmt.Sprint(s.world.CallCount())),
	}
	if l.Image != "" {
		in.ImageId, in.InstanceType = aws.String(l.Image), ec2types.InstanceTypeM5Large
	}
	if l.Group != "" {
		groups, err := autoscaling.NewFromConfig(cfg).DescribeAutoScalingGroups(ctx,
			&autoscaling.DescribeAutoScalingGroupsInput{AutoScalingGroupNames: []string{l.Group}})
		if err != nil || len(groups.AutoScalingGroups) != 1 {
			return "", fmt.Errorf("group %s: %w", l.Group, err)
		}
		g := groups.AutoScalingGroups[0]
		spec := g.LaunchTemplate
		if g.MixedInstancesPolicy != nil {
			spec = g.MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification
		}
		l.Template, l.Version = aws.ToString(spec.LaunchTemplateId), aws.ToString(spec.Version)
	}
	if l.Template != "" {
		in.LaunchTemplate = &ec2types.LaunchTemplateSpecification{
			LaunchTemplateId: aws.String(l.Template), Version: aws.String(l.Version),
		}
	}
	ran, err := ec2.NewFromConfig(cfg).RunInstances(ctx, in)
	if err != nil {
		return "", err
	}
	i := ran.Instances[0]
	o := i.MetadataOptions
	return fmt.Sprintf("%s %s tokens=%s endpoint=%s hops=%d ipv6=%s tags=%s", aws.ToString(i.ImageId), i.InstanceType,
		o.HttpTokens, o.HttpEndpoint, aws.ToInt32(o.HttpPutResponseHopLimit), o.HttpProtocolIpv6, o.InstanceMetadataTags), nil
}
