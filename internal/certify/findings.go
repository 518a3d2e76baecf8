package certify

import (
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
)

// Origin names the certification, the same for each run of the same command in the same place: a later import replaces the earlier
// one of that name.
func (r *Report) Origin() string {
	what := "-- " + strings.Join(r.Command, " ")
	if r.Image != "" {
		what = "--image " + r.Image + " " + what
	}
	if r.Name != "" {
		what = r.Name
	}
	if slices.ContainsFunc(r.Runs, func(j Judged) bool { return j.Hops > 0 }) {
		what = "--container " + what
	}
	return fit("imdsctl certify " + what)
}

// Findings is the certification as evidence about a subject: what passed, or who was refused. False where it is inconclusive: that is
// no evidence, and must not take the place of any.
func (r *Report) Findings(subject evidence.Subject) (evidence.FileHeader, []evidence.Finding, bool) {
	run := &r.Runs[r.Decides]
	h := evidence.FileHeader{
		Source: evidence.SourceCertify, Made: moment(run.Ended), Origin: r.Origin(), Subject: subject, From: moment(run.Started), To: moment(run.Ended),
		// Who does not read the variable was not seen: what passes this way stands for no boot.
		Sample: run.Endpoint,
	}
	base := evidence.Finding{What: evidence.WhatCertified, HopLimit: r.HopLimit, First: moment(run.Started), Last: moment(run.Ended)}
	var out []evidence.Finding
	switch {
	case r.Verdict.Passed():
		for _, p := range run.Programs {
			out = append(out, about(base, p, p.Title))
		}
	case r.Verdict == Fails:
		base.What = evidence.WhatRefused
		told := map[int]bool{}
		for _, remark := range problemsOf(run.Remarks) {
			if remark.Program >= 0 && !told[remark.Program] {
				told[remark.Program] = true
				out = append(out, about(base, run.Programs[remark.Program], remark.Text))
			}
		}
	default:
		return h, nil, false
	}
	return h, out, true
}

// about is a finding of a program. The product is the one that speaks in the user agent.
func about(base evidence.Finding, p Program, detail string) evidence.Finding {
	base.Product, base.Version, base.Detail = string(p.Product), fit(p.Version), fit(detail)
	return base
}

// moment is a time as findings hold it.
func moment(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// fit shortens a text to what a finding may hold.
func fit(text string) string {
	const most = 2000
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "\uFFFD")
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
