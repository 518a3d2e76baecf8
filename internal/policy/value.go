package policy

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"go.yaml.in/yaml/v4"
)

// value is the value of one key, bound to the place in a Config it is read into. It knows how to read itself, how to
// show what that place holds, and how to describe itself to a schema and to people.
type value interface {
	// read stores what the node says, or reports why it cannot.
	read(d *decoder, n *yaml.Node, path string)
	// canonical is the place's content as JSON data, nil where nothing is set.
	canonical() any
	// schema describes the accepted values; shared definitions go into defs.
	schema(defs map[string]any) map[string]any
	// describe names the type for people, as in "list of regions".
	describe() string
}

// field is one key of an object.
type field struct {
	key      string
	value    value
	doc      string
	required bool
	// computed describes a default that depends on other keys; otherwise the default is what the place holds.
	computed string
}

// element is a scalar type: how its text is read, shown and described.
type element[T comparable] struct {
	one, many string   // "a duration", "durations"
	tags      []string // YAML's resolved types whose text is taken
	parse     func(string) (T, *fault)
	show      func(T) any // nil for a value that means "not set"
	sch       map[string]any
	// check looks at values in the light of the session, such as the kinds that exist; nil for nothing to look at.
	check func(*decoder, T) *fault
}

// fault is why a text is not a value: "has no unit", and what to do.
type fault struct {
	what, remedy string
	// secret keeps the text out of the message.
	secret bool
}

const (
	tagString = "!!str"
	tagInt    = "!!int"
	tagFloat  = "!!float"
	tagBool   = "!!bool"
	tagTime   = "!!timestamp"
	tagNull   = "!!null"
)

// read gives the element's value at a node, or reports a problem.
func (e element[T]) read(d *decoder, n *yaml.Node, path string) (v T, ok bool) {
	if n.Kind != yaml.ScalarNode || !slices.Contains(e.tags, n.ShortTag()) {
		d.wrongType(n, path, e.one, e.remedyFor(n))
		return v, false
	}
	v, bad := e.parse(n.Value)
	if bad == nil && e.check != nil {
		bad = e.check(d, v)
	}
	switch {
	case bad != nil && bad.secret:
		d.problem(n, path, path+" "+bad.what, bad.remedy)
	case bad != nil:
		d.problem(n, path, fmt.Sprintf("%s is %s, which %s", path, quote(n.Value), bad.what), bad.remedy)
	}
	return v, bad == nil
}

// remedyFor says what to do about a node of the wrong type, "" where there is nothing to say beyond the type.
func (e element[T]) remedyFor(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || !slices.Contains(e.tags, tagString) {
		return ""
	}
	if _, bad := e.parse(n.Value); bad != nil {
		return bad.remedy
	}
	return "Put it in quotes."
}

// scalar binds an element to a place.
type scalar[T comparable] struct {
	target *T
	el     element[T]
}

func one[T comparable](target *T, el element[T]) value { return scalar[T]{target, el} }

func (s scalar[T]) read(d *decoder, n *yaml.Node, path string) {
	if v, ok := s.el.read(d, n, path); ok {
		*s.target = v
	}
}

func (s scalar[T]) canonical() any                       { return s.el.show(*s.target) }
func (s scalar[T]) schema(map[string]any) map[string]any { return maps.Clone(s.el.sch) }
func (s scalar[T]) describe() string                     { return s.el.one }

// list binds a sequence of elements to a place. A lone list also takes a single element.
type list[T comparable] struct {
	target *[]T
	el     element[T]
	lone   bool
	// repeats lets an item come again.
	repeats bool
}

func many[T comparable](target *[]T, el element[T]) value { return list[T]{target: target, el: el} }

func oneOrMany[T comparable](target *[]T, el element[T]) value {
	return list[T]{target: target, el: el, lone: true}
}

func (l list[T]) read(d *decoder, n *yaml.Node, path string) {
	if l.lone && n.Kind == yaml.ScalarNode && n.ShortTag() != tagNull {
		v, ok := l.el.read(d, n, path)
		if ok {
			*l.target = []T{v}
		}
		return
	}
	*l.target = l.items(d, n, path)
}

