package tracer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/jsonlines"
)

// Format names the format of a trace file; it is on its first line.
const Format = "imdsctl-trace"

// formatVersion is the version of the format that is written, and the only one that is read.
const formatVersion = 1

// Suffix is how the names of trace files end, and compressed ones with ".gz" behind it: by that they are found in a bucket.
const Suffix = ".imds.jsonl"

// maxText bounds a text in a trace file, in bytes.
const (
	maxText = 8 << 10
)

// Header is the first line of a trace file: what all that follows has in common. A trace may have several files, its parts, each of
// which is complete in itself.
type Header struct {
	// Format and Version are set by those who write and read.
	Format  string `json:"format"`
	Version int    `json:"version"`
	// Trace names the trace; Part counts its files from 1.
	Trace string `json:"trace"`
	Part  int    `json:"part"`
	// Host is the machine's own name. InstanceID, Account and Region are empty where nobody could tell.
	Host       string          `json:"host,omitempty"`
	InstanceID string          `json:"instance_id,omitempty"`
	Account    fleet.AccountID `json:"account,omitempty"`
	Region     fleet.Region    `json:"region,omitempty"`
	// Booted is when the machine was started, BootID names that start.
	Booted time.Time `json:"booted,omitzero"`
	BootID string    `json:"boot_id,omitempty"`
	Kernel string    `json:"kernel,omitempty"`
	Tier   Tier      `json:"tier"`
	// Started is from when on calls are seen: of the first part, from when the trace was attached.
	Started time.Time `json:"started"`
	// Seconds is how long the trace was to last; 0 is until it is stopped.
	Seconds int64 `json:"seconds,omitempty"`
	// V1Only: calls of version 2 are counted at the end, and have no lines.
	V1Only bool `json:"v1_only,omitempty"`
	// Partial are the reasons why not all of the host was seen: a private cgroup namespace. Notices are for people.
	Partial []string `json:"partial,omitempty"`
	Notices []string `json:"notices,omitempty"`
	// Program is the version of imdsctl that wrote it.
	Program string `json:"program,omitempty"`
}

// Reasons for the end of a file.
const (
	EndAsked    = "stopped"   // somebody stopped the trace
	EndTime     = "time"      // it has lasted as long as it was to
	EndNextPart = "next-part" // the trace goes on in the next part
	EndFailed   = "failed"    // the capture broke off
)

// End is the last line of a trace file. A file without one was cut off.
type End struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
	// The calls seen, by version, with those that have no lines; Lines is how many have one.
	V1      int64 `json:"v1"`
	V2      int64 `json:"v2"`
	Unknown int64 `json:"unknown,omitempty"`
	NotHTTP int64 `json:"not_http,omitempty"`
	Lines   int64 `json:"lines"`
	// Lost says that the part lost something, whose lines say what.
	Lost bool `json:"lost,omitempty"`
}

// Line is a line after the header: one of them.
type Line struct {
	Call *Call `json:"call,omitempty"`
	Loss *Loss `json:"loss,omitempty"`
	End  *End  `json:"end,omitempty"`
}

// Writer writes a trace file. It is not safe for several goroutines.
type Writer struct {
	w    *counted
	h    Header
	end  End
	done bool
	err  error
}

// counted counts what is written.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// NewWriter begins a file with its header. Each line is one call of Write.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	h.Format, h.Version = Format, formatVersion
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("write a trace: %w", err)
	}
	out := &Writer{w: &counted{w: w}, h: h}
	return out, out.line(h)
}

// Call writes a call, or counts it where the file has no lines for its kind.
func (w *Writer) Call(c Call) error {
	w.end.count(c.Version)
	if w.h.V1Only && (c.Version == V2 || c.Version == NotHTTP) {
		return w.err
	}
	w.end.Lines++
	return w.line(Line{Call: &c})
}

// Loss writes what was lost.
func (w *Writer) Loss(l Loss) error {
	w.end.Lost = true
	return w.line(Line{Loss: &l})
}

// Close writes the end. The file under it is the caller's to close.
func (w *Writer) Close(now time.Time, reason string) error {
	if w.done {
		return w.err
	}
	w.done = true
	w.end.Time, w.end.Reason = now.UTC(), reason
	return w.line(Line{End: new(w.end)})
}

