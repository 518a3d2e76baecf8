package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestHouse holds the whole module to the rules.
func TestHouse(t *testing.T) {
	tree, err := Load(os.DirFS(moduleRoot(t)))
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Packages) < 10 {
		t.Fatalf("found only %d packages: the walk has gone blind", len(tree.Packages))
	}
	for _, f := range tree.Check(House()) {
		t.Error(f)
	}
}

// TestRulesAreUsed keeps the table short: a row that fits no package is either a mistake or a plan, and plans are not code.
// Rows for the parts of the design that later work brings are listed here until it does.
func TestRulesAreUsed(t *testing.T) {
	tree, err := Load(os.DirFS(moduleRoot(t)))
	if err != nil {
		t.Fatal(err)
	}
	later := []string{"internal/guard", "bench/..."}
	for _, row := range House().Packages {
		used := slices.ContainsFunc(tree.Packages, func(p *Package) bool { return matches(row.Package, p.Path) })
		if !used && !slices.Contains(later, row.Package) {
			t.Errorf("no package fits the row %q", row.Package)
		}
	}
}

// TestMap holds docs/architecture.md to the rules: it has a row for each of theirs, which names exactly the packages that may
// be imported. Pure ones may be meant by a word; what other modules there are is told in words and not compared.
func TestMap(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(moduleRoot(t), "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	drawn := drawnRows(string(page))
	for _, row := range House().Packages {
		name, internal := strings.CutPrefix(row.Package, "internal/")
		if name = drawnName(name); !internal || name == "archtest" || name == "guard" {
			continue
		}
		cell, ok := drawn[name]
		delete(drawn, name)
		switch {
		case !ok:
			t.Errorf("docs/architecture.md has no row for %s", row.Package)
		case name == "app":
			if cell != "anything" {
				t.Errorf("docs/architecture.md: app may import %q, not anything", cell)
			}
		default:
			for _, finding := range row.drawnAs(name, cell) {
				t.Errorf("docs/architecture.md: %s: %s", name, finding)
			}
		}
	}
	for name := range drawn {
		t.Errorf("docs/architecture.md has a row for %s, and internal/archtest/rules.go has none", name)
	}
}

// TestDependenciesAreTold holds docs/dependencies.md to go.mod: each module that is required directly stands there, by its path or,
// as one of a family, by what comes behind the path of another.
func TestDependenciesAreTold(t *testing.T) {
	root := moduleRoot(t)
	page, err := os.ReadFile(filepath.Join(root, "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	words := strings.FieldsFunc(string(page), func(r rune) bool { return strings.ContainsRune(" `{},;|\n", r) })
	told := func(module string) bool {
		family := slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(module, w+"/") })
		return slices.ContainsFunc(words, func(w string) bool {
			return below(w, module) || family && strings.HasSuffix(module, "/"+w)
		})
	}
	direct := 0
	for line := range strings.Lines(string(mod)) {
		module, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(line, "\t") || !strings.HasPrefix(version, "v") || strings.Contains(version, "// indirect") {
			continue
		}
		direct++
		if !told(module) {
			t.Errorf("docs/dependencies.md does not say why there is %s", module)
		}
	}
	if direct < 20 {
		t.Errorf("found only %d direct dependencies: this test looks at the wrong thing", direct)
	}
}

// drawnRows reads the table of packages: by each package of a first cell, the cell of what it may import.
func drawnRows(page string) map[string]string {
	rows := map[string]string{}
	_, table, _ := strings.Cut(page, "| package (under `internal/`) | owns | may import |\n")
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 3 {
			if len(rows) > 0 {
				break
			}
			continue // the line below the head
		}
		for _, name := range quoted(cells[0]) {
			rows[name] = strings.TrimSuffix(cells[2], " |")
		}
	}
	return rows
}

// drawnName is how the page writes a pattern of the rules.
func drawnName(pattern string) string {
	return strings.Replace(strings.TrimSuffix(pattern, "/..."), "*", "<kind>", 1)
}

// drawnAs compares a row of the rules with its cell on the page.
func (r Row) drawnAs(name, cell string) []string {
	var out, all []string
	inWords := strings.Contains(cell, "pure") || strings.Contains(cell, "←")
	named := quoted(cell)
	for _, pattern := range r.Own {
		own := drawnName(strings.TrimPrefix(pattern, "internal/"))
		all = append(all, own)
		below := own == name || slices.Contains(all[:len(all)-1], own)
		if !below && !slices.Contains(named, own) && (!inWords || !slices.Contains(pure, pattern)) {
			out = append(out, "the rules allow "+own+", which the page leaves out")
		}
	}
	for _, n := range named {
		if !slices.Contains(all, n) {
			out = append(out, "the page allows "+n+", which the rules do not")
		}
	}
	return out
}

// quoted are the parts of a cell between backticks.
func quoted(cell string) []string {
	var out []string
	for i, part := range strings.Split(cell, "`") {
		if i%2 == 1 {
			out = append(out, part)
		}
	}
	return out
}

// TestReach asks the go command what the pure packages and the engine depend on in the end, through other modules too.
func TestReach(t *testing.T) {
	root := moduleRoot(t)
	forbidden := []string{"net/http", "database/sql", "os/exec", "github.com/aws"}
	for _, pkg := range append(slices.Clone(pure), "internal/kind", "internal/engine") {
		if _, err := os.Stat(filepath.Join(root, pkg)); errors.Is(err, os.ErrNotExist) {
			continue
		}
		deps := dependencies(t, root, "./"+pkg)
		if len(deps) == 0 {
			t.Errorf("%s: the go command knows no dependencies", pkg)
		}
		for _, d := range deps {
			if slices.ContainsFunc(forbidden, func(f string) bool { return below(d, f) }) {
				t.Errorf("%s reaches %s", pkg, d)
			}
		}
	}
	if deps := dependencies(t, root, "./internal/awsx"); !slices.Contains(deps, "net/http") {
		t.Error("internal/awsx does not reach net/http: this test looks at the wrong thing")
	}
}

func dependencies(t *testing.T, root, pkg string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Deps", pkg)
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v\n%s", pkg, err, stderr.String())
	}
	var all []string
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Deps       []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p.Deps...)
	}
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatalf("%s is not the module's root: %v", dir, err)
	}
	return dir
}

