package software

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

// errTooMuch says that the scan has decompressed what it may.
var errTooMuch = errors.New("more would be decompressed than the limit allows: it is damaged, made to fill the disk, or very large")

// inMemory is how large a compressed entry of an archive may be to be read into memory rather than to disk, in bytes.
const inMemory = 16 << 20

// budget is what a scan may still decompress. It is safe for one scan, which is one goroutine.
type budget struct {
	left   int64
	limits Limits
	temp   string
	made   *atomic.Int64 // files made, for their names
}

// reader counts what is read against the budget.
func (b *budget) reader(r io.Reader) io.Reader { return &budgeted{r, b} }

type budgeted struct {
	r io.Reader
	b *budget
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

// spill writes a stream to a file of the scan's own, under a name of its own, and gives it with its length. Closing it removes it.
func (b *budget) spill(r io.Reader) (*spilled, int64, error) {
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

// spilled is a file of the scan's own.
type spilled struct{ *os.File }

func (s *spilled) Close() error { return errors.Join(s.File.Close(), os.Remove(s.Name())) }
