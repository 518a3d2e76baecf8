package access

import (
	"slices"
	"strings"
)

// like tells whether a pattern stands for the whole text: a star for any characters, a question mark for one. A star in the text
// is only stood for by a star, so that like(p, q) means, for patterns, that p stands for all that q does.
func like(pattern, text string) bool {
	p, t, star, mark := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == text[t] || pattern[p] == '?' && text[t] != '*'):
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// overlaps tells whether some text is stood for by both patterns.
func overlaps(a, b string) bool {
	reach := make([]bool, len(b)+1) // reach[j]: a[:i] and b[:j] have a text in common
	reach[0] = true
	for j := range len(b) {
		reach[j+1] = reach[j] && b[j] == '*'
	}
	for i := range len(a) {
		next := make([]bool, len(b)+1)
		next[0] = reach[0] && a[i] == '*'
		for j := range len(b) {
			switch {
			case a[i] == '*':
				next[j+1] = next[j] || reach[j+1]
			case b[j] == '*':
				next[j+1] = next[j] || reach[j+1]
			default:
				next[j+1] = reach[j] && (a[i] == b[j] || a[i] == '?' || b[j] == '?')
			}
			if a[i] == '*' && b[j] == '*' {
				next[j+1] = next[j+1] || reach[j]
			}
		}
		reach = next
	}
	return reach[len(b)]
}

// untyped are the services whose ARNs name a resource without its type before it.
var untyped = []string{"s3", "sns", "sqs", "execute-api"}

// wide tells whether a pattern of resources stands for all of a kind, in some account and region: "*", or an ARN of which only
// what a person would not choose by name is fixed, as in "arn:aws:ssm:eu-west-1:*:parameter/*".
func wide(pattern string) bool {
	if strings.Trim(pattern, "*") == "" {
		return true
	}
	parts := strings.SplitN(pattern, ":", 6)
	if len(parts) < 6 {
		return false
	}
	name := parts[5]
	if slices.Contains(untyped, parts[2]) {
		return name != "" && strings.Trim(name, "*/") == ""
	}
	if kind, rest, ok := strings.Cut(name, "/"); ok && !strings.ContainsAny(kind, "*?") {
		name = rest // "parameter/*", "role/*"
	} else if kind, rest, ok := strings.Cut(name, ":"); ok && !strings.ContainsAny(kind, "*?") {
		name = rest // "secret:*", "function:*"
	}
	return name != "" && strings.Trim(name, "*/:") == "" && strings.Contains(name, "*")
}

// anyWide tells whether one of several patterns is wide.
func anyWide(patterns []string) bool { return slices.ContainsFunc(patterns, wide) }

// covered tells whether one of the patterns stands for all that p does.
func covered(p string, by []string) bool {
	return slices.ContainsFunc(by, func(b string) bool { return like(b, p) })
}
