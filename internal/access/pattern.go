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

// types are those of the resources that the tables ask about, where a star may end the type's name: "parameter*" is all parameters.
var types = []string{
	"cluster", "collection", "db", "document", "domain", "function", "instance", "key", "log-group", "parameter", "project", "repository",
	"secret", "snapshot", "stack", "stream", "table", "workgroup",
}

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
	if kind := strings.TrimRight(name, "*"); kind != name && slices.Contains(types, kind) {
		return true
	}
	if kind, rest, ok := strings.Cut(name, "/"); ok && !strings.ContainsAny(kind, "*?") {
		name = rest // "parameter/*", "role/*"
	} else if kind, rest, ok := strings.Cut(name, ":"); ok && !strings.ContainsAny(kind, "*?") {
		name = rest // "secret:*", "function:*"
	}
	return name != "" && strings.Trim(name, "*/:") == "" && strings.Contains(name, "*")
}

// owners are the services in the ARNs of what a service's actions are about, where those are not its own only (Service Authorization
// Reference).
var owners = map[string][]string{
	"ebs": {"ec2"}, "ec2-instance-connect": {"ec2"}, "rds-data": {"rds"}, "redshift-data": {"redshift", "redshift-serverless"},
	"s3": {"s3-object-lambda", "s3-outposts"}, "ssm": {"ec2", "ecs"}, "sts": {"iam"},
}

// concerns tells whether a pattern of resources may stand for some that actions of a service are about.
func concerns(pattern, service string) bool {
	rest, ok := strings.CutPrefix(pattern, "arn:")
	_, rest, _ = strings.Cut(rest, ":")
	of, _, more := strings.Cut(rest, ":")
	return !ok || !more || strings.ContainsAny(of, "*?") || of == service || slices.Contains(owners[service], of)
}

// everything tells whether a pattern stands for all of a service, or of all: nothing but stars is left of its ARN.
func everything(pattern string) bool {
	parts := strings.SplitN(pattern, ":", 6)
	if len(parts) < 6 {
		return strings.Trim(pattern, "*") == ""
	}
	return wide(pattern) && strings.Trim(parts[3]+parts[4]+parts[5], "*/") == ""
}

// anyWide tells whether one of several patterns is wide.
func anyWide(patterns []string) bool { return slices.ContainsFunc(patterns, wide) }

// covered tells whether one of the patterns stands for all that p does.
func covered(p string, by []string) bool {
	return slices.ContainsFunc(by, func(b string) bool { return like(b, p) })
}
