package app

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// TraceFile says where a trace is kept. While a file is written its name ends in ".part"; what has its own name is complete, and can be
// sent away. Files are readable by their owner alone (0600).
type TraceFile struct {
	// Path is the file. With MaxSize or Every there are several: NAME-STARTED-PART beside it, so that no name comes twice.
	Path string
	// MaxSize, in bytes, and Every end a part and begin another; 0 is never.
	MaxSize int64
	Every   time.Duration
	// Keep is how many finished parts stay; older ones are removed. 0 keeps all.
	Keep int
}

// leastPart is the smallest MaxSize that makes sense, in bytes.
const leastPart = 64 << 10

// partStamp is how the time of a part's beginning stands in its name.
const partStamp = "20060102T150405Z"

// partSuffix ends the name of a file that is being written.
const partSuffix = ".part"

// rotates tells whether there are several files.
func (f TraceFile) rotates() bool { return f.MaxSize > 0 || f.Every > 0 }

// open makes sure, before anything is traced, that the file can be written.
func (f TraceFile) open() (*traceFiles, error) {
	t := &traceFiles{f: f}
	if f.Path == "" {
		return t, nil
	}
	refuse := func(summary, remedy string) error {
		return fleet.Diagnostic{Severity: fleet.SeverityError, Where: "--out", Summary: summary, Remedy: remedy}
	}
	if f.MaxSize > 0 && f.MaxSize < leastPart {
		return nil, refuse(fmt.Sprintf("parts of %d bytes are too small", f.MaxSize), "Give 64KB or more.")
	}
	if _, err := os.Lstat(f.Path); err == nil && !f.rotates() {
		return nil, refuse(f.Path+" is there already", "Give another name, or move it away.")
	}
	if err := t.salvage(); err != nil {
		return nil, err
	}
	return t, t.create()
}

// traceFiles writes the parts of a trace.
type traceFiles struct {
	f      TraceFile
	file   *os.File
	buffer *bufio.Writer
	lines  *tracer.Writer
	header tracer.Header
}

// salvage gives a part that a killed process left its own name, if parts have such; it has no end, which says what happened.
func (t *traceFiles) salvage() error {
	old := t.f.Path + partSuffix
	file, err := os.Open(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the trace that was begun before: %w", err)
	}
	defer file.Close()
	busy := lockFile(file) != nil
	if busy || !t.f.rotates() {
		d := fleet.Diagnostic{Severity: fleet.SeverityError, Where: "--out", Summary: old + " is left of a trace that was killed",
			Remedy: "Move it away; `imdsctl trace read` shows what it holds."}
		if busy {
			d.Summary, d.Remedy = "another imdsctl writes "+old, "Give another file, or stop that one."
		}
		return d
	}
	h, _, err := tracer.Read(file, old)
	switch {
	case err == nil:
		return t.name(h)
	case noHeader(file):
		return os.Remove(old)
	}
	return fleet.Diagnostic{Severity: fleet.SeverityError, Where: "--out", Summary: old + " is in the way: " + strings.TrimPrefix(err.Error(), old+": "),
		Remedy: "Move it away, or give another file."}
}

// noHeader tells a file that was begun and holds nothing: not even the whole of a header.
func noHeader(file *os.File) bool {
	const most = 64 << 10
	begun := make([]byte, most)
	n, err := file.ReadAt(begun, 0)
	ours := fmt.Sprintf(`{"format":%q,`, tracer.Format)
	text := string(begun[:n])
	return errors.Is(err, io.EOF) && !strings.Contains(text, "\n") && (strings.HasPrefix(text, ours) || strings.HasPrefix(ours, text))
}

// create makes a new file under the name of one that is being written.
func (t *traceFiles) create() error {
	file, err := os.OpenFile(t.f.Path+partSuffix, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the trace: %w", err)
	}
	if err := lockFile(file); err != nil {
		return errors.Join(fmt.Errorf("write the trace: %w", err), file.Close())
	}
	t.file, t.buffer = file, bufio.NewWriterSize(file, 64<<10)
	return nil
}

// begin writes the header of a part.
func (t *traceFiles) begin(h tracer.Header) (err error) {
	if t.file == nil {
		return nil
	}
	t.header = h
	t.lines, err = tracer.NewWriter(t.buffer, h)
	return err
}

