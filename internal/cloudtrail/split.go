package cloudtrail

import (
	"bytes"
	"errors"
	"io"
)

const (
	// largestRecord bounds one record in bytes. CloudTrail's own bound is 256 KB, and 1 MB where events are enriched
	// (CloudTrail User Guide, "Quotas in AWS CloudTrail").
	largestRecord = 4 << 20
	window        = 256 << 10
)

// Why a stretch of a file is no record.
const (
	problemNotJSON = "not JSON"
	problemTooBig  = "larger than 4 MiB"
	problemCutOff  = "ends within a record"
)

// splitter cuts a stream into records without decoding them: the elements of the array "Records" of an object, those of an
// array, or objects one after the other, each on a line or not. It holds one record at a time.
type splitter struct {
	r   io.Reader
	buf []byte
	pos int // of what comes next
	end int
	err error // of the reader; what it gave before is still used

	list     bool // within an array of records
	envelope bool // the array is part of an object, whose end is still to come
}

func newSplitter(r io.Reader) *splitter { return &splitter{r: r, buf: make([]byte, window)} }

// next gives the next record, which is good until the next call, or says why what stood there is none. The error is io.EOF at
// the end, or that of the reader.
func (s *splitter) next() (raw []byte, problem string, err error) {
	for {
		c, ok := s.peek()
		if !ok {
			return s.over()
		}
		switch {
		case s.list && c == ']':
			s.pos++
			s.list = false
			if s.envelope {
				s.envelope = false
				s.drop(1)
			}
		case c == '{' && s.list:
			return s.object(false)
		case c == '{':
			raw, problem, err = s.object(true)
			if raw != nil || problem != "" || err != nil {
				return raw, problem, err
			}
		case c == '[' && !s.list:
			s.pos++
			s.list = true
		default:
			s.skipLine()
			return nil, problemNotJSON, nil
		}
	}
}

// over is the end of the stream.
func (s *splitter) over() ([]byte, string, error) {
	if s.list {
		s.list, s.envelope = false, false
		return nil, problemCutOff, nil
	}
	if s.err != nil && !errors.Is(s.err, io.EOF) {
		return nil, "", s.err
	}
	return nil, "", io.EOF
}

// fill reads on, keeping what is from the index keep on; it tells how far that moved. The buffer grows to twice its size where it
// is full.
func (s *splitter) fill(keep int) (moved int, ok bool) {
	if s.err != nil {
		return 0, false
	}
	moved = keep
	if keep > 0 {
		copy(s.buf, s.buf[keep:s.end])
		s.pos, s.end = s.pos-keep, s.end-keep
	}
	if s.end == len(s.buf) {
		s.buf = append(s.buf, make([]byte, len(s.buf))...)
	}
	for range 100 { // a reader may give nothing now and then
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		if s.err = err; n > 0 || err != nil {
			return moved, n > 0
		}
	}
	s.err = io.ErrNoProgress
	return moved, false
}

// peek passes white space, commas and byte order marks.
func (s *splitter) peek() (byte, bool) {
	for {
		for s.pos < s.end {
			switch c := s.buf[s.pos]; c {
			case ' ', '\t', '\r', '\n', ',', 0xEF, 0xBB, 0xBF, 0x1E:
				s.pos++
			default:
				return c, true
			}
		}
		if _, ok := s.fill(s.pos); !ok {
			return 0, false
		}
	}
}

// skipLine passes the rest of a line.
func (s *splitter) skipLine() {
	for {
		if n := bytes.IndexByte(s.buf[s.pos:s.end], '\n'); n >= 0 {
			s.pos += n + 1
			return
		}
		s.pos = s.end
		if _, ok := s.fill(s.pos); !ok {
			return
		}
	}
}

// shape is how far into an object a scan is.
type shape struct {
	depth  int
	quoted bool
	// Of the object's own members: where the last text began and ended, and which one a colon followed.
	from, to int
	key      bool
}

// object takes the object at pos. At the top it may turn out to be an envelope: then the splitter is within its records, and
// nothing is given.
func (s *splitter) object(top bool) (raw []byte, problem string, err error) {
	start, i := s.pos, s.pos
	var at shape
	for {
		for i < s.end {
			if at.quoted {
				n := s.closing(i)
				if n < 0 {
					i = s.end
					break
				}
				if top {
					if line := bytes.IndexByte(s.buf[at.from:n], '\n'); line >= 0 { // a text has no line break: the line was cut off
						s.pos = at.from + line
						return nil, problemNotJSON, nil
					}
				}
				at.quoted, at.to = false, n
				i = n + 1
				continue
			}
			switch c := s.buf[i]; c {
			case '"':
				at.quoted, at.from = true, i+1
				if top && at.depth == 1 {
					at.key = false
				}
			case '{', '[':
				if top && c == '{' && i > start && s.buf[i-1] == '\n' { // a line begins anew: the one before it was cut off
					s.pos = i
					return nil, problemNotJSON, nil
				}
				if top && c == '[' && at.depth == 1 && at.key && isList(s.buf[at.from:at.to]) {
					s.pos, s.list, s.envelope = i+1, true, true
					return nil, "", nil
				}
				at.depth++
			case '}', ']':
				if at.depth--; at.depth == 0 {
					if s.pos = i + 1; s.pos-start > largestRecord {
						return nil, problemTooBig, nil
					}
					return s.buf[start:s.pos], "", nil
				}
			case ':':
				at.key = at.depth == 1
			}
			i++
		}
		moved, problem := s.extend(start, i)
		if problem != "" {
			return nil, problem, nil
		}
		start, i, at.from, at.to = start-moved, i-moved, at.from-moved, at.to-moved
	}
}

// extend reads more of the record that begins at start and was looked at up to i. It tells how far the record moved, or why there
// will be none.
func (s *splitter) extend(start, i int) (moved int, problem string) {
	s.pos = start
	if i-start > largestRecord {
		s.drop(0)
		return 0, problemTooBig
	}
	moved, ok := s.fill(start)
	if !ok {
		s.pos, s.list, s.envelope = s.end, false, false
		return 0, problemCutOff
	}
	return moved, ""
}

// isList tells the names under which records stand.
func isList(key []byte) bool { return string(key) == "Records" || string(key) == "Events" }

// closing finds the end of a text in which i is; -1 where more must be read.
func (s *splitter) closing(i int) int {
	for from := i; ; {
		n := bytes.IndexByte(s.buf[from:s.end], '"')
		if n < 0 {
			return -1
		}
		n += from
		slashes := 0
		for j := n - 1; j >= 0 && s.buf[j] == '\\'; j-- {
			slashes++
		}
		if slashes%2 == 0 {
			return n
		}
		from = n + 1
	}
}

// drop passes what is left of a value, depth levels deep at pos, and keeps none of it.
func (s *splitter) drop(depth int) {
	quoted, escaped := false, false
	for {
		for s.pos < s.end {
			c := s.buf[s.pos]
			s.pos++
			switch {
			case escaped:
				escaped = false
			case quoted && c == '\\':
				escaped = true
			case c == '"':
				quoted = !quoted
			case quoted:
			case c == '{' || c == '[':
				depth++
			case c == '}' || c == ']':
				if depth--; depth <= 0 {
					return
				}
			}
		}
		if _, ok := s.fill(s.pos); !ok {
			return
		}
	}
}
