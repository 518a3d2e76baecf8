package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"go.yaml.in/yaml/v4"
)

// Parse reads a configuration from the bytes of a file; file is the name that positions are reported with. An empty
// file is the default configuration. kinds names the kinds of resources there are, so that a misspelt one is found; nil
// leaves them unchecked.
//
// It gives a whole configuration and no diagnostics, or no configuration and every problem found, in the order of the
// file. Whether an exception has expired is not a matter of parsing: see Expired.
func Parse(data []byte, file string, kinds []string) (*Config, []fleet.Diagnostic) {
	d := &decoder{file: file, kinds: kinds, at: map[string]*yaml.Node{}}
	c := written()
	if top := d.load(data); top != nil {
		d.refuseReferences(top)
		d.at[""] = top
		root(c).read(d, top, "")
		for i := range c.Exceptions {
			c.Exceptions[i].ExpiresAt = d.position(d.nodeAt(fmt.Sprintf("exceptions[%d].expires", i)))
		}
	}
	if !d.unreadable {
		c.complete()
		c.check(d)
	}
	if len(d.problems) > 0 {
		return nil, d.diagnostics()
	}
	return c, nil
}

// decoder walks one YAML document and collects what is wrong with it.
type decoder struct {
	file  string
	kinds []string
	// at holds the node of every path that was read, such as "waves[0].name".
	at map[string]*yaml.Node
	// unreadable means that there is no document to go by.
	unreadable bool
	problems   []found
	// owners caches ownersOfKeys.
	owners map[string][]string
}

// found is a diagnostic with the path and the position that it is about.
type found struct {
	path         string
	line, column int
	diagnostic   fleet.Diagnostic
}

// load gives the top node of the only document, or nil where there is none or it cannot be read.
func (d *decoder) load(data []byte) *yaml.Node {
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		d.syntax(data, err)
		return nil
	}
	var doc, next yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		d.syntax(data, err)
		return nil
	}
	if err := loader.Load(&next); err == nil {
		d.problem(&next, "", "a second YAML document begins here", "Keep one document, and remove the line ---.")
	} else if !errors.Is(err, io.EOF) {
		d.syntax(data, err)
		return nil
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].ShortTag() == tagNull {
		return nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode && top.Kind != yaml.AliasNode {
		d.unreadable = true
		d.problem(top, "", "the configuration is "+got(top)+"; want a mapping",
			"Begin each line with a key, such as `version: 1`.")
		return nil
	}
	return top
}

// syntax reports text that is not YAML.
func (d *decoder) syntax(data []byte, err error) {
	d.unreadable = true
	line, column, what := 0, 0, err.Error()
	if bad, ok := errors.AsType[*yaml.LoadError](err); ok {
		line, column, what = bad.Mark.Line, bad.Mark.Column, bad.Message
		if bad.ContextMsg != "" && bad.ContextMark.Line > 0 && bad.ContextMark.Line != line {
			what += fmt.Sprintf(" (%s that begins at line %d)", bad.ContextMsg, bad.ContextMark.Line)
		}
	}
	if line == 0 {
		line, column = firstBadRune(data)
	}
	d.report("", line, column, "this is not valid YAML: "+what,
		"Correct the text here, or just above; look for indentation, quotes and brackets.")
}

// firstBadRune finds what the YAML reader refuses without saying where: broken UTF-8 and control characters.
func firstBadRune(data []byte) (line, column int) {
	line, column = 1, 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && size == 1, r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f:
			return line, column
		case r == '\n':
			line, column = line+1, 1
		default:
			column++
		}
		data = data[size:]
	}
	return 1, 1
}

// refuseReferences reports anchors, aliases and merge keys: what a reviewer reads at a line must be what holds there.
func (d *decoder) refuseReferences(n *yaml.Node) {
	const remedy = "Write the value out here: a configuration under review says what it means at each line."
	switch {
	case n.Kind == yaml.AliasNode:
		d.problem(n, "", "the alias *"+n.Value+" is not accepted", remedy)
		return
	case n.Anchor != "":
		d.problem(n, "", "the anchor &"+n.Anchor+" is not accepted", remedy)
	case n.ShortTag() == "!!merge":
		d.problem(n, "", "the merge key << is not accepted", remedy)
	}
	for _, c := range n.Content {
		d.refuseReferences(c)
	}
}

// pairs gives the keys and values of a mapping, and reports keys that are not text or come twice.
func (d *decoder) pairs(n *yaml.Node, path string) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(*yaml.Node, *yaml.Node) bool) {
		first := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, item := n.Content[i], n.Content[i+1]
			switch {
			case key.Kind == yaml.AliasNode || key.ShortTag() == "!!merge":
				continue // reported by refuseReferences
			case key.Kind != yaml.ScalarNode || key.ShortTag() != tagString:
				d.problem(key, path, "a key"+in(path)+" is "+got(key)+"; want text",
					"Put the key in quotes, or correct it.")
				continue
			case first[key.Value] > 0:
				d.problem(key, join(path, key.Value),
					fmt.Sprintf("the key `%s`%s is already at line %d", key.Value, in(path), first[key.Value]),
					"Keep one of the two.")
				continue
			}
			first[key.Value] = key.Line
			if !yield(key, item) {
				return
			}
		}
	}
}

