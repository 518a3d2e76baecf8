package attention

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/product"
)

// ssmAgent is the id of AWS's Systems Manager agent in the table of products.
const ssmAgent product.ID = "amazon-ssm-agent"

// caller is a product that calls the metadata service, or may.
type caller struct {
	product.Product
	// versions are its own; decides is the product whose version says how it speaks, where that is another: botocore of boto3.
	versions []string
	decides  product.Mention
	verdict  product.Verdict
	// below is what the table says of that one, where the verdict is the caller's own.
	below product.Verdict
	// active: a source saw it calling. calls are then calls to the service where a tracer counted them, else to AWS.
	active   bool
	calls    int64
	findings []evidence.Finding
	first    time.Time
	last     time.Time
	// detail is what the source wrote of it, where the table does not know it.
	detail string
	traced bool
}

// callers explains the calls of a workload, as one item for each caller or possible caller.
func (f *finder) callers(w *workload) {
	x := &explanation{finder: f, w: w, more: w.verdict.FindingsLeft > 0}
	x.sort()
	x.agents()
	var items []Item
	for _, c := range x.active {
		items = append(items, x.seen(c))
	}
	named := slices.ContainsFunc(items, func(i Item) bool { return !i.Cause.noise() })
	items = append(items, x.noise(named)...)
	if !named {
		items = append(items, x.application(items)...)
	}
	for i := range items {
		x.finish(&items[i])
		f.list(items[i])
	}
	f.listed[w.key()] = true
}

// explanation is what there is to say about the callers of one workload.
type explanation struct {
	*finder
	w *workload
	// active were seen calling; idle are there, and nothing shows whether they run; raw are sources that call by hand.
	active, idle []*caller
	raw          []evidence.Finding
	refused      []evidence.Finding // programs that failed a certification
	// old are the members with an SSM agent that calls v1 by itself, with its versions.
	old      map[*inventory.Resource]bool
	oldAgent *caller
	// more: there are findings that the verdict does not carry with it.
	more bool
}

// sort sorts the findings by who is meant.
func (x *explanation) sort() {
	for _, finding := range x.w.findings {
		finding.Detail, finding.Version = clean(finding.Detail), clean(finding.Version) // a caller may call itself what he likes
		switch {
		case finding.Last.Before(x.Span.Start):
			continue // it says nothing of the window
		case finding.What.Calls():
			x.active = x.note(x.active, finding, true)
		case finding.What == evidence.WhatSoftware:
			x.idle = x.note(x.idle, finding, false)
		case finding.What == evidence.WhatRawCall:
			x.raw = append(x.raw, finding)
		case finding.What == evidence.WhatRefused:
			x.refused = append(x.refused, finding)
		}
	}
	x.idle = slices.DeleteFunc(x.idle, func(c *caller) bool {
		return c.verdict.Judgement == product.Speaks || c.verdict.Judgement == product.Unclear
	})
	x.idle = x.together(x.idle)
	slices.SortStableFunc(x.active, func(a, b *caller) int { return -cmp.Compare(a.calls, b.calls) })
}

// note adds a finding to the caller that it names.
func (x *explanation) note(list []*caller, finding evidence.Finding, active bool) []*caller {
	c := x.identify(finding)
	i := slices.IndexFunc(list, func(o *caller) bool { return o.ID == c.ID && o.detail == c.detail && o.bad() == c.bad() })
	if i < 0 {
		c.active = active
		list = append(list, c)
		i = len(list) - 1
	}
	have := list[i]
	have.versions = distinct(append(have.versions, c.versions...))
	if severe(c.verdict.Judgement) > severe(have.verdict.Judgement) {
		have.verdict, have.decides, have.below = c.verdict, c.decides, c.below
	}
	have.findings = append(have.findings, finding)
	have.calls += finding.Count
	have.traced = have.traced || finding.What == evidence.WhatV1Call
	if have.first.IsZero() || finding.First.Before(have.first) {
		have.first = finding.First
	}
	if finding.Last.After(have.last) {
		have.last = finding.Last
	}
	return list
}

// identify tells who a finding is about. A user agent names who speaks first, and whose version decides.
func (x *explanation) identify(finding evidence.Finding) *caller {
	c := &caller{verdict: x.Products.Judge(product.ID(finding.Product), finding.Version)}
	id, version := product.ID(finding.Product), finding.Version
	if finding.Source == evidence.SourceCloudTrail || finding.Source == evidence.SourceLookup {
		if mentions := x.Products.ParseAgent(finding.Detail); len(mentions) > 0 {
			id, version = mentions[0].Product, mentions[0].Version
			if decides, verdict, ok := x.Products.JudgeAgent(mentions); ok {
				c.decides, c.verdict = decides, verdict
			}
			// Whoever speaks is what people upgrade, where its own version tells as much as that of the SDK below it.
			if own := x.Products.Judge(id, version); c.decides.Product != id && c.bad() && (own.Judgement == product.Old || own.Judgement == product.NoFix) {
				c.below, c.verdict = c.verdict, own
			}
		}
	}
	c.versions = distinct([]string{version})
	var known bool
	if c.Product, known = x.Products.Find(id); !known {
		c.Product = product.Product{ID: id, Name: string(id)}
		c.detail = cmp.Or(finding.Detail, string(id))
	}
	return c
}

