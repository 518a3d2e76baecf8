package cloudtrail

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/product"
)

// Bounds of a Tally, so that its memory has one: about 150 bytes a count.
const (
	// DefaultAgents is how many different user agents are told apart.
	DefaultAgents = 20_000
	// DefaultAgentsEach is how many are told apart for one instance or role on one day.
	DefaultAgentsEach = 24
	// DefaultCounts is how many counts are kept by instance. Where there are more, instances that were not seen before are counted
	// for their roles alone.
	DefaultCounts = 4_000_000
)

// otherAgents stands for the user agents beyond a bound.
const otherAgents = "other user agents"

// Bounds say how finely a Tally tells apart; zeros are the defaults.
type Bounds struct{ Agents, AgentsEach, Counts int }

// Parser tells the product that a user agent names first, and its version; empty where it names none that is known.
type Parser func(agent string) (product.ID, string)

// Tally counts records by day, subject, role, delivery and user agent. It is not safe for several goroutines: each reads into one
// of its own, and they are merged.
type Tally struct {
	parse  Parser
	bounds Bounds

	texts   map[string]uint32 // roles, accounts, instances and user agents, by number
	byID    []string
	agents  map[uint32]spoken
	counts  map[key]*count
	perDay  map[key]int // user agents of a subject on a day: a key without an agent
	merged  int64       // records whose user agent is kept as one of others
	coarse  int64       // records whose instance is not kept
	records int64
}

// spoken is what a user agent names.
type spoken struct {
	product product.ID
	version string
}

// key is what is counted apart. Texts are numbers in Tally.texts; zero is none.
type key struct {
	day                            int32
	account, instance, role, agent uint32
	delivery                       Delivery
}

// count is how often, and when: Unix seconds.
type count struct{ n, first, last int64 }

// NewTally makes an empty tally.
func NewTally(parse Parser, b Bounds) *Tally {
	b.Agents, b.AgentsEach = cmp.Or(b.Agents, DefaultAgents), cmp.Or(b.AgentsEach, DefaultAgentsEach)
	b.Counts = cmp.Or(b.Counts, DefaultCounts)
	return &Tally{
		parse: parse, bounds: b, texts: map[string]uint32{"": 0}, byID: []string{""},
		agents: map[uint32]spoken{}, counts: map[key]*count{}, perDay: map[key]int{},
	}
}

// Add counts a record.
func (t *Tally) Add(r Record) { t.AddMany(r, 1, r.At) }

// AddMany counts n calls of one day like the record, which is the first of them, until last.
func (t *Tally) AddMany(r Record, n int64, last time.Time) {
	at := r.At.Unix()
	t.add(key{day: dayOf(at), account: t.number(string(r.Account)), instance: t.number(r.Instance), role: t.number(r.Role),
		delivery: r.Delivery}, r.Agent, count{n, at, last.Unix()})
}

// Merge adds all that another tally has counted.
func (t *Tally) Merge(o *Tally) {
	for k, c := range o.counts {
		agent := o.byID[k.agent]
		k.account, k.instance, k.role = t.number(o.byID[k.account]), t.number(o.byID[k.instance]), t.number(o.byID[k.role])
		t.add(k, agent, *c)
	}
	t.merged, t.coarse = t.merged+o.merged, t.coarse+o.coarse
}

// add counts under a key, whose agent is given apart.
func (t *Tally) add(k key, agent string, c count) {
	t.records += c.n
	whole := k
	whole.agent = 0
	if _, seen := t.perDay[whole]; !seen && k.instance != 0 && k.role != 0 && len(t.counts) >= t.bounds.Counts {
		t.coarse += c.n
		k.instance, whole.instance = 0, 0
	}
	k.agent = t.agent(agent)
	if t.counts[k] == nil {
		if t.perDay[whole] >= t.bounds.AgentsEach && agent != otherAgents {
			k.agent, t.merged = t.agent(otherAgents), t.merged+c.n
		}
	}
	have := t.counts[k]
	if have == nil {
		t.perDay[whole]++
		t.counts[k] = new(c)
		return
	}
	have.n, have.first, have.last = have.n+c.n, min(have.first, c.first), max(have.last, c.last)
}

