// Package policy is the configuration of imdsctl, the file imdsctl.yaml, as pure data and decisions: which accounts
// and regions belong to the migration, how critical each account is, in which wave it goes, which hop limit a resource
// gets, what is exempt and until when, in which portions and at which hours changes are made, what a gate asks for, how
// long a step bakes and what follows a change.
//
// It owns the file's format. One table (table.go) names every key with its type, default and meaning, and drives the
// parser, the published JSON schema and the reference in docs/configuration.md. The package may not read files, call
// anything or know the time: bytes come in with the name they were read from, and `now` is an argument.
//
// Parse either gives a whole, valid configuration or every problem it found, each with file, line and column; there is
// no half-read configuration. A Config is a value to read: nothing here changes one after Parse, so it is safe for many
// goroutines.
package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Config is the whole effective configuration: what the file says, and the default of everything it does not say.
type Config struct {
	// Version is the version of the file's format, always 1.
	Version      int
	Organization Organization
	Inventory    Inventory
	Owners       Owners
	Accounts     []Account
	Criticality  CriticalityPolicy
	// Waves is never empty and in order: the first wave goes first.
	Waves      []Wave
	Evidence   Evidence
	HopLimit   HopLimit
	Exceptions []Exception
	Overrides  []Override
	Gates      Gates
	Bake       Bake
	Rollout    Rollout
	Windows    []WindowRule
	Freezes    []FreezeRule
	FollowUps  []FollowUp
	Stack      Stack
	Targets    Targets
	// OwnHosts are the ids of the instances imdsctl runs on.
	OwnHosts []string
	// Attention says who answers for what, and how they are told.
	Attention Attention
	Limits    Limits
}

// Discovery says where the list of accounts comes from.
type Discovery string

// Ways of finding accounts.
const (
	// DiscoverOrganizations lists the accounts of the organization.
	DiscoverOrganizations Discovery = "organizations"
	// DiscoverList takes the accounts named under `accounts`.
	DiscoverList Discovery = "list"
	// DiscoverSelf takes the account of the credentials.
	DiscoverSelf Discovery = "self"
)

// Organization says which accounts and regions are looked at, and as whom.
type Organization struct {
	// Partition is empty for the one the credentials belong to.
	Partition fleet.Partition
	Discover  Discovery
	// ManagementRole is the ARN of a role that may list the accounts; empty means that the credentials may.
	ManagementRole string
	Role           Role
	// Regions are asked for by name; empty means every region an account has enabled.
	Regions        []fleet.Region
	ExcludeRegions []fleet.Region
}

// Inventory says what is read.
type Inventory struct {
	// ExcludeKinds are the names of kinds that no scan reads. Verdicts that rest on one of them are unknown.
	ExcludeKinds []string
}

// Owners says where a scan learns which infrastructure as code manages what, besides from tags.
type Owners struct {
	// Terraform are paths or globs of state files, or of the output of `terraform show -json`, as they were given.
	Terraform []string
	// CloudFormation has the stacks of each place listed, and their resources.
	CloudFormation bool
}

// Excludes tells whether the configuration leaves a kind out.
func (c *Config) Excludes(kind string) bool { return slices.Contains(c.Inventory.ExcludeKinds, kind) }

// Role says how imdsctl enters an account. Use ARN to fill in the account.
type Role struct {
	// Read and Write are a role's name (with its path, if it has one) or an ARN, which may hold "{account}". Empty means
	// the credentials themselves.
	Read, Write string
	ExternalID  string
	SessionName string
	// Duration of a session, 15 minutes to 12 hours; AWS caps it at one hour where the credentials are a role's.
	Duration time.Duration
}

// Account is one account the file names.
type Account struct {
	ID   fleet.AccountID
	Name string
	// Criticality is empty where the rules decide.
	Criticality Criticality
	Tags        map[string]string
	// Skip is why the account is left out; empty means that it is not.
	Skip  string
	Where string
}

// Criticality grades how much harm a broken account does.
type Criticality string

