package ec2

import "strings"

// like tells whether a filter's pattern stands for the whole value: a star for any text, a question mark for one character or
// none, and what follows a backslash for itself.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Filtering.html
func like(pattern, value string) bool {
	if !isPattern(pattern) {
		return pattern == value
	}
	type position struct{ p, v int }
	seen := map[position]bool{} // so that many stars cost no more than the product of both lengths
	var match func(p, v int) bool
	match = func(p, v int) bool {
		at := position{p, v}
		if seen[at] {
			return false
		}
		seen[at] = true
		if p == len(pattern) {
			return v == len(value)
		}
		switch c := pattern[p]; {
		case c == '*':
			return match(p+1, v) || v < len(value) && match(p, v+1)
		case c == '?':
			return match(p+1, v) || v < len(value) && match(p+1, v+1)
		case c == '\\' && p+1 < len(pattern):
			return v < len(value) && value[v] == pattern[p+1] && match(p+2, v+1)
		default:
			return v < len(value) && value[v] == c && match(p+1, v+1)
		}
	}
	return match(0, 0)
}

// isPattern tells whether a filter's value may stand for more than itself.
func isPattern(value string) bool { return strings.ContainsAny(value, `*?\`) }
