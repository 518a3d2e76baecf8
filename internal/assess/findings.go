package assess

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/product"
)

// findings are those of the place, sorted, and which of them are about which resource.
type findings struct {
	list []evidence.Finding
	// of holds, by resource, where in list the findings of each subject that covers it begin.
	of map[fleet.Ref][]int
	// ends holds, for each beginning, the end.
	ends map[int]int
}

// joinFindings finds out which resources each finding is about: the subject itself, all that have it in common, and what a
// launcher or source that is covered has launched or will.
func (j *judge) joinFindings() {
	j.findings = findings{of: map[fleet.Ref][]int{}, ends: map[int]int{}}
	place := j.in.Snapshot.Place
	for _, f := range j.in.Findings {
		s := f.Subject
		if (s.Account == "" || s.Account == place.Account) && (s.Region == "" || s.Region == place.Region) {
			j.findings.list = append(j.findings.list, f)
		}
	}
	list := j.findings.list
	if len(list) == 0 {
		return
	}
	slices.SortFunc(list, evidence.CompareFindings)
	where := j.subjects()
	for begin := 0; begin < len(list); {
		end := begin + 1
		for end < len(list) && list[end].Subject == list[begin].Subject {
			end++
		}
		j.findings.ends[begin] = end
		for _, r := range where.covered(list[begin].Subject) {
			j.cover(r, begin)
		}
		begin = end
	}
}

// cover notes that findings are about a resource, and about all hosts and groups that are its own.
func (j *judge) cover(r *inventory.Resource, begin int) {
	if slices.Contains(j.findings.of[r.Ref], begin) {
		return
	}
	j.findings.of[r.Ref] = append(j.findings.of[r.Ref], begin)
	if r.Ref.Kind == inventory.KindImage {
		return // those that run it are covered by themselves
	}
	for _, h := range j.index.Hosts(r.Ref) {
		j.cover(h, begin)
	}
	for _, g := range j.groupsOf(r) {
		j.cover(g, begin)
	}
}

// subjects finds resources by what subjects name.
type subjects struct {
	all []*inventory.Resource
	by  map[subjectKey][]*inventory.Resource
}

type subjectKey struct{ kind, id string }

func (j *judge) subjects() *subjects {
	s := &subjects{by: map[subjectKey][]*inventory.Resource{}}
	for i := range j.in.Snapshot.Resources {
		r := &j.in.Snapshot.Resources[i]
		s.all = append(s.all, r)
		s.add(r, r.Ref.Kind, r.Ref.ID)
		s.add(r, r.Ref.Kind, r.Name)
		for _, l := range r.Links {
			switch l.Relation {
			case inventory.MemberOf, inventory.LaunchedFrom, inventory.LaunchesFrom:
				s.add(r, l.To.Kind, l.To.ID)
			}
		}
		for key, value := range r.Tags {
			s.add(r, evidence.SubjectTag, key+"="+value)
		}
		for _, role := range j.roleNames(r) {
			s.add(r, evidence.SubjectRole, role)
		}
		for key, image := range r.Attrs {
			if key == inventory.AttrImage || strings.HasPrefix(key, inventory.AttrImage+"/") {
				s.add(r, inventory.KindImage, image)
			}
		}
		if j.in.Manners[r.Ref.Kind].Role == RoleLauncher {
			for _, f := range j.launches(r) {
				for image := range strings.SplitSeq(f.Image, ",") {
					s.add(r, inventory.KindImage, image)
				}
			}
		}
	}
	return s
}

func (s *subjects) add(r *inventory.Resource, kind, id string) {
	key := subjectKey{kind, id}
	if have := s.by[key]; id != "" && (len(have) == 0 || have[len(have)-1] != r) {
		s.by[key] = append(have, r)
	}
}

func (s *subjects) covered(of evidence.Subject) []*inventory.Resource {
	switch of.Kind {
	case evidence.SubjectFleet, evidence.SubjectAccount:
		return s.all
	}
	return s.by[subjectKey{of.Kind, of.ID}]
}

// joint is what findings say of a lineage. Its numbers are places in the list of findings, ascending.
type joint struct {
	all []int
	// calls are v1 calls inside the window, refused failed certifications inside it; old is software inside it that does not speak
	// v2 by itself, raw what calls the service by hand without a token.
	calls, refused, old, raw []int
	// passed are certifications that stand for a boot, and hops the hop limit that all certifications together need.
	passed []int
	hops   int

	// What verdicts of the lineage show, once complete.
	complete bool
	sources  []SourceBasis
	shown    []evidence.Finding
	schedule *Schedule
}

