package wire

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Routes are the operations of a REST service, in the order in which they are tried.
type Routes []Route

// Route is where one operation of a REST service is found.
type Route struct {
	Action   string
	method   string
	segments []segment
	query    map[string]bool // the query parameters, and whether each is a list
}

// segment is one piece of a path: a literal, or a label that takes a piece, or, greedy, all that is left.
type segment struct {
	text          string
	label, greedy bool
}

// ParseRoute reads a route as Smithy's http trait writes it, "POST /tags/{arn+}", with the names of its query parameters
// behind it, those of lists with brackets: "GET /clusters?include[]&nextToken".
func ParseRoute(action, route string) (Route, error) {
	out := Route{Action: action, query: map[string]bool{}}
	method, uri, ok := strings.Cut(route, " ")
	path, query, _ := strings.Cut(uri, "?")
	if !ok || method == "" || !strings.HasPrefix(path, "/") {
		return out, fmt.Errorf("route %q: want a method and a path: \"GET /things/{name}\"", route)
	}
	out.method = method
	seen := map[string]bool{}
	parts := pieces(path)
	for i, part := range parts {
		s := segment{text: part}
		if inner, open := strings.CutPrefix(part, "{"); open {
			s.label = true
			s.text, ok = strings.CutSuffix(inner, "}")
			s.text, s.greedy = strings.CutSuffix(s.text, "+")
			if !ok || s.text == "" || seen[s.text] || s.greedy && i != len(parts)-1 {
				return out, fmt.Errorf("route %q: %s is no label, stands twice or is greedy before the end", route, part)
			}
			seen[s.text] = true
		}
		out.segments = append(out.segments, s)
	}
	if query == "" {
		return out, nil
	}
	for name := range strings.SplitSeq(query, "&") {
		name, list := strings.CutSuffix(name, "[]")
		if name == "" || seen[name] {
			return out, fmt.Errorf("route %q: query parameter %q has no name or stands twice", route, name)
		}
		seen[name] = true
		out.query[name] = list
	}
	return out, nil
}

// NewRoutes puts routes in the order in which they must be tried: a literal goes before a label, a label before a
// greedy one. It refuses two routes that the same request would fit.
func NewRoutes(routes ...Route) (Routes, error) {
	out := Routes(slices.Clone(routes))
	slices.SortStableFunc(out, func(a, b Route) int {
		return cmp.Or(strings.Compare(a.method, b.method), strings.Compare(a.shape(), b.shape()))
	})
	for i := 1; i < len(out); i++ {
		if a, b := out[i-1], out[i]; a.method == b.method && a.shape() == b.shape() {
			return nil, fmt.Errorf("%s and %s have the same route", a.Action, b.Action)
		}
	}
	return out, nil
}

// shape is what a route's path fits, such that of two that fit one request the more literal one sorts first.
func (t Route) shape() string {
	var b strings.Builder
	for _, s := range t.segments {
		switch {
		case s.greedy:
			b.WriteString("3\x00")
		case s.label:
			b.WriteString("2\x00")
		default:
			b.WriteString("1" + s.text + "\x00")
		}
	}
	return b.String()
}

// parse finds the route of a request, and its parameters.
func (rs Routes) parse(r *http.Request, body []byte) (action string, params Value, err error) {
	parts := pieces(r.URL.EscapedPath())
	for _, t := range rs {
		labels, ok := t.match(r.Method, parts)
		if !ok {
			continue
		}
		params, err := t.params(labels, r.URL.RawQuery, body)
		return t.Action, params, err
	}
	return "", Value{}, &Error{
		Code: "UnknownOperationException", Status: http.StatusNotFound,
		Message: "No operation is found at " + r.Method + " " + r.URL.EscapedPath() + ".",
	}
}

// match gives the labels of a path in pieces that fits the route.
func (t Route) match(method string, parts []string) (labels map[string]string, ok bool) {
	if method != t.method || len(parts) < len(t.segments) {
		return nil, false
	}
	labels = map[string]string{}
	for i, s := range t.segments {
		part := parts[i]
		if s.greedy {
			part, parts = strings.Join(parts[i:], "/"), parts[:i+1]
		}
		text, err := url.PathUnescape(part)
		switch {
		case err != nil, s.label && text == "", !s.label && text != s.text:
			return nil, false
		case s.label:
			labels[s.text] = text
		}
	}
	return labels, len(parts) == len(t.segments)
}

// params merges what the path, the query and the body say.
func (t Route) params(labels map[string]string, query string, body []byte) (Value, error) {
	doc, err := ParseJSON(body)
	if err != nil {
		return Value{}, err
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return Value{}, Errorf("MalformedQueryString", "The query string is malformed.")
	}
	fields := make(map[string]Value, len(labels)+len(values)+len(doc.fields))
	for name, text := range labels {
		fields[name] = Scalar(text)
	}
	for name, texts := range values {
		if strings.HasPrefix(name, "X-Amz-") {
			continue // the signature of a presigned request
		}
		list, known := t.query[name]
		switch {
		case !known:
			return Value{}, Errorf("UnknownParameter", "The query parameter %s is not recognized.", name)
		case list:
			items := make([]Value, len(texts))
			for i, text := range texts {
				items[i] = Scalar(text)
			}
			fields[name] = List(items...)
		case len(texts) > 1:
			return Value{}, Errorf("SerializationException", "The query parameter %s was sent more than once.", name)
		default:
			fields[name] = Scalar(texts[0])
		}
	}
	for name, v := range doc.fields {
		if _, taken := fields[name]; taken {
			return Value{}, Errorf("SerializationException", "The body names %s, which the address says already.", name)
		}
		fields[name] = v
	}
	return Fields(fields), nil
}

// pieces cuts an escaped path at its slashes; one at the end does not count.
func pieces(path string) []string {
	path = strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}
