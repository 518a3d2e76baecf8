// Package evidence is what was observed about IMDS calls: from which source, about which subject, over which window, how
// much of the window the observations cover, how many calls there were and when the last one was.
//
// It owns the arithmetic of windows: adding points, joining the windows of a lineage, packing them for storage. A missing
// datapoint is not a zero; the coverage bitmap keeps the two apart. It reads no clock and no network.
package evidence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Source says where observations come from.
type Source string

// Sources.
const (
	SourceCloudWatch Source = "cloudwatch"
	// SourceLightsail is the metric of Amazon Lightsail's own API, which has MetricNoToken and no MetricRejected.
	SourceLightsail Source = "lightsail"
)

// historySuffix sets the long look back of a source apart where both are recorded.
const historySuffix = "-history"

// History is what the source's long look back is called where it is recorded beside the source's window: the kind of its scope.
func (s Source) History() Source { return s + historySuffix }

// Present is the source that a name given by History stands for; any other name is its own.
func (s Source) Present() Source { return Source(strings.TrimSuffix(string(s), historySuffix)) }

// Title is the source's name for people.
func (s Source) Title() string {
	switch s {
	case SourceCloudWatch:
		return "CloudWatch"
	case SourceLightsail:
		return "Lightsail's metric"
	case SourceCloudTrail:
		return "CloudTrail"
	case SourceLookup:
		return "CloudTrail's LookupEvents"
	case SourceSoftware:
		return "software"
	case SourceTrace:
		return "a tracer"
	case SourceCertify:
		return "certification"
	}
	if p := s.Present(); p != s {
		return p.Title() + " (history)"
	}
	return string(s)
}

// Metric says what was counted.
type Metric string

// The metrics, in CloudWatch's words.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/viewing_metrics_with_cloudwatch.html
const (
	// MetricNoToken counts successful IMDSv1 calls. Zeros are reported while the instance runs and allows v1.
	MetricNoToken Metric = "MetadataNoToken"
	// MetricRejected counts IMDSv1 calls refused because v1 is off. Zeros are not promised.
	MetricRejected Metric = "MetadataNoTokenRejected"
)

// Span is a window of time cut into equal periods ("slots"). Start is a multiple of Period since the Unix epoch.
type Span struct {
	Start  time.Time
	Period time.Duration
	Slots  int
}

// NewSpan gives the span of at least length that ends with the period in which end lies, that period included.
func NewSpan(end time.Time, length, period time.Duration) Span {
	last := end.UTC().Truncate(period)
	slots := int((length + period - 1) / period)
	return Span{Start: last.Add(-time.Duration(slots-1) * period), Period: period, Slots: slots}
}

// End is the first instant after the span.
func (s Span) End() time.Time { return s.Start.Add(time.Duration(s.Slots) * s.Period) }

// Slot tells in which period t lies: below 0 or at least Slots where it is outside.
func (s Span) Slot(t time.Time) int {
	d := t.Sub(s.Start)
	if d < 0 {
		return -1
	}
	return int(d / s.Period)
}

// Contains tells whether t lies inside the span.
func (s Span) Contains(t time.Time) bool { i := s.Slot(t); return i >= 0 && i < s.Slots }

// Point is a period with at least one call.
type Point struct {
	Slot  int
	Count int64
}

// Window is what one source saw of one subject through one span.
type Window struct {
	Subject fleet.Ref
	Source  Source
	Metric  Metric
	Span    Span
	// Total is the sum of all counts; calls.
	Total int64
	// Covered has one bit a slot, set where a datapoint exists, zero counts included.
	Covered Bitmap
	// Points are the slots whose count is above zero, in order.
	Points []Point
}

// Bitmap is a set of slots.
type Bitmap []uint64

// NewBitmap holds slots bits.
func NewBitmap(slots int) Bitmap { return make(Bitmap, (slots+63)/64) }

// Set adds slot i.
func (b Bitmap) Set(i int) { b[i/64] |= 1 << (i % 64) }

// Has tells whether slot i is in the set.
func (b Bitmap) Has(i int) bool { return i >= 0 && i/64 < len(b) && b[i/64]&(1<<(i%64)) != 0 }

// Count is the number of slots in the set.
func (b Bitmap) Count() int {
	n := 0
	for _, w := range b {
		n += bits.OnesCount64(w)
	}
	return n
}

