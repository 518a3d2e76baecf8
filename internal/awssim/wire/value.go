package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Value is one parameter of a request: a scalar, a structure or a list, whatever the protocol wrote it as. The zero
// Value is a parameter that was not sent. Values are read-only.
type Value struct {
	set    bool
	scalar string
	fields map[string]Value
	list   []Value
}

// IsSet tells whether the parameter was sent.
func (v Value) IsSet() bool { return v.set }

// IsScalar tells whether the parameter is a plain value.
func (v Value) IsScalar() bool { return v.set && v.fields == nil && v.list == nil }

// Get is a member of a structure.
func (v Value) Get(name string) Value { return v.fields[name] }

// Has tells whether a member was sent.
func (v Value) Has(name string) bool { return v.fields[name].set }

// Names lists the members sent, sorted.
func (v Value) Names() []string { return slices.Sorted(maps.Keys(v.fields)) }

// Text is the scalar as text; empty for other values.
func (v Value) Text() string { return v.scalar }

// Str is a member's text, "" where it was not sent.
func (v Value) Str(name string) string { return v.fields[name].scalar }

// Int is a member as a whole number; set tells whether it was sent.
func (v Value) Int(name string) (n int64, set bool, err error) {
	f := v.fields[name]
	if !f.set {
		return 0, false, nil
	}
	n, err = strconv.ParseInt(f.scalar, 10, 64)
	if err != nil {
		return 0, true, Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. It is not an integer.",
			f.scalar, name)
	}
	return n, true, nil
}

// Float is a member as a number.
func (v Value) Float(name string) (n float64, set bool, err error) {
	f := v.fields[name]
	if !f.set {
		return 0, false, nil
	}
	n, err = strconv.ParseFloat(f.scalar, 64)
	if err != nil || math.IsNaN(n) {
		return 0, true, Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. It is not a number.",
			f.scalar, name)
	}
	return n, true, nil
}

// Bool is a member as a truth value.
func (v Value) Bool(name string) (b, set bool, err error) {
	f := v.fields[name]
	if !f.set {
		return false, false, nil
	}
	switch strings.ToLower(f.scalar) {
	case "true":
		return true, true, nil
	case "false":
		return false, true, nil
	}
	return false, true, Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. It is not a boolean.",
		f.scalar, name)
}

// Time is a member as an instant: ISO 8601 text or seconds since 1970, as the protocols write them.
func (v Value) Time(name string) (t time.Time, set bool, err error) {
	f := v.fields[name]
	if !f.set {
		return time.Time{}, false, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, f.scalar); err == nil {
		return t.UTC(), true, nil
	}
	if sec, err := strconv.ParseFloat(f.scalar, 64); err == nil && math.Abs(sec) < 1e12 {
		whole, frac := math.Modf(sec)
		return time.Unix(int64(whole), int64(math.Round(frac*1e6))*1000).UTC(), true, nil
	}
	return time.Time{}, true, Errorf("InvalidParameterValue",
		"Value (%s) for parameter %s is invalid. It is not a timestamp.", f.scalar, name)
}

// Items are the elements of a list member, in order: a JSON or CBOR array, X.1 and X.2, or X.member.1 and X.member.2.
func (v Value) Items(name string) []Value { return v.fields[name].Elements() }

// Elements are the elements of a list.
func (v Value) Elements() []Value {
	if v.list != nil || v.fields == nil {
		return v.list
	}
	if m, ok := v.fields["member"]; ok && len(v.fields) == 1 {
		return m.Elements()
	}
	type indexed struct {
		i int
		v Value
	}
	var found []indexed
	for k, f := range v.fields {
		if i, err := strconv.Atoi(k); err == nil {
			found = append(found, indexed{i, f})
		}
	}
	slices.SortFunc(found, func(a, b indexed) int { return a.i - b.i })
	out := make([]Value, len(found))
	for i, f := range found {
		out[i] = f.v
	}
	return out
}

// Strings are the elements of a list of text.
func (v Value) Strings(name string) []string {
	items := v.Items(name)
	if len(items) == 0 {
		return nil
	}
	out := make([]string, len(items))
	for i, it := range items {
		out[i] = it.scalar
	}
	return out
}

// Flat lists every scalar of the tree as "A.1.B=value", sorted: the compact form for a log.
func (v Value) Flat() []string {
	var out []string
	var walk func(prefix string, v Value)
	walk = func(prefix string, v Value) {
		join := func(k string) string {
			if prefix == "" {
				return k
			}
			return prefix + "." + k
		}
		switch {
		case v.fields != nil:
			for k, f := range v.fields {
				walk(join(k), f)
			}
		case v.list != nil:
			for i, e := range v.list {
				walk(join(strconv.Itoa(i+1)), e)
			}
		case v.set:
			out = append(out, prefix+"="+v.scalar)
		}
	}
	walk("", v)
	slices.Sort(out)
	return out
}

