// Package workload simulates the programs that run on instances and call the instance metadata service: which version
// they speak, how far away they are, and how often they call. From that, and from the life of an instance (when it ran,
// and with which metadata options), it answers what CloudWatch would show and which programs are broken, since when and
// why.
//
// It owns arithmetic and nothing else: no clock, no network, no stored points. Every answer is computed from the seed, in
// closed form per period, so that a million instances cost no memory beyond their own records. It may import nothing of
// imdsctl.
package workload

import (
	"fmt"
	"regexp"
	"slices"
	"time"
)

// Speaks tells which versions of the metadata protocol a program tries, and in which order.
type Speaks string

// The ways to speak.
const (
	// V1Only programs (boto3 before 1.12.6, kube2iam before 0.11.2) break where tokens are required.
	V1Only Speaks = "v1-only"
	// V2Only programs break where the token cannot reach them, whether or not v1 is allowed.
	V2Only Speaks = "v2-only"
	// V2ThenV1 is the modern SDK: it asks for a token, and falls back to v1 where none arrives, unless V1Disabled.
	V2ThenV1 Speaks = "v2-then-v1"
	// V1First is the SSM agent before 3.0.431.0: it calls v1 as long as that is answered, and v2 when it is refused.
	V1First Speaks = "v1-first"
)

// Program is one piece of software that calls the metadata service.
type Program struct {
	// Name is what people call it: "billing-batch".
	Name string `json:"name"`
	// Agent and Version name the SDK or agent that makes the call: "boto3", "1.9.2".
	Agent   string `json:"agent"`
	Version string `json:"version"`
	// UserAgent is what its AWS calls carry, as CloudTrail shows it.
	UserAgent string `json:"user_agent,omitempty"`
	// APICalls are the calls to AWS that it makes after each round that brought it credentials: "s3:GetObject". CloudTrail
	// shows them, with the version of the protocol that delivered the credentials.
	APICalls []string `json:"api_calls,omitempty"`
	Speaks   Speaks   `json:"speaks"`
	// ExtraHops counts the network hops between the program and its host: 0 on the host, 1 in a container behind a
	// bridge. A token reaches it only where the hop limit is at least 1 + ExtraHops.
	ExtraHops int `json:"extra_hops,omitempty"`
	// V1Disabled is AWS_EC2_METADATA_V1_DISABLED: a V2ThenV1 program does not fall back.
	V1Disabled bool `json:"v1_disabled,omitempty"`
	// Sticky makes a V2ThenV1 program keep to v1, once it started where no token reached it, until it is restarted: SDKs
	// do so that give up on tokens for the life of their process.
	Sticky bool `json:"sticky,omitempty"`
	// Every is the time between two rounds of calls while the instance runs; 0 means never.
	Every time.Duration `json:"every,omitempty"`
	// Anchor is the time of one round: rounds happen at Anchor + k × Every, for every whole k, while the instance runs.
	// The zero time spreads instances evenly over the period, by the seed.
	Anchor time.Time `json:"anchor,omitzero"`
	// AtBoot adds a round within two minutes of every start of the instance, or of the program alone.
	AtBoot bool `json:"at_boot,omitempty"`
	// Calls is the number of metadata requests in a round; 0 means 2 (the role's name, then its credentials).
	Calls int `json:"calls,omitempty"`
	// CacheFor is how long what a successful round brought keeps the program alive without another: up to six hours for
	// credentials. A break shows at the first failed round, or later when the cache ends.
	CacheFor time.Duration `json:"cache_for,omitempty"`
	// Essential programs take their host's instance status check down with them.
	Essential bool `json:"essential,omitempty"`
	// ImpairedAfter is how long an essential program is broken before the status check fails.
	ImpairedAfter time.Duration `json:"impaired_after,omitempty"`
}

// apiCall is a call to AWS: the service's name in its endpoint, and the operation.
var apiCall = regexp.MustCompile(`^[a-z0-9-]+:[A-Z][A-Za-z0-9]+$`)