// Union adds all slots of o, which must be of the same length.
func (b Bitmap) Union(o Bitmap) {
	for i := range min(len(b), len(o)) {
		b[i] |= o[i]
	}
}

// NewWindow is an empty window: nothing covered, nothing counted.
func NewWindow(subject fleet.Ref, source Source, metric Metric, span Span) *Window {
	return &Window{Subject: subject, Source: source, Metric: metric, Span: span, Covered: NewBitmap(span.Slots)}
}

// ErrOutside is a datapoint outside its window's span.
var ErrOutside = errors.New("datapoint outside the window")

// Add records a datapoint of count calls at t. Points may come in any order; two in one slot add up.
func (w *Window) Add(t time.Time, count int64) error {
	slot := w.Span.Slot(t)
	if slot < 0 || slot >= w.Span.Slots {
		return fmt.Errorf("%s of %s at %s: %w", w.Metric, w.Subject, t.UTC().Format(time.RFC3339), ErrOutside)
	}
	if count < 0 {
		return fmt.Errorf("%s of %s at %s: negative count %d", w.Metric, w.Subject, t.UTC().Format(time.RFC3339), count)
	}
	w.Covered.Set(slot)
	if count == 0 {
		return nil
	}
	w.Total += count
	i := len(w.Points)
	for i > 0 && w.Points[i-1].Slot > slot {
		i--
	}
	if i > 0 && w.Points[i-1].Slot == slot {
		w.Points[i-1].Count += count
		return nil
	}
	w.Points = append(w.Points, Point{})
	copy(w.Points[i+1:], w.Points[i:])
	w.Points[i] = Point{slot, count}
	return nil
}

// LastNonZero is the start of the last period with a call; zero where there was none.
func (w *Window) LastNonZero() time.Time {
	if len(w.Points) == 0 {
		return time.Time{}
	}
	return w.Span.Start.Add(time.Duration(w.Points[len(w.Points)-1].Slot) * w.Span.Period)
}

// CoveredSince tells whether some datapoint was taken in the period of t or in a later one.
func (w *Window) CoveredSince(t time.Time) bool {
	for i := max(0, w.Span.Slot(t)); i < w.Span.Slots; i++ {
		if w.Covered.Has(i) {
			return true
		}
	}
	return false
}

// Pack writes coverage and points compactly: a varint count of coverage words, the words, then slot gaps and counts. A
// quiet instance over fourteen hourly days takes about 50 bytes. Subject, source, metric and span are kept beside it.
func (w *Window) Pack() []byte {
	out := binary.AppendUvarint(nil, uint64(len(w.Covered)))
	for _, word := range w.Covered {
		out = binary.LittleEndian.AppendUint64(out, word)
	}
	prev := 0
	for _, p := range w.Points {
		out = binary.AppendUvarint(out, uint64(p.Slot-prev))
		out = binary.AppendUvarint(out, uint64(p.Count))
		prev = p.Slot
	}
	return out
}

// ErrPacked is a packed window that cannot be read.
var ErrPacked = errors.New("packed evidence is damaged")

// Unpack fills coverage, points and total from what Pack wrote for a window of the same span.
func (w *Window) Unpack(b []byte) error {
	words, n := binary.Uvarint(b)
	if n <= 0 || words != uint64(len(NewBitmap(w.Span.Slots))) || uint64(len(b)-n) < words*8 {
		return fmt.Errorf("%s of %s: %w", w.Metric, w.Subject, ErrPacked)
	}
	b = b[n:]
	w.Covered = NewBitmap(w.Span.Slots)
	for i := range w.Covered {
		w.Covered[i] = binary.LittleEndian.Uint64(b[i*8:])
	}
	b = b[words*8:]
	w.Points, w.Total = nil, 0
	slot := 0
	for len(b) > 0 {
		gap, n := binary.Uvarint(b)
		if n <= 0 || gap > uint64(w.Span.Slots) || (gap == 0 && len(w.Points) > 0) {
			return fmt.Errorf("%s of %s: %w", w.Metric, w.Subject, ErrPacked)
		}
		b = b[n:]
		count, n := binary.Uvarint(b)
		slot += int(gap)
		if n <= 0 || count == 0 || count > 1<<62 || !w.Covered.Has(slot) {
			return fmt.Errorf("%s of %s: %w", w.Metric, w.Subject, ErrPacked)
		}
		b = b[n:]
		w.Points = append(w.Points, Point{slot, int64(count)})
		w.Total += int64(count)
	}
	return nil
}
