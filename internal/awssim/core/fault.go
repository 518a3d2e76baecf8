package core

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/authz"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Fault is a rule that makes calls go wrong. Its matchers are patterns with * and ?; an empty one matches everything.
// Of several effects a delay comes first, then the connection or the error.
type Fault struct {
	// ID is given when the rule is added.
	ID int `json:"id,omitempty"`

	Service   string `json:"service,omitempty"`
	Action    string `json:"action,omitempty"`
	Account   string `json:"account,omitempty"`
	Region    string `json:"region,omitempty"`
	Principal string `json:"principal,omitempty"` // the caller's ARN
	// Param must match one of the request's parameters, written as in the call log: "InstanceId.1=i-0abc*".
	Param string `json:"param,omitempty"`

	// Nth is the first matching call that is affected, counted from 1; 0 means from the first on.
	Nth int `json:"nth,omitempty"`
	// Count is how many calls are affected; 0 means all.
	Count int `json:"count,omitempty"`
	// Probability affects a call only sometimes; 0 means always.
	Probability float64 `json:"probability,omitempty"`

	DelayMS int `json:"delay_ms,omitempty"`
	// Throttle and Deny refuse the call in the service's own words.
	Throttle bool `json:"throttle,omitempty"`
	Deny     bool `json:"deny,omitempty"`
	// Code, with Message and Status, refuses the call; Status alone is a bare HTTP failure.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	Status  int    `json:"status,omitempty"`
	// DropBefore cuts the connection before the call has any effect, DropAfter after its effect.
	DropBefore bool `json:"drop_before,omitempty"`
	DropAfter  bool `json:"drop_after,omitempty"`

	// Hook runs before the call, and its error is the call's. For tests; it may use the world but not its place's lock.
	Hook func(*Call) error `json:"-"`
	// After runs when the call has had its effect and is in the log.
	After func(*Call) `json:"-"`
}

type faults struct {
	mu    sync.Mutex
	rng   *rand.Rand
	next  int
	rules []*faultRule
}

type faultRule struct {
	Fault
	seen, hit int
}

// AddFault adds a rule and gives its id.
func (w *World) AddFault(f Fault) (int, error) {
	if f.Probability < 0 || f.Probability > 1 || f.Nth < 0 || f.Count < 0 || f.DelayMS < 0 {
		return 0, fmt.Errorf("fault: probability must be 0 to 1, nth, count and delay_ms not negative")
	}
	if f.Status != 0 && (f.Status < 400 || f.Status > 599) {
		return 0, fmt.Errorf("fault: status %d: want 400 to 599", f.Status)
	}
	w.faults.mu.Lock()
	defer w.faults.mu.Unlock()
	w.faults.next++
	f.ID = w.faults.next
	w.faults.rules = append(w.faults.rules, &faultRule{Fault: f})
	return f.ID, nil
}

// RemoveFault removes a rule; 0 removes all.
func (w *World) RemoveFault(id int) {
	w.faults.mu.Lock()
	defer w.faults.mu.Unlock()
	w.faults.rules = slices.DeleteFunc(w.faults.rules, func(r *faultRule) bool { return id == 0 || r.ID == id })
}

// Faults lists the rules in force.
func (w *World) Faults() []Fault {
	w.faults.mu.Lock()
	defer w.faults.mu.Unlock()
	out := make([]Fault, len(w.faults.rules))
	for i, r := range w.faults.rules {
		out[i] = r.Fault
	}
	return out
}

// strike gives the faults that befall the call, in the order in which they were added.
func (f *faults) strike(c *Call) []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Fault
	for _, r := range f.rules {
		if !r.matches(c) {
			continue
		}
		r.seen++
		if r.seen < r.Nth || r.Count > 0 && r.hit >= r.Count {
			continue
		}
		if r.Probability > 0 && f.rng.Float64() >= r.Probability {
			continue
		}
		r.hit++
		out = append(out, r.Fault)
	}
	return out
}

func (f *Fault) matches(c *Call) bool {
	like := func(pattern, s string) bool { return pattern == "" || authz.Like(pattern, s) }
	arn := ""
	if c.Principal != nil {
		arn = c.Principal.ARN
	}
	return like(f.Service, c.Service.Name) && like(f.Action, c.Action) && like(f.Account, string(c.Place.Account)) &&
		like(f.Region, string(c.region)) && like(f.Principal, arn) &&
		(f.Param == "" || slices.ContainsFunc(c.In.Flat(), func(p string) bool { return authz.Like(f.Param, p) }))
}

func (f *Fault) delay() time.Duration { return time.Duration(f.DelayMS) * time.Millisecond }

// refusal is the error a fault gives, nil for none.
func (f *Fault) refusal(c *Call) error {
	switch {
	case f.Throttle:
		return throttled(c)
	case f.Deny:
		return denied(c, c.iamAction(), "", "with an explicit deny in an identity-based policy")
	case f.Code != "" || f.Status != 0:
		status := cmp.Or(f.Status, http.StatusBadRequest)
		return &wire.Error{
			Code:    cmp.Or(f.Code, map[bool]string{true: "InternalError", false: "InvalidRequest"}[status >= 500]),
			Message: cmp.Or(f.Message, "An internal error has occurred"), Status: status,
		}
	}
	return nil
}
