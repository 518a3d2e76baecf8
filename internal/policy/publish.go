package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// SchemaID is where the published schema is found, for editors that check YAML while it is written.
const SchemaID = "https://raw.githubusercontent.com/imdsctl/imdsctl/main/docs/imdsctl.schema.json"

// Schema is the JSON Schema (draft 2020-12) of the file, as published in docs/imdsctl.schema.json. It accepts whatever
// Parse accepts. It knows single keys only: contradictions between keys, ranges of durations, kinds of resources, days
// of the calendar and leading zeros of unquoted account ids are for Parse to find.
func Schema() []byte {
	defs := map[string]any{}
	doc := root(written()).definition(defs)
	doc["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	doc["$id"] = SchemaID
	doc["title"] = "imdsctl.yaml"
	doc["description"] = "Configuration of imdsctl. Every key is optional, and so is the file."
	doc["$defs"] = defs
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil { // only maps, lists, strings and numbers get here
		panic(err)
	}
	return b.Bytes()
}

const preamble = `# Configuration

<!-- Generated from the table in internal/policy/table.go; change it there and run
     go test ./internal/policy -run TestPublished -update -->

imdsctl reads ` + "`imdsctl.yaml`" + `. Every key is optional, and so is the file: without it imdsctl looks at the
account of the credentials, in every region that account has enabled. [imdsctl.yaml](../examples/imdsctl.yaml) is an
example, and [imdsctl.schema.json](imdsctl.schema.json) lets an editor check the file while you write it:

` + "```yaml" + `
# yaml-language-server: $schema=` + SchemaID + `
version: 1
` + "```" + `

An unknown key, a key given twice, a wrong type or a bad value stops every command that reads the file before it does
anything, with the position, the reason and what to do; all problems are reported at once. An exception that has expired
is a warning. YAML anchors, aliases and merge keys are not accepted, so that a reviewer reads at each line what holds
there. No secret belongs in the file: its digest and parts of it go into plans and the journal.

- A **duration** is written with the units d, h, m and s: ` + "`14d`, `36h`, `1h30m`" + `.
- A **pattern** is compared with the whole text, upper and lower case told apart: ` + "`*`" + ` stands for any
  text, also none, and ` + "`?`" + ` for one character. Where a pattern is taken, a list of them is taken as well, and
  one of them must match.
- An **account id** is twelve digits; its leading zeros count, quoted or not.
- Where rules are tried in order, the first one that matches decides, and ` + "`plan`, `show` and `why`" + ` name it.
`

// Reference is the reference of every key in Markdown, as published in docs/configuration.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(preamble)
	top := root(written())
	shared := map[string]object{}
	for _, f := range top.fields {
		fmt.Fprintf(&b, "\n## `%s`\n\n%s\n", f.key, f.doc)
		o, inner := within(f.value)
		if !inner {
			fmt.Fprintf(&b, "\nType: %s. Default: %s.\n", f.value.describe(), defaultOf(f))
			continue
		}
		if _, ok := f.value.(object); !ok {
			fmt.Fprintf(&b, "\nType: %s. Default: %s. Each has:\n", f.value.describe(), defaultOf(f))
		}
		table(&b, o, shared)
	}
	for _, s := range []struct{ name, doc string }{
		{"match", "Selects resources. At least one key; every key that is there must hold."},
		{"account-match", "Selects accounts. At least one key; every key that is there must hold."},
		{"stack-match", "Selects stacks. At least one key; every key that is there must hold. The keys about resources must all " +
			"hold for one resource of the stack: an instance, a group or a launch template that it changes."},
		{"place-match", "Selects accounts and regions. At least one key; every key that is there must hold."},
		{"bucket", "A token bucket."},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", s.name, s.doc)
		table(&b, shared[s.name], shared)
	}
	return b.String()
}

// within gives the object that a value is, or is a list or a mapping of.
func within(v value) (object, bool) {
	switch v := v.(type) {
	case object:
		return v, true
	case interface{ entry() object }:
		return v.entry(), true
	}
	return object{}, false
}

func table(b *strings.Builder, o object, shared map[string]object) {
	b.WriteString("\n| key | type | default | meaning |\n|---|---|---|---|\n")
	rows(b, o, "", shared)
}

func rows(b *strings.Builder, o object, prefix string, shared map[string]object) {
	for _, f := range o.fields {
		cells := []string{"`" + prefix + f.key + "`", f.value.describe(), defaultOf(f), f.doc}
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(c, "|", "\\|")
		}
		fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
		if d, ok := f.value.(interface{ element() (object, bool) }); ok {
			if inner, ok := d.element(); ok {
				shared[inner.ref] = inner
			}
		}
		inner, ok := within(f.value)
		switch {
		case !ok:
		case inner.ref != "":
			shared[inner.ref] = inner
		case isObject(f.value):
			rows(b, inner, prefix+f.key+".", shared)
		default:
			rows(b, inner, prefix+f.key+"[].", shared)
		}
	}
}

// defaultOf describes a key's default for people.
func defaultOf(f field) string {
	switch v := f.value.canonical(); {
	case f.required:
		return "**required**"
	case f.computed != "":
		return f.computed
	case v == nil || isObject(f.value):
		return "none"
	default:
		b, err := json.Marshal(v)
		if err != nil { // the same values that Schema encodes
			panic(err)
		}
		return "`" + strings.Trim(string(b), `"`) + "`"
	}
}