// doc is a package comment that keeps the rules.
func doc(name string) string {
	return "// Package " + name + " is planted.\n// It owns nothing.\npackage " + name + "\n"
}

// TestPlanted plants one violation after another: each must be found, by the rule that it breaks and no other, and its
// lawful sibling must not.
func TestPlanted(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  []string // parts of the findings, one each; empty for a lawful tree
	}{
		{
			name:  "the flow runs one way",
			files: map[string]string{"internal/fleet/a.go": doc("fleet") + imports(Module+"/internal/policy")},
			want:  []string{"internal/fleet imports " + Module + "/internal/policy"},
		},
		{
			name:  "lawful: later packages import earlier ones",
			files: map[string]string{"internal/plan/a.go": doc("plan") + imports(Module+"/internal/fleet", "time", "net/netip")},
		},
		{
			name:  "no network in a pure package",
			files: map[string]string{"internal/assess/a.go": doc("assess") + imports("net/http")},
			want:  []string{"imports net/http: a pure package decides"},
		},
		{
			name:  "no files in a pure package",
			files: map[string]string{"internal/policy/a.go": doc("policy") + imports("os")},
			want:  []string{"imports os: a pure package decides"},
		},
		{
			name:  "no SDK in the engine",
			files: map[string]string{"internal/engine/a.go": doc("engine") + imports("github.com/aws/aws-sdk-go-v2/aws")},
			want:  []string{"internal/engine imports github.com/aws/aws-sdk-go-v2/aws: its row"},
		},
		{
			name:  "no SQL in the engine",
			files: map[string]string{"internal/engine/a.go": doc("engine") + imports("database/sql")},
			want:  []string{"only the store speaks SQL"},
		},
		{
			name: "a kind does not import another, nor the simulator",
			files: map[string]string{
				"internal/kinds/a/a.go":     doc("a") + imports(Module+"/internal/kinds/b", Module+"/internal/awssim/core"),
				"internal/kinds/b/b.go":     doc("b"),
				"internal/kinds/all/all.go": doc("all") + imports(Module+"/internal/kinds/a", Module+"/internal/kinds/b"),
			},
			want: []string{"imports " + Module + "/internal/kinds/b", "imports " + Module + "/internal/awssim/core"},
		},
		{
			name: "a kind that is not listed",
			files: map[string]string{
				"internal/kinds/a/a.go":     doc("a"),
				"internal/kinds/all/all.go": doc("all"),
			},
			want: []string{"internal/kinds/a: this kind is not in the list"},
		},
		{
			name:  "the simulator shares nothing with what it tests",
			files: map[string]string{"internal/awssim/ec2/a.go": doc("ec2") + imports(Module+"/internal/policy")},
			want:  []string{"internal/awssim/ec2 imports " + Module + "/internal/policy"},
		},
		{
			name:  "lawful: the simulator's own packages",
			files: map[string]string{"internal/awssim/ec2/a.go": doc("ec2") + imports(Module+"/internal/awssim/wire")},
		},
		{
			name:  "a package without a row",
			files: map[string]string{"internal/surprise/a.go": doc("surprise")},
			want:  []string{"internal/surprise: no row"},
		},
		{
			name:  "the command holds no wiring",
			files: map[string]string{"cmd/imdsctl/main.go": command + imports(Module+"/internal/store")},
			want:  []string{"cmd/imdsctl imports " + Module + "/internal/store"},
		},
		{
			name:  "a clock read in passing, by another name",
			files: map[string]string{"internal/awsx/a.go": doc("awsx") + "import t \"time\"\nvar x = t.Now()\n"},
			want:  []string{"a.go:5: time.Now: take a clock"},
		},
		{
			name: "lawful: a value that happens to be called time",
			files: map[string]string{
				"internal/awsx/a.go": doc("awsx") + "import \"time\"\nvar x = time.Unix(0, 0)\n" +
					"func f(time struct{ Now func() int }) int { return time.Now() }\n",
			},
		},
		{
			name:  "lawful: the clock itself",
			files: map[string]string{"internal/clock/a.go": doc("clock") + "import \"time\"\nvar x = time.Now()\n"},
		},
		{
			name:  "waiting on the machine's clock, in a file for another system",
			files: map[string]string{"internal/engine/a_windows.go": doc("engine") + "import \"time\"\nfunc f() { time.Sleep(1) }\n"},
			want:  []string{"a_windows.go:5: time.Sleep"},
		},
		{
			name:  "a name that says nothing",
			files: map[string]string{"internal/awssim/util/a.go": doc("util")},
			want:  []string{`the name "util" says nothing`},
		},
		{
			name:  "no package comment",
			files: map[string]string{"internal/fleet/a.go": "package fleet\n"},
			want:  []string{"no package comment"},
		},
		{
			name:  "a package comment of one line",
			files: map[string]string{"internal/fleet/a.go": "// Package fleet is short.\npackage fleet\n"},
			want:  []string{"a package comment of one line"},
		},
		{
			name:  "a package comment that begins otherwise",
			files: map[string]string{"internal/fleet/a.go": "// Here is\n// the fleet.\npackage fleet\n"},
			want:  []string{`should begin "Package fleet "`},
		},
		{
			name:  "two package comments",
			files: map[string]string{"internal/fleet/a.go": doc("fleet"), "internal/fleet/b.go": doc("fleet")},
			want:  []string{"more than one package comment"},
		},
		{
			name: "exported without a comment",
			files: map[string]string{
				"internal/fleet/a.go": doc("fleet") + "func F() {}\ntype T struct{}\nfunc (T) M() {}\nconst C = 1\nvar V int\n" +
					"// I is told.\ntype I interface {\n\tM()\n\tN() // N is told.\n}\n",
			},
			want: []string{"F is exported", "T is exported", "M is exported", "C is exported", "V is exported", "I.M is exported"},
		},
		{
			name: "lawful: told by the group, behind the line, by an interface, or hidden",
			files: map[string]string{
				"internal/fleet/a.go": doc("fleet") + "// The numbers.\nconst (\n\tA = 1\n\tB = 2\n)\n\ntype t struct{}\n\n" +
					"func (t) M() {}\n\n// T is told.\ntype T struct{}\n\nfunc (T) String() string { return \"\" }\n\n" +
					"var (\n\tX int // X is told\n)\n",
			},
		},
		{
			name:  "work done on loading",
			files: map[string]string{"internal/fleet/a.go": doc("fleet") + "func init() {}\n"},
			want:  []string{"init(): let the caller"},
		},
		{
			name: "registries, caches and switches",
			files: map[string]string{
				"internal/fleet/a.go": doc("fleet") + "import \"sync\"\n\nvar (\n\tm = map[string]int{}\n\tn int\n\tmu sync.Mutex\n)\n",
				"internal/fleet/b.go": "package fleet\n\nfunc f() {\n\tm[\"a\"] = 1\n\tn++\n\tdelete(m, \"a\")\n\tp := &n\n\t_ = p\n}\n",
			},
			want: []string{"a.go:9: a lock", "b.go:4: writes", "b.go:5: writes", "b.go:6: writes", "b.go:7: writes"},
		},
		{
			name: "lawful: locals that shadow, tables that are only read",
			files: map[string]string{
				"internal/fleet/a.go": doc("fleet") + "var m = map[string]int{\"a\": 1}\n\nvar n = 1\n",
				"internal/fleet/b.go": "package fleet\n\nfunc f(n int) int {\n\tm := map[string]int{}\n" +
					"\tm[\"a\"] = 1\n\tn++\n\treturn m[\"a\"] + n\n}\n",
			},
		},
		{
			name:  "a promise instead of work",
			files: map[string]string{"internal/fleet/a.go": doc("fleet") + "// TO" + "DO: later\n", "docs/a.md": "XX" + "X\n"},
			want:  []string{"docs/a.md:1", "internal/fleet/a.go:4"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			found := check(t, test.files)
			if len(found) != len(test.want) {
				t.Fatalf("found %d, want %d:\n%s", len(found), len(test.want), lines(found))
			}
			for _, want := range test.want {
				if !slices.ContainsFunc(found, func(f Finding) bool { return strings.Contains(f.String(), want) }) {
					t.Errorf("nothing found like %q in:\n%s", want, lines(found))
				}
			}
		})
	}
}

