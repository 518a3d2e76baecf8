// Package archtest holds the rules of the house as data and as checks over the source tree: who may import whom, who
// may read a clock, what every package must say about itself. Its tests run the checks over the whole module, and each check
// over a planted violation, so that a rule that has gone blind fails too.
//
// It reads source files only, all of them, whatever their build constraints: code for another operating system keeps the
// same rules. It builds nothing and knows no types.
package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Module is the import path of this module.
const Module = "github.com/imdsctl/imdsctl"

// Finding is one violation: where, and what to do about it.
type Finding struct {
	Where   string // file:line, or a package's path
	Message string
}

// String is the finding on one line.
func (f Finding) String() string { return f.Where + ": " + f.Message }

// Tree is the module's source, parsed.
type Tree struct {
	Files    *token.FileSet
	Packages []*Package // by path
	Texts    []Text     // every other text file that people write, by path
}

// Package is one folder with Go files that are not tests.
type Package struct {
	Path  string // under the module: "internal/fleet"
	Name  string
	Files []*ast.File
}

// Text is a file as lines.
type Text struct {
	Path  string
	Lines []string
}

// Load parses a module's tree. Folders whose names begin with "." or "_", testdata and the build folder are left out, as
// the go command leaves them out. A file that does not parse is an error.
func Load(root fs.FS) (*Tree, error) {
	t := &Tree{Files: token.NewFileSet()}
	packages := map[string]*Package{}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && leaveOut(d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		return t.add(root, name, packages)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the module's source: %w", err)
	}
	for _, p := range packages {
		t.Packages = append(t.Packages, p)
	}
	slices.SortFunc(t.Packages, func(a, b *Package) int { return strings.Compare(a.Path, b.Path) })
	return t, nil
}

func leaveOut(folder string) bool {
	return strings.HasPrefix(folder, ".") && folder != ".ci" || strings.HasPrefix(folder, "_") ||
		folder == "testdata" || folder == "build" || folder == "node_modules"
}

// written tells the files that people write and read.
func written(name string) bool {
	switch path.Ext(name) {
	case ".go", ".py", ".sh", ".md", ".yml", ".yaml", ".sql":
		return true
	}
	return slices.Contains([]string{"Makefile", "run", ".gitignore"}, path.Base(name))
}

func (t *Tree) add(root fs.FS, name string, packages map[string]*Package) error {
	if !written(name) {
		return nil
	}
	source, err := fs.ReadFile(root, name)
	if err != nil {
		return err
	}
	t.Texts = append(t.Texts, Text{Path: name, Lines: strings.Split(string(source), "\n")})
	if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
		return nil
	}
	// Objects are resolved: that is how a local variable is told from a package's.
	file, err := parser.ParseFile(t.Files, name, source, parser.ParseComments)
	if err != nil {
		return err
	}
	dir := path.Dir(name)
	p := packages[dir]
	if p == nil {
		p = &Package{Path: dir, Name: file.Name.Name}
		packages[dir] = p
	}
	p.Files = append(p.Files, file)
	return nil
}

// at is the place of a node, as file:line.
func (t *Tree) at(n ast.Node) string {
	p := t.Files.Position(n.Pos())
	return p.Filename + ":" + strconv.Itoa(p.Line)
}

// Check runs all rules over a tree.
func (t *Tree) Check(rules Rules) []Finding {
	return slices.Concat(
		t.Imports(rules.Packages), t.Clocks(rules.Clocks), t.Names(rules.BannedNames), t.PackageComments(),
		t.Documentation(rules.Undocumented), t.Inits(), t.Globals(), t.Words(rules.Words), t.KindList(rules.Kinds),
	)
}
