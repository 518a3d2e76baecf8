package software

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/image"
)

// Rule says how a line reaches the metadata service.
type Rule string

// Rules.
const (
	// RuleClient: a command or a call asks the service, without a token.
	RuleClient Rule = "call"
	// RuleVariable: the same through a variable that holds the address.
	RuleVariable Rule = "variable"
	// RuleAddress: the address of a document of the service stands there, and nothing in the file asks for a token.
	RuleAddress Rule = "address"
	// RuleHelper: a program of the distribution is called that asks without a token in its older versions.
	RuleHelper Rule = "helper"
)

// fixes say what to do, by rule.
var fixes = map[Rule]string{
	RuleClient: "Ask for a token first: TOKEN=$(curl -sX PUT http://169.254.169.254/latest/api/token -H " +
		"'X-aws-ec2-metadata-token-ttl-seconds: 21600'), and send it with each request: -H \"X-aws-ec2-metadata-token: $TOKEN\".",
	RuleVariable: "Ask for a token with PUT /latest/api/token, and send it in the header X-aws-ec2-metadata-token with the request.",
	RuleAddress:  "Let the SDK's metadata client ask, or ask for a token with PUT /latest/api/token and send it in X-aws-ec2-metadata-token.",
	RuleHelper: "Update it (Amazon Linux: ec2-utils; Ubuntu: cloud-guest-utils), see that its source asks for a token, or ask the " +
		"service yourself.",
}

// suppression is what a comment holds on a line, or the line above it, that is known and wanted.
const suppression = "imdsctl:ignore"

// near is how many lines away a token still belongs to a call.
const near = 12

// needles are what a file must hold to be looked at closely: the service's addresses and names, and the IPv4 address in base64 at
// each of the three places where it may begin in a group.
var needles = append([][]byte{
	[]byte("169.254.169.254"), []byte("fd00:ec2::254"), []byte("FD00:EC2::254"), []byte("http://instance-data"), []byte("ec2-metadata"),
	[]byte("ec2metadata"),
}, encoded("169.254.169.254")...)

// encoded gives what base64 makes of a text, at each of its alignments, without the characters that depend on what is around it.
func encoded(text string) [][]byte {
	var out [][]byte
	for before := range 3 {
		whole := base64.StdEncoding.EncodeToString(append(make([]byte, before), text...))
		from, to := (before*8+5)/6, (before+len(text))*8/6
		out = append(out, []byte(whole[from:to]))
	}
	return out
}

// text lints a file that holds one of the needles; first is its first part. Files of any size are searched; of those that are too
// large to be read whole it is said that they were not.
func (l *level) text(f *opened, name string, info fs.FileInfo, first []byte) {
	wide := bytes.HasPrefix(first, []byte("\xff\xfe")) || bytes.HasPrefix(first, []byte("\xfe\xff"))
	hit := wide || holds(first, needles) || info.Size() <= maxPacked && mayBePacked(name) && holds(first, packed)
	if !hit && info.Size() > chunk {
		err := l.s.search(f, chunk-overlap, info.Size(), needles, func([]byte) bool { hit = true; return false })
		if err != nil {
			l.gap(name, "it cannot be read: "+image.Reason(err))
			return
		}
	}
	if !hit || ownedBySDK(l.full(name)) {
		return
	}
	data, ok := l.whole(name, info)
	if !ok {
		return
	}
	data = plain(data)
	if bytes.IndexByte(data, 0) >= 0 {
		return // data, after all
	}
	if slices.Contains(helperNames, path.Base(name)) {
		l.s.helpers.seen(path.Base(name), tokenAware.Match(data))
	}
	for _, f := range Lint(name, data) {
		r := Raw{Path: l.full(name), Line: f.Line, Rule: f.Rule, Fix: f.Fix}
		if r.Rule == RuleHelper {
			l.s.helpers.calls = append(l.s.helpers.calls, helperCall{r, f.helper})
			continue
		}
		l.s.raw(r)
	}
}

// packed are how compressed data begins in base64, and what says that there is base64, which may be folded within the address.
var packed = [][]byte{[]byte("H4sI"), []byte("base64"), []byte("b64"), []byte("!!binary")}

// maxPacked bounds files that are searched for user data in these forms, in bytes.
const maxPacked = 1 << 20

// mayBePacked tells whether a file's name says that it may hold user data.
func mayBePacked(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".tf", ".tfvars", ".tfstate", ".yaml", ".yml", ".json", ".template", ".b64":
		return true
	}
	return isUserData(name)
}

