// Package scenario fills a simulated AWS with a fleet to work on: Organization makes a believable enterprise with its
// history, for the demo and for tests; Fleet makes a large and plain one, for benchmarks.
//
// Both are deterministic: the same options give the same world, ids included, as long as the world had made no ids
// before. They write through the services' own Go API and know nothing of imdsctl's judgement: which workload is ready
// or blocked follows from what its programs do, not from a label.
package scenario

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Options say what Organization makes. The zero value is the demo's organization.
type Options struct {
	Seed uint64
	// Accounts is the number of accounts, 16 by default and at least 12.
	Accounts int
	// Regions are those with workloads; the first has most, and decides the partition. Four of "aws" by default.
	Regions []fleet.Region
	// Instances is about how many instances run or are stopped; 3,200 by default.
	Instances int
	// Surprises are the workloads that nobody can see coming. One by default: SurpriseIn "data-dev", after two hours.
	Surprises []Surprise
}

// Surprise is a service whose only v1 caller is a job that runs once a year and is essential to it. The job ran last
// before the evidence begins, the look back included, so the service looks ready; its next run is After the world's present time, on all its
// instances at once, and breaks those that require tokens by then.
type Surprise struct {
	Account string // by name
	After   time.Duration
}

// SurpriseEvery is the period of the jobs that are a surprise. It must be longer than any window of evidence plus After.
const SurpriseEvery = 365 * 24 * time.Hour

// Summary says what was made.
type Summary struct {
	Management fleet.AccountID
	Accounts   []fleet.AccountID
	Regions    []fleet.Region
	Instances  int // running or stopped
	Past       int // terminated, known from scaling activities and metrics only
	Groups     int
	Templates  int
	// Surprises are the Auto Scaling groups of the surprise workloads, as "account name/region/group".
	Surprises []string
}

func (o Options) withDefaults() Options {
	o.Accounts = max(cmp.Or(o.Accounts, 16), 12)
	o.Instances = cmp.Or(o.Instances, 3_200)
	if len(o.Regions) == 0 {
		o.Regions = []fleet.Region{"eu-west-1", "us-east-1", "eu-central-1", "ap-southeast-2"}
	}
	if o.Surprises == nil {
		o.Surprises = []Surprise{{Account: "data-dev", After: 2 * time.Hour}}
	}
	return o
}

// builder carries one run of Organization.
type builder struct {
	world *core.World
	opts  Options
	now   time.Time
	rng   *rand.Rand
	sum   Summary
}

// Organization fills an empty world. Its clock tells the present: evidence, boots and surprises lie around it.
func Organization(w *core.World, o Options) (Summary, error) {
	o = o.withDefaults()
	b := &builder{world: w, opts: o, now: w.Now(), rng: rand.New(rand.NewPCG(o.Seed, 0x73696d))}
	accounts := accountsFor(o.Accounts)
	if err := b.addAccounts(accounts); err != nil {
		return b.sum, err
	}
	programs.SetSeed(w, o.Seed)
	if err := b.deploy(accounts); err != nil {
		return b.sum, err
	}
	for _, c := range b.cells(accounts) {
		if err := b.fill(c); err != nil {
			return b.sum, fmt.Errorf("scenario: %s of %s in %s: %w", c.service.app, c.account.name, c.region, err)
		}
	}
	b.sum.Regions = o.Regions
	return b.sum, nil
}

