package product

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// entry is a product as a file has it.
type entry struct {
	Product
	file string
	line int
}

func (e *entry) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", e.file, e.line, fmt.Sprintf(format, args...))
}

// written is the format of an entry.
type written struct {
	ID       ID       `yaml:"id"`
	Name     string   `yaml:"name"`
	Class    Class    `yaml:"class"`
	Packages []string `yaml:"packages"` // ecosystem/name
	Agents   []agent  `yaml:"agents"`
	Raw      bool     `yaml:"raw"`
	Through  []ID     `yaml:"through"`
	Lines    []line   `yaml:"lines"`
	Image    *image   `yaml:"image"`
	Fix      string   `yaml:"fix"`
	Source   string   `yaml:"source"`
	Note     string   `yaml:"note"`
}

type line struct {
	From    string `yaml:"from"`
	Able    string `yaml:"able"`
	First   string `yaml:"first"`
	Unclear bool   `yaml:"unclear"`
}

type image struct {
	Codes     []string `yaml:"product_codes"`
	Owners    []string `yaml:"owners"`
	Names     []string `yaml:"names"`
	OldBefore string   `yaml:"old_before"` // a day: 2020-01-31
	OnlyOlder bool     `yaml:"only_older"`
}

// agent is a token, alone or with bounds.
type agent struct {
	Token string `yaml:"token"`
	From  string `yaml:"from"`
	Below string `yaml:"below"`
}

// UnmarshalYAML takes a bare token as well.
func (a *agent) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		a.Token = n.Value
		return nil
	}
	type plain agent
	return n.Decode((*plain)(a))
}

var (
	classes = []Class{
		ClassSDK, ClassCLI, ClassAgent, ClassTool, ClassProxy, ClassAppliance, ClassSystem, ClassService,
	}
	idForm     = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	ecosystems = []string{"pypi", "npm", "maven", "golang", "gem", "composer", "nuget", "deb", "rpm", "apk", "cargo", "pub", "swift", "generic"}
)

// decode reads a file of products.
func decode(data []byte, file string) ([]*entry, error) {
	var top struct {
		Products []yaml.Node `yaml:"products"`
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	if err := yaml.Load(data, &top, yaml.WithKnownFields()); err != nil {
		return nil, placed(file, err)
	}
	var out []*entry
	for i := range top.Products {
		e, err := read(&top.Products[i], file)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o *entry) bool { return o.ID == e.ID }) {
			return nil, e.errorf("the id %q is there twice", e.ID)
		}
		out = append(out, e)
	}
	return out, nil
}

// placed says of an error of YAML's where it is, in the words of the file and not in those of this program's types.
func placed(file string, err error) error {
	var at int
	var text string
	if all, ok := errors.AsType[*yaml.LoadErrors](err); ok && len(all.Errors) > 0 {
		at, text = all.Errors[0].Mark.Line, all.Errors[0].Message
	} else if one, ok := errors.AsType[*yaml.LoadError](err); ok {
		at, text = one.Mark.Line, one.Message
	} else {
		return fmt.Errorf("%s: %w", file, err)
	}
	if m := unknownField.FindStringSubmatch(text); m != nil {
		text = fmt.Sprintf("there is no field %q here", m[1])
	} else if m := wrongForm.FindStringSubmatch(text); m != nil {
		text = fmt.Sprintf("a %s stands where something else belongs", cmp.Or(forms[m[1]], "value"))
	}
	return fmt.Errorf("%s:%d: %s", file, max(at, 1), text)
}

var (
	unknownField = regexp.MustCompile(`^field (.+) not found in type `)
	wrongForm    = regexp.MustCompile(`^cannot construct !!(\w+)\b.* into `)
	forms        = map[string]string{
		"seq": "list", "map": "map of names to values", "str": "text", "int": "number", "float": "number", "bool": "truth value",
	}
)

