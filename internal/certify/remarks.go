package certify

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/imds"
	"github.com/imdsctl/imdsctl/internal/product"
)

// Rule names what a remark is about.
type Rule string

// Rules, in the order in which remarks of one severity stand.
const (
	RuleV1Answered      Rule = "v1-answered"       // a call by version 1 that would have been refused, had that not been allowed
	RuleTokenLost       Rule = "token-lost"        // a token that died on its way
	RuleTokenRefused    Rule = "token-refused"     // a token request with an error
	RuleV1Refused       Rule = "v1-refused"        // a call by version 1
	RuleTokenInvalid    Rule = "token-invalid"     // a request with a token that is none, or no more
	RuleClosed          Rule = "closed"            // a connection that was closed without an answer, or a request that nothing answers
	RuleFallback        Rule = "fallback"          // version 1 after version 2 had failed
	RuleTokenPerRequest Rule = "token-per-request" // no token was used twice
	RuleTokenTTL        Rule = "token-ttl"         // tokens that live for less than a minute
	RuleTimeLost        Rule = "time-lost"         // waiting for answers that never come
	RuleMissing         Rule = "missing"           // what is not there
	RuleUnnamed         Rule = "unnamed"           // callers that could not be told
)

// Severity is how much a remark weighs.
type Severity string

// Severities, the worst first.
const (
	// Problem: something was asked for in vain, and nothing shows that it was got otherwise. It keeps a run from passing.
	Problem Severity = "problem"
	// Warning: it hurts, and does not keep it from working.
	Warning Severity = "warning"
	// Note: a reader should know.
	Note Severity = "note"
)

// Remark is something that a run shows about a program.
type Remark struct {
	Rule     Rule     `json:"rule"`
	Severity Severity `json:"severity"`
	// Program is the place in Programs of whom it is about; -1 where it is about nobody alone.
	Program int `json:"program"`
	// Text is a sentence without its full stop; Fix is what to do, in whole sentences.
	Text string `json:"text"`
	Fix  string `json:"fix,omitempty"`
	// Calls is how many calls it is about.
	Calls int `json:"calls,omitempty"`
}

// problemsOf are the remarks that keep a run from passing.
func problemsOf(all []Remark) (out []Remark) {
	for _, r := range all {
		if r.Severity == Problem {
			out = append(out, r)
		}
	}
	return out
}

// shortTTL is how long a token should live at least, in seconds: SDKs ask for five minutes to six hours.
const shortTTL = 60

// observer makes the remarks of one run.
type observer struct {
	run   *Judged
	table *product.Table
	given []Call // those of the run's calls that were served
	out   []Remark
}

// remarks says what a run shows, the worst first.
func remarks(j *Judged, table *product.Table) []Remark {
	o := &observer{run: j, table: table}
	for _, c := range j.Calls {
		if served(c) {
			o.given = append(o.given, c)
		}
	}
	for i := range j.Programs {
		mine := o.callsOf(i)
		o.vain(i, mine)
		o.fallbacks(i, mine)
		o.tokens(i, mine)
		o.missing(i, mine)
	}
	o.waited()
	o.unnamed()
	rank := func(s Severity) int { return slices.Index([]Severity{Problem, Warning, Note}, s) }
	order := []Rule{RuleV1Answered, RuleTokenLost, RuleTokenRefused, RuleV1Refused, RuleTokenInvalid, RuleClosed, RuleFallback,
		RuleTokenPerRequest, RuleTokenTTL, RuleTimeLost, RuleMissing, RuleUnnamed}
	slices.SortStableFunc(o.out, func(a, b Remark) int {
		return cmp.Or(rank(a.Severity)-rank(b.Severity), slices.Index(order, a.Rule)-slices.Index(order, b.Rule))
	})
	return o.out
}

// callsOf are the places of the calls of a program.
func (o *observer) callsOf(program int) (at []int) {
	for i, c := range o.run.Calls {
		if c.Program == program {
			at = append(at, i)
		}
	}
	return at
}

func (o *observer) add(rule Rule, severity Severity, program, n int, fix, format string, args ...any) {
	o.out = append(o.out, Remark{rule, severity, program, fmt.Sprintf(format, args...), fix, n})
}