// Size is how many bytes were written.
func (w *Writer) Size() int64 { return w.w.n }

func (w *Writer) line(v any) error {
	if w.err != nil {
		return w.err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	if err == nil {
		_, err = w.w.Write(b.Bytes())
	}
	if err != nil {
		w.err = fmt.Errorf("write a trace: %w", err)
	}
	return w.err
}

func (e *End) count(v Version) {
	switch v {
	case V1:
		e.V1++
	case V2:
		e.V2++
	case NotHTTP:
		e.NotHTTP++
	default:
		e.Unknown++
	}
}

// IsTrace tells whether the beginning of a file, its first line or the first kilobytes of it, is that of a trace file.
func IsTrace(beginning []byte) bool { return bytes.Contains(beginning, []byte(`"`+Format+`"`)) }

// Read reads a trace file; name is how errors call it. Lines come as they are read, once. A file that ends without an end, perhaps within
// a line, was cut off: that is no error. After an error, which names file and line, there is nothing more.
func Read(r io.Reader, name string) (Header, iter.Seq2[Line, error], error) {
	lines := jsonlines.NewReader(r, name)
	var h Header
	line, err := lines.Next()
	if errors.Is(err, io.EOF) {
		return h, nil, fmt.Errorf("%s is empty: a trace file begins with a line that names its format, %q", name, Format)
	}
	if err != nil {
		return h, nil, err
	}
	var format struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(line, &format); err != nil || format.Format != Format {
		return h, nil, fmt.Errorf("%s is no trace file: its first line does not say \"format\": %q", name, Format)
	}
	if format.Version != formatVersion {
		return h, nil, fmt.Errorf("%s: version %d of %s is not known; this imdsctl reads version %d", name, format.Version, Format, formatVersion)
	}
	if err := jsonlines.Strict(line, &h); err != nil {
		return h, nil, lines.Wrap(err)
	}
	if err := h.check(); err != nil {
		return h, nil, lines.Wrap(err)
	}
	return h, linesOf(lines, h), nil
}

// linesOf gives the lines after the header.
func linesOf(l *jsonlines.Reader, h Header) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		var seen End
		for ended := false; ; {
			line, err := nextLine(l, h, &seen, ended)
			if errors.Is(err, io.EOF) || !yield(line, err) || err != nil {
				return
			}
			ended = line.End != nil
		}
	}
}

// nextLine reads one line; io.EOF where there is none, or but a part of one that was cut off. seen counts the calls so far.
func nextLine(l *jsonlines.Reader, h Header, seen *End, ended bool) (line Line, err error) {
	raw, err := l.Next()
	switch {
	case err != nil:
		return Line{}, err
	case ended:
		return Line{}, l.Wrap(errors.New("there is a line behind the end: give each trace file by itself"))
	}
	if err := jsonlines.Strict(raw, &line); err != nil {
		if l.Torn() {
			return Line{}, io.EOF
		}
		return Line{}, l.Wrap(err)
	}
	if err := line.check(h, seen); err != nil {
		return Line{}, l.Wrap(err)
	}
	return line, nil
}

var (
	instancePattern = regexp.MustCompile(`^i-(?:[0-9a-f]{8}|[0-9a-f]{17})$`)
	regionPattern   = regexp.MustCompile(`^[a-z]{2}(?:-[a-z]+)+-\d{1,2}$`)
)

// ValidInstanceID tells the ids of EC2 instances, which have 8 or 17 hexadecimal digits.
func ValidInstanceID(id string) bool { return instancePattern.MatchString(id) }

// ValidRegion tells what may be the name of a region.
func ValidRegion(r fleet.Region) bool { return regionPattern.MatchString(string(r)) }

func (h *Header) check() error {
	switch {
	case h.Trace == "" || h.Part < 1:
		return errors.New("it does not say which trace it is of, and which part of it")
	case h.InstanceID != "" && !ValidInstanceID(h.InstanceID):
		return fmt.Errorf("%q is no id of an instance", h.InstanceID)
	case h.Account != "" && !h.Account.Valid():
		return fmt.Errorf("%q is no id of an account", h.Account)
	case h.Region != "" && !ValidRegion(h.Region):
		return fmt.Errorf("%q is no region", h.Region)
	case !h.Tier.Known():
		return fmt.Errorf("%q is no tier", h.Tier)
	case h.Seconds < 0:
		return fmt.Errorf("%d is no number of seconds", h.Seconds)
	case h.Started.IsZero():
		return errors.New("it does not say when it was started")
	case len(h.Notices) > 64 || len(h.Partial) > 64:
		return errors.New("it has too many notices")
	}
	if !kept(append([]string{h.Trace, h.Host, h.BootID, h.Kernel, h.Program}, append(h.Notices, h.Partial...)...)...) {
		return errors.New("a text is too long, or is no text")
	}
	return checkTimes(h.Started, h.Booted)
}

