package gates

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// FuzzAnswer feeds the parser of a webhook's answer with anything. What it takes as a pass must be one for the most
// ordinary of parsers too, and nothing it keeps may hurt a terminal.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		`{"pass": true, "reason": "fine"}`, `{"pass": false}`, `{"pass":true,"pass":false}`, `{"pass":1}`, `[true]`, `{"pass":true}x`,
		`{"PASS":true}`, `{"more":{"pass":true},"pass":false,"reason":null}`, `{"pass":true,"reason":"\u001b[2J\n"}`, `{"pass": true`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := parseAnswer(body)
		if err != nil {
			if a != (answer{}) {
				t.Errorf("an answer beside the error %v: %+v", err, a)
			}
			return
		}
		var plain map[string]json.RawMessage
		if err := json.Unmarshal(body, &plain); err != nil {
			t.Fatalf("took %q, which is not JSON: %v", body, err)
		}
		if got := string(plain["pass"]); got != map[bool]string{true: "true", false: "false"}[a.pass] {
			t.Errorf("%q: pass is %v and reads %q", body, a.pass, got)
		}
		safe(t, a.reason)
	})
}

// FuzzOneLine checks what is kept of a program's output.
func FuzzOneLine(f *testing.F) {
	f.Add([]byte("\n\n ok\nmore"))
	f.Add([]byte(strings.Repeat("\xff", 300)))
	f.Add([]byte("\x1b]0;title\x07\r\nok"))
	f.Fuzz(func(t *testing.T, text []byte) { safe(t, oneLine(text)) })
}

func safe(t *testing.T, line string) {
	t.Helper()
	if utf8.RuneCountInString(line) > mostText || !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("kept %q", line)
	}
}

// TestSign is docs/gates.md's example, computed by `openssl dgst -sha256 -hmac`.
func TestSign(t *testing.T) {
	got := Sign([]byte("correct horse battery staple"), time.Unix(1772442000, 0), []byte(`{"imdsctl_gate":1}`))
	if want := "t=1772442000,v1=" + signatureOfTheExample; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

const signatureOfTheExample = "992eb5a1cf658107cdd67611d903b3d971c675963561c32e249bbf171d6adf57"
