// Package cloudtrail reads from CloudTrail which instances and roles used credentials that IMDSv1 delivered, and by which
// software: from log files in folders and in S3, through Athena, and, as a sample, from LookupEvents.
//
// It owns the formats of the files, their names, and the counting by day. It judges nothing: what a finding means for a workload
// is assess's matter. The address from which a call came is never kept.
//
// Log files are streamed, and records that carry no delivered credentials are told by their bytes and never decoded. Memory is
// bounded by the largest record and by the bounds of a Tally, whatever the size of a file or of a folder. What cannot be understood
// is counted with its reason and passed; a file that breaks off keeps what came before, and is a gap. Nothing is written anywhere,
// except the results that Athena leaves where it is told to.
package cloudtrail

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Result is what reading one file came to.
type Result struct {
	// Records are CloudTrail's, those with other credentials among them; Delivered those with credentials that the metadata
	// service delivered, and Outside those of them that are outside of the time asked for.
	Records, Delivered, Outside int64
	// Digests are CloudTrail's digest files, which hold no events.
	Digests int64
	// Skipped counts by reason what could not be understood.
	Skipped map[string]int64
	// Lost says why the rest of the file could not be read; "" where all of it was.
	Lost string
	// From and To bound the times of the records that were decoded.
	From, To time.Time
	// Bytes were read after decompression.
	Bytes int64
}

func (r *Result) skip(reason string, n int64) {
	if r.Skipped == nil {
		r.Skipped = map[string]int64{}
	}
	r.Skipped[reason] += n
}

// Add adds another file's; what was lost is left to the caller.
func (r *Result) Add(o Result) {
	r.Records, r.Delivered, r.Outside = r.Records+o.Records, r.Delivered+o.Delivered, r.Outside+o.Outside
	r.Digests, r.Bytes = r.Digests+o.Digests, r.Bytes+o.Bytes
	for reason, n := range o.Skipped {
		r.skip(reason, n)
	}
	r.span(o.From)
	r.span(o.To)
}

func (r *Result) span(at time.Time) {
	if at.IsZero() {
		return
	}
	if r.From.IsZero() || at.Before(r.From) {
		r.From = at
	}
	if at.After(r.To) {
		r.To = at
	}
}

// SkippedTotal is how much could not be understood.
func (r Result) SkippedTotal() (n int64) {
	for _, k := range r.Skipped {
		n += k
	}
	return n
}

// Reasons says what was skipped, the most frequent first: "12 no CloudTrail record".
func (r Result) Reasons() []string {
	var out []string
	reasons := slices.Sorted(maps.Keys(r.Skipped))
	slices.SortStableFunc(reasons, func(a, b string) int { return int(min(1, max(-1, r.Skipped[b]-r.Skipped[a]))) })
	for _, reason := range reasons {
		out = append(out, fmt.Sprintf("%d: %s", r.Skipped[reason], reason))
	}
	return out
}

// Span is a time from From until before To; a zero end is open.
type Span struct{ From, To time.Time }

// Contains tells whether a time is within.
func (s Span) Contains(at time.Time) bool {
	return (s.From.IsZero() || !at.Before(s.From)) && (s.To.IsZero() || at.Before(s.To))
}

// Read reads one file, compressed or not, and gives each record with delivered credentials within the span. Whatever the file
// holds, reading ends without an error, but for that of a context that has ended.
func Read(ctx context.Context, r io.Reader, span Span, yield func(Record)) (Result, error) {
	var out Result
	counted := &counter{r: r}
	plain, err := decompress(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		out.Lost = "it is no gzip file: " + err.Error()
		return out, ctx.Err()
	}
	counted.r = plain
	s := newSplitter(counted)
	for {
		if out.Records&0x3ff == 0 {
			if err := ctx.Err(); err != nil {
				return out, err
			}
		}
		raw, problem, err := s.next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				out.Lost = lost(err)
			}
			break
		}
		if problem == problemCutOff {
			out.Lost = "it " + problemCutOff
			if s.err != nil && !errors.Is(s.err, io.EOF) {
				out.Lost = lost(s.err)
			}
			continue
		}
		if problem != "" {
			out.skip(problem, 1)
			continue
		}
		out.take(raw, span, yield)
	}
	out.Bytes = counted.n
	return out, ctx.Err()
}

// take counts one value of a file.
func (r *Result) take(raw []byte, span Span, yield func(Record)) {
	switch look(raw) {
	case isForeign:
		r.skip(problemForeign, 1)
	case isDigest:
		r.Digests++
	case isPlain:
		r.Records++
	case isCandidate:
		record, ok, problem := decode(raw)
		if problem != "" {
			r.skip(problem, 1)
			return
		}
		r.Records++
		switch {
		case !ok:
		case !span.Contains(record.At):
			r.Outside++
		default:
			r.Delivered++
			r.span(record.At)
			yield(record)
		}
	}
}

// lost says why reading broke off.
func lost(err error) string {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "it is cut off: the compressed data end too early"
	}
	if errors.Is(err, gzip.ErrChecksum) || strings.HasPrefix(err.Error(), "flate:") || errors.Is(err, gzip.ErrHeader) {
		return "its compressed data are damaged: " + err.Error()
	}
	return err.Error()
}

// decompress looks at what a file begins with, not at its name.
func decompress(r *bufio.Reader) (io.Reader, error) {
	magic, err := r.Peek(2)
	if err != nil || magic[0] != 0x1f || magic[1] != 0x8b {
		return r, nil // an error of the reader comes again, with what was read before it
	}
	return gzip.NewReader(r)
}

// counter counts bytes.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
