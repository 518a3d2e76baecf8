package policy

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// shares binds a list of growing shares that ends with everything. Where it is empty another list holds.
type shares struct{ target *[]Share }

func (l shares) read(d *decoder, n *yaml.Node, path string) {
	if n.ShortTag() == tagNull {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.wrongType(n, path, "a list of "+share().many, `Write a list, like [1, 10%, 100%].`)
		return
	}
	if len(n.Content) == 0 {
		d.problem(n, path, path+" is an empty list", `Write at least [100%], or remove the key.`)
		return
	}
	var out []Share
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.at[at] = item
		s, ok := share().read(d, item, at)
		if !ok {
			return // what stands beside a bad one cannot be compared
		}
		if i > 0 && !s.above(out[i-1]) {
			d.problem(item, at, fmt.Sprintf("%s is %s, which does not come after %s", at, s, out[i-1]),
				"Write numbers first, then percentages, each more than the one before.")
			return
		}
		out = append(out, s)
	}
	if last := out[len(out)-1]; !last.All() {
		d.problem(n.Content[len(out)-1], path, fmt.Sprintf("%s ends with %s, so that the rest would never be changed", path, last),
			"Add 100% at the end.")
		return
	}
	*l.target = out
}

func (l shares) canonical() any { return showItems(*l.target, share()) }

func (l shares) schema(map[string]any) map[string]any {
	return map[string]any{"type": []any{"array", "null"}, "items": share().sch, "minItems": 1}
}

func (l shares) describe() string { return "list of " + share().many }

func share() element[Share] {
	const what = "a number, 1 or more, or a percentage"
	return element[Share]{
		one: what, many: "numbers and percentages", tags: []string{tagString, tagInt},
		parse: func(s string) (Share, *fault) {
			v, err := ParseShare(s)
			if err != nil {
				return Share{}, &fault{what: "is not " + what, remedy: "Write it like 5 or 10%."}
			}
			return v, nil
		},
		show: func(s Share) any { return s.String() },
		sch: map[string]any{"anyOf": []any{
			map[string]any{"type": "string", "pattern": `^([1-9][0-9]{0,6}|([1-9][0-9]?|100)%)$`},
			map[string]any{"type": "integer", "minimum": 1, "maximum": 1_000_000},
		}},
	}
}

// ordered binds a list whose order counts and whose items may come again, such as a program with its arguments. It has at
// least one.
type ordered struct{ list[string] }

// sequence binds a list of at least one. Where repeats is set an item may come again.
func sequence(target *[]string, el element[string], repeats bool) value {
	return ordered{list[string]{target: target, el: el, repeats: repeats}}
}

func (o ordered) read(d *decoder, n *yaml.Node, path string) {
	if n.Kind != yaml.SequenceNode {
		d.wrongType(n, path, "a list of "+o.el.many, "")
		return
	}
	if len(n.Content) == 0 {
		d.problem(n, path, path+" is an empty list", "Write at least one, or remove the key.")
		return
	}
	o.list.read(d, n, path)
}

func (o ordered) schema(map[string]any) map[string]any {
	out := map[string]any{"type": "array", "items": o.el.sch, "minItems": 1}
	if !o.repeats {
		out["uniqueItems"] = true
	}
	return out
}

// argument is a text that a program is given, which may be empty.
func argument() element[string] {
	e := text[string]("a text", "texts")
	e.parse = func(s string) (string, *fault) {
		if strings.ContainsRune(s, 0) {
			return "", &fault{what: "holds a zero byte", remedy: "Remove it."}
		}
		return s, nil
	}
	e.show = func(s string) any { return s }
	e.sch = map[string]any{"type": "string"}
	return e
}

// optional is a duration that stands for another default where it is zero.
func optional(e element[time.Duration]) element[time.Duration] {
	e.show = func(v time.Duration) any {
		if v == 0 {
			return nil
		}
		return showDuration(v)
	}
	return e
}

// clock is a time of day, or one of the further forms.
func clock(further string) element[string] {
	return pattern[string]("a time of day, HH:MM", "times of day", `^(([01][0-9]|2[0-3]):[0-5][0-9]`+further+`)$`,
		"09:00 or 22:30")
}

func timezone() element[string] {
	e := text[string]("a time zone", "time zones")
	e.parse = func(s string) (string, *fault) {
		if _, err := loadZone(s); err != nil || strings.TrimSpace(s) == "" {
			return "", &fault{what: "is no IANA time zone", remedy: "Write it like Europe/Berlin, America/New_York or UTC."}
		}
		return s, nil
	}
	return e
}

// webURL is where a request may be sent without being read or changed on the way.
func webURL() element[string] {
	const remedy = "Write it like https://gates.example.com/imdsctl."
	e := text[string]("a URL", "URLs")
	e.parse = func(s string) (string, *fault) {
		u, err := url.Parse(s)
		switch {
		case err != nil && strings.Contains(s, "@") || err == nil && u.User != nil:
			return "", &fault{what: "holds a user or a password", secret: true, remedy: "Remove it, and consider it known to " +
				"whoever could read the file. Requests are signed with the key that `secret_env` names."}
		case err != nil || u.Hostname() == "" || u.Fragment != "" ||
			!strings.HasPrefix(s, "https://") && !strings.HasPrefix(s, "http://"):
			return "", &fault{what: "is not a URL to send requests to", remedy: remedy}
		case strings.HasPrefix(s, "http://") && !loopback(u.Hostname()):
			return "", &fault{what: "is not encrypted", remedy: "Write https; http is for this machine only, as in " +
				"http://127.0.0.1:8080."}
		}
		return s, nil
	}
	e.sch = map[string]any{"type": "string", "pattern": "^https?://"}
	return e
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
