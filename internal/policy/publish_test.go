package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

var update = flag.Bool("update", false, "write the published files from the table")

const (
	schemaFile    = "../../docs/imdsctl.schema.json"
	referenceFile = "../../docs/configuration.md"
	exampleFile   = "../../examples/imdsctl.yaml"
)

// TestPublished keeps the files in docs equal to the table.
func TestPublished(t *testing.T) {
	for file, want := range map[string][]byte{schemaFile: Schema(), referenceFile: []byte(Reference())} {
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, want) {
			t.Errorf("%s is out of date: run go test ./internal/policy -run TestPublished -update", file)
		}
	}
}

// compileSchema compiles what is published, as an editor would.
func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource(SchemaID, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(SchemaID)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON reads YAML the way an editor's YAML service does: dates stay text, numbers are numbers.
func asJSON(t testing.TB, data []byte) any {
	t.Helper()
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		t.Fatal(err)
	}
	return nodeJSON(&doc)
}

func nodeJSON(n *yaml.Node) any {
	switch n.Kind {
	case yaml.DocumentNode:
		return nodeJSON(n.Content[0])
	case yaml.MappingNode:
		out := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			out[n.Content[i].Value] = nodeJSON(n.Content[i+1])
		}
		return out
	case yaml.SequenceNode:
		out := []any{}
		for _, c := range n.Content {
			out = append(out, nodeJSON(c))
		}
		return out
	}
	switch n.ShortTag() {
	case tagNull:
		return nil
	case tagBool:
		return strings.EqualFold(n.Value, "true")
	case tagInt, tagFloat:
		if v, err := strconv.ParseFloat(n.Value, 64); err == nil {
			return json.Number(strconv.FormatFloat(v, 'f', -1, 64))
		}
	}
	return n.Value
}

func TestSchemaIsValidAndAcceptsTheExamples(t *testing.T) {
	s := compileSchema(t)
	example, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, doc := range map[string][]byte{
		"example": example, "default": Default().JSON(), "nulls": []byte("accounts:\nwaves:\ngates:\nbake: {}\n"),
	} {
		if c, problems := Parse(doc, name, nil); len(problems) > 0 {
			t.Errorf("Parse(%s) = %v", name, problems)
		} else if err := s.Validate(asJSON(t, c.JSON())); err != nil {
			t.Errorf("effective %s: %v", name, err)
		}
		if err := s.Validate(asJSON(t, doc)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestExampleShowsEveryKey holds the example to the table: whoever adds a key shows it.
func TestExampleShowsEveryKey(t *testing.T) {
	data, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	top := asJSON(t, data).(map[string]any)
	for _, f := range root(Default()).fields {
		if _, ok := top[f.key]; !ok {
			t.Errorf("the example lacks %s", f.key)
		}
	}
}

// TestTableCoversConfig sets every field of a Config by reflection and asks for each in the effective configuration, so
// that no field can be forgotten in the table, and with it in the file, the schema, the digest and the reference.
func TestTableCoversConfig(t *testing.T) {
	base := Default()
	var visit func(v reflect.Value, path string)
	visit = func(v reflect.Value, path string) {
		for i := range v.NumField() {
			f, at := v.Field(i), path+"."+v.Type().Field(i).Name
			if name := v.Type().Field(i).Name; name == "Where" || name == "ExpiresAt" {
				continue
			}
			if f.Kind() == reflect.Struct && f.Type() != reflect.TypeFor[Date]() {
				visit(f, at)
				continue
			}
			before, old := string(base.JSON()), reflect.New(f.Type()).Elem()
			old.Set(f)
			change(t, f, at)
			if string(base.JSON()) == before {
				t.Errorf("changing %s changes nothing in the effective configuration", at)
			}
			if f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct {
				visit(f.Index(0), at+"[0]")
			}
			f.Set(old)
		}
	}
	visit(reflect.ValueOf(base).Elem(), "Config")
}

// change gives a field another value.
func change(t *testing.T, f reflect.Value, path string) {
	t.Helper()
	switch f.Kind() {
	case reflect.String:
		f.SetString(f.String() + "x")
	case reflect.Bool:
		f.SetBool(!f.Bool())
	case reflect.Int, reflect.Int64:
		f.SetInt(f.Int() + 2e9)
	case reflect.Float64:
		f.SetFloat(f.Float() + 1)
	case reflect.Slice:
		f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		if f.Type().Elem().Kind() == reflect.String {
			f.Index(0).SetString("x")
		}
	case reflect.Map:
		f.Set(reflect.MakeMap(f.Type()))
		f.SetMapIndex(reflect.ValueOf("x"), reflect.Zero(f.Type().Elem()))
	case reflect.Struct:
		d, err := ParseDate("2031-02-03")
		if err != nil {
			t.Fatal(err)
		}
		f.Set(reflect.ValueOf(d))
	default:
		t.Fatalf("%s: a %s, which this test cannot change", path, f.Kind())
	}
}

// TestReferenceNamesEveryKey asks for every key of the table, and of the schema, in the reference.
func TestReferenceNamesEveryKey(t *testing.T) {
	ref := Reference()
	walk(root(Default()), "", func(path string, f field) {
		if !strings.Contains(ref, f.key+"`") {
			t.Errorf("the reference lacks %s", join(path, f.key))
		}
		if f.doc == "" {
			t.Errorf("%s has no documentation", join(path, f.key))
		}
	})
	var schema struct {
		Properties map[string]any `json:"properties"`
		Defs       map[string]any `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, f := range root(Default()).fields {
		keys = append(keys, f.key)
	}
	slices.Sort(keys)
	if have := slices.Sorted(maps.Keys(schema.Properties)); !slices.Equal(have, keys) {
		t.Errorf("schema has %v, table has %v", have, keys)
	}
	for name := range schema.Defs {
		if !strings.Contains(ref, "\n## "+name+"\n") {
			t.Errorf("the reference lacks the definition %s", name)
		}
	}
}
