package certify

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// The form that Jenkins, GitLab and GitHub's actions read: https://github.com/testmoapp/junitxml
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Time       string          `xml:"time,attr"`
	Timestamp  string          `xml:"timestamp,attr"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitProblem `xml:"failure"`
	Error   *junitProblem `xml:"error"`
	Out     *junitText    `xml:"system-out"`
}

type junitProblem struct {
	Type    string `xml:"type,attr"`
	Message string `xml:"message,attr"`
	Text    string `xml:",cdata"`
}

type junitText struct {
	Text string `xml:",cdata"`
}

// output is the text of a test case; nil where there is none.
func output(text string) *junitText {
	if text == "" {
		return nil
	}
	return &junitText{legal(text)}
}

// legal is text without what XML cannot hold: https://www.w3.org/TR/xml/#charsets
func legal(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n', r >= ' ' && r <= 0xD7FF, r >= 0xE000 && r <= 0xFFFD, r >= 0x10000:
			return r
		}
		return 0xFFFD
	}, text)
}

// JUnit writes the report for CI systems: one test case for the command, which fails or, where the verdict is inconclusive, is in
// error, and one for each program that called. allowed is the highest hop limit that the instances have: a pass that needs more fails.
func (r *Report) JUnit(w io.Writer, allowed int) error {
	run := &r.Runs[r.Decides]
	suite := junitSuite{
		Name: r.Origin(), Time: seconds(r.length()), Timestamp: r.Runs[0].Started.UTC().Format("2006-01-02T15:04:05"),
		Properties: []junitProperty{{"verdict", string(r.Verdict)}, {"hop_limit", fmt.Sprint(r.HopLimit)}, {"command", run.End.String()}},
	}
	whole := junitCase{Class: "imdsctl.certify", Name: "the command works with IMDSv2 alone", Time: seconds(r.length()), Out: output(r.plain())}
	problem := &junitProblem{Type: string(r.Verdict), Message: r.Reason, Text: legal(r.Fix)}
	switch {
	case r.Verdict == Fails:
		whole.Failure = problem
	case r.Verdict == Inconclusive:
		whole.Error = problem
	case !r.Accepted(allowed):
		problem.Message = fmt.Sprintf("it passes with hop limit %d, and %d is allowed", r.HopLimit, allowed)
		whole.Failure = problem
	}
	suite.Cases = append(suite.Cases, whole)
	for i, p := range run.Programs {
		suite.Cases = append(suite.Cases, programCase(run, i, p))
	}
	for _, c := range suite.Cases {
		suite.Tests++
		if c.Failure != nil {
			suite.Failures++
		}
		if c.Error != nil {
			suite.Errors++
		}
	}
	all := junitSuites{Name: "imdsctl certify", Tests: suite.Tests, Failures: suite.Failures, Errors: suite.Errors, Time: suite.Time,
		Suites: []junitSuite{suite}}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return fmt.Errorf("write JUnit: %w", err)
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return fmt.Errorf("write JUnit: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// programCase is the test case of a program: it fails for what the program asked for in vain. In a run that passes all the same it
// does not, and what there is to say stands in its output.
func programCase(run *Judged, i int, p Program) junitCase {
	c := junitCase{Class: "imdsctl.certify.program", Name: p.Title, Time: "0.000"}
	var said, wrong []string
	var worst *Remark
	for _, r := range run.Remarks {
		if r.Program != i {
			continue
		}
		line := r.Text
		if r.Fix != "" {
			line += ". " + r.Fix
		}
		if r.Severity == Problem && !run.Verdict.Passed() {
			if wrong = append(wrong, line); worst == nil {
				worst = &r
			}
			continue
		}
		said = append(said, string(r.Severity)+": "+line)
	}
	if worst != nil {
		c.Failure = &junitProblem{Type: string(worst.Rule), Message: worst.Text, Text: legal(strings.Join(wrong, "\n"))}
	}
	c.Out = output(strings.Join(said, "\n"))
	return c
}

// length is the time from the first run's start to the last one's end.
func (r *Report) length() time.Duration { return r.Runs[len(r.Runs)-1].Ended.Sub(r.Runs[0].Started) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

// plain is the report as text, for test reports.
func (r *Report) plain() string {
	var b strings.Builder
	// A builder never fails.
	_ = r.Text(&b, TextOptions{})
	return b.String()
}

// Accepted tells whether the certification passes on instances with that hop limit.
func (r *Report) Accepted(hopLimit int) bool {
	return r.Verdict.Passed() && r.HopLimit <= max(hopLimit, 1)
}
