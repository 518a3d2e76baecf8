// Package jsonlines reads files of JSON documents, one on a line, as findings files and trace files are: lines of bounded length, errors
// that name file and line, and no field that nobody knows.
//
// It owns how such a file is read, and nothing of what is in it.
package jsonlines

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxLine bounds a line, in bytes.
const MaxLine = 1 << 20

// Reader reads lines and counts them.
type Reader struct {
	r    *bufio.Reader
	name string
	line int
	buf  []byte
	torn bool
}

// NewReader reads a file; name is how errors call it.
func NewReader(r io.Reader, name string) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 64<<10), name: name}
}

// Next gives the next line that is not empty, without its end; io.EOF where there is none. It is good until the next call. Any other
// error names file and line.
func (l *Reader) Next() ([]byte, error) {
	for {
		l.line++
		l.buf = l.buf[:0]
		for {
			part, err := l.r.ReadSlice('\n')
			l.buf = append(l.buf, part...)
			if len(l.buf) > MaxLine {
				return nil, l.Wrap(fmt.Errorf("the line is longer than %d bytes", MaxLine))
			}
			if err == nil {
				break
			}
			if errors.Is(err, io.EOF) && len(l.buf) > 0 {
				l.torn = true
				break
			}
			if errors.Is(err, io.EOF) {
				return nil, io.EOF
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				return nil, l.Wrap(err)
			}
		}
		if line := bytes.TrimSpace(l.buf); len(line) > 0 {
			return line, nil
		}
	}
}

// Torn tells that the last line had no end: the file may have been cut off within it.
func (l *Reader) Torn() bool { return l.torn }

// Wrap adds the file and the line to an error.
func (l *Reader) Wrap(err error) error { return fmt.Errorf("%s:%d: %w", l.name, l.line, err) }

// Strict reads one document that fills the line. A field that is not known is an error: it may be a known one, misspelt.
func Strict(line []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one JSON document on the line")
	}
	return nil
}