// put writes a line, and begins another part when this one is full.
func (t *traceFiles) put(now time.Time, put func(*tracer.Writer) error) error {
	if t.file == nil {
		return nil
	}
	if err := put(t.lines); err != nil {
		return err
	}
	if t.f.MaxSize > 0 && t.lines.Size() >= t.f.MaxSize {
		return t.next(now)
	}
	return nil
}

// tick brings what was written to the file, about once a second, and begins another part when it is time.
func (t *traceFiles) tick(now time.Time) error {
	if t.file == nil {
		return nil
	}
	if t.f.Every > 0 && now.Sub(t.header.Started) >= t.f.Every {
		return t.next(now)
	}
	return t.buffer.Flush()
}

// next ends a part and begins the next.
func (t *traceFiles) next(now time.Time) error {
	if err := t.finish(now, tracer.EndNextPart); err != nil {
		return err
	}
	if err := t.create(); err != nil {
		return err
	}
	h := t.header
	h.Part++
	h.Started = now.UTC()
	return t.begin(h)
}

// finish ends a part and gives it its own name.
func (t *traceFiles) finish(now time.Time, reason string) error {
	if t.file == nil {
		return nil
	}
	file := t.file
	t.file = nil
	err := t.lines.Close(now, reason)
	if err == nil {
		err = t.buffer.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write the trace: %w", err)
	}
	return t.name(t.header)
}

// abandon closes a file that is not to be finished, because of an error that it gives back. One that holds nothing is removed.
func (t *traceFiles) abandon(why error) error {
	if t.file == nil {
		return why
	}
	file := t.file
	t.file = nil
	if t.lines == nil {
		return errors.Join(why, file.Close(), os.Remove(file.Name()))
	}
	flushed := t.buffer.Flush()
	if errors.Is(why, flushed) { // it is the same: the disk is full, say
		flushed = nil
	}
	return errors.Join(why, flushed, file.Close())
}

// name gives the part its own name, and removes parts that are too many.
func (t *traceFiles) name(h tracer.Header) error {
	stem, suffix := t.stem()
	for number := h.Part; ; number++ {
		to := t.f.Path
		if t.f.rotates() {
			to = fmt.Sprintf("%s-%s-%04d%s", stem, h.Started.UTC().Format(partStamp), number, suffix)
		}
		// A link, not a renaming: what has the name already is never lost.
		err := os.Link(t.f.Path+partSuffix, to)
		if err == nil {
			break
		}
		if !t.f.rotates() || !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("give the trace its name: %w", err)
		}
	}
	if err := os.Remove(t.f.Path + partSuffix); err != nil {
		return fmt.Errorf("give the trace its name: %w", err)
	}
	return t.prune()
}

// stem is the path without what names of trace files end in.
func (t *traceFiles) stem() (stem, suffix string) {
	for _, s := range []string{tracer.Suffix, filepath.Ext(t.f.Path)} {
		if stem, ok := strings.CutSuffix(t.f.Path, s); ok && s != "" {
			return stem, s
		}
	}
	return t.f.Path, tracer.Suffix
}

// prune removes the oldest finished parts beyond those that are kept.
func (t *traceFiles) prune() error {
	if !t.f.rotates() || t.f.Keep <= 0 {
		return nil
	}
	stem, suffix := t.stem()
	entries, err := os.ReadDir(cmp.Or(filepath.Dir(stem), "."))
	if err != nil {
		return fmt.Errorf("remove old parts of the trace: %w", err)
	}
	prefix := filepath.Base(stem) + "-"
	var parts []string
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), prefix)
		if rest, has := strings.CutSuffix(rest, suffix); ok && has && e.Type().IsRegular() && isPartName(rest) {
			parts = append(parts, e.Name())
		}
	}
	slices.Sort(parts) // by the time of their beginning
	for len(parts) > t.f.Keep {
		if err := os.Remove(filepath.Join(filepath.Dir(stem), parts[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old part of the trace: %w", err)
		}
		parts = parts[1:]
	}
	return nil
}

// isPartName tells "20260302T090000Z-0001".
func isPartName(s string) bool {
	at, number, ok := strings.Cut(s, "-")
	_, err := time.Parse(partStamp, at)
	return ok && err == nil && len(number) >= 4 && strings.Trim(number, "0123456789") == ""
}