func check(t *testing.T, files map[string]string) []Finding {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	tree, err := Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return tree.Check(House())
}

const command = "// Command imdsctl is planted.\n// It owns nothing.\npackage main\n"

func imports(paths ...string) string {
	var b strings.Builder
	for _, p := range paths {
		b.WriteString("import _ \"" + p + "\"\n")
	}
	return b.String()
}

func lines(found []Finding) string {
	var b strings.Builder
	for _, f := range found {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

// TestLoadLeavesOut checks that what is no source of ours is not read.
func TestLoadLeavesOut(t *testing.T) {
	fsys := fstest.MapFS{}
	for _, name := range []string{".cache/a.go", "_scratch/a.go", "internal/fleet/testdata/a.go", "build/a.go"} {
		fsys[name] = &fstest.MapFile{Data: []byte("this is no Go")}
	}
	tree, err := Load(fsys)
	if err != nil || len(tree.Packages) > 0 || len(tree.Texts) > 0 {
		t.Errorf("Load read %v, %v (%v), want nothing", tree.Packages, tree.Texts, err)
	}
	fsys["internal/fleet/broken.go"] = &fstest.MapFile{Data: []byte("this is no Go")}
	if _, err := Load(fsys); err == nil {
		t.Error("a file that does not parse was no error")
	}
}
