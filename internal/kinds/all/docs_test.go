package all_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
)

var update = flag.Bool("update", false, "write docs/kinds.md from the kinds")

// TestDocs keeps the table in the documentation equal to what the kinds say of themselves.
func TestDocs(t *testing.T) {
	const file = "../../../docs/kinds.md"
	want := document()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil { //nolint:gosec // documentation is for everybody
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Errorf("%s is out of date: run go test ./internal/kinds/all -run TestDocs -update", file)
	}
}

// document is the page: a table of what each kind changes, and a section a kind with all its calls.
func document() string {
	var b strings.Builder
	b.WriteString("<!-- Written from the kinds by `go test ./internal/kinds/all -run TestDocs -update`. Do not edit. -->\n\n# Kinds\n\n" +
		"Every sort of AWS resource in which instance metadata settings stand, what imdsctl can change there, what that does to what runs, " +
		"and how far it can be taken back. Where AWS offers no write, a plan carries the step for a person, with the commands. How the " +
		"setting of a future launch follows from them: [launches.md](launches.md). How to add one: [adding-a-kind.md](adding-a-kind.md).\n\n" +
		"| kind | judged as | v1 calls counted | changes | disrupts | undo |\n|---|---|---|---|---|---|\n")
	for _, e := range all.List() {
		if e.Kind.Manner.Role != assess.RoleFact {
			row(&b, &e.Kind)
		}
	}
	b.WriteString("\n**Disrupts**: `none` leaves what runs alone; `restart` stops and starts it, `replace` puts new instances in its place: both " +
		"are only planned where `targets.disruptive` allows them. **Undo**: `full` restores every field; `none` cannot be undone: an image waits " +
		"for a wave of its own with its own approval (`targets.images`), and a refresh is made where `rollout.replacement` chooses it. *Residue* is what stays behind after an undo.\n")
	b.WriteString("\n## Facts\n\nThese carry no setting. They are read because they tell something about those that do; nothing of them is ever " +
		"written, and none has a verdict.\n\n| kind | is found | tells |\n|---|---|---|\n")
	for _, e := range all.List() {
		if k := &e.Kind; k.Manner.Role == assess.RoleFact {
			tells := "who runs what, for the verdicts of others"
			if k.Manner.Risk {
				tells = "how much is at stake: the [risk](risk.md) of others"
			}
			fmt.Fprintf(&b, "| [%s](#%s) | %s | %s |\n", k.Name, k.Name, homes()[k.Lives], tells)
		}
	}
	for _, e := range all.List() {
		section(&b, &e.Kind)
	}
	return b.String()
}

// homes says where kinds are found.
func homes() map[kind.Home]string {
	return map[kind.Home]string{kind.Region: "in every region", kind.Account: "once in an account",
		kind.Organization: "once in an organization, in its management account"}
}

func row(b *strings.Builder, k *kind.Kind) {
	counted := "no"
	if k.Manner.Metric {
		counted = "yes"
	}
	if k.Manner.Role == assess.RolePolicy {
		counted = ""
	}
	var changes, disrupts, undo []string
	for _, v := range k.Verbs {
		changes, disrupts, undo = append(changes, "`"+v.Name+"`"), append(disrupts, string(v.Disruption)), append(undo, string(v.Undo))
	}
	if len(k.Verbs) == 0 {
		changes = []string{"by hand"}
	}
	fmt.Fprintf(b, "| [%s](#%s) | %s | %s | %s | %s | %s |\n", k.Name, k.Name, k.Manner.Role, counted, strings.Join(changes, "<br>"),
		strings.Join(disrupts, "<br>"), strings.Join(undo, "<br>"))
}

func section(b *strings.Builder, k *kind.Kind) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n", k.Name, k.Doc)
	if k.Lives != kind.Region {
		fmt.Fprintf(b, "* Is found %s\n", homes()[k.Lives])
	}
	fmt.Fprintf(b, "* Reads: %s\n", actions(k.Reads))
	if len(k.Writes) > 0 {
		fmt.Fprintf(b, "* Writes: %s\n", actions(k.Writes))
	}
	for _, v := range k.Verbs {
		fmt.Fprintf(b, "* `%s` (%s): disrupts %s, undo %s", v.Name, v.Class, v.Disruption, v.Undo)
		if v.Residue != "" {
			fmt.Fprintf(b, "; residue: %s", v.Residue)
		}
		asked := "AWS cannot be asked beforehand whether it would take it"
		if len(v.DryRun) > 0 {
			asked = "AWS can be asked beforehand whether it would take it"
		}
		fmt.Fprintf(b, "; %s\n", asked)
	}
}

func actions(list []kind.Action) string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = "`" + a.Name + "`"
		if len(a.With) > 0 {
			out[i] += " (with `" + strings.Join(a.With, "`, `") + "`)"
		}
	}
	return cmp.Or(strings.Join(out, ", "), "nothing")
}
