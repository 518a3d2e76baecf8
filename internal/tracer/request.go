package tracer

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// The headers of version 2, in lower case. Names of headers are compared as ASCII: Unicode's folding takes other letters for these.
const (
	headerToken = "x-aws-ec2-metadata-token"
	headerTTL   = "x-aws-ec2-metadata-token-ttl-seconds"
)

// What is kept of a line, in bytes. Lines may be longer: what tells a version is at their beginning, and the rest is passed.
const (
	keptRequestLine = 8 << 10
	keptHeader      = 2 << 10
	keptTail        = 16 // of the end of a longer line: " HTTP/1.1"
)

// parser reads the requests of one connection, one after the other, as their bytes come. It keeps a line at most, so that a head may
// have any size, and finds its way back where bytes are missing.
type parser struct {
	// emit is told each request when its head has ended, or when no more of it can be had.
	emit  func(*request)
	state state

	line    []byte // the line so far, without what is too long to keep
	tail    []byte // the last bytes of a line that is longer
	partial bool   // the line's beginning was not captured
	at      time.Time
	sender  *Process // of the line's first byte

	req         request
	name, value string // the header that may still be folded
	left        int64  // bytes of a body, or of a chunk, to pass
	after       string // what is doubtful about the next request, and why
	holed       bool   // bytes were not captured: from then on nothing is sure
	told        bool   // that what is being passed is no request
}

// state is what the next bytes are.
type state int

const (
	stateStart   state = iota // a request line, perhaps after empty lines
	stateHeader               // a header, or the end of the head
	stateBody                 // bytes of a body of known length
	stateExpect               // the body that the server may have told not to send: or the next request
	stateSize                 // the size of a chunk
	stateChunk                // bytes of a chunk
	stateChunkOK              // the line end behind a chunk
	stateTrailer              // trailers behind the last chunk
	stateResync               // anything: a request line is looked for
)

// request is what is known of one request.
type request struct {
	at             time.Time
	sender         *Process
	method, target string
	agent          string
	version        Version
	why            []string // what is doubtful

	cut         bool // the target goes on behind what was kept
	nameless    bool // the method was not captured
	open        bool // the head's end was not captured
	hasAgent    bool
	token, ttl  bool
	near        bool // it is nearly a request, or has what is nearly a token's header: why says which
	chunked     bool
	expect      bool
	length      int64
	lengths     bool // there was a Content-Length
	wrongLength bool
}

// feed takes the next bytes of the stream.
func (p *parser) feed(data []byte, at time.Time, sender *Process) {
	for len(data) > 0 {
		switch p.state {
		case stateBody, stateChunk:
			n := min(p.left, int64(len(data)))
			data = data[n:]
			if p.left -= n; p.left == 0 {
				p.passed()
			}
		case stateExpect:
			data = p.perhapsBody(data, at, sender)
		default:
			data = p.lines(data, at, sender)
		}
	}
}

// passed goes on behind a body, or behind a chunk.
func (p *parser) passed() {
	if p.state == stateChunk {
		p.state = stateChunkOK
		return
	}
	p.state = stateStart
}

// lines takes the bytes up to the end of a line, and gives the rest back.
func (p *parser) lines(data []byte, at time.Time, sender *Process) []byte {
	if len(p.line) == 0 {
		p.at, p.sender = at, sender
		if p.state == stateStart && !p.partial && !startsLine(data[0]) {
			p.noHTTP()
		}
	}
	if p.sender == nil {
		p.sender = sender
	}
	end := bytes.IndexByte(data, '\n')
	if end < 0 {
		p.keep(data)
		return nil
	}
	p.keep(data[:end])
	line, cut := p.line, len(p.tail) > 0
	if cut {
		line = append(line, p.tail...)
	}
	line = bytes.TrimSuffix(line, []byte{'\r'})
	partial := p.partial
	p.partial = false
	p.take(line, cut, partial)
	p.line, p.tail = p.line[:0], p.tail[:0]
	return data[end+1:]
}

// keep adds to the line what fits, and remembers how a longer one ends.
func (p *parser) keep(data []byte) {
	limit := keptHeader
	if p.state == stateStart || p.state == stateResync {
		limit = keptRequestLine
	}
	n := min(max(limit-len(p.line), 0), len(data))
	p.line = append(p.line, data[:n]...)
	if rest := data[n:]; len(rest) > 0 {
		p.tail = append(p.tail, rest[max(0, len(rest)-keptTail):]...)
		p.tail = p.tail[max(0, len(p.tail)-keptTail):]
	}
}

