// Package certify judges from a command's run under a metadata service of ours whether its programs live with IMDSv2 alone, with
// which hop limit, and what they do that will hurt: fallbacks, a token for each request, waiting for an answer that never comes.
//
// It owns the verdict and its reports (text, JSON, JUnit, findings). It runs nothing itself: calls and the command's end are handed in.
//
// A run passes only where the command succeeded, got something with a token, and nothing that it asked for in vain stayed out: a
// call that was refused or lost counts as made good only where the same caller got the same by version 2. It fails where a caller was
// sent away for good, or used version 1 where that was answered, also if the command ended well all the same. What no run shows is
// inconclusive and never a pass: a command that never called, one that failed though nothing was refused, one that was interrupted.
package certify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/imds"
	"github.com/imdsctl/imdsctl/internal/product"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// Verdict is the outcome of a certification.
type Verdict string

// Verdicts, the best first.
const (
	// Passes: it works where only version 2 is answered, at hop limit 1.
	Passes Verdict = "passes"
	// PassesWithHops: it works with a higher hop limit; Report.HopLimit says which.
	PassesWithHops Verdict = "passes-with-hop-limit"
	// Inconclusive: what was seen does not say whether it works.
	Inconclusive Verdict = "inconclusive"
	// Fails: it does not work, and the service's answers, or their absence, are why.
	Fails Verdict = "fails"
)

// Passed tells whether the verdict is one of the good ones.
func (v Verdict) Passed() bool { return v == Passes || v == PassesWithHops }

// Success is what counts as the success of a command.
type Success string

// Successes.
const (
	// SuccessExit: it ends with 0.
	SuccessExit Success = "exit"
	// SuccessCredentials: it was given a role's credentials by version 2, whatever its exit code: those that are made up fail at AWS.
	SuccessCredentials Success = "credentials"
	// SuccessRunning: it is still running when its time is over, as a service should be.
	SuccessRunning Success = "running"
)

// Successes are all of them.
func Successes() []Success { return []Success{SuccessExit, SuccessCredentials, SuccessRunning} }

// Why a command was stopped before it ended by itself.
const (
	StoppedTimeout   = "timeout"
	StoppedInterrupt = "interrupt"
	// StoppedWaiting: it had lost a token and asked for nothing since, and was to be run again with a higher hop limit anyway.
	StoppedWaiting = "waiting"
)

// End is how a command ended.
type End struct {
	ExitCode int    `json:"exit_code"`
	Signal   string `json:"signal,omitempty"`  // that ended it: "killed"
	Stopped  string `json:"stopped,omitempty"` // one of the above; the rest is then what stopping did
}

// String says it in words: "exit code 22".
func (e End) String() string {
	switch {
	case e.Stopped == StoppedTimeout:
		return "still running when its time was over"
	case e.Stopped == StoppedInterrupt:
		return "interrupted"
	case e.Stopped == StoppedWaiting:
		return "stopped while it waited for a token that never comes"
	case e.Signal != "":
		return "ended by signal: " + e.Signal
	}
	return fmt.Sprintf("exit code %d", e.ExitCode)
}

// Call is a request with its answer, and who made it.
type Call struct {
	imds.Call
	// Who is the process at the other end; zero where it could not be told.
	Who tracer.Process `json:"process,omitzero"`
	// Product and ProductVersion are who speaks in the user agent, and Program is the place in Programs of who called. Judge fills
	// them in.
	Product        product.ID `json:"product,omitempty"`
	ProductVersion string     `json:"product_version,omitempty"`
	Program        int        `json:"program"`
}

// Run is one run of the command: under what, when, and what came of it.
type Run struct {
	// V1Allowed: version 1 was answered.
	V1Allowed bool `json:"v1_allowed"`
	// HopLimit is that of the answers to token requests, and Hops is how many routers lie between the command and the service.
	HopLimit int `json:"hop_limit"`
	Hops     int `json:"hops"`
	// Control: it is there to be compared with, with version 1 allowed and the highest hop limit.
	Control bool `json:"control,omitempty"`
	// Endpoint: the service was not at its own address, and the command was sent to it by a variable. Who does not read that is not
	// seen, and hop limits mean nothing.
	Endpoint bool `json:"endpoint,omitempty"`
	// Started and Ended bound the command.
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	End     End       `json:"end"`
	// Calls in any order; Judge sorts them by time.
	Calls []Call `json:"calls"`
	// Notes are for people: what was special about the place that it ran in.
	Notes []string `json:"notes,omitempty"`
}

// Change is what was done to the command's environment, so that it asks the service at all.
type Change struct {
	Name string `json:"name"` // of a variable, or a file
	What string `json:"what"` // "removed", "hidden", "set", "kept, though programs that have it may not ask the service"
}

