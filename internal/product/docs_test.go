package product

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write docs/products.md from the table")

// TestDocs keeps the page in the documentation equal to the table.
func TestDocs(t *testing.T) {
	const file = "../../docs/products.md"
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
		t.Errorf("%s is out of date: run go test ./internal/product -run TestDocs -update", file)
	}
}

// headings are the classes in the order of the page.
var headings = []struct {
	class Class
	text  string
}{
	{ClassSDK, "SDKs"}, {ClassCLI, "Command lines"}, {ClassAgent, "Agents"}, {ClassProxy, "Credential proxies"}, {ClassTool, "Tools"},
	{ClassSystem, "Of the operating system"}, {ClassService, "AWS itself"}, {ClassAppliance, "Appliances and images"},
}

// document is the page: a table a class, then the format for a user's own entries.
func document() string {
	var b strings.Builder
	b.WriteString("<!-- Written from internal/product/versions.yaml by `go test ./internal/product -run TestDocs -update`. Do not edit. -->\n\n" +
		"# Products\n\nSoftware that calls the instance metadata service, and which version of it first speaks IMDSv2. `software scan`, the reading of " +
		"CloudTrail's user agents and `attention` judge by this table.\n\n" +
		"* **speaks from**: asks for tokens by itself, and falls back to v1 only where it gets none.\n" +
		"* **able from**: works where v2 is required, and calls v1 where it may, or has to be told.\n" +
		"* *none*: no version speaks v2. *unclear*: nobody documents the first version, and imdsctl does not guess.\n\n" +
		"What calls through an SDK is judged by the SDK's version where that is known. Where two versions of a product are in one place, " +
		"each is judged.\n")
	for _, h := range headings {
		fmt.Fprintf(&b, "\n## %s\n\n", h.text)
		if h.class == ClassAppliance {
			b.WriteString("Told by product code, else by owner and name. Software on an instance may have been updated since its image was made.\n\n" +
				"| image | told by | speaks from | what to do |\n|---|---|---|---|\n")
		} else {
			b.WriteString("| product | packages | able from | speaks from | what to do |\n|---|---|---|---|---|\n")
		}
		for _, p := range Default().All() {
			if p.Class == h.class {
				row(&b, &p)
			}
		}
	}
	b.WriteString(ownEntries)
	return b.String()
}

func row(b *strings.Builder, p *Product) {
	var able, first []string
	for _, l := range p.Lines {
		if l.Able != "" {
			able = append(able, l.Able)
		}
		first = append(first, speaksFrom(l))
	}
	if len(first) == 0 {
		first = []string{"*unclear*"}
	}
	name := fmt.Sprintf("**%s**<br>`%s`", p.Name, p.ID)
	what := p.Fix
	if p.Note != "" {
		what += " " + p.Note
	}
	if len(p.Through) > 0 {
		what += " Calls through `" + strings.Join(texts(p.Through), "`, `") + "`."
	}
	if p.Source != "" {
		what += " [source](" + p.Source + ")"
	}
	speaks := strings.Join(first, "<br>")
	if p.Class == ClassAppliance {
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", name, toldBy(p.Image), speaks, strings.TrimSpace(what))
		return
	}
	var packages []string
	for _, pkg := range p.Packages {
		packages = append(packages, "`"+pkg.Ecosystem+"/"+pkg.Name+"`")
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", name, strings.Join(packages, "<br>"), strings.Join(able, "<br>"), speaks, strings.TrimSpace(what))
}

func speaksFrom(l Line) string {
	text := l.First
	switch {
	case l.First == "0":
		text = "always"
	case l.Unclear:
		text = "*unclear*"
	case l.First == "":
		text = "*none*"
	}
	if l.From != "" && l.From != "0" && l.From != l.First {
		text += " (line " + l.From + ")"
	}
	return text
}

func toldBy(i *Image) string {
	var out []string
	for _, c := range i.Codes {
		out = append(out, "code `"+c+"`")
	}
	if len(i.Owners) > 0 {
		out = append(out, "owner `"+strings.Join(i.Owners, "` or `")+"`")
	}
	for _, n := range i.Names {
		out = append(out, "name `"+n+"`")
	}
	if !i.OldBefore.IsZero() {
		out = append(out, "old if made before "+i.OldBefore.Format(time.DateOnly))
	}
	return strings.Join(out, "<br>")
}

func texts(ids []ID) (out []string) {
	for _, id := range ids {
		out = append(out, string(id))
	}
	return out
}

const ownEntries = `
## Your own entries

A file in the same format adds products, or replaces those of the same id:

~~~yaml
products:
  - id: acme-agent
    name: Acme agent
    class: agent                        # sdk, cli, agent, tool, proxy, system, appliance
    packages: [rpm/acme-agent, "maven/com.acme:agent"]
    agents: [AcmeAgent]                 # words of user agents, before the slash
    through: [botocore]                 # the SDK that makes its calls
    lines:
      - {able: 3.1.0, first: 3.4.0}     # the oldest line first
      - {from: 4.0.0, first: 4.0.2}
    image:
      product_codes: [abcdefghijklmnopqrstuvwxy]
      owners: [aws-marketplace]
      names: ["acme-appliance-{version}-*"]
      old_before: 2020-01-31
    fix: Upgrade the agent to 3.4.0 or later.
    source: https://acme.example/imdsv2
~~~
`