// joint joins the findings of a lineage: of its hosts, past ones too, of itself and of the groups that it operates. It is computed
// once for each lineage.
func (j *judge) joint(lineage fleet.Ref) *joint {
	if f, ok := j.joints[lineage]; ok {
		return f
	}
	f := &joint{}
	j.joints[lineage] = f
	if len(j.findings.list) == 0 {
		return f
	}
	members := j.members(lineage)
	refs := []fleet.Ref{lineage}
	for _, m := range members {
		refs = append(refs, m.Ref)
	}
	if r := j.index.Resource(lineage); r != nil {
		for _, g := range j.groupsOf(r) {
			refs = append(refs, g.Ref)
		}
	}
	seen := map[int]bool{}
	for _, ref := range refs {
		for _, begin := range j.findings.of[ref] {
			for i := begin; i < j.findings.ends[begin] && !seen[begin]; i++ {
				f.all = append(f.all, i)
			}
			seen[begin] = true
		}
	}
	slices.Sort(f.all)
	newest := j.newest(lineage, members)
	for _, i := range f.all {
		j.sort(f, i, newest)
	}
	return f
}

// sort puts a finding where the rules look for it.
func (j *judge) sort(f *joint, i int, newest time.Time) {
	x := &j.findings.list[i]
	if x.What == evidence.WhatCertified {
		f.hops = max(f.hops, x.HopLimit)
	}
	if j.past(x) {
		return
	}
	switch x.What {
	case evidence.WhatV1Call, evidence.WhatV1Credentials:
		f.calls = append(f.calls, i)
	case evidence.WhatRefused:
		f.refused = append(f.refused, i)
	case evidence.WhatCertified:
		// A program that passes says nothing of all that an account runs.
		wide := x.Subject.Kind == evidence.SubjectAccount || x.Subject.Kind == evidence.SubjectFleet
		if !x.Sample && !wide && !x.First.Before(newest) && !x.First.After(j.in.Now) {
			f.passed = append(f.passed, i)
		}
	case evidence.WhatRawCall:
		f.raw = append(f.raw, i)
	case evidence.WhatSoftware:
		switch j.products().Judge(product.ID(x.Product), x.Version).Judgement {
		case product.Old, product.Able, product.NoFix:
			f.old = append(f.old, i)
		}
	}
}

// past tells whether a finding lies before the window.
func (j *judge) past(f *evidence.Finding) bool { return f.Last.Before(j.in.Span.Start) }

// newest is when what runs or launches in a lineage was changed last, as far as is known: a certification from before is of
// something else.
func (j *judge) newest(lineage fleet.Ref, members []*inventory.Resource) time.Time {
	var newest time.Time
	note := func(t time.Time) {
		if t.After(newest) {
			newest = t
		}
	}
	images := map[string]bool{}
	for _, m := range members {
		if m.Status != inventory.StatusTerminated {
			note(m.Launched)
			images[m.Attrs[inventory.AttrImage]] = true
		}
	}
	if r := j.index.Resource(lineage); r != nil {
		for key, image := range r.Attrs {
			if key == inventory.AttrImage || strings.HasPrefix(key, inventory.AttrImage+"/") {
				images[image] = true
			}
		}
		if j.in.Manners[r.Ref.Kind].Role == RoleLauncher {
			for _, f := range j.launches(r) {
				for image := range strings.SplitSeq(f.Image, ",") {
					images[image] = true
				}
			}
		}
	}
	for id := range images {
		ref := fleet.Ref{Place: j.in.Snapshot.Place, Kind: inventory.KindImage, ID: id}
		if image := j.index.Resource(ref); image != nil {
			if t, err := time.Parse(time.RFC3339, image.Attrs[inventory.AttrCreated]); err == nil {
				note(t)
			}
		}
	}
	return newest
}

func (j *judge) products() *product.Table {
	if j.in.Products != nil {
		return j.in.Products
	}
	return product.Default()
}

// roleNames are the names by which findings call the role of a resource: the ARN of its instance profile, and the profile's name,
// which consoles and most templates give the role as well.
func (j *judge) roleNames(r *inventory.Resource) []string { return RoleNames(r) }

// RoleNames are those that the resource itself tells.
func RoleNames(r *inventory.Resource) []string {
	arn := r.Attrs[inventory.AttrProfile]
	if arn == "" {
		return nil
	}
	name := arn[strings.LastIndex(arn, "/")+1:]
	if name == arn {
		return []string{arn}
	}
	return []string{arn, name}
}