// Input is what a certification is judged by.
type Input struct {
	// Command is the command line, secrets redacted; Image is the image that it is of, and Name what the certification is called.
	// These two may be empty.
	Command []string
	Image   string
	Name    string
	// Runs are in the order in which they were made. At least one.
	Runs []Run
	// Success is what the command's success is; empty is SuccessExit.
	Success Success
	// TrustSuccess: a command that succeeds did without whatever it was refused.
	TrustSuccess bool
	Environment  []Change
	// Products knows who calls; nil is the table of the program.
	Products *product.Table
}

// Report is a judged certification.
type Report struct {
	Command []string `json:"command"`
	Image   string   `json:"image,omitempty"`
	Name    string   `json:"name,omitempty"`
	Verdict Verdict  `json:"verdict"`
	// HopLimit is, where it passes, the least with which it does.
	HopLimit int `json:"hop_limit,omitempty"`
	// Partial: a pass that rests on less than a namespace of its own: see Run.Endpoint.
	Partial bool `json:"partial,omitempty"`
	// Reason is why, in a sentence without its full stop, and Fix what to do, where there is something.
	Reason string `json:"reason"`
	Fix    string `json:"fix,omitempty"`
	// Decides is the place in Runs of the one that the verdict rests on.
	Decides     int      `json:"decides"`
	Runs        []Judged `json:"runs"`
	Environment []Change `json:"environment,omitempty"`
	Success     Success  `json:"success"`
}

// Judged is a run with what it shows.
type Judged struct {
	Run
	Verdict   Verdict `json:"verdict"`
	Reason    string  `json:"reason"`
	Fix       string  `json:"fix,omitempty"`
	Succeeded bool    `json:"succeeded"`
	// Programs are those that called, in the order of their first calls; Remarks what there is to say, the worst first.
	Programs []Program `json:"programs,omitempty"`
	Remarks  []Remark  `json:"remarks,omitempty"`
	Timing   Timing    `json:"timing"`
}

// Judge judges a certification. The runs stay as they are.
func Judge(in Input) *Report {
	if in.Products == nil {
		in.Products = product.Default()
	}
	in.Success = cmp.Or(in.Success, SuccessExit)
	r := &Report{Command: in.Command, Image: in.Image, Name: in.Name, Environment: in.Environment, Success: in.Success}
	for _, run := range in.Runs {
		r.Runs = append(r.Runs, judgeRun(run, in))
	}
	r.decide()
	return r
}

// decide takes the verdict from the first run that passes, and otherwise from the last one; a control run bears it out or takes it
// back, and never makes it a pass.
func (r *Report) decide() {
	r.Decides = -1
	for i, run := range r.Runs {
		if run.Control {
			continue
		}
		r.Decides = i
		if run.Verdict.Passed() {
			break
		}
	}
	if r.Decides < 0 {
		r.Verdict, r.Reason, r.Decides = Inconclusive, "the command was not run where it would count", 0
		return
	}
	run := &r.Runs[r.Decides]
	r.Verdict, r.Reason, r.Fix = run.Verdict, run.Reason, run.Fix
	if r.Verdict.Passed() {
		r.HopLimit, r.Partial = run.least(), run.Endpoint
		return
	}
	for _, control := range r.Runs {
		if control.Control {
			r.compare(run, control)
		}
	}
}

// compare holds a run that did not pass against one in which version 1 was allowed and answers travelled any distance.
func (r *Report) compare(run *Judged, control Judged) {
	switch {
	case run.Succeeded:
	case !control.Succeeded:
		r.Verdict = Inconclusive
		r.Reason = fmt.Sprintf("the command does not succeed with IMDSv1 allowed and hop limit %d either (%s), so that its failure says nothing",
			control.HopLimit, control.End)
		r.Fix = "Make the command work here first: it may need the network (--outside), a role of a name (--role), or files of its host."
	case r.Verdict == Fails:
		r.Reason += fmt.Sprintf("; with IMDSv1 allowed and hop limit %d it succeeds", control.HopLimit)
	}
}

// least is the least hop limit with which a run that passes would have: a token reaches whoever is no further away than the limit.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
func (j *Judged) least() int {
	if slices.ContainsFunc(j.Calls, issued) {
		return j.Hops + 1
	}
	return 1
}