// Criticalities, from the one that goes first to the one that goes last.
const (
	Low      Criticality = "low"
	Medium   Criticality = "medium"
	High     Criticality = "high"
	Critical Criticality = "critical"
)

// Criticalities lists all of them, least critical first.
func Criticalities() []Criticality { return []Criticality{Low, Medium, High, Critical} }

// Rank is the position in Criticalities: 0 for low, 3 for critical, -1 for anything else.
func (c Criticality) Rank() int { return slices.Index(Criticalities(), c) }

// CriticalityPolicy grades accounts: the account's own entry first, then the first rule that matches, then Default.
type CriticalityPolicy struct {
	Default Criticality
	Rules   []CriticalityRule
}

// CriticalityRule gives every account it matches the same criticality.
type CriticalityRule struct {
	Match AccountMatch
	Value Criticality
	Where string
}

// Wave is a group of accounts that migrate together, after the wave before it has finished.
type Wave struct {
	Name        string
	Criticality []Criticality
	// Accounts belong to this wave whatever their criticality.
	Accounts []fleet.AccountID
	// Approval asks a person to approve the wave before it starts.
	Approval bool
	// Ramp is as in Rollout, for this wave; empty for that of the rollout.
	Ramp  []Share
	Where string
}

// Evidence says how much observation a verdict of "ready" needs.
type Evidence struct {
	// Window is the time looked back on.
	Window time.Duration
	// Period is the length of one datapoint: 5 minutes or 1 hour.
	Period time.Duration
	// MinCoverage is the least share of the window's periods that must have a datapoint, above 0 to 1.
	MinCoverage float64
	// RequireBoot asks for a boot inside the evidence.
	RequireBoot bool
	// History is how far back daily counts are read, for callers that come seldom: whole days; 0 is not at all. See LookBack.
	History time.Duration
	// OldSoftware says what becomes of a workload on which software was found that does not speak v2 by itself.
	OldSoftware OldSoftware
	// Products is a file of software that the built-in table does not know, or knows otherwise, as it was given; empty for none.
	Products string
}

// LookBack is how far back daily counts are read: 0 where the window shows as much by itself.
func (e Evidence) LookBack() time.Duration {
	if e.History <= e.Window {
		return 0
	}
	return e.History
}

// OldSoftware is what software that does not speak v2 by itself does to a verdict.
type OldSoftware string

// What old software does. Where AWS counts no v1 calls, it always blocks.
const (
	// OldSoftwareShow: it is shown, and the metric decides.
	OldSoftwareShow OldSoftware = "show"
	// OldSoftwareBlock: it blocks, even where the metric counts no call.
	OldSoftwareBlock OldSoftware = "block"
)

// defaultHistory is how far back daily counts are read by default: two runs of a quarterly job always lie before a window of
// two weeks, and the 500 metrics of a call still fit into one page of 100,800 datapoints, so that it takes no more calls than less
// would.
const defaultHistory = 200 * day

// KeepHopLimit, as a hop limit, leaves each resource the one it has; AutoHopLimit gives it the one that what runs there needs, as
// far as that is known.
const (
	KeepHopLimit = 0
	AutoHopLimit = -1
)

// HopLimit chooses the hop limit a resource gets.
type HopLimit struct {
	// Default is 1 to 64, KeepHopLimit or AutoHopLimit.
	Default int
	Rules   []HopLimitRule
}

// HopLimitRule gives the resources it matches a hop limit, 1 to 64, KeepHopLimit or AutoHopLimit.
type HopLimitRule struct {
	Match Match
	Value int
	Where string
}

// Exception keeps imdsctl from writing the resources it matches, until it expires.
type Exception struct {
	Match  Match
	Owner  string
	Reason string
	// Expires is the last day on which the exception holds, UTC.
	Expires Date
	// Where is the position of the entry, "imdsctl.yaml:12:5"; ExpiresAt that of its date.
	Where, ExpiresAt string
}