// agent numbers a user agent, or all others.
func (t *Tally) agent(agent string) uint32 {
	if n, known := t.texts[agent]; known {
		if _, known := t.agents[n]; known {
			return n
		}
	}
	if len(t.agents) >= t.bounds.Agents && agent != otherAgents {
		t.merged++
		return t.agent(otherAgents)
	}
	n := t.number(agent)
	var s spoken
	if agent != "" && agent != otherAgents && t.parse != nil {
		s.product, s.version = t.parse(agent)
	}
	t.agents[n] = s
	return n
}

func (t *Tally) number(text string) uint32 {
	n, ok := t.texts[text]
	if !ok {
		n = uint32(len(t.byID))
		t.texts[text], t.byID = n, append(t.byID, text)
	}
	return n
}

// Len is how many findings there are.
func (t *Tally) Len() int { return len(t.counts) }

// Records is how many records were counted.
func (t *Tally) Records() int64 { return t.records }

// Notes say what the bounds have cost.
func (t *Tally) Notes() []string {
	var out []string
	if t.merged > 0 {
		out = append(out, fmt.Sprintf("%d calls are counted under %q, because there were more than can be told apart", t.merged, otherAgents))
	}
	if t.coarse > 0 {
		out = append(out, fmt.Sprintf("%d calls are counted for their roles and not for their instances, because there were too many "+
			"instances; import fewer days at a time", t.coarse))
	}
	return out
}

// Findings gives what was counted, by day and then by subject. Equal ones that only their role tells apart are one. It sorts, and
// may be called more than once.
func (t *Tally) Findings(source evidence.Source, origin string) iter.Seq[evidence.Finding] {
	keys := make([]key, 0, len(t.counts))
	for k := range t.counts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.day, b.day), cmp.Compare(t.byID[a.account], t.byID[b.account]),
			cmp.Compare(t.byID[a.instance], t.byID[b.instance]), cmp.Compare(a.delivery, b.delivery),
			cmp.Compare(t.byID[a.agent], t.byID[b.agent]), cmp.Compare(t.byID[a.role], t.byID[b.role]))
	})
	return func(yield func(evidence.Finding) bool) {
		var open *evidence.Finding
		for _, k := range keys {
			f := t.finding(k, source, origin)
			if open != nil && open.Subject == f.Subject && open.What == f.What && open.Detail == f.Detail &&
				dayOf(open.First.Unix()) == k.day {
				open.Count += f.Count
				open.First, open.Last = earlier(open.First, f.First), later(open.Last, f.Last)
				continue
			}
			if open != nil && !yield(*open) {
				return
			}
			open = &f
		}
		if open != nil {
			yield(*open)
		}
	}
}

func (t *Tally) finding(k key, source evidence.Source, origin string) evidence.Finding {
	c, said := t.counts[k], t.agents[k.agent]
	subject := evidence.Subject{Account: fleet.AccountID(t.byID[k.account]), Kind: inventory.KindInstance, ID: t.byID[k.instance]}
	if k.instance == 0 {
		subject.Kind, subject.ID = evidence.SubjectRole, t.byID[k.role]
	}
	what := evidence.WhatV1Credentials
	if k.delivery == V2 {
		what = evidence.WhatV2Credentials
	}
	return evidence.Finding{
		Subject: subject, Source: source, What: what, Product: string(said.product), Version: said.version,
		Detail: t.byID[k.agent], Count: c.n, First: time.Unix(c.first, 0).UTC(), Last: time.Unix(c.last, 0).UTC(), Origin: origin,
	}
}

const secondsADay = 24 * 60 * 60

func dayOf(unix int64) int32 {
	day := unix / secondsADay
	if unix%secondsADay < 0 {
		day--
	}
	return int32(day)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
