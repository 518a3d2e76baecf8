package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

// clockCalls are the functions of package time that read the machine's clock or wait on it.
var clockCalls = []string{
	"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker",
}

// Clocks checks that only the named packages and files use the machine's clock: all others are given a clock, or the time.
func (t *Tree) Clocks(allowed []string) []Finding {
	var out []Finding
	for _, p := range t.Packages {
		if matchesAny(allowed, p.Path) {
			continue
		}
		for _, f := range p.Files {
			local := localName(f, "time")
			if local == "" || slices.Contains(allowed, t.Files.Position(f.Pos()).Filename) {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == local && x.Obj == nil && slices.Contains(clockCalls, sel.Sel.Name) {
					out = append(out, Finding{t.at(n), "time." + sel.Sel.Name + ": take a clock.Clock, or the time as an argument"})
				}
				return true
			})
		}
	}
	return out
}

// localName is the name by which a file knows an imported package; "" when it does not import it.
func localName(f *ast.File, imported string) string {
	for _, spec := range f.Imports {
		if strings.Trim(spec.Path.Value, `"`) != imported {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(imported)
	}
	return ""
}

// Names checks that no package has a name that says nothing.
func (t *Tree) Names(banned []string) []Finding {
	var out []Finding
	for _, p := range t.Packages {
		if slices.Contains(banned, p.Name) {
			out = append(out, Finding{p.Path, fmt.Sprintf("the name %q says nothing: name what the package owns", p.Name)})
		}
	}
	return out
}

// PackageComments checks that every package has one comment, of at least two lines, that begins as Go's do.
func (t *Tree) PackageComments() []Finding {
	var out []Finding
	for _, p := range t.Packages {
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command " + path.Base(p.Path) + " "
		}
		var docs []string
		for _, f := range p.Files {
			if f.Doc != nil {
				docs = append(docs, f.Doc.Text())
			}
		}
		switch {
		case len(docs) == 0:
			out = append(out, Finding{p.Path, "no package comment: say what it owns and what it may not do"})
		case len(docs) > 1:
			out = append(out, Finding{p.Path, "more than one package comment: readers see only one of them"})
		case !strings.HasPrefix(docs[0], want):
			out = append(out, Finding{p.Path, fmt.Sprintf("the package comment should begin %q", want)})
		case strings.Count(strings.TrimSpace(docs[0]), "\n") < 1:
			out = append(out, Finding{p.Path, "a package comment of one line: say what it owns and what it may not do"})
		}
	}
	return out
}

// Documentation checks that everything exported has a comment: functions, types, methods of exported types, methods of
// interfaces that have several, constants and variables. In a group, the group's comment is enough, or one behind the
// line.
func (t *Tree) Documentation(exempt []string) []Finding {
	var out []Finding
	missing := func(n ast.Node, what string) {
		out = append(out, Finding{t.at(n), what + " is exported and has no comment"})
	}
	for _, p := range t.Packages {
		for _, f := range p.Files {
			for _, d := range f.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if d.Doc == nil && d.Name.IsExported() && !hidden(d, exempt) {
						missing(d, d.Name.Name)
					}
				case *ast.GenDecl:
					undocumented(d, exempt, missing)
				}
			}
		}
	}
	return out
}

// hidden tells a method that nobody reads about: of an unexported type, or told by a well-known interface.
func hidden(d *ast.FuncDecl, exempt []string) bool {
	if d.Recv == nil {
		return false
	}
	name := root(d.Recv.List[0].Type)
	return name == nil || !name.IsExported() || slices.Contains(exempt, d.Name.Name)
}

func undocumented(d *ast.GenDecl, exempt []string, missing func(ast.Node, string)) {
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
				missing(s, s.Name.Name)
			}
			i, ok := s.Type.(*ast.InterfaceType)
			if ok && s.Name.IsExported() && len(i.Methods.List) > 1 { // of one method, the type's comment tells
				for _, m := range i.Methods.List {
					if len(m.Names) == 1 && m.Names[0].IsExported() && m.Doc == nil && m.Comment == nil &&
						!slices.Contains(exempt, m.Names[0].Name) {
						missing(m, s.Name.Name+"."+m.Names[0].Name)
					}
				}
			}
		case *ast.ValueSpec:
			for _, n := range s.Names {
				if n.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
					missing(s, n.Name)
				}
			}
		}
	}
}

// Inits checks that no package does anything when it is loaded.
func (t *Tree) Inits() []Finding {
	var out []Finding
	for _, p := range t.Packages {
		for _, f := range p.Files {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					out = append(out, Finding{t.at(fn), "init(): let the caller say what it wants, by a value"})
				}
			}
		}
	}
	return out
}

// Globals checks that no package changes its own variables once it runs: no registries, no caches, no switches. Locks
// and atomics at package level are findings by themselves, since there is nothing for them to guard.
func (t *Tree) Globals() []Finding {
	var out []Finding
	for _, p := range t.Packages {
		vars := map[string]bool{}
		for _, f := range p.Files {
			for _, d := range f.Decls {
				if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
					for _, s := range g.Specs {
						spec := s.(*ast.ValueSpec)
						for _, n := range spec.Names {
							vars[n.Name] = true
						}
						if guards(spec.Type) {
							out = append(out, Finding{t.at(spec), "a lock or an atomic at package level: state belongs in a value"})
						}
					}
				}
			}
		}
		for _, f := range p.Files {
			out = append(out, t.changes(f, vars)...)
		}
	}
	return out
}

// guards tells whether a type is one of sync's or sync/atomic's that hold state.
func guards(e ast.Expr) bool {
	if x, ok := e.(*ast.IndexExpr); ok {
		e = x.X
	}
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && (pkg.Name == "atomic" || pkg.Name == "sync" && sel.Sel.Name != "Pool")
}

// changes finds the places in a file where a variable of the package is written to.
func (t *Tree) changes(f *ast.File, vars map[string]bool) []Finding {
	var out []Finding
	written := func(e ast.Expr) {
		id := root(e)
		if id == nil || id.Name == "_" || !vars[id.Name] || !topLevel(f, id) {
			return
		}
		out = append(out, Finding{t.at(e), "writes the package's variable " + id.Name + ": state belongs in a value"})
	}
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, l := range n.Lhs {
						written(l)
					}
				}
			case *ast.IncDecStmt:
				written(n.X)
			case *ast.UnaryExpr:
				if id, ok := n.X.(*ast.Ident); ok && n.Op == token.AND {
					written(id)
				}
			case *ast.CallExpr:
				if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "delete" || id.Name == "clear") && len(n.Args) > 0 {
					written(n.Args[0])
				}
			}
			return true
		})
	}
	return out
}

// topLevel tells whether an identifier means a declaration at file level. The parser resolves names within a file;
// one that it could not resolve is another file's.
func topLevel(f *ast.File, id *ast.Ident) bool {
	return id.Obj == nil || f.Scope.Lookup(id.Name) == id.Obj
}

// root is the leftmost name of an expression: m of m[k].f, T of *T[U].
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// Words checks that no file promises work instead of doing it.
func (t *Tree) Words(words []string) []Finding {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = regexp.QuoteMeta(w)
	}
	banned := regexp.MustCompile(`\b(` + strings.Join(quoted, "|") + `)\b`)
	var out []Finding
	for _, text := range t.Texts {
		for i, line := range text.Lines {
			if w := banned.FindString(line); w != "" {
				out = append(out, Finding{fmt.Sprintf("%s:%d", text.Path, i+1), fmt.Sprintf("%q: do it, or file an issue", w)})
			}
		}
	}
	return out
}