// Override is a person's decision to enforce v2 on resources though v1 calls were seen, or cannot be seen.
type Override struct {
	Match  Match
	Owner  string
	Reason string
	Where  string
}

// Gates say what must hold before, during and after a step.
type Gates struct {
	// MaxRejected is the highest sum of MetadataNoTokenRejected that passes.
	MaxRejected int
	// StatusChecks asks for passing instance status checks.
	StatusChecks bool
	Heartbeat    Heartbeat
	// Delay is how long CloudWatch takes to show a datapoint.
	Delay time.Duration
	// GroupHealth asks that Auto Scaling groups have their desired capacity in service and healthy; TargetHealth that
	// instances are healthy in the target groups they are registered with.
	GroupHealth, TargetHealth bool
	// Patience is how long a failing gate may hold a stack back that has not begun, before the stack fails.
	Patience time.Duration
	// Interval is how often gates are read; 0 for Delay, and at least a minute. See Every.
	Interval time.Duration
	// LaunchProof is how long a step waits for a first launch; below 0 where the file does not say. See LaunchPatience.
	LaunchProof time.Duration
	Alarms      []AlarmGate
	Commands    []CommandGate
	Webhooks    []WebhookGate
}

// Every is how often gates are read.
func (g Gates) Every() time.Duration {
	if g.Interval > 0 {
		return g.Interval
	}
	return max(time.Minute, g.Delay)
}

// AlarmGate asks that CloudWatch alarms of the stack's account and region exist and are not in the state ALARM.
type AlarmGate struct {
	Name   string
	Match  StackMatch
	Alarms []string
	Where  string
}

// CommandGate runs a program of the machine that reads gates. It passes with exit code 0.
type CommandGate struct {
	Name  string
	Match StackMatch
	// Run is the program with its arguments. No shell reads it.
	Run []string
	// Timeout is 0 for DefaultGateTimeout.
	Timeout time.Duration
	Where   string
}

// WebhookGate asks an HTTP endpoint, with a signed request.
type WebhookGate struct {
	Name  string
	Match StackMatch
	URL   string
	// SecretEnv names the environment variable that holds the key of the signature.
	SecretEnv string
	// Timeout is 0 for DefaultGateTimeout.
	Timeout time.Duration
	Where   string
}

// DefaultGateTimeout is how long a command or a webhook may take to answer, where the file does not say.
const DefaultGateTimeout = time.Minute

// Heartbeat is the metric whose freshness tells "no rejected call" from "no metrics at all".
type Heartbeat string

// Heartbeats.
const (
	HeartbeatCPU  Heartbeat = "cpu"
	HeartbeatNone Heartbeat = "none"
)

// Bake is how long a step is watched, by the criticality of its account.
type Bake struct{ Low, Medium, High, Critical time.Duration }

// FailureMode says what a failed stack does to the rest of its wave.
type FailureMode string

// Failure modes.
const (
	// Halt starts no further stack once the wave's budget is spent; those already running finish.
	Halt FailureMode = "halt"
	// Continue goes on with the wave's other stacks, and halts before the next wave.
	Continue FailureMode = "continue"
)

// Rollout says in which portions and how fast changes are made, and how many failures are borne.
type Rollout struct {
	// Steps are the shares of a stack's hop-limit and fleet changes after which it is watched before it goes on; the last is
	// all. Never empty.
	Steps []Share
	// Stages have steps of their own where they say so.
	Stages Stages
	// Overrides are for some stacks; the first that matches decides.
	Overrides []PaceRule
	// Replacement says how running instances come to require tokens.
	Replacement Replacements
	// Ramp are the shares of a wave's stacks that may have started before all of them have ended; the last is all. Never
	// empty.
	Ramp []Share
	// MaxInFlight is the number of changes that may be open at a time in all, MaxInFlightAccount in one account.
	MaxInFlight, MaxInFlightAccount int
	// Concurrency is the number of stacks that may run at a time in all, ConcurrencyAccount in one account.
	Concurrency, ConcurrencyAccount int
	MaxFailures                     FailureBudget
	OnFailure                       FailureMode
	// Irreversible says what becomes of a stack whose changes AWS would not let be undone.
	Irreversible Irreversibility
}

