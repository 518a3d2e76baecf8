package app

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/cloudtrail"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// namedTrace tells trace files by their names, as they are found in a bucket.
func namedTrace(name string) bool {
	name = strings.TrimSuffix(strings.ToLower(name), ".gz")
	return strings.HasSuffix(name, tracer.Suffix)
}

// isTrace tells a trace file, compressed or not, by its name or by what it begins with.
func isTrace(path string) bool {
	if namedTrace(path) {
		return true
	}
	if _, ok := cloudtrail.ParseName(path); ok {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	plain, err := unpacked(f)
	if err != nil {
		return false
	}
	beginning := make([]byte, 512)
	n, err := io.ReadFull(plain, beginning)
	return (err == nil || errors.Is(err, io.ErrUnexpectedEOF)) && tracer.IsTrace(beginning[:n])
}

// unpacked decompresses what is compressed, which its first bytes tell.
func unpacked(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	if magic, err := b.Peek(2); err != nil || !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return b, nil // an error of the reader comes again
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, err
	}
	return cutOff{z}, nil
}

// cutOff reads a compressed file that was cut off as one that ends there: what is missing is then told as it is of others.
type cutOff struct{ r io.Reader }

// Read implements io.Reader.
func (c cutOff) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// tracesIn gives the trace files at a path: itself, or those below it.
func tracesIn(path string) iter.Seq2[cloudtrail.File, error] {
	return func(yield func(cloudtrail.File, error) bool) {
		for f, err := range cloudtrail.Folder(path) {
			if err == nil && f.Name != path && !isTrace(f.Name) {
				continue
			}
			if !yield(f, err) {
				return
			}
		}
	}
}

// openTrace opens a trace file. The lines are read from it as they are asked for, until it is closed.
func openTrace(ctx context.Context, f cloudtrail.File) (io.Closer, tracer.Header, iter.Seq2[tracer.Line, error], error) {
	body, err := f.Open(ctx)
	if err != nil {
		return nil, tracer.Header{}, nil, err
	}
	plain, err := unpacked(body)
	if err != nil {
		body.Close()
		return nil, tracer.Header{}, nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	h, lines, err := tracer.Read(plain, f.Name)
	if err != nil {
		body.Close()
		return nil, h, nil, err
	}
	return body, h, lines, nil
}

// traceHeaderOf is the header of a trace file.
func traceHeaderOf(ctx context.Context, f cloudtrail.File) (tracer.Header, error) {
	body, h, _, err := openTrace(ctx, f)
	if err == nil {
		body.Close()
	}
	return h, err
}

// readTrace reads one trace file. begin is told its header, and gives what its lines are told to.
func readTrace(ctx context.Context, f cloudtrail.File, begin func(tracer.Header) func(tracer.Line)) error {
	body, h, lines, err := openTrace(ctx, f)
	if err != nil {
		return err
	}
	defer body.Close()
	add := begin(h)
	for line, err := range lines {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		add(line)
	}
	return nil
}

// tracedHost is what trace files tell of one instance.
type tracedHost struct {
	subject  evidence.Subject
	findings tracer.Findings
	tally    *tracer.Tally
	digests  []string
	files    []string
	stored   int64
	calls    int64
	outside  int64
}

// traces takes all trace files in: what they tell of one instance is one import, in one transaction. A file that cannot be read is a gap.
func (in *importer) traces(ctx context.Context) ([]*Imported, error) {
	hosts := map[evidence.Subject]*tracedHost{}
	rest := &Imported{Import: evidence.Import{At: in.now, Source: evidence.SourceTrace, By: in.app.opt.Actor, Origin: "trace files"}}
	seen := map[string]bool{}
	for _, f := range in.traceFiles {
		one, err := in.trace(ctx, f, seen)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			rest.Gaps = append(rest.Gaps, TrailGap{Where: f.Name, Reason: strings.TrimPrefix(err.Error(), f.Name+": ")})
		case one == nil:
			rest.Import.Known++
		default:
			if have := hosts[one.subject]; have != nil {
				have.merge(one)
			} else {
				hosts[one.subject] = one
			}
		}
	}
	var out []*Imported
	for _, subject := range slices.SortedFunc(maps.Keys(hosts), compareSubjects) {
		done, err := in.keepTrace(ctx, hosts[subject])
		if err != nil {
			return out, err
		}
		out = append(out, done)
	}
	if rest.Import.Known > 0 || len(rest.Gaps) > 0 {
		rest.noteFiles()
		out = append(out, rest)
	}
	return out, nil
}