func (l list[T]) items(d *decoder, n *yaml.Node, path string) []T {
	if n.Kind != yaml.SequenceNode {
		if n.ShortTag() != tagNull || l.lone {
			d.wrongType(n, path, "a list of "+l.el.many, "")
		}
		return nil
	}
	if l.lone && len(n.Content) == 0 {
		d.problem(n, path, path+" is an empty list, which matches nothing",
			"Name at least one value, or remove the key.")
	}
	var out []T
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.at[at] = item
		v, ok := l.el.read(d, item, at)
		if ok && !l.repeats && slices.Contains(out, v) {
			d.problem(item, at, fmt.Sprintf("%s repeats %s", at, quote(item.Value)), "Remove one of the two.")
		}
		out = append(out, v) // also a bad one, so that positions and indexes agree
	}
	return out
}

func (l list[T]) canonical() any { return showItems(*l.target, l.el) }

func showItems[T comparable](items []T, el element[T]) any {
	if len(items) == 0 {
		return nil
	}
	out := make([]any, len(items))
	for i, v := range items {
		out[i] = el.show(v)
	}
	return out
}

func (l list[T]) schema(map[string]any) map[string]any {
	return listSchema(l.el.sch, l.lone)
}

func listSchema(item map[string]any, lone bool) map[string]any {
	array := map[string]any{"type": "array", "items": item, "uniqueItems": true}
	if !lone {
		array["type"] = []any{"array", "null"}
		return array
	}
	array["minItems"] = 1
	return map[string]any{"anyOf": []any{item, array}}
}

func (l list[T]) describe() string {
	if l.lone {
		return l.el.one + ", or a list of them"
	}
	return "list of " + l.el.many
}

// dictionary binds a mapping with free keys to a place.
type dictionary[V any] struct {
	target *map[string]V
	key    element[string]
	what   string // "patterns by tag key"
	entry  func(*V) value
	sample func() V
	// nonempty asks for at least one entry: an empty part of a match would select more than its author meant.
	nonempty bool
}

func (m dictionary[V]) read(d *decoder, n *yaml.Node, path string) {
	switch {
	case n.ShortTag() == tagNull && !m.nonempty:
		return
	case n.Kind != yaml.MappingNode:
		d.wrongType(n, path, "a mapping of "+m.what, "")
		return
	case m.nonempty && len(n.Content) == 0:
		d.problem(n, path, path+" is empty", "Write at least one entry, or remove the key.")
	}
	out := map[string]V{}
	for key, item := range d.pairs(n, path) {
		at := path + "." + key.Value
		d.at[at] = item
		if _, ok := m.key.read(d, key, path+"'s key"); !ok {
			continue
		}
		v := m.sample()
		m.entry(&v).read(d, item, at)
		out[key.Value] = v
	}
	*m.target = out
}

func (m dictionary[V]) canonical() any {
	if len(*m.target) == 0 {
		return nil
	}
	out := map[string]any{}
	for k, v := range *m.target {
		out[k] = m.entry(&v).canonical()
	}
	return out
}

func (m dictionary[V]) schema(defs map[string]any) map[string]any {
	v := m.sample()
	keys := maps.Clone(m.key.sch)
	delete(keys, "type")
	out := map[string]any{
		"type": []any{"object", "null"}, "propertyNames": keys, "additionalProperties": m.entry(&v).schema(defs),
	}
	if m.nonempty {
		out["type"], out["minProperties"] = "object", 1
	}
	return out
}

func (m dictionary[V]) describe() string {
	if o, ok := m.element(); ok {
		return "mapping of " + m.what + ", each a " + o.describe()
	}
	return "mapping of " + m.what
}

// element is the object that each entry is, if it is one.
func (m dictionary[V]) element() (object, bool) {
	v := m.sample()
	o, ok := m.entry(&v).(object)
	return o, ok
}

// object is a mapping with known keys.
type object struct {
	fields []field
	// ref names the shared definition of the schema and of the reference that describes the object; empty for none.
	ref string
	// nonempty asks for at least one key.
	nonempty bool
}

func (o object) read(d *decoder, n *yaml.Node, path string) {
	if n.ShortTag() == tagNull && !o.nonempty && !o.demanding() {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.wrongType(n, path, "a mapping", "")
		return
	}
	seen := map[string]bool{}
	for key, item := range d.pairs(n, path) {
		i := slices.IndexFunc(o.fields, func(f field) bool { return f.key == key.Value })
		if i < 0 {
			d.unknownKey(key, path, o.fields)
			continue
		}
		seen[key.Value] = true
		at := join(path, key.Value)
		d.at[at] = item
		o.fields[i].value.read(d, item, at)
	}
	for _, f := range o.fields {
		if f.required && !seen[f.key] {
			d.problem(n, join(path, f.key), fmt.Sprintf("%s has no %s", path, f.key), "Add `"+f.key+"`: "+f.doc)
		}
	}
	if o.nonempty && len(n.Content) == 0 {
		d.problem(n, path, path+" is empty, so it selects nothing", "Name what to select: "+o.keys()+".")
	}
}

