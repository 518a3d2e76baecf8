package app

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

// TestUnopened: what is said of an image that could not be opened is about why.
func TestUnopened(t *testing.T) {
	for err, want := range map[error]string{
		syscall.ENOSPC: "TMPDIR", fs.ErrNotExist: "that is there", fs.ErrPermission: "may read", errors.New("it is no tar"): "docker save",
	} {
		if got := unopened(fmt.Errorf("open it: %w", err)); !strings.Contains(got, want) {
			t.Errorf("%v: %s", err, got)
		}
	}
}