func (b *builder) addAccounts(accounts []account) error {
	units := []string{"Security", "Shared", "Sandbox", "Development", "Staging", "Production"}
	shape := core.Organization{ID: "o-nw7k2m4q9x", ManagementAccount: accounts[0].id}
	for _, u := range units {
		shape.OUs = append(shape.OUs, core.OU{Name: u})
	}
	b.world.SetOrganization(shape)
	b.sum.Management = accounts[0].id
	for i, a := range accounts {
		err := b.world.AddAccount(core.Account{
			ID: a.id, Name: a.name, OU: a.unit, Partition: fleet.PartitionOf(b.opts.Regions[0]), Email: "aws+" + a.name + "@northwind.example",
			Joined: b.now.AddDate(-4, i, 0),
			Tags:   map[string]string{"team": a.team, "env": a.env, "criticality": a.criticality},
		})
		if err != nil {
			return fmt.Errorf("scenario: %w", err)
		}
		b.sum.Accounts = append(b.sum.Accounts, a.id)
		if a.team == "security" {
			if err := b.secure(a); err != nil {
				return err
			}
		}
	}
	return nil
}

// secure gives an account defaults that require tokens, as the security team's has.
func (b *builder) secure(a account) error {
	seed := core.AccountSeed{ID: a.id, Regions: map[fleet.Region]map[string]json.RawMessage{}}
	for _, r := range b.opts.Regions {
		seed.Regions[r] = map[string]json.RawMessage{"ec2": json.RawMessage(`{"defaults": {"http_tokens": "required", "hop_limit": 2}}`)}
	}
	if err := b.world.LoadSeed(&core.Seed{Accounts: []core.AccountSeed{seed}}); err != nil {
		return fmt.Errorf("scenario: defaults of %s: %w", a.name, err)
	}
	return nil
}

// cell is one service in one account and region, with the number of its instances.
type cell struct {
	account account
	region  fleet.Region
	service *service
	count   int
}

// cells shares the instances out by the weights of environments, regions and services. A service that is in a place has
// at least one instance, a group at least two.
func (b *builder) cells(accounts []account) []cell {
	byRegion := []float64{1, 0.7, 0.35, 0.2}
	var out []cell
	var weights []float64
	total := 0.0
	for _, a := range accounts {
		for _, s := range servicesOf(a, b.surprises(a.name)) {
			for r, region := range b.opts.Regions {
				if r > 0 && (s.home || r >= a.regions) {
					continue
				}
				w := s.weight * a.weight * byRegion[min(r, len(byRegion)-1)]
				out, weights, total = append(out, cell{account: a, region: region, service: s}), append(weights, w), total+w
			}
		}
	}
	for i := range out {
		least := 1.0
		if out[i].service.shape != bare {
			least = 2
		}
		out[i].count = int(max(least, weights[i]/total*float64(b.opts.Instances)+0.5))
	}
	return out
}

// surprises tells whether an account has a surprise workload.
func (b *builder) surprises(name string) bool {
	return slices.ContainsFunc(b.opts.Surprises, func(s Surprise) bool { return s.Account == name })
}

// deploy puts the programs on the instances by their app tag, and the surprises on their accounts.
func (b *builder) deploy(accounts []account) error {
	for _, d := range catalogue() {
		if err := programs.Deploy(b.world, d.program, d.where); err != nil {
			return fmt.Errorf("scenario: %w", err)
		}
	}
	for _, s := range b.opts.Surprises {
		at := slices.IndexFunc(accounts, func(a account) bool { return a.name == s.Account })
		if at < 0 {
			return fmt.Errorf("scenario: there is no account %q for a surprise", s.Account)
		}
		if s.After <= 0 || s.After >= 6*24*time.Hour {
			return fmt.Errorf("scenario: a surprise after %s: want more than 0 and less than six days", s.After)
		}
		err := programs.Deploy(b.world, workload.Program{
			Name: "archive-reports", Agent: "boto3", Version: "1.9.2", Speaks: workload.V1Only,
			UserAgent: "Boto3/1.9.2 Python/3.6.15 Linux/4.14.355 Botocore/1.12.253",
			Every:     SurpriseEvery, Anchor: b.now.Add(s.After), Calls: 6, Essential: true, ImpairedAfter: 5 * time.Minute,
		}, workload.Where{Tags: []string{"app=" + surpriseApp}, Account: string(accounts[at].id)})
		if err != nil {
			return fmt.Errorf("scenario: %w", err)
		}
	}
	return nil
}