// vain remarks on what a program asked for in vain, rule by rule: what was made good apart from what was not.
func (o *observer) vain(program int, mine []int) {
	type kind struct {
		rule Rule
		good bool
	}
	groups := map[kind][]Call{}
	var order []kind
	for _, i := range mine {
		c := o.run.Calls[i]
		k := kind{}
		switch {
		case answeredV1(c):
			k.rule = RuleV1Answered
		case !vain(c, o.run.Hops):
			continue
		default:
			k = kind{ruleOf(c, o.run.Hops), madeGood(c, o.given, o.run.Hops)}
		}
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], c)
	}
	for _, k := range order {
		severity, and := Problem, ""
		if k.good {
			severity, and = Warning, ", and got it by IMDSv2"
		}
		text, fix := o.say(k.rule, &o.run.Programs[program], groups[k])
		o.add(k.rule, severity, program, len(groups[k]), fix, "%s%s", text, and)
	}
}

// ruleOf is the rule that a request in vain falls under.
func ruleOf(c Call, hops int) Rule {
	switch {
	case lost(c, hops):
		return RuleTokenLost
	case c.Status == 0 || c.Status == http.StatusForbidden && c.Method != http.MethodPut:
		return RuleClosed
	case c.Method == http.MethodPut:
		return RuleTokenRefused
	case c.Version == imds.V1:
		return RuleV1Refused
	}
	return RuleTokenInvalid
}

// say puts calls in vain of one rule into words, with what to do.
func (o *observer) say(rule Rule, p *Program, of []Call) (text, fix string) {
	switch rule {
	case RuleV1Answered:
		return fmt.Sprintf("%s asked by IMDSv1 for %s", p.Title, pathsOf(of)), o.fix(p)
	case RuleTokenLost:
		needed := o.run.Hops + 1
		return fmt.Sprintf("%s for %s did not arrive: the hop limit is %d, and %s between it and the service", plural(len(of), "token"), p.Title,
				of[0].HopLimit, routers(o.run.Hops)),
			fmt.Sprintf("Give the instances that run it a hop limit of %d, or let it run in the host's network.", needed)
	case RuleTokenRefused:
		return fmt.Sprintf("%s asked for a token and was refused with %d: %s", p.Title, of[0].Status, of[0].Why), tokenFix(of[0])
	case RuleTokenInvalid:
		return fmt.Sprintf("%s asked by IMDSv2 for %s and was refused with %d: %s", p.Title, pathsOf(of), of[0].Status, of[0].Why),
			"Have it send the token that it was given, and ask for another one before that expires."
	case RuleClosed:
		return fmt.Sprintf("%s asked for %s and got no answer that helps: %s", p.Title, pathsOf(of),
			cmp.Or(of[0].Why, "the connection was closed")), "See which options the instance has: --state, --instance and --ipv6."
	}
	return fmt.Sprintf("%s asked by IMDSv1 for %s and was refused", p.Title, pathsOf(of)), o.fix(p)
}

func routers(n int) string {
	if n == 1 {
		return "a router is"
	}
	return plural(n, "router") + " are"
}

// tokenFix is what to do about a token request that is answered with an error.
func tokenFix(c Call) string {
	switch {
	case c.Forwarded:
		return "It reaches the service through a proxy: except 169.254.169.254 from it (NO_PROXY)."
	case c.Status == http.StatusBadRequest:
		return "Send the header X-aws-ec2-metadata-token-ttl-seconds with a number from 1 to 21600."
	case c.Status == http.StatusExpectationFailed:
		return "Send the request without a body, and without the header Expect."
	}
	return "Send PUT /latest/api/token with the header X-aws-ec2-metadata-token-ttl-seconds."
}

// fix is what to do about a program that calls by version 1, as far as the table of products knows.
func (o *observer) fix(p *Program) string {
	known, _ := o.table.Find(p.Decides.Product)
	if known.Raw || known.ID == "" {
		return cmp.Or(known.Fix, "Have it ask for a token first: PUT /latest/api/token.")
	}
	name := strings.TrimSpace(known.Name + " " + p.Decides.Version)
	switch v := p.Table; v.Judgement {
	case product.Old:
		return strings.TrimSpace(fmt.Sprintf("%s knows IMDSv1 alone%s. %s", name, first(v), v.Fix))
	case product.NoFix:
		return strings.TrimSpace("No version of " + known.Name + " asks for tokens. " + v.Fix)
	case product.Able:
		return strings.TrimSpace(fmt.Sprintf("%s can ask for tokens, and has to be told%s. %s", name, first(v), v.Fix))
	case product.Speaks:
		return name + " asks for tokens, and falls back to IMDSv1 where it gets none: see why it got none."
	}
	return cmp.Or(known.Fix, "Which version of "+known.Name+" asks for tokens first is not known: ask who makes it.")
}

func first(v product.Verdict) string {
	if v.First == "" {
		return ""
	}
	return "; " + v.First + " is the first version that asks for tokens by itself"
}