// Validate tells what is wrong with a program's description.
func (p Program) Validate() error {
	switch {
	case p.Name == "":
		return fmt.Errorf("program: the name is empty")
	case p.Speaks != V1Only && p.Speaks != V2Only && p.Speaks != V2ThenV1 && p.Speaks != V1First:
		return fmt.Errorf("program %q: speaks %q: want v1-only, v2-only, v2-then-v1 or v1-first", p.Name, p.Speaks)
	case p.Sticky && p.Speaks != V2ThenV1:
		return fmt.Errorf("program %q: sticky is for programs that speak v2-then-v1", p.Name)
	case slices.ContainsFunc(p.APICalls, func(call string) bool { return !apiCall.MatchString(call) }):
		return fmt.Errorf("program %q: api_calls %q: want service:Operation, such as s3:GetObject", p.Name, p.APICalls)
	case p.ExtraHops < 0 || p.ExtraHops > 63:
		return fmt.Errorf("program %q: %d extra hops: want 0 to 63", p.Name, p.ExtraHops)
	case p.Every < 0 || (p.Every > 0 && p.Every < time.Second) || p.Every%time.Second != 0:
		return fmt.Errorf("program %q: calls every %s: want whole seconds, or 0 for never", p.Name, p.Every)
	case p.Calls < 0 || p.CacheFor < 0 || p.ImpairedAfter < 0:
		return fmt.Errorf("program %q: calls, cache_for and impaired_after may not be negative", p.Name)
	}
	return nil
}

// String gives "billing-batch (boto3 1.9.2)".
func (p Program) String() string {
	if p.Agent == "" {
		return p.Name
	}
	return p.Name + " (" + p.Agent + " " + p.Version + ")"
}

// Reason says why a round of calls failed.
type Reason string

// The reasons.
const (
	Works            Reason = ""
	V1Refused        Reason = "v1-refused"
	HopLimit         Reason = "hop-limit"
	EndpointDisabled Reason = "endpoint-disabled"
)

// Explain says for a person why the program fails under the setting, and what would help.
func (p Program) Explain(r Reason, s Setting) string {
	switch r {
	case V1Refused:
		if p.Sticky {
			return fmt.Sprintf("%s started where no token reached it and keeps to IMDSv1 until it is restarted, and the "+
				"instance requires tokens; restart it", p)
		}
		return fmt.Sprintf("%s speaks IMDSv1 only, and the instance requires tokens; upgrade it to a version that speaks IMDSv2",
			p)
	case HopLimit:
		return fmt.Sprintf("%s runs %d hop(s) behind its host, so the token needs a hop limit of %d, and the instance has %d",
			p, p.ExtraHops, 1+p.ExtraHops, s.HopLimit)
	case EndpointDisabled:
		return fmt.Sprintf("%s calls a metadata endpoint that is disabled on its instance", p)
	default:
		return ""
	}
}

// Outcome is what one round of a program's calls does under one setting.
type Outcome struct {
	// V1 and V2 tell whether v1 calls succeed, and whether v2 calls do; Rejected whether v1 calls are refused.
	V1, V2, Rejected bool
	// Reason is Works where the program got what it asked for.
	Reason Reason
}

// in tells what a round of the program's calls does within a span.
func (p *Program) in(s span) Outcome {
	if p.Sticky && !p.V1Disabled && !s.start.Disabled && s.start.HopLimit < 1+p.ExtraHops {
		stuck := Program{Speaks: V1Only}
		return stuck.Under(s.setting)
	}
	return p.Under(s.setting)
}

// Under tells what a round of the program's calls does under a setting that was in force when the program started.
func (p *Program) Under(s Setting) Outcome {
	if s.Disabled {
		return Outcome{Reason: EndpointDisabled}
	}
	token := s.HopLimit >= 1+p.ExtraHops // the response to the PUT gets as far as the program
	switch p.Speaks {
	case V2Only:
		if token {
			return Outcome{V2: true}
		}
		return Outcome{Reason: HopLimit}
	case V2ThenV1:
		switch {
		case token:
			return Outcome{V2: true}
		case p.V1Disabled:
			return Outcome{Reason: HopLimit}
		case s.Required:
			return Outcome{Rejected: true, Reason: HopLimit}
		}
	case V1First:
		if s.Required {
			if token {
				return Outcome{V2: true, Rejected: true}
			}
			return Outcome{Rejected: true, Reason: HopLimit}
		}
	case V1Only:
		if s.Required {
			return Outcome{Rejected: true, Reason: V1Refused}
		}
	}
	return Outcome{V1: true}
}

func (p *Program) calls() int64 {
	if p.Calls == 0 {
		return 2
	}
	return int64(p.Calls)
}
