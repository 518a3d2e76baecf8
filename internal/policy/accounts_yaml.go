package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// AccountLine is one entry of an `accounts` section that is written, with what is said of it.
type AccountLine struct {
	Account
	// Comments stand above the entry, a line each.
	Comments []string
	// Suggest is a criticality that is written as a comment only, beside what the entry or a rule says.
	Suggest Criticality
	// Off writes the whole entry as a comment.
	Off bool
}

// AccountsSection writes an `accounts` section that Parse reads back. Whatever a text holds, it stays within its value or comment.
func AccountsSection(lines []AccountLine) string {
	var b strings.Builder
	if slices.ContainsFunc(lines, func(l AccountLine) bool { return !l.Off }) {
		b.WriteString("accounts:\n")
	} else {
		b.WriteString("accounts: []\n")
	}
	for _, l := range lines {
		for _, c := range l.Comments {
			fmt.Fprintf(&b, "  # %s\n", comment(c))
		}
		lead, further := "  - ", "    "
		if l.Off {
			lead, further = "  # - ", "  #   "
		}
		fmt.Fprintf(&b, "%sid: %s\n", lead, strconv.Quote(string(l.ID)))
		text := func(key, value string) {
			if value != "" {
				fmt.Fprintf(&b, "%s%s: %s\n", further, key, strconv.Quote(value))
			}
		}
		text("name", l.Name)
		if l.Criticality != "" {
			fmt.Fprintf(&b, "%scriticality: %s\n", further, l.Criticality)
		}
		if l.Suggest != "" {
			fmt.Fprintf(&b, "    # criticality: %s\n", l.Suggest)
		}
		if len(l.Tags) > 0 {
			fmt.Fprintf(&b, "%stags:\n", further)
			for _, k := range slices.Sorted(maps.Keys(l.Tags)) {
				fmt.Fprintf(&b, "%s  %s: %s\n", further, strconv.Quote(k), strconv.Quote(l.Tags[k]))
			}
		}
		text("skip", l.Skip)
	}
	return b.String()
}

// comment makes a text fit into one line of YAML.
func comment(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, strings.Join(strings.Fields(text), " "))
}