func isUserData(name string) bool {
	base := strings.ToLower(path.Base(name))
	return strings.Contains(base, "user-data") || strings.Contains(base, "userdata") || strings.Contains(base, "user_data")
}

// documentation tells whether a file is there to be read by people: what it shows is not run.
func documentation(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".md", ".markdown", ".rst", ".adoc", ".asciidoc", ".html", ".htm", ".xhtml", ".tex", ".pod", ".man", ".log", ".po", ".pot", ".csv",
		".1", ".5", ".7", ".8", ".css", ".eml":
		return true
	case ".txt":
		return !isUserData(name)
	}
	switch base := strings.ToLower(path.Base(name)); {
	case strings.HasPrefix(base, "changelog"), strings.HasPrefix(base, "changes"), strings.HasPrefix(base, "readme"),
		strings.HasPrefix(base, "news"), strings.HasPrefix(base, "license"), strings.HasPrefix(base, "copyright"):
		return !strings.Contains(base, ".sh") && !strings.Contains(base, ".py")
	}
	return false
}

// sdkFolders are folders whose sources hold the address and are judged by their version: SDKs of the table, and what reads metadata
// of several clouds.
var sdkFolders = regexp.MustCompile(`(?i)(^|/)(botocore|boto3?|awscli|aiobotocore|cloudinit|awscrt|localstack|moto|` +
	`aws-sdk(-[a-z0-9]+)*|node_modules/(@aws-sdk|@smithy|aws-sdk|gcp-metadata|google-auth-library|@azure)|` +
	`aws-sdk-core[-0-9.]*|github\.com/(aws|!aws)/[^/]+|com/amazonaws|software/amazon/awssdk|aws/aws-sdk-php|Aws/(Common|Credentials|Ec2)|` +
	`aws_config|aws-config-[0-9.]+|aws-smithy[^/]*|rusoto_[^/]*|google/(auth|cloud)|azure/(identity|core)|` +
	`cloud\.google\.com/go|@google-cloud)([@-]v?\d[^/]*)?/`)

// ownedBySDK tells whether a file is a source of an SDK. What AWS publishes on GitHub besides SDKs is known by its version as well.
func ownedBySDK(name string) bool { return sdkFolders.MatchString(name) }

// helperNames are programs of distributions that read metadata: a shell script of Amazon Linux, and Ubuntu's.
var helperNames = []string{"ec2-metadata", "ec2metadata"}

// helpers are what the scan has seen of these programs. Where the program itself was seen and asks for a token, calls of it are fine.
type helpers struct {
	aware map[string]bool
	calls []helperCall
}

type helperCall struct {
	raw    Raw
	helper string
}

func (h *helpers) seen(name string, aware bool) {
	if h.aware == nil {
		h.aware = map[string]bool{}
	}
	was, known := h.aware[name]
	h.aware[name] = aware && (was || !known)
}

// lintHelpers reports the calls of helpers that do not ask for a token, or were not seen.
func (s *scan) lintHelpers() {
	for _, c := range s.helpers.calls {
		if !s.helpers.aware[c.helper] {
			s.raw(c.raw)
		}
	}
}

// Finding is what the lint says of a line.
type Finding struct {
	Line int
	Rule Rule
	Fix  string
	// helper is the program that is called, of RuleHelper.
	helper string
}

