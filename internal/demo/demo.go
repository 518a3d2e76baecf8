// Package demo is a stage: a simulated organization in which imdsctl can be shown at work, with a clock that can be
// wound forward, the credentials and the configuration to enter it, and an eye on its workloads that imdsctl itself
// does not have.
//
// It builds and observes; it neither scans nor plans nor applies. Whoever plays on the stage does so through the same
// commands as on a real organization, and reaches it as any AWS client would. It also serves a simulator to other
// tools.
package demo

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/scenario"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/roles"
)

// ExternalID is what the roles of a stage ask for.
const ExternalID = "imdsctl-demo"

// Options say how large the organization is. A zero is the scenario's default.
type Options struct {
	Seed      uint64
	Accounts  int
	Instances int
	// SurpriseAfter is when, after the start, the hidden caller of IMDSv1 shows itself.
	SurpriseAfter time.Duration
	// Start is the stage's present.
	Start time.Time
	// Pace is how many times faster than the machine's the clock runs at first; 1 if zero.
	Pace float64
	// Kinds are those whose actions the roles allow.
	Kinds []kind.Kind
	// FollowUps are the calls of follow-ups that the roles allow, too.
	FollowUps []kind.Action
}

// Stage is the organization with everything that a command needs to work in it.
type Stage struct {
	World   *awssim.World
	Clock   *clock.Paced
	Summary scenario.Summary
	// Started is the time at which the clock began.
	Started time.Time
}

// New builds a stage.
func New(o Options) (*Stage, error) {
	if o.Pace == 0 {
		o.Pace = 1
	}
	s := &Stage{Clock: clock.NewPaced(o.Start, o.Pace), Started: o.Start}
	s.World = awssim.New(awssim.Options{Clock: s.Clock, Seed: o.Seed, CallLogLimit: 10_000})
	shape := scenario.Options{Seed: o.Seed, Accounts: o.Accounts, Instances: o.Instances}
	if o.SurpriseAfter > 0 {
		shape.Surprises = []scenario.Surprise{{Account: "data-dev", After: o.SurpriseAfter}}
	}
	var err error
	if s.Summary, err = scenario.Organization(s.World, shape); err != nil {
		return nil, err
	}
	return s, putRoles(s.World, s.Summary.Management, s.Summary.Accounts, o)
}

// putRoles deploys the roles that `imdsctl roles` prints to every account: the simulator enforces them.
func putRoles(w *awssim.World, management fleet.AccountID, accounts []fleet.AccountID, of Options) error {
	for _, account := range accounts {
		a, _ := w.Account(account)
		o := roles.Options{Principal: string(management), ExternalID: ExternalID, Partition: a.Partition,
			Management: account == management, FollowUps: of.FollowUps}
		list, err := roles.Build(of.Kinds, o, roles.Read, roles.Write)
		if err != nil {
			return err
		}
		printed, err := roles.JSON(list, o, account)
		if err != nil {
			return err
		}
		for _, r := range printed.Roles {
			if err := w.PutRole(account, r.Name, string(r.Trust), string(r.Policy)); err != nil {
				return err
			}
		}
	}
	return nil
}

// AWS gives the caller's configuration: the administrator of the management account, who reaches every account by role.
func (s *Stage) AWS(context.Context) (aws.Config, error) {
	return aws.Config{
		Region: string(s.Summary.Regions[0]), BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: s.Client(),
		Credentials: aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider(string(s.Summary.Management), "demo",
			"")),
	}, nil
}

// Client reaches the stage without a network.
func (s *Stage) Client() *http.Client { return s.World.Client() }

// Config is an imdsctl.yaml for the stage.
func (s *Stage) Config() string {
	regions := make([]string, len(s.Summary.Regions))
	for i, r := range s.Summary.Regions {
		regions[i] = string(r)
	}
	return strings.NewReplacer("REGIONS", strings.Join(regions, ", "), "EXTERNAL", ExternalID,
		"EXPIRES", s.Started.AddDate(0, 6, 0).Format(time.DateOnly)).Replace(configuration)
}

const configuration = `# The configuration of the demo's organization.
version: 1

organization:
  discover: organizations
  role: {read: imdsctl-read, write: imdsctl-write, external_id: EXTERNAL}
  regions: [REGIONS]

criticality:
  rules:
    - match: {tag: {criticality: low}}
      value: low
    - match: {tag: {criticality: high}}
      value: high
    - match: {tag: {criticality: critical}}
      value: critical

waves:
  - {name: development, criticality: low}
  - {name: staging, criticality: medium}
  - {name: production, criticality: high}
  - {name: foundation, criticality: critical}

hop_limit:
  default: keep
  rules: # containers are one bridge further from the metadata service
    - match: {tag: {"eks:cluster-name": "*"}}
      value: 2
    - match: {tag: {app: [image-resizer, jenkins-agent]}}
      value: 2

exceptions:
  - match: {tag: {app: "vpn-gateway*"}}
    owner: network@northwind.example
    reason: the vendor's image with IMDSv2 is announced for the summer
    expires: EXPIRES

stack: {cloudformation: true, tag: app}

gates: {max_rejected: 0, status_checks: true, heartbeat: cpu, delay: 15m}
bake: {low: 2h45m, medium: 45m, high: 6h, critical: 6h}
rollout:
  steps: [1, 100%]
  stages: {hop_limit: {steps: [100%]}}
  max_in_flight: 2000
  max_in_flight_per_account: 200
  concurrency: 100
  concurrency_per_account: 100
  max_failures: {stack: 0, wave: 5}
  on_failure: halt
`

// FromSeed makes a stage of a seed file, the simulator's own format. Roles are what the seed has.
func FromSeed(seed []byte, start time.Time, pace float64) (*Stage, error) {
	s := &Stage{Clock: clock.NewPaced(start, max(pace, 1)), Started: start}
	s.World = awssim.New(awssim.Options{Clock: s.Clock, CallLogLimit: 10_000})
	if err := s.World.Load(seed); err != nil {
		return nil, err
	}
	s.Summary.Management = s.World.Organization().ManagementAccount
	for _, a := range s.World.Accounts() {
		s.Summary.Accounts = append(s.Summary.Accounts, a.ID)
	}
	if s.Summary.Management == "" && len(s.Summary.Accounts) > 0 {
		s.Summary.Management = s.Summary.Accounts[0]
	}
	for _, p := range s.World.Places() {
		if p.Region != "" && !slices.Contains(s.Summary.Regions, p.Region) {
			s.Summary.Regions = append(s.Summary.Regions, p.Region)
		}
	}
	return s, nil
}

// Serve answers on a listener until ctx ends.
func (s *Stage) Serve(ctx context.Context, l net.Listener) error { return s.World.Serve(ctx, l) }

// Names maps the accounts to their names.
func (s *Stage) Names() map[fleet.AccountID]string {
	out := map[fleet.AccountID]string{}
	for _, a := range s.World.Accounts() {
		out[a.ID] = a.Name
	}
	return out
}

// Surprising tells whether a group of an account is one of those whose v1 caller nobody could see coming.
func (s *Stage) Surprising(account fleet.AccountID, group string) bool {
	a, _ := s.World.Account(account)
	return slices.ContainsFunc(s.Summary.Surprises, func(name string) bool {
		return strings.HasPrefix(name, a.Name+"/") && strings.HasSuffix(name, "/"+group)
	})
}
