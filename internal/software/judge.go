package software

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/product"
)

// pkg is a package by its name in an ecosystem of package URLs.
type pkg struct {
	ecosystem, name, version string
	// declared: by a lock file or a bill of materials.
	declared bool
	// guessed: by a detector, from a file that the package brings, where its package manager's own record may be there as well.
	guessed bool
}

// looksLikeAWS tells whether a package's name says that it is of an AWS SDK, for those that the table does not have.
func looksLikeAWS(p pkg) bool { return awsNames.MatchString(p.ecosystem + "/" + p.name) }

var awsNames = regexp.MustCompile(`(?i)^(pypi/(boto|boto3|botocore|aiobotocore|aioboto3|awscli|awscrt|s3transfer|aws[-_].*)` +
	`|npm/(aws-sdk|aws-sdk-.*|@aws-sdk/.*|@smithy/.*|@aws-crypto/.*)` +
	`|maven/(com\.amazonaws(\..*)?|software\.amazon\.awssdk(\..*)?):.*` +
	`|golang/github\.com/(aws|aws/aws-sdk-go.*|mitchellh/goamz|crowdmob/goamz|goamz)(/.*)?` +
	`|gem/(aws-.*|fog-aws|right_aws)|nuget/(awssdk.*|amazon\..*)|composer/aws/.*|cargo/(aws-.*|rusoto_.*)` +
	`|(deb|rpm|apk|generic)/(aws.*|amazon-.*|ec2-.*|cloud-init|.*boto.*))$`)

// seen names a found package as something of the table, or by itself.
func (s *scan) seen(f found) Item {
	id, ok := s.o.Products.ByPackage(f.ecosystem, f.name)
	if !ok {
		return Item{Name: f.ecosystem + "/" + f.name, Version: f.version, Verdict: product.Verdict{Judgement: product.Unclear}}
	}
	p, _ := s.o.Products.Find(id)
	return Item{Product: id, Name: p.Name, Class: p.Class, Version: f.version, Verdict: s.o.Products.Judge(id, f.version)}
}

// implied tells whether a guess says nothing that the package manager's own record beside it does not say.
func (s *scan) implied(f found, recorded map[string][]string) bool {
	if !f.guessed {
		return false
	}
	for _, home := range recorded[s.key(f)] {
		if home == "." || f.path == home || strings.HasPrefix(f.path, home+"/") {
			return true
		}
	}
	return false
}

// key is the product, or package, and version of what was found.
func (s *scan) key(f found) string {
	if id, ok := s.o.Products.ByPackage(f.ecosystem, f.name); ok {
		return string(id) + "\x00" + f.version
	}
	return f.ecosystem + "/" + f.name + "\x00" + f.version
}

// home is the folder that a package's record speaks for, which for many is the one above the record's own; for a Java archive it is
// the archive.
func home(f found) string {
	dir := path.Dir(f.path)
	base := path.Base(dir)
	switch ext := path.Ext(dir); {
	case f.ecosystem == maven:
		return f.path
	case ext == ".dist-info", ext == ".egg-info", base == "EGG-INFO", base == "specifications", base == "composer":
		return path.Dir(dir)
	}
	return dir
}

// report is what was found, in order: what needs work first, then by name and version.
func (s *scan) report() *Report {
	s.lintHelpers()
	recorded := map[string][]string{}
	for f := range s.found {
		if !f.guessed && !f.declared {
			recorded[s.key(f)] = append(recorded[s.key(f)], home(f))
		}
	}
	items := map[string]*Item{}
	for f := range s.found {
		if s.implied(f, recorded) {
			continue
		}
		key := s.key(f)
		if items[key] == nil {
			items[key] = new(s.seen(f))
		}
		items[key].place(Place{Path: f.path, Package: f.ecosystem + "/" + f.name, Declared: f.declared})
	}
	r := &s.rep
	r.Items, r.Gaps, r.Raw = []Item{}, append([]Gap{}, r.Gaps...), append([]Raw{}, r.Raw...)
	for _, i := range slices.SortedFunc(maps.Values(items), byNeed) {
		slices.SortFunc(i.Places, func(a, b Place) int { return cmp.Compare(a.Path, b.Path) })
		r.Items = append(r.Items, *i)
	}
	slices.SortFunc(r.Raw, func(a, b Raw) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), a.Line-b.Line, cmp.Compare(a.Rule, b.Rule))
	})
	return r
}

// place adds a place. Several packages of one product at one place are one: the first by name.
func (i *Item) place(p Place) {
	at := slices.IndexFunc(i.Places, func(o Place) bool { return o.Path == p.Path })
	if at < 0 {
		i.Places = append(i.Places, p)
		return
	}
	old := &i.Places[at]
	old.Package, old.Declared = min(old.Package, p.Package), old.Declared && p.Declared
}

// urgency is the order in which judgements are shown.
var urgency = []product.Judgement{product.NoFix, product.Old, product.Able, product.Unclear, product.Speaks}

func byNeed(a, b *Item) int {
	return cmp.Or(slices.Index(urgency, a.Verdict.Judgement)-slices.Index(urgency, b.Verdict.Judgement),
		cmp.Compare(a.Name, b.Name), product.Compare(a.Version, b.Version), cmp.Compare(a.Version, b.Version))
}

// maxDetail bounds a finding's detail, in bytes.
const maxDetail = 2000

// Findings are the report as evidence about a subject: one for each place of each product, and one for each raw call. Items that the
// table does not know are none.
func (r *Report) Findings(subject evidence.Subject, at time.Time) iter.Seq[evidence.Finding] {
	return func(yield func(evidence.Finding) bool) {
		for _, i := range r.Items {
			for _, p := range i.Places {
				if i.Product != "" && !yield(evidence.Finding{
					Subject: subject, Source: evidence.SourceSoftware, What: evidence.WhatSoftware, Product: string(i.Product),
					Version: detail(i.Version), Detail: detail(p.Path), First: at, Last: at, Origin: detail(r.Origin),
				}) {
					return
				}
			}
		}
		for _, c := range r.Raw {
			if !yield(evidence.Finding{
				Subject: subject, Source: evidence.SourceSoftware, What: evidence.WhatRawCall,
				Detail: detail(fmt.Sprintf("%s:%d", c.Path, c.Line)), First: at, Last: at, Origin: detail(r.Origin),
			}) {
				return
			}
		}
	}
}

// Lost says what the report could not see; "" where nothing was missed.
func (r *Report) Lost() string {
	if r.GapCount == 0 {
		return ""
	}
	first := r.Gaps[0]
	text := fmt.Sprintf("%s could not be read: %s", first.Path, first.Reason)
	if r.GapCount > 1 {
		text = fmt.Sprintf("%d places could not be read, among them %s: %s", r.GapCount, first.Path, first.Reason)
	}
	return detail(text)
}

// Counts gives the items by judgement.
func (r *Report) Counts() map[product.Judgement]int {
	out := map[product.Judgement]int{}
	for _, i := range r.Items {
		out[i.Verdict.Judgement]++
	}
	return out
}

// detail makes a text of strangers one that can be kept.
func detail(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	if len(text) > maxDetail {
		text = strings.ToValidUTF8(text[:maxDetail], "") + "…"
	}
	return text
}
