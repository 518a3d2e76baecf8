package certify

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/imds"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// read tells a request for metadata.
func read(c Call) bool { return c.Method == http.MethodGet || c.Method == http.MethodHead }

// answeredV1 tells a request by version 1 that would be refused where only version 2 is answered, and was not.
func answeredV1(c Call) bool {
	return c.Version == imds.V1 && read(c) && c.Status != http.StatusUnauthorized && c.Status != 0 && c.Status != http.StatusForbidden
}

// refusedV1 tells one that was.
func refusedV1(c Call) bool {
	return c.Version == imds.V1 && read(c) && c.Status == http.StatusUnauthorized
}

// issued tells a request that was answered with a token, whether that arrived or not.
func issued(c Call) bool {
	return c.Method == http.MethodPut && c.Status == http.StatusOK && c.TokenID != ""
}

// lost tells a token that did not arrive: it dies at the router that its hop limit counts down to nothing.
func lost(c Call, hops int) bool { return issued(c) && c.HopLimit > 0 && c.HopLimit <= hops }

// LostTokens tells whether tokens of the run did not arrive, and whoever asked got none that did: with a higher hop limit it may pass.
func (j *Judged) LostTokens() bool {
	return slices.ContainsFunc(j.Remarks, func(r Remark) bool { return r.Rule == RuleTokenLost && r.Severity == Problem })
}

// Waiting tells whether the last of a run's calls asked for a token that did not arrive, and when that was: a client that sets itself
// no limit waits for it until its connection is given up, which takes minutes.
func Waiting(calls []Call, hops int) (since time.Time, waiting bool) {
	for _, c := range calls {
		if !c.Time.Before(since) {
			since, waiting = c.Time, lost(c, hops)
		}
	}
	return since, waiting
}

// served tells a request that was answered because of its token, be it that there is nothing of that name.
func served(c Call) bool {
	return c.Version == imds.V2 && read(c) && c.TokenID != "" && (c.Status == http.StatusOK || c.Status == http.StatusNotFound)
}

// vain tells a request that did not do what it was for, because of its protocol. What is not there, for any version, is no such thing.
func vain(c Call, hops int) bool {
	switch {
	case lost(c, hops) || c.Status == 0:
		return true
	case c.Method == http.MethodPut:
		return c.Status != http.StatusOK
	case read(c):
		return c.Status == http.StatusUnauthorized || c.Status == http.StatusForbidden || c.Status == http.StatusExpectationFailed
	}
	return false
}

// madeGood tells whether the caller of a request in vain got what it wanted by version 2: a token that was used, or the same metadata. What
// it got before its token was refused does not help it after that. Of two SDKs in one process each is a caller of its own.
// given are the calls of the run that were served.
func madeGood(c Call, given []Call, hops int) bool {
	return slices.ContainsFunc(given, func(d Call) bool {
		switch {
		case !sameCaller(c, d) || c.Program != d.Program:
			return false
		case c.Method == http.MethodPut:
			return d.Time.After(c.Time) || d.TokenID == c.TokenID && !lost(c, hops)
		case c.Version == imds.V2 && !d.Time.After(c.Time):
			return false
		}
		return gives(d, c.Path)
	})
}

// gives tells whether an answered call got what stands at a path, or something below it, or learned that nothing stands there.
func gives(c Call, path string) bool {
	have, want := pathOf(c.Path), pathOf(path)
	if c.Status == http.StatusNotFound {
		return have == want
	}
	if c.Credentials && strings.HasPrefix(want, "meta-data/iam/security-credentials") {
		return true
	}
	return have == want || want == "" || strings.HasPrefix(have, want+"/")
}

// pathOf is a path without its version, which is "latest" or a date, and without slashes around it.
func pathOf(path string) string {
	_, rest, _ := strings.Cut(strings.Trim(path, "/"), "/")
	return strings.Trim(rest, "/")
}

// sameCaller tells whether two calls are of one program at work: one process, or one program that the same parent started again, as a
// script does with curl. Callers that nobody knows are told apart by what they call themselves.
func sameCaller(a, b Call) bool {
	x, y := a.Who, b.Who
	if x.PID == 0 || y.PID == 0 {
		return x.PID == y.PID && a.UserAgent == b.UserAgent
	}
	if x.PID == y.PID {
		return true
	}
	if x.Exe != y.Exe {
		return false
	}
	for _, a := range near(x) {
		for _, b := range near(y) {
			if a.PID == b.PID {
				return true
			}
		}
	}
	return false
}

// near is the parent of a process, and that one's where both are the same program: a shell that forks for a pipe.
func near(p tracer.Process) []tracer.Parent {
	if len(p.Parents) > 1 && p.Parents[0].Comm == p.Parents[1].Comm {
		return p.Parents[:2]
	}
	return p.Parents[:min(1, len(p.Parents))]
}

// Timing is where the time of a run went.
type Timing struct {
	// First is when, after the command's start, it called first; Credentials how long after that it was given a role's credentials.
	// Both are nil where it never did, or was not.
	First       *time.Duration `json:"first_call_ns,omitempty"`
	Credentials *time.Duration `json:"credentials_ns,omitempty"`
	// Waited is the time from requests whose answers were lost to what their callers did next, or to the command's end.
	Waited time.Duration `json:"waited_ns,omitempty"`
	// Retries are requests that their callers made again after they were in vain.
	Retries int `json:"retries,omitempty"`
}

// timing measures a run, whose calls are sorted.
func timing(run *Run) Timing {
	var t Timing
	var busy time.Time // until when lost answers have been waited for
	for i, c := range run.Calls {
		if t.First == nil {
			t.First = new(c.Time.Sub(run.Started))
		}
		if c.Credentials && t.Credentials == nil {
			t.Credentials = new(c.Time.Sub(run.Calls[0].Time))
		}
		if !vain(c, run.Hops) {
			continue
		}
		next := nextOf(run.Calls, i)
		if next >= 0 && run.Calls[next].Method == c.Method && run.Calls[next].Path == c.Path {
			t.Retries++
		}
		if !lost(c, run.Hops) {
			continue
		}
		until := run.Ended
		if next >= 0 {
			until = run.Calls[next].Time
		}
		from := c.Time
		if busy.After(from) {
			from = busy
		}
		if until.After(from) {
			t.Waited, busy = t.Waited+until.Sub(from), until
		}
	}
	return t
}

// nextOf is the place of the caller's next request, or -1.
func nextOf(all []Call, at int) int {
	for i := at + 1; i < len(all); i++ {
		if sameCaller(all[at], all[i]) {
			return i
		}
	}
	return -1
}
