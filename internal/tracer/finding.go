package tracer

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// Subject is the instance that a trace is of; the zero Subject where the header does not say.
func (h Header) Subject() evidence.Subject {
	if h.InstanceID == "" {
		return evidence.Subject{}
	}
	return evidence.Subject{Account: h.Account, Region: h.Region, Kind: inventory.KindInstance, ID: h.InstanceID}
}

// maxFindings bounds the callers and days of Findings that are told apart; the rest is one caller a day.
const maxFindings = 20_000

// maxDetail bounds the text of a finding, in bytes.
const maxDetail = 512

// Findings adds up v1 calls as evidence: one finding for each day (UTC), caller and product. Whether a call was answered is not seen.
type Findings struct {
	byKey map[findingKey]*found
}

type findingKey struct {
	day                          int64
	program, place, product, ver string
	agent                        string // where the product is not known
}

// found is a finding in the making.
type found struct {
	count       int64
	first, last time.Time
	method      string
	path        string // what the paths have in common
}

// Add counts a call, if it is one of version 1.
func (f *Findings) Add(c *Call) {
	if c.Version != V1 {
		return
	}
	if f.byKey == nil {
		f.byKey = map[findingKey]*found{}
	}
	at := c.Time.UTC()
	k := findingKey{at.Unix() / 86400, c.Process.Program(), c.Place.String(), c.Product, c.ProductVersion, ""}
	if c.Product == "" {
		k.agent = c.UserAgent
	}
	if f.byKey[k] == nil && len(f.byKey) >= maxFindings {
		k = findingKey{day: k.day, program: Others}
	}
	f.merge(k, &found{1, at, at, c.Method, c.Path})
}

// Merge adds others.
func (f *Findings) Merge(o *Findings) {
	if f.byKey == nil {
		f.byKey = map[findingKey]*found{}
	}
	for _, k := range slices.SortedFunc(maps.Keys(o.byKey), findingKey.compare) {
		v := o.byKey[k]
		if f.byKey[k] == nil && len(f.byKey) >= maxFindings {
			k = findingKey{day: k.day, program: Others}
		}
		f.merge(k, v)
	}
}

func (f *Findings) merge(k findingKey, v *found) {
	have := f.byKey[k]
	if have == nil {
		f.byKey[k] = v
		return
	}
	have.count += v.count
	if v.first.Before(have.first) {
		have.first = v.first
	}
	if v.last.After(have.last) {
		have.last = v.last
	}
	if have.method != v.method {
		have.method = ""
	}
	have.path = common(have.path, v.path)
}

func (k findingKey) compare(o findingKey) int {
	return cmp.Or(cmp.Compare(k.day, o.day), cmp.Compare(k.program, o.program), cmp.Compare(k.place, o.place),
		cmp.Compare(k.product, o.product), cmp.Compare(k.ver, o.ver), cmp.Compare(k.agent, o.agent))
}

// Len is how many findings there are.
func (f *Findings) Len() int { return len(f.byKey) }

// common is what two paths have in common, up to a slash, with an ellipsis behind it where they differ.
func common(a, b string) string {
	if a == b {
		return a
	}
	a = strings.TrimSuffix(a, leftOut)
	n := 0
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			break
		}
		if a[i] == '/' {
			n = i + 1
		}
	}
	return a[:n] + leftOut
}

// All gives the findings of a subject, by day and caller.
func (f *Findings) All(subject evidence.Subject) iter.Seq[evidence.Finding] {
	return func(yield func(evidence.Finding) bool) {
		for _, k := range slices.SortedFunc(maps.Keys(f.byKey), findingKey.compare) {
			v := f.byKey[k]
			if !yield(evidence.Finding{Subject: subject, Source: evidence.SourceTrace, What: evidence.WhatV1Call, Product: k.product,
				Version: k.ver, Detail: k.detail(v), Count: v.count, First: v.first, Last: v.last}) {
				return
			}
		}
	}
}

// detail is what a person looks for: "/usr/bin/python3 billing.py (billing.service): botocore 1.9.2, GET /latest/meta-data/iam/…".
func (k findingKey) detail(v *found) string {
	out := k.program
	if k.place != "" {
		out += " (" + k.place + ")"
	}
	if who := cmp.Or(strings.TrimSpace(k.product+" "+k.ver), k.agent); who != "" {
		out += ": " + who + ","
	} else {
		out += ":"
	}
	what := strings.TrimSpace(v.method + " " + v.path)
	return cut(fmt.Sprintf("%s %s", out, what), maxDetail)
}