// seenCalls adds a reason for the v1 calls that other sources saw.
func (j *judge) seenCalls(v *Verdict, r *inventory.Resource, f *joint) {
	for _, what := range []evidence.What{evidence.WhatV1Credentials, evidence.WhatV1Call} {
		by := map[string]int64{}
		var total int64
		var last time.Time
		own := false
		for _, i := range f.calls {
			x := &j.findings.list[i]
			if x.What != what {
				continue
			}
			by[j.called(x)] += x.Count
			total += x.Count
			if x.Last.After(last) {
				last = x.Last
			}
			own = own || j.covers(r.Ref, i)
		}
		if len(by) == 0 {
			continue
		}
		code, of := CodeV1Credentials, "calls to AWS with v1 credentials"
		if what == evidence.WhatV1Call {
			code, of = CodeTraced, "v1 calls traced"
		}
		where := ""
		if !own {
			where = fmt.Sprintf(" in its lineage %s %s", v.Basis.Lineage.Kind, v.Basis.Lineage.ID)
		}
		v.Status = Blocked
		v.add(code, "%s %s by %s%s, the last at %s", count(total), of, callers(by), where, stamp(last))
	}
}

// covers tells whether a finding is about the resource itself.
func (j *judge) covers(ref fleet.Ref, i int) bool {
	return slices.ContainsFunc(j.findings.of[ref], func(begin int) bool { return begin <= i && i < j.findings.ends[begin] })
}

// called is how people call what a finding names: "botocore 1.9.2".
func (j *judge) called(f *evidence.Finding) string {
	name := f.Product
	if p, ok := j.products().Find(product.ID(f.Product)); ok && p.Name != "" {
		name = p.Name
	}
	if name == "" {
		return cmp.Or(f.Detail, "a program that is not known")
	}
	return strings.TrimSpace(name + " " + f.Version)
}

// callers names the most frequent callers, and how many there are besides.
func callers(by map[string]int64) string {
	names := make([]string, 0, len(by))
	for name := range by {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(by[b], by[a]), cmp.Compare(a, b)) })
	if len(names) <= 2 {
		return strings.Join(names, " and ")
	}
	return fmt.Sprintf("%s, %s and %d more", names[0], names[1], len(names)-2)
}

// oldSoftware adds a reason for the software that does not speak v2 by itself, and for what calls the service by hand.
func (j *judge) oldSoftware(v *Verdict, f *joint) {
	j.tell(v, CodeOldSoftware, f.old, func(x *evidence.Finding) string {
		judged := j.products().Judge(product.ID(x.Product), x.Version)
		switch {
		case judged.Judgement == product.NoFix:
			return j.called(x) + " is there, and no version of it speaks v2"
		case judged.Judgement == product.Able:
			return j.called(x) + " is there, which speaks v2 only where it is told to"
		case judged.First != "":
			return fmt.Sprintf("%s is there, and %s is the first version that speaks v2", j.called(x), judged.First)
		}
		return j.called(x) + " is there, which does not speak v2"
	})
	j.tell(v, CodeRawCall, f.raw, func(x *evidence.Finding) string {
		return fmt.Sprintf("%s calls the metadata service without a token", cmp.Or(x.Detail, j.called(x)))
	})
}

// told is how many different findings of one sort are named in reasons.
const told = 3

func (j *judge) tell(v *Verdict, code Code, which []int, say func(*evidence.Finding) string) {
	var texts []string
	for _, i := range which {
		if text := say(&j.findings.list[i]); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	if len(texts) > 0 {
		v.add(code, "%s", firstOf(texts, told))
	}
}

// certified says which certification stands for the boot that was not seen, or besides.
func (j *judge) certified(v *Verdict, f *joint) {
	if len(f.passed) == 0 {
		return
	}
	x := &j.findings.list[f.passed[0]]
	for _, i := range f.passed[1:] {
		if y := &j.findings.list[i]; y.First.After(x.First) {
			x = y
		}
	}
	hops := ""
	if f.hops > 0 {
		hops = fmt.Sprintf(", with a hop limit of at least %d", f.hops)
	}
	v.add(CodeCertified, "%s was certified on %s%s (%s)", cmp.Or(x.Detail, x.Subject.String()), stamp(x.First), hops,
		cmp.Or(x.Origin, x.Source.Title()))
}

// refusedBy says which certification failed.
func (j *judge) refusedBy(v *Verdict, f *joint) {
	v.Status = Blocked
	j.tell(v, CodeNotCertified, f.refused, func(x *evidence.Finding) string {
		return fmt.Sprintf("a certification failed on %s: %s (%s)", stamp(x.First), cmp.Or(x.Detail, x.Subject.String()),
			cmp.Or(x.Origin, x.Source.Title()))
	})
}
