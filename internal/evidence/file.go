package evidence

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
	"unicode/utf8"

	"github.com/imdsctl/imdsctl/internal/jsonlines"
)

// FormatFindings names the format of a findings file; it is on its first line.
const FormatFindings = "imdsctl-findings"

// findingsVersion is the version of the format that is written, and the only one that is read.
const findingsVersion = 1

// maxText bounds a text of a finding, in bytes.
const maxText = 4 << 10

// FileHeader is the first line of a findings file: what all its findings have in common.
type FileHeader struct {
	// Format and Version are set by those who write and read.
	Format  string `json:"format"`
	Version int    `json:"version"`
	Source  Source `json:"source"`
	// Made is when the source was read.
	Made time.Time `json:"made,omitzero"`
	// Origin says where the findings come from: a path, an image, a host.
	Origin string `json:"origin,omitempty"`
	// Subject is what a finding without one of its own is about.
	Subject Subject `json:"subject,omitzero"`
	// From and To bound the time that the source tells of; zero where it tells of a moment.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Lost and Sample are those of the import: see Import.
	Lost   string `json:"lost,omitempty"`
	Sample bool   `json:"sample,omitempty"`
}

// Import is the taking-in of such a file, with all that the header says of it; its counts are not known yet.
func (h FileHeader) Import() Import {
	return Import{Made: h.Made, Source: h.Source, Origin: h.Origin, Subject: h.Subject, From: h.From, To: h.To, Sample: h.Sample,
		Lost: h.Lost}
}

// WriteFindings writes a findings file: JSON lines, the header first. Source and origin are the header's, whatever the findings say.
func WriteFindings(w io.Writer, h FileHeader, findings iter.Seq[Finding]) error {
	h.Format, h.Version = FormatFindings, findingsVersion
	if err := h.check(); err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	buffer := bufio.NewWriter(w)
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(h); err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	for f := range findings {
		if f.Subject == (Subject{}) {
			f.Subject = h.Subject
		}
		f.Source = h.Source
		if err := f.Check(); err != nil {
			return fmt.Errorf("write findings: %s of %s: %w", f.What, f.Subject, err)
		}
		f.Source, f.Origin, f.Sample = "", "", false
		if f.Subject == h.Subject {
			f.Subject = Subject{}
		}
		if err := encoder.Encode(f); err != nil {
			return fmt.Errorf("write findings: %w", err)
		}
	}
	if err := buffer.Flush(); err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	return nil
}

// ReadFindings reads a findings file; name is how errors call it. The findings come as they are read, once, with source, origin and,
// where they have none of their own, subject of the header. After an error, which names file and line, there is nothing more.
func ReadFindings(r io.Reader, name string) (FileHeader, iter.Seq2[Finding, error], error) {
	lines := jsonlines.NewReader(r, name)
	var h FileHeader
	line, err := lines.Next()
	if errors.Is(err, io.EOF) {
		return h, nil, fmt.Errorf("%s is empty: a findings file begins with a line that names its format, %q", name, FormatFindings)
	}
	if err != nil {
		return h, nil, err
	}
	var format struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(line, &format); err != nil || format.Format != FormatFindings {
		return h, nil, fmt.Errorf("%s is no findings file: its first line does not say \"format\": %q", name, FormatFindings)
	}
	if format.Version != findingsVersion {
		return h, nil, fmt.Errorf("%s: version %d of %s is not known; this imdsctl reads version %d", name, format.Version, FormatFindings,
			findingsVersion)
	}
	if err := jsonlines.Strict(line, &h); err != nil {
		return h, nil, lines.Wrap(err)
	}
	if err := h.check(); err != nil {
		return h, nil, lines.Wrap(err)
	}
	return h, findings(lines, h), nil
}

// findings gives the findings after the header.
func findings(l *jsonlines.Reader, h FileHeader) iter.Seq2[Finding, error] {
	return func(yield func(Finding, error) bool) {
		for {
			line, err := l.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			var f Finding
			if err == nil {
				if err = jsonlines.Strict(line, &f); err == nil {
					f.Source, f.Origin, f.Sample = h.Source, h.Origin, h.Sample || h.Lost != ""
					if f.Subject == (Subject{}) {
						f.Subject = h.Subject
					}
					err = f.Check()
				}
				if err != nil {
					err = l.Wrap(err)
				}
			}
			if err != nil {
				yield(Finding{}, err)
				return
			}
			if !yield(f, nil) {
				return
			}
		}
	}
}

