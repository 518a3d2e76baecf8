package product

import (
	_ "embed" // the table
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Table is a set of products. It does not change; With gives another.
type Table struct {
	products []Product // by id
	byID     map[ID]int
	packages map[Package]ID
	agents   map[string][]agentOf // by token in lower case
	prefixes []agentOf            // tokens that end in "*", longest first
	images   []imageOf
}

// agentOf is a word of user agents with the product it stands for.
type agentOf struct {
	Agent
	product ID
}

//go:embed versions.yaml
var builtIn []byte

var defaultTable = sync.OnceValue(func() *Table {
	t, err := (&Table{}).With(builtIn, "versions.yaml")
	if err != nil {
		panic(err) // what the tests rule out
	}
	return t
})

// Default is the table that comes with the program.
func Default() *Table { return defaultTable() }

// With gives a table with a user's own entries, in the format of versions.yaml; name is the file's, for errors. An entry whose id
// is there already replaces it whole. An error names the file and the line.
func (t *Table) With(yaml []byte, name string) (*Table, error) {
	own, err := decode(yaml, name)
	if err != nil {
		return nil, err
	}
	all := map[ID]Product{}
	for _, p := range t.products {
		all[p.ID] = p
	}
	for _, p := range own {
		all[p.ID] = p.Product
	}
	for _, p := range own {
		for _, id := range p.Through {
			if _, ok := all[id]; !ok {
				return nil, p.errorf("%q calls through %q, which is no product", p.ID, id)
			}
		}
		for _, pkg := range p.Packages {
			for id, o := range all {
				if id != p.ID && slices.Contains(o.Packages, pkg) {
					return nil, p.errorf("package %s/%s of %q is one of %q already", pkg.Ecosystem, pkg.Name, p.ID, id)
				}
			}
		}
	}
	return build(all)
}

func build(all map[ID]Product) (*Table, error) {
	t := &Table{byID: map[ID]int{}, packages: map[Package]ID{}, agents: map[string][]agentOf{}}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		p := all[id]
		t.byID[id] = len(t.products)
		t.products = append(t.products, p)
		for _, pkg := range p.Packages {
			t.packages[pkg] = id
		}
		for _, a := range p.Agents {
			token := strings.ToLower(a.Token)
			if prefix, ok := strings.CutSuffix(token, "*"); ok {
				t.prefixes = append(t.prefixes, agentOf{Agent{prefix, a.From, a.Below}, id})
				continue
			}
			t.agents[token] = append(t.agents[token], agentOf{a, id})
		}
		if p.Image != nil {
			i, err := compile(id, p.Image)
			if err != nil {
				return nil, err
			}
			t.images = append(t.images, i)
		}
	}
	slices.SortStableFunc(t.prefixes, func(a, b agentOf) int { return len(b.Token) - len(a.Token) })
	return t, nil
}

// Find gives a product by its id.
func (t *Table) Find(id ID) (Product, bool) {
	i, ok := t.byID[id]
	if !ok {
		return Product{}, false
	}
	return t.products[i], true
}

// All gives the products in the order of their ids.
func (t *Table) All() []Product { return slices.Clone(t.products) }

// ByPackage names the product of a package. The ecosystem is a package URL's type (pypi, npm, maven, golang, gem, composer, nuget,
// deb, rpm, apk, cargo); a Maven name is "group:artifact". Names are compared as their ecosystem compares them.
func (t *Table) ByPackage(ecosystem, name string) (ID, bool) {
	id, ok := t.packages[canonical(ecosystem, name)]
	return id, ok
}

// canonical is a package's name as its ecosystem compares names: PyPI, NuGet and Composer ignore case, and PyPI takes "-", "_" and
// "." for one another. https://packaging.python.org/en/latest/specifications/name-normalization/
func canonical(ecosystem, name string) Package {
	ecosystem = strings.ToLower(ecosystem)
	switch ecosystem {
	case "pypi":
		name = strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name))
		for strings.Contains(name, "--") {
			name = strings.ReplaceAll(name, "--", "-")
		}
	case "nuget", "composer", "deb", "rpm", "apk":
		name = strings.ToLower(name)
	case "maven":
		name = strings.Replace(name, "/", ":", 1)
	}
	return Package{ecosystem, name}
}

// Judge says whether a version of a product speaks v2. Versions are read as in any of the ecosystems: see Compare.
func (t *Table) Judge(id ID, version string) Verdict {
	p, ok := t.Find(id)
	if !ok {
		return Verdict{Judgement: Unclear}
	}
	return judge(&p, version)
}

func judge(p *Product, version string) Verdict {
	v := Verdict{Judgement: Unclear, Fix: p.Fix, Source: p.Source}
	if len(p.Lines) == 0 {
		return v
	}
	if last := p.Lines[len(p.Lines)-1]; len(p.Lines) == 1 && last.First == "0" {
		v.Judgement, v.First = Speaks, "0" // whatever the version is
		return v.settled()
	}
	if !anyFirst(p.Lines) && !slices.ContainsFunc(p.Lines, func(l Line) bool { return l.Unclear || l.Able != "" }) {
		v.Judgement = NoFix
		return v
	}
	have, ok := parseVersion(version)
	if !ok {
		v.First = p.Lines[len(p.Lines)-1].First
		return v
	}
	line, other := lineOf(p.Lines, have)
	v.First = line.First
	switch {
	case line.First != "" && !before(have, line.First):
		v.Judgement = Speaks
		return v.settled()
	case line.Able != "" && !before(have, line.Able):
		v.Judgement = Able
	case line.Unclear:
	case line.First != "" || line.Able != "":
		v.Judgement = Old
	case other != "":
		v.Judgement, v.First = Old, other
	default:
		v.Judgement = NoFix
	}
	return v
}

// settled is a verdict on what needs no fix.
func (v Verdict) settled() Verdict {
	v.Fix = ""
	if v.First == "0" {
		v.First = ""
	}
	return v
}

func anyFirst(lines []Line) bool {
	return slices.ContainsFunc(lines, func(l Line) bool { return l.First != "" })
}

// lineOf gives the line that a version belongs to, and the first good version of another line: of the next one that has any, else of
// the last before it.
func lineOf(lines []Line, v version) (line Line, other string) {
	at := 0
	for i, l := range lines {
		if i == 0 || !before(v, l.From) {
			at = i
		}
	}
	for i, l := range lines {
		first := l.First
		if first == "0" {
			first = l.From
		}
		if first != "" && i != at && (other == "" || i < at) {
			other = first
		}
	}
	return lines[at], other
}

// Appliance judges a machine image of a vendor that the table knows, by its owner (an account id or alias), name, product codes and
// when it was made (zero where that is not known). False: the table knows no such image.
func (t *Table) Appliance(owner, imageName string, productCodes []string, created time.Time) (Verdict, ID, bool) {
	i, version, ok := t.imageOf(owner, imageName, productCodes, created)
	if !ok {
		return Verdict{}, "", false
	}
	p := t.products[t.byID[i.product]]
	v := judge(&p, version)
	if v.Judgement == Unclear && !created.IsZero() && created.Before(p.Image.OldBefore) {
		v.Judgement = Old
	}
	return v, p.ID, true
}
