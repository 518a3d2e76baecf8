package assess

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// Footprint is what runs in an account, as far as it bears on the harm that breaking it would do. It is added up place by place.
type Footprint struct {
	// Running counts the hosts that run, Public those of them that the internet can address.
	Running int `json:"running"`
	Public  int `json:"public"`
	// Balancers counts the load balancers that the internet reaches with a running host behind them.
	Balancers int `json:"load_balancers"`
	// Callers counts the running hosts whose lineage was seen to call IMDSv1.
	Callers int `json:"v1_callers"`
	// Groups counts the Auto Scaling groups that want instances.
	Groups   int `json:"groups"`
	Clusters int `json:"clusters"`
	// Gaps counts what could not be read, Places what was looked at.
	Gaps   int `json:"gaps"`
	Places int `json:"places"`

	clusters map[string]bool
}

// Note adds one judged place, of which so many scopes could not be read.
func (f *Footprint) Note(r *Report, gaps int) {
	f.Places++
	f.Gaps += gaps
	for i := range r.judge.in.Snapshot.Resources {
		res := &r.judge.in.Snapshot.Resources[i]
		switch {
		case res.Ref.Kind == inventory.KindAutoScaling && res.Attrs[inventory.AttrDesired] != "0":
			f.Groups++
		case r.judge.in.Manners[res.Ref.Kind].Role == RoleHost && res.Status == inventory.StatusRunning:
			f.host(r, res)
		}
		if res.Ref.Kind == inventory.KindLoadBalancer && r.frontsRunning(res) {
			f.Balancers++
		}
		if name := res.Attrs[inventory.AttrCluster]; name != "" && res.Status != inventory.StatusTerminated {
			f.cluster(r.Place, name)
		}
	}
}

// frontsRunning tells whether a host that runs is behind a load balancer, by what it links to or by address.
func (r *Report) frontsRunning(balancer *inventory.Resource) bool {
	if slices.ContainsFunc(balancer.Links, func(l inventory.Link) bool {
		host := r.Index.Resource(l.To)
		return l.Relation == inventory.Fronts && host != nil && host.Status == inventory.StatusRunning
	}) {
		return true
	}
	addresses := strings.Split(balancer.Attrs[inventory.AttrTargetIPs], ",")
	for i := range r.judge.in.Snapshot.Resources {
		host := &r.judge.in.Snapshot.Resources[i]
		if balancer.Attrs[inventory.AttrTargetIPs] == "" || host.Status != inventory.StatusRunning {
			continue
		}
		for ip := range strings.SplitSeq(host.Attrs[inventory.AttrPrivateIPs], ",") {
			if ip != "" && slices.Contains(addresses, ip) {
				return true
			}
		}
	}
	return false
}

func (f *Footprint) host(r *Report, res *inventory.Resource) {
	f.Running++
	if res.Attrs[inventory.AttrPublicIP] != "" {
		f.Public++
	}
	if v := r.Verdict(res.Ref); v != nil && v.Basis.Calls+v.Basis.Rejected > 0 {
		f.Callers++
	}
	if name := r.Index.Containers(res).Cluster; name != "" {
		f.cluster(r.Place, name)
	}
}

func (f *Footprint) cluster(place fleet.Place, name string) {
	if f.clusters == nil {
		f.clusters = map[string]bool{}
	}
	f.clusters[place.String()+"/"+name] = true
	f.Clusters = len(f.clusters)
}

// CriticalityProposal is a criticality computed from what an account is called and what runs there. It is for people: no plan
// looks at it.
type CriticalityProposal struct {
	Value policy.Criticality `json:"value"`
	// Score is the sum of the parts.
	Score int               `json:"score"`
	Parts []CriticalityPart `json:"parts"`
	// Floor says why the value is not as low as the score; empty where it is what the score says.
	Floor string `json:"floor,omitempty"`
}

// CriticalityPart is one reason, with the points that it counts.
type CriticalityPart struct {
	Points int    `json:"points"`
	Text   string `json:"text"`
}

// Bounds of the score: below the first low, then medium and high, and from the last on critical.
const (
	scoreMedium   = 0
	scoreHigh     = 30
	scoreCritical = 60
)

// ProposeCriticality grades an account. Names weigh most; what runs there lifts or lowers them. What was not seen is never
// harmless: where something could not be read, nothing below medium is proposed.
func ProposeCriticality(a policy.AccountFacts, f *Footprint) CriticalityProposal {
	said := saidOf(a)
	p := CriticalityProposal{Parts: []CriticalityPart{}}
	for _, v := range vocabulary() {
		if where := said[v.meaning]; len(where) > 0 {
			p.add(v.points, "%s: %s", v.meaning, strings.Join(where, ", "))
		}
	}
	p.footprint(f)
	switch {
	case p.Score < scoreMedium:
		p.Value = policy.Low
	case p.Score < scoreHigh:
		p.Value = policy.Medium
	case p.Score < scoreCritical:
		p.Value = policy.High
	default:
		p.Value = policy.Critical
	}
	production := len(said[saysProduction]) > 0 && len(said[saysTest]) == 0 && len(said[saysSandbox]) == 0
	switch {
	case production && p.Value.Rank() < policy.High.Rank():
		p.Value, p.Floor = policy.High, "what is called production, and nothing else, is never below high"
	case f.Places == 0 && p.Value == policy.Low:
		p.Value, p.Floor = policy.Medium, "nothing of it was read, so nothing below medium is proposed"
	case f.Gaps > 0 && p.Value == policy.Low:
		p.Value, p.Floor = policy.Medium, fmt.Sprintf("%s could not be read, so nothing below medium is proposed", plural(f.Gaps, "scope"))
	}
	return p
}

