package wire

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// Writer writes a response field by field, without reflection, in the protocol of the request. Inside a list the
// name of an element is "": the protocol knows how to call it. Names are the model's wire names; they differ between
// EC2 ("instanceId") and the others ("InstanceId").
//
// A Writer belongs to one response and one goroutine.
type Writer struct {
	proto  Protocol
	buf    []byte
	counts []int // members written at each open level, for JSON's commas
}

// NewWriter starts an empty response.
func NewWriter(p Protocol) *Writer {
	return &Writer{proto: p, buf: make([]byte, 0, 1024), counts: make([]int, 1, 16)}
}

// Protocol tells what is being written.
func (w *Writer) Protocol() Protocol { return w.proto }

// Bytes is what was written so far.
func (w *Writer) Bytes() []byte { return w.buf }

// Response writes a whole successful response around body.
func (w *Writer) Response(action, namespace, requestID string, body func() error) error {
	switch w.proto {
	case EC2Query:
		w.raw(xmlHeader + "\n<" + action + `Response xmlns="` + namespace + `"><requestId>` + requestID + "</requestId>")
		if err := body(); err != nil {
			return err
		}
		w.raw("</" + action + "Response>")
	case Query:
		w.raw("<" + action + `Response xmlns="` + namespace + `">`)
		head := len(w.buf)
		w.raw("<" + action + "Result>")
		empty := len(w.buf)
		if err := body(); err != nil {
			return err
		}
		if len(w.buf) == empty {
			w.buf = w.buf[:head] // operations without output have no result, not an empty one
		} else {
			w.raw("</" + action + "Result>")
		}
		w.raw("<ResponseMetadata><RequestId>" + requestID + "</RequestId></ResponseMetadata></" + action + "Response>")
	case RESTXML:
		return body()
	default:
		w.begin("")
		if err := body(); err != nil {
			return err
		}
		w.end("")
	}
	return nil
}

// Struct writes a structure; its members are written by body.
func (w *Writer) Struct(name string, body func()) {
	w.begin(name)
	body()
	w.end(name)
}

// List writes a list; its elements, named "", are written by body.
func (w *Writer) List(name string, body func()) {
	w.key(name)
	switch {
	case w.isXML():
	case w.proto == CBOR:
		w.buf = append(w.buf, 0x9f)
	default:
		w.buf = append(w.buf, '[')
	}
	w.counts = append(w.counts, 0)
	body()
	w.counts = w.counts[:len(w.counts)-1]
	switch {
	case w.isXML():
		w.closeTag(name)
	case w.proto == CBOR:
		w.buf = append(w.buf, 0xff)
	default:
		w.buf = append(w.buf, ']')
	}
}

// Strings writes a list of text.
func (w *Writer) Strings(name string, items []string) {
	w.List(name, func() {
		for _, s := range items {
			w.Str("", s)
		}
	})
}

// Str writes text.
func (w *Writer) Str(name, v string) {
	w.key(name)
	switch {
	case w.isXML():
		w.buf = appendXML(w.buf, v)
		w.closeTag(name)
	case w.proto == CBOR:
		w.cborText(v)
	default:
		w.buf = appendJSON(w.buf, v)
	}
}

// Opt writes text unless it is empty.
func (w *Writer) Opt(name, v string) {
	if v != "" {
		w.Str(name, v)
	}
}

// Int writes a whole number.
func (w *Writer) Int(name string, v int64) {
	w.key(name)
	if w.proto == CBOR {
		if v < 0 {
			w.cborHead(1, uint64(-1-v))
		} else {
			w.cborHead(0, uint64(v))
		}
		return
	}
	w.buf = strconv.AppendInt(w.buf, v, 10)
	w.closeXML(name)
}

// Float writes a number.
func (w *Writer) Float(name string, v float64) {
	w.key(name)
	if w.proto == CBOR {
		w.cborFloat(v)
		return
	}
	if whole := int64(v); float64(whole) == v && whole > -1<<53 && whole < 1<<53 { // counts, mostly: much cheaper
		w.buf = strconv.AppendInt(w.buf, whole, 10)
	} else {
		w.buf = strconv.AppendFloat(w.buf, v, 'f', -1, 64)
	}
	w.closeXML(name)
}

// Bool writes a truth value.
func (w *Writer) Bool(name string, v bool) {
	w.key(name)
	if w.proto == CBOR {
		if v {
			w.buf = append(w.buf, 0xf5)
		} else {
			w.buf = append(w.buf, 0xf4)
		}
		return
	}
	w.buf = strconv.AppendBool(w.buf, v)
	w.closeXML(name)
}