var (
	// address is the service's, in the forms in which it is reached. What is before and after it tells it from longer numbers.
	address = regexp.MustCompile(`(?i)(?:^|[^\d.])169\.254\.169\.254(?:[^\d.]|\.?$|\.[^\d])|fd00:ec2::254|https?://instance-data\b`)
	// document is an address of EC2's documents: a version, which stands first in the path. https://docs.aws.amazon.com/AWSEC2/latest/
	// UserGuide/configuring-instance-metadata-service.html lists the versions.
	document = regexp.MustCompile(`(?i)(?:169\.254\.169\.254|\[?fd00:ec2::254\]?|instance-data[\w.]*)(?::80)?/+(?:latest|20\d\d-\d\d-\d\d|1\.0)\b`)
	// scheme is an address with a scheme before it, whatever its path.
	scheme = regexp.MustCompile(`(?i)https?://(?:169\.254\.169\.254|\[fd00:ec2::254\]|instance-data[\w.]*)(?::80)?`)
	// paths are EC2's documents without the address.
	paths = regexp.MustCompile(`(?i)/?(?:latest|20\d\d-\d\d-\d\d|1\.0)/(?:meta-data|user-data|dynamic)|\bmeta-data/|iam/security-credentials|` +
		`instance-identity/document`)
	// client is what makes requests: commands, and functions of languages' libraries.
	client = regexp.MustCompile(`(?i)\b(?:curl|wget|lwp-request|http(?:ie)?\s+get|GET|fetch|nc|ncat|invoke-restmethod|invoke-webrequest|irm|iwr|` +
		`aria2c|urlopen|urllib\d?\.request\.\w+|requests\.(?:get|request|session)|httpx\.get|http\.(?:get|request|newrequest\w*)|` +
		`downloadstring|getstringasync|webclient|open-uri|net::http|file_get_contents|curl_init|curl_setopt|httpclient|openconnection|axios\S*|` +
		`got|urlretrieve|resttemplate|uri\.open|lwp::simple|reqwest::\S*get)\b|\bget_url\b|\buri:|/dev/tcp/`)
	// tokenAware is what asks for a token, or sends one.
	tokenAware = regexp.MustCompile(`(?i)x-aws-ec2-metadata-token|latest/api/token|/api/token\b|imdsv2|fetch_metadata_token|ec2-metadata-token`)
	// otherClouds have their own services at the same address, with headers and paths of their own.
	otherClouds = regexp.MustCompile(`(?i)metadata\s*["']?\s*[:=]\s*\[?["']?true|metadata-flavor|computemetadata|metadata\.google|` +
		`169\.254\.169\.254(?::80)?/+(?:metadata/|openstack|opc/|hetzner|v1[./]|0\.1/)|x-google-metadata|/opc/v[12]|/openstack/|` +
		`metadata/(?:instance|identity|scheduledevents|attested)|api-version=20`)
	// assigned is a name that is given a value, in the forms of shells, make, Python, Go, Java, JavaScript, YAML, Terraform and Docker.
	assigned = regexp.MustCompile(`(?i)^\s*(?:export\s+|readonly\s+|local\s+|declare\s+(?:-\w+\s+)*|set\s+|setx\s+|env\s+|arg\s+|const\s+|let\s+|` +
		`var\s+|my\s+|final\s+|static\s+|private\s+|public\s+|protected\s+|internal\s+|constexpr\s+|char\s*\*?\s*(?:const\s+)?|string\s+|` +
		`-\s+|#define\s+|def\s+|val\s+|this\.|self\.|@)*[$%]?(?:env:|script:|global:)?["']?([A-Za-z_][\w.-]*)(?:\[\])?["']?` +
		`(?:\s*:\s*[\w.*&<>]+)?\s*(?::=|\?=|=>|=|:|\s+)\s*(?:[bru]?["'` + "`" + `(]|new\s+\w+\(|https?:|169\.|fd00:)`)
	// blocked is what mentions the address to keep programs from it, or to get around a proxy.
	blocked = regexp.MustCompile(`(?i)\biptables\b|\bnft\b|\bip6tables\b|no_proxy|noproxy|nonproxyhosts|169\.254\.169\.254/(?:32|16)\b|` +
		`\bip\s+route|route\s+add|\bdeny\b|blocklist|denylist|blacklist|ssrf`)
	helperAt = regexp.MustCompile(`(?:^|[\s"'` + "`" + `(;|&]|bin/)(ec2-metadata|ec2metadata)(?:\s+-{1,2}[a-z]|\s*[|)"'` + "`" + `;,]|\s*$)`)
	// runs is how languages other than shells' start a program.
	runs = regexp.MustCompile(`(?i)exec|subprocess|system|popen|check_output|spawn|` + "`" + `|%x|backtick|cmd|command|run`)
	// headers is where a request may carry a header that is made elsewhere.
	headers = regexp.MustCompile(`(?i)\s-H\b|\s--header\b|-headers?\b|headers\s*[=:]|\$\{?\w*(?:opts?|args?|header)\w*|@\w+`)
)