// Irreversibility says what becomes of changes that AWS would not let be undone: HttpTokensEnforced, a declarative policy or an
// SCP would refuse the way back.
type Irreversibility string

// Irreversibilities.
const (
	// Refuse leaves such stacks alone.
	Refuse Irreversibility = "refuse"
	// Allow makes the changes all the same. A failed gate then cannot put them back.
	Allow Irreversibility = "allow"
)

// Stages are the steps of each stage that a stack goes through, where they differ.
type Stages struct{ HopLimit, Fleet, Launch, Defaults StageSteps }

// StageSteps are the steps of one stage; none for those of the rollout.
type StageSteps struct{ Steps []Share }

// PaceRule gives the stacks it matches steps, a bake time, or both.
type PaceRule struct {
	Match  StackMatch
	Steps  []Share
	Stages Stages
	// Bake is 0 for that of the account's criticality.
	Bake  time.Duration
	Where string
}

// FailureBudget is the number of failures that are borne.
type FailureBudget struct {
	// Stack counts failed and conflicting changes in one step, Wave failed stacks since a person last resumed.
	Stack, Wave int
	// Account is the number of failed stacks at which an account's other stacks are skipped, Total that at which the rollout
	// halts; 0 is no such bound.
	Account, Total int
}

// WindowRule is a maintenance window for the places it matches.
type WindowRule struct {
	Match  PlaceMatch
	Window Window
	Where  string
}

// FreezeRule is a freeze for the places it matches.
type FreezeRule struct {
	Match  PlaceMatch
	Freeze Freeze
	Where  string
}

// FollowUp is what is done to a resource after its setting was changed, such as the restart of its clients. Exactly one
// of Manual, SSM and Command is set.
type FollowUp struct {
	Name  string
	Match Match
	// Kinds are the kinds of resources it is for. Never empty.
	Kinds []Glob
	// Manual is what a person is asked to do.
	Manual string
	SSM    SSMCommand
	// Command is a program with its arguments, run where imdsctl runs. No shell reads it.
	Command []string
	// Timeout is how long SSM or the command may take; 0 for DefaultFollowUpTimeout.
	Timeout time.Duration
	Where   string
}

// DefaultFollowUpTimeout is how long a follow-up may take, where the file does not say.
const DefaultFollowUpTimeout = 10 * time.Minute

// SSMCommand is a document that AWS Systems Manager runs on an instance.
type SSMCommand struct {
	Document   string
	Parameters map[string][]string
}

// Stack says how instances without an Auto Scaling group are grouped into stacks.
type Stack struct {
	// CloudFormation groups by the tag aws:cloudformation:stack-name.
	CloudFormation bool
	// Tag is the key of a tag whose value names the stack; empty for none.
	Tag string
}

// Limits hold imdsctl below the API limits of AWS.
type Limits struct {
	// Safety is the share of each limit that imdsctl uses, above 0 to 1; the rest stays for everybody else.
	Safety float64
	// Actions overrides the documented limits, by IAM's name of the call.
	Actions map[string]Bucket
}

// Bucket is a token bucket: Burst calls at once, and Refill calls a second after that.
type Bucket struct {
	Burst  int
	Refill float64
}

// Date is a calendar day, UTC. The zero Date is no day.
type Date struct{ start time.Time }

// ParseDate reads "2006-01-02".
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return Date{}, fmt.Errorf("date %q: want a day that exists, as YYYY-MM-DD", s)
	}
	return Date{t}, nil
}

// String gives "2006-01-02", or "" for no day.
func (d Date) String() string {
	if d.start.IsZero() {
		return ""
	}
	return d.start.Format(time.DateOnly)
}

// End is the first instant after the day.
func (d Date) End() time.Time { return d.start.AddDate(0, 0, 1) }