// Time writes an instant: ISO 8601 with milliseconds in XML, seconds since 1970 elsewhere.
func (w *Writer) Time(name string, t time.Time) {
	w.key(name)
	switch {
	case w.isXML():
		w.buf = t.UTC().AppendFormat(w.buf, "2006-01-02T15:04:05.000Z")
		w.closeTag(name)
	case w.proto == CBOR:
		w.buf = append(w.buf, 0xc1)
		w.cborFloat(float64(t.UnixMilli()) / 1000)
	case t.UnixMilli()%1000 == 0:
		w.buf = strconv.AppendInt(w.buf, t.Unix(), 10)
	default:
		w.buf = strconv.AppendFloat(w.buf, float64(t.UnixMilli())/1000, 'f', -1, 64)
	}
}

func (w *Writer) raw(s string) { w.buf = append(w.buf, s...) }

func (w *Writer) isXML() bool { return w.proto == EC2Query || w.proto == Query || w.proto == RESTXML }

func (w *Writer) element(name string) string {
	switch {
	case name != "":
		return name
	case w.proto == EC2Query:
		return "item"
	default:
		return "member"
	}
}

// key opens a member: a tag, or a name with its comma.
func (w *Writer) key(name string) {
	level := len(w.counts) - 1
	n := w.counts[level]
	w.counts[level]++
	switch {
	case w.isXML():
		w.buf = append(append(append(w.buf, '<'), w.element(name)...), '>')
	case w.proto == CBOR:
		if name != "" {
			w.cborText(name)
		}
	default:
		if n > 0 {
			w.buf = append(w.buf, ',')
		}
		if name != "" {
			w.buf = append(appendJSON(w.buf, name), ':')
		}
	}
}

func (w *Writer) closeTag(name string) {
	w.buf = append(append(append(w.buf, "</"...), w.element(name)...), '>')
}

func (w *Writer) closeXML(name string) {
	if w.isXML() {
		w.closeTag(name)
	}
}

func (w *Writer) begin(name string) {
	w.key(name)
	switch {
	case w.isXML():
	case w.proto == CBOR:
		w.buf = append(w.buf, 0xbf)
	default:
		w.buf = append(w.buf, '{')
	}
	w.counts = append(w.counts, 0)
}

func (w *Writer) end(name string) {
	w.counts = w.counts[:len(w.counts)-1]
	switch {
	case w.isXML():
		w.closeTag(name)
	case w.proto == CBOR:
		w.buf = append(w.buf, 0xff)
	default:
		w.buf = append(w.buf, '}')
	}
}

func (w *Writer) cborHead(major byte, n uint64) {
	m := major << 5
	switch {
	case n < 24:
		w.buf = append(w.buf, m|byte(n))
	case n <= math.MaxUint8:
		w.buf = append(w.buf, m|24, byte(n))
	case n <= math.MaxUint16:
		w.buf = binary.BigEndian.AppendUint16(append(w.buf, m|25), uint16(n))
	case n <= math.MaxUint32:
		w.buf = binary.BigEndian.AppendUint32(append(w.buf, m|26), uint32(n))
	default:
		w.buf = binary.BigEndian.AppendUint64(append(w.buf, m|27), n)
	}
}

func (w *Writer) cborText(s string) {
	w.cborHead(3, uint64(len(s)))
	w.buf = append(w.buf, s...)
}

func (w *Writer) cborFloat(v float64) {
	w.buf = binary.BigEndian.AppendUint64(append(w.buf, 0xfb), math.Float64bits(v))
}

// appendXML escapes text for an element. Characters that XML 1.0 cannot carry become U+FFFD.
func appendXML(b []byte, s string) []byte {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '<' || c == '>' || c == '&' || c == '"' || c >= utf8.RuneSelf {
			plain = false
			break
		}
	}
	if plain {
		return append(b, s...)
	}
	for _, r := range s {
		switch {
		case r == '<':
			b = append(b, "&lt;"...)
		case r == '>':
			b = append(b, "&gt;"...)
		case r == '&':
			b = append(b, "&amp;"...)
		case r == '"':
			b = append(b, "&#34;"...)
		case r == '\r':
			b = append(b, "&#xD;"...)
		case r < 0x20 && r != '\n' && r != '\t', r == 0xfffe, r == 0xffff:
			b = utf8.AppendRune(b, utf8.RuneError)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

func appendJSON(b []byte, s string) []byte {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			plain = false
			break
		}
	}
	if plain {
		return append(append(append(b, '"'), s...), '"')
	}
	quoted, err := json.Marshal(s)
	if err != nil { // a string always marshals
		panic(err)
	}
	return append(b, quoted...)
}
