package assess

import (
	"strconv"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
)

// count writes a number with thousands separated: "4,212".
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(int64(n)) + " " + noun + "s"
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

func span(s evidence.Span) string {
	return "the window from " + stamp(s.Start) + " to " + stamp(s.End())
}