// MarshalText makes a date a JSON string.
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Date) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*d = Date{}
		return nil
	}
	*d, err = ParseDate(string(b))
	return err
}

// Names of the roles that `imdsctl roles` prints, taken where accounts are entered and the file names no role.
const (
	DefaultReadRole  = "imdsctl-read"
	DefaultWriteRole = "imdsctl-write"
)

// Default is the configuration of an empty file.
func Default() *Config {
	c := written()
	c.complete()
	return c
}

// written is the configuration before complete: the defaults that depend on nothing else.
func written() *Config {
	return &Config{
		Version:      1,
		Organization: Organization{Role: Role{SessionName: "imdsctl", Duration: time.Hour}},
		Criticality:  CriticalityPolicy{Default: Medium},
		Evidence: Evidence{Window: 14 * day, Period: time.Hour, MinCoverage: 0.95, RequireBoot: true, History: defaultHistory,
			OldSoftware: OldSoftwareShow},
		Gates: Gates{StatusChecks: true, Heartbeat: HeartbeatCPU, Delay: 5 * time.Minute, GroupHealth: true,
			TargetHealth: true, Patience: 30 * time.Minute, LaunchProof: launchProofUnsaid},
		Bake: Bake{Low: 30 * time.Minute, Medium: 2 * time.Hour, High: 6 * time.Hour, Critical: 24 * time.Hour},
		Rollout: Rollout{Steps: []Share{{Count: 1}, {Percent: 100}}, Ramp: everything(), MaxInFlight: 100, MaxInFlightAccount: 20,
			Concurrency: 50, ConcurrencyAccount: 5, OnFailure: Halt, Irreversible: Refuse,
			Replacement: Replacements{Default: ReplaceInPlace}},
		Stack:     Stack{CloudFormation: true},
		Targets:   Targets{Instances: true, Templates: true, AccountDefaults: true, Services: true},
		Attention: Attention{OwnerTags: DefaultOwnerTags(), Repeat: 7 * day},
		Limits:    Limits{Safety: 0.5},
	}
}

// complete fills in the defaults that depend on what the file says.
func (c *Config) complete() {
	o := &c.Organization
	if o.Discover == "" {
		switch {
		case len(c.Accounts) > 0 && o.ManagementRole == "":
			o.Discover = DiscoverList
		case o.ManagementRole != "" || o.Role.Read != "":
			o.Discover = DiscoverOrganizations
		default:
			o.Discover = DiscoverSelf
		}
	}
	if o.Discover != DiscoverSelf {
		if o.Role.Read == "" {
			o.Role.Read = DefaultReadRole
		}
		if o.Role.Write == "" {
			o.Role.Write = DefaultWriteRole
		}
	}
	if len(c.Waves) == 0 {
		for _, k := range Criticalities() {
			c.Waves = append(c.Waves, Wave{Name: string(k), Criticality: []Criticality{k}})
		}
	}
	for i := range c.Windows {
		c.Windows[i].Window.Zone = cmp.Or(c.Windows[i].Window.Zone, "UTC")
	}
	for i := range c.Freezes {
		c.Freezes[i].Freeze.Zone = cmp.Or(c.Freezes[i].Freeze.Zone, "UTC")
	}
	for i := range c.FollowUps {
		if len(c.FollowUps[i].Kinds) == 0 {
			c.FollowUps[i].Kinds = []Glob{kindInstance}
		}
	}
}

// JSON is the effective configuration in the file's own keys, without positions. It is canonical (keys sorted, values
// in one spelling), is itself a valid configuration file, and parses to an equal configuration.
func (c *Config) JSON() []byte {
	b, err := json.Marshal(root(c).canonical())
	if err != nil { // only maps, lists, strings, booleans and finite numbers get here
		panic(err)
	}
	return b
}

// Digest is the hexadecimal SHA-256 of JSON: two files that mean the same have the same digest, whatever their
// comments, order and spelling.
func (c *Config) Digest() string {
	sum := sha256.Sum256(c.JSON())
	return hex.EncodeToString(sum[:])
}
