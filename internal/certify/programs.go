package certify

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/imds"
	"github.com/imdsctl/imdsctl/internal/product"
)

// Program is a program that called: an executable with the SDK, or whatever else, that calls in it.
type Program struct {
	// Title is what people call it: "AWS SDK for Python (boto3) 1.40.1 in python3 /srv/app.py".
	Title string `json:"title"`
	Exe   string `json:"exe,omitempty"`
	// Args are the command line of the first process, secrets redacted.
	Args      []string   `json:"args,omitempty"`
	Product   product.ID `json:"product,omitempty"`
	Version   string     `json:"version,omitempty"`
	UserAgent string     `json:"user_agent,omitempty"` // of its first call that says what it is
	// Decides is the product whose version decides, with what the table says of it; the zero value where the table knows nobody.
	Decides product.Mention `json:"decides,omitzero"`
	Table   product.Verdict `json:"table,omitzero"`

	Processes int `json:"processes,omitempty"`
	Calls     int `json:"calls"`
	V1        int `json:"v1,omitempty"`         // requests by version 1, refused ones too
	V1Refused int `json:"v1_refused,omitempty"` // of them
	V2        int `json:"v2,omitempty"`         // requests by version 2, token requests too
	// Tokens were given to it, Lost of them did not arrive, and With is how many requests it made with tokens.
	Tokens int `json:"tokens,omitempty"`
	Lost   int `json:"tokens_lost,omitempty"`
	With   int `json:"requests_with_token,omitempty"`
	// Credentials: it was given a role's credentials.
	Credentials bool `json:"credentials,omitempty"`
	// First is when it called first.
	First time.Time `json:"first"`

	key programKey
}

type programKey struct {
	exe     string
	product product.ID
	version string
	agent   string // where nothing else tells callers apart
}

// names knows which program a call is of.
type names struct {
	table *product.Table
	by    map[processKey]programKey
}

// processKey is a process that runs a program: it may run another one later.
type processKey struct {
	pid int
	exe string
}

func newNames(all []Call, table *product.Table) *names {
	n := &names{table: table, by: map[processKey]programKey{}}
	for _, c := range all {
		k := processKey{c.Who.PID, c.Who.Exe}
		if _, known := n.by[k]; !known && n.named(c) && c.Who.PID != 0 {
			n.by[k] = programKey{exe: c.Who.Exe, product: c.Product, version: c.ProductVersion}
		}
	}
	return n
}

// named tells whether a call says what makes it, and not only with which HTTP client.
func (n *names) named(c Call) bool {
	known, ok := n.table.Find(c.Product)
	return ok && !known.Raw
}

// of tells whose a call is. A process that calls itself something in one request, and in another only what its HTTP client calls
// itself, as some SDKs do, is the former.
func (n *names) of(c Call) programKey {
	if k, known := n.by[processKey{c.Who.PID, c.Who.Exe}]; known && !n.named(c) {
		return k
	}
	k := programKey{exe: c.Who.Exe, product: c.Product, version: c.ProductVersion}
	if k == (programKey{}) {
		k.agent = c.UserAgent
	}
	return k
}

// programsOf gathers calls by who made them, and notes in each whose it is.
func programsOf(all []Call, hops int, table *product.Table) []Program {
	var out []Program
	names, pids := newNames(all, table), map[programKey]map[int]bool{}
	for n := range all {
		c := &all[n]
		k := names.of(*c)
		c.Program = slices.IndexFunc(out, func(p Program) bool { return p.key == k })
		if c.Program < 0 {
			c.Program = len(out)
			out = append(out, newProgram(*c, k))
			pids[k] = map[int]bool{}
		}
		p := &out[c.Program]
		p.count(*c, hops)
		if c.Who.PID != 0 {
			pids[k][c.Who.PID] = true
			p.Processes = len(pids[k])
		}
	}
	for i := range out {
		out[i].name(i, table, all)
	}
	return out
}

func newProgram(c Call, k programKey) Program {
	return Program{Exe: c.Who.Exe, Args: c.Who.Args, Product: k.product, Version: k.version, First: c.Time, key: k}
}

// name names a program by the first of its calls that says what it is.
func (p *Program) name(at int, table *product.Table, all []Call) {
	own := func(c Call) bool { return c.Program == at && c.Product == p.Product && c.ProductVersion == p.Version }
	if i := slices.IndexFunc(all, own); i >= 0 {
		p.UserAgent = all[i].UserAgent
	}
	if decides, verdict, ok := table.JudgeAgent(table.ParseAgent(p.UserAgent)); ok {
		p.Decides, p.Table = decides, verdict
	}
	p.Title = title(*p, table)
}

// title is what people call a program.
func title(p Program, table *product.Table) string {
	where := cmp.Or(p.Exe, "a program")
	if script := scriptOf(p); script != "" {
		where = path.Base(p.Exe) + " " + script
	}
	known, ok := table.Find(p.Product)
	switch {
	case ok && !known.Raw:
		return strings.TrimSpace(known.Name+" "+p.Version) + " in " + where
	case p.Exe != "":
		return where
	case p.UserAgent != "":
		return p.UserAgent + " (a process that could not be told)"
	}
	return "a process that could not be told"
}

// interpreters run programs that their first argument names.
var interpreters = []string{"python", "node", "ruby", "perl", "php", "java", "bash", "sh", "dash", "bun", "deno", "dotnet"}

// scriptOf is the program that an interpreter runs, where it is a file.
func scriptOf(p Program) string {
	base := strings.TrimRight(path.Base(p.Exe), "0123456789.")
	if !slices.Contains(interpreters, base) || len(p.Args) < 2 {
		return ""
	}
	for i, arg := range p.Args[1:] {
		switch {
		case arg == "-jar" && i+2 < len(p.Args):
			return p.Args[i+2]
		case strings.HasPrefix(arg, "-"):
			if len(arg) == 2 && strings.Contains("cemrp", arg[1:]) {
				return "" // a program on the command line, or a module
			}
			continue
		}
		return arg
	}
	return ""
}

func (p *Program) count(c Call, hops int) {
	p.Calls++
	switch {
	case c.Version == imds.V1:
		p.V1++
		if refusedV1(c) {
			p.V1Refused++
		}
	default:
		p.V2++
		if read(c) && c.TokenID != "" {
			p.With++
		}
	}
	if issued(c) {
		p.Tokens++
	}
	if lost(c, hops) {
		p.Lost++
	}
	p.Credentials = p.Credentials || c.Credentials
}
