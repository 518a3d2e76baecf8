package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/product"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// Most callers that are told of one by one, and in tables.
const (
	tracedInFull = 10
	tracedRows   = 30
)

// showTrace prints a summary: the verdict, whom to fix with how they are found, and the rest shortly.
func (s *session) showTrace(out *screen, sum *tracer.Summary) {
	say := func(words string) { fmt.Fprintln(out.out, words) }
	colour := map[tracer.Verdict]style{tracer.VerdictCalls: red, tracer.VerdictClean: green, tracer.VerdictOpen: yellow}[sum.Verdict]
	say(out.paint(colour+bold, out.wrap(plainly(sum.Says()), "")))
	for _, t := range sum.Traces[:min(len(sum.Traces), tracedRows)] {
		say(out.labelled(out.paint(dim, "  trace   "), traceLine(&t)))
	}
	if n := len(sum.Traces) - tracedRows; n > 0 {
		say(fmt.Sprintf("  … and %d more traces (--format json lists them all)", n))
	}
	if sum.Verdict == tracer.VerdictCalls {
		for _, d := range sum.Doubts {
			say(out.labelled(out.paint(yellow, "  doubt   "), plainly(d)+": there may be more callers"))
		}
	}
	for _, n := range sum.Notes {
		say(out.labelled(out.paint(dim, "  note    "), plainly(n)))
	}
	fix, rest := split(sum.Callers)
	s.showFix(out, fix)
	s.showRest(out, rest)
}

// traceLine is one trace: where, how, how long, how much.
func traceLine(t *tracer.Watched) string {
	place := plainly(t.Name())
	if t.Account != "" {
		place += " in " + strings.TrimSpace(string(t.Account)+" "+string(t.Region))
	}
	words := fmt.Sprintf("%s, tier %s, %s to %s, %s of v1, %s of v2", place, t.Tier, t.From.UTC().Format("2006-01-02 15:04:05"),
		t.To.UTC().Format("15:04:05"), count(t.V1), count(t.V2))
	if t.To.Sub(t.From) >= 12*time.Hour {
		words = strings.Replace(words, t.To.UTC().Format("15:04:05"), t.To.UTC().Format("2006-01-02 15:04:05"), 1)
	}
	if t.Unknown > 0 {
		words += fmt.Sprintf(", %s of which it is not known", count(t.Unknown))
	}
	if t.NotHTTP > 0 {
		words += fmt.Sprintf(", %s that were no HTTP", count(t.NotHTTP))
	}
	if t.Parts > 1 {
		words += fmt.Sprintf(", %d parts", t.Parts)
	}
	return words
}

// split sets those about whom something is to be done apart.
func split(callers []tracer.Caller) (fix, rest []tracer.Caller) {
	at := slices.IndexFunc(callers, func(c tracer.Caller) bool { return !c.Fix() })
	if at < 0 {
		return callers, nil
	}
	return callers[:at], callers[at:]
}

// showFix prints those who call version 1, each with what finds them.
func (s *session) showFix(out *screen, fix []tracer.Caller) {
	if len(fix) == 0 {
		return
	}
	fmt.Fprintln(out.out, "\n"+out.paint(bold, "To fix"))
	for i := range fix[:min(len(fix), tracedInFull)] {
		s.showCaller(out, &fix[i])
	}
	if len(fix) <= tracedInFull {
		return
	}
	fmt.Fprintln(out.out)
	s.callerTable(out, fix[tracedInFull:])
}

