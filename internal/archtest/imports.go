package archtest

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Imports checks every import of every package against the table. A package without a row is a finding: whoever adds a
// package says what it may do.
func (t *Tree) Imports(rows []Row) []Finding {
	var out []Finding
	for _, p := range t.Packages {
		row, ok := rowOf(rows, p.Path)
		if !ok {
			out = append(out, Finding{p.Path, "no row in internal/archtest/rules.go says what this package may import; add one"})
			continue
		}
		for _, f := range p.Files {
			for _, spec := range f.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					out = append(out, Finding{t.at(spec), "an import path that is no string"})
					continue
				}
				if why := row.refuses(p.Path, imported); why != "" {
					out = append(out, Finding{t.at(spec), fmt.Sprintf("%s imports %s: %s", p.Path, imported, why)})
				}
			}
		}
	}
	return out
}

// rowOf finds the first row for a package.
func rowOf(rows []Row, pkg string) (Row, bool) {
	i := slices.IndexFunc(rows, func(r Row) bool { return matches(r.Package, pkg) })
	if i < 0 {
		return Row{}, false
	}
	return rows[i], true
}

// refuses tells why a package of this row may not import a path; "" means that it may.
func (r Row) refuses(pkg, imported string) string {
	own, isOwn := strings.CutPrefix(imported, Module+"/")
	switch {
	case isOwn && (strings.HasPrefix(own, pkg+"/") || matchesAny(r.Own, own)):
		return ""
	case isOwn:
		return "its row in internal/archtest/rules.go does not have that package"
	case strings.Contains(strings.Split(imported, "/")[0], "."):
		if slices.ContainsFunc(r.Modules, func(m string) bool { return below(imported, m) }) {
			return ""
		}
		return "its row in internal/archtest/rules.go does not have that module"
	}
	return r.refusesStandard(imported)
}

func (r Row) refusesStandard(imported string) string {
	if r.Pure && !slices.Contains(netAllowed, imported) &&
		slices.ContainsFunc(impure, func(s string) bool { return below(imported, s) }) {
		return "a pure package decides and leaves acting to others"
	}
	if r.NoSQL && below(imported, "database/sql") {
		return "only the store speaks SQL"
	}
	return ""
}

func below(p, root string) bool { return p == root || strings.HasPrefix(p, root+"/") }

func matchesAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) })
}

// matches tells whether a package's path fits a pattern of the table.
func matches(pattern, pkg string) bool {
	if root, ok := strings.CutSuffix(pattern, "/..."); ok {
		return below(pkg, root)
	}
	ok, err := path.Match(pattern, pkg)
	return err == nil && ok
}

// KindList checks that the list of kinds imports every kind there is, and nothing twice.
func (t *Tree) KindList(folder string) []Finding {
	var kinds []string
	listed := map[string]bool{}
	for _, p := range t.Packages {
		switch {
		case p.Path == folder+"/all":
			for _, f := range p.Files {
				for _, spec := range f.Imports {
					listed[strings.TrimPrefix(strings.Trim(spec.Path.Value, `"`), Module+"/")] = true
				}
			}
		case path.Dir(p.Path) == folder:
			kinds = append(kinds, p.Path)
		}
	}
	var out []Finding
	for _, k := range kinds {
		if !listed[k] {
			out = append(out, Finding{k, "this kind is not in the list in " + folder + "/all, so no command and no test knows it"})
		}
	}
	return out
}
