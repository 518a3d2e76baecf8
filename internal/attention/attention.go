// Package attention turns verdicts into work: for each workload that is blocked or unknown, or whose IMDSv1 calls are refused, who
// calls, how sure that is and why, what it rests on, who answers for it, and what to do.
//
// It owns the causes, the choice among them and the words of the remedies. It is pure: it looks at what was judged (package assess),
// at what sources found (package evidence) and at the table of products, and at nothing else. It never makes a verdict milder.
//
// How a cause is chosen. A caller that a source saw calling (CloudTrail by its credentials, a tracer by its process) is certain. Where
// none was seen, what was found is weighed: an old agent, an old SDK that is installed, a script that calls by hand, a hop limit that
// keeps a container from its tokens, a vendor's image. One explanation alone is likely, several are possible; each is an item of its
// own, because each has to be remedied by somebody. Agents that run beside the workload are named apart from the application, which
// stays on the list as long as something shows that the agent is not the only caller. Each item tells why this cause and why not
// another.
package attention

import (
	"cmp"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/product"
)

// Confidence is how sure a cause is.
type Confidence string

// Confidences.
const (
	// Certain: a source saw exactly this.
	Certain Confidence = "certain"
	// Likely: it is the only explanation that fits what was found.
	Likely Confidence = "likely"
	// Possible: it fits, and so do others.
	Possible Confidence = "possible"
)

// Item is one piece of work: a workload, or something that keeps workloads from being judged, with one cause.
type Item struct {
	// ID is the same in every run as long as workload, cause and product are; Digest changes with what the item says.
	ID     string `json:"id"`
	Digest string `json:"digest"`
	Cause  Cause  `json:"cause"`
	// Status is the verdict on the workload.
	Status assess.Status `json:"status"`
	// Title says what it is in a line, without the workload.
	Title      string     `json:"title"`
	Confidence Confidence `json:"confidence"`
	// Because says why this cause, and why not another.
	Because []string `json:"because"`
	// Fix is what to do, in a sentence; Steps say more, in order; Links are the addresses that they rest on.
	Fix   string   `json:"fix"`
	Steps []string `json:"steps,omitempty"`
	Links []string `json:"links,omitempty"`
	// Product is an id of the table of products, with the versions that were seen and the first good one; empty where none is known.
	Product  product.ID `json:"product,omitempty"`
	Versions []string   `json:"versions,omitempty"`
	First    string     `json:"first_good_version,omitempty"`
	Evidence []Evidence `json:"evidence,omitempty"`
	Workload Workload   `json:"workload"`
	Owner    Owner      `json:"owner"`
	// Code is the infrastructure as code that has to be changed as well for a change to last.
	Code fleet.Owner `json:"code,omitzero"`
	// Calls and Refused are the workload's IMDSv1 calls in the window, as its metric counted them.
	Calls   int64 `json:"v1_calls"`
	Refused int64 `json:"v1_calls_rejected"`
	// Since and Last bound what was seen of it; zero where nothing was.
	Since time.Time `json:"first_seen,omitzero"`
	Last  time.Time `json:"last_seen,omitzero"`
	// Risk is the worst of its instances; nil where none was judged.
	Risk *assess.Risk `json:"risk,omitempty"`
	// Route is where its owner is told; nil where no route matches.
	Route *policy.Route `json:"-"`
}

// Workload is what an item is about.
type Workload struct {
	// Name is what people call it; Kind is a kind of the inventory, "app" for instances with an application's tag in common, or the
	// kind of what could not be read.
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Place is where it is, and Region empty where it is in several regions.
	Account     fleet.AccountID `json:"account"`
	AccountName string          `json:"account_name,omitempty"`
	Region      fleet.Region    `json:"region,omitempty"`
	// Resources are those that were judged, sorted: the instances, or the launchers and templates where there are none.
	Resources []fleet.Ref `json:"resources,omitempty"`
	// Instances is how many of them run programs.
	Instances int `json:"instances"`
}

// Evidence is one thing that an item rests on.
type Evidence struct {
	Source evidence.Source `json:"source"`
	Text   string          `json:"text"`
	// From and To bound the window, or what was seen; AgeSeconds is the time since To.
	From       time.Time `json:"from,omitzero"`
	To         time.Time `json:"to,omitzero"`
	AgeSeconds int64     `json:"age_seconds,omitempty"`
}

// Owner is who answers for an item, and what says so: "tag team", "route 2", "terraform", "the account".
type Owner struct {
	Name string `json:"name"`
	By   string `json:"by"`
}

