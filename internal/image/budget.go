package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

// errTooMuch says that what may be decompressed was.
var errTooMuch = errors.New("more would be decompressed than the limit allows: it is damaged, made to fill the disk, or very large")

// Limits bound what archives take of the machine, against those that are made to fill it.
type Limits struct {
	// Unpacked is how many bytes are written to disk or memory in all.
	Unpacked int64
	// Entries is how many entries an image or an archive may have.
	Entries int
}

// DefaultLimits are for an image of ordinary size.
func DefaultLimits() Limits { return Limits{Unpacked: 16 << 30, Entries: 2_000_000} }

// Budget is what may still be decompressed and unpacked, and where. It is for one goroutine.
type Budget struct {
	left   int64
	limits Limits
	temp   string
	made   *atomic.Int64 // files made, for their names
}

// NewBudget is a budget of all that the limits allow. The folder is the caller's own: it is there, nobody else writes into it, and the
// caller removes it.
func NewBudget(l Limits, temp string) *Budget {
	return &Budget{left: l.Unpacked, limits: l, temp: temp, made: new(atomic.Int64)}
}

// Again is a budget of all that the limits allow, over the same folder.
func (b *Budget) Again() *Budget {
	return &Budget{left: b.limits.Unpacked, limits: b.limits, temp: b.temp, made: b.made}
}

// reader counts what is read against the budget.
func (b *Budget) reader(r io.Reader) io.Reader { return &budgeted{r, b} }

type budgeted struct {
	r io.Reader
	b *Budget
}

func (r *budgeted) Read(p []byte) (int, error) {
	if r.b.left <= 0 {
		return 0, errTooMuch
	}
	if int64(len(p)) > r.b.left {
		p = p[:r.b.left]
	}
	n, err := r.r.Read(p)
	r.b.left -= int64(n)
	return n, err
}

// spill writes a stream to a file of our own, under a name of our own, and gives it with its length. Closing it removes it.
func (b *Budget) spill(r io.Reader) (*spilled, int64, error) {
	name := fmt.Sprintf("%s%c%d", b.temp, os.PathSeparator, b.made.Add(1))
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, 0, err
	}
	s := &spilled{f}
	n, err := io.Copy(f, b.reader(r))
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		s.Close()
		return nil, 0, err
	}
	return s, n, nil
}

// keep writes a stream of a known size to a file of our own, that whoever reads it opens. It is removed by done.
func (b *Budget) keep(r io.Reader, size int64) (c content, done func(), err error) {
	if size > b.left/2 { // it will be unpacked, too
		return nil, nil, errTooMuch
	}
	f, _, err := b.spill(r)
	if err != nil {
		return nil, nil, err
	}
	if err := f.File.Close(); err != nil {
		return nil, nil, errors.Join(err, os.Remove(f.Name()))
	}
	return kept(f.Name()), func() { _ = os.Remove(f.Name()) }, nil
}

// kept is a file of our own, by name.
type kept string

func (k kept) open() (reader, error) { return os.Open(string(k)) }

// spilled is a file of our own.
type spilled struct{ *os.File }

func (s *spilled) Close() error { return errors.Join(s.File.Close(), os.Remove(s.Name())) }

// stoppable reads until the context is done.
type stoppable struct {
	ctx context.Context //nolint:containedctx // it lives as long as one copy
	r   io.Reader
}

func (s stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}
