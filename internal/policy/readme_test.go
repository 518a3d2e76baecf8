package policy_test

import (
	"os"
	"strings"
	"testing"

	"github.com/imdsctl/imdsctl/internal/policy"
)

// What the README shows as a configuration is one.
func TestReadmeExample(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```yaml\n")
	block, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("the README has no example in YAML")
	}
	var lines []string
	for line := range strings.Lines(block) {
		lines = append(lines, strings.TrimPrefix(line, "   ")) // it stands in a list
	}
	if _, problems := policy.Parse([]byte(strings.Join(lines, "")), "README.md", nil); len(problems) > 0 {
		t.Error(problems)
	}
}
