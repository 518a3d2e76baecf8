package jsonlines

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestNext(t *testing.T) {
	l := NewReader(strings.NewReader("{\"a\":1}\n\n  \r\n {\"a\":2} \r\n{\"a\":3"), "f")
	for i, want := range []string{`{"a":1}`, `{"a":2}`, `{"a":3`} {
		line, err := l.Next()
		if err != nil || string(line) != want || l.Torn() != (i == 2) {
			t.Errorf("%q, torn %v: %v; want %q", line, l.Torn(), err, want)
		}
	}
	if err := l.Wrap(errors.New("odd")); err.Error() != "f:5: odd" {
		t.Errorf("%v", err)
	}
	if _, err := l.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("behind the end: %v", err)
	}
	if _, err := NewReader(strings.NewReader(strings.Repeat(" ", MaxLine+1)), "f").Next(); err == nil || !strings.HasPrefix(err.Error(), "f:1: the line is longer") {
		t.Errorf("a line without end: %v", err)
	}
}

func TestStrict(t *testing.T) {
	for text, good := range map[string]bool{`{"a":1}`: true, `{"b":1}`: false, `{"a":1} {}`: false, `{"a":1`: false, `{"a":"x"}`: false, `{}`: true} {
		var v struct{ A int }
		if err := Strict([]byte(text), &v); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzNext: whatever a file holds, its lines are those that a split at line ends gives, without the empty ones.
func FuzzNext(f *testing.F) {
	f.Add([]byte("a\n\nb\r\n c"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := NewReader(bytes.NewReader(data), "f")
		for part := range bytes.SplitSeq(data, []byte("\n")) {
			if part = bytes.TrimSpace(part); len(part) == 0 {
				continue
			}
			line, err := l.Next()
			if len(part) > MaxLine && err != nil {
				return
			}
			if err != nil || !bytes.Equal(line, part) {
				t.Fatalf("%q, %v; want %q", line, err, part)
			}
		}
		if line, err := l.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("behind the end: %q %v", line, err)
		}
	})
}
