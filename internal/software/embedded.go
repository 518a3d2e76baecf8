package software

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"regexp"
	"unicode/utf8"
)

// embeddedText is a text that a file holds in base64.
type embeddedText struct {
	line int
	text string
}

var (
	base64Run = regexp.MustCompile(`[A-Za-z0-9+/]{40,}={0,2}`)
	// maxRuns bounds how many runs of a file are decoded, maxInflated how much each may become, in bytes.
	maxRuns     = 1000
	maxInflated = int64(1 << 20)
)

// embedded decodes the texts in base64 that a file holds, such as user data in a template, compressed or not, on one line or folded.
func embedded(text []byte) []embeddedText {
	var out []embeddedText
	done := 0
	for _, at := range base64Run.FindAllIndex(text, maxRuns) {
		if at[0] < done {
			continue
		}
		run, end := unfold(text, at[0], at[1])
		decoded, ok := decode(run)
		if !ok || !utf8.Valid(decoded) { // what stood behind was no part of it, or before
			run, end = text[at[0]:at[1]], at[1]
			decoded, ok = decode(run)
		}
		if done = end; ok {
			out = append(out, embeddedText{bytes.Count(text[:at[0]], []byte("\n")) + 1, string(decoded)})
		}
	}
	return out
}

// foldedLine is a further line of base64, after the end of the one before it.
var foldedLine = regexp.MustCompile(`^[ \t]*\r?\n[ \t]*([A-Za-z0-9+/]+={0,2})[ \t\r]*(?:\n|$)`)

// unfold puts a run of base64 together with the lines behind it: all as long as the first, but for the last. It gives where they end.
func unfold(text []byte, from, to int) (run []byte, end int) {
	run, end = bytes.Clone(text[from:to]), to
	for width := to - from; width%4 == 0 && len(run)%width == 0; {
		m := foldedLine.FindSubmatchIndex(text[end:])
		if m == nil || m[3]-m[2] > width {
			break
		}
		run = append(run, text[end+m[2]:end+m[3]]...)
		end += m[3]
	}
	return run, end
}

// decode gives the text that a run of base64 holds, if it may be of interest.
func decode(run []byte) (text []byte, ok bool) {
	if !bytes.HasPrefix(run, []byte("H4sI")) && !holds(run, needles[len(needles)-3:]) {
		return nil, false
	}
	text, err := base64.RawStdEncoding.DecodeString(string(bytes.TrimRight(run, "=")))
	if err != nil {
		return nil, false
	}
	if z, err := gzip.NewReader(bytes.NewReader(text)); err == nil {
		text, _ = io.ReadAll(io.LimitReader(z, maxInflated)) // what there is before it is damaged
	}
	return text, bytes.IndexByte(text, 0) < 0
}
