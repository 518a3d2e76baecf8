package cloudtrail

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// File is one log file of a source.
type File struct {
	// Name is its path or address.
	Name string
	Size int64
	// Identity tells it from all other files, where its name does not: see Digest.
	Identity func(context.Context) (string, error)
	Open     func(context.Context) (io.ReadCloser, error)
}

// Digest names the file's content. A name that AWS gave is unique ("the 16-character UniqueString … prevents overwriting"), so that
// the same file in a bucket and in a copy of it is known as one, whatever the order in which they are read.
func (f File) Digest(ctx context.Context) (string, error) {
	if _, ok := ParseName(f.Name); ok {
		return fmt.Sprintf("%s %d", path.Base(filepath.ToSlash(f.Name)), f.Size), nil
	}
	return f.Identity(ctx)
}

// Gap is something that could not be read.
type Gap struct {
	Where  string `json:"where"`
	Reason string `json:"reason"`
}

// Options say what is read and how it is counted.
type Options struct {
	// Span restricts what counts; files whose names tell that they have nothing of it are not opened.
	Span   Span
	Parse  Parser
	Bounds Bounds
	// Workers is how many files are read at a time; 0 is the number of processors, four at least.
	Workers int
	// Known tells the digests that were taken in before; nil knows none. It is called from several goroutines.
	Known func(ctx context.Context, digest string) (bool, error)
	// Progress is told after each file, from one goroutine at a time.
	Progress func(Progress)
}

// Progress is how far a reading is.
type Progress struct {
	Files, Records, Delivered, Bytes int64
	Name                             string
}

// Report is what a reading came to. Its Result is the sum over all files.
type Report struct {
	Result
	Tally *Tally
	// Files were read. Known were left out because an earlier import had them, Pruned because their name says that they are of
	// another time, and Besides because they are digests or insights.
	Files, Known, Pruned, Besides int64
	// Unnamed of the files read have no name of AWS's, so that nothing tells whether others are missing.
	Unnamed int64
	// Gaps are what could not be read, or not to its end.
	Gaps []Gap
	// Days are those of which there are files, by name, those known from before among them.
	Days Days
	// Taken are the digests of the files read.
	Taken []string
	// Stored is the size of the files read, in bytes.
	Stored int64
}

// ReadFiles reads all files of a source. An error of the source, or of one file, is a gap; the error returned is that of a context
// that has ended, or of Known, and the report is then of no use.
func ReadFiles(ctx context.Context, files iter.Seq2[File, error], o Options) (*Report, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c := &collector{o: o, report: &Report{Tally: NewTally(o.Parse, o.Bounds), Days: Days{}}, seen: map[string]bool{}}
	workers := o.Workers
	if workers <= 0 {
		workers = max(4, runtime.GOMAXPROCS(0))
	}
	queue := make(chan File)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for f := range queue {
				if err := c.read(ctx, f); err != nil {
					stop(err)
				}
			}
		})
	}
	for f, err := range files {
		if err != nil {
			c.gap(Gap{f.Name, reasonOf(err)})
			continue
		}
		if !c.wanted(f) {
			continue
		}
		select {
		case queue <- f:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(queue)
	group.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	slices.Sort(c.report.Taken)
	slices.SortFunc(c.report.Gaps, func(a, b Gap) int { return strings.Compare(a.Where+"\x00"+a.Reason, b.Where+"\x00"+b.Reason) })
	return c.report, nil
}

// collector gathers what the workers read.
type collector struct {
	o      Options
	mu     sync.Mutex
	report *Report
	seen   map[string]bool
}

func (c *collector) gap(g Gap) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Gaps = append(c.report.Gaps, g)
}

// wanted looks at a file's name.
func (c *collector) wanted(f File) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if besides(f.Name) {
		c.report.Besides++
		return false
	}
	if n, ok := ParseName(f.Name); ok && !n.wanted(c.o.Span) {
		c.report.Pruned++
		return false
	}
	return true
}