// take understands a line.
func (p *parser) take(line []byte, cut, partial bool) {
	switch p.state {
	case stateStart:
		if len(line) == 0 && !partial {
			return // servers pass empty lines before a request
		}
		p.begin(line, cut, partial)
	case stateResync:
		p.resync(line, cut, partial)
	case stateHeader:
		p.header(line, cut)
	case stateSize:
		p.chunk(line)
	case stateChunkOK:
		p.state = stateSize
		if len(line) != 0 {
			p.lose("the chunks of the body before it are damaged", true)
		}
	case stateTrailer:
		if len(line) == 0 {
			p.state = stateStart
		}
	}
}

// begin reads a request line.
func (p *parser) begin(line []byte, cut, partial bool) {
	l, ok := parseRequestLine(line)
	switch {
	case partial && !(ok && l.sure()):
		if !endsRequestLine(line) {
			p.noHTTP()
		}
		p.resync(line, cut, partial)
	case !ok && knownMethod(strings.ToUpper(l.method)):
		p.malformed(l, cut)
	case !ok:
		p.noHTTP()
	case l.method == "PRI" && l.proto == "HTTP/2.0":
		p.noHTTP()
	default:
		p.open(l, cut)
	}
}

// open begins a request.
func (p *parser) open(l requestLine, cut bool) {
	p.req = request{at: p.at, sender: p.sender, method: l.method, target: l.target, cut: cut}
	p.doubt()
	p.name, p.told = "", false
	p.state = stateHeader
	if l.proto == "" { // of HTTP/0.9, which has no headers
		p.tell()
		p.state, p.told = stateResync, true
	}
}

// doubt says of a request that begins what is doubtful about it.
func (p *parser) doubt() {
	if p.holed {
		p.after = beforeIt
	}
	if p.after != "" {
		p.req.why = append(p.req.why, p.after)
		p.after = ""
	}
}

// beforeIt says why what follows a hole may not be what it looks like.
const beforeIt = "bytes before it were not captured"

// noHTTP tells once that what comes is no request, and looks for one from here on.
func (p *parser) noHTTP() {
	p.state = stateResync
	if p.told {
		return
	}
	p.told = true
	r := &request{at: p.at, sender: p.sender, version: NotHTTP, why: []string{"what was sent is no HTTP"}}
	if p.after != "" {
		r.version, r.why = Unknown, []string{p.after}
		p.after = ""
	}
	p.emit(r)
}

// malformed tells of a line that begins as a request and goes on as none: some servers answer it, and others do not.
func (p *parser) malformed(l requestLine, cut bool) {
	p.req = request{at: p.at, sender: p.sender, method: l.method, target: l.target, cut: cut, near: true, why: []string{"its first line is malformed"}}
	p.doubt()
	p.tell()
	p.lose("", true)
}

// resync looks for a request line among anything. The rest of a line whose beginning is missing may be the rest of one.
func (p *parser) resync(line []byte, cut, partial bool) {
	l, ok := parseRequestLine(line)
	switch {
	case ok && l.proto != "" && l.sure():
		p.open(l, cut)
	case partial && endsRequestLine(line):
		p.open(requestLine{proto: "HTTP"}, true)
		p.req.nameless = true
	}
}

// header takes a line of a head: the end, a header, or the continuation of one.
func (p *parser) header(line []byte, cut bool) {
	if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
		if p.name == "" {
			return // a continuation of nothing
		}
		p.value = strings.TrimSpace(p.value + " " + text(line))
		p.value = p.value[:min(len(p.value), keptHeader)]
		return
	}
	p.commit()
	if len(line) == 0 {
		p.tell()
		p.body()
		return
	}
	name, value, ok := bytes.Cut(line, []byte{':'})
	if cut { // what stands behind the cut is the end of the line, and no more of the value
		value = value[:max(0, len(value)-keptTail)]
	}
	trimmed := lower(strings.TrimSpace(string(name)))
	if known := trimmed == headerToken || trimmed == headerTTL; known && (!ok || len(trimmed) != len(name)) {
		if !p.req.near {
			p.req.why = append(p.req.why, "the token's header is malformed")
		}
		p.req.near = true
		return
	}
	if ok {
		p.name, p.value = lower(string(name)), text(value)
	}
}

