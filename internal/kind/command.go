package kind

import (
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Command writes one AWS CLI command for a POSIX shell: "aws service operation --region REGION" and the arguments, each
// quoted so that the shell hands it over unchanged, whatever it holds.
func Command(place fleet.Place, service, operation string, args ...string) string {
	words := []string{"aws", service, operation}
	if place.Region != "" {
		words = append(words, "--region", string(place.Region))
	}
	words = append(words, args...)
	for i, w := range words {
		words[i] = Quote(w)
	}
	return strings.Join(words, " ")
}

// plain tells a word that means itself to every POSIX shell in every position. Plans have millions of words.
func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("_@%+:,./-", c) >= 0:
		case c == '=' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}

// Quote gives a word that a POSIX shell reads as s. A NUL byte, which no argument can hold, is left out.
func Quote(s string) string {
	if plain(s) {
		return s
	}
	s = strings.ReplaceAll(s, "\x00", "")
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