// demanding tells whether a key must be there.
func (o object) demanding() bool {
	return slices.ContainsFunc(o.fields, func(f field) bool { return f.required })
}

func (o object) keys() string {
	keys := make([]string, len(o.fields))
	for i, f := range o.fields {
		keys[i] = f.key
	}
	return strings.Join(keys, ", ")
}

func (o object) canonical() any {
	out := map[string]any{}
	for _, f := range o.fields {
		if v := f.value.canonical(); v != nil {
			out[f.key] = v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func (o object) schema(defs map[string]any) map[string]any {
	if o.ref == "" {
		return o.definition(defs)
	}
	if _, ok := defs[o.ref]; !ok {
		defs[o.ref] = o.definition(defs)
	}
	return map[string]any{"$ref": "#/$defs/" + o.ref}
}

func (o object) definition(defs map[string]any) map[string]any {
	properties, required := map[string]any{}, []any{}
	for _, f := range o.fields {
		s := f.value.schema(defs)
		s["description"] = f.doc
		if v := f.value.canonical(); v != nil && !f.required && f.computed == "" && !isObject(f.value) {
			s["default"] = v
		}
		properties[f.key] = s
		if f.required {
			required = append(required, f.key)
		}
	}
	out := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	switch {
	case len(required) > 0:
		out["required"] = required
	case o.nonempty:
		out["minProperties"] = 1
	default:
		out["type"] = []any{"object", "null"}
	}
	return out
}

func isObject(v value) bool {
	_, ok := v.(object)
	return ok
}

func (o object) describe() string {
	if o.ref != "" {
		return "[" + o.ref + "](#" + o.ref + ")"
	}
	return "mapping"
}

// objects binds a list of mappings to a place. where, if not nil, takes the position of each.
type objects[T any] struct {
	target *[]T
	fields func(*T) []field
	where  func(*T) *string
}

func (o objects[T]) read(d *decoder, n *yaml.Node, path string) {
	if n.Kind != yaml.SequenceNode {
		if n.ShortTag() != tagNull {
			d.wrongType(n, path, "a list", "")
		}
		return
	}
	out := make([]T, len(n.Content))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.at[at] = item
		object{fields: o.fields(&out[i])}.read(d, item, at)
		*o.where(&out[i]) = d.position(item)
	}
	*o.target = out
}

func (o objects[T]) canonical() any {
	if len(*o.target) == 0 {
		return nil
	}
	out := make([]any, len(*o.target))
	for i := range *o.target {
		out[i] = object{fields: o.fields(&(*o.target)[i])}.canonical()
	}
	return out
}

// entry is the object that each item is, for descriptions.
func (o objects[T]) entry() object { return object{fields: o.fields(new(T))} }

func (o objects[T]) schema(defs map[string]any) map[string]any {
	return map[string]any{"type": []any{"array", "null"}, "items": o.entry().definition(defs)}
}

func (o objects[T]) describe() string { return "list of mappings" }

// The scalar types.

// text is free text, which may not be empty.
func text[T ~string](what, plural string) element[T] {
	return element[T]{
		one: what, many: plural, tags: []string{tagString},
		parse: func(s string) (T, *fault) {
			if strings.TrimSpace(s) == "" {
				return "", &fault{what: "is empty", remedy: "Write " + what + ", or remove the key."}
			}
			return T(s), nil
		},
		show: showText[T],
		sch:  map[string]any{"type": "string", "pattern": `\S`},
	}
}

func showText[T ~string](v T) any {
	if v == "" {
		return nil
	}
	return string(v)
}

// pattern is text of a given form. like shows a person what to write.
func pattern[T ~string](what, plural, form, like string) element[T] {
	re := regexp.MustCompile(form)
	e := text[T](what, plural)
	e.sch = map[string]any{"type": "string", "pattern": form}
	e.parse = func(s string) (T, *fault) {
		if !re.MatchString(s) {
			return "", &fault{what: "is not " + what, remedy: "Write it like " + like + "."}
		}
		return T(s), nil
	}
	return e
}

// enum is one of some words.
func enum[T ~string](words ...T) element[T] {
	list := joinWords(words)
	e := text[T](list, list)
	anys := make([]any, len(words))
	for i, w := range words {
		anys[i] = string(w)
	}
	e.sch = map[string]any{"type": "string", "enum": anys}
	e.parse = func(s string) (T, *fault) {
		if slices.Contains(words, T(s)) {
			return T(s), nil
		}
		remedy := "Write one of " + list + "."
		if near := nearest(s, words); near != "" {
			remedy = "Did you mean " + string(near) + "? Write one of " + list + "."
		}
		return "", &fault{what: "is none of " + list, remedy: remedy}
	}
	return e
}

func joinWords[T ~string](words []T) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = "`" + string(w) + "`"
	}
	return strings.Join(out, ", ")
}

