package fleet

import (
	"errors"
	"fmt"
)

// ErrorClass says what a failed AWS call means to imdsctl, whatever its code was. It is decided once, at the AWS edge.
type ErrorClass string

// The classes.
const (
	// ErrDenied: the caller may not. What the call would have shown is unknown, never absent.
	ErrDenied ErrorClass = "denied"
	// ErrThrottled: still throttled after all attempts.
	ErrThrottled ErrorClass = "throttled"
	// ErrGone: the resource no longer exists.
	ErrGone ErrorClass = "gone"
	// ErrConflict: the resource, or a policy above it, is in a state in which AWS refuses the write.
	ErrConflict ErrorClass = "conflict"
	// ErrExpired: the credentials ran out or are not valid.
	ErrExpired ErrorClass = "expired"
	// ErrRegionDisabled: the account has not enabled the region.
	ErrRegionDisabled ErrorClass = "region-disabled"
	// ErrNotOffered: the service has no endpoint in the region. It looks the same from a machine whose network is down.
	ErrNotOffered ErrorClass = "not-offered"
	// ErrTransient: a fault of the service or the network; the effect of a write is unknown.
	ErrTransient ErrorClass = "transient"
	// ErrLate: the time in which the call might be made was over before it was sent (clock.WithEnd). It was not sent, and
	// nothing was changed.
	ErrLate ErrorClass = "late"
	// ErrInterrupted: whoever should have made the call was stopped, or lost its lane, before it told of an answer, and nothing was
	// changed. Whether the call was sent is not known.
	ErrInterrupted ErrorClass = "interrupted"
	// ErrInvalid: AWS refused the request itself.
	ErrInvalid ErrorClass = "invalid"
	// ErrOther: anything else, never taken for success.
	ErrOther ErrorClass = "other"
)

// Unanswered tells a class of calls to which AWS gave no answer, or none that tells anything: calling again may help.
func (c ErrorClass) Unanswered() bool { return c == ErrTransient || c == ErrNotOffered }

// CallError is a failed AWS call with everything a person needs to find it.
type CallError struct {
	Class     ErrorClass
	Place     Place
	Action    string // IAM's name of the call: "ec2:DescribeInstances"
	Code      string // AWS's error code, where there was an answer
	RequestID string
	Err       error
}

func (e *CallError) Error() string {
	s := fmt.Sprintf("%s in %s: %v", e.Action, e.Place, e.Err)
	if e.RequestID != "" {
		s += " (request " + e.RequestID + ")"
	}
	return s
}

func (e *CallError) Unwrap() error { return e.Err }

// ClassOf tells the class of the CallError within err: "" for nil, ErrOther where there is none.
func ClassOf(err error) ErrorClass {
	if err == nil {
		return ""
	}
	if call, ok := errors.AsType[*CallError](err); ok {
		return call.Class
	}
	return ErrOther
}

// Severity grades a diagnostic.
type Severity string

// Severities. An error means that nothing was done; a warning lets the command end with exit code 3.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
	SeverityNote    Severity = "note"
)

// Diagnostic tells a person what is wrong, where, and what to do next. Problems travel as data until a command prints them.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	// Where is a file position ("imdsctl.yaml:12:3"), a place or a resource.
	Where   string `json:"where,omitempty"`
	Summary string `json:"summary"`
	// Remedy says what to do, as an imperative sentence.
	Remedy string `json:"remedy,omitempty"`
}

func (d Diagnostic) Error() string {
	s := d.Summary
	if d.Where != "" {
		s = d.Where + ": " + s
	}
	if d.Remedy != "" {
		s += "\n  → " + d.Remedy
	}
	return s
}
