// Package assess judges: from what was found and what was observed it says of each resource whether it is ready to refuse
// IMDSv1, blocked, unknown, done or exempt, and always why.
//
// It owns the rules of evidence (coverage, lineage, boots), the effective setting of a future launch and the hop limit
// wanted. It is pure. Its rule of thumb: what was not observed is unknown, and unknown is never ready.
package assess

import (
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Status is a verdict in one word.
type Status string

// Statuses.
const (
	// Ready: the whole window is covered, with a boot inside it, and nobody called v1.
	Ready Status = "ready"
	// Blocked: someone calls v1, or someone else owns the setting.
	Blocked Status = "blocked"
	// Unknown: too little was observed to tell.
	Unknown Status = "unknown"
	// Done: v1 is refused already, or the endpoint is off.
	Done Status = "done"
	// Exempt: an exception in force names it.
	Exempt Status = "exempt"
)

// Statuses lists all statuses, in the order in which tables show them.
func Statuses() []Status { return []Status{Ready, Blocked, Unknown, Done, Exempt} }

// Code names the rule behind a reason, for filters and tests.
type Code string

// Codes.
const (
	CodeRequired         Code = "tokens-required"
	CodeEndpointDisabled Code = "endpoint-disabled"
	CodeException        Code = "exception"
	CodeExceptionExpired Code = "exception-expired"
	CodeV1Calls          Code = "v1-calls"
	CodeLineageV1Calls   Code = "v1-calls-in-lineage"
	CodeRejected         Code = "v1-calls-rejected"
	CodeManaged          Code = "managed-by-service"
	CodeGap              Code = "gap"
	CodeNoEvidence       Code = "no-evidence"
	CodeNotCovered       Code = "window-not-covered"
	CodeNoBoot           Code = "no-boot-in-window"
	CodeCovered          Code = "window-covered-no-v1-calls"
	CodeConsumers        Code = "consumers-not-ready"
	CodeNoConsumers      Code = "no-consumers"
	CodeOverride         Code = "override"
	CodeNotRunning       Code = "not-running"
	CodeDeclarative      Code = "declarative-policy"
	CodeUnresolved       Code = "launch-source-unresolved"
	CodeNoMetric         Code = "no-v1-metric"
	CodeSource           Code = "set-by-its-source"
	CodeNoTokens         Code = "silent-about-tokens"
	// CodeV1Credentials: calls to AWS were made with credentials that v1 delivered. CodeTraced: a tracer saw v1 calls.
	CodeV1Credentials Code = "v1-credentials"
	CodeTraced        Code = "v1-calls-traced"
	CodeOldSoftware   Code = "old-software"
	CodeRawCall       Code = "calls-without-token"
	CodeCertified     Code = "certified"
	CodeNotCertified  Code = "certification-failed"
	CodeSchedule      Code = "schedule-not-seen-through"
)

// Reason is one sentence behind a verdict.
type Reason struct {
	Code Code   `json:"code"`
	Text string `json:"text"`
}

// Basis is the evidence a verdict rests on, joined along the lineage.
type Basis struct {
	// Lineage is whose observations were joined: a group, a template, or the instance itself.
	Lineage fleet.Ref       `json:"lineage,omitzero"`
	Source  evidence.Source `json:"source,omitempty"`
	Start   time.Time       `json:"start,omitzero"`
	End     time.Time       `json:"end,omitzero"`
	// Periods is the number of periods in the window, Covered how many of them some member reported.
	Periods int `json:"periods"`
	Covered int `json:"covered_periods"`
	// Calls is the number of successful v1 calls, LastCall the start of the last period with one.
	Calls    int64     `json:"v1_calls"`
	LastCall time.Time `json:"last_v1_call,omitzero"`
	// Rejected is the number of refused v1 calls, LastRejected the start of the last period with one.
	Rejected     int64     `json:"v1_calls_rejected"`
	LastRejected time.Time `json:"last_v1_call_rejected,omitzero"`
	// Boots counts launches and starts inside the window with a datapoint in the same period or later.
	Boots int `json:"boots"`
	// Members counts the instances that reported, terminated ones included.
	Members int `json:"members"`

	seen time.Time // the end of the last period that was covered
}

// Coverage is the covered share of the window, 0 to 1.
func (b Basis) Coverage() float64 {
	if b.Periods == 0 {
		return 0
	}
	return float64(b.Covered) / float64(b.Periods)
}

// Verdict is what was judged of one resource.
type Verdict struct {
	Ref     fleet.Ref `json:"ref"`
	Status  Status    `json:"status"`
	Reasons []Reason  `json:"reasons"`
	Basis   Basis     `json:"basis"`
	// Want is what the resource should say; unset fields are left as they are.
	Want fleet.Options `json:"want,omitzero"`
	// Effective is what a future launch would get, for templates, groups and defaults.
	Effective fleet.Options `json:"effective,omitzero"`
	// Hops is the hop limit of a host against what runs on it; nil for what is no host.
	Hops *Hops `json:"hop_limit,omitempty"`
	// Risk is how much is at stake on a host, or on what a launcher launches; nil for all else.
	Risk *Risk `json:"risk,omitempty"`
	// Sources are those that say something of the lineage, each with the time that it speaks for.
	Sources []SourceBasis `json:"sources,omitempty"`
	// Findings are what sources other than metrics saw of the lineage, newest first and at most some of each product and sort, with
	// what blocks before the rest; FindingsLeft is how many there are besides.
	Findings     []evidence.Finding `json:"findings,omitempty"`
	FindingsLeft int                `json:"findings_left,omitempty"`
	// Schedule is the rhythm in which the lineage was called as v1; nil where none was seen.
	Schedule *Schedule `json:"schedule,omitempty"`
	// Override names who accepted v1 calls, and why, where a person did.
	Override string `json:"override,omitempty"`
}

// Why joins the reasons into one line.
func (v *Verdict) Why() string {
	texts := make([]string, len(v.Reasons))
	for i, r := range v.Reasons {
		texts[i] = r.Text
	}
	return strings.Join(texts, "; ")
}

// Has tells whether a reason with the code is among them.
func (v *Verdict) Has(code Code) bool {
	for _, r := range v.Reasons {
		if r.Code == code {
			return true
		}
	}
	return false
}
