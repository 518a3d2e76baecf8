package attention

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// count writes a number with thousands separated: "4,212".
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural[N int | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(int64(n)) + " " + noun + "s"
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// few joins the first n texts: "a, b and 3 more".
func few(items []string, n int) string {
	if len(items) <= n {
		return enumerate(items)
	}
	return strings.Join(items[:n], ", ") + fmt.Sprintf(" and %d more", len(items)-n)
}

// enumerate joins texts: "a, b and c".
func enumerate(items []string) string {
	if len(items) < 2 {
		return strings.Join(items, "")
	}
	return strings.Join(items[:len(items)-1], ", ") + " and " + items[len(items)-1]
}

// distinct keeps the first of equal texts, and drops empty ones.
func distinct(items []string) []string {
	var out []string
	for _, i := range items {
		if i != "" && !slices.Contains(out, i) {
			out = append(out, i)
		}
	}
	return out
}

// clean is a text of others in one line, without what could move a terminal's cursor or forge a log.
func clean(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))), " ")
}

// shorten cuts a text to n characters.
func shorten(s string, n int) string {
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return s
}
