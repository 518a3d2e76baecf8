package scenario

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// FleetOptions say how large a fleet Fleet makes.
type FleetOptions struct {
	Seed      uint64
	Instances int
	Accounts  int
	Regions   int // of the partition's regions that need no opt-in, 17 at most
	// GroupSize is the number of instances of an Auto Scaling group, 20 by default.
	GroupSize int
	// Replaced is how many instances of each group took the place of another within the last twelve days, with the
	// scaling activities that tell of it. None by default.
	Replaced int
}

// Fleet fills an empty world with a large and even fleet: in each account and region nine tenths of the instances in
// groups with a template each, the rest bare; one group in eight calls v1, one in ten has required tokens already. All
// instances but those replaced ran for more than six weeks, so that there are no scaling activities of them to keep.
//
// Beside the world's own records (about 1 KB an instance) nothing is kept: metrics are computed when asked for.
func Fleet(w *core.World, o FleetOptions) (Summary, error) {
	var sum Summary
	if o.Instances < 1 || o.Accounts < 1 || o.Regions < 1 {
		return sum, fmt.Errorf("scenario: a fleet of %d instances, %d accounts and %d regions: want at least one of each",
			o.Instances, o.Accounts, o.Regions)
	}
	if o.GroupSize == 0 {
		o.GroupSize = 20
	}
	for _, r := range core.Regions(fleet.PartitionAWS) {
		if !r.OptIn && len(sum.Regions) < o.Regions {
			sum.Regions = append(sum.Regions, r.Name)
		}
	}
	for i := range o.Accounts {
		id := fleet.AccountID(fmt.Sprintf("%012d", 300_000_000_000+int64(i)))
		a := core.Account{ID: id, Name: fmt.Sprintf("workload-%04d", i)}
		if i > 0 {
			a.OU = "Workloads"
		}
		if err := w.AddAccount(a); err != nil {
			return sum, fmt.Errorf("scenario: %w", err)
		}
		sum.Accounts = append(sum.Accounts, id)
	}
	sum.Management = sum.Accounts[0]
	w.SetOrganization(core.Organization{ManagementAccount: sum.Management, OUs: []core.OU{{Name: "Workloads"}}})
	programs.SetSeed(w, o.Seed)
	if err := deployFleet(w); err != nil {
		return sum, err
	}
	places := o.Accounts * len(sum.Regions)
	rng := rand.New(rand.NewPCG(o.Seed, 0x666c656574))
	for i := range places {
		n := o.Instances*(i+1)/places - o.Instances*i/places
		p, err := w.Place(sum.Accounts[i/len(sum.Regions)], sum.Regions[i%len(sum.Regions)])
		if err != nil {
			return sum, fmt.Errorf("scenario: %w", err)
		}
		p.With(func(now time.Time) { err = fillPlace(p, now, n, o, rng, &sum) })
		if err != nil {
			return sum, fmt.Errorf("scenario: %s: %w", p.Place, err)
		}
	}
	return sum, nil
}

// deployFleet puts a modern program on everything, and an old one on what is tagged so.
func deployFleet(w *core.World) error {
	for _, d := range []deployment{
		{workload.Program{
			Name: "app", Agent: "aws-sdk-go-v2", Version: "1.36.3", Speaks: workload.V2ThenV1, Every: time.Hour, AtBoot: true,
			CacheFor: 6 * time.Hour,
		}, workload.Where{Tags: []string{"sdk=modern"}}},
		{workload.Program{
			Name: "legacy", Agent: "boto3", Version: "1.9.2", Speaks: workload.V1Only, Every: 30 * time.Minute, AtBoot: true,
		}, workload.Where{Tags: []string{"sdk=legacy"}}},
	} {
		if err := programs.Deploy(w, d.program, d.where); err != nil {
			return fmt.Errorf("scenario: %w", err)
		}
	}
	return nil
}

