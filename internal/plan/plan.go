// Package plan turns judged resources into the graph of changes that people review and approve: every change with what was
// found, what will be left, what undoes it and what it rests on; grouped into stacks, steps and waves.
//
// It owns merging, order, the file format and the digest. It is pure: it reads no clock and calls nothing. A plan is the
// only instruction that apply knows.
package plan

import (
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// FormatVersion is the version of the plan file. A reader refuses any other.
const FormatVersion = 1

// Plan is a whole plan in memory. On disk it is a stream: see Write and Read.
type Plan struct {
	Header  Header
	Stacks  []Stack
	Changes []Change
	Manuals []Manual
	Exempt  []Exempt
	// Digest is the hexadecimal SHA-256 of everything above, as the file has it.
	Digest string
}

// Header is the first line of a plan file.
type Header struct {
	Format   int       `json:"imdsctl_plan"`
	Created  time.Time `json:"created"`
	Tool     string    `json:"tool"` // version of imdsctl
	Config   string    `json:"config_digest"`
	Database string    `json:"database,omitempty"`
	// Taken is when the oldest scan the plan rests on was taken.
	Taken time.Time `json:"scan_taken"`
	Waves []Wave    `json:"waves"`
	// Calendars are the maintenance windows and freezes that stacks refer to.
	Calendars []policy.Calendar `json:"calendars,omitempty"`
	// Rules are the rollout's rules as the configuration had them when the plan was made: approving the plan approves them.
	Rules   Rules   `json:"rules"`
	Summary Summary `json:"summary"`
	// Estimate is how long it will take; nil where nobody knew AWS's limits when it was made.
	Estimate *Estimate `json:"estimate,omitempty"`
}

// Wave is a set of accounts that goes before the next wave.
type Wave struct {
	Name     string            `json:"name"`
	Accounts []fleet.AccountID `json:"accounts"`
	Approval bool              `json:"approval,omitempty"`
}

// Rules bind a rollout.
type Rules struct {
	// MaxInFlight is the number of open intents in all lanes together, MaxInFlightAccount in those of one account; 0 is no
	// bound of its own.
	MaxInFlight        int `json:"max_in_flight"`
	MaxInFlightAccount int `json:"max_in_flight_per_account,omitempty"`
	// MaxStacks is the number of stacks that may run at a time, MaxStacksAccount of one account; 0 is no bound of its own.
	MaxStacks        int `json:"max_stacks"`
	MaxStacksAccount int `json:"max_stacks_per_account,omitempty"`
	// MaxFailures is the number of failed or conflicting changes a step tolerates.
	MaxFailures int `json:"max_failures"`
	// MaxFailedStacks is the number of failed stacks a rollout tolerates before it halts, where HaltOnFailure is set.
	MaxFailedStacks int  `json:"max_failed_stacks"`
	HaltOnFailure   bool `json:"halt_on_failure"`
	// AccountFailures is the number of failed stacks of one account after which its other stacks are skipped;
	// TotalFailures that of a whole rollout after which it halts, whatever HaltOnFailure says. 0 is no bound.
	AccountFailures int `json:"account_failures,omitempty"`
	TotalFailures   int `json:"total_failures,omitempty"`
	// Irreversible: changes that AWS would not let be undone are made all the same.
	Irreversible bool `json:"irreversible,omitempty"`
	// MaxRejected is how many refused v1 calls a gate tolerates on the changed instances of a step.
	MaxRejected int64 `json:"max_rejected"`
	// StatusChecks: EC2 status checks of the changed instances must pass.
	StatusChecks bool `json:"status_checks"`
	// Heartbeat: absence of refused calls passes only with a fresh datapoint of another metric of the instance.
	Heartbeat bool `json:"heartbeat"`
	// MetricDelay is how late the metric may arrive; a bake always outlasts it.
	MetricDelay time.Duration `json:"metric_delay"`
	// GateInterval is how often gates are read while a step is written and during its bake.
	GateInterval time.Duration `json:"gate_interval"`
	// GatePatience is how long a failing gate may hold a stack back that has not begun, before the stack fails.
	GatePatience time.Duration `json:"gate_patience,omitempty"`
	// GroupHealth: the Auto Scaling groups of a stack must have their desired capacity in service and healthy.
	GroupHealth bool `json:"group_health,omitempty"`
	// TargetHealth: the changed instances must be healthy in every target group of a load balancer they are registered with.
	TargetHealth bool `json:"target_health,omitempty"`
	// Gates are further ones, which stacks refer to.
	Gates []Gate `json:"gates,omitempty"`
}

// GateType is the way in which a gate of the configuration is read.
type GateType string

// Gate types.
const (
	// GateAlarm: none of the named CloudWatch alarms is in the state ALARM, and none is missing.
	GateAlarm GateType = "alarm"
	// GateCommand: a program of this machine exits with 0.
	GateCommand GateType = "command"
	// GateWebhook: an HTTP endpoint answers, to a signed request, that the step may go on.
	GateWebhook GateType = "webhook"
)

// Gate is one gate of the configuration. It carries no secret: a webhook's is named, and read where the gate is.
type Gate struct {
	Type GateType `json:"type"`
	Name string   `json:"name"`
	// Alarms are names of CloudWatch alarms in the stack's account and region.
	Alarms []string `json:"alarms,omitempty"`
	// Run is a program with its arguments. No shell reads it.
	Run []string `json:"run,omitempty"`
	// URL is where a webhook is sent; SecretEnv names the environment variable with the key of its signature.
	URL       string        `json:"url,omitempty"`
	SecretEnv string        `json:"secret_env,omitempty"`
	Timeout   time.Duration `json:"timeout,omitempty"`
}

// Stack is what succeeds or fails together: a group with its instances and its template, or one bare instance.
type Stack struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Wave int    `json:"wave"`
	// Ring is the stack's turn within its wave: it may start when all stacks of the rings before have ended.
	Ring  int         `json:"ring,omitempty"`
	Place fleet.Place `json:"place"`
	// Calendar numbers, from 1, the header's calendar that says when writes may start; 0 is at any time.
	Calendar int `json:"calendar,omitempty"`
	// Gates are indices into the rules' further gates.
	Gates []int `json:"gates,omitempty"`
	// Criticality is the account's.
	Criticality policy.Criticality `json:"criticality"`
	// Risk is the worst risk of what the stack's changes are made for, and RiskOf whose it is. Of stacks that may start, the one with
	// the worst goes first. Nil where nothing of it has one, and in plans that were made before there was any.
	Risk   *assess.Risk `json:"risk,omitempty"`
	RiskOf fleet.Ref    `json:"risk_of,omitzero"`
	Steps  []Step       `json:"steps"`
	// After lists the stacks that must be done before this one starts.
	After []string `json:"after,omitempty"`
	// Last: a host of imdsctl's own is among its instances, so it starts when all other stacks have ended.
	Last bool `json:"last,omitempty"`
}

// Step is a part of a stack that is changed, baked and gated together.
type Step struct {
	Name    string        `json:"name"` // "canary", "fleet", "launch", …
	Stage   Stage         `json:"stage"`
	Changes int           `json:"changes"`
	Bake    time.Duration `json:"bake"`
	// Share is how much of the stage's changes is made when the step is, as the configuration says it: "1", "10%".
	Share string `json:"share,omitempty"`
}

// Exempt is a resource the plan leaves alone because of an exception.
type Exempt struct {
	Ref     fleet.Ref `json:"ref"`
	Name    string    `json:"name,omitempty"`
	Owner   string    `json:"owner"`
	Reason  string    `json:"reason"`
	Expires string    `json:"expires"`
}

// Summary counts what the plan holds and what it leaves.
type Summary struct {
	// Changes counts all but the follow-ups, which FollowUps counts.
	Changes   int            `json:"changes"`
	FollowUps int            `json:"follow_ups,omitempty"`
	Stacks    int            `json:"stacks"`
	Verdicts  map[string]int `json:"verdicts"` // of instances
	Manuals   int            `json:"manual_steps"`
	Exempt    int            `json:"exempt"`
	Gaps      int            `json:"gaps"`
	Calls     map[string]int `json:"calls"`
}