func (h *FileHeader) check() error {
	switch {
	case !h.Source.Findings():
		return fmt.Errorf("%q is no source of findings", h.Source)
	case h.To.Before(h.From) && !h.To.IsZero():
		return fmt.Errorf("it ends %s, before it begins", stamp(h.To))
	case !clean(h.Origin) || !clean(h.Lost):
		return errors.New("a text is too long, or is no text")
	case h.Subject == (Subject{}):
		return checkTimes(h.Made, h.From, h.To)
	}
	return errors.Join(h.Subject.check(), checkTimes(h.Made, h.From, h.To))
}

// Check tells what is wrong with a finding that is to be kept: it must say of what it is, what was found, and when.
func (f *Finding) Check() error {
	if err := f.Subject.check(); err != nil {
		return err
	}
	switch {
	case !f.Source.Findings():
		return fmt.Errorf("%q is no source of findings", f.Source)
	case !f.What.known():
		return fmt.Errorf("%q is nothing that can be found", f.What)
	case f.Count < 0 || f.Count > 1<<53:
		return fmt.Errorf("%d is no count of calls", f.Count)
	case f.HopLimit < 0 || f.HopLimit > 64:
		return fmt.Errorf("%d is no hop limit: 1 to 64", f.HopLimit)
	case f.What.counted() && (f.Count == 0 || f.First.IsZero()):
		return fmt.Errorf("%s needs a count and the time of the first call", f.What)
	case f.What.certifies() && f.First.IsZero():
		return fmt.Errorf("%s needs the time of the run", f.What)
	case !f.Last.IsZero() && f.Last.Before(f.First):
		return fmt.Errorf("it was last seen %s, before it was first seen", stamp(f.Last))
	case f.What.counted() && f.Last.Sub(f.First) > 24*time.Hour && !f.Last.IsZero():
		return fmt.Errorf("calls are counted by day, and these are from %s to %s", stamp(f.First), stamp(f.Last))
	}
	for _, text := range []string{f.Product, f.Version, f.Detail, f.Origin} {
		if !clean(text) {
			return errors.New("a text is too long, or is no text")
		}
	}
	return checkTimes(f.First, f.Last)
}

func (s Subject) check() error {
	switch {
	case s.Kind == "" || s.ID == "":
		return errors.New("it names no subject: both the kind and the id are needed")
	case len(s.Kind) > 64 || len(s.Account) > 64 || len(s.Region) > 64 || !clean(s.Kind) || !clean(string(s.Account)) ||
		!clean(string(s.Region)) || !clean(s.ID):
		return errors.New("a text of its subject is too long, or is no text")
	}
	return nil
}

// clean tells whether a text is one that can be kept anywhere.
func clean(text string) bool {
	return len(text) <= maxText && utf8.ValidString(text) && !bytes.ContainsRune([]byte(text), 0)
}

// checkTimes refuses times that no clock shows: they are kept as milliseconds of this era.
func checkTimes(times ...time.Time) error {
	for _, t := range times {
		if !t.IsZero() && (t.Year() < 1970 || t.Year() > 9999 || t.UnixMilli() <= 0) {
			return fmt.Errorf("%s is no time that anything was seen at", stamp(t))
		}
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Findings tells whether the source gives findings.
func (s Source) Findings() bool {
	switch s {
	case SourceCloudTrail, SourceLookup, SourceSoftware, SourceTrace, SourceCertify:
		return true
	}
	return false
}

// Replaces tells whether what the source says of a subject holds in place of what it said before, rather than beside it: it
// tells of a state, not of events.
func (s Source) Replaces() bool { return s == SourceSoftware || s == SourceCertify }

func (w What) known() bool {
	switch w {
	case WhatSoftware, WhatRawCall:
		return true
	}
	return w.counted() || w.certifies()
}

// counted tells whether the finding is of calls, with their number.
func (w What) counted() bool { return w.Calls() || w == WhatV2Credentials }

func (w What) certifies() bool { return w == WhatCertified || w == WhatRefused }