// commit understands the header that has ended.
func (p *parser) commit() {
	name, value := p.name, p.value
	p.name, p.value = "", ""
	switch name {
	case headerToken:
		p.req.token = true
	case headerTTL:
		p.req.ttl = true
	case "user-agent":
		if !p.req.hasAgent {
			p.req.agent, p.req.hasAgent = value, true
		}
	case "content-length":
		p.req.contentLength(value)
	case "transfer-encoding":
		codings := strings.Split(lower(value), ",")
		p.req.chunked = strings.TrimSpace(codings[len(codings)-1]) == "chunked"
	case "expect":
		p.req.expect = lower(value) == "100-continue"
	}
}

// contentLength reads a length, or the same one several times.
func (r *request) contentLength(value string) {
	for part := range strings.SplitSeq(value, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(part), 10, 62)
		if err != nil || r.lengths && r.length != int64(n) {
			r.wrongLength = true
			return
		}
		r.length, r.lengths = int64(n), true
	}
}

// tell gives the request out. Its version is told as EC2 tells it: by a header of version 2, or by PUT.
func (p *parser) tell() {
	r := p.req
	p.req = request{}
	switch {
	case r.token || r.ttl || r.method == "PUT":
		r.version = V2
	case r.open:
		r.version = Unknown
	case r.near:
		r.version = Unknown
	case r.nameless:
		r.version = Unknown
		r.why = append(r.why, "its method was not captured")
	default:
		r.version = V1
	}
	p.req.length, p.req.chunked, p.req.wrongLength, p.req.expect = r.length, r.chunked, r.wrongLength, r.expect
	p.emit(&r)
}

// body passes over the body of the request that was told.
func (p *parser) body() {
	r := p.req
	p.state = stateStart
	switch {
	case r.chunked:
		p.state = stateSize
	case r.wrongLength:
		p.lose("the length of the body before it is malformed", true)
	case r.length > 0 && r.expect:
		p.state, p.left = stateExpect, r.length
	case r.length > 0:
		p.state, p.left = stateBody, r.length
	}
}

// perhapsBody looks at the beginning of a body that the server was asked about (Expect: 100-continue). EC2 refuses it, and a client
// that is refused sends its next request instead.
func (p *parser) perhapsBody(data []byte, at time.Time, sender *Process) []byte {
	const most = 9 // "OPTIONS /"
	if len(p.line) == 0 {
		p.at, p.sender = at, sender
	}
	n := min(most-int64(len(p.line)), p.left-int64(len(p.line)), int64(len(data)))
	p.line = append(p.line, data[:n]...)
	data = data[n:]
	if seen := int64(len(p.line)); seen < most && seen < p.left {
		return data
	}
	if method, rest, ok := bytes.Cut(p.line, []byte{' '}); ok && knownMethod(string(method)) && bytes.HasPrefix(rest, []byte{'/'}) {
		again := bytes.Clone(p.line)
		p.state, p.left, p.line = stateStart, 0, p.line[:0]
		p.after = "it stands where the body of the request before it was announced"
		p.feed(again, p.at, p.sender)
		return data
	}
	p.state = stateBody
	p.left -= int64(len(p.line))
	p.line = p.line[:0]
	if p.left == 0 {
		p.passed()
	}
	return data
}

// chunk reads the size of a chunk.
func (p *parser) chunk(line []byte) {
	digits, _, _ := bytes.Cut(line, []byte{';'})
	n, err := strconv.ParseUint(string(bytes.TrimSpace(digits)), 16, 62)
	switch {
	case err != nil:
		p.lose("the chunks of the body before it are damaged", true)
	case n == 0:
		p.state = stateTrailer
	default:
		p.state, p.left = stateChunk, int64(n)
	}
}

// gap tells that n bytes were not captured. It tells whether they may have held something of a request.
func (p *parser) gap(n int64) bool {
	if p.state == stateBody && n <= p.left || p.state == stateChunk && n < p.left {
		if p.left -= n; p.left == 0 {
			p.passed()
		}
		return false
	}
	p.giveUp(count(n) + " bytes of it were not captured")
	p.lose(beforeIt, false)
	p.partial, p.holed = true, true
	return true
}