// judgeRun judges one run by itself.
func judgeRun(run Run, in Input) Judged {
	run.Calls = slices.Clone(run.Calls)
	slices.SortStableFunc(run.Calls, func(a, b Call) int { return a.Time.Compare(b.Time) })
	for i := range run.Calls {
		c := &run.Calls[i]
		if said := in.Products.ParseAgent(c.UserAgent); len(said) > 0 {
			c.Product, c.ProductVersion = said[0].Product, said[0].Version
		}
	}
	j := Judged{Run: run, Succeeded: succeeded(run, in.Success)}
	j.Programs = programsOf(run.Calls, run.Hops, in.Products)
	j.Timing = timing(&run)
	j.Remarks = remarks(&j, in.Products)
	j.conclude(in)
	return j
}

func succeeded(run Run, by Success) bool {
	switch by {
	case SuccessCredentials:
		return slices.ContainsFunc(run.Calls, func(c Call) bool { return c.Credentials && c.Version == imds.V2 && c.Status == 200 })
	case SuccessRunning:
		return run.End.Stopped == StoppedTimeout
	}
	return run.End == End{}
}

// conclude gives the run its verdict.
func (j *Judged) conclude(in Input) {
	problems := problemsOf(j.Remarks)
	switch {
	case len(j.Calls) == 0:
		j.Verdict, j.Reason = Inconclusive, "the command never called the metadata service"
		j.Fix = neverCalled(j.Run, in)
	case j.End.Stopped == StoppedInterrupt:
		j.Verdict, j.Reason = Inconclusive, "the command was interrupted, after "+calls(len(j.Calls))
	case slices.ContainsFunc(j.Calls, answeredV1):
		j.Verdict, j.Reason = Fails, "IMDSv1 was allowed, and used: "+problems[0].Text
		j.Fix = cmp.Or(problems[0].Fix, "Certify with IMDSv1 refused, which tells whether it needs it.")
	case !j.Succeeded && len(problems) > 0:
		j.Verdict, j.Reason, j.Fix = Fails, problems[0].Text, problems[0].Fix
	case !j.Succeeded && in.Success == SuccessRunning && j.End.Stopped == "":
		j.Verdict, j.Reason = Inconclusive, "the command should have run until its time was over, and ended by itself ("+j.End.String()+")"
		j.Fix = "Certify it in the foreground: what it leaves behind when it ends is killed. Or let it succeed by ending: --success exit."
	case !j.Succeeded:
		j.Verdict, j.Reason = Inconclusive, "the command did not succeed ("+j.End.String()+"), and the service refused it nothing"
		j.Fix = nothingRefused(j)
	case len(problems) > 0 && !in.TrustSuccess:
		j.Verdict = Fails
		j.Reason = problems[0].Text + ", and the command succeeded all the same: nothing tells whether it did without"
		j.Fix = strings.TrimSpace(problems[0].Fix + " If the command would not succeed without what it needs, say so with --trust-success.")
	case !slices.ContainsFunc(j.Calls, served) && len(problems) == 0:
		j.Verdict, j.Reason = Inconclusive, "the command got nothing from the metadata service with a token"
	case j.least() > 1:
		j.Verdict, j.Reason = PassesWithHops, j.passing(problems)
		j.Fix = fmt.Sprintf("Give the instances that run it a hop limit of at least %d.", j.least())
	default:
		j.Verdict, j.Reason = Passes, j.passing(problems)
	}
}

// passing is why a run passes.
func (j *Judged) passing(problems []Remark) string {
	v1, n := 0, len(j.Calls)
	for _, c := range j.Calls {
		if c.Version == imds.V1 {
			v1++
		}
	}
	switch {
	case len(problems) > 0:
		return problems[0].Text + ", and the command succeeded without"
	case v1 > 0:
		return fmt.Sprintf("of %s %d by IMDSv1, which it does without", calls(n), v1)
	}
	return calls(n) + ", all by IMDSv2"
}

func neverCalled(run Run, in Input) string {
	fix := "Certify what does call: give a command that needs the instance's credentials or metadata."
	if run.Endpoint {
		fix = "Certify without --endpoint, on Linux: programs that do not read AWS_EC2_METADATA_SERVICE_ENDPOINT are not seen with it."
	}
	for _, c := range in.Environment {
		if strings.HasPrefix(c.What, "kept") {
			return fix + " " + c.Name + " is set: with it many programs do not ask the service."
		}
	}
	return fix
}

// nothingRefused is what to do about a command that failed by itself.
func nothingRefused(j *Judged) string {
	given := slices.ContainsFunc(j.Calls, func(c Call) bool { return c.Credentials })
	if given {
		return "It was given credentials by IMDSv2, which are made up and fail at AWS. If they are all that it needs, certify with --success credentials; " +
			"with --compare a second run tells whether it fails with IMDSv1 as well."
	}
	return "With --compare a second run tells whether it fails with IMDSv1 allowed as well."
}

// calls counts calls in words.
func calls(n int) string { return plural(n, "call") }

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