// Place is one judged place.
type Place struct {
	Report   *assess.Report
	Snapshot *inventory.Snapshot
	// Evidence holds the windows of each subject.
	Evidence map[fleet.Ref][]*evidence.Window
	Span     evidence.Span
	// Gaps are the scopes that could not be read.
	Gaps    []inventory.Scope
	Account policy.AccountFacts
	// Imports are what was taken in from outside. They tell what was looked at and showed nothing.
	Imports []evidence.Import
}

// Settings are what every place is looked at with.
type Settings struct {
	Policy   *policy.Config
	Products *product.Table
	Manners  map[string]assess.Manner
	Now      time.Time
}

// Find lists the work of one place, in the order of Compare.
func Find(p Place, s Settings) []Item {
	f := &finder{Place: p, Settings: s, index: p.Report.Index, listed: map[string]bool{}}
	f.gather()
	f.gaps()
	f.exceptions()
	f.managed()
	for _, w := range f.workloads {
		f.workload(w)
	}
	f.launches()
	f.code()
	return Merge(f.items)
}

// finder looks for the work of one place.
type finder struct {
	Place
	Settings
	index     *inventory.Index
	workloads []*workload
	items     []Item
	// listed are the workloads, by their key, that have an item about their verdict.
	listed map[string]bool
}

// Merge puts items with one id together and sorts them: an exception, or a role that is missing, may concern many places.
func Merge(items []Item) []Item {
	at := map[string]int{}
	var out []Item
	for _, i := range items {
		if have, ok := at[i.ID]; ok {
			out[have].absorb(&i)
			continue
		}
		at[i.ID] = len(out)
		i.Workload.Resources, i.Evidence, i.Versions = slices.Clone(i.Workload.Resources), slices.Clone(i.Evidence), slices.Clone(i.Versions)
		out = append(out, i)
	}
	for n := range out {
		w := &out[n].Workload
		slices.SortFunc(w.Resources, fleet.Ref.Compare)
		w.Resources = slices.Compact(w.Resources)
		out[n].seal()
	}
	slices.SortStableFunc(out, Compare)
	return out
}

// mostEvidence bounds what an item of many workloads rests on; the rest says the same of others.
const mostEvidence = 12

// absorb adds what another item of the same id tells. Resources are sorted by Merge.
func (i *Item) absorb(o *Item) {
	w := &i.Workload
	w.Instances += o.Workload.Instances
	w.Resources = append(w.Resources, o.Workload.Resources...)
	if w.Region != o.Workload.Region {
		w.Region = ""
	}
	i.Calls += o.Calls
	i.Refused += o.Refused
	for _, e := range o.Evidence {
		if len(i.Evidence) < mostEvidence && !slices.Contains(i.Evidence, e) {
			i.Evidence = append(i.Evidence, e)
		}
	}
	for _, v := range o.Versions {
		if !slices.Contains(i.Versions, v) {
			i.Versions = append(i.Versions, v)
		}
	}
	if i.Since.IsZero() || !o.Since.IsZero() && o.Since.Before(i.Since) {
		i.Since = o.Since
	}
	if o.Last.After(i.Last) {
		i.Last = o.Last
	}
	if riskier(o.Risk, i.Risk) {
		i.Risk = o.Risk
	}
}

// Compare orders items: by owner; of one owner what is blocked first, then by cause, and the workload with most calls first.
func Compare(a, b Item) int {
	return cmp.Or(
		cmp.Compare(a.Owner.Name, b.Owner.Name),
		cmp.Compare(urgency(a.Status), urgency(b.Status)),
		cmp.Compare(a.Cause.rank(), b.Cause.rank()),
		a.Risk.Compare(b.Risk),
		-cmp.Compare(a.Calls, b.Calls),
		cmp.Compare(a.Workload.Account, b.Workload.Account),
		cmp.Compare(a.Workload.Region, b.Workload.Region),
		cmp.Compare(a.Workload.Name, b.Workload.Name),
		cmp.Compare(a.ID, b.ID))
}

// urgency orders verdicts: what is refused already first, since it fails now.
func urgency(s assess.Status) int {
	return slices.Index([]assess.Status{assess.Done, assess.Blocked, assess.Unknown, assess.Exempt, assess.Ready}, s)
}

// riskier tells whether a risk is more urgent than another.
func riskier(a, b *assess.Risk) bool { return a.Compare(b) < 0 }