// end tells that there is nothing more. A head that has not ended is given out as far as it goes.
func (p *parser) end(why string) { p.giveUp(why) }

// giveUp gives a request out of whose head the rest is missing.
func (p *parser) giveUp(why string) {
	switch {
	case p.state == stateHeader:
		p.commit()
	case p.state == stateStart && len(p.line) > 0:
		method, rest, ok := bytes.Cut(p.line, []byte{' '})
		target, _, whole := bytes.Cut(rest, []byte{' '})
		if !ok || !isToken(method) {
			method, target = nil, nil
		}
		p.req = request{at: p.at, sender: p.sender, method: string(method), target: string(target), cut: !whole, nameless: len(method) == 0}
		p.doubt()
	default:
		return
	}
	p.req.open = true
	p.req.why = append(p.req.why, why)
	p.tell()
	p.lose("", true)
}

// lose looks for the next request from here on, and says why it is doubtful. Where it is known that a request was there, nothing more is
// told of what is passed.
func (p *parser) lose(after string, told bool) {
	p.state, p.left = stateResync, 0
	p.line, p.tail = p.line[:0], p.tail[:0]
	p.after, p.told = after, told || p.told
}

func count(n int64) string { return strconv.FormatInt(n, 10) }

// requestLine is a request line in its parts; proto is empty in HTTP/0.9.
type requestLine struct{ method, target, proto string }

// knownMethod tells the methods by which a request is recognised among other bytes.
func knownMethod(name string) bool {
	switch name {
	case "GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT":
		return true
	}
	return false
}

// sure tells a line that is hardly anything else than a request line.
func (l requestLine) sure() bool { return knownMethod(l.method) && l.proto != "" }

// blanks are what may stand between the words of a request line, and around them (RFC 9112, 3).
const blanks = " \t\v\f\r"

// parseRequestLine reads a request line as leniently as servers do. Of a line that is none it gives the words all the same.
func parseRequestLine(line []byte) (l requestLine, ok bool) {
	line = bytes.Trim(line, blanks)
	end := bytes.IndexAny(line, blanks)
	if end < 0 || end > 32 || !isToken(line[:end]) {
		return l, false
	}
	l.method = string(line[:end])
	rest := bytes.Trim(line[end:], blanks)
	if at := bytes.LastIndexAny(rest, blanks); at >= 0 && isProto(rest[at+1:]) {
		l.proto = string(rest[at+1:])
		l.target = string(bytes.TrimRight(rest[:at], blanks))
		return l, l.target != ""
	}
	if at := len(rest) - len("HTTP/1.1"); at > keptRequestLine/2 && isProto(rest[at:]) { // of a line that was cut
		l.proto, l.target = string(rest[at:]), string(rest[:at])
		return l, true
	}
	l.target = string(rest)
	simple := l.method == "GET" && (strings.HasPrefix(l.target, "/") || strings.HasPrefix(l.target, "http://"))
	return l, simple && !strings.ContainsAny(l.target, blanks)
}

// endsRequestLine tells whether a line whose beginning is missing may be the end of a request line.
func endsRequestLine(line []byte) bool {
	at := bytes.LastIndexByte(line, ' ')
	return at >= 0 && isProto(line[at+1:]) && bytes.IndexByte(line, ':') < 0
}

// isProto tells "HTTP/1.1" and its like.
func isProto(word []byte) bool {
	const name = "HTTP/"
	if len(word) <= len(name) || !strings.EqualFold(string(word[:len(name)]), name) || !digit(word[len(name)]) {
		return false
	}
	return len(bytes.Trim(word[len(name):], "0123456789.")) == 0
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// isToken tells a token of HTTP (RFC 9110, 5.6.2).
func isToken(word []byte) bool {
	for _, c := range word {
		if !tokenByte(c) {
			return false
		}
	}
	return len(word) > 0
}

func tokenByte(c byte) bool {
	return digit(c) || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// startsLine tells a byte that a request, or an empty line before it, may begin with.
func startsLine(c byte) bool { return tokenByte(c) || c == '\n' || strings.IndexByte(blanks, c) >= 0 }

// lower is text with the capitals of ASCII made small, and no others.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// text is a value without the blanks around it.
func text(b []byte) string { return string(bytes.Trim(b, " \t\r")) }