// Lint reads the text of a script or a program and says which of its lines reach the metadata service without a token. The name only
// decides how comments begin. A file in which a token is asked for is fine, but for commands that reach the service on their own, far
// from everything about tokens. The rules are told in docs/software.md.
func Lint(name string, text []byte) []Finding {
	out := lintPlain(name, string(text))
	for _, b := range embedded(text) {
		for _, f := range lintPlain("user-data", b.text) {
			f.Line = b.line
			if !slices.ContainsFunc(out, func(o Finding) bool { return o.Line == f.Line && o.Rule == f.Rule }) {
				out = append(out, f)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return a.Line - b.Line })
	return out
}

// linted is a file under the lint.
type linted struct {
	lines []string // commands that go over several lines are one, at the first; the others are empty
	raw   []string
	aware bool // it asks for a token somewhere
	ec2   bool // it names one of EC2's documents somewhere
	data  bool // it is a document of data, which may hold texts for people
	out   []Finding
}

func lintPlain(name, text string) []Finding {
	f := &linted{raw: strings.Split(text, "\n"), data: strings.EqualFold(path.Ext(name), ".json")}
	lower := strings.ToLower(text)
	f.aware = containsAny(lower, tokenWords) && tokenAware.MatchString(text)
	f.ec2 = containsAny(lower, pathWords) && paths.MatchString(text)
	f.lines = join(f.raw)
	marks := commentMarks(name)
	commented := blockComments(f.lines, marks)
	hold := map[string]int{}
	for i, line := range f.lines {
		if !containsAny(line, lineWords) && !mentionsHeld(line, hold) || commented[i] || comment(line, marks) ||
			f.suppressed(i) {
			continue // the words first: patterns are slow, and most lines have nothing of it
		}
		if m := helperAt.FindStringSubmatch(line); m != nil && called(name, line, m[1]) {
			f.out = append(f.out, Finding{Line: i + 1, Rule: RuleHelper, Fix: fixes[RuleHelper], helper: m[1]})
			continue
		}
		if address.MatchString(line) {
			f.atAddress(i, line, hold)
		} else {
			f.throughVariable(i, line, hold)
		}
	}
	f.unused(hold)
	return f.out
}

// Words that must be there for the patterns to be tried.
var (
	tokenWords = []string{"metadata-token", "/api/token", "imdsv2", "fetch_metadata_token"}
	pathWords  = []string{"meta-data", "user-data", "/dynamic", "security-credentials", "instance-identity"}
	lineWords  = []string{"169.254.169.254", "fd00:ec2::254", "FD00:EC2::254", "instance-data", "INSTANCE-DATA", "ec2-metadata", "ec2metadata"}
)

func containsAny(text string, words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
}

// mentionsHeld tells whether a line has the name of a variable that holds the address.
func mentionsHeld(line string, hold map[string]int) bool {
	for name := range hold {
		if strings.Contains(line, name) {
			return true
		}
	}
	return false
}

// atAddress judges a line that holds the service's address.
func (f *linted) atAddress(i int, line string, hold map[string]int) {
	if blocked.MatchString(line) && !client.MatchString(line) {
		return
	}
	variable := assigned.FindStringSubmatch(line)
	switch {
	case f.other(i, line), f.hasToken(i, line):
	case f.data && !command.MatchString(line) && !value.MatchString(line): // it tells of the address
	case client.MatchString(line) && !definition(variable, line):
		f.add(i, RuleClient)
	case variable != nil && len(hold) < maxHeld:
		hold[variable[1]] = i
	case f.refused(i):
	case document.MatchString(line), scheme.MatchString(line) && f.ec2, value.MatchString(line) && f.ec2 && (f.named(i) || f.beside(i)):
		f.add(i, RuleAddress)
	}
}

// inward is what stands beside the service's address where forged requests are refused, or tested: other addresses that only a machine
// itself should reach, and the attack's name.
var inward = regexp.MustCompile(`(?i)\b127\.0\.0\.1\b|\blocalhost\b|\b0\.0\.0\.0\b|\b192\.168\.|\b10\.\d+\.\d+\.\d+|\[::1?\]|metadata\.google|` +
	`ssrf|forge|file:///|gopher:|pentest|payload|exploit`)

// refused tells whether an address stands in a list of those that nobody should be made to reach.
func (f *linted) refused(i int) bool {
	return slices.ContainsFunc(f.raw[max(0, i-4):min(len(f.raw), i+5)], inward.MatchString)
}

// definition tells whether a line with a client's name only names a variable by it: URL = "http://…" of an http client.
func definition(variable []string, line string) bool {
	if variable == nil {
		return false
	}
	at := strings.IndexAny(line, `"'`)
	from := address.FindStringIndex(line)
	// Where the value begins with the address, what makes requests would have to stand behind it.
	return at >= 0 && from != nil && !client.MatchString(line[:at]) && !client.MatchString(strings.ReplaceAll(line[at:], "GET", ""))
}

// throughVariable judges a line that may use a variable which holds the address.
func (f *linted) throughVariable(i int, line string, hold map[string]int) {
	for _, name := range slices.Sorted(maps.Keys(hold)) {
		at := hold[name]
		if at < 0 || !mentionsName(line, name) {
			continue
		}
		if f.other(i, line) || f.hasToken(i, line) {
			hold[name] = -1 // used, and fine
			continue
		}
		if next := assigned.FindStringSubmatch(line); next != nil && !client.MatchString(line) {
			if _, known := hold[next[1]]; !known && next[1] != name && len(hold) < maxHeld {
				hold[next[1]] = i // the address with a path, say
				hold[name] = -1
				return
			}
		}
		if client.MatchString(line) || paths.MatchString(line) {
			f.add(i, RuleVariable)
			hold[name] = used
			return
		}
	}
}

// maxHeld bounds how many variables of a file are followed.
const maxHeld = 256

// used marks a variable that a finding is about already; it goes on being looked for.
const used = 1 << 30

// unused reports variables that hold the address of a document and that no line was seen to use: another file will.
func (f *linted) unused(hold map[string]int) {
	for _, name := range slices.Sorted(maps.Keys(hold)) {
		i := hold[name]
		if i < 0 || i >= used {
			continue
		}
		if f.refused(i) {
			continue
		}
		if line := f.lines[i]; document.MatchString(line) || scheme.MatchString(line) && f.ec2 ||
			!f.aware && f.ec2 && (f.named(i) || f.beside(i)) {
			f.add(i, RuleAddress)
		}
	}
}

// named tells whether a line calls what it holds metadata.
func (f *linted) named(i int) bool {
	line := strings.ToLower(f.lines[i])
	return strings.Contains(line, "metadata") || strings.Contains(line, "imds") || strings.Contains(line, "ec2")
}

// beside tells whether the path of a document stands beside a host: in the same request, as its options have them.
func (f *linted) beside(i int) bool {
	return slices.ContainsFunc(f.raw[max(0, i-3):min(len(f.raw), i+4)], paths.MatchString)
}

func (f *linted) add(i int, rule Rule) {
	if slices.ContainsFunc(f.out, func(o Finding) bool { return o.Line == i+1 }) {
		return
	}
	f.out = append(f.out, Finding{Line: i + 1, Rule: rule, Fix: fixes[rule]})
}

// hasToken tells whether a request carries a token, or belongs to code that does: a line of a command or a header nearby; in a
// file that asks for tokens everything but a plain command without a header, far from all that is about tokens.
func (f *linted) hasToken(i int, line string) bool {
	if !f.aware {
		return false
	}
	if f.around(i, tokenAware) || headers.MatchString(line) {
		return true
	}
	return !command.MatchString(line)
}

// command is a request that a shell makes by itself, on one line.
var command = regexp.MustCompile(`(?i)\b(?:curl|wget|invoke-restmethod|invoke-webrequest|irm|iwr)\s`)

// value is an address that is the whole of a value, or begins it.
var value = regexp.MustCompile(`(?i)["']\s*(?:https?://)?(?:169\.254\.169\.254|\[?fd00:ec2::254|instance-data)`)

// other tells whether a line is about another cloud's service: it says so, or what is around it does and says nothing of EC2.
func (f *linted) other(i int, line string) bool {
	if document.MatchString(line) || paths.MatchString(line) {
		return false
	}
	return otherClouds.MatchString(line) || f.around(i, otherClouds) && !f.around(i, paths)
}

// around tells whether one of the lines near a line matches.
func (f *linted) around(i int, pattern *regexp.Regexp) bool {
	return slices.ContainsFunc(f.raw[max(0, i-near):min(len(f.raw), i+near+1)], pattern.MatchString)
}

func (f *linted) suppressed(i int) bool {
	return strings.Contains(f.lines[i], suppression) || i > 0 && strings.Contains(f.raw[i-1], suppression)
}

// join puts lines that end in a backslash, PowerShell's backtick or a caret together with those after them.
func join(raw []string) []string {
	out := make([]string, len(raw))
	start := -1
	for i, line := range raw {
		line = shorten(strings.TrimRight(line, "\r"))
		cut := strings.TrimRight(line, " \t")
		goesOn := strings.HasSuffix(cut, `\`) || strings.HasSuffix(cut, " `") || strings.HasSuffix(cut, " ^")
		if start < 0 {
			out[i] = line
		} else if len(out[start]) < maxLine {
			out[start] = strings.TrimRight(out[start], "\\`^ \t") + " " + line
		}
		switch {
		case goesOn && start < 0:
			start = i
		case !goesOn:
			start = -1
		}
	}
	return out
}

// maxLine bounds how much of a line is looked at, in bytes: the lines of bundled scripts are as long as the files. Of longer ones
// it is what is around the addresses, as far as margin on each side.
const (
	maxLine = 64 << 10
	margin  = 1 << 10
)

// shorten makes a line one that the patterns can be tried on.
func shorten(line string) string {
	if len(line) <= maxLine {
		return line
	}
	var out strings.Builder
	for end := 0; out.Len() < maxLine; {
		at := -1
		for _, w := range lineWords {
			if n := strings.Index(line[end:], w); n >= 0 && (at < 0 || n < at) {
				at = n
			}
		}
		if at < 0 {
			break
		}
		from, to := max(end, end+at-margin), min(len(line), end+at+margin)
		out.WriteString(line[from:to])
		end = to
	}
	if out.Len() == 0 {
		return line[:maxLine]
	}
	return out.String()
}

// commentMarks are how comments begin in a file of a name.
func commentMarks(name string) []string {
	switch strings.ToLower(path.Ext(name)) {
	case ".go", ".java", ".js", ".mjs", ".cjs", ".ts", ".tsx", ".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".kt", ".scala", ".rs", ".swift":
		return []string{"//", "/*", "*"}
	case ".php", ".tf":
		return []string{"//", "/*", "*", "#"}
	case ".ps1", ".psm1":
		return []string{"#", "<#"}
	case ".bat", ".cmd":
		return []string{"::", "rem ", "REM ", "@rem "}
	case ".sql", ".lua", ".hs":
		return []string{"--"}
	case ".xml", ".config":
		return []string{"<!--"}
	case ".ini", ".conf", ".service":
		return []string{"#", ";"}
	}
	return []string{"#", "//"}
}

// closings are how comments of several lines end, by how they begin.
var closings = map[string]string{"/*": "*/", "<#": "#>", "<!--": "-->"}

// blockComments tells of each line whether it is within a comment that a line before it began with. What is never closed is none.
func blockComments(lines, marks []string) []bool {
	out := make([]bool, len(lines))
	began, closing := -1, ""
	for i, line := range lines {
		line = strings.TrimSpace(line)
		for _, m := range marks {
			if rest, ok := strings.CutPrefix(line, m); ok && began < 0 && closings[m] != "" {
				began, closing, line = i, closings[m], rest
			}
		}
		if began < 0 {
			continue
		}
		_, rest, closed := strings.Cut(line, closing)
		out[i] = i > began && (!closed || rest == "")
		if closed {
			began = -1
		}
	}
	if began >= 0 {
		clear(out[began:])
	}
	return out
}

func comment(line string, marks []string) bool {
	line = strings.TrimSpace(line)
	return slices.ContainsFunc(marks, func(m string) bool { return strings.HasPrefix(line, m) })
}

// called tells whether a line calls a helper, rather than naming it in a list, a package to be installed, a module or a message. The
// helpers do not call themselves.
func called(name, line, helper string) bool {
	if slices.Contains(helperNames, path.Base(name)) || strings.Contains(line, helper+".") || notCalls.MatchString(line) {
		return false
	}
	switch path.Ext(name) {
	case "", ".sh", ".bash", ".zsh", ".ksh", ".yaml", ".yml", ".tpl", ".tmpl", ".tftpl", ".service", ".conf", ".cfg", ".txt", ".ps1", ".mk":
		return true
	}
	return runs.MatchString(line)
}

var notCalls = regexp.MustCompile(`(?i)\b(?:import|from|require|include|install|package|pip3?|apt|apt-get|yum|dnf|gem|npm)\b`)

// mentionsName tells whether a line uses a name as a word.
func mentionsName(line, name string) bool {
	for at := 0; ; {
		i := strings.Index(line[at:], name)
		if i < 0 {
			return false
		}
		from, to := at+i, at+i+len(name)
		if (from == 0 || !wordByte(line[from-1])) && (to == len(line) || !wordByte(line[to])) {
			return true
		}
		at = to
	}
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