func read(n *yaml.Node, file string) (*entry, error) {
	var w written
	e := &entry{file: file, line: n.Line}
	if err := n.Load(&w, yaml.WithKnownFields()); err != nil {
		return nil, placed(file, err)
	}
	e.Product = Product{
		ID: w.ID, Name: w.Name, Class: w.Class, Raw: w.Raw, Through: w.Through, Fix: w.Fix, Source: w.Source, Note: w.Note,
	}
	switch {
	case !idForm.MatchString(string(w.ID)):
		return nil, e.errorf("id %q must be of small letters, digits and hyphens, such as my-agent", w.ID)
	case w.Name == "":
		return nil, e.errorf("product %q has no name", w.ID)
	case !slices.Contains(classes, w.Class):
		return nil, e.errorf("product %q has the class %q; the classes are %s", w.ID, w.Class, list(classes))
	}
	if err := errors.Join(e.readPackages(w.Packages), e.readAgents(w.Agents), e.readLines(w.Lines), e.readImage(w.Image)); err != nil {
		return nil, err
	}
	return e, nil
}

func list(of []Class) string {
	var out []string
	for _, c := range of {
		out = append(out, string(c))
	}
	return strings.Join(out, ", ")
}

func (e *entry) readPackages(names []string) error {
	for _, text := range names {
		ecosystem, name, ok := strings.Cut(text, "/")
		if !ok || name == "" || !slices.Contains(ecosystems, ecosystem) {
			return e.errorf("package %q of %s is not written ecosystem/name with one of the ecosystems %s", text, e.ID,
				strings.Join(ecosystems, ", "))
		}
		e.Packages = append(e.Packages, canonical(ecosystem, name))
	}
	return nil
}

func (e *entry) readAgents(agents []agent) error {
	for _, a := range agents {
		if strings.Trim(a.Token, "*") == "" || strings.ContainsAny(strings.TrimSuffix(a.Token, "*"), " */,;()[]") {
			return e.errorf("user agent token %q of %s is not one word, with at most one * at its end", a.Token, e.ID)
		}
		for _, bound := range []string{a.From, a.Below} {
			if _, ok := parseVersion(bound); bound != "" && !ok {
				return e.errorf("%q, a bound of the user agent token %q of %s, is no version", bound, a.Token, e.ID)
			}
		}
		e.Agents = append(e.Agents, Agent(a))
	}
	return nil
}

func (e *entry) readLines(lines []line) error {
	for i, l := range lines {
		for _, text := range []string{l.From, l.Able, l.First} {
			if _, ok := parseVersion(text); text != "" && !ok {
				return e.errorf("%q, in a line of %s, is no version", text, e.ID)
			}
		}
		switch {
		case i > 0 && (l.From == "" || Compare(lines[i-1].From, l.From) >= 0):
			return e.errorf("the lines of %s are not in order: each but the first says from where it begins, the oldest first", e.ID)
		case l.Unclear && l.First != "":
			return e.errorf("a line of %s is unclear and has a first version", e.ID)
		case l.Able != "" && l.First != "" && Compare(l.Able, l.First) >= 0:
			return e.errorf("a line of %s is able from %s, which is not before its first version %s", e.ID, l.Able, l.First)
		}
		e.Lines = append(e.Lines, Line(l))
	}
	return nil
}

func (e *entry) readImage(i *image) error {
	if i == nil {
		return nil
	}
	if len(i.Codes)+len(i.Owners)+len(i.Names) == 0 {
		return e.errorf("the images of %s are told by nothing: give product codes, owners or names", e.ID)
	}
	e.Image = &Image{Codes: i.Codes, Owners: i.Owners, Names: i.Names, OnlyOlder: i.OnlyOlder}
	if i.OldBefore == "" {
		if i.OnlyOlder {
			return e.errorf("only older images are to be %s, and old_before does not say than what", e.ID)
		}
		return nil
	}
	day, err := time.Parse(time.DateOnly, i.OldBefore)
	if err != nil {
		return e.errorf("old_before of %s is %q, which is no day such as 2020-01-31", e.ID, i.OldBefore)
	}
	e.Image.OldBefore = day
	return nil
}