// unknownKey reports a key that is not in the table, and says where it belongs, or which one was probably meant.
func (d *decoder) unknownKey(key *yaml.Node, path string, fields []field) {
	var keys []string
	for _, f := range fields {
		keys = append(keys, f.key)
	}
	remedy := "The keys here are " + joinWords(keys) + "."
	if near := nearest(key.Value, keys); near != "" {
		remedy = "Did you mean `" + near + "`?"
	} else {
		if d.owners == nil {
			d.owners = ownersOfKeys()
		}
		if owners := d.owners[key.Value]; len(owners) > 0 {
			remedy = "It belongs under " + strings.Join(owners, " or ") + ". " + remedy
		}
	}
	d.problem(key, join(path, key.Value), "unknown key "+quoteKey(key.Value)+in(path), remedy)
}

// ownersOfKeys lists, for every key of the table, the places it belongs to.
func ownersOfKeys() map[string][]string {
	out := map[string][]string{}
	walk(root(written()), "", func(path string, f field) {
		place := "`" + path + "`"
		if path == "" {
			place = "the top of the file"
		}
		out[f.key] = append(out[f.key], place)
	})
	return out
}

// walk visits every key of an object and of those within, with the path of the object it stands in.
func walk(o object, path string, visit func(path string, f field)) {
	for _, f := range o.fields {
		visit(path, f)
		switch v := f.value.(type) {
		case object:
			walk(v, join(path, f.key), visit)
		case interface{ entry() object }:
			walk(v.entry(), join(path, f.key)+"[]", visit)
		}
	}
}

// wrongType reports a node of another type than the key takes.
func (d *decoder) wrongType(n *yaml.Node, path, want, remedy string) {
	if n.Kind == yaml.AliasNode {
		return // reported by refuseReferences
	}
	switch {
	case n.ShortTag() == tagNull:
		remedy = "Write " + want + ", or remove the key."
	case remedy == "":
		remedy = "Write " + want + "."
	}
	d.problem(n, path, fmt.Sprintf("%s is %s; want %s", path, got(n), want), remedy)
}

// got names what a node is.
func got(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case tagNull:
		return "empty"
	case tagBool:
		return "the boolean " + quote(n.Value)
	case tagInt, tagFloat:
		return "the number " + quote(n.Value)
	case tagTime:
		return "the date " + quote(n.Value)
	case tagString:
		return "the text " + quote(n.Value)
	}
	return "a value of type " + quote(n.ShortTag())
}

// problem reports what is wrong at a node.
func (d *decoder) problem(n *yaml.Node, path, summary, remedy string) {
	d.report(path, n.Line, n.Column, summary, remedy)
}

// problemAt reports what is wrong with a path, at its position or at that of the nearest thing around it.
func (d *decoder) problemAt(path, summary, remedy string) {
	n := d.nodeAt(path)
	if n == nil {
		d.report(path, 1, 1, summary, remedy)
		return
	}
	d.problem(n, path, summary, remedy)
}

func (d *decoder) nodeAt(path string) *yaml.Node {
	for p := path; ; {
		if n, ok := d.at[p]; ok {
			return n
		}
		i := strings.LastIndexAny(p, ".[")
		if i < 0 {
			return d.at[""]
		}
		p = p[:i]
	}
}

func (d *decoder) report(path string, line, column int, summary, remedy string) {
	d.problems = append(d.problems, found{path, line, column, fleet.Diagnostic{
		Severity: fleet.SeverityError, Where: fmt.Sprintf("%s:%d:%d", d.file, line, column),
		Summary: summary, Remedy: remedy,
	}})
}

// broken tells whether a problem was found at a path or below it.
func (d *decoder) broken(path string) bool {
	return slices.ContainsFunc(d.problems, func(f found) bool {
		rest, ok := strings.CutPrefix(f.path, path)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

func (d *decoder) position(n *yaml.Node) string {
	return fmt.Sprintf("%s:%d:%d", d.file, n.Line, n.Column)
}

// diagnostics gives the problems in the order of the file.
func (d *decoder) diagnostics() []fleet.Diagnostic {
	slices.SortStableFunc(d.problems, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	out := make([]fleet.Diagnostic, len(d.problems))
	for i, f := range d.problems {
		out[i] = f.diagnostic
	}
	return out
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func in(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}

// quote shows a text of the file, short enough for a line.
func quote(s string) string {
	const most = 60
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

func quoteKey(s string) string { return "`" + strings.Trim(quote(s), `"`) + "`" }

// nearest is the word that was probably meant, "" if none is close: the same letters in another writing (hop-limit,
// hopLimit), or few edits away.
func nearest[T ~string](s string, words []T) T {
	if len(s) > 100 {
		return ""
	}
	plain := strings.NewReplacer("-", "", "_", "", " ", "")
	fold := func(s string) string { return strings.ToLower(plain.Replace(s)) }
	var best T
	least := max(1, len(s)/3) + 1
	for _, w := range words {
		if n := edits(fold(s), fold(string(w))); n < least {
			best, least = w, n
		}
	}
	return best
}

// edits is the Levenshtein distance, a swap of neighbours counting as one edit.
func edits(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}