// read reads one file into the report. The error is that of Known, or of the context.
func (c *collector) read(ctx context.Context, f File) error {
	digest, err := f.Digest(ctx)
	if err != nil {
		if ctx.Err() == nil {
			c.gap(Gap{f.Name, reasonOf(err)})
		}
		return nil
	}
	if known, err := c.known(ctx, f, digest); known || err != nil {
		return err
	}
	body, err := f.Open(ctx)
	if err != nil {
		if ctx.Err() == nil {
			c.forget(digest)
			c.gap(Gap{f.Name, reasonOf(err)})
		}
		return nil
	}
	defer body.Close()
	own := NewTally(c.o.Parse, c.o.Bounds)
	result, err := Read(ctx, body, c.o.Span, own.Add)
	if err != nil {
		return err
	}
	c.took(f, digest, result, own)
	return nil
}

// known tells whether the file was taken in before, or stands twice in the source.
func (c *collector) known(ctx context.Context, f File, digest string) (bool, error) {
	c.mu.Lock()
	known := c.seen[digest]
	c.seen[digest] = true
	c.mu.Unlock()
	if !known && c.o.Known != nil {
		var err error
		if known, err = c.o.Known(ctx, digest); err != nil {
			return false, err
		}
	}
	if known {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.report.Known++
		if n, ok := ParseName(f.Name); ok {
			c.report.Days.Add(n)
		}
	}
	return known, nil
}

// forget lets another copy of a file that could not be opened be read.
func (c *collector) forget(digest string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seen, digest)
}

func (c *collector) took(f File, digest string, result Result, own *Tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.report
	r.Files++
	r.Stored += f.Size
	r.Add(result)
	r.Tally.Merge(own)
	r.Taken = append(r.Taken, digest)
	if n, ok := ParseName(f.Name); ok {
		r.Days.Add(n)
	} else {
		r.Unnamed++
	}
	if result.Lost != "" {
		r.Gaps = append(r.Gaps, Gap{f.Name, result.Lost})
	}
	if c.o.Progress != nil {
		c.o.Progress(Progress{Files: r.Files, Records: r.Records, Delivered: r.Delivered, Bytes: r.Bytes, Name: f.Name})
	}
}

// reasonOf says what went wrong without the path, which stands beside it.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// Folder gives the log files at a path: itself, or all below it, by name. Other files are passed; links to folders are not followed.
func Folder(root string) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				if name == root && d == nil {
					return err // the path itself is not there
				}
				if !yield(File{Name: name}, err) {
					return fs.SkipAll
				}
				return nil
			}
			if d.IsDir() || name != root && !isLog(name) {
				return nil
			}
			if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
				if err == nil && name == root {
					err = errors.New("this is neither a file nor a folder")
				}
				if err != nil && !yield(File{Name: name}, err) {
					return fs.SkipAll
				}
				return nil
			} else if !yield(local(name, info.Size()), nil) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(File{Name: root}, err)
		}
	}
}

func local(name string, size int64) File {
	return File{
		Name: name, Size: size,
		Open: func(context.Context) (io.ReadCloser, error) { return os.Open(name) },
		Identity: func(ctx context.Context) (string, error) {
			f, err := os.Open(name)
			if err != nil {
				return "", err
			}
			defer f.Close()
			h := sha256.New()
			if _, err := io.Copy(h, &stopper{ctx, f}); err != nil {
				return "", err
			}
			return "sha256 " + hex.EncodeToString(h.Sum(nil)), nil
		},
	}
}

// stopper ends a long reading with its context.
type stopper struct {
	ctx context.Context
	r   io.Reader
}

func (s *stopper) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// Concat gives the files of several sources, one after the other.
func Concat(sources ...iter.Seq2[File, error]) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		for _, s := range sources {
			for f, err := range s {
				if !yield(f, err) {
					return
				}
			}
		}
	}
}