// bad tells whether the caller's version makes v1 calls by itself.
func (c *caller) bad() bool {
	return c.verdict.Judgement == product.Old || c.verdict.Judgement == product.NoFix || c.verdict.Judgement == product.Able
}

func severe(j product.Judgement) int {
	return slices.Index([]product.Judgement{product.Speaks, product.Unclear, product.Able, product.Old, product.NoFix}, j)
}

// together leaves out an SDK through which another one that is there makes its calls: boto3 stands for its botocore.
func (x *explanation) together(list []*caller) []*caller {
	return slices.DeleteFunc(slices.Clone(list), func(low *caller) bool {
		return slices.ContainsFunc(list, func(high *caller) bool {
			if high == low || !slices.Contains(high.Through, low.ID) {
				return false
			}
			if high.decides.Product == "" {
				high.decides = product.Mention{Product: low.ID, Version: strings.Join(low.versions, ", ")}
			}
			return true
		})
	})
}

// title is the caller with its versions: "boto3 1.9.2 (botocore 1.12.2)".
func (c *caller) title() string {
	if c.detail != "" {
		return shorten(c.detail, 80)
	}
	out := c.Name
	if len(c.versions) > 0 {
		out += " " + few(c.versions, 3)
	}
	if d := c.decides; d.Product != "" && d.Product != c.ID && d.Version != "" {
		out += " (" + string(d.Product) + " " + d.Version + ")"
	}
	return out
}

// cause is what kind of work a caller is.
func (x *explanation) cause(c *caller) Cause {
	switch {
	case c.verdict.Judgement == product.Speaks && x.hops().Low():
		return HopLimitLow
	case c.verdict.Judgement == product.Speaks:
		return FallsBack
	case c.ID == ssmAgent:
		return SSMAgent
	case c.Class == product.ClassAgent:
		return OtherAgent
	case c.Class == product.ClassProxy:
		return CredentialProxy
	case c.Class == product.ClassAppliance:
		return Appliance
	case c.bad():
		return OldSDK
	case c.traced && (c.ID == "" || c.Class == product.ClassTool || c.detail != ""):
		return RawCall // a program of its own: nothing that an upgrade of an SDK would change
	default:
		return UnknownCaller
	}
}

func (x *explanation) hops() *assess.Hops { return x.w.verdict.Hops }

// seen is the item of a caller that a source saw calling.
func (x *explanation) seen(c *caller) Item {
	i := x.item(x.w, x.cause(c), cmp.Or(c.ID, product.ID(c.detail)))
	if c.detail != "" {
		i.Product = ""
	}
	i.Confidence = Certain
	i.Because = append(i.Because, x.witnesses(c)...)
	x.remedy(&i, c)
	return i
}

// witnesses are the sources that saw a caller, in words.
func (x *explanation) witnesses(c *caller) []string {
	var out []string
	for _, source := range []evidence.Source{evidence.SourceTrace, evidence.SourceCloudTrail, evidence.SourceLookup} {
		var n int64
		seen := false
		for _, finding := range c.findings {
			if finding.Source == source {
				n, seen = n+finding.Count, true
			}
		}
		count := plural(n, "IMDSv1 call")
		if source != evidence.SourceTrace {
			count = plural(n, "AWS call")
		}
		if x.more {
			count = "at least " + count
		}
		switch {
		case !seen:
		case source == evidence.SourceTrace:
			out = append(out, "a tracer saw it make "+count)
		default:
			out = append(out, fmt.Sprintf("%s shows %s that it made with credentials which IMDSv1 delivered", source.Title(), count))
		}
	}
	return out
}

// cite adds the findings of a caller as evidence, one line for each source and detail.
func (x *explanation) cite(i *Item, findings []evidence.Finding) {
	type key struct {
		source evidence.Source
		what   evidence.What
		detail string
	}
	sums := map[key]*evidence.Finding{}
	var order []key
	for _, finding := range findings {
		k := key{finding.Source, finding.What, finding.Detail}
		have := sums[k]
		if have == nil {
			sums[k] = new(finding)
			order = append(order, k)
			continue
		}
		have.Count += finding.Count
		if finding.First.Before(have.First) {
			have.First = finding.First
		}
		if finding.Last.After(have.Last) {
			have.Last = finding.Last
		}
	}
	const most = 8
	for n, k := range order {
		if n == most {
			i.Because = append(i.Because, fmt.Sprintf("%d further findings say the same", len(order)-most))
			break
		}
		x.citeOne(i, sums[k])
	}
}