// Name is what the host is called: its instance id and its own name.
func (h *Header) Name() string {
	w := Watched{InstanceID: h.InstanceID, Host: h.Host}
	return w.Name()
}

// Known tells whether it is one of the tiers.
func (t Tier) Known() bool { return slices.Contains(Tiers(), t) }

// Tiers lists the tiers, the best first.
func Tiers() []Tier { return []Tier{TierFull, TierNoProbe, TierPackets} }

// check tells what is wrong with a line. seen counts the calls so far.
func (l *Line) check(h Header, seen *End) error {
	n := 0
	for _, there := range []bool{l.Call != nil, l.Loss != nil, l.End != nil} {
		if there {
			n++
		}
	}
	switch {
	case n != 1:
		return errors.New("a line is a call, a loss or the end")
	case l.Call != nil:
		seen.Lines++
		seen.count(l.Call.Version)
		return l.Call.check()
	case l.Loss != nil:
		seen.Lost = true
		if !kept(l.Loss.Why) {
			return errors.New("a text is too long, or is no text")
		}
		return checkTimes(l.Loss.Time)
	}
	e := l.End
	switch {
	case e.Lines != seen.Lines || e.V1 != seen.V1 || e.Unknown != seen.Unknown || e.V2 < seen.V2 || e.NotHTTP < seen.NotHTTP ||
		!h.V1Only && (e.V2 != seen.V2 || e.NotHTTP != seen.NotHTTP):
		return fmt.Errorf("the end counts %d lines of calls, and there are %d, or not of the same versions", e.Lines, seen.Lines)
	case seen.Lost && !e.Lost:
		return errors.New("the end says that nothing was lost, and a line says what was")
	case !slices.Contains([]string{EndAsked, EndTime, EndNextPart, EndFailed}, e.Reason):
		return fmt.Errorf("%q is no reason for an end", e.Reason)
	case e.Time.Before(h.Started):
		return errors.New("it ends before it begins")
	}
	return checkTimes(e.Time)
}

func (c *Call) check() error {
	if !slices.Contains([]Version{V1, V2, Unknown, NotHTTP}, c.Version) {
		return fmt.Errorf("%q is no version", c.Version)
	}
	if c.Time.IsZero() {
		return errors.New("a call has no time")
	}
	p, o := c.Place, Process{}
	if c.Connected != nil {
		o = *c.Connected
	}
	if !kept(c.Method, c.Path, c.UserAgent, c.Product, c.ProductVersion, c.Why, p.Unit, p.Container, p.Runtime, p.Pod, p.PodName, p.Task,
		p.TaskName) || !c.Process.kept() || !o.kept() {
		return errors.New("a text is too long, or is no text")
	}
	return checkTimes(c.Time)
}

func (p *Process) kept() bool {
	names := make([]string, len(p.Parents))
	for i := range p.Parents {
		names[i] = p.Parents[i].Comm
	}
	return len(p.Args) <= 2*maxArgs && len(names) <= 64 && kept(p.Comm, p.Exe, p.Cgroup) && kept(p.Args...) && kept(names...)
}

// kept tells whether texts are such that can be kept anywhere.
func kept(texts ...string) bool {
	for _, t := range texts {
		if len(t) > maxText || !utf8.ValidString(t) || bytes.IndexByte([]byte(t), 0) >= 0 {
			return false
		}
	}
	return true
}

// checkTimes refuses times that no clock shows.
func checkTimes(times ...time.Time) error {
	for _, t := range times {
		if !t.IsZero() && (t.Year() < 1970 || t.Year() > 9999 || t.UnixMilli() <= 0) {
			return fmt.Errorf("%s is no time that anything was seen at", t.UTC().Format(time.RFC3339))
		}
	}
	return nil
}