func (p *CriticalityProposal) add(points int, format string, args ...any) {
	p.Score += points
	p.Parts = append(p.Parts, CriticalityPart{points, fmt.Sprintf(format, args...)})
}

// footprint adds what runs. How many run says how much a mistake reaches; a public address, that customers may be at its end;
// groups and clusters, that something is kept alive for somebody; callers of IMDSv1, how much there is to break.
func (p *CriticalityProposal) footprint(f *Footprint) {
	if f.Places == 0 {
		return
	}
	switch {
	case f.Running == 0:
		p.add(-15, "nothing was seen running")
	case f.Running < 10:
		p.add(0, "%s running", plural(f.Running, "host"))
	case f.Running < 100:
		p.add(10, "%s running", plural(f.Running, "host"))
	case f.Running < 1000:
		p.add(20, "%s running", plural(f.Running, "host"))
	default:
		p.add(30, "%s running", plural(f.Running, "host"))
	}
	p.stepwise(f.Public, 10, 10, 15, "with a public address")
	p.stepwise(f.Balancers, 5, 15, 20, "load balancers that face the internet, with hosts behind them")
	p.stepwise(f.Groups, 10, 5, 10, "Auto Scaling groups that want instances")
	p.stepwise(f.Clusters, 3, 5, 10, "clusters")
	if f.Callers == 0 || f.Running == 0 {
		return
	}
	points := 5
	switch {
	case 2*f.Callers >= f.Running:
		points = 15
	case 10*f.Callers >= f.Running:
		points = 10
	}
	p.add(points, "%d of %d running hosts are of a lineage that calls IMDSv1", f.Callers, f.Running)
}

// stepwise adds some points for any of a thing, and more for many.
func (p *CriticalityProposal) stepwise(n, many, some, more int, what string) {
	switch {
	case n >= many:
		p.add(more, "%d %s", n, what)
	case n > 0:
		p.add(some, "%d %s", n, what)
	}
}

// What a name can say of an account.
const (
	saysProduction = "says production"
	saysShared     = "says that others depend on it"
	saysTest       = "says that it is for tests or development"
	saysSandbox    = "says that nothing in it matters for long"
)

type meaning struct {
	meaning string
	points  int
	words   []string
}

// vocabulary is what names are searched for, as whole words.
func vocabulary() []meaning {
	return []meaning{
		{saysProduction, 40, []string{"prod", "prd", "production", "live"}},
		{saysShared, 20, []string{
			"shared", "network", "networking", "transit", "identity", "directory", "security", "platform", "core", "infrastructure", "infra",
		}},
		{saysTest, -25, []string{
			"dev", "develop", "development", "test", "testing", "tst", "qa", "uat", "stage", "staging", "stg", "integration", "nonprod",
			"preprod", "nonproduction", "preproduction", "perf", "ci",
		}},
		{saysSandbox, -40, []string{"sandbox", "sandboxes", "sbx", "playground", "lab", "labs", "poc", "demo", "training", "scratch"}},
	}
}

// environmentTags are the keys of tags, without upper case and punctuation, whose values say what an account is for.
func environmentTags() []string {
	return []string{"env", "environment", "stage", "lifecycle", "sdlc", "tier", "purpose", "accounttype", "workload"}
}

// saidOf finds what an account's name, organizational units and tags say, by meaning: where each of them says it.
func saidOf(a policy.AccountFacts) map[string][]string {
	out := map[string][]string{}
	look := func(where, text string) {
		for _, w := range wordsOf(text) {
			for _, v := range vocabulary() {
				if slices.Contains(v.words, w) && !slices.Contains(out[v.meaning], where) {
					out[v.meaning] = append(out[v.meaning], where)
				}
			}
		}
	}
	if a.Name != "" {
		look(fmt.Sprintf("the name %q", a.Name), a.Name)
	}
	for _, ou := range a.OUs {
		look(fmt.Sprintf("the unit %q", ou), ou)
	}
	keys := make([]string, 0, len(a.Tags))
	for k := range a.Tags {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if slices.Contains(environmentTags(), strings.Join(wordsOf(k), "")) {
			look(fmt.Sprintf("the tag %s=%s", k, a.Tags[k]), a.Tags[k])
		}
	}
	return out
}

// wordsOf splits a name into words in lower case: at everything that is neither a letter nor a digit, and before a capital that
// follows a small letter. Digits at the end of a word are left out, and "non prod" and "pre prod" are one word.
func wordsOf(name string) []string {
	var b strings.Builder
	small := false
	for _, r := range name {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			b.WriteByte(' ')
		case unicode.IsUpper(r) && small:
			b.WriteByte(' ')
			b.WriteRune(unicode.ToLower(r))
		default:
			b.WriteRune(unicode.ToLower(r))
		}
		small = unicode.IsLower(r)
	}
	var out []string
	for _, w := range strings.Fields(b.String()) {
		if bare := strings.TrimRightFunc(w, unicode.IsDigit); bare != "" {
			w = bare
		}
		if n := len(out); n > 0 && (out[n-1] == "non" || out[n-1] == "pre") && strings.HasPrefix(w, "prod") {
			out[n-1] += w
			continue
		}
		out = append(out, w)
	}
	return out
}
