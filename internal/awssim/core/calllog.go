package core

import (
	"cmp"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// CallRecord is one line of the call log. The log is written while the call still holds its place, so the order of the
// records of one place is the order of their effects.
type CallRecord struct {
	Seq       int64           `json:"seq"` // from 1, without holes
	Time      time.Time       `json:"time"`
	Account   fleet.AccountID `json:"account,omitempty"`
	Region    fleet.Region    `json:"region,omitempty"`
	Principal string          `json:"principal,omitempty"` // the caller's ARN, session name included
	Service   string          `json:"service,omitempty"`
	Action    string          `json:"action,omitempty"`
	// Resources are the ids the call named or made, as far as the handler came.
	Resources []string `json:"resources,omitempty"`
	DryRun    bool     `json:"dry_run,omitempty"`
	Token     string   `json:"client_token,omitempty"`
	// Params are the request's parameters, "Name.1=value"; for describe calls only when few.
	Params    []string `json:"params,omitempty"`
	Status    int      `json:"status"` // 0 when the connection was dropped
	Code      string   `json:"code,omitempty"`
	RequestID string   `json:"request_id"`
	// Mutated tells that state was changed, whatever the caller was told.
	Mutated bool `json:"mutated,omitempty"`
	// Dropped is "before" or "after" the effect when the caller got no answer.
	Dropped string `json:"dropped,omitempty"`
}

type callLog struct {
	mu      sync.Mutex
	limit   int
	seq     int64
	records []CallRecord
}

func (l *callLog) add(r CallRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	r.Seq = l.seq
	if l.limit > 0 && len(l.records) >= 2*l.limit {
		l.records = append(l.records[:0], l.records[len(l.records)-l.limit:]...)
	}
	l.records = append(l.records, r)
}

// since gives the records after seq.
func (l *callLog) since(seq int64) []CallRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	records := l.records
	if l.limit > 0 && len(records) > l.limit {
		records = records[len(records)-l.limit:]
	}
	if len(records) == 0 {
		return nil
	}
	if skip := seq - records[0].Seq + 1; skip > 0 {
		records = records[min(skip, int64(len(records))):]
	}
	return append([]CallRecord(nil), records...)
}

// Calls is the call log, oldest first, as a copy.
func (w *World) Calls() []CallRecord { return w.calls.since(0) }

// CallsSince is the call log after a sequence number.
func (w *World) CallsSince(seq int64) []CallRecord { return w.calls.since(seq) }

// CallCount is how many calls were made, whether or not the log still holds them.
func (w *World) CallCount() int64 {
	w.calls.mu.Lock()
	defer w.calls.mu.Unlock()
	return w.calls.seq
}

// maxDescribeParams bounds what the log keeps of a call that changes nothing.
const maxDescribeParams = 12

func (w *World) record(c *Call, status int, code, dropped string) {
	r := CallRecord{
		Time: c.Now, Region: c.region, Service: c.Service.Name, Action: c.Action, Resources: c.resources,
		Status: status, Code: code, RequestID: c.RequestID, Mutated: c.mutated, Dropped: dropped,
	}
	if c.Place != nil {
		r.Account = c.Place.Account
	}
	if c.Principal != nil {
		r.Principal = c.Principal.ARN
	}
	r.DryRun, _, _ = c.In.Bool("DryRun")
	r.Token = cmp.Or(c.In.Str("ClientToken"), c.In.Str("clientToken"), c.In.Str("clientRequestToken"))
	if flat := c.In.Flat(); c.spec.Mutating || len(flat) <= maxDescribeParams {
		r.Params = flat
	}
	w.calls.add(r)
}