// showCaller prints one caller to fix.
func (s *session) showCaller(out *screen, c *tracer.Caller) {
	title := fmt.Sprintf("  %s v1", count(c.V1))
	if c.V1 == 0 {
		title = fmt.Sprintf("  %s unclear", count(c.Unknown))
	}
	title = out.paint(red, title) + "  " + out.paint(bold, plainly(c.Program))
	if where := c.Place.String(); where != "" {
		title += "  " + plainly(where)
	}
	fmt.Fprintln(out.out, title)
	fact := func(label, words string) {
		if words != "" {
			fmt.Fprintln(out.out, out.labelled(out.paint(dim, fmt.Sprintf("      %-9s", label)), words))
		}
	}
	fact("software", speaksAs(c))
	var paths []string
	for _, p := range c.Paths[:min(len(c.Paths), 4)] {
		paths = append(paths, fmt.Sprintf("%s (%s)", plainly(strings.TrimSpace(p.Method+" "+p.Path)), count(p.Count)))
	}
	if n := len(c.Paths) - 4; n > 0 {
		paths = append(paths, fmt.Sprintf("%d more", n))
	}
	fact("asks", strings.Join(paths, ", "))
	fact("command", plainly(strings.Join(c.Process.Args, " ")))
	fact("under", parentWords(c.Process.Parents))
	fact("user", userWords(c.Users))
	if c.Place.Container != "" {
		fact("runs in", strings.TrimSpace(c.Place.Runtime+" container "+plainly(c.Place.Container)))
	}
	seen := c.First.UTC().Format("2006-01-02 15:04:05")
	if c.Last.After(c.First) {
		seen += " to " + c.Last.UTC().Format("2006-01-02 15:04:05")
	}
	if also := c.V2; also > 0 {
		seen += fmt.Sprintf("; %s of v2 as well", count(also))
	}
	fact("seen", seen)
	if len(c.Hosts) > 1 || c.MoreHosts {
		fact("hosts", hostWords(c))
	}
}

func hostWords(c *tracer.Caller) string {
	hosts := make([]string, 0, 6)
	for _, h := range c.Hosts[:min(len(c.Hosts), 5)] {
		hosts = append(hosts, plainly(h))
	}
	if n := len(c.Hosts) - len(hosts); n > 0 || c.MoreHosts {
		more := strconv.Itoa(n)
		if c.MoreHosts {
			more = "at least " + strconv.Itoa(n+1)
		}
		hosts = append(hosts, more+" more")
	}
	return strings.Join(hosts, ", ")
}

// speaksAs is what the caller says of itself, and what the table knows of that.
func speaksAs(c *tracer.Caller) string {
	agent := plainly(c.UserAgent)
	p, ok := product.Default().Find(product.ID(c.Product))
	if !ok {
		return cmp.Or(agent, "it does not say (no User-Agent)")
	}
	words := strings.TrimSpace(p.Name + " " + plainly(c.ProductVersion))
	if v := product.Default().Judge(p.ID, c.ProductVersion); v.First != "" && v.Judgement != product.Speaks {
		words += ", IMDSv2 from " + v.First + " on"
	}
	return words + " (" + agent + ")"
}

// parentWords is the line of parents, the nearest first.
func parentWords(parents []tracer.Parent) string {
	var out []string
	for _, p := range parents {
		out = append(out, fmt.Sprintf("%s (%d)", plainly(p.Comm), p.PID))
	}
	return strings.Join(out, " ← ")
}

func userWords(users []int) string {
	var out []string
	for _, u := range users {
		out = append(out, strconv.Itoa(u))
	}
	return strings.Join(out, ", ")
}

// showRest prints those who call version 2 alone.
func (s *session) showRest(out *screen, rest []tracer.Caller) {
	if len(rest) == 0 {
		return
	}
	fmt.Fprintln(out.out, "\n"+out.paint(bold, "No v1 calls"))
	s.callerTable(out, rest)
}

func (s *session) callerTable(out *screen, callers []tracer.Caller) {
	rows := [][]string{}
	for i := range callers[:min(len(callers), tracedRows)] {
		c := &callers[i]
		rows = append(rows, []string{some(c.V1), some(c.V2), plainly(c.Program), plainly(c.Place.String()), softwareName(c.Product, c.ProductVersion, c.UserAgent),
			c.Last.UTC().Format("15:04:05")})
	}
	fmt.Fprint(out.out, out.table([]column{{title: "v1", right: true}, {title: "v2", right: true}, {title: "program", flexible: true, floor: 20},
		{title: "where", flexible: true, floor: 8}, {title: "software", flexible: true, floor: 8}, {title: "last"}}, rows))
	if n := len(callers) - tracedRows; n > 0 {
		fmt.Fprintf(out.out, "… and %d more\n", n)
	}
}

// softwareName is the product with its version, or else the user agent.
func softwareName(name, version, agent string) string {
	return plainly(cmp.Or(strings.TrimSpace(name+" "+version), agent, "·"))
}
