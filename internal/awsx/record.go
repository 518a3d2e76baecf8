package awsx

import (
	"maps"
	"sync"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// CallRecord is one attempt of one call, as it went over the wire. It holds no header, no body and no credential.
type CallRecord struct {
	// Time is when the attempt was sent.
	Time time.Time `json:"time"`
	// Place is the account whose credentials were used, and the region. Its account is empty in the one call that finds
	// out who the caller is.
	Place  fleet.Place `json:"place"`
	Action string      `json:"action"` // "ec2:DescribeInstances"
	// Attempt counts from 1 within a call.
	Attempt int `json:"attempt"`
	// Waited is how long the attempt waited for its tokens, and Duration how long AWS took.
	Waited   time.Duration `json:"waited"`
	Duration time.Duration `json:"duration"`
	// Status is the HTTP status, 0 where no answer came.
	Status int `json:"status"`
	// Code and Class are empty for a success; a permitted dry run has its code DryRunOperation and no class.
	Code      string           `json:"code,omitempty"`
	Class     fleet.ErrorClass `json:"class,omitempty"`
	RequestID string           `json:"request_id,omitempty"`
	Throttled bool             `json:"throttled,omitempty"`
	// Purpose is what For said.
	Purpose string `json:"purpose,omitempty"`
}

// Recorder gets every attempt, when it is over and before the call returns. Call is called from many goroutines, must
// not block for long and must not make AWS calls through the same Edge.
type Recorder interface {
	Call(CallRecord)
}

// RecorderFunc makes a function a Recorder.
type RecorderFunc func(CallRecord)

// Call calls f.
func (f RecorderFunc) Call(r CallRecord) { f(r) }

// Counts are the attempts of an action: all of them, those refused for their rate, and those that failed otherwise.
type Counts struct {
	Calls     int64 `json:"calls"`
	Throttles int64 `json:"throttles"`
	Errors    int64 `json:"errors"`
}

// Stats are the counts since the Edge was made.
type Stats struct {
	Counts
	ByAction map[string]Counts `json:"by_action"`
}

type stats struct {
	mu  sync.Mutex
	all Stats
}

func (s *stats) add(r CallRecord) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all.ByAction == nil {
		s.all.ByAction = map[string]Counts{}
	}
	action := s.all.ByAction[r.Action]
	for _, c := range []*Counts{&s.all.Counts, &action} {
		c.Calls++
		switch {
		case r.Throttled:
			c.Throttles++
		case r.Class != "":
			c.Errors++
		}
	}
	s.all.ByAction[r.Action] = action
}

func (s *stats) snapshot() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.all
	out.ByAction = maps.Clone(s.all.ByAction)
	return out
}
