package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/imdsctl/imdsctl/internal/plan"
	"github.com/imdsctl/imdsctl/internal/report"
)

// showPage writes a plan as a page, to a file or to standard output.
func (s *session) showPage(p *plan.Plan, path string, o showOptions) error {
	if o.stack != "" {
		return misuse("--stack", "Leave --stack or --format html out.", "a page shows the plan that its digest names, which is the whole of it")
	}
	options := report.Options{Now: s.now(), File: path}
	if o.all {
		options.Limits = report.Unlimited()
	}
	write := func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 1<<16)
		return errors.Join(report.Plan(out, p, options), out.Flush())
	}
	if o.out == "" {
		return write(s.env.Out)
	}
	if err := writeFile(o.out, o.force, write); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	s.hint("Written to %s.", o.out)
	return nil
}

// writeFile writes a file beside its place and then moves it there, so that no half of it is ever found. It is for its owner's
// eyes only until they share it. Only where forced it takes the place of another.
func writeFile(path string, force bool, write func(io.Writer) error) (err error) {
	if _, err := os.Stat(path); err == nil && !force {
		return misuse(path, "Give another file, or --force.", "there is a file of that name")
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".imdsctl-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := write(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
