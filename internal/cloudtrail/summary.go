package cloudtrail

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/product"
)

// Caller is an instance or a role with its calls.
type Caller struct {
	Subject evidence.Subject `json:"subject"`
	// Roles are those that an instance had, and empty of a role.
	Roles []string  `json:"roles,omitempty"`
	V1    int64     `json:"v1_calls"`
	V2    int64     `json:"v2_calls"`
	First time.Time `json:"first_v1,omitzero"`
	Last  time.Time `json:"last_v1,omitzero"`
}

// Software is a product, or a user agent that names none, with its calls.
type Software struct {
	Product product.ID `json:"product,omitempty"`
	Version string     `json:"version,omitempty"`
	// Agent is one of its user agents: that with the most v1 calls.
	Agent string `json:"user_agent"`
	// Instances used it with credentials that v1 delivered.
	Instances int   `json:"instances_v1"`
	V1        int64 `json:"v1_calls"`
	V2        int64 `json:"v2_calls"`
}

// Summary is what a tally comes to.
type Summary struct {
	V1Calls int64 `json:"v1_calls"`
	V2Calls int64 `json:"v2_calls"`
	// InstancesV1 and RolesV1 used credentials that v1 delivered; roles are those whose sessions name no instance.
	InstancesV1 int `json:"instances_v1"`
	RolesV1     int `json:"roles_v1"`
	Instances   int `json:"instances"`
	// Callers with v1 calls, those with the most first; Software with calls of either sort, by v1 calls.
	Callers  []Caller   `json:"callers"`
	Software []Software `json:"software"`
}

// Summary counts by caller and by software.
func (t *Tally) Summary() Summary {
	out := Summary{Callers: []Caller{}}
	callers := map[evidence.Subject]*Caller{}
	roles := map[evidence.Subject]map[string]bool{}
	software := map[spoken]*tool{}
	for k, c := range t.counts {
		f := t.finding(k, "", "")
		who := callers[f.Subject]
		if who == nil {
			who = &Caller{Subject: f.Subject}
			callers[f.Subject], roles[f.Subject] = who, map[string]bool{}
		}
		said := t.agents[k.agent]
		if said.product == "" {
			said.version = t.byID[k.agent] // by its words, where it names no product
		}
		if software[said] == nil {
			software[said] = &tool{agents: map[string]int64{}, users: map[evidence.Subject]bool{}}
		}
		software[said].add(f, c.n)
		if k.delivery == V2 {
			out.V2Calls, who.V2 = out.V2Calls+c.n, who.V2+c.n
			continue
		}
		out.V1Calls, who.V1 = out.V1Calls+c.n, who.V1+c.n
		if who.First.IsZero() {
			who.First = f.First
		}
		who.First, who.Last = earlier(who.First, f.First), later(who.Last, f.Last)
		if k.instance != 0 && k.role != 0 {
			roles[f.Subject][t.byID[k.role]] = true
		}
	}
	for subject, c := range callers {
		instance := subject.Kind == inventory.KindInstance
		if instance {
			out.Instances++
		}
		if c.V1 == 0 {
			continue
		}
		if instance {
			out.InstancesV1++
		} else {
			out.RolesV1++
		}
		c.Roles = slices.Sorted(maps.Keys(roles[subject]))
		out.Callers = append(out.Callers, *c)
	}
	slices.SortFunc(out.Callers, func(a, b Caller) int {
		return cmp.Or(cmp.Compare(b.V1, a.V1), cmp.Compare(a.Subject.Account, b.Subject.Account),
			cmp.Compare(a.Subject.Kind, b.Subject.Kind), cmp.Compare(a.Subject.ID, b.Subject.ID))
	})
	out.Software = listed(software)
	return out
}

// tool is a Software while it is counted.
type tool struct {
	v1, v2 int64
	agents map[string]int64
	users  map[evidence.Subject]bool
}

func (s *tool) add(f evidence.Finding, n int64) {
	if f.What == evidence.WhatV2Credentials {
		s.v2 += n
		s.agents[f.Detail] += 0
		return
	}
	s.v1 += n
	s.agents[f.Detail] += n
	if f.Subject.Kind == inventory.KindInstance {
		s.users[f.Subject] = true
	}
}

func listed(software map[spoken]*tool) []Software {
	out := []Software{}
	for said, s := range software {
		one := Software{Product: said.product, Version: said.version, Instances: len(s.users), V1: s.v1, V2: s.v2}
		if one.Product == "" {
			one.Version = ""
		}
		for _, agent := range slices.Sorted(maps.Keys(s.agents)) {
			if one.Agent == "" || s.agents[agent] > s.agents[one.Agent] {
				one.Agent = agent
			}
		}
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b Software) int {
		return cmp.Or(cmp.Compare(b.V1, a.V1), cmp.Compare(b.V2, a.V2), cmp.Compare(a.Product, b.Product),
			cmp.Compare(a.Version, b.Version), cmp.Compare(a.Agent, b.Agent))
	})
	return out
}

// Place is an account and a region, as file names have them.
type Place struct {
	Account fleet.AccountID `json:"account"`
	Region  fleet.Region    `json:"region"`
}

// Days are the days of each place of which there are files, by AWS's naming.
type Days map[Place]map[int32]bool

// Add notes a file.
func (d Days) Add(n Name) {
	p := Place{n.Account, n.Region}
	if d[p] == nil {
		d[p] = map[int32]bool{}
	}
	d[p][dayOf(n.Delivered.Unix())] = true
}

// Merge adds those of another.
func (d Days) Merge(o Days) {
	for p, days := range o {
		if d[p] == nil {
			d[p] = map[int32]bool{}
		}
		maps.Copy(d[p], days)
	}
}

// Span is from the first day to the end of the last; zero where there is none.
func (d Days) Span() Span {
	first, last, any := d.bounds()
	if !any {
		return Span{}
	}
	return Span{dayAt(first), dayAt(last + 1)}
}

func (d Days) bounds() (first, last int32, any bool) {
	for _, days := range d {
		for day := range days {
			if !any || day < first {
				first = day
			}
			if !any || day > last {
				last = day
			}
			any = true
		}
	}
	return first, last, any
}

// Missing is a stretch of days of which a place has no file, although there are some of other days or other places.
type Missing struct {
	Place
	// From and To are its first and its last day.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Whole: no region of the account has a file of these days.
	Whole bool `json:"whole_account,omitempty"`
}

// Missing lists the days within the span of all files that a place has none of, by place. Where nobody calls in a region there is no
// file either, which the names do not tell apart.
func (d Days) Missing() []Missing {
	first, last, any := d.bounds()
	if !any {
		return nil
	}
	accounts := map[fleet.AccountID]map[int32]bool{}
	for p, days := range d {
		if accounts[p.Account] == nil {
			accounts[p.Account] = map[int32]bool{}
		}
		maps.Copy(accounts[p.Account], days)
	}
	var out []Missing
	places := slices.SortedFunc(maps.Keys(d), func(a, b Place) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Region, b.Region))
	})
	for _, p := range places {
		for day := first; day <= last; day++ {
			if d[p][day] {
				continue
			}
			whole, at := !accounts[p.Account][day], dayAt(day)
			if n := len(out) - 1; n >= 0 && out[n].Place == p && out[n].Whole == whole && out[n].To.Equal(dayAt(day-1)) {
				out[n].To = at
				continue
			}
			out = append(out, Missing{Place: p, From: at, To: at, Whole: whole})
		}
	}
	return out
}

func dayAt(day int32) time.Time { return time.Unix(int64(day)*secondsADay, 0).UTC() }