// Scalar makes a text value.
func Scalar(s string) Value { return Value{set: true, scalar: s} }

// Fields makes a structure.
func Fields(m map[string]Value) Value { return Value{set: true, fields: m} }

// List makes a list.
func List(items ...Value) Value { return Value{set: true, list: append([]Value{}, items...)} }

// maxDepth bounds the nesting of parameters; the APIs' own models stay below ten.
const maxDepth = 32

// ParseForm builds the tree of a Query request: "Filter.1.Name" is member Name of element 1 of Filter.
func ParseForm(form url.Values) (Value, error) {
	type node struct {
		scalar *string
		kids   map[string]*node
	}
	root := &node{kids: map[string]*node{}}
	for _, key := range slices.Sorted(maps.Keys(form)) {
		values := form[key]
		if len(values) > 1 {
			return Value{}, Errorf("InvalidParameterCombination", "The parameter %s was sent more than once.", key)
		}
		if strings.Count(key, ".") >= maxDepth {
			return Value{}, Errorf("MalformedQueryString", "The parameter %s is nested too deeply.", key)
		}
		at := root
		for part := range strings.SplitSeq(key, ".") {
			if part == "" {
				return Value{}, Errorf("MalformedQueryString", "The parameter %q is malformed.", key)
			}
			if at.kids == nil {
				at.kids = map[string]*node{}
			}
			next := at.kids[part]
			if next == nil {
				next = &node{}
				at.kids[part] = next
			}
			at = next
		}
		at.scalar = &values[0]
	}
	var build func(n *node) Value
	build = func(n *node) Value {
		v := Value{set: true}
		if n.scalar != nil {
			v.scalar = *n.scalar
		}
		if n.kids != nil {
			v.fields = make(map[string]Value, len(n.kids))
			for k, kid := range n.kids {
				v.fields[k] = build(kid)
			}
		}
		return v
	}
	return build(root), nil
}

// ParseJSON reads a JSON request body; an empty body is an empty structure.
func ParseJSON(body []byte) (Value, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return Fields(map[string]Value{}), nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return Value{}, Errorf("SerializationException", "the body is not JSON: %v", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Value{}, Errorf("SerializationException", "the body holds more than one JSON document")
	}
	return document(doc)
}

// ParseCBOR reads a CBOR request body; an empty body is an empty structure.
func ParseCBOR(body []byte) (Value, error) {
	if len(body) == 0 {
		return Fields(map[string]Value{}), nil
	}
	var doc any
	if err := cbor.Unmarshal(body, &doc); err != nil {
		return Value{}, Errorf("SerializationException", "the body is not CBOR: %v", err)
	}
	return document(doc)
}

func document(doc any) (Value, error) {
	v, err := fromAny(doc, 0)
	if err == nil && v.fields == nil {
		return Value{}, Errorf("SerializationException", "the body is not a structure")
	}
	return v, err
}

func fromAny(doc any, depth int) (Value, error) {
	if depth > maxDepth {
		return Value{}, Errorf("SerializationException", "the body is nested too deeply")
	}
	switch x := doc.(type) {
	case nil:
		return Value{}, nil
	case string:
		return Scalar(x), nil
	case []byte:
		return Scalar(string(x)), nil
	case bool:
		return Scalar(strconv.FormatBool(x)), nil
	case json.Number:
		return Scalar(x.String()), nil
	case int64:
		return Scalar(strconv.FormatInt(x, 10)), nil
	case uint64:
		return Scalar(strconv.FormatUint(x, 10)), nil
	case float64:
		return Scalar(strconv.FormatFloat(x, 'g', -1, 64)), nil
	case time.Time:
		return Scalar(x.UTC().Format(time.RFC3339Nano)), nil
	case []any:
		items := make([]Value, len(x))
		for i, e := range x {
			v, err := fromAny(e, depth+1)
			if err != nil {
				return Value{}, err
			}
			items[i] = v
		}
		return Value{set: true, list: items}, nil
	case map[string]any:
		fields := make(map[string]Value, len(x))
		for k, e := range x {
			v, err := fromAny(e, depth+1)
			if err != nil {
				return Value{}, err
			}
			if v.set {
				fields[k] = v
			}
		}
		return Fields(fields), nil
	case map[any]any:
		fields := make(map[string]Value, len(x))
		for k, e := range x {
			name, ok := k.(string)
			if !ok {
				return Value{}, Errorf("SerializationException", "a member's name is not text")
			}
			v, err := fromAny(e, depth+1)
			if err != nil {
				return Value{}, err
			}
			if v.set {
				fields[name] = v
			}
		}
		return Fields(fields), nil
	default:
		return Value{}, Errorf("SerializationException", "%s", fmt.Sprintf("a value of type %T is not understood", doc))
	}
}