func boolean() element[bool] {
	return element[bool]{
		one: "`true` or `false`", many: "`true` or `false`", tags: []string{tagBool},
		parse: func(s string) (bool, *fault) {
			switch strings.ToLower(s) {
			case "true":
				return true, nil
			case "false":
				return false, nil
			}
			return false, &fault{what: "is neither true nor false", remedy: "Write true or false."}
		},
		show: func(v bool) any { return v },
		sch:  map[string]any{"type": "boolean"},
	}
}

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// integer is a whole number from low to high, written in decimal.
func integer(low, high int) element[int] {
	what := fmt.Sprintf("a whole number from %d to %d", low, high)
	switch high {
	case math.MaxInt32:
		what = fmt.Sprintf("a whole number, %d or more", low)
	case low:
		what = fmt.Sprintf("the number %d", low)
	}
	return element[int]{
		one: what, many: what, tags: []string{tagInt},
		parse: func(s string) (int, *fault) {
			n, err := strconv.Atoi(s)
			if err != nil || !decimal.MatchString(s) || n < low || n > high {
				return 0, &fault{what: "is not " + what, remedy: "Write " + what + "."}
			}
			return n, nil
		},
		show: func(v int) any { return v },
		sch:  map[string]any{"type": "integer", "minimum": low, "maximum": high},
	}
}

// number is above 0 and at most high.
func number(high float64) element[float64] {
	what := "a number above 0, at most " + strconv.FormatFloat(high, 'f', -1, 64)
	return element[float64]{
		one: what, many: what, tags: []string{tagInt, tagFloat},
		parse: func(s string) (float64, *fault) {
			v, err := strconv.ParseFloat(s, 64)
			if err != nil || !(v > 0 && v <= high) || strings.ContainsAny(s, "xX_") {
				return 0, &fault{what: "is not " + what, remedy: "Write " + what + "."}
			}
			return v, nil
		},
		show: func(v float64) any { return v },
		sch:  map[string]any{"type": "number", "exclusiveMinimum": 0, "maximum": high},
	}
}

// hopLimit is 1 to 64, or one of the words keep and auto.
func hopLimit() element[int] {
	const what = "`keep`, `auto` or a hop limit from 1 to 64"
	e := integer(1, 64)
	e.one, e.many, e.tags = what, what, []string{tagInt, tagString}
	number := e.parse
	e.parse = func(s string) (int, *fault) {
		switch s {
		case "keep":
			return KeepHopLimit, nil
		case "auto":
			return AutoHopLimit, nil
		}
		v, bad := number(s)
		if bad != nil {
			return 0, &fault{what: "is not a hop limit", remedy: "Write keep, auto, or a number from 1 to 64."}
		}
		return v, nil
	}
	e.show = func(v int) any {
		switch v {
		case KeepHopLimit:
			return "keep"
		case AutoHopLimit:
			return "auto"
		}
		return v
	}
	e.sch = map[string]any{"anyOf": []any{
		map[string]any{"enum": []any{"keep", "auto"}}, map[string]any{"type": "integer", "minimum": 1, "maximum": 64},
		map[string]any{"type": "string", "pattern": "^([1-9]|[1-5][0-9]|6[0-4])$"},
	}}
	return e
}

const day = 24 * time.Hour

var (
	durationForm  = `^([0-9]{1,6}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$`
	durationParts = regexp.MustCompile(durationForm)
)

