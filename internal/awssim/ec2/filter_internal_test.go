package ec2

import "testing"

func TestLike(t *testing.T) {
	for _, c := range []struct {
		pattern, value string
		want           bool
	}{
		{"web", "web", true}, {"web", "webs", false}, {"", "", true}, {"*", "", true}, {"w*b", "wb", true}, {"w*b", "web-b", true},
		{"we?", "web", true}, {"we?", "we", true}, {"we?", "webs", false}, {`we\*`, "we*", true}, {`we\*`, "web", false},
		{`we\?`, "we?", true}, {`a\\b`, `a\b`, true}, {`a\`, `a\`, true}, {"a**b", "ab", true},
		{"******************************x", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
	} {
		if got := like(c.pattern, c.value); got != c.want {
			t.Errorf("%q on %q: %t", c.pattern, c.value, got)
		}
	}
}