func compareSubjects(a, b evidence.Subject) int {
	return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Region, b.Region), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
}

// trace reads one file; nil where it was taken in before. A part of a trace is the same wherever it lies, compressed or not. One that was
// cut off is the same only as far as it goes: it may be a copy of a file that was still being written, of which the rest comes later.
func (in *importer) trace(ctx context.Context, f cloudtrail.File, seen map[string]bool) (*tracedHost, error) {
	about := ""
	if in.o.For != (evidence.Subject{}) {
		about = " for " + in.o.For.String()
	}
	digest, err := f.Identity(ctx)
	if err != nil {
		return nil, err
	}
	digest += about
	if known, err := in.db.HasFile(ctx, evidence.SourceTrace, digest); known || err != nil {
		return nil, err
	}
	t := &tracedHost{tally: tracer.NewTally(), digests: []string{digest}, files: []string{f.Name}, stored: f.Size}
	var header tracer.Header
	lines, ended := 0, false
	err = readTrace(ctx, f, func(h tracer.Header) func(tracer.Line) {
		t.subject, header = h.Subject(), h
		part := t.tally.Part(h)
		return func(l tracer.Line) {
			part.Add(l)
			lines, ended = lines+1, l.End != nil
			if l.Call == nil {
				return
			}
			t.calls++
			if !in.span().Contains(l.Call.Time) {
				t.outside++
				return
			}
			t.findings.Add(l.Call)
		}
	})
	if err != nil {
		return nil, err
	}
	if about != "" {
		t.subject = in.o.For
	}
	if t.subject == (evidence.Subject{}) {
		return nil, errors.New("it does not say of which instance it is: give --for instance/i-…")
	}
	part := fmt.Sprintf("trace %s part %d", header.Trace, header.Part)
	if !ended {
		part += fmt.Sprintf(" up to line %d", lines)
	}
	part += about
	again := seen[part]
	seen[part] = true
	if known, err := in.db.HasFile(ctx, evidence.SourceTrace, part); known || again || err != nil {
		return nil, err
	}
	t.digests = append(t.digests, part)
	return t, nil
}

func (t *tracedHost) merge(o *tracedHost) {
	t.findings.Merge(&o.findings)
	t.tally.Merge(o.tally)
	t.digests, t.files = append(t.digests, o.digests...), append(t.files, o.files...)
	t.stored, t.calls, t.outside = t.stored+o.stored, t.calls+o.calls, t.outside+o.outside
}

// keepTrace takes in what was traced of one instance.
func (in *importer) keepTrace(ctx context.Context, t *tracedHost) (*Imported, error) {
	s := t.tally.Summary(time.Time{})
	imp := evidence.Import{At: in.now, Made: s.To, Source: evidence.SourceTrace, Origin: "host " + s.Traces[0].Name(), Subject: t.subject,
		By: in.app.opt.Actor, Files: int64(len(t.files)), Records: t.calls, Lost: strings.Join(s.Doubts, "; "), Notes: s.Notes}
	imp.From, imp.To = in.clip(cloudtrail.Span{From: s.From, To: s.To})
	imp.Notes = append(imp.Notes, "from "+fewNames(t.files))
	const most = 1024 // bytes of a text that says what was lost
	if len(imp.Lost) > most {
		imp.Lost = strings.ToValidUTF8(imp.Lost[:most], "") + "…"
	}
	out := &Imported{Import: imp, Outside: t.outside, Stored: t.stored, Trace: s}
	kept, err := in.db.PutFindings(ctx, imp, t.digests, func(yield func(evidence.Finding, error) bool) {
		for f := range t.findings.All(t.subject) {
			if !yield(f, nil) {
				return
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("take in the trace of %s: %w", t.subject, err)
	}
	out.Import = kept
	return out, nil
}

// fewNames names the first files, and how many there are besides.
func fewNames(files []string) string {
	const most = 3
	if len(files) <= most {
		return strings.Join(files, ", ")
	}
	return fmt.Sprintf("%s and %d more files", strings.Join(files[:most], ", "), len(files)-most)
}