// duration is days, hours, minutes and seconds, as in "14d" or "1h30m", between low and high.
func duration(low, high time.Duration) element[time.Duration] {
	what := fmt.Sprintf("a duration from %s to %s", showDuration(low), showDuration(high))
	return element[time.Duration]{
		one: what, many: what, tags: []string{tagString},
		parse: func(s string) (time.Duration, *fault) {
			v, ok := parseDuration(s)
			switch {
			case !ok:
				return 0, &fault{what: "is not a duration", remedy: "Write it with the units d, h, m and s, like 14d, 36h or 1h30m."}
			case v < low || v > high:
				return 0, &fault{what: "is out of range", remedy: "Write " + what + "."}
			}
			return v, nil
		},
		show: func(v time.Duration) any { return showDuration(v) },
		sch:  map[string]any{"type": "string", "pattern": durationForm, "minLength": 2},
	}
}

func parseDuration(s string) (time.Duration, bool) {
	m := durationParts.FindStringSubmatch(s)
	if s == "" || m == nil {
		return 0, false
	}
	var sum time.Duration
	for i, unit := range []time.Duration{day, time.Hour, time.Minute, time.Second} {
		digits := strings.TrimRight(m[i+1], "dhms")
		if digits == "" {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || time.Duration(n) > (math.MaxInt64-sum)/unit {
			return 0, false
		}
		sum += time.Duration(n) * unit
	}
	return sum, true
}

// showDuration writes whole seconds in the largest units: "1d12h", "0s".
func showDuration(v time.Duration) string {
	if v < time.Second {
		return "0s"
	}
	var b strings.Builder
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if n := v / u.unit; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			v -= n * u.unit
		}
	}
	return b.String()
}

func date() element[Date] {
	return element[Date]{
		one: "a date, YYYY-MM-DD", many: "dates", tags: []string{tagString, tagTime},
		parse: func(s string) (Date, *fault) {
			v, err := ParseDate(s)
			if err != nil || v.start.IsZero() {
				return Date{}, &fault{what: "is not a day of the calendar", remedy: "Write it like 2027-03-31."}
			}
			return v, nil
		},
		show: func(v Date) any { return showText(v.String()) },
		sch:  map[string]any{"type": "string", "format": "date", "pattern": `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`},
	}
}

// accountID takes twelve digits as they stand in the file, quoted or not: read as a number, 012345678901 would lose its
// zero.
func accountID() element[fleet.AccountID] {
	e := text[fleet.AccountID]("an account id of twelve digits", "account ids")
	e.tags = []string{tagString, tagInt, tagFloat}
	e.parse = func(s string) (fleet.AccountID, *fault) {
		if a := fleet.AccountID(s); a.Valid() {
			return a, nil
		}
		return "", &fault{what: "is not an account id", remedy: "Write its twelve digits, leading zeros included."}
	}
	e.sch = map[string]any{"anyOf": []any{
		map[string]any{"type": "string", "pattern": "^[0-9]{12}$"},
		map[string]any{"type": "integer", "minimum": 0, "maximum": 999999999999},
	}}
	return e
}

func region() element[fleet.Region] {
	return pattern[fleet.Region]("a region", "regions", `^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$`, "eu-west-1")
}

func glob(what, plural string) element[Glob] { return text[Glob](what, plural) }

// kindGlob must match a kind that exists, where the kinds are known: a misspelt one would silently match nothing.
func kindGlob() element[Glob] {
	e := glob("a kind or a pattern for kinds", "kinds")
	e.check = func(d *decoder, g Glob) *fault {
		if len(d.kinds) == 0 || slices.ContainsFunc(d.kinds, g.Match) {
			return nil
		}
		remedy := "Write one of " + strings.Join(d.kinds, ", ") + "."
		if near := nearest(string(g), d.kinds); near != "" && g.literal() {
			remedy = "Did you mean " + near + "?"
		}
		return &fault{what: "matches no kind of resource", remedy: remedy}
	}
	return e
}

// kindName names one kind that exists, where the kinds are known.
func kindName() element[string] {
	e := pattern[string]("a kind's name", "kinds", `^[a-z0-9]+(-[a-z0-9]+)*$`, "lightsail-instance")
	exists := kindGlob().check
	e.check = func(d *decoder, s string) *fault { return exists(d, Glob(s)) }
	return e
}

// resourceName is an id, or the whole reference of a resource, which is known by its partition.
func resourceName() element[string] {
	e := text[string]("a resource's id or reference", "resource ids or references")
	e.check = func(_ *decoder, s string) *fault {
		if _, err := fleet.ParseRef(s); err != nil && strings.HasPrefix(s, "aws") && strings.Contains(s, "/") {
			return &fault{what: "is not a resource reference", remedy: "Write partition/account/region/kind/id, or only the id."}
		}
		return nil
	}
	return e
}