func (x *explanation) citeOne(i *Item, finding *evidence.Finding) {
	detail := shorten(finding.Detail, 160)
	if finding.What.Calls() {
		x.bound(i, finding.First, finding.Last)
	}
	least := ""
	if x.more {
		least = "at least "
	}
	switch {
	case finding.What == evidence.WhatV1Call:
		x.saw(i, finding.Source, finding.First, finding.Last, "%s%s of %s", least, plural(finding.Count, "IMDSv1 call"), cmp.Or(detail, "a process"))
	case finding.What == evidence.WhatV1Credentials:
		x.saw(i, finding.Source, finding.First, finding.Last, "%s%s with credentials of IMDSv1: %s", least, plural(finding.Count, "AWS call"),
			cmp.Or(detail, finding.Product))
	case finding.What == evidence.WhatRawCall:
		x.saw(i, finding.Source, finding.First, finding.Last, "calls the metadata service without a token: %s", detail)
	default:
		x.saw(i, finding.Source, finding.First, finding.Last, "%s: %s", strings.TrimSpace(finding.Product+" "+finding.Version),
			cmp.Or(detail, finding.Subject.String()))
	}
}

// agents looks for old SSM agents on the members.
func (x *explanation) agents() {
	x.old = map[*inventory.Resource]bool{}
	for _, m := range x.hosts(x.w) {
		version := agentVersion(x.index, m)
		if version == "" {
			continue
		}
		verdict := x.Products.Judge(ssmAgent, version)
		if verdict.Judgement != product.Old && verdict.Judgement != product.Able {
			continue
		}
		x.old[m] = true
		if x.oldAgent == nil {
			known, _ := x.Products.Find(ssmAgent)
			x.oldAgent = &caller{Product: known, verdict: verdict}
		}
		x.oldAgent.versions = distinct(append(x.oldAgent.versions, version))
	}
}

// noise is the item of an old SSM agent that no source saw calling, but that is there. named tells that others were seen calling.
func (x *explanation) noise(named bool) []Item {
	if x.oldAgent == nil || slices.ContainsFunc(x.active, func(c *caller) bool { return c.ID == ssmAgent }) {
		return nil
	}
	i := x.item(x.w, SSMAgent, ssmAgent)
	i.Confidence = Likely
	i.Because = append(i.Because, fmt.Sprintf("Systems Manager knows an agent of version %s on %s of its instances, which calls IMDSv1 by itself",
		few(x.oldAgent.versions, 3), count(int64(len(x.old)))))
	switch others := x.callersWithout(); {
	case named:
		i.Because = append(i.Because, "other callers were seen as well; its calls go on when those have ended")
	case len(others) > 0:
		i.Confidence = Possible
		i.Because = append(i.Because, fmt.Sprintf("it explains the calls only in part: %s calls too and has no such agent", few(others, 2)))
	case len(x.idle)+len(x.raw) > 0:
		i.Confidence = Possible
		i.Because = append(i.Because, "the metric does not tell its calls from those of what else was found here")
	default:
		i.Because = append(i.Because, "every instance that calls has such an agent, and nothing else that would call was found")
	}
	for m := range x.old {
		if at := x.index.Guests(m.Ref); len(at) > 0 {
			x.saw(&i, evidence.Source("ssm"), time.Time{}, x.Snapshot.Taken, "%s of %s: version %s", ssmAgent, m.Ref.ID, agentVersion(x.index, m))
		}
		if len(i.Evidence) == 3 {
			break
		}
	}
	slices.SortFunc(i.Evidence, func(a, b Evidence) int { return cmp.Compare(a.Text, b.Text) })
	x.remedy(&i, x.oldAgent)
	return []Item{i}
}

// callersWithout are the members that call, or did, and have no old agent.
func (x *explanation) callersWithout() []string {
	var out []string
	for _, m := range x.hosts(x.w) {
		if x.old[m] {
			continue
		}
		for _, window := range x.Evidence[m.Ref] {
			if window.Total > 0 && window.Span == x.Span {
				out = append(out, m.Ref.ID)
				break
			}
		}
	}
	return out
}

// application explains what agents leave unexplained. noise are their items.
func (x *explanation) application(noise []Item) []Item {
	explained := len(noise) > 0 && len(x.callersWithout()) == 0
	candidates := x.candidates()
	if len(candidates) == 0 && !explained {
		candidates = []Item{x.weak()}
	}
	sure := Likely
	if len(candidates)+len(noise) > 1 {
		sure = Possible
	}
	for n := range candidates {
		if candidates[n].Confidence == "" {
			candidates[n].Confidence = sure
		}
		if sure == Possible && len(candidates) > 1 {
			candidates[n].Because = append(candidates[n].Because, "no source saw which of several possible callers calls: CloudTrail or a tracer would")
		}
	}
	return candidates
}
