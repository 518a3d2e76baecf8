package product

import (
	"regexp"
	"slices"
	"strings"
)

// longest is how much of a user agent is read, in bytes. CloudTrail cuts what is longer than 1 kB:
// https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html
const longest = 4096

// IDService is the product of AWS services that call for somebody.
const IDService ID = "aws-service"

// internal is what CloudTrail writes for calls that AWS makes within itself.
const internal = "AWS Internal"

// ParseAgent gives the products that a user agent names: who speaks first (tools, command lines, agents), then the SDKs below it,
// each SDK before the one it calls through. What the table does not know is left out; nil where nothing is known.
func (t *Table) ParseAgent(userAgent string) []Mention {
	if strings.EqualFold(strings.Trim(userAgent, "[] "), internal) {
		return []Mention{{Product: IDService, Token: internal}}
	}
	var out []Mention
	for _, w := range words(userAgent) {
		m, ok := t.mention(w)
		if ok && !slices.ContainsFunc(out, func(o Mention) bool { return o.Product == m.Product && o.Version == m.Version }) {
			out = append(out, m)
		}
	}
	if cooked := slices.DeleteFunc(slices.Clone(out), t.raw); len(cooked) > 0 {
		out = cooked
	}
	slices.SortStableFunc(out, func(a, b Mention) int { return t.depth(a.Product) - t.depth(b.Product) })
	return out
}

func (t *Table) raw(m Mention) bool {
	p, _ := t.Find(m.Product)
	return p.Raw
}

// depth says how far below whoever speaks a product stands.
func (t *Table) depth(id ID) int {
	p, _ := t.Find(id)
	switch {
	case p.Class != ClassSDK:
		return 0
	case len(p.Through) > 0:
		return 1
	}
	return 2
}

// JudgeAgent says of everybody that a user agent mentions whose version decides, and what the table says of it. Where AWS calls for
// somebody, the SDK is AWS's and decides nothing. A product that calls through an SDK which is mentioned with its version is not
// asked; of the others the worst that is known holds. False where there is nobody.
func (t *Table) JudgeAgent(mentions []Mention) (Mention, Verdict, bool) {
	var (
		worst Mention
		found Verdict
		named bool
	)
	for _, m := range mentions {
		p, ok := t.Find(m.Product)
		if p.Class == ClassService {
			return m, judge(&p, ""), true
		}
		if !ok || slices.ContainsFunc(mentions, func(o Mention) bool { return slices.Contains(p.Through, o.Product) && o.Version != "" }) {
			continue
		}
		v := judge(&p, m.Version)
		if !named || severity(v.Judgement) > severity(found.Judgement) {
			worst, found, named = m, v, true
		}
	}
	return worst, found, named
}

// severity orders judgements by how much they decide: what is not known decides only where nothing else is, because the SDK that
// made a call is known by its version, and what stands beside it in the user agent need not be.
func severity(j Judgement) int {
	return slices.Index([]Judgement{Unclear, Speaks, Able, Old, NoFix}, j)
}

// word is a piece of a user agent: a name and a version.
type word struct{ text, name, version string }

// words takes a user agent apart. Brackets that CloudTrail puts around it, commas between agents and comments in parentheses are
// dropped; "md/Botocore#1.31.2" is the pair Botocore, 1.31.2.
func words(agent string) (out []word) {
	depth := 0
	start := -1
	flush := func(end int) {
		if start >= 0 && end > start {
			out = append(out, split(agent[start:end]))
		}
		start = -1
	}
	agent = agent[:min(len(agent), longest)]
	for i := range len(agent) {
		switch c := agent[i]; {
		case c == '(':
			flush(i)
			depth++
		case c == ')':
			depth = max(depth-1, 0)
		case depth > 0:
		case c == ' ' || c == '\t' || c == ',' || c == ';' || c == '[' || c == ']':
			flush(i)
		case start < 0:
			start = i
		}
	}
	flush(len(agent))
	return out
}

// split divides a word into name and version. In the new format what the pair is stands before it: only metadata and libraries name
// software, and the rest ("api/ec2#1.50.0", "os/linux#5.10", "lang/go#1.21", "cfg/retry-mode#standard") names none that calls.
func split(text string) word {
	w := word{text: text}
	name, version, ok := strings.Cut(text, "/")
	switch {
	case !ok:
		w.name = text
	case strings.Contains(version, "#"):
		if name == "md" || name == "lib" || name == "app" {
			w.name, w.version, _ = strings.Cut(version, "#")
		}
	case name == "app":
		w.name = version
	default:
		w.name, w.version = name, version
	}
	return w
}

// mention finds the product of a word.
func (t *Table) mention(w word) (Mention, bool) {
	name := strings.ToLower(w.name)
	if name == "" {
		return Mention{}, false
	}
	for _, a := range t.agents[name] {
		if a.means(w.version) {
			return Mention{a.product, readable(w.version), w.text}, true
		}
	}
	for _, a := range t.prefixes {
		if strings.HasPrefix(name, a.Token) && a.means(w.version) {
			return Mention{a.product, readable(w.version), w.text}, true
		}
	}
	if _, known := t.Find(IDService); known && w.version == "" && service(name) {
		return Mention{IDService, "", w.text}, true
	}
	return Mention{}, false
}

// service tells the domain name by which a service calls: autoscaling.amazonaws.com.
func service(name string) bool {
	return strings.HasSuffix(name, ".amazonaws.com") || strings.HasSuffix(name, ".amazonaws.com.cn") || strings.HasSuffix(name, ".aws.internal")
}

// versionAt is a version at the beginning of a text: the documentation of AWS prints user agents without their spaces as well.
var versionAt = regexp.MustCompile(`^[vV]?\d[0-9a-z.+~_-]*`)

// readable is the version at the beginning of what follows a name, or nothing where there is none.
func readable(v string) string {
	v = strings.TrimRight(versionAt.FindString(v), ".-_+~")
	if _, ok := parseVersion(v); !ok {
		return ""
	}
	return v
}

func (a Agent) means(text string) bool {
	v, ok := parseVersion(text)
	if !ok {
		return a.From == ""
	}
	return (a.From == "" || !before(v, a.From)) && (a.Below == "" || before(v, a.Below))
}