// mostPaths is how many paths a sentence names.
const mostPaths = 2

// pathsOf names what was asked for.
func pathsOf(of []Call) string {
	var paths []string
	for _, c := range of {
		if !slices.Contains(paths, c.Path) {
			paths = append(paths, c.Path)
		}
	}
	text := strings.Join(paths[:min(mostPaths, len(paths))], " and ")
	if n := len(paths) - mostPaths; n > 0 {
		text = strings.Join(paths[:mostPaths], ", ") + fmt.Sprintf(" and %d more", n)
	}
	if len(of) > len(paths) {
		text += fmt.Sprintf(" (%s)", calls(len(of)))
	}
	return text
}

// fallbacks remarks where a caller went on by version 1 after version 2 had failed it.
func (o *observer) fallbacks(program int, mine []int) {
	n := 0
	var how string
	for at, i := range mine {
		c := o.run.Calls[i]
		if c.Version != imds.V1 || !read(c) {
			continue
		}
		before := -1
		for _, k := range slices.Backward(mine[:at]) {
			if sameCaller(o.run.Calls[k], c) {
				before = k
				break
			}
		}
		if before < 0 || o.run.Calls[before].Version != imds.V2 || !vain(o.run.Calls[before], o.run.Hops) {
			continue
		}
		if n++; n == 1 {
			how = failure(o.run.Calls[before], o.run.Hops, c.Time.Sub(o.run.Calls[before].Time))
		}
	}
	if n > 0 {
		o.add(RuleFallback, Warning, program, n, "", "%s fell back to IMDSv1 %s", o.run.Programs[program].Title, how)
	}
}

// failure says when a fallback came, and after what.
func failure(c Call, hops int, gap time.Duration) string {
	switch {
	case lost(c, hops):
		return fmt.Sprintf("after it had waited %s for its token", length(gap))
	case c.Method == http.MethodPut:
		return fmt.Sprintf("after its token request was refused with %d", c.Status)
	}
	return fmt.Sprintf("after its token was refused with %d", c.Status)
}

// tokens remarks on how a program handles its tokens.
func (o *observer) tokens(program int, mine []int) {
	title := o.run.Programs[program].Title
	uses, given, short, least := map[string]int{}, 0, 0, 0
	with := 0
	for _, i := range mine {
		switch c := o.run.Calls[i]; {
		case issued(c) && !lost(c, o.run.Hops):
			given++
			if c.TTL < shortTTL {
				if short++; short == 1 || c.TTL < least {
					least = c.TTL
				}
			}
		case served(c):
			uses[c.TokenID]++
			with++
		}
	}
	if given > 1 && with > 1 && len(uses) == with {
		o.add(RuleTokenPerRequest, Warning, program, given, "Have it keep its token and use it until it expires; the service limits how often it is asked.",
			"%s asked for a token for each request: %s for %s", title, plural(given, "token"), plural(with, "request"))
	}
	if short > 0 {
		o.add(RuleTokenTTL, Warning, program, short, "Ask for a longer life, up to 21600 seconds, and use the token again.",
			"%s asked for %s of %s", title, plural(short, "token"), plural(least, "second"))
	}
}

// missing notes what is not there, for any version.
func (o *observer) missing(program int, mine []int) {
	var none []Call
	role := false
	for _, i := range mine {
		c := o.run.Calls[i]
		if !read(c) || c.Status != http.StatusNotFound {
			continue
		}
		none = append(none, c)
		role = role || strings.Contains(c.Path, "/iam/")
	}
	if len(none) == 0 {
		return
	}
	fix := ""
	if role {
		fix = "Where the instance should have a role, name it with --role."
	}
	o.add(RuleMissing, Note, program, len(none), fix, "%s asked for %s, which this instance does not have", o.run.Programs[program].Title, pathsOf(none))
}

// waited remarks on the time that lost answers took.
func (o *observer) waited() {
	if t := o.run.Timing; t.Waited > 0 {
		again := ""
		if t.Retries > 0 {
			again = ", " + plural(t.Retries, "request") + " made again"
		}
		o.add(RuleTimeLost, Warning, -1, 0, "", "%s went by waiting for tokens that never came%s", length(t.Waited), again)
	}
}

// unnamed notes calls of nobody.
func (o *observer) unnamed() {
	n := 0
	for _, c := range o.run.Calls {
		if c.Who.PID == 0 {
			n++
		}
	}
	if n > 0 {
		o.add(RuleUnnamed, Note, -1, n, "", "it could not be told who made %s", calls(n))
	}
}

// length is a duration as people say it.
func length(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
