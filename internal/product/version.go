package product

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
)

// Compare orders two versions of one product, whichever package manager wrote them: -1, 0 or 1. It reads what the ecosystems of the
// table have in common, and of what they do not:
//
//   - the numbers decide, however many there are, and missing ones are zero: 1.2 equals 1.2.0;
//   - a "v" in front (Go), an epoch (Debian "1:", RPM), and what packagers add behind (Debian "-1ubuntu2", RPM "-1.amzn2", "+dfsg",
//     build metadata) say nothing about the code, and are left out;
//   - what comes before a release is less than it: "rc", "alpha", "beta", "dev", "preview", "SNAPSHOT" and their kin, Debian's "~",
//     and Go's pseudo-versions of commits before a tag (v1.25.38-0.20191119120000-0123456789ab); an "a", "b" or "c" directly behind
//     a number is Python's pre-release where a number follows it.
//
// What is no version is less than every version.
func Compare(a, b string) int {
	x, okX := parseVersion(a)
	y, okY := parseVersion(b)
	if !okX || !okY {
		return cmp.Compare(truth(okX), truth(okY))
	}
	return x.compare(y)
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// version is a version taken apart.
type version struct {
	numbers []string // without leading zeros
	pre     []string // what says that it comes before the release; nil for a release
}

var (
	numbersAt = regexp.MustCompile(`^\d+(?:\.\d+)*`)
	// pseudo is a commit in Go's words, the third form being that of a module without tags.
	pseudo = regexp.MustCompile(`^(?:.*[-.])?(0\.)?\d{14}-[0-9a-f]{12}$`)
	// early is how a pre-release begins, with what is between it and the number.
	early = regexp.MustCompile(`^[-._]?(alpha|beta|preview|pre|rc|cr|dev|snapshot|milestone|m|next|nightly|canary|gamma|a|b|c)(?:[-._]?\d|$|[-._+])`)
	parts = regexp.MustCompile(`\d+|[a-z]+`)
)

// parseVersion takes a version apart; false for what is none, which a Go pseudo-version without a tag before it is as well: it says
// when a commit was made and not what it holds.
func parseVersion(text string) (version, bool) {
	s := strings.ToLower(strings.TrimSpace(text))
	s = strings.TrimPrefix(s, "version ")
	if epoch, rest, ok := strings.Cut(s, ":"); ok {
		if _, err := strconv.ParseUint(epoch, 10, 32); err != nil {
			return version{}, false
		}
		s = rest
	}
	s = strings.TrimPrefix(s, "v")
	numbers := numbersAt.FindString(s)
	if numbers == "" {
		return version{}, false
	}
	rest := s[len(numbers):]
	v := version{}
	for n := range strings.SplitSeq(numbers, ".") {
		n = strings.TrimLeft(n, "0")
		v.numbers = append(v.numbers, n)
	}
	if m := pseudo.FindStringSubmatch(strings.TrimPrefix(rest, "-")); m != nil && strings.HasPrefix(rest, "-") {
		if strings.Trim(numbers, "0.") == "" && m[1] == "" {
			return version{}, false
		}
		v.pre = parts.FindAllString(rest, -1)
		return v, true
	}
	if strings.HasPrefix(rest, "~") || early.MatchString(rest) {
		v.pre = append([]string{}, parts.FindAllString(strings.SplitN(rest, "+", 2)[0], -1)...)
		if v.pre == nil {
			v.pre = []string{}
		}
	}
	return v, true
}

// before tells whether v is less than another version; false where that one is none.
func before(v version, other string) bool {
	o, ok := parseVersion(other)
	return ok && v.compare(o) < 0
}

func (v version) compare(o version) int {
	for i := range max(len(v.numbers), len(o.numbers)) {
		if c := compareNumbers(at(v.numbers, i), at(o.numbers, i)); c != 0 {
			return c
		}
	}
	switch {
	case v.pre == nil || o.pre == nil:
		return cmp.Compare(truth(v.pre == nil), truth(o.pre == nil))
	}
	for i := range min(len(v.pre), len(o.pre)) {
		a, b := v.pre[i], o.pre[i]
		digitsA, digitsB := a[0] <= '9', b[0] <= '9'
		var c int
		switch {
		case digitsA && digitsB:
			c = compareNumbers(strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0"))
		case digitsA != digitsB:
			c = cmp.Compare(truth(digitsB), truth(digitsA)) // numbers before words
		default:
			c = strings.Compare(a, b)
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(v.pre), len(o.pre))
}

func at(numbers []string, i int) string {
	if i < len(numbers) {
		return numbers[i]
	}
	return ""
}

// compareNumbers compares decimal numbers of any length without leading zeros; the empty one is zero.
func compareNumbers(a, b string) int {
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}