func fillPlace(p *core.Place, now time.Time, n int, o FleetOptions, rng *rand.Rand, sum *Summary) error {
	image := ec2.ImageSeed{ID: "ami-0fedcba9876543210", Name: "golden-2025-06"}
	if err := ec2.StoreOf(p).AddImage(now, image); err != nil {
		return err
	}
	bares := n / 10
	sum.Instances += n
	for g := 0; n > bares; g++ {
		size := min(o.GroupSize, n-bares)
		if err := addFleetGroup(p, now, g, size, min(o.Replaced, size), rng, sum); err != nil {
			return err
		}
		n -= size
	}
	_, err := ec2.StoreOf(p).AddMany(now, ec2.InstanceSeed{
		ImageID: image.ID, AZ: string(p.Region) + "b",
		Tags: map[string]string{"Name": "standalone", "app": "standalone", "env": "prod", "sdk": "modern"},
	}, n, longAgo(now, rng))
	return err
}

// longAgo gives launch times between 45 and 300 days ago.
func longAgo(now time.Time, rng *rand.Rand) func(int) time.Time {
	return func(int) time.Time {
		return now.Add(-time.Duration(45*24+rng.IntN(255*24)) * time.Hour).Truncate(time.Second)
	}
}

func addFleetGroup(p *core.Place, now time.Time, g, size, replaced int, rng *rand.Rand, sum *Summary) error {
	name := fmt.Sprintf("service-%05d", g)
	sdk, data := "modern", `{"ImageId": "ami-0fedcba9876543210", "InstanceType": "m5.large"}`
	options := fleet.Options{Tokens: fleet.TokensOptional, HopLimit: 1}
	switch {
	case g%8 == 3:
		sdk = "legacy"
	case g%10 == 7:
		options = fleet.Options{Tokens: fleet.TokensRequired, HopLimit: 2}
		data = `{"ImageId": "ami-0fedcba9876543210", "InstanceType": "m5.large",
			"MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}}`
	}
	versions := []ec2.VersionSeed{{Data: []byte(data)}}
	if g%5 == 0 {
		versions = append(versions, versions[0])
	}
	t, err := ec2.StoreOf(p).AddTemplate(now, ec2.TemplateSeed{Name: name, Default: 1, Versions: versions}, name)
	if err != nil {
		return err
	}
	asg := autoscaling.StoreOf(p)
	err = asg.Create(now.AddDate(-1, 0, 0), name, autoscaling.Spec{
		Source: autoscaling.Source{Template: &autoscaling.TemplateRef{ID: t.ID(), Version: "$Default"}},
		Min:    1, Desired: size, Max: 2 * size, Zones: []string{string(p.Region) + "a", string(p.Region) + "b"},
		Tags: []autoscaling.Tag{{Key: "app", Value: name, Propagate: true}, {Key: "sdk", Value: sdk, Propagate: true}},
	})
	if err != nil {
		return err
	}
	member := ec2.InstanceSeed{
		ImageID: "ami-0fedcba9876543210", Options: options, Template: t.ID(), Version: 1,
		Tags: map[string]string{
			"Name": name, "app": name, "env": "prod", "sdk": sdk, "aws:autoscaling:groupName": name,
		},
	}
	since := longAgo(now, rng)
	boots, err := replace(p, now, name, member, replaced, rng)
	if err != nil {
		return err
	}
	made, err := ec2.StoreOf(p).AddMany(now, member, size, func(i int) time.Time {
		if i < len(boots) {
			return boots[i]
		}
		return since(i)
	})
	if err != nil {
		return err
	}
	for _, i := range made {
		if err := asg.Attach(name, i, 1); err != nil {
			return err
		}
	}
	sum.Past += len(boots)
	sum.Groups++
	sum.Templates++
	return nil
}

// replace adds n members that are gone, and gives the times at which others took their places.
func replace(p *core.Place, now time.Time, group string, member ec2.InstanceSeed, n int, rng *rand.Rand) ([]time.Time, error) {
	var boots []time.Time
	for range n {
		gone := member
		gone.Tags = maps.Clone(member.Tags)
		gone.Launched = longAgo(now, rng)(0)
		gone.Stopped = now.Add(-time.Duration(24+rng.IntN(11*24)) * time.Hour).Truncate(time.Second)
		past, err := ec2.StoreOf(p).AddPast(now, gone)
		if err != nil {
			return nil, err
		}
		if err := autoscaling.StoreOf(p).Succeed(group, past, gone.Stopped); err != nil {
			return nil, err
		}
		boots = append(boots, gone.Stopped.Add(30*time.Second))
	}
	return boots, nil
}
