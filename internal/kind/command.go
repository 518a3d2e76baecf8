package kind

import (
	"regexp"
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

// plain are the words that mean themselves to every POSIX shell in every position.
var plain = regexp.MustCompile(`^[A-Za-z0-9_@%+:,./-][A-Za-z0-9_@%+=:,./-]*$`)

// Quote gives a word that a POSIX shell reads as s. A NUL byte, which no argument can hold, is left out.
func Quote(s string) string {
	if plain.MatchString(s) {
		return s
	}
	s = strings.ReplaceAll(s, "\x00", "")
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
